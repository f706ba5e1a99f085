"""Small models whose symmetries are plain to see."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from se3t.fiber import Features, Fiber
from se3t.graph import Graph, fully_connected
from se3t.so3 import safe_norm, spherical_harmonics


class Moments(nn.Module):
    """out_i^l = w_l f_i^l + u_l Σ_j exp(−‖x_ij‖²) Y_l(x_ij) Σ_c f_{j,c}^0: equivariant under all four transforms."""

    def __init__(self, fiber_in: Fiber, fiber_out: Fiber) -> None:
        super().__init__()
        self.fiber_in, self.fiber_out = fiber_in, fiber_out
        self.own = nn.ParameterDict({str(l): torch.ones(c, fiber_in[l]) for l, c in fiber_out.items() if l in fiber_in})
        self.sum = nn.ParameterDict({str(l): torch.ones(c, 1) for l, c in fiber_out.items()})

    def forward(self, graph: Graph) -> Features:
        return {degree: self.degree(graph, degree) for degree in self.fiber_out}

    def degree(self, graph: Graph, degree: int) -> Tensor:
        vector = self.vector(graph)
        harmonics = spherical_harmonics(degree, vector)[:, degree**2 :]
        weight = self.charge(graph)[graph.source] * self.envelope(vector)
        moment = torch.zeros(graph.num_nodes, 2 * degree + 1).to(vector)
        moment = moment.index_add(0, graph.target, harmonics * weight[:, None])
        out = self.sum[str(degree)] * moment[:, None]
        return out + self.own[str(degree)] @ graph.features[degree] if str(degree) in self.own else out

    def vector(self, graph: Graph) -> Tensor:
        return graph.positions[graph.source] - graph.positions[graph.target]

    def charge(self, graph: Graph) -> Tensor:
        return graph.features[0].sum(dim=(1, 2))

    def envelope(self, vector: Tensor) -> Tensor:
        return torch.exp(-safe_norm(vector).square())


class Chiral(Moments):
    """Adds to degree 1 the cross product of its features with the first moment: an odd path of SE(3) models."""

    def forward(self, graph: Graph) -> Features:
        out = super().forward(graph)
        axial = torch.linalg.cross(graph.features[1].sum(dim=1, keepdim=True), out[1])
        return {**out, 1: out[1] + axial}


class Pooled(Moments):
    """One row for each cloud."""

    def forward(self, graph: Graph) -> Features:
        nodes = super().forward(graph)
        return {
            degree: value.new_zeros(graph.num_graphs, *value.shape[1:]).index_add(0, graph.batch, value)
            for degree, value in nodes.items()
        }


class Plain(nn.Module):
    """Features as plain numbers with the mean of the cloud: equivariant to permutation and translation only."""

    def __init__(self, fiber_in: Fiber, fiber_out: Fiber) -> None:
        super().__init__()
        self.fiber_in, self.fiber_out = fiber_in, fiber_out
        self.layer = nn.Linear(2 * fiber_in.dim, fiber_out.dim)

    def forward(self, graph: Graph) -> Features:
        flat = torch.cat([value.flatten(1) for _, value in sorted(graph.features.items())], dim=1)
        total = flat.new_zeros(graph.num_graphs, flat.shape[1]).index_add(0, graph.batch, flat)
        mean = total / graph.batch.bincount(minlength=graph.num_graphs)[:, None]
        out = self.layer(torch.cat([flat, mean[graph.batch]], dim=1)).tanh()
        parts = out.split([count * (2 * degree + 1) for degree, count in self.fiber_out.items()], dim=1)
        return {d: part.unflatten(1, (-1, 2 * d + 1)) for d, part in zip(self.fiber_out, parts, strict=True)}


def random_graph(fiber: Fiber, *sizes: int, dtype: torch.dtype = torch.float64) -> Graph:
    batch = torch.repeat_interleave(torch.tensor(sizes))
    features = {degree: torch.randn(len(batch), count, 2 * degree + 1, dtype=dtype) for degree, count in fiber.items()}
    positions = torch.randn(len(batch), 3, dtype=dtype)
    return Graph(positions, features, fully_connected(batch), batch, len(sizes)).check()
