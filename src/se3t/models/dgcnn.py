"""DGCNN: edge convolutions on the nearest neighbours in feature space, searched again in every layer."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import embedding_bag, leaky_relu, linear

from se3t.config import DGCNNModel
from se3t.fiber import Fiber
from se3t.models.pointcloud import ClassifierHead, PointClassifier, PointNorm, SharedMLP, flat_index, nearest
from se3t.nn.precision import at_least_float32

SLOPE = 0.2  # of LeakyReLU below zero


class DGCNN(PointClassifier):
    """Four edge convolutions (:class:`EdgeConv`); all their outputs → 1024 → maximum and mean over points → head.

    The convolutions give 64, 64, 128 and 256 numbers for each point, neighbours are those in the space of the input of
    each. The head has layers of 512 and 256. Not invariant to rotations. 1,809,576 parameters for 40 classes;
    published: 1.84 million (Li et al. 2018, "PointCNN", Table 6, for the first version of the paper); our number is
    that of the layers in the authors' PyTorch release, commonly given as 1.81 million.

    Args:
        fiber_in: ``1x1``, the coordinates of each point; all clouds of a batch have the same number of points.
        fiber_out: type 0, one number for each class.
        settings: see :class:`se3t.config.DGCNNModel`; a point is one of its own neighbours, and all are taken where a
            cloud has fewer points. options: single settings by name.

    Raises:
        UserError: see :class:`PointClassifier`.

    Source: Wang et al. 2019, "Dynamic graph CNN for learning on point clouds", Sections 3.1 and 4.1, Figure 3.
    **Deviation**: the mean over points is that of the authors' code, the paper speaks of a sum. There is no network
    that aligns the coordinates first, which their TensorFlow code has and their PyTorch code has not.
    """

    schema = DGCNNModel

    def __init__(self, fiber_in: Fiber, fiber_out: Fiber, settings: DGCNNModel | None = None, **options: Any) -> None:
        super().__init__(fiber_in, fiber_out, settings, **options)
        widths = (3, 64, 64, 128, 256)
        self.convolutions = nn.ModuleList(EdgeConv(*pair) for pair in pairwise(widths))
        activation = nn.LeakyReLU(SLOPE, inplace=True)
        self.points = SharedMLP([sum(widths[1:]), 1024], activation, bias=False)
        self.head = ClassifierHead(2048, [512, 256], fiber_out[0], self.settings.dropout, activation, first_bias=False)

    def logits(self, positions: Float[Tensor, "graph point 3"]) -> Float[Tensor, "graph class"]:
        """A number for each class."""
        values = positions
        outputs = []
        for convolution in self.convolutions:
            values = convolution(values, nearest(values, values, self.settings.num_neighbors))
            outputs.append(values)
        points = self.points(torch.cat(outputs, dim=-1))  # [graph, point, 1024]
        whole = torch.cat((points.max(dim=1).values, points.mean(dim=1)), dim=-1)
        logits: Tensor = self.head(whole)
        return logits


class EdgeConv(nn.Module):
    """y_i = max_j σ(BN(W (x_j − x_i, x_i))) over the neighbours j, without an edge ever being formed.

    Two rewritings make it so, both exact. The layer is a product with every point, not with every pair:

        W (x_j − x_i, x_i) = b_j + a_i,    b_j = W_d x_j,    a_i = (W_c − W_d) x_i,

    W_d and W_c the two halves of W. And σ(γ h + β) does not fall in h where γ ≥ 0, does not rise where γ < 0, so the
    maximum is that of ± b_j, and is taken first: y_i = σ(BN(a_i ± max_j ± b_j)). The statistics that batch
    normalisation takes over all edges, E edges in all and k at each point, are, with a and b less their means,

        mean = mean_i a_i + Σ_j n_j b_j / E,    variance = mean_i a_i² + Σ_j n_j b_j² / E + 2 Σ_i a_i (Σ_j b_j) / E

    where n_j counts the points that j is a neighbour of. Of the edges only sums and maxima of b are needed.

    Args:
        width_in: channels of x.
        width_out: channels of y.

    Source: Wang et al. 2019, Section 3.1, Equation 8 (the asymmetric edge function), with batch normalisation as in
    Figure 3. There is no bias before it, as in the authors' PyTorch code.
    """

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * width_in, width_out, bias=False)
        self.norm = PointNorm(width_out)

    def forward(
        self, values: Float[Tensor, "graph point c"], index: Int[Tensor, "graph point k"]
    ) -> Float[Tensor, "graph point out"]:
        """Values of every point from those of its neighbours ``index``, numbers within each cloud."""
        sign, norm = self.norm.sign(), self.norm
        of_difference, of_centre = (sign[:, None] * self.linear.weight).chunk(2, dim=1)
        both = linear(values.flatten(0, 1), torch.cat((of_difference, of_centre - of_difference)))
        neighbor, centre = at_least_float32(both).chunk(2, dim=-1)  # s b and s a: [graph * point, out]
        edges = flat_index(index, values.shape[1]).flatten(0, 1)  # [graph * point, k]
        if self.training:
            neighbor, centre, mean, variance = _statistics(neighbor, centre, edges)
            norm.record(sign * mean, variance, edges.numel())
        else:
            centre, variance = centre - sign * norm.running_mean, norm.running_var
        largest = embedding_bag(edges, neighbor.contiguous(), mode="max") + centre
        return leaky_relu(norm.scaled(largest, variance, sign), SLOPE).unflatten(0, values.shape[:2])


def _statistics(
    neighbor: Tensor, centre: Tensor, edges: Int[Tensor, "point k"]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``neighbor`` and ``centre`` less their means, then mean and variance of their sums over all edges."""
    share = torch.bincount(edges.flatten(), minlength=len(neighbor)).to(neighbor) / edges.numel()  # n_j / E
    mean_neighbor, mean_centre = share @ neighbor, centre.mean(dim=0)
    neighbor, centre = neighbor - mean_neighbor, centre - mean_centre
    sums = embedding_bag(edges, neighbor, mode="sum")
    product = (centre * (centre + sums * (2 / edges.shape[1]))).mean(dim=0)
    variance = (share @ neighbor.square() + product).clamp(min=0)
    return neighbor, centre, mean_neighbor + mean_centre, variance
