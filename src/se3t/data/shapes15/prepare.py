"""Prepare the store of shapes15. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from se3t.data.clouds.objects import CLASSES, NUM_POINTS, TEST, TRAIN, UNITS, normalise, split_sizes
from se3t.data.progress import progress_bar
from se3t.data.shapes15.scan import Scan, scan
from se3t.data.shapes15.shapes import draw_shape
from se3t.data.shapes15.solids import Dice
from se3t.data.store import Store, create_store, read_store
from se3t.experiments.scanobjectnn import SHAPES15

GENERATOR_VERSION = 1
"""Raised whenever an object changes: results on different versions are not comparable."""

_ORDER = 15  # place of the random numbers that order a group of 15; objects have the places 0 to 14
_GRID = 2.0**20


def store_path(config: Any) -> Path:
    """File of the prepared data, for example <data.root>/shapes15/objects-2250-600-seed0-background.h5."""
    words = ["objects", str(config.num_train), str(config.num_test), f"seed{config.data_seed}"]
    return (
        Path(config.root) / SHAPES15.name / ("-".join([*words, *(["background"] if config.background else [])]) + ".h5")
    )


def prepare_shapes15(config: Any, progress: bool = True, force: bool = False) -> Store:
    """The store of the synthetic scans, made first where it is missing.

    Args:
        config: a ``se3t.config.Shapes15Data``, or an OmegaConf node with its fields.
        progress: show a progress bar on standard error.
        force: rebuild an existing store.

    Returns:
        What is in the store at :func:`store_path`, verified or just written.

    Raises:
        UserError: a damaged store or one of another version (and no ``force``), or a folder that cannot be written.
    """
    path = store_path(config)
    if path.exists() and not force:
        return read_shapes15_store(config)
    return create_store(path, lambda: _make_store(config, progress))


def read_shapes15_store(config: Any) -> Store:
    """Read and verify the store.

    Raises:
        UserError: it is missing, damaged, or was made by another version or from other settings.
    """
    path = store_path(config)
    fix = SHAPES15.prepare_command(config, force=path.exists())
    return read_store(path, SHAPES15.name, fix=fix, arrays=UNITS, settings=_settings(config))


def make_object(data_seed: int, split: int, number: int, background: bool = False) -> tuple[Scan, int]:
    """One object: a function of the version of the generator and of these numbers alone.

    Args:
        data_seed: seed of the data set.
        split: 0 train, 2 test.
        number: of the object in its split, from 0. Each block of 15 objects has the 15 labels in a random order, so
            that classes are balanced for any number of objects.
        background: whether to scan the surroundings of the object too.

    Returns:
        The scan in metres, and the label.
    """
    label = label_of(data_seed, split, number)
    random = _random(data_seed, split, *divmod(number, len(CLASSES)))
    return scan(draw_shape(CLASSES[label], Dice(random)), random, background), label


def label_of(data_seed: int, split: int, number: int) -> int:
    """Label of an object; arguments as in :func:`make_object`."""
    group, place = divmod(number, len(CLASSES))
    order = np.argsort(_random(data_seed, split, group, _ORDER).random(len(CLASSES)), kind="stable")
    return int(order[place])


def _make_store(config: Any, progress: bool) -> Store:
    split = np.repeat([TRAIN, TEST], [config.num_train, config.num_test]).astype(np.uint8)
    numbers = np.concatenate([np.arange(config.num_train), np.arange(config.num_test)])
    points = np.empty((len(split), NUM_POINTS, 3), dtype=np.float32)
    label = np.empty(len(split), dtype=np.uint8)
    with progress_bar(progress, f"synthetic shapes15: {len(split):,} scans", len(split)) as advance:
        for row, (part, number) in enumerate(zip(split.tolist(), numbers.tolist(), strict=True)):
            seen, label[row] = make_object(config.data_seed, part, number, config.background)
            # Processors differ in the last digits of a sine: rounded to 1e-6 the store is the same on (almost) all.
            points[row] = np.round(normalise(seen.points).astype(np.float64) * _GRID) / _GRID
            advance(row + 1)
    settings = _settings(config)
    provenance = {
        "method": "synthetic: random parametric shapes, seen by one to three simulated depth cameras",
        "notes": [
            f"{settings['generator']}: scans of parametric shapes, made by a program; not from a scanner",
            "train includes the validation part, which is split off when the data are loaded",
        ],
    }
    arrays: dict[str, np.ndarray] = {"points": points, "label": label, "split": split}
    return Store(SHAPES15.name, arrays, settings, UNITS, provenance)


def _random(data_seed: int, split: int, group: int, place: int) -> np.random.Generator:
    return np.random.Generator(
        np.random.PCG64(np.random.SeedSequence([GENERATOR_VERSION, data_seed, split, group, place]))
    )


def _settings(config: Any) -> dict[str, Any]:
    return {
        "classes": list(CLASSES),
        "up_axis": "y",
        "variant": "obj",
        "background": bool(config.background),
        "synthetic": True,
        "generator": f"shapes15, version {GENERATOR_VERSION}",
        "num_train": int(config.num_train),
        "num_test": int(config.num_test),
        "data_seed": int(config.data_seed),
    }


def sizes_of(data: Any) -> dict[str, int]:
    """Objects of each split by the settings."""
    return split_sizes(data.num_train, data.num_test, data.valid_fraction)


def make_few(data: Any) -> int:
    """Make one object of each class, to measure the time.

    Returns:
        How many.
    """
    for number in range(len(CLASSES)):
        make_object(data.data_seed, 0, number, data.background)
    return len(CLASSES)
