"""Models whose training adds a term of their own to the loss of the task."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor


class AuxiliaryLoss(ABC):
    """A model that has, besides its prediction, something to be trained for: a penalty on its weights, a second target.

    In training the trainer adds :meth:`auxiliary_loss` to the loss of the task after each forward pass.
    """

    @abstractmethod
    def auxiliary_loss(self) -> Tensor:
        """The term of the last forward pass, a scalar that gradients flow from."""
