"""The compiled kernel against its definition, for shapes at and around the widths of its vectors and blocks."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from se3t.fiber import Fiber
from se3t.geometry import EdgeGeometry
from se3t.graph import knn_graph
from se3t.nn import EquivariantBasis
from se3t.nn.kernels.native import attention, convolution, unavailable

from .clouds import AXES, COINCIDENT, FIBER, features_of, make_block
from .native_cases import NODES, assert_equal_to_reference, conv_of, edges_of, graph_of, outputs, run


@pytest.fixture(autouse=True, scope="module")
def compiled_code() -> None:
    reason = unavailable(torch.device("cpu"), torch.float64) or unavailable(torch.device("cpu"), torch.float32)
    if reason is not None:
        pytest.skip(f"there is no compiled kernel here: {reason}")


@pytest.fixture
def threads() -> Iterator[None]:
    """The number of threads is put back afterwards."""
    number = torch.get_num_threads()
    yield
    torch.set_num_threads(number)


@pytest.mark.parametrize(
    ("fiber_in", "fiber_out"),
    [
        ("1x0+1x6", "1x0+2x1+1x6"),
        ("2x3+1x5", "1x2+3x4"),
        ("1x0", "1x0"),
        ("1x4", "1x0"),
        ("3x0+5x1", "5x0+3x1"),
        ("17x0+3x2", "3x0+17x1"),
        ("33x1", "1x1+2x2"),
        ("2x0", "33x0"),
        ("8x0+8x1+8x2", "16x0+8x1"),
        ("1x0+2x1+3x2+5x3", "7x0+9x1"),
    ],
)
@pytest.mark.parametrize("share", ["none", "full"])
def test_values_and_gradients_are_those_of_the_reference_for_any_fiber(
    fiber_in: str, fiber_out: str, share: str
) -> None:
    graph = graph_of(Fiber(fiber_in), edges_of("some", 37), scalars=1)
    for second in (False, True):
        assert_equal_to_reference(Fiber(fiber_in), Fiber(fiber_out), graph, {"share_radial": share}, second=second)


@pytest.mark.parametrize(
    "options",
    [
        {"radial_hidden": 16},
        {"radial_hidden": 20, "radial_bias": False},
        {"radial_hidden": 48, "share_radial": "degree_out"},
        {"radial_layer_norm": False},
        {"radial_layer_norm": False, "radial_bias": False, "radial_hidden": 20, "share_radial": "degree_in"},
        {"scalar_constant": False},
        {"scalar_constant": False, "share_radial": "full", "radial_bias": False},
        {"reduce": "mean"},
    ],
    ids=str,
)
def test_values_and_gradients_are_those_of_the_reference_for_any_radial_network(options: dict[str, object]) -> None:
    graph = graph_of(FIBER, edges_of("some", 45), scalars=2)
    for second in (False, True):
        assert_equal_to_reference(FIBER, FIBER, graph, options, second=second)


@pytest.mark.parametrize("count", [0, 1, 2, 31, 33, 64, 100])
@pytest.mark.parametrize("kind", ["both", "one_way", "some"])
def test_values_and_gradients_are_those_of_the_reference_for_any_number_of_edges(count: int, kind: str) -> None:
    fiber = Fiber("2x0+1x1")
    graph = graph_of(fiber, edges_of(kind, count), scalars=1)
    pairs = 0 if kind == "one_way" else None
    rows = EdgeGeometry.of(graph, pair=True).radial_rows
    assert pairs is None or len(rows.second) == pairs
    assert kind != "both" or len(rows.second) == count // 2
    for second in (False, True):
        assert_equal_to_reference(fiber, Fiber("3x0+2x1+1x2"), graph, {"share_radial": "full"}, second=second)


def test_nearest_neighbours_pair_in_part_and_give_the_values_of_the_reference() -> None:
    positions = torch.randn(20, 3, dtype=torch.float64)
    graph = graph_of(FIBER, knn_graph(positions, 3), positions=positions)
    assert 0 < len(EdgeGeometry.of(graph, pair=True).radial_rows.second) < graph.edge_index.shape[1] / 2
    assert_equal_to_reference(FIBER, FIBER, graph)


@pytest.mark.parametrize("positions", [AXES, COINCIDENT, torch.zeros(4, 3).double()], ids=["axes", "coincident", "one"])
@pytest.mark.parametrize("pair", [False, True])
def test_edges_along_axes_and_of_no_length_are_those_of_the_reference(positions: Tensor, pair: bool) -> None:
    nodes = len(positions)
    graph = graph_of(FIBER, edges_of("some", nodes * (nodes - 1), nodes), positions=positions)
    assert_equal_to_reference(FIBER, FIBER, graph, pair=pair)


def test_isolated_nodes_get_no_message_and_no_gradient() -> None:
    edges = edges_of("some", 20, nodes=6)  # nodes 6 to 11 have none
    graph = graph_of(FIBER, edges)
    assert_equal_to_reference(FIBER, FIBER, graph, {"reduce": "sum", "self_interaction": "none"})
    gradient = run(conv_of(FIBER, FIBER), graph)[len(FIBER) + 1]
    assert (gradient[:6] != 0).any()
    assert (gradient[6:] == 0).all()


@pytest.mark.parametrize("scalars", [1, 5])
@pytest.mark.parametrize("vectors", [False, True])
def test_gradients_of_edge_scalars_and_edge_vectors_are_those_of_the_reference(scalars: int, vectors: bool) -> None:
    fiber = Fiber("2x0+1x1")
    graph = graph_of(fiber, edges_of("both", 40), scalars=scalars)
    if vectors:
        graph = replace(graph, edge_vectors=torch.randn(40, 3, dtype=torch.float64))
    for second in (False, True):
        assert_equal_to_reference(fiber, Fiber("2x0+1x2"), graph, continuous=True, second=second)


@pytest.mark.parametrize("mode", ["cat", "cat_shared", "add"])
@pytest.mark.parametrize("relative", ["none", "to_source", "to_target"])
def test_edge_features_and_their_gradients_are_those_of_the_reference(mode: str, relative: str) -> None:
    fiber, own = Fiber("3x0+4x1+1x2"), Fiber("2x0+1x1+1x3") if mode != "add" else Fiber("2x0+1x1")
    fiber_edge = own if relative == "none" else own + Fiber("1x1")
    graph = graph_of(fiber, edges_of("some", 41), scalars=1, fiber_edge=own)
    options = {"fiber_edge": fiber_edge, "edge_mode": mode}
    for second in (False, True):
        assert_equal_to_reference(fiber, Fiber("2x0+3x1"), graph, options, relative=relative, second=second)


def test_edge_features_may_be_all_there_is() -> None:
    graph = graph_of(Fiber({}), edges_of("some", 40), fiber_edge=Fiber("2x0+1x1"))
    assert_equal_to_reference(Fiber({}), Fiber("2x0+3x1"), graph, {"fiber_edge": Fiber("2x0+1x1")})


@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("options", [{}, {"fiber_edge": Fiber("1x1"), "edge_mode": "add"}], ids=["plain", "add"])
def test_second_gradients_are_exact(pair: bool, options: dict[str, object]) -> None:
    fiber = Fiber("1x0+2x1")
    graph = graph_of(fiber, edges_of("some", 14, nodes=5), positions=torch.randn(5, 3, dtype=torch.float64))
    graph = replace(graph, edge_features=features_of(Fiber(options.get("fiber_edge", {})), 14))  # type: ignore[arg-type]
    layer = conv_of(fiber, Fiber("1x0+1x1+1x2"), radial_hidden=8, **options)

    def output(positions: Tensor, *features: Tensor) -> Tensor:
        moved = replace(graph, positions=positions, features=dict(zip(fiber, features, strict=True)))
        out = layer(moved.features, EquivariantBasis(EdgeGeometry.of(moved, pair=pair), 2))
        return torch.cat([value.flatten() for value in out.values()])

    leaves = [value.clone().requires_grad_() for value in (graph.positions, *graph.features.values())]
    assert torch.autograd.gradcheck(output, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(output, leaves, fast_mode=True)


def test_second_gradients_are_computed_by_compiled_code_where_no_parameter_has_a_first_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    composed = []
    for module in (convolution, attention):
        monkeypatch.setattr(module, "second_gradients_of", lambda *_: composed.append(True))
    fiber = Fiber("2x0+1x1")
    graph = graph_of(fiber, edges_of("some", 20))
    block = make_block(fiber, fiber, kernel="native").double()
    positions = graph.positions.clone().requires_grad_()
    moved = replace(graph, positions=positions)
    out = block(moved.features, EquivariantBasis(EdgeGeometry.of(moved), block.max_degree))
    energy = sum(value.square().sum() for value in out.values())
    (forces,) = torch.autograd.grad(energy, positions, create_graph=True)
    forces.square().sum().backward()
    assert not composed
    assert all(parameter.grad is not None for parameter in block.parameters())


@pytest.mark.parametrize("parametrised", [False, True])
def test_gradients_of_last_layers_are_made_where_the_backward_pass_asks_for_them(
    monkeypatch: pytest.MonkeyPatch, parametrised: bool
) -> None:
    fiber, asked = Fiber("2x0+1x1"), []
    operator = convolution.convolve_backward

    def recorded(*arguments: Any) -> Any:
        asked.append(arguments[-2][2])
        return operator(*arguments)

    monkeypatch.setattr(convolution, "convolve_backward", recorded)
    graph = graph_of(fiber, edges_of("some", 20))
    layer = conv_of(fiber, fiber)
    weight = layer.radial.weight["0_0"]
    if parametrised:
        torch.nn.utils.parametrize.register_parametrization(layer.radial.weight, "0_0", torch.nn.Softplus())
        weight = layer.radial.weight.parametrizations["0_0"].original  # type: ignore[union-attr,index]

    def energy_of(positions: Tensor) -> Tensor:
        moved = replace(graph, positions=positions)
        out = layer(moved.features, EquivariantBasis(EdgeGeometry.of(moved), layer.max_degree))
        return sum(value.square().sum() for value in out.values())  # type: ignore[return-value]

    leaf = graph.positions.clone().requires_grad_()
    torch.autograd.grad(energy_of(leaf), leaf)
    torch.autograd.grad(energy_of(leaf), [leaf, weight])
    energy_of(leaf).backward()
    energy_of(leaf).backward(inputs=[leaf])
    energy_of(leaf).backward(inputs=[weight])
    assert asked == [False, True, True, False, True]


def test_forward_mode_gives_the_directional_derivative() -> None:
    graph = graph_of(FIBER, edges_of("some", 20))
    block = make_block(FIBER, FIBER, kernel="native").double()
    direction = torch.randn_like(graph.positions)

    def energy_of(positions: Tensor) -> Tensor:
        moved = replace(graph, positions=positions)
        out = block(moved.features, EquivariantBasis(EdgeGeometry.of(moved), block.max_degree))
        return sum(value.square().sum() for value in out.values())  # type: ignore[return-value]

    with forward_ad.dual_level():
        dual = energy_of(forward_ad.make_dual(graph.positions, direction))
        tangent = forward_ad.unpack_dual(dual).tangent
    leaf = graph.positions.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(energy_of(leaf), leaf)
    torch.testing.assert_close(tangent, (gradient * direction).sum())


# --- threads, order, memory -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"fiber_edge": Fiber("1x1"), "edge_mode": "add"}], ids=["plain", "add"])
def test_the_number_of_threads_changes_nothing_but_rounding(options: dict[str, object], threads: None) -> None:
    graph = graph_of(FIBER, edges_of("some", 600, nodes=40), positions=torch.randn(40, 3, dtype=torch.float64))
    graph = replace(graph, edge_features=features_of(Fiber(options.get("fiber_edge", {})), 600))  # type: ignore[arg-type]
    results = []
    for number in (1, 2, 2, 7):
        torch.set_num_threads(number)
        results.append(run(conv_of(FIBER, FIBER, **options), graph))
    assert all(torch.equal(once, again) for once, again in zip(results[1], results[2], strict=True))
    for other in (results[1], results[3]):
        for expected, received in zip(results[0], other, strict=True):
            torch.testing.assert_close(received, expected, rtol=1e-11, atol=1e-11)


def test_sums_that_threads_share_are_cleared_before_any_of_them_adds(threads: None) -> None:
    """Edge by edge sources: there are as many sums as edges, and clearing them takes longer than a first block."""
    fiber, edges = Fiber("8x0+8x1+8x2"), torch.randint(0, 300, (2, 40_000))
    layer = conv_of(fiber, Fiber("1x0"), radial_hidden=8, fiber_edge=Fiber("2x1"), edge_mode="add").float()
    graph = graph_of(fiber, edges, fiber_edge=Fiber("2x1"), positions=torch.randn(300, 3, dtype=torch.float64))
    graph = graph.to(torch.float32)
    own = {1: graph.edge_features[1].requires_grad_()}
    basis = EquivariantBasis(EdgeGeometry.of(replace(graph, edge_features=own)), 2)
    gradients = []
    for number in (1, 2, 2):
        torch.set_num_threads(number)
        gradients += torch.autograd.grad(layer(graph.features, basis)[0].sum(), own[1])
    assert all(torch.equal(gradients[0], gradient) for gradient in gradients[1:])


def test_many_threads_of_the_caller_do_not_disturb_each_other() -> None:
    """Each has memory of its own, kept between calls of different size."""
    cases = [(Fiber(f"{channels}x0+2x1"), count) for channels in (1, 5, 20) for count in (3, 60, 200)]
    work = [(conv_of(fiber, FIBER), graph_of(fiber, edges_of("some", min(count, 132)))) for fiber, count in cases]
    alone = [run(layer, graph) for layer, graph in work]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda item: run(*item), work * 3))
    for expected, received in zip(alone * 3, together, strict=True):
        assert all(torch.equal(one, other) for one, other in zip(expected, received, strict=True))


@pytest.mark.parametrize("pair", [False, True])
def test_the_order_of_the_edges_changes_nothing_but_rounding(pair: bool) -> None:
    graph = graph_of(FIBER, edges_of("some", 90), scalars=1, fiber_edge=Fiber("1x1"))
    order = torch.randperm(90)
    moved = replace(
        graph,
        edge_index=graph.edge_index[:, order],
        edge_scalars=graph.edge_scalars[order],
        edge_features={1: graph.edge_features[1][order]},
    )
    layer = conv_of(FIBER, FIBER, num_edge_scalars=1, fiber_edge=Fiber("1x1"), reduce="sum")
    expected, received = run(layer, graph, pair=pair), run(layer, moved, pair=pair)
    received[-1 - len(list(layer.parameters()))] = received[-1 - len(list(layer.parameters()))][order.argsort()]
    for one, other in zip(expected, received, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


def test_tensors_may_lie_in_memory_in_any_way() -> None:
    fiber = Fiber("1x0+4x1+8x2")
    graph = graph_of(fiber, edges_of("some", 50))
    layer, values = conv_of(fiber, fiber), graph.features
    expected = outputs(layer, graph)
    wide = {degree: torch.cat([value, value, value], dim=1) for degree, value in values.items()}
    for features in (
        {degree: value.mT.contiguous().mT for degree, value in values.items()},  # channels together
        {degree: value.transpose(0, 1).contiguous().transpose(0, 1) for degree, value in values.items()},
        {degree: value[:, fiber[degree] : 2 * fiber[degree]] for degree, value in wide.items()},  # a part
        {degree: value.repeat(1, 1, 2)[:, :, : 2 * degree + 1] for degree, value in values.items()},
    ):
        assert all(torch.equal(expected[degree], outputs(layer, graph, features)[degree]) for degree in fiber)
    flat = torch.cat([values[1].mT.flatten(1), values[2].mT.flatten(1), values[0].flatten(1)], dim=1)
    parts = dict(zip((1, 2, 0), flat.split([12, 40, 1], 1), strict=True))  # the last number ends the memory
    packed = {degree: part.unflatten(1, (2 * degree + 1, -1)).mT for degree, part in parts.items()}
    assert all(torch.equal(expected[degree], outputs(layer, graph, packed)[degree]) for degree in fiber)
    same = {degree: value[:1].expand(NODES, -1, -1) for degree, value in values.items()}
    copied = {degree: value.contiguous() for degree, value in same.items()}
    one, other = outputs(layer, graph, same), outputs(layer, graph, copied)
    assert all(torch.equal(one[degree], other[degree]) for degree in fiber)


def test_incoming_gradients_may_lie_in_memory_in_any_way() -> None:
    fiber = Fiber("1x0+4x1+8x2")
    graph = graph_of(fiber, edges_of("some", 50))
    layer = conv_of(fiber, fiber)
    leaves = [value.requires_grad_() for value in graph.features.values()]

    def gradients(change: str) -> tuple[Tensor, ...]:
        out = outputs(layer, graph)
        grads = [torch.full_like(value, 0.5).contiguous() for value in out.values()]
        if change == "expanded":
            grads = [torch.tensor(0.5).double().expand(value.shape) for value in out.values()]
        elif change == "channels together":
            grads = [grad.mT.contiguous().mT for grad in grads]
        elif change == "a part":
            grads = [torch.cat([grad, grad], dim=1)[:, grad.shape[1] :] for grad in grads]
        return torch.autograd.grad(list(out.values()), [*leaves, *layer.parameters()], grads, allow_unused=True)

    expected = gradients("none")
    for change in ("expanded", "channels together", "a part"):
        assert all(torch.equal(one, other) for one, other in zip(expected, gradients(change), strict=True))


def test_edge_index_may_be_a_transposed_list_of_pairs() -> None:
    graph = graph_of(FIBER, edges_of("some", 50))
    turned = replace(graph, edge_index=graph.edge_index.t().contiguous().t())
    layer = conv_of(FIBER, FIBER)
    expected, received = run(layer, graph, pair=False), run(layer, turned, pair=False)
    assert all(torch.equal(one, other) for one, other in zip(expected, received, strict=True))


# --- what surrounds a call --------------------------------------------------------------------------------------------


def test_results_without_gradients_are_the_same() -> None:
    graph = graph_of(FIBER, edges_of("some", 50))
    layer = conv_of(FIBER, FIBER)
    expected = outputs(layer, graph)
    with torch.no_grad():
        received = outputs(layer, graph)
    with torch.inference_mode():
        inferred = outputs(conv_of(FIBER, FIBER), graph)
    for degree in FIBER:
        assert expected[degree].requires_grad
        assert not received[degree].requires_grad
        assert torch.equal(expected[degree], received[degree])
        assert torch.equal(expected[degree], inferred[degree])
    assert outputs(layer, graph)[0].requires_grad  # constants made under inference mode serve training too


def test_frozen_parameters_get_no_gradient_and_change_no_other() -> None:
    graph = graph_of(FIBER, edges_of("some", 50))
    layer = conv_of(FIBER, FIBER)
    named = dict(layer.named_parameters())
    sum(value.square().sum() for value in outputs(layer, graph).values()).backward()
    expected = {name: parameter.grad for name, parameter in named.items()}
    for number, parameter in enumerate(named.values()):
        parameter.grad = None
        parameter.requires_grad_(number % 2 == 0)
    sum(value.square().sum() for value in outputs(layer, graph).values()).backward()
    for number, (name, parameter) in enumerate(named.items()):
        if number % 2:
            assert parameter.grad is None
        else:
            assert torch.equal(parameter.grad, expected[name])


def test_autocast_stays_near_float32() -> None:
    block = make_block(FIBER, FIBER, num_heads=1, kernel="native")
    graph = graph_of(FIBER, edges_of("some", 80)).to(torch.float32)
    basis = EquivariantBasis(EdgeGeometry.of(graph, pair=True), 3)
    expected = block(graph.features, basis)
    with torch.autocast("cpu", torch.bfloat16):
        received = block(graph.features, basis)
    sum(value.float().square().sum() for value in received.values()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in block.parameters() if parameter.grad is not None)
    for degree in FIBER:
        assert (received[degree] - expected[degree]).norm() < 0.05 * expected[degree].norm()


def test_float32_is_float64_up_to_rounding() -> None:
    graph = graph_of(FIBER, edges_of("some", 80), scalars=1)
    layer = conv_of(FIBER, FIBER, num_edge_scalars=1)
    expected = outputs(layer, graph)
    received = outputs(copy.deepcopy(layer).float(), graph.to(torch.float32))
    for degree in FIBER:
        assert received[degree].dtype == torch.float32
        assert (received[degree] - expected[degree]).norm() < 1e-5 * expected[degree].norm()


@pytest.mark.parametrize("where", ["positions", "edge_scalars", "features", "parameters"])
def test_what_is_not_a_number_stays_visible(where: str) -> None:
    graph = graph_of(FIBER, edges_of("some", 60), scalars=1)
    layers = [conv_of(FIBER, FIBER, kernel, num_edge_scalars=1) for kernel in ("reference", "native")]
    if where == "parameters":
        with torch.no_grad():
            for layer in layers:
                layer.radial.trunk[0].weight[0, 0, 0] = float("nan")  # type: ignore[index]
    elif where == "features":
        graph.features[1][3, 0, 1] = float("nan")
    else:
        getattr(graph, where)[5] = float("nan")
    expected, received = (outputs(layer, graph) for layer in layers)
    missing = {degree: value.isnan().any(dim=2).any(dim=1) for degree, value in expected.items()}
    assert any(edges.any() for edges in missing.values())
    for degree in FIBER:
        assert torch.equal(received[degree].isnan().any(dim=2).any(dim=1), missing[degree])


def test_modules_can_be_copied_and_pickled() -> None:
    graph = graph_of(FIBER, edges_of("some", 40))
    layer = conv_of(FIBER, FIBER)
    expected = outputs(layer, graph)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert all(torch.equal(expected[degree], outputs(other, graph)[degree]) for degree in FIBER)


# --- what does not fit is refused, never read beyond its end ----------------------------------------------------------


@pytest.mark.parametrize(("graphs", "layers"), [(torch.float64, torch.float32), (torch.float32, torch.float64)])
def test_positions_and_parameters_of_different_types_are_refused(graphs: torch.dtype, layers: torch.dtype) -> None:
    graph = graph_of(FIBER, edges_of("some", 40)).to(graphs)
    with pytest.raises(ValueError, match="convert the graph or the model"):
        outputs(conv_of(FIBER, FIBER).to(layers), graph)


def test_fields_of_too_few_rows_are_refused() -> None:
    fiber = Fiber("2x0+1x1")
    graph = graph_of(fiber, edges_of("some", 40), fiber_edge=Fiber("1x1"))
    layer = conv_of(fiber, fiber, fiber_edge=Fiber("1x1"))
    with pytest.raises(ValueError, match="features of degree 1: expected 12 rows, got 4"):
        outputs(layer, graph, {0: graph.features[0], 1: graph.features[1][:4]})
    with pytest.raises(ValueError, match="edge_features of degree 1: expected 40 rows, got 7"):
        outputs(layer, replace(graph, edge_features={1: graph.edge_features[1][:7]}))
    with pytest.raises(IndexError, match="an edge comes from a node that is not there"):
        outputs(layer, graph, {degree: value[:4] for degree, value in graph.features.items()})


def test_degrees_beyond_the_tables_are_refused() -> None:
    graph = graph_of(Fiber("1x0"), edges_of("some", 4))
    with pytest.raises(ValueError, match="degrees 0 to 12"):
        outputs(conv_of(Fiber("1x0"), Fiber("1x13")), graph)
    expected = outputs(conv_of(Fiber("1x0"), Fiber("1x13"), "edge_frame"), graph)
    received = outputs(conv_of(Fiber("1x0"), Fiber("1x13"), "auto"), graph)
    assert torch.equal(expected[13], received[13])


def test_little_room_for_sums_means_fewer_threads_and_the_same_gradients(
    threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = graph_of(FIBER, edges_of("some", 132))
    layer = conv_of(FIBER, FIBER)
    torch.set_num_threads(2)
    expected = run(layer, graph)
    monkeypatch.setattr("se3t.nn.kernels.native.call._SUMS_BYTES", 1)
    for left, right in zip(expected, run(layer, graph), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-11, atol=1e-11)
