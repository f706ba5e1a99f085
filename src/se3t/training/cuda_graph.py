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
    """Forward and backward pass, captured once for every shape of batch; the optimiser then runs as usual.

    The first batch of a shape runs eagerly, the second one is captured, all others are replayed. Where no capture is
    possible every step runs eagerly, and so do further shapes than ``capacity``; the log says why, once.

    What is captured may not read values of tensors on the host, nor depend on anything but the batch: the pairing of
    the edges is decided outside. Whether points coincide is decided on the device.

    Tensors that the loss reads besides the batch must live as long as this object, in the same memory: a captured step
    has nothing of them but their addresses. It keeps ``loss`` alive, and with it what that refers to, but not what a
    cache may drop. Where such tensors are replaced, :meth:`clear` comes first.

    Attributes:
        reason: why every step runs eagerly; None where that is not so, or not yet known.

    Args:
        loss: tensors of a batch → loss, a number; with autocast inside where it is wanted.
        parameters: what is trained.
        capacity: captured shapes; each holds the memory of a step.
    """

    def __init__(self, loss: Callable[..., Tensor], parameters: Iterable[nn.Parameter], *, capacity: int = 4) -> None:
        self.loss, self.parameters, self.capacity = loss, list(parameters), capacity
        self.clear()

    def clear(self) -> None:
        """Forget all captured steps, and the reason why there were none."""
        self.recorded: dict[Key, Recorded | None] = {}  # None: seen once
        self.reason: str | None = None
        self.is_full = False

    def __call__(self, *batch: Tensor) -> Tensor:
        """Make the gradients of all parameters, in place of those there are.

        Args:
            batch: arguments of the loss, all on one device.

        Returns:
            The loss, detached.
        """
        name: Key = tuple((tuple(value.shape), value.dtype, value.device) for value in batch)
        known = self.recorded.get(name)
        if known is None and not self._may_record(name, batch[0].device):
            return self._pass(batch)
        if known is None:
            try:
                known = self.recorded[name] = self._record(batch)
            except RuntimeError as error:  # an operation that cannot be captured
                self._refuse(f"the step cannot be captured: {error}".splitlines()[0])
                return self._pass(batch)
        for place, value in zip(known.inputs, batch, strict=True):
            place.copy_(value, non_blocking=True)
        known.replay()
        for parameter, gradient in zip(self.parameters, known.gradients, strict=True):
            parameter.grad = gradient
        return known.loss.clone()

    def _may_record(self, name: Key, device: torch.device) -> bool:
        if self.reason is not None:
            return False
        reason = unavailable(device)
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
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        torch.clear_autocast_cache()  # weights in fewer bits are made by every replay, not before the capture
        try:
            with torch.cuda.graph(graph), without_reading_values():
                loss = self._pass(inputs)
        finally:
            torch.cuda.set_stream(stream)  # a capture that fails leaves its own behind
            torch.clear_autocast_cache()  # nor are those of the graph for others
        return Recorded(inputs, loss, tuple(parameter.grad for parameter in self.parameters), graph.replay)


def unavailable(device: torch.device | str) -> str | None:
    """Why steps on a device cannot be captured; None where they can."""
    if torch.device(device).type != "cuda":
        return f"the batch is on {torch.device(device).type}, a CUDA device is needed"
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return "training is distributed over several processes"
    return None
