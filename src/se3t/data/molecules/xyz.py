"""XYZ files frame by frame, plain, extended, or as QM9 publishes them. Imports neither torch nor rdkit.

A frame is the number of its atoms, a comment, and one line for each atom: element, x, y, z in angstrom, and any further
columns. An element is its symbol in any case, also followed by a number (C1), or its atomic number; D and T are
hydrogen. ``Properties=…`` in the comment (extended XYZ) names the columns.

Source: Ramakrishnan et al. 2014 for raw QM9 files; the extended XYZ format as libAtoms describes it.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from se3t.data.molecules.molecule import ELEMENTS, Refusal
from se3t.errors import UserError

QM9_PROPERTIES = ("A", "B", "C", "mu", "alpha", "homo", "lumo", "gap", "r2", "zpve", "u0", "u", "h", "g", "cv")
"""Names of the numbers in the second line of a raw QM9 file, in its order."""

_NUMBER_OF = {symbol: number for number, symbol in enumerate(ELEMENTS, start=1)}
_ISOTOPES = {"D": "2H", "T": "3H"}
_LABEL = re.compile(r"([A-Za-z]{1,2})([0-9]+[A-Za-z]?)?")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:(?:[eEdD]|\*\^)[+-]?[0-9]+)?")
_COUNT = re.compile(r"\s*([0-9]{1,7})\s*")
_QM9_HEADER = re.compile(r"gdb\s+\d+\s")
_PAIR = re.compile(r"""([A-Za-z_][\w.-]*)\s*=\s*("[^"]*"|'[^']*'|\{[^}]*\}|\[[^]]*\]|[^\s,;]+)""")
_NAMES = ("name", "id", "identifier", "title", "molid")
_SPECIES = ("species", "element", "elements", "symbol", "symbols")
_ATOMIC_NUMBERS = ("z", "numbers", "atomic_number", "atomic_numbers")
_LAYOUT = ("properties", "lattice", "pbc")  # of a comment: how the frame is written, no values of the molecule
_POSITIONS = ("pos", "position", "positions")


@dataclass(frozen=True)
class XYZRecord:
    """One molecule of an XYZ file.

    Attributes:
        identifier: ``gdb_<number>`` for raw QM9 files as in its SDF; else ``name=`` or ``id=`` of a comment of such
            pairs; else the comment line. May be empty.
        numbers: ``[atom]`` uint8, atomic numbers.
        positions: ``[atom, 3]`` float64, angstrom.
        smiles: sources of its bonds, the best first: for QM9 the SMILES of the relaxed geometry, then that of
            GDB-17. Empty for others.
        properties: numbers of its header, for QM9 those of ``QM9_PROPERTIES``. Empty for others.
        charge: total charge in elementary charges: 0, or ``charge=`` in the comment line.
        multiplicity: of the spin, where the comment line has ``multiplicity=``; else 0.
        fields: ``key=value`` of the comment line, without those of columns and cell.
        isotopes: those with their own symbol, such as ``2H`` for D.
    """

    identifier: str
    numbers: np.ndarray = field(repr=False)
    positions: np.ndarray = field(repr=False)
    smiles: tuple[str, ...] = ()
    properties: tuple[float, ...] = ()
    charge: int = 0
    multiplicity: int = 0
    fields: dict[str, str] = field(default_factory=dict, repr=False)
    isotopes: tuple[str, ...] = ()


def parse_qm9_xyz(text: str, name: str) -> XYZRecord:
    """One file of the raw QM9 data, ``dsgdb9nsd_<number>.xyz``.

    Line 1 is the number of atoms; line 2 ``gdb``, its number and 15 properties (``QM9_PROPERTIES``; GHz, D, bohr^3,
    hartree, bohr^2, hartree, cal/mol/K); then an atom a line (element, x, y, z in angstrom, Mulliken charge),
    frequencies, two SMILES (GDB-17 and relaxed geometry), two InChI. ``*^`` stands for ``e`` in its numbers.

    Args:
        text: the file.
        name: its name in errors.

    Raises:
        UserError: a line is missing or malformed.
    """
    try:
        return _qm9_record(text.splitlines(), 1)
    except _Unreadable as error:
        raise UserError(f"{name}: {error}") from error


