"""The published files of ScanObjectNN, found in a folder or a zip archive, read and checked. Imports no torch.

Layout: ``main_split_nobg`` (objects alone) and ``main_split`` (with background), each with a training and a test file
for every variant. A file holds ``data`` ``[object, 2048, 3]``, ``label`` ``[object]`` and sometimes ``mask``
``[object, 2048]``, −1 for points of the background. Nothing is unpacked to disk.

Source: https://github.com/hkust-vgd/scanobjectnn, README and training_data/README (names, keys, labels, mask).
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase, BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, cast

import numpy as np

from se3t.data.clouds.objects import CLASSES, NUM_POINTS, split_sizes
from se3t.data.raw import open_member, readable
from se3t.data.store import read_hdf5
from se3t.errors import UserError

SUFFIXES = {
    "obj": "",
    "pb_t25": "_augmented25_norot",
    "pb_t25_r": "_augmented25rot",
    "pb_t50_r": "_augmentedrot",
    "pb_t50_rs": "_augmentedrot_scale75",
}
"""How the names of a variant's files end."""
FOLDERS = {False: "main_split_nobg", True: "main_split"}
"""Folder of the files, by ``data.background``."""
SIDES = {"train": "training", "test": "test"}
"""How the name of a split's file begins."""
OFFICIAL = {"train": 2309, "test": 581}
"""Objects in the published files of the unperturbed variant, with and without background."""

_OTHER_FOLDERS = {f"split{number}{end}" for number in range(1, 5) for end in ("", "_nobg")}  # other official splits
_DEPTH = 3  # folders below the one given: <given>/h5_files/main_split_nobg/<file>
_LISTED = 8  # files that an error names
_BACKGROUND = -1  # of a mask


def file_name(variant: str, split: str) -> str:
    """Published name of a file, for example "training_objectdataset.h5"."""
    return f"{SIDES[split]}_objectdataset{SUFFIXES[variant]}.h5"


@dataclass(frozen=True)
class RawFiles:
    """A pair of raw files.

    Attributes:
        root: folder, or zip archive, that holds them.
        folder: theirs, within ``root``.
        variant: key of ``SUFFIXES``.
    """

    root: Path
    folder: PurePosixPath
    variant: str

    def name(self, split: str) -> str:
        """Path of the file of a split, after that of its archive if it is in one."""
        inner = self.folder / file_name(self.variant, split)
        return f"{self.root}:{inner}" if self.root.is_file() else str(self.root / inner)

    def checksums(self) -> dict[str, str]:
        """SHA-256 of each file by its published name; the same in a folder and in an archive.

        Raises:
            UserError: a file cannot be read.
        """
        digests = {}
        for split in SIDES:
            with readable(self.name(split)), self._open(split) as file:
                digests[file_name(self.variant, split)] = hashlib.file_digest(file, "sha256").hexdigest()
        return digests

    def read(self, split: str) -> RawObjects:
        """The objects of a split, checked.

        Raises:
            UserError: the file is damaged or incomplete; the message names file and field.
        """
        name = self.name(split)
        source: Path | BytesIO = self.root / self.folder / file_name(self.variant, split)
        if self.root.is_file():
            with readable(name), self._open(split) as file:
                source = BytesIO(file.read())
        arrays = read_hdf5(source, name, ["data", "label"], ["mask"])
        _check_data(arrays["data"], name)
        _check_labels(arrays["label"], len(arrays["data"]), name)
        return RawObjects(arrays["data"], arrays["label"].astype(np.uint8), _background(arrays, name))

    @contextmanager
    def _open(self, split: str) -> Iterator[BufferedIOBase]:
        inner = self.folder / file_name(self.variant, split)
        if self.root.is_file():
            with zipfile.ZipFile(self.root) as archive:
                entry = next(name for name in archive.namelist() if PurePosixPath(name) == inner)
                with open_member(archive, entry) as member:
                    yield cast(BufferedIOBase, member)  # its declared type is less
        else:
            with (self.root / inner).open("rb") as file:
                yield file


@dataclass(frozen=True)
class RawObjects:
    """The content of a raw file.

    Attributes:
        points: ``[object, 2048, 3]``, finite.
        labels: ``[object]`` uint8, index into the classes.
        background: share of the points that ``mask`` marks as background; None without a mask.
    """

    points: np.ndarray
    labels: np.ndarray
    background: float | None


# --- finding ----------------------------------------------------------------------------------------------------


def find_raw(path: Path, variant: str, background: bool) -> RawFiles:
    """The raw files of a variant that ``data.raw`` names.

    Args:
        path: a folder, such as h5_files, the one above it or the split's own, or a zip archive; a folder that holds
            only one zip archive stands for it.
        variant: key of ``SUFFIXES``.
        background: with background points, or objects alone.

    Raises:
        UserError: they are missing; the message lists what is there.
    """
    if not path.exists():
        raise UserError(f"data.raw={path}: not found; expected {_expected(variant, background)}")
    path = Path(os.path.abspath(path))  # its name is needed, also for a link and "."
    files = _files_below(path)
    if path.is_dir() and not files and len(archives := sorted(path.glob("*.zip"))) == 1:
        path = archives[0]
        files = _files_below(path)
    complete = _complete(path, files, variant, background)
    if len(complete) > 1:
        names = ", ".join(map(str, complete))
        raise UserError(f"data.raw={path}: holds the files of this variant several times ({names}); name one of them")
    if not complete:
        raise UserError(_missing(path, files, variant, background))
    return RawFiles(path, complete[0], variant)


