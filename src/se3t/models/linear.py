"""The linear baseline: every point keeps its velocity."""

from __future__ import annotations

import torch
from torch import nn

from se3t.fiber import Features, Fiber
from se3t.graph import Graph, require_graph


class Linear(nn.Module):
    """Constant velocity, the first row of Table 1: (x_T, v_T) = (x_0 + T·v_0, v_0). No parameters; exactly equivariant.

    The prediction is relative to the input, as for all models of the task: ``{1: stack(T·v_0, 0)}``.

    Args:
        fiber_in: fiber of the input; channel 1 of its type-1 part is the velocity, in length per time of the data.
        fiber_out: two type-1 channels, change of position and change of velocity.
        horizon: T, time between input and target in the unit of time of the data.

    Raises:
        ValueError: when the fibers carry no position and velocity.

    Source: Fuchs et al. 2020, Section 4.1: the trivial predictor of Table 1.
    """

    def __init__(self, fiber_in: Fiber, fiber_out: Fiber, *, horizon: float) -> None:
        super().__init__()
        if fiber_in.get(1, 0) < 2:
            raise ValueError(f"Linear needs position and velocity as type-1 channels of fiber_in, got {fiber_in!r}")
        if fiber_out != Fiber({1: 2}):
            raise ValueError(f"Linear predicts position and velocity: expected fiber_out 2x1, got {fiber_out!r}")
        self.fiber_in, self.fiber_out, self.horizon = fiber_in, fiber_out, horizon

    def forward(self, graph: Graph) -> Features:
        """Change of position and of velocity at the horizon: ``{1: [node, 2, 3]}``."""
        require_graph(graph)
        self.fiber_in.check(graph.features, "Linear: input features")
        velocity = graph.features[1][:, 1]
        return {1: torch.stack((self.horizon * velocity, torch.zeros_like(velocity)), dim=1)}

    def extra_repr(self) -> str:
        """Fibers and horizon."""
        return f"{self.fiber_in!r} -> {self.fiber_out!r}, horizon={self.horizon:g}"
