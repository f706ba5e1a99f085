"""Training on molecules from end to end: resumed, by two processes, and without a test split."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from data.molecules.parts import crowd, property_data, split_words, without, write
from se3t.config import TARGETS, Config, DeepSetModel, OptimConfig, QM9Data, SE3TransformerModel, TrainerConfig
from se3t.config import PropertyTask as PropertyTaskConfig
from se3t.data.qm9.prepare import store_path
from se3t.errors import UserError
from se3t.experiments.qm9 import parse_record
from se3t.measure.evaluate import evaluate
from se3t.models import build_model
from se3t.precision import data_dtype, default_dtype
from se3t.runs import Fields, RunFolder, read_json
from se3t.runs.names import CHECKPOINTS, PROVENANCE, RESULT
from se3t.tasks.base import Task
from se3t.tasks.property import PropertyTask
from se3t.training import checkpoint as ckpt
from se3t.training.train import train

from .cloud_parts import new_processes
from .steps import assert_same_step

TIMES = {"seconds", "training_seconds", "steps_per_second", "samples_per_second", "peak_memory_bytes"}
SETTINGS = {"config", "command", "resume", "digest"}
ELSEWHERE = {"composition", "python"}  # least squares of LAPACK; random numbers that the checks of shapes draw


def small_config(runs: Path, **trainer: Any) -> Config:
    """A tiny network, and a schedule, averages and evaluations that carry state; 20 molecules train, 7 validate."""
    budget = {"max_steps": 8, "batch_size": 6, "eval_batch_size": 4, "eval_every": 3, "checkpoint_every": 2}
    settings = {**budget, "accelerator": "cpu", "progress": False, "num_equivariance_samples": 1, **trainer}
    return Config(
        experiment="qm9",
        runs=str(runs),
        data=QM9Data(),
        task=PropertyTaskConfig(),
        model=SE3TransformerModel(num_layers=1, num_degrees=2, channels=4, channels_div=2, pool_channels=4),
        optim=OptimConfig(lr=1e-2, schedule="cosine", weight_decay=0.1, clip_norm=1.0),
        trainer=TrainerConfig(**settings),
    )


def build(config: Config) -> tuple[Task, nn.Module]:
    """What ``se3t.training.run.build_parts`` does, on molecules in memory."""
    data = property_data()
    task = PropertyTask(config.task, without(data, "test") if config.preset == "no test" else data, config.data.graph)
    ckpt.seed_everything(config.seed)
    with default_dtype(data_dtype(config.trainer.precision)):
        model = build_model(
            config.model,
            fiber_in=task.fiber_in,
            fiber_out=task.fiber_out,
            num_edge_scalars=task.num_edge_scalars,
            pooled=task.pooled,
        )
    return task, model


def lines_of(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [line for line in RunFolder(folder).read_metrics() if line["kind"] == kind]


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
    elif isinstance(left, torch.Tensor):
        assert torch.equal(left, right), where
    else:
        assert left == right, where


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path]:
    config = small_config(tmp_path_factory.mktemp("finished"), ema_decay=0.7)
    return config, train(config, build=build).parent


# --- the record -------------------------------------------------------------------------------------------------------


def test_every_evaluation_tells_the_epoch_and_the_error_in_its_unit(finished: tuple[Config, Path]) -> None:
    _, folder = finished
    valid = lines_of(folder, "valid")
    assert [(line["step"], line["epoch"]) for line in valid] == [(3, 0.9), (6, 1.8), (8, 2.4)]  # 6 of 20 molecules each
    for line in valid:
        assert {"loss", "mae", "relative_mae", "equivariance_error", "steps_per_second"} <= line.keys()
        assert line["equivariance_error"] < 1e-4
    (test,) = lines_of(folder, "test")
    assert test["mae"] > 0


def test_the_result_is_the_error_in_the_unit_of_the_property(finished: tuple[Config, Path]) -> None:
    _, folder = finished
    result = read_json(folder / RESULT)
    assert (result["units"]["mae"], result["data"]["unit"], result["data"]["graph"]) == ("meV", "meV", "bonds")
    assert result["test"]["mae"] == pytest.approx(result["test"]["loss"] * result["data"]["std"], rel=1e-9)
    assert result["test"]["relative_mae"] == pytest.approx(
        result["test"]["mae"] / result["data"]["baselines"]["mean"][0], rel=1e-9
    )
    assert result["samples_per_second"] == pytest.approx(6 * result["steps_per_second"])
    parsed = parse_record(Fields(result, "here"))
    assert (parsed.model, parsed.data.measured_on, parsed.metrics["value"]) == (
        "se3_transformer",
        "test",
        result["test"]["mae"],
    )


def test_facts_lie_with_the_weights_in_every_checkpoint(finished: tuple[Config, Path]) -> None:
    config, folder = finished
    facts = build(config)[0].facts()
    best = ckpt.read_checkpoint(folder / CHECKPOINTS / ckpt.BEST)
    assert best.content["facts"] == facts
    newest = ckpt.newest_checkpoint(folder / CHECKPOINTS)
    assert newest is not None
    assert newest.content["facts"] == facts
    assert newest.content["run"]["best"]["facts"] == facts
    assert facts["elements_seen"] == [1, 6, 7, 8, 9]


def test_a_checkpoint_is_measured_as_in_training(finished: tuple[Config, Path]) -> None:
    _, folder = finished
    result = read_json(folder / RESULT)
    for split in ("valid", "test"):
        found = evaluate(folder, split=split, build=build)
        for name, value in result[split].items():
            assert found["metrics"][name] == pytest.approx(value, rel=1e-6, abs=1e-6), (split, name)
    assert found["units"]["mae"] == "meV"


def doubled_build(config: Config) -> tuple[Task, nn.Module]:
    """Other training molecules, those of validation and test being the same."""
    task, model = build(config)
    assert isinstance(task, PropertyTask)
    values = task.data.values.copy()
    values[task.data.splits["train"]] *= 2
    return PropertyTask(config.task, replace(task.data, values=values)), model


def test_the_error_of_trained_weights_does_not_depend_on_the_training_molecules_at_hand(
    finished: tuple[Config, Path],
) -> None:
    _, folder = finished
    expected, found = (evaluate(folder, build=make)["metrics"] for make in (build, doubled_build))
    assert (found["mae"], found["loss"]) == (expected["mae"], expected["loss"])
    assert found["relative_mae"] != expected["relative_mae"]


# --- an empty split ---------------------------------------------------------------------------------------------------


def test_without_a_test_split_the_result_is_the_validation_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = replace(small_config(tmp_path, max_steps=3), preset="no test", model=DeepSetModel(width=4))
    path = train(config, build=build)
    result = read_json(path)
    assert result["test"] is None
    assert result["valid"]["mae"] > 0
    assert result["data"]["sizes"]["test"] == 0
    assert "the data hold no test split: the result is the validation error" in caplog.text
    assert lines_of(path.parent, "test") == []
    parsed = parse_record(Fields(result, "here"))
    assert (parsed.data.measured_on, parsed.metrics["value"]) == ("valid", result["valid"]["mae"])
    assert train(config, build=build) == path  # which is reported again, and not trained again
    with pytest.raises(UserError, match="split=test: the data hold no sample of that split; use one of split=train"):
        evaluate(path.parent, split="test", build=build)
    assert evaluate(path.parent, split="valid", build=build)["metrics"]["mae"] == pytest.approx(result["valid"]["mae"])


# --- resumed ----------------------------------------------------------------------------------------------------------


def train_until_killed(runs: Path) -> None:
    """In the sixth step: five are done and four are saved."""
    steps, loss = [0], PropertyTask.loss

    def dying(self: PropertyTask, prediction: Any, batch: Any) -> torch.Tensor:
        steps[0] += torch.is_grad_enabled()
        if steps[0] == 6:
            os.kill(os.getpid(), signal.SIGKILL)
        return loss(self, prediction, batch)

    PropertyTask.loss = dying  # of another process
    train(small_config(runs, ema_decay=0.7), build=build)


class Interrupted(Exception):
    pass


def interrupt_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, loss = [0], PropertyTask.loss

    def failing(self: PropertyTask, prediction: Any, batch: Any) -> torch.Tensor:
        calls[0] += 1
        if calls[0] > steps:
            raise Interrupted
        return loss(self, prediction, batch)

    monkeypatch.setattr(PropertyTask, "loss", failing)


def test_continuing_after_a_kill_and_another_interruption_changes_nothing(
    finished: tuple[Config, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, expected = finished
    process = new_processes().Process(target=train_until_killed, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    config = replace(config, runs=str(tmp_path), resume=True)
    with monkeypatch.context() as patch:  # five steps are done and four are saved: now the fifth to seventh
        interrupt_after(3, patch)
        with pytest.raises(Interrupted):
            train(config, build=build)
    torch.manual_seed(999)
    folder = train(config, build=build).parent
    sessions = read_json(folder / PROVENANCE)["sessions"]
    assert [one["resumed_from_step"] for one in sessions] == [None, 4, 6]
    for read in (
        lambda run: ckpt.newest_checkpoint(run / CHECKPOINTS).content,  # type: ignore[union-attr]
        lambda run: ckpt.read_checkpoint(run / CHECKPOINTS / ckpt.BEST).content,
        lambda run: RunFolder(run).read_metrics(),
        lambda run: read_json(run / RESULT),
    ):
        assert_equal(read(expected), read(folder), "run")


# --- two processes ----------------------------------------------------------------------------------------------------


@pytest.mark.e2e
def test_two_processes_take_the_step_and_measure_the_errors_of_one(tmp_path: Path) -> None:
    def config(devices: int) -> Config:
        settings = small_config(tmp_path, devices=devices, max_steps=1, eval_every=1, precision="64")
        return replace(settings, optim=OptimConfig(lr=1e-3))

    alone, together = (train(config(devices), build=build).parent for devices in (1, 2))
    assert_same_step(alone, together, least=1e-2, tolerance=1e-6)
    # Seven molecules, four at a time: the processes measure four and three of them, and each molecule counts once.
    (measured,) = lines_of(together, "valid")
    expected = evaluate(together, split="valid", build=build)["metrics"]
    for name in ("loss", "mae", "relative_mae", "equivariance_error"):
        assert measured[name] == pytest.approx(expected[name], rel=1e-6, abs=1e-12), name
    np.testing.assert_allclose(measured["mae"], lines_of(alone, "valid")[0]["mae"], rtol=1e-6)


# --- data that have changed -------------------------------------------------------------------------------------------


def test_a_finished_run_is_reported_for_its_own_data_alone(tmp_path: Path) -> None:
    data = QM9Data(root=str(tmp_path / "data"))
    config = replace(
        small_config(tmp_path / "runs", max_steps=2),
        data=data,
        task=PropertyTaskConfig(inputs="atoms_positions"),
        model=DeepSetModel(width=8),
    )
    numbers = [float(number) for number in range(9)]
    words = split_words({"train": 6, "valid": 3})
    write(store_path(data), crowd(9), words, dict.fromkeys(TARGETS, numbers))
    result = train(config)
    before = result.read_bytes()
    assert train(config) == result
    write(store_path(data), crowd(9), words, {key: [*numbers[:-1], 7.5] for key in TARGETS})
    with pytest.raises(UserError, match=r"this run has finished on data with checksum .* and the data now have"):
        train(config)
    assert result.read_bytes() == before
