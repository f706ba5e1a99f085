"""What a run is, in three lines, when it starts."""

from __future__ import annotations

import torch

from se3t.nn.kernels import auto
from se3t.training.run import Run


def in_three_lines(run: Run, loggers: str) -> list[str]:
    """Folder and model; data and budget; machine and what else is written.

    Args:
        run: about to start.
        loggers: where W&B and TensorBoard write.
    """
    config, task, device = run.config, run.task, run.device
    budget = config.trainer
    sizes = ", ".join(f"{task.size(split):,} {split}" for split in ("train", "valid", "test"))
    where = "from the start" if run.resumed is None else f"from step {run.resumed.step:,}"
    checksum = str(task.describe().get("checksum") or "")[:12]
    processes = f"{budget.devices} processes, " if budget.devices > 1 else ""
    num_threads = torch.get_num_threads()
    threads = f", {num_threads} thread{'s' if num_threads > 1 else ''}" if device.type == "cpu" else ""
    kernel = getattr(config.model, "kernel", None)
    if kernel == "auto":
        kernel = auto.in_words(device, run.dtype)
    limit = "" if budget.max_time is None else f", trainer.max_time={budget.max_time}"
    data = [config.data.name, f"{sizes} samples", *([f"checksum {checksum}"] if checksum else [])]
    machine = [f"{processes}{device.type}{threads}", f"precision {budget.precision}"]
    machine += [f"kernel {kernel}"] if kernel else []
    return [
        f"{run.folder}: {config.experiment}, {config.model.name}, {run.num_parameters:,} parameters, {where}",
        f"data {', '.join(data)}; {budget.max_steps:,} steps of batch {budget.batch_size}{limit}, evaluated every "
        f"{budget.eval_every:,}",
        f"{', '.join(machine)}; {loggers}",
    ]
