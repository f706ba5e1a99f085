"""Which atoms of a geometry are bound: arithmetic on distances. Imports neither torch nor rdkit.

The ratio of a pair of atoms is their distance divided by the sum of their covalent radii.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CLOSE = (1.15, 1.3)
"""Ratios up to which a pair counts as bound, in the order in which they are tried."""
CLOSEST = 0.7
"""Ratio below that of any bond: triple ones are at 0.79."""

Bond = tuple[int, int, int]
"""Two atoms and the class of the bond."""

_ORDERS = (1.0, 2.0, 3.0, 1.5)  # of the bond classes
_RESONANCE = 0.1  # angstrom: forms of a carboxylate or nitro group differ by less, those of cyclobutadiene by more


def ratios(positions: np.ndarray, radii: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Ratios of the pairs ``first[k], second[k]``.

    Args:
        positions: ``[atom, 3]``, angstrom.
        radii: ``[atom]`` covalent radii, angstrom.
        first: ``[pair]`` atoms.
        second: ``[pair]`` atoms.
    """
    distances = np.linalg.norm(positions[first] - positions[second], axis=1)
    return np.asarray(distances / (radii[first] + radii[second]))


def pairs_by_closeness(positions: np.ndarray, radii: np.ndarray) -> tuple[list[tuple[int, int]], np.ndarray]:
    """All pairs of atoms by their ratio, the closest first, and the ratios."""
    first, second = np.triu_indices(len(positions), 1)
    values = ratios(positions, radii, first, second)
    order = np.argsort(values, kind="stable")
    return list(zip(first[order].tolist(), second[order].tolist(), strict=True)), values[order]


@dataclass(frozen=True)
class Outline:
    """A graph without its hydrogens.

    Attributes:
        kept: the atoms, as numbered before.
        pairs: bonds between them, as numbered here.
        hydrogens: how many each has.
    """

    kept: list[int]
    pairs: list[tuple[int, int]]
    hydrogens: list[int]


def outline(numbers: Sequence[int], pairs: Sequence[tuple[int, int]]) -> Outline:
    """The graph without hydrogens; all of it where some are not bound to just one atom of another element."""
    bound: list[list[int]] = [[] for _ in numbers]
    for first, second in pairs:
        bound[first].append(second)
        bound[second].append(first)
    plain = all(len(bound[atom]) == 1 and numbers[bound[atom][0]] != 1 for atom, z in enumerate(numbers) if z == 1)
    kept = [atom for atom, z in enumerate(numbers) if z != 1 or not plain]
    row = {atom: place for place, atom in enumerate(kept)}
    inner = [(row[first], row[second]) for first, second in pairs if first in row and second in row]
    return Outline(kept, inner, [sum(numbers[other] == 1 for other in bound[atom]) for atom in kept])


def best_fit(ways: Sequence[list[Bond]], positions: np.ndarray) -> list[Bond]:
    """The way to place bonds of known classes at which those of high order are the short ones.

    Ways that lengths do not tell apart, such as the two of a nitro group, are forms of one molecule: of these the one
    whose first bonds, by their atoms, have the highest orders is taken, as the SDF of QM9 does.

    Args:
        ways: each the same bonds, sorted, with their classes.
        positions: ``[atom, 3]``, angstrom.
    """

    def strain(bonds: list[Bond]) -> float:
        return sum(_ORDERS[kind] * math.dist(positions[first], positions[second]) for first, second, kind in bonds)

    strains = [strain(bonds) for bonds in ways]
    alike = [bonds for bonds, value in zip(ways, strains, strict=True) if value < min(strains) + _RESONANCE]
    return max(alike, key=lambda bonds: [_ORDERS[kind] for _, _, kind in bonds])
