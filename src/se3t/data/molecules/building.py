"""Build the flat arrays of a molecule store from records of files, in parallel. Imports neither torch nor rdkit."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from se3t.data.molecules.chemistry import molecule_from_block
from se3t.data.molecules.conversion import rdkit_version
from se3t.data.molecules.inputs import no_geometry
from se3t.data.molecules.molecule import ARRAY_UNITS, SPLITS, Molecule, Refusal, kind_of, pack, take
from se3t.data.molecules.parallel import map_chunks
from se3t.data.molecules.readers import Record
from se3t.data.store import Store, read_store
from se3t.errors import UserError

UNITS = {
    **ARRAY_UNITS,
    "mol_id": "number of the molecule in its source, from 1",
    "split": ", ".join(f"{number} {name}" for number, name in enumerate(SPLITS)),
    "targets": "by column: see column_units in the settings; 0 where unknown",
    "known": "1 where targets holds a value, else 0",
}
"""The arrays of a molecule store, and the unit of each."""

BONDS_VERSION = 2
"""Version of the rules that find bonds, kept in the provenance of a store; 1 or none: without a normal form."""

_LOG = logging.getLogger(__name__)
_LISTED = 5  # refused molecules that a summary names


Made = tuple[Record, Molecule | Refusal]
"""A record with its values, and its molecule or why there is none."""


@dataclass(frozen=True)
class _Chunk:
    """The result for some records; ``last`` is the number of the last one."""

    arrays: dict[str, np.ndarray]
    refused: list[dict[str, Any]]
    methods: Counter[str]
    warnings: Counter[str]
    last: int


def build(
    make: Callable[[Record], Made],
    records: Iterable[Record],
    num_columns: int,
    *,
    workers: int | None,
    advance: Callable[[int], object],
    chunk_size: int = 500,
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Build all molecules, in the order of their numbers.

    Args:
        make: builds one molecule, in a worker process: see :func:`from_block`. One without 3-D coordinates is refused.
        records: in any order.
        num_columns: number of values per record.
        workers: number of processes; None for one per core.
        advance: called with the number of the molecule reached.
        chunk_size: number of records in a chunk.

    Returns:
        The arrays of ``UNITS`` except ``split``, and their provenance: versions, ``methods`` (number of molecules by
        how their bonds were found), ``warnings`` (number of molecules by kind of note), ``refused`` (``mol_id``,
        ``identifier`` and ``reason`` of each molecule that could not be built).

    Raises:
        UserError: reading the records failed, or two have the same number.
    """
    function = partial(_chunk, make, num_columns)
    chunks = function([])
    for chunk in map_chunks(function, records, workers=workers, chunk_size=chunk_size):
        chunks.append(chunk)
        advance(chunk.last)
    arrays = {name: np.concatenate([chunk.arrays[name] for chunk in chunks]) for name in chunks[0].arrays}
    refused = sorted((item for chunk in chunks for item in chunk.refused), key=itemgetter("mol_id"))
    numbers = np.sort([*arrays["mol_id"].tolist(), *(item["mol_id"] for item in refused)])
    if len(twice := numbers[1:][np.diff(numbers) == 0]):
        raise UserError(f"molecule {twice[0]} occurs twice in the raw data, expected every number once")
    facts = {
        "rdkit": rdkit_version(),
        "bonds_version": BONDS_VERSION,
        "methods": dict(sorted(sum((chunk.methods for chunk in chunks), Counter()).items())),
        "warnings": dict(sorted(sum((chunk.warnings for chunk in chunks), Counter()).items())),
        "refused": refused,
    }
    return take(arrays, np.argsort(arrays["mol_id"], kind="stable")), facts


def from_block(record: Record) -> Made:
    """The molecule of a record whose content is a mol block."""
    return record, molecule_from_block(record.identifier, record.content)


def _chunk(make: Callable[[Record], Made], num_columns: int, records: list[Record]) -> list[_Chunk]:
    kept: list[tuple[Record, Molecule]] = []
    refused = []
    for record, outcome in map(make, records):
        reason = outcome.reason if isinstance(outcome, Refusal) else no_geometry(outcome)
        if reason or isinstance(outcome, Refusal):
            refused.append({"mol_id": record.index, "identifier": outcome.identifier, "reason": reason})
        else:
            kept.append((record, outcome))
    targets = np.array([record.values for record, _ in kept], dtype=np.float64).reshape(len(kept), num_columns)
    known, molecules = ~np.isnan(targets), [molecule for _, molecule in kept]
    arrays = pack(molecules) | {
        "mol_id": np.array([record.index for record, _ in kept], dtype=np.int64),
        "targets": np.where(known, targets, 0.0),
        "known": known.astype(np.uint8),
    }
    warnings = Counter(kind for molecule in molecules for kind in {*map(kind_of, molecule.notes)})
    last = records[-1].index if records else 0
    return [_Chunk(arrays, refused, Counter(molecule.method for molecule in molecules), warnings, last)]


