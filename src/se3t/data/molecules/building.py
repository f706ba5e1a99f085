"""From records of files to the flat arrays of a molecule store, in parallel. Imports neither torch nor rdkit."""

from __future__ import annotations

import platform
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from se3t import __version__
from se3t.data.molecules.chemistry import molecules_from_blocks, rdkit_version
from se3t.data.molecules.molecule import ARRAY_UNITS, Molecule, Refusal, pack
from se3t.data.molecules.parallel import map_chunks
from se3t.errors import UserError

SPLITS = ("train", "valid", "test")
"""A molecule's split is its place here."""
UNITS = {
    **ARRAY_UNITS,
    "mol_id": "number of the molecule in its source, from 1",
    "split": ", ".join(f"{number} {name}" for number, name in enumerate(SPLITS)),
    "targets": "by column: see column_units in the settings; 0 where unknown",
    "known": "1 where targets holds a value, else 0",
}
"""The arrays of a molecule store, and the unit of each."""

_FLAT = {"numbers": "num_atoms", "positions": "num_atoms", "bonds": "num_bonds", "bond_classes": "num_bonds"}
_LISTED = 5  # refused molecules that a summary names


@dataclass(frozen=True)
class Record:
    """A molecule as it stands in its file.

    Attributes:
        number: its number in the source, from 1.
        identifier: what its file calls it.
        text: what its bonds and atoms are made from: a mol block, or a raw XYZ file.
        values: one per column, NaN where unknown; empty where the text holds them.
        source: what to call it in an error.
    """

    number: int
    identifier: str
    text: str = field(repr=False)
    values: tuple[float, ...] = ()
    source: str = ""


@dataclass(frozen=True)
class Chunk:
    """What was made of some records: arrays of those that could be built, reasons for the others."""

    arrays: dict[str, np.ndarray]
    refused: list[tuple[int, Refusal]]
    methods: Counter[str]
    last: int


@dataclass(frozen=True)
class Built:
    """Molecules in the order of their numbers.

    Attributes:
        arrays: those of ``UNITS`` except ``split``.
        refused: ``mol_id``, ``identifier`` and ``reason`` of each molecule that could not be built.
        methods: how often the bonds were found in which way.
        seconds: what it took.
    """

    arrays: dict[str, np.ndarray]
    refused: list[dict[str, Any]]
    methods: dict[str, int]
    seconds: float


def build(
    function: Callable[[list[Record]], list[Chunk]],
    records: Iterable[Record],
    num_columns: int,
    *,
    workers: int | None,
    advance: Callable[[int], object],
) -> Built:
    """Build all molecules.

    Args:
        function: makes one chunk of a list of records, in a process of its own: :func:`chunk_from_blocks`.
        records: in any order.
        num_columns: number of values per record.
        workers: number of processes; None for one per core.
        advance: is told the number of the molecule that was reached.

    Raises:
        UserError: from reading the records; or two have the same number.
    """
    begin = time.perf_counter()
    chunks = [_chunk([], [], num_columns)]
    for chunk in map_chunks(function, records, workers=workers):
        chunks.append(chunk)
        advance(chunk.last)
    arrays = {name: np.concatenate([chunk.arrays[name] for chunk in chunks]) for name in chunks[0].arrays}
    refused = sorted((pair for chunk in chunks for pair in chunk.refused), key=lambda pair: pair[0])
    numbers = np.sort(np.concatenate([arrays["mol_id"], np.array([number for number, _ in refused], dtype=np.int64)]))
    if len(twice := numbers[1:][np.diff(numbers) == 0]):
        raise UserError(f"molecule {twice[0]} is there twice in the raw data, expected every number once")
    return Built(
        arrays=_sorted_by_number(arrays),
        refused=[{"mol_id": number, "identifier": item.identifier, "reason": item.reason} for number, item in refused],
        methods=dict(sorted(sum((chunk.methods for chunk in chunks), Counter()).items())),
        seconds=time.perf_counter() - begin,
    )


def chunk_from_blocks(records: list[Record]) -> list[Chunk]:
    """Molecules of records whose text is a mol block."""
    outcomes = molecules_from_blocks([(record.identifier, record.text) for record in records])
    values = [record.values for record in records]
    return [chunk_of(records, outcomes, values)]


