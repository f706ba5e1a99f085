"""PointNet++: small PointNets on balls around fewer and fewer centres."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from se3t.config import PointNet2Model
from se3t.errors import UserError
from se3t.fiber import Fiber
from se3t.graph import farthest_point_sampling
from se3t.models.pointcloud import ClassifierHead, PointClassifier, SharedMLP, gather, squared_distances


class PointNet2(PointClassifier):
    """Two set abstractions (:class:`SetAbstraction`), then one PointNet on the centres that are left, then a head.

    512 centres with 32 points within 0.2, layers of 64, 64, 128; 128 centres with 64 points within 0.4, layers of 128,
    128, 256; a network on the coordinates and values of the last centres with layers of 256, 512, 1024, their maximum,
    a head of 512, 256 and the classes. Not invariant to rotations. 1,475,688 parameters for 40 classes; published:
    1.48 million (Li et al. 2018, "PointCNN", Table 6).

    Args:
        fiber_in: ``1x1``, the coordinates of each point, scaled to the unit sphere: the radii are lengths in it. All
            clouds of a batch have the same number of points, which may be below that of the centres.
        fiber_out: type 0, one number for each class.
        settings: see :class:`se3t.config.PointNet2Model`. options: single settings by name.

    Raises:
        UserError: see :class:`PointClassifier`.

    Source: Qi et al. 2017, "PointNet++: deep hierarchical feature learning on point sets in a metric space", Section 3
    and supplementary B.1: single-scale grouping (SSG).
    **Deviation**: farthest point sampling starts from a random point of each cloud in training, in evaluation from the
    first, as always in the authors' code. So an evaluation depends on which point comes first, and on the order in
    balls that hold more points than are taken; a cloud of no more points than centres and than places in a ball has
    no such choice. The ball includes its boundary, in the authors' code it does not.
    """

    schema = PointNet2Model

    def __init__(
        self, fiber_in: Fiber, fiber_out: Fiber, settings: PointNet2Model | None = None, **options: Any
    ) -> None:
        super().__init__(fiber_in, fiber_out, settings, **options)
        self.first = SetAbstraction(512, 0.2, 32, 0, [64, 64, 128])
        self.second = SetAbstraction(128, 0.4, 64, 128, [128, 128, 256])
        self.whole = SharedMLP([3 + 256, 256, 512, 1024])
        self.head = ClassifierHead(1024, [512, 256], fiber_out[0], self.settings.dropout)

    def logits(self, positions: Float[Tensor, "graph point 3"]) -> Float[Tensor, "graph class"]:
        """A number for each class."""
        positions, values = self.second(*self.first(positions, positions[..., :0]))
        whole = self.whole.maximum(torch.cat((positions, values), dim=-1))
        logits: Tensor = self.head(whole)
        return logits


class SetAbstraction(nn.Module):
    """c_i by farthest point sampling, then y_i = max over j in the ball of c_i of φ(x_j − c_i, f_j).

    The first layer of φ is a product with every point and one with every centre, not with every pair:
    W (x_j − c_i, f_j) + b = (W (x_j, f_j) + b) − W_x c_i, where W_x are the columns of W for the coordinates.

    Args:
        num_centres: fewer where a cloud has fewer points: then all of them.
        radius: of the ball.
        num_samples: points of each ball; see :func:`ball`.
        channels: of the values f_j.
        widths: layers of φ.
    """

    def __init__(self, num_centres: int, radius: float, num_samples: int, channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.num_centres, self.radius, self.num_samples = num_centres, radius, num_samples
        self.network = SharedMLP([3 + channels, *widths])

    def forward(
        self, positions: Float[Tensor, "graph point 3"], values: Float[Tensor, "graph point c"]
    ) -> tuple[Float[Tensor, "graph centre 3"], Float[Tensor, "graph centre out"]]:
        """Centres and their values."""
        centres = self._centres(positions)
        index = ball(positions, centres, self.radius, self.num_samples)
        weight, bias = self.network.linears[0].weight, self.network.linears[0].bias
        of_points = nn.functional.linear(torch.cat((positions, values), dim=-1), weight, bias)
        of_centres = nn.functional.linear(centres, -weight[:, :3])
        pairs = gather(of_points, index).add_(of_centres[:, :, None])  # [graph, centre, sample, hidden]
        return centres, self.network.maximum_after_first(pairs)

    def _centres(self, positions: Tensor) -> Tensor:
        number = min(self.num_centres, positions.shape[1])
        chosen = farthest_point_sampling(positions, number, random_start=self.training)
        return positions.flatten(0, 1).index_select(0, chosen).unflatten(0, (len(positions), number))

    def extra_repr(self) -> str:
        """Sizes."""
        return f"num_centres={self.num_centres}, radius={self.radius:g}, num_samples={self.num_samples}"


@torch.no_grad()
def ball(
    points: Float[Tensor, "graph point 3"], centres: Float[Tensor, "graph centre 3"], radius: float, num_samples: int
) -> Int[Tensor, "graph centre sample"]:
    """The first ``num_samples`` points, in their order in the cloud, within ``radius`` of each centre.

    Where there are fewer, the first of them fills the remaining places.

    Args:
        points: of each cloud.
        centres: each within ``radius`` of a point at least.
        radius: boundary included.
        num_samples: places of each ball; as many as there are points, where these are fewer.

    Raises:
        UserError: when a ball is empty.
    """
    distances = squared_distances(points, centres)
    # The square in the precision of the distances, so that rounding leaves a point on the boundary inside.
    within = distances <= torch.full_like(distances[0, 0, 0], radius).square()
    count = within.sum(dim=-1).flatten()  # [graph * centre]
    if not bool((count > 0).all()):
        raise UserError(f"points: a ball of radius {radius:g} holds none of them; are all coordinates finite?")
    row, point = within.flatten(0, 1).nonzero(as_tuple=True)  # by row, then by point
    begin = count.cumsum(0) - count
    place = torch.arange(len(row), device=row.device) - begin[row]
    size = min(num_samples, points.shape[1])
    index = point[begin][:, None].repeat(1, size)
    taken = place < size
    index[row[taken], place[taken]] = point[taken]
    return index.unflatten(0, centres.shape[:2])
