"""Download a file: resumed after an interruption, verified, from several servers in turn. Imports no torch.

A partial download is kept in ``<name>.part`` and resumed by the next call. The file gets its name only when it is
complete and its checksum is the published one.
"""

from __future__ import annotations

import errno
import http.client
import logging
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from se3t import __version__
from se3t.data.progress import progress_bar
from se3t.data.raw import checksum_of
from se3t.errors import UserError

_LOG = logging.getLogger(__name__)
_CHUNK = 1 << 18
_TIMEOUT = 30.0  # seconds without a byte
_ATTEMPTS = 3  # per server, after temporary failures
_WAIT = 1.0  # seconds before the second attempt; doubled for each further one
_PASSING = (408, 425, 429, 500, 502, 503, 504)  # HTTP status codes that may be temporary


@dataclass(frozen=True)
class Source:
    """A file on a server.

    Attributes:
        url: where it is.
        name: what to call it here.
        sha256: its published checksum, or None: then the one of the first download is kept in ``<name>.sha256``, and
            later downloads must have it too.
    """

    url: str
    name: str
    sha256: str | None = None

    @property
    def host(self) -> str:
        """The server's name."""
        return urllib.parse.urlsplit(self.url).netloc


class _Failed(Exception):
    """A server cannot provide the file; the message is the reason."""


class _Passing(_Failed):
    """The same, but another attempt may succeed."""


def download(sources: Sequence[Source], folder: Path, *, setting: str, progress: bool = True) -> Path:
    """Fetch a file from the first server that has it.

    Args:
        sources: servers in the order to try; their files may differ in kind.
        folder: where to put the file.
        setting: the setting that names a local file, for errors.
        progress: show a progress bar on standard error.

    Returns:
        The file, complete and verified.

    Raises:
        UserError: no server provided it, or it cannot be written; the message says how to fetch it by hand.
    """
    reasons: list[str] = []
    for source in sources:
        try:
            return _fetch(source, folder, progress)
        except _Failed as error:
            reasons.append(f"{source.host}: {error}")
            if source is not sources[-1]:
                _LOG.warning("%s: %s; trying the next server", source.host, error)
        except OSError as error:
            raise UserError(_disk_sentence(error, source, folder, setting)) from error
    raise UserError(
        f"download failed ({'; '.join(reasons)}); check the network and repeat the command, or fetch "
        f"{' or '.join(source.url for source in sources)} by hand and put it into {folder.resolve()}, or anywhere and "
        f"set {setting}=<file>"
    )


def _disk_sentence(error: OSError, source: Source, folder: Path, setting: str) -> str:
    what = "no space is left" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or str(error)
    return (
        f"{folder / source.name}: the download cannot be written ({what}); make room or choose another folder with "
        f"data.root=…, then repeat the command, or fetch {source.url} by hand and set {setting}=<file>"
    )


def _fetch(source: Source, folder: Path, progress: bool) -> Path:
    path, part = folder / source.name, folder / f"{source.name}.part"
    folder.mkdir(parents=True, exist_ok=True)
    for attempt in range(_ATTEMPTS):
        try:
            with _only_writer(part):
                begin = _receive(source, part, progress)
                _accept(source, part, path, resumed=begin > 0)
            return path
        except _Passing as error:
            if attempt == _ATTEMPTS - 1:
                raise
            _LOG.warning("%s: %s; trying again", source.host, error)
            time.sleep(_WAIT * 2**attempt)
    raise AssertionError


@contextmanager
def _only_writer(part: Path) -> Iterator[None]:
    """Lock ``part``: two downloads into one file would mix their bytes."""
    import fcntl

    with part.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"{part}: another process is downloading it; wait until it has finished, then repeat the command"
            ) from error
        except OSError as error:  # some network file systems have no locks
            _LOG.warning(
                "%s: cannot be locked (%s); make sure that no other process downloads it", part, error.strerror
            )
        try:
            yield
        finally:
            if part.exists() and not part.stat().st_size:
                part.unlink()


def _receive(source: Source, part: Path, progress: bool) -> int:
    """Download the rest of ``part``, or all of it where the server has no ranges; return the first byte received."""
    have = part.stat().st_size if part.exists() else 0
    with _open(source, have) as response:
        begin = _begin(response, have)
        length = response.headers.get("Content-Length")
        total = begin + int(length) if length else None
        with (
            part.open("ab") as file,
            progress_bar(progress, f"{source.name} from {source.host}", total, in_bytes=True) as advance,
        ):
            file.truncate(begin)
            done = begin
            advance(done)
            while chunk := _read(response):
                file.write(chunk)
                done += len(chunk)
                advance(done)
            file.flush()
            os.fsync(file.fileno())
    if total is not None and done < total:
        raise _Passing(f"the connection ended after {done} of {total} bytes")
    return begin


def _open(source: Source, have: int) -> Any:
    headers = {"User-Agent": f"se3t/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    opener = urllib.request.build_opener()  # reads the proxies of the environment
    try:
        return opener.open(urllib.request.Request(source.url, headers=headers), timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:
            return _open_refused(source, have, error)
    except (OSError, http.client.HTTPException) as error:
        raise _Passing(_network_reason(error, source.url)) from error


def _open_refused(source: Source, have: int, error: urllib.error.HTTPError) -> Any:
    if error.code == 416 and have:  # the part is as long as the file, or longer: start again
        return _open(source, 0)
    kind = _Passing if error.code in _PASSING else _Failed
    raise kind(f"HTTP status {error.code} {error.reason}{_proxy_note(source.url)}") from error


def _begin(response: Any, have: int) -> int:
    """Offset at which the response begins: as requested, or 0 where the server does not support ranges."""
    if response.status == 206:
        match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        if match and int(match[1]) <= have:
            return int(match[1])
        raise _Failed("it answered with another part of the file than requested")
    if response.status != 200:
        raise _Failed(f"HTTP status {response.status} {response.reason}, not the file")
    return 0


def _read(response: Any) -> bytes:
    try:
        chunk: bytes = response.read(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _Passing(_network_reason(error, response.url)) from error
    return chunk


def _accept(source: Source, part: Path, path: Path, resumed: bool) -> None:
    """Rename a complete file, or remove it if its checksum is wrong."""
    digest, pin = checksum_of(part), path.with_name(f"{path.name}.sha256")
    expected = source.sha256 or (pin.read_text(encoding="utf-8").split()[0] if pin.exists() else None)
    if expected not in (None, digest):
        size = part.stat().st_size
        part.unlink()
        kind = _Passing if resumed else _Failed  # the partial file may have been another one
        pinned = "" if source.sha256 else f" as at the first download (remove {pin} to accept another file)"
        raise kind(
            f"wrong checksum: {digest[:12]}… ({size} bytes), expected {expected[:12]}…{pinned}; the download was "
            "removed"
        )
    if source.sha256 is None and not pin.exists():
        pin.write_text(f"{digest}  {path.name}\n", encoding="utf-8")
    os.replace(part, path)


def _network_reason(error: Exception, url: str) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    words = "no answer in time" if isinstance(cause, TimeoutError) else str(cause) or type(cause).__name__
    return f"cannot be reached ({words}){_proxy_note(url)}"


def _proxy_note(url: str) -> str:
    """The proxy that the environment sets for this address, without its password."""
    parts = urllib.parse.urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if not proxy or urllib.request.proxy_bypass(parts.netloc):
        return ""
    where = proxy
    with suppress(ValueError):
        where = urllib.parse.urlsplit(proxy).netloc.rpartition("@")[2] or proxy.rpartition("@")[2]
    return f" through the proxy {where} of the environment variable {parts.scheme}_proxy"
