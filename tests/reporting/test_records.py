from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from se3t.errors import UserError
from se3t.experiments import nbody, qm9
from se3t.experiments.nbody import NBodyRecord
from se3t.reporting.labels import labels
from se3t.reporting.reading import Result, readable
from se3t.runs.record import find_results, group_by_data, group_by_settings

from .results import property_result, result


def load(*results: Result) -> list[NBodyRecord]:
    return [nbody.parse_record(fields) for fields in readable(results).runs]


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_results_are_found_at_any_depth(tmp_path: Path):
    first = write(tmp_path / "nbody" / "tfn" / "0-ab" / "result.json", result("tfn"))
    second = write(tmp_path / "nbody" / "deepset" / "0-cd" / "result.json", result("deepset"))
    (tmp_path / "nbody" / "tfn" / "1-ef").mkdir()
    assert find_results(tmp_path) == sorted([first, second])
    assert {record.model for record in load(*find_results(tmp_path))} == {"tfn", "deepset"}


def test_unfinished_runs_are_left_out():
    results = [result(status="running"), result(), {}]
    assert [fields.origin for fields in readable(results).runs] == ["result 1"]


@pytest.mark.parametrize(
    "field", ["test.mse_x", "data.baselines.constant_velocity", "budget.steps_done", "parameters", "config"]
)
def test_missing_field_is_named_with_its_file(tmp_path: Path, field: str):
    content = result()
    *path, last = field.split(".")
    target = content
    for key in path:
        target = target[key]
    del target[last]
    file = write(tmp_path / "result.json", content)
    with pytest.raises(UserError, match=field) as caught:
        load(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    "field",
    [
        "test",
        "valid",
        "test.mae",
        "data.kind",
        "data.label",
        "data.sizes.valid",
        "data.official.test",
        "data.baselines.composition",
        "data.baseline_split",
        "budget.batch_size",
    ],
)
def test_missing_field_of_a_property_is_named_with_its_file(tmp_path: Path, field: str):
    content = property_result(test=None, data__sizes__test=0) if field == "valid" else property_result()
    *path, last = field.split(".")
    target = content
    for key in path:
        target = target[key]
    del target[last]
    file = write(tmp_path / "result.json", content)
    with pytest.raises(UserError, match=field) as caught:
        qm9.parse_record(*readable([file]).runs)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_not_a_number_is_named_with_its_file(tmp_path: Path, value: float):
    file = write(tmp_path / "result.json", result(test__relative_mse_v=value))
    with pytest.raises(UserError, match=r"test\.relative_mse_v.*finite") as caught:
        load(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("wrong", [{"seed": "one"}, {"test__mse_x": "small"}, {"parameters": True}, {"model": 3}])
def test_wrong_type_is_an_error(wrong: dict[str, object]):
    with pytest.raises(UserError, match="should be"):
        load(result(**wrong))


def test_unreadable_files_are_named(tmp_path: Path):
    broken = tmp_path / "result.json"
    broken.write_text('{"status": "fin', encoding="utf-8")
    with pytest.raises(UserError, match=r"result\.json: is not valid JSON"):
        readable([broken])
    with pytest.raises(UserError, match=r"absent\.json: cannot be read"):
        readable([tmp_path / "absent.json"])
    with pytest.raises(UserError, match="expected a JSON object, got list"):
        readable([write(tmp_path / "list.json", [1])])


def test_runs_that_differ_by_seed_only_are_one_group():
    runs = load(result(seed=2), result(seed=1, config__runs="elsewhere"), result("tfn"))
    assert [[run.seed for run in group] for group in group_by_settings(runs)] == [[1, 2], [0]]


def test_runs_of_different_settings_are_never_averaged():
    other = result(seed=1)
    other["config"]["model"]["channels"] = 16
    longer = result(seed=2, budget__max_steps=5000)
    assert len(group_by_settings(load(result(), other, longer))) == 3


def test_settings_that_do_not_matter_do_not_split_a_group():
    quiet = result(seed=1)
    quiet["config"]["trainer"]["progress"] = False
    quiet["config"]["logger"] = {"wandb": "online"}
    assert len(group_by_settings(load(result(), quiet))) == 1


def test_runs_from_before_there_was_parity_are_runs_without_it():
    without, odd, even = result(), result(seed=1), result(seed=2)
    odd["config"]["model"]["parity"], even["config"]["model"]["parity"] = False, True
    groups = group_by_settings(load(without, odd, even))
    assert sorted(len(group) for group in groups) == [1, 2]
    assert sorted(labels(groups)) == ["parity=false", "parity=true"]


def test_devices_neither_split_seeds_nor_make_one_run_a_copy():
    def on(devices: int, seed: int) -> dict[str, Any]:
        content = result(seed=seed)
        content["config"]["trainer"]["devices"] = devices
        return content

    assert len(group_by_settings(load(on(1, seed=0), on(2, seed=1)))) == 1
    assert len(group_by_settings(load(on(1, seed=0), on(2, seed=0)))) == 2
    with pytest.raises(UserError, match="the same run"):
        group_by_settings(load(on(1, seed=0), on(2, seed=0), on(2, seed=0)))


def test_settings_of_the_data_given_beside_the_preset_are_kept():
    knobs = {"name": "nbody", "root": "x", "preset": "text", "data_seed": 0, "num_train": 32, "box": None}
    (record,) = load(result(config__data=knobs))
    assert record.overridden == {"num_train": 32}


def test_a_copied_run_does_not_count_twice():
    with pytest.raises(UserError, match=r"result 1: the same run .* is also in result 0"):
        group_by_settings(load(result(), result()))


@pytest.mark.parametrize("change", [{"data__checksum": "ffff"}, {"data__horizon": 0.5}, {"data__preset": "text"}])
def test_records_are_grouped_by_data(change: dict[str, object]):
    groups = group_by_data(load(result(), result(seed=1, **change)))
    assert [len(group) for group in groups.values()] == [1, 1]