def iter_xyz(stream: Iterable[str]) -> Iterator[XYZRecord | Refusal]:
    """Frames of an XYZ file; blank lines between them are skipped.

    A frame that cannot be read is refused, and reading continues after the number of atoms that it announces. If that
    number is wrong, reading continues at the next complete frame: its number, a comment, as many atoms, and then
    another number or the end of the file.

    Args:
        stream: its lines, with any line endings.

    Yields:
        The frames, in order.
    """
    lines = _Lines(stream)
    while lines.skip_blank():
        first, size = lines.number, _size(lines.ahead(2))
        frame = lines.ahead(size)
        problem, record = _read(frame, first)
        wrong = problem if size == 1 else _wrong_count(lines, frame, size)
        lines.drop(min(2, size) if wrong else size)
        while wrong and lines.skip_blank() and not _begins_frame(lines):
            lines.drop(1)
        yield Refusal(_identifier(frame), wrong or problem) if wrong or record is None else record


# --- where frames begin and end -----------------------------------------------------------------------------


class _Unreadable(ValueError):
    """Why a frame cannot be read."""


class _Lines:
    """Lines of a stream with look-ahead.

    Attributes:
        number: of the next line, from 1.
    """

    def __init__(self, stream: Iterable[str]) -> None:
        self._rest = iter(stream)
        self._held: deque[str] = deque()
        self.number = 1

    def ahead(self, count: int) -> list[str]:
        """The next lines, fewer at the end."""
        self._held.extend(islice(self._rest, max(0, count - len(self._held))))
        return list(islice(self._held, count))

    def drop(self, count: int) -> None:
        for _ in self.ahead(count):
            self._held.popleft()
            self.number += 1

    def skip_blank(self) -> bool:
        """Go to the next line that is not blank; False at the end."""
        while line := self.ahead(1):
            if line[0].strip():
                return True
            self.drop(1)
        return False


def _size(begin: Sequence[str]) -> int:
    """Number of lines of the frame that begins with these two lines; 1 where none begins."""
    count = _COUNT.fullmatch(begin[0])
    if count is None or int(count[1]) == 0:
        return 1
    return int(count[1]) + (5 if len(begin) > 1 and _QM9_HEADER.match(begin[1]) else 2)


def _read(frame: list[str], first: int) -> tuple[str, XYZRecord | None]:
    try:
        is_qm9 = len(frame) > 1 and _QM9_HEADER.match(frame[1])
        return "", _qm9_record(frame, first) if is_qm9 else _plain_record(frame, first)
    except _Unreadable as error:
        return str(error), None


def _wrong_count(lines: _Lines, frame: list[str], size: int) -> str:
    """That the frame has another number of atoms than its first line says, or ""."""
    first = lines.number
    count = int(frame[0])
    for row, line in enumerate(frame[2 : count + 2]):
        if _COUNT.fullmatch(line):
            return f"{row} atoms follow line {first}, expected {count}: the next frame begins in line {first + 2 + row}"
    if len(frame) < size:
        return (
            f"ends after {max(len(frame) - 2, 0)} lines of the frame of line {first}, expected {size - 2}: the file "
            "was cut short"
        )
    behind = lines.ahead(size + 1)[size:]
    if behind and _is_atom(behind[0], frame):
        return f"more atoms follow line {first} than the {count} that it announces"
    return ""


def _is_atom(line: str, frame: list[str]) -> bool:
    try:
        _atom(line.split(), _columns(_folded(_pairs(frame[1]))))
    except _Unreadable:
        return False
    return True


def _begins_frame(lines: _Lines) -> bool:
    """Whether the next lines are certainly a frame."""
    size = _size(lines.ahead(2))
    if size == 1:
        return False
    frame = lines.ahead(size)
    if _read(frame, 0)[1] is None or _is_atom(frame[1], ["", ""]):
        return False
    behind = next((line for line in lines.ahead(size + 2)[size:] if line.strip()), None)
    return behind is None or _COUNT.fullmatch(behind) is not None


