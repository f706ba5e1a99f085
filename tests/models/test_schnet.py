from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from se3t.config import SchNetModel
from se3t.errors import UserError
from se3t.fiber import Fiber
from se3t.graph import Graph
from se3t.models import build_model
from se3t.models.schnet import SchNet
from se3t.testing import ModelContract

from .clouds import alone, clouds

FIBER_IN, FIBER_OUT = Fiber("3x0"), Fiber("2x0")
INVARIANT = ModelContract.SE3 | {"reflection"}
SMALL = {"channels": 8, "num_filters": 6, "num_layers": 2, "num_gaussians": 5, "cutoff": 4.0}


class TestSchNet(ModelContract):
    """One output for each node; lengths alone, so that a mirror image is the same. Scalars of edges are not read."""

    fiber_in, fiber_out, num_edge_scalars = FIBER_IN, FIBER_OUT, 1
    holds, breaks = INVARIANT, frozenset()

    def make_model(self) -> SchNet:
        return SchNet(FIBER_IN, FIBER_OUT, **SMALL)


class TestSchNetPooled(TestSchNet):
    """One output for each cloud, by its mean."""

    def make_model(self) -> SchNet:
        return SchNet(FIBER_IN, FIBER_OUT, **SMALL, pooled=True, pooling="mean")


class TestSchNetMaximum(TestSchNet):
    """One output for each cloud, by its maximum."""

    def make_model(self) -> SchNet:
        return SchNet(FIBER_IN, FIBER_OUT, **SMALL, pooled=True, pooling="max")


def shifted_softplus(x: Tensor) -> Tensor:
    return torch.log((1 + x.exp()) / 2)


def by_hand(model: SchNet, graph: Graph) -> Tensor:
    """The node outputs of ``SMALL``, edge by edge, from the weights alone."""
    hidden = functional.linear(graph.features[0][..., 0], model.embedding.weight, model.embedding.bias)
    for block in model.blocks:
        sums = torch.zeros(graph.num_nodes, SMALL["num_filters"], dtype=torch.float64)
        for source, target in graph.edge_index.T.tolist():
            distance = math.dist(graph.positions[source].tolist(), graph.positions[target].tolist())
            if distance > 4.0:
                continue
            bumps = torch.tensor([math.exp(-((distance - centre) ** 2) / 2) for centre in range(5)]).double()
            first, _, second = block.mlp
            filters = second.weight @ shifted_softplus(first.weight @ bumps + first.bias) + second.bias
            window = 0.5 * (math.cos(math.pi * distance / 4.0) + 1)
            sums[target] += (block.conv.lin1.weight @ hidden[source]) * filters * window
        convolved = sums @ block.conv.lin2.weight.T + block.conv.lin2.bias
        hidden = hidden + shifted_softplus(convolved) @ block.lin.weight.T + block.lin.bias
    first, _, last = model.head
    return shifted_softplus(hidden @ first.weight.T + first.bias) @ last.weight.T + last.bias


@pytest.fixture
def graph() -> Graph:
    """Unequal clouds, with lengths on both sides of the cutoff; some edges go one way."""
    random = clouds(5, 2, 4, fiber=FIBER_IN)
    edges = random.edge_index[:, torch.arange(random.edge_index.shape[1]) % 5 > 0]
    graph = replace(random, positions=2 * random.positions, edge_index=edges, edge_scalars=None)
    length = (graph.positions[graph.source] - graph.positions[graph.target]).norm(dim=-1)
    assert length.min() < 4.0 < length.max()
    return graph


