"""Time and peak memory of training steps: contenders take turns in one process, warm and synchronised."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Step:
    """A training step that can be repeated.

    Attributes:
        module: the model; its gradients are cleared before every step.
        loss: computes the scalar loss on the step's fixed batch, everything that depends on positions included.
    """

    module: nn.Module
    loss: Callable[[], Tensor]


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of repeated times, in seconds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, times: list[float]) -> Spread:
        """Summary of at least one time."""
        low, _, high = statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else times * 3
        return cls(statistics.median(times), low, high)


@dataclass(frozen=True)
class StepTime:
    """Times of forward, backward, and both together, in seconds."""

    forward: Spread
    backward: Spread
    total: Spread


def time_steps(steps: Mapping[str, Step], *, repetitions: int, warmup: int, device: str) -> dict[str, StepTime]:
    """Time forward and backward of every step.

    The steps take turns, each round in a rotated order, so that a change in the machine's load meets all alike.

    Args:
        steps: what to time, by name.
        repetitions: timed rounds, at least 1.
        warmup: rounds before them that are not counted.
        device: device of the steps; a GPU is synchronised around each part.
    """
    names = list(steps)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for number in range(warmup + repetitions):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            parts = _time_step(steps[name], device)
            if number >= warmup:
                times[name].append(parts)
    return {
        name: StepTime(
            Spread.of([forward for forward, _ in parts]),
            Spread.of([backward for _, backward in parts]),
            Spread.of([forward + backward for forward, backward in parts]),
        )
        for name, parts in times.items()
    }


def peak_memory(step: Step, device: str, num_steps: int = 3) -> int:
    """Bytes that some steps need at their peak, beyond what the process held before; call it in a fresh process.

    On a GPU: torch's allocator. On a CPU: resident memory of the process, as Linux counts it.

    Raises:
        OSError: on a CPU where /proc is missing.
    """
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    else:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts again from what is held now
        before = _resident("VmRSS")
    for _ in range(num_steps):
        _time_step(step, device)
    after = torch.cuda.max_memory_allocated(device) if torch.device(device).type == "cuda" else _resident("VmHWM")
    return after - before


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    kilobytes = next(line.split()[1] for line in lines if line.startswith(f"{field}:"))
    return int(kilobytes) * 1024


def _time_step(step: Step, device: str) -> tuple[float, float]:
    step.module.zero_grad(set_to_none=True)
    start = _now(device)
    loss = step.loss()
    middle = _now(device)
    loss.backward()
    return middle - start, _now(device) - middle


def _now(device: str) -> float:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
