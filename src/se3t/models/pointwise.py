"""What models without equivariant layers share: features as plain vectors per point, clouds as rows of a batch."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch_geometric.utils import to_dense_batch

from se3t.errors import UserError
from se3t.fiber import Features, Fiber
from se3t.graph import Graph
from se3t.graph_checks import require_cloud_size


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


def as_dense(
    values: Float[Tensor, "node channel"], graph: Graph
) -> tuple[Float[Tensor, "graph slot channel"], Bool[Tensor, "graph slot"] | None]:
    """The values of each cloud as a row of a batch, with zeros after the last point of a smaller cloud.

    Returns:
        the values, and which slots hold a point: None for clouds of equal size, whose values are a view.

    Raises:
        ValueError: when there are not ``graph.cloud_size`` points for each cloud.
    """
    size = graph.cloud_size if graph.num_graphs else 0  # to_dense_batch fails without clouds
    if size is not None:
        require_cloud_size(size, graph.num_graphs, len(values))
        return values.view(graph.num_graphs, size, values.shape[-1]), None
    return to_dense_batch(values, graph.batch, batch_size=graph.num_graphs)


def from_dense(
    values: Float[Tensor, "graph slot channel"], mask: Bool[Tensor, "graph slot"] | None
) -> Float[Tensor, "node channel"]:
    """Undo :func:`as_dense`."""
    return values.flatten(0, 1) if mask is None else values[mask]
