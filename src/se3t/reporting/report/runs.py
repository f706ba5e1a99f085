"""All runs below some folders, finished or not; damaged ones are listed as such."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from se3t.config.fields import seconds_of, time_in_words
from se3t.experiments import Metric, experiments, molecules
from se3t.experiments.table import MISSING, Estimate
from se3t.reporting.reading import require_whole
from se3t.reporting.spelling import number
from se3t.reporting.tables.ablations import ablated_name
from se3t.runs import Fields, RunFolder
from se3t.runs.fields import text_at, value_at
from se3t.runs.names import CONFIG, DAMAGED, FINISHED, NO_METRICS, RESULT, TIME
from se3t.runs.record import ended_in

VALIDATION = "ᵛ"
"""Sign of a number that was measured on validation."""
ON_VALIDATION = f"{VALIDATION} on validation: of an unfinished run the last there is, or of data without a test split."
ERROR = "equivariance_error"


@dataclass(frozen=True)
class Run:
    """One run folder, finished or not, as lists and pages show it.

    Attributes:
        state: one of ``STATES``.
        problem: what is wrong with a damaged one, or why a failed one ended.
        steps: done, and asked for; None where unknown.
        max_time: ``trainer.max_time``; "" for no limit.
        ended_by: what has ended the training, where known.
        seconds: of training and validation.
        split: what ``metrics`` were measured on; "valid" as long as test has not been measured.
        metrics: of the weights that validation chose; of an unfinished run the last ones there are.
        config: all its settings.
        data: facts of the data, from the record.
        sessions: where each part of the training comes from; a run that was continued has several.
        changed: when something was last measured, in seconds since 1970.
        is_verified: whether its record has a digest, so that changes are detected.
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
    def is_synthetic(self) -> bool:
        """Whether the data are a synthetic stand-in for others."""
        return self.data.get("synthetic") is True

    @property
    def height(self) -> bool:
        """Whether heights are part of the input ("+z")."""
        return value_at(self.config, "task.height") is True

    @property
    def system(self) -> str:
        """The paper's name of the model, with its ablation."""
        return ablated_name(self.model, text_at(self.config, "model.ablation"), self.height)

    @property
    def what(self) -> str:
        """The experiment, with the property that is learned where there are several; own molecules by file and unit."""
        if text_at(self.config, "data.name") == molecules.DATA.name:
            unit, file = text_at(self.data, "unit"), Path(text_at(self.config, "data.raw")).stem
            name = text_at(self.data, "label") or text_at(self.config, "task.column")
            words = [*filter(None, (file, name)), *[unit] * (unit not in ("", "1"))]
            return f"molecules: {', '.join(words)}"
        return f"{self.experiment} {text_at(self.config, 'task.target')}".rstrip()

    @property
    def progress(self) -> str:
        """The steps done, and the budget where it is larger."""
        done, asked = self.steps
        if done is None or self.parameters == 0:
            return MISSING
        if self.ended_by == TIME:
            return f"{done:,} in {time_in_words(self.max_time)}"
        limit = f" or {time_in_words(self.max_time)}" if self.max_time and self.state != FINISHED else ""
        return f"{done:,}" if asked in (None, done) else f"{done:,} of {asked:,}{limit}"

    @property
    def headline(self) -> list[tuple[Metric, float]]:
        """The main metrics, as they are shown."""
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
        """The main metrics as text: name, number with the sign of validation, and a unit that depends on the data."""
        mark = VALIDATION if self.split == "valid" else ""
        texts = []
        for metric, value in self.headline:
            unit = "" if metric.unit else self.units.get(metric.name, "")
            texts.append(f"{metric.heading} {number(Estimate(value), mark=mark)} {unit}".rstrip())
        return texts

    @property
    def errors(self) -> dict[str, float]:
        """Equivariance errors by what they are of: x, v, or "" where there is only one."""
        return {
            name.removeprefix(ERROR).lstrip("_"): value
            for name, value in self.metrics.items()
            if name.startswith(ERROR)
        }


