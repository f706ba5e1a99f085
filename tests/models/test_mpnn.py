from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from se3t.config import MPNNModel
from se3t.errors import UserError
from se3t.fiber import Fiber
from se3t.graph import Graph
from se3t.models import build_model
from se3t.models.mpnn import MPNN
from se3t.testing import ModelContract

from .clouds import alone, clouds

FIBER_IN, FIBER_OUT = Fiber("3x0"), Fiber("2x0")
INVARIANT = ModelContract.SE3 | {"reflection"}
SMALL = {"channels": 6, "edge_hidden": 7, "num_layers": 3, "num_gaussians": 5, "cutoff": 4.0}


class TestMPNN(ModelContract):
    """One output for each node."""

    fiber_in, fiber_out, num_edge_scalars = FIBER_IN, FIBER_OUT, 1
    holds, breaks = INVARIANT, frozenset()

    def make_model(self) -> MPNN:
        return MPNN(FIBER_IN, FIBER_OUT, num_edge_scalars=1, **SMALL)


class TestMPNNPooled(TestMPNN):
    """One output for each cloud, by Set2Set."""

    def make_model(self) -> MPNN:
        return MPNN(FIBER_IN, FIBER_OUT, num_edge_scalars=1, **SMALL, pooled=True)


class TestMPNNOfLengths(ModelContract):
    """One output for each cloud; edges with nothing but a length."""

    fiber_in, fiber_out = FIBER_IN, FIBER_OUT
    holds, breaks = INVARIANT, frozenset()

    def make_model(self) -> MPNN:
        return MPNN(FIBER_IN, FIBER_OUT, **SMALL, pooled=True, set2set_steps=2)


def gru(cell: torch.nn.GRUCell, x: Tensor, h: Tensor) -> Tensor:
    """Cho et al. 2014, with the gates in torch's order: reset, update, new."""
    from_x = (cell.weight_ih @ x + cell.bias_ih).chunk(3)
    from_h = (cell.weight_hh @ h + cell.bias_hh).chunk(3)
    reset, update = torch.sigmoid(from_x[0] + from_h[0]), torch.sigmoid(from_x[1] + from_h[1])
    return (1 - update) * torch.tanh(from_x[2] + reset * from_h[2]) + update * h


def states_by_hand(model: MPNN, graph: Graph) -> Tensor:
    """Node states of ``SMALL`` after all rounds, edge by edge, from the weights alone."""
    embedding, (first, _, second) = model.embedding[0], model.edge_network
    hidden = torch.relu(graph.features[0][..., 0] @ embedding.weight.T + embedding.bias)
    for _ in range(3):
        messages = torch.zeros_like(hidden)
        for edge, (source, target) in enumerate(graph.edge_index.T.tolist()):
            distance = math.dist(graph.positions[source].tolist(), graph.positions[target].tolist())
            bumps = [math.exp(-((distance - centre) ** 2) / 2) for centre in range(5)]
            invariants = torch.tensor([*graph.edge_scalars[edge].tolist(), *bumps]).double()
            matrix = second.weight @ torch.relu(first.weight @ invariants + first.bias) + second.bias
            messages[target] += hidden[source] @ matrix.view(6, 6)
        hidden = torch.stack([gru(model.update, x, h) for x, h in zip(messages, hidden, strict=True)])
    return hidden


def set2set_by_hand(model: MPNN, states: Tensor) -> Tensor:
    """Vinyals et al. 2016, Equations 3 to 7, for one cloud; gates in torch's order: input, forget, cell, output."""
    lstm = model.set2set.lstm
    query, cell, read = states.new_zeros(3, 6)
    for _ in range(model.set2set.processing_steps):
        gates = lstm.weight_ih_l0 @ torch.cat([query, read]) + lstm.bias_ih_l0
        into, keep, new, out = (gates + lstm.weight_hh_l0 @ query + lstm.bias_hh_l0).chunk(4)
        cell = keep.sigmoid() * cell + into.sigmoid() * new.tanh()
        query = out.sigmoid() * cell.tanh()
        weights = (states @ query).exp()
        read = (weights / weights.sum()) @ states
    return torch.cat([query, read])


def head_by_hand(model: MPNN, values: Tensor) -> Tensor:
    first, _, last = model.head
    return torch.relu(values @ first.weight.T + first.bias) @ last.weight.T + last.bias


