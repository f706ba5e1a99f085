from __future__ import annotations

import pytest
import torch
from torch import nn

from se3t.config import DeepSetModel
from se3t.errors import UserError
from se3t.fiber import Fiber
from se3t.models import build_model
from se3t.models.deepset import DeepSet
from se3t.testing import ModelContract

from .clouds import FIBER_IN, FIBER_OUT, alone, clouds


class TestDeepSet(ModelContract):
    """No geometry: a permutation is the only symmetry besides the translation that centred inputs do not see."""

    fiber_in, fiber_out, num_edge_scalars = FIBER_IN, FIBER_OUT, 1
    holds, breaks = frozenset({"translation", "permutation"}), frozenset({"rotation", "reflection"})
    is_local = False

    def make_model(self) -> DeepSet:
        return DeepSet(FIBER_IN, FIBER_OUT)


class TestDeepSetPooled(TestDeepSet):
    """One output for each cloud; its components are plain numbers here too."""

    def make_model(self) -> DeepSet:
        return DeepSet(FIBER_IN, FIBER_OUT, width=16, pooled=True, pooling="max")


class TestDeepSetMean(TestDeepSet):
    """One scalar for each cloud, by a mean."""

    fiber_out = Fiber("1x0")

    def make_model(self) -> DeepSet:
        return DeepSet(FIBER_IN, self.fiber_out, width=16, pooled=True, pooling="mean")


@pytest.fixture
def model() -> DeepSet:
    return DeepSet(FIBER_IN, FIBER_OUT).double()


def test_deepset_has_the_layers_of_the_paper(model: DeepSet):
    shapes = [(layer.in_features, layer.out_features) for layer in model.modules() if isinstance(layer, nn.Linear)]
    assert shapes == [(7, 64), (64, 64), (64, 64), (128, 64), (64, 6)]
    assert sum(isinstance(layer, nn.LeakyReLU) for layer in model.modules()) == 4
    assert not isinstance(model.decoder[-1], nn.LeakyReLU)


def test_deepset_agrees_with_its_formula_cloud_by_cloud(model: DeepSet):
    graph = clouds(5, 2, 4)
    output = model(graph)[1]
    for index in range(graph.num_graphs):
        nodes = graph.batch == index
        parts = [graph.features[degree][nodes].flatten(1) for degree in (0, 1)]
        encoded = model.encoder(torch.cat(parts, dim=1))
        pooled = encoded.max(dim=0).values.expand_as(encoded)
        torch.testing.assert_close(output[nodes].flatten(1), model.decoder(torch.cat((encoded, pooled), dim=1)))


@pytest.mark.parametrize("pooling", ["mean", "sum", "max"])
def test_one_output_for_each_cloud_is_decoded_from_what_is_pooled(pooling: str):
    model = DeepSet(FIBER_IN, Fiber("3x0"), width=8, pooled=True, pooling=pooling).double()
    graph = clouds(5, 2, 4)
    reduce = {"mean": torch.Tensor.mean, "sum": torch.Tensor.sum, "max": torch.Tensor.amax}[pooling]
    for index, output in enumerate(model(graph)[0]):
        features = alone(graph, index).features
        encoded = model.encoder(torch.cat([features[degree].flatten(1) for degree in (0, 1)], dim=1))
        torch.testing.assert_close(output[:, 0], model.decoder(reduce(encoded, dim=0)))


@pytest.mark.parametrize("pooled", [False, True])
def test_configuration_decides_the_sizes(pooled: bool):
    config = DeepSetModel(width=10, num_encoder_layers=2, num_decoder_layers=3, pooling="sum")
    model = build_model(config, fiber_in=FIBER_IN, fiber_out=FIBER_OUT, num_edge_scalars=1, pooled=pooled)
    shapes = [(layer.in_features, layer.out_features) for layer in model.modules() if isinstance(layer, nn.Linear)]
    assert shapes == [(7, 10), (10, 10), (10 if pooled else 20, 10), (10, 10), (10, 6)]
    assert len(model(clouds(3, 2, dtype=torch.float32))[1]) == (2 if pooled else 5)


def test_deepset_sees_the_whole_cloud_through_the_maximum(model: DeepSet):
    graph = clouds(5)
    graph.features[1].requires_grad_()
    (gradient,) = torch.autograd.grad(model(graph)[1][0].sum(), graph.features[1])
    assert gradient[1:].abs().max() > 0


@pytest.mark.parametrize("sizes", [(4, 4), (5, 2, 3), (3, 0, 1)])
def test_deepset_treats_clouds_of_a_batch_apart(model: DeepSet, sizes: tuple[int, ...]):
    graph = clouds(*sizes)
    for index, size in enumerate(sizes):
        if size:
            torch.testing.assert_close(model(graph)[1][graph.batch == index], model(alone(graph, index))[1])


def test_empty_cloud_gives_zero_maximum_and_finite_gradients(model: DeepSet):
    graph = clouds(3, 0, 2)
    pooled = model.pooling({0: graph.positions[..., None]}, graph.batch, 3)[0][1, :, 0]
    assert torch.equal(pooled, torch.zeros(3, dtype=torch.float64))
    model(graph)[1].square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("pooling", ["mean", "sum", "max"])
def test_empty_cloud_pools_to_zero_with_finite_gradients(pooling: str):
    model = DeepSet(FIBER_IN, Fiber("1x0"), width=8, pooled=True, pooling=pooling).double()
    output = model(clouds(3, 0, 2))[0]
    torch.testing.assert_close(output[1, :, 0], model.decoder(torch.zeros(8).double()))
    output.square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_any_fibers_and_depths():
    fiber_in, fiber_out = Fiber("2x0+1x2"), Fiber("3x0+1x1")
    model = DeepSet(fiber_in, fiber_out, width=8, num_encoder_layers=1, num_decoder_layers=1).double()
    fiber_out.check(model(clouds(3, 3, fiber=fiber_in)))
    assert "2x0+1x2 -> 3x0+1x1" in repr(model)


@pytest.mark.parametrize("setting", ["width", "num_encoder_layers", "num_decoder_layers"])
def test_impossible_sizes_are_refused(setting: str):
    with pytest.raises(UserError, match=setting):
        DeepSet(FIBER_IN, FIBER_OUT, **{setting: 0})


def test_an_unknown_pooling_is_refused():
    with pytest.raises(UserError, match="pooling=median: unknown"):
        DeepSet(FIBER_IN, FIBER_OUT, pooled=True, pooling="median")
