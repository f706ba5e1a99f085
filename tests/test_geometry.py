from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from se3t.geometry import EdgeGeometry, reciprocal_order
from se3t.graph import Graph, fully_connected, knn_graph
from se3t.so3 import random_rotation


def cloud(positions: torch.Tensor) -> Graph:
    batch = torch.zeros(len(positions), dtype=torch.int64)
    return Graph(positions, {}, fully_connected(batch), batch, 1).check()


def test_edge_vector_points_from_target_to_source() -> None:
    """x_j − x_i of the paper: the message comes from j, the source."""
    positions = torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, 2.0]])
    geometry = EdgeGeometry.of(cloud(positions))
    edges = list(zip(geometry.source.tolist(), geometry.target.tolist(), strict=True))
    assert edges == [(1, 0), (0, 1)]
    assert geometry.vector.tolist() == [[1.0, 2.0, 2.0], [-1.0, -2.0, -2.0]]
    assert geometry.length.tolist() == [3.0, 3.0]
    torch.testing.assert_close(geometry.direction[0], torch.tensor([1.0, 2.0, 2.0]) / 3)
    assert geometry.num_nodes == 2


def test_vector_is_length_times_direction() -> None:
    geometry = EdgeGeometry.of(cloud(torch.randn(7, 3, dtype=torch.float64)))
    torch.testing.assert_close(geometry.length[:, None] * geometry.direction, geometry.vector)
    torch.testing.assert_close(geometry.direction.norm(dim=-1), torch.ones(42, dtype=torch.float64))


def test_geometry_turns_with_the_cloud_and_ignores_translation() -> None:
    graph = cloud(torch.randn(6, 3, dtype=torch.float64))
    rotation = random_rotation(dtype=torch.float64)
    before = EdgeGeometry.of(graph)
    after = EdgeGeometry.of(graph.rotate(rotation).translate(torch.ones(3, dtype=torch.float64)))
    torch.testing.assert_close(after.length, before.length)
    torch.testing.assert_close(after.direction, before.direction @ rotation.T)
    torch.testing.assert_close(after.vector, before.vector @ rotation.T)


def test_coincident_points_have_zero_length_direction_and_gradients() -> None:
    positions = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    positions.requires_grad_()
    geometry = EdgeGeometry.of(cloud(positions))
    zero = (geometry.vector == 0).all(dim=-1)
    assert zero.sum() == 2
    assert (geometry.length[zero] == 0).all()
    assert (geometry.direction[zero] == 0).all()
    assert geometry.direction.isfinite().all()
    for value in (geometry.length[zero].sum(), geometry.direction[zero].sum()):
        (gradient,) = torch.autograd.grad(value, positions, retain_graph=True)
        assert (gradient == 0).all()
    (gradient,) = torch.autograd.grad(geometry.length.sum() + geometry.direction.square().sum(), positions)
    assert gradient.isfinite().all()


def test_coincident_points_stay_coincident_when_the_cloud_is_rotated() -> None:
    """A last bit of difference would become a direction of length one."""
    positions = torch.randn(1, 3).repeat(37, 1)  # an odd number: the tail of a vectorised loop included
    for rotation in random_rotation(20, dtype=torch.float64):
        for angle in (rotation, rotation.float()):
            assert (EdgeGeometry.of(cloud(positions).rotate(angle)).length == 0).all()


