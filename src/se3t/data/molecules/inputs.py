"""Molecules of files that somebody brings: SDF, XYZ or SMILES, each with what speaks against using it.

Imports neither torch nor rdkit.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from se3t.data.molecules.chemistry import (
    missing_hydrogens,
    molecule_from_smiles,
    molecules_from_blocks,
    molecules_from_xyz,
)
from se3t.data.molecules.decoding import DAMAGE, open_text
from se3t.data.molecules.molecule import Molecule, Refusal
from se3t.data.molecules.parallel import available_cores, map_chunks
from se3t.data.molecules.readers import XYZRecord, iter_sdf, iter_xyz
from se3t.errors import UserError

ENDINGS = {".sdf": "sdf", ".mol": "sdf", ".xyz": "xyz", ".smi": "smiles", ".txt": "smiles", ".csv": "table"}
"""Format of a file by the end of its name, which may be followed by ``.gz``."""

CHUNK_SIZES = {"sdf": 500, "xyz": 500, "smiles": 50, "table": 50}
"""Records that are built at once, by format; a file of more is built by several processes."""
_MAX_WORKERS = 8
_CLOSEST = 0.5  # angstrom; the shortest bond there is, that of H2, has 0.74


@dataclass(frozen=True)
class Entry:
    """One record of a file.

    Attributes:
        file: name as given.
        index: number of the record in it, from 1; 0 for the file as a whole.
        identifier: what the file calls it; for SMILES without a name the SMILES.
        molecule: None where there is none to use.
        problem: why, in a few words.
        notes: what to beware of, in a few words each.
        embedded: its geometry was made by RDKit, of a SMILES.
    """

    file: str
    index: int
    identifier: str
    molecule: Molecule | None = None
    problem: str = ""
    notes: tuple[str, ...] = ()
    embedded: bool = False


@dataclass(frozen=True)
class Record:
    """What a file says of one molecule.

    Attributes:
        file: name as given.
        index: number of the record in it, from 1; 0 for the file as a whole.
        identifier: what the file calls it; may be empty.
        kind: of the content: ``sdf``, ``xyz``, ``smiles`` or ``problem``.
        content: a mol block, an :class:`XYZRecord`, a SMILES; or why it cannot be read, in a few words.
        fields: further values by name: data fields of an SDF, ``key=value`` of an XYZ comment, cells of a table.
    """

    file: str
    index: int
    identifier: str
    kind: str
    content: Any = field(repr=False)
    fields: dict[str, str] = field(default_factory=dict, repr=False)


def read_molecules(paths: Iterable[Path]) -> Iterator[Entry]:
    """Every record of some files, in order; none is left out: see :func:`read_records` and :func:`entries_of`.

    Args:
        paths: as :func:`require_readable` accepts them.

    Yields:
        Entries, while the files are read.
    """
    workers = min(available_cores(), _MAX_WORKERS)
    for path in paths:
        yield from map_chunks(entries_of, read_records(path), workers=workers, chunk_size=CHUNK_SIZES[format_of(path)])


def count_records(paths: Iterable[Path]) -> int:
    """Number of entries that :func:`read_molecules` will find."""
    return sum(1 for path in paths for _ in read_records(path))


def require_readable(paths: Iterable[Path]) -> None:
    """Look at the files before all the work.

    Raises:
        UserError: one is missing, cannot be opened, or is of no known format.
    """
    for path in paths:
        if format_of(path) == "":
            raise UserError(f"{path}: of no known format; expected a file that ends with {', '.join(ENDINGS)}, or .gz")
        try:
            with path.open("rb"):
                pass
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); expected a file with molecules") from error


def format_of(path: Path) -> str:
    """Format of a file by its name: ``sdf``, ``xyz``, ``smiles``, ``table`` (CSV with a column of SMILES), or none."""
    name = path.name.lower().removesuffix(".gz")
    return ENDINGS.get(Path(name).suffix, "")


# --- records ------------------------------------------------------------------------------------------------


def iter_records(path: Path) -> Iterator[Record]:
    """The records of a file, in order, in constant memory. A record that cannot be read is one of kind ``problem``.

    Args:
        path: of a known format: :func:`format_of`.

    Raises:
        UserError: it cannot be opened, or what follows cannot be read.
    """
    try:
        with open_text(path) as text:
            found = _READERS[format_of(path)](text.lines, str(path))
            for number, (identifier, kind, content, fields) in enumerate(found, start=1):
                yield Record(str(path), number, identifier, kind, content, fields)
    except DAMAGE as error:
        raise UserError(f"{path}: cannot be read ({error}); the file is damaged, get it again") from error


def read_records(path: Path) -> Iterator[Record]:
    """As :func:`iter_records`; what cannot be read to the end, or holds no record, ends in one of kind ``problem``."""
    number = 0
    try:
        for record in iter_records(path):
            number = record.index
            yield record
    except UserError as error:
        reason = " ".join(str(error).removeprefix(f"{path}: ").split())
        yield Record(str(path), number + 1, "", "problem", f"cannot be read, nor what follows it: {reason}")
        return
    if number == 0:
        yield Record(str(path), 0, "", "problem", "the file holds no molecule")


_Found = tuple[str, str, Any, dict[str, str]]  # identifier, kind, content, fields


def _sdf(stream: Iterable[str], name: str) -> Iterator[_Found]:
    for record in iter_sdf(stream, name):
        yield record.identifier, "sdf", record.block, record.fields


def _xyz(stream: Iterable[str], name: str) -> Iterator[_Found]:
    for record in iter_xyz(stream, name):
        yield record.identifier, "xyz", record, {}


def _smiles(stream: Iterable[str], name: str) -> Iterator[_Found]:
    """Lines of a SMILES and a name, between them blanks, a tab, a comma or a semicolon; ``#`` begins a comment."""
    lines: Iterator[str] = (
        line for line in stream if line.strip() and not line.startswith("#")
    )  # no SMILES begins with a #
    first = next(lines, "")
    if _folded(_split(first)[0]) not in _SMILES_NAMES:
        lines = chain([first] if first else [], lines)
    elif _delimiter(first):
        yield from _table(chain([first], lines), name, strict=False)
        return
    for line in lines:
        identifier, smiles = _split_line(line)
        yield identifier or smiles, "smiles", smiles, {}


