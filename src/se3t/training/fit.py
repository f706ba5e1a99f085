"""The Lightning trainer, put together from a configuration; the only entry to Lightning."""

from __future__ import annotations

import copy
import math
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import DDPStrategy, Strategy
from torch import nn

from se3t import signals
from se3t.config import Config
from se3t.models.auxiliary import AuxiliaryLoss
from se3t.precision import LIGHTNING, data_dtype
from se3t.runs import CHECKPOINTS
from se3t.tasks.base import Task
from se3t.training import checkpoint as ckpt
from se3t.training.callbacks import EMAWeights, Evaluation, LossWatch, TimeLimit
from se3t.training.distributed import quiet_logger, started_by_torchrun
from se3t.training.loggers import Write, fan_out
from se3t.training.module import TrainingModule
from se3t.training.progress import ProgressLine
from se3t.training.saving import AtomicCheckpointIO, Checkpointing
from se3t.training.stopwatch import Stopwatch


def fit(
    config: Config,
    folder: Path,
    task: Task,
    model: nn.Module,
    device: torch.device,
    resumed: ckpt.Checkpoint | None,
    writers: list[Write],
    keep: Callable[[str], object] = str,
) -> None:
    """Train from a checkpoint, or from the start, to ``trainer.max_steps`` or ``trainer.max_time``, whichever comes
    first; the last step leaves a checkpoint behind.

    Args:
        config: the run.
        folder: run folder.
        task: data and loss.
        model: with at least one parameter.
        device: where the model will be.
        resumed: a verified checkpoint of this run, or None.
        writers: what takes measurements; none on all processes but the first.
        keep: takes lines on the progress.
    """
    state = ckpt.RunState() if resumed is None else resumed.state
    strategy = _strategy(config, task, model)
    callbacks = _callbacks(config, folder, task, device, state, resumed, writers, keep)
    with quiet():
        trainer = _trainer(config, folder, strategy, callbacks, device)
    # Lightning's own handlers end a run as if it had finished.
    setattr(trainer._signal_connector, "register_signal_handlers", _no_handlers)  # noqa: B010
    module = TrainingModule(model, task, config, first_step=0 if resumed is None else resumed.step)
    with quiet(), _interruption_unchanged():
        trainer.fit(module, ckpt_path=None if resumed is None else resumed.path, weights_only=True)
    signals.release()


class _NoProfiler(PassThroughProfiler):
    # Lightning measures some eighty actions a step; not measuring them need not cost a generator each.
    def profile(self, action_name: str) -> Any:
        return _NOTHING


_NOTHING = nullcontext()


def _trainer(
    config: Config, folder: Path, strategy: Strategy | str, callbacks: list[Callback], device: torch.device
) -> Trainer:
    return Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=config.trainer.devices,
        strategy=strategy,
        precision=LIGHTNING[config.trainer.precision],  # type: ignore[arg-type]
        max_steps=config.trainer.max_steps,
        max_epochs=-1,
        gradient_clip_val=config.optim.clip_norm,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO(), *([] if started_by_torchrun() else [LightningEnvironment()])],
        default_root_dir=folder,
        profiler=_NoProfiler(),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )


def _callbacks(
    config: Config,
    folder: Path,
    task: Task,
    device: torch.device,
    state: ckpt.RunState,
    resumed: ckpt.Checkpoint | None,
    writers: list[Write],
    keep: Callable[[str], object],
) -> list[Callback]:
    writers = list(writers)
    shown: list[Callback] = []
    if writers:
        progress = ProgressLine(config, state, headline=task.headline, units=task.units, keep=keep)
        writers.append(progress.show)
        shown.append(progress)
    log, stopwatch = fan_out(writers), Stopwatch(state)
    checkpoints, decay = folder / CHECKPOINTS, config.trainer.ema_decay
    averaging = None if decay is None else EMAWeights(decay, device)
    limit = config.trainer.max_seconds
    return [
        *([] if math.isinf(limit) else [TimeLimit(limit, state, stopwatch)]),
        LossWatch(config, state, stopwatch, log, checkpoints),
        *([] if averaging is None else [averaging]),
        Evaluation(config, state, stopwatch, log, checkpoints, averaging),
        *shown,
        Checkpointing(config, state, stopwatch, checkpoints, resumed),
    ]


def _strategy(config: Config, task: Task, model: nn.Module) -> Strategy | str:
    if config.trainer.devices == 1:
        return "auto"
    return DDPStrategy(find_unused_parameters=has_unused_parameters(model, task, config.trainer.precision))


def has_unused_parameters(model: nn.Module, task: Task, precision: str) -> bool:
    """Whether some parameter gets no gradient from the loss: distributed training must then look for such parameters
    in every step.
    """
    model = copy.deepcopy(model)  # a trial pass moves the statistics of batch normalisation
    task.to("cpu", data_dtype(precision))
    samples = task.batch("train", torch.arange(min(2, task.size("train"))), 0)
    loss = task.loss(model(task.graph(samples)), samples)
    (loss + model.auxiliary_loss() if isinstance(model, AuxiliaryLoss) else loss).backward()
    return any(parameter.grad is None for parameter in model.parameters())


def _no_handlers() -> None:
    return


@contextmanager
def _interruption_unchanged() -> Iterator[None]:
    """Let an interruption through as what it is: Lightning turns it into the end of the process, and ignores SIGINT
    from then on.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as stop:
        if not isinstance(stop.__context__, KeyboardInterrupt):
            raise
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)
        raise stop.__context__ from None


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Lightning's remarks about itself off the screen; its warnings stay, but for those that name a choice made
    here on purpose.
    """
    with quiet_logger("lightning.pytorch"), quiet_logger("lightning.fabric"), warnings.catch_warnings():
        for message in _ON_PURPOSE:
            warnings.filterwarnings("ignore", message=message)
        yield


_ON_PURPOSE = (
    r"GPU available but not used",  # trainer.accelerator=cpu says so
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # by Lightning itself, which torch since 2.8 warns about
)
