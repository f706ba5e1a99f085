"""One step of two processes against the same step of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from se3t.runs.names import CHECKPOINTS
from se3t.training import checkpoint as ckpt


def content_of(run: Path) -> dict[str, Any]:
    return ckpt.read_checkpoint(ckpt.step_path(run / CHECKPOINTS, 1)).content


def gradients(run: Path) -> list[torch.Tensor]:
    """Of the first step, from Adam's first moment: m = (1 − β₁) g."""
    (state,) = (optimiser["state"] for optimiser in content_of(run)["optimizer_states"])
    return [10 * state[number]["exp_avg"] for number in sorted(state)]


def assert_same_step(alone: Path, together: Path, *, least: float, tolerance: float) -> None:
    """Runs of one and of two processes have taken the same first step.

    Args:
        alone, together: their folders.
        least: some gradient is larger, so that equality says something.
        tolerance: of gradients.
    """
    assert alone != together
    pairs = list(zip(gradients(alone), gradients(together), strict=True))
    assert max(float(left.abs().max()) for left, _ in pairs) > least
    assert max(float((left - right).abs().max()) for left, right in pairs) < tolerance
    first, second = (content_of(run)["state_dict"] for run in (alone, together))
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=1e-6, atol=1e-6)
