"""Checkpoints of a run: every few steps, at its end, and at a signal."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import nn

from se3t import signals
from se3t.signals import Interrupted
from se3t.training import checkpoint as ckpt
from se3t.training.distributed import gather
from se3t.training.feed import derived_seed
from se3t.training.module import TrainingModule
from se3t.training.run import Run
from se3t.training.state import Stopwatch

LONG_STEP_SECONDS = 0.5
"""A signal waits for the end of shorter steps than this."""


class Checkpointing(Callback):
    """Saves everything a run needs to resume: every ``checkpoint_every`` steps, at the end, and when a signal ends the
    run. It restores the random numbers.

    A signal waits for the end of the step. Where steps are long it takes effect before the optimiser changes the first
    weight, and what is saved then is the state before the step.

    Args:
        run: the training; its settings and state are part of the checkpoint.
        stopwatch: counts the time that saving takes.
        random_states: to start with, one for each process; further processes are seeded.
    """

    def __init__(self, run: Run, stopwatch: Stopwatch, random_states: Sequence[Mapping[str, Any]] = ()) -> None:
        self.run, self.stopwatch, self.random_states = run, stopwatch, random_states
        self._before_step: _BeforeStep | None = None  # of a step that may be interrupted
        self._saved: int | None = None  # step of the newest checkpoint; None before the training has started
        self._began = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the random numbers of this process: from the checkpoint, else from the seed."""
        if trainer.global_rank < len(self.random_states):
            ckpt.set_random_state(self.random_states[trainer.global_rank])
        else:
            ckpt.seed_everything(derived_seed(self.run.config.seed, trainer.global_rank, trainer.global_step))
        self._saved = trainer.global_step
        self._allow(trainer, pl_module)  # the first step is long: much is done for the first time

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Note the time."""
        self._began = time.perf_counter()

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """From here on a step is not interrupted."""
        signals.hold()
        self._before_step = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when it is time."""
        seconds, step, budget = time.perf_counter() - self._began, trainer.global_step, self.run.config.trainer
        if step % budget.checkpoint_every == 0 or step == budget.max_steps or trainer.should_stop:
            self._save(trainer, pl_module)
            self.stopwatch.lap(training=False)
        if seconds > LONG_STEP_SECONDS:
            self._allow(trainer, pl_module)
        else:
            signals.check()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save the last complete state when a signal ends the run. Several processes are never at the same step:
        they resume from their last common checkpoint.
        """
        signals.install()  # Lightning has taken SIGINT
        if isinstance(exception, Interrupted) and trainer.world_size == 1 and self._saved != trainer.global_step:
            if self._saved is None:
                return
            if self._before_step is not None:
                self._before_step.restore()
            self.stopwatch.lap(training=not self.run.state.evaluation_due)
            self._save(trainer, pl_module)

    def _save(self, trainer: Trainer, module: LightningModule) -> None:
        step = trainer.global_step
        _require_finite_weights(module, step, self.run.folder.checkpoints)
        with signals.without_deadline():
            trainer.save_checkpoint(ckpt.step_path(self.run.folder.checkpoints, step), weights_only=False)
            if trainer.is_global_zero:
                ckpt.prune(self.run.folder.checkpoints)
        self._saved = step

    def _allow(self, trainer: Trainer, module: LightningModule) -> None:
        """Let a signal interrupt the next step."""
        if trainer.world_size == 1:
            self._before_step = _BeforeStep(module)
        signals.release()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add to Lightning's checkpoint what it does not keep: settings, state of the run, random numbers of all
        processes, checksum of the data.
        """
        assert isinstance(pl_module, TrainingModule)
        if self._before_step is not None:
            _count_complete_steps(checkpoint["loops"]["fit_loop"], trainer.global_step)
        checkpoint |= {
            "format": ckpt.FORMAT,
            "kind": "step",
            "step": trainer.global_step,
            "config": asdict(self.run.config),
            "run": dict(vars(self.run.state)),
            "random": gather(ckpt.random_state(), trainer.world_size),
            "data_checksum": pl_module.task.describe().get("checksum"),
            "facts": pl_module.task.facts(),
        }


class _BeforeStep:
    """What a step changes before the optimiser does: random numbers and the statistics of batch normalisation."""

    def __init__(self, module: LightningModule) -> None:
        normalised = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
        self._buffers = [(buffer, buffer.clone()) for part in normalised for buffer in part.buffers()]
        self._random = ckpt.random_state()

    def restore(self) -> None:
        """Restore it."""
        for buffer, value in self._buffers:
            buffer.copy_(value)
        ckpt.set_random_state(self._random)


def _count_complete_steps(fit_loop: dict[str, Any], step: int) -> None:
    """Set the counters of Lightning's loop to their values at the end of a step."""
    fit_loop["epoch_loop.state_dict"]["_batches_that_stepped"] = step - 1
    optimiser = fit_loop["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]
    batches = fit_loop["epoch_loop.batch_progress"]
    for progress in (batches, optimiser["step"], optimiser["zero_grad"]):
        for counters in (progress["total"], progress["current"]):
            counters.update(dict.fromkeys(counters, step))
            if progress is batches:
                counters["completed"] = step - 1


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes Lightning's checkpoints whole or not at all, and reads only verified ones."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write under a temporary name, then rename."""
        ckpt.write_checkpoint(Path(path), checkpoint)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        """Read a whole checkpoint to the CPU, running none of its code."""
        return ckpt.read_checkpoint(Path(path)).content


def _require_finite_weights(module: LightningModule, step: int, folder: Path) -> None:
    # A gradient can overflow while the loss is still finite: such weights must not replace the last good checkpoint.
    norms = torch.stack([parameter.detach().abs().sum() for parameter in module.parameters()])
    if not bool(norms.isfinite().all()):
        name = [name for name, _ in module.named_parameters()][int((~norms.isfinite()).nonzero()[0])]
        raise ckpt.not_finite(
            f"the weights {name.removeprefix(ckpt.PREFIX)!r} are not finite after step {step}", folder
        )
