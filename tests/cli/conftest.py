"""Fixtures of the command line: commands run inside this process, in an empty folder."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from se3t.cli.main import main


@dataclass(frozen=True)
class Answer:
    """What a command left behind."""

    status: int
    out: str
    err: str
    files: list[str]


Run = Callable[..., Answer]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run ``se3t`` with the given words in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/se3t"])
    monkeypatch.delenv("SE3T_DEBUG", raising=False)

    def command(*words: str) -> Answer:
        capfd.readouterr()
        status = main(words)
        captured = capfd.readouterr()
        return Answer(status, captured.out, captured.err, sorted(path.name for path in tmp_path.iterdir()))

    return command
