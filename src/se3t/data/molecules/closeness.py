"""Distances of atoms against their covalent radii: which are bound, and whether a geometry can be one in angstrom.

The ratio of a pair of atoms is their distance divided by the sum of their covalent radii. Imports neither torch nor
rdkit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from se3t.data.molecules.conversion import covalent_radii
from se3t.data.molecules.molecule import ELEMENTS, Bond, Molecule

CLOSE = (1.15, 1.3)
"""Ratios up to which a pair counts as bound, in the order tried."""
CLOSEST = 0.7
"""Ratio below that of any bond: triple bonds are at 0.79."""

NOBLE_GASES = frozenset((2, 10, 18, 36, 54, 86))
"""Elements whose atoms may be unbound."""

LIMITS = ((0.76, 1.35), (0.72, 1.1), (0.7, 0.95), (0.76, 1.35))
"""Ratios between which bonds of each class are (QM9: 0.84 to 1.22, 0.82 to 1.04, 0.78 to 0.81, 0.83 to 1.29)."""
LIMITS_TO_HYDROGEN = (0.85, 1.25)
"""The same for bonds to hydrogen (QM9: 0.98 to 1.17)."""

_FLAT = 0.01  # angstrom
_DRAWN_LENGTH = 1.5  # angstrom, by RDKit
_TETRAHEDRAL = frozenset((5, 6, 7, 14, 15, 32))

_ORDERS = (1.0, 2.0, 3.0, 1.5)  # of the bond classes
_NEAREST = 12  # nearest atoms to compare
_FARTHEST = 10.0  # angstrom between parts of a molecule
_USUAL_TO_HYDROGEN = (0.93, 1.1)  # mean ratio of bonds to hydrogen (QM9: 0.99 to 1.04)
_RESONANCE = 0.1  # angstrom: resonance forms of a nitro group differ by less, forms of cyclobutadiene by more


def ratios(numbers: np.ndarray, positions: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Ratios of the pairs ``first[k], second[k]``.

    Args:
        numbers: ``[atom]`` atomic numbers.
        positions: ``[atom, 3]``, angstrom.
        first: ``[pair]`` atoms.
        second: ``[pair]`` atoms.
    """
    radii = covalent_radii()[numbers]
    distances = np.linalg.norm(positions[first] - positions[second], axis=1)
    return np.asarray(distances / (radii[first] + radii[second]))


