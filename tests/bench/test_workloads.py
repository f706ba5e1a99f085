from __future__ import annotations

import pytest
import torch

from se3t.bench.workloads import WORKLOADS, Workload, mean_square
from se3t.errors import UserError
from se3t.fiber import Fiber
from se3t.geometry import EdgeGeometry

NAMES = list(WORKLOADS)


@pytest.mark.parametrize("name", NAMES)
def test_a_graph_is_sound_and_has_the_edges_that_are_stated(name: str) -> None:
    workload = WORKLOADS[name].resized(2)
    graph = workload.graph().check()
    assert graph.edge_index.shape == (2, workload.num_edges)
    assert Fiber.of(graph.features) == workload.fiber_in
    scalars = 0 if graph.edge_scalars is None else graph.edge_scalars.shape[1]
    assert scalars == workload.num_edge_scalars


def test_sizes_are_those_of_the_experiments() -> None:
    edges = {name: WORKLOADS[name].num_edges for name in NAMES}
    assert edges == {
        "nbody": 128 * 20,
        "nbody_attentive": 128 * 20,
        "qm9": 32 * 38,
        "qm9_complete": 32 * 306,
        "pointcloud": 51_200,
        "pointcloud_deg3": 51_200,
        "pointcloud_k10": 12_800,
    }


def test_a_model_gives_the_output_that_is_stated_and_trains_all_its_parameters() -> None:
    for name in NAMES:
        workload = WORKLOADS[name].resized(2, 6)
        model = workload.model()
        output = model(workload.graph())
        workload.fiber_out.check(output)
        rows = 2 if workload.pooling else 12
        assert all(len(value) == rows for value in output.values())
        mean_square(output).backward()
        missing = [key for key, value in model.named_parameters() if value.grad is None]
        assert not missing, f"{name}: {missing}"


def test_the_same_seed_gives_every_kernel_the_same_weights() -> None:
    workload = WORKLOADS["nbody"]
    first, second = workload.model("vectorised", memory="low").state_dict(), workload.model("reference").state_dict()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize("name", ["nbody", "qm9", "pointcloud"])
def test_another_seed_gives_other_positions_and_weights(name: str) -> None:
    first, second = (Workload.of(name, 2, seed=seed) for seed in (1, 2))
    assert (first.spec["seed"], second.spec["seed"]) == (1, 2)
    assert not torch.equal(first.graph().positions, second.graph().positions)
    weights = [next(value for value in one.model().parameters() if value.dim() > 1) for one in (first, second)]
    assert not torch.equal(*weights)


def test_the_batch_is_the_same_in_both_precisions_up_to_rounding() -> None:
    workload = WORKLOADS["qm9_complete"].resized(2)
    single, double = workload.graph(), workload.graph(torch.float64)
    torch.testing.assert_close(single.positions, double.positions.float(), rtol=0, atol=0)
    assert torch.equal(single.edge_index, double.edge_index)


def test_molecules_are_connected_have_two_rings_and_bonds_of_about_an_angstrom() -> None:
    workload = WORKLOADS["qm9"].resized(3)
    graph = workload.graph(torch.float64)
    length = (graph.positions[graph.source] - graph.positions[graph.target]).norm(dim=1)
    tree = length[(length > 1.1 - 1e-9) & (length < 1.5 + 1e-9)]
    assert len(tree) >= 3 * 34
    assert 0.8 < float(length.min()) <= float(length.max()) < 2.5
    reach = torch.eye(graph.num_nodes)
    reach[graph.target, graph.source] = 1
    connected = torch.linalg.matrix_power(reach, 18) > 0
    assert torch.equal(connected, graph.batch[:, None] == graph.batch[None])


def test_all_pairs_of_a_molecule_carry_the_classes_of_its_bonds() -> None:
    bonds, pairs = (WORKLOADS[name].resized(2).graph() for name in ("qm9", "qm9_complete"))
    number = {(int(a), int(b)): row for a, b, row in zip(*bonds.edge_index, bonds.edge_scalars, strict=True)}
    for source, target, row in zip(*pairs.edge_index, pairs.edge_scalars, strict=True):
        expected = number.pop((int(source), int(target)), torch.zeros(4))
        assert torch.equal(row, expected)
    assert not number


@pytest.mark.parametrize(("name", "repeat"), [("nbody", 2), ("qm9", 2), ("qm9_complete", 2), ("pointcloud", 1)])
def test_both_directions_of_a_bond_or_pair_share_their_invariants(name: str, repeat: int) -> None:
    assert EdgeGeometry.of(WORKLOADS[name].resized(2).graph(), pair=True).repeat == repeat


def test_points_lie_in_the_unit_ball_and_hear_forty_neighbours() -> None:
    graph = WORKLOADS["pointcloud"].resized(1).graph()
    assert float(graph.positions.norm(dim=1).max()) <= 1
    assert set(torch.bincount(graph.target).tolist()) == {40}


def test_a_workload_comes_back_from_its_plain_values() -> None:
    workload = Workload.of("qm9", num_graphs=3, num_points=9, seed=5)
    assert Workload.of(**workload.spec) == workload  # type: ignore[arg-type]
    assert workload.num_bonds == 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "qm8"}, "did you mean 'qm9'"),
        ({"name": "qm9", "num_graphs": 0}, "num_graphs=0: expected at least 1"),
        ({"name": "qm9", "num_points": 2}, "num_points=2: expected at least 4"),
    ],
)
def test_what_no_workload_has_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Workload.of(**arguments)  # type: ignore[arg-type]
