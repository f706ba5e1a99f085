"""Trainings of sweeps without training: a launcher whose jobs write in no time what a training would write."""

from __future__ import annotations

import json
import math
import os
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from se3t.config import Config
from se3t.runs import RunFolder
from se3t.runs.files import seal
from se3t.runs.names import CONFIG, RESULT
from se3t.suite.jobs import Job
from se3t.suite.specification import Specification, specify

WORDS = ("experiment=nbody", "model=deepset", "preset=smoke", "trainer.max_steps=4", "trainer.eval_every=1")

Loss = Callable[[Config, int], float]


def distance(config: Config, step: int) -> float:
    """A loss that falls with the steps, best at lr = 0.003."""
    return abs(math.log10(config.optim.lr / 0.003)) + 0.01 * config.seed + 1 / step


class FakeHandle:
    """One step a look, then the result."""

    def __init__(self, job: Job, log: Path, launcher: FakeLauncher) -> None:
        self.job, self.log, self.launcher, self.step, self.stopped = job, log, launcher, 0, False
        job.folder.mkdir(parents=True, exist_ok=True)
        (job.folder / CONFIG).touch()
        self.step = len(RunFolder(job.folder).read_metrics())  # a training that was cut short goes on

    def poll(self) -> int | None:
        self.launcher.looks += 1
        if self.launcher.looks == self.launcher.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.launcher.looks == self.launcher.interrupt_at:
            raise KeyboardInterrupt
        if self.launcher.fails(self.job.config):
            self.log.write_text("se3t: the training loss became nan in step 3\n")
            return 2
        self.step += 1
        config = self.job.config
        loss = self.launcher.loss(config, self.step)
        RunFolder(self.job.folder).append_metrics("valid", self.step, {"loss": loss})
        if self.step < config.trainer.max_steps:
            return None
        self.launcher.finished.append(self.job)
        write_result(self.job, {"loss": loss, "mse_x": loss})
        return 0

    def stop(self) -> None:
        self.stopped = True
        if self.step < self.job.config.trainer.max_steps:
            self.launcher.stopped.append(self.job)


class FakeLauncher:
    """Starts fakes, and keeps what it was asked for."""

    def __init__(
        self,
        loss: Loss = distance,
        fails: Callable[[Config], bool] = lambda config: False,
        kill_at: int = 0,
        interrupt_at: int = 0,
    ) -> None:
        self.loss, self.fails, self.kill_at, self.interrupt_at = loss, fails, kill_at, interrupt_at
        self.looks = 0
        self.started: list[Job] = []
        self.finished: list[Job] = []
        self.stopped: list[Job] = []

    def start(self, job: Job, log: Path) -> FakeHandle:
        self.started.append(job)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()
        return FakeHandle(job, log, self)


@cache
def specified(words: tuple[str, ...], seeds: tuple[int, ...] | None, trials: int | None, content: str) -> Specification:
    """As :func:`specify`, once for the same words and the same content of their file."""
    return specify([*WORDS, *words], seeds, trials)


def write_result(job: Job, valid: Mapping[str, Any]) -> None:
    """A finished run."""
    steps = job.config.trainer.max_steps
    content = {
        "status": "finished",
        "experiment": job.config.experiment,
        "preset": job.config.preset,
        "budget": {"max_steps": steps, "steps_done": steps, "batch_size": job.config.trainer.batch_size},
        "parameters": 17,
        "data": {"preset": "calibrated_random", "sizes": {"train": 32}},
        "valid": dict(valid),
        "config": asdict(job.config),
    }
    job.folder.mkdir(parents=True, exist_ok=True)
    (job.folder / CONFIG).touch()
    (job.folder / RESULT).write_text(json.dumps(seal(content)), encoding="utf-8")


def prepare(job: Job) -> None:
    """Data that are there, as far as anybody looks."""
    job.store.parent.mkdir(parents=True, exist_ok=True)
    job.store.touch()


@contextmanager
def quick_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to work in, in memory where there is such a thing: sweeps write often, and wait for the disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        monkeypatch.chdir(folder)
        for module in ("pool", "search"):
            monkeypatch.setattr(f"se3t.suite.{module}.POLL_SECONDS", 0)
        yield Path(folder)
        monkeypatch.undo()
