from __future__ import annotations

import errno
import hashlib
import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from se3t.config import TARGETS, QM9Data
from se3t.data import store as store_module
from se3t.data.qm9 import prepare
from se3t.data.qm9.prepare import prepare_qm9, raw_folder, read_qm9_store, store_path, summary
from se3t.data.qm9.splits import SPLIT_SIZES, official_splits
from se3t.data.qm9.targets import QM9_TARGETS
from se3t.data.store import Store, read_checksum, write_store
from se3t.errors import UserError
from se3t.experiments.qm9 import DATA

from .raw_files import csv_text, qm9_folder, qm9_tar, qm9_zip, sdf_text, shape, values, write_zip

SPLIT_OF = official_splits()
FIRST = {name: np.flatnonzero(code == SPLIT_OF).tolist() for code, name in enumerate(SPLIT_SIZES)}
UNCHARACTERIZED = 58
NUMBERS = sorted([*FIRST["train"][:6], *FIRST["valid"][:3], *FIRST["test"][:2], UNCHARACTERIZED])
KEPT = [number for number in NUMBERS if number != UNCHARACTERIZED]
SIZES = {"train": 6, "valid": 3, "test": 2}


@pytest.fixture
def config(tmp_path: Path) -> QM9Data:
    raw = tmp_path / "raw"
    raw.mkdir()
    return QM9Data(root=str(tmp_path / "data"), raw=str(qm9_zip(raw / "qm9.zip", NUMBERS)), workers=1)


def prepared(config: QM9Data) -> Store:
    prepare_qm9(config, progress=False)
    return read_qm9_store(config)


def test_a_store_holds_the_characterized_molecules_in_the_order_of_their_numbers(config: QM9Data) -> None:
    arrays = prepared(config).arrays
    assert arrays["mol_id"].tolist() == KEPT
    atoms = [len(shape(number).atoms) for number in KEPT]
    assert arrays["num_atoms"].tolist() == atoms
    assert len(arrays["numbers"]) == len(arrays["positions"]) == sum(atoms)
    assert len(arrays["bonds"]) == sum(len(shape(number).bonds) for number in KEPT)
    assert arrays["targets"].shape == arrays["known"].shape == (len(KEPT), len(TARGETS))


def test_targets_are_the_numbers_of_the_raw_file(config: QM9Data) -> None:
    store = prepared(config)
    assert store.settings["columns"] == list(TARGETS)
    assert store.settings["column_units"]["homo"] == "hartree"
    homo = store.arrays["targets"][:, store.settings["columns"].index("homo")]
    assert homo.tolist() == [values(number)[5] for number in KEPT]


def test_splits_are_the_official_ones_of_what_is_present(config: QM9Data) -> None:
    store = prepared(config)
    np.testing.assert_array_equal(store.arrays["split"], SPLIT_OF[KEPT])
    assert store.provenance["sizes"] == SIZES
    assert summary(store)["official"] == SPLIT_SIZES


def test_a_molecule_has_the_same_split_whatever_else_is_there(config: QM9Data, tmp_path: Path) -> None:
    config.raw = str(qm9_zip(tmp_path / "few.zip", KEPT[3:7]))
    np.testing.assert_array_equal(prepared(config).arrays["split"], SPLIT_OF[KEPT[3:7]])


def test_an_empty_split_is_fine(config: QM9Data, tmp_path: Path) -> None:
    config.raw = str(qm9_zip(tmp_path / "train.zip", FIRST["train"][:4]))
    facts = summary(prepared(config))
    assert facts["sizes"] == {"train": 4, "valid": 0, "test": 0}
    assert math.isnan(facts["columns"]["mu"]["mae_valid"])
    assert math.isnan(facts["columns"]["mu"]["mae_test"])


def test_statistics_are_those_of_the_training_molecules_alone(config: QM9Data, tmp_path: Path) -> None:
    rows = summary(prepared(config))["columns"]
    mu = np.array([values(number)[3] for number in FIRST["train"][:6]])
    assert rows["mu"]["mean"] == pytest.approx(mu.mean(), rel=1e-12)
    assert rows["mu"]["std"] == pytest.approx(mu.std(), rel=1e-12)
    valid = np.array([values(number)[3] for number in FIRST["valid"][:3]])
    assert rows["mu"]["mae_valid"] == pytest.approx(np.abs(valid - mu.mean()).mean(), rel=1e-12)
    without_test = [number for number in NUMBERS if number not in FIRST["test"]]
    config.raw, config.root = str(qm9_zip(tmp_path / "no_test.zip", without_test)), str(tmp_path / "other")
    for name, row in summary(prepared(config))["columns"].items():
        assert (row["mean"], row["std"]) == (rows[name]["mean"], rows[name]["std"])
        assert math.isnan(row["mae_test"])


