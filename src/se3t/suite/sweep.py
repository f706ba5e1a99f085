"""Sweeps: every combination of a grid, or as many trials of a search as asked for. Rerunning it resumes. Imports
no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from se3t.errors import BusyError, UserError
from se3t.files import write_atomically
from se3t.reporting.sweep_record import SweepRecord, Trial, TrialRun, read_record, write_record
from se3t.runs import RunFolder
from se3t.screen import say
from se3t.suite.costs import Estimates, estimate, makespan
from se3t.suite.jobs import Job
from se3t.suite.launch import Launcher
from se3t.suite.pool import Ended, Watch, log_of, run_jobs
from se3t.suite.progress import Clock, view
from se3t.suite.search import Search, Tell
from se3t.suite.spaces import Interval
from se3t.suite.specification import Specification
from se3t.suite.trials import blank_record, space_settings, value_of, words_of

SPECIFICATION = "specification.yaml"
GROUP = "logger.group"
_UNUSED_SEED = 2**31 - 1  # of a training like those of a search, without a run record


def plan(spec: Specification) -> SweepRecord:
    """The trials and where they stand: of a grid all, of a search those that were tried. Writes nothing."""
    if spec.sweep.search == "grid":
        return Grid(spec).record
    try:
        record = read_record(spec.folder)
    except UserError:
        return blank_record(spec)
    record.asked = spec.sweep.trials
    return record


def first_job(spec: Specification) -> Job:
    """A training like all of the sweep: the first valid combination of a grid, or the settings of ``conf``.

    Raises:
        UserError: when none is valid.
    """
    if spec.sweep.search == "tpe":
        return spec.job({}, spec.sweep.seeds[0])
    refused: UserError | None = None
    for parameters in spec.combinations():
        try:
            return spec.job(parameters, spec.sweep.seeds[0])
        except UserError as error:
            refused = refused or error
    assert refused is not None
    raise refused


def seconds_left(spec: Specification, record: SweepRecord, workers: int, threads: int | None) -> float | None:
    """How long the rest of a sweep takes here without early stopping; None where unknown.

    Args:
        spec: of the sweep.
        record: its plan.
        workers: trainings at a time.
        threads: of torch in each.
    """
    if spec.sweep.search == "grid":
        jobs = [cell.job for cell in Grid(spec).cells.values() if cell.run.state != "finished"]
    else:
        ended = sum(trial.state in ("finished", "pruned", "failed") for trial in record.trials)
        jobs = [spec.job({}, _UNUSED_SEED)] * (max(0, spec.sweep.trials - ended) * len(spec.sweep.seeds))
    if not jobs:
        return 0.0
    estimates = estimate(jobs, workers, threads, always=False)
    known = [seconds for job in jobs if (seconds := estimates.seconds(job)) is not None]
    return makespan(known, workers) if len(known) == len(jobs) else None


def watch_of(spec: Specification, console: Console, workers: int) -> Watch:
    """The view of all trainings of a grid; for a search a printer of what its trials wait for."""
    if spec.sweep.search == "tpe":
        return _Remarks(console)
    cells = Grid(spec).cells
    jobs = [cell.job for cell in cells.values() if cell.run.state != "finished"]

    def name(job: Job) -> str:
        return f"{words_of(cells[job.folder].trial.parameters)}, seed {job.config.seed}"

    return view(console, jobs, Clock(jobs, Estimates({}, 0.0, None), workers), name)


class _Remarks(Watch):
    """Prints what trials wait for."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def preparing(self, store: Path) -> None:
        """Print a line."""
        say(self.console, f"preparing {store}")

    def blocked(self, job: Job) -> None:
        """Print a line."""
        say(self.console, f"waiting: another process is training {job.folder}")


def run(spec: Specification, launcher: Launcher, workers: int, watch: Watch, tell: Tell) -> SweepRecord:
    """Run the unfinished trainings of a sweep.

    Args:
        spec: what to run.
        launcher: where.
        workers: how many trainings at a time.
        watch: takes the events of the trainings.
        tell: takes a line for every trial of a search that has ended.

    Returns:
        All trials; failures are among them.

    Raises:
        UserError: when nothing can be run: no combination is valid, the folder cannot be written, the sweep is running
            already.
        Interrupted: at Ctrl-C, SIGTERM or SIGHUP, after all trainings have stopped.
    """
    if spec.sweep.search == "grid":
        grid = Grid(spec)
        with kept(spec):
            return grid.run(launcher, workers, watch)
    first_job(spec)
    with kept(spec):
        return Search(spec, launcher, workers, watch, tell).run()


