"""Training on point clouds from end to end: its record, resumed, by two processes, and measured again."""

from __future__ import annotations

import os
import signal
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from se3t.config import Config, NBodyData, NBodyTask, OptimConfig, TFNModel
from se3t.data.clouds.dataset import baseline_accuracies
from se3t.errors import UserError
from se3t.fiber import Features
from se3t.graph import Graph
from se3t.measure.evaluate import evaluate
from se3t.models.auxiliary import AuxiliaryLoss
from se3t.runs import RunFolder, read_json
from se3t.runs.names import CHECKPOINTS, DETAILS, PROVENANCE, RESULT
from se3t.tasks.base import Task
from se3t.tasks.classification import ClassificationTask, CloudBatch
from se3t.training import checkpoint as ckpt
from se3t.training.feed import StepFeed
from se3t.training.train import train

from .cloud_parts import (
    COUNTS,
    SMALL,
    TRAINED,
    build,
    build_on,
    cloud_data,
    config_of,
    finished_run,
    launch_quickly,
    moving_config,
    new_processes,
    plain_config,
)
from .steps import assert_same_step, gradients

TIMES = {"seconds", "training_seconds", "steps_per_second", "samples_per_second", "peak_memory_bytes"}
SETTINGS = {"config", "command", "resume", "digest"}
ELSEWHERE = {"python"}  # random numbers that the checks of shapes draw


def lines_of(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [line for line in RunFolder(folder).read_metrics() if line["kind"] == kind]


def details_of(folder: Path) -> dict[str, Any]:
    return read_json(folder / DETAILS)


def assert_equal(left: Any, right: Any, where: str) -> None:
    assert type(left) is type(right), where
    if isinstance(left, dict):
        assert left.keys() == right.keys(), where
        for key in left.keys() - TIMES - SETTINGS - ELSEWHERE:
            assert_equal(left[key], right[key], f"{where}.{key}")
    elif isinstance(left, list | tuple):
        assert len(left) == len(right), where
        for number, pair in enumerate(zip(left, right, strict=True)):
            assert_equal(*pair, f"{where}[{number}]")
    elif isinstance(left, Tensor):
        assert torch.equal(left, right), where
    else:
        assert left == right, where


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path]:
    config = moving_config(tmp_path_factory.mktemp("finished"))
    return config, train(config, build=build).parent


# --- the record -------------------------------------------------------------------------------------------------------


def test_every_evaluation_tells_accuracy_and_symmetry(finished: tuple[Config, Path]) -> None:
    _, folder = finished
    valid = lines_of(folder, "valid")
    assert [(line["step"], line["epoch"]) for line in valid] == [(3, 0.5), (6, 1.0), (8, pytest.approx(4 / 3))]
    for line in valid:
        assert {"loss", "accuracy", "class_accuracy", "flipped_edges", "rebuilt_error", "changed_class"} <= line.keys()
        assert line["equivariance_error"] < 1e-4
    (test,) = lines_of(folder, "test")
    assert 0 <= test["accuracy"] <= 1


def test_the_result_names_the_data_and_what_is_reached_without_a_network(finished: tuple[Config, Path]) -> None:
    config, folder = finished
    result = read_json(folder / RESULT)
    data = cloud_data()
    assert result["data"]["sizes"] == COUNTS
    assert result["data"]["preset"] == "synthetic shapes15, boxes"
    assert result["data"]["checksum"] == data.checksum
    assert result["data"]["classes"] == list(data.classes)
    expected = {name: list(pair) for name, pair in baseline_accuracies(data, "test").items()}
    assert (result["data"]["baselines"], result["data"]["baseline_split"]) == (expected, "test")
    assert result["config"]["task"] == asdict(config)["task"]
    assert set(result["test"]) == set(result["valid"]) == set(result["units"])


