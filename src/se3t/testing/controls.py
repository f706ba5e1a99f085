"""Negative controls: models that break one symmetry on purpose, so that the test of that symmetry must fail.

Each wraps a model and spoils its output. ``breaks`` names the transforms of :mod:`se3t.testing.equivariance` that must
report a large error; the others keep the error of the wrapped model. ``CONTROLS`` lists them all::

    for control in CONTROLS:
        errors = equivariance_error(control(model), graph, transform=...)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from se3t.fiber import Features
from se3t.graph import Graph


class Control(nn.Module):
    """Base of the controls: calls ``model`` and spoils what it returns.

    Args:
        model: maps a graph to node features ``[node, channels, 2l+1]`` by degree, with a degree above 0 among them.
    """

    breaks: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, model: Callable[[Graph], Features]) -> None:
        super().__init__()
        self.model = model

    def forward(self, graph: Graph) -> Features:
        """The spoilt output."""
        return self.spoil(self.model(graph), graph)

    def spoil(self, features: Features, graph: Graph) -> Features:
        """What the control does to the model's output."""
        raise NotImplementedError


class AddFixedVector(Control):
    """Adds the same vector to every output of degree 1, as a bias would: the vector does not rotate with the input."""

    breaks = frozenset({"rotation", "reflection"})

    def spoil(self, features: Features, graph: Graph) -> Features:
        """Degree 1 plus (0.3, −0.5, 0.7)."""
        return {
            degree: value + value.new_tensor([0.3, -0.5, 0.7]) if degree == 1 else value
            for degree, value in features.items()
        }


class DependOnNodeOrder(Control):
    """Scales the output of a node by its place in the list of nodes."""

    breaks = frozenset({"permutation"})

    def spoil(self, features: Features, graph: Graph) -> Features:
        """Node n of N times 1 + n/N."""
        factor = 1 + torch.arange(graph.num_nodes, device=graph.positions.device) / graph.num_nodes
        return _scale(features, factor.to(graph.positions))


class IgnoreWignerD(Control):
    """Treats the 2l+1 components of a type-l value as ordinary channels, each with its own weight."""

    breaks = frozenset({"rotation"})

    def spoil(self, features: Features, graph: Graph) -> Features:
        """Component number i of 2l+1 times 1 + i; degree 0 is left alone."""
        return {degree: value * (1 + torch.arange(value.shape[-1]).to(value)) for degree, value in features.items()}


class DependOnOrigin(Control):
    """Scales the output of a node by its distance from the origin of coordinates."""

    breaks = frozenset({"translation"})

    def spoil(self, features: Features, graph: Graph) -> Features:
        """Times 1 + ‖x‖²."""
        return _scale(features, 1 + graph.positions.square().sum(dim=-1))


class DependOnHandedness(Control):
    """Scales the output of a node by the handedness of its neighbourhood: rotations are kept, reflection is not.

    What every SE(3)-equivariant model with odd paths may do; a control of the test of reflection. Nodes need three
    neighbours in general position.
    """

    breaks = frozenset({"reflection"})

    def spoil(self, features: Features, graph: Graph) -> Features:
        """Times 2 + the sign of det[Σ x_ij, Σ ‖x_ij‖ x_ij, Σ ‖x_ij‖² x_ij], x_ij = x_j − x_i."""
        vector = graph.positions[graph.source] - graph.positions[graph.target]
        length = vector.norm(dim=-1, keepdim=True)
        terms = torch.stack([vector, vector * length, vector * length.square()], dim=-1)  # [edge, xyz, moment]
        moments = terms.new_zeros(graph.num_nodes, 3, 3).index_add(0, graph.target, terms)
        return _scale(features, 2 + torch.linalg.det(moments).sign())


CONTROLS: tuple[type[Control], ...] = (
    AddFixedVector,
    DependOnNodeOrder,
    IgnoreWignerD,
    DependOnOrigin,
    DependOnHandedness,
)


def _scale(features: Features, factor: Tensor) -> Features:
    return {degree: value * factor[:, None, None] for degree, value in features.items()}
