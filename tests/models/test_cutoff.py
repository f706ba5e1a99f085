"""Energies and forces of models with ``cutoff``: nothing jumps when an edge appears."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from se3t.config import SE3TransformerModel, TFNModel, to_config
from se3t.config.compose import compose
from se3t.errors import UserError
from se3t.fiber import Fiber
from se3t.geometry import EdgeGeometry
from se3t.graph import Graph
from se3t.models import build_model
from se3t.nn import EdgeAttention
from se3t.nn.radial_basis import envelope, faded

CUTOFF = 2.0
SIZES: dict[str, Any] = {"num_layers": 2, "channels": 4, "cutoff": CUTOFF}
MODELS: dict[str, Any] = {
    "plain": SE3TransformerModel(**SIZES, channels_div=1),
    "sums": SE3TransformerModel(**SIZES, channels_div=1, attention_scale="degree", norm="gate", radial_basis="bessel"),
    "roots": SE3TransformerModel(
        **SIZES,
        channels_div=2,
        attention_scale="sqrt_degree",
        attention_weights="sqrt_softmax",
        logit_scale="learned",
        key_nodes="both",
    ),
    "apart": SE3TransformerModel(**SIZES, channels_div=1, fuse_key_value=False, num_heads=4),
    "uniform": SE3TransformerModel(**SIZES, channels_div=1, ablation="attention"),
    "tfn": TFNModel(**SIZES),
}


def model_of(name: str, kernel: str = "auto") -> torch.nn.Module:
    torch.manual_seed(1)
    settings = MODELS[name]
    settings = type(settings)(**{**vars(settings), "kernel": kernel})
    model = build_model(settings, fiber_in=Fiber("2x0"), fiber_out=Fiber("1x0"), num_edge_scalars=0, pooled=True)
    return model.double()


def graph_of(positions: Tensor, radius: float = CUTOFF) -> Graph:
    """All pairs nearer than ``radius``."""
    distance = (positions.detach()[:, None] - positions.detach()).norm(dim=2)
    target, source = torch.nonzero((distance < radius) & ~torch.eye(len(positions), dtype=torch.bool), as_tuple=True)
    scalars = torch.linspace(-1, 1, 2 * len(positions), dtype=torch.float64).view(-1, 2, 1)
    batch = torch.zeros(len(positions), dtype=torch.int64)
    return Graph(positions, {0: scalars}, torch.stack([source, target]), batch, 1)


def positions_of(gap: float) -> Tensor:
    """Six points near each other, and one that has the first as its only neighbour, ``gap`` nearer than the cutoff."""
    torch.manual_seed(0)
    cloud = torch.randn(5, 3, dtype=torch.float64).clamp(-0.7, 0.7) - torch.tensor([0.2, 0, 0], dtype=torch.float64)
    first = torch.tensor([[0.9, 0.1, -0.2]], dtype=torch.float64)
    return torch.cat([first, cloud, first + torch.tensor([[CUTOFF - gap, 0, 0]], dtype=torch.float64)])


def energy_and_forces(model: torch.nn.Module, positions: Tensor, radius: float = CUTOFF) -> tuple[Tensor, Tensor]:
    positions = positions.clone().requires_grad_()
    energy = model(graph_of(positions, radius))[0].sum()
    (gradient,) = torch.autograd.grad(energy, positions, create_graph=True)
    return energy, -gradient


@pytest.mark.parametrize("kernel", ["auto", "edge_frame", "reference"])
@pytest.mark.parametrize("name", MODELS)
def test_energy_and_forces_are_continuous_where_an_edge_appears(name: str, kernel: str) -> None:
    model, gap = model_of(name, kernel), 1e-9
    with_edge, without = positions_of(gap), positions_of(-gap)
    assert graph_of(with_edge).edge_index.shape[1] == graph_of(without).edge_index.shape[1] + 2
    inside, outside = energy_and_forces(model, with_edge), energy_and_forces(model, without)
    energies = [energy_and_forces(model, positions_of(gap))[0].item() for gap in (0.1, 0.2, 0.3)]
    span = max(energies) - min(energies)
    assert span > 1e-5
    assert abs((inside[0] - outside[0]).item()) < 1e-6 * span
    torch.testing.assert_close(inside[1], outside[1], rtol=0, atol=1e-5 * inside[1].abs().max().item())


@pytest.mark.parametrize("name", MODELS)
def test_edges_beyond_the_cutoff_change_nothing(name: str) -> None:
    model, positions = model_of(name), positions_of(-0.5)
    far = energy_and_forces(model, positions, radius=10.0)
    torch.testing.assert_close(far, energy_and_forces(model, positions))


@pytest.mark.parametrize("name", MODELS)
def test_kernels_agree_also_in_second_gradients(name: str) -> None:
    positions = positions_of(0.3)
    found = []
    for kernel in ("auto", "edge_frame", "reference"):
        model = model_of(name, kernel)
        energy, forces = energy_and_forces(model, positions)
        loss = energy.square() + forces.square().sum()
        found.append((energy, forces, torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)))
    for energy, forces, gradients in found[1:]:
        torch.testing.assert_close((energy, forces), found[0][:2], rtol=1e-9, atol=1e-11)
        for mine, first in zip(gradients, found[0][2], strict=True):
            assert (mine is None) == (first is None)
            if mine is not None and first is not None:
                torch.testing.assert_close(mine, first, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_forces_are_those_of_finite_differences_and_sum_to_zero(name: str) -> None:
    model, positions, step = model_of(name), positions_of(0.3), 1e-6
    _, forces = energy_and_forces(model, positions)
    torch.testing.assert_close(forces.sum(0).detach(), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-10)
    for point, axis in ((0, 0), (6, 1), (3, 2)):
        moved = [positions.clone(), positions.clone()]
        for sign, one in zip((1, -1), moved, strict=True):
            one[point, axis] += sign * step
        before, after = (energy_and_forces(model, one)[0].item() for one in moved[::-1])
        assert forces[point, axis].item() == pytest.approx((before - after) / (2 * step), rel=1e-6, abs=1e-8)


def test_without_a_cutoff_the_energy_jumps() -> None:
    model = model_of("plain")
    model.cutoff = None
    inside, outside = (energy_and_forces(model, positions_of(gap))[0].item() for gap in (1e-9, -1e-9))
    assert abs(inside - outside) > 1e-3


def test_a_graph_whose_edges_have_all_faded_has_finite_gradients() -> None:
    for name in MODELS:
        positions = torch.tensor([[0.0, 0, 0], [3.0, 0, 0], [0, 0, 9.0]], dtype=torch.float64)
        energy, forces = energy_and_forces(model_of(name), positions, radius=4.0)

        assert torch.isfinite(energy)
        assert not forces.any()


def test_the_envelope_is_that_of_dimenet_to_the_last_digits_before_the_cutoff() -> None:
    x = torch.linspace(0, 1, 101, dtype=torch.float64)
    torch.testing.assert_close(envelope(x), 1 - 28 * x**6 + 48 * x**7 - 21 * x**8, rtol=0, atol=1e-14)
    near = 1 - 1e-4
    assert float(envelope(torch.tensor(near, dtype=torch.float64))) == pytest.approx(56e-12, rel=1e-3)
    assert float(envelope(torch.tensor(near, dtype=torch.float32))) == pytest.approx(56e-12, rel=1e-2)
    assert envelope(torch.tensor([1.0, 1.5])).tolist() == [0, 0]


def test_a_mean_over_edges_that_come_and_go_is_refused() -> None:
    with pytest.raises(
        UserError, match="cutoff=2: an edge that appears would change the mean of all others; use reduce=sum"
    ):
        build_model(TFNModel(**SIZES, reduce="mean"), fiber_in=Fiber("1x0"), fiber_out=Fiber("1x0"), num_edge_scalars=0)


def test_messages_that_end_before_they_have_faded_are_refused() -> None:
    words = ["experiment=qm9", "data.graph=radius", "data.radius=3.0"]
    assert to_config(compose("train", [*words, "model.cutoff=3.0"])).model.cutoff == 3
    with pytest.raises(
        UserError, match=r"model\.cutoff=5: edges end at data\.radius=3, before their messages have faded"
    ):
        to_config(compose("train", [*words, "model.cutoff=5.0"]))
    assert to_config(compose("train", ["experiment=qm9", "model.cutoff=9.0"])).model.cutoff == 9  # bonds have no radius


@pytest.mark.parametrize("kernel", ["auto", "edge_frame"])
def test_an_edge_that_has_faded_takes_nothing_from_edges_of_small_logits(kernel: str) -> None:
    fiber = Fiber("2x0")
    layer = EdgeAttention(1, fiber, fiber, kernel)
    vector = torch.tensor([[1.0, 0, 0], [0, CUTOFF, 0]])
    geometry = EdgeGeometry(torch.tensor([1, 2]), torch.tensor([0, 0]), 3, vector, vector.norm(dim=1))
    geometry = faded(geometry, CUTOFF)
    query = {0: torch.full((3, 2, 1), 20.0)}
    key = {0: torch.tensor([[[-20.0], [-20.0]], [[0.0], [0.0]]])}  # logits of -566 and 0
    value = {0: torch.ones(2, 2, 1)}
    assert layer.weights(query, key, geometry).flatten().tolist() == [1, 0]
    torch.testing.assert_close(layer(query, key, value, geometry)[0][0], torch.ones(2, 1))
