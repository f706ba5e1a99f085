"""What a run is, in three lines, when it starts."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from se3t.config import Config
from se3t.config.fields import time_in_words
from se3t.nn.kernels import auto
from se3t.precision import data_dtype
from se3t.tasks.base import Task
from se3t.training.checkpoint import Checkpoint


def in_three_lines(
    config: Config,
    folder: Path,
    task: Task,
    model: nn.Module,
    device: torch.device,
    resumed: Checkpoint | None,
    loggers: str,
) -> list[str]:
    """Folder and model; data and budget; machine and what else is written.

    Args:
        config: the run.
        folder: its folder.
        task: its data.
        model: what is trained.
        device: where.
        resumed: the checkpoint that it continues from.
        loggers: where W&B and TensorBoard write.
    """
    budget = config.trainer
    parameters = sum(parameter.numel() for parameter in model.parameters())
    sizes = ", ".join(f"{task.size(split):,} {split}" for split in ("train", "valid", "test"))
    where = "from the start" if resumed is None else f"from step {resumed.step:,}"
    checksum = str(task.describe().get("checksum") or "")[:12]
    processes = f"{budget.devices} processes, " if budget.devices > 1 else ""
    num_threads = torch.get_num_threads()
    threads = f", {num_threads} thread{'s' if num_threads > 1 else ''}" if device.type == "cpu" else ""
    kernel = getattr(config.model, "kernel", None)
    if kernel == "auto":
        kernel = auto.in_words(device, data_dtype(budget.precision))
    limit = "" if budget.max_time is None else f", at most {time_in_words(budget.max_time)} of training"
    data = [config.data.name, f"{sizes} samples", *([f"checksum {checksum}"] if checksum else [])]
    machine = [f"{processes}{device.type}{threads}", f"precision {budget.precision}"]
    machine += [f"kernel {kernel}"] if kernel else []
    return [
        f"{folder}: {config.experiment}, {config.model.name}, {parameters:,} parameters, {where}",
        f"data {', '.join(data)}; {budget.max_steps:,} steps of batch {budget.batch_size}{limit}, evaluated every "
        f"{budget.eval_every:,}",
        f"{', '.join(machine)}; {loggers}",
    ]
