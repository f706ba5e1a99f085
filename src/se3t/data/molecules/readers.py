"""Records of SDF files, files of SMILES and tables, one by one in constant memory. Imports neither torch nor rdkit.

Source of SDF: BIOVIA "CTfile Formats".
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, takewhile
from typing import Any

from se3t.data.molecules.tables import delimiter_of, told_delimiter
from se3t.errors import UserError

_FIELD_NAME = re.compile(r">.*?<(.*)>")
_COLUMNS = ("smiles", "canonicalsmiles", "isomericsmiles", "smi")
_NAMES = ("name", "id", "identifier", "title", "molid", "compound", "compoundid", "molecule")


@dataclass(frozen=True)
class Record:
    """What a file says of one molecule.

    Attributes:
        identifier: its name in the file, for SMILES without a name the SMILES; may be empty.
        kind: of the content: ``sdf``, ``xyz``, ``smiles`` or ``problem``.
        content: a mol block up to and with ``M  END``; an :class:`~se3t.data.molecules.xyz.XYZRecord`, or the text of a
            raw XYZ file of QM9; a SMILES, with its extension between bars (CXSMILES) if there is one; or why the record
            cannot be read, in a few words.
        fields: further values by name: data fields of an SDF (lines of a value, and values of a repeated field, are
            joined by line breaks); ``key=value`` of an XYZ comment; other cells of a table.
        file: name of the file, for messages.
        index: number of the record in its source, from 1; 0 for the file as a whole.
        note: a warning about how its name was read, or "".
        values: numbers to learn, one per column, NaN where unknown; empty where the content holds them.
    """

    identifier: str
    kind: str
    content: Any = field(repr=False)
    fields: dict[str, str] = field(default_factory=dict, repr=False)
    file: str = ""
    index: int = 0
    note: str = ""
    values: tuple[float, ...] = ()


# --- SDF ----------------------------------------------------------------------------------------------------------


def iter_sdf(stream: Iterable[str], name: str) -> Iterator[Record]:
    """Records of an SDF file.

    A record that ends with ``$$$$`` is returned whatever its mol block holds; parsing it refuses it with a reason.
    A file that is one mol block without ``$$$$`` is one record.

    Args:
        stream: its lines, with any line endings.
        name: of the file, for errors.

    Yields:
        The records, in order.

    Raises:
        UserError: the file ends within a record.
    """
    lines: list[str] = []
    number = 1
    for raw in stream:
        line = raw.rstrip("\r\n")
        if line.startswith("$$$$"):
            yield _sdf_record(lines)
            lines = []
            number += 1
        else:
            lines.append(line)
    if not any(line.strip() for line in lines):
        return
    end = _end_of_block(lines)
    if number > 1 or end is None or any(line.strip() for line in lines[end:]):
        raise _cut_short(name, number, lines, end)
    yield _sdf_record(lines)


def _sdf_record(lines: list[str]) -> Record:
    end = _end_of_block(lines) or len(lines)
    fields = _fields(lines[end:]) if end < len(lines) else {}
    return Record(lines[0].strip() if lines else "", "sdf", "\n".join(lines[:end]) + "\n", fields)


def _end_of_block(lines: list[str]) -> int | None:
    """Number of lines up to and with ``M  END``."""
    return next((place for place, line in enumerate(lines, start=1) if line.startswith("M  END")), None)


def _fields(lines: list[str]) -> dict[str, str]:
    fields: dict[str, str] = {}
    rows = iter(lines)
    for line in rows:
        if match := _FIELD_NAME.match(line):
            name, value = match[1].strip(), "\n".join(takewhile(str.strip, rows))
            fields[name] = f"{fields[name]}\n{value}" if fields.get(name) else value
    return fields


def _cut_short(name: str, number: int, lines: list[str], end: int | None) -> UserError:
    title = lines[0].strip() or "no title"
    expected = "its mol block up to 'M  END', and '$$$$'" if end is None else "a line '$$$$' at its end"
    return UserError(
        f"{name}: ends within record {number} ({title}), expected {expected}; the file was cut short: get it again, or "
        "remove this record"
    )


# --- SMILES -------------------------------------------------------------------------------------------------------


def iter_smiles(stream: Iterable[str], name: str) -> Iterator[Record]:
    """Lines of a SMILES and a name, separated by blanks, a tab, a comma or a semicolon.

    A first line with the word SMILES is a header; ``#`` begins a comment; blank lines are skipped, as are the third and
    later columns without a header.

    Args:
        stream: its lines.
        name: of the file, for errors.
    """
    lines: Iterator[str] = (line for line in stream if line.strip() and not line.startswith("#"))  # no SMILES does
    first = next(lines, "")
    words = [_folded(word) for word in re.split(r"[\s,;]+", first)]
    if not set(words) & set(_COLUMNS):
        lines = chain([first] if first else [], lines)
    elif delimiter_of(first) or words[0] not in _COLUMNS:
        yield from iter_table(chain([first], lines), name, strict=False)
        return
    for line in lines:
        identifier, smiles = _split(line)
        yield Record(identifier or smiles, "smiles", smiles)


def iter_table(stream: Iterable[str], name: str, strict: bool = True) -> Iterator[Record]:
    """Rows of a table with a column of SMILES; a column called name, id or similar holds identifiers.

    Args:
        stream: its lines, the first one with the names of its columns.
        name: of the file, for errors.
        strict: whether a row must have as many cells as the header also where its first cell is the SMILES.

    Raises:
        UserError: it has no column of SMILES, several candidates, or two columns of the same name.
    """
    lines = iter(stream)
    content = (line for line in lines if line.strip() and not line.startswith("#"))
    first = next(content, "")
    if told := told_delimiter(first):
        first = next(content, "")
    if not first:
        return
    delimiter = told or delimiter_of(first) or " "
    reader = csv.reader(chain([first], lines), delimiter=delimiter, skipinitialspace=True)
    header = [cell.strip() for cell in next(reader)]
    place = _place_of_smiles(header, name)
    title = next((header[number] for number in _places(_NAMES, header)), None)
    for row in reader:
        cells = [cell.strip() for cell in row]
        if any(cells) and len(cells) != len(header) and (strict or place):
            problem = f"line {reader.line_num} has {len(cells)} cells, expected {len(header)} as in its first line"
            yield Record("", "problem", problem)
        elif any(cells):
            identifier, smiles = _split(cells[place])
            fields = {key: cell for key, cell in zip(header, cells, strict=False) if key != header[place]}
            yield Record(fields.get(title or "", "") or identifier or smiles, "smiles", smiles, fields)


def _split(line: str) -> tuple[str, str]:
    """Name and SMILES of a line."""
    smiles, rest = [*re.split(r"[\s,;]+", line.strip(), maxsplit=1), ""][:2]
    if extension := re.match(r"\|[^|]*\|", rest):
        smiles, rest = f"{smiles} {extension[0]}", rest[extension.end() :]
    return rest.strip(" \t\r\n,;").split("\t")[0].strip().strip('"'), smiles


def _place_of_smiles(header: list[str], name: str) -> int:
    repeated = [title for title in header if header.count(title) > 1]
    if repeated:
        raise UserError(f"{name}: column {repeated[0]!r} appears more than once, expected different names")
    places = _places(_COLUMNS, header) or [place for place, cell in enumerate(header) if "smiles" in cell.lower()]
    if len(places) != 1 and _folded(header[places[0]] if places else "") != _COLUMNS[0]:
        count = f"{len(places)} columns" if places else "no column"
        raise UserError(f"{name}: has {count} of SMILES ({', '.join(header)[:80]}), expected one called smiles")
    return places[0]


def _places(names: Iterable[str], header: list[str]) -> list[int]:
    folded = [_folded(cell) for cell in header]
    return [folded.index(name) for name in names if name in folded]


def _folded(word: str) -> str:
    return re.sub(r"[\W_]", "", word).lower()
