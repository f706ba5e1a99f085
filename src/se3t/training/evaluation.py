"""Measuring a model on a split: the same function during training, at its end, and for ``se3t eval``."""

from __future__ import annotations

import resource
import sys
from typing import Any

import torch
from torch import Tensor, nn

from se3t.tasks.base import Task
from se3t.training.distributed import gather
from se3t.training.feed import derived_seed


@torch.no_grad()
def evaluate_split(
    model: nn.Module,
    task: Task,
    split: str,
    *,
    batch_size: int,
    num_equivariance_samples: int,
    seed: int,
    device: torch.device,
    rank: int = 0,
    world_size: int = 1,
    keep: dict[str, list[Any]] | None = None,
) -> dict[str, float]:
    """Metrics of a model on a whole split: means over its samples, summed in double precision.

    Every sample counts once, whatever the batch size and the number of processes. Rotations for the equivariance error
    are drawn batch by batch: they depend on ``seed``, ``batch_size`` and the place in the split, so all evaluations of
    a run use the same ones, and one with another batch size uses others. The caller chooses the precision
    (:func:`se3t.precision.forward_context`).

    Args:
        model: in the state to be measured; training mode is restored afterwards.
        task: with its data on ``device``.
        split: "train", "valid" or "test".
        batch_size: samples at a time.
        num_equivariance_samples: rotations of every sample.
        seed: seed of the rotations.
        device: of the data.
        rank: number of this process; each measures its share of the batches.
        world_size: number of processes; all of them must call.
        keep: receives the task's details of every sample (of this process), in the order of the split.

    Returns:
        Mean of every metric of the task, and those relative to its trivial baseline.
    """
    training = model.training
    model.eval()
    sums: dict[str, Tensor] = {}
    for number, index in enumerate(torch.arange(task.size(split), device=device).split(batch_size)):
        if number % world_size == rank:
            for name, values in _measure(
                model, task, split, index, num_equivariance_samples, seed, number, keep
            ).items():
                sums[name] = sums.get(name, torch.zeros((), dtype=torch.float64, device=device)) + values.sum()
    model.train(training)
    total: dict[str, float] = {}
    shares = gather({name: float(value) for name, value in sums.items()}, world_size)
    for share in shares:  # in the order of the ranks: the same sum on every rank
        for name, value in share.items():
            total[name] = total.get(name, 0.0) + value
    means = {name: value / task.size(split) for name, value in total.items()}
    return {**means, **task.relative(means, split)}


def _measure(
    model: nn.Module, task: Task, split: str, index: Tensor, num_rotations: int, seed: int, number: int, keep: Any
) -> dict[str, Tensor]:
    batch = task.batch(split, index)
    graph = task.graph(batch)
    prediction = model(graph)
    for name, details in ({} if keep is None else task.details(prediction, batch)).items():
        keep.setdefault(name, []).extend(details.tolist())
    values = task.metrics(prediction, batch)
    generator = torch.Generator().manual_seed(derived_seed(seed, number))
    rotated = [task.equivariance(model, graph, prediction, generator) for _ in range(num_rotations)]
    for name in rotated[0] if rotated else ():
        values[name] = torch.stack([errors[name] for errors in rotated]).mean(dim=0)
    return values


def peak_memory_bytes(device: torch.device) -> int:
    """The most memory in use since the process began: of the GPU by torch, else resident memory.

    It is that of the whole process and includes everything done before: data, earlier runs in the same process.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux kilobytes
