from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from se3t.config import Shapes15Data
from se3t.data.clouds.dataset import baseline_accuracies, from_store
from se3t.data.shapes15 import prepare
from se3t.data.shapes15.prepare import (
    CLASSES,
    GENERATOR_VERSION,
    make_object,
    prepare_shapes15,
    store_path,
)
from se3t.data.shapes15.shapes import KINDS
from se3t.data.store import Store
from se3t.errors import UserError
from se3t.experiments.scanobjectnn import SHAPES15


def small(root: Path, **changes: object) -> Shapes15Data:
    return Shapes15Data(**{"root": str(root), "num_train": 30, "num_test": 15, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return prepare_shapes15(small(tmp_path_factory.mktemp("data")), progress=False)


@pytest.fixture(scope="module")
def background(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return prepare_shapes15(small(tmp_path_factory.mktemp("data"), background=True), progress=False)


def test_the_generator_is_frozen(store: Store, background: Store) -> None:
    """Models are compared on these objects: a change of any of them is another version.

    Coordinates are rounded to 1e-4 of the radius first, for processors differ in the last digits of a sine or of a sum.
    Whoever changes the generator raises ``GENERATOR_VERSION``, puts the new digests here and says so in CHANGELOG.md.
    """
    assert GENERATOR_VERSION == 1
    assert digest(store) == "ca852cc58538327f9ecd29b0a31a59b93719726f5e8b89990193aaeab14f50dc"
    assert digest(background) == "66e680d843df401d9483ca8ac3452d3167a47e1a05d093f65641a52a2058d5ac"


def test_the_store_has_the_schema_of_scanobjectnn(store: Store) -> None:
    points, label, split = (store.arrays[name] for name in ("points", "label", "split"))
    assert set(store.arrays) == set(store.units) == {"points", "label", "split"}
    assert (points.shape, points.dtype) == ((45, 2048, 3), np.float32)
    assert (label.shape, label.dtype, split.shape, split.dtype) == ((45,), np.uint8, (45,), np.uint8)
    assert split.tolist() == [0] * 30 + [2] * 15
    assert store.settings["classes"] == list(CLASSES) == list(KINDS)
    assert (store.settings["up_axis"], store.settings["synthetic"], store.settings["variant"]) == ("y", True, "obj")
    assert store.settings["generator"] == "shapes15, version 1"
    assert {"program", "numpy", "created", "seconds", "method"} <= set(store.provenance)


def test_objects_are_centred_and_scaled(store: Store, background: Store) -> None:
    for points in (store.arrays["points"].astype(np.float64), background.arrays["points"].astype(np.float64)):
        assert np.isfinite(points).all()
        np.testing.assert_allclose(points.mean(axis=1), 0.0, atol=2e-6)
        np.testing.assert_allclose(np.linalg.norm(points, axis=2).max(axis=1), 1.0, atol=2e-6)


@pytest.mark.parametrize("count", [30, 45, 52])
def test_classes_are_balanced_up_to_rounding_and_not_in_order(count: int) -> None:
    labels = labels_of(count)
    counts = np.bincount(labels, minlength=15)
    assert counts.min() >= count // 15
    assert counts.max() <= count // 15 + 1
    groups = labels[: count - count % 15].reshape(-1, 15)
    assert not (groups == np.arange(15)).all(axis=1).any()
    assert len(np.unique(groups, axis=0)) == len(groups)


def test_an_object_depends_on_its_own_numbers_alone(store: Store, tmp_path: Path) -> None:
    """More training objects, other test objects: those that were there stay what they are."""
    larger = prepare_shapes15(small(tmp_path, num_train=33, num_test=16), progress=False)
    for old, new in ((slice(0, 30), slice(0, 30)), (slice(30, 45), slice(33, 48))):
        assert np.array_equal(store.arrays["points"][old], larger.arrays["points"][new])
        assert np.array_equal(store.arrays["label"][old], larger.arrays["label"][new])


def test_splits_and_seeds_have_different_objects(store: Store) -> None:
    rows = store.arrays["points"].reshape(45, -1)
    assert len(np.unique(rows, axis=0)) == 45
    (here, label), (there, _) = make_object(0, 0, 0), make_object(1, 0, 0)
    assert not np.array_equal(here.points, there.points)
    assert CLASSES[label] == CLASSES[store.arrays["label"][0]]


def test_background_is_another_scan_of_an_object_of_the_same_class(store: Store, background: Store) -> None:
    assert np.array_equal(store.arrays["label"], background.arrays["label"])
    assert not np.array_equal(store.arrays["points"], background.arrays["points"])
    assert background.settings["background"] is True
    assert 0.05 < make_object(0, 0, 0, background=True)[0].on_object.mean() < 0.95


def test_the_height_is_told_apart_from_the_horizontal_axes() -> None:
    """Over many headings x and z are alike; which way points lean along y differs between the classes."""
    points = np.stack([make_object(2, 0, i)[0].points for i in range(105)])
    spread = np.log(points.std(axis=1)).mean(axis=0)
    assert abs(spread[0] - spread[2]) < 0.12
    skew = ((points - points.mean(axis=1, keepdims=True)) ** 3).mean(axis=1) / points.std(axis=1) ** 3
    labels = labels_of(105, seed=2)
    by_class = np.stack([skew[labels == label].mean(axis=0) for label in range(15)])  # [class, axis]
    assert by_class[:, 1].std() > 2 * by_class[:, [0, 2]].std(axis=0).max()


def test_nearest_centroids_do_better_than_chance_and_are_far_from_perfect(tmp_path: Path) -> None:
    config = small(tmp_path, num_train=150, num_test=75)
    accuracy, _ = baseline_accuracies(from_store(config, prepare_shapes15(config, progress=False)), "test")[
        "nearest_centroid"
    ]
    assert 0.15 < accuracy < 0.6


def test_a_prepared_store_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small(tmp_path)
    first = prepare_shapes15(config, progress=False)
    before = store_path(config).read_bytes()
    monkeypatch.setattr(prepare, "make_object", None)
    assert prepare_shapes15(config, progress=False).checksum == first.checksum
    assert store_path(config).read_bytes() == before


def test_a_damaged_store_is_an_error_until_forced(tmp_path: Path) -> None:
    config = small(tmp_path)
    checksum = prepare_shapes15(config, progress=False).checksum
    store_path(config).write_bytes(store_path(config).read_bytes()[:-100])
    with pytest.raises(UserError, match=r"damaged.*`se3t data prepare shapes15 .*data\.num_train=30.*force=true`"):
        prepare_shapes15(config, progress=False)
    assert prepare_shapes15(config, progress=False, force=True).checksum == checksum


def test_a_store_of_another_version_or_under_a_wrong_name_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(tmp_path)
    prepare_shapes15(config, progress=False)
    monkeypatch.setattr(prepare, "GENERATOR_VERSION", 2)
    with pytest.raises(UserError, match=r"generator = shapes15, version 1, expected shapes15, version 2; .*force=true"):
        prepare_shapes15(config, progress=False)
    monkeypatch.undo()
    store_path(config).rename(store_path(small(tmp_path, data_seed=3)))
    with pytest.raises(UserError, match="was made with data_seed = 0, expected 3"):
        prepare_shapes15(small(tmp_path, data_seed=3), progress=False)


def test_an_interrupted_preparation_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(prepare, "make_object", interrupt)
    with pytest.raises(KeyboardInterrupt):
        prepare_shapes15(small(tmp_path), progress=False)
    assert list(store_path(small(tmp_path)).parent.iterdir()) == []


def test_a_root_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in the way")
    with pytest.raises(UserError, match=r"^data\.root: cannot make the folder"):
        prepare_shapes15(small(tmp_path / "data"), progress=False)


def test_the_file_is_named_by_what_it_holds(tmp_path: Path) -> None:
    assert store_path(Shapes15Data()) == Path("data/shapes15/objects-2250-600-seed0.h5")
    config = small(tmp_path, background=True, data_seed=4)
    assert store_path(config) == tmp_path / "shapes15" / "objects-30-15-seed4-background.h5"


def test_the_command_repeats_what_differs_from_the_default_and_quotes_it() -> None:
    assert SHAPES15.prepare_command(Shapes15Data()) == "se3t data prepare shapes15"
    config = OmegaConf.structured(Shapes15Data(root="my data", background=True, data_seed=4, valid_fraction=0.2))
    assert (
        SHAPES15.prepare_command(config, force=True)
        == "se3t data prepare shapes15 'data.root=my data' data.background=true data.data_seed=4 force=true"
    )


def test_the_store_says_synthetic(store: Store) -> None:
    assert store.settings["synthetic"] is True
    assert store.provenance["method"].startswith("synthetic")
    assert "not from a scanner" in store.provenance["notes"][0]


def test_classes_are_balanced(store: Store) -> None:
    for split, count in ((0, 2), (2, 1)):
        labels = store.arrays["label"][store.arrays["split"] == split]
        assert np.bincount(labels, minlength=15).tolist() == [count] * 15


def test_the_progress_bar_says_synthetic_on_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare_shapes15(small(tmp_path), progress=True)
    captured = capsys.readouterr()
    assert "synthetic shapes15: 45 scans" in captured.err
    assert "100 %" in captured.err
    assert captured.out == ""


def test_preparing_needs_neither_torch_nor_h5py_until_it_writes() -> None:
    code = "import sys, se3t.data.shapes15.prepare; assert not {'torch', 'h5py', 'rich', 'rdkit'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def labels_of(count: int, seed: int = 0) -> np.ndarray:
    return np.array([prepare.label_of(seed, 0, number) for number in range(count)])


def digest(store: Store) -> str:
    rounded = np.round(store.arrays["points"].astype(np.float64) * 1e4).astype("<i4")
    content = [rounded.tobytes(), store.arrays["label"].tobytes(), store.arrays["split"].tobytes()]
    return hashlib.sha256(b"".join(content)).hexdigest()
