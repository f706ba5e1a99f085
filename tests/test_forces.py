from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from se3t.config import SE3TransformerModel, TFNModel
from se3t.errors import UserError
from se3t.fiber import Fiber
from se3t.forces import energy_and_forces
from se3t.graph import Graph, radius_graph
from se3t.models import build_model

CUTOFF = 2.5
SIZES: dict[str, Any] = {"num_layers": 2, "channels": 4, "cutoff": CUTOFF}
MODELS: dict[str, Any] = {
    "se3_transformer": SE3TransformerModel(**SIZES, channels_div=1, attention_scale="degree", norm="gate"),
    "tfn": TFNModel(**SIZES),
}


def model_of(name: str, pooled: bool = False, fiber_out: str = "1x0") -> nn.Module:
    torch.manual_seed(1)
    fibers = {"fiber_in": Fiber("2x0"), "fiber_out": Fiber(fiber_out)}
    return build_model(MODELS[name], **fibers, num_edge_scalars=0, pooled=pooled).double()


def clouds() -> Graph:
    """Two clouds of five and four points."""
    torch.manual_seed(0)
    positions = torch.randn(9, 3, dtype=torch.float64)
    batch = torch.tensor([0] * 5 + [1] * 4)
    features = torch.randn(9, 2, 1, dtype=torch.float64)
    return Graph(positions, {0: features}, radius_graph(positions, CUTOFF, batch), batch, 2)


def crystal(repeat: int = 1, strain: Tensor | None = None) -> tuple[Graph, Tensor]:
    """Three atoms in a skew cell, that many times along its first edge, with the images up to the cutoff."""
    torch.manual_seed(0)
    cell = torch.tensor([[2.1, 0.1, 0.0], [0.3, 2.3, 0.2], [0.0, -0.2, 2.2]], dtype=torch.float64)
    positions = torch.rand(3, 3, dtype=torch.float64) @ cell
    features = torch.randn(3, 2, 1, dtype=torch.float64)
    positions = torch.cat([positions + number * cell[0] for number in range(repeat)])
    features, cell = features.repeat(repeat, 1, 1), cell * torch.tensor([[repeat], [1], [1]])
    if strain is not None:
        cell, positions = cell + cell @ strain, positions + positions @ strain
    edges, vectors = [], []
    for image in product(range(-3, 4), repeat=3):
        shift = torch.tensor(image, dtype=torch.float64) @ cell
        for target, source in product(range(len(positions)), repeat=2):
            vector = positions[source] + shift - positions[target]
            if 0 < vector.norm() < CUTOFF:
                edges.append((source, target))
                vectors.append(vector)
    index = torch.tensor(edges).T
    order = torch.argsort(index[1], stable=True)
    batch = torch.zeros(len(positions), dtype=torch.int64)
    graph = Graph(positions, {0: features}, index[:, order], batch, 1, edge_vectors=torch.stack(vectors)[order])
    return graph.check(), cell.det().abs()[None]


@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_forces_are_those_of_finite_differences(name: str, pooled: bool) -> None:
    model, graph, step = model_of(name, pooled), clouds(), 1e-6
    found = energy_and_forces(model, graph)
    assert found.energy.shape == (2,)
    assert not found.energy.requires_grad
    assert not found.forces.requires_grad
    for node, axis in ((0, 0), (4, 1), (7, 2)):
        energies = []
        for sign in (1, -1):
            positions = graph.positions.clone()
            positions[node, axis] += sign * step
            moved = replace(graph, positions=positions, edge_index=radius_graph(positions, CUTOFF, graph.batch))
            energies.append(energy_and_forces(model, moved).energy)
        slope = (energies[1] - energies[0]) / (2 * step)
        cloud = int(graph.batch[node])
        assert found.forces[node, axis].item() == pytest.approx(slope[cloud].item(), rel=1e-6, abs=1e-8)
        assert slope[1 - cloud].item() == 0


@pytest.mark.parametrize("name", MODELS)
def test_forces_of_each_cloud_sum_to_zero_and_make_no_torque(name: str) -> None:
    graph = clouds()
    forces = energy_and_forces(model_of(name), graph).forces
    assert forces.abs().max() > 1e-3
    for part in (forces, torch.linalg.cross(graph.positions, forces)):
        total = torch.zeros(2, 3, dtype=torch.float64).index_add(0, graph.batch, part)
        torch.testing.assert_close(total, torch.zeros_like(total), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", MODELS)
def test_the_forces_of_training_reach_the_parameters(name: str) -> None:
    model, graph = model_of(name), clouds()
    plain, trained = energy_and_forces(model, graph), energy_and_forces(model, graph, training=True)
    torch.testing.assert_close(trained.forces.detach(), plain.forces)
    torch.testing.assert_close(trained.energy.detach(), plain.energy)
    weight = next(value for name, value in model.named_parameters() if "weight" in name and value.dim() > 2)
    (gradient,) = torch.autograd.grad(trained.forces.square().sum(), weight)
    place, step, losses = tuple(gradient.abs().flatten().argmax().reshape(1).tolist()), 1e-6, []
    for sign in (1, -1):
        with torch.no_grad():
            weight.view(-1)[place] += sign * step
        losses.append(energy_and_forces(model, graph).forces.square().sum().item())
        with torch.no_grad():
            weight.view(-1)[place] -= sign * step
    assert gradient.flatten()[place].item() == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_a_larger_periodic_cell_has_as_many_times_the_energy_and_the_same_forces_and_stress(name: str) -> None:
    model = model_of(name)
    (one, volume), (two, doubled) = crystal(), crystal(repeat=2)
    small, large = energy_and_forces(model, one, volume=volume), energy_and_forces(model, two, volume=doubled)
    torch.testing.assert_close(large.energy, 2 * small.energy)
    torch.testing.assert_close(large.forces, small.forces.repeat(2, 1))
    torch.testing.assert_close(large.stress, small.stress)
    torch.testing.assert_close(small.forces.sum(0), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", MODELS)
def test_stress_is_that_of_finite_strain(name: str) -> None:
    model, step = model_of(name), 1e-6
    graph, volume = crystal()
    stress = energy_and_forces(model, graph, volume=volume).stress
    assert stress is not None
    torch.testing.assert_close(stress, stress.mT)
    for row, column in ((0, 0), (1, 2), (0, 1)):
        strain = torch.zeros(3, 3, dtype=torch.float64)
        strain[row, column] += step / 2
        strain[column, row] += step / 2
        energies = [energy_and_forces(model, crystal(strain=sign * strain)[0]).energy for sign in (1, -1)]
        slope = (energies[0] - energies[1]) / (2 * step) / volume
        assert stress[0, row, column].item() == pytest.approx(slope.item(), rel=1e-5, abs=1e-8)


def test_points_without_edges_feel_no_force() -> None:
    graph = clouds()
    alone = replace(graph, edge_index=graph.edge_index[:, :0])
    found = energy_and_forces(model_of("tfn"), alone)
    assert torch.isfinite(found.energy).all()
    assert not found.forces.any()


def test_one_point_in_each_cloud_is_no_different() -> None:
    graph = clouds()
    alone = replace(graph, edge_index=graph.edge_index[:, :0], batch=torch.arange(9), num_graphs=9)
    assert energy_and_forces(model_of("tfn"), alone).energy.shape == (9,)
    assert energy_and_forces(model_of("tfn", pooled=True), alone).energy.shape == (9,)


def test_a_node_is_a_neighbour_of_its_image_but_not_of_itself() -> None:
    graph, _ = crystal()
    assert bool((graph.source == graph.target).any())
    loop = int(torch.nonzero(graph.source == graph.target)[0])
    vectors = graph.edge_vectors.clone() if graph.edge_vectors is not None else torch.empty(0)
    vectors[loop] = 0
    with pytest.raises(UserError, match="is its own neighbour"):
        replace(graph, edge_vectors=vectors).check()


def test_what_is_no_energy_is_refused() -> None:
    graph = clouds()
    with pytest.raises(ValueError, match="expected one number of type 0 for each cloud or each node"):
        energy_and_forces(model_of("tfn", fiber_out="1x0+1x1"), graph)
    with pytest.raises(ValueError, match="expected one number of type 0"):
        energy_and_forces(model_of("tfn", fiber_out="2x0"), graph)
    with pytest.raises(ValueError, match=r"volume: expected \[2\], one for each cloud, got \[1\]"):
        energy_and_forces(model_of("tfn"), graph, volume=torch.ones(1))
