"""Small molecules with positions computed from lengths and angles, stores and data sets of them; for all tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from se3t.data.molecules.dataset import Property, PropertyData
from se3t.data.molecules.molecule import ARRAY_UNITS, BOND_CLASSES, SPLITS, Molecule, pack, take
from se3t.data.qm9.splits import SPLIT_SIZES
from se3t.data.store import Store, write_store

SINGLE, DOUBLE, TRIPLE, AROMATIC = range(len(BOND_CLASSES))
CORNERS = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3)  # of a tetrahedron
COUNTS = {"train": 20, "valid": 7, "test": 6}


def molecule(numbers: Sequence[int], positions: object, bonds: Sequence[tuple[int, int, int]], name: str) -> Molecule:
    """Bonds as (atom, atom, class)."""
    rows = np.array(bonds, dtype=np.uint16).reshape(-1, 3)
    return Molecule(
        numbers=np.array(numbers, dtype=np.uint8),
        positions=np.array(positions, dtype=np.float32).reshape(-1, 3),
        bonds=np.ascontiguousarray(rows[:, :2]),
        bond_classes=rows[:, 2].astype(np.uint8),
        identifier=name,
        method="by hand",
    )


def star(numbers: Sequence[int], lengths: Sequence[float], name: str) -> Molecule:
    """A central atom with single bonds to the corners of a tetrahedron."""
    outer = CORNERS[: len(lengths)] * np.array(lengths)[:, None]
    bonds = [(0, corner, SINGLE) for corner in range(1, len(numbers))]
    return molecule(numbers, [np.zeros(3), *outer], bonds, name)


def benzene() -> Molecule:
    angles = np.arange(6) * np.pi / 3
    ring = np.stack([np.cos(angles), np.sin(angles), np.zeros(6)], axis=1)
    around = [(place, place + 1, AROMATIC) for place in range(5)] + [(0, 5, AROMATIC)]
    outward = [(place, place + 6, SINGLE) for place in range(6)]
    return molecule([6] * 6 + [1] * 6, np.concatenate([1.39 * ring, 2.48 * ring]), around + outward, "benzene")


def formaldehyde() -> Molecule:
    side = 1.11 * np.array([np.cos(np.pi * 2 / 3), np.sin(np.pi * 2 / 3), 0])
    positions = [(1.21, 0, 0), (0, 0, 0), side, side * (1, -1, 1)]
    return molecule([8, 6, 1, 1], positions, [(0, 1, DOUBLE), (1, 2, SINGLE), (1, 3, SINGLE)], "formaldehyde")


METHANE = star([6, 1, 1, 1, 1], [1.09] * 4, "methane")
WATER = star([8, 1, 1], [0.96] * 2, "water")
AMMONIA = star([7, 1, 1, 1], [1.01] * 3, "ammonia")
FLUOROMETHANE = star([6, 9, 1, 1, 1], [1.38, 1.09, 1.09, 1.09], "fluoromethane")
FORMALDEHYDE = formaldehyde()
CYANIDE = molecule(
    [1, 6, 7], [(-1.07, 0, 0), (0, 0, 0), (1.16, 0, 0)], [(0, 1, SINGLE), (1, 2, TRIPLE)], "hydrogen cyanide"
)
BENZENE = benzene()
ATOM = molecule([8], [(0.5, -0.5, 2.0)], [], "one atom")
APART = molecule([1, 1], [(0, 0, 0), (0, 0, 3)], [], "two atoms without a bond")
MOLECULES = (METHANE, ATOM, WATER, BENZENE, AMMONIA, APART, FORMALDEHYDE, FLUOROMETHANE, CYANIDE)


def shaken(one: Molecule, random: np.random.Generator) -> Molecule:
    """The same molecule turned at random, its atoms moved by about 0.05 Å."""
    rotation = np.linalg.qr(random.normal(size=(3, 3)))[0]
    moved = one.positions @ rotation.T + random.normal(scale=0.05, size=one.positions.shape)
    return Molecule(one.numbers, moved.astype(np.float32), one.bonds, one.bond_classes, one.identifier, one.method)


def crowd(count: int, seed: int = 0, kinds: Sequence[Molecule] = MOLECULES) -> list[Molecule]:
    """``count`` shaken molecules, every kind in turn."""
    random = np.random.default_rng(seed)
    return [shaken(kinds[number % len(kinds)], random) for number in range(count)]


def repulsion(one: Molecule) -> float:
    """Something to learn that depends on elements and distances: Σ_{i<j} Z_i Z_j / d_ij."""
    charges = one.numbers.astype(float)
    first, second = np.triu_indices(len(one), k=1)
    positions = one.positions.astype(float)
    distance = np.linalg.norm(positions[first] - positions[second], axis=1)
    return float((charges[first] * charges[second] / distance).sum())


def store(
    molecules: Sequence[Molecule],
    split: Sequence[str],
    columns: Mapping[str, Sequence[float | None]],
    *,
    kind: str = "qm9",
    column_units: Mapping[str, str] | None = None,
) -> Store:
    """What ``se3t data prepare`` makes of these molecules.

    Args:
        molecules: in the order of their numbers, from 1.
        split: of every molecule.
        columns: values of every molecule, by name of the column; None where the table has none.
        kind: ``qm9`` or ``molecules``.
        column_units: where they are known.
    """
    table = [[np.nan if value is None else float(value) for value in values] for values in columns.values()]
    targets = np.array(table, dtype=np.float64).reshape(len(columns), len(molecules)).T
    arrays = {
        **pack(molecules),
        "mol_id": np.arange(1, len(molecules) + 1),
        "split": np.array([SPLITS.index(word) for word in split], dtype=np.uint8),
        "targets": np.nan_to_num(targets),
        "known": (~np.isnan(targets)).astype(np.uint8),
    }
    settings = {"columns": list(columns), "column_units": dict(column_units or {}), "raw": {}}
    return Store(kind=kind, arrays=arrays, settings=settings, units=ARRAY_UNITS, provenance={})


def write(path: Path, *arguments: object, **options: object) -> Store:
    """Write :func:`store` to ``path`` and return it."""
    made = store(*arguments, **options)  # type: ignore[arg-type]
    write_store(path, made)
    return made


def split_words(counts: Mapping[str, int]) -> list[str]:
    """The split of every molecule, those of one split one behind the other."""
    return [split for split, count in counts.items() for _ in range(count)]


def property_data(
    molecules: Sequence[Molecule] | None = None,
    counts: Mapping[str, int] = COUNTS,
    values: Sequence[float] | None = None,
    kind: str = "qm9",
) -> PropertyData:
    """Molecules in memory, as a task wants them; by default a crowd, and :func:`repulsion` to learn."""
    molecules = crowd(sum(counts.values())) if molecules is None else molecules
    values = [repulsion(one) for one in molecules] if values is None else values
    words = np.array(split_words(counts))
    made = store(molecules, list(words), {"value": values}, kind=kind)
    return PropertyData(
        kind=kind,
        arrays=made.arrays,
        values=made.arrays["targets"],
        splits={name: np.flatnonzero(words == name) for name in SPLITS},
        properties=(Property("value", "V", "meV"),),
        checksum=made.checksum,
        official=SPLIT_SIZES if kind == "qm9" else {},
    )


def without(data: PropertyData, split: str) -> PropertyData:
    """The same data with one split left out."""
    chosen = np.setdiff1d(np.arange(len(data.values)), data.splits[split])
    arrays = take(data.arrays, chosen)
    codes = {name: np.flatnonzero(arrays["split"] == code) for code, name in enumerate(SPLITS)}
    return PropertyData(data.kind, arrays, data.values[chosen], codes, data.properties, data.checksum, data.official)
