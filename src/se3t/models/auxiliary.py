"""Models whose training adds a further term to the loss of the task."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class AuxiliaryLoss(nn.Module):
    """A model that has, besides its prediction, something to be trained for: a penalty on its weights, a second target.

    A forward pass in training leaves the term, a scalar that gradients flow from, in ``_auxiliary``, any other leaves
    None; the trainer adds it to the loss of the task.
    """

    _auxiliary: Tensor | None = None

    def auxiliary_loss(self) -> Tensor:
        """The term of the last forward pass.

        Raises:
            RuntimeError: when the last forward pass was not in training.
        """
        if self._auxiliary is None:
            name = type(self).__name__
            raise RuntimeError(f"{name}: the auxiliary loss needs a forward pass in training first")
        return self._auxiliary

    def __getstate__(self) -> dict[str, Any]:
        """What a copy takes over: not the term, a result of the graph of one pass, which cannot be copied."""
        return {**self.__dict__, "_auxiliary": None}
