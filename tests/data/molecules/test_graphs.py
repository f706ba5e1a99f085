from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from se3t.batching import batch_graphs
from se3t.data.molecules.edges import NO_BOND
from se3t.data.molecules.graphs import GraphSettings, MoleculeGraphs, elements_of, spell_elements
from se3t.data.molecules.molecule import BOND_CLASSES, pack
from se3t.errors import UserError
from se3t.fiber import Fiber
from se3t.geometry import reciprocal_order
from se3t.graph import Graph

from .parts import AMMONIA, APART, ATOM, FLUOROMETHANE, METHANE, MOLECULES, WATER, crowd
from .test_edges import CROWD, KINDS, RADIUS, by_hand

ELEMENTS = (1, 6, 7, 8, 9)
SETTINGS = [GraphSettings(ELEMENTS, kind, RADIUS, inputs) for kind in KINDS for inputs in ("atoms", "atoms_positions")]
INDICES = [[0], [4, 1, 3], [2, 2, 7, 2], [1], [1, 5, 1], [], list(range(len(MOLECULES)))]
every_setting = pytest.mark.parametrize("settings", SETTINGS, ids=lambda one: f"{one.edges}-{one.inputs}")


def graphs(settings: GraphSettings, dtype: torch.dtype = torch.float32) -> MoleculeGraphs:
    return MoleculeGraphs(pack(CROWD), settings).to("cpu", dtype)


def assert_equal_graphs(one: Graph, other: Graph) -> None:
    for name in ("positions", "edge_index", "batch", "num_graphs", "edge_scalars"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=0, atol=0, msg=name)
    assert one.features.keys() == other.features.keys()
    for degree, value in one.features.items():
        torch.testing.assert_close(value, other.features[degree], rtol=0, atol=1e-6)


@every_setting
@pytest.mark.parametrize("index", INDICES)
def test_a_batch_is_its_molecules_side_by_side(settings: GraphSettings, index: list[int]) -> None:
    made = graphs(settings)
    batch = made.graph(torch.tensor(index, dtype=torch.int64)).check()
    assert batch.num_graphs == len(index)
    assert batch.num_nodes == sum(len(CROWD[number]) for number in index)
    if index:
        assert_equal_graphs(batch, batch_graphs([made.graph(torch.tensor([number])) for number in index]))


@every_setting
def test_a_graph_of_one_molecule_is_what_a_loop_makes_of_it(settings: GraphSettings) -> None:
    made = graphs(settings)
    for number, one in enumerate(CROWD):
        graph = made.graph(torch.tensor([number])).check()
        assert torch.equal(graph.positions, torch.from_numpy(one.positions))
        expected = by_hand(settings.edges, one)
        assert graph.edge_index.T.tolist() == [[source, target] for target, source, _ in expected]
        assert graph.edge_scalars is not None
        assert graph.edge_scalars.tolist() == [
            [float(place == number) for place in range(settings.num_edge_scalars)] for _, _, number in expected
        ]


@every_setting
def test_the_pairing_is_the_one_that_would_be_found(settings: GraphSettings) -> None:
    graph = graphs(settings).graph(torch.tensor([3, 0, 1, 3, 8, 5]))
    assert graph.pairing is not None
    expected = reciprocal_order(graph.edge_index, graph.num_nodes)
    assert expected is not None
    assert graph.pairing.order is not None
    assert torch.equal(graph.pairing.order, expected)


@every_setting
def test_features_and_scalars_are_as_wide_as_the_settings_say(settings: GraphSettings) -> None:
    graph = graphs(settings).graph(torch.arange(3))
    assert Fiber.of(graph.features) == settings.fiber_in
    assert graph.edge_scalars is not None
    assert graph.edge_scalars.shape[1] == settings.num_edge_scalars


