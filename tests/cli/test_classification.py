"""Classes of point clouds at the command line: every model trains, and test objects are turned when asked for."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from se3t.config import SCHEMAS, Config
from se3t.runs import read_json
from se3t.runs.names import CHECKPOINTS, DETAILS, RESULT
from se3t.training import checkpoint as ckpt

from .conftest import Run

_ELSEWHERE = {"linear", "schnet", "mpnn"}  # for particles that move, and for molecules
_DATA = ("experiment=scanobjectnn", "data=shapes15", "data.num_train=30", "data.num_test=15", "data.background=false")
_SMALLER = {"modified_fisher": ["model.grid=2"]}  # 46 million parameters
_ONE_STEP = ("preset=smoke", "trainer.max_steps=1", "trainer.progress=false", "trainer.threads=1")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the objects: the first command makes them, the others read them."""
    return tmp_path_factory.mktemp("clouds")


def trained(run: Run, tmp_path: Path, root: Path, model: str, *words: str) -> tuple[Path, dict[str, Any]]:
    """The folder and the result of a run of one step."""
    before = set(tmp_path.glob("runs/scanobjectnn/*/*"))
    answer = run("train", *_DATA, *_ONE_STEP, f"data.root={root}", f"model={model}", *words)
    assert answer.status == 0, answer.err
    (folder,) = set(tmp_path.glob("runs/scanobjectnn/*/*")) - before
    return folder, read_json(folder / RESULT)


@pytest.mark.parametrize("model", sorted(set(SCHEMAS["model"]) - _ELSEWHERE))
def test_every_model_of_the_table_trains(run: Run, tmp_path: Path, root: Path, model: str) -> None:
    folder, result = trained(run, tmp_path, root, model, *_SMALLER.get(model, []))
    assert (result["model"], result["budget"]["steps_done"], result["parameters"] > 0) == (model, 1, True)
    assert (result["data"]["kind"], result["data"]["synthetic"]) == ("shapes15", True)
    assert result["data"]["preset"].startswith("synthetic shapes15")
    details = read_json(folder / DETAILS)
    assert len(details["label"]) == result["data"]["sizes"]["test"] == 15
    right = sum(one == two for one, two in zip(details["label"], details["predicted"], strict=True))
    assert right / 15 == result["test"]["accuracy"]


@pytest.mark.parametrize("model", ["se3_transformer", "tfn"])
def test_heights_and_augmentation_are_words_of_the_command(run: Run, tmp_path: Path, root: Path, model: str) -> None:
    words = ("task.height=true", "task.augmentation=vertical", "task.jitter=0.01")
    _, result = trained(run, tmp_path, root, model, *words)
    task = result["config"]["task"]
    assert (task["height"], task["augmentation"], task["jitter"], task["inputs"]) == (True, "vertical", 0.01, "edges")
    assert result["test"]["equivariance_error"] < 1e-4


def test_turned_test_objects_are_measured_as_the_sweep_measures_them(run: Run, tmp_path: Path, root: Path) -> None:
    folder, result = trained(run, tmp_path, root, "deepset", "task.augmentation=vertical")
    answer = run("eval", f"checkpoint={folder}", "task.test_rotation=90")
    assert answer.status == 0, answer.err
    assert "accuracy" in answer.out
    assert "synthetic shapes15" in " ".join(answer.out.split())

    from se3t.measure.evaluate import evaluate
    from se3t.measure.rotations import rotation_sweep

    points = json.loads(rotation_sweep([folder], ["0", "90"], tmp_path / "figure4.json", progress=False).read_text())
    by_rotation = {point["rotation"]: point for point in points["points"]}
    assert by_rotation["0"]["accuracy"] == result["test"]["accuracy"]
    found = evaluate(folder, overrides={"task.test_rotation": "90"})
    for name in ("accuracy", "class_accuracy"):
        assert by_rotation["90"][name] == found["metrics"][name]
        assert shown(answer.out, name) == f"{found['metrics'][name]:.4g}"
    assert shown(answer.out, "loss") == f"{found['metrics']['loss']:.4g}"
    assert found["metrics"]["loss"] != result["test"]["loss"]


def shown(text: str, metric: str) -> str:
    """The value in the row of a metric."""
    (row,) = (line for line in text.splitlines() if metric in line.replace("│", " ").split()[:1])
    return row.replace("│", " ").split()[1]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["task.test_rotation=90", "split=valid"], ["task.test_rotation:", "split=test", "split=valid"]),
        (["task.test_rotation=200"], ["task.test_rotation=200:", "0 to 180", "so3"]),
        (["task.test_rotation=sideways"], ["task.test_rotation=sideways:", "0 to 180", "so3"]),
        (["task.test_rotations=90"], ["task.test_rotations", "test_rotation"]),
        (["task.num_points=90"], ["task.num_points"]),
    ],
)
def test_rotations_that_cannot_be_measured_are_told_in_one_sentence(
    run: Run, tmp_path: Path, root: Path, words: list[str], named: list[str]
) -> None:
    folder, _ = trained(run, tmp_path, root, "deepset")
    answer = run("eval", f"checkpoint={folder}", *words)
    assert answer.status != 0
    assert answer.out == ""
    for word in named:
        assert word in answer.err
    assert "Traceback" not in answer.err
    assert len(answer.err.strip().splitlines()) <= 2


def test_other_experiments_have_no_test_rotation(run: Run, tmp_path: Path) -> None:
    checkpoints = tmp_path / "run" / CHECKPOINTS
    checkpoints.mkdir(parents=True)
    best = {"step": 0, "metrics": {}, "state_dict": {"weight": torch.zeros(1)}, "facts": {}}
    ckpt.write_best(checkpoints, asdict(Config()), best)
    answer = run("eval", "checkpoint=run", "task.test_rotation=90")
    assert answer.status != 0
    assert "task.test_rotation:" in answer.err
    assert "nbody" in answer.err
    assert len(answer.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["task.test_rotation=sideways"], ["task.test_rotation=sideways", "0 to 180"]),
        (["task.num_points=2049"], ["task.num_points=2049", "2048"]),
        (["task.num_neighbors=32"], ["task.num_neighbors=32", "31"]),
        (["task.augmentation=horizontal"], ["task.augmentation=horizontal", "known: none, so3, vertical"]),
        (["model=deepset", "task.height=true"], ["task.height", "task.inputs=edges"]),
    ],
)
def test_training_with_what_cannot_be_is_told_in_one_sentence(
    run: Run, root: Path, words: list[str], named: list[str]
) -> None:
    answer = run("train", *_DATA, *_ONE_STEP, f"data.root={root}", *words)
    assert answer.status != 0
    for word in named:
        assert word in answer.err
    assert "Traceback" not in answer.err
    assert answer.files == []
