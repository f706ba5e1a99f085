"""Read SDF, XYZ and CSV files record by record, in constant memory. Imports neither torch nor rdkit.

Source: file formats of BIOVIA "CTfile Formats" (SDF) and of Ramakrishnan et al. 2014 (raw QM9 files).
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, takewhile
from pathlib import Path

import numpy as np

from se3t.errors import UserError, did_you_mean

_SYMBOLS = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb "
    "Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au "
    "Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts "
    "Og"
)
ELEMENTS = tuple(_SYMBOLS.split())
"""Symbols of the elements: atomic number 1 is the first."""
QM9_PROPERTIES = ("A", "B", "C", "mu", "alpha", "homo", "lumo", "gap", "r2", "zpve", "u0", "u", "h", "g", "cv")
"""Names of the numbers in the second line of a raw QM9 file, in its order."""

_NUMBER_OF = {symbol: number for number, symbol in enumerate(ELEMENTS, start=1)}
_NO_VALUE = frozenset(("", "nan", "na"))
_FIELD_NAME = re.compile(r">.*?<([^>]*)>")
_CHARGE = re.compile(r"\bcharge\s*=\s*\"?([+-]?\d+)", re.IGNORECASE)
_QUOTED = re.compile(r'"[^"]*"')
_QM9_HEADER = re.compile(r"gdb\s+\d+\s")


@dataclass(frozen=True)
class SDFRecord:
    """One molecule of an SDF file.

    Attributes:
        identifier: its title line, without blanks at the ends; may be empty.
        block: its mol block, up to and with ``M  END``.
        fields: its data fields by name; lines of a value are joined by line breaks.
    """

    identifier: str
    block: str
    fields: dict[str, str]


@dataclass(frozen=True)
class XYZRecord:
    """One molecule of an XYZ file.

    Attributes:
        identifier: ``gdb_<number>`` for raw QM9 files as in its SDF, else the comment line; may be empty.
        numbers: ``[atom]`` uint8, atomic numbers.
        positions: ``[atom, 3]`` float64, angstrom.
        smiles: what is known of its bonds, the best first: for QM9 the SMILES of the relaxed geometry, then that of
            GDB-17. Empty for plain XYZ.
        properties: numbers of its header, for QM9 those of ``QM9_PROPERTIES``. Empty for plain XYZ.
        charge: total charge in elementary charges: 0, or ``charge=`` in the comment line of a plain XYZ frame.
    """

    identifier: str
    numbers: np.ndarray = field(repr=False)
    positions: np.ndarray = field(repr=False)
    smiles: tuple[str, ...] = ()
    properties: tuple[float, ...] = ()
    charge: int = 0


def iter_sdf(stream: Iterable[str], name: str) -> Iterator[SDFRecord]:
    """Records of an SDF file.

    A record that ends with ``$$$$`` is returned whatever its mol block holds: who parses it refuses it with a reason.
    A file that is one mol block without ``$$$$`` is one record.

    Args:
        stream: its lines, with any line endings.
        name: what to call the file in an error.

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


def parse_qm9_xyz(text: str, name: str) -> XYZRecord:
    """One file of the raw QM9 data, ``dsgdb9nsd_<number>.xyz``.

    Line 1 is the number of atoms; line 2 ``gdb``, its number and 15 properties (``QM9_PROPERTIES``; GHz, D, bohr^3,
    hartree, bohr^2, hartree, cal/mol/K); then an atom a line (element, x, y, z in angstrom, Mulliken charge),
    frequencies, two SMILES (GDB-17 and relaxed geometry), two InChI. ``*^`` stands for ``e`` in its numbers.

    Args:
        text: the file.
        name: what to call it in an error.

    Raises:
        UserError: a line is missing or is not what it must be.
    """
    return _qm9_record(text.splitlines(), name, 1)


def iter_xyz(stream: Iterable[str], name: str) -> Iterator[XYZRecord]:
    """Frames of an XYZ file: number of atoms, a comment, an atom a line; blank lines between frames are passed over.

    A frame of the raw QM9 data is read by :func:`parse_qm9_xyz`.

    Args:
        stream: its lines, with any line endings.
        name: what to call the file in an error.

    Yields:
        The frames, in order.

    Raises:
        UserError: a line is missing or is not what it must be.
    """
    lines = iter(stream)
    number = 0  # of the line
    for first in lines:
        number += 1
        if not first.strip():
            continue
        frame = [first, *islice(lines, _atom_count(first, name, number) + 1)]
        if len(frame) > 1 and _QM9_HEADER.match(frame[1]):
            frame += islice(lines, 3)
            yield _qm9_record(frame, name, number)
        else:
            yield _plain_record(frame, name, number)
        number += len(frame) - 1


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


