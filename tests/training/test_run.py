"""Training and evaluation from end to end, on small data in memory."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from se3t.config import Config, OptimConfig, TFNModel
from se3t.errors import UserError
from se3t.experiments.nbody import parse_record
from se3t.measure.evaluate import evaluate
from se3t.runs import Fields, RunFolder, read_json
from se3t.runs.names import CHECKPOINTS, CONFIG, RESULT
from se3t.tasks.base import Task
from se3t.tasks.nbody import NBodyTask
from se3t.training import checkpoint as ckpt
from se3t.training.run import Run, choose_device
from se3t.training.train import train

from .parts import build, linear_config, small_config


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path]:
    config = small_config(tmp_path_factory.mktemp("finished"), max_steps=100, eval_every=25, checkpoint_every=50)
    return config, train(config, build=build).parent


def poison(monkeypatch: pytest.MonkeyPatch, step: int, spoil: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Spoil the training loss of one step."""
    calls = [0]
    loss: Callable[..., torch.Tensor] = NBodyTask.loss

    def spoiled(self: NBodyTask, prediction: Any, batch: Any) -> torch.Tensor:
        calls[0] += 1
        value = loss(self, prediction, batch)
        return spoil(value) if calls[0] == step else value

    monkeypatch.setattr(NBodyTask, "loss", spoiled)


# --- the run record ---------------------------------------------------------------------------------------------------


def test_the_record_is_complete_and_readable_by_the_tables(finished: tuple[Config, Path]) -> None:
    config, folder = finished
    assert folder == RunFolder.of(config).path
    names = {path.name for path in folder.iterdir()} - {".lock"}
    assert names == {"config.yaml", "provenance.json", "metrics.jsonl", "result.json", "checkpoints", "console.log"}
    result = read_json(folder / RESULT)
    parsed = parse_record(Fields(result, "here"))
    assert (parsed.model, parsed.seed, parsed.steps_done, parsed.max_steps) == ("deepset", 0, 100, 100)
    assert parsed.data.checksum == "c0ffee"
    assert result["budget"]["seconds"] > 0
    assert result["steps_per_second"] > 0
    assert result["peak_memory_bytes"] > 1e6


def test_everything_is_logged_at_every_evaluation(finished: tuple[Config, Path]) -> None:
    _, folder = finished
    lines = RunFolder(folder).read_metrics()
    valid = [line for line in lines if line["kind"] == "valid"]
    assert [line["step"] for line in valid] == [25, 50, 75, 100]
    wanted = {f"{prefix}_{part}" for prefix in ("mse", "relative_mse", "equivariance_error") for part in "xv"} | {
        "loss"
    }
    for line in valid:
        assert {*wanted, "loss", "steps_per_second", "peak_memory_bytes", "seconds"} <= line.keys()
    assert [line["step"] for line in lines if line["kind"] == "train"] == [50, 100]


def test_training_lowers_the_loss(finished: tuple[Config, Path]) -> None:
    lines = RunFolder(finished[1]).read_metrics()
    losses = [line["loss"] for line in lines if line["kind"] == "valid"]
    assert losses[-1] < 0.8 * losses[0]


def test_test_is_measured_once_with_the_best_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []
    take = NBodyTask.batch

    def counting(self: NBodyTask, split: str, index: torch.Tensor, draw: int | None = None) -> Any:
        measured.append(split)
        return take(self, split, index, draw)

    monkeypatch.setattr(NBodyTask, "batch", counting)
    # Steps too long: the loss rises at first, and the last weights are not the best ones.
    config = replace(small_config(tmp_path, eval_every=1, eval_batch_size=6), optim=OptimConfig(lr=0.1))
    folder = train(config, build=build).parent
    assert measured.count("test") == 1
    lines = RunFolder(folder).read_metrics()
    losses = {line["step"]: line["loss"] for line in lines if line["kind"] == "valid"}
    result = read_json(folder / RESULT)
    best_step = min(losses, key=lambda step: losses[step])
    assert result["best_step"] == best_step < 12
    assert result["valid"]["loss"] == losses[best_step]
    assert evaluate(folder, build=build)["metrics"] == result["test"]
    last = evaluate(ckpt.step_path(folder / CHECKPOINTS, 12), split="valid", build=build)
    assert last["metrics"]["loss"] == pytest.approx(losses[12], rel=1e-6)
    assert last["step"] == 12


