"""Edge lists against a loop over pairs of atoms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from se3t.data.molecules import edges
from se3t.data.molecules.edges import NO_BOND, Bonds, EdgeLists, bonded, complete, within_radius
from se3t.data.molecules.molecule import Molecule, pack

from .parts import APART, ATOM, METHANE, MOLECULES, WATER, crowd, molecule

KINDS = ("bonds", "complete", "radius")
RADIUS = 1.7  # Å: between the shortest and the longest distances of every molecule of more than two atoms
CROWD = [*MOLECULES, *crowd(30)]


def lists_of(kind: str, molecules: Sequence[Molecule], radius: float = RADIUS) -> EdgeLists:
    arrays = pack(molecules)
    names = ("bonds", "bond_classes", "num_bonds", "num_atoms")
    bonds = Bonds(*(torch.from_numpy(arrays[name].astype(np.int64)) for name in names))
    if kind == "radius":
        return within_radius(bonds, torch.from_numpy(arrays["positions"]), radius)
    return bonded(bonds) if kind == "bonds" else complete(bonds)


def found(lists: EdgeLists, number: int) -> list[tuple[int, int, int]]:
    """(target, source, class) of the edges of one molecule, in their order."""
    count, start, first = (int(values[number]) for values in (lists.count, lists.start, lists.class_start))
    rows = slice(start, start + count)
    columns = (lists.target[rows], lists.source[rows], lists.classes[first : first + count])
    return list(zip(*(column.tolist() for column in columns), strict=True))


def by_hand(kind: str, one: Molecule, radius: float = RADIUS) -> list[tuple[int, int, int]]:
    classes = dict.fromkeys(
        [(i, j) for i in range(len(one)) for j in range(len(one)) if i != j], NO_BOND if kind != "bonds" else None
    )
    for (first, second), number in zip(one.bonds.tolist(), one.bond_classes.tolist(), strict=True):
        classes[first, second] = classes[second, first] = number
    if kind == "radius":
        far = [pair for pair in classes if np.linalg.norm(np.subtract(*one.positions[list(pair)])) > radius]
        for pair in far:
            del classes[pair]
    return sorted((*pair, number) for pair, number in classes.items() if number is not None)


@pytest.mark.parametrize("kind", KINDS)
def test_edges_are_those_of_a_loop_sorted_by_target_then_source(kind: str) -> None:
    lists = lists_of(kind, CROWD)
    for number, one in enumerate(CROWD):
        assert found(lists, number) == by_hand(kind, one), one.identifier


def test_the_radius_of_these_tests_separates_bonds_from_other_pairs_and_pairs_from_none() -> None:
    counts = [int(lists_of(kind, MOLECULES).count.sum()) for kind in ("bonds", "radius", "complete")]
    assert counts[0] < counts[1] < counts[2]


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_takes_every_edge_once_and_its_reverse_of_the_same_class_next(kind: str) -> None:
    lists = lists_of(kind, CROWD)
    for number in range(len(CROWD)):
        own, start = found(lists, number), int(lists.start[number])
        order = lists.order[start : start + len(own)].tolist()
        assert sorted(order) == list(range(len(own)))
        for there, back in zip(order[::2], order[1::2], strict=True):
            target, source, bond = own[there]
            assert own[back] == (source, target, bond)


def test_a_bond_counts_both_ways_and_its_class_is_kept() -> None:
    both = found(lists_of("bonds", [METHANE, WATER]), 1)
    assert both == [(0, 1, 0), (0, 2, 0), (1, 0, 0), (2, 0, 0)]
    ammonium_like = molecule([6, 6, 7], np.zeros((3, 3)), [(0, 1, 1), (1, 2, 2)], "chain")
    assert found(lists_of("complete", [METHANE, ammonium_like]), 1) == [
        (0, 1, 1),
        (0, 2, NO_BOND),
        (1, 0, 1),
        (1, 2, 2),
        (2, 0, NO_BOND),
        (2, 1, 2),
    ]


def test_complete_graphs_of_equal_size_share_their_rows_but_not_their_classes() -> None:
    lists = lists_of("complete", [METHANE, WATER, *crowd(4, kinds=(METHANE, WATER))])
    assert len(lists.source) == 5 * 4 + 3 * 2
    assert len(lists.classes) == 3 * (5 * 4 + 3 * 2)
    assert lists.start.tolist() == [lists.start[0], lists.start[1]] * 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("molecules", [[ATOM], [ATOM, ATOM], [APART], [ATOM, APART, ATOM]])
def test_molecules_without_edges_have_none(kind: str, molecules: list[Molecule]) -> None:
    lists = lists_of(kind, molecules)
    expected = [2 if kind == "complete" and one is APART else 0 for one in molecules]
    assert lists.count.tolist() == expected
    assert [len(found(lists, number)) for number in range(len(molecules))] == expected


def test_atoms_exactly_as_far_apart_as_the_radius_are_neighbours() -> None:
    beyond = molecule([1, 1], [(0, 0, 0), (0, 0, np.nextafter(np.float32(3), np.float32(4)))], [], "beyond")
    assert lists_of("radius", [APART, beyond], radius=3.0).count.tolist() == [2, 0]


def test_an_edge_at_the_radius_never_goes_one_way_alone() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        one = molecule([1] * 40, random.normal(size=(40, 3)), [], "cloud")
        pair = random.choice(40, size=2, replace=False)
        radius = float(np.linalg.norm(np.subtract(*one.positions[pair])))
        own = {(target, source) for target, source, _ in found(lists_of("radius", [one], radius), 0)}
        assert own == {(source, target) for target, source in own}


@pytest.mark.parametrize(("radius", "kind"), [(1e9, "complete"), (1e-9, None)])
def test_a_huge_radius_is_the_complete_graph_and_a_tiny_one_none(radius: float, kind: str | None) -> None:
    lists = lists_of("radius", CROWD, radius)
    for number, one in enumerate(CROWD):
        assert found(lists, number) == ([] if kind is None else by_hand(kind, one))


def test_distances_found_a_few_molecules_at_a_time_give_the_same_edges(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = lists_of("radius", CROWD)
    monkeypatch.setattr(edges, "_CHUNK", 4)
    parts = lists_of("radius", CROWD)
    for name in ("source", "target", "order", "start", "count", "classes", "class_start"):
        assert torch.equal(getattr(parts, name), getattr(whole, name)), name


@pytest.mark.parametrize("kind", KINDS)
def test_the_edges_of_a_molecule_do_not_depend_on_its_neighbours_in_the_file(kind: str) -> None:
    together = lists_of(kind, CROWD)
    for number in (0, 3, len(CROWD) - 1):
        assert found(together, number) == found(lists_of(kind, [CROWD[number]]), 0)
