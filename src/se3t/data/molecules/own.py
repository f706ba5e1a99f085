"""Molecules of your own: an SDF file, and the columns of a CSV table or of its data fields. Imports no torch."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from io import TextIOBase
from pathlib import Path
from typing import Any

import numpy as np

from se3t.config import MoleculesData
from se3t.config.overrides import prepare_line
from se3t.data.molecules.building import (
    UNITS,
    Chunk,
    Record,
    build,
    checksum_of,
    chunk_of,
    load,
    provenance,
    save,
    split_sizes,
    trivial_errors,
)
from se3t.data.molecules.chemistry import molecules_from_blocks
from se3t.data.molecules.inputs import charge_of, problem_of
from se3t.data.molecules.molecule import Molecule, Refusal
from se3t.data.molecules.readers import iter_sdf
from se3t.data.molecules.tables import Table, read_table
from se3t.data.progress import progress_bar
from se3t.data.store import Store, make_folder
from se3t.errors import UserError

KIND = "molecules"
_EXPECTED = "a folder with one .sdf file and at most one .csv file, or an .sdf file"
_SETTINGS = ("root", "raw", "valid_fraction", "test_fraction", "split_seed")


def store_path(config: Any) -> Path:
    """File of the prepared data: <data.root>/molecules/<name of data.raw>-<digest of the inputs and settings>.h5.

    Raises:
        UserError: ``data.raw`` is not given, not found, or holds something else.
    """
    return _path(config, _Source.of(config))


def prepare_command(config: Any, force: bool = False) -> str:
    """The command line that prepares this data set; ``force`` adds the word that replaces a store."""
    default = {item.name: item.default for item in fields(MoleculesData)}
    given = {name: getattr(config, name) for name in _SETTINGS if getattr(config, name) != default[name]}
    return prepare_line("molecules", given, force)


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
        return _read(config, path)
    columns = _columns(source)
    make_folder(path.parent)  # before the work, and not before a look at what was given
    return save(path, _make_store(config, source, columns, progress))


def read_molecules_store(config: Any) -> Store:
    """Read and verify the store of the molecules.

    Raises:
        UserError: it is missing, damaged or of another version; the message says which command makes it.
    """
    return _read(config, store_path(config))


def summary(store: Store) -> dict[str, Any]:
    """What is printed with the data set: as :func:`se3t.data.qm9.prepare.summary`, without official sizes."""
    arrays, units = store.arrays, store.settings["column_units"]
    return {
        "title": store.provenance["name"],
        "checksum": store.checksum,
        "sizes": split_sizes(arrays["split"]),
        "official": None,
        "methods": store.provenance["methods"],
        "refused": store.provenance["refused"],
        "notes": store.provenance["notes"],
        "columns": {
            name: {
                "unit": units[name],
                **trivial_errors(arrays["targets"][:, place], arrays["known"][:, place], arrays["split"]),
            }
            for place, name in enumerate(store.settings["columns"])
        },
    }


# --- files ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Source:
    """The files, and their SHA-256 by name."""

    name: str
    sdf: Path
    table: Path | None
    checksums: dict[str, str]

    @classmethod
    def of(cls, config: Any) -> _Source:
        if config.raw is None:
            raise UserError(f"data.raw: a value is missing; expected {_EXPECTED}: add data.raw=…")
        path = Path(config.raw).expanduser()
        sdf, table = (_only(path, ".sdf"), _only(path, ".csv")) if path.is_dir() else (path, None)
        if sdf is None or not sdf.is_file() or sdf.suffix.lower() != ".sdf":
            what = "holds no .sdf file" if path.is_dir() else "no such .sdf file" if path.exists() else "not found"
            raise UserError(f"data.raw={config.raw}: {what}; expected {_EXPECTED}")
        files = [file for file in (sdf, table) if file is not None]
        return cls(path.resolve().stem, sdf, table, {file.name: checksum_of(file) for file in files})


def _only(folder: Path, suffix: str) -> Path | None:
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() == suffix)
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise UserError(f"data.raw={folder}: holds {len(found)} {suffix} files ({names}); expected {_EXPECTED}")
    return found[0] if found else None


def _path(config: Any, source: _Source) -> Path:
    content = json.dumps([sorted(source.checksums.values()), _split_settings(config)], sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest()[:12]
    return Path(config.root) / KIND / f"{source.name}-{digest}.h5"


def _split_settings(config: Any) -> dict[str, Any]:
    return {name: getattr(config, name) for name in ("valid_fraction", "test_fraction", "split_seed")}


def _read(config: Any, path: Path) -> Store:
    return load(path, KIND, fix=prepare_command(config, force=path.exists()))


def _open(path: Path) -> TextIOBase:
    try:
        return path.open(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


# --- columns --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Columns:
    """Numbers of every molecule: ``values`` ``[molecule, column]``, NaN where unknown."""

    names: list[str]
    values: np.ndarray
    notes: list[str]


def _columns(source: _Source) -> _Columns:
    with _open(source.sdf) as stream:
        heads = [(item.identifier, item.fields) for item in iter_sdf(stream, str(source.sdf))]
    if not heads:
        raise UserError(f"{source.sdf}: holds no molecule")
    titles, own = [title for title, _ in heads], [row for _, row in heads]
    numbers: dict[str, np.ndarray] = {}
    notes: list[str] = []
    if own_fields := list(dict.fromkeys(name for row in own for name in row)):
        table = _table_of_fields(own_fields, own)
        numbers |= table.numbers
        notes += _ignored(table, source.sdf.name)
    if source.table is not None:
        table = read_table(source.table)
        rows, key, how = _rows(table, titles, source)
        both = [name for name in table.numbers if name in numbers]
        numbers |= {name: column[rows] for name, column in table.numbers.items() if name != key}
        notes += [how, *_ignored(table, source.table.name, key)]
        notes += [f"column {name!r} is in both files: taken from {source.table.name}" for name in both]
    empty = [name for name, column in numbers.items() if np.isnan(column).all()]
    names = [name for name in numbers if name not in empty]
    notes += [f"column {name!r} is empty: ignored" for name in empty]
    if not names:
        where = source.table or f"the data fields of {source.sdf}"
        raise UserError(f"{where}: no column holds numbers, expected one to learn; {'; '.join(notes) or 'it is empty'}")
    return _Columns(names, np.stack([numbers[name] for name in names], axis=1), notes)


def _table_of_fields(names: Sequence[str], rows: Sequence[dict[str, str]]) -> Table:
    """Data fields under the rules of a CSV table: a column is one of numbers if all its cells are numbers or empty."""
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([names, *([row.get(name, "") for name in names] for row in rows)])
    text.seek(0)
    return read_table(text, name="data fields")


def _ignored(table: Table, where: str, key: str | None = None) -> Iterator[str]:
    for name, cells in table.texts.items():
        if name != key:
            first = next(cell for cell in cells if not _is_number(cell))
            yield f"{where}: column {name!r} is text ({first[:20]!r} is no number): ignored"


def _is_number(cell: str) -> bool:
    try:
        return not cell or math.isfinite(float(cell))
    except ValueError:
        return False


def _rows(table: Table, titles: Sequence[str], source: _Source) -> tuple[np.ndarray, str | None, str]:
    """The row of the table for every molecule, the column that names them or None, and how that was found."""
    assert source.table is not None
    name, sdf = source.table.name, source.sdf.name
    if all(titles) and len(set(titles)) == len(titles):
        cells = {**table.texts, **{key: [_shown(value) for value in column] for key, column in table.numbers.items()}}
        found = {key: len(set(titles) & set(column)) for key, column in cells.items()}
        key = max(found, key=lambda column: found[column])
        if found[key] == len(titles):
            spare = table.num_rows - len(titles)
            more = f"; {spare:,} more belong to no molecule" if spare else ""
            return _rows_by_name(cells[key], titles, source.table, key), key, f"{name}: rows by column {key!r}{more}"
        if 2 * found[key] >= len(titles):
            missing = next(title for title in titles if title not in set(cells[key]))
            raise UserError(
                f"{source.table}: column {key!r} names {found[key]} of the {len(titles)} molecules of {sdf}, but not "
                f"{missing!r}; expected a row for each (its other cells may be empty)"
            )
    if table.num_rows == len(titles):
        return np.arange(len(titles)), None, f"{name}: rows in the order of {sdf}"
    raise UserError(
        f"{source.table}: has {table.num_rows} rows, {sdf} {len(titles)} molecules, and no column holds the titles of "
        "the molecules; expected such a column, or as many rows in the same order"
    )


def _rows_by_name(cells: Sequence[str], titles: Sequence[str], table: Path, key: str) -> np.ndarray:
    places: dict[str, int] = {}
    wanted = set(titles)
    for row, cell in enumerate(cells):
        if cell in wanted and cell in places:
            raise UserError(
                f"{table}: rows {places[cell] + 1} and {row + 1} of column {key!r} are both {cell!r}, "
                "expected one row for a molecule"
            )
        places[cell] = row
    return np.array([places[title] for title in titles])


def _shown(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)


# --- the store ------------------------------------------------------------------------------------------------


def _records(source: _Source, values: np.ndarray) -> Iterator[Record]:
    with _open(source.sdf) as stream:
        for place, item in enumerate(iter_sdf(stream, str(source.sdf))):
            yield Record(place + 1, item.identifier, item.block, tuple(values[place].tolist()))


def _chunk(records: list[Record]) -> list[Chunk]:
    """Molecules under the rules of :func:`se3t.training.predict.predict`: no model learns from what it would refuse."""
    outcomes = molecules_from_blocks([(record.identifier, record.text) for record in records])
    checked = [_checked(outcome, record.text) for outcome, record in zip(outcomes, records, strict=True)]
    return [chunk_of(records, checked, [record.values for record in records])]


def _checked(outcome: Molecule | Refusal, block: str) -> Molecule | Refusal:
    if isinstance(outcome, Molecule) and (reason := problem_of(outcome, block) or charge_of(outcome)):
        return Refusal(outcome.identifier, reason)
    return outcome


def _make_store(config: Any, source: _Source, columns: _Columns, progress: bool) -> Store:
    with progress_bar(progress, f"molecules of {source.sdf.name}", len(columns.values)) as advance:
        records = _records(source, columns.values)
        built = build(_chunk, records, len(columns.names), workers=config.workers, advance=advance)
    if not len(built.arrays["mol_id"]):
        reason = built.refused[0]["reason"]
        raise UserError(f"{source.sdf}: none of its molecules can be used (the first: {reason}); nothing was written")
    split = random_split(len(built.arrays["mol_id"]), **_split_settings(config))
    settings = {
        "columns": columns.names,
        "column_units": dict.fromkeys(columns.names, ""),
        "raw": source.checksums,
        "split": _split_settings(config),
    }
    origin = provenance(built, f"bonds of {source.sdf.name}, aromatic ones perceived by RDKit")
    origin |= {"name": source.name, "notes": columns.notes}
    return Store(KIND, {**built.arrays, "split": split}, settings, UNITS, origin)


def random_split(count: int, *, valid_fraction: float, test_fraction: float, split_seed: int) -> np.ndarray:
    """A random split: parts for validation and test rounded up, so that none asked for is empty; the rest trains.

    Returns:
        ``[molecule]`` uint8: 0 train, 1 valid, 2 test.
    """
    num_valid, num_test = (math.ceil(count * fraction - 1e-9) for fraction in (valid_fraction, test_fraction))
    order = np.random.RandomState(split_seed % 2**32).permutation(count)
    split = np.zeros(count, dtype=np.uint8)
    split[order[: num_test + num_valid]] = 1
    split[order[:num_test]] = 2
    return split
