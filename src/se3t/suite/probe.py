"""``python -m se3t.suite.probe``: time of a training step and of measuring, on random data of an experiment's sizes,
and of preparing data.

Reads a JSON object from standard input and writes one to standard output; a process of its own, so that planning loads
no torch and times are those of a process that does what a training does.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from se3t.allocator import keep_freed_memory
from se3t.config import Config, to_config
from se3t.config.compose import compose
from se3t.errors import UserError
from se3t.experiments import dataset, experiments
from se3t.experiments import task as declared_task
from se3t.precision import forward_context
from se3t.runs import RunFolder
from se3t.tasks.base import Task
from se3t.training.fit import fit
from se3t.training.module import TrainingModule
from se3t.training.run import Run, choose_device, model_for

_LONG = 1.0  # seconds of a quarter of a batch, from which on no whole one is tried


def measure(config: Config, seconds: float) -> dict[str, float]:
    """Seconds of one training step, of measuring one sample, equivariance error included, and of a training besides.

    Args:
        config: of a training; its data are replaced by random ones of the same sizes.
        seconds: to spend on training steps, about.
    """
    torch.manual_seed(0)
    task = random_task(config)
    model = model_for(config, task)
    run = Run(config, RunFolder(Path()), task, model, choose_device(config.trainer.accelerator))
    run.to_device()
    step, besides = 0.0, 0.0
    if run.num_parameters:
        step, besides = _step_seconds(run, seconds)
    return {"step": step, "sample": _sample_seconds(run), "besides": besides}


def random_task(config: Config) -> Task:
    """The task of a configuration on random samples that have the sizes of real ones.

    Raises:
        UserError: for a task that has none.
    """
    make = declared_task(config.task.name).random
    if make is None:
        raise UserError(f"task {config.task.name} has no random samples to measure on")
    task: Task = make(config)
    return task


def _measure_or_not(config: Config, seconds: float) -> dict[str, float] | None:
    try:
        return measure(config, seconds)
    except (ValueError, RuntimeError, MemoryError):  # the training will report the error
        return None


def _step_seconds(run: Run, seconds: float) -> tuple[float, float]:
    """Seconds of a step, and of a training besides its steps, by a training of a few steps; where a step takes so long
    that nothing but the size of its batch counts, by quarters of batches.
    """
    config, task, model, device = run.config, run.task, run.model, run.device
    begin = time.perf_counter()
    optimizer = TrainingModule(model, task, config).configure_optimizers()

    def step(size: int) -> float:
        start = time.perf_counter()
        optimizer.zero_grad()
        index = torch.randint(task.size("train"), (size,), device=device)
        with forward_context(config.trainer.precision, device):
            samples = task.batch("train", index, 0)
            loss = task.loss(model(task.graph(samples)), samples)
        loss.backward()
        optimizer.step()
        _wait(device)
        return time.perf_counter() - start

    whole = config.trainer.batch_size
    part = max(min(whole, 2), whole // 4)
    step(part)  # the first one warms up
    quarter = min(step(part), step(part))
    if quarter > _LONG:
        return quarter * whole / part, 0.0
    every = max(3, min(50, int(seconds / (4 * quarter))))
    second = _trained(run, every)
    return second, max(0.0, time.perf_counter() - begin - 2 * every * second)


def _trained(run: Run, every: int) -> float:
    """Seconds of a step in the second half of a training of twice ``every`` steps."""
    lines: list[Mapping[str, Any]] = []
    trainer = replace(
        run.config.trainer,
        max_steps=2 * every,
        max_time=None,
        eval_every=every,
        checkpoint_every=2 * every,
        num_equivariance_samples=0,
        early_stopping=None,
        devices=1,
        progress=False,
    )
    with tempfile.TemporaryDirectory(prefix="se3t-") as folder:
        short = replace(run, config=replace(run.config, trainer=trainer), folder=RunFolder(Path(folder)))
        short.writers = [lambda kind, _, values: lines.append(values) if kind == "valid" else None]
        short.folder.checkpoints.mkdir()
        fit(short)
    return 1 / lines[-1]["steps_per_second"]


def preparation(config: Config) -> float:
    """Seconds of preparing the data of a configuration that are made here, from a few samples; the start of a process
    does not count.
    """
    data = dataset(config.data.name)
    assert data.make_few is not None
    total = sum(data.split_sizes(config.data).values())
    begin = time.perf_counter()
    few = data.make_few(config.data)
    return (time.perf_counter() - begin) * total / few


def _sample_seconds(run: Run) -> float:
    begin = time.perf_counter()
    run.measure("valid")
    _wait(run.device)
    return (time.perf_counter() - begin) / run.task.size("valid")


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> int:
    """Measure the configurations under ``configs``; ``startup``: seconds from ``started`` until the first of them."""
    experiments()  # makes known what other packages add
    task = json.load(sys.stdin)
    keep_freed_memory()
    if task["threads"] is not None:
        torch.set_num_threads(task["threads"])
    compose("train", ["experiment=nbody"])  # as every training does
    startup = time.time() - task["started"]
    costs = [_measure_or_not(to_config(settings), task["seconds"]) for settings in task["configs"]]
    made = [preparation(to_config(settings)) for settings in task["data"]]
    sys.stdout.write(json.dumps({"startup": startup, "costs": costs, "preparation": made}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