def _split(line: str) -> list[str]:
    return re.split(r"[\s,;]+", line.strip(), maxsplit=1)


def _split_line(line: str) -> tuple[str, str]:
    """Name and SMILES of a line, the latter with its extension (CXSMILES) if there is one."""
    smiles, rest = [*_split(line), ""][:2]
    if extension := re.match(r"\|[^|]*\|", rest):
        smiles, rest = f"{smiles} {extension[0]}", rest[extension.end() :]
    return rest.strip(" \t\r\n,;").split("\t")[0].strip().strip('"'), smiles


_SMILES_NAMES = ("smiles", "canonicalsmiles", "isomericsmiles", "smi")
_NAMES = ("name", "id", "identifier", "title", "molid", "compound", "compoundid", "molecule")


def _folded(word: str) -> str:
    return re.sub(r"[\W_]", "", word).lower()


def _delimiter(header: str) -> str:
    """Comma, semicolon or tab: what is there most often out of quotes; or nothing."""
    outside = re.sub(r'"[^"]*"', "", header)
    most = max(",;\t", key=outside.count)
    return most if most in outside else ""


def _table(stream: Iterable[str], name: str, strict: bool = True) -> Iterator[_Found]:
    """Rows of a table with a column of SMILES; a column that is called name, id or the like holds identifiers.

    Args:
        stream: its lines.
        name: of the file.
        strict: whether a row must have as many cells as the header, wherever the SMILES stand.
    """
    lines = iter(stream)
    first = next((line for line in lines if line.strip()), "")
    if not first:
        return
    reader = csv.reader(chain([first], lines), delimiter=_delimiter(first) or ",", skipinitialspace=True)
    header = [cell.strip() for cell in next(reader)]
    place, title = _smiles_column(header, name), _first_of(_NAMES, header)
    for row in reader:
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        if len(cells) != len(header) and (strict or place):
            problem = f"line {reader.line_num} has {len(cells)} cells, expected {len(header)} as in its first line"
            yield "", "problem", problem, {}
            continue
        fields = {key: cell for key, cell in zip(header, cells, strict=False) if key != header[place]}
        identifier, smiles = _split_line(cells[place])
        yield (
            (fields.get(header[title], "") if title is not None else "") or identifier or smiles,
            "smiles",
            smiles,
            fields,
        )


def _smiles_column(header: list[str], name: str) -> int:
    place = _first_of(_SMILES_NAMES, header)
    if place is None:
        found = [number for number, cell in enumerate(header) if "smiles" in cell.lower()]
        if len(found) != 1:
            raise UserError(
                f"{name}: has {len(found) or 'no'} columns of SMILES ({', '.join(header)[:80]}), expected one called "
                "smiles"
            )
        place = found[0]
    return place


