"""What models without equivariant layers share: features as plain vectors per point, clouds as rows of a batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from se3t.errors import UserError
from se3t.fiber import Features, Fiber
from se3t.graph import require_cloud_size


def require_scalars(model: str, fiber_in: Fiber, fiber_out: Fiber) -> None:
    """Refuse what an invariant model cannot read or predict.

    Args:
        model: its name in the registry, for the message.
        fiber_in: its input, to be of type 0 alone.
        fiber_out: its output, to be of type 0 alone.

    Raises:
        UserError: naming the fiber.
    """
    for what, fiber in (("reads", fiber_in), ("predicts", fiber_out)):
        if fiber.degrees != (0,):
            raise UserError(
                f"model={model} {what} scalars (type 0) alone, not {fiber!r}: "
                f"choose another model, or inputs and targets of type 0"
            )


def flatten_features(features: Features, fiber: Fiber) -> Float[Tensor, "node dim"]:
    """All components of a node side by side, by ascending degree: what a model without geometry sees.

    Args:
        features: a field of ``fiber``, ``[node, channels, 2l+1]`` by degree.
        fiber: its fiber; ``dim`` is ``fiber.dim``.

    Raises:
        ValueError: when ``features`` is not a field of ``fiber``.
    """
    fiber.check(features, "input features")
    return torch.cat([features[degree].flatten(-2) for degree in fiber], dim=-1)


def unflatten_features(values: Float[Tensor, "node dim"], fiber: Fiber) -> Features:
    """Undo :func:`flatten_features`: read plain vectors as a field of ``fiber``."""
    parts = values.split([channels * (2 * degree + 1) for degree, channels in fiber.items()], dim=-1)
    return {degree: part.unflatten(-1, (fiber[degree], -1)) for degree, part in zip(fiber, parts, strict=True)}


@dataclass(frozen=True)
class DenseLayout:
    """Where the points of every cloud lie in a dense batch ``[graph, slot, ...]``.

    Clouds of equal size need no padding: then packing is a reshape and ``mask`` is None.

    Attributes:
        num_graphs: number of clouds.
        num_slots: points of the largest cloud, at least 1.
        slot: ``[node]`` place of each point among all slots, ``graph * num_slots + place in its cloud``; None without
            padding.
        mask: ``[graph, slot]`` true where a slot holds a point; None without padding.
    """

    num_graphs: int
    num_slots: int
    slot: Int[Tensor, " node"] | None
    mask: Bool[Tensor, "graph slot"] | None

    @classmethod
    def of(cls, batch: Int[Tensor, " node"], num_graphs: int, cloud_size: int | None = None) -> DenseLayout:
        """Layout of the clouds of ``batch``, the ascending cloud index of every point.

        Args:
            batch: ``[node]``; not read where ``cloud_size`` is given.
            num_graphs: number of clouds.
            cloud_size: see :class:`~se3t.graph.Graph`.

        Raises:
            ValueError: when there are not ``cloud_size`` points for each cloud.
        """
        if cloud_size is not None:
            require_cloud_size(cloud_size, num_graphs, len(batch))
            return cls(num_graphs, max(cloud_size, 1), None, None)
        sizes = torch.bincount(batch, minlength=num_graphs)
        num_slots = max(int(sizes.max()), 1) if num_graphs else 1
        if num_slots * num_graphs == batch.numel():
            return cls(num_graphs, num_slots, None, None)
        first = sizes.cumsum(0) - sizes  # index of the first point of each cloud
        place = torch.arange(batch.numel(), device=batch.device) - first[batch]
        mask = torch.arange(num_slots, device=batch.device) < sizes[:, None]
        return cls(num_graphs, num_slots, batch * num_slots + place, mask)

    def pack(self, values: Float[Tensor, "node channel"]) -> Float[Tensor, "graph slot channel"]:
        """Points to their slots; empty slots are zero."""
        if self.slot is not None:
            padded = values.new_zeros(self.num_graphs * self.num_slots, values.shape[-1])
            values = padded.index_copy(0, self.slot, values)
        return values.view(self.num_graphs, self.num_slots, values.shape[-1])

    def unpack(self, dense: Float[Tensor, "graph slot channel"]) -> Float[Tensor, "node channel"]:
        """Slots back to points."""
        values = dense.flatten(0, 1)
        return values if self.slot is None else values.index_select(0, self.slot)
