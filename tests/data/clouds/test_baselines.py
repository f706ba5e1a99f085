"""Classifiers without a network, checked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from se3t.data.clouds.dataset import NUM_BINS, accuracies, histograms, majority, nearest_centroid
from se3t.data.clouds.objects import normalise


def heap(height: float, seed: int) -> np.ndarray:
    """Points in a box of width 1; y is up."""
    return normalise(np.random.default_rng(seed).uniform(-0.5, 0.5, size=(200, 3)) * [1, height, 1])


def test_accuracies_by_hand() -> None:
    truth, predicted = np.array([0, 0, 0, 2]), np.array([0, 0, 1, 2])
    assert accuracies(truth, predicted) == (0.75, pytest.approx((2 / 3 + 1) / 2))
    assert accuracies(truth, np.array([0, 0, 0, 1])) == (0.75, 0.5)


def test_majority_is_the_most_frequent_and_the_smallest_of_several() -> None:
    assert majority(np.array([4, 2, 2, 9]), 3).tolist() == [2, 2, 2]
    assert majority(np.array([7, 3]), 2).tolist() == [3, 3]


def test_histograms_by_hand() -> None:
    # Height 0.6, beside the axis by 0.8, and 1 from the centre; the other point is the centre.
    points = np.array([[[0.8, 0.6, 0.0], [0.0, 0.0, 0.0]]], dtype=np.float32)
    height, from_axis, distance = histograms(points, 1).reshape(3, NUM_BINS)
    assert {int(place): height[place] for place in np.flatnonzero(height)} == {8: 0.5, 12: 0.5}
    assert {int(place): from_axis[place] for place in np.flatnonzero(from_axis)} == {0: 0.5, 12: 0.5}
    assert {int(place): distance[place] for place in np.flatnonzero(distance)} == {0: 0.5, 15: 0.5}


def test_histograms_do_not_see_a_turn_about_the_vertical_and_see_a_tilt() -> None:
    points = heap(0.3, 0)[None]
    turn = np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]], np.float32)
    tilt = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]], np.float32)  # takes y to x
    np.testing.assert_array_equal(histograms(points @ turn, 1), histograms(points, 1))
    assert np.abs(histograms(points @ tilt, 1) - histograms(points, 1)).max() > 0.05
    np.testing.assert_array_equal(histograms(points @ tilt, 0), histograms(points, 1))  # up goes along with the tilt


def test_the_nearest_mean_by_hand() -> None:
    """Flat and tall heaps: a class is known by its shape; a class that was not trained on is never named."""
    heights = [0.1, 3.0]
    train = np.stack([heap(heights[label], seed) for seed, label in enumerate([0, 0, 0, 1, 1, 1])])
    test = np.stack([heap(heights[label], 10 + seed) for seed, label in enumerate([1, 0, 1])])
    labels = np.array([2, 2, 2, 5, 5, 5])
    assert nearest_centroid(train, labels, test, 1).tolist() == [5, 2, 5]


def test_the_nearest_mean_is_that_of_a_loop() -> None:
    random = np.random.default_rng(1)
    clouds = normalise(random.normal(size=(40, 60, 3)) * random.uniform(0.2, 1, size=(40, 1, 3)))
    labels = random.integers(0, 4, size=30)
    features = histograms(clouds, 2)
    known, asked = features[:30], features[30:]
    moving = known.std(axis=0) > 0
    scale = np.where(moving, known.std(axis=0), 1)
    expected = []
    for feature in asked:
        gaps = [np.linalg.norm((feature - known[labels == label].mean(axis=0)) / scale) for label in range(4)]
        expected.append(int(np.argmin(gaps)))
    assert nearest_centroid(clouds[:30], labels, clouds[30:], 2).tolist() == expected


def test_an_object_of_one_point_gets_a_class() -> None:
    train = np.stack([heap(0.1, 0), np.zeros((200, 3), np.float32)])
    assert nearest_centroid(train, np.array([0, 1]), np.zeros((1, 200, 3), np.float32), 1).tolist() == [1]
