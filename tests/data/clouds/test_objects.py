"""Centring, scaling and the validation part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from se3t.data.clouds.objects import CLASSES, UNITS, normalise, stratified_split
from se3t.data.store import Store, read_store, write_store
from se3t.errors import UserError


@pytest.fixture
def points() -> np.ndarray:
    random = np.random.default_rng(3)
    return (random.normal(size=(5, 300, 3)) * [1, 2, 0.5] + [40, -2, 7]).astype(np.float32)


def test_classes_are_the_fifteen_of_the_files() -> None:
    assert len(set(CLASSES)) == 15
    assert (CLASSES[0], CLASSES[4], CLASSES[14]) == ("bag", "chair", "toilet")
    assert "4 chair" in UNITS["label"]


def test_objects_have_mean_zero_and_largest_norm_one(points: np.ndarray) -> None:
    out = normalise(points)
    assert (out.dtype, out.shape) == (np.dtype(np.float32), points.shape)
    np.testing.assert_allclose(out.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(out, axis=-1).max(axis=1), 1, rtol=1e-6)


def test_normalising_takes_away_place_and_size_and_nothing_else(points: np.ndarray) -> None:
    once = normalise(points)
    moved = normalise((3.0 * once + np.float32([1, 2, 3])).astype(np.float32))
    np.testing.assert_allclose(moved, once, atol=1e-5)
    rotated = once @ np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]], dtype=np.float32)
    np.testing.assert_allclose(normalise(rotated), rotated, atol=1e-6)


def test_one_object_is_normalised_as_among_many(points: np.ndarray) -> None:
    np.testing.assert_array_equal(normalise(points[2]), normalise(points)[2])
    many = np.concatenate([points] * 60)  # more than are taken at a time
    np.testing.assert_array_equal(normalise(many)[295:], normalise(points))


@pytest.mark.parametrize("place", [0.1, 1e7, -1e30])
def test_one_repeated_point_becomes_zeros(place: float) -> None:
    out = normalise(np.full((2, 2048, 3), place, dtype=np.float32))
    assert not out.any()


def test_extreme_coordinates_stay_finite() -> None:
    points = np.zeros((1, 4, 3), dtype=np.float32)
    points[0, 0] = np.finfo(np.float32).max
    points[0, 1] = -np.finfo(np.float32).max
    assert np.linalg.norm(normalise(points), axis=-1).max() == pytest.approx(1)
    tiny = np.float32([[[0, 0, 0], [1e-44, 0, 0]]])
    np.testing.assert_allclose(normalise(tiny)[0, :, 0], [-1, 1])


LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(6), [100, 40, 11, 5, 2, 1]))


def test_every_object_is_in_one_part() -> None:
    train, valid = stratified_split(LABELS, 0.2, 0)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, valid])), np.arange(len(LABELS)))
    assert (np.diff(train) > 0).all()
    assert (np.diff(valid) > 0).all()


def test_every_class_gives_its_share_and_keeps_one() -> None:
    train, valid = stratified_split(LABELS, 0.2, 0)
    assert np.bincount(LABELS[valid], minlength=6).tolist() == [20, 8, 2, 1, 1, 0]
    assert np.bincount(LABELS[train], minlength=6).tolist() == [80, 32, 9, 4, 1, 1]
    half = stratified_split(np.array([0, 0, 0]), 0.5, 0)
    assert [len(part) for part in half] == [1, 2]


def test_the_seed_chooses() -> None:
    first, again, other = (stratified_split(LABELS, 0.2, seed)[1].tolist() for seed in (1, 1, 2**40))
    assert first == again != other


def test_the_choice_of_a_class_depends_on_no_other_class() -> None:
    renamed = np.array([3, 5, 0, 1, 2, 4])[LABELS]
    np.testing.assert_array_equal(stratified_split(renamed, 0.2, 7)[1], stratified_split(LABELS, 0.2, 7)[1])
    alone = LABELS[LABELS <= 1]
    members = np.flatnonzero(LABELS <= 1)
    valid = stratified_split(LABELS, 0.2, 7)[1]
    np.testing.assert_array_equal(members[stratified_split(alone, 0.2, 7)[1]], valid[LABELS[valid] <= 1])


def test_a_store_without_labels_is_refused(tmp_path: Path) -> None:
    arrays = {"points": np.zeros((1, 4, 3), np.float32), "split": np.zeros(1, np.uint8)}
    write_store(tmp_path / "x.h5", Store("shapes15", arrays, {}, {}, {}))
    with pytest.raises(UserError, match=r"no array 'label'.*`again`"):
        read_store(tmp_path / "x.h5", "shapes15", fix="again", arrays=UNITS)
