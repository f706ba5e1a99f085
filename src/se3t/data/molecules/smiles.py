"""Files of SMILES: a SMILES and a name a line, or a table with a column of SMILES. Imports neither torch nor rdkit."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

from se3t.data.molecules.tables import delimiter_of, told_delimiter
from se3t.errors import UserError

_COLUMNS = ("smiles", "canonicalsmiles", "isomericsmiles", "smi")
_NAMES = ("name", "id", "identifier", "title", "molid", "compound", "compoundid", "molecule")


@dataclass(frozen=True)
class SMILESRecord:
    """One line of a file of SMILES.

    Attributes:
        identifier: its name, else the SMILES.
        smiles: with its extension between bars (CXSMILES), if there is one.
        fields: the other cells of a table by column.
        problem: why the line cannot be read, or nothing.
    """

    identifier: str
    smiles: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    problem: str = ""


def iter_smiles(stream: Iterable[str], name: str) -> Iterator[SMILESRecord]:
    """Lines of a SMILES and a name, between them blanks, a tab, a comma or a semicolon.

    A first line with the word SMILES is a header, ``#`` begins a comment, blank lines are passed over. Of columns
    without a header the third and later ones are passed over.

    Args:
        stream: its lines.
        name: what to call the file in an error.
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
        yield SMILESRecord(identifier or smiles, smiles)


def iter_table(stream: Iterable[str], name: str, strict: bool = True) -> Iterator[SMILESRecord]:
    """Rows of a table with a column of SMILES; a column that is called name, id or the like holds identifiers.

    Args:
        stream: its lines, the first one with the names of its columns.
        name: what to call the file in an error.
        strict: whether a row must have as many cells as the header also where its first cell is the SMILES.

    Raises:
        UserError: it has no column of SMILES, several that may be meant, or two of one name.
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
            yield SMILESRecord("", problem=problem)
        elif any(cells):
            identifier, smiles = _split(cells[place])
            fields = {key: cell for key, cell in zip(header, cells, strict=False) if key != header[place]}
            yield SMILESRecord(fields.get(title or "", "") or identifier or smiles, smiles, fields)


def _split(line: str) -> tuple[str, str]:
    """Name and SMILES of a line."""
    smiles, rest = [*re.split(r"[\s,;]+", line.strip(), maxsplit=1), ""][:2]
    if extension := re.match(r"\|[^|]*\|", rest):
        smiles, rest = f"{smiles} {extension[0]}", rest[extension.end() :]
    return rest.strip(" \t\r\n,;").split("\t")[0].strip().strip('"'), smiles


def _place_of_smiles(header: list[str], name: str) -> int:
    repeated = [title for title in header if header.count(title) > 1]
    if repeated:
        raise UserError(f"{name}: column {repeated[0]!r} is there more than once, expected different names")
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
