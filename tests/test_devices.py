"""Whatever computes does so where its tensors lie: on another device, which needs no hardware (other_device.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compat.files import OWN, content
from nn.clouds import FIBER, make_conv, make_graph
from other_device import DEVICE, DeviceMixing, Elsewhere, here, other_device
from se3t import so3
from se3t.batching import batch_graphs
from se3t.compat.golden import compare
from se3t.config import SE3TransformerModel
from se3t.fiber import Fiber, rotate_features
from se3t.geometry import EdgeGeometry, find_pairs
from se3t.graph import (
    Graph,
    farthest_point_sampling,
    fully_connected,
    knn_graph,
    radius_graph,
    sort_by_target,
)
from se3t.models.se3_transformer import SE3Transformer
from se3t.nn import EquivariantBasis
from se3t.nn.kernels import triton_kernel
from se3t.nn.kernels.edge_frame import without_reading_values
from se3t.nn.kernels.triton_plan import Plan, plan
from se3t.testing import equivariance_error


@pytest.fixture
def found() -> Iterator[list[str]]:
    """The other device, and what the host reads there."""
    with other_device() as listed:
        yield listed


@pytest.fixture(autouse=True)
def double() -> None:
    torch.set_default_dtype(torch.float64)


def assert_same(function: Callable[..., Any], *arguments: Tensor) -> None:
    """On the CPU, on the device and on the CPU again: each leaves the constants of the other as they are."""
    expected = function(*arguments)
    received = function(*(value.to(DEVICE) for value in arguments))
    parts_of = received.values() if isinstance(received, dict) else received
    for part in [received] if isinstance(received, Tensor) else parts_of:
        assert isinstance(part, Elsewhere)
    torch.testing.assert_close(here(received), here(expected), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(function(*arguments), expected, rtol=0, atol=0)


# --- that the device finds what it is for -----------------------------------------------------------------------------


class Forgetful(nn.Module):
    """A layer that makes a tensor on the CPU, in one of several ways."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault, self.table = fault, torch.arange(3)

    @staticmethod
    @cache
    def constant(dtype: torch.dtype) -> Tensor:
        return torch.ones(3, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        if self.fault == "made without a device":
            return x + torch.zeros(3)
        if self.fault == "a cache that does not ask for the device":
            return x + self.constant(x.dtype)
        if self.fault == "a tensor that is no buffer":
            return x.index_select(0, self.table)
        return x[torch.arange(2)]  # indices from elsewhere


@pytest.mark.parametrize(
    "fault",
    ["made without a device", "a cache that does not ask for the device", "a tensor that is no buffer", "indices"],
)
def test_a_tensor_of_another_device_is_found(fault: str, found: list[str]) -> None:
    layer, x = Forgetful(fault), torch.randn(3)
    layer(x)
    with pytest.raises(DeviceMixing):
        layer.to(DEVICE)(x.to(DEVICE))


def test_what_the_host_waits_for_is_listed(found: list[str]) -> None:
    x = torch.randn(4).to(DEVICE)
    torch.full((), 1.5, device=DEVICE) + x.new_zeros(4)
    assert found == ["to the device"]
    assert isinstance(float(x.sum()), float)
    x.tolist()
    x[x > 0]
    torch.tensor([1, 2], device=DEVICE)
    torch.zeros(4).to(DEVICE, non_blocking=True)
    assert found[1:] == ["_local_scalar_dense", "to the host", "index by a mask", "to the device"]


def test_the_device_computes_and_differentiates_as_the_cpu_does(found: list[str]) -> None:
    def gradients(x: Tensor) -> tuple[Tensor, ...]:
        x = x.requires_grad_()
        out = x.new_zeros(3, 2)
        out[:, 0] = x.sin()
        torch.mul(out.detach(), 2, out=out.detach())
        return torch.autograd.grad((out.mT @ x).square().sum(), x)

    assert_same(gradients, torch.randn(3))


# --- so3, graph, geometry ---------------------------------------------------------------------------------------------


def rotations(*_: Tensor) -> Tensor:
    return so3.random_rotation(4, generator=torch.Generator().manual_seed(0), device=_[0].device)


def twice_differentiated(vectors: Tensor) -> Tensor:
    vectors = vectors.requires_grad_()
    once = torch.autograd.grad(so3.spherical_harmonics(4, vectors)[:, 7].sum(), vectors, create_graph=True)[0]
    return torch.autograd.grad(once.square().sum(), vectors)[0]


def transformed(values: Tensor) -> Tensor:
    nodes, weights = (part.to(values.device) for part in so3.haar_quadrature(2))
    return so3.inverse_fourier_transform(so3.fourier_transform(values, nodes, weights, 2), nodes)


def moved(points: Tensor) -> Tensor:
    motion = so3.RigidMotion(rotations(points), points[:4])
    return (motion @ motion.inverse() @ motion).matrix()


SO3: dict[str, tuple[Callable[..., Any], tuple[int, ...]]] = {
    "harmonics": (lambda x: so3.spherical_harmonics(5, x), (6, 3)),
    "solid harmonics": (lambda x: so3.spherical_harmonics(5, x, normalize=False), (6, 3)),
    "second derivatives": (twice_differentiated, (6, 3)),
    "associated_legendre": (lambda x: so3.associated_legendre(4, x.tanh()), (6,)),
    "random_rotation": (rotations, (1,)),
    "wigner_d_all": (lambda x: so3.wigner_d_all(4, rotations(x)), (1,)),
    "rotation_from_euler": (lambda x: so3.rotation_from_euler(x, 2 * x, 3 * x), (5,)),
    "rotation_about_axis": (lambda x: so3.rotation_about_axis(x, x), (3,)),
    "polar z": (lambda x: so3.from_polar_z(2, so3.to_polar_z(2, x) + 1), (4, 5)),
    "authors' phase": (so3.to_authors_phase, (4, 9)),
    "rigid motions": (moved, (5, 3)),
    "fourier": (transformed, (len(so3.haar_quadrature(2)[1]),)),
    "rotate_features": (lambda x: rotate_features({2: x}, rotations(x)), (4, 2, 5)),
}


@pytest.mark.parametrize("name", SO3)
def test_so3_computes_where_its_arguments_lie(name: str, found: list[str]) -> None:
    function, shape = SO3[name]
    assert_same(function, torch.randn(shape))


BATCH = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2, 2])
BUILDERS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "fully_connected": lambda x, batch: fully_connected(batch),
    "knn_graph": lambda x, batch: knn_graph(x, 2, batch),
    "knn_graph of one cloud": lambda x, batch: knn_graph(x, 2),
    "knn_graph of equal clouds": lambda x, batch: knn_graph(x.unflatten(0, (2, 5)), 2),
    "knn_graph with equal distances": lambda x, batch: knn_graph(x.round().unflatten(0, (2, 5)), 2),
    "knn_graph of few points": lambda x, batch: knn_graph(x.unflatten(0, (5, 2)), 3),
    "radius_graph": lambda x, batch: radius_graph(x, 1.5, batch),
    "radius_graph with a limit": lambda x, batch: radius_graph(x, 1.5, batch, 1),
    "farthest": lambda x, batch: farthest_point_sampling(x, 2, batch),
    "farthest from a random start": lambda x, batch: farthest_point_sampling(
        x, 2, batch, random_start=True, generator=torch.Generator().manual_seed(0)
    ),
    "farthest from given points": lambda x, batch: farthest_point_sampling(x, 2, batch, start=batch.unique()),
    "farthest of equal clouds": lambda x, batch: farthest_point_sampling(
        x.unflatten(0, (2, 5)), 2, start=torch.tensor([3, 4])
    ),
    "sort_by_target": lambda x, batch: sort_by_target(torch.stack([batch, batch.flip(0)]), x),
}