@contextmanager
def kept(spec: Specification) -> Iterator[None]:
    """The folder of a sweep, held against other processes, with the file that says what it is.

    Raises:
        UserError: it cannot be written.
        BusyError: another process runs this sweep.
    """
    RunFolder(spec.folder).require_writable()
    try:
        RunFolder(spec.folder).require_free()
    except BusyError as error:
        raise BusyError(f"{spec.folder}: another process runs this sweep; wait for it to end or stop it") from error
    with RunFolder(spec.folder).exclusive():
        _write_specification(spec)
        yield


def _write_specification(spec: Specification) -> None:
    """What was asked for, in the form of a file of ``conf/sweep``."""
    import yaml

    sweep = spec.sweep
    parameters = {
        name: space_settings(space) if isinstance(space, Interval) else list(space.values)
        for name, space in sweep.parameters.items()
    }
    content = asdict(sweep) | {"parameters": parameters, "defaults": list(spec.overrides)}
    for name in ("name", *(("trials", "pruning") if sweep.search == "grid" else ())):
        del content[name]
    content["experiments"] = {spec.experiment: {}}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    write_atomically(spec.folder / SPECIFICATION, lambda file: file.write(text.encode()))


# --- grids ------------------------------------------------------------------------------------------------------------


@dataclass
class _Cell:
    """One training of a grid: its trial, its entry there, and the job."""

    trial: Trial
    run: TrialRun
    job: Job


class Grid:
    """All combinations of a grid.

    Args:
        spec: of the grid.

    Raises:
        UserError: when no combination is valid, or two are the same run.
    """

    def __init__(self, spec: Specification) -> None:
        self.spec, self.record = spec, blank_record(spec)
        self.cells: dict[Path, _Cell] = {}
        for number, parameters in enumerate(spec.combinations()):
            self.record.trials.append(self._trial(Trial(number, parameters)))
        if not self.cells:
            raise UserError(self.record.trials[0].reason)

    def _trial(self, trial: Trial) -> Trial:
        for seed in self.spec.sweep.seeds:
            try:
                job = self.spec.job(trial.parameters, seed)
            except UserError as error:
                trial.state, trial.reason = "failed", str(error)
                return trial
            cell = _Cell(trial, TrialRun(seed, str(job.folder), log=str(log_of(job))), job)
            if job.folder in self.cells:
                other = words_of(self.cells[job.folder].trial.parameters)
                raise UserError(f"{words_of(trial.parameters)} and {other} are the same run; leave one of them out")
            self.cells[job.folder] = cell
            trial.runs.append(cell.run)
            self._look(cell)
        return trial

    def run(self, launcher: Launcher, workers: int, watch: Watch) -> SweepRecord:
        """Run the unfinished trainings."""
        self._write()
        try:
            run_jobs([cell.job for cell in self.cells.values()], launcher, workers, watch, self._note)
        finally:
            for cell in self.cells.values():
                if cell.run.state == "running":
                    cell.run.state = "waiting"
                if cell.run.state != "finished":
                    self._look(cell)  # another process may have finished it since
            self._write()
        return self.record

    def _note(self, running: Sequence[Job], ended: Sequence[Ended]) -> None:
        """Keep ``trials.json`` up to date."""
        started = [cell for job in running if (cell := self.cells[job.folder]).run.state != "running"]
        for cell in started:
            cell.run.state, cell.run.reason = "running", ""
            _settle(cell.trial)
        for one in ended:
            cell = self.cells[one.job.folder]
            cell.run.state, cell.run.reason = "failed" if one.status == "failed" else "waiting", one.reason
            self._look(cell)  # a result counts, however the process ended
        if started or ended:
            self._write()

    def _look(self, cell: _Cell) -> None:
        """Take the objective of a run that is finished."""
        try:
            if cell.job.state == "finished":
                cell.run.value = value_of(cell.job, self.spec.sweep.objective)
                cell.run.state, cell.run.reason = "finished", ""
        except UserError as error:
            cell.run.state, cell.run.reason = "failed", str(error)
        _settle(cell.trial)

    def _write(self) -> None:
        write_record(self.spec.folder, self.record)


def _settle(trial: Trial) -> None:
    """The state of a trial is that of its runs."""
    states = {run.state for run in trial.runs}
    trial.state = next((state for state in ("running", "failed", "waiting") if state in states), "finished")
