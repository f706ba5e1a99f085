"""Predictions for a rotated trajectory: on a circle for an equivariant model, and only then."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from se3t.config import Config, SE3TransformerModel, SetTransformerModel, to_config
from se3t.data.nbody.dataset import NBodyDataset
from se3t.errors import UserError
from se3t.measure import evaluate as measure_runs
from se3t.measure import trajectories
from se3t.reporting.figures.figure3 import load_trajectories
from se3t.runs import read_json
from se3t.runs.names import RESULT
from se3t.tasks.base import Task
from se3t.tasks.nbody import NBodyTask
from se3t.training import checkpoint as ckpt
from se3t.training.train import train
from training.parts import SIZES, build, random_dataset, small_config

MODELS = {
    "se3_transformer": SE3TransformerModel(num_layers=2, num_degrees=3, channels=4, num_heads=2),
    "set_transformer": SetTransformerModel(width=16, num_layers=1, num_heads=2),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Hardly trained runs on random data."""
    folder = tmp_path_factory.mktemp("runs")
    found = {}
    for name, model in MODELS.items():
        config = replace(small_config(folder, max_steps=2, eval_every=1), model=model, preset="smoke")
        found[name] = train(config, folder / name, build=build).parent
    return found


@pytest.fixture(autouse=True)
def random_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_runs, "build_parts", build)


def written(runs: list[Path], out: Path, sample: int | None = None, **options: Any) -> dict[str, Any]:
    assert trajectories.trajectories(runs, out, sample, accelerator="cpu", **options) == out
    content: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return content


def test_an_equivariant_model_draws_circles_and_another_does_not(runs: dict[str, Path], tmp_path: Path) -> None:
    written([runs["set_transformer"], runs["se3_transformer"]], tmp_path / "figure3.json", 2)
    found = load_trajectories(tmp_path / "figure3.json")
    other, equivariant = found.models
    assert (other.label, equivariant.label) == ("Set Transformer", "SE(3)-Transformer")
    for place, first in enumerate(equivariant.positions[0]):
        for positions in equivariant.positions:
            point = positions[place]
            assert math.hypot(*point[:2]) == pytest.approx(math.hypot(*first[:2]), abs=1e-5)
            assert point[2] == pytest.approx(first[2], abs=1e-5)
    assert found.deviation(equivariant) < 1e-5
    assert found.deviation(other) > 1e-2


def test_the_file_says_what_was_predicted_by_which_run(runs: dict[str, Path], tmp_path: Path) -> None:
    found = written([runs["set_transformer"]], tmp_path / "new" / "figure3.json", 1, step=90.0)
    assert found["kind"] == "figure3"
    assert {name: found["data"][name] for name in ("preset", "horizon", "checksum")} == {
        "preset": "calibrated",
        "horizon": 0.5,
        "checksum": "c0ffee",
    }
    assert (found["sample"], found["num_samples"]) == (1, SIZES["test"])
    assert (found["axis"], found["angles"]) == ([0, 0, 1], [0, 90, 180, 270])
    split = random_dataset().splits["test"]
    centred = split.positions[1] - split.positions[1].mean(dim=0)
    torch.testing.assert_close(torch.tensor(found["positions"]).double(), centred, rtol=0, atol=1e-6)
    torch.testing.assert_close(torch.tensor(found["velocities"]).double(), split.velocities[1], rtol=0, atol=1e-6)
    torch.testing.assert_close(
        torch.tensor(found["target"]).double(), centred + split.target_positions[1], rtol=0, atol=1e-6
    )
    assert found["charges"] == split.charges[1].flatten().tolist()
    (model,) = found["models"]
    result = read_json(runs["set_transformer"] / RESULT)
    predictions = torch.tensor(model.pop("predictions"))
    assert predictions.shape == (4, 4, 3)
    mse = (predictions[0].double() - centred - split.target_positions[1]).square().mean()
    assert model.pop("mse_x") == pytest.approx(float(mse), rel=1e-5)
    assert model == {
        "run": str(runs["set_transformer"]),
        "model": "set_transformer",
        "label": "Set Transformer",
        "seed": 0,
        "preset": "smoke",
        "max_steps": 2,
        "steps_done": 2,
        "batch_size": 8,
        "equivariance_error_x": result["test"]["equivariance_error_x"],
    }