def test_the_last_step_is_measured_even_off_the_schedule(tmp_path: Path) -> None:
    folder = train(small_config(tmp_path, eval_every=100), build=build).parent
    (line,) = [line for line in RunFolder(folder).read_metrics() if line["kind"] == "valid"]
    assert line["step"] == read_json(folder / RESULT)["best_step"] == 12


# --- the same line again ----------------------------------------------------------------------------------------------


def test_the_same_line_again_reports_the_finished_run(
    finished: tuple[Config, Path], caplog: pytest.LogCaptureFixture
) -> None:
    config, folder = finished
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with caplog.at_level(logging.INFO):
        assert train(config, build=build) == folder / RESULT
        assert train(replace(config, resume=True), build=build) == folder / RESULT
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert "finished before" in caplog.text


def test_runs_of_other_settings_are_named_where_there_is_nothing_to_continue(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = small_config(tmp_path, max_steps=4)
    first = train(config, build=build).parent
    other = replace(config, optim=replace(config.optim, lr=0.5), resume=True)
    with caplog.at_level(logging.WARNING):
        train(other, build=build)
    assert f"other settings: {first.name}" in caplog.text


def test_a_kernel_that_cannot_run_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("se3t.nn.kernels.native.compiler.unavailable", lambda device, dtype: "there is no compiler")
    config = replace(small_config(tmp_path), model=TFNModel(kernel="native"))
    with pytest.raises(UserError, match="kernel 'native': there is no compiler; use kernel='auto'"):
        train(config)
    assert not Path(config.runs).exists() or not list(Path(config.runs).rglob("*"))


def test_an_unfinished_run_asks_for_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_config(tmp_path)
    with monkeypatch.context() as patch:
        poison(patch, 6, lambda loss: loss * float("nan"))
        with pytest.raises(UserError):
            train(config, build=build)
    with pytest.raises(UserError, match=r"interrupted.*resume=true.*remove the folder"):
        train(config, build=build)
    assert train(replace(config, resume=True), build=build).exists()


def test_a_longer_budget_asks_for_resume_and_a_shorter_one_is_refused(finished: tuple[Config, Path]) -> None:
    config, _ = finished
    longer, shorter = (replace(config, trainer=replace(config.trainer, max_steps=steps)) for steps in (150, 50))
    with pytest.raises(UserError, match=r"finished 100 of 150 steps.*resume=true"):
        train(longer, build=build)
    with pytest.raises(UserError, match=r"trainer\.max_steps=50.*100 steps already"):
        train(replace(shorter, resume=True), build=build)


def test_a_folder_of_another_run_is_not_reported_as_this_one(finished: tuple[Config, Path]) -> None:
    config, folder = finished
    with pytest.raises(UserError, match=r"holds another run, with another seed"):
        train(replace(config, seed=5), folder, build=build)


def test_resume_of_a_run_that_never_was_starts_it(tmp_path: Path) -> None:
    assert train(replace(small_config(tmp_path), resume=True), build=build).exists()


def test_bad_input_leaves_no_folder(tmp_path: Path) -> None:
    def broken(config: Config) -> Any:
        raise UserError("no data")

    with pytest.raises(UserError, match="no data"):
        train(small_config(tmp_path), build=broken)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_refused_before_the_data_are_prepared() -> None:
    with pytest.raises(UserError, match=r"^runs: .*/dev/null is no folder"):
        train(small_config(Path("/dev/null/x")), build=lambda _: pytest.fail("data were prepared"))


# --- what can go wrong ------------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, 7, lambda loss: loss * float("nan"))
    config = small_config(tmp_path)
    with pytest.raises(UserError, match=r"training loss became nan in step 7; the last good checkpoint is kept"):
        train(config, build=build)
    folder = RunFolder.of(config).path
    assert not (folder / RESULT).exists()
    kept = ckpt.newest_checkpoint(folder / CHECKPOINTS)
    assert kept is not None
    assert kept.step == 4
    assert all(bool(value.isfinite().all()) for value in kept.content["state_dict"].values())


def test_no_checkpoint_is_promised_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, 2, lambda loss: loss * float("nan"))
    with pytest.raises(UserError, match="in step 2; there is no checkpoint of this run yet: lower"):
        train(small_config(tmp_path), build=build)


