"""The raw files of QM9, read record by record; nothing is unpacked to disk. Imports neither torch nor rdkit.

Two layouts: ``gdb9.sdf`` with ``gdb9.sdf.csv``, as files or within a zip archive, and the published
``dsgdb9nsd.xyz.tar.bz2``, one XYZ file per molecule.
"""

from __future__ import annotations

import bz2
import io
import re
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import TextIOBase
from pathlib import Path

import numpy as np

from se3t.data.molecules.building import Made
from se3t.data.molecules.chemistry import molecule_from_xyz
from se3t.data.molecules.readers import Record, iter_sdf
from se3t.data.molecules.tables import Table, read_table
from se3t.data.molecules.xyz import QM9_PROPERTIES, parse_qm9_xyz
from se3t.data.qm9.splits import NUM_MOLECULES
from se3t.data.qm9.targets import QM9_TARGETS
from se3t.data.raw import open_member, readable
from se3t.errors import UserError

SDF, CSV = "gdb9.sdf", "gdb9.sdf.csv"
EXPECTED = f"qm9.zip, {SDF} with {CSV} beside it, dsgdb9nsd.xyz.tar.bz2, or a folder with one of them"

_COLUMNS = [target.column_csv for target in QM9_TARGETS.values()]
_PLACES = [QM9_PROPERTIES.index(name) for name in QM9_TARGETS]
_IDENTIFIER = re.compile(r"gdb_0*(\d+)")
_XYZ_NAME = re.compile(r"(?:.*/)?dsgdb9nsd_0*(\d+)\.xyz")
_MAX_XYZ_BYTES = 2**20  # the largest of QM9 has some kilobytes


@dataclass(frozen=True)
class RawFiles:
    """The raw files.

    Attributes:
        path: the archive, or the SDF file.
        layout: "sdf" or "xyz".
    """

    path: Path
    layout: str

    @property
    def files(self) -> tuple[Path, ...]:
        """All files to read."""
        return (self.path, self.path.with_name(CSV)) if self.path.suffix == ".sdf" else (self.path,)


def find_raw(path: Path) -> RawFiles:
    """The raw data that ``data.raw`` names.

    Args:
        path: a file, or a folder; in a folder ``gdb9.sdf`` comes first, then a zip archive, then one of XYZ files.

    Raises:
        UserError: there are no known files.
    """
    if not path.exists():
        raise UserError(f"data.raw={path}: not found; expected {EXPECTED}")
    file = _in_folder(path) if path.is_dir() else path
    if file.name.endswith((".tar.bz2", ".tbz2")):
        return RawFiles(file, "xyz")
    if file.suffix == ".zip":
        return RawFiles(file, "sdf")
    if file.suffix != ".sdf":
        raise UserError(f"data.raw={path}: a file of another kind; expected {EXPECTED}")
    if not file.with_name(CSV).is_file():
        raise UserError(f"{file.with_name(CSV)}: not found; expected the properties of the molecules beside {file}")
    return RawFiles(file, "sdf")


def _in_folder(folder: Path) -> Path:
    if (folder / SDF).is_file():
        return folder / SDF
    for known, pattern in (("qm9.zip", "*.zip"), ("dsgdb9nsd.xyz.tar.bz2", "*.tar.bz2")):
        archives = [folder / known] if (folder / known).is_file() else sorted(folder.glob(pattern))
        if len(archives) > 1:
            names = ", ".join(path.name for path in archives)
            raise UserError(f"data.raw={folder}: holds several archives ({names}); name the one to use")
        if archives:
            return archives[0]
    raise UserError(f"data.raw={folder}: holds none of the raw files; expected {EXPECTED}")


def iter_records(raw: RawFiles) -> Iterator[Record]:
    """The molecules of the raw data, in the order of the files.

    Yields:
        Records with a mol block and values, or with the text of an XYZ file that holds them.

    Raises:
        UserError: a file is damaged or cut short, SDF and CSV do not match, or a value is missing or no number. The
            message names file, record and column.
    """
    with readable(str(raw.path), "remove it and get it again, or name another file with data.raw=…"):
        if raw.layout == "xyz":
            yield from _xyz_records(raw.path)
        elif raw.path.suffix == ".zip":
            yield from _zip_records(raw.path)
        else:
            with (
                raw.path.open(encoding="utf-8", errors="replace") as sdf,
                raw.files[1].open(encoding="utf-8-sig") as csv,
            ):
                yield from _sdf_records(sdf, csv, str(raw.path), str(raw.files[1]))


def from_xyz(record: Record) -> Made:
    """The molecule of a record whose content is the text of a raw XYZ file, and its values."""
    parsed = parse_qm9_xyz(record.content, record.file)
    if parsed.identifier != record.identifier:
        raise UserError(f"{record.file}: holds molecule {parsed.identifier}, expected {record.identifier}")
    values = tuple(parsed.properties[place] for place in _PLACES)
    return replace(record, values=values), molecule_from_xyz(parsed)


