from __future__ import annotations

import pytest
import torch
from torch import nn

from se3t.config import SetTransformerModel
from se3t.errors import UserError
from se3t.fiber import Fiber
from se3t.models import build_model
from se3t.models.set_transformer import MultiheadAttentionBlock, SetTransformer
from se3t.testing import ModelContract

from .clouds import FIBER_IN, FIBER_OUT, alone, clouds


class TestSetTransformer(ModelContract):
    """No geometry: a permutation is the only symmetry besides the translation that centred inputs do not see."""

    fiber_in, fiber_out, num_edge_scalars = FIBER_IN, FIBER_OUT, 1
    holds, breaks = frozenset({"translation", "permutation"}), frozenset({"rotation", "reflection"})
    is_local = False

    def make_model(self) -> SetTransformer:
        return SetTransformer(FIBER_IN, FIBER_OUT, layer_norm=False)


class TestSetTransformerWithLayerNorm(ModelContract):
    """No geometry: a permutation is the only symmetry besides the translation that centred inputs do not see."""

    fiber_in, fiber_out, num_edge_scalars = FIBER_IN, FIBER_OUT, 1
    holds, breaks = frozenset({"translation", "permutation"}), frozenset({"rotation", "reflection"})
    is_local = False

    def make_model(self) -> SetTransformer:
        return SetTransformer(FIBER_IN, FIBER_OUT, layer_norm=True)


class TestSetTransformerPooled(TestSetTransformer):
    """One output for each cloud; its components are plain numbers here too."""

    def make_model(self) -> SetTransformer:
        return SetTransformer(FIBER_IN, FIBER_OUT, width=16, num_layers=2, pooling="max")


class TestSetTransformerMean(TestSetTransformer):
    """One scalar for each cloud, by a mean."""

    fiber_out = Fiber("1x0")

    def make_model(self) -> SetTransformer:
        return SetTransformer(FIBER_IN, self.fiber_out, width=16, num_layers=2, layer_norm=True, pooling="mean")


@pytest.fixture
def model() -> SetTransformer:
    return SetTransformer(FIBER_IN, FIBER_OUT, layer_norm=True).double()


def test_attention_agrees_with_torchs_own_up_to_the_scale():
    """``nn.MultiheadAttention`` divides by √(width/heads), Lee et al. by √width; the queries make up for it."""
    width, heads = 12, 3
    ours = MultiheadAttentionBlock(width, heads).double()
    theirs = nn.MultiheadAttention(width, heads, batch_first=True).double()
    key_value = ours.key_value.weight.unflatten(0, (heads, 2, -1))  # heads hold their keys and values side by side
    bias = ours.key_value.bias.unflatten(0, (heads, 2, -1))
    scale = heads**-0.5
    theirs.in_proj_weight.data = torch.cat(
        (ours.query.weight * scale, key_value[:, 0].flatten(0, 1), key_value[:, 1].flatten(0, 1))
    )
    theirs.in_proj_bias.data = torch.cat((ours.query.bias * scale, bias[:, 0].flatten(), bias[:, 1].flatten()))
    theirs.out_proj.load_state_dict(ours.output.state_dict())
    queries, points = torch.randn(2, 4, width).double(), torch.randn(2, 6, width).double()
    mask = torch.rand(2, 6) > 0.4
    mask[:, 0] = True
    expected = theirs(queries, points, points, key_padding_mask=~mask, need_weights=False)[0]
    torch.testing.assert_close(ours.output(ours._attend(queries, points, mask)), expected)


def test_block_is_its_formula():
    block = MultiheadAttentionBlock(8, 2, layer_norm=True).double()
    points = torch.randn(3, 5, 8).double()
    hidden = block.attention_norm(points + block.output(block._attend(points, points, None)))
    torch.testing.assert_close(block(points, points), block.output_norm(hidden + block.feed_forward(hidden)))


def test_set_transformer_has_the_sizes_of_the_paper(model: SetTransformer):
    assert len(model.blocks) == 4
    assert {(block.block.query.out_features, block.block.num_heads) for block in model.blocks} == {(64, 4)}


