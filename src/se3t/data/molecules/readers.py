"""Read SDF and XYZ files record by record, in constant memory. Imports neither torch nor rdkit.

Source: file formats of BIOVIA "CTfile Formats" (SDF) and of Ramakrishnan et al. 2014 (raw QM9 files).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile

import numpy as np

from se3t.errors import UserError

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
_FIELD_NAME = re.compile(r">.*?<([^>]*)>")
_CHARGE = re.compile(r"\bcharge\s*=\s*\"?([+-]?\d+)", re.IGNORECASE)
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