def test_details_are_every_test_object_and_give_the_accuracy_of_the_result(finished: tuple[Config, Path]) -> None:
    _, folder = finished
    result, details, data = read_json(folder / RESULT), details_of(folder), cloud_data()
    assert (details["split"], details["classes"]) == ("test", list(data.classes))
    assert details["label"] == data.labels[data.splits["test"]].tolist()
    assert len(details["predicted"]) == len(details["label"]) == COUNTS["test"]
    label, predicted = np.array(details["label"]), np.array(details["predicted"])
    assert (label == predicted).sum() / len(label) == result["test"]["accuracy"]
    per_class = [(predicted[label == one] == one).mean() for one in np.unique(label)]
    assert np.mean(per_class) == pytest.approx(result["test"]["class_accuracy"], rel=1e-12)


def test_facts_lie_with_the_weights_in_every_checkpoint(finished: tuple[Config, Path]) -> None:
    config, folder = finished
    facts = build(config)[0].facts()
    best = ckpt.read_checkpoint(folder / CHECKPOINTS / ckpt.BEST)
    newest = ckpt.newest_checkpoint(folder / CHECKPOINTS)
    assert newest is not None
    assert best.content["facts"] == newest.content["facts"] == newest.content["run"]["best"]["facts"] == facts
    assert (facts["up_axis"], facts["synthetic"]) == ("y", True)


def test_a_checkpoint_is_measured_as_in_training(finished: tuple[Config, Path]) -> None:
    _, folder = finished
    result = read_json(folder / RESULT)
    for split in ("valid", "test"):
        found = evaluate(folder, split=split, build=build)
        assert found["metrics"].keys() == result[split].keys()
        for name, value in result[split].items():
            assert found["metrics"][name] == pytest.approx(value, rel=1e-6, abs=1e-6), (split, name)


def test_measuring_leaves_details_as_they_are(finished: tuple[Config, Path]) -> None:
    _, folder = finished
    before = (folder / DETAILS).read_bytes()
    evaluate(folder, split="valid", build=build)
    evaluate(folder, overrides={"task.test_rotation": "90"}, build=build)
    assert (folder / DETAILS).read_bytes() == before


# --- what a step sees -------------------------------------------------------------------------------------------------


def batches_seen(config: Config, monkeypatch: pytest.MonkeyPatch) -> list[CloudBatch]:
    """All batches of training, in order."""
    seen: list[CloudBatch] = []
    loss = ClassificationTask.loss

    def watching(self: ClassificationTask, prediction: Features, batch: CloudBatch) -> Tensor:
        seen.append(batch)
        return loss(self, prediction, batch)

    with monkeypatch.context() as patch:
        patch.setattr(ClassificationTask, "loss", watching)
        train(config, build=build)
    return seen


def test_points_are_new_in_every_step_and_the_same_for_the_same_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def config(runs: str, seed: int) -> Config:
        one_batch = {"max_steps": 3, "batch_size": 36, "eval_every": 9}  # every object in every step
        return replace(plain_config(tmp_path / runs, one_batch, sampling="random"), seed=seed)

    first, again, other = (batches_seen(config(*words), monkeypatch) for words in (("a", 0), ("b", 0), ("c", 1)))
    assert len(first) == 3
    for one, two in zip(first, again, strict=True):
        assert torch.equal(one.points, two.points)
        assert torch.equal(one.labels, two.labels)

    def points_of_steps(seen: list[CloudBatch], seed: int) -> list[Tensor]:
        feed = StepFeed(36, 36, seed)
        return [batch.points[feed.batch(step).argsort()] for step, batch in enumerate(seen)]

    steps = [*points_of_steps(first, 0), *points_of_steps(other, 1)]
    for place, one in enumerate(steps):
        for two in steps[:place]:
            assert bool((one != two).flatten(1).any(dim=1).all())


