"""Downloads against a server on this machine that can fail in every way."""

from __future__ import annotations

import errno
import hashlib
import http.server
import logging
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from se3t.data import download as module
from se3t.data.download import Source, download
from se3t.errors import UserError

CONTENT = np.random.default_rng(0).bytes(1_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Server:
    """What to answer, and what was asked."""

    content: bytes = CONTENT
    status: int = 200
    ranges: bool = True
    breaks_after: list[int] = field(default_factory=list)  # bytes of each of the first answers
    statuses: list[int] = field(default_factory=list)  # of the first answers
    asked: list[str | None] = field(default_factory=list)  # the header Range of every request
    address: str = ""

    def source(self, sha256: str | None = SHA256, name: str = "file.bin") -> Source:
        return Source(f"{self.address}/{name}", name, sha256)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            state.asked.append(asked)
            status = state.statuses.pop(0) if state.statuses else state.status
            begin = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and state.ranges else 0
            if status == 200 and asked and state.ranges:
                status = 206 if begin < len(state.content) else 416
            body = state.content[begin:] if status in (200, 206) else b""
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if status == 206:
                self.send_header("Content-Range", f"bytes {begin}-{len(state.content) - 1}/{len(state.content)}")
            self.end_headers()
            self.wfile.write(body[: state.breaks_after.pop(0)] if state.breaks_after and body else body)

        def log_message(self, *_: object) -> None:
            pass

    http_server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http_server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.address = f"http://127.0.0.1:{http_server.server_port}"
    yield state
    http_server.shutdown()
    thread.join()
    http_server.server_close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WAIT", 0.0)
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


def fetch(folder: Path, *sources: Source) -> Path:
    return download(sources, folder, setting="data.raw", progress=False)


def refusal(folder: Path, *sources: Source) -> str:
    with pytest.raises(UserError) as caught:
        fetch(folder, *sources)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_arrives_whole_and_alone(server: Server, tmp_path: Path) -> None:
    path = fetch(tmp_path / "raw", server.source())
    assert path.read_bytes() == CONTENT
    assert names(tmp_path / "raw") == ["file.bin"]
    assert server.asked == [None]


def test_a_connection_that_breaks_is_taken_up_where_it_ended(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.breaks_after = [300_000, 200_000]
    with caplog.at_level(logging.WARNING, logger="se3t"):
        assert fetch(tmp_path, server.source()).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-", "bytes=500000-"]
    assert "the connection ended after 300000 of 1000000 bytes; trying again" in caplog.text


def test_an_interrupted_download_is_continued_by_the_next_call(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, calls = module._read, iter(range(100))

    def interrupted(response: object) -> bytes:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return read(response)

    with monkeypatch.context() as patch:
        patch.setattr(module, "_read", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fetch(tmp_path, server.source())
    assert names(tmp_path) == ["file.bin.part"]
    have = (tmp_path / "file.bin.part").stat().st_size
    assert 0 < have < len(CONTENT)
    assert fetch(tmp_path, server.source()).read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={have}-"]
    assert names(tmp_path) == ["file.bin"]


def test_two_downloads_of_one_file_at_the_same_time_are_refused(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = module._read

    def second_download(response: object) -> bytes:
        monkeypatch.setattr(module, "_read", read)
        with pytest.raises(UserError, match=r"file\.bin\.part: another process is downloading it; wait"):
            fetch(tmp_path, server.source())
        return read(response)

    monkeypatch.setattr(module, "_read", second_download)
    assert fetch(tmp_path, server.source()).read_bytes() == CONTENT


def test_a_server_without_ranges_sends_everything_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(b"x" * 1234)
    server.ranges = False
    assert fetch(tmp_path, server.source()).read_bytes() == CONTENT


@pytest.mark.parametrize("part", [CONTENT, CONTENT + b"more", b"of another file" * 100_000])
def test_a_part_as_long_as_the_file_is_not_trusted(server: Server, tmp_path: Path, part: bytes) -> None:
    (tmp_path / "file.bin.part").write_bytes(part)
    assert fetch(tmp_path, server.source()).read_bytes() == CONTENT


def test_a_part_of_another_file_is_thrown_away(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(b"of another file")
    assert fetch(tmp_path, server.source()).read_bytes() == CONTENT
    assert server.asked == ["bytes=15-", None]


def test_a_wrong_checksum_leaves_nothing_that_could_be_used(server: Server, tmp_path: Path) -> None:
    message = refusal(tmp_path, server.source(sha256="0" * 64))
    assert (
        f"wrong checksum: {SHA256[:12]}… (1000000 bytes), expected 000000000000…; the download was removed" in message
    )
    assert names(tmp_path) == []


def test_what_has_no_published_checksum_is_pinned_by_its_first_download(server: Server, tmp_path: Path) -> None:
    source = server.source(sha256=None)
    fetch(tmp_path, source).unlink()
    assert names(tmp_path) == ["file.bin.sha256"]
    fetch(tmp_path, source).unlink()
    server.content = CONTENT[::-1]
    pin = tmp_path / "file.bin.sha256"
    expected = f"expected {SHA256[:12]}… as at the first download (remove {pin} to accept another file)"
    assert expected in refusal(tmp_path, source)
    pin.unlink()
    assert fetch(tmp_path, source).read_bytes() == CONTENT[::-1]


def test_a_failing_place_gives_way_to_the_next(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.statuses = [404]
    with caplog.at_level(logging.WARNING, logger="se3t"):
        path = fetch(tmp_path, server.source(name="first.bin"), server.source(name="second.bin"))
    assert path.name == "second.bin"
    assert "HTTP status 404 Not Found; trying the next server" in caplog.text


def test_a_server_that_is_busy_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.statuses = [503, 429]
    assert fetch(tmp_path, server.source()).read_bytes() == CONTENT
    assert len(server.asked) == 3


@pytest.mark.parametrize(("status", "requests"), [(403, 1), (202, 1), (500, 3)])
def test_a_status_that_is_no_file_is_named(server: Server, tmp_path: Path, status: int, requests: int) -> None:
    server.status = status
    message = refusal(tmp_path, server.source())
    assert f"HTTP status {status}" in message
    assert len(server.asked) == requests


def test_a_failure_names_every_place_and_the_manual_way(server: Server, tmp_path: Path) -> None:
    server.status = 404
    first, second = server.source(name="a.zip"), server.source(name="b.zip")
    message = refusal(tmp_path / "raw", first, second)
    assert message.startswith("download failed (")
    for words in (first.url, second.url, str(tmp_path / "raw"), "data.raw=<file>", "by hand"):
        assert words in message


def test_no_server_is_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        message = refusal(tmp_path, Source(f"{address}/a.zip", "a.zip"))
    assert "cannot be reached (" in message
    assert "refused" in message
    assert names(tmp_path) == []


def test_a_silent_server_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        message = refusal(tmp_path, Source(f"http://127.0.0.1:{silent.getsockname()[1]}/a.zip", "a.zip"))
    assert "no answer in time" in message


def test_the_proxy_of_the_environment_is_used(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.address)
    assert fetch(tmp_path, Source("http://data.invalid/file.bin", "file.bin", SHA256)).read_bytes() == CONTENT
    assert server.asked == [None]


def test_a_failing_proxy_is_named_without_its_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{unused.getsockname()[1]}"
        monkeypatch.setenv("http_proxy", f"http://me:secret@{place}")
        message = refusal(tmp_path, Source("http://data.invalid/a.zip", "a.zip"))
    assert f"through the proxy {place} of the environment variable http_proxy" in message
    assert "secret" not in message


def test_a_full_disk_is_one_sentence_and_the_next_place_is_not_tried(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module.os, "fsync", full)
    message = refusal(tmp_path, server.source(), server.source(name="other.bin"))
    assert "file.bin: the download cannot be written (no space is left); make room" in message
    assert "data.root=…" in message
    assert len(server.asked) == 1


def test_a_folder_that_cannot_be_made_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "cannot be written (" in refusal(tmp_path / "file" / "raw", server.source())


def test_progress_goes_to_standard_error(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    download([server.source()], tmp_path, setting="data.raw", progress=True)
    captured = capsys.readouterr()
    assert "file.bin from 127.0.0.1" in captured.err
    assert "100 %" in captured.err
    assert captured.out == ""
