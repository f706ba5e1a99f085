"""Raw files that other programs wrote: checksums, and one sentence for what is wrong with them. Imports no torch."""

from __future__ import annotations

import hashlib
import logging
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from se3t.errors import UserError

_LOG = logging.getLogger(__name__)
_MAX_MEMBER_BYTES = 4 << 30  # the largest file in a published archive has 0.4 GB
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError)


def checksum_of(path: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def is_missing(raw: str | None, store: Path) -> bool:
    """Whether ``data.raw`` names a file that is not there; a warning says that the prepared data are used.

    Args:
        raw: the setting.
        store: the prepared data.
    """
    missing = raw is not None and not Path(raw).expanduser().exists()
    if missing:
        _LOG.warning("data.raw=%s: not found; the prepared data %s are used", raw, store)
    return missing


def made_from_others(store: Path, checksums: Mapping[str, str], named: str, fix: str) -> UserError:
    """The error for a store made from other raw data than a setting names.

    Args:
        store: the file.
        checksums: of the files that it was made from, by name.
        named: the setting, as typed.
        fix: the command that rebuilds the store.
    """
    made_from = ", ".join(f"{name} (sha256 {digest[:12]}…)" for name, digest in checksums.items())
    return UserError(
        f"{store}: was made from {made_from}, and {named} has another content; replace the store with `{fix}`, or keep "
        "both with another data.root=…"
    )


@contextmanager
def readable(name: str, remedy: str = "get it again") -> Iterator[None]:
    """Report damage of a file that another program wrote in one sentence.

    Raises:
        UserError: with the name and the remedy.
    """
    try:
        yield
    except _DAMAGE as error:
        raise UserError(f"{name}: damaged, cut short or not readable ({first_line(error)}); {remedy}") from error


def open_member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    """Open a file within a zip archive.

    Raises:
        UserError: it unpacks to more than any published file.
    """
    if archive.getinfo(name).file_size > _MAX_MEMBER_BYTES:
        raise UserError(
            f"{archive.filename}: {name} in it unpacks to more than {_MAX_MEMBER_BYTES >> 30} GiB; get it again"
        )
    return archive.open(name)


def first_line(error: Exception) -> str:
    """First line of a message, or the name of the error."""
    return (str(error).splitlines() or [type(error).__name__])[0]