def chunk_of(
    records: Sequence[Record], outcomes: Sequence[Molecule | Refusal], values: Sequence[Sequence[float]]
) -> Chunk:
    """One chunk of the outcomes for some records, at least one. A molecule without places in space is refused."""
    rows = list(zip(records, map(_in_space, outcomes), values, strict=True))
    kept = [(record.number, outcome, row) for record, outcome, row in rows if isinstance(outcome, Molecule)]
    refused = [(record.number, outcome) for record, outcome, _ in rows if isinstance(outcome, Refusal)]
    return _chunk(kept, refused, len(values[0]), records[-1].number)


def _in_space(outcome: Molecule | Refusal) -> Molecule | Refusal:
    if isinstance(outcome, Molecule) and not outcome.is_3d:
        return Refusal(outcome.identifier, "its atoms have no places in space (a drawing, or all at one point)")
    return outcome


def _chunk(
    kept: Sequence[tuple[int, Molecule, Sequence[float]]],
    refused: list[tuple[int, Refusal]],
    num_columns: int,
    last: int = 0,
) -> Chunk:
    targets = np.array([row for _, _, row in kept], dtype=np.float64).reshape(len(kept), num_columns)
    known = ~np.isnan(targets)
    arrays = pack([molecule for _, molecule, _ in kept])
    arrays["mol_id"] = np.array([number for number, _, _ in kept], dtype=np.int64)
    arrays["targets"] = np.where(known, targets, 0.0)
    arrays["known"] = known.astype(np.uint8)
    return Chunk(arrays, refused, Counter(molecule.method for _, molecule, _ in kept), last)


def _sorted_by_number(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    order = np.argsort(arrays["mol_id"], kind="stable")
    if (order == np.arange(len(order))).all():
        return arrays

    def rows(lengths: np.ndarray) -> np.ndarray:
        ends, new = np.cumsum(lengths, dtype=np.int64), lengths[order].astype(np.int64)
        shift = (ends - lengths)[order] - (np.cumsum(new) - new)  # from the new place of a molecule to its old one
        return np.arange(new.sum()) + np.repeat(shift, new)

    places = {length: rows(arrays[length]) for length in set(_FLAT.values())}
    return {name: array[places[_FLAT[name]] if name in _FLAT else order] for name, array in arrays.items()}


# --- what is printed ------------------------------------------------------------------------------------------


def provenance(built: Built, method: str) -> dict[str, Any]:
    """Where a molecule store comes from: program, versions, time, what was refused."""
    return {
        "program": f"se3t {__version__}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "rdkit": rdkit_version(),
        "machine": platform.machine(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(built.seconds, 3),
        "method": method,
        "methods": built.methods,
        "refused": built.refused,
    }


def split_sizes(split: np.ndarray) -> dict[str, int]:
    """Number of molecules of each split."""
    return dict(zip(SPLITS, np.bincount(split, minlength=len(SPLITS)).tolist(), strict=True))


def trivial_errors(values: np.ndarray, known: np.ndarray, split: np.ndarray) -> dict[str, float | None]:
    """What predicting the mean of the training split reaches on a column.

    Args:
        values: ``[molecule]`` float64.
        known: ``[molecule]``, true where there is a value.
        split: ``[molecule]``, index into ``SPLITS``.

    Returns:
        ``mean`` and ``std`` (root mean square deviation) on train, ``mae_valid`` and ``mae_test``; None where there is
        no value to take it from. The numbers depend on no other split.
    """
    train, valid, test = (values[(split == number) & known.astype(bool)] for number in range(len(SPLITS)))
    if not len(train):
        return {"mean": None, "std": None, "mae_valid": None, "mae_test": None}
    mean = float(train.mean())

    def error(part: np.ndarray) -> float | None:
        return float(np.abs(part - mean).mean()) if len(part) else None

    return {"mean": mean, "std": float(train.std()), "mae_valid": error(valid), "mae_test": error(test)}


def refusals_in_words(refused: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The first refused molecules with their reasons, a line each, and how many more there are."""
    for item in refused[:_LISTED]:
        name = f" ({item['identifier']})" if item["identifier"] else ""
        yield f"molecule {item['mol_id']}{name}: {item['reason']}"
    if len(refused) > _LISTED:
        yield f"and {len(refused) - _LISTED} more, listed in the provenance of the store"


def make_folder(folder: Path) -> None:
    """Make the folder of a store, before the work and not after it.

    Raises:
        UserError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"data.root: cannot make the folder {folder} ({error.strerror}); expected a folder that can be written"
        ) from error
