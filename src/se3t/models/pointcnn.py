"""PointCNN: the neighbours of a point are weighted and permuted by a learned matrix before a common convolution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from se3t.config import PointCNNModel
from se3t.errors import UserError
from se3t.fiber import Fiber
from se3t.graph import farthest_point_sampling
from se3t.models.pointcloud import PointClassifier, gather, nearest


class XConvSize(NamedTuple):
    """One layer: K neighbours, every D-th of the nearest, P representative points (None: all), C channels."""

    neighbors: int
    dilation: int
    points: int | None
    channels: int


MODELNET = (
    XConvSize(8, 1, None, 48),
    XConvSize(12, 2, 384, 96),
    XConvSize(16, 2, 128, 192),
    XConvSize(16, 3, 128, 384),
)
"""The layers of the authors' network for ModelNet40."""


class PointCNN(PointClassifier):
    """PointCNN: layers of :class:`XConv` on fewer and fewer points, then the mean of the votes of the last points.

    The only input features are the places of neighbours relative to a point. Each of the last representative points
    has its C features and its own place, lifted to C / 4, and votes by dense layers of C and C / 2 units and a linear
    one. No symmetry but that of permutations.

    Parameters for 40 classes: 599,340, published 0.6 M (Li et al. 2018, table of parameters).

    Args:
        fiber_in: ``1x1``, the position of each point.
        fiber_out: type 0 alone, a channel for each class.
        settings: see :class:`se3t.config.PointCNNModel`; dropout acts before the last layer.
        layers: sizes of the X-Conv layers, with no more points from layer to layer.
        options: single settings by name.

    Raises:
        UserError: see :class:`PointClassifier`; for impossible layers.

    Source: Li et al. 2018, "PointCNN: Convolution On X-Transformed Points", and the settings of their code.
    **Deviation**: their representative points are random, other ones at each evaluation. Here they are the first points
    of a farthest point sampling, from a random start in training, else from the point farthest from the centroid: then
    the prediction is a function of the cloud alone. They train each last point on its own logits; here their mean is
    trained, which is also what they predict from.
    """

    schema = PointCNNModel

    def __init__(
        self,
        fiber_in: Fiber,
        fiber_out: Fiber,
        settings: PointCNNModel | None = None,
        *,
        layers: Sequence[XConvSize] = MODELNET,
        **options: Any,
    ) -> None:
        super().__init__(fiber_in, fiber_out, settings, **options)
        _check(layers)
        self.layers = tuple(layers)
        convolutions, previous = [], 0
        for size in layers:
            convolutions.append(XConv(previous, size.channels, size.neighbors, size.dilation))
            previous = size.channels
        self.convolutions = nn.ModuleList(convolutions)
        self.place = nn.Sequential(Dense(3, previous // 4), Dense(previous // 4, previous // 4))
        self.votes = nn.Sequential(
            Dense(previous // 4 + previous, previous),
            Dense(previous, previous // 2),
            nn.Dropout(self.settings.dropout),
            _linear(previous // 2, fiber_out.dim),
        )

    def logits(self, positions: Float[Tensor, "graph point 3"]) -> Float[Tensor, "graph class"]:
        """A number for each class."""
        total = positions.shape[1]
        counts = [total if size.points is None else min(size.points, total) for size in self.layers]
        fewer = [count for count in counts if count < total]
        # In order of choice: the first points of a sample are the smaller sample.
        chosen = _sample(positions, fewer[0], random_start=self.training) if fewer else positions
        points, values = positions, positions[..., :0]
        for count, convolution in zip(counts, self.convolutions, strict=True):
            centres = positions if count == total else chosen[:, :count]
            values = convolution(points, values, centres)
            points = centres
        votes = self.votes(torch.cat((self.place(points), values), dim=-1))
        logits: Tensor = votes.mean(dim=1)
        return logits


class XConv(nn.Module):
    """F_p = Conv(K, X [MLP(P − p), F]) for each representative point p, with P the places of its K neighbours.

    The features of a neighbour are its place relative to p, lifted by two dense layers, beside its own features F. X,
    a K × K matrix that three layers make of all K places, weighs and permutes the neighbours; then a separable
    convolution with one kernel over the K rows gives C channels. The rows are in the order of distance. A cloud of
    fewer points than K D repeats neighbours.

    Args:
        channels_in: of F; 0 for a first layer, which has none.
        channels_out: C.
        num_neighbors: K.
        dilation: D; the neighbours are each D-th of the K D nearest points, from the nearest on.

    Source: Li et al. 2018, Algorithm 1; sizes of the lifted places and of the depthwise convolution from their code.
    """

    def __init__(self, channels_in: int, channels_out: int, num_neighbors: int, dilation: int) -> None:
        super().__init__()
        lifted, multiplier = channels_out // 2, 4
        if channels_in:
            lifted, multiplier = max(channels_in // 4, 1), math.ceil(channels_out / channels_in)
        size = num_neighbors**2
        self.num_neighbors, self.dilation = num_neighbors, dilation
        self.lift = nn.Sequential(Dense(3, lifted), Dense(lifted, lifted))
        self.mix = Dense(3 * num_neighbors, size)
        self.rows = nn.ParameterList(_kernel(num_neighbors, num_neighbors, num_neighbors) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm1d(size) for _ in range(2))
        self.depthwise = _kernel(num_neighbors, lifted + channels_in, multiplier)
        self.pointwise = Dense(multiplier * (lifted + channels_in), channels_out)

    def forward(
        self,
        points: Float[Tensor, "graph point 3"],
        values: Float[Tensor, "graph point channel"],
        centres: Float[Tensor, "graph centre 3"],
    ) -> Float[Tensor, "graph centre out"]:
        """Features of the representative points.

        Args:
            points: where the neighbours come from.
            values: F, their features; of no channels for a first layer.
            centres: the representative points.
        """
        index = nearest(points, centres, self.num_neighbors * self.dilation)
        chosen = torch.arange(self.num_neighbors, device=index.device) * self.dilation % index.shape[-1]
        index = index[..., chosen]
        places = gather(points, index) - centres[:, :, None]  # [graph, centre, K, 3]
        features = torch.cat((self.lift(places), gather(values, index)), dim=-1)
        mixed = self.transformation(places) @ features
        result: Tensor = self.pointwise(_depthwise(mixed, self.depthwise))
        return result

    def transformation(self, places: Float[Tensor, "graph centre k 3"]) -> Float[Tensor, "graph centre k k"]:
        """X: a dense layer of all places, then two that make each row of K numbers of a column of K."""
        size = (self.num_neighbors, self.num_neighbors)
        matrix = self.mix(places.flatten(2)).unflatten(-1, size)
        matrix = _norm(self.norms[0], functional.elu(_depthwise(matrix, self.rows[0]))).unflatten(-1, size)
        return _norm(self.norms[1], _depthwise(matrix, self.rows[1])).unflatten(-1, size)


class Dense(nn.Module):
    """x ← BN(ELU(W x)) on the last axis: normalisation comes last, as in the code of Li et al.

    Args:
        width_in: of x.
        width_out: of the result.
    """

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.linear = _linear(width_in, width_out, bias=False)
        self.norm = nn.BatchNorm1d(width_out)

    def forward(self, values: Float[Tensor, "*shape width"]) -> Float[Tensor, "*shape out"]:
        """Values of the layer."""
        return _norm(self.norm, functional.elu(self.linear(values)))


def _depthwise(rows: Tensor, kernel: Tensor) -> Tensor:
    """Σ_k x_kc w_kcm: a kernel over all rows, with m results for each channel; ``[…, channel · m]``."""
    return torch.einsum("gpkc,kcm->gpcm", rows, kernel).flatten(2)


def _norm(norm: nn.Module, values: Tensor) -> Tensor:
    result: Tensor = norm(values.flatten(0, -2)).unflatten(0, values.shape[:-1])
    return result


def _kernel(rows: int, channels: int, multiplier: int) -> nn.Parameter:
    """Glorot's uniform values, counted as for a convolution over ``rows``."""
    bound = (6 / (rows * (channels + multiplier))) ** 0.5
    return nn.Parameter(torch.empty(rows, channels, multiplier).uniform_(-bound, bound))


def _linear(width_in: int, width_out: int, bias: bool = True) -> nn.Linear:
    layer = nn.Linear(width_in, width_out, bias)
    nn.init.xavier_uniform_(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def _sample(points: Float[Tensor, "graph point 3"], count: int, random_start: bool) -> Float[Tensor, "graph count 3"]:
    """Farthest point sampling, in the order of choice."""
    start = None
    if not random_start:
        start = (points - points.mean(dim=1, keepdim=True)).square().sum(dim=-1).argmax(dim=1)
    chosen = farthest_point_sampling(points, count, None, random_start, start=start)
    return points.flatten(0, 1)[chosen].view(len(points), count, 3)


def _check(layers: Sequence[XConvSize]) -> None:
    numbers = [number for size in layers for number in size if number is not None]
    if not layers or min(numbers) < 1 or min(size.channels for size in layers) < 4:
        raise UserError(f"pointcnn: layers must have at least 1 neighbour and point and 4 channels, got {list(layers)}")
    counts = [math.inf if size.points is None else size.points for size in layers]
    if counts != sorted(counts, reverse=True):
        raise UserError(f"pointcnn: layers must not have more points than the layer before, got {list(layers)}")
