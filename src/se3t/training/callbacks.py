"""What happens between two training steps: watching the loss, averaging, evaluating, saving — in this order.

All of it hangs on ``on_train_batch_end``, and a checkpoint is written last: it then holds the state between step s and
step s + 1, whatever else fell on step s, and continuing from it is continuing at the start of step s + 1.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from se3t.config import Config
from se3t.errors import UserError
from se3t.training import checkpoint as ckpt
from se3t.training import record
from se3t.training.evaluation import evaluate_split, peak_memory_bytes
from se3t.training.feed import derived_seed
from se3t.training.loggers import Write
from se3t.training.module import TrainingModule
from se3t.training.precision import forward_context

LOG_EVERY = 50
"""Steps between two lines of the training loss."""


class Stopwatch:
    """Counts the seconds of a run into its state, training apart from the rest."""

    def __init__(self, state: ckpt.RunState) -> None:
        self.state, self._mark = state, time.perf_counter()

    def start(self) -> None:
        """Forget the time since the last lap."""
        self._mark = time.perf_counter()

    def lap(self, training: bool) -> None:
        """Add the time since the last lap."""
        now = time.perf_counter()
        self.state.seconds += now - self._mark
        self.state.training_seconds += (now - self._mark) if training else 0.0
        self._mark = now


class LossWatch(Callback):
    """Sums up the training loss, writes it to the record, and stops the run when it is not finite.

    Reading a value waits for the GPU (or the other processes), so there it happens every ``LOG_EVERY`` steps, and
    before every evaluation and checkpoint: nothing is saved that was not looked at.
    """

    def __init__(self, config: Config, state: ckpt.RunState, stopwatch: Stopwatch, write: Write, folder: Path) -> None:
        self.config, self.state, self.stopwatch, self.write, self.folder = config, state, stopwatch, write, folder
        self._pending: list[Tensor] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self.stopwatch.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the loss; look at it when it is time."""
        self._pending.append(outputs["loss"].detach())
        step, budget = trainer.global_step, self.config.trainer
        logs = step % LOG_EVERY == 0
        stops = step % budget.eval_every == 0 or step % budget.checkpoint_every == 0 or step == budget.max_steps
        if logs or stops or (trainer.world_size == 1 and pl_module.device.type == "cpu"):
            self._look(trainer, step)
        if stops:
            self.stopwatch.lap(training=True)
        if logs:
            lr = trainer.optimizers[0].param_groups[0]["lr"]
            self.write("train", step, {"loss": self.state.loss_sum / self.state.loss_count, "lr": lr})
            self.state.loss_sum, self.state.loss_count = 0.0, 0

    def _look(self, trainer: Trainer, step: int) -> None:
        losses = torch.stack(self._pending).double()
        if trainer.world_size > 1:
            torch.distributed.all_reduce(losses)
            losses /= trainer.world_size
        first = step - len(self._pending) + 1
        self._pending.clear()
        for number, loss in enumerate(losses.tolist(), start=first):
            if not math.isfinite(loss):
                raise _not_finite(f"the training loss became {loss} in step {number}", self.folder)
            self.state.loss_sum += loss
            self.state.loss_count += 1


def weight_averaging(decay: float, device: torch.device) -> WeightAveraging:
    """Exponential moving average of the weights, updated after every step: Lightning's callback with torch's fused
    update.

    Args:
        decay: weight of the old average.
        device: where the average is kept: with the model.
    """
    return WeightAveraging(device=device, use_buffers=False, multi_avg_fn=get_ema_multi_avg_fn(decay))