# --- frames -------------------------------------------------------------------------------------------------


def _qm9_record(lines: Sequence[str], first: int) -> XYZRecord:
    count = _atom_count(lines[0] if lines else "", first)
    if len(lines) < count + 4:
        raise _Unreadable(
            f"ends after {len(lines)} lines, expected {count + 5} for {count} atoms: the file was cut short"
        )
    words = lines[1].split()
    if len(words) != 2 + len(QM9_PROPERTIES) or words[0] != "gdb" or not words[1].isdecimal():
        raise _Unreadable(
            f"line {first + 1} is {_shown(lines[1])}, expected 'gdb', a number and {len(QM9_PROPERTIES)} values"
        )
    numbers, positions, _ = _atoms(lines[2 : count + 2], first + 2, _PLAIN)
    return XYZRecord(
        identifier=f"gdb_{int(words[1])}",
        numbers=numbers,
        positions=positions,
        smiles=tuple(dict.fromkeys(reversed(lines[count + 3].split()[:2]))),
        properties=tuple(_number(word, f"line {first + 1} holds ") for word in words[2:]),
    )


def _plain_record(lines: Sequence[str], first: int) -> XYZRecord:
    count = _atom_count(lines[0], first)
    if len(lines) < count + 2:
        raise _Unreadable(f"ends after {max(len(lines) - 2, 0)} atoms of the frame of line {first}, expected {count}")
    pairs = _pairs(lines[1])
    folded = _folded(pairs)
    _require_no_cell(folded)
    numbers, positions, isotopes = _atoms(lines[2 : count + 2], first + 2, _columns(folded))
    return XYZRecord(
        identifier=_identifier(lines),
        numbers=numbers,
        positions=positions,
        charge=_whole(folded, "charge", "totalcharge"),
        multiplicity=_whole(folded, "multiplicity", "spinmultiplicity"),
        fields={key: value for key, value in pairs.items() if key.lower() not in _LAYOUT},
        isotopes=isotopes,
    )


def _atom_count(line: str, number: int) -> int:
    count = _COUNT.fullmatch(line)
    if count is None or int(count[1]) == 0:
        raise _Unreadable(f"line {number} is {_shown(line)}, expected the number of atoms of an XYZ frame")
    return int(count[1])


def _identifier(frame: Sequence[str]) -> str:
    comment = frame[1].strip() if len(frame) > 1 else ""
    pairs = _folded(_pairs(comment))
    if "properties" in pairs or not re.sub(r"[\s,;]", "", _PAIR.sub("", comment)):
        return next((pairs[name] for name in _NAMES if pairs.get(name)), comment)
    return comment


def _pairs(comment: str) -> dict[str, str]:
    """``key=value`` of a comment; values may be quoted."""
    return {key: value.strip("\"'{}[]") for key, value in _PAIR.findall(comment)}


def _folded(pairs: dict[str, str]) -> dict[str, str]:
    """The same by keys in lower case without underscores."""
    return {key.lower().replace("_", ""): value for key, value in pairs.items()}


def _whole(pairs: dict[str, str], *names: str) -> int:
    word = next((pairs[name] for name in names if name in pairs), "0")
    value = _number(word, f"{names[0]}=")
    if value != int(value):
        raise _Unreadable(f"{names[0]}={word}, expected a whole number")
    return int(value)


def _require_no_cell(pairs: dict[str, str]) -> None:
    """Refuse a periodic frame; by the format a cell without ``pbc`` is periodic."""
    cell = [word for word in re.split(r"[\s,]+", pairs.get("lattice", "")) if word.strip("0.+-")]
    repeats = pairs.get("pbc", "T" if cell else "F")
    if re.search(r"[tT1]", repeats):
        raise _Unreadable(
            f"a periodic cell ({'pbc=' + repeats if 'pbc' in pairs else 'Lattice without pbc'}): expected a molecule; "
            'if it is one in a box, write pbc="F F F"'
        )


# --- atoms --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Columns:
    """Places of the columns of a line; ``total`` is their number, where known."""

    species: int | None
    number: int | None
    position: int
    total: int | None


