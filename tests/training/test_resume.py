"""An interrupted run that is continued equals one that never was, to the last bit."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from se3t.cli.failures import guarded
from se3t.config import Config, OptimConfig, SE3TransformerModel
from se3t.errors import UserError
from se3t.files import WriteError
from se3t.runs import RunFolder, read_json
from se3t.runs.names import CHECKPOINTS, METRICS, PROVENANCE, RESULT
from se3t.tasks.nbody import NBodyTask
from se3t.training import checkpoint as ckpt
from se3t.training.feed import derived_seed
from se3t.training.train import train

from .cloud_parts import new_processes
from .parts import build, small_config

TIMING = {"seconds", "training_seconds", "steps_per_second", "samples_per_second", "peak_memory_bytes"}
SETTINGS = {"config", "command", "resume"}
LAPACK = {"least_squares"}  # of a baseline: its last bit depends on where the memory of its matrices happens to lie
DIGEST = {"digest"}  # of all fields of a result, those above among them
CHECKER = {"python"}  # the executed annotations draw from Python's random numbers to pick what they look at


def test_every_step_has_a_draw_of_its_own_also_after_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    batch: Callable[..., Any] = NBodyTask.batch

    def watching(self: NBodyTask, split: str, index: torch.Tensor, draw: Any = None) -> Any:
        if draw is not None and len(index) == 8:
            seen.append(int(draw))
        return batch(self, split, index, draw)

    monkeypatch.setattr(NBodyTask, "batch", watching)
    config = small_config(tmp_path / "whole")
    train(config, build=build)
    expected = [derived_seed(config.seed, step) for step in range(12)]
    assert seen == expected
    assert len(set(seen)) == 12
    seen.clear()
    shorter = small_config(tmp_path / "parts", max_steps=8)
    train(shorter, build=build)
    train(replace(small_config(tmp_path / "parts"), resume=True), build=build)
    assert seen == expected


class Interrupted(Exception):
    pass


def full(config: Config) -> Config:
    """Everything that carries state: averages, random numbers, a schedule, decay."""
    optim = OptimConfig(lr=1e-2, schedule="cosine", warmup_steps=3, weight_decay=0.1, clip_norm=0.5)
    return replace(config, preset="noisy", optim=optim, trainer=replace(config.trainer, ema_decay=0.7))


def simple(config: Config) -> Config:
    return config


@pytest.fixture(scope="module", params=[simple, full])
def uninterrupted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path]:
    config = request.param(small_config(tmp_path_factory.mktemp("uninterrupted")))
    return config, train(config, build=build).parent


def elsewhere(config: Config, folder: Path) -> Config:
    return replace(config, runs=str(folder))


def interrupt_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the loss of the step after ``steps`` fail."""
    calls = [0]
    loss: Callable[..., torch.Tensor] = NBodyTask.loss

    def failing(self: NBodyTask, prediction: Any, batch: Any) -> torch.Tensor:
        calls[0] += 1
        if calls[0] > steps:
            raise Interrupted
        return loss(self, prediction, batch)

    monkeypatch.setattr(NBodyTask, "loss", failing)


def assert_same_run(left: Path, right: Path) -> None:
    last = [ckpt.newest_checkpoint(folder / CHECKPOINTS) for folder in (left, right)]
    assert last[0] is not None
    assert last[1] is not None
    assert_equal(last[0].content, last[1].content, "last")
    best = [ckpt.read_checkpoint(ckpt.locate(folder)) for folder in (left, right)]
    assert_equal(best[0].content, best[1].content, "best")
    assert_equal(*(RunFolder(folder).read_metrics() for folder in (left, right)), "metrics")
    assert_equal(*(read_json(folder / RESULT) for folder in (left, right)), "result")


def assert_equal(left: Any, right: Any, where: str) -> None:
    assert type(left) is type(right), where
    if isinstance(left, dict):
        assert left.keys() == right.keys(), where
        for key in left.keys() - TIMING - SETTINGS - LAPACK - DIGEST - CHECKER:
            assert_equal(left[key], right[key], f"{where}.{key}")
    elif isinstance(left, list | tuple):
        assert len(left) == len(right), where
        for number, pair in enumerate(zip(left, right, strict=True)):
            assert_equal(*pair, f"{where}[{number}]")
    elif isinstance(left, torch.Tensor):
        assert torch.equal(left, right), where
    else:
        assert left == right, where


