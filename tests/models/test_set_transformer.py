from __future__ import annotations

import pytest
import torch
from torch import nn

from se3t.config import SetTransformerModel
from se3t.errors import UserError
from se3t.fiber import Fiber
from se3t.models import build_model
from se3t.models.set_transformer import (
    AttentionPooling,
    InducedSetAttentionBlock,
    MultiheadAttentionBlock,
    SetTransformer,
)
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
        return SetTransformer(FIBER_IN, FIBER_OUT, width=16, num_layers=2, pooled=True, pooling="max")


class TestSetTransformerMean(TestSetTransformer):
    """One scalar for each cloud, by a mean."""

    fiber_out = Fiber("1x0")

    def make_model(self) -> SetTransformer:
        return SetTransformer(
            FIBER_IN, self.fiber_out, width=16, num_layers=2, layer_norm=True, pooled=True, pooling="mean"
        )


class TestSetTransformerInduced(TestSetTransformer):
    """Attention by way of inducing points, one output for each point."""

    def make_model(self) -> SetTransformer:
        return SetTransformer(FIBER_IN, FIBER_OUT, width=16, num_layers=2, num_inducing=3, layer_norm=True)


class TestSetTransformerAttentionPooling(TestSetTransformer):
    """Inducing points and several seeds, one set of scalars for each cloud: the model of Lee et al."""

    fiber_out = Fiber("4x0")

    def make_model(self) -> SetTransformer:
        sizes = {"width": 16, "num_layers": 2, "num_inducing": 3, "num_seeds": 2}
        return SetTransformer(FIBER_IN, self.fiber_out, pooled=True, pooling="attention", **sizes)


class TestSetTransformerOneSeed(TestSetTransformer):
    """All points attend to all; one seed, whose attention to itself has nothing to choose."""

    def make_model(self) -> SetTransformer:
        return SetTransformer(
            FIBER_IN, FIBER_OUT, width=16, num_layers=2, layer_norm=True, pooled=True, pooling="attention"
        )


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
    model = SetTransformer(
        FIBER_IN, Fiber("3x0"), width=8, num_layers=2, num_heads=2, pooled=True, pooling=pooling
    ).double()
    graph = clouds(5, 2, 4)
    reduce = {"mean": torch.Tensor.mean, "sum": torch.Tensor.sum, "max": torch.Tensor.amax}[pooling]
    for index, output in enumerate(model(graph)[0]):
        features = alone(graph, index).features
        points = model.embedding(torch.cat([features[degree].flatten(1) for degree in (0, 1)], dim=1))[None]
        for block in model.blocks:
            points = block(points)
        torch.testing.assert_close(output[:, 0], model.head(reduce(points[0], dim=0)))


