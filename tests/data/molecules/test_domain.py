"""Atoms and bonds of the training molecules, and warnings about others, against a loop over atoms and bonds."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from se3t.data.molecules.domain import LEAST, MARGIN, Domain
from se3t.data.molecules.molecule import ELEMENTS, Molecule, pack
from training.molecule_parts import SMILES, molecule

SEEN = [molecule(smiles) for members in SMILES.values() for smiles in members]


def atoms_of(found: Molecule) -> list[str]:
    around: list[list[str]] = [[] for _ in found.numbers]
    for (first, second), kind in zip(found.bonds.tolist(), found.bond_classes.tolist(), strict=True):
        for atom, other in ((first, second), (second, first)):
            around[atom].append("-=#:"[kind] + ELEMENTS[found.numbers[other] - 1])
    return [
        f"{ELEMENTS[number - 1]}({','.join(sorted(near))})" for number, near in zip(found.numbers, around, strict=True)
    ]


def bonds_of(found: Molecule) -> list[tuple[str, float]]:
    bonds = []
    for ends, kind in zip(found.bonds, found.bond_classes.tolist(), strict=True):
        first, second = sorted(found.numbers[ends].tolist())
        difference = found.positions[ends[0]].astype(np.float64) - found.positions[ends[1]]
        bonds.append((f"{ELEMENTS[first - 1]}{'-=#:'[kind]}{ELEMENTS[second - 1]}", float(np.linalg.norm(difference))))
    return bonds


def center(neighbours: Sequence[int], kind: int = 0) -> Molecule:
    """One atom of sulfur with neighbours of these elements."""
    count = len(neighbours)
    return Molecule(
        numbers=np.array([16, *neighbours], dtype=np.uint8),
        positions=np.concatenate([np.zeros((1, 3)), np.arange(3 * count).reshape(-1, 3) + 1]).astype(np.float32),
        bonds=np.array([(0, place + 1) for place in range(count)], dtype=np.uint16).reshape(-1, 2),
        bond_classes=np.full(count, kind, dtype=np.uint8),
    )


def test_environments_and_lengths_are_those_of_a_loop() -> None:
    lengths = defaultdict(list)
    for found in SEEN:
        for name, length in bonds_of(found):
            lengths[name].append(length)
    domain = Domain.of(pack(SEEN))
    assert domain.environments == {name for found in SEEN for name in atoms_of(found)}
    assert {"C(-C,-H,=O)", "N(#C)", "C(-H,:C,:C)", "H(-O)"} <= domain.environments
    assert domain.bond_lengths.keys() == lengths.keys()
    for name, found in lengths.items():
        assert domain.bond_lengths[name] == pytest.approx([min(found), max(found)], abs=6e-4)


@pytest.mark.parametrize("count", [1, 5, 6, 7, 8, 9, 10, 13])
def test_atoms_of_many_neighbours_are_told_apart_by_the_last(count: int) -> None:
    many = [center([1] * (count - 1) + [last]) for last in (6, 7, 8)]
    others = [center([8] * (count - 1) + [6]), center([8] * (count + 1))]
    domain = Domain.of(pack([*many, *others]))
    assert domain.environments == {name for found in (*many, *others) for name in atoms_of(found)}
    (first, second, third) = Domain.of(pack([*many[:1], *others])).warnings(pack([many[0], many[1], center([1], 1)]))
    assert first == []
    assert second == [f"environment: {atoms_of(many[1])[0]} in no training molecule"]
    assert third == ["environment: S(=H) in no training molecule"]


def test_what_is_rare_in_many_molecules_is_unknown() -> None:
    """Four atoms of two molecules are in two."""

    def domain(rare: list[str]) -> Domain:
        return Domain.of(pack([*[molecule("CCO")] * 1000, *map(molecule, rare)]))

    (warning,) = domain(["CC#N"] * (LEAST - 1)).warnings(pack([molecule("CC#N")]))[0]
    assert warning == f"environment: C(#N,-C) in fewer than {LEAST} training molecules"
    assert domain(["CC#N"] * LEAST).warnings(pack([molecule("CC#N")])) == [[]]
    assert domain(["N#CC#N", "N#CC#N"]).warnings(pack([molecule("N#CC#N")])) != [[]]


def test_a_bond_outside_the_range_by_more_than_the_margin_is_named_with_the_range() -> None:
    ethane = molecule("CC")
    domain = Domain.of(pack([ethane]))
    (carbon,) = np.flatnonzero((ethane.numbers[ethane.bonds] == 6).all(1))
    first, second = ethane.bonds[carbon].tolist()
    axis = ethane.positions[second] - ethane.positions[first]
    length = float(np.linalg.norm(axis))
    hydrogens = {
        second,
        *(int(bond[bond != second][0]) for bond in ethane.bonds if second in bond and first not in bond),
    }

    def stretched(by: float) -> Molecule:
        positions = ethane.positions.copy()
        positions[sorted(hydrogens)] += (axis / length * by).astype(np.float32)
        return replace(ethane, positions=positions)

    near = [stretched(by) for by in (0.9 * MARGIN, -0.9 * MARGIN)]
    assert domain.warnings(pack([*near, ethane])) == [[], [], []]
    for by in (0.5, -0.3):
        found = domain.warnings(pack([ethane, stretched(by), ethane]))
        told = f"C-C of {length + by:.2f} angstrom, {length:.2f} … {length:.2f} among the training molecules"
        assert found == [[], [f"bond length: {told}"], []]


def test_facts_are_plain_and_read_back() -> None:
    domain = Domain.of(pack(SEEN))
    facts = json.loads(json.dumps(domain.facts()))
    assert facts == domain.facts()
    read = Domain.from_facts(facts)
    assert read == domain
    assert Domain.from_facts({"kind": "qm9"}) is None
    assert read is not None
    assert read.warnings(pack([])) == []
    assert read.warnings(pack(SEEN)) == [[] for _ in SEEN]
