from __future__ import annotations

import os
import stat
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import IO

import pytest

from se3t.errors import UserError
from se3t.files import check_writable, temporary_beside, write_atomically


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_writers_of_one_file_at_the_same_time_do_not_disturb_each_other(tmp_path: Path) -> None:
    path, together = tmp_path / "out.csv", Barrier(2, timeout=10)
    contents = [letter * 100_000 for letter in (b"a", b"b")]

    def write(content: bytes) -> None:
        def halves(file: IO[bytes]) -> None:
            file.write(content[:50_000])
            together.wait()  # both files are open
            file.write(content[50_000:])

        write_atomically(path, halves)

    with ThreadPoolExecutor() as threads:
        list(threads.map(write, contents))
    assert path.read_bytes() in contents
    assert names(tmp_path) == {"out.csv"}


def test_a_failed_write_leaves_the_former_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "out.json"
    write_atomically(path, lambda file: file.write(b"old"))

    def fail(file: IO[bytes]) -> None:
        file.write(b"half")
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old"
    assert names(path.parent) == {"out.json"}


def test_what_killed_writers_left_behind_is_removed_when_it_is_old(tmp_path: Path) -> None:
    path = tmp_path / "a[1].json"
    with temporary_beside(path) as left, temporary_beside(path) as young, temporary_beside(tmp_path / "a1.json") as own:
        for temporary in (left, young, own):
            temporary.touch()
        for temporary in (left, own):
            os.utime(temporary, (0, 0))
        write_atomically(path, lambda file: file.write(b"new"))
        assert names(tmp_path) == {path.name, young.name, own.name}
    assert names(tmp_path) == {path.name}


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor() as threads:
        read = threads.submit(pipe.read_bytes)
        write_atomically(pipe, lambda file: file.write(b"rows"))
        assert read.result(timeout=10) == b"rows"
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("folder", "folder: is a folder"),
        ("file/below/a.json", "file is not a folder; name another file"),
        ("n" * 300, "cannot be written: File name too long"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=message):
        check_writable(tmp_path / name)


def test_a_folder_that_takes_no_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(dir: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(UserError, match=r"a\.json: cannot be written: Permission denied; name another file"):
        check_writable(tmp_path / "a.json")


def test_asking_whether_a_file_can_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    check_writable(tmp_path / "new/folder/a.json")
    assert not list(tmp_path.iterdir())
