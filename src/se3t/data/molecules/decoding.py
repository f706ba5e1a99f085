"""Open text files of any encoding, also compressed. Imports no torch."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from se3t.errors import UserError

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_BLOCK = 1 << 20
_Raw: TypeAlias = io.BufferedReader | gzip.GzipFile
_SMALL, _MAX_RATIO = 64 << 20, 250  # bytes; text of molecules is packed to a tenth, and gzip cannot do better than 1032
DAMAGE = (OSError, EOFError, zlib.error, UnicodeDecodeError)
"""Errors of reading a damaged file."""


@dataclass(frozen=True)
class Text:
    """An open text file.

    Attributes:
        lines: its lines, with line feeds at their ends.
        encoding: as read.
        note: a remark on the encoding, in a few words; "" for UTF-8.
    """

    lines: Iterable[str] = field(repr=False)
    encoding: str
    note: str


@contextmanager
def open_text(path: Path) -> Iterator[Text]:
    """Open a text file, or one compressed by gzip (``.gz``).

    A byte order mark tells UTF-8, UTF-16 and UTF-32. Without one it is UTF-8 where all its bytes are, else Latin-1.

    Raises:
        UserError: it cannot be opened, holds NUL bytes without a byte order mark, or unpacks to an absurd size.
    """
    try:
        raw: _Raw = _Unpacked(path) if path.name.lower().endswith(".gz") else path.open("rb")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); expected a text file") from error
    with raw:
        encoding = _encoding(raw, path)
        raw.seek(0)
        with io.TextIOWrapper(raw, encoding=encoding) as lines:
            yield Text(lines, encoding, _NOTES.get(encoding, ""))


_NOTES = {
    "latin-1": "not UTF-8: read as Latin-1",
    "utf-16": "read as UTF-16, as its byte order mark says",
    "utf-32": "read as UTF-32, as its byte order mark says",
}


class _Unpacked(gzip.GzipFile):
    """A gzip file that refuses content absurdly larger than the file."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "rb")
        self._path, self._most = path, max(_SMALL, _MAX_RATIO * path.stat().st_size)

    def read(self, size: int | None = -1) -> bytes:
        return self._checked(super().read(size))

    def read1(self, size: int = -1) -> bytes:
        return self._checked(super().read1(size))

    def _checked(self, block: bytes) -> bytes:
        if self.tell() > self._most:
            raise UserError(
                f"{self._path}: unpacks to more than {_MAX_RATIO} times its size; expected text of molecules"
            )
        return block


def _encoding(raw: _Raw, path: Path) -> str:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        block = raw.read(_BLOCK)
        for mark, encoding in _MARKS:
            if block.startswith(mark):
                return encoding
        while block:
            if b"\0" in block:
                raise UserError(
                    f"{path}: holds NUL bytes; expected text in UTF-8, or in UTF-16 with a byte order mark: save it as "
                    "UTF-8"
                )
            decoder.decode(block)
            block = raw.read(_BLOCK)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return "latin-1"
    except (OSError, EOFError, zlib.error):
        pass  # a damaged archive: reading it raises the error after what can be read
    return "utf-8"
