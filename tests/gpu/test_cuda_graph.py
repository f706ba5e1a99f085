"""Captured training steps. These tests have not run yet: they were written where there is no GPU."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from se3t.fiber import Fiber
from se3t.geometry import EdgeGeometry, reciprocal_order
from se3t.graph import fully_connected
from se3t.models.se3_transformer import SE3Transformer
from se3t.nn import EquivariantBasis
from se3t.so3 import safe_norm, safe_normalize
from se3t.training.cuda_graph import StepGraphs, unavailable

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]


def nbody(kernel: str, num_graphs: int = 128) -> tuple[SE3Transformer, Callable[[Tensor, Tensor, Tensor], Tensor]]:
    """The N-body model of Table 1 and its loss, with the pairing of the edges decided ahead."""
    torch.manual_seed(0)
    model = SE3Transformer(
        Fiber("1x0+1x1"),
        Fiber.uniform(4, 8),
        Fiber("2x1"),
        num_edge_scalars=1,
        num_layers=4,
        num_heads=2,
        channels_div=4,
        self_interaction="attentive",
        kernel=kernel,
    ).cuda()
    cloud = torch.arange(num_graphs).repeat_interleave(5).cuda()
    edges = fully_connected(cloud)
    order = reciprocal_order(edges, len(cloud))
    assert order is not None
    source, target = edges[:, order]

    def loss(positions: Tensor, charges: Tensor, goal: Tensor) -> Tensor:
        vector = positions[source] - positions[target]
        scalars = charges[source] * charges[target]
        geometry = EdgeGeometry(
            source, target, len(cloud), vector, safe_norm(vector), safe_normalize(vector), scalars, {}, 2
        )
        basis = EquivariantBasis(geometry, model.max_degree)
        features = {0: charges[:, :, None], 1: positions[:, None]}
        for index, layer in enumerate(model.layers):
            features = layer(features, basis)
            features = model.norms[index](features) if index < len(model.norms) else features
        return torch.nn.functional.mse_loss(model.readout(features, cloud, num_graphs)[1], goal)

    return model, loss


def batch_of(seed: int, num_graphs: int = 128) -> tuple[Tensor, Tensor, Tensor]:
    source = torch.Generator().manual_seed(seed)
    positions = torch.randn(5 * num_graphs, 3, generator=source)
    positions[1] = positions[0] if seed % 2 else positions[1]  # coincident points come and go
    charges = torch.randint(0, 2, (5 * num_graphs, 1), generator=source) * 2.0 - 1
    return positions.cuda(), charges.cuda(), torch.randn(5 * num_graphs, 2, 3, generator=source).cuda()


@pytest.mark.parametrize("kernel", ["edge_frame", "triton"])
def test_a_captured_step_trains_as_an_eager_one(kernel: str) -> None:
    model, loss = nbody(kernel)
    twin, twin_loss = nbody(kernel)
    twin.load_state_dict(copy.deepcopy(model.state_dict()))
    optimizer, twin_optimizer = (torch.optim.Adam(part.parameters(), lr=1e-3, fused=True) for part in (model, twin))
    assert unavailable("cuda") is None
    steps = StepGraphs(loss, model.parameters())

    def captured(*batch: Tensor) -> Tensor:
        value = steps(*batch)
        optimizer.step()
        return value

    def eager(*batch: Tensor) -> Tensor:
        twin_optimizer.zero_grad()
        value = twin_loss(*batch)
        value.backward()
        twin_optimizer.step()
        return value.detach()

    for seed in range(6):
        batch = batch_of(seed)
        torch.testing.assert_close(captured(*batch), eager(*batch), rtol=1e-3, atol=1e-5)
    assert steps.reason is None
    assert list(steps.recorded.values()).count(None) == 0
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-3)
    batch = batch_of(0)
    ratio = seconds(lambda: eager(*batch)) / seconds(lambda: captured(*batch))
    print(f"\nN-body step, kernel {kernel}, {torch.cuda.get_device_name()}: eager over captured {ratio:.2f}")


def test_what_reads_values_is_not_captured_but_still_trained() -> None:
    model, loss = nbody("edge_frame", 4)

    def reading(*batch: Tensor) -> Tensor:
        value = loss(*batch)
        return value if float(value.detach()) >= 0 else -value

    steps, stream = StepGraphs(reading, model.parameters()), torch.cuda.current_stream()
    for seed in range(3):
        torch.testing.assert_close(steps(*batch_of(seed, 4)), loss(*batch_of(seed, 4)).detach(), rtol=1e-4, atol=1e-6)
    assert "cannot be captured" in str(steps.reason)
    assert torch.cuda.current_stream() == stream


def seconds(step: Callable[[], object], repetitions: int = 50) -> float:
    for _ in range(5):
        step()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(repetitions):
        step()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / repetitions
