"""Molecules of files that somebody brings: SDF, XYZ or SMILES, each with what speaks against using it.

Imports neither torch nor rdkit.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from se3t.data.molecules.chemistry import (
    missing_hydrogens,
    molecule_from_smiles,
    molecules_from_blocks,
    molecules_from_xyz,
)
from se3t.data.molecules.molecule import Molecule, Refusal
from se3t.data.molecules.parallel import available_cores, map_chunks
from se3t.data.molecules.readers import XYZRecord, iter_sdf, iter_xyz
from se3t.errors import UserError

ENDINGS = {".sdf": "sdf", ".mol": "sdf", ".xyz": "xyz", ".smi": "smiles", ".txt": "smiles"}
"""Format of a file by the end of its name, which may be followed by ``.gz``."""

_CHUNKS = {"sdf": 500, "xyz": 500, "smiles": 50}  # records; a file of more is built by several processes
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
class _Record:
    """What a file says of one molecule: a mol block, an :class:`XYZRecord`, a SMILES; or why it cannot be read."""

    file: str
    index: int
    identifier: str
    kind: str
    content: Any = field(repr=False)


def read_molecules(paths: Iterable[Path]) -> Iterator[Entry]:
    """Every record of some files, in order; none is left out.

    A record without a molecule, without places in space, or without all its hydrogen atoms becomes an entry that says
    so; a file that is damaged somewhere, one that says what came before it.

    Args:
        paths: as :func:`require_readable` accepts them.

    Yields:
        Entries, while the files are read.
    """
    workers = min(available_cores(), _MAX_WORKERS)
    for path in paths:
        yield from map_chunks(_entries, _records(path), workers=workers, chunk_size=_CHUNKS[_format(path)])


def count_records(paths: Iterable[Path]) -> int:
    """Number of entries that :func:`read_molecules` will find."""
    return sum(1 for path in paths for _ in _records(path))


def require_readable(paths: Iterable[Path]) -> None:
    """Look at the files before all the work.

    Raises:
        UserError: one is missing, cannot be opened, or is of no known format.
    """
    for path in paths:
        if _format(path) == "":
            raise UserError(f"{path}: of no known format; expected a file that ends with {', '.join(ENDINGS)}, or .gz")
        try:
            with path.open("rb"):
                pass
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); expected a file with molecules") from error


def _format(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz")
    return ENDINGS.get(Path(name).suffix, "")


# --- records ------------------------------------------------------------------------------------------------


def _records(path: Path) -> Iterator[_Record]:
    kind, number = _format(path), 0
    try:
        with _text(path) as stream:
            for identifier, content in _READERS[kind](stream, str(path)):
                number += 1
                yield _Record(str(path), number, identifier, kind, content)
    except (UserError, OSError, EOFError, zlib.error) as error:
        reason = " ".join(str(error).removeprefix(f"{path}: ").split())
        yield _Record(str(path), number + 1, "", "problem", f"cannot be read, nor what follows it: {reason}")
        return
    if number == 0:
        yield _Record(str(path), 0, "", "problem", "the file holds no molecule")


@contextmanager
def _text(path: Path) -> Iterator[Iterable[str]]:
    """Names may be in any encoding, the rest is ASCII."""
    if path.name.lower().endswith(".gz"):
        with gzip.open(path, "rt", encoding="utf-8-sig", errors="replace") as stream:
            yield stream
    else:
        with path.open(encoding="utf-8-sig", errors="replace") as stream:
            yield stream


def _sdf(stream: Iterable[str], name: str) -> Iterator[tuple[str, Any]]:
    for record in iter_sdf(stream, name):
        yield record.identifier, record.block


def _xyz(stream: Iterable[str], name: str) -> Iterator[tuple[str, Any]]:
    for record in iter_xyz(stream, name):
        yield record.identifier, record


def _smiles(stream: Iterable[str], name: str) -> Iterator[tuple[str, Any]]:
    for line in stream:
        words = line.split(maxsplit=1)
        if words and not words[0].startswith("#"):  # a comment: no SMILES begins with a triple bond
            yield words[-1].strip(), words[0]


_READERS: dict[str, Callable[[Iterable[str], str], Iterator[tuple[str, Any]]]] = {
    "sdf": _sdf,
    "xyz": _xyz,
    "smiles": _smiles,
}


# --- entries ------------------------------------------------------------------------------------------------


def _entries(records: list[_Record]) -> list[Entry]:
    return [_entry(record) for record in records]


def _entry(record: _Record) -> Entry:
    entry = Entry(record.file, record.index, record.identifier, embedded=record.kind == "smiles")
    if record.kind == "problem":
        return replace(entry, problem=record.content)
    found = _built(record.kind, record.content, record.identifier)
    if isinstance(found, Refusal):
        lacking = "; are all hydrogen atoms in the file?" if record.kind == "xyz" else ""
        return replace(entry, problem=found.reason + lacking, embedded=False)
    if problem := problem_of(found, record.content if record.kind == "sdf" else ""):
        return replace(entry, problem=problem, embedded=False)
    return replace(entry, molecule=found, notes=tuple(_notes(found, record.kind)))


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
