"""Molecules from user files (SDF, XYZ or SMILES), each with the reasons against using it.

Imports neither torch nor rdkit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from se3t.data.molecules.chemistry import missing_hydrogens, molecule_from_block, molecule_from_xyz
from se3t.data.molecules.closeness import NOBLE_GASES, implausible, lone_atoms, parts, unusual
from se3t.data.molecules.decoding import DAMAGE, open_text
from se3t.data.molecules.embedding import molecule_from_smiles
from se3t.data.molecules.molecule import Molecule, Refusal
from se3t.data.molecules.parallel import available_cores, map_chunks
from se3t.data.molecules.readers import Record, iter_sdf, iter_smiles, iter_table
from se3t.data.molecules.xyz import XYZRecord, iter_xyz
from se3t.errors import UserError

ENDINGS = {".sdf": "sdf", ".mol": "sdf", ".xyz": "xyz", ".smi": "smiles", ".txt": "smiles", ".csv": "table"}
"""Format of a file by the end of its name, which may be followed by ``.gz``."""

CHUNK_SIZES = {"sdf": 500, "xyz": 500, "smiles": 50, "table": 50}
"""Records of a chunk, by format; a file with more records is built by several processes."""
_MAX_WORKERS = 8


@dataclass(frozen=True)
class Entry:
    """One record of a file.

    Attributes:
        file: name as given.
        index: number of the record in it, from 1; 0 for the file as a whole.
        identifier: its name in the file; for SMILES without a name the SMILES.
        molecule: None where it cannot be used.
        problem: why, in a few words.
        notes: warnings, in a few words each.
        embedded: RDKit made its geometry from a SMILES.
    """

    file: str
    index: int
    identifier: str
    molecule: Molecule | None = None
    problem: str = ""
    notes: tuple[str, ...] = ()
    embedded: bool = False


def read_molecules(paths: Iterable[Path]) -> Iterator[Entry]:
    """Every record of some files, in order: see :func:`read_records` and :func:`entries_of`.

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
    """Check that the files can be read.

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
    """Format of a file by its name: ``sdf``, ``xyz``, ``smiles``, ``table`` (CSV with a column of SMILES), or ""."""
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
            for number, record in enumerate(_READERS[format_of(path)](text.lines, str(path)), start=1):
                has_note = not record.identifier.isascii() and text.encoding == "latin-1"
                note = f"its file is {text.note}" if has_note else ""
                yield replace(record, file=str(path), index=number, note=note)
    except DAMAGE as error:
        raise UserError(f"{path}: cannot be read ({error}); the file is damaged, get it again") from error


def read_records(path: Path) -> Iterator[Record]:
    """As :func:`iter_records`; a file that is damaged or empty ends with a record of kind ``problem``."""
    number = 0
    try:
        for record in iter_records(path):
            number = record.index
            yield record
    except UserError as error:
        reason = " ".join(str(error).removeprefix(f"{path}: ").split())
        problem = f"cannot be read, nor what follows it: {reason}"
        yield Record("", "problem", problem, file=str(path), index=number + 1)
        return
    if number == 0:
        yield Record("", "problem", "the file holds no molecule", file=str(path))


def _xyz(stream: Iterable[str], name: str) -> Iterator[Record]:
    for record in iter_xyz(stream):
        if isinstance(record, Refusal):
            yield Record(record.identifier, "problem", record.reason)
        else:
            yield Record(record.identifier, "xyz", record, record.fields)


_READERS: dict[str, Callable[[Iterable[str], str], Iterator[Record]]] = {
    "sdf": iter_sdf,
    "xyz": _xyz,
    "smiles": iter_smiles,
    "table": iter_table,
}


# --- entries ------------------------------------------------------------------------------------------------


def entries_of(records: list[Record]) -> list[Entry]:
    """The molecules of some records, each with the reasons against using it; the same for prediction and training.

    A record without a molecule, without 3-D coordinates, with a charge or without all its hydrogen atoms becomes an
    entry with a problem.

    Returns:
        One for each record, in order.
    """
    return [_entry(record) for record in records]


def _entry(record: Record) -> Entry:
    entry = Entry(record.file, record.index, record.identifier)
    if record.kind == "problem":
        return replace(entry, problem=record.content)
    if record.kind == "xyz" and (problem := _problem_of_frame(record.content)):
        return replace(entry, problem=problem)
    molecule = _built(record)
    if isinstance(molecule, Refusal):
        lacking = "; are all hydrogen atoms in the file?" if record.kind == "xyz" else ""
        return replace(entry, problem=molecule.reason + lacking)
    made_up = "in the geometry that RDKit makes of it, " if record.kind == "smiles" and implausible(molecule) else ""
    if problem := _problem_of(molecule, record.content if record.kind == "sdf" else ""):
        return replace(entry, problem=f"{made_up}{problem}")
    notes = (*([record.note] if record.note else []), *molecule.notes, *_notes(molecule, record.kind))
    return replace(entry, molecule=molecule, notes=notes, embedded=record.kind == "smiles")


def _problem_of_frame(record: XYZRecord) -> str:
    """Problems of a frame that show without its bonds; they may be why no bonds can be found."""
    return (
        lone_atoms(record.numbers, record.positions)
        or _charge_of(record.charge)
        or (f"multiplicity {record.multiplicity}: {_CLOSED_SHELLS}" if record.multiplicity > 1 else "")
        or (f"{odd}; are all hydrogen atoms in the file?" if (odd := _odd_electrons(record.numbers)) else "")
    )


def _built(record: Record) -> Molecule | Refusal:
    if record.kind == "smiles":
        return molecule_from_smiles(record.content, record.identifier)
    if record.kind == "sdf":
        return molecule_from_block(record.identifier, record.content)
    return molecule_from_xyz(record.content)


def _problem_of(molecule: Molecule, block: str = "") -> str:
    """Why a molecule cannot be the input of a model, in a few words, or "".

    Args:
        molecule: with its bonds.
        block: its mol block, if it has one.
    """
    return (
        no_geometry(molecule)
        or implausible(molecule)
        or (_lacks_hydrogens(block) if block else "")
        or _charge_of(molecule.charge)
        or _unpaired(molecule)
    )


def no_geometry(molecule: Molecule) -> str:
    """That a molecule has no 3-D coordinates, or ""."""
    if not molecule.is_3d or (len(molecule) > 1 and np.ptp(molecule.positions, axis=0).max() == 0):
        return "no 3-D coordinates (a drawing, or all atoms at one place)"
    return ""


def _charge_of(charge: int) -> str:
    """That a molecule has a total charge, which is no input of a model, or ""."""
    return f"total charge {charge:+d}: predictions are for neutral molecules" if charge else ""


_CLOSED_SHELLS = "predictions are for molecules without unpaired electrons"
_TRIPLETS = frozenset((8, 16, 34))  # pairs of them are triplets in their ground state


def _odd_electrons(numbers: np.ndarray) -> str:
    count = int(numbers.sum(dtype=np.int64))
    return f"a radical (an odd number of electrons, {count}): {_CLOSED_SHELLS}" if count % 2 else ""


def _unpaired(molecule: Molecule) -> str:
    """That a neutral molecule has unpaired electrons, which are no input of a model, or ""."""
    numbers = set(molecule.numbers.tolist())
    if molecule.unpaired:
        electrons = "1 unpaired electron" if molecule.unpaired == 1 else f"{molecule.unpaired} unpaired electrons"
        return f"a radical ({electrons}): {_CLOSED_SHELLS}"
    if len(molecule) == 1 and not numbers <= NOBLE_GASES:
        return f"a single atom with an open shell: {_CLOSED_SHELLS}"
    if len(molecule) == 2 and numbers <= _TRIPLETS:
        return f"a triplet in its ground state, as O2 is: {_CLOSED_SHELLS}"
    return _odd_electrons(molecule.numbers)


def _lacks_hydrogens(block: str) -> str:
    count = missing_hydrogens(block)
    atoms = "1 hydrogen atom is" if count == 1 else f"{count} hydrogen atoms are"
    return f"{atoms} implied and not listed; add hydrogens with their coordinates" if count else ""


def _notes(molecule: Molecule, kind: str) -> Iterator[str]:
    if molecule.method == "kekulised":
        yield "valences that RDKit refuses: bonds as in the file, none aromatic"
    elif molecule.method in ("reconnected", "connectivity"):
        yield "bonds without orders: none were found that satisfy its valences"
    if kind == "xyz" and (molecule.numbers == 6).sum() > 1 and not (molecule.numbers == 1).any():
        yield "no hydrogen atom: are they missing?"
    yield from unusual(molecule)
    count = int(parts(molecule).max()) + 1
    if count > 1:
        yield f"separate parts: {count}, as if they were one molecule"
