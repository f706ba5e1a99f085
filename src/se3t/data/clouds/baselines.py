"""Classifiers of point clouds that learn class means and no more. Imports no torch."""

from __future__ import annotations

import numpy as np

from se3t.data.clouds.objects import chunks

NUM_BINS = 16
"""Of each histogram."""


def accuracies(truth: np.ndarray, predicted: np.ndarray) -> tuple[float, float]:
    """Share of right predictions, and the mean over the classes that occur of the same share within the class.

    Args:
        truth: ``[object]`` labels, one at least.
        predicted: ``[object]`` labels.
    """
    right = truth == predicted
    return float(right.mean()), float(np.mean([right[truth == label].mean() for label in np.unique(truth)]))


def majority(labels: np.ndarray, count: int) -> np.ndarray:
    """``count`` times the most frequent of the training labels, the smallest one of several."""
    return np.full(count, np.bincount(labels).argmax())


def nearest_centroid(points_train: np.ndarray, labels: np.ndarray, points: np.ndarray, up_axis: int) -> np.ndarray:
    """The class whose mean of :func:`histograms` over the training objects is nearest.

    Features are standardised by mean and standard deviation of the training objects; one that is the same for all of
    them is left as it is. Only classes that occur in training are named.

    Args:
        points_train: ``[object, point, 3]``, centred and scaled to the unit sphere.
        labels: ``[object]`` of the training objects.
        points: ``[other object, point, 3]``, what to classify.
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
    """Where the points of an object lie, whichever way it is turned about the vertical.

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
