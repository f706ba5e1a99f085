"""PointNet: one network on every point, the maximum over all of them, learned alignments of points and features."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from se3t.config import PointNetModel
from se3t.fiber import Fiber
from se3t.models.auxiliary import AuxiliaryLoss
from se3t.models.pointcloud import ClassifierHead, PointClassifier, SharedMLP
from se3t.nn.precision import at_least_float32


class PointNet(AuxiliaryLoss, PointClassifier):
    """y = head(max_i φ(A_f ψ(A_x x_i))): A_x of 3×3 and A_f of 64×64 are predicted from the cloud (:class:`TNet`).

    ψ has layers of 64 and 64, φ of 64, 128 and 1024, the head of 512, 256 and the classes. Not invariant to rotations:
    it sees coordinates as plain numbers, and may at best learn to align them. 3,480,049 parameters for 40 classes;
    published: 3.5 million (Qi et al. 2017, Table 6), 3.48 million (Li et al. 2018, "PointCNN", Table 6).

    Args:
        fiber_in: ``1x1``, the coordinates of each point; all clouds of a batch have the same number of points.
        fiber_out: type 0, one number for each class.
        settings: see :class:`se3t.config.PointNetModel`; without ``transform`` A_x and A_f are the identity,
            ``regularization`` weighs ‖I − A_f A_fᵀ‖² in training, the mean over the clouds of a batch.
        options: single settings by name.

    Raises:
        UserError: see :class:`PointClassifier`.

    Source: Qi et al. 2017, "PointNet: deep learning on point sets for 3D classification and segmentation", CVPR,
    Section 4.2, Figure 2 and supplementary C.
    **Deviation**: dropout follows both hidden layers of the head, as in the authors' code; the supplement names the
    last one alone. The authors' code adds half the sum over the clouds of a batch as the penalty: with 32 clouds that
    is 16 times ours at the same weight, for which the paper writes no sum.
    """

    schema = PointNetModel

    def __init__(
        self,
        fiber_in: Fiber,
        fiber_out: Fiber,
        settings: PointNetModel | None = None,
        **options: Any,
    ) -> None:
        super().__init__(fiber_in, fiber_out, settings, **options)
        s = self.settings
        self.regularization = s.regularization
        self.align_points = TNet(3) if s.transform else None
        self.first = SharedMLP([3, 64, 64])
        self.align_features = TNet(64) if s.transform else None
        self.second = SharedMLP([64, 64, 128, 1024])
        self.head = ClassifierHead(1024, [512, 256], fiber_out[0], s.dropout)

    def logits(self, positions: Float[Tensor, "graph point 3"]) -> Float[Tensor, "graph class"]:
        """A number for each class."""
        values = positions
        if self.align_points is not None:
            values = values @ self.align_points(values).mT
        values = self.first(values)
        penalty = values.new_zeros(())
        if self.align_features is not None:
            matrix = self.align_features(values)  # [graph, 64, 64]
            values, penalty = values @ matrix.mT, orthogonality_penalty(matrix)
        self._auxiliary = self.regularization * penalty if self.training else None
        logits: Tensor = self.head(self.second.maximum(values))
        return logits


class TNet(nn.Module):
    """A matrix A of n×n for each cloud, from a network on every point, their maximum and a head; at first A = 1.

    The network has layers of 64, 128 and 1024, the head of 512 and 256, then n² numbers: with no weights and the
    identity as bias.

    Args:
        width: n, numbers of each point.

    Source: Qi et al. 2017, Section 4.2 and supplementary C.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.points = SharedMLP([width, 64, 128, 1024])
        self.head = ClassifierHead(1024, [512, 256], width * width, dropout=0.0)
        nn.init.zeros_(self.head.last.weight)
        with torch.no_grad():
            self.head.last.bias.copy_(torch.eye(width).flatten())

    def forward(self, values: Float[Tensor, "graph point n"]) -> Float[Tensor, "graph n n"]:
        """The matrix of each cloud."""
        matrix: Tensor = self.head(self.points.maximum(values))
        return matrix.unflatten(-1, (self.width, self.width))


def orthogonality_penalty(matrix: Float[Tensor, "graph n n"]) -> Float[Tensor, ""]:
    """‖I − A Aᵀ‖², the sum of squares, mean over the graphs: 0 for rotations and reflections alone."""
    matrix = at_least_float32(matrix)
    difference = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device) - matrix @ matrix.mT
    return difference.square().sum(dim=(-2, -1)).mean()
