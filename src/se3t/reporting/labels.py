"""Labels of rows, and the settings with which a run joins a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from se3t.config import overrides
from se3t.config.presets import settings_of_preset
from se3t.experiments import experiment as declared
from se3t.runs import RunRecord
from se3t.runs.record import Record

_MAX_NAMES = 3
# shown in the column of steps
_SHOWN = ("trainer.max_steps", "trainer.batch_size")


def labels(groups: Sequence[Sequence[RunRecord]], always: Sequence[str] = ()) -> list[str]:
    """For each group of runs of one model the settings in which it differs from the other groups; "" where none.

    Where there are many, the folder of the group's first run instead.

    Args:
        groups: runs of one model; those of a group differ only in their seeds.
        always: settings to name whether they differ or not, unless they are null.
    """
    differing = _differing(groups)
    folders = [Path(group[0].origin).parent.name for group in groups]
    by_folder = len(differing) > _MAX_NAMES and all(folders)
    differing = [] if by_folder else differing
    texts = []
    for group, folder in zip(groups, folders, strict=True):
        settings = group[0].settings
        others = [name for name in always if name not in differing and settings.get(name) is not None]
        names = [*(name for name in others if _applies(name, settings)), *differing]
        parts = [f"{_short(name, names)}={overrides.spell(group[0].setting(name))}" for name in names]
        texts.append(", ".join([*parts, f"run {folder}"] if by_folder else parts))
    return texts


def _applies(name: str, settings: Mapping[str, Any]) -> bool:
    """Whether a setting has an effect beside the others."""
    return name != "data.radius" or settings.get("data.graph") == "radius"


def _differing(groups: Sequence[Sequence[RunRecord]]) -> list[str]:
    known = list(dict.fromkeys(name for group in groups for run in group for name in run.settings))
    names = [
        name
        for name in known
        if name not in _SHOWN
        and len({overrides.spell(group[0].setting(name)) for group in groups}) > 1
        and all(len({overrides.spell(run.setting(name)) for run in group}) == 1 for group in groups)
    ]
    return [name for name in names if not ("preset" in names and _follows_preset(name, [group[0] for group in groups]))]


def _follows_preset(name: str, runs: Sequence[RunRecord]) -> bool:
    """Whether the preset determines a setting: it changes only with the preset and was not overridden, or is part of
    the budget.
    """
    pairs = {(run.preset, overrides.spell(run.setting(name))) for run in runs}
    if name == "preset" or len(pairs) > len({preset for preset, _ in pairs}):
        return False
    is_budget = name != "optim.lr" and name.startswith(("trainer.", "optim."))
    return is_budget or not any(run.is_overridden(name) for run in runs)


def _short(name: str, names: Sequence[str]) -> str:
    last = name.rpartition(".")[2]
    return last if [other.rpartition(".")[2] for other in names].count(last) == 1 else name


def command(experiment: str, arguments: Sequence[str]) -> str:
    """The command that trains one line of a table."""
    return overrides.command(["train", f"experiment={experiment}", *arguments])


def run_all(table: str, settings: Sequence[str], joins: str = "") -> str:
    """The command that runs everything that a table lacks.

    Args:
        table: its name.
        settings: overrides with which a run joins it.
        joins: experiment of the runs in the table; "": there are none, and the command may choose the budget.
    """
    named = [setting.partition("=")[2] for setting in settings if setting.startswith("preset=")]
    presets = named or [preset for preset in ([default_preset(joins)] if joins else []) if preset]
    flag = [argument for preset in presets for argument in ("--preset", preset)]
    others = [setting for setting in settings if not setting.startswith("preset=")]
    return overrides.command(["table", table, "--run", *flag, *others])


def default_preset(experiment: str) -> str:
    """The budget of a training that names none; "" where none is that of the paper."""
    return next(iter(declared(experiment).paper_presets), "")


def preset_overrides(experiment: str, preset: str | None) -> list[str]:
    """The override that chooses a budget; none for the default."""
    return [] if preset in (None, default_preset(experiment)) else [f"preset={preset}"]


def settings_to_join(records: Sequence[Record], data: Mapping[str, Any]) -> list[str]:
    """Overrides with which a run of another model joins the table of ``records``, all on the same data.

    Args:
        records: the runs of the table.
        data: settings of their data that are not the defaults; those that the preset brings are left out.
    """
    presets, experiment = {record.preset for record in records}, records[0].experiment
    preset = next(iter(presets)) if len(presets) == 1 else None
    chosen = preset_overrides(experiment, preset)
    given = given_settings(experiment, preset)
    changed = {name: value for name, value in data.items() if given.get(f"data.{name}") != value}
    return chosen + overrides.overrides(changed, "data.")


def given_settings(experiment: str, preset: str | None) -> dict[str, Any]:
    """Settings of a training that names none but its preset, with the preset of the default data."""
    data = vars(declared(experiment).datasets[0].schema())
    defaults = {"data.preset": data["preset"]} if "preset" in data else {}
    return defaults | settings_of_preset(experiment, preset or default_preset(experiment))
