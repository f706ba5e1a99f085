"""Molecules of your own: a file of them, and the columns of a CSV table or of its data fields. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from se3t.data.molecules import building
from se3t.data.molecules.building import (
    UNITS,
    Chunk,
    build,
    checksum_of,
    chunk_of,
    load,
    provenance,
    save,
)
from se3t.data.molecules.chemistry import constitutions
from se3t.data.molecules.inputs import CHUNK_SIZES, entries_of, format_of, iter_records
from se3t.data.molecules.labels import Labels, read_labels
from se3t.data.molecules.molecule import SPLITS, Refusal
from se3t.data.molecules.readers import Record
from se3t.data.molecules.tables import shown
from se3t.data.progress import progress_bar
from se3t.data.store import Store, make_folder
from se3t.errors import UserError
from se3t.experiments.molecules import DATA

_EXPECTED = (
    "a folder with one file of molecules (.sdf, .mol, .xyz or .smi, also with .gz) and at most one .csv file, or one "
    "such file; a .csv file with a column smiles may stand alone"
)
_SPLIT = ("valid_fraction", "test_fraction", "split_seed")
_RULES = 2  # how rows and splits are found; a store made by other rules is not found again
_LISTED = 3  # names that a note gives
_METHODS = {
    "sdf": "bonds of {}, aromatic ones perceived by RDKit",
    "xyz": "bonds of {} perceived by RDKit",
    "smiles": "bonds of {}; positions embedded and relaxed by RDKit",
}
_EMBEDDED = "positions are made by RDKit from SMILES (ETKDGv3, then MMFF94 or UFF): no geometries of a calculation"


def store_path(config: Any) -> Path:
    """File of the prepared data: <data.root>/molecules/<name of data.raw>-<digest of the inputs and settings>.h5.

    Raises:
        UserError: ``data.raw`` is not given, not found, or holds something else.
    """
    return _path(config, _Source.of(config))


def prepare_molecules(config: Any, progress: bool = True, force: bool = False) -> Store:
    """The store of the molecules; where it is missing it is made first, and the log says of what.

    Args:
        config: a ``se3t.config.MoleculesData``, or an OmegaConf node with its fields.
        progress: show a progress bar on standard error.
        force: make it even where a store exists, and replace it.

    Returns:
        What is in the store at :func:`store_path`, verified or just written.

    Raises:
        UserError: the files are missing, damaged, do not fit each other or hold no number; a damaged store (and no
            ``force``); a folder that cannot be written.
    """
    source = _Source.of(config)
    path = _path(config, source)
    if path.exists() and not force:
        return read_molecules_store(config)
    labels = read_labels(source.molecules, source.table, config.key)
    make_folder(path.parent)  # before the work, and not before a look at what was given
    return save(path, _make_store(config, source, labels, progress))


def read_molecules_store(config: Any) -> Store:
    """Read and verify the store of the molecules.

    Raises:
        UserError: it is missing, damaged or of another version; the message says which command makes it.
    """
    path = store_path(config)
    return load(path, DATA.name, fix=DATA.prepare_command(config, force=path.exists()))


def summary(store: Store) -> dict[str, Any]:
    """See :func:`se3t.data.molecules.building.summary`."""
    units, targets = store.settings["column_units"], store.arrays["targets"]
    columns = {name: (units[name], targets[:, place]) for place, name in enumerate(store.settings["columns"])}
    return building.summary(store, store.provenance["name"], columns)


# --- files ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Source:
    """The files, and their SHA-256 by name."""

    name: str
    molecules: Path
    table: Path | None
    checksums: dict[str, str]

    @classmethod
    def of(cls, config: Any) -> _Source:
        if config.raw is None:
            raise UserError(f"data.raw: a value is missing; expected {_EXPECTED}: add data.raw=…")
        path = Path(config.raw).expanduser()
        molecules, table = _in_folder(path) if path.is_dir() else (path, None)
        if molecules is None or not molecules.is_file() or not format_of(molecules):
            what = "holds no such file" if path.is_dir() else "is none" if path.exists() else "not found"
            raise UserError(f"data.raw={config.raw}: {what}; expected {_EXPECTED}")
        files = [file for file in (molecules, table) if file is not None]
        return cls(path.resolve().stem, molecules, table, {file.name: checksum_of(file) for file in files})

    @property
    def format(self) -> str:
        """``sdf``, ``xyz`` or ``smiles``, of a table too."""
        found = format_of(self.molecules)
        return "smiles" if found == "table" else found


def _in_folder(folder: Path) -> tuple[Path | None, Path | None]:
    """File of molecules and table; a table alone holds the molecules."""
    known = [
        path for path in sorted(folder.iterdir()) if not path.name.startswith(".") and path.suffix.lower() != ".txt"
    ]
    tables = [path for path in known if format_of(path) == "table"]
    molecules = [path for path in known if format_of(path) not in ("", "table")]
    for found, what in ((molecules, "files of molecules"), (tables, ".csv files")):
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise UserError(f"data.raw={folder}: holds {len(found)} {what} ({names}); expected {_EXPECTED}")
    table = tables[0] if tables else None
    return (molecules[0], table) if molecules else (table, None)


def _path(config: Any, source: _Source) -> Path:
    content = json.dumps(
        [_RULES, sorted(source.checksums.values()), config.key, _split_settings(config)], sort_keys=True
    )
    digest = hashlib.sha256(content.encode()).hexdigest()[:12]
    return Path(config.root) / DATA.name / f"{source.name}-{digest}.h5"


def _split_settings(config: Any) -> dict[str, Any]:
    return {name: getattr(config, name) for name in _SPLIT}


# --- the store ------------------------------------------------------------------------------------------------


def _labelled(source: _Source, labels: Labels) -> Iterator[Record]:
    """The records of the file with their numbers."""
    for record, values in zip(iter_records(source.molecules), labels.values, strict=True):
        yield replace(record, values=tuple(values.tolist()))


def _chunk(records: list[Record]) -> list[Chunk]:
    """Molecules under the rules of :func:`se3t.deploy.predict.predict`: no model learns from what it would refuse."""
    outcomes = [
        Refusal(entry.identifier, entry.problem)
        if entry.molecule is None
        else replace(entry.molecule, notes=entry.notes)
        for entry in entries_of(records)
    ]
    return [chunk_of(records, outcomes)]


def _make_store(config: Any, source: _Source, labels: Labels, progress: bool) -> Store:
    name = source.molecules.name
    with progress_bar(progress, f"molecules of {name}", len(labels.values)) as advance:
        built = build(
            _chunk,
            _labelled(source, labels),
            len(labels.names),
            workers=config.workers,
            advance=advance,
            chunk_size=CHUNK_SIZES[source.format],
        )
    if not len(built.arrays["mol_id"]):
        reason = built.refused[0]["reason"]
        raise UserError(
            f"{source.molecules}: none of its molecules can be used (the first: {reason}); nothing was written"
        )
    groups, split_notes = _groups(constitutions(built.arrays), labels, built.arrays["mol_id"])
    split = random_split(groups, **_split_settings(config))
    split_notes += [*_train_notes(groups, split), *_value_notes(built.arrays, labels.names)]
    settings = {
        "columns": labels.names,
        "column_units": dict.fromkeys(labels.names, ""),
        "raw": source.checksums,
        "split": _split_settings(config),
    }
    origin = provenance(built, _METHODS[source.format].format(name))
    notes = [*labels.notes, *([_EMBEDDED] if source.format == "smiles" else []), *split_notes]
    origin |= {"name": source.name, "notes": notes, "skipped": labels.skipped}
    return Store(DATA.name, {**built.arrays, "split": split}, settings, UNITS, origin)


# --- splits ---------------------------------------------------------------------------------------------------


def molecule_groups(names: Sequence[Sequence[str]]) -> np.ndarray:
    """Which records are of one molecule: those that have any name in common.

    Args:
        names: lists of one name for every record, "" for none; names of different lists have nothing in common.

    Returns:
        ``[record]`` number of its group, from 0 in the order of the first record.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(names[0])
    nodes: dict[tuple[int, str], int] = {}
    edges = [
        (row, count + nodes.setdefault((place, value), len(nodes)))
        for place, values in enumerate(names)
        for row, value in enumerate(values)
        if value
    ]
    size, (rows, columns) = count + len(nodes), np.array(edges, dtype=np.int64).reshape(-1, 2).T
    joined = coo_array((np.ones(len(edges)), (rows, columns)), shape=(size, size))
    found = connected_components(joined, directed=False)[1][:count]
    _, first, inverse = np.unique(found, return_index=True, return_inverse=True)
    return np.asarray(np.argsort(np.argsort(first))[inverse])


