"""The Lightning trainer, put together from a configuration; the only entry to Lightning."""

from __future__ import annotations

import copy
import math
import signal
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import DDPStrategy, Strategy
from torch import nn

from se3t import signals
from se3t.models.auxiliary import AuxiliaryLoss
from se3t.precision import LIGHTNING, data_dtype
from se3t.tasks.base import Task
from se3t.training.callbacks import EMAWeights, Evaluation, LossWatch, TimeLimit
from se3t.training.distributed import quiet_logger, started_by_torchrun
from se3t.training.module import TrainingModule
from se3t.training.progress import ProgressLine
from se3t.training.run import Run
from se3t.training.saving import AtomicCheckpointIO, Checkpointing
from se3t.training.state import Stopwatch


def fit(run: Run, callbacks: Sequence[Callback] = ()) -> None:
    """Train from the checkpoint that a run continues from, or from the start, to ``trainer.max_steps`` or
    ``trainer.max_time``, whichever comes first; the last step leaves a checkpoint behind.

    Args:
        run: with a model of at least one parameter.
        callbacks: called after all others.
    """
    resumed, run.resumed = run.resumed, None
    path, step, random = (None, 0, []) if resumed is None else (resumed.path, resumed.step, resumed.content["random"])
    del resumed  # frees the memory of its weights
    strategy = _strategy(run)
    with quiet():
        trainer = _trainer(run, strategy, [*_callbacks(run, random), *callbacks])
    # Lightning's own handlers make an interrupted run look finished.
    setattr(trainer._signal_connector, "register_signal_handlers", lambda: None)  # noqa: B010
    module = TrainingModule(run.model, run.task, run.config, first_step=step)
    with quiet(), _interruption_unchanged():
        trainer.fit(module, ckpt_path=path, weights_only=True)
    signals.release()


class _NoProfiler(PassThroughProfiler):
    # Lightning measures some eighty actions a step; not measuring them need not cost a generator each.
    def profile(self, action_name: str) -> Any:
        return _NOTHING


_NOTHING = nullcontext()


def _trainer(run: Run, strategy: Strategy | str, callbacks: list[Callback]) -> Trainer:
    config = run.config
    return Trainer(
        accelerator="gpu" if run.device.type == "cuda" else "cpu",
        devices=config.trainer.devices,
        strategy=strategy,
        precision=LIGHTNING[config.trainer.precision],  # type: ignore[arg-type]
        max_steps=config.trainer.max_steps,
        max_epochs=-1,
        gradient_clip_val=config.optim.clip_norm,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO(), *([] if started_by_torchrun() else [LightningEnvironment()])],
        default_root_dir=run.folder.path,
        profiler=_NoProfiler(),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )


def _callbacks(run: Run, random_states: Sequence[Mapping[str, Any]]) -> list[Callback]:
    shown: list[Callback] = []
    if run.is_first:
        progress = ProgressLine(run)
        run = replace(run, writers=[*run.writers, progress.show])
        shown.append(progress)
    stopwatch, trainer = Stopwatch(run.state), run.config.trainer
    averaging = None if trainer.ema_decay is None else EMAWeights(trainer.ema_decay, run.device)
    return [
        *([] if math.isinf(trainer.max_seconds) else [TimeLimit(trainer.max_seconds, stopwatch)]),
        LossWatch(run, stopwatch),
        *([] if averaging is None else [averaging]),
        Evaluation(run, stopwatch, averaging),
        *shown,
        Checkpointing(run, stopwatch, random_states),
    ]


def _strategy(run: Run) -> Strategy | str:
    if run.config.trainer.devices == 1:
        return "auto"
    unused = has_unused_parameters(run.model, run.task, run.config.trainer.precision)
    return DDPStrategy(find_unused_parameters=unused)


def has_unused_parameters(model: nn.Module, task: Task, precision: str) -> bool:
    """Whether some parameter gets no gradient from the loss: distributed training must then search for such
    parameters in every step.
    """
    model = copy.deepcopy(model)  # a trial pass moves the statistics of batch normalisation
    task.to("cpu", data_dtype(precision))
    samples = task.batch("train", torch.arange(min(2, task.size("train"))), 0)
    loss = task.loss(model(task.graph(samples)), samples)
    (loss + model.auxiliary_loss() if isinstance(model, AuxiliaryLoss) else loss).backward()
    return any(parameter.grad is None for parameter in model.parameters())


@contextmanager
def _interruption_unchanged() -> Iterator[None]:
    """Pass an interruption on unchanged: Lightning turns it into SystemExit, and ignores SIGINT from then on."""
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
    """Hide Lightning's messages about itself; its warnings stay, except those about a choice made here on purpose."""
    with quiet_logger("lightning.pytorch"), quiet_logger("lightning.fabric"), warnings.catch_warnings():
        for message in _ON_PURPOSE:
            warnings.filterwarnings("ignore", message=message)
        yield


_ON_PURPOSE = (
    r"GPU available but not used",  # trainer.accelerator=cpu says so
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # by Lightning itself, which torch since 2.8 warns about
)