def test_a_mask_of_all_points_changes_nothing():
    block = MultiheadAttentionBlock(8, 2).double()
    points = torch.randn(3, 5, 8).double()
    assert torch.equal(block(points, points), block(points, points, torch.ones(3, 5, dtype=torch.bool)))


@pytest.mark.parametrize("sizes", [(4, 4), (5, 2, 3), (3, 0, 1)])
def test_set_transformer_treats_clouds_of_a_batch_apart(model: SetTransformer, sizes: tuple[int, ...]):
    graph = clouds(*sizes)
    for index, size in enumerate(sizes):
        if size:
            torch.testing.assert_close(model(graph)[1][graph.batch == index], model(alone(graph, index))[1])


@pytest.mark.parametrize("pooling", ["mean", "sum", "max"])
def test_one_output_for_each_cloud_is_the_head_of_what_is_pooled(pooling: str):
    model = SetTransformer(FIBER_IN, Fiber("3x0"), width=8, num_layers=2, num_heads=2, pooling=pooling).double()
    graph = clouds(5, 2, 4)
    reduce = {"mean": torch.Tensor.mean, "sum": torch.Tensor.sum, "max": torch.Tensor.amax}[pooling]
    for index, output in enumerate(model(graph)[0]):
        features = alone(graph, index).features
        points = model.embedding(torch.cat([features[degree].flatten(1) for degree in (0, 1)], dim=1))[None]
        for block in model.blocks:
            points = block(points)
        torch.testing.assert_close(output[:, 0], model.head(reduce(points[0], dim=0)))


@pytest.mark.parametrize("pooled", [False, True])
def test_configuration_decides_the_sizes(pooled: bool):
    config = SetTransformerModel(width=12, num_layers=2, num_heads=3, layer_norm=True, pooling="sum")
    model = build_model(config, fiber_in=FIBER_IN, fiber_out=FIBER_OUT, num_edge_scalars=1, pooled=pooled)
    assert isinstance(model, SetTransformer)
    assert [block.block.num_heads for block in model.blocks] == [3, 3]
    assert sum(isinstance(layer, nn.LayerNorm) for layer in model.modules()) == 4
    assert model.embedding.weight.shape == (12, 7)
    assert len(model(clouds(3, 2, dtype=torch.float32))[1]) == (2 if pooled else 5)


def test_every_point_attends_to_every_other(model: SetTransformer):
    graph = clouds(5)
    graph.features[1].requires_grad_()
    (gradient,) = torch.autograd.grad(model(graph)[1][0].sum(), graph.features[1])
    assert gradient.abs().flatten(1).sum(dim=1).min() > 0


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("pooling", [None, "mean", "max"])
def test_empty_cloud_has_finite_gradients(layer_norm: bool, pooling: str | None):
    model = SetTransformer(FIBER_IN, FIBER_OUT, layer_norm=layer_norm, pooling=pooling).double()
    model(clouds(3, 0, 2))[1].square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_attention_is_twice_differentiable():
    block = MultiheadAttentionBlock(4, 2).double()
    points = torch.randn(1, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: block.output(block._attend(x, x, None)), (points,))


def test_any_fibers_and_depths():
    fiber_in, fiber_out = Fiber("2x0+1x2"), Fiber("3x0+1x1")
    model = SetTransformer(fiber_in, fiber_out, width=6, num_layers=1, num_heads=3).double()
    fiber_out.check(model(clouds(3, 2, fiber=fiber_in)))
    assert "2x0+1x2 -> 3x0+1x1" in repr(model)


def test_impossible_sizes_are_refused():
    with pytest.raises(UserError, match="num_heads must divide width, got width 64 and num_heads 5"):
        SetTransformer(FIBER_IN, FIBER_OUT, num_heads=5)
    with pytest.raises(UserError, match="num_layers must be at least 1, got 0"):
        SetTransformer(FIBER_IN, FIBER_OUT, num_layers=0)


def test_an_unknown_pooling_is_refused():
    with pytest.raises(ValueError, match="pooling 'median'"):
        SetTransformer(FIBER_IN, FIBER_OUT, pooling="median")
