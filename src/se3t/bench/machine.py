"""The machine that a measurement runs on."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch

from se3t.errors import UserError


def require_device(device: str) -> None:
    """Make sure that torch can use the device.

    Raises:
        UserError: when it cannot, or knows no such device.
    """
    if device.partition(":")[0] not in ("cpu", "cuda"):
        raise UserError(f"device {device!r}: expected cpu or cuda")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"device {device!r}: torch sees no CUDA device; use cpu (`se3t doctor` says what there is)")


def describe(device: str) -> dict[str, Any]:
    """Machine and versions, for the record."""
    return {
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else f"CPU, {_processor()}",
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
