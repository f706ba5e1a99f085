"""Atomic writing of files. Imports no torch."""

from __future__ import annotations

import errno
import glob
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from se3t.errors import UserError

CACHE = "SE3T_CACHE"
"""Environment variable: folder of cached files, by default ``se3t`` in the user's cache."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSED = (*_NO_ROOM, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM)
_STALE_SECONDS = 3600.0  # a file being written changes more often
_DEVICES = (Path("/dev"), Path("/dev/fd"))


class WriteError(OSError):
    """A file cannot be written; the message is one sentence."""


def cache_folder() -> Path:
    """Folder of cached files; it may not exist yet.

    Raises:
        RuntimeError: for a user without a home.
    """
    return Path(os.environ.get(CACHE) or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "se3t")


def check_writable(path: Path) -> None:
    """Check that a file can be written; leaves nothing behind.

    Raises:
        UserError: it is a folder, is below something that is not a folder, or its folder is not writable.
    """
    try:
        if path.is_dir():
            raise UserError(f"{path}: is a folder; expected the name of a file")
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        if not folder.is_dir():
            raise UserError(f"{path}: cannot be written, {folder} is not a folder; name another file")
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}; name another file") from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise :class:`WriteError` for a full disk or a folder that cannot be written.

    Args:
        path: the file being written.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        cause = error.__context__ if isinstance(error, RuntimeError) else error  # torch.save hides the cause
        if not isinstance(cause, OSError) or cause.errno not in _REFUSED:
            raise
        advice = "; make room there" if cause.errno in _NO_ROOM else ""
        raise WriteError(f"{path}: cannot be written ({cause.strerror}){advice}") from error


def write_atomically(path: Path, write: Callable[[Any], object]) -> None:
    """Write a file so that a reader sees the complete old or new content, even if the writer is killed.

    Several processes may write the same file at the same time: the last to finish wins.

    Args:
        path: the file; its folder is made when missing. A device or a pipe is written to directly.
        write: called with a temporary file, open for writing bytes.

    Raises:
        WriteError: the disk is full, or the folder cannot be written; the former file is as it was.
    """
    with writing(path):
        _write(path, write)


def _write(path: Path, write: Callable[[Any], object]) -> None:
    if path.parent in _DEVICES or (path.exists() and not path.is_file() and not path.is_dir()):
        with path.open("wb") as file:
            write(file)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_beside(path) as temporary:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # so that the new name survives a power cut
    finally:
        os.close(folder)


@contextmanager
def temporary_beside(path: Path, word: str = "tmp") -> Iterator[Path]:
    """A hidden, unique name in the folder of ``path``; whatever is left under it is removed at the end.

    Old temporary files and folders of ``path``, left by killed writers, are removed at the start.

    Args:
        path: the file or folder to be written.
        word: how the name ends.
    """
    _remove_stale(path, word)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.{word}")
    try:
        yield temporary
    finally:
        _remove(temporary)


def _remove_stale(path: Path, word: str) -> None:
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.{word}"):
        with suppress(OSError):  # removed by another process
            if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                _remove(left)


def _remove(path: Path) -> None:
    with suppress(OSError):  # the error being raised says more
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
