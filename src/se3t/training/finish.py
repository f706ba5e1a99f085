"""The end of a run: the last weights are measured, the best ones chosen, and those measured on the test split, once."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from se3t import runs
from se3t.config import Config
from se3t.precision import data_dtype, forward_context
from se3t.runs import CHECKPOINTS, DETAILS, METRICS, RESULT, RunFolder, read_json, write_json
from se3t.tasks.base import Task
from se3t.training import checkpoint as ckpt
from se3t.training import record
from se3t.training.evaluation import evaluate_split, peak_memory_bytes
from se3t.training.loggers import Write
from se3t.training.stopwatch import ended_by

_log = logging.getLogger(__name__)


def finish(config: Config, folder: Path, task: Task, model: nn.Module, device: torch.device, log: Write) -> None:
    """Write ``best.ckpt`` and ``result.json``; nothing but the run folder is needed, so it can be done again after an
    interruption.

    Args:
        config: the run.
        folder: its folder, with the checkpoint of the last step; a model without parameters needs none.
        task: data and metrics.
        model: as built from ``config``; its weights are replaced.
        device: where to measure.
        log: takes (kind, step, values).
    """
    task.to(device, data_dtype(config.trainer.precision))
    model.to(device)
    last = ckpt.newest_checkpoint(folder / CHECKPOINTS)
    step, state = (0, ckpt.RunState()) if last is None else (last.step, last.state)
    best = state.best
    if last is None or step % config.trainer.eval_every:  # the schedule of evaluations has not covered the last step
        weights = _weights(model) if last is None else last.content["state_dict"]
        metrics = _measure(config, task, model, weights, "valid", device, folder)
        cost = {"steps_per_second": _speed(step, state), "peak_memory_bytes": peak_memory_bytes(device)}
        epoch = step * config.trainer.batch_size / task.size("train")
        log("valid", step, {"epoch": epoch, **metrics, **cost, "seconds": state.seconds, "final": True})
        if best is None or metrics["loss"] < state.best_loss:
            raw = {} if last is None else _raw_weights(last.content)
            best = ckpt.best_of(task, step, metrics, weights) | raw
    assert best is not None
    ckpt.write_best(folder / CHECKPOINTS, asdict(config), best)
    test: dict[str, float] | None = None
    keep: dict[str, list[Any]] = {}
    if task.size("test"):
        test = _measure(config, task, model, best["state_dict"], "test", device, folder, keep)
        log("test", best["step"], {**test, "final": True})
    else:
        _log.warning("the data hold no test split: the result is the validation error of the chosen weights")
    if keep:
        write_json(folder / DETAILS, {"split": "test", **task.facts(), **keep})
    result = _result(config, task, model, device, step, state, best, test)
    write_json(folder / RESULT, {**result, runs.DIGESTS: _digests(folder, best, keep)}, sealed=True)


def _digests(folder: Path, best: Mapping[str, Any], keep: Mapping[str, Any]) -> dict[str, str]:
    """By name the digests of the files that figures are drawn from, for readers to compare."""
    found = {METRICS: runs.digest_of_metrics(RunFolder(folder).read_metrics())}
    if keep:
        found[DETAILS] = runs.digest_of(read_json(folder / DETAILS))
    return {**found, f"{CHECKPOINTS}/{ckpt.BEST}": ckpt.digest_of_best(best)}


def catch_up(
    config: Config,
    folder: Path,
    task: Task,
    model: nn.Module,
    device: torch.device,
    resumed: ckpt.Checkpoint | None,
    log: Write,
) -> ckpt.Checkpoint | None:
    """Repeat an evaluation that a signal has interrupted, before the training continues.

    Args:
        config: the run.
        folder: its folder.
        task: data and metrics.
        model: as built from ``config``; its weights are replaced.
        device: where to measure.
        resumed: the checkpoint to continue from, if any.
        log: takes (kind, step, values).

    Returns:
        The checkpoint as it would be without the signal; it is written, too.
    """
    if resumed is None or not resumed.state.evaluation_due:
        return resumed
    state, step, content = resumed.state, resumed.step, resumed.content
    task.to(device, data_dtype(config.trainer.precision))
    metrics = _measure(config, task, model.to(device), content["state_dict"], "valid", device, folder)
    epoch = step * config.trainer.batch_size / task.size("train")
    cost = {"steps_per_second": _speed(step, state), "peak_memory_bytes": peak_memory_bytes(device)}
    log("valid", step, {"epoch": epoch, **metrics, **cost, "seconds": state.seconds})
    if not math.isfinite(metrics["loss"]):
        raise ckpt.not_finite(f"the validation loss became {metrics['loss']} after step {step}", resumed.path.parent)
    best = ckpt.best_of(task, step, metrics, dict(content["state_dict"]))
    if state.judge(best | _raw_weights(content), config.trainer.early_stopping) and state.best is not None:
        ckpt.write_best(folder / CHECKPOINTS, asdict(config), state.best)
    state.evaluation_due = False
    content["run"] = dict(vars(state))
    ckpt.write_checkpoint(resumed.path, content)
    return ckpt.Checkpoint(resumed.path, content)


def _raw_weights(content: Mapping[str, Any]) -> dict[str, Any]:
    """The weights behind averaged ones, where a checkpoint has them."""
    return {name: dict(value) for name, value in content.items() if name == "current_model_state"}


def _speed(step: int, state: ckpt.RunState) -> float:
    return step / state.training_seconds if state.training_seconds else 0.0


def _weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {ckpt.PREFIX + name: value for name, value in model.state_dict().items()}


def _measure(
    config: Config,
    task: Task,
    model: nn.Module,
    weights: Mapping[str, torch.Tensor],
    split: str,
    device: torch.device,
    folder: Path,
    keep: dict[str, list[Any]] | None = None,
) -> dict[str, float]:
    ckpt.load_weights(model, ckpt.model_weights(weights), folder)
    return measure(config, task, model, split, device, keep)


def measure(
    config: Config,
    task: Task,
    model: nn.Module,
    split: str,
    device: torch.device,
    keep: dict[str, list[Any]] | None = None,
) -> dict[str, float]:
    """Metrics on a split as the configuration wants them measured; model and data are on ``device``, and ``keep`` takes
    the details of every sample.
    """
    with forward_context(config.trainer.precision, device):
        return evaluate_split(
            model,
            task,
            split,
            batch_size=config.trainer.eval_batch_size,
            num_equivariance_samples=config.trainer.num_equivariance_samples,
            seed=config.seed,
            device=device,
            keep=keep,
        )


def _result(
    config: Config,
    task: Task,
    model: nn.Module,
    device: torch.device,
    step: int,
    state: ckpt.RunState,
    best: Mapping[str, Any],
    test: dict[str, float] | None,
) -> dict[str, Any]:
    return {
        "status": "finished",
        "experiment": config.experiment,
        "model": config.model.name,
        "preset": config.preset,
        "seed": config.seed,
        "budget": {
            "max_steps": config.trainer.max_steps,
            "max_time": config.trainer.max_time,
            "batch_size": config.trainer.batch_size,
            "steps_done": step,
            "seconds": state.seconds,
            "training_seconds": state.training_seconds,
            "stopped_early": state.stopped_early,
            "ended_by": ended_by(state, step, config.trainer),
        },
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "data": task.describe(),
        "test": test,
        "valid": best["metrics"],
        "units": dict(task.units),
        "best_step": best["step"],
        "versions": record.versions(),
        "steps_per_second": _speed(step, state),
        "samples_per_second": _speed(step, state) * config.trainer.batch_size,
        "peak_memory_bytes": peak_memory_bytes(device),  # of the whole process, whatever it did before this run
        "config": asdict(config),
        "command": record.command_line(),
    }
