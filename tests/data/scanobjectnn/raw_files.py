"""Raw files with the published layout and a few simple objects: made here, with the full number of points."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from se3t.data.scanobjectnn.raw import FOLDERS, file_name

TRAIN_LABELS = np.repeat(np.arange(15), 4)  # four objects of each class
TEST_LABELS = np.arange(15)


def objects(labels: np.ndarray, seed: int) -> np.ndarray:
    """A stretched heap of points for each label, off the origin: the class shows in height and width."""
    random = np.random.default_rng(seed)
    points = random.normal(size=(len(labels), 2048, 3))
    width = 0.2 + labels % 5
    points *= np.stack([width, 0.2 + labels // 5, width], axis=-1)[:, None]
    return (points + random.normal(size=(len(labels), 1, 3))).astype(np.float32)


def content(split: str) -> dict[str, Any]:
    """Datasets of a raw file."""
    labels = TRAIN_LABELS if split == "train" else TEST_LABELS
    return {"data": objects(labels, len(labels)), "label": labels.astype(np.int32)}


def write_h5(path: Path, datasets: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", track_order=False) as file:
        for name, values in datasets.items():
            file.create_dataset(name, data=values)
    return path


def raw_folder(root: Path, variant: str = "obj", background: bool = False, **changes: dict[str, Any]) -> Path:
    """<root>/h5_files/main_split…/ with both files; ``train=`` and ``test=`` replace datasets, None removes one."""
    for split in ("train", "test"):
        datasets = content(split) | changes.get(split, {})
        path = root / "h5_files" / FOLDERS[background] / file_name(variant, split)
        write_h5(path, {name: values for name, values in datasets.items() if values is not None})
    return root / "h5_files"


def zipped(folder: Path, path: Path, prefix: str = "") -> Path:
    """A zip archive of all files below a folder."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for file in sorted(folder.rglob("*.h5")):
            archive.write(file, prefix + str(file.relative_to(folder)))
    return path
