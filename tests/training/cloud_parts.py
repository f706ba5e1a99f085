"""Labelled point clouds in memory, a classification task on them and its runs, for tests of task and training."""

from __future__ import annotations

import multiprocessing
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from se3t.config import ClassificationTask as ClassificationTaskConfig
from se3t.config import (
    Config,
    DeepSetModel,
    OptimConfig,
    PointNet2Model,
    SE3TransformerModel,
    SetTransformerModel,
    Shapes15Data,
    TFNModel,
    TrainerConfig,
)
from se3t.data.clouds.dataset import CloudData
from se3t.data.clouds.objects import normalise
from se3t.graph import Graph
from se3t.models import build_model
from se3t.runs import RunFolder
from se3t.tasks.base import Task
from se3t.tasks.classification import ClassificationTask
from se3t.training import checkpoint as ckpt
from se3t.training import distributed, record
from se3t.training.evaluation import evaluate_split
from se3t.training.finish import finish
from se3t.training.run import Run, model_for

NAMES = ("tower", "plate", "beam")
EXTENTS = np.array([(0.3, 1.0, 0.3), (1.0, 0.15, 1.0), (1.0, 0.15, 0.15)])  # half of each edge; y is up
COUNTS = {"train": 36, "valid": 11, "test": 13}
SIZE = 64
SMALL: dict[str, Any] = {
    "se3_transformer": SE3TransformerModel(
        num_layers=1, num_degrees=3, channels=4, channels_div=2, num_heads=2, pool_channels=8, last="attention"
    ),
    "tfn": TFNModel(num_layers=1, num_degrees=3, channels=4, pool_channels=8),
}

PLAIN: dict[str, Any] = {
    "deepset": DeepSetModel(width=16),
    "set_transformer": SetTransformerModel(width=16, num_layers=2, num_inducing=4, pooling="attention"),
}

TRAINED: dict[str, Any] = {
    "se3_transformer": SMALL["se3_transformer"],
    "deepset": PLAIN["deepset"],
    "pointnet2": PointNet2Model(),  # batch normalisation, dropout, and centres found from a random point
}


