"""What all benchmarks can be told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch

from se3t.bench.child import Peak, peak_memory_elsewhere
from se3t.bench.machine import require_device
from se3t.bench.timing import Timed, Times, time_all
from se3t.errors import UserError


@dataclass(frozen=True)
class Options:
    """How a measurement is made.

    Attributes:
        device: ``cpu`` or ``cuda``.
        threads: of torch on the CPU; None: as many as torch likes.
        repetitions: timed rounds; None: what the benchmark finds right.
        seconds: after so long no further round begins, from the third on; None: what the benchmark finds right.
        memory: whether peak memory is measured, each in a process of its own.
        quick: smaller and fewer, for a look.
        seed: of everything random.
    """

    device: str = "cpu"
    threads: int | None = None
    repetitions: int | None = None
    seconds: float | None = None
    memory: bool = True
    quick: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        require_device(self.device)
        for name in ("threads", "repetitions", "seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UserError(f"{name}={value}: expected a number above 0")

    @property
    def record(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @property
    def with_memory(self) -> bool:
        """Whether peak memory is measured: not in a quick run."""
        return self.memory and not self.quick

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Sets the number of threads, and the old one again afterwards."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads or before)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def time(self, work: Mapping[str, Timed], *, repetitions: int, seconds: float = 60.0) -> dict[str, Times]:
        """Time work in turns.

        Args:
            work: by name.
            repetitions: rounds unless the options say otherwise; a quick run has three.
            seconds: limit unless the options say otherwise.
        """
        rounds = self.repetitions or (3 if self.quick else repetitions)
        warmup = 1 if self.quick or rounds < 5 else 2
        limit = self.seconds or (5.0 if self.quick else seconds)
        return time_all(work, repetitions=rounds, warmup=warmup, device=self.device, seconds=limit)

    def peak(self, maker: str, arguments: Mapping[str, Any], rounds: int = 3) -> Peak:
        """Peak memory, see :func:`se3t.bench.child.peak_memory_elsewhere`; nothing where it is not wanted."""
        return self.weigh(maker, arguments, rounds) if self.with_memory else Peak(None)

    def weigh(self, maker: str, arguments: Mapping[str, Any], rounds: int = 3) -> Peak:
        """Peak memory, wanted or not."""
        return peak_memory_elsewhere(maker, arguments, device=self.device, threads=self.threads, rounds=rounds)
