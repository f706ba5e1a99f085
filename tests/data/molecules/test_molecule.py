from __future__ import annotations

import numpy as np
import pytest

from se3t.data.molecules.molecule import ARRAY_UNITS, BOND_CLASSES, Molecule, pack, take

from .parts import APART, ATOM, BENZENE, METHANE, MOLECULES, crowd


def test_packed_molecules_come_back_one_by_one() -> None:
    molecules = crowd(20)
    arrays = pack(molecules)
    atoms = np.split(np.arange(len(arrays["numbers"])), np.cumsum(arrays["num_atoms"], dtype=np.int64)[:-1])
    bonds = np.split(np.arange(len(arrays["bonds"])), np.cumsum(arrays["num_bonds"], dtype=np.int64)[:-1])
    assert len(atoms) == len(bonds) == 20
    for one, own_atoms, own_bonds in zip(molecules, atoms, bonds, strict=True):
        assert np.array_equal(arrays["numbers"][own_atoms], one.numbers)
        assert np.array_equal(arrays["positions"][own_atoms], one.positions)
        assert np.array_equal(arrays["bonds"][own_bonds], one.bonds)
        assert np.array_equal(arrays["bond_classes"][own_bonds], one.bond_classes)


@pytest.mark.parametrize("molecules", [[], [ATOM], [APART, ATOM], [METHANE], MOLECULES])
def test_types_and_shapes_do_not_depend_on_what_is_packed(molecules: list[Molecule]) -> None:
    arrays = pack(molecules)
    num_atoms, num_bonds = sum(map(len, molecules)), sum(len(one.bonds) for one in molecules)
    assert {name: (str(array.dtype), array.shape) for name, array in arrays.items()} == {
        "num_atoms": ("uint16", (len(molecules),)),
        "num_bonds": ("uint16", (len(molecules),)),
        "numbers": ("uint8", (num_atoms,)),
        "positions": ("float32", (num_atoms, 3)),
        "bonds": ("uint16", (num_bonds, 2)),
        "bond_classes": ("uint8", (num_bonds,)),
    }


@pytest.mark.parametrize("chosen", [[1, 2], [2, 0, 3, 1], [3, 3, 0], []])
def test_taken_molecules_are_the_same_as_if_they_had_been_packed_alone(chosen: list[int]) -> None:
    molecules = [METHANE, ATOM, BENZENE, APART]
    arrays = {**pack(molecules), "mol_id": np.arange(4)}
    expected = {**pack([molecules[place] for place in chosen]), "mol_id": np.array(chosen)}
    taken = take(arrays, np.array(chosen, dtype=np.int64))
    assert set(taken) == set(expected)
    for name, array in taken.items():
        assert array.dtype == arrays[name].dtype
        assert np.array_equal(array, expected[name]), name


def test_every_array_has_a_unit_and_every_class_of_bonds_its_number() -> None:
    assert list(ARRAY_UNITS) == list(pack([METHANE]))
    assert ARRAY_UNITS["bond_classes"] == "0 single, 1 double, 2 triple, 3 aromatic"
    assert [BOND_CLASSES[number] for number in np.unique(BENZENE.bond_classes)] == ["single", "aromatic"]


def test_the_length_of_a_molecule_is_its_number_of_atoms() -> None:
    assert [len(one) for one in (METHANE, ATOM, APART, BENZENE)] == [5, 1, 2, 12]
