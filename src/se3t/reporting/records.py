"""Run records: finding, reading and checking the ``result.json`` files that training leaves under ``runs/``."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from se3t.errors import UserError

METRICS = ("mse_x", "mse_v", "relative_mse_x", "relative_mse_v", "equivariance_error_x", "equivariance_error_v")
"""Test metrics that a record of the N-body task holds."""

# Settings that do not change what a run measures: runs that differ only here are the same experiment.
_IRRELEVANT = ("seed", "resume", "runs", "logger")
_IRRELEVANT_TRAINER = ("progress", "threads", "checkpoint_every")
_IRRELEVANT_DATA = ("root",)
_NOT_DATA_KNOBS = ("name", "root", "preset", "data_seed")
_DEVICES = "trainer.devices"

Result: TypeAlias = Path | str | Mapping[str, Any]
"""A result: its file, or its content."""


class DataKey(NamedTuple):
    """What two runs must share to be compared: the data, by preset, horizon (time of the simulation) and checksum."""

    preset: str
    horizon: float
    checksum: str


@dataclass(frozen=True)
class RunRecord:
    """A finished run, as its ``result.json`` tells it.

    Attributes:
        origin: the file, for messages.
        preset: word for its budget, or None.
        settings: the configuration by dotted name, without what does not matter; equal for runs that differ by seed
            only.
        overridden: knobs of the data whose values are not those of their preset.
        linear: test MSE of x and of v of the constant-velocity baseline on the same data.
        metrics: test metrics, the names of ``METRICS``.
    """

    origin: str
    experiment: str
    model: str
    seed: int
    preset: str | None
    settings: dict[str, Any]
    overridden: dict[str, Any]
    max_steps: int
    steps_done: int
    batch_size: int
    parameters: int
    data: DataKey
    linear: tuple[float, float]
    metrics: dict[str, float]


def find_results(runs: Path) -> list[Path]:
    """All ``result.json`` files below a folder, sorted by path."""
    return sorted(runs.glob("**/result.json"))


def load_records(results: Iterable[Result], experiment: str) -> list[RunRecord]:
    """Read and check the finished runs of one experiment; records of others, and unfinished ones, are left out.

    Raises:
        UserError: naming file and field, when a file cannot be read, a field is missing, or a number is not finite.
    """
    contents = [_read(result, f"result {index}") for index, result in enumerate(results)]
    return [
        parse_record(content, origin)
        for content, origin in contents
        if content.get("status") == "finished" and content.get("experiment") == experiment
    ]


def parse_record(content: Mapping[str, Any], origin: str) -> RunRecord:
    """Check the content of one ``result.json`` and keep what tables need.

    Raises:
        UserError: naming ``origin`` and the field, when a field is missing, of the wrong type, or not finite.
    """
    fields = _Fields(content, origin)
    config = fields.mapping("config")
    return RunRecord(
        origin=origin,
        experiment=fields.text("experiment"),
        model=fields.text("model"),
        seed=fields.integer("seed"),
        preset=content.get("preset"),
        settings=_settings(config),
        overridden=_overridden(config.get("data") or {}),
        max_steps=fields.integer("budget.max_steps"),
        steps_done=fields.integer("budget.steps_done"),
        batch_size=fields.integer("budget.batch_size"),
        parameters=fields.integer("parameters"),
        data=DataKey(fields.text("data.preset"), fields.number("data.horizon"), fields.text("data.checksum")),
        linear=(
            fields.number("data.baselines.constant_velocity.0"),
            fields.number("data.baselines.constant_velocity.1"),
        ),
        metrics={metric: fields.number(f"test.{metric}") for metric in METRICS},
    )


def group_by_data(records: Iterable[RunRecord]) -> dict[DataKey, list[RunRecord]]:
    """Records by the data they were measured on, sorted; numbers on different data never share a table."""
    groups: dict[DataKey, list[RunRecord]] = {}
    for record in records:
        groups.setdefault(record.data, []).append(record)
    return dict(sorted(groups.items()))


def group_by_settings(records: Iterable[RunRecord]) -> list[list[RunRecord]]:
    """Records that differ by seed only, each group sorted by seed; the groups by model, budget and settings.

    The number of devices splits a group only where a seed was run with several of them.

    Raises:
        UserError: when two records of one group have the same seed: a copied run would count twice.
    """
    groups: dict[tuple[str, int, str], list[RunRecord]] = {}
    for record in records:
        settings = {name: value for name, value in record.settings.items() if name != _DEVICES}
        groups.setdefault((record.model, record.max_steps, _canonical(settings)), []).append(record)
    return [group for _, runs in sorted(groups.items()) for group in _seeds_apart(runs)]


def _seeds_apart(runs: list[RunRecord]) -> list[list[RunRecord]]:
    if len({run.seed for run in runs}) == len(runs):
        return [sorted(runs, key=lambda run: run.seed)]
    groups: dict[str, dict[int, RunRecord]] = {}
    for run in runs:
        seeds = groups.setdefault(_canonical(run.settings.get(_DEVICES)), {})
        if run.seed in seeds:
            raise UserError(
                f"{run.origin}: the same run (model {run.model}, seed {run.seed}) is also in "
                f"{seeds[run.seed].origin}; remove one of them"
            )
        seeds[run.seed] = run
    return [[seeds[seed] for seed in sorted(seeds)] for _, seeds in sorted(groups.items())]


def _read(result: Result, name: str) -> tuple[Mapping[str, Any], str]:
    if isinstance(result, Mapping):
        return result, name
    path = Path(result)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); expected the result.json of a finished run"
        ) from error
    except ValueError as error:
        raise UserError(f"{path}: is not valid JSON ({error}); run the training again or remove the file") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content, str(path)


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    irrelevant = {"trainer": _IRRELEVANT_TRAINER, "data": _IRRELEVANT_DATA}
    settings: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and key not in _IRRELEVANT:
            names = irrelevant.get(key, ())
            settings |= {f"{key}.{name}": inner for name, inner in value.items() if name not in names}
        elif key not in _IRRELEVANT:
            settings[key] = value
    return settings


def _overridden(data: Mapping[str, Any]) -> dict[str, Any]:
    """Data settings given beside the preset: one left at null comes from it."""
    return {name: value for name, value in data.items() if value is not None and name not in _NOT_DATA_KNOBS}


def _canonical(settings: Any) -> str:
    return json.dumps(settings, sort_keys=True, default=str)


class _Fields:
    """Checked access to nested JSON by dotted names; a number in a name is an index of a list."""

    def __init__(self, content: Mapping[str, Any], origin: str) -> None:
        self.content, self.origin = content, origin

    def text(self, name: str) -> str:
        return str(self._get(name, str, "text"))

    def integer(self, name: str) -> int:
        return int(self._get(name, int, "an integer"))

    def mapping(self, name: str) -> Mapping[str, Any]:
        value: Mapping[str, Any] = self._get(name, Mapping, "an object")
        return value

    def number(self, name: str) -> float:
        value = float(self._get(name, (int, float), "a number"))
        if not math.isfinite(value):
            raise UserError(
                f"{self.origin}: field {name!r} is {value}, expected a finite number; that run diverged, leave it out"
            )
        return value

    def _get(self, name: str, kind: Any, expected: str) -> Any:
        value: Any = self.content
        for key in name.split("."):
            if isinstance(value, Mapping) and key in value:
                value = value[key]
            elif isinstance(value, list | tuple) and key.isdigit() and int(key) < len(value):
                value = value[int(key)]
            else:
                raise UserError(
                    f"{self.origin}: field {name!r} is missing; the run was made by another version, run it again"
                )
        if not isinstance(value, kind) or isinstance(value, bool):
            raise UserError(f"{self.origin}: field {name!r} should be {expected}, got {value!r}")
        return value
