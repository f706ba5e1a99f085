"""One molecule, and many of them as flat arrays. Imports neither torch nor rdkit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

_SYMBOLS = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb "
    "Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au "
    "Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts "
    "Og"
)
ELEMENTS = tuple(_SYMBOLS.split())
"""Symbols of the elements: atomic number 1 is the first."""
BOND_CLASSES = ("single", "double", "triple", "aromatic")
"""A bond's class is its place here."""
Bond = tuple[int, int, int]
"""Two atoms and the class of the bond."""
SPLITS = ("train", "valid", "test")
"""A molecule's split is its place here."""
ARRAY_UNITS = {
    "num_atoms": "atoms",
    "num_bonds": "bonds",
    "numbers": "atomic number",
    "positions": "angstrom",
    "bonds": "index of an atom of the molecule, from 0",
    "bond_classes": ", ".join(f"{number} {name}" for number, name in enumerate(BOND_CLASSES)),
}
"""The arrays of :func:`pack`, and the unit of each."""

_LENGTHS = {"numbers": "num_atoms", "positions": "num_atoms", "bonds": "num_bonds", "bond_classes": "num_bonds"}


@dataclass(frozen=True)
class Molecule:
    """Atoms, their positions, and the bonds between them.

    Attributes:
        numbers: ``[atom]`` uint8, atomic numbers.
        positions: ``[atom, 3]`` float32, angstrom.
        bonds: ``[bond, 2]`` uint16, two atoms, each bond once, smaller index first.
        bond_classes: ``[bond]`` uint8, index into ``BOND_CLASSES``.
        identifier: its name in the file.
        method: how its bonds were found, in a word: see :mod:`se3t.data.molecules.chemistry`.
        charge: total formal charge.
        is_3d: whether the source gave positions in space.
        unpaired: number of unpaired electrons, as drawn or as its valences leave them.
        notes: warnings, in a few words each: see :func:`kind_of`.
    """

    numbers: np.ndarray = field(repr=False)
    positions: np.ndarray = field(repr=False)
    bonds: np.ndarray = field(repr=False)
    bond_classes: np.ndarray = field(repr=False)
    identifier: str = ""
    method: str = ""
    charge: int = 0
    is_3d: bool = True
    unpaired: int = 0
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Number of atoms."""
        return len(self.numbers)


def kind_of(note: str) -> str:
    """The kind of a note: the text before its colon, as in "separate parts: 2, …"."""
    return note.partition(":")[0]


@dataclass(frozen=True)
class Refusal:
    """A molecule that could not be built: its identifier and why, in a few words."""

    identifier: str
    reason: str


def pack(molecules: Sequence[Molecule]) -> dict[str, np.ndarray]:
    """Flat arrays of many molecules, concatenated.

    Returns:
        ``num_atoms``, ``num_bonds`` ``[molecule]``; ``numbers`` ``[atom]``, ``positions`` ``[atom, 3]``; ``bonds``
        ``[bond, 2]`` (indices within a molecule), ``bond_classes`` ``[bond]``.
    """

    def joined(parts: list[np.ndarray], shape: tuple[int, ...], dtype: type) -> np.ndarray:
        return np.concatenate([np.zeros((0, *shape), dtype), *(part.reshape(-1, *shape) for part in parts)]).astype(
            dtype, copy=False
        )

    return {
        "num_atoms": np.array([len(molecule) for molecule in molecules], dtype=np.uint16),
        "num_bonds": np.array([len(molecule.bond_classes) for molecule in molecules], dtype=np.uint16),
        "numbers": joined([molecule.numbers for molecule in molecules], (), np.uint8),
        "positions": joined([molecule.positions for molecule in molecules], (3,), np.float32),
        "bonds": joined([molecule.bonds for molecule in molecules], (2,), np.uint16),
        "bond_classes": joined([molecule.bond_classes for molecule in molecules], (), np.uint8),
    }


def take(arrays: Mapping[str, np.ndarray], chosen: np.ndarray) -> dict[str, np.ndarray]:
    """The flat arrays of some molecules, in any order.

    Args:
        arrays: those of :func:`pack`, and others with one row for each molecule.
        chosen: ``[molecule]`` their numbers.
    """

    def rows(lengths: np.ndarray) -> np.ndarray:
        ends, new = np.cumsum(lengths, dtype=np.int64), lengths[chosen].astype(np.int64)
        shift = (ends - lengths)[chosen] - (np.cumsum(new) - new)  # from the new place of a molecule to its old one
        return np.arange(new.sum()) + np.repeat(shift, new)

    places = {name: rows(arrays[name]) for name in set(_LENGTHS.values())}
    return {name: array[places[_LENGTHS[name]] if name in _LENGTHS else chosen] for name, array in arrays.items()}
