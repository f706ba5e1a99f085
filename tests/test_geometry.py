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
