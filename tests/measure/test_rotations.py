"""Accuracy against rotation, of several runs in one file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from reporting.results import result
from se3t.config import Config, NBodyData, NBodyTask, TFNModel
from se3t.data.clouds.dataset import CloudData
from se3t.errors import UserError
from se3t.measure import evaluate as measure_runs
from se3t.measure import rotations
from se3t.measure.evaluate import evaluate
from se3t.reporting.figures.figure4 import load_rotations
from se3t.runs import read_json
from se3t.runs.files import write_json
from se3t.runs.names import CHECKPOINTS, RESULT
from se3t.tasks.base import Task
from se3t.training import checkpoint as ckpt
from se3t.training.train import train
from training.cloud_parts import COUNTS, SMALL, build, build_on, cloud_data, config_of, finished_run, plain_config

POINT = {
    "run": str,
    "weights": str,
    "settings": str,
    "model": str,
    "height": bool,
    "augmentation": str,
    "seed": int,
    "num_points": int,
    "preset": str,
    "max_steps": int,
    "steps_done": int,
    "rotation": str,
    "accuracy": float,
    "class_accuracy": float,
    "size": int,
}


class Measured:
    """The data at hand, and which test sets were measured."""

    def __init__(self) -> None:
        self.data: CloudData = cloud_data()
        self.built: list[str] = []
        self.rotations: list[str] = []

    def build(self, config: Config) -> tuple[Task, nn.Module]:
        self.built.append(config.model.name)
        return build_on(self.data, config)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Measured:
    found, measure = Measured(), rotations._Measured.measure

    def counting(self: Any, rotation: str, accelerator: str) -> dict[str, Any]:
        point = measure(self, rotation, accelerator)
        found.rotations.append(self._run.task.config.test_rotation)
        return point

    monkeypatch.setattr(measure_runs, "build_parts", found.build)
    monkeypatch.setattr(rotations._Measured, "measure", counting)
    return found


def sweep(runs: Sequence[Path], asked: Sequence[str], out: Path) -> dict[str, Any]:
    assert rotations.rotation_sweep(runs, asked, out, progress=False, accelerator="cpu") == out
    return json.loads(out.read_text(encoding="utf-8"))


def plain_run(tmp_path: Path, name: str = "plain", **task: Any) -> Path:
    return finished_run(tmp_path / name, plain_config(tmp_path, **task))


def test_every_point_says_of_which_weights_and_settings_it_is(tmp_path: Path, measured: Measured) -> None:
    folder = plain_run(tmp_path, augmentation="vertical")
    other = finished_run(tmp_path / "tfn", config_of(tmp_path, SMALL["tfn"], height=True))
    found = sweep([folder, other], ["0", "90"], tmp_path / "sweep" / "figure4.json")
    assert set(found) == {"data", "points"}
    facts = {"kind": "shapes15", "variant": "boxes", "synthetic": True, "up_axis": "y", "checksum": "c0ffee" * 8}
    assert found["data"] == facts
    assert [(point["run"], point["rotation"]) for point in found["points"]] == [
        (str(run), rotation) for run in (folder, other) for rotation in ("0", "90")
    ]
    for point in found["points"]:
        assert {name: type(value) for name, value in point.items()} == POINT
        assert (point["size"], point["num_points"], point["max_steps"]) == (COUNTS["test"], 16, 8)
        assert (point["seed"], point["preset"]) == (0, "smoke")
    first, last = found["points"][0], found["points"][-1]
    assert (first["model"], first["height"], first["augmentation"]) == ("deepset", False, "vertical")
    assert (last["model"], last["height"], last["augmentation"]) == ("tfn", True, "none")
    assert measured.built == ["deepset", "tfn"]  # data and weights are loaded once for all rotations
    assert len({point["weights"] for point in found["points"]}) == 2


def test_the_numbers_are_those_of_training_and_of_measuring_again(tmp_path: Path, measured: Measured) -> None:
    folder = plain_run(tmp_path, test_rotation="45")  # which the sweep does not heed
    asked = ["0", "45", "120", "so3"]
    found = {point["rotation"]: point for point in sweep([folder], asked, tmp_path / "figure4.json")["points"]}
    for rotation in asked:
        metrics = evaluate(folder, overrides={"task.test_rotation": rotation}, build=build)["metrics"]
        for name in ("accuracy", "class_accuracy"):
            assert found[rotation][name] == metrics[name]
    assert found["45"]["accuracy"] == read_json(folder / RESULT)["test"]["accuracy"]
    unturned = plain_run(tmp_path, "unturned")
    (point,) = sweep([unturned], ["0"], tmp_path / "other.json")["points"]
    assert point["accuracy"] == read_json(unturned / RESULT)["test"]["accuracy"]
    assert measured.rotations == [*asked, "0"]


def test_an_equivariant_model_is_as_accurate_at_every_angle_and_another_is_not(
    tmp_path: Path, measured: Measured
) -> None:
    asked = ["0", "30", "90", "180", "so3"]
    for name, config in SMALL.items():
        folder = finished_run(tmp_path / name, config_of(tmp_path, config, trainer={"precision": "64"}))
        points = sweep([folder], asked, tmp_path / f"{name}.json")["points"]
        assert len({(point["accuracy"], point["class_accuracy"]) for point in points}) == 1, name
    longer = {"max_steps": 60, "batch_size": 36, "eval_every": 60, "checkpoint_every": 60}
    config = plain_config(tmp_path, longer)
    config = replace(config, optim=replace(config.optim, schedule="constant"))
    points = sweep([train(config, build=build).parent], asked, tmp_path / "plain.json")["points"]
    accuracy = {point["rotation"]: point["accuracy"] for point in points}
    assert accuracy["0"] > 0.6
    assert min(accuracy["180"], accuracy["so3"]) < accuracy["0"]


# --- what is measured already -----------------------------------------------------------------------------------------


def test_nothing_is_measured_twice_and_everything_is_kept(tmp_path: Path, measured: Measured) -> None:
    first, second, out = (
        plain_run(tmp_path, "first"),
        plain_run(tmp_path, "second", num_points=8),
        tmp_path / "out.json",
    )
    before = sweep([first], ["0", "90"], out)["points"]
    assert sweep([first], ["90", "0"], out)["points"] == before
    assert (measured.rotations, measured.built) == (["0", "90"], ["deepset"])  # the second time nothing is even loaded
    after = sweep([second, first, second], ["90", "120"], out)["points"]
    assert [point for point in after if point in before] == before
    assert {(Path(point["run"]).name, point["rotation"]) for point in after} == {
        ("first", "0"),
        ("first", "90"),
        ("first", "120"),
        ("second", "90"),
        ("second", "120"),
    }
    assert len(after) == 5
    assert sorted(measured.rotations) == ["0", "120", "120", "90", "90"]


def test_other_weights_in_the_same_folder_are_measured_anew(tmp_path: Path, measured: Measured) -> None:
    folder, out = plain_run(tmp_path), tmp_path / "out.json"
    before = sweep([folder], ["0"], out)["points"]
    finished_run(folder, plain_config(tmp_path), noise=2.0)
    after = sweep([folder], ["0"], out)["points"]
    assert measured.rotations == ["0", "0"]
    assert [point["weights"] for point in after if point["run"] == str(folder)] == [after[-1]["weights"]]
    assert after[-1]["weights"] != before[0]["weights"]
    assert after[-1]["accuracy"] == read_json(folder / RESULT)["test"]["accuracy"]


def test_points_of_other_weights_and_of_runs_that_are_gone_are_named(tmp_path: Path, measured: Measured) -> None:
    folder, out = plain_run(tmp_path), tmp_path / "out.json"
    content = sweep([folder], ["0"], out)
    assert rotations.outdated(out, []) == []
    content["points"].append({**content["points"][0], "run": "gone", "seed": 5})
    write_json(out, content)
    assert rotations.outdated(out, [folder]) == ["gone no longer exists"]
    finished_run(folder, plain_config(tmp_path), noise=2.0)
    assert rotations.outdated(out, []) == [f"{folder} has other weights now", "gone no longer exists"]


def test_runs_that_differ_by_their_test_rotation_are_measured_once(tmp_path: Path, measured: Measured) -> None:
    first, turned, out = plain_run(tmp_path), plain_run(tmp_path, "turned", test_rotation="90"), tmp_path / "out.json"
    before = sweep([first], ["0", "so3"], out)["points"]
    assert sweep([turned], ["0", "so3"], out)["points"] == before
    assert measured.rotations == ["0", "so3"]


def test_a_rotation_spelled_otherwise_is_the_same(tmp_path: Path, measured: Measured) -> None:
    points = sweep([plain_run(tmp_path)], ["90", "90.0", "9e1"], tmp_path / "out.json")["points"]
    assert [point["rotation"] for point in points] == ["90"]


def test_seeds_share_the_settings_of_their_points_and_others_do_not(tmp_path: Path, measured: Measured) -> None:
    config = plain_config(tmp_path)
    runs = [finished_run(tmp_path / str(seed), replace(config, seed=seed)) for seed in (0, 1)]
    runs.append(plain_run(tmp_path, "fewer", num_points=8))
    points = sweep(runs, ["0"], tmp_path / "out.json")["points"]
    assert points[0]["settings"] == points[1]["settings"] != points[2]["settings"]
    (drawn, _) = load_rotations(tmp_path / "out.json").lines
    assert {len(seeds) for seeds in drawn.accuracies.values()} == {2}


def test_an_interrupted_sweep_keeps_the_runs_it_has_measured(
    tmp_path: Path, measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, out = [plain_run(tmp_path, name, num_points=count) for name, count in (("a", 16), ("b", 8))], tmp_path / "x"
    counting = rotations._Measured.measure

    def failing(self: Any, rotation: str, accelerator: str) -> dict[str, Any]:
        if len(measured.rotations) == 3:
            raise KeyboardInterrupt
        return counting(self, rotation, accelerator)

    with monkeypatch.context() as patch:
        patch.setattr(rotations._Measured, "measure", failing)
        with pytest.raises(KeyboardInterrupt):
            sweep(runs, ["0", "90"], out)
    assert {point["run"] for point in json.loads(out.read_text())["points"]} >= {str(runs[0])}
    assert len(sweep(runs, ["0", "90"], out)["points"]) == 4
    assert len(measured.rotations) <= 5


# --- what is refused --------------------------------------------------------------------------------------------------


def refused(runs: Sequence[Path], asked: Sequence[str], out: Path, message: str) -> None:
    before = out.read_bytes() if out.exists() else None
    with pytest.raises(UserError, match=message) as caught:
        rotations.rotation_sweep(runs, asked, out, progress=False, accelerator="cpu")
    assert "\n" not in str(caught.value)
    assert (out.read_bytes() if out.exists() else None) == before


def test_runs_on_other_data_do_not_go_into_the_same_file(tmp_path: Path, measured: Measured) -> None:
    out = tmp_path / "out.json"
    sweep([plain_run(tmp_path)], ["0"], out)
    for name, changes in (
        ("sum", {"checksum": "other"}),
        ("up", {"up_axis": 2}),
        ("variant", {"variant": "with background"}),
    ):
        other = finished_run(tmp_path / name, plain_config(tmp_path), cloud_data(**changes))
        refused([other], ["0"], out, f"{name}: was trained on .*one file holds one data set: choose another --out")
    assert measured.rotations == ["0"]


def test_a_kept_point_of_other_settings_is_not_mixed_in(tmp_path: Path, measured: Measured) -> None:
    out = tmp_path / "out.json"
    sweep([plain_run(tmp_path)], ["0"], out)
    for name, task in (("jitter", {"jitter": 0.1}), ("sampling", {"sampling": "random"})):
        other = finished_run(tmp_path / name, replace(plain_config(tmp_path, **task), seed=1))
        refused(
            [other], ["0"], out, rf"plain and .*{name} would be one line, DeepSet, .* each with an --out of its own"
        )
    assert measured.rotations == ["0"]


def test_runs_are_not_measured_on_data_that_have_changed_since(tmp_path: Path, measured: Measured) -> None:
    folder, out = plain_run(tmp_path), tmp_path / "out.json"
    measured.data = cloud_data(checksum="changed")
    refused([folder], ["0"], out, r"plain: was trained on data with checksum c0ffee.*, and the data now have changed")
    measured.data = cloud_data()
    assert len(sweep([folder], ["0"], out)["points"]) == 1


def test_runs_without_classes_are_refused(tmp_path: Path, measured: Measured) -> None:
    config = Config(
        runs=str(tmp_path),
        data=NBodyData(root=str(tmp_path / "data"), num_train=8, num_valid=4, num_test=4, data_seed=0),
        task=NBodyTask(),
        model=TFNModel(num_layers=1, num_degrees=2, channels=2),
    )
    best = tmp_path / "run" / CHECKPOINTS
    best.mkdir(parents=True)
    ckpt.write_best(best, asdict(config), {"step": 0, "metrics": {}, "state_dict": {}, "facts": {}})
    budget = {"budget__max_steps": config.trainer.max_steps, "budget__batch_size": config.trainer.batch_size}
    write_json(tmp_path / "run" / RESULT, {**result("tfn", **budget), "config": asdict(config)})
    refused(
        [tmp_path / "run"],
        ["0"],
        tmp_path / "out.json",
        r"is a run of experiment nbody, expected one of scanobjectnn",
    )


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, measured: Measured) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "nowhere"):
        refused([tmp_path / name], ["0"], tmp_path / "out.json", name)
    refused([], ["0"], tmp_path / "out.json", "no run: give the folders of finished runs")


@pytest.mark.parametrize("rotation", ["200", "sideways", "-5"])
def test_a_wrong_rotation_is_told_before_anything_is_measured(
    rotation: str, tmp_path: Path, measured: Measured
) -> None:
    message = rf"^task\.test_rotation={rotation}: expected degrees from 0 to 180"
    refused([plain_run(tmp_path)], ["0", rotation], tmp_path / "out.json", message)
    assert measured.rotations == []


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "",
        "[]",
        "3",
        "null",
        '"points"',
        "{}",
        '{"points": 3}',
        '{"points": [3]}',
        '{"points": [{"rotation": "0"}]}',
        '{"points": [{"rotation": "0", "weights": "ab"}]}',
        '{"points": [{"rotation": "0", "weights": "ab", "run": "a", "seed": 0, "model": "tfn", "height": false}]}',
        '{"points": [{"rotation": ["0"], "weights": {}, "run": "a"}]}',
        "\udcff\udcfe",
    ],
)
def test_a_file_that_is_none_of_this_figure_is_refused_and_kept(text: str, tmp_path: Path, measured: Measured) -> None:
    out = tmp_path / "out.json"
    out.write_bytes(text.encode(errors="surrogateescape"))
    refused([plain_run(tmp_path)], ["0"], out, r"out\.json: is not a file of this figure .*remove it or choose another")
    assert measured.rotations == []


def test_a_run_is_measured_with_the_precision_of_its_training(tmp_path: Path, measured: Measured) -> None:
    seen = []
    build_parts = measured.build

    def watching(config: Config) -> tuple[Task, nn.Module]:
        task, model = build_parts(config)
        model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].positions.dtype))
        return task, model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure_runs, "build_parts", watching)
        sweep([finished_run(tmp_path / "run", plain_config(tmp_path, {"precision": "64"}))], ["0"], tmp_path / "out")
    assert set(seen) == {torch.float64}
