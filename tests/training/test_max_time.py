"""``trainer.max_time``: a training ends with its steps or with its time, whichever comes first."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from lightning.pytorch import Trainer

from se3t.config import Config, OptimConfig
from se3t.errors import UserError
from se3t.runs import RunFolder, read_json
from se3t.runs.identity import settings_hash
from se3t.runs.names import CHECKPOINTS
from se3t.tasks.nbody import NBodyTask
from se3t.training import callbacks, finish, progress
from se3t.training import checkpoint as ckpt
from se3t.training.module import TrainingModule
from se3t.training.state import RunState, Stopwatch
from se3t.training.train import train

from .parts import build, linear_config, run_of, small_config, uneven_build


class Seconds:
    """A clock on which a training step takes a second, and each batch of an evaluation 100."""

    def __init__(self) -> None:
        self.now, self.steps = 0.0, 0

    def perf_counter(self) -> float:
        return self.now

    def count(self, splits: str) -> None:
        self.now += 1.0 if splits == "train" else 100.0
        self.steps += splits == "train"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Seconds:
    found, take = Seconds(), NBodyTask.batch

    def timed(self: NBodyTask, split: str, index: torch.Tensor, draw: Any = None) -> Any:
        found.count(split)
        return take(self, split, index, draw)

    monkeypatch.setattr(NBodyTask, "batch", timed)
    monkeypatch.setattr("se3t.training.state.time", found)
    return found


def limited(runs: Path, max_time: str | None = "00:00:07", **trainer: Any) -> Config:
    return small_config(runs, **{"max_steps": 1000, "max_time": max_time, **trainer})


def budget_of(result: Path) -> dict[str, Any]:
    found: dict[str, Any] = read_json(result)["budget"]
    return found


def cosine(config: Config, warmup_steps: int = 0) -> Config:
    return replace(config, optim=OptimConfig(lr=1.0, schedule="cosine", final_lr_ratio=0.0, warmup_steps=warmup_steps))


def rates(result: Path) -> list[float]:
    return [line["lr"] for line in RunFolder(result.parent).read_metrics() if line["kind"] == "train"]


def half_cosine(share: float) -> float:
    return (1 + math.cos(math.pi * share)) / 2


def test_training_ends_with_the_step_that_uses_up_the_time_and_that_step_is_saved_and_measured(
    tmp_path: Path, clock: Seconds
) -> None:
    result = train(limited(tmp_path), build=build)
    budget = budget_of(result)
    told = ("steps_done", "max_steps", "max_time", "training_seconds", "ended_by", "stopped_early")
    assert [budget[name] for name in told] == [7, 1000, "00:00:07", 7.0, "time", False]
    assert budget["seconds"] == 7 + 2 * 100  # two batches of the evaluation after step 5
    lines = RunFolder(result.parent).read_metrics()
    assert [line["step"] for line in lines if line["kind"] == "valid"] == [5, 7]
    assert ckpt.newest_step(result.parent / CHECKPOINTS) == 7
    last = ckpt.newest_checkpoint(result.parent / CHECKPOINTS)
    assert last is not None
    assert last.state.training_seconds == 7.0


def test_the_steps_end_it_where_they_are_done_first(tmp_path: Path, clock: Seconds) -> None:
    budget = budget_of(train(limited(tmp_path, max_steps=6), build=build))
    assert (budget["steps_done"], budget["ended_by"]) == (6, "steps")


def test_early_stopping_ends_it_where_that_comes_first(tmp_path: Path, clock: Seconds) -> None:
    config = limited(tmp_path, "01:00:00", early_stopping=1, eval_every=1)
    config = replace(config, optim=OptimConfig(lr=1e-12))  # nothing is learned
    budget = budget_of(train(config, build=build))
    assert (budget["stopped_early"], budget["ended_by"]) == (True, "early stopping")
    assert budget["steps_done"] < 100


def test_without_parameters_nothing_ends_a_training_that_there_was_none_of(tmp_path: Path) -> None:
    assert budget_of(train(linear_config(tmp_path), build=build))["ended_by"] is None


@pytest.mark.parametrize("stops", [1, 3, 5, 6])
def test_an_interrupted_run_goes_on_with_the_time_that_is_left(
    tmp_path: Path, clock: Seconds, monkeypatch: pytest.MonkeyPatch, stops: int
) -> None:
    monkeypatch.setattr(callbacks, "LOG_EVERY", 1)
    config = cosine(limited(tmp_path, checkpoint_every=1))
    loss = NBodyTask.loss

    def broken(self: NBodyTask, prediction: Any, batch: Any) -> torch.Tensor:
        if clock.steps > stops:
            raise RuntimeError("interrupted")
        return loss(self, prediction, batch)

    with monkeypatch.context() as patch:
        patch.setattr(NBodyTask, "loss", broken)
        with pytest.raises(RuntimeError, match="interrupted"):
            train(config, build=build)
    result = train(replace(config, resume=True), build=build)
    assert budget_of(result)["steps_done"] == 7
    assert budget_of(result)["training_seconds"] == 7.0
    assert rates(result) == pytest.approx([half_cosine(step / 7) for step in range(7)])


def test_a_run_whose_time_is_up_goes_straight_to_the_final_measurement(
    tmp_path: Path, clock: Seconds, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any) -> None:
        raise RuntimeError("interrupted")

    with monkeypatch.context() as patch:
        patch.setattr(finish, "_result", failing)
        with pytest.raises(RuntimeError, match="interrupted"):
            train(limited(tmp_path), build=build)
    assert clock.steps == 7
    budget = budget_of(train(replace(limited(tmp_path), resume=True), build=build))
    assert (clock.steps, budget["steps_done"], budget["ended_by"]) == (7, 7, "time")


def test_a_finished_run_is_reported_and_more_steps_give_it_no_more_time(tmp_path: Path, clock: Seconds) -> None:
    result = train(limited(tmp_path), build=build)
    written = result.read_bytes()
    assert train(limited(tmp_path), build=build) == result
    assert train(limited(tmp_path, max_steps=2000), build=build) == result
    assert (result.read_bytes(), clock.steps) == (written, 7)
    with pytest.raises(UserError, match=r"trainer\.max_steps=3: the run in .* has 7 steps already"):
        train(limited(tmp_path, max_steps=3), build=build)


def test_a_run_that_its_steps_have_ended_goes_on_with_the_time_that_is_left(tmp_path: Path, clock: Seconds) -> None:
    train(limited(tmp_path, max_steps=4), build=build)
    budget = budget_of(train(replace(limited(tmp_path), resume=True), build=build))
    assert (budget["steps_done"], budget["ended_by"], clock.steps) == (7, "time", 7)


def test_the_cosine_follows_the_time_after_a_warm_up_in_steps(
    tmp_path: Path, clock: Seconds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callbacks, "LOG_EVERY", 1)
    found = rates(train(cosine(limited(tmp_path), warmup_steps=2), build=build))
    assert found == pytest.approx([1 / 2, 1, *(half_cosine(step / 7) for step in range(2, 7))])


def test_the_cosine_follows_the_steps_where_they_are_further(
    tmp_path: Path, clock: Seconds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callbacks, "LOG_EVERY", 1)
    found = rates(train(cosine(limited(tmp_path, "00:01:00", max_steps=6)), build=build))
    assert found == pytest.approx([half_cosine(step / 6) for step in range(6)])


def test_a_limit_that_is_not_reached_changes_no_weight(tmp_path: Path) -> None:
    weights = []
    for max_time in (None, "99:00:00"):
        folder = train(limited(tmp_path, max_time, max_steps=12), build=build).parent
        weights.append(ckpt.read_checkpoint(ckpt.step_path(folder / CHECKPOINTS, 12)).content["state_dict"])
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


@pytest.mark.parametrize("first", [2.0, 9.0])
def test_the_time_of_the_first_process_counts_for_another(
    tmp_path: Path, clock: Seconds, monkeypatch: pytest.MonkeyPatch, first: float
) -> None:
    def broadcast(number: torch.Tensor, source: int, group: str) -> None:
        assert (source, group) == (0, "gloo")
        number.fill_(first)

    monkeypatch.setattr(torch.distributed, "new_group", lambda backend: backend)
    monkeypatch.setattr(torch.distributed, "broadcast", broadcast)
    config = limited(tmp_path)
    module, state = TrainingModule(*reversed(build(config)), config), RunState(training_seconds=5.0)
    trainer = Mock(spec=Trainer, world_size=2, should_stop=False)
    limit = callbacks.TimeLimit(7.0, Stopwatch(state))
    limit.on_train_start(trainer, module)
    assert module.time_share == 5 / 7  # that of the checkpoint is known to all
    clock.now += 1.0
    limit.on_train_batch_end(trainer, module, None, None, 0)
    assert (module.time_share, trainer.should_stop) == (first / 7, first >= 7)


@pytest.mark.slow
def test_two_processes_keep_to_the_time_of_the_first(tmp_path: Path) -> None:
    config = cosine(limited(tmp_path, devices=2))
    result = train(config, build=uneven_build)  # the clock of the second process runs five times as fast
    shares = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert shares[0] == shares[1]
    assert shares[0] == sorted(set(shares[0]))  # the time goes on with every step
    budget = budget_of(result)
    assert (budget["ended_by"], budget["steps_done"]) == ("time", len(shares[0]))
    assert 7 <= budget["training_seconds"] < 10  # of the first process, whose clock goes on by 1 s a reading


def test_the_progress_forecasts_the_step_that_time_allows(tmp_path: Path) -> None:
    state = RunState(training_seconds=2.0)
    line = progress.ProgressLine(run_of(limited(tmp_path, "00:00:22"), state=state))
    line._begin, line._trained = (10, 0.0), 2.0
    assert line._place(10) == "step 10/1000"  # nothing to go by yet
    state.training_seconds = 7.0  # 50 steps in 5 s: 150 more in 15 s
    assert line._place(60) == "step 60/~210"
    state.training_seconds = 23.0
    assert line._end(220) == 220
    assert progress.ProgressLine(run_of(small_config(tmp_path), state=state))._place(5) == "step 5/12"


def test_what_is_saved_at_a_signal_is_told_with_the_limit(tmp_path: Path) -> None:
    from se3t.training.train import _how_to_continue

    config = limited(tmp_path)
    folder = RunFolder.of(config)
    folder.path.mkdir(parents=True)
    folder.config.touch()
    told = "0 of 1,000 steps (trainer.max_time=00:00:07) are saved; continue with: "
    assert _how_to_continue(config, folder, build).startswith(told)


def test_the_limit_tells_runs_apart_and_runs_from_before_it_are_the_same(tmp_path: Path) -> None:
    config = small_config(tmp_path)
    before = asdict(config)
    del before["trainer"]["max_time"]
    assert settings_hash(before) == settings_hash(asdict(config))
    hashes = {settings_hash(asdict(limited(tmp_path, time))) for time in (None, "00:00:07", "00:00:08")}
    assert len(hashes) == 3
