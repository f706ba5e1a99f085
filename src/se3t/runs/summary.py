"""Runs as a list shows them, finished or not; a damaged one is shown as such and does not stop the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from se3t.config.fields import seconds_of
from se3t.runs.fields import Fields, text_at, value_at
from se3t.runs.folder import RunFolder
from se3t.runs.names import CONFIG, DAMAGED, FINISHED, NO_METRICS, RESULT, TIME
from se3t.runs.record import ended_in, read_result

Summary = TypeVar("Summary", bound="RunSummary")


@dataclass(frozen=True)
class RunSummary:
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

    @classmethod
    def read(cls: type[Summary], folder: Path, check: Callable[[Fields], object]) -> Summary:
        """One run, as far as its files can be read.

        Args:
            folder: of the run.
            check: refuses the result of a finished run that is not as its run left it.
        """
        run = RunFolder(folder)
        try:
            facts = _finished(run, check) if run.result.exists() else _unfinished(run)
        except (OSError, ValueError, OverflowError, RecursionError) as error:
            facts = {"state": DAMAGED, "problem": " ".join(str(error).split())}
            with suppress(ValueError):
                facts |= _settings(run.read_config())
        return cls(folder, changed=run.last_change, **facts)

    @classmethod
    def find(cls: type[Summary], paths: Iterable[Path], check: Callable[[Fields], object]) -> list[Summary]:
        """Runs in some folders and below, sorted by folder; a file stands for its folder."""
        folders: set[Path] = set()
        for path in paths:
            root = path.parent if path.is_file() else path
            for name in (RESULT, CONFIG):
                folders |= {
                    found.parent for found in root.glob(f"**/{name}") if not _is_hidden(found.relative_to(root))
                }
        return [cls.read(folder, check) for folder in sorted(folders) if RunFolder(folder).is_run]

    @property
    def is_synthetic(self) -> bool:
        """Whether the data are a synthetic stand-in for others."""
        return self.data.get("synthetic") is True


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _finished(run: RunFolder, check: Callable[[Fields], object]) -> dict[str, Any]:
    """A finished run, whose record is looked at as tables look at it."""
    fields = read_result(run.result)
    check(fields)
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
        seconds_of(max_time, "trainer.max_time")  # what is damaged is told
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