def test_errors_are_in_the_units_of_table_3(config: QM9Data) -> None:
    rows = summary(prepared(config))["columns"]
    assert {name: row["unit"] for name, row in rows.items()} == {name: QM9_TARGETS[name].unit for name in TARGETS}
    homo = np.array([values(number)[5] for number in FIRST["train"][:6]])
    assert rows["homo"]["std"] == pytest.approx(27211.386245988 * homo.std(), rel=1e-12)


def test_the_store_says_where_it_comes_from(config: QM9Data) -> None:
    store = prepared(config)
    digest = hashlib.sha256(Path(str(config.raw)).read_bytes()).hexdigest()
    assert store.settings["raw"] == {"qm9.zip": digest}
    assert store.settings["uncharacterized"]["count"] == 3054
    assert {"program", "rdkit", "created", "seconds", "methods", "refused"} <= set(store.provenance)
    assert store.provenance["num_uncharacterized"] == 1
    assert sum(store.provenance["methods"].values()) == len(KEPT)
    assert set(store.units) == set(store.arrays)


def test_number_of_workers_and_layout_do_not_change_the_molecules(config: QM9Data, tmp_path: Path) -> None:
    many = sorted([*FIRST["train"][:900], *FIRST["valid"][:300]])
    config.raw = str(qm9_zip(tmp_path / "many.zip", many))
    one = prepared(config)
    config.workers = 2
    prepare_qm9(config, progress=False, force=True)
    assert read_qm9_store(config).checksum == one.checksum
    config.raw, config.root = str(qm9_folder(tmp_path / "folder", many)), str(tmp_path / "other")
    unpacked = prepared(config).arrays
    config.raw, config.root = str(qm9_tar(tmp_path / "many.tar.bz2", many[::-1])), str(tmp_path / "xyz")
    xyz = prepared(config).arrays
    for name, array in one.arrays.items():
        np.testing.assert_array_equal(array, unpacked[name], err_msg=name)
        if name == "positions":
            np.testing.assert_allclose(array, xyz[name], atol=1e-4)
        else:
            np.testing.assert_array_equal(array, xyz[name], err_msg=name)


def test_a_molecule_that_cannot_be_read_is_listed_and_the_others_are_kept(config: QM9Data, tmp_path: Path) -> None:
    bad, flat = KEPT[2], KEPT[5]
    records = sdf_text(NUMBERS).split("$$$$\n")
    records[NUMBERS.index(bad)] = f"gdb_{bad}\n\n\n  2  1  0  0  0  0  0  0  0  0999 V2000\nnonsense\nM  END\n"
    at_origin = "    0.0000    0.0000    0.0000 H   0  0\n" * 2
    records[NUMBERS.index(flat)] = (
        f"gdb_{flat}\n\n\n  2  1  0  0  0  0  0  0  0  0999 V2000\n{at_origin}  1  2  1\nM  END\n"
    )
    config.raw = str(write_zip(tmp_path / "bad.zip", "$$$$\n".join(records), csv_text(NUMBERS)))
    store = prepared(config)
    assert store.arrays["mol_id"].tolist() == [number for number in KEPT if number not in (bad, flat)]
    refused = summary(store)["refused"]
    assert [(item["mol_id"], item["identifier"]) for item in refused] == [(bad, f"gdb_{bad}"), (flat, f"gdb_{flat}")]
    assert "mol block" in refused[0]["reason"]
    assert "no 3-D coordinates" in refused[1]["reason"]


def test_nothing_at_all_that_can_be_used_is_an_error(config: QM9Data, tmp_path: Path) -> None:
    config.raw = str(qm9_zip(tmp_path / "none.zip", (UNCHARACTERIZED,)))
    with pytest.raises(UserError, match=r"none\.zip: no molecule of an official split"):
        prepare_qm9(config, progress=False)
    assert not store_path(config).exists()


def test_a_number_that_is_there_twice_is_an_error(config: QM9Data, tmp_path: Path) -> None:
    config.raw = str(qm9_zip(tmp_path / "twice.zip", (1, 2, 2)))
    with pytest.raises(UserError, match="molecule 2 occurs twice"):
        prepare_qm9(config, progress=False)


