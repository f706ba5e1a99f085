"""A search: trials that depend on what earlier ones have measured, stopped early where they perform badly. Imports no
torch.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from se3t.config.settings import flatten
from se3t.errors import UserError
from se3t.reporting.sweep_record import Trial, TrialRun, read_record, write_record
from se3t.runs import RunFolder
from se3t.runs.names import METRICS
from se3t.suite.jobs import Job
from se3t.suite.launch import Launcher
from se3t.suite.pool import Ended, Pool, Watch, log_of, stopped_by_signals
from se3t.suite.spaces import Scalar
from se3t.suite.specification import Specification
from se3t.suite.study import Study
from se3t.suite.trials import blank_record, value_of, words_of

POLL_SECONDS = 0.3

Tell = Callable[[str], object]
"""Takes a line for the user."""


@dataclass
class _Active:
    """A running trial; its seeds are trained one after another."""

    trial: Trial
    jobs: list[Job]
    index: int = 0
    size: int = -1  # of the measurements that were read last
    reported: set[int] = field(default_factory=set)

    @property
    def job(self) -> Job:
        return self.jobs[self.index]

    @property
    def run(self) -> TrialRun:
        return self.trial.runs[self.index]


class Search:
    """The trials of a search, including the running ones.

    Args:
        spec: what to search.
        launcher: where trainings run.
        workers: how many at a time.
        watch: takes the events of its trainings.
        tell: takes a line for every trial that has ended.

    Raises:
        UserError: when the database of trials cannot be used.
    """

    def __init__(self, spec: Specification, launcher: Launcher, workers: int, watch: Watch, tell: Tell) -> None:
        self.spec, self.tell, self.watch = spec, tell, watch
        self.record = blank_record(spec)
        budget = spec.settings["trainer"]
        self.study = Study(
            spec.folder,
            spec.title,
            spec.sweep,
            eval_every=budget["eval_every"],
            max_steps=budget["max_steps"],
            first=_first(spec),
        )
        self.pool = Pool(launcher, workers, watch)
        self.active: list[_Active] = []
        self.held: list[Trial] = []
        self._load()

    def run(self) -> Any:
        """Run until there are as many trials as asked for.

        Returns:
            The record of the sweep.
        """
        with stopped_by_signals(), self.watch:
            try:
                for trial in self.study.unfinished():
                    self._take(trial)
                while self._propose() or self.active or self.held:
                    for ended in self.pool.step():
                        self._ended(ended)
                    for active in list(self.active):
                        self._follow(active)
                    if self.active:
                        time.sleep(POLL_SECONDS)
            finally:
                self.pool.close()
                for active in self.active:
                    active.trial.state = active.run.state = "waiting"
                self._write()
        return self.record

    # --- trials ---------------------------------------------------------------------------------------------------

    def _load(self) -> None:
        """Load the trials of earlier processes: all are in the database, their details in the record."""
        try:
            known = {trial.number: trial for trial in read_record(self.spec.folder).trials}
        except UserError:
            known = {}
        for trial, value in self.study.ended():
            kept = known.get(trial.number)
            if kept is None or kept.state != trial.state:
                kept = self._with_runs(trial, value)
            self.record.trials.append(kept)
        self._write()

    def _with_runs(self, trial: Trial, value: float | None) -> Trial:
        """A trial whose runs are missing in the record; their results are in the run folders."""
        for job in self._jobs(trial) if trial.state == "finished" else ():
            measured = value_of(job, self.spec.sweep.objective) if job.result.exists() else value
            trial.runs.append(TrialRun(job.config.seed, str(job.folder), "finished", measured, log=str(log_of(job))))
        return trial

    def _jobs(self, trial: Trial) -> list[Job]:
        return [self.spec.job(trial.parameters, seed) for seed in self.spec.sweep.seeds]

    def _propose(self) -> bool:
        """Fill free workers with trials that were held back, then with new ones; returns whether there was one."""
        started = False
        busy = {active.job.folder for active in self.active}
        for trial in list(self.held):
            if Path(trial.runs[0].folder) not in busy:
                self.held.remove(trial)
                self._begin(trial, self._jobs(trial))
                started = True
        while self.pool.num_free > len(self.held) and len(self.record.trials) < self.spec.sweep.trials:
            self._take(self.study.ask())
            started = True
        return started

    def _take(self, trial: Trial) -> None:
        self.record.trials.append(trial)
        self.record.trials.sort(key=lambda trial: trial.number)
        try:
            jobs = self._jobs(trial)
            trial.runs = [TrialRun(job.config.seed, str(job.folder), log=str(log_of(job))) for job in jobs]
        except UserError as error:
            trial.reason = str(error)
            self._end(trial, "failed")
            return
        if any(active.job.folder == jobs[0].folder for active in self.active):
            self.held.append(trial)  # another trial is running the same training
        else:
            self._begin(trial, jobs)

    def _begin(self, trial: Trial, jobs: list[Job]) -> None:
        active = _Active(trial, jobs, reported={step for step, _ in trial.history})
        self.active.append(active)
        # An earlier process may have ended between the measurement and what follows from it.
        if trial.history and jobs[0].state != "finished" and self.study.should_stop(trial.number):
            self._prune(active)
            return
        self._submit(active)

    def _submit(self, active: _Active) -> None:
        active.trial.state = active.run.state = "running"
        self.pool.submit(active.job)
        self._write()

    # --- what happens ---------------------------------------------------------------------------------------------

    def _ended(self, ended: Ended) -> None:
        active = next(active for active in self.active if active.job.folder == ended.job.folder)
        self._follow(active, prune=False)
        if active not in self.active:
            return
        try:
            if active.job.state != "finished":  # a result counts, however the process ended
                raise UserError(ended.reason)
            active.run.value = value_of(active.job, self.spec.sweep.objective)
        except UserError as error:
            active.run.state, active.run.reason, active.trial.reason = "failed", str(error), str(error)
            self.active.remove(active)
            self._end(active.trial, "failed", again=True)
            return
        active.run.state = "finished"
        active.index += 1
        if active.index < len(active.jobs):
            self._submit(active)
            return
        self.active.remove(active)
        self._end(active.trial, "finished")

    def _follow(self, active: _Active, prune: bool = True) -> None:
        """Report new values of the objective of the first seed; stop a trial that performs badly."""
        if active.index > 0:
            return
        for step, value in self._new_measurements(active):
            active.reported.add(step)
            active.trial.history.append((step, value))
            self.study.report(active.trial.number, step, value)
            if prune and self.study.should_stop(active.trial.number):
                self.pool.stop(active.job)
                self._prune(active)
                return

    def _prune(self, active: _Active) -> None:
        self.active.remove(active)
        active.run.state = "pruned"
        self._end(active.trial, "pruned")

    def _new_measurements(self, active: _Active) -> list[tuple[int, float]]:
        path = active.job.folder / METRICS
        size = path.stat().st_size if path.exists() else -1
        if size == active.size:
            return []
        active.size = size
        lines = [line for line in RunFolder(active.job.folder).read_metrics() if line["kind"] == "valid"]
        pairs = [(line["step"], line.get(self.record.metric)) for line in lines if line["step"] not in active.reported]
        return [(step, float(value)) for step, value in pairs if isinstance(value, int | float)]

    def _end(self, trial: Trial, state: str, *, again: bool = False) -> None:
        trial.state = state
        self._write()  # before the database: what has ended there has its details here
        self.study.end(trial, again=again)
        if state == "failed":
            outcome = f"failed: {trial.reason}"
        elif state == "pruned":
            step, value = trial.history[-1]
            outcome = f"stopped after step {step}, {self.record.metric} {value:.4g}"
        else:
            outcome = f"{self.record.metric} {trial.value:.4g}"
        best = next(iter(self.record.ranking()), None)
        tail = "" if best is None else f"; best: trial {best.number}, {best.value:.4g}"
        self.tell(f"trial {trial.number}: {words_of(trial.parameters)}: {outcome}{tail}")

    def _write(self) -> None:
        write_record(self.spec.folder, self.record)


def _first(spec: Specification) -> dict[str, Scalar] | None:
    """The settings of ``conf`` as the first trial, where the search may propose them: no winner is worse than that."""
    settings, parameters = dict(flatten(spec.settings)), spec.sweep.parameters
    if any(settings.get(name) not in space for name, space in parameters.items()):
        return None
    return {name: settings.get(name) for name in parameters}