def attended(block: MultiheadAttentionBlock, queries: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """The equations of the MAB for one cloud, query by query and head by head."""
    width, heads = queries.shape[1], block.num_heads
    size = width // heads
    pairs = block.key_value(points).view(len(points), heads, 2, size)
    key, value = pairs[:, :, 0], pairs[:, :, 1]
    query = block.query(queries)
    rows = []
    for row, own in zip(query, queries, strict=True):
        parts = []
        for head in range(heads):
            logits = torch.stack([row[head * size : (head + 1) * size] @ one[head] for one in key]) / width**0.5
            weights = logits.exp() / logits.exp().sum()
            parts.append(sum(weight * one[head] for weight, one in zip(weights, value, strict=True)))
        hidden = block.attention_norm(own + block.output(torch.cat(parts)))
        rows.append(block.output_norm(hidden + block.feed_forward(hidden)))
    return torch.stack(rows)


@pytest.mark.parametrize("layer_norm", [False, True])
def test_inducing_points_and_seeds_are_their_formulas_on_every_cloud(layer_norm: bool):
    induced = InducedSetAttentionBlock(6, 2, 3, layer_norm=layer_norm).double()
    pooling = AttentionPooling(6, 3, 2, layer_norm=layer_norm).double()
    points = torch.randn(2, 5, 6).double()
    for cloud, spread, pooled in zip(points, induced(points), pooling(points), strict=True):
        found = attended(induced.gather, induced.inducing, cloud)
        torch.testing.assert_close(spread, attended(induced.spread, cloud, found))
        seeds = attended(pooling.pool, pooling.seeds, pooling.feed_forward(cloud))
        torch.testing.assert_close(pooled, attended(pooling.block.block, seeds, seeds))


@pytest.mark.parametrize("sizes", [(4, 4), (5, 2, 3), (3, 0, 1)])
@pytest.mark.parametrize("num_inducing", [0, 3])
@pytest.mark.parametrize("pooling", [None, "attention"])
def test_padding_is_not_seen(sizes: tuple[int, ...], num_inducing: int, pooling: str | None):
    settings = {"width": 8, "num_layers": 2, "num_heads": 2, "num_inducing": num_inducing, "num_seeds": 2}
    settings |= {"pooled": True, "pooling": pooling} if pooling else {}
    model = SetTransformer(FIBER_IN, FIBER_OUT, **settings).double()
    graph = clouds(*sizes)
    output = model(graph)[1]
    for index, size in enumerate(sizes):
        rows = output[graph.batch == index] if pooling is None else output[index : index + 1]
        if size:
            torch.testing.assert_close(rows, model(alone(graph, index))[1])


def test_the_head_reads_all_seeds_and_every_point_reaches_it():
    model = SetTransformer(
        FIBER_IN, FIBER_OUT, width=8, num_inducing=2, pooled=True, pooling="attention", num_seeds=3
    ).double()
    assert model.head[0].weight.shape == (8, 24)
    graph = clouds(5)
    graph.features[1].requires_grad_()
    (gradient,) = torch.autograd.grad(model(graph)[1].sum(), graph.features[1])
    assert gradient.abs().flatten(1).sum(dim=1).min() > 0
    for rows in (model.pooling.seeds, model.blocks[0].inducing):
        assert len(rows.unique(dim=0)) == len(rows)  # equal rows would stay equal


def test_without_the_new_settings_names_and_numbers_are_as_ever():
    """A checkpoint of a model without inducing points and seeds holds the same names; the first draws are the same."""
    torch.manual_seed(0)
    model = SetTransformer(FIBER_IN, FIBER_OUT, width=8, num_layers=1)
    names = ["query", "key_value", "output", "feed_forward.0"]
    expected = [f"blocks.0.block.{name}" for name in names] + ["embedding", "head.0", "head.2"]
    assert [*model.state_dict()] == [f"{name}.{part}" for name in expected for part in ("weight", "bias")]
    torch.manual_seed(0)
    for layer in (model.blocks[0].block.query, model.blocks[0].block.key_value):
        assert torch.equal(layer.weight, nn.Linear(layer.in_features, layer.out_features).weight)


@pytest.mark.parametrize("pooled", [False, True])
def test_configuration_decides_inducing_points_and_seeds(pooled: bool):
    config = SetTransformerModel(width=8, num_layers=2, num_inducing=3, pooling="attention", num_seeds=5)
    model = build_model(config, fiber_in=FIBER_IN, fiber_out=FIBER_OUT, num_edge_scalars=1, pooled=pooled)
    assert [len(block.inducing) for block in model.blocks] == [3, 3]
    assert isinstance(model.pooling, AttentionPooling) == pooled
    assert not pooled or len(model.pooling.seeds) == 5


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
@pytest.mark.parametrize("num_inducing", [0, 3])
@pytest.mark.parametrize("pooling", [None, "mean", "max", "attention"])
def test_empty_cloud_has_finite_gradients(layer_norm: bool, num_inducing: int, pooling: str | None):
    pooled = {"pooled": True, "pooling": pooling} if pooling else {}
    model = SetTransformer(FIBER_IN, FIBER_OUT, layer_norm=layer_norm, num_inducing=num_inducing, **pooled).double()
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
    with pytest.raises(UserError, match="num_heads=5: must divide width=64"):
        SetTransformer(FIBER_IN, FIBER_OUT, num_heads=5)
    with pytest.raises(UserError, match="num_layers=0 is out of range: it must be 1 or more"):
        SetTransformer(FIBER_IN, FIBER_OUT, num_layers=0)
    with pytest.raises(UserError, match="num_inducing=-1 is out of range: it must be 0 or more"):
        SetTransformer(FIBER_IN, FIBER_OUT, num_inducing=-1)
    with pytest.raises(UserError, match="num_seeds=0 is out of range"):
        SetTransformer(FIBER_IN, FIBER_OUT, pooled=True, pooling="attention", num_seeds=0)


def test_an_unknown_pooling_is_refused():
    with pytest.raises(UserError, match="pooling=median: unknown"):
        SetTransformer(FIBER_IN, FIBER_OUT, pooled=True, pooling="median")
