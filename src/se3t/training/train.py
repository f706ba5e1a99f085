"""Train a model, resume a training, or report a finished one."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from se3t.config import Config, to_config
from se3t.errors import UserError
from se3t.experiments import dataset
from se3t.files import WriteError
from se3t.nn.kernels import auto
from se3t.nn.kernels.native import require
from se3t.precision import data_dtype, matmul_precision, require_device
from se3t.runs import RunFolder
from se3t.runs.folder import finished_result, require_same_data, too_few_steps
from se3t.runs.names import OVERRIDES
from se3t.signals import advice, interrupted_by_signals, last_words
from se3t.training import checkpoint as ckpt
from se3t.training import record
from se3t.training.console_log import add_line, console_log
from se3t.training.distributed import launch, own_ranks, process_rank, started_by_a_launcher
from se3t.training.feed import StepFeed
from se3t.training.finish import catch_up, finish
from se3t.training.loggers import loggers
from se3t.training.run import Build, Run, build_parts, choose_device

log = logging.getLogger(__name__)


def train(
    config: Config | Mapping[str, Any],
    run_dir: Path | str | None = None,
    *,
    build: Build = build_parts,
    overrides: Sequence[str] | None = None,
) -> Path:
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
        overrides: the ``key=value`` of the command line that ``config`` was composed from, to be kept in the record:
            tables name what was changed by them. None where there was no command line.

    Returns:
        Path of ``result.json``.

    Raises:
        UserError: for anything a user can cause: an unfinished run without ``resume``, a loss that is not finite,
            damaged or changed data, a folder that cannot be written …
        WriteError: the disk is full; earlier checkpoints are as they were.
        Interrupted: at SIGINT, SIGTERM or SIGHUP, after saving what the run needs to resume.
    """
    config = config if isinstance(config, Config) else to_config(config)
    folder = RunFolder.of(config) if run_dir is None else RunFolder(Path(run_dir))
    how = partial(_how_to_continue, config, folder, build)
    with interrupted_by_signals(), advice(how), own_ranks(config.trainer.devices):
        try:
            if not _has_finished(config, folder, build):
                _require_computable(config)
                _start(config, folder, build, overrides)
        except WriteError as error:
            raise WriteError(f"{error}; {how()}") from error
    return folder.result


def _has_finished(config: Config, folder: RunFolder, build: Build) -> bool:
    """Whether the result is there already, of the data as they are now."""
    is_first = process_rank() == 0
    if is_first:
        folder.require_free()
        _tell_of_others(config, folder)
    finished = finished_result(folder, config, is_first=is_first)
    if finished is None:
        return False
    if build is build_parts:  # another function may take its data from anywhere
        require_same_data(folder, finished, dataset(config.data.name).recorded_checksum(config.data))
    log.info("%s: finished before; nothing is trained again", folder)
    return True


def _start(config: Config, folder: RunFolder, build: Build, overrides: Sequence[str] | None) -> None:
    """Train in this process, or in as many new ones as there are devices."""
    if process_rank() == 0:
        folder.require_writable()
    if config.trainer.devices == 1 or started_by_a_launcher():
        run_process(config, folder, build, overrides)
        return
    _check_devices(config)
    _require_averageable(config, build(config)[1])  # here first: one error for bad input, data are prepared once
    with last_words(partial(add_line, folder.path)):
        launch(run_process, (config, folder, build, overrides), config.trainer.devices)


def run_process(config: Config, folder: RunFolder, build: Build, overrides: Sequence[str] | None = None) -> None:
    """What every process of a training does; the first one alone writes the record."""
    if config.trainer.threads is not None:
        torch.set_num_threads(config.trainer.threads)
    is_first = process_rank() == 0
    with console_log(is_first) as console, matmul_precision(config.trainer.precision), ExitStack() as stack:
        run = Run.prepare(config, folder, build)
        _require_trainable(run)
        if is_first:
            stack.enter_context(folder.exclusive())
        _resume(run)
        if is_first:
            _open_record(run, overrides)
            console.open(folder.path)
            stack.enter_context(folder.failures_noted())
            others, where = stack.enter_context(loggers(config, folder.path))
            run.writers, run.keep_line = [folder.append_metrics, *others], console.line
            for line in _first_lines(run, where):
                log.info("%s", line)
        catch_up(run)
        if _steps_are_left(run):
            from se3t.training.fit import fit

            fit(run)
        if is_first:
            finish(run)
            console.line(f"finished: {folder.result}")


