"""Small task, model and configuration for the tests of the trainer; importable by the processes that those start."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import torch
from torch import nn

from se3t.config import Config, DeepSetModel, LinearModel, OptimConfig, TrainerConfig
from se3t.data.nbody.dataset import NBodyDataset, NBodySplit, NBodyTrajectories
from se3t.runs import RunFolder
from se3t.tasks.base import Task
from se3t.tasks.nbody import NBodyTask
from se3t.training import checkpoint as ckpt
from se3t.training import module, state
from se3t.training.run import Run, model_for

CPU = torch.device("cpu")
SIZES = {"train": 20, "valid": 6, "test": 6}


def random_split(count: int, seed: int, num_particles: int = 4) -> NBodySplit:
    generator = torch.Generator().manual_seed(seed)

    def draw(channels: int = 3) -> torch.Tensor:
        return torch.randn(count, num_particles, channels, generator=generator, dtype=torch.float64)

    velocities, charges = draw(), draw(1).sign()
    # Something to learn: the change is not the linear one, and not noise alone.
    return NBodySplit(
        draw(), velocities, charges, 0.7 * velocities + 0.1 * draw(), 0.3 * velocities * charges, horizon=0.5
    )


def random_dataset() -> NBodyDataset:
    splits = {name: random_split(size, seed) for seed, (name, size) in enumerate(SIZES.items())}
    return NBodyDataset(splits=splits, horizon=0.5, checksum="c0ffee", trajectories=_trajectories(splits["train"]))


def _trajectories(split: NBodySplit) -> NBodyTrajectories:
    """9 frames with about the same law over 3 of them, so that every training step draws its starts."""
    growth = (1 + 0.1 * split.charges)[:, None] ** torch.arange(9)[:, None, None]
    velocities = split.velocities[:, None] * growth  # [trajectory, frame, particle, 3]
    positions = split.positions[:, None] + 0.7 / 3 * velocities.cumsum(dim=1)
    return NBodyTrajectories(torch.stack((positions, velocities), dim=3).float(), horizon_frames=3)


def small_config(runs: Path, **trainer: Any) -> Config:
    budget = {"max_steps": 12, "batch_size": 8, "eval_batch_size": 4, "eval_every": 5, "checkpoint_every": 4}
    settings = {**budget, "accelerator": "cpu", "progress": False, "num_equivariance_samples": 1, **trainer}
    return Config(
        runs=str(runs),
        model=DeepSetModel(width=8),
        optim=OptimConfig(lr=1e-2),
        trainer=TrainerConfig(**settings),
    )


def linear_config(runs: Path) -> Config:
    return replace(small_config(runs), model=LinearModel())


def build(config: Config) -> tuple[Task, nn.Module]:
    """What ``se3t.training.run.build_parts`` does, on random data in memory."""
    task = NBodyTask(config.task, random_dataset())
    ckpt.seed_everything(config.seed)
    model = model_for(config, task)
    return task, Dithered(model) if config.preset == "noisy" else model


def run_of(config: Config, **more: Any) -> Run:
    """A run that has not begun, without data or a model."""
    return Run(config, RunFolder(Path(config.runs)), Mock(spec=Task, headline=(), units={}), nn.Identity(), CPU, **more)


class Dithered(nn.Module):
    """A model that draws random numbers in training, as dropout does."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.inner = model

    def forward(self, graph: Any) -> Any:
        prediction = self.inner(graph)
        if not self.training:
            return prediction
        return {degree: value + 0.1 * torch.randn_like(value) for degree, value in prediction.items()}


class FailingTask(NBodyTask):
    """Its training loss is not a number from the second step on."""

    calls = 0

    def loss(self, prediction: Any, batch: Any) -> torch.Tensor:
        self.calls += int(torch.is_grad_enabled() and len(batch) > 2)  # not the trial run with two samples
        value = super().loss(prediction, batch)
        return value * float("nan") if self.calls >= 2 else value


def failing_build(config: Config) -> tuple[Task, nn.Module]:
    return FailingTask(config.task, random_dataset()), build(config)[1]


class _Ticks:
    """A clock that goes on by so many seconds whenever it is read."""

    def __init__(self, seconds: float) -> None:
        self.now, self.seconds = 0.0, seconds

    def perf_counter(self) -> float:
        self.now += self.seconds
        return self.now


def uneven_build(config: Config) -> tuple[Task, nn.Module]:
    """For one of several processes: its clock runs at a pace of its own, and it notes the share of the time by which
    each step takes its learning rate.
    """
    rank = os.environ.get("RANK")
    if rank is not None:
        vars(state)["time"] = _Ticks(1.0 + 4.0 * int(rank))
        shares: list[float] = []
        lr_factor = module.lr_factor

        def noted(step: int, optim: OptimConfig, max_steps: int, time_share: float) -> float:
            shares.append(time_share)
            (Path(config.runs) / f"{rank}.json").write_text(json.dumps(shares))
            return lr_factor(step, optim, max_steps, time_share)

        vars(module)["lr_factor"] = noted
    return build(config)
