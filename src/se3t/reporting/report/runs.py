"""All runs below some folders, finished or not; a damaged one is listed as such and does not stop the others."""

from __future__ import annotations

import fcntl
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from se3t.config.fields import seconds_of, time_in_words
from se3t.experiments import Metric, experiments, molecules
from se3t.experiments.table import MISSING, Estimate
from se3t.reporting.figures.curve_runs import NO_METRICS
from se3t.reporting.published import system_name
from se3t.reporting.reading import require_whole
from se3t.reporting.spelling import number
from se3t.reporting.tables.ablations import ABLATIONS
from se3t.runs import (
    CONFIG,
    FAILURE,
    LOCK,
    METRICS,
    PROVENANCE,
    RESULT,
    TIME,
    ended_in,
    read_config,
    read_json,
    read_metrics,
    read_result,
)

FINISHED, RUNNING, INTERRUPTED, FAILED, DAMAGED = "finished", "running", "interrupted", "failed", "damaged"
STATES = (FINISHED, RUNNING, INTERRUPTED, FAILED, DAMAGED)
VALIDATION = "ᵛ"
"""Sign of a number that was measured on validation."""
ON_VALIDATION = f"{VALIDATION} on validation: of an unfinished run the last there is, or of data without a test split."
ERROR = "equivariance_error"


@dataclass(frozen=True)
class Run:
    """One run folder.

    Attributes:
        state: one of ``STATES``.
        problem: what is wrong with a damaged one, or why a failed one ended.
        steps: done, and asked for; None where unknown.
        max_time: ``trainer.max_time``; "" for no limit.
        ended_by: what has ended the training, as far as the record tells.
        seconds: of training and validation.
        split: what ``metrics`` were measured on; "valid" as long as test has not been measured.
        metrics: of the weights that validation chose; of an unfinished run the last ones there are.
        config: all its settings.
        data: what the record says about the data.
        sessions: where each part of the training comes from; a run that was continued has several.
        changed: when something was last measured, in seconds since 1970.
        is_verified: whether its record has a digest, so that a change of it would show.
    """

    folder: Path
    state: str
    problem: str = ""
    experiment: str = ""
    model: str = ""
    preset: str | None = None
    seed: int | None = None
    steps: tuple[int | None, int | None] = (None, None)
    max_time: str = ""
    ended_by: str = ""
    parameters: int | None = None
    seconds: float | None = None
    split: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    valid: Mapping[str, float] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    sessions: Sequence[Mapping[str, Any]] = ()
    command: str = ""
    changed: float = 0.0
    is_verified: bool = True

    @property
    def height(self) -> bool:
        """Whether heights are part of the input ("+z")."""
        return _mapping(self.config.get("task")).get("height") is True

    @property
    def system(self) -> str:
        """What the paper calls the model, with what changes it."""
        ablation = _text(_mapping(self.config.get("model")).get("ablation"))
        name = _system_name(self.model, self.height)
        return name if ablation in ("none", "") else f"{name}, {ABLATIONS.get(ablation, (ablation,))[0].lower()}"

    @property
    def what(self) -> str:
        """The experiment, with the property that is learned where there are several; own molecules by file and unit."""
        target = _mapping(self.config.get("task")).get("target")
        if (data := _mapping(self.config.get("data"))).get("name") == molecules.DATA.name:
            unit = _text(self.data.get("unit"))
            name = _text(self.data.get("label")) or _text(_mapping(self.config.get("task")).get("column"))
            words = [*filter(None, (Path(_text(data.get("raw"))).stem, name)), *[unit] * (unit not in ("", "1"))]
            return f"molecules: {', '.join(words)}"
        return f"{self.experiment} {target}" if isinstance(target, str) else self.experiment

    @property
    def progress(self) -> str:
        """The steps that were taken, and the budget where they are not all of it."""
        done, asked = self.steps
        if done is None or self.parameters == 0:
            return MISSING
        if self.ended_by == TIME:
            return f"{done:,} in {time_in_words(self.max_time)}"
        limit = f" or {time_in_words(self.max_time)}" if self.max_time and self.state != FINISHED else ""
        return f"{done:,}" if asked in (None, done) else f"{done:,} of {asked:,}{limit}"

    @property
    def headline(self) -> list[tuple[Metric, float]]:
        """What the run is judged by, as it is shown."""
        if self.experiment not in experiments():
            return []
        task = experiments()[self.experiment].task
        return [
            (metric, metric.factor * self.metrics[metric.name])
            for metric in map(task.metric, task.headline)
            if metric.name in self.metrics
        ]

    @property
    def results(self) -> list[str]:
        """What the run is judged by: name, number with the sign of validation, and the unit that the data decide."""
        mark = VALIDATION if self.split == "valid" else ""
        found = []
        for metric, value in self.headline:
            unit = "" if metric.unit else self.units.get(metric.name, "")
            found.append(f"{metric.heading} {number(Estimate(value), mark=mark)} {unit}".rstrip())
        return found

    @property
    def errors(self) -> dict[str, float]:
        """Equivariance errors by what they are of: x, v, or "" where there is only one."""
        return {
            name.removeprefix(ERROR).lstrip("_"): value
            for name, value in self.metrics.items()
            if name.startswith(ERROR)
        }

    @property
    def is_synthetic(self) -> bool:
        """Whether the data are a synthetic stand-in for others."""
        return self.data.get("synthetic") is True