@pytest.mark.parametrize("name", BUILDERS)
def test_neighbourhoods_are_found_where_the_points_lie(name: str, found: list[str]) -> None:
    assert_same(BUILDERS[name], torch.randn(10, 3), BATCH)


def test_neighbours_in_clouds_of_one_size_are_found_without_reading_values(found: list[str]) -> None:
    points = torch.randn(4, 16, 3).to(DEVICE)
    found.clear()
    edges = knn_graph(points, 5)
    chosen = farthest_point_sampling(points, 3, start=torch.tensor([1, 2, 3, 4]))
    assert found == []
    batch = torch.arange(4).repeat_interleave(16)
    assert torch.equal(here(edges), knn_graph(here(points).flatten(0, 1), 5, batch))
    assert torch.equal(
        here(chosen), farthest_point_sampling(here(points).flatten(0, 1), 3, batch, start=torch.tensor([1, 2, 3, 4]))
    )


def test_graphs_are_checked_batched_and_moved_where_they_lie(found: list[str]) -> None:
    graph = find_pairs(make_graph(symmetric=True).to(DEVICE)).check()
    assert graph.pairing is not None
    assert isinstance(graph.pairing.order, Elsewhere)
    turned = batch_graphs([graph, graph]).check().rotate(so3.random_rotation(device=DEVICE))
    assert isinstance(turned.sort_edges().translate(torch.ones(3, device=DEVICE)).positions, Elsewhere)
    order = torch.tensor([4, 3, 2, 1, 0, 8, 7, 6, 5], device=DEVICE)
    assert isinstance(graph.permute(order).check().edge_index, Elsewhere)


