"""What a user does first, at toy size: prepare, train, ask again, evaluate, print the table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from se3t.cli.help import choices

from .conftest import Run

_WIDTH = {  # every model, as small as it gets
    "linear": [],
    "deepset": ["model.width=4"],
    "set_transformer": ["model.width=4", "model.num_layers=1", "model.num_heads=2"],
    "tfn": ["model.num_layers=1", "model.num_degrees=2", "model.channels=4"],
    "se3_transformer": ["model.num_layers=1", "model.num_degrees=2", "model.channels=4"],
}


def test_the_journey_is_made_with_every_model() -> None:
    elsewhere = {"schnet", "mpnn"}  # they read scalars alone
    elsewhere |= {
        "pointnet",
        "pointnet2",
        "dgcnn",
        "pointcnn",
        "spidercnn",
        "modified_fisher",
        "pointglr",
    }  # classifiers
    assert set(_WIDTH) == set(choices("model")) - elsewhere


@pytest.mark.parametrize("model", ["deepset", "set_transformer", "tfn"])
def test_every_other_model_trains(run: Run, tmp_path: Path, model: str) -> None:
    answer = run("train", "preset=smoke", "trainer.progress=false", f"model={model}", *_WIDTH[model])
    assert answer.status == 0, answer.err
    (result,) = tmp_path.glob(f"runs/nbody/{model}/*/result.json")
    assert json.loads(result.read_text())["budget"]["steps_done"] == 4


@pytest.mark.parametrize("model", ["linear", "se3_transformer"])
def test_train_report_evaluate_and_tabulate(run: Run, tmp_path: Path, model: str) -> None:
    words = ["experiment=nbody", "preset=smoke", "trainer.progress=false", f"model={model}", *_WIDTH[model]]
    first = run("train", *words)
    assert first.status == 0, first.err
    assert first.files == ["data", "runs"]
    result = next(tmp_path.glob("runs/nbody/*/*/result.json"))
    content = json.loads(result.read_text())
    assert content["status"] == "finished"
    assert content["overrides"] == words
    assert "Table 1" in first.out
    assert "Not run: DeepSet, " in first.out
    assert f"run record: {result.relative_to(tmp_path)}" in first.out

    again = run("train", *words)
    assert again.status == 0
    assert "finished before" in again.err
    assert f"run record: {result.relative_to(tmp_path)}" in again.out

    measured = run("eval", f"checkpoint={result.parent}", "trainer.precision=64")
    assert measured.status == 0, measured.err
    assert "equivariance_error_x" in measured.out
    assert "precision 64" in measured.out

    table = run("table", "--markdown")
    assert table.status == 0
    assert table.out.startswith("**Table 1")
    assert run("table", str(result)).status == 0


def test_data_prepare_prints_what_trivial_predictions_reach(run: Run) -> None:
    answer = run("data", "prepare", "nbody", "preset=smoke", "data.root=stores", "trainer.progress=false")
    assert answer.status == 0, answer.err
    assert answer.files == ["stores"]
    for word in (
        "preset calibrated_random",
        "32 train, 16 valid, 16 test",
        "(Linear)",
        "least squares",
        "energy drift",
    ):
        assert word in answer.out
    again = run("data", "prepare", "nbody", "preset=smoke", "data.root=stores", "force=True", "trainer.progress=false")
    assert again.out == answer.out