def find_runs(paths: Iterable[Path]) -> list[Run]:
    """Runs in some folders and below, sorted by folder; a file means its folder. Hidden folders are skipped."""
    folders: set[Path] = set()
    for path in paths:
        root = path.parent if path.is_file() else path
        for name in (RESULT, CONFIG):
            folders |= {file.parent for file in root.glob(f"**/{name}") if not _is_hidden(file.relative_to(root))}
    return [read_run(folder) for folder in sorted(folders) if RunFolder(folder).is_run]


def read_run(folder: Path) -> Run:
    """One run, as far as its files can be read."""
    run = RunFolder(folder)
    try:
        facts = _finished(run) if run.result.exists() else _unfinished(run)
    except (OSError, ValueError, OverflowError, RecursionError) as error:
        facts = {"state": DAMAGED, "problem": " ".join(str(error).split())}
        with suppress(ValueError):
            facts |= _settings(run.read_config())
    return Run(folder, changed=run.last_change, **facts)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _finished(run: RunFolder) -> dict[str, Any]:
    """A finished run, whose record is checked as for tables."""
    fields = Fields.read(run.result)
    require_whole(fields)
    content = fields.content
    valid, test = _numbers(content.get("valid")), _numbers(content.get("test"))
    return {
        "state": FINISHED,
        "experiment": text_at(content, "experiment"),
        "model": text_at(content, "model"),
        "preset": text_at(content, "preset") or None,
        "seed": _integer(content, "seed"),
        "config": fields.mapping("config"),
        "steps": (_integer(content, "budget.steps_done"), _integer(content, "budget.max_steps")),
        "max_time": text_at(content, "budget.max_time"),
        "ended_by": TIME if ended_in(fields) else text_at(content, "budget.ended_by"),
        "parameters": _integer(content, "parameters"),
        "seconds": _number(value_at(content, "budget.seconds")),
        "split": "test" if test else "valid",
        "metrics": test or valid,
        "valid": valid,
        "units": {str(name): str(unit) for name, unit in value_at(content, "units", {}).items()},
        "data": value_at(content, "data", {}),
        "sessions": run.read_sessions(),
        "command": text_at(content, "command"),
        "is_verified": fields.is_verified,
    }


def _unfinished(run: RunFolder) -> dict[str, Any]:
    """A run without a result: what ``config.yaml`` says, and what was measured last."""
    config, sessions, lines = run.read_config(), run.read_sessions(), run.read_metrics()
    last = next((_numbers(line) for line in reversed(lines) if line["kind"] == "valid"), {})
    metrics = {name: value for name, value in last.items() if name not in NO_METRICS}
    if max_time := text_at(config, "trainer.max_time"):
        seconds_of(max_time, "trainer.max_time")  # an invalid one makes the run a damaged one
    state, problem = run.unfinished_state()
    return {
        **_settings(config),
        "state": state,
        "problem": problem,
        "steps": (max((line["step"] for line in lines), default=0), _integer(config, "trainer.max_steps")),
        "max_time": max_time,
        "seconds": last.get("seconds"),
        "split": "valid" if metrics else "",
        "metrics": metrics,
        "valid": metrics,
        "sessions": sessions,
        "command": text_at(sessions[-1], "command") if sessions else "",
    }


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "experiment": text_at(config, "experiment"),
        "model": text_at(config, "model.name"),
        "preset": text_at(config, "preset") or None,
        "seed": _integer(config, "seed"),
        "config": config,
    }


# --- values: None, or nothing, where a field holds something else -----------------------------------------------------


def _integer(content: Mapping[str, Any], name: str) -> int | None:
    value = value_at(content, name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None


def _numbers(values: Mapping[str, Any] | None) -> dict[str, float]:
    numbers = {name: _number(value) for name, value in (values or {}).items()}
    return {name: value for name, value in numbers.items() if value is not None}
