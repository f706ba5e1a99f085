"""Options of all benchmarks, and the machine that they run on."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from se3t.bench.child import Peak, peak_memory_elsewhere
from se3t.bench.report import Report, until_stopped
from se3t.bench.timing import Timed, Times, time_all
from se3t.bench.workloads import Workload
from se3t.errors import UserError

_QUICK_GRAPHS = 2
_SEEDS = 2**63  # a signed 64-bit integer


@dataclass(frozen=True)
class Options:
    """How a measurement is made.

    Attributes:
        device: ``cpu`` or ``cuda``.
        threads: of torch on the CPU; None: torch's default.
        repetitions: timed rounds; None: the benchmark's default.
        seconds: for all timed together, see :func:`se3t.bench.timing.time_all`; None: the benchmark's default.
        memory: whether peak memory is measured, each contender in a process of its own.
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
        if not -_SEEDS <= self.seed < _SEEDS:
            raise UserError(f"seed={self.seed}: expected a whole number between -2**63 and 2**63 - 1")

    @property
    def record(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    def workloads(self, names: Sequence[str], num_graphs: int | None = None) -> list[Workload]:
        """Workloads by name, each once, with the device and the seed.

        Args:
            names: see :data:`se3t.bench.workloads.WORKLOADS`.
            num_graphs: graphs of a batch; None: as many as the workload has, two in a quick run.

        Raises:
            UserError: for an unknown name.
        """
        count = num_graphs or (_QUICK_GRAPHS if self.quick else None)
        return [Workload.of(name, count, device=self.device, seed=self.seed) for name in dict.fromkeys(names)]

    @contextmanager
    def in_force(self) -> Iterator[dict[str, Any]]:
        """Sets the number of threads, and restores it afterwards; gives the description of the machine."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads or before)
        try:
            yield describe(self.device)
        finally:
            torch.set_num_threads(before)

    @contextmanager
    def measuring(self, report: Report) -> Iterator[None]:
        """Record machine and options in a report while it is filled.

        Once it has rows, a signal ends the measuring and is noted in its failures.
        """
        report.settings = {**self.record, **report.settings}
        with self.in_force() as report.machine, until_stopped(report.rows, report.failures):
            yield
        report.notes[:] = dict.fromkeys(report.notes)

    def time(self, work: Mapping[str, Timed], *, repetitions: int, seconds: float = 60.0) -> dict[str, Times]:
        """Time work in turns.

        Args:
            work: by name.
            repetitions: rounds unless the options say otherwise; a quick run has three.
            seconds: limit unless the options say otherwise, 5 in a quick run.
        """
        rounds = self.repetitions or (3 if self.quick else repetitions)
        warmup = 1 if self.quick or rounds < 5 else 2
        limit = self.seconds or (5.0 if self.quick else seconds)
        return time_all(work, repetitions=rounds, warmup=warmup, device=self.device, seconds=limit)

    def peak_memory(
        self, maker: str, arguments: Mapping[str, Any], what: str, notes: list[str], rounds: int = 3
    ) -> dict[str, int | None]:
        """Field ``peak_memory`` of a row, by :meth:`measure_peak`; no field in a quick run or with ``memory`` off.

        Args:
            maker: see :func:`se3t.bench.child.peak_memory_elsewhere`.
            arguments: of the maker.
            what: is measured, for the note.
            notes: receives the reason where the process failed.
            rounds: how often the work is done.
        """
        if self.quick or not self.memory:
            return {}
        peak = self.measure_peak(maker, arguments, rounds)
        if peak.reason:
            notes.append(f"{what}: peak memory is missing: its process {peak.reason}.")
        return {"peak_memory": peak.bytes}

    def measure_peak(self, maker: str, arguments: Mapping[str, Any], rounds: int = 3) -> Peak:
        """Peak memory in another process, in a quick run too."""
        return peak_memory_elsewhere(maker, arguments, device=self.device, threads=self.threads, rounds=rounds)


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
