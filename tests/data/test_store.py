from __future__ import annotations

import errno
import fcntl
import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from se3t.data import store as store_module
from se3t.data.store import Store, read_checksum, read_store, write_store
from se3t.errors import UserError

FIX = "se3t data prepare toy force=true"


def toy(**changes: object) -> Store:
    content: dict = {
        "kind": "toy",
        "arrays": {"train/x": np.linspace(0.0, 1.0, 12).reshape(4, 3), "index": np.arange(5)},
        "settings": {"scale": 1.5, "name": "a"},
        "units": {"train/x": "metre"},
        "provenance": {"created": "today"},
    }
    return Store(**(content | changes))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "toy.h5"


def test_a_store_comes_back_as_written(path: Path) -> None:
    checksum = write_store(path, toy())
    found = read_store(path, "toy", fix=FIX)
    assert found.checksum == checksum == toy().checksum
    assert (found.settings, found.units, found.provenance) == (toy().settings, toy().units, toy().provenance)
    assert set(found.arrays) == {"train/x", "index"}
    for name, array in toy().arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array, strict=True)


def test_a_store_is_plain_hdf5_with_units(path: Path) -> None:
    checksum = write_store(path, toy())
    with h5py.File(path, "r") as file:
        assert file["train/x"].attrs["unit"] == "metre"
        assert json.loads(file.attrs["settings"]) == {"scale": 1.5, "name": "a"}
        assert file.attrs["sha256"] == checksum


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "other"},
        {"settings": {"scale": 1.5000000000000002, "name": "a"}},
        {"units": {"train/x": "foot"}},
        {"arrays": {"train/y": toy().arrays["train/x"], "index": np.arange(5)}},
        {"arrays": {"train/x": toy().arrays["train/x"].reshape(3, 4), "index": np.arange(5)}},
        {"arrays": {"train/x": toy().arrays["train/x"], "index": np.arange(5, dtype=np.int32)}},
        {"arrays": {"train/x": np.nextafter(toy().arrays["train/x"], 2.0), "index": np.arange(5)}},
    ],
)
def test_the_checksum_sees_every_change_of_content(changes: dict) -> None:
    assert toy(**changes).checksum != toy().checksum


def test_the_checksum_ignores_provenance_memory_layout_and_byte_order() -> None:
    x = toy().arrays["train/x"]
    same = toy(
        arrays={"index": np.arange(5).astype(">i8"), "train/x": np.asfortranarray(x)}, provenance={"created": "now"}
    )
    assert same.checksum == toy().checksum


def test_a_missing_store_names_the_file_and_the_command(path: Path) -> None:
    with pytest.raises(UserError, match=rf"toy\.h5: not found; .*`{FIX}`"):
        read_store(path, "toy", fix=FIX)


def test_every_flipped_bit_is_noticed(path: Path) -> None:
    write_store(path, toy())
    whole = path.read_bytes()
    places = np.random.default_rng(0).integers(len(whole), size=200).tolist()
    for place in [0, 40, 100, 511, 512, len(whole) - 1, *places]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(UserError) as caught:
            read_store(path, "toy", fix=FIX)
        assert str(path) in str(caught.value)
        assert FIX in str(caught.value)


@pytest.mark.parametrize("length", [0, 1, 512, 2000, -1])
def test_a_store_cut_short_is_noticed(path: Path, length: int) -> None:
    write_store(path, toy())
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UserError, match="damaged"):
        read_store(path, "toy", fix=FIX)


def test_a_store_edited_by_another_program_is_noticed(path: Path) -> None:
    write_store(path, toy())
    with h5py.File(path, "r+") as file:
        file["train/x"][0, 0] = np.nan
    with pytest.raises(UserError, match="altered since it was made"):
        read_store(path, "toy", fix=FIX)


def test_a_foreign_file_is_refused(path: Path) -> None:
    path.parent.mkdir()
    with h5py.File(path, "w") as file:
        file["x"] = 1.0
    with pytest.raises(UserError, match="not a store of this program"):
        read_store(path, "toy", fix=FIX)


def test_another_version_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "STORE_VERSION", 7)
    write_store(path, toy())
    monkeypatch.undo()
    with pytest.raises(UserError, match=rf"version 7, expected version {store_module.STORE_VERSION}; .*`{FIX}`"):
        read_store(path, "toy", fix=FIX)