def test_an_interruption_by_the_user_stays_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(NBodyTask, "loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(small_config(tmp_path), build=build)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler  # the next one is heard, too


class _Overflow(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return gradient * float("inf")


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, 8, _Overflow.apply)  # the loss of step 8 is fine, its gradient is not
    config = small_config(tmp_path)
    with pytest.raises(UserError, match=r"weights '.*' are not finite after step 8"):
        train(config, build=build)
    kept = ckpt.newest_checkpoint(RunFolder.of(config).path / CHECKPOINTS)
    assert kept is not None
    assert kept.step == 4


def test_a_validation_loss_that_is_not_finite_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = NBodyTask.metrics

    def spoiled(self: NBodyTask, prediction: Any, batch: Any) -> dict[str, torch.Tensor]:
        return {name: value / 0 for name, value in metrics(self, prediction, batch).items()}

    monkeypatch.setattr(NBodyTask, "metrics", spoiled)
    with pytest.raises(UserError, match="validation loss became inf after step 5"):
        train(small_config(tmp_path), build=build)


def test_the_checkpoint_of_another_run_is_refused(finished: tuple[Config, Path], tmp_path: Path) -> None:
    _, folder = finished
    config = replace(small_config(tmp_path, max_steps=200, eval_every=25), optim=OptimConfig(lr=0.5), resume=True)
    checkpoints = RunFolder.of(config).path / CHECKPOINTS
    checkpoints.mkdir(parents=True)
    alien = ckpt.step_path(checkpoints, 100)
    alien.write_bytes(ckpt.step_path(folder / CHECKPOINTS, 100).read_bytes())
    with pytest.raises(UserError, match=r"another run, with optim\.lr=0\.01 where this one has optim\.lr=0\.5"):
        train(config, build=build)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(UserError, match="accelerator=gpu"):
        choose_device("gpu")


def test_a_batch_that_cannot_be_divided_among_devices_starts_no_process(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"batch_size=9.*devices=2"):
        train(small_config(tmp_path, devices=2, batch_size=9), build=build)
    assert not list(tmp_path.iterdir())


# --- variants ---------------------------------------------------------------------------------------------------------


def test_a_model_without_parameters_is_only_measured(tmp_path: Path) -> None:
    config = linear_config(tmp_path)
    folder = train(config, build=build).parent
    result = read_json(folder / RESULT)
    assert (result["parameters"], result["budget"]["steps_done"], result["best_step"]) == (0, 0, 0)
    assert result["test"]["relative_mse_x"] == pytest.approx(1, rel=1e-6)
    assert result["test"]["relative_mse_v"] == pytest.approx(1, rel=1e-6)
    assert result["test"]["equivariance_error_x"] < 1e-6
    assert result["test"]["equivariance_error_v"] == 0
    assert evaluate(folder, build=build)["metrics"] == result["test"]
    before = (folder / RESULT).stat().st_mtime_ns
    train(replace(config, trainer=replace(config.trainer, max_steps=99)), build=build)  # no steps, no difference
    assert (folder / RESULT).stat().st_mtime_ns == before


@pytest.mark.parametrize("precision", ["64", "bf16"])
def test_other_precisions_train(tmp_path: Path, precision: str) -> None:
    config = replace(small_config(tmp_path, precision=precision), optim=OptimConfig(lr=1e-2, clip_norm=1.0))
    folder = train(config, build=build).parent
    last = ckpt.newest_checkpoint(folder / CHECKPOINTS)
    assert last is not None
    dtypes = {value.dtype for value in last.content["state_dict"].values()}
    assert dtypes == {torch.float64 if precision == "64" else torch.float32}
    single = evaluate(folder, overrides={"trainer.precision": "32"}, build=build)["metrics"]
    own = evaluate(folder, build=build)["metrics"]
    assert own["mse_x"] == pytest.approx(single["mse_x"], rel=1e-5 if precision == "64" else 0.05)
    assert own["mse_x"] != single["mse_x"]
    assert torch.get_default_dtype() == torch.float32


def test_tf32_is_refused_without_a_gpu_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="precision tf32: only NVIDIA GPUs have it, this is cpu; use precision 32"):
        train(small_config(tmp_path, precision="tf32", accelerator="cpu"), build=build)
    assert not list(tmp_path.iterdir())


