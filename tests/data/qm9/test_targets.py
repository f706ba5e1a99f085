from __future__ import annotations

import numpy as np
import pytest

from se3t.config import TARGETS
from se3t.data.qm9.targets import ATOM_REFERENCES, HARTREE_TO_MEV, QM9_TARGETS, in_table_units

METHANE_AND_WATER = {"num_atoms": np.array([5, 3], dtype=np.uint16), "numbers": np.array([6, 1, 1, 1, 1, 8, 1, 1])}


def test_every_target_of_the_command_line_is_described() -> None:
    assert tuple(QM9_TARGETS) == TARGETS
    assert all(target.name == name for name, target in QM9_TARGETS.items())


def test_units_are_those_of_table_3() -> None:
    units = {name: QM9_TARGETS[name].unit for name in ("alpha", "gap", "homo", "lumo", "mu", "cv")}
    assert units == {
        "alpha": "bohr^3", "gap": "meV", "homo": "meV", "lumo": "meV", "mu": "D", "cv": "cal/(mol K)",
    }  # fmt: skip
    assert {name for name, target in QM9_TARGETS.items() if target.factor != 1.0} == {
        name for name, target in QM9_TARGETS.items() if target.unit_raw == "hartree"
    }


def test_orbital_energies_are_multiplied_by_one_constant() -> None:
    found = in_table_units(QM9_TARGETS["homo"], np.array([-0.3877, 0.0]), METHANE_AND_WATER)
    np.testing.assert_allclose(found, [-0.3877 * HARTREE_TO_MEV, 0.0], rtol=1e-15)


def test_hartree_is_the_rydberg_energy_twice() -> None:
    rydberg_ev = 13.605693122994  # CODATA 2018
    assert pytest.approx(2000 * rydberg_ev, rel=1e-11) == HARTREE_TO_MEV


def test_energies_become_atomisation_energies() -> None:
    raw = np.array([-40.47893, -76.404702])
    found = in_table_units(QM9_TARGETS["u0"], raw, METHANE_AND_WATER)
    by_hand = [-40.47893 + 37.846772 + 4 * 0.500273, -76.404702 + 75.064579 + 2 * 0.500273]
    np.testing.assert_allclose(found, np.array(by_hand) * 27211.386245988, rtol=1e-12)
    assert (found < 0).all()


def test_only_the_four_energies_have_atoms_taken_off() -> None:
    assert [name for name, target in QM9_TARGETS.items() if target.is_atomisation] == list(ATOM_REFERENCES)


def test_an_element_without_a_reference_is_an_error() -> None:
    silane = {"num_atoms": np.array([2]), "numbers": np.array([14, 1])}
    with pytest.raises(KeyError, match="atomic number 14"):
        in_table_units(QM9_TARGETS["g"], np.array([0.0]), silane)
