"""Finished runs to be measured again: with the weights that validation chose, on the data of their training."""

from __future__ import annotations

from pathlib import Path

from se3t.errors import UserError
from se3t.runs import RunFolder
from se3t.training import checkpoint as ckpt
from se3t.training.run import Run, build_parts, choose_device


def load_run(folder: Path, found: ckpt.Checkpoint, checksum: str, accelerator: str) -> Run:
    """A run with its data and the weights of a checkpoint, not yet on the device.

    Args:
        folder: of the run.
        found: its checkpoint.
        checksum: of the data that it was trained on.
        accelerator: "auto", "cpu" or "gpu".

    Raises:
        UserError: the data have changed since.
    """
    run = Run.prepare(found.config, RunFolder(folder), build_parts)
    now = run.task.describe()["checksum"]
    if now != checksum:
        raise UserError(
            f"{folder}: was trained on data with checksum {checksum}, and the data now have {now}; "
            "bring back those data"
        )
    ckpt.load_weights(run.model, found.weights, found.path)
    run.device = choose_device(accelerator)
    return run
