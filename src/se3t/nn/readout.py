"""What follows the last equivariant layer: pooling over each cloud, and an MLP on what is invariant."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from se3t.fiber import Features, Fiber
from se3t.nn.pool import Pooling
from se3t.nn.precision import full_range


class Readout(nn.Module):
    """Keep the degrees asked for, pool the nodes of each cloud, pass type 0 through Linear – ReLU – Linear.

    Each step is optional; without any the features pass unchanged.

    Args:
        fiber_in: types and channels of the last equivariant layer.
        fiber_out: types and channels of the result: some degrees of ``fiber_in``, or type 0 with ``head``.
        pooling: ``mean``, ``sum`` or ``max`` over the nodes of a cloud (see :func:`se3t.nn.pool`), or None.
        head: whether type 0 passes Linear(C, C) – ReLU – Linear(C, C_out), C the channels of ``fiber_in``.

    Raises:
        ValueError: when ``fiber_out`` cannot be made from ``fiber_in``.

    Source: paper, Section 4.3 and appendix (maximum over the atoms, then two linear layers).
    """

    def __init__(self, fiber_in: Fiber, fiber_out: Fiber, *, pooling: str | None = None, head: bool = False) -> None:
        super().__init__()
        if head and (fiber_out.degrees != (0,) or 0 not in fiber_in):
            raise ValueError(f"head: makes type 0 from type 0, got {fiber_in!r} -> {fiber_out!r}")
        if not head and fiber_in.restrict(fiber_out) != fiber_out:
            raise ValueError(f"Readout: {fiber_out!r} is not a part of the last layer's {fiber_in!r}")
        self.fiber_in, self.fiber_out = fiber_in, fiber_out
        self.pooling = None if pooling is None else Pooling(pooling)
        self.head: nn.Sequential | None = None
        if head:
            width = fiber_in[0]
            self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, fiber_out[0]))

    @full_range
    def forward(self, features: Features, batch: Tensor, num_graphs: int) -> Features:
        """``[node, C, 2l+1]`` by degree → ``[node or graph, C_out, 2l+1]`` by degree.

        Args:
            features: of type ``fiber_in``.
            batch: ``[node]`` index of the cloud.
            num_graphs: number of clouds.
        """
        kept = {degree: features[degree] for degree in self.fiber_out}
        if self.pooling is not None:
            kept = self.pooling(kept, batch, num_graphs)
        if self.head is None:
            return kept
        invariant: torch.Tensor = self.head(kept[0].squeeze(-1))
        return {0: invariant[..., None]}

    def __repr__(self) -> str:
        pooling = "" if self.pooling is None else f", {self.pooling.reduce}"
        return f"Readout({self.fiber_in!r} -> {self.fiber_out!r}{pooling}{', head' if self.head is not None else ''})"
