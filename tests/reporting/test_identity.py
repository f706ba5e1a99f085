"""Settings that do not matter are listed in one place: hash, groups, labels and lists of runs agree on each of them."""

from __future__ import annotations

import copy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from se3t.config import Config
from se3t.experiments.nbody import parse_record
from se3t.reporting.labels import labels
from se3t.reporting.report.runs import Run
from se3t.reporting.run_texts import differing
from se3t.runs import Fields
from se3t.runs.identity import ADDED, IRRELEVANT, first_difference, settings_hash
from se3t.runs.names import FINISHED
from se3t.runs.record import group_by_settings

from .results import result

OTHER = {"logger": {"group": "another"}, "resume": True, "trainer.progress": False}
"""Values that are not the defaults; a text will do for the rest."""


def with_setting(name: str, value: Any) -> dict[str, Any]:
    """The default settings with one of another value."""
    settings = copy.deepcopy(asdict(Config()))
    group, _, key = name.rpartition(".")
    (settings[group] if group else settings)[key] = value
    return settings


def tell_apart(*settings: dict[str, Any]) -> list[bool]:
    """Whether two runs count as different ones: for the folder, for a line of a table, its label, a comparison."""
    contents = [result(config={**one, "seed": seed}, seed=seed) for seed, one in enumerate(settings)]
    for content in contents:
        content |= {"experiment": "nbody", "preset": content["config"]["preset"]}
        content["model"] = content["config"]["model"]["name"]
        content["budget"] |= {name: content["config"]["trainer"][name] for name in ("max_steps", "batch_size")}
    records = [parse_record(Fields(content, f"{seed}")) for seed, content in enumerate(contents)]
    runs = [Run(Path("run"), FINISHED, config=one) for one in settings]
    assert (first_difference(*settings) is None) == (settings_hash(settings[0]) == settings_hash(settings[1]))
    return [
        settings_hash(settings[0]) != settings_hash(settings[1]),
        len(group_by_settings(records)) == 2,
        labels([[record] for record in records]) != ["", ""],
        bool(differing(runs)),
    ]


@pytest.mark.parametrize("name", IRRELEVANT)
def test_a_setting_that_does_not_matter_tells_no_runs_apart_anywhere(name: str) -> None:
    assert tell_apart(asdict(Config()), with_setting(name, OTHER.get(name, "another"))) == [False] * 4


@pytest.mark.parametrize("name", ADDED)
def test_a_setting_that_older_runs_lack_counts_as_its_default_everywhere(name: str) -> None:
    new, old = with_setting(name, ADDED[name]), with_setting(name, ADDED[name])
    group, _, key = name.rpartition(".")
    del old[group][key]
    assert tell_apart(new, old) == [False] * 4
    assert tell_apart(with_setting(name, "another"), old) == [True] * 4


@pytest.mark.parametrize("name", ["optim.lr", "model.channels", "task.reflect"])
def test_a_setting_that_matters_tells_runs_apart_everywhere(name: str) -> None:
    assert tell_apart(asdict(Config()), with_setting(name, 0.5)) == [True] * 4
