from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from se3t.fiber import Features, Fiber, rotate_features
from se3t.nn import EquivariantConv
from se3t.nn.kernels import KERNELS, edge_frame, get_kernel
from se3t.nn.kernels.product import transposed_product
from se3t.so3 import random_rotation

from .clouds import AXES, COINCIDENT, FIBER, basis_of, make_conv, make_graph

LOW = "edge_frame low"
"""The kernel ``edge_frame`` with ``memory="low"``, in chunks of a few edges."""
FAST = [*(name for name in KERNELS if name not in ("reference", "auto", "triton")), LOW]
ALL = ["reference", *FAST]
FIBERS = [
    (FIBER, FIBER),
    (Fiber("2x0"), Fiber("3x2")),
    (Fiber("1x1+2x3"), Fiber("2x0+3x2")),
    (Fiber("2x3"), Fiber("1x1")),
    (Fiber("1x0+2x1"), Fiber("2x0+2x1+2x2+2x3+1x4")),
]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("se3t.nn.kernels.chunked.CHUNK_BYTES", {"cpu": 2**14})


def conv_of(fiber_in: Fiber, fiber_out: Fiber, kernel: str, *args: object, **options: object) -> EquivariantConv:
    name, _, memory = kernel.partition(" ")
    return make_conv(fiber_in, fiber_out, *args, kernel=name, memory=memory or "speed", **options)  # type: ignore[arg-type]


def pair_of(fiber_in: Fiber, fiber_out: Fiber, kernel: str, **options: object) -> tuple[nn.Module, nn.Module]:
    """The same layer with the reference kernel and with another one."""
    layers = []
    for name in ("reference", kernel):
        torch.manual_seed(3)
        layer = conv_of(fiber_in, fiber_out, name, 2, **options).double()
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        layers.append(layer)
    return layers[0], layers[1]


def largest_difference(left: Features, right: Features) -> float:
    assert left.keys() == right.keys()
    scale = max(float(value.detach().abs().max()) for value in left.values())
    return max(float((left[degree] - right[degree]).detach().abs().max()) for degree in left) / scale


@pytest.mark.parametrize("kernel", FAST)
@pytest.mark.parametrize("share", ["none", "full", "degree_out", "degree_in"])
@pytest.mark.parametrize(("fiber_in", "fiber_out"), FIBERS)
@pytest.mark.parametrize("positions", [None, AXES, COINCIDENT], ids=["generic", "axes", "coincident"])
def test_kernel_equals_the_reference(
    kernel: str, share: str, fiber_in: Fiber, fiber_out: Fiber, positions: Tensor | None
) -> None:
    reference, fast = pair_of(fiber_in, fiber_out, kernel, share_radial=share, reduce="none")
    graph = make_graph(fiber_in, positions)
    basis = basis_of(graph, 4)
    assert largest_difference(reference(graph.features, basis), fast(graph.features, basis)) < 1e-12


@pytest.mark.parametrize("kernel", ALL)
@pytest.mark.parametrize("share", ["none", "full"])
def test_reciprocal_pairs_give_the_same_node_features(kernel: str, share: str) -> None:
    reference, fast = pair_of(FIBER, FIBER, kernel, share_radial=share)
    graph = make_graph(FIBER, symmetric=True)
    paired = basis_of(graph, pair=True)
    assert paired.geometry.repeat == 2
    assert largest_difference(reference(graph.features, basis_of(graph)), fast(graph.features, paired)) < 1e-12


@pytest.mark.parametrize("kernel", FAST)
@pytest.mark.parametrize("positions", [None, AXES, COINCIDENT], ids=["generic", "axes", "coincident"])
@pytest.mark.parametrize(("symmetric", "share"), [(False, "degree_out"), (True, "degree_out"), (True, "full")])
def test_kernel_gradients_equal_those_of_the_reference(
    kernel: str, positions: Tensor | None, symmetric: bool, share: str
) -> None:
    """To parameters, features and positions; the last one twice."""
    layers = pair_of(FIBER, FIBER, kernel, share_radial=share)
    graph = make_graph(FIBER, positions, symmetric=symmetric)
    probe = {degree: torch.randn_like(value) for degree, value in graph.features.items()}
    results = []
    for layer in layers:
        leaves = [
            graph.positions.clone().requires_grad_(),
            *(v.clone().requires_grad_() for v in graph.features.values()),
        ]
        moved = graph.__class__(
            leaves[0],
            dict(zip(graph.features, leaves[1:], strict=True)),
            graph.edge_index,
            graph.batch,
            2,
            graph.edge_scalars,
        )
        out = layer(moved.features, basis_of(moved, pair=True))
        loss = sum((out[degree] * probe[degree]).sum() for degree in out)
        direct = torch.autograd.grad(loss, [*leaves, *layer.parameters()], retain_graph=True)
        first = torch.autograd.grad(loss, [*leaves, *layer.parameters()], create_graph=True)
        second = torch.autograd.grad(first[0].square().sum(), [leaves[0], *layer.parameters()], allow_unused=True)
        results.append([*direct, *first, *(value for value in second if value is not None)])
    for expected, received in zip(*results, strict=True):
        assert received.isfinite().all()
        assert (expected - received).abs().max() <= 1e-11 * (1 + expected.abs().max())


