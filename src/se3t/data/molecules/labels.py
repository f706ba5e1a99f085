"""Target values of user molecules, from data fields of their file and from a table. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from se3t.data.molecules.decoding import open_text
from se3t.data.molecules.inputs import format_of, iter_records
from se3t.data.molecules.joining import Side, join
from se3t.data.molecules.tables import Numbers, Table, read_table, shown
from se3t.errors import UserError

_TITLES = {"sdf": "title", "xyz": "comment line", "smiles": "name", "table": "name"}
_LISTED = 3  # words that a note gives


@dataclass(frozen=True)
class Labels:
    """Numbers of every record of a file of molecules.

    Attributes:
        names: of the columns.
        values: ``[molecule, column]`` float64, NaN where unknown.
        notes: where the values come from, and what was left out.
        skipped: columns that are not numbers, by name, with the first such cell.
        identifiers: names of the molecules: those used to find their rows, else their titles.
    """

    names: list[str]
    values: np.ndarray
    notes: list[str]
    skipped: dict[str, str]
    identifiers: Sequence[str]


def read_labels(molecules: Path, table: Path | None, key: str | None) -> Labels:
    """The columns of numbers of a file of molecules and of the table that belongs to it.

    Args:
        molecules: the file, of any format that is read.
        table: a CSV file, or None for the data fields of the molecules alone.
        key: ``data.key``, see :func:`se3t.data.molecules.joining.join`.

    Raises:
        UserError: a file is damaged, the two do not fit each other, or there is no column of numbers.
    """
    titles, fields, smiles, unreadable = _contents(molecules)
    with open_text(molecules) as text:
        notes = [f"{molecules.name}: {text.note}"] if text.note else []
    columns, join_side = _Columns(), None
    _refuse_decimal_commas(fields)
    if table is None:
        if key is not None:
            raise UserError(f"data.key={key}: there is no table beside {molecules}; leave data.key out")
        columns.add(fields, molecules.name, None)
    else:
        sides = [Side(f"data field {name!r}", cells, name) for name, cells in fields.cells.items()]
        rows = read_table(table)
        _refuse_decimal_commas(rows)
        joined = join(rows, [titles, *sides, smiles], molecules.name, key, unreadable)
        join_side = joined.side
        notes += [f"{table.name}: {note}" for note in (*rows.notes, *joined.notes)]
        columns.add(fields, molecules.name, join_side.column if join_side else None)
        columns.add(rows, table.name, joined.column, joined.rows)
    names = columns.known()
    notes += columns.notes
    if not names:
        where = table or f"the data fields of {molecules}"
        hint = "" if table else "; for a table beside it, data.raw is the folder of both"
        other_columns = "; ".join(notes) or "there is none"
        raise UserError(f"{where}: no column holds numbers, expected one to learn; {other_columns}{hint}")
    values = np.stack([columns.numbers[name] for name in names], axis=1)
    skipped = {name: why for name, why in columns.skipped.items() if name not in names}
    return Labels(names, values, notes, skipped, (join_side or titles).values)


def _refuse_decimal_commas(table: Table) -> None:
    if comma := table.decimal_comma():
        raise UserError(f"{table.name}: {comma}, with a decimal comma; expected decimal points, in all its columns")


def _contents(molecules: Path) -> tuple[Side, Table, Side, set[int]]:
    """Titles, data fields and SMILES of the records; and which of them cannot be read."""
    titles: list[str] = []
    smiles: list[str] = []
    fields: list[dict[str, str]] = []
    unreadable = set()
    for place, record in enumerate(iter_records(molecules)):
        if record.kind == "problem":
            unreadable.add(place)
        titles.append(record.identifier)
        smiles.append(record.content if record.kind == "smiles" else "")
        fields.append(record.fields)
    if not titles:
        raise UserError(f"{molecules}: holds no molecule")
    columns = {
        name: [row.get(name, "") for row in fields] for name in dict.fromkeys(name for row in fields for name in row)
    }
    places = [f"record {number}" for number in range(1, len(titles) + 1)]
    # A table may write numbers with decimal commas, which are looked for.
    table = Table(str(molecules), columns, places, delimiter=";" if format_of(molecules) == "table" else ",")
    return Side(_TITLES[format_of(molecules)], titles), table, Side("SMILES", smiles, "smiles"), unreadable


@dataclass
class _Columns:
    """Columns of numbers, ``[molecule]`` by name, with notes and skipped columns."""

    numbers: dict[str, np.ndarray] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def add(self, table: Table, where: str, without: str | None, rows: np.ndarray | None = None) -> None:
        """Add all columns of a table but one; ``rows`` is the row of every molecule, -1 where there is none."""
        for column in table.cells:
            if column == without:
                continue
            if not column:  # the index that pandas writes
                self.notes.append(f"{where}: the column without a name: ignored")
                continue
            parsed = table.numbers(column)
            if isinstance(parsed, str):
                self.skipped[column] = f"{where}: {parsed}"
                self.notes.append(f"{where}: {parsed}: column ignored")
                continue
            if column in self.numbers:
                self.notes.append(f"column {column!r} is in both files: taken from {where}")
            self.numbers[column] = parsed.values if rows is None else np.where(rows < 0, np.nan, parsed.values[rows])
            self.notes += [f"{where}: column {column!r}: {note}" for note in _without_value(table, column, parsed)]

    def known(self) -> list[str]:
        """Names of the columns that hold a number; notes name the others, and those with gaps."""
        empty = [name for name, values in self.numbers.items() if np.isnan(values).all()]
        self.notes += [f"column {name!r} is empty: ignored" for name in empty]
        names = [name for name in self.numbers if name not in empty]
        for name in names:
            count, known = len(self.numbers[name]), int((~np.isnan(self.numbers[name])).sum())
            if known < count:
                self.notes.append(f"column {name!r} has a value for {known:,} of {count:,} molecules")
        return names


def _without_value(table: Table, column: str, parsed: Numbers) -> Iterator[str]:
    if count := parsed.missing.total():
        words = ", ".join(map(shown, list(parsed.missing)[:_LISTED])) + (", …" if len(parsed.missing) > _LISTED else "")
        yield f"{count:,} {'cells say' if count > 1 else 'cell says'} that there is no value ({words})"
    if count := len(parsed.bounds):
        first = parsed.bounds[0]
        what = "cells are bounds and no values" if count > 1 else "cell is a bound and no value"
        yield f"{count:,} {what} ({shown(table.cells[column][first])} in {table.places[first]}): left without a value"
