"""Texts about the trainings of a table: the plan, the first line, the failures. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from se3t.config.fields import steps_asked
from se3t.suite.costs import Estimates, kind, makespan
from se3t.suite.jobs import Job
from se3t.suite.pool import Ended
from se3t.training.pace import duration


def plan_lines(which: str, jobs: Sequence[Job], estimates: Estimates, workers: int) -> Iterator[str]:
    """The plan, line by line: every training, the sum, and what to know of the times."""
    seconds = {job.folder: estimates.seconds(job) for job in jobs}
    rows = [(_state(job), _steps(job), _time(job, seconds[job.folder]), job.command) for job in jobs]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for state, steps, took, command in rows:
        yield f"{state:<{widths[0]}}  {steps:>{widths[1]}}  {took:>{widths[2]}}  {command}"
    todo = [job for job in jobs if job.state != "finished"]
    yield ""
    yield count(which, jobs, todo)
    if todo:
        yield _total([seconds[job.folder] for job in todo], estimates.preparing(), workers, estimates.threads)
        yield from _sources(todo, estimates)
        yield from _data_notes(which, todo, estimates)


def _state(job: Job) -> str:
    state = job.state
    return f"interrupted at step {job.saved_step:,}" if state == "interrupted" else state


def _steps(job: Job) -> str:
    return steps_asked(job.steps, job.config.trainer.max_time) if job.steps else "no training"


def _time(job: Job, seconds: float | None) -> str:
    return "–" if job.state == "finished" else "?" if seconds is None else duration(seconds)


def count(which: str, jobs: Sequence[Job], todo: Sequence[Job]) -> str:
    """The number of trainings of a table, finished, interrupted and new."""
    states = [job.state for job in jobs]
    parts = [f"{states.count(state)} {state}" for state in ("finished", "interrupted", "new") if state in states]
    return f"{_name(which)}: {len(jobs)} trainings, {', '.join(parts)}" + ("" if todo else "; nothing is left to do")


def _total(seconds: Sequence[float | None], preparing: Sequence[float], workers: int, threads: int | None) -> str:
    known = [one for one in seconds if one is not None]
    where = f"{workers} at a time" + ("" if threads is None else f", {threads} CPU thread{'s' * (threads > 1)} each")
    unknown = len(seconds) - len(known)
    if not known:
        return f"time: unknown ({where})"
    rest = f", plus {unknown} of unknown time" if unknown else ""
    return f"time: about {duration(makespan(preparing, workers) + makespan(known, workers))}{rest} ({where})"


def _sources(todo: Sequence[Job], estimates: Estimates) -> Iterator[str]:
    sources = [cost.source for job in todo if (cost := estimates.costs.get(kind(job.config))) is not None]
    told = {
        "records": "from run records of a machine like this one",
        "measured": "from a few training steps measured now on random data of the same sizes",
    }
    parts = [f"{sources.count(key)} {text}" for key, text in told.items() if key in sources]
    if parts:
        yield f"times: {'; '.join(parts)}; they change with the load of the machine and with early stopping"
    yield from trouble(estimates)


def trouble(estimates: Estimates) -> Iterator[str]:
    """Why some times are unknown, where a measurement has failed."""
    if estimates.trouble:
        yield f"some times are unknown, because their measurement failed: {estimates.trouble}"


def _data_notes(which: str, todo: Sequence[Job], estimates: Estimates) -> Iterator[str]:
    missing = {job.store: job for job in todo if not job.store.exists()}
    for job in missing.values():
        if job.data.obstacle(job.config.data) is None:
            seconds = estimates.preparation.get(job.store)
            part = "not part of the time" if seconds is None else f"about {duration(seconds)} of the time"
            yield f"first ({part}): {job.data.prepare_command(job.config.data)}"
    if (reason := obstacle_of(which, todo)) is not None:
        yield f"not yet possible: {reason}"


def obstacle_of(which: str, jobs: Sequence[Job]) -> str | None:
    """Why the data of a training are unavailable, and what else can be done; None if all are available."""
    for job in jobs:
        if job.state != "finished" and (reason := job.data.obstacle(job.config.data)) is not None:
            return f"table {which}: {reason}; {job.data.remedy}"
    return None


def opening(which: str, jobs: Sequence[Job], todo: Sequence[Job], seconds: float | None, workers: int) -> str:
    """The line before the first training: how much there is to do, and how long it takes where that is known."""
    left = f", about {duration(seconds)}" if seconds else ""
    return count(which, jobs, todo) + (f"; {workers} at a time{left}" if todo else "")


def failures(failed: Sequence[Ended], total: int) -> Iterator[str]:
    """The failed trainings, grouped by reason, line by line."""
    if failed:
        yield f"{len(failed)} of {total} trainings failed; rerun the command to try them again:"
    lines: dict[tuple[Path, str], list[str]] = {}
    for failure in failed:
        lines.setdefault((failure.log, failure.reason), []).append(f"  {failure.job.command}")
    for (log, reason), commands in lines.items():
        yield from commands
        yield f"    {reason} (log: {log})"


def _name(which: str) -> str:
    return f"table {which}" if which.isdigit() else which
