"""CSV tables: cells as text, numbers on request.

Imports neither torch nor rdkit.
"""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np

from se3t.data.molecules.decoding import DAMAGE, open_text
from se3t.errors import UserError, did_you_mean

_NO_VALUE = (
    "- -- – — . ? * na n/a n.a. <na> nan -nan null none nil nd n.d. n/d missing unknown #n/a #na #null! #value! #ref! "
    "#name? #num! #div/0!"
)
MISSING = frozenset(("", *_NO_VALUE.split()))
"""Words for a missing value, in any case."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
_BOUND = re.compile(r"[<>≤≥]=?\s*" + _NUMBER.pattern, re.IGNORECASE | re.ASCII)
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
_NUMERIC = re.compile(r"[<>≤≥=\s]*[+-]?[\d.,]*\d[\d.,]*(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
_QUOTED = re.compile(r'"[^"]*"')
_LONGEST = 40  # characters of a cell that an error shows


@dataclass(frozen=True)
class Numbers:
    """A column read as numbers.

    Attributes:
        values: ``[row]`` float64, NaN where a cell has no value.
        missing: number of cells with each word for a missing value, without empty cells.
        bounds: rows that hold a bound, such as ``>10``, which is no value.
    """

    values: np.ndarray
    missing: Counter[str]
    bounds: list[int]


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        name: of the file.
        cells: the cells of every column by its name, unchanged.
        places: the place of every row, for messages: "line 3".
        num_blank: number of empty rows at the end, left out.
        delimiter: separator of its cells.
        notes: remarks on how it was read.
    """

    name: str
    cells: dict[str, list[str]]
    places: list[str]
    num_blank: int = 0
    delimiter: str = ","
    notes: list[str] = field(default_factory=list)
    _numbers: dict[str, Numbers | str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def num_rows(self) -> int:
        """Number of rows without the header, and without blank ones at the end."""
        return len(self.places)

    def numbers(self, column: str) -> Numbers | str:
        """A column as numbers; or, where a cell is neither a number nor a missing value, a sentence about that cell."""
        if column not in self._numbers:
            self._numbers[column] = self._read_numbers(column)
        return self._numbers[column]

    def _read_numbers(self, column: str) -> Numbers | str:
        values = np.full(self.num_rows, math.nan)
        missing: Counter[str] = Counter()
        bounds = []
        for row, cell in enumerate(self.cells[column]):
            word = cell.strip().replace("\N{MINUS SIGN}", "-")
            if (value := _number(word)) is not None:
                values[row] = value
            elif word.casefold() in MISSING:
                missing.update([word] if word else [])
            elif _BOUND.fullmatch(word):
                bounds.append(row)
            else:
                return f"{self.places[row]}, column {column!r}, is {shown(cell)}, expected a number or an empty cell"
        return Numbers(values, missing, bounds)

    def decimal_comma(self) -> str:
        """The first number with a decimal comma in a table whose cells are not separated by commas, or ""."""
        for column, cells in self.cells.items() if self.delimiter != "," else ():
            words = [cell.strip() for cell in cells]
            commas = [row for row, word in enumerate(words) if _DECIMAL_COMMA.fullmatch(word)]
            if commas and all(word.casefold() in MISSING or _NUMERIC.fullmatch(word) for word in words):
                return f"{self.places[commas[0]]}, column {column!r}, is {shown(cells[commas[0]])}"
        return ""


def _number(word: str) -> float | None:
    """A finite number in plain digits; Python alone would accept ``1_2`` and digits of other scripts."""
    try:
        value = float(word)
    except ValueError:
        return None
    return value if math.isfinite(value) and word.isascii() and "_" not in word else None


def shown(cell: str) -> str:
    """A cell in a message: quoted and shortened."""
    return repr(cell if len(cell) <= _LONGEST else cell[:_LONGEST] + "…")


def delimiter_of(header: str) -> str:
    """Comma, semicolon or tab: the most frequent in a line, outside quotes; or ""."""
    outside = _QUOTED.sub("", header)
    most = max(",;\t", key=outside.count)
    return most if most in outside else ""


def told_delimiter(line: str) -> str:
    """The delimiter of a line such as ``sep=;``, which Excel reads before the header, or ""."""
    told = _SEPARATOR_LINE.fullmatch(line.strip("\r\n"))
    return told[1] if told else ""


def read_table(source: Path | Iterable[str], *, name: str | None = None, columns: Sequence[str] | None = None) -> Table:
    """Read a CSV file whose first line names its columns; lines before it may be comments that begin with ``#``.

    Cells are separated by commas, semicolons or tabs: by the most frequent in the first line, outside quotes, or as a
    line ``sep=;`` before it says. Empty rows at the end are left out and counted; columns without name and content are
    left out.

    Args:
        source: the file in any encoding of :func:`se3t.data.molecules.decoding.open_text`, or its lines.
        name: its name in errors; by default its path.
        columns: those to read; all by default.

    Raises:
        UserError: it cannot be read, a column is missing, or a row is short or long.
    """
    name = str(source) if name is None else name
    if not isinstance(source, Path):
        return _read_table(source, name, columns)
    try:
        with open_text(source) as text:
            table = _read_table(text.lines, name, columns)
            table.notes.extend([text.note] if text.note else [])
            return table
    except DAMAGE as error:
        raise UserError(f"{name}: cannot be read ({error}); expected a CSV file") from error


def _read_table(stream: Iterable[str], name: str, columns: Sequence[str] | None) -> Table:
    reader, lines, comments, before = csv.reader([]), iter(stream), 0, 0
    try:
        first = next(lines, "")
        while first.startswith("#"):
            comments, first = comments + 1, next(lines, "")
        if told := told_delimiter(first):
            first = next(lines, "")
        before = comments + bool(told)
        delimiter = told or delimiter_of(first) or ","
        reader = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
        header = [cell.strip() for cell in next(reader, [])]
        _check_header(header, name, comments)
        rows: list[list[str]] = []
        places: list[str] = []
        for row in reader:
            if row:
                place = f"line {reader.line_num + before}"
                if len(row) != len(header):
                    raise UserError(f"{name}: {place} has {len(row)} cells, expected {len(header)} as in its header")
                rows.append(row)
                places.append(place)
    except (csv.Error, UnicodeDecodeError) as error:
        line = reader.line_num + before
        raise UserError(f"{name}: is not a CSV file ({error} after line {line})") from error
    num_rows = max((number for number, row in enumerate(rows, start=1) if any(map(str.strip, row))), default=0)
    cells = {key: [row[at] for row in rows[:num_rows]] for at, key in _chosen(header, rows, name, columns)}
    notes = [f"{comments} comment line{'s' * (comments > 1)} before the header: ignored"] if comments else []
    return Table(name, cells, places[:num_rows], len(rows) - num_rows, delimiter, notes)


def _check_header(header: list[str], name: str, comments: int) -> None:
    if not any(header):
        raise UserError(f"{name}: its first line is empty, expected the names of its columns, such as name,gap")
    if comments and any(map(_NUMBER.fullmatch, header)):
        raise UserError(
            f"{name}: line {comments + 1} holds numbers where the names of the columns are expected, and the lines "
            "before it begin with '#'; write the names without '#'"
        )


def _chosen(
    header: list[str], rows: list[list[str]], name: str, columns: Sequence[str] | None
) -> list[tuple[int, str]]:
    """Place and name of the columns to read."""
    named = [(at, key) for at, key in enumerate(header) if key or any(row[at].strip() for row in rows)]
    repeated = [key for key, count in Counter(key for _, key in named).items() if count > 1]
    if repeated:
        raise UserError(f"{name}: column {repeated[0]!r} appears more than once, expected different names")
    for key in columns or ():
        if key not in header:
            raise UserError(f"{name}: has no column {key!r}; {did_you_mean(key, header)}")
    return [(at, key) for at, key in named if columns is None or key in columns]
