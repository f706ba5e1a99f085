"""Centre, scale and split scanned objects. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

_NAMES = "bag bin box cabinet chair desk display door shelf table bed pillow sink sofa toilet"
CLASSES = tuple(_NAMES.split())
"""An object's label is the place of its class here."""
NUM_POINTS = 2048
"""Points of every stored object."""
TRAIN, TEST = 0, 2
"""The official splits as numbered in a store; 1, validation, is split off train when the store is loaded."""
UNITS = {
    "points": "largest distance of a point of the object from the mean of its points",
    "label": ", ".join(f"{number} {name}" for number, name in enumerate(CLASSES)),
    "split": f"{TRAIN} train, {TEST} test",
}
"""The arrays of a store of point clouds, and the unit of each."""

_CHUNK = 256  # objects at a time: all of them in double precision would fill memory


def normalise(points: np.ndarray) -> np.ndarray:
    """Move the mean of the points to the origin and divide by the largest distance from it.

    Args:
        points: ``[object, point, 3]`` or ``[point, 3]``, any unit, finite.

    Returns:
        The same shape in float32: mean 0, largest norm 1; zeros where all points of an object coincide.
    """
    if points.ndim == 3:
        out = np.empty(points.shape, dtype=np.float32)
        for part in chunks(len(points)):
            out[part] = _normalise(points[part])
        return out
    return _normalise(points)


def _normalise(points: np.ndarray) -> np.ndarray:
    # Relative to the first point: a repeated point is exactly zero, and an object far from the origin stays precise.
    points = points.astype(np.float64)
    points = points - points[..., :1, :]
    points -= points.mean(axis=-2, keepdims=True)
    radius = np.linalg.norm(points, axis=-1).max(axis=-1)[..., None, None]
    return (points / np.where(radius > 0, radius, 1.0)).astype(np.float32)


def chunks(count: int) -> Iterator[slice]:
    """Small slices that together cover ``count`` objects."""
    return (slice(begin, begin + _CHUNK) for begin in range(0, count, _CHUNK))


def stratified_split(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split a validation part off, the same fraction of every class.

    The choice within a class depends on the seed and the number of its objects, and on no other class. A class of two
    objects or more gives at least one, and keeps at least one.

    Args:
        labels: ``[object]`` integers.
        fraction: share of the validation part, between 0 and 1.
        seed: of the choice, not negative.

    Returns:
        Numbers of the objects of training and of validation, each ascending int64.
    """
    valid = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(max(round(fraction * len(members)), 1), len(members) - 1)
        # RandomState: its permutations are the same in every version of NumPy.
        order = np.random.RandomState(np.random.MT19937(seed)).permutation(len(members))
        valid[members[order[:count]]] = True
    return np.flatnonzero(~valid), np.flatnonzero(valid)


def split_sizes(train: int, test: int, valid_fraction: float) -> dict[str, int]:
    """Objects of each split, with validation split off training."""
    valid = round(train * valid_fraction)
    return {"train": train - valid, "valid": valid, "test": test}