def test_the_sample_is_the_one_in_the_middle_of_the_errors(runs: dict[str, Path], tmp_path: Path) -> None:
    folder, samples = runs["se3_transformer"], range(SIZES["test"])
    found = ckpt.read_checkpoint(ckpt.locate(folder))
    task, model = build(to_config(found.settings))
    ckpt.load_weights(model, ckpt.model_weights(found.content["state_dict"]), found.path)
    batch = task.batch("test", torch.tensor(samples))
    with torch.no_grad():
        errors = task.metrics(model.eval()(task.graph(batch)), batch)["mse_x"].tolist()
    measured = read_json(folder / RESULT)["test"]["mse_x"]
    assert sum(errors) / len(errors) == pytest.approx(measured, rel=1e-6)
    # That of the SE(3)-Transformer, wherever it stands.
    content = written([runs["set_transformer"], folder], tmp_path / "figure3.json", step=90.0)
    assert content["sample"] == sorted(samples, key=errors.__getitem__)[(len(errors) - 1) // 2]
    assert content["sample_rule"] == "median error in x of SE(3)-Transformer"
    assert content["models"][1]["mse_x"] == pytest.approx(errors[content["sample"]], rel=1e-5)


def test_inputs_are_turned_with_their_targets(tmp_path: Path) -> None:
    task, _ = build(small_config(tmp_path))
    assert isinstance(task, NBodyTask)
    batch = task.to("cpu", torch.float64).batch("test", torch.tensor([0, 0]))
    turned = trajectories.rotate(batch, torch.tensor([0.0, 90.0], dtype=torch.float64))
    for before, after in ((batch.vectors, turned.vectors), (batch.targets, turned.targets)):
        torch.testing.assert_close(after[0], before[0])
        x, y, z = before[1].unbind(dim=-1)
        torch.testing.assert_close(after[1], torch.stack((-y, x, z), dim=-1))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"sample": 6}, r"sample=6: expected the number of a test trajectory, 0 to 5"),
        ({"sample": -1}, r"sample=-1: expected"),
        ({"step": 7.0}, r"step=7: expected degrees that divide 360"),
        ({"step": 0.0}, r"step=0: expected degrees"),
    ],
)
def test_samples_and_steps_that_are_none_are_refused(
    runs: dict[str, Path], tmp_path: Path, options: dict[str, Any], named: str
) -> None:
    with pytest.raises(UserError, match=named):
        written([runs["set_transformer"]], tmp_path / "out.json", **options)
    with pytest.raises(UserError, match="no run; give the folders"):
        written([], tmp_path / "out.json")
    assert list(tmp_path.iterdir()) == []


def test_data_that_have_changed_since_are_refused(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def others(config: Config) -> tuple[Task, nn.Module]:
        data = NBodyDataset(splits=random_dataset().splits, horizon=0.5, checksum="0ther")
        return NBodyTask(config.task, data), build(config)[1]

    monkeypatch.setattr(measure_runs, "build_parts", others)
    with pytest.raises(UserError, match="trained on data with checksum c0ffee, and the data now have 0ther"):
        written([runs["set_transformer"]], tmp_path / "out.json")


def test_runs_without_weights_and_predictions_that_are_not_finite_are_refused(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / RESULT).write_bytes((runs["set_transformer"] / RESULT).read_bytes())
    with pytest.raises(UserError, match=r"bare: holds no checkpoints/best\.ckpt"):
        written([bare], tmp_path / "out.json")

    def nan(self: Any, batch: Any) -> torch.Tensor:
        return torch.full_like(batch.targets, math.nan)

    monkeypatch.setattr(trajectories._Measured, "predict", nan)
    with pytest.raises(UserError, match="set_transformer: predicts a number that is not finite"):
        written([runs["set_transformer"]], tmp_path / "out.json", 0)
    assert not (tmp_path / "out.json").exists()


def test_runs_that_fail_are_left_out_where_that_was_asked_for(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[UserError] = []
    whole = trajectories._load

    def load(folder: Path, *rest: Any) -> Any:
        if folder == runs["set_transformer"]:
            raise UserError(f"{folder}: is damaged")
        return whole(folder, *rest)

    monkeypatch.setattr(trajectories, "_load", load)
    both = [runs["set_transformer"], runs["se3_transformer"]]
    found = written(both, tmp_path / "figure3.json", step=90.0, on_failure=failures.append)
    assert [model["run"] for model in found["models"]] == [str(runs["se3_transformer"])]
    assert [str(failure) for failure in failures] == [f"{runs['set_transformer']}: is damaged"]
    with pytest.raises(UserError, match="is damaged"):
        written(both[:1], tmp_path / "none.json", on_failure=failures.append)
    assert len(failures) == 1
