"""Kill tiny trainings at random moments, continue them, and compare the results with runs that were left alone.

``python -m tests.training.kills --kills 60`` prints what became of each signal; ``test_signals`` does it with fewer.
Every training is a fork of this process, so that a kill costs a second and not the start of an interpreter.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from se3t.cli.failures import guarded
from se3t.config import Config
from se3t.runs import RunFolder
from se3t.signals import SECONDS, interrupted_by_signals
from se3t.tasks.base import Task
from se3t.training import saving
from se3t.training.train import train

from .parts import build, small_config
from .test_resume import assert_same_run, full, simple

PAUSE_SECONDS = 0.01
"""How long every forward pass takes at least: so that most signals fall into a step or an evaluation."""
LIMIT_SECONDS = 8.0


class Slow(nn.Module):
    """A model that takes its time, with batch normalisation of its own where asked for."""

    def __init__(self, model: nn.Module, is_normalised: bool) -> None:
        super().__init__()
        self.inner = model
        self.norm = nn.BatchNorm1d(3) if is_normalised else None

    def forward(self, graph: Any) -> Any:
        time.sleep(PAUSE_SECONDS)
        prediction = self.inner(graph)
        if self.norm is None:
            return prediction
        return {degree: self.norm(value.flatten(0, 1)).view_as(value) for degree, value in prediction.items()}


def slow_build(config: Config) -> tuple[Task, nn.Module]:
    task, model = build(config)
    return task, Slow(model, is_normalised=False)


def normalised_build(config: Config) -> tuple[Task, nn.Module]:
    task, model = build(config)
    return task, Slow(model, is_normalised=True)


def noisy(config: Config) -> Config:
    return replace(config, preset="noisy")


Build = Callable[[Config], tuple[Task, nn.Module]]
KINDS: dict[str, tuple[Callable[[Config], Config], Build, float]] = {
    "simple": (simple, slow_build, 0.5),
    "within steps": (full, slow_build, 0.0),
    "batch normalisation": (noisy, normalised_build, 0.0),
}
"""Settings, model, and from which duration on a step is cut short."""


def start(config: Config, build: Build, long_step: float, log: Path) -> int:
    """Train in a fork of this process, with signals handled from its first moment; its number."""
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        status = 99
        try:
            errors = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(errors, 2)
            signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup ignores it
            saving.LONG_STEP_SECONDS = long_step
            with interrupted_by_signals(SECONDS):
                os.write(told, b"1")
                status = guarded(lambda: train(config, build=build) and 0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.read(ready, 1)
    os.close(ready)
    os.close(told)
    return child


def wait(child: int) -> tuple[int, float]:
    """Exit status, negative for a signal, and how long it took."""
    begin = time.monotonic()
    while True:
        number, status = os.waitpid(child, os.WNOHANG)
        if number:
            return os.waitstatus_to_exitcode(status), time.monotonic() - begin
        if time.monotonic() - begin > 120:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.002)


def run(kills: int, seed: int, folder: Path, say: Callable[[str], object] = print) -> Counter[str]:
    """Send so many signals.

    Returns:
        How many of each kind there were, and of runs that were compared.

    Raises:
        AssertionError: for a wrong exit status, an end that takes too long, or a result that differs.
    """
    draw, counts, slowest = random.Random(seed), Counter[str](), 0.0
    expected: dict[str, tuple[Config, Path, float]] = {}
    train(small_config(folder / "first"), build=build)  # what a process does once is done before the first fork
    for name, (settings, make, long_step) in KINDS.items():
        config = settings(small_config(folder / "expected" / name))
        begin = time.monotonic()
        assert wait(start(config, make, long_step, folder / "expected.log"))[0] == 0
        expected[name] = config, RunFolder.of(config).path, time.monotonic() - begin
    trial = 0
    while counts["signals"] < kills:
        name = list(KINDS)[trial % len(KINDS)]
        _, make, long_step = KINDS[name]
        config, whole, seconds = expected[name]
        config = replace(config, runs=str(folder / str(trial)), resume=True)
        for _ in range(min(draw.randint(1, 3), kills - counts["signals"])):
            number = draw.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGTERM, signal.SIGHUP])
            child = start(config, make, long_step, folder / f"{trial}.log")
            time.sleep(draw.uniform(0.0, seconds))
            os.kill(child, number)
            status, took = wait(child)
            steps = sorted(path.name for path in RunFolder.of(config).path.glob("checkpoints/step-*"))
            say(f"{name}: {number.name}: status {status} after {took:.2f} s; {', '.join(steps)}")
            if status == 0:  # it had finished before
                counts["finished before"] += 1
                break
            assert status == (-number if number == signal.SIGKILL else 128 + number), status
            assert took < LIMIT_SECONDS, took
            counts["signals"] += 1
            counts[number.name] += 1
            slowest = max(slowest, took)
        assert wait(start(config, make, long_step, folder / f"{trial}.log"))[0] == 0
        assert_same_run(whole, RunFolder.of(config).path)
        counts["equal runs"] += 1
        trial += 1
    say(f"{dict(counts)}; slowest end {slowest:.2f} s")
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        run(given.kills, given.seed, Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