# --- uncharacterized molecules ------------------------------------------------------------------------------------


def write_list(path: Path, *numbers: int) -> Path:
    path.write_text("\n".join(map(str, numbers)))
    return path


def removed(config: QM9Data) -> tuple[set[int], str]:
    store = prepared(config)
    return set(KEPT) - set(store.arrays["mol_id"].tolist()), " ".join(store.provenance["notes"])


def test_the_list_beside_the_raw_file_comes_first_then_the_setting_then_the_packaged_one(
    config: QM9Data, tmp_path: Path
) -> None:
    gone, notes = removed(config)
    assert gone == set()
    assert "1 uncharacterized molecules removed, by the list that comes with se3t" in notes
    config.root = str(tmp_path / "second")
    config.uncharacterized = str(write_list(tmp_path / "own.txt", UNCHARACTERIZED, KEPT[1]))
    gone, notes = removed(config)
    assert gone == {KEPT[1]}
    assert f"2 uncharacterized molecules removed, by data.uncharacterized={config.uncharacterized}" in notes
    config.root = str(tmp_path / "third")
    beside = write_list(Path(str(config.raw)).parent / "uncharacterized.txt", UNCHARACTERIZED, KEPT[2])
    gone, notes = removed(config)
    assert gone == {KEPT[2]}
    assert f"by the list {beside} beside the raw data, which takes precedence over data.uncharacterized" in notes
    assert "which names 2 where the published one names 3,054" in notes


def test_splits_do_not_depend_on_the_list_that_was_used(config: QM9Data, tmp_path: Path) -> None:
    config.uncharacterized = str(write_list(tmp_path / "own.txt", KEPT[0]))
    store = prepared(config)
    np.testing.assert_array_equal(store.arrays["split"], SPLIT_OF[KEPT[1:]])
    assert UNCHARACTERIZED not in store.arrays["mol_id"]  # in no official split
    assert store.provenance["num_without_split"] == 1
    assert "1 more left out: not in any official split" in store.provenance["notes"]


# --- a store that exists ------------------------------------------------------------------------------------------


def test_a_prepared_store_is_not_made_again(config: QM9Data, monkeypatch: pytest.MonkeyPatch) -> None:
    made, path = prepare_qm9(config, progress=False), store_path(config)
    before = path.read_bytes()
    monkeypatch.setattr(prepare, "build", None)
    again = prepare_qm9(config, progress=False)
    assert (again.checksum, again.settings, again.provenance) == (made.checksum, made.settings, made.provenance)
    config.raw = None
    assert prepare_qm9(config, progress=False).checksum == made.checksum
    assert path.read_bytes() == before


def test_the_same_raw_file_elsewhere_is_the_same(config: QM9Data, tmp_path: Path) -> None:
    prepare_qm9(config, progress=False)
    path = store_path(config)
    before = path.stat().st_mtime_ns
    config.raw = str(Path(str(config.raw)).rename(tmp_path / "other_name.zip"))
    prepare_qm9(config, progress=False)
    assert path.stat().st_mtime_ns == before


def test_a_raw_file_that_is_gone_leaves_the_store_usable(config: QM9Data, caplog: pytest.LogCaptureFixture) -> None:
    prepare_qm9(config, progress=False)
    Path(str(config.raw)).unlink()
    prepare_qm9(config, progress=False)
    assert "not found; the prepared data" in caplog.text


def test_other_raw_data_than_those_of_the_store_are_an_error_until_forced(config: QM9Data, tmp_path: Path) -> None:
    prepare_qm9(config, progress=False)
    config.raw = str(qm9_zip(tmp_path / "other.zip", KEPT[:3]))
    with pytest.raises(UserError, match=r"was made from qm9\.zip \(sha256 .*other\.zip has another content; replace"):
        prepare_qm9(config, progress=False)
    with pytest.raises(UserError, match=r"`se3t data prepare qm9 .*force=true`, or keep both with another data\.root"):
        prepare_qm9(config, progress=False)
    prepare_qm9(config, progress=False, force=True)
    assert read_qm9_store(config).arrays["mol_id"].tolist() == KEPT[:3]


@pytest.mark.parametrize("with_raw", [True, False])
def test_another_list_than_that_of_the_store_is_an_error(config: QM9Data, tmp_path: Path, with_raw: bool) -> None:
    prepare_qm9(config, progress=False)
    config.uncharacterized = str(write_list(tmp_path / "own.txt", KEPT[1]))
    config.raw = config.raw if with_raw else None
    with pytest.raises(UserError, match=r"data\.uncharacterized=.*own\.txt has another content"):
        prepare_qm9(config, progress=False)


