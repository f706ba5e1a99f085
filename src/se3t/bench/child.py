"""Peak memory of some work, in a process of its own: ``python -m se3t.bench.child '<JSON>'``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from se3t.nn.kernels import KERNELS

_MARK = "peak bytes:"


@dataclass(frozen=True)
class Peak:
    """Peak memory of a process.

    Attributes:
        bytes: at its peak, beyond what it held before the first round; None where it did not get that far.
        reason: why not.
    """

    bytes: int | None
    reason: str = ""


def peak_memory_elsewhere(
    maker: str, arguments: Mapping[str, Any], *, device: str, threads: int | None = None, rounds: int = 3
) -> Peak:
    """Peak memory of some work, measured in a fresh process.

    Args:
        maker: ``module:function`` that returns the work, see :class:`se3t.bench.timing.Timed`.
        arguments: its keyword arguments, plain values.
        device: of the work.
        threads: of torch; None: as many as torch likes.
        rounds: how often the work is done.
    """
    task = {"maker": maker, "arguments": dict(arguments), "device": device, "threads": threads, "rounds": rounds}
    task["kernels"] = KERNELS  # those that the caller has added, too
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-m", "se3t.bench.child", json.dumps(task)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    for line in reversed(done.stdout.splitlines()):
        if line.startswith(_MARK):
            return Peak(int(line.removeprefix(_MARK)))
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        return Peak(None, f"ended by {name}{', most likely out of memory' if name == 'SIGKILL' else ''}")
    return Peak(None, (done.stderr.strip().splitlines() or [f"ended with status {done.returncode}"])[-1])


def main(arguments: list[str]) -> int:
    """Do the task of the only argument, a JSON object; print the peak as the last line."""
    import torch

    from se3t.allocator import keep_freed_memory
    from se3t.bench.timing import peak_memory

    keep_freed_memory()
    task = json.loads(arguments[0])
    if task["threads"] is not None:
        torch.set_num_threads(task["threads"])
    KERNELS.update(task["kernels"])
    module, _, function = task["maker"].partition(":")
    work = getattr(import_module(module), function)(**task["arguments"])
    sys.stdout.write(f"{_MARK} {peak_memory(work, task['device'], task['rounds'])}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
