"""Metrics of a checkpoint on a split, as ``se3t eval`` shows them, and finished runs to be measured again."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from se3t.compat.converted import is_model, read_model
from se3t.config import Config
from se3t.errors import UserError, did_you_mean
from se3t.precision import data_dtype, require_device
from se3t.runs import RunFolder
from se3t.tasks import build_task, require_no_download
from se3t.training import checkpoint as ckpt
from se3t.training.run import Build, Run, build_parts, choose_device

SPLITS = ("train", "valid", "test")

log = logging.getLogger(__name__)


def evaluate(
    checkpoint: Path | str,
    split: str = "test",
    overrides: Mapping[str, Any] | None = None,
    *,
    experiment: Config | None = None,
    build: Build = build_parts,
) -> dict[str, Any]:
    """Measure the weights of a checkpoint, with the settings stored in it.

    Args:
        checkpoint: a run folder (its best weights), one checkpoint file, or a converted model.
        split: "train", "valid" or "test".
        overrides: settings in place of those of the training, such as ``{"trainer.precision": "64"}``; None: as in
            training, but precision "32" for "tf32" on a CPU.
        experiment: the experiment that a converted model is measured on.
        build: how task and model are made.

    Returns:
        ``checkpoint`` (file), ``experiment``, ``model``, ``seed``, ``step`` (both None, and ``origin`` set, for a
        converted model), ``split``, ``test_rotation``, ``precision``, ``parameters``,
        ``data``, ``units`` and ``metrics`` by name.

    Raises:
        UserError: for a file that is missing, damaged, or of another model, and for an unknown split or setting.
    """
    if split not in SPLITS:
        raise UserError(f"split={split}: unknown; {did_you_mean(split, SPLITS)}")
    overrides = {name: value for name, value in (overrides or {}).items() if value is not None}
    loaded = ckpt.load(Path(checkpoint))
    config = _with_overrides(_settings_of(loaded, experiment), overrides)
    if "task.test_rotation" in overrides and split != "test":
        raise UserError(f"task.test_rotation: rotates the objects of split=test only, not those of split={split}")
    config = _computable(config, is_asked="trainer.precision" in overrides)
    if build is build_parts:  # another function may take its data from anywhere
        require_no_download(config)
    model, run = _converted(loaded, config) if is_model(loaded.content) else _trained(loaded, config, build)
    if run.task.size(split) == 0:
        others = ", ".join(f"split={name}" for name in SPLITS if run.task.size(name))
        raise UserError(f"split={split}: the data hold no sample of that split; use one of {others}")
    run.to_device()
    return {
        "checkpoint": str(loaded.path),
        "experiment": config.experiment,
        **model,
        "split": split,
        "test_rotation": getattr(config.task, "test_rotation", "0") if split == "test" else "0",
        "precision": config.trainer.precision,
        "parameters": run.num_parameters,
        "data": run.task.describe(),
        "units": dict(run.task.units),
        "metrics": run.measure(split),
    }


def _settings_of(checkpoint: ckpt.Checkpoint, experiment: Config | None) -> Config:
    if is_model(checkpoint.content):
        if experiment is None:
            raise UserError(
                f"{checkpoint.path}: a converted model, which does not name its data; add experiment=…, such as "
                "experiment=nbody"
            )
        return experiment
    settings = checkpoint.config
    if experiment is not None and experiment.experiment != settings.experiment:
        raise UserError(
            f"{checkpoint.path}: was trained for experiment={settings.experiment}, not {experiment.experiment}; "
            "leave it out"
        )
    return settings


def _with_overrides(config: Config, overrides: Mapping[str, Any]) -> Config:
    for name, value in overrides.items():
        group, _, setting = name.partition(".")
        settings = getattr(config, group)
        if setting not in {item.name for item in fields(settings)}:
            choice = getattr(settings, "name", "")
            raise UserError(f"{name}: {group} {choice} of this model has no such setting; leave it out")
        config = replace(config, **{group: replace(settings, **{setting: value})})
    return config


def _computable(config: Config, *, is_asked: bool) -> Config:
    """The settings in a precision that the device has; one that was asked for is refused where it has not."""
    device = choose_device(config.trainer.accelerator)
    if config.trainer.precision == "tf32" and device.type == "cpu" and not is_asked:
        log.warning("trained in precision tf32, which only NVIDIA GPUs have; measured in precision 32")
        config = replace(config, trainer=replace(config.trainer, precision="32"))
    require_device(config.trainer.precision, device)
    return config


def _converted(checkpoint: ckpt.Checkpoint, config: Config) -> tuple[dict[str, Any], Run]:
    """A converted model, on the task of ``config`` with the inputs it takes."""
    if getattr(config.task, "reference", "none") != "none":
        raise UserError(
            f"task.reference={config.task.reference}: {checkpoint.path} is a converted model, trained without"
        )
    file = read_model(checkpoint.path)
    task, model = build_task(config), file.model.to(data_dtype(config.trainer.precision))
    try:
        task.select_inputs(model)
    except UserError as error:
        raise UserError(f"{checkpoint.path}: {error}") from error
    origin = f"{file.origin.get('code', 'elsewhere')} ({Path(str(file.origin.get('file', '?'))).name})"
    run = Run(config, RunFolder(checkpoint.path.parent), task, model, choose_device(config.trainer.accelerator))
    return {"model": file.name, "seed": None, "step": None, "origin": origin}, run


def _trained(checkpoint: ckpt.Checkpoint, config: Config, build: Build) -> tuple[dict[str, Any], Run]:
    """A model of ``se3t train``, with the statistics of its training data."""
    run = Run.prepare(config, RunFolder(checkpoint.path.parent), build)
    ckpt.load_weights(run.model, checkpoint.weights, checkpoint.path)
    run.task.restore(checkpoint.facts)  # the data may be others than those of the training
    trained_on, measured_on = checkpoint.content.get("data_checksum"), run.task.describe().get("checksum")
    if None not in (trained_on, measured_on) and trained_on != measured_on:
        log.warning("trained on data with checksum %s, measured on data with %s", trained_on, measured_on)
    return {"model": config.model.name, "seed": config.seed, "step": checkpoint.step, "origin": None}, run


def load_run(folder: Path, loaded: ckpt.Checkpoint, checksum: str | None, accelerator: str) -> Run:
    """A run with its data and the weights of a checkpoint, not yet on the device.

    Args:
        folder: of the run.
        loaded: its checkpoint.
        checksum: of the data that it was trained on.
        accelerator: "auto", "cpu" or "gpu".

    Raises:
        UserError: the data have changed since.
    """
    run = Run.prepare(loaded.config, RunFolder(folder), build_parts)
    ckpt.require_same_data(folder, str(checksum), run.task.describe()["checksum"])
    ckpt.load_weights(run.model, loaded.weights, loaded.path)
    run.device = choose_device(accelerator)
    return run
