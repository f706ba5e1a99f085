"""One view of many trainings: the progress of all together, and of each that runs. Imports no torch."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from rich.console import Console
from rich.progress import Progress, TaskID

from se3t.experiments import TaskSpec, experiment
from se3t.runs.names import METRICS
from se3t.screen import bar_columns, say
from se3t.suite.costs import Estimates, kind, makespan
from se3t.suite.jobs import Job
from se3t.suite.pool import Ended, Watch
from se3t.training.pace import duration

_MOST_READ = 65_536  # bytes of the end of metrics.jsonl


Name: TypeAlias = Callable[[Job], str]
"""Gives a job its name in a view."""


class Reading(NamedTuple):
    """How far a run is: its newest step and its newest validation."""

    step: int
    note: str


def read(job: Job) -> Reading:
    """How far a run is, by the end of its ``metrics.jsonl`` and its checkpoints."""
    lines = list(_newest_lines(job.folder / METRICS))
    step = max([line["step"] for line in lines], default=0)
    valid = [line for line in lines if line.get("kind") == "valid"]
    return Reading(min(max(step, job.saved_step), job.steps), headline(job.task, valid[-1]) if valid else "")


def headline(task: TaskSpec, values: Mapping[str, Any]) -> str:
    """The main metric of a validation, such as "accuracy 61.2 %"."""
    for metric in map(task.metric, (*task.progress, "loss")):
        if isinstance(value := values.get(metric.name), int | float):
            shown = f"{metric.factor * value:.1f} {metric.shown_unit}" if metric.shown_unit else f"{value:.3g}"
            return f"{metric.label or metric.name} {shown}"
    return ""


def title(job: Job) -> str:
    """The title of a training: system, data, seed."""
    config = job.config
    words = [_system(config.model.name, getattr(config.task, "height", False))]
    if getattr(config.model, "ablation", "none") != "none":
        words.append(f"without {config.model.ablation}")
    words.append(experiment(config.experiment).describe(config))
    return f"{' '.join(filter(None, words))}, seed {config.seed}"


class Clock:
    """The remaining time: from the steps since the start, and from the estimates before the first ones.

    Args:
        jobs: all of them.
        estimates: from before.
        workers: how many run at a time.
    """

    def __init__(self, jobs: Sequence[Job], estimates: Estimates, workers: int) -> None:
        self.estimates, self.workers = estimates, workers
        self.left = {job.folder: job for job in jobs}
        self._begun: dict[Path, tuple[float, int]] = {}
        self._pace: dict[str, float] = {}

    def begin(self, job: Job) -> None:
        """A job has started."""
        self._begun[job.folder] = (time.monotonic(), job.saved_step)

    def look(self, job: Job, step: int) -> None:
        """A running job is at ``step``."""
        begun, first = self._begun[job.folder]
        if step > first:
            self._pace[kind(job.config)] = (time.monotonic() - begun) / (step - first)

    def last_step(self, job: Job) -> int:
        """The step that ends a job, as far as that is known."""
        return self.estimates.last_step(job, self._pace.get(kind(job.config)))

    def end(self, job: Job) -> None:
        """A job is no longer worked on."""
        self.left.pop(job.folder, None)

    def seconds(self, steps: Mapping[Path, int]) -> float | None:
        """Seconds until all is done; None while too little is known.

        Args:
            steps: how far running jobs are.
        """
        seconds = [self._seconds(job, steps.get(job.folder)) for job in self.left.values()]
        known = [one for one in seconds if one is not None]
        if len(known) < len(seconds):
            return None
        return makespan(self.estimates.preparing(), self.workers) + makespan(known, self.workers)

    def _seconds(self, job: Job, step: int | None) -> float | None:
        pace = self._pace.get(kind(job.config))
        if pace is not None:
            return pace * max(0, self.last_step(job) - (job.saved_step if step is None else step))
        return 0.0 if job.steps == 0 else self.estimates.seconds(job)


class Lines(Watch):
    """A line at every start and end, for files and pipes.

    Args:
        console: where to write.
        jobs: all jobs that are to do.
        clock: gives the remaining time.
        name: of a job, for the reader.
    """

    def __init__(self, console: Console, jobs: Sequence[Job], clock: Clock, name: Name = title) -> None:
        self.console, self.clock, self.name = console, clock, name
        self.total, self.num_ended = len(jobs), 0
        self.steps: dict[Path, int] = {}
        self._before: dict[Path, Reading] = {}

    def preparing(self, store: Path) -> None:
        """Print a line."""
        self.say(f"preparing {store}")

    def started(self, job: Job) -> None:
        """Print a line."""
        self.begin(job)
        if saved := job.saved_step:
            self.say(f"continued at step {saved:,}: {self.name(job)}")
        else:
            self.say(f"started: {self.name(job)}")

    def blocked(self, job: Job) -> None:
        """Print a line."""
        self.say(f"waiting: {self.name(job)}: another process is training this run ({job.folder})")

    def ended(self, ended: Ended) -> None:
        """Print a line."""
        self.clock.end(ended.job)
        self.steps.pop(ended.job.folder, None)
        self.num_ended += 1
        reason = f": {ended.reason}" if ended.reason else ""
        self.say(f"{ended.status}: {self.name(ended.job)}{reason}  ({self.summary()})")

    def tick(self, running: Sequence[Job]) -> None:
        """Look how far running jobs are."""
        for job in running:
            self.seen(job, self._reading(job))

    def begin(self, job: Job) -> None:
        """A job has started."""
        self.clock.begin(job)
        self._before[job.folder] = read(job)

    def _reading(self, job: Job) -> Reading:
        """How far a running job is. Lines past the checkpoint, left by a killed process, do not count until the file
        changes.
        """
        reading = read(job)
        if reading == self._before.get(job.folder):
            return reading._replace(step=min(job.saved_step, job.steps))
        self._before.pop(job.folder, None)
        return reading

    def seen(self, job: Job, reading: Reading) -> None:
        """A running job is that far."""
        self.steps[job.folder] = reading.step
        self.clock.look(job, reading.step)

    def summary(self) -> str:
        """How many of how many, and the time that is left."""
        seconds = self.clock.seconds(self.steps)
        left = "" if seconds is None or self.num_ended == self.total else f", about {duration(seconds)} left"
        return f"{self.num_ended} of {self.total} done{left}"

    def say(self, text: str) -> None:
        """Write a line."""
        say(self.console, text)


class Bars(Lines):
    """A bar for all trainings, and one for each that runs.

    Args:
        console: a terminal.
        jobs: all jobs that are to do.
        clock: gives the remaining time.
        name: of a job, for the reader.
    """

    def __init__(self, console: Console, jobs: Sequence[Job], clock: Clock, name: Name = title) -> None:
        super().__init__(console, jobs, clock, name)
        self._sizes = {job.folder: max(1, clock.last_step(job)) for job in jobs}
        self._done = {job.folder: min(job.saved_step, job.steps) for job in jobs}
        self._tasks: dict[Path, TaskID] = {}
        self._bars = Progress(*bar_columns(console), console=console)
        done, size = sum(self._done.values()), sum(self._sizes.values())
        self._total = self._bars.add_task("all trainings", total=size, completed=done, note="")

    def __enter__(self) -> Bars:
        self._bars.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._bars.stop()

    def started(self, job: Job) -> None:
        """Add its bar."""
        self.begin(job)
        if job.folder not in self._tasks:  # a job that another process was training starts twice
            self._tasks[job.folder] = self._bars.add_task(self.name(job), total=self._size(job), note="starting")

    def ended(self, ended: Ended) -> None:
        """Take its bar away; say why where it failed."""
        job = ended.job
        self._done[job.folder] = self._sizes.get(job.folder, 0)
        if (task := self._tasks.pop(job.folder, None)) is not None:
            self._bars.remove_task(task)
        if ended.status == "failed":
            super().ended(ended)
            return
        self.clock.end(job)
        self.steps.pop(job.folder, None)
        self.num_ended += 1

    def seen(self, job: Job, reading: Reading) -> None:
        """Move its bar."""
        super().seen(job, reading)
        self._done[job.folder] = reading.step
        size = self._size(job)
        done = f"{reading.step:,}/{size:,}" if reading.step else "" if reading.note else "starting"
        note = "  ".join(filter(None, (done, reading.note)))
        self._bars.update(self._tasks[job.folder], completed=reading.step, total=size, note=note)

    def _size(self, job: Job) -> int:
        return max(1, self.clock.last_step(job), self.steps.get(job.folder, 0))

    def tick(self, running: Sequence[Job]) -> None:
        """Move all bars."""
        super().tick(running)
        self._bars.update(self._total, completed=sum(self._done.values()), note=self.summary())


def view(console: Console, jobs: Sequence[Job], clock: Clock, name: Name = title) -> Lines:
    """Bars in a terminal, lines elsewhere."""
    return (Bars if console.is_terminal else Lines)(console, jobs, clock, name)


def _newest_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Complete lines of the end of a file; damaged ones are skipped, since a view must not end a training."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _MOST_READ))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return
    complete = text.split("\n")[1 if size > _MOST_READ else 0 : -1]
    for line in complete:
        with suppress(ValueError):
            values = json.loads(line)
            if isinstance(values, dict) and isinstance(values.get("step"), int):
                yield values


@cache
def _system(model: str, height: bool) -> str:
    from se3t.reporting.published import system_name

    return system_name(model, height)