@pytest.mark.parametrize("kernel", ALL)
def test_position_gradients_are_complete_by_finite_differences(kernel: str) -> None:
    layer = pair_of(Fiber("1x0+1x1"), Fiber("1x0+1x1+1x2"), kernel)[1]
    graph = make_graph(Fiber("1x0+1x1"), symmetric=True)

    def output(positions: Tensor) -> Tensor:
        moved = graph.__class__(positions, graph.features, graph.edge_index, graph.batch, 2, graph.edge_scalars)
        out = layer(moved.features, basis_of(moved, 2, pair=True))
        return torch.cat([value.flatten() for value in out.values()])

    assert torch.autograd.gradcheck(output, graph.positions.clone().requires_grad_(), fast_mode=True)
    assert torch.autograd.gradgradcheck(output, graph.positions.clone().requires_grad_(), fast_mode=True)


@pytest.mark.parametrize("kernel", ALL)
@pytest.mark.parametrize("positions", [None, AXES, COINCIDENT], ids=["generic", "axes", "coincident"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 2e-6)])
def test_convolution_is_equivariant(
    kernel: str, positions: Tensor | None, dtype: torch.dtype, tolerance: float, generator: torch.Generator
) -> None:
    layer = pair_of(FIBER, FIBER, kernel)[1].to(dtype)
    graph = make_graph(FIBER, positions).to(dtype)
    rotation = random_rotation(generator=generator, dtype=torch.float64)
    rotated = graph.to(torch.float64).rotate(rotation).to(dtype)
    expected = rotate_features(layer(graph.features, basis_of(graph)), rotation.to(dtype))
    received = layer(rotated.features, basis_of(rotated))
    for degree in FIBER:
        assert (expected[degree] - received[degree]).norm() <= tolerance * expected[degree].norm()


@pytest.mark.parametrize("kernel", ALL)
def test_kernel_of_a_graph_without_edges_is_empty(kernel: str) -> None:
    layer = pair_of(FIBER, FIBER, kernel)[1]
    graph = make_graph(FIBER, radius=1e-6)
    assert graph.edge_index.shape[1] == 0
    out = layer(graph.features, basis_of(graph, pair=True))
    own = layer.self_interaction(graph.features)  # type: ignore[operator]
    assert all(torch.equal(out[degree], own[degree]) for degree in FIBER)


@pytest.mark.parametrize("share", ["none", "full"])
def test_the_size_of_a_chunk_changes_nothing(share: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = pair_of(FIBER, FIBER, LOW, share_radial=share, reduce="none")[1]
    graph = make_graph(FIBER, symmetric=True)
    results = []
    for size in (1, 2**13, 2**30):  # one pair of edges, some, all
        monkeypatch.setattr("se3t.nn.kernels.chunked.CHUNK_BYTES", {"cpu": size})
        out = layer(graph.features, basis_of(graph, pair=True))
        loss = sum(value.square().sum() for value in out.values())
        results.append([*out.values(), *torch.autograd.grad(loss, list(layer.parameters()))])
    for values in results[1:]:
        for expected, received in zip(results[0], values, strict=True):
            torch.testing.assert_close(received, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("share", ["none", "full"])
def test_low_memory_keeps_no_radial_weights(share: str) -> None:
    """What autograd holds between forward and backward."""
    fiber = Fiber.uniform(4, 8)
    kept: dict[str, int] = {}
    for kernel in ("edge_frame", LOW):
        layer = conv_of(fiber, fiber, kernel, 2, share_radial=share, reduce="none")
        graph = make_graph(fiber, torch.randn(24, 3, dtype=torch.float64)).to(torch.float32)
        tensors: dict[int, int] = {}

        def keep(value: Tensor, tensors: dict[int, int] = tensors) -> Tensor:
            tensors[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
            return value

        basis = basis_of(graph)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
            out = layer(graph.features, basis)
        assert out[3].requires_grad
        kept[kernel] = sum(tensors.values())
    radial_weights = graph.edge_index.shape[1] * 44 * 8 * 8 * 4
    assert kept["edge_frame"] - kept[LOW] > 0.9 * radial_weights


def test_memory_is_chosen_by_the_size_of_the_radial_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = make_graph(FIBER)
    chosen: list[str] = []
    for function, word in (("composed_messages", "speed"), ("fused_messages", "low")):
        original = getattr(edge_frame, function)

        def note(*args: object, original: Callable[..., Features] = original, word: str = word) -> Features:
            chosen.append(word)
            return original(*args)

        monkeypatch.setattr(edge_frame, function, note)
    for size in (2**30, 1):
        monkeypatch.setattr(edge_frame, "WHOLE_BYTES", {"cpu": size})
        make_conv(FIBER, FIBER, 2, kernel="edge_frame", memory="auto").double()(graph.features, basis_of(graph))
    assert chosen == ["speed", "low"]
    with pytest.raises(ValueError, match="memory='much': expected one of auto, speed, low"):
        make_conv(FIBER, FIBER, memory="much")


def test_unknown_kernel_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'fastest' is not known: expected one of reference"):
        get_kernel("fastest")


@pytest.mark.parametrize("rows", [6, 3])
def test_transposed_product_has_all_gradients(rows: int) -> None:
    left = torch.randn(6, 2, 5, dtype=torch.float64, requires_grad=True)
    right = torch.randn(rows, 3, 5, dtype=torch.float64, requires_grad=True)
    expected = left @ right.repeat_interleave(6 // rows, 0).mT
    torch.testing.assert_close(transposed_product(left, right), expected)
    checks: list[Callable[..., bool]] = [torch.autograd.gradcheck, torch.autograd.gradgradcheck]
    assert all(check(transposed_product, (left, right)) for check in checks)
