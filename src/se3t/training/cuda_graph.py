"""Training steps replayed as CUDA graphs, for batches so small that starting kernels takes longer than running them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from se3t.nn.kernels.edge_frame import without_reading_values

log = logging.getLogger(__name__)

Key: TypeAlias = tuple[Hashable, ...]
WARM_UP = 3  # eager passes on a side stream before the capture, for what libraries set up on first use


@dataclass(frozen=True)
class Recorded:
    """A captured step.

    Attributes:
        inputs: where it reads its batch.
        loss: where it leaves the loss.
        gradients: where it leaves the gradients, None for parameters that have none.
        replay: runs it.
    """

    inputs: tuple[Tensor, ...]
    loss: Tensor
    gradients: tuple[Tensor | None, ...]
    replay: Callable[[], None]


class StepGraphs:
    """Forward and backward pass, and the step of an optimiser if one is given; captured once for every shape of batch.

    The first batch of a shape runs eagerly: this also creates the state of the optimiser, which must exist before it is
    captured. The second one is captured, all others are replayed. Where no capture is possible every step runs eagerly,
    and so do further shapes than ``capacity``; the log says why, once.

    What is captured may not read values of tensors on the host, nor depend on anything but the batch and ``key``: the
    pairing of the edges is decided outside. Whether points coincide is decided on the device.

    Attributes:
        reason: why every step runs eagerly, in words; None where that is not so, or not yet known.

    Args:
        loss: tensors of a batch → loss, a number; with autocast inside where it is wanted.
        parameters: what is trained.
        optimizer: Adam or the like, with ``capturable=True`` and a tensor as learning rate (:func:`set_lr`). Without
            one, a step ends with the gradients.
        after_backward: what happens to the gradients before the step of the optimiser, such as clipping.
        capacity: captured shapes; each holds the memory of a step.
    """

    def __init__(
        self,
        loss: Callable[..., Tensor],
        parameters: Iterable[nn.Parameter],
        optimizer: torch.optim.Optimizer | None = None,
        *,
        after_backward: Callable[[], None] | None = None,
        capacity: int = 4,
    ) -> None:
        self.loss, self.parameters, self.optimizer = loss, list(parameters), optimizer
        self.after_backward, self.capacity = after_backward, capacity
        self.recorded: dict[Key, Recorded | None] = {}  # None: seen once
        self.reason: str | None = None
        self.is_full = False

    def __call__(self, *batch: Tensor, key: Hashable = None) -> Tensor:
        """Run a step.

        Args:
            batch: arguments of the loss, all on one device.
            key: what else the step depends on, such as how the edges are paired; each value has a capture of its own.

        Returns:
            The loss, detached.
        """
        name: Key = (key, *((tuple(value.shape), value.dtype, value.device) for value in batch))
        known = self.recorded.get(name)
        if known is None and not self._may_record(name, batch[0].device):
            return self._eager(batch)
        if known is None:
            try:
                known = self.recorded[name] = self._record(batch)
            except RuntimeError as error:  # an operation that cannot be captured
                self._refuse(f"the step cannot be captured: {error}".splitlines()[0])
                return self._eager(batch)
        for place, value in zip(known.inputs, batch, strict=True):
            place.copy_(value, non_blocking=True)
        known.replay()
        for parameter, gradient in zip(self.parameters, known.gradients, strict=True):
            parameter.grad = gradient
        return known.loss.clone()

    def _may_record(self, name: Key, device: torch.device) -> bool:
        if self.reason is not None:
            return False
        reason = unavailable(device, self.optimizer)
        if reason is not None:
            self._refuse(reason)
            return False
        if name in self.recorded:
            return True
        if len(self.recorded) < self.capacity:
            self.recorded[name] = None
        elif not self.is_full:
            self.is_full = True
            log.warning("CUDA graphs: batches of more than %d shapes; further ones run eagerly", self.capacity)
        return False

    def _refuse(self, reason: str) -> None:
        self.reason = reason
        self.recorded = {name: known for name, known in self.recorded.items() if known is not None}
        log.warning("CUDA graphs are not used: %s", reason)

    def _pass(self, batch: Sequence[Tensor]) -> Tensor:
        for parameter in self.parameters:
            parameter.grad = None
        loss = self.loss(*batch)
        with torch.autocast(loss.device.type, enabled=False):  # the step as a whole may be called under autocast
            loss.backward()
        return loss.detach()

    def _finish(self) -> None:
        if self.after_backward is not None:
            self.after_backward()
        if self.optimizer is not None:
            self.optimizer.step()

    def _eager(self, batch: Sequence[Tensor]) -> Tensor:
        loss = self._pass(batch)
        self._finish()
        return loss

    def _record(self, batch: Sequence[Tensor]) -> Recorded:
        inputs = tuple(value.clone() for value in batch)
        side = torch.cuda.Stream(batch[0].device)
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side), without_reading_values():
            for _ in range(WARM_UP):
                self._pass(inputs)
        torch.cuda.current_stream().wait_stream(side)
        for parameter in self.parameters:  # gradients are then made in the memory of the graph
            parameter.grad = None
        graph = torch.cuda.CUDAGraph()
        torch.clear_autocast_cache()  # weights in fewer bits are made by every replay, not before the capture
        with torch.cuda.graph(graph), without_reading_values():
            loss = self._pass(inputs)
            self._finish()
        torch.clear_autocast_cache()  # nor are those of the graph for others
        return Recorded(inputs, loss, tuple(parameter.grad for parameter in self.parameters), graph.replay)


def unavailable(device: torch.device | str, optimizer: torch.optim.Optimizer | None = None) -> str | None:
    """Why steps on a device cannot be captured, in words; None where they can."""
    if torch.device(device).type != "cuda":
        return f"the batch is on {torch.device(device).type}, they need a CUDA device"
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return "training is distributed over several processes"
    for group in optimizer.param_groups if optimizer is not None else ():
        if not group.get("capturable", False):
            return "the optimiser keeps its step count on the host; make it with capturable=True"
        if not isinstance(group["lr"], Tensor):
            return "the learning rate would be captured as a constant; give it as a tensor on the device"
    return None


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Change the learning rate, in place where it is a tensor that a captured step reads."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr
