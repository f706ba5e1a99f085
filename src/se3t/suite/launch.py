"""Where jobs run: processes of this machine here; other launchers have the same two methods. Imports no torch."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, runtime_checkable

from se3t.suite.jobs import Job

GRACE_SECONDS = 10.0
"""How long a process may take to stop before it is killed."""
FOR_ALL = ("resume=true", "trainer.progress=false")
"""Overrides that every job of many gets: they do not change the training."""


@runtime_checkable
class Handle(Protocol):
    """Work that was started."""

    def poll(self) -> int | None:
        """Its exit status, negative for the signal that ended it; None while it runs."""

    def stop(self) -> None:
        """End it and what it started, and wait for that. What it has saved stays."""


@runtime_checkable
class Launcher(Protocol):
    """Starts jobs somewhere."""

    def start(self, job: Job, log: Path) -> Handle:
        """Start a job, whose output is appended to the file ``log``."""


class LocalHandle:
    """A process group of this machine.

    Args:
        process: its first process.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def poll(self) -> int | None:
        """Exit status of the first process, or None."""
        return self.process.poll()

    def stop(self) -> None:
        """SIGTERM to the group, and SIGKILL where that is not enough."""
        if self.poll() is not None:
            return  # its number may belong to another process by now
        self._signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(GRACE_SECONDS)
        self._signal(signal.SIGKILL)  # also the processes that it started
        self.process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)


class LocalLauncher:
    """Every job is a process of this machine that ends with this one, in a process group of its own.

    Args:
        threads: of torch in every job, where a job does not say; None leaves torch's choice.
        overrides: settings that every job gets besides its own, such as ``logger.group=table1``.
    """

    def __init__(self, threads: int | None = None, overrides: Sequence[str] = ()) -> None:
        self.threads, self.overrides = threads, tuple(overrides)

    def start(self, job: Job, log: Path) -> LocalHandle:
        """Start ``se3t train`` with the overrides of a job."""
        arguments, environment = line_of(job, self.overrides, self.threads)
        return start_process(arguments, log, environment)


def line_of(job: Job, overrides: Sequence[str], threads: int | None) -> tuple[tuple[str, ...], dict[str, str]]:
    """The arguments behind ``se3t`` that train one of many jobs, and variables of its process.

    Args:
        job: what to train.
        overrides: that every job gets besides its own.
        threads: of torch, where the job does not say; None leaves torch's choice.
    """
    limit = [f"trainer.threads={threads}"] if threads and job.config.trainer.threads is None else []
    threads = job.config.trainer.threads or threads
    arguments = ("train", *job.overrides, *overrides, *limit, *FOR_ALL)
    return arguments, {"OMP_NUM_THREADS": str(threads)} if threads else {}


def start_process(arguments: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> LocalHandle:
    """Start ``se3t <arguments>`` as a process that ends with this one.

    Args:
        arguments: the command and its arguments.
        log: file that its output is appended to, below a line with the time.
        environment: variables that it gets besides those of this process.
    """
    return spawn(
        [sys.executable, "-m", "se3t.cli.child", *arguments], log, environment or {}, shlex.join(["se3t", *arguments])
    )


def spawn(arguments: Sequence[str], log: Path, environment: Mapping[str, str], title: str) -> LocalHandle:
    """Start a program that ends with this process, see :mod:`se3t.cli.child`.

    Linux sends it the signal when the thread that has started it ends, not the process: call this from a thread that
    lives as long as the work.

    Args:
        arguments: the program and its arguments.
        log: file that its output is appended to.
        environment: variables that it gets besides those of this process.
        title: what the log calls it.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        file.write(f"--- {datetime.now(UTC).isoformat(timespec='seconds')}  {title}\n".encode())
        file.flush()
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment, "SE3T_PARENT": str(os.getpid())},
            start_new_session=True,
        )
    return LocalHandle(process)