def test_another_kind_is_named(path: Path) -> None:
    write_store(path, toy())
    with pytest.raises(UserError, match="holds toy data, expected nbody data"):
        read_store(path, "nbody", fix=FIX)


@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (np.inf, "an infinite number")])
def test_numbers_that_are_not_finite_are_neither_written_nor_read(
    path: Path, monkeypatch: pytest.MonkeyPatch, value: float, word: str
) -> None:
    x = toy().arrays["train/x"].copy()
    x[2, 1] = value
    bad = toy(arrays={"train/x": x})
    with pytest.raises(UserError, match=rf"'train/x' holds {word} in row 2 .*nothing was written"):
        write_store(path, bad)
    assert not path.exists()
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "_check_finite", lambda *_: None)
        write_store(path, bad)
    with pytest.raises(UserError, match=rf"'train/x' holds {word} in row 2 .*{FIX}"):
        read_store(path, "toy", fix=FIX)


def test_an_interrupted_write_leaves_the_old_store_and_nothing_else(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_store(path, toy())

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_store(path, toy(settings={}))
    assert [item.name for item in path.parent.iterdir()] == ["toy.h5"]
    assert read_store(path, "toy", fix=FIX).checksum == toy().checksum


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"file/toy\.h5: cannot write"):
        write_store(tmp_path / "file" / "toy.h5", toy())


def test_what_killed_writers_left_behind_is_removed_but_not_what_is_being_written(path: Path) -> None:
    path.parent.mkdir()
    stale, young, other = (path.parent / name for name in (".toy.h5.1.tmp", ".toy.h5.2.tmp", ".toys.h5.1.tmp"))
    for temporary in (stale, young, other):
        temporary.touch()
    for temporary in (stale, other):
        os.utime(temporary, (0, 0))
    write_store(path, toy())
    assert {item.name for item in path.parent.iterdir()} == {path.name, young.name, other.name}


def test_the_checksum_can_be_read_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checksum = write_store(path, toy())
    monkeypatch.setattr(store_module, "_arrays", None)
    assert read_checksum(path, fix=FIX) == checksum


def test_the_checksum_of_a_damaged_foreign_or_missing_file_is_an_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=rf"toy\.h5: not found; .*`{FIX}`"):
        read_checksum(path, fix=FIX)
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "STORE_VERSION", 7)
        write_store(path, toy())
    with pytest.raises(UserError, match="version 7, expected version"):
        read_checksum(path, fix=FIX)
    write_store(path, toy())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=rf"damaged.*`{FIX}`"):
        read_checksum(path, fix=FIX)


def test_a_full_disk_is_named_in_one_sentence(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "whatever")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError) as caught:
        write_store(path, toy())
    reason = os.strerror(errno.ENOSPC)
    assert str(caught.value) == f"{path}: cannot write the prepared data ({reason}); set data.root to another folder"
    assert list(path.parent.iterdir()) == []


def test_a_locked_file_is_not_called_damaged(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HDF5_USE_FILE_LOCKING", raising=False)
    write_store(path, toy())
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for read in (
            lambda: read_store(path, "toy", fix=FIX),
            lambda: read_checksum(path, fix=FIX),
            lambda: store_module.read_hdf5(path, str(path), ["x"]),
        ):
            with pytest.raises(UserError, match=r"toy\.h5: locked by another process .*HDF5_USE_FILE_LOCKING"):
                read()


@pytest.mark.parametrize("kind", ["external link", "soft link", "external storage", "virtual"])
def test_numbers_that_lie_elsewhere_are_refused(tmp_path: Path, kind: str) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(32))
    path = tmp_path / "file.h5"
    with h5py.File(path, "w") as file:
        file["own"] = np.zeros(4)
        if kind == "external link":
            file["data"] = h5py.ExternalLink(str(secret), "/x")
        elif kind == "soft link":
            file["data"] = h5py.SoftLink("/own")
        elif kind == "external storage":
            file.create_dataset("data", (4,), "f8", external=[(str(secret), 0, 32)])
        else:
            layout = h5py.VirtualLayout((4,), "f8")
            layout[:] = h5py.VirtualSource(str(secret), "x", (4,))
            file.create_virtual_dataset("data", layout)
    with pytest.raises(UserError, match=r"'data' is (a link to|stored in other files).*, expected its numbers"):
        store_module.read_hdf5(path, str(path), ["data"])
