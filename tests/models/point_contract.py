"""The contract of models for the point-cloud classifiers: clouds of one size, coordinates as the only feature."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from se3t.errors import UserError
from se3t.fiber import Fiber
from se3t.graph import Graph
from se3t.models import build_model
from se3t.testing import ModelContract

POSITIONS, CLASSES = Fiber("1x1"), Fiber("5x0")


def point_clouds(*clouds: Tensor) -> Graph:
    """Clouds as the classification task hands them over: no edges, positions again as the vector feature."""
    positions = torch.cat(clouds)
    return Graph(
        positions=positions,
        features={1: positions[:, None]},
        edge_index=torch.empty(2, 0, dtype=torch.int64),
        batch=torch.repeat_interleave(torch.tensor([len(cloud) for cloud in clouds])),
        num_graphs=len(clouds),
    ).check()


def scans(num_clouds: int, num_points: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Graph:
    """Random clouds in [−1, 1]³."""
    source = torch.Generator().manual_seed(seed)
    return point_clouds(*(2 * torch.rand(num_clouds, num_points, 3, generator=source, dtype=dtype) - 1))


class PointCloudContract(ModelContract):
    """What :class:`ModelContract` asks, on clouds of one size; neighbours at equal distances may come in any order."""

    fiber_in, fiber_out = POSITIONS, CLASSES
    sizes = (9, 9, 9)
    holds, breaks = frozenset({"translation", "permutation"}), frozenset({"rotation", "reflection"})
    is_local = False
    config: ClassVar[object]

    def graph(self, *clouds: Tensor, seed: int = 0) -> Graph:
        """The same clouds as the contract's, with their coordinates as features and without edges."""
        positions = super().graph(*clouds, seed=seed)
        return point_clouds(*(positions.positions[positions.batch == number] for number in range(positions.num_graphs)))

    def coincident_graph(self) -> Graph:
        """Generic clouds with coincident points, and one whose points all coincide."""
        twins = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        return self.graph(twins[[0, 1, 1, 2, 3, 4]], torch.zeros(6, 3).double(), twins[[0, 0, 2, 3, 3, 5]] + 1.0)

    def axes_graph(self) -> Graph:
        """The origin and points on all six half axes, no two at equal distances."""
        axes = torch.cat((torch.eye(3), -torch.eye(3))).double() * torch.arange(4, 10)[:, None] ** 2 / 81
        return self.graph(torch.cat((torch.zeros(1, 3).double(), axes)))

    def isolated_graph(self) -> Graph:
        """Clouds of a single point."""
        return self.graph(*torch.randn(3, 1, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64))

    def test_gradients_stay_finite_in_training_at_coincident_points(self) -> None:
        """Normalisation by the statistics of the batch, with clouds that hardly vary."""
        model = self.model().train()
        model(self.coincident_graph())[0].square().sum().backward()
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        assert gradients
        assert all(bool(gradient.isfinite().all()) for gradient in gradients)

    def test_clouds_of_unequal_size_are_refused(self) -> None:
        """In a sentence that says what to do."""
        with pytest.raises(UserError, match="clouds of one size"):
            self.model()(self.graph(torch.zeros(3, 3).double(), torch.zeros(4, 3).double()))

    def test_other_inputs_and_outputs_are_refused(self) -> None:
        """Scalars in, vectors out, or one output a point."""
        good = {"fiber_in": POSITIONS, "fiber_out": CLASSES, "pooled": True}
        for change, words in (
            ({"fiber_in": Fiber("1x0")}, "inputs=positions"),
            ({"fiber_out": Fiber("1x1")}, "predicts scalars"),
            ({"pooled": False}, "each cloud"),
        ):
            with pytest.raises(UserError, match=words):
                build_model(self.config, num_edge_scalars=0, **{**good, **change})

    def test_a_shifted_cloud_is_another_input(self) -> None:
        """Translations leave features alone; a shift of the coordinates as the model reads them is what this moves."""
        model, graph = self.model(), self.graph()
        moved = replace(graph, features={1: graph.features[1] + 0.3})
        change = float((model(moved)[0] - model(graph)[0]).detach().abs().max())
        assert (change < 1e-9) == self.ignores_shifts, f"logits change by {change}"

    ignores_shifts: ClassVar[bool] = False


def count_parameters(config: object, classes: int = 40) -> int:
    """Trained numbers of the model of a configuration, for so many classes."""
    fiber_out = Fiber({0: classes})
    model = build_model(config, fiber_in=POSITIONS, fiber_out=fiber_out, num_edge_scalars=0, pooled=True)
    return sum(parameter.numel() for parameter in model.parameters())
