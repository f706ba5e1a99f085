"""The raw files are found wherever the user put them, and what is wrong with them is one sentence."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from se3t.data.scanobjectnn.raw import FOLDERS, SUFFIXES, RawFiles, file_name, find_raw
from se3t.errors import UserError

from .raw_files import TEST_LABELS, content, raw_folder, write_h5, zipped

OBJ = ("obj", False)


def message(path: Path, variant: str = "obj", background: bool = False) -> str:
    """What the user is told; the sentence has one line."""
    with pytest.raises(UserError) as caught:
        find_raw(path, variant, background).read("test")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def read(raw: RawFiles) -> dict[str, Any]:
    return {split: raw.read(split) for split in ("train", "test")}


# --- finding ----------------------------------------------------------------------------------------------------


def test_names_are_the_published_ones() -> None:
    assert file_name("obj", "train") == "training_objectdataset.h5"
    assert file_name("pb_t25", "train") == "training_objectdataset_augmented25_norot.h5"
    assert file_name("pb_t25_r", "test") == "test_objectdataset_augmented25rot.h5"
    assert file_name("pb_t50_r", "test") == "test_objectdataset_augmentedrot.h5"
    assert file_name("pb_t50_rs", "test") == "test_objectdataset_augmentedrot_scale75.h5"


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("variant", SUFFIXES)
def test_every_variant_is_found_beside_the_others(tmp_path: Path, variant: str, background: bool) -> None:
    for name in SUFFIXES:
        for folder in (*FOLDERS.values(), "split1_nobg"):
            for split in ("train", "test"):
                path = tmp_path / "h5_files" / folder / file_name(name, split)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
    raw = find_raw(tmp_path, variant, background)
    assert raw.name("test") == str(tmp_path / "h5_files" / FOLDERS[background] / file_name(variant, "test"))


def test_folder_parent_split_folder_and_zip_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = raw_folder(tmp_path / "here")
    (tmp_path / "alone").mkdir()
    archives = [
        zipped(folder, tmp_path / "alone" / "h5_files.zip"),
        zipped(folder, tmp_path / "deep.zip", prefix="some/where/h5_files/"),
        zipped(folder / "main_split_nobg", tmp_path / "flat.zip"),
        zipped(folder, tmp_path / "dotted.zip", prefix="./"),
    ]
    split = folder / "main_split_nobg"
    expected = find_raw(folder, *OBJ)
    checksums = expected.checksums()
    assert sorted(checksums) == ["test_objectdataset.h5", "training_objectdataset.h5"]
    monkeypatch.chdir(split)
    for path in (folder.parent, split, Path("."), Path(".."), tmp_path / "alone", *archives):
        raw = find_raw(path, *OBJ)
        assert raw.checksums() == checksums
        np.testing.assert_array_equal(raw.read("test").points, expected.read("test").points)


def test_any_folder_of_the_user_that_holds_the_files_will_do(tmp_path: Path) -> None:
    moved = shutil.move(raw_folder(tmp_path) / "main_split_nobg", tmp_path / "my_data")
    assert (find_raw(Path(moved), *OBJ).read("test").labels == TEST_LABELS).all()


def test_what_is_there_instead_is_said(tmp_path: Path) -> None:
    folder = raw_folder(tmp_path, "pb_t25", background=True)
    for path in (folder, folder / "main_split", zipped(folder, tmp_path / "x.zip")):
        text = message(path)
        assert f"data.raw={path}: expected main_split_nobg/training_objectdataset.h5 and test_objectdataset.h5" in text
        assert "training_objectdataset_augmented25_norot.h5" in text
        assert text.endswith("for what is there, set data.variant=pb_t25 data.background=true")


def test_the_suggested_settings_work(tmp_path: Path) -> None:
    folder = raw_folder(tmp_path, "pb_t50_r", background=False)
    assert "set data.variant=pb_t50_r data.background=false" in message(folder, "obj", True)
    assert len(find_raw(folder, "pb_t50_r", False).read("test").labels) == 15


def test_a_wrong_folder_says_what_is_expected(tmp_path: Path) -> None:
    (tmp_path / "qm9.zip").touch()
    (tmp_path / "more.zip").touch()
    (tmp_path / "main_split_nobg").mkdir()
    (tmp_path / "main_split_nobg" / "ply_data_train0.h5").touch()
    assert "found no such file" in message(tmp_path)
    assert "not found; expected main_split/training_objectdataset_augmentedrot.h5" in message(
        tmp_path / "nowhere", "pb_t50_r", True
    )
    assert "a file of another kind; expected a folder or a zip" in message(
        tmp_path / "main_split_nobg" / "ply_data_train0.h5"
    )


def test_another_official_split_is_not_taken_for_the_main_one(tmp_path: Path) -> None:
    moved = Path(shutil.move(raw_folder(tmp_path) / "main_split_nobg", tmp_path / "split2_nobg"))
    assert "expected main_split_nobg/training_objectdataset.h5" in message(moved)


def test_training_and_test_file_of_different_variants_are_named(tmp_path: Path) -> None:
    folder = raw_folder(tmp_path) / "main_split_nobg"
    (folder / "test_objectdataset.h5").rename(folder / "test_objectdataset_augmentedrot.h5")
    text = message(folder)
    assert "training_objectdataset.h5 is there without test_objectdataset.h5: training and test files must" in text
    assert "test_objectdataset_augmentedrot.h5" in text
    assert "set data" not in text


def test_files_that_are_there_twice_are_named(tmp_path: Path) -> None:
    folder = raw_folder(tmp_path)
    shutil.copytree(folder / "main_split_nobg", folder / "copy" / "main_split_nobg")
    assert "several times (copy/main_split_nobg, main_split_nobg)" in message(folder)


# --- reading ----------------------------------------------------------------------------------------------------


def test_points_and_labels_are_those_of_the_files(tmp_path: Path) -> None:
    for split, objects in read(find_raw(raw_folder(tmp_path), *OBJ)).items():
        np.testing.assert_array_equal(objects.points, content(split)["data"])
        np.testing.assert_array_equal(objects.labels, content(split)["label"])
        assert objects.background is None


def test_integers_of_any_size_and_byte_order_are_read(tmp_path: Path) -> None:
    whole = content("test")
    changed = {"data": whole["data"].astype(">f4"), "label": whole["label"].astype(np.int64)}
    objects = find_raw(raw_folder(tmp_path, test=changed), *OBJ).read("test")
    np.testing.assert_array_equal(objects.points, whole["data"])
    assert objects.labels.dtype == np.uint8


def test_the_mask_counts_points_of_the_background(tmp_path: Path) -> None:
    mask = np.zeros((15, 2048), dtype=np.int32)
    mask[:, :512] = -1
    assert find_raw(raw_folder(tmp_path, test={"mask": mask}), *OBJ).read("test").background == 0.25


def spoilt(value: float, place: tuple[int, ...] = (3, 7, 1)) -> np.ndarray:
    data = content("test")["data"]
    data[place] = value
    return data


def relabelled(value: int) -> np.ndarray:
    labels = content("test")["label"]
    labels[6] = value
    return labels


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "no data": ({"data": None}, "has no dataset 'data', expected data and label, found label"),
    "no label": ({"label": None, "labels": TEST_LABELS}, "has no dataset 'label', expected data and label, found data"),
    "label 15": ({"label": relabelled(15)}, "label holds 15 for object 6, expected 0 to 14 (bag to toilet)"),
    "label -1": ({"label": relabelled(-1)}, "label holds -1 for object 6, expected 0 to 14"),
    "label of floats": ({"label": TEST_LABELS / 1.0}, "label has type float64, expected integers"),
    "label as words": ({"label": ["bag"] * 15}, "label has type object, expected integers"),
    "too few labels": ({"label": TEST_LABELS[:14]}, "label has shape [14], expected [15], one for each object"),
    "label as column": ({"label": TEST_LABELS[:, None]}, "label has shape [15, 1], expected [15]"),
    "127 points": ({"data": content("test")["data"][:, :127]}, "data has 127 points in an object, expected 2048"),
    "no object": ({"data": np.zeros((0, 2048, 3), np.float32), "label": []}, "data has shape [0, 2048, 3]"),
    "four coordinates": ({"data": np.zeros((15, 2048, 4), np.float32)}, "data has shape [15, 2048, 4], expected"),
    "a number": ({"data": 3.0}, "data has shape [], expected [objects, 2048, 3]"),
    "a text": ({"data": "see main_split"}, "data has shape [], expected [objects, 2048, 3]"),
    "integers": ({"data": np.zeros((15, 2048, 3), np.int32)}, "data has type int32, expected float32"),
    "doubles": ({"data": np.zeros((15, 2048, 3))}, "data has type float64, expected float32"),
    "NaN": ({"data": spoilt(np.nan)}, "data holds NaN in object 3, expected finite coordinates"),
    "infinite": ({"data": spoilt(-np.inf)}, "data holds an infinite number in object 3"),
    "mask": ({"mask": np.zeros((15, 3))}, "mask has shape [15, 3], expected [15, 2048], one value per point"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_names_file_and_field(tmp_path: Path, fault: str) -> None:
    changes, expected = FAULTS[fault]
    folder = raw_folder(tmp_path, test=changes)
    text = message(folder)
    assert text.startswith(f"{folder / 'main_split_nobg' / 'test_objectdataset.h5'}: ")
    assert expected in text


@pytest.mark.parametrize("length", [0, 100, 3000, -1])
def test_a_file_cut_short_is_named(tmp_path: Path, length: int) -> None:
    folder = raw_folder(tmp_path)
    file = folder / "main_split_nobg" / "test_objectdataset.h5"
    file.write_bytes(file.read_bytes()[:length])
    archive = zipped(folder, tmp_path / "x.zip")
    assert message(folder).startswith(f"{file}: cannot be read as HDF5 (")
    assert message(archive).startswith(f"{archive}:main_split_nobg/test_objectdataset.h5: cannot be read as HDF5 (")


def test_damage_anywhere_is_a_sentence_or_another_number(tmp_path: Path) -> None:
    small = {"data": np.zeros((2, 2048, 3), np.float32), "label": np.zeros(2, np.int32)}
    folder = tmp_path / "main_split_nobg"
    for split in ("train", "test"):
        file = write_h5(folder / file_name("obj", split), small)
    whole, told = file.read_bytes(), 0
    for place in range(0, 2048, 5):  # tables of HDF5 stand here
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        file.write_bytes(damaged)
        try:
            find_raw(folder, *OBJ).read("test")
        except UserError as error:
            told += str(file) in str(error)
    assert told > 20


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    folder = raw_folder(tmp_path)
    archive = zipped(folder, tmp_path / "x.zip")
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    assert message(archive).startswith(f"{archive}: damaged, cut short or not readable (")
    archive.write_bytes(whole[:5000] + bytes([whole[5000] ^ 255]) + whole[5001:])
    assert "damaged, cut short or not readable (" in message(archive)


def test_a_file_of_absurd_size_in_an_archive_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zipped(raw_folder(tmp_path / "files"), tmp_path / "x.zip")
    monkeypatch.setattr("se3t.data.raw._MAX_MEMBER_BYTES", 1000)
    assert "test_objectdataset.h5 in it unpacks to more than 0 GiB; get it again" in message(path)