def test_gradients_by_positions_are_those_of_finite_differences() -> None:
    positions = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)

    def outputs(positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        geometry = EdgeGeometry.of(cloud(positions))
        return geometry.vector, geometry.length, geometry.direction

    assert torch.autograd.gradcheck(outputs, positions)
    assert torch.autograd.gradgradcheck(outputs, positions)


# --- reciprocal pairs -------------------------------------------------------------------------------------------------


def test_paired_edges_are_the_same_edges_each_followed_by_its_reverse() -> None:
    graph = cloud(torch.randn(5, 3, dtype=torch.float64))
    charge = torch.randn(5, dtype=torch.float64)
    graph = replace(
        graph,
        edge_scalars=(charge[graph.source] * charge[graph.target])[:, None],
        edge_features={1: torch.randn(20, 2, 3, dtype=torch.float64)},
    )
    plain, paired = EdgeGeometry.of(graph), EdgeGeometry.of(graph, pair=True)
    assert (plain.repeat, paired.repeat) == (1, 2)
    assert torch.equal(paired.source[::2], paired.target[1::2])
    assert torch.equal(paired.target[::2], paired.source[1::2])
    back = torch.argsort(paired.target * 5 + paired.source)  # the order of the graph
    for name in ("source", "target", "vector", "length", "direction", "edge_scalars"):
        assert torch.equal(getattr(paired, name)[back], getattr(plain, name))
    assert torch.equal(paired.edge_features[1][back], plain.edge_features[1])
    assert torch.equal(paired.invariants.repeat_interleave(2, dim=0)[back], plain.invariants)
    assert plain.invariants.shape == (20, 2)


def test_edges_are_paired_only_where_both_share_their_invariants() -> None:
    graph = cloud(torch.randn(4, 3))
    assert EdgeGeometry.of(graph, pair=True).repeat == 2
    scalars = torch.ones(12, 1)
    assert EdgeGeometry.of(replace(graph, edge_scalars=scalars), pair=True).repeat == 2
    wanting = EdgeGeometry.of(replace(graph, edge_scalars=scalars.clone().requires_grad_()), pair=True)
    scalars[3] += 1e-6
    apart = EdgeGeometry.of(replace(graph, edge_scalars=scalars), pair=True)
    for geometry in (wanting, apart):
        assert geometry.repeat == 1
        assert geometry.invariants.shape == (12, 2)
    assert (len(wanting.radial_rows.second), len(apart.radial_rows.second)) == (0, 5)


def test_a_directed_graph_has_no_reciprocal_order() -> None:
    line = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [2.5, 0, 0], [4.5, 0, 0]])  # 1 -> 2 without 2 -> 1
    assert reciprocal_order(knn_graph(line, 1), 4) is None
    assert reciprocal_order(torch.tensor([[1, 2], [0, 1]]), 3) is None
    assert reciprocal_order(torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1]]), 2) is None  # repeated
    assert reciprocal_order(torch.zeros(2, 0, dtype=torch.int64), 3).tolist() == []


def test_gradients_of_paired_edges_are_those_of_plain_ones() -> None:
    positions = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    gradients = []
    for pair in (False, True):
        geometry = EdgeGeometry.of(cloud(positions), pair=pair)
        weighted = geometry.invariants.repeat_interleave(geometry.repeat, dim=0).sin() * geometry.vector.cos()
        gradients += torch.autograd.grad(weighted.sum(), positions)
    torch.testing.assert_close(gradients[0], gradients[1])


# --- edge vectors and relative positions ------------------------------------------------------------------------------


def periodic(positions: torch.Tensor, box: float) -> Graph:
    """Every point sees the nearest image of every other."""
    graph = cloud(positions)
    difference = positions[graph.source] - positions[graph.target]
    return replace(graph, edge_vectors=difference - box * torch.round(difference / box)).check()


def test_edge_vectors_stand_in_for_differences_of_positions() -> None:
    box = 1.5
    positions = torch.rand(6, 3, dtype=torch.float64) * box
    graph = periodic(positions, box)
    geometry = EdgeGeometry.of(graph)
    assert torch.equal(geometry.vector, graph.edge_vectors)
    assert not torch.equal(geometry.vector, EdgeGeometry.of(cloud(positions)).vector)
    across = periodic((positions + 0.6) % box, box)  # the same crystal, its cell begun elsewhere
    torch.testing.assert_close(EdgeGeometry.of(across).vector, geometry.vector)
    rotation = random_rotation(dtype=torch.float64)
    torch.testing.assert_close(EdgeGeometry.of(graph.rotate(rotation)).direction, geometry.direction @ rotation.T)


