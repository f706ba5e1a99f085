"""Words that tell runs apart: labels of rows, and the settings of a run that would join a table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from se3t.config import conf_dir
from se3t.reporting.records import RunRecord

_MAX_NAMES = 3
# The column of steps tells these already.
_SHOWN = ("trainer.max_steps", "trainer.batch_size")
_DEFAULT_PRESET = "paper"
_DEFAULT_DATA = "calibrated"


def labels(groups: list[list[RunRecord]]) -> list[str]:
    """For each group of runs of one model the settings in which it differs from the other groups; "" when in none.

    Where these are many, the folder of the group's first run instead.
    """
    names = _differing(groups)
    folders = [Path(group[0].origin).parent.name for group in groups]
    if len(names) > _MAX_NAMES and all(folders):
        return [f"run {folder}" for folder in folders]
    return [", ".join(f"{_short(name, names)}={spell(_value(group, name))}" for name in names) for group in groups]


def _differing(groups: list[list[RunRecord]]) -> list[str]:
    known = list(dict.fromkeys(name for group in groups for run in group for name in run.settings))
    names = [
        name
        for name in known
        if name not in _SHOWN
        and len({spell(_value(group, name)) for group in groups}) > 1
        and all(len({spell(run.settings.get(name)) for run in group}) == 1 for group in groups)
    ]
    return [name for name in names if not ("preset" in names and _follows_preset(name, groups))]


def _follows_preset(name: str, groups: list[list[RunRecord]]) -> bool:
    """Whether a setting of the budget changes with the preset only, which then says enough."""
    if name == "optim.lr" or not name.startswith(("trainer.", "optim.")):
        return False
    pairs = {(spell(_value(group, "preset")), spell(_value(group, name))) for group in groups}
    return len(pairs) == len({preset for preset, _ in pairs})


def _value(group: list[RunRecord], name: str) -> Any:
    return group[0].settings.get(name)


def _short(name: str, names: list[str]) -> str:
    last = name.rpartition(".")[2]
    return last if [other.rpartition(".")[2] for other in names].count(last) == 1 else name


def spell(value: Any) -> str:
    """A value as the command line spells it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def settings_to_join(records: list[RunRecord]) -> list[str]:
    """What a run of another model needs beside its defaults to share a table with ``records``, all on the same data."""
    presets = {record.preset for record in records}
    preset = next(iter(presets)) if len(presets) == 1 else None
    preset = None if preset == _DEFAULT_PRESET else preset
    given = _data_of_preset(records[0].experiment, preset or _DEFAULT_PRESET)
    words = [f"preset={preset}"] if preset else []
    if records[0].data.preset != _DEFAULT_DATA:
        words.append(f"data.preset={records[0].data.preset}")
    knobs = records[0].overridden
    return words + [f"data.{name}={spell(value)}" for name, value in knobs.items() if given.get(name) != value]


def _data_of_preset(experiment: str, preset: str) -> Mapping[str, Any]:
    path = conf_dir() / "budget" / experiment / f"{preset}.yaml"
    content: Any = OmegaConf.to_container(OmegaConf.load(path)) if path.is_file() else {}
    data: Mapping[str, Any] = content.get("data", {})
    return data