_system_name = cache(system_name)  # the same for many runs, and read from three files


def find_runs(paths: Iterable[Path]) -> list[Run]:
    """Runs in some folders and below, sorted by folder; a file stands for its folder."""
    folders: set[Path] = set()
    for path in paths:
        root = path.parent if path.is_file() else path
        for name in (RESULT, CONFIG):
            folders |= {found.parent for found in root.glob(f"**/{name}") if not _is_hidden(found.relative_to(root))}
    return [read_run(folder) for folder in sorted(folders) if is_run(folder)]


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def is_run(folder: Path) -> bool:
    """Whether a folder is one of a training: an exported model has a ``config.yaml``, too."""
    return any((folder / name).exists() for name in (RESULT, PROVENANCE, METRICS, LOCK))


def read_run(folder: Path) -> Run:
    """One run, as far as its files can be read."""
    try:
        return _finished(folder) if (folder / RESULT).exists() else _unfinished(folder)
    except (OSError, ValueError, OverflowError, RecursionError) as error:
        problem = " ".join(str(error).split())
        return Run(folder, DAMAGED, problem, changed=_last_change(folder), **_known_settings(folder))


def _finished(folder: Path) -> Run:
    """A finished run, whose record is looked at as tables look at it."""
    fields = read_result(folder / RESULT)
    require_whole(fields)
    content = fields.content
    budget, test = _mapping(content.get("budget")), _numbers(content.get("test"))
    valid = _numbers(content.get("valid"))
    return Run(
        folder,
        FINISHED,
        experiment=_text(content.get("experiment")),
        model=_text(content.get("model")),
        preset=_text(content.get("preset")) or None,
        seed=_integer(content.get("seed")),
        steps=(_integer(budget.get("steps_done")), _integer(budget.get("max_steps"))),
        max_time=_text(budget.get("max_time")),
        ended_by=TIME if ended_in(fields) else _text(budget.get("ended_by")),
        parameters=_integer(content.get("parameters")),
        seconds=_number(budget.get("seconds")),
        split="test" if test else "valid",
        metrics=test or valid,
        valid=valid,
        units={str(name): str(unit) for name, unit in _mapping(content.get("units")).items()},
        config=_mapping(content.get("config")),
        data=_mapping(content.get("data")),
        sessions=_sessions(folder / PROVENANCE),
        command=_text(content.get("command")),
        changed=_last_change(folder),
        is_verified=fields.is_verified,
    )


def _unfinished(folder: Path) -> Run:
    settings = _settings(folder)
    config = settings["config"]
    sessions = _sessions(folder / PROVENANCE)
    lines = read_metrics(folder / METRICS) if (folder / METRICS).exists() else []
    valid = [line for line in lines if line["kind"] == "valid"]
    last = _numbers(valid[-1]) if valid else {}
    asked = _integer(_mapping(config.get("trainer")).get("max_steps"))
    metrics = {name: value for name, value in last.items() if name not in NO_METRICS}
    state, problem = _state(folder)
    return Run(
        folder,
        state,
        problem,
        **settings,
        steps=(max((line["step"] for line in lines), default=0), asked),
        max_time=_time(_mapping(config.get("trainer")).get("max_time")),
        seconds=last.get("seconds"),
        split="valid" if metrics else "",
        metrics=metrics,
        valid=metrics,
        sessions=sessions,
        command=_text(sessions[-1].get("command")) if sessions else "",
        changed=_last_change(folder),
    )


def _settings(folder: Path) -> dict[str, Any]:
    """What ``config.yaml`` says of a run."""
    config = read_config(folder / CONFIG)
    return {
        "experiment": _text(config.get("experiment")),
        "model": _text(_mapping(config.get("model")).get("name")),
        "preset": _text(config.get("preset")) or None,
        "seed": _integer(config.get("seed")),
        "config": config,
    }


def _known_settings(folder: Path) -> dict[str, Any]:
    """The same of a damaged run, as far as it can be read."""
    try:
        return _settings(folder)
    except ValueError:
        return {}


def _state(folder: Path) -> tuple[str, str]:
    """The state of a run without a result, and why it failed."""
    if _is_held(folder / LOCK):
        return RUNNING, ""
    if not (folder / FAILURE).exists():
        return INTERRUPTED, ""
    return FAILED, _text(read_json(folder / FAILURE).get("reason"))


# --- files ------------------------------------------------------------------------------------------------------------


def _last_change(folder: Path) -> float:
    times = [path.stat().st_mtime for name in (RESULT, METRICS, CONFIG) if (path := folder / name).exists()]
    return max(times, default=0.0)


def _sessions(path: Path) -> list[Mapping[str, Any]]:
    if not path.exists():
        return []
    content = read_json(path)
    sessions = content.get("sessions", [content])  # a file of one session only, as older runs have it
    return [session for session in sessions if isinstance(session, dict)] if isinstance(sessions, list) else []


def _is_held(lock: Path) -> bool:
    """Whether a process is training this run now."""
    try:
        with lock.open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


# --- values: None, or nothing, where a field holds something else -----------------------------------------------------


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _time(value: Any) -> str:
    if time := _text(value):
        seconds_of(time, "trainer.max_time")  # what is damaged is told
    return time


def _numbers(value: Any) -> dict[str, float]:
    found = {str(name): _number(entry) for name, entry in _mapping(value).items()}
    return {name: entry for name, entry in found.items() if entry is not None}
