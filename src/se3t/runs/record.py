"""Run records: finding, reading and checking the ``result.json`` files that training leaves under ``runs/``.

This is what all experiments share; :mod:`se3t.experiments` declares what each of them adds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from se3t.config.fields import time_in_words
from se3t.config.overrides import override_key, spell
from se3t.config.presets import settings_of_preset
from se3t.errors import UserError
from se3t.runs.checks import require_unchanged
from se3t.runs.fields import Fields
from se3t.runs.identity import ADDED, line_settings
from se3t.runs.names import ADVICE, OVERRIDES, RESULT, TIME

_DEVICES = "trainer.devices"


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A finished run, as its ``result.json`` tells it: what every experiment has.

    Attributes:
        origin: the file, for messages.
        preset: name of its budget, or None.
        settings: the configuration by dotted name, without settings that have no effect; equal for runs that differ
            only by seed.
        overridden: settings of the data that a run of the same preset needs for the same data.
        data: what two runs must share to be compared.
        metrics: what was measured, by name.
        ablation: what was taken out of the model, none for most.
        ended_in: the time budget that has ended the training, in words; "" where something else has.
        overrides: the overrides of its command line as typed; None where unknown: in records of earlier versions,
            and of runs started from Python.
        height: whether heights were part of its input.
        part: what beside the data decides what its metrics mean, such as the property that it learned; "" for nothing.
        how: how its data differ from those of published numbers, in the words of tables.
        baselines: numbers that need no network, by their name in tables and by metric.
        baseline_how: ``how`` of these.
        always_named: settings that a line of a figure names even where all lines have them.
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
    data: tuple[Any, ...]
    metrics: dict[str, float]
    ablation: str
    ended_in: str
    overrides: tuple[str, ...] | None
    height: bool = False
    part: str = ""
    how: tuple[str, ...] = ()
    baselines: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    baseline_how: tuple[str, ...] = ()
    always_named: tuple[str, ...] = ()

    def setting(self, name: str) -> Any:
        """A setting of the run as it was in effect; None where there is no such setting."""
        return self.settings.get(name, ADDED.get(name))

    @property
    def system(self) -> tuple[str, str, bool]:
        """What was trained: model, ablation, and whether heights were part of its input."""
        return self.model, self.ablation, self.height

    @property
    def data_name(self) -> str:
        """Its data in words."""
        return ", ".join(map(str, self.data))

    @property
    def as_trained(self) -> RunRecord:
        """The record without choices made after the training, such as the rotation of test objects."""
        return self

    def is_overridden(self, name: str) -> bool:
        """Whether a setting was typed; where unknown, whether it differs from today's value of preset and model."""
        if self.overrides is not None:
            return name in map(override_key, self.overrides)
        expected = settings_of_preset(self.experiment, self.preset or "", self.model)
        return name not in expected or spell(expected[name]) != spell(self.setting(name))

    @property
    def line(self) -> dict[str, Any]:
        """The settings that tell lines of a table apart: on several devices a run is a repeat like any other."""
        return {name: value for name, value in self.settings.items() if name != _DEVICES}

    @property
    def repeat(self) -> tuple[Any, ...]:
        """What tells the runs of one line of a table apart; the seed last."""
        return (self.part, self.seed)


Record = TypeVar("Record", bound=RunRecord)


def find_results(runs: Path) -> list[Path]:
    """All ``result.json`` files below a folder, sorted by path."""
    return sorted(runs.glob(f"**/{RESULT}"))


def measured_split(fields: Fields) -> str:
    """The split on which a run was measured: validation only where the data have no test split.

    Raises:
        UserError: when there is a test split, and no numbers on it.
    """
    if fields.content.get("test", ()) is not None:
        return "test"
    if fields.integer("data.sizes.test"):
        raise UserError(f"{fields.origin}: field 'test' is null, but the data have a test split; {ADVICE}")
    return "valid"


