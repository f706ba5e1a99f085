"""3DmFV-Net: how a cloud would change a fixed mixture of Gaussians, read by 3-D convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from se3t.config import ModifiedFisherModel
from se3t.errors import UserError
from se3t.fiber import Fiber
from se3t.models.pointcloud import ClassifierHead, PointClassifier

CHANNELS = 20
"""Numbers for each Gaussian: weight (max, sum), mean (max, min, sum of 3 axes), deviation (the same)."""

_WIDTHS = (1, 2, 4, 4, 8)  # filters of the five inception modules, in units of the first
_POOLED = (2, 4)  # modules after which the grid is halved
_FLOOR = 1e-24  # below it the square root is flat: its slope at zero is infinite


class ModifiedFisherNet(PointClassifier):
    """3DmFV-Net: y = MLP(CNN(V)) with V the modified Fisher vector of a cloud, an image of m³ voxels with 20 channels.

    V holds, for each Gaussian k of the grid, the largest, smallest and summed derivative of the log-likelihood of a
    point with respect to the weight, the mean and the deviation of k; see :func:`modified_fisher_vector`. It does not
    depend on the order or the number of the points. Five inception modules (64, 128, 256, 256, 512 filters), the grid
    halved after the third and the fifth, then layers of 1024, 256, 128 units and the classes.

    No symmetry but that of permutations: the grid is fixed in space.

    Parameters for 40 classes: 45,767,016, published 45.77 M (Li et al. 2018, "PointCNN", table of parameters).

    Args:
        fiber_in: ``1x1``, the position of each point.
        fiber_out: type 0 alone, a channel for each class.
        settings: see :class:`se3t.config.ModifiedFisherModel`; m is ``grid``.
        width: filters of the first inception module, even.
        options: single settings by name.

    Raises:
        UserError: see :class:`PointClassifier`; for a width that is not even.

    Source: Ben-Shabat, Lindenbaum, Fischer 2018, "3DmFV: Three-Dimensional Point Cloud Classification in Real-Time
    Using Convolutional Neural Networks", and the network of their code for m = 8.
    **Deviation**: their code keeps 10⁻⁶ in place of roots below it, here 10⁻¹².
    """

    schema = ModifiedFisherModel

    def __init__(
        self,
        fiber_in: Fiber,
        fiber_out: Fiber,
        settings: ModifiedFisherModel | None = None,
        *,
        width: int = 64,
        **options: Any,
    ) -> None:
        super().__init__(fiber_in, fiber_out, settings, **options)
        if width < 2 or width % 2:
            raise UserError(f"modified_fisher: width must be even and positive, got {width}")
        widths = [width * factor for factor in _WIDTHS]
        channels = [CHANNELS, *(3 * filters for filters in widths)]
        self.inception = nn.ModuleList(Inception(*sizes) for sizes in zip(channels[:-1], widths, strict=True))
        side = (self.settings.grid + 3) // 4  # halved twice, rounded up
        self.head = ClassifierHead(channels[-1] * side**3, (1024, 256, 128), fiber_out.dim, self.settings.dropout)

    def logits(self, positions: Float[Tensor, "graph point 3"]) -> Float[Tensor, "graph class"]:
        """A number for each class."""
        values = modified_fisher_vector(positions, self.settings.grid)
        for number, module in enumerate(self.inception):
            values = module(values)
            if number in _POOLED:
                values = functional.max_pool3d(values, 2, ceil_mode=True)
        logits: Tensor = self.head(values.flatten(1))
        return logits


def modified_fisher_vector(points: Float[Tensor, "graph point 3"], grid: int) -> Float[Tensor, "graph 20 x y z"]:
    """20 numbers for each of m³ Gaussians on a grid in [−1, 1]³: means 2/m apart, deviation σ = 1/m, weight w = m⁻³.

    With u = (p − μ_k) / σ and the share γ_k(p) = w N(p; μ_k, σ) / Σ_j w N(p; μ_j, σ), a point p contributes::

        weight     (γ_k − w) / (n √w)            max, sum
        mean       γ_k u / (n √w)                max, min, sum, for each axis
        deviation  γ_k (u² − 1) / (n √(2 w))     max, min, sum, for each axis

    over the n points. Each number x becomes sign(x) √|x|, and each of the 20 images is divided by its Euclidean norm.

    Weights and deviations are equal and the means form a grid, so a share is the product of the shares along the
    three axes, and every contribution a product of three tables of m numbers a point: exact, and it cannot overflow.

    Args:
        points: clouds of one size, scaled to the unit sphere.
        grid: m.

    Returns:
        The image of each cloud; channels by derivative, then max, min, sum, then axis.
    """
    axis = (2 * torch.arange(grid, dtype=points.dtype, device=points.device) + 1) / grid - 1
    from_mean = (points[..., None] - axis) * grid  # u: [graph, point, 3, m]
    share = (-0.5 * from_mean.square()).softmax(dim=-1)
    weight = grid**-3
    scale = 1 / (points.shape[1] * weight**0.5)
    whole = _products([share[:, :, axis] for axis in range(3)]) - weight
    parts = [torch.stack((whole.amax(dim=1), whole.sum(dim=1)), dim=1) * scale]
    for table, factor in ((share * from_mean, scale), (share * (from_mean.square() - 1), scale / 2**0.5)):
        parts.append(_extremes_and_sums(share, table) * factor)
    image = _signed_root(torch.cat(parts, dim=1))
    return functional.normalize(image.flatten(2), dim=2).unflatten(2, (grid, grid, grid))


class Inception(nn.Module):
    """Four branches side by side: 1³ (n filters), 3³ and 5³ of the first (n/2 each), 1³ of a 3³ average (n filters).

    Each convolution keeps the grid and is followed by batch normalisation and ReLU.

    Args:
        channels: of the input.
        filters: n, even; the output has 3 n channels.
    """

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        self.point = _convolution(channels, filters, 1)
        self.small = _convolution(filters, filters // 2, 3)
        self.large = _convolution(filters, filters // 2, 5)
        self.average = _convolution(channels, filters, 1)

    def forward(self, values: Float[Tensor, "graph channel x y z"]) -> Float[Tensor, "graph filter x y z"]:
        """The branches, one after another."""
        point = self.point(values)
        mean = _sums(values) / _sums(torch.ones_like(values[:1, :1]))  # of the voxels inside the grid
        return torch.cat((point, self.small(point), self.large(point), self.average(mean)), dim=1)


def _convolution(channels: int, filters: int, size: int) -> nn.Sequential:
    layers = [nn.Conv3d(channels, filters, size, padding=size // 2), nn.BatchNorm3d(filters), nn.ReLU()]
    return nn.Sequential(*layers)


def _sums(values: Tensor) -> Tensor:
    """Sum over the 3³ voxels around each, where they exist; the padding of torch refuses grids narrower than 3."""
    return functional.avg_pool3d(functional.pad(values, (1,) * 6), 3, stride=1, divisor_override=1)


def _extremes_and_sums(share: Tensor, table: Tensor) -> Tensor:
    """Max, min and sum over points of share · share · table, the table standing for each axis in turn: 9 images."""
    largest, smallest, total = [], [], []
    for axis in range(3):
        products = _products([(table if other == axis else share)[:, :, other] for other in range(3)])
        largest.append(products.amax(dim=1))
        smallest.append(products.amin(dim=1))
        total.append(products.sum(dim=1))
    return torch.stack(largest + smallest + total, dim=1)


def _products(tables: Sequence[Tensor]) -> Tensor:
    """Products of three numbers a point, one of each table ``[graph, point, m]``: ``[graph, point, m, m, m]``."""
    return (tables[0][..., None] * tables[1][..., None, :])[..., None] * tables[2][..., None, None, :]


def _signed_root(values: Tensor) -> Tensor:
    return values.sign() * values.abs().clamp_min(_FLOOR).sqrt()