def _first_of(names: Iterable[str], header: list[str]) -> int | None:
    folded = [_folded(cell) for cell in header]
    return next((folded.index(name) for name in names if name in folded), None)


_READERS: dict[str, Callable[[Iterable[str], str], Iterator[_Found]]] = {
    "sdf": _sdf,
    "xyz": _xyz,
    "smiles": _smiles,
    "table": _table,
}


# --- entries ------------------------------------------------------------------------------------------------


def entries_of(records: list[Record]) -> list[Entry]:
    """The molecules of some records, each with what speaks against using it; the same for prediction and training.

    A record without a molecule, without places in space, with a charge or without all its hydrogen atoms becomes an
    entry that says so.

    Returns:
        One for each record, in order.
    """
    return [_entry(record) for record in records]


def _entry(record: Record) -> Entry:
    entry = Entry(record.file, record.index, record.identifier)
    if record.kind == "problem":
        return replace(entry, problem=record.content)
    found = _built(record.kind, record.content, record.identifier)
    if isinstance(found, Refusal):
        lacking = "; are all hydrogen atoms in the file?" if record.kind == "xyz" else ""
        return replace(entry, problem=found.reason + lacking)
    if problem := problem_of(found, record.content if record.kind == "sdf" else "") or charge_of(found):
        return replace(entry, problem=problem)
    embedded = record.kind == "smiles"
    return replace(entry, molecule=found, notes=tuple(_notes(found, record.kind)), embedded=embedded)


def _built(kind: str, content: Any, identifier: str) -> Molecule | Refusal:
    if kind == "smiles":
        return molecule_from_smiles(content, identifier)
    if kind == "sdf":
        return molecules_from_blocks([(identifier, content)])[0]
    assert isinstance(content, XYZRecord)
    return molecules_from_xyz([content])[0]


def problem_of(molecule: Molecule, block: str = "") -> str:
    """Why a molecule as it stands in its file can be no input of a model, in a few words; or nothing.

    Args:
        molecule: what was made of it.
        block: its mol block, if it has one.
    """
    if reason := no_geometry(molecule):
        return reason
    distance = _smallest_distance(molecule.positions)
    if distance < _CLOSEST:
        return f"two atoms are {distance:.2f} angstrom apart: not a geometry of a molecule"
    return _lacks_hydrogens(block) if block else ""


def no_geometry(molecule: Molecule) -> str:
    """That a molecule has no places in space, or nothing."""
    if not molecule.is_3d or (len(molecule) > 1 and np.ptp(molecule.positions, axis=0).max() == 0):
        return "no 3-D coordinates (a drawing, or all atoms at one place)"
    return ""


def charge_of(molecule: Molecule) -> str:
    """That a molecule has a total charge, which no model sees, or nothing."""
    return f"total charge {molecule.charge:+d}: predictions are for neutral molecules" if molecule.charge else ""


def _lacks_hydrogens(block: str) -> str:
    count = missing_hydrogens(block)
    atoms = "1 hydrogen atom is" if count == 1 else f"{count} hydrogen atoms are"
    return f"{atoms} implied and not listed; add hydrogens with their coordinates" if count else ""


def _smallest_distance(positions: np.ndarray) -> float:
    from scipy.spatial import cKDTree

    return float(cKDTree(positions).query(positions, k=2)[0][:, 1].min())  # infinite for a single atom


def _notes(molecule: Molecule, kind: str) -> Iterator[str]:
    if molecule.method == "kekulised":
        yield "RDKit refuses its valences: bonds as in the file, none aromatic"
    elif molecule.method in ("reconnected", "connectivity"):
        yield "its bonds have no orders, and none could be found that satisfy its valences as they are"
    if kind == "xyz" and (molecule.numbers == 6).sum() > 1 and not (molecule.numbers == 1).any():
        yield "no hydrogen atom: are they missing?"
    count = _num_fragments(len(molecule), molecule.bonds)
    if count > 1:
        yield f"{count} separate parts, as if they were one molecule"


def _num_fragments(num_atoms: int, bonds: np.ndarray) -> int:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    pairs = bonds.astype(np.int32)
    joined = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(num_atoms, num_atoms))
    return int(connected_components(joined, directed=False, return_labels=False))
