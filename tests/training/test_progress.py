from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from se3t.errors import UserError
from se3t.training import fit, progress
from se3t.training.run import train

from .parts import build, failing_build, small_config


def draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool, fails: bool = False) -> str:
    """What a training of 12 steps with evaluations after 5 and 10 draws."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=terminal, width=200)
    monkeypatch.setattr(progress, "REFRESH_SECONDS", 0.0)
    monkeypatch.setattr(
        fit, "ProgressLine", lambda *words, **named: progress.ProgressLine(*words, **named, console=console)
    )
    config = small_config(tmp_path, progress=True)
    if fails:
        with pytest.raises(UserError):
            train(config, build=failing_build)
    else:
        train(config, build=build)
    return screen.getvalue()


def test_without_a_terminal_there_is_one_line_an_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = draw(tmp_path, monkeypatch, terminal=False).splitlines()
    assert [line.split("  ")[:2] for line in lines] == [
        ["nbody/deepset", "step 5/12"],
        ["nbody/deepset", "step 10/12"],
    ]
    assert all("x/linear" in line and "v/linear" in line and "steps/s" in line for line in lines)


def test_in_a_terminal_the_bar_reaches_its_end_and_the_cursor_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = draw(tmp_path, monkeypatch, terminal=True)
    assert "nbody/deepset" in drawn
    assert "12/12" in drawn
    assert "x/linear" in drawn
    assert drawn.rindex("\x1b[?25h") > drawn.rindex("\x1b[?25l")


def test_an_error_gives_the_terminal_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = draw(tmp_path, monkeypatch, terminal=True, fails=True)
    assert drawn.rindex("\x1b[?25h") > drawn.rindex("\x1b[?25l")


def test_no_progress_draws_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = small_config(tmp_path)
    train(replace(config, trainer=replace(config.trainer, progress=False)), build=build)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")  # nor does Lightning speak