class Penalised(AuxiliaryLoss):
    """One logit for each class; what it is trained for besides is that they are small."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))

    def forward(self, graph: Graph) -> Features:
        return {0: self.logits.expand(graph.num_graphs, 3)[..., None]}

    def auxiliary_loss(self) -> Tensor:
        return 1000 * self.logits.square().sum()


def test_a_term_that_a_model_has_for_training_alone_is_trained_and_not_measured(tmp_path: Path) -> None:
    config = replace(
        plain_config(tmp_path, trainer={"max_steps": 1, "checkpoint_every": 1}), optim=OptimConfig(lr=0.01)
    )
    folder = train(config, build=lambda config: (build(config)[0], Penalised())).parent
    (gradient,) = gradients(folder)
    torch.testing.assert_close(gradient, torch.tensor([2000.0, 4000.0, 6000.0]), rtol=1e-3, atol=0)
    assert read_json(folder / RESULT)["valid"]["loss"] < 10


# --- resumed ----------------------------------------------------------------------------------------------------------


def train_until_killed(config: Config) -> None:
    """As by lack of memory, in the sixth step: five are done and four are saved."""
    steps, loss = [0], ClassificationTask.loss

    def dying(self: ClassificationTask, prediction: Features, batch: CloudBatch) -> Tensor:
        steps[0] += torch.is_grad_enabled()
        if steps[0] == 6:
            os.kill(os.getpid(), signal.SIGKILL)
        return loss(self, prediction, batch)

    ClassificationTask.loss = dying  # of another process
    train(config, build=build)


@pytest.mark.parametrize("name", TRAINED)
def test_continuing_after_a_kill_changes_nothing(
    name: str, finished: tuple[Config, Path], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = moving_config(tmp_path, name)
    process = new_processes().Process(target=train_until_killed, args=(config,))
    process.start()
    if config.model == finished[0].model:
        expected = finished[1]
    else:
        expected = train(replace(config, runs=str(tmp_path_factory.mktemp(name))), build=build).parent
    process.join()
    assert process.exitcode == -signal.SIGKILL
    torch.manual_seed(999)
    np.random.seed(999)
    folder = train(replace(config, resume=True), build=build).parent
    sessions = read_json(folder / PROVENANCE)["sessions"]
    assert [one["resumed_from_step"] for one in sessions] == [None, 4]
    for read in (
        lambda run: ckpt.newest_checkpoint(run / CHECKPOINTS).content,  # type: ignore[union-attr]
        lambda run: ckpt.read_checkpoint(run / CHECKPOINTS / ckpt.BEST).content,
        lambda run: RunFolder(run).read_metrics(),
        lambda run: read_json(run / RESULT),
        details_of,
    ):
        assert_equal(read(expected), read(folder), "run")


def test_a_run_with_a_step_schedule_may_be_continued_to_more_steps(tmp_path: Path) -> None:
    short, long = (plain_config(tmp_path / runs, trainer={"max_steps": steps}) for runs, steps in (("a", 4), ("a", 7)))
    folder = train(short, build=build).parent
    assert train(replace(long, resume=True), build=build).parent == folder
    at_once = train(replace(long, runs=str(tmp_path / "b")), build=build).parent
    contents = [ckpt.newest_checkpoint(run / CHECKPOINTS) for run in (folder, at_once)]
    assert contents[0] is not None
    assert contents[1] is not None
    assert_equal(contents[0].content["state_dict"], contents[1].content["state_dict"], "weights")
    assert contents[0].content["optimizer_states"][0]["param_groups"][0]["lr"] == 1e-2 * 0.5**2  # of step 6 of 3 each


# --- two processes ----------------------------------------------------------------------------------------------------


@pytest.mark.e2e
def test_two_processes_take_the_step_and_measure_the_errors_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch_quickly(monkeypatch)

    def config(devices: int) -> Config:
        budget = {"devices": devices, "max_steps": 1, "eval_every": 1, "checkpoint_every": 1, "precision": "64"}
        settings = config_of(tmp_path, SMALL["tfn"], trainer=budget, augmentation="so3", jitter=0.01, height=True)
        return replace(settings, optim=OptimConfig(lr=1e-3))

    alone, together = (train(config(devices), build=build).parent for devices in (1, 2))
    assert_same_step(alone, together, least=1e-3, tolerance=1e-10)
    # Eleven objects, four at a time: the processes measure seven and four of them, and each object counts once.
    (measured,) = lines_of(together, "valid")
    expected = evaluate(together, split="valid", build=build)["metrics"]
    for name, value in expected.items():
        assert measured[name] == pytest.approx(value, rel=1e-6, abs=1e-12), name
    assert len(details_of(together)["label"]) == COUNTS["test"]


# --- measured with test objects turned --------------------------------------------------------------------------------


def test_test_objects_are_turned_when_asked_for(tmp_path: Path) -> None:
    folder = finished_run(tmp_path / "run", plain_config(tmp_path, test_rotation="0"))
    results = {
        text: evaluate(folder, overrides={"task.test_rotation": text}, build=build)["metrics"]
        for text in ("0", "90", "so3")
    }
    assert results["0"] == evaluate(folder, build=build)["metrics"] == read_json(folder / RESULT)["test"]
    assert len({found["loss"] for found in results.values()}) == 3
    turned = finished_run(tmp_path / "turned", plain_config(tmp_path, test_rotation="90"))
    assert read_json(turned / RESULT)["test"] == results["90"]  # which is what training would have found
    assert evaluate(turned, overrides={"task.test_rotation": "0"}, build=build)["metrics"] == results["0"]


@pytest.mark.parametrize(
    ("rotation", "split", "message"),
    [
        ("200", "test", r"task\.test_rotation=200: expected degrees from 0 to 180"),
        ("sideways", "test", r"task\.test_rotation=sideways: expected degrees from 0 to 180"),
        ("90", "valid", r"task\.test_rotation: rotates the objects of split=test only, not those of split=valid"),
        ("0", "train", r"task\.test_rotation: rotates the objects of split=test only, not those of split=train"),
    ],
)
def test_rotations_that_cannot_be_measured_are_refused_in_one_sentence(
    rotation: str, split: str, message: str, tmp_path: Path
) -> None:
    folder = finished_run(tmp_path / "run", plain_config(tmp_path))
    with pytest.raises(UserError, match=f"^{message}") as caught:
        evaluate(folder, split=split, overrides={"task.test_rotation": rotation}, build=build)
    assert "\n" not in str(caught.value)


def test_other_experiments_have_no_test_rotation(tmp_path: Path) -> None:
    config = Config(
        runs=str(tmp_path),
        data=NBodyData(root=str(tmp_path / "data"), num_train=8, num_valid=4, num_test=4, data_seed=0),
        task=NBodyTask(),
        model=TFNModel(num_layers=1, num_degrees=2, channels=2),
    )
    config = replace(config, trainer=replace(config.trainer, max_steps=1, batch_size=4, accelerator="cpu"))
    config.trainer.progress = False
    folder = train(config).parent
    with pytest.raises(UserError, match=r"^task\.test_rotation: .*nbody") as caught:
        evaluate(folder, overrides={"task.test_rotation": "90"})
    assert "\n" not in str(caught.value)


# --- other data -------------------------------------------------------------------------------------------------------


def building(**changes: Any) -> Any:
    def make(config: Config) -> tuple[Task, nn.Module]:
        return build_on(cloud_data(**changes), config)

    return make


def test_weights_are_not_measured_on_other_classes_or_with_another_vertical(tmp_path: Path) -> None:
    folder = finished_run(tmp_path / "run", plain_config(tmp_path))
    expected = evaluate(folder, build=build)["metrics"]
    assert evaluate(folder, build=building(checksum="other"))["metrics"] == expected
    with pytest.raises(UserError, match=r"data: these weights were trained on data with up_axis y, these data have z"):
        evaluate(folder, build=building(up_axis=2))
    with pytest.raises(UserError, match=r"data: these weights were trained on data with classes \['tower'"):
        evaluate(folder, build=building(classes=("tower", "plate", "stick")))
    with pytest.raises(UserError):
        evaluate(folder, build=building(classes=("tower", "plate", "beam", "stick")))


def test_an_interrupted_run_is_not_continued_on_other_objects(tmp_path: Path) -> None:
    config = plain_config(tmp_path, trainer={"max_steps": 2})
    folder = train(config, build=build).parent
    more = replace(config, resume=True, trainer=replace(config.trainer, max_steps=4))
    with pytest.raises(UserError, match="checksum"):
        train(more, build=building(checksum="other"))
    assert train(more, build=build).parent == folder
