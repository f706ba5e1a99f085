"""The Lightning module: one training step, the optimiser, and the learning rate of a step."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from se3t.config import Config
from se3t.errors import UserError
from se3t.models.auxiliary import AuxiliaryLoss
from se3t.precision import data_dtype
from se3t.tasks.base import Task
from se3t.training.cuda_graph import StepGraphs
from se3t.training.feed import StepFeed, step_seed
from se3t.training.schedule import lr_factor

_SMALL_BATCH = 4096


def require_room(task: Task, batch_size: int) -> None:
    """Refuse a batch whose graph alone exceeds the memory of the machine: the system would kill the process.

    Raises:
        UserError: naming the setting.
    """
    if batch_size <= _SMALL_BATCH:
        return
    graph = task.graph(task.batch("train", torch.zeros(1, dtype=torch.int64), 0))
    tensors = [graph.positions, graph.edge_index, *graph.features.values(), *graph.edge_features.values()]
    needed = batch_size * sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > available:
        raise UserError(
            f"trainer.batch_size={batch_size}: the graph of such a batch takes {needed / 2**30:,.0f} GiB, and this "
            f"machine has {available / 2**30:,.0f}; use a smaller one"
        )


@torch.no_grad()
def clip_gradients(weights: Iterable[Tensor], max_norm: float) -> None:
    """Scale the gradients, of one device and dtype, so that the norm of all together is at most ``max_norm``.

    Bit for bit what ``torch.nn.utils.clip_grad_norm_`` does; but on a CPU, where reading a value waits for nothing,
    gradients within the limit are not multiplied by one.
    """
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    if not gradients:
        return
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    if factor.device.type != "cpu" or factor.item() != 1.0:
        torch._foreach_mul_(gradients, factor)


class TrainingModule(LightningModule):
    """A model with its task. A batch is the tensor of its sample numbers: the data are already on the device.

    Args:
        model: what is trained.
        task: data, inputs and loss.
        config: optimiser, budget and seed.
        first_step: steps taken before, when a run is continued.
    """

    def __init__(self, model: nn.Module, task: Task, config: Config, first_step: int = 0) -> None:
        super().__init__()
        self.model, self.task, self.config, self.first_step = model, task, config, first_step
        captures = config.trainer.cuda_graph and config.trainer.devices == 1  # several must meet in the backward pass
        self.graphs = StepGraphs(self._loss, model.parameters()) if captures else None
        self.time_share = 0.0  # of trainer.max_time, the same in all processes

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_current_fx_name":  # Lightning sets it at every hook; torch would take longer than the hook
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def setup(self, stage: str) -> None:
        """Move the data to the device of this process, and forget captured steps, which read data elsewhere in memory.

        Raises:
            UserError: when a batch is larger than the memory of the machine.
        """
        self.task.to(self.trainer.strategy.root_device, data_dtype(self.config.trainer.precision))
        require_room(self.task, self.config.trainer.batch_size)
        if self.graphs is not None:
            self.graphs.clear()

    def train_dataloader(self) -> StepFeed:
        """Sample numbers from the first step on, without end."""
        return StepFeed(
            self.task.size("train"),
            self.config.trainer.batch_size,
            self.config.seed,
            first_step=self.first_step,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
            device=self.trainer.strategy.root_device,
        )

    def on_train_batch_start(self, batch: Tensor, batch_idx: int) -> None:
        """Set the learning rate of this step."""
        optim = self.config.optim
        if optim.schedule == "constant" and self.trainer.global_step > optim.warmup_steps:
            return
        lr = optim.lr * lr_factor(self.trainer.global_step, optim, self.config.trainer.max_steps, self.time_share)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = lr

    def training_step(self, batch: Tensor) -> Tensor:
        """Loss of the samples with the numbers ``batch``; with ``trainer.cuda_graph`` the gradients are there too."""
        draw = step_seed(self.config.seed, self.trainer.global_step)
        if self.graphs is not None:
            return self.graphs(batch, torch.full((), draw, device=batch.device))  # no copy from the host to wait for
        return self._loss(batch, draw)

    def _loss(self, batch: Tensor, draw: int | Tensor) -> Tensor:
        samples = self.task.batch("train", batch, draw)
        loss = self.task.loss(self.model(self.task.graph(samples)), samples)
        return loss + self.model.auxiliary_loss() if isinstance(self.model, AuxiliaryLoss) else loss

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Skipped where :meth:`training_step` has made the gradients."""
        if self.graphs is None:
            super().backward(loss, *args, **kwargs)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer) -> None:
        """Skipped where :meth:`training_step` has made the gradients."""
        if self.graphs is None:
            for weight in _weights(optimizer):
                weight.grad = None

    def configure_gradient_clipping(
        self, optimizer: torch.optim.Optimizer, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
    ) -> None:
        """Clip the norm of all gradients together."""
        if gradient_clip_val is not None:
            clip_gradients(_weights(optimizer), gradient_clip_val)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam; with a weight decay AdamW, which decays weights directly and not through the gradient."""
        optim = self.config.optim
        settings: dict[str, Any] = {"lr": optim.lr, "fused": True}
        if optim.weight_decay > 0:
            return torch.optim.AdamW(self.parameters(), weight_decay=optim.weight_decay, **settings)
        return torch.optim.Adam(self.parameters(), **settings)


def _weights(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [weight for group in optimizer.param_groups for weight in group["params"]]
