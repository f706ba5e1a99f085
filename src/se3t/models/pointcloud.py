"""What the point-cloud classifiers share: clouds of equal size as dense batches, neighbours, point-wise networks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from se3t.errors import UserError
from se3t.fiber import Features, Fiber
from se3t.graph import Graph
from se3t.graph_checks import require_cloud_size
from se3t.models.base import SettingsModel
from se3t.nn.precision import at_least_float32, require_supported

POSITIONS = Fiber("1x1")
"""The input of a point-cloud classifier: the coordinates of each point, as one vector."""

_TABLE = 1 << 22  # distances held at a time: more fall out of the processor's cache


def dense_positions(graph: Graph, model_name: str) -> Float[Tensor, "graph point 3"]:
    """The coordinates of every cloud as one row of a batch.

    Args:
        graph: clouds of one size, with ``features[1]`` the coordinates, ``[node, 1, 3]``.
        model_name: for the message.

    Raises:
        UserError: when the clouds differ in size.
        ValueError: when the features are not of fiber ``1x1``.
    """
    POSITIONS.check(graph.features, f"{model_name}: input features")
    if graph.cloud_size is not None:
        require_cloud_size(graph.cloud_size, graph.num_graphs, graph.num_nodes)
        smallest = largest = graph.cloud_size
    else:
        sizes = torch.bincount(graph.batch, minlength=max(graph.num_graphs, 1))
        smallest, largest = map(int, sizes.aminmax())
    if smallest != largest or largest == 0:
        raise UserError(
            f"model={model_name} needs clouds of one size, at least one point each, but a batch has clouds of "
            f"{smallest} to {largest} points: draw the same number from each (task.num_points)"
        )
    return graph.features[1].reshape(graph.num_graphs, largest, 3)


class PointClassifier(SettingsModel, ABC):
    """A network that reads coordinates alone and gives a number for each class of a cloud.

    Args:
        fiber_in: ``1x1``, the coordinates of each point; all clouds of a batch have the same number of points.
        fiber_out: type 0 alone, one number for each class.
        settings: an instance of the model's schema in :mod:`se3t.config`; None: its defaults.
        options: single settings by name, in place of those of ``settings``.

    Raises:
        UserError: for other fibers, or a setting that is out of range.
    """

    pooled: ClassVar[bool] = True  # one output for each cloud, see build_model

    def __init__(self, fiber_in: Fiber, fiber_out: Fiber, settings: Any = None, **options: Any) -> None:
        super().__init__(fiber_in, fiber_out, settings, options)
        name = self.schema.name
        if fiber_in != POSITIONS:
            raise UserError(
                f"model={name} reads the coordinates of the points, one vector (1x1), not {fiber_in!r}: "
                f"set task.inputs=positions, without height"
            )
        if fiber_out.degrees != (0,):
            raise UserError(f"model={name} predicts scalars (type 0) alone, one for each class, not {fiber_out!r}")

    def forward(self, graph: Graph) -> Features:
        """A number for each class: ``{0: [graph, class, 1]}``."""
        require_supported(self, graph)
        return {0: self.logits(dense_positions(graph, self.schema.name))[..., None]}

    @abstractmethod
    def logits(self, positions: Float[Tensor, "graph point 3"]) -> Float[Tensor, "graph class"]:
        """A number for each class of every cloud."""


@torch.no_grad()
def nearest(
    points: Float[Tensor, "graph point c"], centres: Float[Tensor, "graph centre c"], k: int
) -> Int[Tensor, "graph centre neighbor"]:
    """The ``k`` points nearest to each centre, by ascending distance; all of them where there are fewer.

    A centre that is itself a point is its own first neighbour (or a point that coincides with it is).

    Args:
        points: of each cloud, in a space of any dimension.
        centres: in the same space.
        k: at least 1.

    Returns:
        index of the point within its cloud, ``[graph, centre, min(k, point)]``. Which of several points at exactly
        the same distance come first, or at all, is not defined.

    Raises:
        ValueError: when ``k`` is below 1.
    """
    if k < 1:
        raise ValueError(f"k: expected at least 1 neighbour, got {k}")
    k = min(k, points.shape[1])
    at_once = max(_TABLE // max(points.shape[1] * centres.shape[1], 1), 1)
    chunks = zip(points.split(at_once), centres.split(at_once), strict=True)
    return torch.cat([squared_distances(*chunk).topk(k, largest=False).indices for chunk in chunks])


@torch.no_grad()
def squared_distances(
    points: Float[Tensor, "graph point c"], centres: Float[Tensor, "graph centre c"]
) -> Float[Tensor, "graph centre point"]:
    """‖x_j − c_i‖² in three dimensions; in more, ‖x_j‖² − 2⟨c_i, x_j⟩: less by ‖c_i‖², which orders them alike.

    The first is exact to rounding of the distance; the second to rounding of the squared norms, and one matrix product.
    """
    points, centres = at_least_float32(points), at_least_float32(centres)
    with torch.autocast(points.device.type, enabled=False):
        if points.shape[-1] > 3:
            return torch.baddbmm(points.square().sum(dim=-1)[:, None], centres, points.mT, alpha=-2)
        axes = zip(points.unbind(dim=-1), centres.unbind(dim=-1), strict=True)
        squares = [(centre[:, :, None] - point[:, None]).square_() for point, centre in axes]
        return sum(squares[1:], start=squares[0])


def gather(
    values: Float[Tensor, "graph point c"], index: Int[Tensor, "graph centre k"]
) -> Float[Tensor, "graph centre k c"]:
    """The values of the points in ``index``, numbers within each cloud."""
    rows = flat_index(index, values.shape[1])
    return values.flatten(0, 1).index_select(0, rows.flatten()).unflatten(0, index.shape)


def flat_index(index: Int[Tensor, "graph ..."], num_points: int) -> Int[Tensor, "graph ..."]:
    """Numbers within each cloud as numbers in the list of all points of all clouds."""
    first = torch.arange(len(index), device=index.device) * num_points
    return index + first.view(-1, *[1] * (index.dim() - 1))


class SharedMLP(nn.Module):
    """x ← σ(BN(W x + b)) on the last axis of any shape, once for each pair of ``widths``.

    Batch normalisation is over all other axes together. Linear layers begin as torch makes them.

    Args:
        widths: of the input and of every layer.
        activation: σ; default ReLU. For :meth:`maximum` it must not fall anywhere.
        bias: whether the layers have b, which has no effect on a layer that batch normalisation follows.
    """

    linears: Any  # modules of known classes, which a list of modules does not tell
    norms: Any

    def __init__(self, widths: Sequence[int], activation: nn.Module | None = None, *, bias: bool = True) -> None:
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(first, second, bias=bias) for first, second in pairwise(widths))
        self.norms = nn.ModuleList(PointNorm(width) for width in widths[1:])
        self.activation = nn.ReLU(inplace=True) if activation is None else activation

    def forward(self, values: Float[Tensor, "*shape width"]) -> Float[Tensor, "*shape out"]:
        """Values of the last layer."""
        return self._from(0, values)

    def maximum(self, values: Float[Tensor, "*shape point width"]) -> Float[Tensor, "*shape out"]:
        """The maximum of :meth:`forward` over the last axis but one, sooner: see :class:`PointNorm`."""
        return self._maximum(self._from(0, values, -1))

    def maximum_after_first(self, product: Float[Tensor, "*shape point hidden"]) -> Float[Tensor, "*shape out"]:
        """As :meth:`maximum`, of two layers or more, for a caller that has W x + b of the first by a shorter way."""
        return self._maximum(self._from(1, self.norms[0].activated(product, self.activation), -1))

    def _from(self, first: int, values: Tensor, end: int | None = None) -> Tensor:
        for linear, norm in list(zip(self.linears, self.norms, strict=True))[first:end]:
            values = norm.activated(linear(values), self.activation)
        return values

    def _maximum(self, values: Tensor) -> Tensor:
        linear, norm = self.linears[-1], self.norms[-1]
        sign = norm.sign()
        bias = None if linear.bias is None else sign * linear.bias
        product = at_least_float32(nn.functional.linear(values, sign[:, None] * linear.weight, bias))
        if self.training:
            largest, mean, variance = _Extremes.apply(product)
            norm.record(sign * mean, variance, product[..., 0].numel())
        else:
            largest, mean, variance = product.amax(dim=-2), sign * norm.running_mean, norm.running_var
        activated: Tensor = self.activation(norm.scaled(largest - mean, variance, sign))
        return activated


class PointNorm(nn.BatchNorm2d):
    """Batch normalisation of the last axis over all others: BN(h) = γ (h − mean) / √(variance + ε) + β.

    A maximum of σ(BN(h)) over points, with a σ that does not fall, is had from the maximum of h where γ ≥ 0, and from
    its minimum where γ < 0: from that of s h, s = ±1 the sign of γ. With :meth:`sign`, :meth:`scaled` and
    :meth:`record` a layer takes the maximum first and the statistics apart, and forms BN(h) for one point, not for all.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def activated(self, values: Float[Tensor, "*shape c"], activation: nn.Module) -> Float[Tensor, "*shape c"]:
        """σ(BN(h)), σ the activation; statistics of the batch in training, recorded ones in evaluation."""
        # As an image whose channels come last: torch's backward pass for two axes strides through memory, which takes
        # twice the time.
        image = values.flatten(0, -2)[None, :, None].permute(0, 3, 1, 2)
        activated: Tensor = activation(self(image))
        return activated.permute(0, 2, 3, 1).reshape(values.shape)

    def sign(self) -> Float[Tensor, " c"]:
        """s: −1 where γ is negative, else 1."""
        return torch.where(self.weight.detach() < 0, -1.0, 1.0).to(self.weight.dtype)

    def scaled(
        self, centred: Float[Tensor, "*shape c"], variance: Float[Tensor, " c"], sign: Float[Tensor, " c"]
    ) -> Float[Tensor, "*shape c"]:
        """BN(h) from s (h − mean)."""
        return torch.addcmul(self.bias, centred, sign * self.weight * (variance + self.eps).rsqrt())

    @torch.no_grad()
    def record(self, mean: Float[Tensor, " c"], variance: Float[Tensor, " c"], count: int) -> None:
        """Move the recorded statistics towards those of a batch, as a forward pass does.

        Args:
            mean: of h.
            variance: of h, the sum of squares divided by ``count``.
            count: values that they are taken over.
        """
        self.num_batches_tracked.add_(1)
        rate = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), rate)
        self.running_var.lerp_((variance * (count / max(count - 1, 1))).to(self.running_var), rate)


class _Extremes(torch.autograd.Function):
    """Maximum over the last axis but one, mean and variance over all axes but the last, in one backward pass."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        largest, place = values.max(dim=-2)
        rows = values.flatten(0, -2)
        mean = rows.mean(dim=0)
        # In parts that stay in the cache: all differences at once would be another tensor as large as the input.
        parts = rows.split(max(_TABLE // rows.shape[-1], 1))
        variance = torch.stack([(part - mean).square_().sum(dim=0) for part in parts]).sum(dim=0) / len(rows)
        ctx.save_for_backward(values, place, mean)
        return largest, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_largest: Tensor, of_mean: Tensor, of_variance: Tensor) -> Tensor:
        values, place, mean = ctx.saved_tensors
        count = values[..., 0].numel()
        slope = of_variance * (2 / count)  # the mean within the variance adds nothing: differences from it sum to 0
        gradient = torch.addcmul(of_mean / count - slope * mean, values, slope)
        return gradient.scatter_add_(-2, place[..., None, :], of_largest[..., None, :])


class ClassifierHead(nn.Module):
    """x ← dropout(σ(BN(W x + b))) for each hidden layer, then one linear layer to the classes.

    Args:
        width: of the input.
        hidden: widths of the hidden layers.
        classes: number of classes.
        dropout: share of hidden values that are set to zero in training, after every hidden layer.
        activation: σ; default ReLU.
        first_bias: whether the first layer has a b.
    """

    def __init__(
        self,
        width: int,
        hidden: Sequence[int],
        classes: int,
        dropout: float = 0.5,
        activation: nn.Module | None = None,
        *,
        first_bias: bool = True,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            SharedMLP(pair, activation, bias=first_bias or number > 0)
            for number, pair in enumerate(pairwise([width, *hidden]))
        )
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Linear([width, *hidden][-1], classes)

    def forward(self, values: Float[Tensor, "graph width"]) -> Float[Tensor, "graph classes"]:
        """A number for each class, before the softmax.

        Raises:
            UserError: in training on a single cloud, which has no statistics over a batch.
        """
        if self.training and len(values) == 1:
            raise UserError(
                "batch normalisation cannot train on a batch of 1 cloud: choose a batch size that leaves none alone"
            )
        for layer in self.layers:
            values = self.dropout(layer(values))
        logits: Tensor = self.last(values)
        return logits
