"""A run: its settings, its folder, its data and its model on a device, and its state."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from se3t.config import Config
from se3t.errors import UserError
from se3t.models import build_model
from se3t.precision import data_dtype, default_dtype, forward_context
from se3t.runs import RunFolder
from se3t.tasks import build_task
from se3t.tasks.base import Task
from se3t.training import checkpoint as ckpt
from se3t.training.distributed import process_rank
from se3t.training.evaluation import evaluate_split, peak_memory_bytes
from se3t.training.loggers import Write
from se3t.training.state import RunState

Build: TypeAlias = Callable[[Config], tuple[Task, nn.Module]]
"""Makes task and model of a configuration; a function of a module, so that other processes can import it."""


def build_parts(config: Config) -> tuple[Task, nn.Module]:
    """Task and freshly initialised model; the weights depend on ``config.seed`` and the settings of the model only."""
    task = build_task(config)
    ckpt.seed_everything(config.seed)
    return task, model_for(config, task)


def model_for(config: Config, task: Task) -> nn.Module:
    """The model of a configuration, with the inputs and outputs of a task, and new random weights."""
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


def choose_device(accelerator: str, setting: str = "trainer.accelerator=") -> torch.device:
    """The first device of an accelerator.

    Args:
        accelerator: "cpu", "gpu" or "cuda", or "auto" for a GPU where there is one.
        setting: how the user sets it, for errors.

    Raises:
        UserError: when a GPU is asked for where there is none.
    """
    available = torch.cuda.is_available()
    if accelerator in ("gpu", "cuda") and not available:
        what = f"{setting}{accelerator}: torch finds no GPU here"
        raise UserError(f"{what}; use {setting}cpu (`se3t doctor` says why)")
    return torch.device("cuda" if available and accelerator != "cpu" else "cpu")


@dataclass
class Run:
    """One training in this process, or what is measured of it.

    Attributes:
        config: its settings.
        folder: where its record is.
        task: data, inputs, loss and metrics.
        model: what is trained.
        device: where it computes.
        state: what it carries from step to step.
        resumed: the verified checkpoint that it continues from; None for a training from the start.
        writers: take (kind, step, values) of what is measured; none in all processes but the first.
        keep_line: takes lines on the progress.
    """

    config: Config
    folder: RunFolder
    task: Task
    model: nn.Module
    device: torch.device
    state: RunState = field(default_factory=RunState)
    resumed: ckpt.Checkpoint | None = None
    writers: list[Write] = field(default_factory=list)
    keep_line: Callable[[str], object] = str

    @classmethod
    def prepare(cls, config: Config, folder: RunFolder, build: Build = build_parts) -> Run:
        """Load the data and draw the weights of a configuration."""
        task, model = build(config)
        return cls(config, folder, task, model, choose_device(config.trainer.accelerator))

    @property
    def is_first(self) -> bool:
        """Whether this is the first process of the training, which logs and writes for all."""
        return process_rank() == 0

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and data."""
        return data_dtype(self.config.trainer.precision)

    @property
    def num_parameters(self) -> int:
        """Of the model."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def to_device(self) -> None:
        """Move data and model to the device."""
        self.task.to(self.device, self.dtype)
        self.model.to(self.device)

    def measure(
        self, split: str, keep: dict[str, list[Any]] | None = None, *, rank: int = 0, world_size: int = 1
    ) -> dict[str, float]:
        """Metrics of the model as it is, on a split, measured as the settings say.

        Args:
            split: "train", "valid" or "test".
            keep: receives the details that the task has of every sample.
            rank: number of this process; each measures its share.
            world_size: number of processes; all of them must call.
        """
        trainer = self.config.trainer
        with forward_context(trainer.precision, self.device):
            return evaluate_split(
                self.model,
                self.task,
                split,
                batch_size=trainer.eval_batch_size,
                num_equivariance_samples=trainer.num_equivariance_samples,
                seed=self.config.seed,
                device=self.device,
                rank=rank,
                world_size=world_size,
                keep=keep,
            )

    def measure_weights(
        self, weights: Mapping[str, Tensor], split: str, keep: dict[str, list[Any]] | None = None
    ) -> dict[str, float]:
        """The same with the weights of a checkpoint, which take the place of those there were."""
        ckpt.load_weights(self.model, ckpt.model_weights(weights), self.folder.path)
        return self.measure(split, keep)

    # --- what is written of it ----------------------------------------------------------------------------------------

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Pass on what was measured."""
        for write in self.writers:
            write(kind, step, values)

    def write_validation(self, step: int, metrics: Mapping[str, float], steps_per_second: float, **more: Any) -> None:
        """Pass on what was measured on the validation split after a step, with what it cost."""
        cost = {"steps_per_second": steps_per_second, "peak_memory_bytes": peak_memory_bytes(self.device)}
        epoch = step * self.config.trainer.batch_size / self.task.size("train")
        self.write("valid", step, {"epoch": epoch, **metrics, **cost, "seconds": self.state.seconds, **more})

    def judge(
        self,
        step: int,
        metrics: Mapping[str, float],
        weights: Mapping[str, Tensor],
        raw: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Keep the weights if their validation loss is the lowest so far, and stop early after too many that are not.

        Args:
            step: when they were measured.
            metrics: on the validation split.
            weights: as a checkpoint has them.
            raw: the weights behind averaged ones.

        Raises:
            UserError: the loss is not finite.
        """
        if not math.isfinite(metrics["loss"]):
            what = f"the validation loss became {metrics['loss']} after step {step}"
            raise ckpt.not_finite(what, self.folder.checkpoints)
        state, patience = self.state, self.config.trainer.early_stopping
        if metrics["loss"] < state.best_loss:
            state.best = ckpt.best_of(self.task, step, metrics, weights, raw)
            state.best_loss, state.evaluations_without_improvement = metrics["loss"], 0
            if self.is_first:
                self.write_best(state.best)
        else:
            state.evaluations_without_improvement += 1
        state.stopped_early = patience is not None and state.evaluations_without_improvement >= patience

    def write_best(self, best: Mapping[str, Any]) -> None:
        """Write ``best.ckpt``."""
        ckpt.write_best(self.folder.checkpoints, asdict(self.config), best)