def _resume(run: Run) -> None:
    """Load the newest checkpoint, if any."""
    checkpoint = ckpt.newest_checkpoint(run.folder.checkpoints)
    if checkpoint is None:
        return
    ckpt.require_same_run(checkpoint, asdict(run.config))
    before, now = checkpoint.content.get("data_checksum"), run.task.describe().get("checksum")
    ckpt.require_same_data(checkpoint.path, before, now, ", or remove the run folder to start again")
    run.resumed, run.state = checkpoint, checkpoint.state
    if checkpoint.step > run.config.trainer.max_steps and not run.state.stopped_early:
        raise too_few_steps(run.folder, run.config.trainer.max_steps, checkpoint.step)


def _open_record(run: Run, overrides: Sequence[str] | None) -> None:
    """Rewind the record to the step that the run starts from."""
    run.folder.checkpoints.mkdir(exist_ok=True)
    ckpt.restore_best(run.folder.checkpoints, run.resumed)
    step = None if run.resumed is None else run.resumed.step
    run.folder.rewind_metrics(-1 if step is None else step, repeats_evaluation=run.state.evaluation_due)
    run.folder.write_config(run.config)
    facts = {"device": run.device.type, "torch_threads": torch.get_num_threads(), "resumed_from_step": step}
    typed = {} if overrides is None else {OVERRIDES: list(overrides)}
    run.folder.add_session(record.provenance(**facts, **typed))


def _steps_are_left(run: Run) -> bool:
    if next(run.model.parameters(), None) is None:
        return False
    return run.resumed is None or run.state.ended_by(run.resumed.step, run.config.trainer) is None


# --- messages and refusals --------------------------------------------------------------------------------


def _first_lines(run: Run, loggers: str) -> list[str]:
    """Folder and model; data and budget; machine and what else is written.

    Args:
        run: about to start.
        loggers: where W&B and TensorBoard write.
    """
    config, task, device = run.config, run.task, run.device
    budget = config.trainer
    sizes = ", ".join(f"{task.size(split):,} {split}" for split in ("train", "valid", "test"))
    where = "from the start" if run.resumed is None else f"from step {run.resumed.step:,}"
    checksum = str(task.describe().get("checksum") or "")[:12]
    processes = f"{budget.devices} processes, " if budget.devices > 1 else ""
    num_threads = torch.get_num_threads()
    threads = f", {num_threads} thread{'s' if num_threads > 1 else ''}" if device.type == "cpu" else ""
    kernel = getattr(config.model, "kernel", None)
    if kernel == "auto":
        kernel = auto.describe(device, run.dtype)
    limit = "" if budget.max_time is None else f", trainer.max_time={budget.max_time}"
    data = [config.data.name, f"{sizes} samples", *([f"checksum {checksum}"] if checksum else [])]
    machine = [f"{processes}{device.type}{threads}", f"precision {budget.precision}"]
    machine += [f"kernel {kernel}"] if kernel else []
    return [
        f"{run.folder}: {config.experiment}, {config.model.name}, {run.num_parameters:,} parameters, {where}",
        f"data {', '.join(data)}; {budget.max_steps:,} steps of batch {budget.batch_size}{limit}, evaluated every "
        f"{budget.eval_every:,}",
        f"{', '.join(machine)}; {loggers}",
    ]


def _how_to_continue(config: Config, folder: RunFolder, build: Build) -> str:
    steps = ckpt.newest_step(folder.checkpoints)
    if not folder.config.exists():
        return "nothing was trained yet"
    in_python = "the same call and resume=true"
    command = shlex.join(["se3t", "train", f"resume={folder}"]) if build is build_parts else in_python
    limit = "" if config.trainer.max_time is None else f" (trainer.max_time={config.trainer.max_time})"
    return f"{steps:,} of {config.trainer.max_steps:,} steps{limit} are saved; continue with: {command}"


def _tell_of_others(config: Config, folder: RunFolder) -> None:
    """Where there is nothing to resume, name the runs of other settings."""
    others = sorted(path.name for path in folder.path.parent.glob(f"{config.seed}-*") if path != folder.path)
    if config.resume and others and not folder.path.exists():
        names = ", ".join(others[:4]) + (", …" if len(others) > 4 else "")
        log.warning("%s: no run of these settings to continue, a new one starts; other settings: %s", folder, names)


def _require_computable(config: Config) -> None:
    """Refuse a precision or a kernel that this machine lacks before anything is written."""
    device = choose_device(config.trainer.accelerator)
    require_device(config.trainer.precision, device)
    if getattr(config.model, "kernel", None) == "native":
        require(device, data_dtype(config.trainer.precision))


def _require_trainable(run: Run) -> None:
    if run.config.trainer.cuda_graph and not run.task.fixed_shapes:
        raise UserError(
            f"trainer.cuda_graph: batches of task {run.task.name} differ in size; use trainer.cuda_graph=false"
        )
    _require_averageable(run.config, run.model)


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
