"""Training steps through CUDA graphs. Run on the CPU, where every step runs eagerly; not yet on a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from se3t.config import SE3TransformerModel
from se3t.fiber import Fiber
from se3t.geometry import EdgeGeometry, reciprocal_order
from se3t.graph import fully_connected
from se3t.models.se3_transformer import SE3Transformer
from se3t.nn import EquivariantBasis
from se3t.runs import read_json
from se3t.so3 import safe_norm
from se3t.tasks.classification import ClassificationTask
from se3t.tasks.nbody import NBodyTask
from se3t.tasks.property import PropertyTask
from se3t.training.cuda_graph import StepGraphs, unavailable
from se3t.training.train import train
from training.parts import build, small_config

from .conftest import DEVICE, MARKS, ON_GPU, needs_cuda
from .test_1_kernels import kernel_of

pytestmark = MARKS


def nbody(kernel: str, num_graphs: int) -> tuple[SE3Transformer, Callable[[Tensor, Tensor, Tensor], Tensor]]:
    """The N-body model of Table 1 and its loss, with the pairing of the edges decided ahead; smaller on a CPU."""
    torch.manual_seed(0)
    small = {} if ON_GPU else {"num_layers": 2, "num_degrees": 2, "channels": 4, "channels_div": 2}
    settings = SE3TransformerModel(**small, kernel=kernel)
    model = SE3Transformer(Fiber("1x0+1x1"), Fiber("2x1"), settings, num_edge_scalars=1).to(DEVICE)
    cloud = torch.arange(num_graphs, device=DEVICE).repeat_interleave(5)
    edges = fully_connected(cloud)
    order = reciprocal_order(edges, len(cloud))
    assert order is not None
    source, target = edges[:, order]

    def loss(positions: Tensor, charges: Tensor, goal: Tensor) -> Tensor:
        vector = positions[source] - positions[target]
        scalars = charges[source] * charges[target]
        geometry = EdgeGeometry(source, target, len(cloud), vector, safe_norm(vector), scalars, {}, 2)
        basis = EquivariantBasis(geometry, model.max_degree)
        features = {0: charges[:, :, None], 1: positions[:, None]}
        for index, layer in enumerate(model.layers):
            features = layer(features, basis)
            features = model.norms[index](features) if index < len(model.norms) else features
        return torch.nn.functional.mse_loss(model.readout(features, cloud, num_graphs)[1], goal)

    return model, loss


def batch_of(seed: int, num_graphs: int) -> tuple[Tensor, Tensor, Tensor]:
    source = torch.Generator().manual_seed(seed)
    positions = torch.randn(5 * num_graphs, 3, generator=source)
    positions[1] = positions[0] if seed % 2 else positions[1]  # coincident points come and go
    charges = torch.randint(0, 2, (5 * num_graphs, 1), generator=source) * 2.0 - 1
    goal = torch.randn(5 * num_graphs, 2, 3, generator=source)
    return positions.to(DEVICE), charges.to(DEVICE), goal.to(DEVICE)


@pytest.mark.parametrize("kernel", ["edge_frame", "triton"])
def test_a_step_that_may_be_captured_has_the_loss_and_gradients_of_an_eager_one(kernel: str) -> None:
    """While weights and batches change."""
    kernel_of(kernel)  # skips where it cannot run
    size = 128 if ON_GPU else 3
    model, loss = nbody(kernel, size)
    twin, twin_loss = nbody(kernel, size)
    optimizer, steps = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True), StepGraphs(loss, model.parameters())

    def captured(*batch: Tensor) -> Tensor:
        value = steps(*batch)
        optimizer.step()
        return value

    def eager(*batch: Tensor) -> Tensor:
        twin.zero_grad()
        value = twin_loss(*batch)
        value.backward()
        return value.detach()

    for seed in range(6 if ON_GPU else 2):
        batch = batch_of(seed, size)
        twin.load_state_dict(model.state_dict())
        expected, received = eager(*batch), captured(*batch)
        torch.testing.assert_close(received, expected, rtol=1e-4, atol=1e-6)
        for one, other in zip(model.parameters(), twin.parameters(), strict=True):
            assert (one.grad is None) == (other.grad is None)
            if one.grad is not None and other.grad is not None:
                assert (one.grad - other.grad).norm() <= 1e-3 * (1e-3 + other.grad.norm())
    assert steps.reason == unavailable(DEVICE)
    if not ON_GPU:
        pytest.skip(f"eager steps are right; capture and replay were not tried: {steps.reason}")
    assert [each is None for each in steps.recorded.values()] == [False]
    batch = batch_of(0, size)
    ratio = seconds(lambda: eager(*batch)) / seconds(lambda: captured(*batch))
    print(f"\nN-body step, kernel {kernel}, {torch.cuda.get_device_name()}: eager over captured {ratio:.2f}")


def seconds(step: Callable[[], object], repetitions: int = 50) -> float:
    for _ in range(5):
        step()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(repetitions):
        step()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / repetitions


def test_only_batches_of_particles_have_a_fixed_shape() -> None:
    """Another task that says so must be trained here, too."""
    assert [task for task in (NBodyTask, PropertyTask, ClassificationTask) if task.fixed_shapes] == [NBodyTask]


@pytest.mark.parametrize("kernel", ["edge_frame", *(["triton"] if ON_GPU else [])])
def test_training_with_captured_steps_is_training_without(
    kernel: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """N-body, with starts drawn anew in every step: the same draw in all of them moves the loss by a half."""
    kernel_of(kernel)
    losses = []
    for cuda_graph in (False, True):
        config = small_config(tmp_path, accelerator="gpu" if ON_GPU else "cpu", cuda_graph=cuda_graph, max_steps=9)
        config.model = SE3TransformerModel(num_layers=2, num_degrees=3, channels=4, kernel=kernel)
        losses.append(read_json(train(config, build=build))["valid"]["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)
    told = [each.getMessage() for each in caplog.records if "CUDA graphs" in each.getMessage()]
    assert told == ([] if ON_GPU else [f"CUDA graphs are not used: {unavailable('cpu')}"])


@needs_cuda
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
