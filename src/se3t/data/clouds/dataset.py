"""Prepared point clouds with their labels and splits, in memory. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from se3t.data.clouds.objects import TEST, TRAIN, chunks, stratified_split
from se3t.data.scanobjectnn.raw import FOLDERS, OFFICIAL
from se3t.data.store import Store
from se3t.errors import UserError
from se3t.experiments import dataset

NUM_BINS = 16
"""Of each histogram of the baselines."""


@dataclass(frozen=True)
class CloudData:
    """Labelled objects.

    Attributes:
        kind: of the store, the name of the data set.
        points: ``[object, point, 3]`` float32, each object centred and scaled to the unit sphere.
        labels: ``[object]`` int64, index into ``classes``.
        splits: numbers of the objects of "train", "valid" and "test", ascending.
        classes: their names.
        up_axis: which coordinate is the height: 0 x, 1 y, 2 z.
        variant: the variant of the data, in words for tables.
        synthetic: whether they were generated.
        checksum: of the store.
        official: objects of "train" (validation included) and "test" in the published files, where known.
    """

    kind: str
    points: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)
    splits: Mapping[str, np.ndarray] = field(repr=False)
    classes: tuple[str, ...]
    up_axis: int
    variant: str
    synthetic: bool
    checksum: str
    official: Mapping[str, int]


def load_clouds(config: Any, progress: bool = True) -> CloudData:
    """The data of a configuration, prepared first where they are missing.

    Args:
        config: settings of a data set of point clouds.
        progress: show a progress bar while preparing.

    Raises:
        UserError: the data are not available, or a split holds no object.
    """
    return from_store(config, dataset(config.name).prepare(config, progress=progress))


def from_store(config: Any, store: Store) -> CloudData:
    """The content of a store, with validation part and up axis as configured.

    Raises:
        UserError: a split holds no object.
    """
    labels = store.arrays["label"].astype(np.int64)
    trained = np.flatnonzero(store.arrays["split"] == TRAIN)
    train, valid = stratified_split(labels[trained], config.valid_fraction, config.split_seed)
    splits = {
        "train": trained[train],
        "valid": trained[valid],
        "test": np.flatnonzero(store.arrays["split"] == TEST),
    }
    for split, members in splits.items():
        if not len(members):
            raise UserError(
                f"the prepared {store.kind} data hold no object of the {split} split, expected one at least (two of a "
                "class to train and validate on); prepare more objects"
            )
    settings = store.settings
    return CloudData(
        kind=store.kind,
        points=store.arrays["points"],
        labels=labels,
        splits=splits,
        classes=tuple(settings["classes"]),
        up_axis="xyz".index(config.up_axis),
        variant=variant_in_words(settings),
        synthetic=bool(settings["synthetic"]),
        checksum=store.checksum,
        official=OFFICIAL if not settings["synthetic"] and settings["variant"] == "obj" else {},
    )


def variant_in_words(settings: Mapping[str, Any]) -> str:
    """The variant of a store in words, such as "main_split_nobg", "main_split PB_T50_RS" or "object only"."""
    if settings["synthetic"]:
        return "with background" if settings["background"] else "object only"
    perturbed = "" if settings["variant"] == "obj" else f" {settings['variant'].upper()}"
    return FOLDERS[settings["background"]] + perturbed


def baseline_accuracies(data: CloudData, split: str) -> dict[str, tuple[float, float]]:
    """Accuracies of classifiers without a network, fitted to the training objects.

    Args:
        data: the objects.
        split: the split to evaluate on.

    Returns:
        (accuracy, mean of the accuracies of the classes), as shares, of ``majority``, which always predicts the
        most frequent class, and of ``nearest_centroid``.
    """
    train, members = data.splits["train"], data.splits[split]
    known, truth = data.labels[train], data.labels[members]
    guesses = {
        "majority": majority(known, len(members)),
        "nearest_centroid": nearest_centroid(data.points[train], known, data.points[members], data.up_axis),
    }
    return {name: accuracies(truth, guess) for name, guess in guesses.items()}


def accuracies(truth: np.ndarray, predicted: np.ndarray) -> tuple[float, float]:
    """Accuracy, and the mean of the accuracies of the classes that occur.

    Args:
        truth: ``[object]`` labels, one at least.
        predicted: ``[object]`` labels.
    """
    right = truth == predicted
    return float(right.mean()), float(np.mean([right[truth == label].mean() for label in np.unique(truth)]))


def majority(labels: np.ndarray, count: int) -> np.ndarray:
    """``count`` times the most frequent training label; the smallest of several."""
    return np.full(count, np.bincount(labels).argmax())


def nearest_centroid(points_train: np.ndarray, labels: np.ndarray, points: np.ndarray, up_axis: int) -> np.ndarray:
    """The class whose mean of :func:`histograms` over the training objects is nearest.

    Features are standardised by mean and standard deviation of the training objects; constant
    features are not scaled. Only classes that occur in training are predicted.

    Args:
        points_train: ``[object, point, 3]``, centred and scaled to the unit sphere.
        labels: ``[object]`` of the training objects.
        points: ``[other object, point, 3]``, to classify.
        up_axis: which coordinate is the height.

    Returns:
        ``[other object]`` labels.
    """
    train, test = histograms(points_train, up_axis), histograms(points, up_axis)
    mean, std = train.mean(axis=0), train.std(axis=0)
    std = np.where(std > 0, std, 1.0)
    train, test = (train - mean) / std, (test - mean) / std
    present = np.unique(labels)
    centroids = np.stack([train[labels == label].mean(axis=0) for label in present])
    distance = ((test[:, None] - centroids) ** 2).sum(axis=-1)  # [other object, class]
    return present[distance.argmin(axis=1)]


def histograms(points: np.ndarray, up_axis: int) -> np.ndarray:
    """Histograms of the points of an object, invariant to rotations about the vertical.

    Args:
        points: ``[object, point, 3]``, centred and scaled to the unit sphere.
        up_axis: which coordinate is the height.

    Returns:
        ``[object, 3 NUM_BINS]`` shares of the points: by height from −1 to 1, by distance from the vertical axis
        through the centre, and by distance from the centre, both from 0 to 1.
    """
    out = np.empty((len(points), 3 * NUM_BINS))
    for part in chunks(len(points)):
        squares = np.square(points[part], dtype=np.float64)
        distance = np.sqrt(squares.sum(axis=-1))
        from_axis = np.sqrt(np.delete(squares, up_axis, axis=-1).sum(axis=-1))
        height = (points[part, :, up_axis] + 1.0) / 2.0
        out[part] = np.concatenate([_shares(values) for values in (height, from_axis, distance)], axis=1)
    return out


def _shares(values: np.ndarray) -> np.ndarray:
    """Shares of ``values``, ``[object, point]`` from 0 to 1, in each of the bins; the last one includes 1."""
    bins = np.clip((values * NUM_BINS).astype(np.int64), 0, NUM_BINS - 1)
    places = bins + NUM_BINS * np.arange(len(values))[:, None]
    return np.bincount(places.ravel(), minlength=NUM_BINS * len(values)).reshape(-1, NUM_BINS) / values.shape[1]


def summary(data: CloudData) -> dict[str, Any]:
    """Facts of a data set, as plain values.

    Returns:
        ``sizes`` of the splits; ``classes``: by class, the objects of each split; ``baselines``: by split,
        "valid" and "test", what :func:`baseline_accuracies` says.
    """
    counts = {
        split: np.bincount(data.labels[members], minlength=len(data.classes)).tolist()
        for split, members in data.splits.items()
    }
    return {
        "sizes": {split: len(members) for split, members in data.splits.items()},
        "classes": {name: {split: counts[split][label] for split in counts} for label, name in enumerate(data.classes)},
        "baselines": {split: baseline_accuracies(data, split) for split in ("valid", "test")},
    }
