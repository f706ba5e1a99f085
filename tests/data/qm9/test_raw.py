"""Raw files: every layout gives the same records, and what is wrong with one is said with file, record and column."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from se3t.config import TARGETS
from se3t.data.molecules.building import build, from_block
from se3t.data.molecules.readers import Record
from se3t.data.qm9.raw import find_raw, from_xyz, iter_records
from se3t.data.qm9.targets import QM9_TARGETS
from se3t.errors import UserError

from .raw_files import (
    csv_text,
    qm9_folder,
    qm9_tar,
    qm9_zip,
    sdf_text,
    values,
    write_tar,
    write_zip,
    xyz_text,
)

NUMBERS = (1, 2, 3, 7, 58, 133885)


def records(path: Path) -> list[Record]:
    return list(iter_records(find_raw(path)))


def arrays(path: Path) -> dict[str, np.ndarray]:
    raw = find_raw(path)
    make = from_xyz if raw.layout == "xyz" else from_block
    found, facts = build(make, iter_records(raw), len(TARGETS), workers=1, advance=lambda _: None)
    assert not facts["refused"]
    return found


def test_an_archive_and_its_files_hold_the_same_records(tmp_path: Path) -> None:
    zipped = records(qm9_zip(tmp_path / "qm9.zip", NUMBERS))
    assert [record.index for record in zipped] == list(NUMBERS)
    folder = qm9_folder(tmp_path / "folder", NUMBERS)
    assert zipped == records(folder) == records(folder / "gdb9.sdf")


def test_an_archive_may_hold_its_files_in_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "some.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("raw/gdb9.sdf", sdf_text(NUMBERS))
        archive.writestr("raw/gdb9.sdf.csv", csv_text(NUMBERS))
    assert [record.index for record in records(path)] == list(NUMBERS)


def test_values_are_in_the_order_of_the_targets(tmp_path: Path) -> None:
    names = ("A", "B", "C", "mu", "alpha", "homo", "lumo", "gap", "r2", "zpve", "u0", "u", "h", "g", "cv")
    for found in (arrays(qm9_zip(tmp_path / "a.zip", NUMBERS)), arrays(qm9_tar(tmp_path / "a.tar.bz2", NUMBERS))):
        for row, number in zip(found["targets"], NUMBERS, strict=True):
            expected = dict(zip(names, values(number), strict=True))
            assert row.tolist() == [expected[name] for name in QM9_TARGETS]
        assert found["known"].all()


def test_both_layouts_give_the_same_molecules(tmp_path: Path) -> None:
    sdf, xyz = arrays(qm9_zip(tmp_path / "a.zip", NUMBERS)), arrays(qm9_tar(tmp_path / "a.tar.bz2", NUMBERS))
    np.testing.assert_allclose(sdf.pop("positions"), xyz.pop("positions"), atol=1e-4)
    for name, array in sdf.items():
        np.testing.assert_array_equal(array, xyz[name], err_msg=name)


@pytest.mark.parametrize("make", [qm9_zip, qm9_tar])
def test_reading_unpacks_nothing_to_disk(tmp_path: Path, make: Callable[..., Path]) -> None:
    path = make(tmp_path / ("a.zip" if make is qm9_zip else "a.tar.bz2"), NUMBERS)
    records(path)
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


def test_in_a_folder_the_sdf_comes_before_archives(tmp_path: Path) -> None:
    qm9_tar(tmp_path / "dsgdb9nsd.xyz.tar.bz2", (1,))
    assert find_raw(tmp_path).layout == "xyz"
    qm9_zip(tmp_path / "qm9.zip", (1, 2))
    assert find_raw(tmp_path).path.name == "qm9.zip"
    qm9_folder(tmp_path, (1, 2, 3))
    assert find_raw(tmp_path).path.name == "gdb9.sdf"


@pytest.mark.parametrize(
    ("names", "given", "words"),
    [
        ([], "missing.zip", "data.raw=.*missing.zip: not found; expected qm9.zip, gdb9.sdf"),
        (["notes.txt"], "", "holds none of the raw files; expected qm9.zip"),
        (["notes.txt"], "notes.txt", "a file of another kind; expected qm9.zip"),
        (["gdb9.sdf"], "gdb9.sdf", "gdb9.sdf.csv: not found; expected the properties"),
        (["a.zip", "b.zip"], "", r"holds several archives \(a.zip, b.zip\); name the one"),
    ],
)
def test_what_is_no_raw_data_is_named(tmp_path: Path, names: list[str], given: str, words: str) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=words):
        find_raw(tmp_path / given)


# --- damage -----------------------------------------------------------------------------------------------------


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        arrays(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def complaint_about(path: Path) -> str:
    try:
        records(path)
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.95])
@pytest.mark.parametrize("make", [qm9_zip, qm9_tar])
def test_an_archive_cut_short_is_called_damaged(tmp_path: Path, make: Callable[..., Path], keep: float) -> None:
    path = make(tmp_path / ("a.zip" if make is qm9_zip else "a.tar.bz2"), range(1, 200))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if keep < 1 else int(keep)])
    assert "damaged, cut short or not readable" in refusal(path)


@pytest.mark.parametrize("make", [qm9_zip, qm9_tar])
def test_an_archive_with_any_altered_byte_is_called_damaged_or_is_read_as_it_was(
    tmp_path: Path, make: Callable[..., Path]
) -> None:
    path = make(tmp_path / ("a.zip" if make is qm9_zip else "a.tar.bz2"), range(1, 60))
    whole, expected = path.read_bytes(), records(path)
    noticed = 0
    for place in np.random.default_rng(0).integers(len(whole), size=60).tolist():
        altered = bytearray(whole)
        altered[place] ^= 0x10
        path.write_bytes(altered)
        if complaint := complaint_about(path):
            assert "damaged" in complaint or "has no file gdb9.sdf" in complaint  # the name itself was hit
            noticed += 1
        else:
            assert records(path) == expected  # a byte that matters to nobody, such as a date
    assert noticed > 40


def test_an_html_page_in_place_of_an_archive_is_called_damaged(tmp_path: Path) -> None:
    for name in ("qm9.zip", "dsgdb9nsd.xyz.tar.bz2"):
        (tmp_path / name).write_text("<html>sign in</html>")
        assert "damaged" in refusal(tmp_path / name)


def test_a_truncated_sdf_is_named_with_its_record(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", sdf_text(NUMBERS)[:-40], csv_text(NUMBERS))
    assert f"{path}:gdb9.sdf" in refusal(path)
    assert "record 6 (gdb_133885)" in refusal(path)


@pytest.mark.parametrize(
    ("sdf", "csv", "words"),
    [
        (NUMBERS, NUMBERS[:-1], "the former has more records than the 5 rows"),
        (NUMBERS[:-1], NUMBERS, "5 records and 6 rows"),
        (NUMBERS, (1, 2, 7, 3, 58, 133885), "record 3 is 'gdb_3' in the former and 'gdb_7'"),
        (NUMBERS, (1, 2, 3, 58, 133885), "record 4 is 'gdb_7' in the former and 'gdb_58'"),
    ],
)
def test_sdf_and_csv_out_of_step_are_named(
    tmp_path: Path, sdf: tuple[int, ...], csv: tuple[int, ...], words: str
) -> None:
    message = refusal(write_zip(tmp_path / "a.zip", sdf_text(sdf), csv_text(csv)))
    assert "are out of step" in message
    assert words in message


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("homo", "homu", "no column 'homo'; did you mean 'homu'?"),
        ("mol_id", "name", "no column 'mol_id'"),
        ("58.1875", "abc", "line 6, column 'mu', is 'abc', expected a number"),
        ("58.1875", "nan", "row 5 (gdb_58) has no value in column 'mu', expected a number"),
        ("58.1875", "inf", "line 6, column 'mu', is 'inf', expected a number"),
        ("58.1875", ">3", "row 5 (gdb_58) has no value in column 'mu', expected a number"),
        ("58.1875", "", "row 5 (gdb_58) has no value in column 'mu', expected a number"),
        ("58.1875,", "", "line 6 has 16 cells, expected 17"),
        ("gdb_", "", "are out of step: record 1 is 'gdb_1' in the former and '1' in the latter"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in csv_text(NUMBERS)
    message = refusal(write_zip(tmp_path / "a.zip", sdf_text(NUMBERS), csv_text(NUMBERS).replace(old, new)))
    assert "gdb9.sdf.csv" in message
    assert words in message


def test_a_number_that_no_molecule_has_is_named(tmp_path: Path) -> None:
    message = refusal(qm9_zip(tmp_path / "a.zip", (1, 133886)))
    assert "row 2 is 'gdb_133886'" in message
    assert "1 to 133885" in message


def test_a_zip_without_the_table_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("gdb9.sdf", sdf_text(NUMBERS))
    assert "has no file gdb9.sdf.csv" in refusal(tmp_path / "a.zip")


def test_an_archive_without_raw_files_is_named(tmp_path: Path) -> None:
    assert "has no file dsgdb9nsd_<number>.xyz" in refusal(write_tar(tmp_path / "a.tar.bz2", {"readme.txt": "hello"}))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (xyz_text(3), "holds molecule gdb_3, expected gdb_2"),
        (xyz_text(2).replace("2.1875", "x.1875"), "line 2 holds 'x.1875', expected a number"),
        (xyz_text(2)[:60], "cut short"),
    ],
)
def test_what_is_wrong_with_a_raw_xyz_file_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = write_tar(tmp_path / "a.tar.bz2", {"dsgdb9nsd_000001.xyz": xyz_text(1), "dsgdb9nsd_000002.xyz": text})
    message = refusal(path)
    assert "dsgdb9nsd_000002.xyz" in message
    assert words in message


def test_other_files_in_an_archive_of_xyz_files_are_passed_over(tmp_path: Path) -> None:
    files = {"readme.txt": "hello", "raw/dsgdb9nsd_000002.xyz": xyz_text(2)}
    assert [record.index for record in records(write_tar(tmp_path / "a.tar.bz2", files))] == [2]


@pytest.mark.parametrize(("kind", "what"), [("link", "is a link"), ("big", "has 2097152 bytes")])
def test_links_and_huge_files_in_an_archive_are_refused(tmp_path: Path, kind: str, what: str) -> None:
    path = tmp_path / "a.xyz.tar.bz2"
    with tarfile.open(path, "w:bz2") as archive:
        member = tarfile.TarInfo("dsgdb9nsd_000001.xyz")
        if kind == "link":
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/hostname"
        else:
            member.size = 2 * 2**20
        archive.addfile(member, io.BytesIO(bytes(member.size)))
    with pytest.raises(UserError, match=f"{what}, expected a file of one molecule"):
        list(iter_records(find_raw(path)))


def test_a_zip_archive_that_unpacks_to_more_than_qm9_can_have_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("se3t.data.raw._MAX_MEMBER_BYTES", 1000)
    monkeypatch.setattr(zipfile.ZipFile, "testzip", lambda archive: pytest.fail("all of it was unpacked"))
    with zipfile.ZipFile(tmp_path / "qm9.zip", "w") as archive:
        archive.writestr("gdb9.sdf", b" " * 2000)
        archive.writestr("gdb9.sdf.csv", b"")
    with pytest.raises(UserError, match=r"gdb9\.sdf in it unpacks to more than"):
        list(iter_records(find_raw(tmp_path / "qm9.zip")))
