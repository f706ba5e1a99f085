"""What atoms and bonds the training molecules have, and warnings for molecules that have others.

They depend on the molecules alone, not on the network, and estimate no error. Imports neither torch nor rdkit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from se3t.data.molecules.molecule import BOND_CLASSES, ELEMENTS

LEAST = 3
"""Training molecules that an environment has to occur in, of data with at least ``_MANY``; in fewer data it is 1."""
MARGIN = 0.02
"""Angstrom that a bond may be shorter or longer than all of the training: other methods make such geometries."""
_MANY = 1000
_SIGNS = "-=#:"  # of the classes of bonds
_BITS = 9  # of an element and a class together
_FIRST, _NEXT = 6, 3  # neighbours that fit into a key of 63 bits: after an element, and after a number of a key


@dataclass(frozen=True)
class Domain:
    """What occurs in the training molecules.

    Attributes:
        environments: an atom and its neighbours, as ``C(-C,-H,=O)``; those of at least ``least`` molecules.
        least: see :data:`LEAST`.
        bond_lengths: shortest and longest, in angstrom, by elements and class, as ``C=O``.
    """

    environments: frozenset[str]
    least: int
    bond_lengths: Mapping[str, Sequence[float]]

    def warnings(self, arrays: Mapping[str, np.ndarray]) -> list[list[str]]:
        """Of each molecule: its first environment and its first bond unlike those of the training.

        Args:
            arrays: the flat arrays of some molecules, see :func:`se3t.data.molecules.molecule.pack`.
        """
        found: list[list[str]] = [[] for _ in arrays["num_atoms"]]
        names, place = _environments(arrays)
        unknown = np.array([name not in self.environments for name in names], dtype=bool)
        times = "no training molecule" if self.least == 1 else f"fewer than {self.least} training molecules"
        for molecule, atom in _first(_owner(arrays["num_atoms"]), unknown[place]):
            found[molecule].append(f"environment: {names[place[atom]]} in {times}")
        names, place, lengths = _lengths(arrays)
        # A pair of elements that no training molecule has is in an environment that none has.
        ranges = np.array([self.bond_lengths.get(name, (0.0, np.inf)) for name in names]).reshape(-1, 2)[place]
        outside = (lengths < ranges[:, 0] - MARGIN) | (lengths > ranges[:, 1] + MARGIN)
        for molecule, bond in _first(_owner(arrays["num_bonds"]), outside):
            shortest, longest = ranges[bond]
            found[molecule].append(
                f"bond length: {names[place[bond]]} of {lengths[bond]:.2f} angstrom, "
                f"{shortest:.2f} … {longest:.2f} among the training molecules"
            )
        return found

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> Domain:
        """That of some molecules.

        Args:
            arrays: their flat arrays, see :func:`se3t.data.molecules.molecule.pack`.
        """
        least = LEAST if len(arrays["num_atoms"]) >= _MANY else 1
        names, place = _environments(arrays)
        once, _ = _distinct(_owner(arrays["num_atoms"]) * len(names) + place)  # in every molecule
        times = np.bincount(once % len(names), minlength=len(names))
        kinds, place, lengths = _lengths(arrays)
        shortest, longest = np.full(len(kinds), np.inf), np.zeros(len(kinds))
        np.minimum.at(shortest, place, lengths)
        np.maximum.at(longest, place, lengths)
        ranges = zip(shortest.round(3).tolist(), longest.round(3).tolist(), strict=True)
        known = frozenset(name for name, count in zip(names, times, strict=True) if count >= least)
        return cls(known, least, {name: list(pair) for name, pair in zip(kinds, ranges, strict=True)})

    def facts(self) -> dict[str, Any]:
        """As plain values, which :meth:`from_facts` reads."""
        return {
            "environments": sorted(self.environments),
            "environments_least": self.least,
            "bond_lengths": {name: list(pair) for name, pair in sorted(self.bond_lengths.items())},
        }

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Domain | None:
        """That of the facts of a model; None for one of an earlier version, which has none."""
        if "environments" not in facts:
            return None
        return cls(frozenset(facts["environments"]), int(facts["environments_least"]), facts["bond_lengths"])


def _distinct(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct keys, ascending, and the place of every key among them; ``np.unique`` takes ten times as long."""
    ordered = np.sort(keys)
    distinct = ordered[np.diff(ordered, prepend=-1) > 0]
    return distinct, np.searchsorted(distinct, keys)


def _owner(lengths: np.ndarray) -> np.ndarray:
    """The molecule of every atom, or of every bond."""
    return np.repeat(np.arange(len(lengths)), lengths)


def _first(owner: np.ndarray, chosen: np.ndarray) -> list[tuple[int, int]]:
    """Of every molecule with a chosen atom or bond: it, and the first of them."""
    places = np.flatnonzero(chosen)
    molecules, first = np.unique(owner[places], return_index=True)
    return list(zip(molecules.tolist(), places[first].tolist(), strict=True))


def _ends(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """``[bond, 2]`` the atoms of every bond, counted through all molecules."""
    lengths = arrays["num_atoms"].astype(np.int64)
    starts = np.cumsum(lengths) - lengths
    return arrays["bonds"].astype(np.int64) + starts[_owner(arrays["num_bonds"])][:, None]


def _environments(arrays: Mapping[str, np.ndarray]) -> tuple[list[str], np.ndarray]:
    """All environments in words, and the place of that of every atom among them."""
    numbers, ends = arrays["numbers"].astype(np.int64), _ends(arrays)
    classes = arrays["bond_classes"].astype(np.int64)
    codes = numbers[ends[:, ::-1]] * len(BOND_CLASSES) + classes[:, None]  # of the neighbour at each end
    both = np.sort((ends << _BITS | codes).ravel())
    atoms, codes = both >> _BITS, both & (1 << _BITS) - 1
    degrees = np.bincount(atoms, minlength=len(numbers))
    starts = np.cumsum(degrees) - degrees
    keys = numbers
    for place in range(degrees.max(initial=0)):
        if place >= _FIRST and place % _NEXT == 0:
            keys = _distinct(keys)[1]
        has = np.flatnonzero(degrees > place)
        keys = keys << _BITS
        keys[has] |= codes[starts[has] + place]
    found, places = _distinct(keys)
    examples = np.zeros(len(found), np.int64)
    examples[places] = np.arange(len(places))
    around = [codes[starts[atom] : starts[atom] + degrees[atom]].tolist() for atom in examples]
    neighbours = [",".join(sorted(map(_neighbour, found))) for found in around]
    return [f"{_symbol(int(numbers[atom]))}({text})" for atom, text in zip(examples, neighbours, strict=True)], places


def _lengths(arrays: Mapping[str, np.ndarray]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """All kinds of bonds in words, the place of that of every bond among them, and its length in angstrom."""
    ends, positions = _ends(arrays), arrays["positions"]
    lengths = np.linalg.norm(positions[ends[:, 0]] - positions[ends[:, 1]], axis=1).astype(np.float64)
    pairs = np.sort(arrays["numbers"][ends].astype(np.int64), axis=1)
    keys = (pairs[:, 0] << _BITS) | (pairs[:, 1] * len(BOND_CLASSES) + arrays["bond_classes"])
    kinds, places = _distinct(keys)
    return [f"{_symbol(key >> _BITS)}{_neighbour(key & (1 << _BITS) - 1)}" for key in kinds.tolist()], places, lengths


def _symbol(number: int) -> str:
    return ELEMENTS[number - 1]


def _neighbour(code: int) -> str:
    number, kind = divmod(code, len(BOND_CLASSES))
    return _SIGNS[kind] + _symbol(number)