def random_split(groups: np.ndarray, *, valid_fraction: float, test_fraction: float, split_seed: int) -> np.ndarray:
    """A random split: parts for validation and test rounded up, so that none asked for is empty; the rest trains.

    Args:
        groups: ``[molecule]`` number of its group, from 0. All molecules of a group are in the same split.
        valid_fraction: part of the groups.
        test_fraction: part of the groups.
        split_seed: of the choice.

    Returns:
        ``[molecule]`` uint8: 0 train, 1 valid, 2 test.
    """
    count = int(groups.max(initial=-1)) + 1
    num_valid, num_test = (math.ceil(count * fraction - 1e-9) for fraction in (valid_fraction, test_fraction))
    order = np.random.RandomState(split_seed % 2**32).permutation(count)
    split = np.zeros(count, dtype=np.uint8)
    split[order[: num_test + num_valid]] = 1
    split[order[:num_test]] = 2
    return np.asarray(split[groups])


def _groups(structures: Sequence[str], labels: Labels, numbers: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Groups by structure and name, and what to say of them; without names that tie most of the molecules together."""
    names, count = [labels.identifiers[number - 1] for number in numbers], len(numbers)
    alone, groups = molecule_groups([structures]), molecule_groups([structures, names])
    notes = [*_name_notes(names, structures)]
    if np.bincount(alone).max() <= count / 2 < np.bincount(groups).max():
        notes.append("these names do not count for splits: they tie most records together")
        groups = alone
    return groups, [*_group_notes(groups), *notes]


def _group_notes(groups: np.ndarray) -> Iterator[str]:
    sizes = np.bincount(groups)
    if len(sizes) < len(groups):
        yield (
            f"splits: {len(groups):,} records of {len(sizes):,} molecules (same name, or same atoms connected by bonds "
            f"of any order; up to {sizes.max():,} records each); all records of a molecule are in one split"
        )


def _train_notes(groups: np.ndarray, split: np.ndarray) -> Iterator[str]:
    if not (split == 0).any():
        _, valid, test = (len(np.unique(groups[split == number])) for number in range(len(SPLITS)))
        yield (
            f"no molecule is left for training: of {valid + test:,}, {valid:,} for validation and "
            f"{test:,} for test; add molecules, or give data.test_fraction=0 or smaller fractions"
        )


def _value_notes(arrays: dict[str, np.ndarray], columns: Sequence[str]) -> Iterator[str]:
    """That records of the same atoms at the same places have different values."""
    ends = np.cumsum(arrays["num_atoms"])[:-1]
    geometries = zip(np.split(arrays["numbers"], ends), np.split(arrays["positions"], ends), strict=True)
    first: dict[tuple[bytes, bytes], int] = {}
    found = []
    for row, (numbers, positions) in enumerate(geometries):
        other = first.setdefault((numbers.tobytes(), positions.tobytes()), row)
        known = (arrays["known"][row] & arrays["known"][other]) > 0
        if (differing := known & (arrays["targets"][row] != arrays["targets"][other])).any():
            found.append((other, row, int(differing.argmax())))
    for other, row, place in found[:1]:
        pair = f"{arrays['mol_id'][other]:,} and {arrays['mol_id'][row]:,}"
        yield (
            f"{len(found):,} {'records have' if len(found) > 1 else 'record has'} the geometry of an earlier one and "
            f"other values (the first: records {pair}, column {columns[place]!r}): is one of them wrong?"
        )


def _name_notes(names: Sequence[str], structures: Sequence[str]) -> Iterator[str]:
    found: dict[str, set[str]] = {}
    for name, structure in zip(names, structures, strict=True):
        found.setdefault(name, set()).add(structure)
    if shared := [name for name, several in found.items() if name and len(several) > 1]:
        yield (
            f"different molecules (by atoms and bonds) have the same name, {', '.join(map(shown, shared[:_LISTED]))}"
            f"{', …' if len(shared) > _LISTED else ''}: are they meant to share a value?"
        )
