"""The store of ScanObjectNN: what it holds, when it is made, what is refused, and that a failure leaves nothing."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from se3t.cli.main import main
from se3t.config import ScanObjectNNData
from se3t.data.clouds.dataset import from_store
from se3t.data.clouds.objects import CLASSES, TEST, TRAIN, UNITS, normalise
from se3t.data.scanobjectnn import prepare
from se3t.data.scanobjectnn.prepare import prepare_scanobjectnn, store_path
from se3t.data.scanobjectnn.raw import file_name
from se3t.data.store import Store, read_checksum
from se3t.errors import UserError
from se3t.experiments.scanobjectnn import SCANS

from .raw_files import TEST_LABELS, TRAIN_LABELS, content, raw_folder, zipped


@pytest.fixture
def config(tmp_path: Path) -> ScanObjectNNData:
    return ScanObjectNNData(root=str(tmp_path / "data"), raw=str(raw_folder(tmp_path / "raw")))


def made(config: Any, **words: bool) -> Store:
    return prepare_scanobjectnn(config, progress=False, **words)


def refusal(config: Any) -> str:
    """The sentence; nothing is left of the attempt."""
    with pytest.raises(UserError) as caught:
        made(config)
    assert not list(Path(config.root).rglob("*.h5*"))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def notes(config: Any) -> str:
    return "\n".join(made(config).provenance["notes"])


# --- content ----------------------------------------------------------------------------------------------------


def test_a_store_holds_all_objects_centred_and_scaled(config: ScanObjectNNData) -> None:
    store = made(config)
    whole = np.concatenate([content("train")["data"], content("test")["data"]])
    np.testing.assert_array_equal(store.arrays["points"], normalise(whole))
    assert store.arrays["points"].dtype == np.float32
    assert store.arrays["points"].shape == (75, 2048, 3)
    np.testing.assert_array_equal(store.arrays["label"], np.concatenate([TRAIN_LABELS, TEST_LABELS]))
    np.testing.assert_array_equal(store.arrays["split"], [TRAIN] * 60 + [TEST] * 15)
    assert store.arrays["label"].dtype == store.arrays["split"].dtype == np.uint8
    assert store.units == UNITS


def test_the_settings_say_what_the_objects_are(config: ScanObjectNNData) -> None:
    settings = made(config).settings
    raw = settings["raw"]
    assert settings["classes"] == list(CLASSES)
    assert {name: settings[name] for name in ("up_axis", "variant", "background", "synthetic")} == {
        "up_axis": "y",
        "variant": "obj",
        "background": False,
        "synthetic": False,
    }
    assert sorted(raw) == ["test_objectdataset.h5", "training_objectdataset.h5"]
    assert all(len(digest) == 64 for digest in raw.values())


def test_a_second_call_reads_what_the_first_has_written(config: ScanObjectNNData) -> None:
    first = made(config)
    before = store_path(config).stat().st_mtime_ns
    config.raw = None
    second = made(config)
    assert store_path(config).stat().st_mtime_ns == before
    assert second.checksum == first.checksum == read_checksum(store_path(config), fix="")
    for name in UNITS:
        np.testing.assert_array_equal(second.arrays[name], first.arrays[name])


def test_the_same_files_give_the_same_checksum_from_folder_and_zip(config: ScanObjectNNData, tmp_path: Path) -> None:
    first = made(config).checksum
    assert made(config, force=True).checksum == first
    config.raw = str(zipped(Path(str(config.raw)), tmp_path / "x.zip"))
    assert made(config).checksum == first  # and it is no other raw data
    config.root = str(tmp_path / "other")
    assert made(config).checksum == first


def test_neither_up_axis_nor_validation_is_part_of_the_store(config: ScanObjectNNData) -> None:
    first = made(config)
    config.up_axis, config.valid_fraction, config.split_seed = "z", 0.3, 9
    assert made(config, force=True).checksum == first.checksum


def test_variants_and_backgrounds_have_stores_of_their_own(tmp_path: Path) -> None:
    paths = []
    for variant, background in (("obj", False), ("obj", True), ("pb_t50_rs", True)):
        raw = raw_folder(tmp_path / f"{variant}{background}", variant, background)
        config = ScanObjectNNData(root=str(tmp_path / "data"), raw=str(raw), variant=variant, background=background)
        store = made(config)
        assert (store.settings["variant"], store.settings["background"]) == (variant, background)
        paths.append(store_path(config).name)
    assert paths == ["obj.h5", "obj-background.h5", "pb_t50_rs-background.h5"]


def test_files_in_the_folder_for_downloads_are_found(tmp_path: Path) -> None:
    config = ScanObjectNNData(root=str(tmp_path / "data"))
    folder = prepare.raw_folder(config)
    folder.mkdir(parents=True)
    zipped(raw_folder(tmp_path / "elsewhere"), folder / "h5_files.zip", prefix="h5_files/")
    assert len(made(config).arrays["label"]) == 75


def test_an_omegaconf_node_will_do(config: ScanObjectNNData) -> None:
    assert made(OmegaConf.structured(config)).checksum == made(config).checksum


# --- what is said -----------------------------------------------------------------------------------------------


def test_sizes_are_compared_with_the_published_ones(config: ScanObjectNNData, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "60 training and 15 test objects, where the published files have 2,309 training and 581" in notes(config)
    monkeypatch.setattr(prepare, "OFFICIAL", {"train": 60, "test": 15})
    assert "as published" in "\n".join(made(config, force=True).provenance["notes"])


def test_duplicate_points_are_counted_and_kept(tmp_path: Path) -> None:
    data = content("train")["data"]
    data[4, 100:200] = data[4, 7]
    data[9] = [0.25, -3.0, 1e3]
    raw = raw_folder(tmp_path / "raw", train={"data": data})
    config = ScanObjectNNData(root=str(tmp_path / "data"), raw=str(raw))
    points = made(config).arrays["points"]
    assert np.isfinite(points).all()
    assert not points[9].any()
    assert (points[4, 100:200] == points[4, 7]).all()
    assert "objects with a point that occurs more than once: 2; they are kept" in notes(config)
    assert "objects of one repeated point: 1; all their coordinates are 0" in notes(config)


def test_ordinary_objects_raise_no_remark(config: ScanObjectNNData) -> None:
    assert len(made(config).provenance["notes"]) == 2


def test_a_class_without_training_objects_is_named(tmp_path: Path) -> None:
    labels = np.where(TRAIN_LABELS == 4, 5, TRAIN_LABELS)
    raw = raw_folder(tmp_path / "raw", train={"label": labels})
    assert "no training object of: chair" in notes(ScanObjectNNData(root=str(tmp_path / "data"), raw=str(raw)))


def test_perturbed_variants_say_that_validation_is_optimistic(tmp_path: Path) -> None:
    raw = raw_folder(tmp_path / "raw", "pb_t25")
    config = ScanObjectNNData(root=str(tmp_path / "data"), raw=str(raw), variant="pb_t25")
    assert "copies of one may be in both training and validation" in notes(config)
    assert from_store(config, made(config)).official == {}


def test_background_in_files_without_background_is_said(tmp_path: Path) -> None:
    masks = {split: {"mask": np.full((count, 2048), -1)} for split, count in (("train", 60), ("test", 15))}
    raw = raw_folder(tmp_path / "raw", **masks)
    said = notes(ScanObjectNNData(root=str(tmp_path / "data"), raw=str(raw)))
    assert said.count("mask marks 100.0 % of the points as background, and data.background=false") == 2


def test_what_is_made_is_told_to_the_log(config: ScanObjectNNData, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        made(config)
    assert f"store: {store_path(config)}" in caplog.messages
    assert any("up is y" in line for line in caplog.messages)


# --- what is refused --------------------------------------------------------------------------------------------


def test_without_data_the_way_to_them_is_told(tmp_path: Path) -> None:
    config = ScanObjectNNData(root=str(tmp_path / "data"))
    text = refusal(config)
    for words in (
        "https://hkust-vgd.github.io/scanobjectnn/",
        "terms of use",
        "h5_files.zip",
        "main_split_nobg/training_objectdataset.h5 and test_objectdataset.h5",
        str(prepare.raw_folder(config)),
        "data.raw=<folder or zip>",
        "data=shapes15 preset=quick is a synthetic stand-in that needs no download and takes minutes",
    ):
        assert words in text
    prepare.raw_folder(config).mkdir(parents=True)
    assert refusal(config) == text
    config.variant, config.background = "pb_t25_r", True
    assert "main_split/training_objectdataset_augmented25rot.h5" in refusal(config)
    assert "data.background=true" in refusal(config)


def test_the_command_repeats_what_was_asked_for(tmp_path: Path) -> None:
    config = ScanObjectNNData(root="my data", raw="x.zip", variant="pb_t25", background=True, up_axis="z")
    words = "'data.root=my data' data.background=true data.raw=x.zip data.variant=pb_t25"
    assert SCANS.prepare_command(config) == f"se3t data prepare scanobjectnn {words}"
    assert SCANS.prepare_command(ScanObjectNNData(), force=True) == "se3t data prepare scanobjectnn force=true"


def test_other_raw_files_than_those_of_the_store_are_refused(config: ScanObjectNNData, tmp_path: Path) -> None:
    first = made(config)
    data = content("test")["data"]
    data[0, 0, 0] += 1
    config.raw = str(raw_folder(tmp_path / "other", test={"data": data}))
    with pytest.raises(UserError, match=r"was made from .*has another content; replace the store with `.*force=true`"):
        made(config)
    assert made(config, force=True).checksum != first.checksum


def test_raw_files_that_are_gone_are_not_missed(
    config: ScanObjectNNData, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = made(config)
    config.raw = str(tmp_path / "unplugged")
    assert made(config).checksum == first.checksum
    assert "not found; the prepared data" in caplog.text


def test_training_and_test_objects_with_and_without_background_are_refused(tmp_path: Path) -> None:
    masks = {"train": {"mask": np.full((60, 2048), -1)}, "test": {"mask": np.zeros((15, 2048), int)}}
    raw = raw_folder(tmp_path / "raw", background=True, **masks)
    text = refusal(ScanObjectNNData(root=str(tmp_path / "data"), raw=str(raw), background=True))
    folder = raw / "main_split"
    assert text.startswith(f"{folder / file_name('obj', 'train')} has points of the background (by its mask) and ")
    assert f"{folder / file_name('obj', 'test')} has none: files of different variants" in text


def test_bad_raw_data_leave_nothing(tmp_path: Path) -> None:
    raw = raw_folder(tmp_path / "raw", test={"label": np.full(15, 15)})
    assert "label holds 15" in refusal(ScanObjectNNData(root=str(tmp_path / "data"), raw=str(raw)))


@pytest.mark.parametrize("moment", ["read", "write"])
def test_an_interruption_leaves_nothing(config: ScanObjectNNData, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if moment == "read":
        monkeypatch.setattr(prepare, "normalise", interrupt)
    else:
        monkeypatch.setattr("se3t.files.os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        made(config)
    assert not [path for path in Path(config.root).rglob("*") if path.is_file()]
    monkeypatch.undo()
    assert len(made(config).arrays["label"]) == 75


def test_a_damaged_store_says_how_to_make_it_anew(config: ScanObjectNNData) -> None:
    first = made(config)
    path = store_path(config)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"damaged.*se3t data prepare scanobjectnn .*force=true"):
        made(config)
    assert made(config, force=True).checksum == first.checksum


# --- the command ------------------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/se3t"])
    return tmp_path


def test_the_command_prints_sizes_classes_and_baselines(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw_folder(here / "raw")
    assert main(["data", "prepare", "scanobjectnn", "data.raw=raw", "data.valid_fraction=0.25"]) == 0
    out = capsys.readouterr().out
    assert "ScanObjectNN, main_split_nobg, up is y: 45 train, 15 valid, 15 test" in out
    rows = {cells[0]: cells[1:] for line in out.splitlines() if len(cells := line.strip("│ ").split()) > 3}
    assert rows["chair"] == ["│", "3", "│", "1", "│", "1"]
    assert rows["majority"] == ["│", "6.7", "(6.7)", "│", "6.7", "(6.7)"]
    assert "nearest centroid" in out
    assert "where the published files have 2,309 training and 581 test objects" in out
    checksum = read_checksum(here / "data" / "scanobjectnn" / "obj.h5", fix="")
    assert f"checksum {checksum[:12]}" in out
    assert f"store: {Path('data/scanobjectnn/obj.h5')}, 1.8 MiB" in out
    assert main(["data", "prepare", "scanobjectnn", "data.valid_fraction=0.25"]) == 0
    assert capsys.readouterr().out == out


def test_the_command_says_in_one_line_what_is_missing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "prepare", "scanobjectnn"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("se3t: ScanObjectNN: no data in data/scanobjectnn/raw")
    assert error.count("\n") == 1
    assert main(["data", "prepare", "scanobjectnn", "seed=4"]) == 2
    assert "data.split_seed=4" in capsys.readouterr().err
    assert list(here.iterdir()) == []
