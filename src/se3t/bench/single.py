"""A single layer on synthetic clouds, with its basis."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from se3t.bench.contenders import MOST_KEPT, REFERENCE, Ours
from se3t.bench.equality import Difference, DisagreementError, Reference
from se3t.bench.timing import Step
from se3t.bench.workloads import Workload, mean_square, weights_per_edge
from se3t.errors import UserError
from se3t.fiber import Features, Fiber
from se3t.geometry import EdgeGeometry
from se3t.graph import Graph
from se3t.nn import ConvSettings, EquivariantBasis, SE3AttentionBlock


@dataclass(frozen=True)
class Single:
    """An attention block with one head on clouds of points in the unit ball.

    Attributes:
        num_graphs: clouds.
        num_points: points of each.
        num_neighbors: edges that come into each point.
        num_degrees: input and output have types 0 … num_degrees − 1.
        channels: of each type.
        seed: of everything.
        device: where.
    """

    num_graphs: int
    num_points: int
    num_neighbors: int
    num_degrees: int
    channels: int
    seed: int = 0
    device: str = "cpu"

    @property
    def fiber(self) -> Fiber:
        """Node features."""
        return Fiber.uniform(self.num_degrees, self.channels)

    @property
    def num_edges(self) -> int:
        """Directed edges of all clouds."""
        return self.num_graphs * self.num_points * self.num_neighbors

    def keeps_too_much(self, name: str) -> bool:
        """Whether a kernel would hold more than ``MOST_KEPT`` bytes of radial weights."""
        if not Ours.parse(name).keeps_weights:
            return False
        return 4 * self.num_edges * weights_per_edge(self.layer(REFERENCE, "auto")) > MOST_KEPT

    def graph(self, dtype: torch.dtype = torch.float32) -> Graph:
        """The clouds, with normal features."""
        cloud = Workload.of("pointcloud").resized(self.num_graphs, self.num_points)
        cloud = dataclasses.replace(cloud, num_neighbors=self.num_neighbors, seed=self.seed, device=self.device)
        graph, generator = cloud.graph(dtype), torch.Generator().manual_seed(self.seed)
        features = {
            degree: torch.randn(graph.num_nodes, channels, 2 * degree + 1, generator=generator, dtype=torch.float64)
            for degree, channels in self.fiber.items()
        }
        return dataclasses.replace(graph, features={l: value.to(graph.positions) for l, value in features.items()})

    def layer(self, kernel: str, memory: str) -> nn.Module:
        """The layer, in float32 on the CPU; the same weights for every kernel."""
        settings = ConvSettings(share_radial="full", kernel=kernel, memory=memory)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return SE3AttentionBlock(self.fiber, self.fiber, settings)

    def module(self, name: str, memory: str | None = None) -> nn.Module:
        """The layer as a function of the graph, with a kernel of :class:`Ours`; ``memory`` in place of its own."""
        ours = Ours.parse(name)
        return _OnGraph(self.layer(ours.kernel, memory or ours.memory), self)

    def step(self, name: str) -> Step:
        """Basis, forward, mean square, backward to parameters and input."""
        module, graph = self.module(name).to(self.device), self.graph()
        return Step(module, lambda: mean_square(module(graph)))

    def steps(self, names: Sequence[str], notes: list[str]) -> dict[str, Step]:
        """The steps of the kernels that do not hold too much; ``notes`` takes a line on the others."""
        left_out = [name for name in names if self.keeps_too_much(name)]
        if left_out:
            notes.append(f"{', '.join(left_out)}: left out where more than a GiB of radial weights would be held.")
        return {name: self.step(name) for name in names if name not in left_out}

    def difference(self, name: str) -> Difference:
        """Differences from the reference kernel, in all modes of memory that a size may bring about."""
        oracle = Reference.of(self.graph, partial(self.module, REFERENCE))
        modes = Ours.parse(name).modes
        return Difference.largest([oracle.difference(self.graph, partial(self.module, name, mode)) for mode in modes])


class _OnGraph(nn.Module):
    """A layer and its basis; the input is a parameter, so that it has a gradient as within a model."""

    def __init__(self, layer: nn.Module, single: Single) -> None:
        super().__init__()
        self.layer, self.max_degree = layer, single.fiber.max_degree
        features = dataclasses.replace(single, device="cpu").graph().features
        self.inputs = nn.ParameterDict({str(degree): value for degree, value in features.items()})

    def forward(self, graph: Graph) -> Features:
        basis = EquivariantBasis(EdgeGeometry.of(graph, pair=True), self.max_degree)
        out: Features = self.layer({int(degree): value for degree, value in self.inputs.items()}, basis)
        return out


def rebuild(single: dict[str, Any], name: str) -> Step:
    """The step of a kernel from plain values: for a process of its own."""
    return Single(**single).step(name)


def agreeing(small: Single, names: Sequence[str], failures: list[str]) -> tuple[list[str], Difference]:
    """The kernels that compute what the reference kernel computes, and the largest difference among them.

    Args:
        small: a size at which the reference is quick.
        names: kernels.
        failures: receives the errors of the others.

    Raises:
        UserError: when none does.
    """
    differences: dict[str, Difference] = {}
    for name in names:
        try:
            differences[name] = small.difference(name).check(name)
        except DisagreementError as error:
            failures.append(str(error))
    if not differences:
        raise UserError(f"no kernel is left to measure: {'; '.join(failures)}")
    return [*differences], Difference.largest([*differences.values()])
