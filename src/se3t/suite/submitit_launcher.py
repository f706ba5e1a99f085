"""Trainings as jobs of SLURM, through submitit; the only place that imports it, when it is needed.

A job runs ``se3t train … resume=true``. One that is preempted or runs out of time is queued again and resumes from its
last checkpoint.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from se3t.errors import UserError, did_you_mean
from se3t.files import write_atomically
from se3t.suite.jobs import Job
from se3t.suite.launch import LocalHandle, line_of, start_process

MAX_TIMEOUTS = 100
"""How often a job may run out of time and be queued again."""
GRACE_SECONDS = 120.0
"""How long a job waits for the signal that queues it again, after its training was told to stop."""
STOP_SECONDS = 20.0
JOBS = "jobs.json"
_UNDER_WAY = ("PENDING", "RUNNING", "REQUEUED", "CONFIGURING", "COMPLETING", "SUSPENDED", "PREEMPTED", "READY")
_LOCAL_MINUTES = 60 * 24 * 365  # its executor ends jobs after two minutes unless told otherwise


@dataclass
class Training:
    """The work of a job, pickled by submitit. It may be called again when the first call was interrupted.

    Attributes:
        arguments: behind ``se3t``.
        folder: to work in.
        log: file that the output is appended to.
        result: file that the training leaves behind when it is finished.
        environment: further variables.
        stops: whether SIGTERM ends it; to a job of SLURM that comes before the signal that queues it again.
    """

    arguments: tuple[str, ...]
    folder: str
    log: str
    result: str
    environment: dict[str, str]
    stops: bool = False
    handle: LocalHandle | None = None

    def __call__(self) -> int:
        """Train, and return the exit status."""
        if self.stops:
            signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
        os.chdir(self.folder)
        self.handle = start_process(self.arguments, Path(self.log), self.environment)
        try:
            while (status := self.handle.poll()) is None:
                time.sleep(0.2)
            if status in (0, -signal.SIGTERM, 128 + signal.SIGTERM) and not Path(self.result).exists():
                # The cluster preempts the job: it signals the training first, then this process.
                time.sleep(GRACE_SECONDS)
                return -signal.SIGTERM
            return status
        finally:
            self.handle.stop()

    def checkpoint(self) -> Any:
        """Called by submitit before the job is preempted: end the training, and return the work to be queued again."""
        from submitit.helpers import DelayedSubmission

        if self.handle is not None:
            self.handle.stop()
        return DelayedSubmission(replace(self, handle=None))


class SubmititHandle:
    """A job that was submitted.

    Args:
        job: of submitit.
        log: file of its output.
        is_local: whether it is a process of this machine.
    """

    def __init__(self, job: Any, log: Path, is_local: bool) -> None:
        self.job, self.log, self.is_local = job, log, is_local
        self._status: int | None = None

    def poll(self) -> int | None:
        """Its exit status; 1 where the job has ended without one, with the reason in its log; None before."""
        if self._status is None and self.job.done():
            try:
                self._status = int(self.job.result())
            except Exception as error:  # an error of submitit or of the job
                self._explain(error)
                self._status = 1
        return self._status

    def stop(self) -> None:
        """Cancel the job, and wait until it has ended."""
        if self._status is not None or self.job.done():
            return
        deadline = time.monotonic() + STOP_SECONDS
        self._cancel()
        while not self.job.done(force_check=True) and time.monotonic() < deadline:
            time.sleep(0.5)
            if self.is_local:
                self._cancel()  # a process that has just started may have missed it
        self._status = -signal.SIGTERM

    def _cancel(self) -> None:
        if self.is_local:
            with suppress(ProcessLookupError):
                os.kill(int(self.job.job_id), signal.SIGTERM)  # cancelling through submitit prints a traceback
        else:
            self.job.cancel(check=False)

    def _explain(self, error: Exception) -> None:
        lines = [line.strip() for line in str(error).splitlines() if line.strip(" -")]
        with self.log.open("a", encoding="utf-8") as file:
            file.write("\n".join([*lines, f"se3t: job {self.job.job_id} has ended without a result: {lines[0]}\n"]))


class SubmititLauncher:
    """Submits jobs.

    Args:
        folder: for what submitit writes; on a cluster its nodes must see it.
        cluster: slurm, or local: processes of this machine, to try what would be submitted.
        settings: of SLURM by the names of ``SETTINGS``, as typed.
        title: of the jobs in the queue.
        overrides: settings of ``se3t train`` that every job gets besides its own.

    Raises:
        UserError: submitit or SLURM is missing, a setting is unknown or wrong.
    """

    def __init__(
        self,
        folder: Path,
        cluster: str,
        settings: Mapping[str, str],
        title: str = "se3t",
        overrides: Sequence[str] = (),
    ) -> None:
        self.folder, self.cluster, self.overrides = folder.absolute(), cluster, tuple(overrides)
        self.parameters = parameters(settings)
        self.title, self.threads = title, self.parameters.get("cpus_per_task")
        self._submitit = require_submitit()
        if cluster == "slurm" and self._submitit.SlurmExecutor.affinity() < 0:
            raise UserError("launcher slurm: srun is not available here; use a cluster, or try --launcher submitit")

    def start(self, job: Job, log: Path) -> SubmititHandle:
        """Submit a job, or find the one of an earlier process that is still in the queue."""
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()
        known = self._known()
        if (under_way := self._under_way(known.get(str(job.folder)))) is not None:
            return SubmititHandle(under_way, log, is_local=False)
        self.folder.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{job.folder.name}-", dir=self.folder))
        executor = self._executor(folder, job)
        submitted = executor.submit(self._training(job, log))
        self._remember({**known, str(job.folder): [str(folder), submitted.job_id]})
        return SubmititHandle(submitted, log, self.cluster == "local")

    def _training(self, job: Job, log: Path) -> Training:
        arguments, environment = line_of(job, self.overrides, self.threads)
        folder, result = str(Path.cwd()), str(job.result.absolute())
        return Training(arguments, folder, str(log.absolute()), result, environment, self.cluster == "local")

    def _executor(self, folder: Path, job: Job) -> Any:
        if self.cluster == "local":
            executor = self._submitit.LocalExecutor(folder, max_num_timeout=MAX_TIMEOUTS)
            executor.update_parameters(
                timeout_min=self.parameters.get("time", _LOCAL_MINUTES),
                gpus_per_node=self.parameters.get("gpus_per_node", 0),
            )
            return executor
        executor = self._submitit.SlurmExecutor(folder, max_num_timeout=MAX_TIMEOUTS)
        executor.update_parameters(
            **self.parameters,
            job_name=self.title,
            additional_parameters={"requeue": True},
            setup=[f"# {job.command}"],
        )
        return executor

    # --- jobs of earlier processes --------------------------------------------------------------------------------

    def _known(self) -> dict[str, list[str]]:
        with suppress(OSError, ValueError):
            jobs: dict[str, list[str]] = json.loads((self.folder / JOBS).read_text())
            return jobs
        return {}

    def _remember(self, jobs: Mapping[str, Sequence[str]]) -> None:
        text = json.dumps(jobs, indent=1) + "\n"
        write_atomically(self.folder / JOBS, lambda file: file.write(text.encode()))

    def _under_way(self, known: Sequence[str] | None) -> Any:
        """The job of SLURM that was submitted before, when it waits or runs; None otherwise. Those of this machine end
        with their training, for which the pool waits.
        """
        if known is None or self.cluster != "slurm":
            return None
        job = self._submitit.SlurmJob(folder=known[0], job_id=known[1])
        job.done(force_check=True)
        return job if str(job.state).upper().split(" ")[0] in _UNDER_WAY else None


def require_submitit() -> Any:
    """The package submitit.

    Raises:
        UserError: it is not installed.
    """
    try:
        import submitit
    except ImportError as error:
        raise UserError("this launcher needs the package submitit; install it: pip install 'se3t[slurm]'") from error
    return submitit


# --- settings ---------------------------------------------------------------------------------------------------------


def _minutes(text: str) -> int:
    """Minutes of 90, 1:30:00 or 2-12:00:00, as sbatch reads them."""
    days, _, clock = text.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    if days:
        hours, minutes, seconds = (*parts, 0, 0)[:3]
    else:
        hours, minutes, seconds = ((0, *parts, 0) if len(parts) < 3 else parts)[:3]
    if len(parts) > 3 or min(parts) < 0:
        raise ValueError(text)
    return max(1, (int(days or 0) * 24 + hours) * 60 + minutes + (seconds > 0))


def _memory(text: str) -> str:
    if not re.fullmatch(r"\d+[KMGT]?B?", text, re.IGNORECASE):
        raise ValueError(text)
    return text.upper().removesuffix("B")


def _count(text: str) -> int:
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


SETTINGS: dict[str, tuple[str, Callable[[str], Any], str]] = {
    "partition": ("partition", str, "a name"),
    "time": ("time", _minutes, "minutes, H:MM:SS or D-HH:MM:SS"),
    "gpus": ("gpus_per_node", _count, "a whole number"),
    "cpus": ("cpus_per_task", _count, "a whole number"),
    "memory": ("mem", _memory, "a size such as 16G"),
    "account": ("account", str, "a name"),
    "qos": ("qos", str, "a name"),
    "constraint": ("constraint", str, "features of nodes"),
    "exclude": ("exclude", str, "names of nodes"),
}
"""Settings ``slurm.<name>=…``: the name of sbatch (with _ for -), the parser, and the expected form."""


def parameters(settings: Mapping[str, str]) -> dict[str, Any]:
    """Settings as submitit takes them.

    Raises:
        UserError: for one that is unknown or wrong.
    """
    values: dict[str, Any] = {}
    for name, text in settings.items():
        if name not in SETTINGS:
            raise UserError(f"slurm.{name}: no such setting; {did_you_mean(name, SETTINGS)}")
        target, read, expected = SETTINGS[name]
        try:
            values[target] = read(text)
        except ValueError as error:
            raise UserError(f"slurm.{name}={text}: expected {expected}") from error
        if not text:
            raise UserError(f"slurm.{name}: is empty; expected {expected}")
    return values
