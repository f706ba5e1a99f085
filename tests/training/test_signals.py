"""A signal leaves behind a checkpoint from which the run goes on as if nothing had happened."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from se3t.cli.failures import guarded
from se3t.config import Config
from se3t.runs import RunFolder
from se3t.runs.names import CHECKPOINTS
from se3t.signals import Interrupted
from se3t.tasks.nbody import NBodyTask
from se3t.training import checkpoint as ckpt
from se3t.training import finish, saving
from se3t.training.train import train

from . import kills
from .parts import build, small_config
from .test_resume import assert_same_run, full, simple


@pytest.fixture(scope="module", params=[simple, full])
def uninterrupted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path]:
    # Evaluations after 5, 10 and 12: the last step ends in one.
    config = request.param(small_config(tmp_path_factory.mktemp("whole"), early_stopping=50))
    return config, train(config, build=build).parent


def send_at(call: int, name: str, monkeypatch: pytest.MonkeyPatch, number: int = signal.SIGTERM) -> None:
    """Let a signal come within one call of a method of the task."""
    calls = [0]
    function: Callable[..., Any] = getattr(NBodyTask, name)

    def interrupted(self: NBodyTask, *arguments: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] == call:
            os.kill(os.getpid(), number)
            time.sleep(0.001)
        return function(self, *arguments, **named)

    monkeypatch.setattr(NBodyTask, name, interrupted)


def interrupt(config: Config, call: int, name: str, monkeypatch: pytest.MonkeyPatch) -> Interrupted:
    with monkeypatch.context() as patch:
        send_at(call, name, patch)
        with pytest.raises(Interrupted) as caught:
            train(config, build=build)
    assert caught.value.status == 143
    return caught.value


def saved_steps(config: Config) -> list[int]:
    return [int(path.stem[5:]) for path in sorted(RunFolder.of(config).path.glob("checkpoints/step-*"))]


@pytest.mark.parametrize(("long_step", "saved"), [(9.0, [4, 7]), (0.0, [4, 6])])
def test_a_step_ends_or_a_long_one_is_undone(
    uninterrupted: tuple[Config, Path], long_step: float, saved: list[int], tmp_path: Path, monkeypatch: Any
) -> None:
    config, expected = replace(uninterrupted[0], runs=str(tmp_path)), uninterrupted[1]
    monkeypatch.setattr(saving, "LONG_STEP_SECONDS", long_step)
    stop = interrupt(config, 7, "loss", monkeypatch)
    assert saved_steps(config) == saved
    assert f"{saved[-1]} of 12 steps are saved; continue with: " in str(stop)
    torch.manual_seed(999)
    assert_same_run(expected, train(replace(config, resume=True), build=build).parent)


def test_nothing_is_saved_before_the_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_config(tmp_path)
    stop = interrupt(config, 1, "loss", monkeypatch)
    assert saved_steps(config) == []
    assert "0 of 12 steps are saved" in str(stop)


def not_written(path: Path, content: dict[str, Any]) -> None:
    raise Interrupted(signal.SIGTERM)


# Two batches of validation samples at a time: the first evaluation, after step 5, and the second, after step 10.
@pytest.mark.parametrize(("call", "step"), [(1, 5), (2, 5), (4, 10)])
def test_an_evaluation_that_was_interrupted_is_repeated(
    uninterrupted: tuple[Config, Path], call: int, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, expected = replace(uninterrupted[0], runs=str(tmp_path)), uninterrupted[1]
    interrupt(config, call, "metrics", monkeypatch)
    newest = ckpt.newest_checkpoint(RunFolder.of(config).path / CHECKPOINTS)
    assert newest is not None
    assert (newest.step, newest.state.evaluation_due) == (step, True)
    interrupt(replace(config, resume=True), 1, "metrics", monkeypatch)  # while it is repeated
    with monkeypatch.context() as patch:
        patch.setattr(finish.ckpt, "write_checkpoint", not_written)
        with pytest.raises(Interrupted):
            train(replace(config, resume=True), build=build)  # between its line in the record and its checkpoint
    assert_same_run(expected, train(replace(config, resume=True), build=build).parent)


@pytest.mark.parametrize("patience", [None, 1])
def test_the_evaluation_after_the_last_step_may_be_cut_short(
    patience: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"max_steps": 6, "eval_every": 3, "early_stopping": patience}
    expected = train(small_config(tmp_path / "whole", **settings), build=build)
    config = small_config(tmp_path / "halted", **settings)
    interrupt(config, 4, "metrics", monkeypatch)
    assert saved_steps(config)[-1] == 6
    assert_same_run(expected.parent, train(replace(config, resume=True), build=build).parent)


def test_the_final_measurement_may_be_cut_short(
    uninterrupted: tuple[Config, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, expected = replace(uninterrupted[0], runs=str(tmp_path)), uninterrupted[1]
    interrupt(config, 6, "metrics", monkeypatch)
    assert saved_steps(config) == [8, 12]
    assert_same_run(expected, train(replace(config, resume=True), build=build).parent)


def test_ctrl_c_saves_as_well(tmp_path: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]) -> None:
    config = small_config(tmp_path)
    with monkeypatch.context() as patch:
        send_at(3, "loss", patch, signal.SIGINT)
        assert guarded(lambda: train(config, build=build) and 0) == 130
    told = "se3t: interrupted; 3 of 12 steps are saved; continue with: "
    assert told in capsys.readouterr().err
    assert told in (RunFolder.of(config).path / "console.log").read_text().splitlines()[-1]
    assert saved_steps(config) == [3]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.slow
def test_random_kills_change_nothing(tmp_path: Path) -> None:
    assert kills.run(12, seed=1, folder=tmp_path)["equal runs"] >= 4
