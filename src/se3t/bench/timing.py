"""Time and peak memory of repeatable work: contenders take turns in one process, warm and synchronised."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from se3t.precision import forward_context, matmul_precision

_LEAST_ROUNDS = 3  # even when the time is up


@runtime_checkable
class Timed(Protocol):
    """Work that can be repeated."""

    def run(self, now: Callable[[], float]) -> tuple[float, ...]:
        """Do it once; seconds of its parts, by the clock ``now``."""


@dataclass(frozen=True)
class Step:
    """A training step: forward, then backward.

    Attributes:
        module: the model; its gradients are cleared first, which counts as a part of forward.
        loss: computes the scalar loss on the step's fixed batch, everything that depends on positions included.
        precision: of the products, a word of :mod:`se3t.precision`.
    """

    module: nn.Module
    loss: Callable[[], Tensor]
    precision: str = "32"

    def run(self, now: Callable[[], float]) -> tuple[float, ...]:
        """Seconds of forward and backward."""
        device = next((value.device for value in self.module.parameters()), torch.device("cpu"))
        with matmul_precision(self.precision):
            start = now()
            self.module.zero_grad(set_to_none=True)
            with forward_context(self.precision, device):
                loss = self.loss()
            middle = now()
            loss.backward()
            return middle - start, now() - middle


@dataclass(frozen=True)
class Call:
    """A function without parts.

    Attributes:
        function: what is called, without arguments.
    """

    function: Callable[[], object]

    def run(self, now: Callable[[], float]) -> tuple[float, ...]:
        """Seconds of the call."""
        start = now()
        self.function()
        return (now() - start,)


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
class Times:
    """Times of repeated work, in seconds.

    Attributes:
        total: of all parts together.
        parts: of each part: forward and backward of a :class:`Step`.
        rounds: how often it was timed.
    """

    total: Spread
    parts: tuple[Spread, ...]
    rounds: int


def time_all(
    work: Mapping[str, Timed], *, repetitions: int, warmup: int, device: str, seconds: float | None = None
) -> dict[str, Times]:
    """Time everything in turns, each round in a rotated order, so that a change in the machine's load affects all.

    Each contender finds the caches filled by another one, unlike in training: everything is done twice in a turn, and
    the second time counts. Python's garbage is collected between the turns, not in them.

    Args:
        work: what to time, by name.
        repetitions: timed rounds, at least 1.
        warmup: rounds before them that are not counted.
        device: of the work; a GPU is synchronised around each part.
        seconds: for everything, in equal shares: a contender that has used up its share has no further turns, after
            one to warm up and three that count; None: no limit.
    """
    names = list(work)
    times: dict[str, list[tuple[float, ...]]] = {name: [] for name in names}
    clock = clock_of(device)
    share = math.inf if seconds is None else seconds / max(1, len(names))
    spent = dict.fromkeys(names, 0.0)
    for number in range(warmup + repetitions if names else 0):
        must = number == 0 or warmup <= number < warmup + _LEAST_ROUNDS
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            if spent[name] > share and not must:
                continue
            begin = clock()
            parts = _turn(work[name], clock)
            spent[name] += clock() - begin
            if number >= warmup:
                times[name].append(parts)
    return {name: _summary(rounds) for name, rounds in times.items()}


def _turn(work: Timed, clock: Callable[[], float]) -> tuple[float, ...]:
    gc.collect()
    gc.disable()
    try:
        work.run(clock)
        return work.run(clock)
    finally:
        gc.enable()


def peak_memory(work: Timed, device: str, rounds: int = 3) -> int:
    """Bytes that some rounds need at their peak, beyond what the process held before; call it in a fresh process.

    On a GPU: torch's allocator. On a CPU: resident memory of the process, as Linux counts it.

    Raises:
        OSError: on a CPU where /proc is missing.
    """
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    else:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts again from what is held now
        before = _resident("VmRSS")
    for _ in range(rounds):
        work.run(clock_of(device))
    return (torch.cuda.max_memory_allocated(device) if on_gpu else _resident("VmHWM")) - before


def clock_of(device: str) -> Callable[[], float]:
    """Seconds, once everything that was asked of the device is done."""
    if torch.device(device).type != "cuda":
        return time.perf_counter

    def now() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return now


def _summary(rounds: list[tuple[float, ...]]) -> Times:
    parts = tuple(Spread.of(list(part)) for part in zip(*rounds, strict=True))
    return Times(Spread.of([sum(seconds) for seconds in rounds]), parts if len(parts) > 1 else (), len(rounds))


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    kilobytes = next(line.split()[1] for line in lines if line.startswith(f"{field}:"))
    return int(kilobytes) * 1024
