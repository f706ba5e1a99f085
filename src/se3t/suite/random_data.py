"""Tasks on random samples of the sizes of real ones, to measure how long a training step takes.

A batch of them in training; in validation enough for what a call costs not to matter.
"""

from __future__ import annotations

import numpy as np
import torch

from se3t.bench.synthetic import ball
from se3t.bench.synthetic import molecules as random_molecules
from se3t.config import Config, targets_of
from se3t.data.clouds.dataset import CloudData
from se3t.data.clouds.objects import CLASSES, NUM_POINTS
from se3t.data.molecules.dataset import Property, PropertyData
from se3t.data.molecules.molecule import BOND_CLASSES
from se3t.data.nbody.dataset import NBodyDataset, NBodySplit
from se3t.data.nbody.presets import SPLITS, resolve
from se3t.experiments.qm9 import DATA as QM9
from se3t.experiments.scanobjectnn import SHAPES15
from se3t.tasks.classification import ClassificationTask
from se3t.tasks.nbody import NBodyTask
from se3t.tasks.property import QM9_ELEMENTS, PropertyTask

NUM_ATOMS, NUM_BONDS = 18, 19  # of a molecule of QM9 on average, rounded up


def charges(config: Config) -> NBodyTask:
    """Charged particles."""
    sizes, count = _sizes(config, 128), resolve(config.data).num_particles

    def split(size: int) -> NBodySplit:
        vectors = torch.randn(4, size, count, 3, dtype=torch.float64)
        signs = torch.randint(0, 2, (size, count, 1)).double() * 2 - 1
        return NBodySplit(vectors[0], vectors[1], signs, vectors[2], vectors[3], horizon=1.0)

    return NBodyTask(config.task, NBodyDataset({name: split(sizes[name]) for name in SPLITS}, 1.0, "random"))


def molecules(config: Config) -> PropertyTask:
    """Molecules with a random number each."""
    sizes = _sizes(config, 16)
    total = sum(sizes.values())
    positions, bonds = random_molecules(total, NUM_ATOMS, NUM_BONDS, torch.Generator().manual_seed(0))
    random = np.random.RandomState(0)
    arrays: dict[str, np.ndarray] = {
        "num_atoms": np.full(total, NUM_ATOMS, dtype=np.uint16),
        "num_bonds": np.full(total, NUM_BONDS, dtype=np.uint16),
        "numbers": random.choice(QM9_ELEMENTS, len(positions)).astype(np.uint8),
        "positions": positions.numpy().astype(np.float32),
        "bonds": (bonds.T % NUM_ATOMS).numpy().astype(np.uint16),
        "bond_classes": random.randint(len(BOND_CLASSES), size=bonds.shape[1]).astype(np.uint8),
    }
    properties = tuple(Property(name, name, "") for name in targets_of(config.task.target))
    values = random.normal(size=(total, len(properties)))
    data = PropertyData(QM9.name, arrays, values, _members(sizes), properties, "random", {})
    return PropertyTask(config.task, data, config.data.graph, config.data.radius)


def clouds(config: Config) -> ClassificationTask:
    """Point clouds with a class each."""
    sizes = _sizes(config, 4)
    total = sum(sizes.values())
    points = ball(total * NUM_POINTS, torch.Generator().manual_seed(0)).reshape(total, NUM_POINTS, 3)
    data = CloudData(
        kind=SHAPES15.name,
        points=points.numpy().astype(np.float32),
        labels=np.arange(total) % len(CLASSES),
        splits=_members(sizes),
        classes=CLASSES,
        up_axis=1,
        variant="random",
        synthetic=True,
        checksum="random",
        official={},
    )
    return ClassificationTask(config.task, data)


def _sizes(config: Config, num_valid: int) -> dict[str, int]:
    return {"train": config.trainer.batch_size, "valid": num_valid, "test": 2}


def _members(sizes: dict[str, int]) -> dict[str, np.ndarray]:
    """Numbers of the samples of each split, ascending."""
    ends = np.cumsum(list(sizes.values()))
    return {name: np.arange(end - sizes[name], end) for name, end in zip(sizes, ends, strict=True)}
