"""Whether a geometry can be one in angstrom: distances against covalent radii. Imports neither torch nor rdkit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from se3t.data.molecules.closeness import CLOSE, CLOSEST, NOBLE_GASES, out_of_limits, ratios
from se3t.data.molecules.conversion import covalent_radii
from se3t.data.molecules.molecule import ELEMENTS, Molecule

_NEAREST = 12  # atoms around one that are looked at
_FARTHEST = 10.0  # angstrom between parts of a molecule
_USUAL_TO_HYDROGEN = (0.93, 1.1)  # mean ratio of bonds to hydrogen (QM9: 0.99 to 1.04)


def lone_atoms(numbers: np.ndarray, positions: np.ndarray, exempt: np.ndarray | None = None) -> str:
    """That two atoms are on top of each other, or one is bound to no other; or nothing.

    Args:
        numbers: ``[atom]`` atomic numbers.
        positions: ``[atom, 3]``, angstrom.
        exempt: ``[atom]`` those that may be alone; noble gases may in any case.
    """
    from scipy.spatial import cKDTree

    if len(numbers) < 2:
        return ""
    radii, count = covalent_radii()[numbers], min(len(numbers), _NEAREST)
    near = cKDTree(positions).query(positions, k=count)[1]  # [atom, near]
    first = np.repeat(np.arange(len(numbers)), count)
    values = ratios(positions, radii, first, near.ravel()).reshape(near.shape)
    values[near == np.arange(len(numbers))[:, None]] = np.inf
    nearest = values.argmin(axis=1)
    values = np.take_along_axis(values, nearest[:, None], axis=1)[:, 0]
    alone = (values > CLOSE[-1]) & ~np.isin(numbers, list(NOBLE_GASES))
    wrong = (values < CLOSEST) | (alone if exempt is None else alone & ~exempt)
    for atom in np.flatnonzero(wrong)[:1].tolist():
        return _apart(numbers, positions, atom, int(near[atom, nearest[atom]]))
    return ""


def implausible(molecule: Molecule) -> str:
    """Why the positions can be none of this molecule in angstrom, in a few words; or nothing."""
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
    """What is strange about a geometry that may be right."""
    numbers = molecule.numbers[molecule.bonds]
    chosen = (numbers == 1).sum(axis=1) == 1
    if (
        chosen.any()
        and not _USUAL_TO_HYDROGEN[0] <= (mean := _ratios(molecule)[chosen].mean()) <= _USUAL_TO_HYDROGEN[1]
    ):
        yield f"bonds to hydrogen: {abs(mean - 1):.0%} {'longer' if mean > 1 else 'shorter'} than usual"


def parts(molecule: Molecule) -> np.ndarray:
    """The part that each atom belongs to, ``[atom]``, from 0: parts are bound within and not to each other."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    pairs = molecule.bonds.astype(np.int32)
    shape = (len(molecule), len(molecule))
    joined = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=shape)
    return np.asarray(connected_components(joined, directed=False)[1])


def _ratios(molecule: Molecule) -> np.ndarray:
    radii, bonds = covalent_radii()[molecule.numbers], molecule.bonds.astype(np.int64)
    return ratios(molecule.positions.astype(np.float64), radii, bonds[:, 0], bonds[:, 1])


def _gap(positions: np.ndarray, labels: np.ndarray) -> float:
    """Largest distance of a part from all the others."""
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