def test_widths_are_those_of_the_paper() -> None:
    bonds, complete, radius = (GraphSettings(ELEMENTS, kind) for kind in KINDS)
    assert bonds.fiber_in == complete.fiber_in == Fiber("6x0")
    assert replace(bonds, inputs="atoms_positions").fiber_in == Fiber("6x0+1x1")
    assert [settings.num_edge_scalars + 1 for settings in (bonds, complete, radius)] == [5, 6, 6]  # with the distance
    assert len(BOND_CLASSES) == NO_BOND == 4


def test_node_features_are_the_element_and_its_number() -> None:
    made = MoleculeGraphs(pack([WATER, FLUOROMETHANE]), GraphSettings(ELEMENTS))
    assert made.graph(torch.tensor([0])).features[0].squeeze(-1).tolist() == [
        [0, 0, 0, 1, 0, 8],
        [1, 0, 0, 0, 0, 1],
        [1, 0, 0, 0, 0, 1],
    ]
    fluorine = made.graph(torch.tensor([1])).features[0].squeeze(-1)[1]
    assert fluorine.tolist() == [0, 0, 0, 0, 1, 9]


def test_elements_have_their_place_in_the_order_of_the_settings() -> None:
    graph = MoleculeGraphs(pack([WATER]), GraphSettings((8, 1))).graph(torch.tensor([0]))
    assert graph.features[0].squeeze(-1).tolist() == [[1, 0, 8], [0, 1, 1], [0, 1, 1]]


def test_positions_as_features_are_relative_to_the_centre_of_the_atoms() -> None:
    made = graphs(GraphSettings(ELEMENTS, inputs="atoms_positions"), torch.float64)
    graph = made.graph(torch.tensor([10, 1, 3, 10]))
    for cloud in range(4):
        own = graph.batch == cloud
        expected = graph.positions[own] - graph.positions[own].mean(dim=0)
        torch.testing.assert_close(graph.features[1][own, 0], expected, rtol=0, atol=1e-14)


def test_double_precision_holds_the_stored_numbers_and_single_precision_comes_back() -> None:
    made = graphs(GraphSettings(ELEMENTS, "complete"))
    index = torch.tensor([3, 0])
    before = made.graph(index)
    double = made.to("cpu", torch.float64).graph(index)
    assert double.edge_scalars is not None
    assert double.positions.dtype == double.features[0].dtype == double.edge_scalars.dtype == torch.float64
    assert torch.equal(double.positions, before.positions.double())
    assert_equal_graphs(made.to("cpu", torch.float32).graph(index), before)


def test_there_are_as_many_as_were_packed() -> None:
    assert len(graphs(GraphSettings(ELEMENTS))) == len(CROWD)


def test_an_element_without_a_place_is_named() -> None:
    with pytest.raises(UserError, match=r"the molecules hold N, F, and the model knows H, C, O; remove those"):
        MoleculeGraphs(pack([METHANE, AMMONIA, FLUOROMETHANE]), GraphSettings((1, 6, 8)))


def test_elements_of_chosen_molecules_are_those_that_occur_in_them() -> None:
    arrays = pack([METHANE, ATOM, AMMONIA])
    assert elements_of(arrays) == (1, 6, 7, 8)
    assert elements_of(arrays, torch.tensor([True, False, True]).numpy()) == (1, 6, 7)
    assert elements_of(arrays, torch.tensor([False, True, False]).numpy()) == (8,)


def test_elements_are_spelled_by_their_symbols() -> None:
    assert spell_elements([1, 17, 200]) == "H, Cl, element 200"


def test_the_same_molecules_give_the_same_graph_twice() -> None:
    settings = GraphSettings(ELEMENTS, "radius", RADIUS)
    first, second = (MoleculeGraphs(pack(crowd(12, seed=5)), settings).graph(torch.arange(12)) for _ in range(2))
    assert_equal_graphs(first, second)


def test_atoms_beyond_all_bonds_are_still_nodes() -> None:
    graph = MoleculeGraphs(pack([APART, ATOM]), GraphSettings(ELEMENTS)).graph(torch.arange(2)).check()
    assert (graph.num_nodes, graph.edge_index.shape[1]) == (3, 0)
    assert graph.batch.tolist() == [0, 0, 1]
