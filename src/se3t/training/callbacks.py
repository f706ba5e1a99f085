"""What happens between two training steps, in this order: time limit, training loss, weight averaging, evaluation,
checkpoints (:mod:`.saving`).

All of it runs in ``on_train_batch_end``, and a checkpoint is written last: it holds the complete state between step s
and step s + 1, so that a resumed run starts with step s + 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from se3t import signals
from se3t.signals import Interrupted
from se3t.training import checkpoint as ckpt
from se3t.training.module import TrainingModule
from se3t.training.run import Run
from se3t.training.state import Stopwatch

LOG_EVERY = 50
"""Steps between two lines of the training loss."""


class TimeLimit(Callback):
    """Ends the training after the step that uses up ``trainer.max_time``, and tells the module how much of it is used.

    The time is that of the host, so that no step waits for a GPU. Of several processes the first one's counts.

    Args:
        max_seconds: the limit.
        stopwatch: counts training seconds.
    """

    def __init__(self, max_seconds: float, stopwatch: Stopwatch) -> None:
        self.max_seconds, self.state, self.stopwatch = max_seconds, stopwatch.state, stopwatch
        self._group: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the share that is used so far."""
        if trainer.world_size > 1:
            self._group = torch.distributed.new_group(backend="gloo")  # between CPUs, wherever the model is
        self._tell(pl_module, self.state.training_seconds)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the time of the step; stop when the time is up."""
        self.stopwatch.lap(training=True)
        seconds = self.state.training_seconds
        if self._group is not None:
            first = torch.tensor(seconds, dtype=torch.float64)
            torch.distributed.broadcast(first, 0, group=self._group)
            seconds = first.item()
        self._tell(pl_module, seconds)
        trainer.should_stop = trainer.should_stop or seconds >= self.max_seconds

    def _tell(self, module: LightningModule, seconds: float) -> None:
        assert isinstance(module, TrainingModule)
        module.time_share = seconds / self.max_seconds


class LossWatch(Callback):
    """Sums up the training loss, writes it to the record, and stops the run when it is not finite.

    Reading a value waits for the GPU (or the other processes), so there it happens every ``LOG_EVERY`` steps, and
    before every evaluation and checkpoint: no checkpoint follows an unchecked loss.
    """

    def __init__(self, run: Run, stopwatch: Stopwatch) -> None:
        self.run, self.state, self.stopwatch = run, run.state, stopwatch
        self._pending: list[Tensor] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self.stopwatch.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the loss; check the kept ones when it is time."""
        self._pending.append(outputs["loss"].detach())
        step, budget = trainer.global_step, self.run.config.trainer
        logs = step % LOG_EVERY == 0
        stops = step % budget.eval_every == 0 or step % budget.checkpoint_every == 0
        stops = stops or step == budget.max_steps or trainer.should_stop
        if logs or stops or (trainer.world_size == 1 and pl_module.device.type == "cpu"):
            self._look(trainer, step)
        if stops:
            self.stopwatch.lap(training=True)
        if logs:
            lr = trainer.optimizers[0].param_groups[0]["lr"]
            self.run.write("train", step, {"loss": self.state.loss_sum / self.state.loss_count, "lr": lr})
            self.state.loss_sum, self.state.loss_count = 0.0, 0

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Check the losses before the checkpoint that a signal causes."""
        if isinstance(exception, Interrupted) and trainer.world_size == 1 and self._pending:
            self._look(trainer, trainer.global_step)

    def _look(self, trainer: Trainer, step: int) -> None:
        losses = torch.stack(self._pending).double()
        if trainer.world_size > 1:
            torch.distributed.all_reduce(losses)
            losses /= trainer.world_size
        first = step - len(self._pending) + 1
        self._pending.clear()
        for number, loss in enumerate(losses.tolist(), start=first):
            if not math.isfinite(loss):
                raise ckpt.not_finite(f"the training loss became {loss} in step {number}", self.run.folder.checkpoints)
            self.state.loss_sum += loss
            self.state.loss_count += 1


class EMAWeights(WeightAveraging):
    """Exponential moving average of the weights, updated after every step: Lightning's callback with torch's fused
    update. Its counter is on the CPU, as torch's own update reads it three times a step, and waits for a GPU.

    The weight of the old average is min(``decay``, (1 + n) / (10 + n)) after n updates, so that the initial weights
    soon lose their influence, whatever ``decay`` is; the first update copies the weights.

    Args:
        decay: largest weight of the old average.
        device: where the average is kept: with the model.
    """

    def __init__(self, decay: float, device: torch.device) -> None:
        super().__init__(device=device, use_buffers=False)
        self.decay = decay
        self._tensors: list[list[Tensor]] = []  # weights and buffers of the average, then of the model

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begin with a copy of the model."""
        super().setup(trainer, pl_module, stage)
        if self._average_model is not None:
            self._average_model.n_averaged = self._average_model.n_averaged.cpu()
        self._tensors = []

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update the average."""
        average = self._average_model
        if average is None or trainer.global_step <= self._latest_update_step:
            return
        if not self._tensors:  # to collect them takes longer than an update
            modules: tuple[nn.Module, ...] = (average.module, pl_module)
            self._tensors = [[*values] for module in modules for values in (module.parameters(), module.buffers())]
        averages, averaged_buffers, weights, buffers = self._tensors
        count = int(average.n_averaged)
        decay = min(self.decay, (1 + count) / (10 + count)) if count else 0.0
        get_ema_multi_avg_fn(decay)(averages, weights, count)
        for averaged, current in zip(averaged_buffers, buffers, strict=True):
            averaged.copy_(current)
        average.n_averaged += 1
        self._latest_update_step = trainer.global_step


class Evaluation(Callback):
    """Measures the validation split every ``eval_every`` steps and keeps the best weights, averaged ones where there
    is an average.

    Args:
        run: the training.
        stopwatch: counts the time of evaluations apart.
        averaging: the callback that holds the averaged weights, if any.
    """

    def __init__(self, run: Run, stopwatch: Stopwatch, averaging: WeightAveraging | None) -> None:
        self.run, self.state, self.stopwatch, self.averaging = run, run.state, stopwatch, averaging
        self._last = (0, 0.0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Steps per second are counted from here."""
        self.run.device = pl_module.device  # of this process
        self._last = (trainer.global_step, self.state.training_seconds)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Evaluate when it is time."""
        step = trainer.global_step
        if step % self.run.config.trainer.eval_every:
            return
        if trainer.world_size > 1:  # all measure with the statistics of batch normalisation that are saved
            for buffer in pl_module.buffers():
                torch.distributed.broadcast(buffer, 0)
        raw = None if self.averaging is None else _copy(pl_module)
        with self._averaged(trainer, pl_module):
            metrics = self._measure(trainer)
            weights = _copy(pl_module)
        self.run.write_validation(step, metrics, self._steps_per_second(step))
        self.run.judge(step, metrics, weights, raw)
        trainer.should_stop = trainer.should_stop or self.state.stopped_early
        self.stopwatch.lap(training=False)

    def _measure(self, trainer: Trainer) -> dict[str, float]:
        self.state.evaluation_due = True
        with _interruptible():
            metrics = self.run.measure("valid", rank=trainer.global_rank, world_size=trainer.world_size)
        self.state.evaluation_due = False
        return metrics

    @contextmanager
    def _averaged(self, trainer: Trainer, module: LightningModule) -> Iterator[None]:
        if self.averaging is None:
            yield
            return
        self.averaging.on_validation_epoch_start(trainer, module)  # the average takes the place of the weights …
        try:
            yield
        finally:
            self.averaging.on_validation_epoch_end(trainer, module)  # … and goes back

    def _steps_per_second(self, step: int) -> float:
        """Since the evaluation before."""
        steps, seconds = step - self._last[0], self.state.training_seconds - self._last[1]
        self._last = (step, self.state.training_seconds)
        return steps / max(seconds, 1e-9)


def _copy(module: LightningModule) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let a signal take effect at once, within work during which signals are otherwise held back."""
    try:
        signals.release()
        yield
    finally:
        signals.hold()