def out_of_limits(values: np.ndarray, to_hydrogen: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Which bonds are too short or too long.

    Args:
        values: ``[bond]`` ratios.
        to_hydrogen: ``[bond]`` whether one of its atoms is hydrogen.
        classes: ``[bond]``.
    """
    limits = np.where(to_hydrogen[:, None], LIMITS_TO_HYDROGEN, np.array(LIMITS)[classes])  # [bond, 2]
    return np.asarray((values < limits[:, 0]) | (values > limits[:, 1]))


def looks_drawn(numbers: np.ndarray, positions: np.ndarray, bonds: Sequence[Bond]) -> bool:
    """Whether atoms in the plane z = 0 are a drawing and not a planar molecule.

    A drawing has bonds of impossible length, or one length for bonds of different elements, or an atom with four
    neighbours in a plane.

    Args:
        numbers: ``[atom]`` atomic numbers.
        positions: ``[atom, 3]``, angstrom.
        bonds: at least one.
    """
    if np.ptp(positions[:, 2]) > _FLAT or not bonds:
        return False
    table = np.array(bonds)
    pairs, classes = table[:, :2], table[:, 2]
    lengths = np.linalg.norm(positions[pairs[:, 0]] - positions[pairs[:, 1]], axis=1)
    values = ratios(numbers, positions, pairs[:, 0], pairs[:, 1])
    if out_of_limits(values, (numbers[pairs] == 1).any(axis=1), classes).any():
        return True
    crowded = np.bincount(pairs.ravel(), minlength=len(numbers)) > 3
    if any(crowded[atom] and number in _TETRAHEDRAL for atom, number in enumerate(numbers.tolist())):
        return True
    kinds = {tuple(sorted(pair)) for pair in numbers[pairs].tolist()}
    alike = np.ptp(lengths) < 0.01 * lengths.mean()
    return bool(alike and (len(kinds) > 1 or abs(lengths.mean() - _DRAWN_LENGTH) < 2e-3))


def pairs_by_closeness(numbers: np.ndarray, positions: np.ndarray) -> tuple[list[tuple[int, int]], np.ndarray]:
    """All pairs of atoms by their ratio, the closest first, and the ratios."""
    first, second = np.triu_indices(len(positions), 1)
    values = ratios(numbers, positions, first, second)
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
    """The graph without hydrogens; unchanged if a hydrogen is not bound to exactly one atom of another element."""
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
    """The assignment of bond classes in which bonds of high order are short.

    Assignments that lengths do not distinguish, such as the two of a nitro group, are forms of one molecule: of these
    the one whose first bonds, by their atoms, have the highest orders is taken, as in the SDF of QM9.

    Args:
        ways: each the same bonds, sorted, with their classes.
        positions: ``[atom, 3]``, angstrom.
    """

    def strain(bonds: list[Bond]) -> float:
        return sum(_ORDERS[kind] * math.dist(positions[first], positions[second]) for first, second, kind in bonds)

    strains = [strain(bonds) for bonds in ways]
    alike = [bonds for bonds, value in zip(ways, strains, strict=True) if value < min(strains) + _RESONANCE]
    return max(alike, key=lambda bonds: [_ORDERS[kind] for _, _, kind in bonds])


# --- whether a geometry is plausible ------------------------------------------------------------------------------


def lone_atoms(numbers: np.ndarray, positions: np.ndarray, exempt: np.ndarray | None = None) -> str:
    """That two atoms overlap, or one is bound to no other, or "".

    Args:
        numbers: ``[atom]`` atomic numbers.
        positions: ``[atom, 3]``, angstrom.
        exempt: ``[atom]`` whether an atom may be alone; noble gases always may.
    """
    from scipy.spatial import cKDTree

    if len(numbers) < 2:
        return ""
    count = min(len(numbers), _NEAREST)
    near = cKDTree(positions).query(positions, k=count)[1]  # [atom, near]
    first = np.repeat(np.arange(len(numbers)), count)
    values = ratios(numbers, positions, first, near.ravel()).reshape(near.shape)
    values[near == np.arange(len(numbers))[:, None]] = np.inf
    nearest = values.argmin(axis=1)
    values = np.take_along_axis(values, nearest[:, None], axis=1)[:, 0]
    alone = (values > CLOSE[-1]) & ~np.isin(numbers, list(NOBLE_GASES))
    wrong = (values < CLOSEST) | (alone if exempt is None else alone & ~exempt)
    for atom in np.flatnonzero(wrong)[:1].tolist():
        return _apart(numbers, positions, atom, int(near[atom, nearest[atom]]))
    return ""


def implausible(molecule: Molecule) -> str:
    """Why the positions cannot be those of this molecule in angstrom, in a few words, or ""."""
    numbers, positions, bonds = molecule.numbers, molecule.positions.astype(np.float64), molecule.bonds
    unbound = np.bincount(bonds.ravel(), minlength=len(molecule)) == 0
    if reason := lone_atoms(numbers, positions, unbound):
        return reason
    wrong = out_of_limits(_ratios(molecule), (numbers[bonds] == 1).any(axis=1), molecule.bond_classes)
    for first, second in bonds[wrong][:1].tolist():
        return _apart(numbers, positions, first, second)
    distance = _gap(positions, parts(molecule))
    return f"parts of it are {distance:.1f} angstrom apart: not one molecule" if distance > _FARTHEST else ""


def unusual(molecule: Molecule) -> Iterator[str]:
    """Remarks on an unusual geometry that may be right."""
    numbers = molecule.numbers[molecule.bonds]
    chosen = (numbers == 1).sum(axis=1) == 1
    if (
        chosen.any()
        and not _USUAL_TO_HYDROGEN[0] <= (mean := _ratios(molecule)[chosen].mean()) <= _USUAL_TO_HYDROGEN[1]
    ):
        yield f"bonds to hydrogen: {abs(mean - 1):.0%} {'longer' if mean > 1 else 'shorter'} than usual"


def parts(molecule: Molecule) -> np.ndarray:
    """Connected part of each atom, ``[atom]``, from 0."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    pairs = molecule.bonds.astype(np.int32)
    shape = (len(molecule), len(molecule))
    joined = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=shape)
    return np.asarray(connected_components(joined, directed=False)[1])


def _ratios(molecule: Molecule) -> np.ndarray:
    bonds = molecule.bonds.astype(np.int64)
    return ratios(molecule.numbers, molecule.positions.astype(np.float64), bonds[:, 0], bonds[:, 1])


def _gap(positions: np.ndarray, labels: np.ndarray) -> float:
    """Largest distance of a part from all others."""
    from scipy.spatial import cKDTree

    gaps = [0.0]
    for part in range(int(labels.max()) + 1 if labels.max() else 0):
        inside = labels == part
        gaps.append(float(cKDTree(positions[~inside]).query(positions[inside])[0].min()))
    return max(gaps)


def _apart(numbers: np.ndarray, positions: np.ndarray, first: int, second: int) -> str:
    radii = covalent_radii()[numbers]
    distance = np.linalg.norm(positions[first] - positions[second])
    one, other = (f"{atom + 1} ({ELEMENTS[numbers[atom] - 1]})" for atom in sorted((first, second)))
    return (
        f"atoms {one} and {other} are {distance:.2f} angstrom apart, expected about {radii[first] + radii[second]:.2f} "
        "for a bond: not a geometry in angstrom"
    )