# --- SDF ----------------------------------------------------------------------------------------------------


def _sdf_record(lines: list[str]) -> SDFRecord:
    end = _end_of_block(lines) or len(lines)
    return SDFRecord(
        identifier=lines[0].strip() if lines else "",
        block="\n".join(lines[:end]) + "\n",
        fields=_fields(lines[end:]) if end < len(lines) else {},
    )


def _end_of_block(lines: list[str]) -> int | None:
    """Number of lines up to and with ``M  END``."""
    for place, line in enumerate(lines, start=1):
        if line.startswith("M  END"):
            return place
    return None


def _fields(lines: list[str]) -> dict[str, str]:
    fields: dict[str, str] = {}
    rows = iter(lines)
    for line in rows:
        if match := _FIELD_NAME.match(line):
            fields[match[1].strip()] = "\n".join(takewhile(str.strip, rows))
    return fields


def _cut_short(name: str, number: int, lines: list[str], end: int | None) -> UserError:
    title = lines[0].strip() or "no title"
    expected = "its mol block up to 'M  END', and '$$$$'" if end is None else "a line '$$$$' at its end"
    return UserError(
        f"{name}: ends within record {number} ({title}), expected {expected}; the file was cut short: get it again, or "
        "remove this record"
    )


# --- XYZ ----------------------------------------------------------------------------------------------------


def _atom_count(line: str, name: str, number: int) -> int:
    word = line.strip()
    if not word.isdecimal() or int(word) == 0:
        raise UserError(f"{name}: line {number} is {_shown(line)}, expected the number of atoms of an XYZ frame")
    return int(word)


def _qm9_record(lines: Sequence[str], name: str, first: int) -> XYZRecord:
    count = _atom_count(lines[0] if lines else "", name, first)
    if len(lines) < count + 4:
        raise UserError(
            f"{name}: ends after {len(lines)} lines, expected {count + 5} for {count} atoms: the file was cut short"
        )
    words = lines[1].split()
    if len(words) != 2 + len(QM9_PROPERTIES) or words[0] != "gdb" or not words[1].isdecimal():
        raise UserError(
            f"{name}: line {first + 1} is {_shown(lines[1])}, expected 'gdb', a number and {len(QM9_PROPERTIES)} values"
        )
    numbers, positions = _atoms(lines[2 : count + 2], name, first + 2)
    return XYZRecord(
        identifier=f"gdb_{int(words[1])}",
        numbers=numbers,
        positions=positions,
        smiles=tuple(dict.fromkeys(reversed(lines[count + 3].split()[:2]))),
        properties=tuple(_number(word, name, first + 1) for word in words[2:]),
    )


def _plain_record(lines: Sequence[str], name: str, first: int) -> XYZRecord:
    count = _atom_count(lines[0], name, first)
    if len(lines) < count + 2:
        raise UserError(
            f"{name}: ends after {max(len(lines) - 2, 0)} atoms of the frame of line {first}, expected {count}: the "
            "file was cut short"
        )
    comment = lines[1].strip()
    numbers, positions = _atoms(lines[2 : count + 2], name, first + 2)
    charge = _CHARGE.search(comment)
    return XYZRecord(comment, numbers, positions, charge=int(charge[1]) if charge else 0)


def _atoms(lines: Sequence[str], name: str, first: int) -> tuple[np.ndarray, np.ndarray]:
    numbers = np.empty(len(lines), dtype=np.uint8)
    positions = np.empty((len(lines), 3))
    for row, line in enumerate(lines):
        words = line.split()
        if len(words) < 4:
            raise UserError(f"{name}: line {first + row} is {_shown(line)}, expected an element, x, y and z")
        numbers[row] = _atomic_number(words[0], name, first + row)
        positions[row] = [_number(word, name, first + row) for word in words[1:4]]
    return numbers, positions


def _atomic_number(word: str, name: str, line: int) -> int:
    number = _NUMBER_OF.get(word.capitalize(), 0)
    if word.isdecimal() and 1 <= int(word) <= len(ELEMENTS):
        number = int(word)
    if not number:
        raise UserError(f"{name}: line {line} begins with {word!r}, expected the symbol of an element")
    return number


def _number(word: str, name: str, line: int) -> float:
    try:
        value = float(word.replace("*^", "e"))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{name}: line {line} holds {word!r}, expected a number")
    return value


def _shown(line: str) -> str:
    line = line.strip()
    return repr(line if len(line) <= 40 else line[:40] + "…") if line else "empty"


# --- CSV ----------------------------------------------------------------------------------------------------


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
