"""Every kernel on the device against ``reference`` in float64 on the CPU. Run in the interpreter, not yet on a GPU."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from nn.clouds import COINCIDENT, FIBER, basis_of, make_block, make_graph
from nn.native_cases import edges_of, graph_of
from nn.test_half_precision import LAYERS
from nn.triton_cases import FIBERS, compare, deviation, difference, radial_of, values_and_gradients
from se3t.fiber import Features
from se3t.graph import Graph
from se3t.nn.kernels import Kernel, edge_frame, get_kernel, native, reference, triton_kernel

from .conftest import DEVICE, MARKS, ON_GPU, needs_cuda

pytestmark = MARKS

NAMES = ["edge_frame speed", "edge_frame low", "vectorised", "triton", "auto", *([] if ON_GPU else ["native"])]
LIMITS = {"float64": 1e-11, "float32": 1e-5}
"""Relative, norm by norm."""
CASES = [  # fibers, sharing of trunks, positions, whether reciprocal edges have equal scalars
    ("several", "none", "coincident", True),
    ("gaps", "degree_in", "generic", True),
    ("up", "full", "generic", False),
    ("higher", "none", "axes", False),
    ("gaps", "degree_out", "coincident", False),
    *([("wide", "full", "generic", True), ("several", "full", "axes", False)] if ON_GPU else []),
]
COUNTS = (0, 1, 2, 61, 64, 65, 132, 4099) if ON_GPU else (0, 1, 65)  # edges; a tile of Triton has 64


def kernel_of(name: str) -> Kernel:
    """By name and, after a space, mode of memory; skips where it cannot run, so that no other takes its place."""
    word, _, memory = name.partition(" ")
    unavailable = {"native": native.unavailable, "triton": triton_kernel.unavailable}.get(word)
    reason = None if unavailable is None else unavailable(DEVICE, torch.float32)
    if reason is not None:
        assert not ON_GPU, reason
        pytest.skip(f"kernel {word}: {reason}")
    return partial(get_kernel(word), memory=memory or "auto")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """``edge_frame low`` takes several chunks."""
    monkeypatch.setattr("se3t.nn.kernels.chunked.CHUNK_BYTES", {"cpu": 2**14, "cuda": 2**16})


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
@pytest.mark.parametrize("name", NAMES)
def test_values_and_gradients_equal_those_of_the_reference(
    name: str, case: tuple[str, str, str, bool], dtype: str
) -> None:
    """To positions, features and parameters, once and twice."""
    *words, symmetric = case
    for second in (False, True):
        found = compare(*words, dtype, symmetric=symmetric, kernel=kernel_of(name), second=second, device=DEVICE)
        assert found <= LIMITS[dtype], f"second={second}"


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", NAMES)
def test_any_number_of_edges_is_right(name: str, count: int, dtype: str) -> None:
    nodes = 12 if count <= 132 else 80
    positions = torch.randn(nodes, 3, dtype=torch.float64)
    graph = graph_of(FIBERS["gaps"][0], edges_of("some", count, nodes), scalars=2, positions=positions)
    assert graph.edge_index.shape[1] == count
    found = deviation(kernel_of(name), radial_of("gaps", "full"), graph, dtype, device=DEVICE)
    assert found <= LIMITS[dtype]


@pytest.mark.parametrize("name", ["edge_frame speed", "triton"])
def test_only_paths_of_natural_parity_act_where_asked(name: str) -> None:
    case = ("gaps", "none", "coincident", "float64")
    assert compare(*case, symmetric=True, parity=True, kernel=kernel_of(name), device=DEVICE) <= LIMITS["float64"]


@pytest.mark.parametrize("name", ["edge_frame speed", "edge_frame low", "triton"])
def test_coincident_points_are_found_without_reading_values(name: str) -> None:
    graph, radial = make_graph(FIBERS["gaps"][0], COINCIDENT, symmetric=True), radial_of("gaps", "full")
    expected = values_and_gradients(reference.messages, radial, graph)
    with edge_frame.without_reading_values():
        received = values_and_gradients(kernel_of(name), radial.to(DEVICE), graph.to(DEVICE))
    assert difference(received, expected) <= LIMITS["float64"]


@needs_cuda
def test_tf32_is_used_where_it_is_allowed_and_costs_what_it_must() -> None:
    """A product of numbers with 10 bits: wrong by 2^-11 each, and not right by float32."""
    torch.set_float32_matmul_precision("high")
    assert 1e-5 < compare("several", "full", "generic", "float32", symmetric=True, device=DEVICE) < 1e-2


# --- what stands around the kernels -----------------------------------------------------------------------------------


def layer_results(layer: nn.Module, graph: Graph, *, with_basis: bool) -> list[Tensor]:
    """Outputs of a layer, and gradients to positions, features and parameters, in float64."""
    positions = graph.positions.clone().requires_grad_()
    features: Features = {degree: value.clone().requires_grad_() for degree, value in graph.features.items()}
    moved = replace(graph, positions=positions, features=features)
    out = layer(features, basis_of(moved, pair=True)) if with_basis else layer(features)
    loss = torch.stack([value.sin().sum() for value in out.values()]).sum()
    leaves = [positions, *features.values(), *layer.parameters()]
    found = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
    return [value.detach().double().cpu() for value in (*out.values(), *found)]


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("kernel", ["edge_frame", "triton", "auto"])
def test_attention_equals_that_of_the_reference(kernel: str, dtype: str) -> None:
    kernel_of(kernel)
    graph, results = make_graph(FIBER, COINCIDENT, symmetric=True), []
    for name, device, digits in (("reference", "cpu", torch.float64), (kernel, DEVICE, getattr(torch, dtype))):
        torch.manual_seed(3)
        fiber = FIBER if ON_GPU else FIBER.restrict((0, 1))
        layer = make_block(FIBER, fiber, 2, self_interaction="attentive", share_radial="full", kernel=name)
        layer, own = layer.to(device, digits), graph.to(device, digits)
        results.append(layer_results(layer, own, with_basis=True))
    assert difference(results[1], results[0]) <= LIMITS[dtype]


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("name", LAYERS)
def test_layers_of_nodes_equal_those_on_the_cpu(name: str, dtype: str) -> None:
    layer = LAYERS[name]().double()
    graph = make_graph(layer.fiber_in)
    expected = layer_results(layer, graph, with_basis=False)
    digits = getattr(torch, dtype)
    received = layer_results(layer.to(DEVICE, digits), graph.to(DEVICE, digits), with_basis=False)
    assert difference(received, expected) <= LIMITS[dtype]
