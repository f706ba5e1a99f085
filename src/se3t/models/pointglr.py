"""PointGLR: a code of shapes that tells clouds apart by their parts, rebuilds them and knows their normals."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from se3t.config import PointGLRModel
from se3t.errors import UserError
from se3t.fiber import Fiber
from se3t.models.auxiliary import AuxiliaryLoss
from se3t.models.pointcloud import PointClassifier, SharedMLP, gather, nearest
from se3t.models.pointnet2 import SetAbstraction
from se3t.nn.precision import at_least_float32

_SHARPNESS = 64.0  # of the scores of the local-to-global comparison
_SIDE = 32  # of the square that is folded: 1,024 points
_TO_NORMAL = 16  # nearest points of which a normal is estimated
_SOFT = 1e-6  # added to squared distances under a root


class PointGLR(AuxiliaryLoss, PointClassifier):
    """y = W c + b with c the code of the cloud: a PointNet++ encoder also trained for three auxiliary tasks.

    Two set abstractions (512 centres, radius 0.23, 48 points, layers of 64 and 128; 128 centres, 0.32, 64 points, 128
    and 512) and a network on all that is left (512, 1024). The values of each of the three stages become vectors of
    length 1 (layers of min(channels, ``width``) and ``width``); c is their maxima side by side. The root makes its
    entries numbers of order 1, for the learning rate's sake. In training the loss gains, from the code alone, with
    weight 1 each as in the authors' code:

    - reasoning from local to global: each local vector of the two first stages must find the global vector of its own
      cloud among those of the batch (cross-entropy of 64 times the inner products);
    - self-reconstruction: a square of 32 × 32 points, folded twice as c says (FoldingNet), against the cloud (Chamfer
      distance);
    - normals: from c and a point its normal, up to the sign (1 − |cosine|).

    No symmetry but that of permutations, and that only as far as the choice of centres and points of
    :class:`~se3t.models.pointnet2.SetAbstraction` does not depend on the order.

    Parameters for 40 classes: 5,110,705, of them 2,344,872 that predict (the others serve the tasks alone); none
    published that we know of.

    Args:
        fiber_in: ``1x1``, the coordinates of each point, scaled to the unit sphere.
        fiber_out: type 0 alone, a channel for each class.
        settings: see :class:`se3t.config.PointGLRModel`; dropout acts on the code, before the linear classifier.
        width: numbers of each vector.
        options: single settings by name.

    Raises:
        UserError: see :class:`PointClassifier`.

    Source: Rao, Lu, Zhou 2020, "Global-Local Bidirectional Reasoning for Unsupervised Representation Learning of 3D
    Point Clouds", and the PointNet++ encoder of their code.
    **Deviation**: theirs is unsupervised: the encoder is trained on ModelNet40 for the three tasks alone, then fixed,
    and a linear support vector machine is trained on its codes. Here encoder and linear classifier are trained together
    on the labelled clouds at hand, so a result is not comparable with theirs. Their normals come with the data, here
    they are estimated, as the least principal axis of the 16 nearest points. They shift and scale the clouds at random
    before encoding; here augmentation is that of the task. Their wider encoders and RSCNN are left out.
    """

    schema = PointGLRModel

    def __init__(
        self,
        fiber_in: Fiber,
        fiber_out: Fiber,
        settings: PointGLRModel | None = None,
        *,
        width: int = 512,
        **options: Any,
    ) -> None:
        super().__init__(fiber_in, fiber_out, settings, **options)
        if width < 1:
            raise UserError(f"pointglr: width must be at least 1, got {width}")
        self.first = SetAbstraction(512, 0.23, 48, 0, [64, 128])
        self.second = SetAbstraction(128, 0.32, 64, 128, [128, 512])
        self.whole = SharedMLP([3 + 512, 512, 1024])
        self.vectors = nn.ModuleList(UnitVectors(channels, width) for channels in (128, 512, 1024))
        self.scale = width**0.5
        self.classifier = nn.Sequential(nn.Dropout(self.settings.dropout), nn.Linear(3 * width, fiber_out.dim))
        self.folds = nn.ModuleList(CodedNetwork(local, 3 * width) for local in (2, 3))
        self.normals = CodedNetwork(3, 3 * width)

    def logits(self, positions: Float[Tensor, "graph point 3"]) -> Float[Tensor, "graph class"]:
        """A number for each class."""
        stages = self.encode(positions)
        code = torch.cat([vectors.amax(dim=1) for vectors in stages], dim=-1)  # [graph, 3 width]
        self._auxiliary = self._tasks(positions, stages, code) if self.training else None
        logits: Tensor = self.classifier(code * self.scale)
        return logits

    def encode(self, positions: Float[Tensor, "graph point 3"]) -> list[Float[Tensor, "graph _ width"]]:
        """Unit vectors of the three stages: of 512 and 128 centres (or of all points, where there are fewer), and 1."""
        first = self.first(positions, positions[..., :0])
        second = self.second(*first)
        whole = self.whole.maximum(torch.cat(second, dim=-1))[:, None]
        values = (first[1], second[1], whole)
        return [network(stage) for network, stage in zip(self.vectors, values, strict=True)]

    def _tasks(self, positions: Tensor, stages: list[Tensor], code: Tensor) -> Tensor:
        local, (whole,) = stages[:2], stages[2:]
        reasoning = torch.stack([local_to_global(vectors, whole[:, 0]) for vectors in local]).sum()
        normals = functional.normalize(self.normals(positions, code), dim=-1)
        cosines = (normals * estimated_normals(positions)).sum(dim=-1)
        return reasoning + chamfer_distance(self.reconstruct(code), positions) + 1 - cosines.abs().mean()

    def reconstruct(self, code: Float[Tensor, "graph code"]) -> Float[Tensor, "graph 1024 3"]:
        """A square, folded twice as the code says."""
        axis = torch.linspace(-1, 1, _SIDE, dtype=code.dtype, device=code.device)
        points = torch.cartesian_prod(axis, axis).expand(len(code), -1, -1)
        for fold in self.folds:
            points = fold(points, code)
        return points


class UnitVectors(nn.Module):
    """v / ‖v‖ with v from the values of a stage by one layer of min(channels, width) and a linear one.

    Args:
        channels: of the values.
        width: of v.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.hidden = SharedMLP([channels, min(channels, width)])
        self.last = nn.Linear(min(channels, width), width)

    def forward(self, values: Float[Tensor, "graph point channel"]) -> Float[Tensor, "graph point width"]:
        """Vectors of length 1."""
        return functional.normalize(self.last(self.hidden(values)), dim=-1)


