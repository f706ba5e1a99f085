"""The interface of a task for the trainer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from se3t.config import Config
from se3t.errors import UserError
from se3t.fiber import Fiber, rotate_features
from se3t.graph import Graph
from se3t.so3 import random_rotation

Draw: TypeAlias = int | Int[Tensor, ""] | None
"""Seed of the draws of a training step. A tensor on the device of the data can be part of a captured step."""


class Task(ABC):
    """Data, inputs, loss and metrics of one experiment; all that the trainer uses.

    Attributes:
        name: its name in the configuration.
        units: unit of every metric.
        headline: the main metrics.
        pooled: whether there is one prediction for each cloud, not for each node.
        fixed_shapes: whether batches of equal size have tensors of equal shapes.
        fiber_in: fiber of the node features that :meth:`graph` provides.
        fiber_out: fiber of the prediction.
        num_edge_scalars: channels of ``Graph.edge_scalars``.
        fiber_edge: fiber of ``Graph.edge_features``.
        horizon: time between input and target, for models that extrapolate; 0 without time.
    """

    name: ClassVar[str]
    units: Mapping[str, str]
    headline: tuple[str, ...] = ()
    pooled: bool = False
    fixed_shapes: bool = False
    fiber_in: Fiber
    fiber_out: Fiber
    num_edge_scalars: int
    fiber_edge: Fiber = Fiber({})
    horizon: float = 0.0

    @classmethod
    @abstractmethod
    def from_config(cls, config: Config) -> Task:
        """Load the data that ``config.data`` describes."""

    @abstractmethod
    def size(self, split: str) -> int:
        """Number of samples of a split."""

    @abstractmethod
    def to(self, device: torch.device | str, dtype: torch.dtype) -> Task:
        """Keep working copies of the data on ``device`` in ``dtype``; the task itself is returned."""

    @abstractmethod
    def batch(self, split: str, index: Int[Tensor, " sample"], draw: Draw = None) -> Any:
        """The samples with the given numbers: gathered from tensors in memory, no loop over samples.

        Args:
            split: "train", "valid" or "test".
            index: their numbers within the split.
            draw: seed of what a task redraws in every training step (points, starts, augmentation), a number or a
                tensor with one; None: the fixed sample.
        """

    @abstractmethod
    def graph(self, batch: Any) -> Graph:
        """The input of the model for a batch."""

    def select_inputs(self, model: nn.Module) -> None:
        """Make :meth:`graph` provide the inputs of an imported model.

        Args:
            model: with ``fiber_in`` and ``fiber_out``.

        Raises:
            UserError: the task has no such inputs, or another output.
        """
        if model.fiber_in != self.fiber_in or model.fiber_out != self.fiber_out:
            raise UserError(
                f"the model maps {model.fiber_in!r} to {model.fiber_out!r}; task {self.name} has inputs "
                f"{self.fiber_in!r} and needs {self.fiber_out!r}"
            )
        readout = getattr(model, "readout", None)
        if readout is not None and (readout.pooling is not None) != self.pooled:
            one, other = ("each node", "each cloud") if self.pooled else ("each cloud", "each node")
            raise UserError(f"the model has an output for {one}; task {self.name} needs one for {other}")

    @abstractmethod
    def loss(self, prediction: Any, batch: Any) -> Float[Tensor, ""]:
        """The training loss of a batch."""

    @abstractmethod
    def metrics(self, prediction: Any, batch: Any) -> dict[str, Float[Tensor, " sample"]]:
        """Errors per sample, in double precision; their mean over a split is the metric. ``"loss"`` is one of them."""

    def details(self, prediction: Any, batch: Any) -> dict[str, Tensor]:
        """Values of every sample kept in the record of a run, ``[sample]`` by name; none by default."""
        return {}

    def equivariance(
        self, model: nn.Module, graph: Graph, prediction: Any, generator: torch.Generator
    ) -> dict[str, Float[Tensor, " sample"]]:
        """Equivariance error of every sample under one random rotation each; none by default."""
        return {}

    @abstractmethod
    def baselines(self, split: str) -> dict[str, tuple[float, ...]]:
        """Errors of predictions without learning, by name, in the order of the headline metrics."""

    def relative(self, metrics: Mapping[str, float], split: str) -> dict[str, float]:
        """Metrics relative to the trivial baseline of the task on the same split."""
        return {}

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """The data for the run record: preset, checksum, baselines on the test split."""

    def facts(self) -> dict[str, Any]:
        """What predictions on new inputs need besides the weights, as plain values: kept with every checkpoint."""
        return {}

    def restore(self, facts: Mapping[str, Any]) -> None:  # noqa: B027
        """Restore the facts of trained weights where those of the present data differ; called before :meth:`to`.

        Args:
            facts: of the checkpoint, see :meth:`facts`; may be empty.
        """

    def __deepcopy__(self, memo: dict[int, Any]) -> Task:
        # Averaged copies of the training module share the data: training does not change a task.
        return self


def rotate_clouds(graph: Graph, generator: torch.Generator) -> tuple[Graph, Float[Tensor, "node 3 3"]]:
    """The graph with an independent Haar rotation of every cloud, and that rotation at every node.

    Values are rotated in double precision and rounded once, so that only rounding within the network shows.

    Args:
        graph: point clouds whose edge features are scalars.
        generator: source of the rotations, on any device.
    """
    rotation = random_rotation(graph.num_graphs, generator=generator, dtype=torch.float64, device=graph.device)
    rotation = rotation[graph.batch]
    features = rotate_features({degree: value.double() for degree, value in graph.features.items()}, rotation)
    positions = rotate_features({1: graph.positions[:, None].double()}, rotation)[1][:, 0]
    dtype = graph.positions.dtype
    rotated = {degree: value.to(dtype) for degree, value in features.items()}
    return replace(graph, positions=positions.to(dtype), features=rotated), rotation