# Evaluations after 5 and 10, checkpoints after 4, 8 and 12, epochs of 2.5 steps: interrupted before anything is saved,
# at a checkpoint, right after an evaluation, between evaluation and checkpoint, within an epoch, after the last
# evaluation.
@pytest.mark.parametrize("steps", [2, 4, 5, 7, 8, 10, 11])
def test_continuing_after_any_step_changes_nothing(
    uninterrupted: tuple[Config, Path], steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, expected = uninterrupted
    with monkeypatch.context() as patch:
        interrupt_after(steps, patch)
        with pytest.raises(Interrupted):
            train(elsewhere(config, tmp_path), build=build)
    torch.manual_seed(999)  # another process would be somewhere else in its random numbers
    result = train(replace(elsewhere(config, tmp_path), resume=True), build=build)
    assert_same_run(expected, result.parent)


def test_two_interruptions_change_nothing(
    uninterrupted: tuple[Config, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, expected = uninterrupted
    for steps, resume in ((6, False), (3, True)):  # in all 6, then 4 + 3 steps
        with monkeypatch.context() as patch:
            interrupt_after(steps, patch)
            with pytest.raises(Interrupted):
                train(replace(elsewhere(config, tmp_path), resume=resume), build=build)
    result = train(replace(elsewhere(config, tmp_path), resume=True), build=build)
    assert_same_run(expected, result.parent)


def test_continuing_takes_back_best_weights_that_are_yet_to_come(
    uninterrupted: tuple[Config, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = elsewhere(uninterrupted[0], tmp_path)
    best = RunFolder.of(config).path / CHECKPOINTS / ckpt.BEST
    steps = []
    for more, resume in ((11, False), (0, True)):  # evaluated after 5 and 10; the checkpoint of step 8 knows the first
        with monkeypatch.context() as patch:
            interrupt_after(more, patch)
            with pytest.raises(Interrupted):
                train(replace(config, resume=resume), build=build)
        steps.append(ckpt.read_checkpoint(best).step)
    assert steps == [10, 5]


def test_a_failed_write_of_a_checkpoint_changes_nothing(
    uninterrupted: tuple[Config, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, expected = uninterrupted
    save = torch.save

    def full_disk(content: dict[str, Any], file: Any) -> None:
        if content["step"] == 8:
            file.write(b"half of it")
            raise OSError("no space left on device")
        save(content, file)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full_disk)
        with pytest.raises(OSError, match="no space"):
            train(elsewhere(config, tmp_path), build=build)
    result = train(replace(elsewhere(config, tmp_path), resume=True), build=build)
    assert_same_run(expected, result.parent)
    assert not list(result.parent.rglob("*.tmp"))


def test_a_damaged_newest_checkpoint_changes_nothing(
    uninterrupted: tuple[Config, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, expected = uninterrupted
    with monkeypatch.context() as patch:
        interrupt_after(11, patch)
        with pytest.raises(Interrupted):
            train(elsewhere(config, tmp_path), build=build)
    newest = ckpt.step_path(RunFolder.of(elsewhere(config, tmp_path)).path / CHECKPOINTS, 8)
    newest.write_bytes(newest.read_bytes()[:1000])
    result = train(replace(elsewhere(config, tmp_path), resume=True), build=build)
    assert_same_run(expected, result.parent)


def test_an_interruption_of_the_final_test_changes_nothing(
    uninterrupted: tuple[Config, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, expected = uninterrupted

    def interrupted(*_: Any) -> None:
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr("se3t.training.finish._result", interrupted)
        with pytest.raises(Interrupted):
            train(elsewhere(config, tmp_path), build=build)
    result = train(replace(elsewhere(config, tmp_path), resume=True), build=build)
    assert_same_run(expected, result.parent)


def test_a_longer_budget_continues_a_finished_run_as_if_it_had_been_longer_from_the_start(tmp_path: Path) -> None:
    config = small_config(tmp_path / "long", max_steps=12)
    expected = train(config, build=build)
    # 6 falls on no evaluation: the extra one at the end of the short run must leave no trace.
    short = small_config(tmp_path / "short", max_steps=6)
    first = train(short, build=build)
    assert json.loads(first.read_text())["budget"]["steps_done"] == 6
    longer = replace(small_config(tmp_path / "short", max_steps=12), resume=True)
    assert_same_run(expected.parent, train(longer, build=build).parent)


def interrupted_at_8(config: Config, monkeypatch: pytest.MonkeyPatch) -> Config:
    with monkeypatch.context() as patch:
        interrupt_after(9, patch)
        with pytest.raises(Interrupted):
            train(config, build=build)
    return replace(config, resume=True)


def test_an_interrupted_run_is_not_continued_to_fewer_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = interrupted_at_8(small_config(tmp_path), monkeypatch)
    with pytest.raises(UserError, match=r"trainer\.max_steps=5: .* has 8 steps already"):
        train(replace(config, trainer=replace(config.trainer, max_steps=5)), build=build)


def test_a_run_is_not_continued_on_other_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = interrupted_at_8(small_config(tmp_path), monkeypatch)

    def other(config: Config) -> Any:
        task, model = build(config)
        assert isinstance(task, NBodyTask)
        task.dataset = replace(task.dataset, checksum="decaf")
        return task, model

    with pytest.raises(UserError, match=r"data with checksum c0ffee, and the data now have decaf"):
        train(config, build=other)
    folder = train(config, build=build).parent
    assert [one["resumed_from_step"] for one in read_json(folder / PROVENANCE)["sessions"]] == [None, 8]


def test_continuing_an_equivariant_model_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = SE3TransformerModel(num_layers=2, num_degrees=2, channels=2, channels_div=1, num_heads=1)
    config = replace(small_config(tmp_path / "expected", max_steps=6), model=model)
    expected = train(config, build=build).parent
    config = elsewhere(config, tmp_path / "halted")
    with monkeypatch.context() as patch:
        interrupt_after(5, patch)
        with pytest.raises(Interrupted):
            train(config, build=build)
    assert_same_run(expected, train(replace(config, resume=True), build=build).parent)


def train_until_killed(runs: Path) -> None:
    """Until half of the second checkpoint is written."""
    save = torch.save

    def dying(content: Any, file: Any) -> None:
        save(content, buffer := io.BytesIO())
        if content["step"] == 8 and content["kind"] == "step":
            file.write(buffer.getvalue()[: len(buffer.getvalue()) // 2])
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        file.write(buffer.getvalue())

    torch.save = dying  # of another process
    train(small_config(runs), build=build)


def test_a_kill_in_the_middle_of_writing_a_checkpoint_changes_nothing(tmp_path: Path) -> None:
    expected = train(small_config(tmp_path / "expected"), build=build)
    process = new_processes().Process(target=train_until_killed, args=(tmp_path / "killed",))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    config = small_config(tmp_path / "killed")
    checkpoints = RunFolder.of(config).path / CHECKPOINTS
    assert [path.name for path in checkpoints.glob("step-*")] == ["step-0000000004.ckpt"]
    assert list(checkpoints.glob(".*.tmp"))  # the half file is there, under another name
    result = train(replace(config, resume=True), build=build)
    assert_same_run(expected.parent, result.parent)


class FullDisk(io.RawIOBase):
    """Takes so many bytes."""

    def __init__(self, file: Any, room: int) -> None:
        self.file, self.room = file, room

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.room -= memoryview(data).nbytes
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return int(self.file.write(data))


def test_a_full_disk_is_one_sentence_and_changes_nothing(
    uninterrupted: tuple[Config, Path], tmp_path: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    config, expected = replace(uninterrupted[0], runs=str(tmp_path)), uninterrupted[1]
    save = torch.save

    def full(content: dict[str, Any], file: Any) -> None:
        save(content, FullDisk(file, 3000) if content["step"] == 8 else file)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        assert guarded(lambda: train(config, build=build) and 0) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "step-0000000008.ckpt: cannot be written (No space left on device); make room there; 4 of 12 steps" in told
    assert_same_run(expected, train(replace(config, resume=True), build=build).parent)


def test_a_full_disk_at_the_metrics_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_config(tmp_path)
    (RunFolder.of(config).path).mkdir(parents=True)
    (RunFolder.of(config).path / METRICS).symlink_to("/dev/full")
    monkeypatch.setattr(RunFolder, "rewind_metrics", lambda self, step, **_: None)  # would put a file in its place
    with pytest.raises(WriteError, match=r"metrics\.jsonl: cannot be written \(No space left on device\)"):
        train(config, build=build)