class CodedNetwork(nn.Module):
    """Layers of 512, 256 and 3 on a place and the code of its cloud, side by side, with the place and the code apart.

    W (p, c) + b = W_p p + (W_c c + b): the product with the code, most of the first layer, is one a cloud.

    Args:
        local: coordinates of a place.
        code: numbers of the code.
    """

    def __init__(self, local: int, code: int) -> None:
        super().__init__()
        self.place = nn.Linear(local, 512, bias=False)
        self.code = nn.Linear(code, 512)
        self.norm = nn.BatchNorm1d(512)
        self.hidden = SharedMLP([512, 256])
        self.last = nn.Linear(256, 3)

    def forward(
        self, places: Float[Tensor, "graph point local"], code: Float[Tensor, "graph code"]
    ) -> Float[Tensor, "graph point 3"]:
        """Three numbers for each place."""
        first = (self.place(places) + self.code(code)[:, None]).flatten(0, 1)
        result: Tensor = self.last(self.hidden(self.norm(first).relu()))
        return result.unflatten(0, places.shape[:2])


def local_to_global(
    local: Float[Tensor, "graph point width"], whole: Float[Tensor, "graph width"]
) -> Float[Tensor, ""]:
    """Mean cross-entropy of finding, for each local vector, its own cloud among those of the batch."""
    scores = _SHARPNESS * local.flatten(0, 1) @ whole.T  # [graph * point, graph]
    cloud = torch.arange(len(local), device=local.device).repeat_interleave(local.shape[1])
    return functional.cross_entropy(scores, cloud)


def chamfer_distance(
    first: Float[Tensor, "graph point 3"], second: Float[Tensor, "graph other 3"]
) -> Float[Tensor, ""]:
    """Mean distance from a point of one cloud to the nearest of the other, both ways added."""
    total = first.new_zeros(())
    for points, others in ((first, second), (second, first)):
        gaps = points - gather(others, nearest(others, points, 1))[:, :, 0]
        total = total + (gaps.square().sum(dim=-1) + _SOFT).sqrt().mean()
    return total


@torch.no_grad()
def estimated_normals(positions: Float[Tensor, "graph point 3"]) -> Float[Tensor, "graph point 3"]:
    """The direction in which the nearest 16 points, the point among them, spread least; its sign means nothing."""
    neighbours = at_least_float32(gather(positions, nearest(positions, positions, _TO_NORMAL)))
    spread = neighbours - neighbours.mean(dim=2, keepdim=True)
    with torch.autocast(positions.device.type, enabled=False):
        return torch.linalg.eigh(spread.mT @ spread).eigenvectors[..., 0]  # ascending eigenvalues