_PLAIN = _Columns(species=0, number=None, position=1, total=None)


def _columns(pairs: dict[str, str]) -> _Columns:
    if (text := pairs.get("properties")) is None:
        return _PLAIN
    words = text.split(":")
    counts = [int(word) if re.fullmatch("[1-9][0-9]?", word) else 0 for word in words[2::3]]
    if len(words) % 3 or not all(counts):
        raise _Unreadable(f"Properties={text[:60]}, expected triples such as species:S:1:pos:R:3")
    begins = [sum(counts[:place]) for place in range(len(counts))]
    named = list(zip([word.lower() for word in words[::3]], begins, counts, strict=True))
    places = {name: (begin, count) for name, begin, count in reversed(named)}
    species, number, position = (
        next((places[name] for name in names if name in places), None)
        for names in (_SPECIES, _ATOMIC_NUMBERS, _POSITIONS)
    )
    if position is None or position[1] != 3 or (species or number or (0, 0))[1] != 1:
        raise _Unreadable(f"Properties={text[:60]}, expected one column of species (or Z) and three of pos among them")
    return _Columns(species and species[0], number and number[0], position[0], sum(counts))


def _atoms(lines: Sequence[str], first: int, columns: _Columns) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    numbers = np.empty(len(lines), dtype=np.uint8)
    positions = np.empty((len(lines), 3))
    isotopes = []
    rows = [line.split() for line in lines]
    for row, words in enumerate(rows):
        try:
            numbers[row], isotope, positions[row] = _atom(words, columns)
        except _Unreadable as error:
            raise _Unreadable(f"line {first + row} {error}") from error
        isotopes += [isotope] if isotope else []
    if columns is _PLAIN and all(re.fullmatch("[+-]?[0-9]+", row[1]) and _has_shifted(row) for row in rows):
        raise _Unreadable(
            f"line {first} has a whole number between element and coordinates, as all lines have; expected element, x, "
            "y, z, or Properties=… in the comment to say what the columns are"
        )
    return numbers, positions, tuple(dict.fromkeys(isotopes))


def _has_shifted(words: Sequence[str]) -> bool:
    """Whether columns 3 to 5 look like the coordinates."""
    return len(words) > 4 and all("." in word and _NUMBER.fullmatch(word) for word in words[2:5])


def _atom(words: Sequence[str], columns: _Columns) -> tuple[int, str, list[float]]:
    if len(words) < 4 or (columns.total is not None and len(words) != columns.total):
        what = "an element, x, y and z" if columns.total is None else f"{columns.total} columns as Properties says"
        raise _Unreadable(f"is {_shown(' '.join(words))}, expected {what}")
    told = [words[place] for place in (columns.species, columns.number) if place is not None]
    elements = [_element(word) for word in told]
    if len({number for number, _ in elements}) > 1:
        raise _Unreadable(f"calls one atom both {told[0]} and {told[1]}")
    values = [_number(word, "holds ") for word in words[columns.position : columns.position + 3]]
    return *elements[0], values


def _element(word: str) -> tuple[int, str]:
    """Atomic number, and the isotope that the symbol names, or ""."""
    if word.isdecimal() and 1 <= int(word) <= len(ELEMENTS):
        return int(word), ""
    label = _LABEL.fullmatch(word)
    symbol = label[1].capitalize() if label else ""
    isotope = _ISOTOPES.get(symbol, "")
    number = 1 if isotope else _NUMBER_OF.get(symbol, 0)
    if not number:
        raise _Unreadable(f"begins with {word!r}, expected the symbol of an element")
    return number, isotope


def _number(word: str, where: str) -> float:
    value = math.nan
    if _NUMBER.fullmatch(word):
        value = float(word.replace("*^", "e").replace("D", "e").replace("d", "e"))
    if not math.isfinite(value):
        raise _Unreadable(f"{where}{word!r}, expected a number")
    return value


def _shown(line: str) -> str:
    line = line.strip()
    return repr(line if len(line) <= 40 else line[:40] + "…") if line else "empty"