def _names(variant: str) -> list[str]:
    return [file_name(variant, split) for split in SIDES]


def _complete(root: Path, files: set[PurePosixPath], variant: str, background: bool) -> list[PurePosixPath]:
    """Folders that hold both files of a variant."""
    folders = sorted({file.parent for file in files if _is_wanted(root, file.parent, background)})
    return [folder for folder in folders if all(folder / name in files for name in _names(variant))]


def _expected(variant: str, background: bool) -> str:
    train, test = _names(variant)
    return f"{FOLDERS[background]}/{train} and {test} in a folder or a zip archive"


def _files_below(path: Path) -> set[PurePosixPath]:
    """Paths below ``path`` of files named like the raw data."""
    if path.is_dir():
        patterns = ("*/" * depth + "*_objectdataset*.h5" for depth in range(_DEPTH + 1))
        names = {PurePosixPath(file.relative_to(path)) for pattern in patterns for file in path.glob(pattern)}
    elif path.suffix == ".zip":
        with readable(str(path)), zipfile.ZipFile(path) as archive:
            names = {PurePosixPath(name) for name in archive.namelist()}
        names = {name for name in names if name.match("*_objectdataset*.h5")}
    else:
        raise UserError(f"data.raw={path}: a file of another kind; expected a folder or a zip archive")
    return {name for name in names if name.name.startswith(tuple(SIDES.values()))}


def _is_wanted(root: Path, folder: PurePosixPath, background: bool) -> bool:
    """Whether a folder may hold the files: by its name, or as the folder given if its name says nothing else."""
    name = folder.name or (root.name if root.is_dir() else "")
    if name == FOLDERS[background]:
        return True
    return not folder.name and name not in {*FOLDERS.values(), *_OTHER_FOLDERS}


def _missing(root: Path, files: set[PurePosixPath], variant: str, background: bool) -> str:
    there = ", ".join(map(str, sorted(files)[:_LISTED])) + (", …" if len(files) > _LISTED else "")
    parts = [f"data.raw={root}: expected {_expected(variant, background)}, found {there or 'no such file'}"]
    for file in sorted(files):
        if file.name in _names(variant) and _is_wanted(root, file.parent, background):
            (lacks,) = {*_names(variant)} - {file.name}
            parts.append(f"{file} is there without {lacks}: training and test files must be of one variant")
    settings = [
        f"data.variant={other} data.background={str(with_background).lower()}"
        for with_background in FOLDERS
        for other in SUFFIXES
        if _complete(root, files, other, with_background)
    ]
    if settings:
        parts.append(f"for what is there, set {' or '.join(settings)}")
    return "; ".join(parts)


# --- checks -----------------------------------------------------------------------------------------------------


def _check_data(data: np.ndarray, name: str) -> None:
    if data.ndim != 3 or data.shape[2] != 3 or not len(data):
        raise UserError(f"{name}: data has shape {list(data.shape)}, expected [objects, {NUM_POINTS}, 3]")
    if data.shape[1] != NUM_POINTS:
        raise UserError(f"{name}: data has {data.shape[1]} points in an object, expected {NUM_POINTS}")
    if data.dtype.newbyteorder("=") != np.float32:
        raise UserError(f"{name}: data has type {data.dtype}, expected float32")
    for number, values in enumerate(data):  # one object at a time: no mask of the size of the data
        if not np.isfinite(values).all():
            word = "NaN" if np.isnan(values).any() else "an infinite number"
            raise UserError(f"{name}: data holds {word} in object {number}, expected finite coordinates; get it again")


def _check_labels(labels: np.ndarray, count: int, name: str) -> None:
    if labels.shape != (count,):
        raise UserError(f"{name}: label has shape {list(labels.shape)}, expected [{count}], one for each object")
    if not np.issubdtype(labels.dtype, np.integer):
        raise UserError(f"{name}: label has type {labels.dtype}, expected integers")
    for number in np.flatnonzero((labels < 0) | (labels >= len(CLASSES)))[:1]:
        raise UserError(
            f"{name}: label holds {labels[number]} for object {number}, expected 0 to {len(CLASSES) - 1} "
            f"({CLASSES[0]} to {CLASSES[-1]})"
        )


def _background(arrays: dict[str, np.ndarray], name: str) -> float | None:
    if "mask" not in arrays:
        return None
    mask, expected = arrays["mask"], arrays["data"].shape[:2]
    if mask.shape != expected:
        raise UserError(f"{name}: mask has shape {list(mask.shape)}, expected {list(expected)}, one value per point")
    return float((mask == _BACKGROUND).mean())


def sizes_of(data: Any) -> dict[str, int]:
    """Objects of each split of the published files, with validation split off training as the settings say."""
    return split_sizes(OFFICIAL["train"], OFFICIAL["test"], data.valid_fraction)
