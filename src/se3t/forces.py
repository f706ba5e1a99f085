"""Energies of a model with their forces and stress, as derivatives with respect to positions and strain."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from se3t.fiber import Features
from se3t.graph import Graph


@dataclass(frozen=True)
class EnergyAndForces:
    """What :func:`energy_and_forces` gives, in the units of the model's energy and of the positions.

    Attributes:
        energy: ``[graph]``.
        forces: ``[node, 3]`` −dE/dx.
        stress: ``[graph, 3, 3]`` dE/dε / V, symmetric; None unless volumes were given.
    """

    energy: Float[Tensor, " graph"]
    forces: Float[Tensor, "node 3"]
    stress: Float[Tensor, "graph 3 3"] | None = None


def energy_and_forces(
    model: nn.Module, graph: Graph, *, training: bool = False, volume: Float[Tensor, " graph"] | None = None
) -> EnergyAndForces:
    """Energy E of every cloud of a graph, forces −dE/dx, and stress.

    Forces are exact: a model that is invariant conserves energy, and its forces sum to zero. Where it has a ``cutoff``
    and the graph every edge up to it, they do not jump when an edge appears; they do at the kinks of ReLU in radial
    networks and heads, and where ``pooling="max"`` changes from one node to another. Energies add up over the parts of
    a system where every node has one. ``graph.edge_vectors``, as across periodic boundaries, move with the positions.

    Args:
        model: gives one number of type 0 for every cloud (``pooled=True``), or one for every node, which are added up.
        graph: the clouds.
        training: whether the result can be differentiated, for a loss of forces.
        volume: of the periodic cell of every cloud, in units of length cubed; None: no stress.

    Raises:
        ValueError: when the model gives something else, or there is not a volume for every cloud.
    """
    if volume is not None and volume.shape != (graph.num_graphs,):
        raise ValueError(f"volume: expected [{graph.num_graphs}], one for each cloud, got {list(volume.shape)}")
    with torch.enable_grad():
        positions = graph.positions.detach().requires_grad_()
        strain = None if volume is None else positions.new_zeros(graph.num_graphs, 3, 3, requires_grad=True)
        energy = _energies(model(_moved(graph, positions, strain)), graph)
        inputs = [positions] if strain is None else [positions, strain]
        gradients = torch.autograd.grad(
            energy.sum(), inputs, create_graph=training, allow_unused=True, materialize_grads=True
        )
    stress = None if volume is None else gradients[1] / volume[:, None, None]
    return EnergyAndForces(energy if training else energy.detach(), -gradients[0], stress)


def _moved(graph: Graph, positions: Tensor, strain: Tensor | None) -> Graph:
    """The graph with these positions, and its edge vectors with them, all strained."""
    vectors = graph.edge_vectors
    if vectors is not None:
        source, target = graph.edge_index
        shifts = (vectors - (graph.positions[source] - graph.positions[target])).detach()
        vectors = positions[source] - positions[target] + shifts
    if strain is not None:
        symmetric = (strain + strain.mT) / 2
        positions = positions + _strained(positions, symmetric[graph.batch])
        if vectors is not None:
            vectors = vectors + _strained(vectors, symmetric[graph.batch[graph.target]])
    return replace(graph, positions=positions, edge_vectors=vectors)


def _strained(vectors: Tensor, strain: Tensor) -> Tensor:
    return (strain @ vectors[..., None]).squeeze(-1)


def _energies(output: Features, graph: Graph) -> Tensor:
    rows = (graph.num_graphs, graph.num_nodes)
    if set(output) != {0} or output[0].shape[1:] != (1, 1) or output[0].shape[0] not in rows:
        shapes = {degree: list(value.shape) for degree, value in output.items()}
        raise ValueError(
            f"the model gives {shapes}; expected one number of type 0 for each cloud or each node, as of "
            'fiber_out=Fiber("1x0")'
        )
    energy = output[0].flatten()
    if len(energy) == graph.num_graphs and (graph.num_graphs != graph.num_nodes):
        return energy
    return energy.new_zeros(graph.num_graphs).index_add(0, graph.batch, energy)