# --- what is printed ------------------------------------------------------------------------------------------


def split_sizes(split: np.ndarray) -> dict[str, int]:
    """Number of molecules of each split."""
    return dict(zip(SPLITS, np.bincount(split, minlength=len(SPLITS)).tolist(), strict=True))


def mean_error(train: np.ndarray, values: np.ndarray) -> float:
    """Mean absolute error, on ``values``, of predicting the mean of ``train``; NaN where either is empty."""
    return float(np.abs(values - train.mean()).mean()) if len(train) and len(values) else math.nan


def trivial_errors(values: np.ndarray, known: np.ndarray, split: np.ndarray) -> dict[str, float]:
    """Errors of predicting the mean of the training split.

    Args:
        values: ``[molecule]`` float64.
        known: ``[molecule]``, true where there is a value.
        split: ``[molecule]``, index into ``SPLITS``.

    Returns:
        ``mean`` and ``std`` of train, ``mae_valid`` and ``mae_test``; NaN where there is
        no value.
    """
    train, valid, test = (values[(split == number) & known.astype(bool)] for number in range(len(SPLITS)))
    mean, std = (float(train.mean()), float(train.std())) if len(train) else (math.nan, math.nan)
    return {"mean": mean, "std": std, "mae_valid": mean_error(train, valid), "mae_test": mean_error(train, test)}


def provenance_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """Further facts of a store, a line each: notes, how bonds were found, warnings, the first refused molecules.

    Args:
        facts: provenance of the store, or its summary.
    """
    from se3t.screen import one_line  # which loads rich

    yield from facts["notes"]
    yield "bonds: " + ", ".join(f"{count:,} {method}" for method, count in facts["methods"].items())
    if warnings := facts.get("warnings"):  # earlier stores do not count them
        yield "warnings: " + ", ".join(f"{kind} ({count:,})" for kind, count in Counter(warnings).most_common())
    refused = facts["refused"]
    yield f"refused: {len(refused):,}"
    for item in refused[:_LISTED]:
        name = f" ({item['identifier']})" if item["identifier"] else ""
        yield one_line(f"  molecule {item['mol_id']}{name}: {item['reason']}")
    if len(refused) > _LISTED:
        yield f"  and {len(refused) - _LISTED} more, listed in the provenance of the store"


def summary(
    store: Store,
    title: str,
    columns: Mapping[str, tuple[str, np.ndarray]],
    official: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """What is printed with the data set, as plain values.

    Args:
        store: the molecules.
        title: name of the data set.
        columns: unit and values by column, in the order of the store.
        official: sizes of the splits of the whole data set.

    Returns:
        ``title``, ``checksum``, ``sizes`` of the splits and their ``official`` sizes, ``methods`` by which bonds were
        found, ``warnings``, ``refused`` molecules, ``notes`` in words, and ``columns``: ``unit`` and
        :func:`trivial_errors` by name.
    """
    split, known = store.arrays["split"], store.arrays["known"]
    rows = {
        name: {"unit": unit, **trivial_errors(values, known[:, place], split)}
        for place, (name, (unit, values)) in enumerate(columns.items())
    }
    return {
        **{name: store.provenance.get(name, {}) for name in ("methods", "warnings", "refused", "notes")},
        "title": title,
        "checksum": store.checksum,
        "sizes": split_sizes(split),
        "official": official,
        "columns": rows,
    }


# --- files ----------------------------------------------------------------------------------------------------


def load(path: Path, kind: str, *, fix: str, columns: Sequence[str] | None = None) -> Store:
    """Read and verify a store of molecules.

    Args:
        path: the file.
        kind: the kind expected.
        fix: the command that rebuilds it.
        columns: required columns; None: any.

    Raises:
        UserError: it is missing, damaged or of another version or layout. One whose bonds were found by other rules is
            read with a warning, so that models trained on it can be resumed and evaluated.
    """
    settings = {} if columns is None else {"columns": columns}
    store = read_store(path, kind, fix=fix, arrays=UNITS, settings=settings)
    if (version := store.provenance.get("bonds_version", 1)) != BONDS_VERSION:
        _LOG.warning(
            "%s: its bonds follow rules of version %s, predictions those of %s; they differ at charged groups such as "
            "nitro; before new trainings make it again with `%s`",
            path, version, BONDS_VERSION, fix,
        )  # fmt: skip
    return store
