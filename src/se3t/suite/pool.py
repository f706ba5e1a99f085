"""Many jobs on a few workers: finished ones are skipped, interrupted ones resume, a failure stops no other job. Imports
no torch.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from se3t.errors import BusyError, UserError
from se3t.runs import RunFolder
from se3t.signals import advice, interrupted_by_signals, interruption, name_of
from se3t.suite.jobs import Job
from se3t.suite.launch import GRACE_SECONDS, Handle, Launcher, LocalLauncher, start_process

POLL_SECONDS = 0.2
STOP_SECONDS = 2 * GRACE_SECONDS
"""How long the end of all jobs may take after a signal."""
LOGS = "logs"
_MOST_READ = 65_536  # bytes of the end of a log

Status: TypeAlias = Literal["finished", "failed", "stopped"]


class Ended(NamedTuple):
    """A job that is no longer worked on: how it ended, its log, and for a failed one the reason."""

    job: Job
    status: Status
    log: Path
    reason: str = ""


@dataclass
class Outcome:
    """The outcome of many jobs.

    Attributes:
        finished: ``result.json`` of each that is finished, in the order of the jobs.
        failed: how the others ended.
    """

    finished: list[Path] = field(default_factory=list)
    failed: list[Ended] = field(default_factory=list)


class Watch:
    """Takes the events of a pool, and ignores them; views are derived from it. A context around the work."""

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: Any) -> None:
        return

    def preparing(self, store: Path) -> None:
        """Data are prepared that jobs wait for."""

    def started(self, job: Job) -> None:
        """A job runs."""

    def blocked(self, job: Job) -> None:
        """Another process is training this run; the job waits for it."""

    def ended(self, ended: Ended) -> None:
        """A job is no longer worked on."""

    def tick(self, running: Sequence[Job]) -> None:
        """Called several times a second with the running jobs."""


@dataclass
class _Work:
    handle: Handle
    log: Path
    begin: int  # where in the log the output of this time begins

    def reason(self, status: int) -> str:
        return ending(self.log, self.begin, status)


class Pool:
    """Running jobs and jobs that wait for a worker. Call :meth:`step` until ``is_idle``: work is done there only.

    Args:
        launcher: where they run.
        workers: how many at a time.
        watch: takes the events.
    """

    def __init__(self, launcher: Launcher, workers: int, watch: Watch) -> None:
        self.launcher, self.workers, self.watch = launcher, workers, watch
        self._waiting: list[Job] = []
        self._running: dict[Path, tuple[Job, _Work]] = {}
        self._preparing: dict[Path, _Work] = {}
        self._unprepared: dict[Path, tuple[Path, str]] = {}
        self._told: set[Path] = set()

    @property
    def is_idle(self) -> bool:
        """Whether no job is left."""
        return not (self._waiting or self._running)

    @property
    def num_free(self) -> int:
        """Workers that have nothing to do, even if all that waits could start."""
        return self.workers - len(self._running) - len(self._waiting)

    @property
    def running(self) -> list[Job]:
        """Running jobs."""
        return [job for job, _ in self._running.values()]

    def submit(self, job: Job) -> None:
        """Add a job; it starts in its turn."""
        self._waiting.append(job)

    def step(self) -> list[Ended]:
        """Check the running jobs, start those that can start.

        Returns:
            Jobs that have ended since, including those that were finished already.
        """
        ended: list[Ended] = []
        for one in chain(self._collect(), self._start()):
            self.watch.ended(one)  # before what starts in its place
            ended.append(one)
        self.watch.tick(self.running)
        return ended

    def stop(self, job: Job) -> None:
        """End one job, whether it runs or waits; :meth:`step` does not return it."""
        self._waiting = [other for other in self._waiting if other != job]
        if (entry := self._running.pop(job.folder, None)) is not None:
            entry[1].handle.stop()
            self.watch.ended(Ended(job, "stopped", entry[1].log))

    def close(self) -> None:
        """End all processes. Checkpoints stay, and the same jobs resume from them."""
        works = [*(work for _, work in self._running.values()), *self._preparing.values()]
        self._waiting, self._running, self._preparing = [], {}, {}
        if works:
            with ThreadPoolExecutor(len(works)) as threads:  # all grace periods at the same time
                list(threads.map(lambda work: work.handle.stop(), works))

    # --- ends ---------------------------------------------------------------------------------------------------------

    def _collect(self) -> Iterator[Ended]:
        for store, work in list(self._preparing.items()):
            if (status := work.handle.poll()) is not None:
                del self._preparing[store]
                if status != 0 or not store.exists():
                    self._unprepared[store] = (work.log, f"its data cannot be prepared: {work.reason(status)}")
        for folder, (job, work) in list(self._running.items()):
            if (status := work.handle.poll()) is not None:
                del self._running[folder]
                yield from self._judge(job, work, status)

    def _judge(self, job: Job, work: _Work, status: int) -> Iterator[Ended]:
        reason = "" if status == 0 else work.reason(status)
        if _is_finished(job):  # even if the process failed after that: the next command counts it as finished, too
            yield Ended(job, "finished", work.log)
        elif status == BusyError.status:  # another process took it between the check and the start
            self._waiting.insert(0, job)
        else:
            yield Ended(job, "failed", work.log, reason or f"it ended without a result in {job.result}")

    # --- starts -------------------------------------------------------------------------------------------------------

    def _start(self) -> Iterator[Ended]:
        for job in list(self._waiting):
            if len(self._running) + len(self._preparing) >= self.workers:
                return
            ended = self._consider(job)
            if ended is not None:
                self._waiting.remove(job)
                yield ended

    def _consider(self, job: Job) -> Ended | None:
        """Start a job, or leave it waiting, or say why it has ended without a start."""
        log = log_of(job)
        try:
            if job.folder in self._running or self._is_blocked(job):
                return None
            if job.state == "finished":
                return Ended(job, "finished", log)
            if not job.store.exists():
                return self._prepare(job)
            begin = log.stat().st_size if log.exists() else 0
            work = _Work(self.launcher.start(job, log), log, begin)
        except (UserError, OSError) as error:
            return Ended(job, "failed", log, str(error))
        self._waiting.remove(job)
        self._running[job.folder] = (job, work)
        self.watch.started(job)
        return None

    def _is_blocked(self, job: Job) -> bool:
        try:
            RunFolder(job.folder).require_free()
        except BusyError:
            if job.folder not in self._told:
                self._told.add(job.folder)
                self.watch.blocked(job)
            return True
        return False

    def _prepare(self, job: Job) -> Ended | None:
        """Start preparing the data of a job, once for all jobs that share them."""
        if job.store in self._unprepared:
            log, reason = self._unprepared[job.store]
            return Ended(job, "failed", log, reason)
        if job.store not in self._preparing:
            log = Path(job.config.runs) / LOGS / f"data-{job.config.data.name}-{job.store.stem}.log"
            begin = log.stat().st_size if log.exists() else 0
            arguments = [*shlex.split(job.data.prepare_command(job.config.data))[1:], "trainer.progress=false"]
            self._preparing[job.store] = _Work(start_process(arguments, log), log, begin)
            self.watch.preparing(job.store)
        return None


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Let a signal end the work on many jobs, with time for them to save, and say how to resume."""
    how = "rerun the command to resume from the newest checkpoints; finished runs are skipped"
    with interrupted_by_signals(STOP_SECONDS), advice(lambda: how):
        yield