# --- SDF and CSV ------------------------------------------------------------------------------------------------


def _zip_records(path: Path) -> Iterator[Record]:
    with zipfile.ZipFile(path) as archive:
        names = {Path(name).name: name for name in archive.namelist()}
        for name in (SDF, CSV):
            if name not in names:
                raise UserError(f"{path}: has no file {name}, expected {SDF} and {CSV} in it")
        with _text(archive, names[SDF]) as sdf, _text(archive, names[CSV]) as csv:
            try:
                yield from _sdf_records(sdf, csv, f"{path}:{SDF}", f"{path}:{CSV}")
            except UserError:
                # A wrong checksum shows at the end of a file only; damaged text may show before.
                if bad := archive.testzip():
                    raise zipfile.BadZipFile(f"wrong checksum of {bad}") from None
                raise


@contextmanager
def _text(archive: zipfile.ZipFile, name: str) -> Iterator[TextIOBase]:
    with open_member(archive, name) as member, io.TextIOWrapper(member, encoding="utf-8-sig", errors="replace") as text:
        yield text


def _sdf_records(sdf: TextIOBase, csv: TextIOBase, sdf_name: str, csv_name: str) -> Iterator[Record]:
    table = read_table(csv, name=csv_name, columns=["mol_id", *_COLUMNS])
    identifiers, values = [cell.strip() for cell in table.cells["mol_id"]], _values(table, csv_name)
    count = 0
    for count, record in enumerate(iter_sdf(sdf, sdf_name), start=1):
        if count > len(identifiers):
            raise UserError(
                f"{sdf_name} and {csv_name} are out of step: the former has more records than the {len(identifiers)} "
                "rows of the latter, expected one row for each; take both from the same archive"
            )
        expected = identifiers[count - 1]
        if record.identifier != expected:
            raise UserError(
                f"{sdf_name} and {csv_name} are out of step: record {count} is {record.identifier!r} in the former and "
                f"{expected!r} in the latter; take both from the same archive"
            )
        number = _number(expected, f"{csv_name}: row {count}")
        yield replace(record, index=number, fields={}, values=tuple(values[count - 1].tolist()))
    if count < len(identifiers):
        raise UserError(
            f"{sdf_name} and {csv_name} are out of step: {count} records and {len(identifiers)} rows, expected as "
            "many; take both from the same archive"
        )


def _values(table: Table, name: str) -> np.ndarray:
    """``[molecule, column]``."""
    columns = []
    for column in _COLUMNS:
        numbers = table.numbers(column)
        if isinstance(numbers, str):
            raise UserError(f"{name}: {numbers}")
        for row in np.flatnonzero(np.isnan(numbers.values))[:1]:
            raise UserError(
                f"{name}: row {row + 1} ({table.cells['mol_id'][row]}) has no value in column {column!r}, expected a "
                "number"
            )
        columns.append(numbers.values)
    return np.stack(columns, axis=1)


def _number(identifier: str, where: str) -> int:
    match = _IDENTIFIER.fullmatch(identifier)
    if match is None or not 1 <= int(match[1]) <= NUM_MOLECULES:
        raise UserError(f"{where} is {identifier!r}, expected gdb_<number> with a number from 1 to {NUM_MOLECULES}")
    return int(match[1])


# --- raw XYZ ----------------------------------------------------------------------------------------------------


def _xyz_records(path: Path) -> Iterator[Record]:
    has_records = False
    with bz2.open(path) as unpacked, tarfile.open(fileobj=unpacked, mode="r:") as archive:
        while (member := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # the list of all members read so far would fill memory
            match = _XYZ_NAME.fullmatch(member.name)
            content = archive.extractfile(member) if match and member.isfile() else None
            if match is None or (content is None and member.isfile()):
                continue
            if not member.isfile() or member.size > _MAX_XYZ_BYTES:
                what = f"has {member.size} bytes" if member.isfile() else "is a link"
                raise UserError(f"{path}: {member.name} {what}, expected a file of one molecule; get it again")
            has_records = True
            number = _number(f"gdb_{match[1]}", f"{path}: {member.name}")
            assert content is not None
            text = content.read().decode("utf-8", errors="replace")
            yield Record(f"gdb_{number}", "xyz", text, file=f"{path}: {member.name}", index=number)
        while unpacked.read(1 << 20):
            pass  # bz2 compares checksums at the end of its blocks, and the last block ends after the last molecule
    if not has_records:
        raise UserError(f"{path}: has no file dsgdb9nsd_<number>.xyz, expected the raw files of QM9")