@pytest.fixture
def graph() -> Graph:
    return clouds(5, 2, 4, fiber=FIBER_IN)


def test_mpnn_equals_a_loop_over_edges(graph: Graph):
    model = TestMPNN().model()
    expected = head_by_hand(model, states_by_hand(model, graph))
    torch.testing.assert_close(model(graph)[0][..., 0], expected, rtol=1e-6, atol=1e-8)


def test_one_output_for_each_cloud_is_that_of_set2set(graph: Graph):
    model = TestMPNNPooled().model()
    pooled = [set2set_by_hand(model, states_by_hand(model, alone(graph, index))) for index in range(3)]
    torch.testing.assert_close(model(graph)[0][..., 0], head_by_hand(model, torch.stack(pooled)), rtol=1e-6, atol=1e-8)


def test_edge_scalars_are_read(graph: Graph):
    model = TestMPNN().model()
    other = replace(graph, edge_scalars=graph.edge_scalars + 1)
    assert (model(other)[0] - model(graph)[0]).abs().max() > 1e-3


def test_lengths_are_read(graph: Graph):
    model = TestMPNN().model()
    other = replace(graph, positions=2 * graph.positions)
    assert (model(other)[0] - model(graph)[0]).abs().max() > 1e-3


def test_an_empty_cloud_has_a_finite_output_and_gradients():
    model = MPNN(FIBER_IN, FIBER_OUT, num_edge_scalars=1, **SMALL, pooled=True).double()
    output = model(clouds(3, 0, 2, fiber=FIBER_IN))[0]
    assert output.shape == (3, 2, 1)
    assert output.isfinite().all()
    output.square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_equal_seeds_give_equal_models_and_outputs(graph: Graph):
    outputs = []
    for _ in range(2):
        torch.manual_seed(3)
        outputs.append(MPNN(FIBER_IN, FIBER_OUT, num_edge_scalars=1, **SMALL, pooled=True).double()(graph)[0])
    assert torch.equal(*outputs)


@pytest.mark.parametrize("pooled", [False, True])
def test_configuration_decides_the_sizes(pooled: bool):
    config = MPNNModel(channels=10, edge_hidden=9, num_layers=2, num_gaussians=4, cutoff=6.0, set2set_steps=5)
    model = build_model(config, fiber_in=FIBER_IN, fiber_out=FIBER_OUT, num_edge_scalars=4, pooled=pooled)
    assert isinstance(model, MPNN)
    assert model.num_layers == 2
    assert model.embedding[0].weight.shape == (10, 3)
    assert [layer.weight.shape for layer in (model.edge_network[0], model.edge_network[2])] == [(9, 8), (100, 9)]
    assert [layer.weight.shape for layer in (model.head[0], model.head[2])] == [(10, 20 if pooled else 10), (2, 10)]
    torch.testing.assert_close(model.gaussians.offset, torch.tensor([0.0, 2, 4, 6]))
    assert (model.set2set.processing_steps if model.set2set else None) == (5 if pooled else None)
    assert "3x0 -> 2x0, channels=" in repr(model)
    assert "num_layers=2" in repr(model)


@pytest.mark.parametrize(
    ("fiber_in", "fiber_out", "words"),
    [
        (Fiber("3x0+1x1"), FIBER_OUT, r"model=mpnn reads scalars \(type 0\) alone, not 3x0\+1x1: choose another"),
        (FIBER_IN, Fiber("2x1"), "predicts scalars .type 0. alone, not 2x1"),
    ],
)
def test_other_types_than_scalars_are_refused(fiber_in: Fiber, fiber_out: Fiber, words: str):
    with pytest.raises(UserError, match=words):
        MPNN(fiber_in, fiber_out)


@pytest.mark.parametrize(
    "setting",
    [
        {"channels": 0},
        {"edge_hidden": 0},
        {"num_layers": 0},
        {"set2set_steps": 0},
        {"num_gaussians": 1},
        {"cutoff": -1.0},
    ],
)
def test_impossible_sizes_are_refused(setting: dict[str, float]):
    with pytest.raises(UserError, match=next(iter(setting))):
        MPNN(FIBER_IN, FIBER_OUT, **setting)
