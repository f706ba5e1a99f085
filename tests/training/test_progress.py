from __future__ import annotations

import io
import logging
import re
import warnings
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
from lightning.pytorch import LightningModule, Trainer
from rich.console import Console

from se3t.config import Config
from se3t.errors import UserError
from se3t.runs import RunFolder
from se3t.training import fit, progress
from se3t.training.console_log import console_log
from se3t.training.pace import forecast
from se3t.training.train import train

from . import parts
from .parts import build, failing_build, small_config


def draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool, fails: bool = False) -> str:
    """What a training of 12 steps with evaluations after 5 and 10 draws."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=terminal, width=200)
    monkeypatch.setattr(progress, "REFRESH_SECONDS", 0.0)
    monkeypatch.setattr(
        fit, "ProgressLine", lambda *words, **named: progress.ProgressLine(*words, **named, console=console)
    )
    config = replace(small_config(tmp_path, progress=True), resume=True)
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


def test_without_a_terminal_there_is_a_line_after_a_time_with_loss_rate_and_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    monkeypatch.setattr(progress, "MOST_SECONDS", 0.0)
    lines = draw(tmp_path, monkeypatch, terminal=False).splitlines()
    assert re.fullmatch(r"nbody/deepset  step 3/12  loss \S+  \S+ steps/s  \d+ s left", lines[2])
    assert len(lines) == 12 + 2


def test_hours_are_forecast_with_the_preset_that_takes_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "FIRST_SECONDS", -1.0)
    with caplog.at_level(logging.INFO):
        train(small_config(tmp_path), build=build)
    (line,) = [line for line in caplog.messages if line.startswith("about")]
    assert re.fullmatch(r"about \d+ s for 10 steps at \S+ ms, evaluations not counted", line)
    hours = forecast(Config(), 100_000, 0.1)
    assert hours.startswith("about 2.8 h for 100,000 steps at 100 ms, evaluations not counted; preset=reduced (12,000 ")
    assert hours.endswith("takes about 20 min at this pace")
    assert "preset=quick (1,000 steps) takes about 17 min" in forecast(Config(), 100_000, 1.0)


def test_steps_between_evaluations_add_up_to_a_forecast(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    line = progress.ProgressLine(parts.run_of(Config()), Console(file=io.StringIO()))
    with caplog.at_level(logging.INFO):
        for step in range(1, 13):
            monkeypatch.setattr(progress.time, "perf_counter", lambda step=step: float(step))
            if step % 4 == 0:  # every fourth interval holds an evaluation
                line.show("valid", step, {"loss": 1.0})
            line.on_train_batch_end(Mock(spec=Trainer, global_step=step), Mock(spec=LightningModule), None, None, step)
    (told,) = [message for message in caplog.messages if message.startswith("about")]
    assert "for 99,991 steps at 1e+03 ms" in told


def test_a_run_says_what_it_is_in_three_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        folder = train(small_config(tmp_path), build=build).parent
    lines = caplog.messages[-3:]
    assert lines[0] == f"{folder}: nbody, deepset, 398 parameters, from the start"
    assert lines[1] == (
        "data nbody, 20 train, 6 valid, 6 test samples, checksum c0ffee; 12 steps of batch 8, evaluated every 5"
    )
    assert re.fullmatch(r"cpu, (1 thread|\d+ threads), precision 32; W&B disabled", lines[2])


def test_the_console_log_has_all_parts_of_a_run_and_no_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logging.getLogger("se3t").setLevel(logging.INFO)  # as the command line does
    try:
        draw(tmp_path, monkeypatch, terminal=True, fails=True)
        draw(tmp_path, monkeypatch, terminal=True)
    finally:
        logging.getLogger("se3t").setLevel(logging.NOTSET)
    (path,) = tmp_path.rglob("console.log")
    text = path.read_text()
    assert "\x1b" not in text
    first, second = text.split("--- ")[1:]
    assert "se3t: UserError: the training loss became nan in step 2" in first
    assert "398 parameters, from the start" in second
    assert "nbody/deepset  step 5/12  epoch 2.0  loss " in second
    assert second.endswith("result.json\n")


def test_a_console_log_that_cannot_be_written_is_not_in_the_way(tmp_path: Path) -> None:
    config = small_config(tmp_path)
    RunFolder.of(config).path.mkdir(parents=True)
    (RunFolder.of(config).path / "console.log").symlink_to("/dev/full")
    assert train(config, build=build).exists()


def test_control_characters_and_warnings_reach_the_console_log_as_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warnings, "showwarning", lambda *details: None)
    with console_log(is_first=True) as log:
        warnings.showwarning(UserWarning("careful"), UserWarning, __file__, 1)
        log.line("\x1b[31mred\x1b[0m\rline\n")
        log.open(tmp_path)
    assert (tmp_path / "console.log").read_text().splitlines()[1:] == ["UserWarning: careful", "redline"]
