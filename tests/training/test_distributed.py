"""Two processes that share every batch do what one does."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from se3t.config import Config
from se3t.errors import UserError
from se3t.runs import RunFolder, read_json
from se3t.runs.names import CHECKPOINTS, RESULT
from se3t.signals import Interrupted, interrupted_by_signals
from se3t.training import checkpoint as ckpt
from se3t.training.distributed import launch
from se3t.training.fit import has_unused_parameters
from se3t.training.train import train

from .parts import build, failing_build, small_config


@pytest.mark.e2e
def test_two_processes_train_as_one_and_write_one_record(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"max_steps": 6, "eval_every": 3, "checkpoint_every": 3, "ema_decay": 0.9}
    alone = train(small_config(tmp_path, **settings), build=build).parent
    config = small_config(tmp_path, devices=2, **settings)
    together = train(config, build=build).parent
    assert alone != together
    left, right = (ckpt.read_checkpoint(ckpt.step_path(run / CHECKPOINTS, 6)).content for run in (alone, together))
    for name, value in left["state_dict"].items():
        # The gradient is a mean of two means: equal but for rounding, which Adam's first steps amplify.
        assert torch.allclose(value, right["state_dict"][name], rtol=1e-3, atol=1e-4), name
    assert len(right["random"]) == 2
    lines = [RunFolder(run).read_metrics() for run in (alone, together)]
    assert [(line["kind"], line["step"]) for line in lines[0]] == [(line["kind"], line["step"]) for line in lines[1]]
    for first, second in zip(*lines, strict=True):
        assert second["loss"] == pytest.approx(first["loss"], rel=1e-3)
    assert read_json(together / RESULT)["budget"]["steps_done"] == 6
    assert not list(together.rglob("*.tmp"))
    with pytest.raises(UserError, match="resume=true"):
        train(replace(config, trainer=replace(config.trainer, max_steps=7)), build=build)


@pytest.mark.slow
def test_two_processes_continue_as_if_never_interrupted(tmp_path: Path) -> None:
    def settings(max_steps: int) -> dict[str, Any]:
        return {"devices": 2, "max_steps": max_steps, "eval_every": 2, "checkpoint_every": 3}

    straight = train(replace(small_config(tmp_path / "a", **settings(6)), preset="noisy"), build=build).parent
    for steps in (3, 6):
        config = replace(small_config(tmp_path / "b", **settings(steps)), preset="noisy", resume=True)
        halted = train(config, build=build).parent
    left, right = (ckpt.read_checkpoint(ckpt.step_path(run / CHECKPOINTS, 6)).content for run in (straight, halted))
    for name, value in left["state_dict"].items():
        assert torch.equal(value, right["state_dict"][name]), name
    for own, other in zip(left["random"], right["random"], strict=True):
        assert torch.equal(own["torch"], other["torch"])
    assert not torch.equal(left["random"][0]["torch"], left["random"][1]["torch"])


@pytest.mark.slow
def test_an_error_of_a_process_arrives_as_one_sentence(tmp_path: Path) -> None:
    config = small_config(tmp_path, devices=2, max_steps=4)
    with pytest.raises(UserError, match=r"^the training loss became nan in step 2; there is no checkpoint"):
        train(config, build=failing_build)


def waiting(folder: Path) -> None:
    (folder / os.environ["RANK"]).write_text(str(os.getpid()))
    time.sleep(60)


@pytest.mark.e2e
def test_a_signal_ends_all_processes(tmp_path: Path) -> None:
    def work() -> None:
        with interrupted_by_signals():
            launch(waiting, (tmp_path,), 2)

    def send() -> None:
        while len(list(tmp_path.glob("?"))) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=send)
    thread.start()
    with pytest.raises(Interrupted):
        work()
    thread.join()
    for path in tmp_path.iterdir():
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.read_text()), 0)


def test_the_console_log_of_several_processes_has_the_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(*_: Any) -> None:
        raise Interrupted(signal.SIGTERM)

    config = small_config(tmp_path, devices=2)
    folder = RunFolder.of(config).path
    folder.mkdir(parents=True)
    monkeypatch.setattr("se3t.training.train.launch", ended)
    with pytest.raises(Interrupted):
        train(config, build=build)
    assert (folder / "console.log").read_text() == "se3t: ended by SIGTERM; nothing was trained yet\n"


def test_left_over_ranks_are_ignored_with_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("LOCAL_RANK", "RANK", "WORLD_SIZE"):
        monkeypatch.setenv(name, "1")
    result = train(small_config(tmp_path, max_steps=2), build=build)
    assert read_json(result)["status"] == "finished"
    assert "LOCAL_RANK, RANK, WORLD_SIZE in the environment: ignored" in caplog.text
    assert [os.environ[name] for name in ("LOCAL_RANK", "RANK", "WORLD_SIZE")] == ["1"] * 3  # of the program that calls


def test_torchrun_with_another_number_of_processes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = {"TORCHELASTIC_RUN_ID": "none", "LOCAL_RANK": "1", "RANK": "1", "WORLD_SIZE": "2"}
    for name, value in ranks.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=r"torchrun has started 2 processes; use trainer\.devices=2"):
        train(small_config(tmp_path, max_steps=2), build=build)


class Spare(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.inner, self.spare = model, nn.Linear(2, 2)

    def forward(self, graph: Any) -> Any:
        return self.inner(graph)


def test_parameters_that_the_loss_does_not_reach_are_noticed(tmp_path: Path) -> None:
    config: Config = small_config(tmp_path)
    task, model = build(config)
    assert not has_unused_parameters(model, task, "32")
    assert has_unused_parameters(Spare(model), task, "32")
    assert all(parameter.grad is None for parameter in model.parameters())