def test_a_damaged_store_is_an_error_until_forced(config: QM9Data) -> None:
    checksum, path = prepare_qm9(config, progress=False).checksum, store_path(config)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"damaged.*`se3t data prepare qm9 .*data\.raw=.*force=true`"):
        prepare_qm9(config, progress=False)
    prepare_qm9(config, progress=False, force=True)
    assert read_checksum(path, fix="") == checksum


def test_a_store_of_another_version_is_an_error_until_forced(config: QM9Data, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "STORE_VERSION", 99)
        prepare_qm9(config, progress=False)
    with pytest.raises(UserError, match=r"version 99, expected version .*`se3t data prepare qm9 .*force=true`"):
        prepare_qm9(config, progress=False)
    prepare_qm9(config, progress=False, force=True)
    assert len(read_qm9_store(config).arrays["mol_id"]) == len(KEPT)


def test_a_store_with_other_arrays_is_noticed(config: QM9Data) -> None:
    store = prepared(config)
    write_store(store_path(config), replace(store, arrays={"split": store.arrays["split"]}))
    with pytest.raises(UserError, match=r"has no array 'bond_classes', expected another layout; make it again"):
        read_qm9_store(config)


def test_a_missing_store_names_the_command_that_makes_it(config: QM9Data) -> None:
    with pytest.raises(
        UserError, match=r"qm9\.h5: not found; .*`se3t data prepare qm9 [^`]*data\.raw=[^`]*`"
    ) as caught:
        read_qm9_store(config)
    assert "force" not in str(caught.value)


def test_the_command_repeats_what_was_given_and_quotes_it() -> None:
    assert DATA.prepare_command(QM9Data()) == "se3t data prepare qm9"
    config = OmegaConf.structured(QM9Data(root="my data", raw="qm9.zip"))
    assert (
        DATA.prepare_command(config, force=True)
        == "se3t data prepare qm9 'data.root=my data' data.raw=qm9.zip force=true"
    )


# --- download -----------------------------------------------------------------------------------------------------