@pytest.mark.parametrize("pair", [True, False])
def test_the_geometry_of_edges_is_made_where_they_lie(pair: bool, found: list[str]) -> None:
    graph = make_graph(symmetric=True).to(DEVICE)
    geometry = EdgeGeometry.of(graph, pair=pair, relative_position="to_source")
    rows = geometry.radial_rows
    made = [*geometry.incoming, geometry.in_degree, rows.row_of_edge, rows.invariants(geometry)]
    assert all(isinstance(value, Elsewhere) for value in made)


# --- layers and models ------------------------------------------------------------------------------------------------


def applied(layer: nn.Module, graph: Graph) -> list[Tensor]:
    """Results, and gradients of positions and parameters."""
    positions = graph.positions.clone().requires_grad_()
    basis = EquivariantBasis(EdgeGeometry.of(replace(graph, positions=positions), pair=True), 3)
    out = list(layer(graph.features, basis).values())
    loss = torch.stack([value.square().sum() for value in out]).sum()
    return [*out, *torch.autograd.grad(loss, [positions, *layer.parameters()])]


@pytest.mark.parametrize(
    ("kernel", "memory", "self_interaction"),
    [
        ("reference", "speed", "once"),
        ("vectorised", "speed", "per_edge"),
        ("edge_frame", "speed", "per_edge"),
        ("edge_frame", "low", "once"),
        ("auto", "auto", "message"),
    ],
)
def test_a_layer_that_moves_keeps_its_values(kernel: str, memory: str, self_interaction: str, found: list[str]) -> None:
    """After calls on the CPU, in both precisions; and it can come back."""
    graph = make_graph(symmetric=True)
    options = {"kernel": kernel, "memory": memory, "self_interaction": self_interaction}
    layer = make_conv(FIBER, FIBER, 2, **options)
    expected = applied(layer, graph)
    applied(layer.float(), graph.to(torch.float32))
    moved = applied(layer.double().to(DEVICE), graph.to(DEVICE))
    assert all(isinstance(value, Elsewhere) for value in moved)
    torch.testing.assert_close(here(moved), here(expected), rtol=1e-5, atol=1e-5)  # float32 in between
    again = applied(layer.cpu(), graph)
    torch.testing.assert_close(here(moved), here(again), rtol=1e-10, atol=1e-10)


def test_equivariance_is_measured_where_the_model_is(found: list[str]) -> None:
    """Under every transform of :mod:`se3t.testing`."""
    settings = SE3TransformerModel(num_layers=2, num_degrees=2, channels=4)
    model = SE3Transformer(FIBER, Fiber("1x0+1x1"), settings, num_edge_scalars=2).to(DEVICE)
    for transform in ("rotation", "translation", "permutation"):
        errors = equivariance_error(model, make_graph().to(DEVICE), num_samples=1, transform=transform)
        assert max(errors.values()) < 1e-12


QUICK = ("authors_nbody_se3t_cat", "nvidia_pooled")


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, id=path.stem, marks=() if path.stem in QUICK else pytest.mark.slow) for path in OWN],
)
def test_weights_of_the_released_codes_give_their_values_there(path: Path, found: list[str]) -> None:
    rows = compare(content(path), path.name, device=DEVICE.type)
    assert [row for row in rows if not row.passed] == []


# --- the kernel for GPUs ----------------------------------------------------------------------------------------------


class Launches:
    """In place of a Triton kernel: looks where its tensors lie, and writes nothing."""

    def __init__(self) -> None:
        self.count = 0

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        def launch(*arguments: Any, **constants: Any) -> None:
            tensors = [value for value in arguments if isinstance(value, Tensor)]
            assert all(isinstance(value, Elsewhere) for value in tensors)
            assert min(grid) > 0
            self.count += len(tensors) > 3

        return launch


@pytest.mark.skipif(find_spec("triton") is None, reason="the package triton is not installed")
@pytest.mark.parametrize("share", ["none", "degree_in"])
def test_tables_of_the_triton_kernel_lie_where_its_tensors_do(
    share: str, found: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After plans for the same layer were made on the CPU."""
    from se3t.nn.kernels import triton_programs, triton_tiles

    launches = Launches()
    for name in ("contract", "hidden_gradients", "layer_gradients"):
        monkeypatch.setattr(triton_programs, name, launches)
    monkeypatch.setattr(triton_kernel, "unavailable", lambda *_: None)
    layer = make_conv(FIBER, FIBER, 2, kernel="triton", share_radial=share).to(DEVICE)
    monkeypatch.setattr(triton_tiles, "plan", planned_on_the_cpu_first)
    graph = find_pairs(make_graph(symmetric=True).to(DEVICE))
    applied(layer, graph)
    found.clear()
    with without_reading_values():
        assert all(isinstance(value, Elsewhere) for value in applied(layer, graph))
    assert found == []
    assert launches.count == 2 * (4 + 3 * 4)  # orders 0 to 3, forward, and the three of the backward pass


def planned_on_the_cpu_first(*arguments: Any) -> Plan:
    plan(*arguments[:-1], torch.device("cpu"))
    return plan(*arguments)
