"""The twelve properties of QM9: their units in the raw files and in Table 3, and the energies of single atoms.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from se3t.config import TARGETS
from se3t.experiments.qm9 import DATA

HARTREE_TO_MEV = 27211.386245988
"""One hartree in meV. Source: CODATA 2018."""

ATOM_REFERENCES: dict[str, dict[int, float]] = {
    "u0": {1: -0.500273, 6: -37.846772, 7: -54.583861, 8: -75.064579, 9: -99.718730},
    "u": {1: -0.498857, 6: -37.845355, 7: -54.582445, 8: -75.063163, 9: -99.717314},
    "h": {1: -0.497912, 6: -37.844411, 7: -54.581501, 8: -75.062219, 9: -99.716370},
    "g": {1: -0.510927, 6: -37.861317, 7: -54.598897, 8: -75.079532, 9: -99.733544},
}
"""Energies of single atoms in hartree, by column and atomic number. Source: atomref.txt of the data set (see
``uncharacterized.txt`` for the reference)."""


@dataclass(frozen=True)
class Target:
    """One property.

    Attributes:
        name: its name in ``task=``.
        symbol: as printed in Table 3.
        label: in words.
        column_csv: its column in ``gdb9.sdf.csv``.
        unit_raw: unit of the raw files and of the store.
        unit: unit of Table 3, in which errors are given.
        factor: one ``unit_raw`` in ``unit``.
        is_atomisation: whether the energies of the single atoms (``ATOM_REFERENCES``) are subtracted.
    """

    name: str
    symbol: str
    label: str
    column_csv: str
    unit_raw: str
    unit: str
    factor: float = 1.0
    is_atomisation: bool = False


def _energy(name: str, symbol: str, label: str, column_csv: str = "", atoms: bool = False) -> Target:
    return Target(name, symbol, label, column_csv or name, "hartree", "meV", HARTREE_TO_MEV, atoms)


_ALL = (
    _energy("homo", "ε_HOMO", "energy of the highest occupied molecular orbital"),
    _energy("lumo", "ε_LUMO", "energy of the lowest unoccupied molecular orbital"),
    _energy("gap", "Δε", "gap between HOMO and LUMO"),
    Target("mu", "μ", "dipole moment", "mu", "D", "D"),
    Target("alpha", "α", "isotropic polarisability", "alpha", "bohr^3", "bohr^3"),
    Target("cv", "C_v", "heat capacity at 298.15 K", "cv", "cal/(mol K)", "cal/(mol K)"),
    _energy("u0", "U0", "atomisation energy at 0 K", atoms=True),
    _energy("u", "U", "atomisation energy at 298.15 K", "u298", atoms=True),
    _energy("h", "H", "atomisation enthalpy at 298.15 K", "h298", atoms=True),
    _energy("g", "G", "atomisation free energy at 298.15 K", "g298", atoms=True),
    Target("r2", "⟨R²⟩", "electronic spatial extent", "r2", "bohr^2", "bohr^2"),
    _energy("zpve", "ZPVE", "zero point vibrational energy"),
)
QM9_TARGETS: dict[str, Target] = {target.name: target for target in _ALL}
"""By name, in the order of the columns of a store."""
assert tuple(QM9_TARGETS) == TARGETS


def in_table_units(target: Target, values: np.ndarray, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Values of a property in the unit of Table 3; energies U0, U, H, G minus those of the single atoms.

    y = factor · (y_raw − Σ_atoms E_atom), the second term only for atomisation energies: negative for bound molecules.

    Args:
        target: the property.
        values: ``[molecule]`` float64, in ``target.unit_raw``.
        arrays: ``num_atoms`` ``[molecule]`` and ``numbers`` ``[atom]`` of the same molecules.

    Returns:
        ``[molecule]`` float64, in ``target.unit``.

    Raises:
        KeyError: for an element without a reference; QM9 has none.
    """
    if not target.is_atomisation:
        return target.factor * values
    references = ATOM_REFERENCES[target.name]
    by_number = np.array([references.get(number, np.nan) for number in range(256)])
    owner = np.repeat(np.arange(len(values)), arrays["num_atoms"])
    atoms = np.bincount(owner, weights=by_number[arrays["numbers"]], minlength=len(values))
    if np.isnan(atoms).any():
        unknown = sorted(set(arrays["numbers"].tolist()) - set(references))
        raise KeyError(f"no energy of a single atom of atomic number {unknown[0]}")
    return target.factor * (values - atoms)


def target_of(kind: str, name: str) -> Target | None:
    """The property of QM9 of the name of a target; None for data other than QM9."""
    return QM9_TARGETS.get(name) if kind == DATA.name else None