def test_given_differences_change_nothing() -> None:
    graph = cloud(torch.randn(5, 3, dtype=torch.float64))
    given = replace(graph, edge_vectors=graph.positions[graph.source] - graph.positions[graph.target])
    for pair in (False, True):
        plain, other = EdgeGeometry.of(graph, pair=pair), EdgeGeometry.of(given, pair=pair)
        assert plain.repeat == other.repeat
        for name in ("source", "target", "vector", "length", "direction"):
            assert torch.equal(getattr(plain, name), getattr(other, name))


def test_gradients_reach_the_edge_vectors() -> None:
    graph = cloud(torch.zeros(3, 3, dtype=torch.float64))

    def outputs(vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        geometry = EdgeGeometry.of(replace(graph, edge_vectors=vectors))
        return geometry.length, geometry.direction

    vectors = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(outputs, vectors)


def test_edges_are_paired_only_where_their_vectors_are_opposite() -> None:
    graph = cloud(torch.randn(4, 3))
    vectors = graph.positions[graph.source] - graph.positions[graph.target]
    assert EdgeGeometry.of(replace(graph, edge_vectors=vectors), pair=True).repeat == 2
    wanting = replace(graph, edge_vectors=vectors.clone().requires_grad_())
    assert EdgeGeometry.of(wanting, pair=True).repeat == 1
    vectors[5] += 1e-5
    assert EdgeGeometry.of(replace(graph, edge_vectors=vectors), pair=True).repeat == 1


@pytest.mark.parametrize(("direction", "sign"), [("to_source", 1), ("to_target", -1)])
@pytest.mark.parametrize("pair", [False, True])
def test_relative_position_is_one_more_edge_feature_of_type_1(direction: str, sign: int, pair: bool) -> None:
    graph = cloud(torch.randn(4, 3, dtype=torch.float64))
    bare = EdgeGeometry.of(graph, pair=pair, relative_position=direction)
    assert torch.equal(bare.edge_features[1], sign * bare.vector[:, None])
    own = {0: torch.randn(12, 2, 1, dtype=torch.float64), 1: torch.randn(12, 2, 3, dtype=torch.float64)}
    joined = EdgeGeometry.of(replace(graph, edge_features=own), pair=pair, relative_position=direction)
    plain = EdgeGeometry.of(replace(graph, edge_features=own), pair=pair)
    assert torch.equal(joined.edge_features[0], plain.edge_features[0])
    assert torch.equal(joined.edge_features[1][:, :2], plain.edge_features[1])
    assert torch.equal(joined.edge_features[1][:, 2], sign * joined.vector)


def test_in_degree_counts_incoming_edges() -> None:
    edge_index = torch.tensor([[1, 0, 2, 0], [0, 1, 1, 2]])
    graph = Graph(torch.randn(4, 3), {}, edge_index, torch.zeros(4, dtype=torch.int64), 1).check()
    assert EdgeGeometry.of(graph).in_degree.tolist() == [1, 2, 1, 0]


# --- the order of the compiled kernel, and pairs of a part of the edges ---------------------------------------------


def directed(num_nodes: int, num_edges: int) -> Graph:
    """Random edges without regard to their reverse; each edge has one symmetric scalar and a feature of type 1."""
    graph = cloud(torch.randn(num_nodes, 3, dtype=torch.float64))
    chosen = torch.randperm(graph.edge_index.shape[1])[:num_edges].sort().values
    charge = torch.randint(0, 3, (num_nodes,)).double()
    edges = graph.edge_index[:, chosen]
    return replace(
        graph,
        edge_index=edges,
        edge_scalars=(charge[edges[0]] * charge[edges[1]])[:, None],
        edge_features={1: torch.randn(num_edges, 1, 3, dtype=torch.float64)},
    ).check()


def rows_of(geometry: EdgeGeometry) -> tuple[torch.Tensor, torch.Tensor]:
    rows = geometry.radial_rows
    return rows.first, rows.second


@pytest.mark.parametrize("num_edges", [0, 1, 2, 40, 72])
@pytest.mark.parametrize("pair", [False, True])
def test_every_edge_has_one_row_and_pairs_are_reciprocal_with_equal_invariants(num_edges: int, pair: bool) -> None:
    graph = directed(9, num_edges)
    geometry = EdgeGeometry.of(graph, pair=pair)
    first, second = rows_of(geometry)
    assert torch.equal(torch.cat([first, second]).sort().values, torch.arange(num_edges))
    assert torch.equal(geometry.source[second], geometry.target[first[: len(second)]])
    assert torch.equal(geometry.target[second], geometry.source[first[: len(second)]])
    assert torch.equal(geometry.length[second], geometry.length[first[: len(second)]])
    assert geometry.edge_scalars is not None
    assert torch.equal(geometry.edge_scalars[second], geometry.edge_scalars[first[: len(second)]])
    row_of_edge = geometry.radial_rows.row_of_edge
    every = torch.cat([geometry.edge_scalars, geometry.length[:, None]], dim=1)
    assert torch.equal(geometry.radial_rows.invariants(geometry)[row_of_edge], every)
    reverse = {(j, i) for i, j in graph.edge_index.t().tolist()}
    mutual = sum(tuple(edge) in reverse for edge in graph.edge_index.t().tolist())
    assert 2 * len(second) == (mutual if pair else 0)


@pytest.mark.parametrize("num_edges", [40, 72])
def test_pairs_lie_side_by_side_and_rows_are_sorted_by_their_invariants(num_edges: int) -> None:
    geometry = EdgeGeometry.of(directed(9, num_edges), pair=True)
    first, second = rows_of(geometry)
    assert torch.equal(first[: len(second)], torch.arange(0, 2 * len(second), 2))
    assert torch.equal(second, first[: len(second)] + 1)
    assert torch.equal(first[len(second) :], torch.arange(2 * len(second), num_edges))
    assert geometry.repeat == (2 if num_edges == 72 else 1)
    keys = [tuple(row) for row in geometry.radial_rows.invariants(geometry).tolist()]
    assert keys[: len(second)] == sorted(keys[: len(second)])
    assert keys[len(second) :] == sorted(keys[len(second) :])
    assert len({key[0] for key in keys}) > 2


def test_rows_with_many_equal_scalars_lie_together_and_are_sorted_by_their_length() -> None:
    graph = cloud(torch.randn(9, 3, dtype=torch.float64))
    kinds = (graph.source + graph.target) % 5  # of both directions
    graph = replace(graph, edge_scalars=torch.nn.functional.one_hot(3 * kinds, 16).double())
    geometry = EdgeGeometry.of(graph, pair=True)
    invariants = geometry.radial_rows.invariants(geometry)
    found, lengths = invariants[:, :-1].argmax(dim=1) // 3, invariants[:, -1]
    assert len(found) == 36
    assert torch.equal(torch.unique_consecutive(found), torch.arange(5).flip(0))
    for kind in range(5):
        assert (lengths[found == kind].diff() >= 0).all()


def test_edges_in_the_order_of_the_kernel_keep_what_they_carry() -> None:
    graph = directed(9, 40)
    plain, sorted_ = EdgeGeometry.of(graph), EdgeGeometry.of(graph, pair=True)
    assert not torch.equal(plain.source, sorted_.source)
    back = torch.argsort(sorted_.target * 9 + sorted_.source)
    own = torch.argsort(plain.target * 9 + plain.source)
    for name in ("source", "target", "vector", "length", "direction", "edge_scalars"):
        assert torch.equal(getattr(sorted_, name)[back], getattr(plain, name)[own])
    assert torch.equal(sorted_.edge_features[1][back], plain.edge_features[1][own])


def test_rows_far_apart_stay_apart_when_they_are_sorted() -> None:
    """In stretches of 4096 rows, so that what belongs to one fits into a cache."""
    graph = cloud(torch.randn(100, 3, dtype=torch.float64))
    first, second = rows_of(EdgeGeometry.of(graph))
    assert len(second) == 0
    assert torch.equal(first.sort().values, torch.arange(9900))
    lengths = EdgeGeometry.of(graph).length[first]
    for start in range(0, 9900, 4096):
        part = slice(start, start + 4096)
        assert torch.equal(first[part] // 4096, torch.full_like(first[part], start // 4096))
        assert (lengths[part].diff() >= 0).all()


@pytest.mark.parametrize("field", ["edge_scalars", "edge_vectors"])
def test_no_edges_are_paired_where_invariants_ask_for_gradients(field: str) -> None:
    graph = directed(9, 40)
    vectors = graph.positions[graph.source] - graph.positions[graph.target]
    graph = replace(graph, edge_vectors=vectors)
    assert len(rows_of(EdgeGeometry.of(graph, pair=True))[1]) > 0
    asking = replace(graph, **{field: getattr(graph, field).clone().requires_grad_()})
    assert len(rows_of(EdgeGeometry.of(asking, pair=True))[1]) == 0


@pytest.mark.parametrize("field", ["edge_scalars", "edge_vectors"])
def test_a_pair_is_parted_where_an_invariant_differs(field: str) -> None:
    graph = directed(9, 40)
    vectors = graph.positions[graph.source] - graph.positions[graph.target]
    graph = replace(graph, edge_vectors=vectors)
    before = EdgeGeometry.of(graph, pair=True)
    pairs = len(rows_of(before)[1])
    j, i = int(before.source[0]), int(before.target[0])
    edge = int(torch.nonzero((graph.source == j) & (graph.target == i))[0, 0])
    values = getattr(graph, field).clone()
    values[edge] = values[edge] + 1e-9
    after = EdgeGeometry.of(replace(graph, **{field: values}), pair=True)
    first, second = rows_of(after)
    assert len(second) == pairs - 1
    assert {i, j} not in [{int(after.source[n]), int(after.target[n])} for n in second.tolist()]
    assert len(first) == 40 - len(second)


def test_of_repeated_edges_one_has_a_partner() -> None:
    edges = torch.tensor([[1, 1, 2, 0, 0, 0], [0, 0, 0, 1, 1, 2]])
    positions = torch.randn(3, 3, dtype=torch.float64)
    graph = Graph(positions, {}, edges, torch.zeros(3, dtype=torch.int64), 1)
    geometry = EdgeGeometry.of(graph, pair=True)
    first, second = rows_of(geometry)
    assert len(second) == 2  # 1 -> 0 with one of its reverses, 2 -> 0 with its own
    assert torch.equal(torch.cat([first, second]).sort().values, torch.arange(6))


def test_incoming_edges_are_listed_by_target() -> None:
    graph = directed(9, 40)
    for pair in (False, True):
        geometry = EdgeGeometry.of(graph, pair=pair)
        start, edges = geometry.incoming
        assert torch.equal(edges.sort().values, torch.arange(40))
        for node in range(9):
            own = edges[start[node] : start[node + 1]]
            assert (geometry.target[own] == node).all()
        assert start.tolist() == [0, *geometry.in_degree.cumsum(0).tolist()]


def test_positions_get_the_same_gradient_by_rows_as_by_edges() -> None:
    """Of a pair only one length is evaluated; it belongs to both."""
    graph = directed(6, 20)
    gradients = []
    for pair in (False, True):
        positions = graph.positions.clone().requires_grad_()
        geometry = EdgeGeometry.of(replace(graph, positions=positions), pair=pair)
        rows = geometry.radial_rows
        by_edge = rows.invariants(geometry).sin()[rows.row_of_edge]
        gradients += torch.autograd.grad((by_edge * geometry.vector.cos()[:, :1]).sum(), positions)
    torch.testing.assert_close(gradients[0], gradients[1])
