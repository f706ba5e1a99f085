"""Train a model, or continue, or report what was trained before; evaluate a checkpoint."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn

from se3t.compat.converted import is_model, read_model
from se3t.config import Config, to_config
from se3t.errors import UserError, did_you_mean
from se3t.experiments import dataset
from se3t.files import WriteError
from se3t.models import build_model
from se3t.nn.kernels.native import require
from se3t.precision import data_dtype, default_dtype, matmul_precision, require_device
from se3t.runs import CHECKPOINTS, CONFIG, RESULT, RunFolder, finished_result, require_same_data, too_few_steps
from se3t.signals import advice, interrupted_by_signals, last_words
from se3t.tasks import build_task, require_no_download
from se3t.tasks.base import Task
from se3t.training import checkpoint as ckpt
from se3t.training import record
from se3t.training.announce import in_three_lines
from se3t.training.console_log import add_line, console_log
from se3t.training.distributed import (
    launch,
    own_ranks,
    process_rank,
    started_by_a_launcher,
)
from se3t.training.feed import StepFeed
from se3t.training.finish import catch_up, finish, measure
from se3t.training.loggers import Write, fan_out, loggers
from se3t.training.stopwatch import ended_by

Build: TypeAlias = Callable[[Config], tuple[Task, nn.Module]]
"""Makes task and model of a configuration; a function of a module, so that other processes can import it."""
SPLITS = ("train", "valid", "test")

log = logging.getLogger(__name__)


def build_parts(config: Config) -> tuple[Task, nn.Module]:
    """Task and freshly initialised model; the weights depend on ``config.seed`` and the settings of the model only."""
    task = build_task(config)
    ckpt.seed_everything(config.seed)
    return task, model_for(config, task)


def model_for(config: Config, task: Task) -> nn.Module:
    """The model of a configuration, with the inputs and outputs of a task; its weights are drawn anew."""
    with default_dtype(data_dtype(config.trainer.precision)):
        return build_model(
            config.model,
            fiber_in=task.fiber_in,
            fiber_out=task.fiber_out,
            num_edge_scalars=task.num_edge_scalars,
            horizon=task.horizon,
            pooled=task.pooled,
            fiber_edge=task.fiber_edge,
        )


def choose_device(accelerator: str) -> torch.device:
    """The first device of an accelerator: "cpu", "gpu", or "auto" for a GPU where there is one.

    Raises:
        UserError: when a GPU is asked for where there is none.
    """
    available = torch.cuda.is_available()
    if accelerator == "gpu" and not available:
        raise UserError(
            "trainer.accelerator=gpu: torch finds no GPU here; use trainer.accelerator=cpu (`se3t doctor` says why)"
        )
    return torch.device("cuda" if available and accelerator != "cpu" else "cpu")


# --- training ---------------------------------------------------------------------------------------------------------


def train(config: Config | Mapping[str, Any], run_dir: Path | str | None = None, *, build: Build = build_parts) -> Path:
    """Train what ``config`` describes, choose the best weights on the validation split and measure them on the test
    split, once.

    The same call again reports the finished run. An interrupted run is continued with ``resume=true``; so is a
    finished one with a larger ``trainer.max_steps``, unless ``optim.schedule=cosine``. On a CPU the result is the same,
    bit for bit, as without the interruption. With a cosine schedule the learning rates depend on
    ``trainer.max_steps``, and another number of steps is another run, in a folder of its own.

    ``trainer.max_time`` limits the time of training, all continuations together. How many steps that allows depends on
    the machine and its load, and under a cosine schedule so do the learning rates: such a run cannot be repeated bit
    for bit.

    Args:
        config: a configuration, or the settings of one.
        run_dir: folder of the run record; by default its place follows from the configuration.
        build: how task and model are made.

    Returns:
        Path of ``result.json``.

    Raises:
        UserError: for anything a user can cause: an unfinished run without ``resume``, a loss that is not finite,
            damaged or changed data, a folder that cannot be written …
        WriteError: the disk is full; earlier checkpoints are as they were.
        Interrupted: at SIGINT, SIGTERM or SIGHUP, with what a run needs to go on saved.
    """
    config = config if isinstance(config, Config) else to_config(config)
    folder = RunFolder.of(config).path if run_dir is None else Path(run_dir)
    how = partial(_how_to_continue, config, folder, build)
    with interrupted_by_signals(), advice(how), own_ranks(config.trainer.devices):
        try:
            return _train(config, folder, build)
        except WriteError as error:
            raise WriteError(f"{error}; {how()}") from error


def _train(config: Config, folder: Path, build: Build) -> Path:
    is_first = process_rank() == 0
    if is_first:
        RunFolder(folder).require_free()
        _tell_of_others(config, folder)
    finished = finished_result(RunFolder(folder), config, is_first=is_first)
    if finished is not None:
        if build is build_parts:  # another function may take its data from anywhere
            require_same_data(RunFolder(folder), finished, dataset(config.data.name).recorded_checksum(config.data))
        log.info("%s: finished before; nothing is trained again", folder)
        return folder / RESULT
    _require_computable(config)
    if is_first:
        RunFolder(folder).require_writable()
    if config.trainer.devices > 1 and not started_by_a_launcher():
        _check_devices(config)
        _require_averageable(config, build(config)[1])  # here first: bad input is told once, data are prepared once
        with last_words(partial(add_line, folder)):
            launch(run_process, (config, folder, build), config.trainer.devices)
    else:
        run_process(config, folder, build)
    return folder / RESULT


def _how_to_continue(config: Config, folder: Path, build: Build) -> str:
    steps = ckpt.newest_step(folder / CHECKPOINTS)
    if not (folder / CONFIG).exists():
        return "nothing was trained yet"
    own = "the same call and resume=true"
    command = shlex.join(["se3t", "train", f"resume={folder}"]) if build is build_parts else own
    limit = "" if config.trainer.max_time is None else f" (trainer.max_time={config.trainer.max_time})"
    return f"{steps:,} of {config.trainer.max_steps:,} steps{limit} are saved; continue with: {command}"


def _tell_of_others(config: Config, folder: Path) -> None:
    """Where there is nothing to continue, say which runs of other settings there are."""
    others = sorted(path.name for path in folder.parent.glob(f"{config.seed}-*") if path != folder)
    if config.resume and others and not folder.exists():
        names = ", ".join(others[:4]) + (", …" if len(others) > 4 else "")
        log.warning("%s: no run of these settings to continue, a new one starts; other settings: %s", folder, names)


def _require_computable(config: Config) -> None:
    """Whether a precision or a kernel that was asked for by name can run is told before anything is written."""
    device = choose_device(config.trainer.accelerator)
    require_device(config.trainer.precision, device)
    if getattr(config.model, "kernel", None) == "native":
        require(device, data_dtype(config.trainer.precision))


def run_process(config: Config, folder: Path, build: Build) -> None:
    """What every process of a training does; the first one alone writes the record."""
    if config.trainer.threads is not None:
        torch.set_num_threads(config.trainer.threads)
    device, is_first = choose_device(config.trainer.accelerator), process_rank() == 0
    with console_log(is_first) as console, matmul_precision(config.trainer.precision), ExitStack() as stack:
        task, model = build(config)
        if config.trainer.cuda_graph and not task.fixed_shapes:
            raise UserError(
                f"trainer.cuda_graph: batches of task {task.name} differ in size; use trainer.cuda_graph=false"
            )
        _require_averageable(config, model)
        if is_first:
            stack.enter_context(RunFolder(folder).exclusive())
        resumed = ckpt.newest_checkpoint(folder / CHECKPOINTS)
        if resumed is not None:
            _require_continuable(config, folder, task, resumed)
        writers: list[Write] = []
        if is_first:
            _open_record(config, folder, resumed)
            console.open(folder)
            stack.enter_context(RunFolder(folder).failures_noted())
            others, words = stack.enter_context(loggers(config, folder))
            writers = [RunFolder(folder).append_metrics, *others]
            for line in in_three_lines(config, folder, task, model, device, resumed, words):
                log.info("%s", line)
        resumed = catch_up(config, folder, task, model, device, resumed, fan_out(writers))
        if _steps_are_left(config, model, resumed):
            from se3t.training.fit import fit

            fit(config, folder, task, model, device, resumed, writers, console.line)
        if writers:
            finish(config, folder, task, model, device, fan_out(writers))
            console.line(f"finished: {folder / RESULT}")


def _require_averageable(config: Config, model: nn.Module) -> None:
    """Statistics that batch normalisation has recorded belong to the weights of the moment, not to their average."""
    is_normalised = any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in model.modules())
    if config.trainer.ema_decay is not None and is_normalised:
        raise UserError(
            f"trainer.ema_decay: model={config.model.name} has batch normalisation, whose statistics belong to single "
            "weights and not to averaged ones; use trainer.ema_decay=null"
        )


def _check_devices(config: Config) -> None:
    devices, device = config.trainer.devices, choose_device(config.trainer.accelerator)
    if device.type == "cuda" and devices > torch.cuda.device_count():
        raise UserError(
            f"trainer.devices={devices}: there are {torch.cuda.device_count()} GPUs here; ask for as many, or use "
            "trainer.accelerator=cpu"
        )
    StepFeed(1, config.trainer.batch_size, config.seed, world_size=devices)  # refuses a batch that cannot be divided


def _require_continuable(config: Config, folder: Path, task: Task, resumed: ckpt.Checkpoint) -> None:
    ckpt.require_same_run(resumed, asdict(config))
    ckpt.require_same_data(resumed, task.describe().get("checksum"))
    if resumed.step > config.trainer.max_steps and not resumed.state.stopped_early:
        raise too_few_steps(RunFolder(folder), config.trainer.max_steps, resumed.step)


def _steps_are_left(config: Config, model: nn.Module, resumed: ckpt.Checkpoint | None) -> bool:
    if next(model.parameters(), None) is None:
        return False
    return resumed is None or ended_by(resumed.state, resumed.step, config.trainer) is None


def _open_record(config: Config, folder: Path, resumed: ckpt.Checkpoint | None) -> None:
    checkpoints = folder / CHECKPOINTS
    checkpoints.mkdir(exist_ok=True)
    ckpt.restore_best(checkpoints, resumed)
    record_folder = RunFolder(folder)
    if resumed is None:
        record_folder.rewind_metrics(-1)
    else:
        record_folder.rewind_metrics(resumed.step, repeats_evaluation=resumed.state.evaluation_due)
    record_folder.write_config(config)
    facts = {
        "device": choose_device(config.trainer.accelerator).type,
        "torch_threads": torch.get_num_threads(),
        "resumed_from_step": None if resumed is None else resumed.step,
    }
    record_folder.add_session(record.provenance(**facts))


# --- evaluation -------------------------------------------------------------------------------------------------------


def evaluate(
    checkpoint: Path | str,
    *,
    split: str = "test",
    precision: str | None = None,
    accelerator: str | None = None,
    data_root: str | None = None,
    data_preset: str | None = None,
    data_raw: str | None = None,
    data_key: str | None = None,
    test_rotation: str | None = None,
    num_equivariance_samples: int | None = None,
    experiment: Config | None = None,
    build: Build = build_parts,
) -> dict[str, Any]:
    """Measure the weights of a checkpoint, with the settings stored in it.

    Args:
        checkpoint: a run folder (its best weights), one checkpoint file, or a converted model.
        split: "train", "valid" or "test".
        precision: "64", "32", "tf32" or "bf16"; default: as in training, but "32" for "tf32" on a CPU.
        accelerator: "auto", "cpu" or "gpu"; default: as in training.
        data_root: folder of the prepared data; default: as in training.
        data_preset: preset of the data; default: as in training.
        data_raw: raw files of the data; default: as in training.
        data_key: column that names molecules of one's own; default: as in training.
        test_rotation: how test objects are turned before a model classifies them; default: as in training.
        num_equivariance_samples: rotations of every sample; default: as in training.
        experiment: the experiment that a converted model is measured on, which says nothing of data.
        build: how task and model are made.

    Returns:
        ``checkpoint`` (file), ``experiment``, ``model``, ``seed``, ``step`` (both None, and ``origin`` told, for a
        converted model), ``split``, ``test_rotation``, ``precision``, ``parameters``,
        ``data``, ``units`` and ``metrics`` by name.

    Raises:
        UserError: for a file that is missing, damaged, or of another model, and for an unknown split.
    """
    if split not in SPLITS:
        raise UserError(f"split={split}: unknown; {did_you_mean(split, SPLITS)}")
    found = ckpt.load(Path(checkpoint))
    converted = is_model(found.content)
    config = _with_overrides(
        _experiment_of(found.path, experiment) if converted else _settings_of(found, experiment),
        trainer={
            "precision": precision,
            "accelerator": accelerator,
            "num_equivariance_samples": num_equivariance_samples,
        },
        data={"root": data_root, "preset": data_preset, "raw": data_raw, "key": data_key},
        task={"test_rotation": test_rotation},
    )
    if test_rotation is not None and split != "test":
        raise UserError(f"task.test_rotation: turns the objects of split=test alone, not those of split={split}")
    device, dtype = choose_device(config.trainer.accelerator), data_dtype(config.trainer.precision)
    if config.trainer.precision == "tf32" and device.type == "cpu" and precision is None:
        log.warning("trained in precision tf32, which only NVIDIA GPUs have; measured in precision 32")
        config = _with_overrides(config, trainer={"precision": "32"})
    require_device(config.trainer.precision, device)
    if build is build_parts:  # another function may take its data from anywhere
        require_no_download(config)
    if converted:
        name, origin, task, model = _converted(found.path, config, dtype)
    else:
        name, origin, (task, model) = config.model.name, None, build(config)
        ckpt.load_weights(model, ckpt.model_weights(found.content["state_dict"]), found.path)
        task.restore(found.content.get("facts", {}))  # the data may be others than those of the training
        trained_on, measured_on = found.content.get("data_checksum"), task.describe().get("checksum")
        if None not in (trained_on, measured_on) and trained_on != measured_on:
            log.warning("trained on data with checksum %s, measured on data with %s", trained_on, measured_on)
    if task.size(split) == 0:
        others = ", ".join(f"split={name}" for name in SPLITS if task.size(name))
        raise UserError(f"split={split}: the data hold no sample of that split; use one of {others}")
    task.to(device, dtype)
    metrics = measure(config, task, model.to(device), split, device)
    return {
        "checkpoint": str(found.path),
        "experiment": config.experiment,
        "model": name,
        "seed": None if converted else config.seed,
        "step": None if converted else found.step,
        "origin": origin,
        "split": split,
        "test_rotation": getattr(config.task, "test_rotation", "0") if split == "test" else "0",
        "precision": config.trainer.precision,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "data": task.describe(),
        "units": dict(task.units),
        "metrics": metrics,
    }


def _converted(path: Path, config: Config, dtype: torch.dtype) -> tuple[str, str, Task, nn.Module]:
    """Name and origin of a converted model, the task of ``config`` with the inputs it takes, and the model."""
    file = read_model(path)
    task, model = build_task(config), file.model.to(dtype)
    try:
        task.select_inputs(model)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    origin = f"{file.origin.get('code', 'elsewhere')} ({Path(str(file.origin.get('file', '?'))).name})"
    return file.name, origin, task, model


def _settings_of(found: ckpt.Checkpoint, experiment: Config | None) -> Config:
    settings = found.config
    if experiment is not None and experiment.experiment != settings.experiment:
        raise UserError(
            f"{found.path}: was trained for experiment={settings.experiment}, not {experiment.experiment}; leave it out"
        )
    return settings


def _experiment_of(path: Path, experiment: Config | None) -> Config:
    if experiment is None:
        raise UserError(
            f"{path}: a converted model, which says nothing of data; add experiment=…, such as experiment=nbody"
        )
    return experiment


def _with_overrides(config: Config, **groups: Mapping[str, Any]) -> Config:
    for group, values in groups.items():
        given = {name: value for name, value in values.items() if value is not None}
        known = {item.name for item in fields(getattr(config, group))}
        for name in given.keys() - known:
            choice = getattr(getattr(config, group), "name", "")
            raise UserError(f"{group}.{name}: {group} {choice} of this model has no such setting; leave it out")
        config = replace(config, **{group: replace(getattr(config, group), **given)})
    return config