class Evaluation(Callback):
    """Measures the validation split every ``eval_every`` steps and keeps the best weights, averaged ones where there
    is an average.

    Args:
        config: budget and seed.
        state: where the best weights are kept.
        stopwatch: told when training pauses.
        write: record of the measurements.
        folder: where ``best.ckpt`` is written.
        averaging: the callback that holds the averaged weights, if any.
    """

    def __init__(
        self,
        config: Config,
        state: ckpt.RunState,
        stopwatch: Stopwatch,
        write: Write,
        folder: Path,
        averaging: WeightAveraging | None,
    ) -> None:
        self.config, self.state, self.stopwatch, self.write = config, state, stopwatch, write
        self.folder, self.averaging = folder, averaging
        self._last = (0, 0.0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Steps per second are counted from here."""
        self._last = (trainer.global_step, self.state.training_seconds)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Evaluate when it is time."""
        step = trainer.global_step
        if step % self.config.trainer.eval_every:
            return
        assert isinstance(pl_module, TrainingModule)
        if trainer.world_size > 1:  # all measure with the statistics of batch normalisation that are saved
            for buffer in pl_module.buffers():
                torch.distributed.broadcast(buffer, 0)
        with self._averaged(trainer, pl_module):
            metrics = self._measure(trainer, pl_module)
            weights = {name: value.detach().cpu().clone() for name, value in pl_module.state_dict().items()}
        epoch = step * self.config.trainer.batch_size / pl_module.task.size("train")
        self.write("valid", step, {"epoch": epoch, **metrics, **self._cost(step, pl_module.device)})
        if not math.isfinite(metrics["loss"]):
            raise _not_finite(f"the validation loss became {metrics['loss']} after step {step}", self.folder)
        self._judge(trainer, pl_module, step, metrics, weights)
        self.stopwatch.lap(training=False)

    def _measure(self, trainer: Trainer, module: TrainingModule) -> dict[str, float]:
        budget = self.config.trainer
        with forward_context(budget.precision, module.device):
            return evaluate_split(
                module.model,
                module.task,
                "valid",
                batch_size=budget.eval_batch_size,
                num_equivariance_samples=budget.num_equivariance_samples,
                seed=self.config.seed,
                device=module.device,
                rank=trainer.global_rank,
                world_size=trainer.world_size,
            )

    @contextmanager
    def _averaged(self, trainer: Trainer, module: LightningModule) -> Iterator[None]:
        if self.averaging is None:
            yield
            return
        self.averaging.on_validation_epoch_start(trainer, module)  # the average takes the place of the weights …
        yield
        self.averaging.on_validation_epoch_end(trainer, module)  # … and goes back

    def _cost(self, step: int, device: torch.device) -> dict[str, float]:
        steps, seconds = step - self._last[0], self.state.training_seconds - self._last[1]
        self._last = (step, self.state.training_seconds)
        return {
            "steps_per_second": steps / max(seconds, 1e-9),
            "peak_memory_bytes": peak_memory_bytes(device),
            "seconds": self.state.seconds,
        }

    def _judge(
        self,
        trainer: Trainer,
        module: TrainingModule,
        step: int,
        metrics: dict[str, float],
        weights: dict[str, Tensor],
    ) -> None:
        state, patience = self.state, self.config.trainer.early_stopping
        if metrics["loss"] < state.best_loss:
            state.best_loss, state.evaluations_without_improvement = metrics["loss"], 0
            state.best = {"step": step, "metrics": metrics, "state_dict": weights, "facts": module.task.facts()}
            if self.averaging is not None:
                raw = {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}
                state.best["current_model_state"] = raw
            if trainer.is_global_zero:
                ckpt.write_best(self.folder, record.plain(self.config), state.best)
        else:
            state.evaluations_without_improvement += 1
        if patience is not None and state.evaluations_without_improvement >= patience:
            state.stopped_early = trainer.should_stop = True


class Checkpointing(Callback):
    """Saves everything a run needs to go on, every ``checkpoint_every`` steps and at the end; restores the random
    numbers.

    Args:
        config: budget; stored in the checkpoint.
        state: stored in the checkpoint.
        stopwatch: told about the time that saving takes.
        folder: where the checkpoints lie.
        resumed: the checkpoint this run goes on from, if any.
    """

    def __init__(
        self,
        config: Config,
        state: ckpt.RunState,
        stopwatch: Stopwatch,
        folder: Path,
        resumed: ckpt.Checkpoint | None,
    ) -> None:
        self.config, self.state, self.stopwatch, self.folder, self.resumed = config, state, stopwatch, folder, resumed

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the random numbers of this process: those of the checkpoint, else fresh ones."""
        states = [] if self.resumed is None else self.resumed.content["random"]
        if trainer.global_rank < len(states):
            ckpt.set_random_state(states[trainer.global_rank])
        else:
            ckpt.seed_everything(derived_seed(self.config.seed, trainer.global_rank, trainer.global_step))
        self.resumed = None  # free its memory

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when it is time."""
        step, budget = trainer.global_step, self.config.trainer
        if not (step % budget.checkpoint_every == 0 or step == budget.max_steps or trainer.should_stop):
            return
        _require_finite_weights(pl_module, step, self.folder)
        trainer.save_checkpoint(ckpt.step_path(self.folder, step), weights_only=False)
        if trainer.is_global_zero:
            ckpt.prune(self.folder)
        self.stopwatch.lap(training=False)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add to Lightning's checkpoint what it does not keep: settings, state of the run, random numbers of all
        processes, checksum of the data.
        """
        assert isinstance(pl_module, TrainingModule)
        checkpoint |= {
            "format": ckpt.FORMAT,
            "kind": "step",
            "step": trainer.global_step,
            "config": record.plain(self.config),
            "run": dict(vars(self.state)),
            "random": _random_states(trainer.world_size),
            "data_checksum": pl_module.task.describe().get("checksum"),
            "facts": pl_module.task.facts(),
        }


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lets Lightning write checkpoints whole or not at all, and read verified ones only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write under a temporary name, then rename."""
        ckpt.write_checkpoint(Path(path), checkpoint)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        """Read a whole checkpoint to the CPU, running none of its code."""
        return ckpt.read_checkpoint(Path(path)).content


def _random_states(world_size: int) -> list[dict[str, Any]]:
    own = ckpt.random_state()
    if world_size == 1:
        return [own]
    states: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(states, own)
    return states


def _not_finite(what: str, folder: Path) -> UserError:
    kept = next(folder.glob("step-*.ckpt"), None) is not None
    state = "the last good checkpoint is kept" if kept else "there is no checkpoint of this run yet"
    return UserError(f"{what}; {state}: lower optim.lr or set optim.clip_norm, and train again")


def _require_finite_weights(module: LightningModule, step: int, folder: Path) -> None:
    # A gradient can overflow while the loss is still finite: such weights must not replace the last good checkpoint.
    norms = torch.stack([parameter.detach().abs().sum() for parameter in module.parameters()])
    if not bool(norms.isfinite().all()):
        name = [name for name, _ in module.named_parameters()][int((~norms.isfinite()).nonzero()[0])]
        raise _not_finite(f"the weights {name.removeprefix(ckpt.PREFIX)!r} are not finite after step {step}", folder)
