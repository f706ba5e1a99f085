"""Tables of CSV files. Imports neither torch nor rdkit."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from se3t.errors import UserError, did_you_mean

_NO_VALUE = frozenset(("", "nan", "na"))
_QUOTED = re.compile(r'"[^"]*"')


@dataclass(frozen=True)
class Table:
    """A table of a CSV file.

    Attributes:
        numbers: columns of numbers by name, ``[row]`` float64, NaN where a cell has no value: empty, "nan" or "NA".
        texts: all other columns by name, as they stand.
        num_rows: number of rows without the header.
    """

    numbers: dict[str, np.ndarray]
    texts: dict[str, list[str]]
    num_rows: int

    @property
    def columns(self) -> list[str]:
        """Names of all columns that were read; those of numbers first."""
        return [*self.numbers, *self.texts]


def read_table(
    source: Path | Iterable[str],
    *,
    name: str | None = None,
    columns: Sequence[str] | None = None,
    numeric: Sequence[str] = (),
) -> Table:
    """Read a CSV file whose first line names its columns. Every number is the float64 nearest to what is written.

    Cells are separated by commas, semicolons or tabs: by what is there most often in the first line, out of quotes.

    Args:
        source: the file, or its lines.
        name: what to call it in an error; by default its path.
        columns: those to read; all by default.
        numeric: those that must hold numbers (or empty cells) alone. Others count as numbers where all their cells are.

    Raises:
        UserError: it cannot be read, a column is missing, a row is short or long, or a cell is not a number.
    """
    name = str(source) if name is None else name
    if not isinstance(source, Path):
        return _read_table(source, name, columns, numeric)
    try:
        with source.open(encoding="utf-8-sig", newline="") as stream:
            return _read_table(stream, name, columns, numeric)
    except OSError as error:
        raise UserError(f"{name}: cannot be read ({error.strerror}); expected a CSV file") from error


def _read_table(stream: Iterable[str], name: str, columns: Sequence[str] | None, numeric: Sequence[str]) -> Table:
    reader, rest = csv.reader([]), iter(stream)
    try:
        first = next(rest, "")
        delimiter = max(",;\t", key=_QUOTED.sub("", first).count)
        reader = csv.reader(chain([first], rest), delimiter=delimiter, strict=True)
        header = [cell.strip() for cell in next(reader, [])]
        chosen = _chosen(header, name, columns, numeric)
        places = [header.index(column) for column in chosen]
        cells: list[list[str]] = [[] for _ in chosen]
        lines: list[int] = []
        for row in reader:
            if row:
                _check_length(row, header, name, reader.line_num)
                lines.append(reader.line_num)
                for column, place in zip(cells, places, strict=True):
                    column.append(row[place].strip())
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{name}: is not a CSV file in UTF-8 ({error} after line {reader.line_num})") from error
    table = Table({}, {}, len(lines))
    for title, column in zip(chosen, cells, strict=True):
        values = _floats(column)
        if values is not None:
            table.numbers[title] = values
        elif title in numeric:
            raise _not_a_number(title, column, lines, name)
        else:
            table.texts[title] = column
    return table


def _chosen(header: list[str], name: str, columns: Sequence[str] | None, numeric: Sequence[str]) -> list[str]:
    if not any(header):
        raise UserError(f"{name}: its first line is empty, expected the names of its columns, such as name,gap")
    repeated = [title for title in header if header.count(title) > 1]
    if repeated:
        raise UserError(f"{name}: column {repeated[0]!r} is there more than once, expected different names")
    chosen = list(header if columns is None else dict.fromkeys([*columns, *numeric]))
    for title in [*chosen, *numeric]:
        if title not in header:
            raise UserError(f"{name}: has no column {title!r}; {did_you_mean(title, header)}")
    return chosen


def _check_length(row: list[str], header: list[str], name: str, line: int) -> None:
    if len(row) != len(header):
        raise UserError(f"{name}: line {line} has {len(row)} cells, expected {len(header)} as in its first line")


def _floats(column: list[str]) -> np.ndarray | None:
    try:
        values = [math.nan if cell.lower() in _NO_VALUE else float(cell) for cell in column]
    except ValueError:
        return None
    return None if any(map(math.isinf, values)) else np.array(values, dtype=np.float64)


def _not_a_number(title: str, column: list[str], lines: list[int], name: str) -> UserError:
    place = next(row for row, cell in enumerate(column) if _floats([cell]) is None)
    return UserError(
        f"{name}: line {lines[place]}, column {title!r}, is {column[place]!r}, expected a number or an empty cell"
    )
