"""Records that were changed after their run are refused, by file and field."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from se3t.errors import UserError
from se3t.reporting.reading import require_whole
from se3t.reporting.tables.build import named_tables, tables
from se3t.runs import Fields
from se3t.runs.identity import settings_hash

from .results import property_result, result
from .test_classification import cloud_result


def write(folder: Path, content: dict[str, Any], settings: dict[str, Any] | None = None, name: str = "") -> Path:
    """A run folder as training makes it; ``name`` in place of ``<seed>-<hash>``."""
    config = content["config"]
    path = folder / (name or f"{config['seed']}-{settings_hash(config)}") / "result.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    beside = yaml.safe_dump(config if settings is None else settings)
    path.with_name("config.yaml").write_text(beside, encoding="utf-8")
    return path


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("make", [result, property_result, cloud_result])
def test_a_record_as_its_run_left_it_is_taken(make: Any, tmp_path: Path):
    assert len(tables([write(tmp_path, make())])) == 1


def test_a_changed_config_disagrees_with_the_file_beside_it(tmp_path: Path):
    path = write(tmp_path, result(), name="mine")
    edit(path, lambda content: content["config"]["model"].update(channels=16))
    with pytest.raises(UserError, match=r"field 'config\.model\.channels' is 16, but 8 in .*config\.yaml") as caught:
        tables([path])
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_config_that_was_changed_in_both_files_disagrees_with_its_folder(tmp_path: Path):
    path = write(tmp_path, result())
    edit(path, lambda content: content["config"]["model"].update(channels=16))
    path.with_name("config.yaml").write_text(yaml.safe_dump(json.loads(path.read_text())["config"]))
    with pytest.raises(UserError, match=r"result\.json: the settings in field 'config' have the hash [0-9a-f]{8}, but"):
        tables([path])


def test_folders_of_other_names_are_compared_with_their_config_only(tmp_path: Path):
    path = write(tmp_path, result(), name="copied from elsewhere")
    assert len(tables([path])) == 1
    path.with_name("config.yaml").unlink()
    assert len(tables([path])) == 1


def test_a_run_that_goes_on_is_still_the_run_it_was(tmp_path: Path):
    """Its ``config.yaml`` has the new number of steps before it has finished them."""
    content = result()
    longer = {**content["config"], "trainer": {"max_steps": 9000}, "resume": True, "runs": "elsewhere"}
    assert len(tables([write(tmp_path, content, longer)])) == 1


@pytest.mark.parametrize(
    ("field", "value", "other"),
    [
        ("seed", 5, "config.seed"),
        ("model", "tfn", "config.model.name"),
        ("experiment", "nbody", "config.experiment"),
        ("preset", "quick", "config.preset"),
        ("budget.max_steps", 100_000, "config.trainer.max_steps"),
        ("budget.batch_size", 4096, "config.trainer.batch_size"),
    ],
)
def test_what_is_said_twice_must_agree(field: str, value: object, other: str):
    content = result(config__experiment="nbody", config__preset=None)
    content["config"]["trainer"]["batch_size"] = 128
    target = content
    *path, last = other.split(".")
    for key in path:
        target = target[key]
    target[last] = "something else" if isinstance(value, str) else 3
    with pytest.raises(UserError, match=rf"result 0: field '{field}' is .*'{other}'"):
        tables([content])


@pytest.mark.parametrize("place", ["seed", "config"])
def test_a_record_without_a_seed_is_refused_by_field(place: str, tmp_path: Path):
    content = result()
    path = write(tmp_path, content, name="mine")
    edit(path, lambda content: content.pop("seed") if place == "seed" else content["config"].pop("seed"))
    field = "seed" if place == "seed" else r"config\.seed"
    with pytest.raises(UserError, match=rf"result\.json: field '{field}' is missing"):
        tables([path])


def test_another_seed_than_the_folder_says_is_refused(tmp_path: Path):
    path = write(tmp_path, result(seed=1), name="0-0123abcd")
    with pytest.raises(UserError, match=r"field 'config\.seed' is 1, but its folder says 0"):
        tables([path])


@pytest.mark.parametrize("group", ["model", "data"])
def test_a_group_of_settings_that_is_none_is_named(group: str):
    content = result()
    content["config"][group] = "x"
    with pytest.raises(UserError, match=rf"result 0: field 'config\.{group}' should be an object, got 'x'"):
        tables([content])


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", ""])
def test_a_config_that_is_none_is_named(text: str, tmp_path: Path):
    path = write(tmp_path, result(), name="mine")
    path.with_name("config.yaml").write_text(text)
    with pytest.raises(UserError, match=r"config\.yaml: (cannot be read as the|holds no) settings"):
        tables([path])


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("units", {"units": "m"}),
        ("versions", {"versions": [1]}),
        ("valid", {"valid": 3}),
        ("valid.mse_x", {"valid": {"mse_x": "low"}}),
        ("test.loss", {"test__loss": [1]}),
        ("data", {"data": None}),
        ("budget.seconds", {"budget__seconds": "long"}),
        ("budget.seconds", {"budget__seconds": -1}),
    ],
)
def test_a_field_of_another_kind_is_named(field: str, changes: dict[str, Any]):
    with pytest.raises(UserError, match=f"field '{field}' "):
        require_whole(Fields(result(**changes), "result"))


def test_a_metric_that_was_not_finite_is_no_fault():
    require_whole(Fields(result(valid={"loss": None, "mse_x": 0.1}), "result"))


def test_a_changed_record_of_another_experiment_stops_no_table(tmp_path: Path):
    path = write(tmp_path, property_result(), name="mine")
    edit(path, lambda content: content.update(seed=9))
    assert len(named_tables("1", [path, write(tmp_path, result())])) == 1
    with pytest.raises(UserError, match="field 'seed' is 9"):
        named_tables("3", [path])