def test_weights_trained_in_tf32_are_measured_in_32_on_a_cpu(
    finished: tuple[Config, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = tmp_path / "converted.ckpt"
    content = ckpt.read_checkpoint(finished[1] / CHECKPOINTS / ckpt.BEST).content
    trainer = {**content["config"]["trainer"], "precision": "tf32"}
    ckpt.write_checkpoint(copy, {**content, "config": {**content["config"], "trainer": trainer}})
    with caplog.at_level("WARNING"):
        found = evaluate(copy, build=build)
    assert found["precision"] == "32"
    assert [record.getMessage() for record in caplog.records] == [
        "trained in precision tf32, which only NVIDIA GPUs have; measured in precision 32"
    ]
    assert found["metrics"] == evaluate(finished[1], overrides={"trainer.precision": "32"}, build=build)["metrics"]
    with pytest.raises(UserError, match="precision tf32"):
        evaluate(copy, overrides={"trainer.precision": "tf32"}, build=build)


def test_other_data_than_those_of_the_training_are_told(
    finished: tuple[Config, Path], caplog: pytest.LogCaptureFixture
) -> None:
    def build_on_other_data(config: Config) -> tuple[Task, nn.Module]:
        task, model = build(config)
        assert isinstance(task, NBodyTask)
        return NBodyTask(config.task, replace(task.dataset, checksum="0ther")), model

    with caplog.at_level(logging.WARNING):
        evaluate(finished[1], build=build)
        assert not caplog.records
        evaluate(finished[1], build=build_on_other_data)
    assert "trained on data with checksum c0ffee, measured on data with 0ther" in caplog.text


@pytest.mark.parametrize("decay", [0.2, 0.999])  # the smaller one is reached at once
def test_averaged_weights_are_the_recursion_of_all_weights(tmp_path: Path, decay: float) -> None:
    config = small_config(tmp_path / "ema", max_steps=4, eval_every=2, checkpoint_every=1, ema_decay=decay)
    folder = train(config, build=build).parent
    raw = []
    for steps in (1, 2, 3, 4):  # the weights after every step, from runs without averaging
        plain = train(small_config(tmp_path / f"{steps}", max_steps=steps, eval_every=9), build=build).parent
        raw.append(ckpt.read_checkpoint(ckpt.step_path(plain / CHECKPOINTS, steps)).content["state_dict"])
    content = ckpt.read_checkpoint(ckpt.step_path(folder / CHECKPOINTS, 4)).content
    for name, value in content["state_dict"].items():
        expected = raw[0][name].double()
        for count, weights in enumerate(raw[1:], start=1):
            own = min(decay, (1 + count) / (10 + count))
            expected = own * expected + (1 - own) * weights[name].double()
        assert torch.allclose(value.double(), expected, rtol=1e-5, atol=1e-7)
        assert torch.equal(content["current_model_state"][name], raw[3][name])  # averaging does not disturb training


def test_validation_and_the_best_checkpoint_use_the_averaged_weights(tmp_path: Path) -> None:
    config = small_config(tmp_path, max_steps=10, eval_every=10, checkpoint_every=10, ema_decay=0.9)
    folder = train(config, build=build).parent
    last = ckpt.read_checkpoint(ckpt.step_path(folder / CHECKPOINTS, 10)).content
    best = ckpt.read_checkpoint(ckpt.locate(folder)).content
    for name, value in best["state_dict"].items():
        assert torch.equal(value, last["state_dict"][name])
        assert torch.equal(best["current_model_state"][name], last["current_model_state"][name])
        assert not torch.equal(value, best["current_model_state"][name])
    (line,) = [line for line in RunFolder(folder).read_metrics() if line["kind"] == "valid"]
    assert evaluate(folder, split="valid", build=build)["metrics"]["loss"] == pytest.approx(line["loss"], rel=1e-6)


def test_early_stopping_ends_a_run_that_no_longer_improves(tmp_path: Path) -> None:
    config = small_config(tmp_path, max_steps=1000, eval_every=2, checkpoint_every=7, early_stopping=2)
    config = replace(config, optim=OptimConfig(lr=0.5))
    result = read_json(train(config, build=build))
    assert result["budget"]["stopped_early"]
    assert result["budget"]["steps_done"] == result["best_step"] + 4 < 1000
    before = RunFolder.of(config).path / RESULT
    assert train(replace(config, resume=True), build=build) == before  # it stays finished


def test_the_learning_rate_follows_the_schedule(tmp_path: Path) -> None:
    optim = OptimConfig(lr=0.02, schedule="cosine", warmup_steps=20, final_lr_ratio=0.0)
    config = replace(small_config(tmp_path, max_steps=100, eval_every=100), optim=optim)
    lines = RunFolder(train(config, build=build).parent).read_metrics()
    rates = [line["lr"] for line in lines if line["kind"] == "train"]
    # Steps 50 and 100 are the 49th and 99th counted from zero: t = 29/80 and 79/80.
    assert rates == pytest.approx([0.014164, 0.0000077], rel=1e-2)


def test_evaluation_counts_every_sample_once_whatever_the_batch_size(finished: tuple[Config, Path]) -> None:
    config, folder = finished
    task, model = build(config)
    best = ckpt.read_checkpoint(ckpt.locate(folder))
    ckpt.load_weights(model, best.weights, best.path)
    losses = []
    for batch_size in (1, 4, 5, 6, 100):
        trainer = replace(config.trainer, eval_batch_size=batch_size)
        run = Run(replace(config, trainer=trainer), RunFolder(folder), task, model, torch.device("cpu"))
        measured = run.measure("test")
        losses.append(measured["loss"])
    assert losses == pytest.approx([losses[0]] * 5, rel=1e-6)


def test_evaluation_restores_the_mode_of_the_model(finished: tuple[Config, Path]) -> None:
    config, _ = finished
    run = Run.prepare(config, RunFolder(finished[1]), build)
    run.to_device()
    run.model.train()
    run.measure("valid")
    assert run.model.training


@pytest.mark.parametrize(
    ("split", "precision", "message"),
    [
        ("tset", None, r"split=tset: unknown; did you mean 'test'"),
        ("test", "16", "16"),
    ],
)
def test_evaluating_something_unknown_is_refused(
    finished: tuple[Config, Path], split: str, precision: str | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        evaluate(finished[1], split, {"trainer.precision": precision}, build=build)


def test_evaluating_a_checkpoint_with_another_model_names_the_parameter(finished: tuple[Config, Path]) -> None:
    def other(config: Config) -> Any:
        return build(replace(config, model=replace(config.model, width=4)))

    with pytest.raises(UserError, match=r"best\.ckpt: a checkpoint of another model: parameter '.*shape"):
        evaluate(finished[1], build=other)


def test_a_trained_network_is_equivariant_to_rounding(tmp_path: Path) -> None:
    config = replace(
        small_config(tmp_path, max_steps=5, eval_every=5), model=TFNModel(num_layers=2, num_degrees=2, channels=2)
    )
    folder = train(config, build=build).parent
    single = read_json(folder / RESULT)["test"]
    double = evaluate(folder, overrides={"trainer.precision": "64"}, build=build)["metrics"]
    for name in ("equivariance_error_x", "equivariance_error_v"):
        assert single[name] < 1e-5
        assert double[name] < 1e-13


def test_importing_the_entry_does_not_import_lightning_or_wandb() -> None:
    code = "import sys, se3t.training.train; sys.exit(bool({'lightning', 'wandb', 'rdkit'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_configuration_of_a_run_can_be_read_back(finished: tuple[Config, Path]) -> None:
    from omegaconf import OmegaConf

    from se3t.config import to_config

    config, folder = finished
    settings: Any = OmegaConf.to_container(OmegaConf.load(folder / CONFIG))
    assert to_config(settings) == config
    assert json.loads((folder / RESULT).read_text())["config"] == asdict(config)
