"""SpiderCNN: convolutions whose filter is a step function times a Taylor polynomial of the neighbour's place."""

from __future__ import annotations

from itertools import combinations_with_replacement, pairwise
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from se3t.config import SpiderCNNModel
from se3t.errors import UserError
from se3t.fiber import Fiber
from se3t.models.pointcloud import ClassifierHead, PointClassifier, gather, nearest

_ORDER = 3  # of the Taylor polynomials
_MONOMIALS = [powers for order in range(_ORDER + 1) for powers in combinations_with_replacement(range(3), order)]
_GROUPS = 16
_CHUNK = 1 << 24  # numbers in the products that are formed at a time
_TOP = 2  # largest values of each channel that the classifier reads


class SpiderCNN(PointClassifier):
    """SpiderCNN: four :class:`SpiderConv`, their outputs side by side, the two largest values of each channel, an MLP.

    The neighbours, found once, are the k nearest points, the point itself among them. Each convolution (of ``widths``
    channels) is followed by group normalisation over the cloud and ReLU; the classifier has layers of 1024 and 512.

    It reads the coordinates as features, so that no symmetry but that of permutations is left.

    Parameters for 40 classes: 5,844,696; none published that we know of.

    Args:
        fiber_in: ``1x1``, the position of each point.
        fiber_out: type 0 alone, a channel for each class.
        settings: see :class:`se3t.config.SpiderCNNModel`: k is ``num_neighbors``, ``num_taylor`` the terms of each
            filter.
        widths: channels of the convolutions, multiples of 16 where above 16.
        options: single settings by name.

    Raises:
        UserError: see :class:`PointClassifier`.

    Source: Xu et al. 2018, "SpiderCNN: Deep Learning on Point Sets with Parameterized Convolutional Filters".
    Number of terms, normalisation, head and dropout are those of their code for coordinates alone (that for normals has
    three terms, batch normalisation, a smaller head and dropout 0.5).
    """

    schema = SpiderCNNModel

    def __init__(
        self,
        fiber_in: Fiber,
        fiber_out: Fiber,
        settings: SpiderCNNModel | None = None,
        *,
        widths: tuple[int, ...] = (32, 64, 128, 256),
        **options: Any,
    ) -> None:
        super().__init__(fiber_in, fiber_out, settings, **options)
        if min(widths) < 1:
            raise UserError(f"spidercnn: widths must be at least 1, got {widths}")
        s = self.settings
        pairs = list(pairwise((3, *widths)))
        self.convolutions = nn.ModuleList(SpiderConv(*pair, s.num_neighbors, s.num_taylor) for pair in pairs)
        self.norms = nn.ModuleList(nn.GroupNorm(min(_GROUPS, width), width) for width in widths)
        self.head = ClassifierHead(_TOP * sum(widths), (1024, 512), fiber_out.dim, s.dropout)

    def logits(self, positions: Float[Tensor, "graph point 3"]) -> Float[Tensor, "graph class"]:
        """A number for each class."""
        index = nearest(positions, positions, self.settings.num_neighbors)
        terms = monomials(gather(positions, index) - positions[:, :, None])
        values, kept = positions, []
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            values = norm(convolution(values, index, terms).mT).relu().mT  # channels second for the norm
            kept.append(values)
        logits: Tensor = self.head(_largest(torch.cat(kept, dim=-1)).flatten(1))
        return logits


class SpiderConv(nn.Module):
    """y_i = b + Σ_t Σ_r g_t(x_r − x_i) S_rt f_r over the neighbours r = 1 … k of i by ascending distance.

    g_t is a polynomial of order three in the place of the neighbour, 20 coefficients (the Taylor term). S_rt, a matrix
    from the input to the output channels for each rank r, is the step function: constant over the shell from the
    distance of one neighbour to that of the next. A cloud of fewer than k points has the first ranks alone.

    Args:
        channels_in: of f.
        channels_out: of y.
        num_neighbors: k.
        num_taylor: T, number of terms t, which all channels share.

    Source: Xu et al. 2018, Section 3.2, in the form of their code.
    """

    def __init__(self, channels_in: int, channels_out: int, num_neighbors: int, num_taylor: int) -> None:
        super().__init__()
        self.taylor = nn.Parameter(torch.empty(len(_MONOMIALS), num_taylor))
        self.step = nn.Parameter(torch.empty(num_neighbors, num_taylor, channels_in, channels_out))
        self.bias = nn.Parameter(torch.zeros(channels_out))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Glorot's uniform values; the constants of the polynomials begin at 0."""
        neighbors, terms, channels_in, channels_out = self.step.shape
        bound = (6 / (neighbors * (channels_in * terms + channels_out))) ** 0.5
        nn.init.uniform_(self.step, -bound, bound)
        bound = (6 / (1 + terms)) ** 0.5
        nn.init.uniform_(self.taylor, -bound, bound)
        nn.init.zeros_(self.taylor.data[0])

    def forward(
        self,
        values: Float[Tensor, "graph point channel"],
        index: Int[Tensor, "graph point neighbor"],
        terms: Float[Tensor, "graph point neighbor monomial"],
    ) -> Float[Tensor, "graph point out"]:
        """Features of every point.

        Args:
            values: f.
            index: the neighbours of each point by ascending distance, numbers within the cloud.
            terms: :func:`monomials` of their places relative to the point.
        """
        polynomials = terms @ self.taylor  # g_t: [graph, point, neighbor, term]
        step = self.step[: index.shape[-1]].flatten(0, 2)
        device = values.device.type
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
            values, polynomials, step = values.to(dtype), polynomials.to(dtype), step.to(dtype)
        result: Tensor = _contracted(values, polynomials, step, index) + self.bias
        return result


def _contracted(values: Tensor, polynomials: Tensor, step: Tensor, index: Tensor) -> Tensor:
    """Σ_rt g_t(i, r) f_r S_rt as one matrix product over (r, t, channel), some clouds at a time.

    The products g f are k T times as large as f. They are formed again for the gradient in place of being kept.
    """
    at_once = max(_CHUNK // (polynomials[0].numel() * values.shape[-1]), 1)
    chunks = zip(*(tensor.split(at_once) for tensor in (values, polynomials, index)), strict=True)
    parts = [checkpoint(_product, *chunk, step, use_reentrant=False, preserve_rng_state=False) for chunk in chunks]
    return torch.cat(parts)


def _product(values: Tensor, polynomials: Tensor, index: Tensor, step: Tensor) -> Tensor:
    return (gather(values, index)[..., None, :] * polynomials[..., None]).flatten(2) @ step


def monomials(offsets: Float[Tensor, "*shape 3"]) -> Float[Tensor, "*shape 20"]:
    """1, x, y, z, xx, xy, xz, yy, … zzz: all products of at most three coordinates."""
    columns = offsets.unbind(dim=-1)
    one = torch.ones_like(columns[0])
    parts = []
    for powers in _MONOMIALS:
        product = one
        for axis in powers:
            product = product * columns[axis]
        parts.append(product)
    return torch.stack(parts, dim=-1)


def _largest(values: Float[Tensor, "graph point channel"]) -> Float[Tensor, "graph top channel"]:
    """The two largest values of each channel; those of a single point stand twice."""
    return values.topk(min(_TOP, values.shape[1]), dim=1).values.expand(-1, _TOP, -1)