def boxes(count: int, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Points inside of boxes of three kinds, each turned about the vertical; and which kind. Half are of the first."""
    random = np.random.RandomState(0)
    labels = random.choice(3, count, p=(0.5, 0.3, 0.2))
    points = random.uniform(-1, 1, (count, size, 3)) * EXTENTS[labels][:, None]
    angle = random.uniform(0, 2 * np.pi, count)
    turned = points.copy()
    turned[..., 0] = np.cos(angle)[:, None] * points[..., 0] + np.sin(angle)[:, None] * points[..., 2]
    turned[..., 2] = np.cos(angle)[:, None] * points[..., 2] - np.sin(angle)[:, None] * points[..., 0]
    return normalise(turned), labels.astype(np.int64)


def cloud_data(
    counts: dict[str, int] = COUNTS, up_axis: int = 1, points: np.ndarray | None = None, **changes: Any
) -> CloudData:
    """Boxes, their splits mixed; or the given points, with the labels of boxes."""
    total = sum(counts.values())
    made, labels = boxes(total)
    order, ends = np.random.RandomState(1).permutation(total), np.cumsum([0, *counts.values()])
    splits = {split: np.sort(order[ends[place] : ends[place + 1]]) for place, split in enumerate(counts)}
    settings: dict[str, Any] = {
        "kind": "shapes15",
        "points": made if points is None else points,
        "labels": labels,
        "splits": splits,
        "classes": NAMES,
        "up_axis": up_axis,
        "variant": "boxes",
        "synthetic": True,
        "checksum": "c0ffee" * 8,
        "official": {},
    }
    return CloudData(**{**settings, **changes})


def task_of(data: CloudData | None = None, dtype: torch.dtype = torch.float64, **settings: Any) -> ClassificationTask:
    config = ClassificationTaskConfig(**{"num_points": 24, "num_neighbors": 6, **settings})
    return ClassificationTask(config, data or cloud_data()).to("cpu", dtype)


def model_of(
    task: ClassificationTask, config: Any, dtype: torch.dtype = torch.float64, noise: float = 0.1
) -> nn.Module:
    """A model of the task, its parameters moved off their initial values: a bias of zero would hide its faults."""
    torch.manual_seed(0)
    model = build_model(
        config,
        fiber_in=task.fiber_in,
        fiber_out=task.fiber_out,
        num_edge_scalars=task.num_edge_scalars,
        pooled=task.pooled,
        fiber_edge=task.fiber_edge,
    ).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    return model.to(dtype).eval()


def measure(task: ClassificationTask, model: nn.Module, split: str = "test", batch_size: int = 5) -> dict[str, float]:
    return evaluate_split(
        model, task, split, batch_size=batch_size, num_equivariance_samples=1, seed=0, device=torch.device("cpu")
    )


def logits_of(model: nn.Module, graph: Graph) -> Tensor:
    with torch.no_grad():
        return model(graph)[0].squeeze(-1)


def config_of(runs: Path, model: Any = None, trainer: dict[str, Any] | None = None, **task: Any) -> Config:
    """Averages, a schedule and evaluations that carry state; 36 boxes train, 11 validate, 13 test."""
    budget = {"max_steps": 8, "batch_size": 6, "eval_batch_size": 4, "eval_every": 3, "checkpoint_every": 2}
    settings = {**budget, "accelerator": "cpu", "progress": False, "num_equivariance_samples": 1, **(trainer or {})}
    return Config(
        experiment="scanobjectnn",
        preset="smoke",
        runs=str(runs),
        data=Shapes15Data(root="/nowhere"),
        task=ClassificationTaskConfig(**{"num_points": 16, "num_neighbors": 4, **task}),
        model=model or SMALL["se3_transformer"],
        optim=OptimConfig(lr=1e-2, schedule="step", decay_every=3, decay_ratio=0.5, weight_decay=0.1, clip_norm=1.0),
        trainer=TrainerConfig(**settings),
    )


def plain_config(runs: Path, trainer: dict[str, Any] | None = None, **task: Any) -> Config:
    """A model that sees coordinates as numbers."""
    return config_of(runs, DeepSetModel(width=16), trainer, inputs="positions", **task)


def moving_config(runs: Path, name: str = "se3_transformer", trainer: dict[str, Any] | None = None) -> Config:
    """Points drawn anew, turned and shaken in every step; averaged weights, but with batch normalisation."""
    settings = {"ema_decay": None if name == "pointnet2" else 0.7, **(trainer or {})}
    inputs = "edges" if name == "se3_transformer" else "positions"
    return config_of(runs, TRAINED[name], settings, augmentation="so3", jitter=0.01, inputs=inputs)


def new_processes() -> ForkServerContext:
    """Starts processes that find torch and training loaded already, which takes longer than what tests do in them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "se3t.training.train", "se3t.training.fit"])
    return context


def launch_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let training on several devices start its processes in that way."""
    new_processes()
    start = distributed.start_processes

    def quickly(*words: Any, **settings: Any) -> Any:
        return start(*words, **{**settings, "start_method": "forkserver"})

    monkeypatch.setattr(distributed, "start_processes", quickly)


def build_on(data: CloudData, config: Config) -> tuple[Task, nn.Module]:
    """What ``se3t.training.run.build_parts`` does, on clouds in memory."""
    task = ClassificationTask(config.task, data)
    ckpt.seed_everything(config.seed)
    return task, model_for(config, task)


def build(config: Config) -> tuple[Task, nn.Module]:
    """The same, on boxes."""
    return build_on(cloud_data(), config)


def finished_run(folder: Path, config: Config, data: CloudData | None = None, noise: float = 0.3) -> Path:
    """A run folder as training leaves it, with the weights of step 0 moved by random numbers."""
    task, model = build_on(data or cloud_data(), config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    RunFolder(folder).write_config(config)
    RunFolder(folder).add_session(record.provenance())
    finish(Run(config, RunFolder(folder), task, model, torch.device("cpu")))
    return folder
