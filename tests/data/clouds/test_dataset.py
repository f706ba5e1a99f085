"""From the configuration to labelled objects in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data.scanobjectnn.raw_files import TEST_LABELS, TRAIN_LABELS, content, raw_folder
from se3t.config import ScanObjectNNData
from se3t.data.clouds.dataset import (
    CloudData,
    baseline_accuracies,
    from_store,
    load_clouds,
    summary,
    variant_in_words,
)
from se3t.data.clouds.objects import CLASSES, normalise
from se3t.data.store import Store
from se3t.errors import UserError
from se3t.experiments.scanobjectnn import SCANS


@pytest.fixture
def config(tmp_path: Path) -> ScanObjectNNData:
    return ScanObjectNNData(root=str(tmp_path / "data"), raw=str(raw_folder(tmp_path)), valid_fraction=0.25)


def toy(labels: list[int], splits: list[int]) -> Store:
    points = normalise(np.random.default_rng(0).normal(size=(len(labels), 8, 3)))
    arrays = {"points": points, "label": np.uint8(labels), "split": np.uint8(splits)}
    settings = {"classes": ["flat", "tall"], "up_axis": "y", "background": False, "synthetic": True}
    return Store("shapes15", arrays, settings, {}, {})


def test_raw_files_become_labelled_objects(config: ScanObjectNNData) -> None:
    data = load_clouds(config, progress=False)
    train = np.sort(np.concatenate([data.splits["train"], data.splits["valid"]]))
    np.testing.assert_array_equal(data.points[train], normalise(content("train")["data"]))
    np.testing.assert_array_equal(data.points[data.splits["test"]], normalise(content("test")["data"]))
    np.testing.assert_array_equal(data.labels, np.concatenate([TRAIN_LABELS, TEST_LABELS]))
    assert data.labels.dtype == np.int64
    assert (data.kind, data.classes, data.synthetic, data.up_axis) == ("scanobjectnn", CLASSES, False, 1)
    assert data.variant == "main_split_nobg"
    assert data.official == {"train": 2309, "test": 581}
    assert data.checksum == SCANS.recorded_checksum(config)


def test_nothing_is_recorded_before_anything_is_prepared(config: ScanObjectNNData) -> None:
    assert SCANS.recorded_checksum(config) is None


def test_validation_is_one_of_four_training_objects_of_each_class(config: ScanObjectNNData) -> None:
    data = load_clouds(config, progress=False)
    assert np.bincount(data.labels[data.splits["valid"]]).tolist() == [1] * 15
    assert {name: len(members) for name, members in data.splits.items()} == {"train": 45, "valid": 15, "test": 15}
    config.split_seed = 5
    other = load_clouds(config, progress=False)
    assert other.splits["valid"].tolist() != data.splits["valid"].tolist()
    np.testing.assert_array_equal(other.splits["test"], data.splits["test"])


def test_the_up_axis_is_what_the_user_says(config: ScanObjectNNData) -> None:
    for name, index in (("x", 0), ("y", 1), ("z", 2)):
        config.up_axis = name
        data = load_clouds(config, progress=False)
        assert data.up_axis == index
    assert data.checksum == SCANS.recorded_checksum(config)  # it is no part of the store


def test_variants_in_words() -> None:
    def words(synthetic: bool, variant: str, background: bool) -> str:
        return variant_in_words({"synthetic": synthetic, "variant": variant, "background": background})

    assert words(False, "obj", True) == "main_split"
    assert words(False, "pb_t50_rs", False) == "main_split_nobg PB_T50_RS"
    assert words(True, "", False) == "object only"
    assert words(True, "", True) == "with background"


@pytest.mark.parametrize(
    ("labels", "splits", "lacks"),
    [([0, 1, 0], [2, 2, 2], "train"), ([0, 1, 1], [0, 0, 2], "valid"), ([0, 0, 1, 1], [0, 0, 0, 0], "test")],
)
def test_an_empty_split_is_one_sentence(labels: list[int], splits: list[int], lacks: str) -> None:
    with pytest.raises(UserError, match=f"no object of the {lacks} split"):
        from_store(ScanObjectNNData(), toy(labels, splits))


def halves() -> CloudData:
    """Two classes, two objects each in training, told apart by their height; the test objects are two flat ones."""
    random = np.random.default_rng(0)
    boxes = random.uniform(-1, 1, size=(7, 500, 3))
    labels = np.array([0, 0, 1, 1, 0, 0, 0])
    boxes[:, :, 1] *= np.where(labels == 0, 0.1, 4)[:, None]
    splits = {"train": np.array([0, 1, 2, 3]), "valid": np.array([4]), "test": np.array([5, 6])}
    return CloudData("shapes15", normalise(boxes), labels, splits, ("flat", "tall"), 1, "toy", True, "0" * 64, {})


def test_baselines_learn_from_training_objects_alone() -> None:
    data = halves()
    assert baseline_accuracies(data, "test") == {"majority": (1.0, 1.0), "nearest_centroid": (1.0, 1.0)}
    data.labels[5] = 1  # of the test split: changes the truth, and no prediction
    assert baseline_accuracies(data, "test") == {"majority": (0.5, 0.5), "nearest_centroid": (0.5, 0.5)}
    assert baseline_accuracies(data, "valid")["majority"] == (1.0, 1.0)


def test_the_height_of_the_baseline_is_along_the_up_axis() -> None:
    """Heaps flat in y and heaps flat in z differ where y is up, and are the same things turned where x is."""
    boxes = np.random.default_rng(0).uniform(-1, 1, size=(60, 200, 3))
    labels = np.array([0, 1] * 30)
    boxes[labels == 0, :, 1] *= 0.1
    boxes[labels == 1, :, 2] *= 0.1
    splits = {"train": np.arange(20), "valid": np.arange(20, 30), "test": np.arange(30, 60)}
    points = normalise(boxes)
    by_axis = [CloudData("shapes15", points, labels, splits, ("a", "b"), axis, "", True, "", {}) for axis in range(3)]
    found = [baseline_accuracies(data, "test")["nearest_centroid"][0] for data in by_axis]
    assert found[1:] == [1.0, 1.0]
    assert found[0] < 0.8


def test_the_summary_counts_every_object_once(config: ScanObjectNNData) -> None:
    data = load_clouds(config, progress=False)
    facts = summary(data)
    assert facts["sizes"] == {"train": 45, "valid": 15, "test": 15}
    assert facts["classes"]["chair"] == {"train": 3, "valid": 1, "test": 1}
    assert sum(sum(row.values()) for row in facts["classes"].values()) == len(data.labels)
    assert facts["baselines"]["valid"]["majority"] == (pytest.approx(1 / 15), pytest.approx(1 / 15))
    assert facts["baselines"]["test"]["nearest_centroid"][0] > 1 / 15