def run_jobs(
    jobs: Sequence[Job],
    launcher: Launcher | None = None,
    workers: int = 1,
    watch: Watch | None = None,
    note: Callable[[Sequence[Job], Sequence[Ended]], object] = lambda running, ended: None,
) -> Outcome:
    """Run all jobs that are not finished, each once, in their order.

    Args:
        jobs: of the same run folder only the first counts.
        launcher: where they run; None: on this machine.
        workers: how many at a time.
        watch: takes the events.
        note: takes, a few times a second, the running jobs and those that have ended since.

    Raises:
        Interrupted: at Ctrl-C, SIGTERM or SIGHUP, after all processes have ended.
    """
    unique = list({job.folder: job for job in reversed(jobs)}.values())[::-1]
    done = {job.folder for job in unique if _is_finished(job)}
    outcome = Outcome()
    with stopped_by_signals(), watch or Watch() as told:
        pool = Pool(launcher or LocalLauncher(), workers, told)
        for job in unique:
            if job.folder not in done:
                pool.submit(job)
        try:
            while not pool.is_idle:
                all_ended = pool.step()
                done |= {ended.job.folder for ended in all_ended if ended.status == "finished"}
                outcome.failed += [ended for ended in all_ended if ended.status != "finished"]
                note(pool.running, all_ended)
                if not pool.is_idle:
                    time.sleep(POLL_SECONDS)
        finally:
            pool.close()
    outcome.finished = [job.result for job in unique if job.folder in done]
    return outcome


def _is_finished(job: Job) -> bool:
    try:
        return job.state == "finished"
    except UserError:
        return False  # reported when its turn comes


# --- logs -------------------------------------------------------------------------------------------------------------


def log_of(job: Job) -> Path:
    """File of the output of a job: <runs>/logs/<experiment>-<model>-<name of the run folder>.log."""
    name = f"{job.config.experiment}-{job.config.model.name}-{job.folder.name}.log"
    return Path(job.config.runs) / LOGS / name


def ending(log: Path, begin: int, status: int) -> str:
    """Why a process failed, in one sentence: the last one in its log, or the signal that ended it.

    Args:
        log: of its output.
        begin: where in the log it begins.
        status: as :meth:`Handle.poll` has it.
    """
    if status < 0 or interruption(status) is not None:
        return ended_by(-status if status < 0 else status - 128)
    try:
        with log.open("rb") as file:
            file.seek(max(begin, file.seek(0, os.SEEK_END) - _MOST_READ))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError as error:
        return f"exit status {status}, and its log cannot be read ({error.strerror})"
    lines = [line.strip() for line in lines if line.strip() and not line.startswith("---")]
    told = [number for number, line in enumerate(lines) if line.startswith("se3t: ")]
    if told and not any(line.startswith("Traceback") for line in lines[told[-1] :]):
        return " ".join(lines[told[-1] :]).removeprefix("se3t: ")
    return lines[-1] if lines else f"exit status {status}, without output"


def ended_by(number: int) -> str:
    """The sentence about a process that a signal has ended."""
    name = name_of(number)
    return f"ended by {name}" + (", perhaps out of memory" if name == "SIGKILL" else "")