def ablation_of(fields: Fields) -> str:
    """What was taken out of the model of a run; none also where the record lacks this setting."""
    has_model = fields.mapping("config").get("model") is not None
    return str(fields.mapping("config.model").get("ablation") or "none") if has_model else "none"


def ended_in(fields: Fields) -> str:
    """The time budget that has ended the training of a run, in words; "" where something else has.

    Raises:
        UserError: naming file and field, when it cannot be read.
    """
    budget = fields.content.get("budget")
    if not isinstance(budget, Mapping) or budget.get("ended_by") != TIME:
        return ""
    return time_in_words(fields.text("budget.max_time"), f"{fields.origin}: field 'budget.max_time'")


def common(fields: Fields) -> dict[str, Any]:
    """The arguments of a record that every experiment has: all but ``overridden``, ``data`` and ``metrics``.

    Raises:
        UserError: naming file and field, when a field is missing, of the wrong type, or not finite, or the record was
            changed after its run.
    """
    require_unchanged(fields)
    return {
        "origin": fields.origin,
        "experiment": fields.text("experiment"),
        "model": fields.text("model"),
        "seed": fields.integer("seed"),
        "preset": fields.optional_text("preset"),
        "settings": line_settings(fields.mapping("config")),
        "max_steps": fields.integer("budget.max_steps"),
        "steps_done": fields.integer("budget.steps_done"),
        "batch_size": fields.integer("budget.batch_size"),
        "parameters": fields.integer("parameters"),
        "ablation": ablation_of(fields),
        "ended_in": ended_in(fields),
        "overrides": _overrides(fields),
    }


def _overrides(fields: Fields) -> tuple[str, ...] | None:
    given = fields.content.get(OVERRIDES)
    if not (given is None or (isinstance(given, list) and all(isinstance(override, str) for override in given))):
        raise UserError(f"{fields.origin}: field {OVERRIDES!r} should be a list of texts, got {given!r}; {ADVICE}")
    return None if given is None else tuple(given)


def overridden(fields: Fields, without: Iterable[str]) -> dict[str, Any]:
    """Data settings that were given (not null), except those named in ``without``."""
    has_data = fields.mapping("config").get("data") is not None
    data = fields.mapping("config.data") if has_data else {}
    return {name: value for name, value in data.items() if value is not None and name not in without}


def group_by_data(records: Iterable[Record]) -> dict[tuple[Any, ...], list[Record]]:
    """Records by the data they were measured on, sorted; numbers on different data never share a table."""
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        groups.setdefault(record.data, []).append(record)
    return dict(sorted(groups.items()))


def group_by_settings(records: Iterable[Record]) -> list[list[Record]]:
    """Records that differ by ``repeat`` (the seed) only, each group sorted by it; groups by model, budget and settings.

    The number of devices splits a group only where a seed was run with several of them.

    Raises:
        UserError: when two records of one group have the same seed: a copied run would count twice.
    """
    groups: dict[tuple[str, int, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record.model, record.max_steps, _canonical(record.line)), []).append(record)
    return [group for _, runs in sorted(groups.items()) for group in _repeats_apart(runs)]


def _repeats_apart(runs: list[Record]) -> list[list[Record]]:
    if len({run.repeat for run in runs}) == len(runs):
        return [sorted(runs, key=lambda run: run.repeat)]
    groups: dict[str, dict[tuple[Any, ...], Record]] = {}
    for run in runs:
        repeats = groups.setdefault(_canonical(run.settings.get(_DEVICES)), {})
        if run.repeat in repeats:
            raise UserError(
                f"{run.origin}: the same run (model {run.model}, seed {run.seed}) is also in "
                f"{repeats[run.repeat].origin}; remove one of them"
            )
        repeats[run.repeat] = run
    return [[repeats[key] for key in sorted(repeats)] for _, repeats in sorted(groups.items())]


def _canonical(settings: Any) -> str:
    return json.dumps(settings, sort_keys=True, default=str)
