"""Raw QM9 files of a few molecules in every layout: made here, with numbers that follow from the molecule's own."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CSV_NAMES = ("A", "B", "C", "mu", "alpha", "homo", "lumo", "gap", "r2", "zpve", "u0", "u298", "h298", "g298", "cv")
CSV_COLUMNS = ("mol_id", *CSV_NAMES, "u0_atom")


@dataclass(frozen=True)
class Shape:
    """Atoms, bonds with their orders, and a SMILES."""

    atoms: tuple[tuple[str, float, float, float], ...]
    bonds: tuple[tuple[int, int, int], ...]
    smiles: str


METHANE = Shape(
    (("C", 0, 0, 0), *(("H", 0.63 * a, 0.63 * b, 0.63 * a * b) for a in (1, -1) for b in (1, -1))),
    tuple((1, hydrogen, 1) for hydrogen in (2, 3, 4, 5)),
    "C",
)
WATER = Shape((("O", 0, 0, 0), ("H", 0.76, 0.59, 0), ("H", -0.76, 0.59, 0)), ((1, 2, 1), (1, 3, 1)), "O")
CYANIDE = Shape((("C", 0, 0, 0), ("N", 1.156, 0, 0), ("H", -1.068, 0, 0)), ((1, 2, 3), (1, 3, 1)), "C#N")
FORMALDEHYDE = Shape(
    (("C", 0, 0, 0), ("O", 1.21, 0, 0), ("H", -0.59, 0.94, 0), ("H", -0.59, -0.94, 0)),
    ((1, 2, 2), (1, 3, 1), (1, 4, 1)),
    "C=O",
)
SHAPES = (METHANE, WATER, CYANIDE, FORMALDEHYDE)


def shape(number: int) -> Shape:
    return SHAPES[number % len(SHAPES)]


def values(number: int) -> list[float]:
    """Fifteen properties in the order of the raw files, A to Cv, all different."""
    return [round(number + place / 16, 4) for place in range(15)]


def mol_block(title: str, one: Shape) -> str:
    lines = [title, "  by hand", "", f"{len(one.atoms):3d}{len(one.bonds):3d}  0  0  0  0  0  0  0  0999 V2000"]
    lines += [f"{x:10.4f}{y:10.4f}{z:10.4f} {symbol:3} 0  0  0  0  0  0" for symbol, x, y, z in one.atoms]
    lines += [f"{first:3d}{second:3d}{order:3d}  0" for first, second, order in one.bonds]
    return "\n".join([*lines, "M  END", ""])


def sdf_text(numbers: Sequence[int]) -> str:
    return "".join(f"{mol_block(f'gdb_{number}', shape(number))}$$$$\n" for number in numbers)


def csv_text(numbers: Sequence[int]) -> str:
    rows = (dict(zip(CSV_NAMES, values(number), strict=True)) for number in numbers)
    lines = [",".join(CSV_COLUMNS)]
    lines += [
        ",".join([f"gdb_{number}", *(str(row.get(name, -1.5)) for name in CSV_COLUMNS[1:])])
        for number, row in zip(numbers, rows, strict=True)
    ]
    return "\n".join([*lines, ""])


def xyz_text(number: int) -> str:
    one = shape(number)
    lines = [str(len(one.atoms)), f"gdb {number}\t" + "\t".join(map(str, values(number)))]
    lines += [f"{symbol}\t{x:.6f}\t{y:.6f}\t{z:.6f}\t 1.5*^-2" for symbol, x, y, z in one.atoms]
    return "\n".join([*lines, "1000.5\t2000.25", f"{one.smiles}\t{one.smiles}", "InChI=a\tInChI=b", ""])


def write_zip(path: Path, sdf: str, csv: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("gdb9.sdf", sdf)
        archive.writestr("gdb9.sdf.csv", csv)
    return path


def qm9_zip(path: Path, numbers: Sequence[int]) -> Path:
    return write_zip(path, sdf_text(numbers), csv_text(numbers))


def qm9_folder(folder: Path, numbers: Sequence[int]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gdb9.sdf").write_text(sdf_text(numbers))
    (folder / "gdb9.sdf.csv").write_text(csv_text(numbers))
    return folder


def write_tar(path: Path, files: dict[str, str]) -> Path:
    with tarfile.open(path, "w:bz2") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return path


def qm9_tar(path: Path, numbers: Sequence[int]) -> Path:
    return write_tar(path, {f"dsgdb9nsd_{number:06d}.xyz": xyz_text(number) for number in numbers})