def test_without_raw_data_and_store_they_are_downloaded(
    config: QM9Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Counter[str]()

    def fetched(sources: tuple, folder: Path, *, setting: str, progress: bool) -> Path:
        calls["download"] += 1
        assert folder == raw_folder(config)
        assert [bool(source.sha256) for source in sources] == [True, False]  # what can be verified comes first
        folder.mkdir(parents=True)
        return qm9_zip(folder / sources[1].name, NUMBERS)

    config.raw = None
    monkeypatch.setattr(prepare, "download", fetched)
    assert prepared(config).arrays["mol_id"].tolist() == KEPT
    store_path(config).unlink()
    prepare_qm9(config, progress=False)  # from the file that lies there now
    assert calls["download"] == 1


def test_a_file_put_into_the_folder_of_downloads_must_be_the_published_one(config: QM9Data) -> None:
    config.raw = None
    raw_folder(config).mkdir(parents=True)
    path = qm9_tar(raw_folder(config) / "dsgdb9nsd.xyz.tar.bz2", NUMBERS)
    with pytest.raises(UserError, match=r"has checksum .*, expected 3a63848ac806…, the published one; remove it"):
        prepare_qm9(config, progress=False)
    config.raw = str(path)  # by name it may be anything
    assert prepared(config).arrays["mol_id"].tolist() == KEPT


# --- what goes wrong ----------------------------------------------------------------------------------------------


def spoil_csv(path: Path) -> None:
    write_zip(path, sdf_text(NUMBERS), csv_text(NUMBERS[:-1]))


def spoil_zip(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def spoil_sdf(path: Path) -> None:
    write_zip(path, sdf_text(NUMBERS)[:-30], csv_text(NUMBERS))


@pytest.mark.parametrize("spoil", [spoil_csv, spoil_zip, spoil_sdf])
def test_spoiled_raw_data_leave_nothing_behind_and_a_rerun_works(
    config: QM9Data, spoil: Callable[[Path], None]
) -> None:
    path = Path(str(config.raw))
    whole = path.read_bytes()
    spoil(path)
    with pytest.raises(UserError, match=r"qm9\.zip"):
        prepare_qm9(config, progress=False)
    assert list(store_path(config).parent.iterdir()) == []
    path.write_bytes(whole)
    assert len(prepared(config).arrays["mol_id"]) == len(KEPT)


def test_a_full_disk_is_one_sentence_and_leaves_nothing_behind(
    config: QM9Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "a paragraph\nof the HDF5 library")

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "write_atomically", full)
        with pytest.raises(UserError) as caught:
            prepare_qm9(config, progress=False)
    assert str(caught.value).endswith(f"({os.strerror(errno.ENOSPC)}); set data.root to another folder")
    assert list(store_path(config).parent.iterdir()) == []
    assert len(prepared(config).arrays["mol_id"]) == len(KEPT)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_disk_that_fills_while_writing_leaves_nothing_behind(config: QM9Data) -> None:
    code = (
        "import resource, sys\n"
        "from se3t.config import QM9Data\n"
        "from se3t.data.qm9.prepare import prepare_qm9\n"
        "from se3t.errors import UserError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n    prepare_qm9(QM9Data(root=sys.argv[1], raw=sys.argv[2], workers=1), progress=False)\n"
        "except UserError as error:\n    print(error)\n"
    )
    command = [sys.executable, "-c", code, config.root, str(config.raw)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"cannot write the prepared data ({os.strerror(errno.EFBIG)})" in done.stdout
    assert list(store_path(config).parent.iterdir()) == []


@pytest.mark.parametrize("setting", ["raw", "uncharacterized"])
def test_a_mistyped_file_leaves_no_folder_behind(config: QM9Data, setting: str) -> None:
    with pytest.raises(UserError, match=r"nowhere: (not found|cannot be read)"):
        prepare_qm9(replace(config, **{setting: "nowhere"}), progress=False)
    assert not Path(config.root).exists()


def test_the_log_says_once_what_new_data_are_made_of(config: QM9Data, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="se3t")
    prepare_qm9(config, progress=False)
    for words in ("1 uncharacterized molecules removed", "energies of the raw data minus", f"bonds: {len(KEPT)} san"):
        assert caplog.text.count(words) == 1
    caplog.clear()
    prepare_qm9(config, progress=False)
    assert caplog.text == ""


def test_a_root_that_is_a_file_is_named_before_the_work(config: QM9Data, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in the way")
    with pytest.raises(UserError, match=r"^data\.root: cannot make the folder"):
        prepare_qm9(config, progress=False)


def test_the_progress_bar_goes_to_standard_error(
    config: QM9Data, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    prepare_qm9(config, progress=True)
    captured = capsys.readouterr()
    assert "QM9: molecules of qm9.zip" in captured.err
    assert "100 %" in captured.err
    assert captured.out == ""


def test_preparing_needs_no_torch_and_no_rdkit_until_it_builds(config: QM9Data) -> None:
    code = (
        "import sys, se3t.data.qm9.prepare as p, se3t.data.molecules.own; from se3t.config import QM9Data\n"
        "assert not {'torch', 'h5py', 'rich', 'rdkit'} & set(sys.modules)\n"
        "config = QM9Data(root=sys.argv[1], raw=sys.argv[2], workers=1)\n"
        "p.prepare_qm9(config, progress=False); p.summary(p.read_qm9_store(config))\n"
        "assert 'rdkit' in sys.modules; assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, config.root, str(config.raw)], check=True)


# --- real data ----------------------------------------------------------------------------------------------------


def test_sdf_and_raw_xyz_of_the_same_real_molecules_agree(shared_dir: Path, tmp_path: Path) -> None:
    folder = shared_dir / "data" / "qm9_subset"
    if not folder.is_dir():
        pytest.skip("the shared QM9 subset is absent")
    xyz = prepared(QM9Data(root=str(tmp_path / "xyz"), raw=str(folder / "dsgdb9nsd_10.xyz.tar.bz2"), workers=1))
    sdf = records_of(folder / "qm9.zip", set(xyz.arrays["mol_id"].tolist()))
    assert len(sdf["mol_id"]) == len(xyz.arrays["mol_id"]) >= 7
    for name, array in sdf.items():
        if name == "positions":
            np.testing.assert_allclose(array, xyz.arrays[name], atol=1e-4)
        else:
            np.testing.assert_array_equal(array, xyz.arrays[name], err_msg=name)


def records_of(path: Path, numbers: set[int]) -> dict[str, np.ndarray]:
    from itertools import islice

    from se3t.data.molecules.building import build, from_block
    from se3t.data.qm9.raw import find_raw, iter_records

    chosen = (record for record in iter_records(find_raw(path)) if record.index in numbers)
    return build(from_block, islice(chosen, len(numbers)), 12, workers=1, advance=lambda _: None)[0]
