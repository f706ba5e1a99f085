"""Graph and its builders, against SciPy's KD-tree and brute force."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from se3t.batching import batch_graphs
from se3t.geometry import EdgeGeometry, find_pairs
from se3t.graph import (
    Graph,
    farthest_point_sampling,
    fully_connected,
    knn_graph,
    radius_graph,
    sort_by_target,
)
from se3t.so3 import random_rotation, wigner_d

SIZES = [7, 1, 20, 3, 40]


def clouds(sizes: list[int], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    positions = torch.randn(sum(sizes), 3, dtype=dtype)
    return positions, torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))


def edges(edge_index: Tensor) -> set[tuple[int, int]]:
    pairs = list(map(tuple, edge_index.T.tolist()))
    assert len(pairs) == len(set(pairs)), "an edge occurs twice"
    return set(pairs)


def assert_well_formed(edge_index: Tensor, batch: Tensor) -> None:
    source, target = edge_index
    assert edge_index.dtype == torch.int64
    assert (source != target).all(), "self loop"
    assert (batch[source] == batch[target]).all(), "edge between clouds"
    order = target * len(batch) + source
    assert (order.diff() > 0).all(), "not sorted by target, then source"


def full_graph(sizes: list[int] | None = None, dtype: torch.dtype = torch.float64) -> Graph:
    sizes = [4, 1, 3] if sizes is None else sizes
    positions, batch = clouds(sizes, dtype)
    edge_index = fully_connected(batch)
    num_edges = edge_index.shape[1]
    return Graph(
        positions=positions,
        features={0: torch.randn(len(batch), 2, 1, dtype=dtype), 2: torch.randn(len(batch), 3, 5, dtype=dtype)},
        edge_index=edge_index,
        batch=batch,
        num_graphs=len(sizes),
        edge_scalars=torch.randn(num_edges, 2, dtype=dtype),
        edge_features={1: torch.randn(num_edges, 1, 3, dtype=dtype)},
        edge_vectors=torch.randn(num_edges, 3, dtype=dtype),
    )


# --- builders ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[5], [5, 5, 5], SIZES, [1, 1], [2, 0, 3]])
def test_fully_connected_graph_has_every_ordered_pair_of_each_cloud(sizes: list[int]) -> None:
    _, batch = clouds(sizes)
    edge_index = fully_connected(batch)
    first = [0, *itertools.accumulate(sizes)]
    expected = {
        (source, target)
        for start, size in zip(first, sizes, strict=False)
        for source, target in itertools.permutations(range(start, start + size), 2)
    }
    assert edges(edge_index) == expected
    assert_well_formed(edge_index, batch)


@pytest.mark.parametrize("k", [1, 4, 19])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_knn_graph_agrees_with_scipy(k: int, dtype: torch.dtype) -> None:
    positions, batch = clouds(SIZES, dtype)
    edge_index = knn_graph(positions, k, batch)
    expected: set[tuple[int, int]] = set()
    for cloud in batch.unique():
        nodes = (batch == cloud).nonzero().flatten()
        neighbours = min(k, len(nodes) - 1)
        _, index = cKDTree(positions[nodes].double().numpy()).query(positions[nodes].double().numpy(), k=neighbours + 1)
        rows = torch.as_tensor(index).reshape(len(nodes), neighbours + 1)
        expected |= {(int(nodes[j]), int(nodes[i])) for i, row in enumerate(rows) for j in row if i != j}
    assert edges(edge_index) == expected
    assert_well_formed(edge_index, batch)


@pytest.mark.parametrize("radius", [0.3, 1.0, 50.0, math.inf])
def test_radius_graph_agrees_with_scipy(radius: float) -> None:
    positions, batch = clouds(SIZES)
    edge_index = radius_graph(positions, radius, batch)
    expected: set[tuple[int, int]] = set()
    for cloud in batch.unique():
        nodes = (batch == cloud).nonzero().flatten()
        pairs = cKDTree(positions[nodes].numpy()).query_pairs(radius)
        expected |= {(int(nodes[i]), int(nodes[j])) for pair in pairs for i, j in (pair, pair[::-1])}
    assert edges(edge_index) == expected
    assert_well_formed(edge_index, batch)


def test_radius_includes_its_boundary() -> None:
    positions = torch.tensor([[0.0, 0, 0], [3.0, 4.0, 0]])
    assert edges(radius_graph(positions, 5.0)) == {(0, 1), (1, 0)}
    assert edges(radius_graph(positions, 4.999)) == set()


def test_radius_graph_with_a_limit_keeps_the_nearest_within_the_radius() -> None:
    positions, batch = clouds(SIZES)
    limited = radius_graph(positions, 1.0, batch, max_num_neighbors=3)
    both = edges(radius_graph(positions, 1.0, batch)) & edges(knn_graph(positions, 3, batch))
    assert edges(limited) == both
    assert 0 < len(both) < len(edges(radius_graph(positions, 1.0, batch)))
    assert_well_formed(limited, batch)


def test_batched_builders_equal_the_builders_on_each_cloud() -> None:
    positions, batch = clouds(SIZES)
    for build in (lambda x, b: knn_graph(x, 3, b), lambda x, b: radius_graph(x, 0.8, b, 5)):
        together = edges(build(positions, batch))
        apart: set[tuple[int, int]] = set()
        for start, part in zip([0, *itertools.accumulate(SIZES)], positions.split(SIZES), strict=False):
            apart |= {(i + start, j + start) for i, j in edges(build(part, None))}
        assert together == apart


def test_ties_are_settled_by_the_smaller_index() -> None:
    cube = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=3)))  # of each corner: 3 nearest, 3 next, 1 farthest
    for k in range(1, 8):
        distance = torch.cdist(cube, cube)
        expected = set()
        for target in range(8):
            ranked = sorted((round(float(distance[target, j]), 6), j) for j in range(8) if j != target)
            expected |= {(j, target) for _, j in ranked[:k]}
        assert edges(knn_graph(cube, k)) == expected


def test_coincident_points_are_neighbours_of_each_other_but_never_of_themselves() -> None:
    positions = torch.zeros(4, 3)
    assert edges(knn_graph(positions, 2)) == {(1, 0), (2, 0), (0, 1), (2, 1), (0, 2), (1, 2), (0, 3), (1, 3)}
    assert edges(radius_graph(positions, 0.1)) == set(itertools.permutations(range(4), 2))


def test_a_cloud_smaller_than_k_is_fully_connected() -> None:
    positions, batch = clouds([3, 6])
    edge_index = knn_graph(positions, 5, batch)
    assert torch.equal(edge_index, fully_connected(batch))


def test_knn_graph_resolves_differences_far_from_the_origin() -> None:
    """A distance from a matrix product cannot order these points in float32."""
    positions = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [2.5, 0, 0], [4.5, 0, 0]]).repeat(10, 1)
    batch = torch.arange(10).repeat_interleave(4)
    near = knn_graph(positions, 1, batch)
    assert torch.equal(knn_graph(positions + 10_000.0, 1, batch), near)
    assert edges(near[:, :4]) == {(1, 0), (0, 1), (1, 2), (2, 3)}


def test_builders_accept_clouds_without_points() -> None:
    empty, none = torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)
    for edge_index in (fully_connected(none), knn_graph(empty, 3, none), radius_graph(empty, 1.0)):
        assert edge_index.shape == (2, 0)
        assert edge_index.dtype == torch.int64


def test_builders_carry_no_gradient_and_leave_their_input_alone() -> None:
    positions = torch.randn(6, 3, requires_grad=True)
    before = positions.detach().clone()
    for index in (knn_graph(positions, 2), radius_graph(positions, 1.0), farthest_point_sampling(positions, 3)):
        assert not index.requires_grad
    assert torch.equal(positions.detach(), before)


def greedy_farthest(positions: Tensor, num_samples: int, start: int) -> list[int]:
    chosen = [start]
    while len(chosen) < num_samples:
        rest = [i for i in range(len(positions)) if i not in chosen]
        spread = [min(float((positions[i] - positions[c]).norm()) for c in chosen) for i in rest]
        chosen.append(rest[spread.index(max(spread))])
    return chosen


def test_farthest_point_sampling_agrees_with_brute_force() -> None:
    sizes = [7, 20, 13]
    positions, batch = clouds(sizes)
    index = farthest_point_sampling(positions, 6, batch)
    expected: list[int] = []
    for start, part in zip([0, 7, 27], positions.split(sizes), strict=True):
        expected += [start + i for i in greedy_farthest(part, 6, 0)]
    assert index.tolist() == expected


def test_farthest_point_sampling_starts_at_random_and_reproducibly() -> None:
    positions, batch = clouds([30] * 50)
    draws = [
        farthest_point_sampling(positions, 4, batch, random_start=True, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    starts = draws[0].view(50, 4)[:, 0] - 30 * torch.arange(50)
    assert len(starts.unique()) > 15
    assert 0 <= starts.min() <= 5
    assert 24 <= starts.max() <= 29
    for row, (start, cloud) in enumerate(zip(starts.tolist(), positions.view(50, 30, 3), strict=True)):
        assert (draws[0].view(50, 4)[row] - 30 * row).tolist() == greedy_farthest(cloud, 4, start)


def test_farthest_point_sampling_starts_from_the_points_it_is_given() -> None:
    sizes, starts = [7, 20, 13], [6, 0, 5]
    positions, batch = clouds(sizes)
    index = farthest_point_sampling(positions, 6, batch, start=torch.tensor(starts))
    expected: list[int] = []
    for first, start, part in zip([0, 7, 27], starts, positions.split(sizes), strict=True):
        expected += [first + i for i in greedy_farthest(part, 6, start)]
    assert index.tolist() == expected
    equal, of_equal = clouds([9] * 4)  # clouds of one size need no padding
    index = farthest_point_sampling(equal, 5, of_equal, start=torch.tensor([8, 1, 0, 3]))
    for row, start, part in zip(
        index.view(4, 5) - 9 * torch.arange(4)[:, None], [8, 1, 0, 3], equal.split(9), strict=True
    ):
        assert row.tolist() == greedy_farthest(part, 5, start)


def test_farthest_point_sampling_never_chooses_a_point_twice() -> None:
    positions = torch.zeros(6, 3)
    positions[3] = 1.0
    index = farthest_point_sampling(positions, 6)
    assert index[:2].tolist() == [0, 3]
    assert sorted(index.tolist()) == list(range(6))


def test_sort_by_target_sorts_edges_and_what_they_carry() -> None:
    edge_index = torch.tensor([[2, 0, 1, 0, 2], [1, 2, 0, 1, 1]])
    label = torch.arange(5)
    ordered, carried, rows = sort_by_target(edge_index, label, label[:, None].double())
    assert ordered.tolist() == [[1, 0, 2, 2, 0], [0, 1, 1, 1, 2]]
    assert carried.tolist() == [2, 3, 0, 4, 1]  # the repeated edge 2 -> 1 keeps its order: 0 before 4
    assert torch.equal(rows[:, 0].long(), carried)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda x, b: knn_graph(x, 0, b), "k: expected at least 1 neighbour, got 0"),
        (lambda x, b: radius_graph(x, 0.0, b), "radius: expected a length above 0"),
        (lambda x, b: radius_graph(x, math.nan, b), "radius: expected a length above 0"),
        (lambda x, b: radius_graph(x, 1.0, b, 0), "max_num_neighbors: expected at least 1"),
        (lambda x, b: farthest_point_sampling(x, 0, b), "num_samples: expected at least 1"),
        (lambda x, b: farthest_point_sampling(x, 4, b), "cloud 1 has only 3 points, not 4"),
        (
            lambda x, b: farthest_point_sampling(x, 2, b, start=torch.tensor([0, 3])),
            "start: expected for each of 2 clouds",
        ),
        (
            lambda x, b: farthest_point_sampling(x, 2, b, start=torch.tensor([-1, 0])),
            "start: expected for each of 2 cl",
        ),
        (
            lambda x, b: farthest_point_sampling(x, 2, b, start=torch.tensor([0])),
            "start: expected for each of 2 clouds",
        ),
        (lambda x, b: knn_graph(x, 1, b.flip(0)), "batch: cloud indices must be >= 0 and ascending"),
        (lambda x, b: knn_graph(x, 1, b - 1), "batch: cloud indices must be >= 0 and ascending"),
        (lambda x, b: fully_connected(b.flip(0)), "batch: cloud indices must be >= 0 and ascending"),
        (lambda x, b: radius_graph(x, 1.0, b[1:]), "batch: expected one cloud index for each of 8 nodes, got 7"),
        (lambda x, b: knn_graph(x.log(), 1, b), "positions: node 0 has a coordinate that is NaN or infinite"),
        (lambda x, b: sort_by_target(fully_connected(b), b), "edge_values: expected one row for each of 26 edges"),
    ],
)
def test_builders_refuse_bad_input_in_one_sentence(build, message: str) -> None:
    positions, batch = clouds([5, 3])
    with pytest.raises(ValueError, match=message) as error:
        build(-positions.abs(), batch)
    assert "\n" not in str(error.value)


# --- Graph ------------------------------------------------------------------------------------------------------------


def test_batching_keeps_every_graph_and_joins_none() -> None:
    parts = [full_graph([3]), full_graph([2, 4]), full_graph([1])]
    whole = batch_graphs(parts).check()
    assert whole.num_graphs == 4
    assert whole.batch.tolist() == [0] * 3 + [1] * 2 + [2] * 4 + [3]
    assert torch.equal(whole.edge_index, fully_connected(whole.batch))
    for name in ("positions", "edge_scalars", "edge_vectors"):
        assert torch.equal(getattr(whole, name), torch.cat([getattr(part, name) for part in parts]))
    for degree in (0, 2):
        assert torch.equal(whole.features[degree], torch.cat([part.features[degree] for part in parts]))
    assert torch.equal(whole.edge_features[1], torch.cat([part.edge_features[1] for part in parts]))


def test_batching_without_optional_fields() -> None:
    bare = replace(full_graph(), edge_scalars=None, edge_features={}, edge_vectors=None)
    whole = batch_graphs([bare, bare]).check()
    assert whole.edge_scalars is None
    assert whole.edge_vectors is None
    assert whole.edge_features == {}


def test_batching_refuses_graphs_that_differ_in_their_fields() -> None:
    graph = full_graph()
    with pytest.raises(ValueError, match="at least one graph"):
        batch_graphs([])
    for other in (
        replace(graph, edge_scalars=None),
        replace(graph, features={0: graph.features[0]}),
        replace(graph, edge_features={}),
        replace(graph, edge_vectors=None),
    ):
        with pytest.raises(ValueError, match=r"number 1 carries .* but number 0 carries"):
            batch_graphs([graph, other])


def test_rotating_a_graph_rotates_positions_and_every_feature() -> None:
    graph = full_graph()
    rotation = random_rotation(dtype=torch.float64)
    turned = graph.rotate(rotation)
    torch.testing.assert_close(turned.positions, torch.einsum("ij,nj->ni", rotation, graph.positions))
    torch.testing.assert_close(turned.features[0], graph.features[0])
    expected = torch.einsum("ij,ncj->nci", wigner_d(2, rotation), graph.features[2])
    torch.testing.assert_close(turned.features[2], expected)
    expected = torch.einsum("ij,ecj->eci", rotation, graph.edge_features[1])
    torch.testing.assert_close(turned.edge_features[1], expected)
    torch.testing.assert_close(turned.edge_vectors, graph.edge_vectors @ rotation.T)
    assert turned.edge_scalars is graph.edge_scalars


def test_rotating_a_graph_is_a_group_action() -> None:
    graph = full_graph()
    first, second = random_rotation(2, dtype=torch.float64)
    composed, stepwise = graph.rotate(second @ first), graph.rotate(first).rotate(second)
    torch.testing.assert_close(stepwise.positions, composed.positions)
    torch.testing.assert_close(stepwise.features, composed.features)
    torch.testing.assert_close(stepwise.edge_features, composed.edge_features)


def test_a_float64_rotation_acts_on_a_float32_graph_with_one_rounding() -> None:
    graph = full_graph(dtype=torch.float32)
    rotation = random_rotation(dtype=torch.float64)
    turned, exact = graph.rotate(rotation), graph.to(torch.float64).rotate(rotation).to(torch.float32)
    assert torch.equal(turned.positions, exact.positions)
    assert torch.equal(turned.edge_vectors, exact.edge_vectors)
    assert all(torch.equal(turned.features[degree], exact.features[degree]) for degree in exact.features)


def test_translating_a_graph_moves_positions_only() -> None:
    graph = full_graph()
    shift = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    moved = graph.translate(shift)
    assert torch.equal(moved.positions, graph.positions + shift)
    assert moved.features is graph.features
    assert moved.edge_vectors is graph.edge_vectors
    assert moved.edge_features is graph.edge_features


def test_permuting_a_graph_renumbers_nodes_and_carries_edges_along() -> None:
    graph = full_graph()
    order = torch.tensor([2, 0, 3, 1, 4, 7, 6, 5])
    permuted = graph.permute(order).check()
    assert torch.equal(permuted.positions, graph.positions[order])
    assert torch.equal(permuted.features[2], graph.features[2][order])
    before = {(i, j): e for e, (i, j) in enumerate(graph.edge_index.T.tolist())}
    for edge, (source, target) in enumerate(permuted.edge_index.T.tolist()):
        old = before[int(order[source]), int(order[target])]
        assert torch.equal(permuted.edge_scalars[edge], graph.edge_scalars[old])
        assert torch.equal(permuted.edge_features[1][edge], graph.edge_features[1][old])
        assert torch.equal(permuted.edge_vectors[edge], graph.edge_vectors[old])


def test_permuting_back_gives_the_same_graph() -> None:
    graph = replace(full_graph(), edge_scalars=None, edge_vectors=None)
    order = torch.tensor([2, 0, 3, 1, 4, 7, 6, 5])
    back = graph.permute(order).permute(order.argsort())
    assert torch.equal(back.edge_index, graph.edge_index)
    assert torch.equal(back.positions, graph.positions)
    assert torch.equal(back.edge_features[1], graph.edge_features[1])
    assert back.edge_scalars is None
    assert back.edge_vectors is None


def test_sorting_the_edges_of_a_graph_carries_everything_along() -> None:
    graph = full_graph()
    order = torch.randperm(graph.edge_index.shape[1])
    shuffled = replace(
        graph,
        edge_index=graph.edge_index[:, order],
        edge_scalars=graph.edge_scalars[order],
        edge_features={1: graph.edge_features[1][order]},
        edge_vectors=graph.edge_vectors[order],
    )
    ordered = shuffled.sort_edges().check()
    for name in ("edge_index", "edge_scalars", "edge_vectors"):
        assert torch.equal(getattr(ordered, name), getattr(graph, name))
    assert torch.equal(ordered.edge_features[1], graph.edge_features[1])


@pytest.mark.parametrize(
    ("order", "message"),
    [([0, 0, 1, 2, 3, 4, 5, 6], "expected a permutation"), ([4, 1, 2, 3, 0, 5, 6, 7], "keep every node in its cloud")],
)
def test_permuting_refuses_what_is_no_permutation_within_clouds(order: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        full_graph().permute(torch.tensor(order))


def test_changing_the_dtype_changes_floating_fields_and_never_an_index() -> None:
    graph = full_graph([600])  # node numbers that bfloat16 cannot hold
    half = graph.to(torch.bfloat16)
    assert half.edge_vectors.dtype == torch.bfloat16
    for value in (half.positions, *half.features.values(), *half.edge_features.values(), half.edge_scalars):
        assert value.dtype == torch.bfloat16
    assert torch.equal(half.edge_index, graph.edge_index)
    assert torch.equal(half.batch, graph.batch)
    moved = replace(graph, edge_scalars=None).to("meta", torch.float32)
    assert moved.device.type == "meta"
    for value in (moved.positions, moved.edge_index, moved.batch, *moved.features.values(), moved.edge_vectors):
        assert value.device.type == "meta"
    assert moved.edge_index.dtype == torch.int64
    assert moved.edge_scalars is None


def test_a_sound_graph_passes_its_check() -> None:
    graph = full_graph()
    assert graph.check() is graph
    assert graph.num_nodes == 8
    assert torch.equal(torch.stack([graph.source, graph.target]), graph.edge_index)
    no_edges = replace(graph, edge_index=torch.zeros(2, 0, dtype=torch.int64), edge_scalars=None, edge_features={})
    replace(no_edges, edge_vectors=None).check()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (lambda g: {"positions": g.positions[:, :2]}, r"positions: expected shape \[node, 3\]"),
        (lambda g: {"batch": g.batch[1:]}, r"batch: expected int64 \[8\]"),
        (lambda g: {"batch": g.batch.flip(0)}, "batch: cloud indices must be ascending"),
        (lambda g: {"num_graphs": 2}, "batch: cloud 2 does not exist; the graph has 2 clouds"),
        (lambda g: {"batch": g.batch - 1}, "batch: cloud -1 does not exist"),
        (lambda g: {"edge_index": g.edge_index.float()}, r"edge_index: expected int64 \[2, edge\]"),
        (lambda g: {"edge_index": g.edge_index[:1]}, r"edge_index: expected int64 \[2, edge\]"),
        (lambda g: {"edge_index": g.edge_index + 1}, "edge_index: node 8 does not exist; the graph has nodes 0 to 7"),
        (lambda g: {"edge_index": g.edge_index - 1}, "edge_index: node -1 does not exist"),
        (lambda g: {"edge_index": g.edge_index.flip(1)}, "edges must be sorted by target"),
        (lambda g: {"batch": torch.zeros(8).long().index_fill(0, torch.tensor([6, 7]), 1)}, "joins two clouds"),
        (lambda g: {"features": {1: g.features[2]}}, r"features\[1\]: expected shape \[8, channels, 3\]"),
        (lambda g: {"features": {0: g.features[0][1:]}}, r"features\[0\]: expected shape \[8, channels, 1\]"),
        (lambda g: {"features": {0: g.features[0][:, 0]}}, r"features\[0\]: expected shape \[8, channels, 1\]"),
        (lambda g: {"edge_features": {1: g.edge_features[1][1:]}}, r"edge_features\[1\]: expected shape \[18"),
        (lambda g: {"edge_scalars": g.edge_scalars[1:]}, r"edge_scalars: expected shape \[18, channels\]"),
        (lambda g: {"edge_scalars": g.edge_scalars[:, 0]}, r"edge_scalars: expected shape \[18, channels\]"),
        (lambda g: {"edge_vectors": g.edge_vectors[1:]}, r"edge_vectors: expected shape \[18, 3\], got \(17, 3\)"),
        (lambda g: {"edge_vectors": g.edge_vectors[:, :2]}, r"edge_vectors: expected shape \[18, 3\]"),
    ],
)
def test_check_names_the_field_that_is_wrong(changes, message: str) -> None:
    graph = full_graph()
    with pytest.raises(ValueError, match=message) as error:
        replace(graph, **changes(graph)).check()
    assert "\n" not in str(error.value)


def test_pairs_found_for_another_graph_are_refused_and_not_used() -> None:
    """Edges, scalars or vectors that were exchanged later: the pairing no longer belongs to them."""
    positions = torch.randn(5, 3, dtype=torch.float64)
    batch = torch.zeros(5, dtype=torch.int64)
    graph = find_pairs(Graph(positions, {}, fully_connected(batch), batch, 1, torch.ones(20, 1, dtype=torch.float64)))
    assert graph.pairing is not None
    assert graph.pairing.order is not None
    graph.check()
    changed = (
        replace(graph, edge_scalars=torch.randn(20, 1, dtype=torch.float64)),
        replace(graph, edge_vectors=torch.randn(20, 3, dtype=torch.float64)),
        replace(graph, edge_index=graph.edge_index[:, :18], edge_scalars=torch.ones(18, 1, dtype=torch.float64)),
    )
    for other in changed:
        with pytest.raises(ValueError, match="pairing: it does not belong to these edges"):
            other.check()
        stale, fresh = (EdgeGeometry.of(one, pair=True) for one in (other, replace(other, pairing=None)))
        assert (stale.repeat, len(stale.radial_rows.second)) == (fresh.repeat, len(fresh.radial_rows.second))
        assert torch.equal(stale.invariants, fresh.invariants)


# --- clouds of one size -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 8), (1, 5), (2, 1), (0, 4), (3, 0)])
@pytest.mark.parametrize("k", [1, 4, 9])
def test_neighbours_in_clouds_of_one_size_are_those_of_a_batch(shape: tuple[int, int], k: int) -> None:
    points = torch.randint(0, 3, (*shape, 3)).double()  # with many equal distances
    batch = torch.arange(shape[0]).repeat_interleave(shape[1])
    assert torch.equal(knn_graph(points, k), knn_graph(points.flatten(0, 1), k, batch))


def test_samples_of_clouds_of_one_size_are_those_of_a_batch() -> None:
    points, batch = torch.randn(3, 8, 3), torch.arange(3).repeat_interleave(8)
    for start in (None, torch.tensor([7, 0, 3])):
        expected = farthest_point_sampling(points.flatten(0, 1), 4, batch, start=start)
        assert torch.equal(farthest_point_sampling(points, 4, start=start), expected)
    with pytest.raises(ValueError, match="cloud 0 has only 8 points"):
        farthest_point_sampling(points, 9)
    with pytest.raises(ValueError, match="start: expected"):
        farthest_point_sampling(points, 4, start=torch.tensor([8, 0, 3]))


def test_clouds_of_one_size_need_no_batch_and_finite_positions() -> None:
    points = torch.randn(3, 8, 3)
    with pytest.raises(ValueError, match="without batch"):
        knn_graph(points, 2, torch.arange(3).repeat_interleave(8))
    points[1, 2, 0] = math.nan
    with pytest.raises(ValueError, match="node 10"):
        knn_graph(points, 2)


def test_a_cloud_size_that_is_not_that_of_the_clouds_is_refused() -> None:
    graph = full_graph([4, 4])
    assert replace(graph, cloud_size=4).check().cloud_size == 4
    with pytest.raises(ValueError, match="do not make 8 nodes"):
        replace(graph, cloud_size=3).check()
    with pytest.raises(ValueError, match="differ in size"):
        replace(full_graph([3, 5]), cloud_size=4).check()
