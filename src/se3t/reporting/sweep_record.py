"""The record of a sweep: ``trials.json`` in its folder, with all trials, and which of them is best."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from se3t.errors import UserError
from se3t.files import write_atomically
from se3t.runs import RunFolder, read_json
from se3t.runs.files import require_sealed, seal
from se3t.runs.names import DIGEST, RESULT

TRIALS = "trials.json"
STATES = ("finished", "running", "waiting", "pruned", "failed")
_EXPECTED = "the record of a sweep"


@dataclass
class TrialRun:
    """One training of a trial.

    Attributes:
        seed: of it.
        folder: of its run record.
        state: one of ``STATES``.
        value: of the objective, once it is finished.
        reason: why it failed.
        log: file of its output.
    """

    seed: int
    folder: str
    state: str = "waiting"
    value: float | None = None
    reason: str = ""
    log: str = ""


@dataclass
class Trial:
    """One combination of parameters, trained with every seed.

    Attributes:
        number: of the trial, from 0.
        parameters: value of each.
        state: one of ``STATES``.
        runs: one for each seed.
        history: objective of the first seed by training step, as far as it was watched.
        reason: why no run of it started.
    """

    number: int
    parameters: dict[str, Any]
    state: str = "waiting"
    runs: list[TrialRun] = field(default_factory=list)
    history: list[tuple[int, float]] = field(default_factory=list)
    reason: str = ""

    @property
    def values(self) -> list[float]:
        """Objectives of the seeds that are finished."""
        return [run.value for run in self.runs if run.value is not None]

    @property
    def value(self) -> float | None:
        """Mean over all seeds; None before all are finished."""
        return statistics.fmean(self.values) if self.state == "finished" and self.values else None

    @property
    def spread(self) -> float | None:
        """Standard deviation over seeds; None for a single one."""
        return statistics.stdev(self.values) if self.state == "finished" and len(self.values) > 1 else None


@dataclass
class SweepRecord:
    """A sweep and its trials.

    Attributes:
        title: name and hash.
        description: a sentence.
        experiment: of all runs.
        search: grid or tpe.
        metric: objective, of validation.
        direction: minimize or maximize.
        parameters: values, or low and high, of each; ``log``: on a logarithmic scale.
        seeds: of every trial.
        asked: number of trials that were asked for.
        words: overrides of ``se3t train`` that all runs share.
        trials: in the order of their numbers.
    """

    title: str
    description: str
    experiment: str
    search: str
    metric: str
    direction: str
    parameters: dict[str, dict[str, Any]]
    seeds: list[int]
    asked: int
    words: list[str]
    trials: list[Trial] = field(default_factory=list)

    def ranking(self) -> list[Trial]:
        """Finished trials, the best first."""
        sign = -1 if self.direction == "maximize" else 1
        finished = [(trial.value, trial) for trial in self.trials if trial.value is not None]
        return [trial for _, trial in sorted(finished, key=lambda pair: (sign * pair[0], pair[1].number))]

    def count(self, state: str) -> int:
        """Number of trials in a state."""
        return sum(trial.state == state for trial in self.trials)


def write_record(folder: Path, record: SweepRecord) -> None:
    """Write ``trials.json`` with its digest, atomically."""
    text = json.dumps(seal(asdict(record)), indent=1) + "\n"
    write_atomically(folder / TRIALS, lambda file: file.write(text.encode()))


def read_record(folder: Path) -> SweepRecord:
    """Read ``trials.json``.

    Raises:
        UserError: when it is missing, damaged, changed or something else.
    """
    path = folder / TRIALS
    if not path.is_file():
        raise UserError(
            f"{folder}: holds no {TRIALS}; expected the folder of a sweep: <runs>/sweeps/<experiment>/<name>-<hash>"
        )
    content = read_json(path, _EXPECTED)
    require_sealed(content, str(path))
    try:
        given = {name: value for name, value in content.items() if name != DIGEST}
        return SweepRecord(**{**given, "trials": [_trial(item) for item in content["trials"]]})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: is not {_EXPECTED} ({error}); run the sweep again") from error


def unverified(folder: Path, record: SweepRecord) -> list[Path]:
    """Files of a sweep without a digest, as earlier versions wrote them: its record, and the results of its trials
    where they still exist.
    """
    results = [Path(run.folder) / RESULT for trial in record.trials for run in trial.runs if run.state == "finished"]
    return [path for path in (folder / TRIALS, *results) if path.is_file() and DIGEST not in read_json(path)]


def _trial(content: Mapping[str, Any]) -> Trial:
    history = [(int(step), float(value)) for step, value in content["history"]]
    return Trial(**{**content, "runs": [TrialRun(**run) for run in content["runs"]], "history": history})


def require_results(record: SweepRecord) -> list[str]:
    """Compare the objectives of finished runs with their results, where these still exist. A trial whose result was
    changed becomes a failed one.

    Returns:
        A sentence for each that differs.
    """
    left_out = []
    for trial in record.trials:
        for run in trial.runs:
            path = Path(run.folder) / RESULT
            try:
                if run.state == "finished" and path.exists():
                    _require_value(run, path, record.metric)
            except UserError as error:
                left_out.append(f"trial {trial.number}: {error}")
                run.state, run.value, run.reason, trial.state = "failed", None, str(error), "failed"
    return left_out


def _require_value(run: TrialRun, path: Path, metric: str) -> None:
    value = objective_of(RunFolder(path.parent).read_result(), metric, path)
    if value != run.value:
        raise UserError(
            f"{path}: {metric} of validation is {value:g}, but {run.value} in {TRIALS}; run the sweep again"
        )


def trials_among(folders: Iterable[Path]) -> dict[Path, str]:
    """The run folders that are trials of a sweep, with its title.

    A run that was started alone, and only reused by a sweep, is not one of its trials: it is not in its group.

    Args:
        folders: ``<runs>/<experiment>/<model>/<name>``.
    """
    by_place = {folder.absolute(): folder for folder in folders}
    titles: dict[Path, str] = {}
    for root in {place.parents[2] for place in by_place if len(place.parents) > 2}:
        for path in sorted(root.glob(f"sweeps/*/*/{TRIALS}")):
            try:
                record = read_record(path.parent)
            except UserError:
                continue  # the commands of sweeps report it
            for run in (run for trial in record.trials for run in trial.runs):
                folder = by_place.get(root.joinpath(*Path(run.folder).parts[-3:]))
                if folder is not None and _has_group_of(folder, record):
                    titles[folder] = record.title
    return titles


def trials_left_out(trials: Mapping[Path, str]) -> str:
    """A note that a page or a table is without these trials."""
    titles = sorted(set(trials.values()))
    names = ", ".join(titles[:3]) + (", …" if len(titles) > 3 else "")
    return f"{len(trials)} trials of sweeps are left out ({names}); --trials shows them"


def _has_group_of(folder: Path, record: SweepRecord) -> bool:
    """Whether a run was started in the group of a sweep; True where its record does not tell."""
    try:
        group = read_json(folder / RESULT)["config"]["logger"]["group"]
    except (UserError, KeyError, TypeError):
        return True
    return group == record.title or any(override.startswith("logger.group=") for override in record.words)


def find_sweep(name: str, runs: Path) -> Path:
    """The folder of a sweep.

    Args:
        name: its name, or the name of the sweep where there is one such below ``runs``, or that folder.
        runs: folder of the run records.

    Raises:
        UserError: when there is none, or several.
    """
    sweeps = sorted(path.parent for path in runs.glob(f"sweeps/*/*/{TRIALS}"))
    same = [path for path in sweeps if name in (path.name, path.name.rpartition("-")[0])]
    if len(same) == 1:
        return same[0]
    if same:
        raise UserError(f"{name}: several sweeps have that name; choose one: {', '.join(map(str, same))}")
    if Path(name).is_dir():
        return Path(name)
    there = f"there are {', '.join(map(str, sweeps))}" if sweeps else f"there is none in {runs / 'sweeps'}"
    raise UserError(f"{name}: no such sweep; {there}")


def objective_of(result: Mapping[str, Any], metric: str, origin: Path) -> float:
    """The objective of a finished run: a metric of validation, at the step that validation chose.

    Raises:
        UserError: when the run has no such metric, or it is not finite.
    """
    valid = result.get("valid")
    valid = valid if isinstance(valid, Mapping) else {}
    if metric not in valid:
        raise UserError(f"{origin}: validation has no metric {metric!r}; objective.metric is one of {', '.join(valid)}")
    value = valid[metric]
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{origin}: {metric} of validation is {value}, not a finite number")
    return float(value)