def test_schnet_equals_a_loop_over_edges(graph: Graph):
    model = TestSchNet().model()
    torch.testing.assert_close(model(graph)[0][..., 0], by_hand(model, graph), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("pooling", ["mean", "sum", "max"])
def test_one_output_for_each_cloud_is_pooled_from_those_of_its_nodes(graph: Graph, pooling: str):
    torch.manual_seed(1)
    model = SchNet(FIBER_IN, FIBER_OUT, **SMALL, pooled=True, pooling=pooling).double()
    reduce = {"mean": torch.Tensor.mean, "sum": torch.Tensor.sum, "max": torch.Tensor.amax}[pooling]
    expected = [reduce(by_hand(model, alone(graph, index)), dim=0) for index in range(3)]
    torch.testing.assert_close(model(graph)[0][..., 0], torch.stack(expected), rtol=1e-6, atol=1e-8)


def test_edges_beyond_the_cutoff_are_as_good_as_none(graph: Graph):
    model = TestSchNet().model()
    near = (graph.positions[graph.source] - graph.positions[graph.target]).norm(dim=-1) < 4.0
    cut = replace(graph, edge_index=graph.edge_index[:, near])
    torch.testing.assert_close(model(cut)[0], model(graph)[0])


def test_output_is_continuous_where_a_length_passes_the_cutoff():
    model = TestSchNet().model()
    pair = clouds(2, fiber=FIBER_IN)

    def at(distance: float) -> Tensor:
        return model(replace(pair, positions=torch.tensor([[0.0, 0, 0], [0, 0, distance]]).double()))[0]

    assert (at(3.9) - at(4.5)).abs().max() > 1e-6
    torch.testing.assert_close(at(4 - 1e-6), at(4 + 1e-6), rtol=0, atol=1e-9)
    assert torch.equal(at(4.5), at(50.0))


def test_edge_vectors_stand_in_for_differences_of_positions(graph: Graph):
    model = TestSchNet().model()
    vectors = graph.positions[graph.source] - graph.positions[graph.target]
    elsewhere = replace(graph, positions=torch.zeros_like(graph.positions), edge_vectors=vectors)
    torch.testing.assert_close(model(elsewhere)[0], model(graph)[0])


def test_an_empty_cloud_has_a_finite_output_and_gradients():
    model = SchNet(FIBER_IN, FIBER_OUT, **SMALL, pooled=True, pooling="mean").double()
    output = model(clouds(3, 0, 2, fiber=FIBER_IN))[0]
    assert output.shape == (3, 2, 1)
    assert output.isfinite().all()
    output.square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_equal_seeds_give_equal_models_and_outputs(graph: Graph):
    outputs = []
    for _ in range(2):
        torch.manual_seed(3)
        outputs.append(SchNet(FIBER_IN, FIBER_OUT, **SMALL).double()(graph)[0])
    assert torch.equal(*outputs)


def test_layers_begin_as_those_of_schnet_do():
    """Glorot's uniform weights and biases of zero, but for the embedding, which is torch's."""
    model = SchNet(FIBER_IN, FIBER_OUT)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert name.startswith("embedding") or not parameter.any(), name
        elif not name.startswith("embedding"):
            bound = math.sqrt(6 / sum(parameter.shape))
            assert 0.9 * bound < parameter.abs().max() <= bound, name


@pytest.mark.parametrize("pooled", [False, True])
def test_configuration_decides_the_sizes(pooled: bool):
    config = SchNetModel(channels=10, num_filters=7, num_layers=3, num_gaussians=4, cutoff=6.0, pooling="sum")
    model = build_model(config, fiber_in=FIBER_IN, fiber_out=FIBER_OUT, num_edge_scalars=4, pooled=pooled)
    assert isinstance(model, SchNet)
    assert len(model.blocks) == 3
    assert model.embedding.weight.shape == (10, 3)
    assert model.blocks[2].mlp[0].weight.shape == (7, 4)
    assert [layer.weight.shape for layer in (model.head[0], model.head[2])] == [(5, 10), (2, 5)]
    torch.testing.assert_close(model.gaussians.offset, torch.tensor([0.0, 2, 4, 6]))
    assert model.blocks[0].conv.cutoff == model.cutoff == 6.0
    assert (model.pooling.reduce if model.pooling else None) == ("sum" if pooled else None)
    assert "3x0 -> 2x0, channels=10, num_filters=7, num_layers=3, num_gaussians=4, cutoff=6.0" in repr(model)


def test_a_single_channel_is_enough():
    model = SchNet(FIBER_IN, FIBER_OUT, channels=1, num_filters=1, num_layers=1)
    FIBER_OUT.check(model(clouds(2, dtype=torch.float32, fiber=FIBER_IN)))


@pytest.mark.parametrize(
    ("fiber_in", "fiber_out", "words"),
    [
        (Fiber("3x0+1x1"), FIBER_OUT, r"model=schnet reads scalars \(type 0\) alone, not 3x0\+1x1: choose another"),
        (Fiber("1x1"), FIBER_OUT, "reads scalars"),
        (FIBER_IN, Fiber("2x1"), "predicts scalars .type 0. alone, not 2x1"),
    ],
)
def test_other_types_than_scalars_are_refused(fiber_in: Fiber, fiber_out: Fiber, words: str):
    with pytest.raises(UserError, match=words):
        SchNet(fiber_in, fiber_out)


@pytest.mark.parametrize(
    "setting", [{"channels": 0}, {"num_filters": 0}, {"num_layers": 0}, {"num_gaussians": 1}, {"cutoff": 0.0}]
)
def test_impossible_sizes_are_refused(setting: dict[str, float]):
    with pytest.raises(UserError, match=next(iter(setting))):
        SchNet(FIBER_IN, FIBER_OUT, **setting)


def test_an_unknown_pooling_is_refused():
    with pytest.raises(UserError, match="pooling=median: unknown"):
        SchNet(FIBER_IN, FIBER_OUT, pooled=True, pooling="median")
