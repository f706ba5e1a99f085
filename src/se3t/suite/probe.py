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
from torch import nn

from se3t.allocator import keep_freed_memory
from se3t.config import Config, to_config
from se3t.config.compose import compose
from se3t.errors import UserError
from se3t.experiments import dataset, experiments
from se3t.experiments import task as declared_task
from se3t.precision import data_dtype, forward_context
from se3t.runs import CHECKPOINTS
from se3t.tasks.base import Task
from se3t.training.evaluation import evaluate_split
from se3t.training.fit import fit
from se3t.training.module import TrainingModule
from se3t.training.run import choose_device, model_for

_LONG = 1.0  # seconds of a quarter of a batch, from which on no whole one is tried


def measure(config: Config, seconds: float) -> dict[str, float]:
    """Seconds of one training step, of measuring one sample, equivariance error included, and of a training besides.

    Args:
        config: of a training; its data are replaced by random ones of the same sizes.
        seconds: to spend on training steps, about.
    """
    device, dtype = choose_device(config.trainer.accelerator), data_dtype(config.trainer.precision)
    torch.manual_seed(0)
    task = random_task(config).to(device, dtype)
    model = model_for(config, task).to(device)
    step, besides = 0.0, 0.0
    if any(True for _ in model.parameters()):
        step, besides = _step_seconds(config, task, model, device, seconds)
    return {"step": step, "sample": _sample_seconds(config, task, model, device), "besides": besides}


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
    except (ValueError, RuntimeError, MemoryError):  # the training itself will say what is wrong
        return None


def _step_seconds(
    config: Config, task: Task, model: nn.Module, device: torch.device, seconds: float
) -> tuple[float, float]:
    """Seconds of a step, and of a training besides its steps, by a training of a few steps; where a step takes so long
    that nothing but the size of its batch counts, by quarters of batches.
    """
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
    second = _trained(config, task, model, device, every)
    return second, max(0.0, time.perf_counter() - begin - 2 * every * second)


def _trained(config: Config, task: Task, model: nn.Module, device: torch.device, every: int) -> float:
    """Seconds of a step in the second half of a training of twice ``every`` steps."""
    lines: list[Mapping[str, Any]] = []
    trainer = replace(
        config.trainer,
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
        (Path(folder) / CHECKPOINTS).mkdir()
        fit(
            replace(config, trainer=trainer),
            Path(folder),
            task,
            model,
            device,
            None,
            [lambda kind, _, values: lines.append(values) if kind == "valid" else None],
        )
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


def _sample_seconds(config: Config, task: Task, model: nn.Module, device: torch.device) -> float:
    trainer = config.trainer
    begin = time.perf_counter()
    with forward_context(trainer.precision, device):
        evaluate_split(
            model,
            task,
            "valid",
            batch_size=trainer.eval_batch_size,
            num_equivariance_samples=trainer.num_equivariance_samples,
            seed=0,
            device=device,
        )
    _wait(device)
    return (time.perf_counter() - begin) / task.size("valid")


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
