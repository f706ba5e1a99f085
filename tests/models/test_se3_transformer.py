from __future__ import annotations

import pytest
import torch
from torch import nn

from se3t.config import SE3TransformerModel
from se3t.errors import UserError
from se3t.fiber import Fiber
from se3t.models import build_model, model_from_arguments
from se3t.models.se3_transformer import SE3Transformer
from se3t.nn import EquivariantConv, RadialNetwork, SE3AttentionBlock
from se3t.nn.kernels import get_kernel
from se3t.testing import ModelContract

HIDDEN = Fiber("4x0+3x1+2x2")


class TestSE3Transformer(ModelContract):
    """As Table 1 uses it, in small: attentive self-interaction, fused keys and values, edge-frame kernel."""

    fiber_in, fiber_out, num_edge_scalars = Fiber("1x0+2x1"), Fiber("2x1"), 1

    def make_model(self) -> SE3Transformer:
        return SE3Transformer(
            self.fiber_in,
            Fiber.uniform(4, 4),
            self.fiber_out,
            num_edge_scalars=1,
            num_layers=3,
            num_heads=2,
            channels_div=2,
            self_interaction="attentive",
        )


class TestSE3TransformerLayerNorm(ModelContract):
    """Unequal channels, LayerNorm on norms, sum skip, vector edge features, vectorised kernel."""

    fiber_in, fiber_out, fiber_edge = Fiber("3x0"), Fiber("2x0+1x1"), Fiber("1x1")

    def make_model(self) -> SE3Transformer:
        return SE3Transformer(
            self.fiber_in,
            HIDDEN,
            self.fiber_out,
            fiber_edge=self.fiber_edge,
            num_layers=2,
            norm="layer",
            skip="sum",
            fuse_key_value=False,
            kernel="vectorised",
            share_radial="full",
        )


class TestSE3TransformerPooled(ModelContract):
    """As for QM9: attentive self-interaction with softmax, convolution as last layer, maximum, regression head."""

    fiber_in, fiber_out, num_edge_scalars = Fiber("3x0"), Fiber("1x0"), 2

    def make_model(self) -> SE3Transformer:
        return SE3Transformer(
            self.fiber_in,
            Fiber.uniform(3, 4),
            self.fiber_out,
            num_edge_scalars=2,
            num_layers=3,
            num_heads=2,
            self_interaction="attentive_softmax",
            norm="layer",
            relative_position="to_target",
            last="convolution",
            fiber_last=Fiber("4x0"),
            pooling="max",
            head=True,
        )


class TestSE3TransformerResidual(ModelContract):
    """Residual skip, relative positions added to the features, values of their own types."""

    fiber_in, fiber_out, fiber_edge = Fiber("2x0+2x1"), Fiber("3x0+2x1"), Fiber("1x1")

    def make_model(self) -> SE3Transformer:
        return SE3Transformer(
            self.fiber_in,
            Fiber("3x0+2x1"),
            self.fiber_out,
            fiber_edge=self.fiber_edge,
            num_layers=2,
            relative_position="to_source",
            edge_mode="add",
            skip="residual",
            norm="bias",
            norm_options={"min_norm": 1e-12},
            scalar_constant=False,
            layer_options=[{"fiber_value": Fiber("2x0+1x1+1x2")}, {"num_heads": 1}],
        )


class TestSE3TransformerLowMemory(ModelContract):
    """Radial weights made chunk by chunk, one radial network for all pairs of degrees."""

    fiber_in, fiber_out, num_edge_scalars = Fiber("1x0+2x1"), Fiber("2x1"), 1

    def make_model(self) -> SE3Transformer:
        return SE3Transformer(
            self.fiber_in,
            HIDDEN,
            self.fiber_out,
            num_edge_scalars=1,
            num_layers=2,
            share_radial="full",
            memory="low",
        )


class TestSE3TransformerParity(ModelContract):
    """Paths of natural parity alone: reflection is a symmetry, too."""

    fiber_in, fiber_out, fiber_edge, num_edge_scalars = Fiber("1x0+2x1"), Fiber("1x0+2x1"), Fiber("1x1"), 1
    holds, breaks = ModelContract.SE3 | {"reflection"}, frozenset()

    def make_model(self) -> nn.Module:
        config = SE3TransformerModel(num_layers=3, channels=4, parity=True)
        fibers = {"fiber_in": self.fiber_in, "fiber_out": self.fiber_out, "fiber_edge": self.fiber_edge}
        return build_model(config, **fibers, num_edge_scalars=1)


@pytest.mark.parametrize("parity", [False, True])
@pytest.mark.parametrize("last", ["convolution", "attention"])
def test_the_configuration_decides_the_parity_of_every_layer(last: str, parity: bool) -> None:
    config = SE3TransformerModel(num_layers=2, parity=parity, last=last, fuse_key_value=False)
    fibers = {"fiber_in": Fiber("2x0"), "fiber_out": Fiber("1x0")}
    model = build_model(config, **fibers, num_edge_scalars=0, pooled=True)
    networks = [part for part in model.modules() if isinstance(part, RadialNetwork)]
    assert len(networks) == (5 if last == "convolution" else 6)
    assert {network.parity for network in networks} == {parity}


def test_a_convolution_as_last_layer_takes_over_what_it_has() -> None:
    """Heads and skips are not for it; radial networks, kernel and its own options are."""
    model = SE3Transformer(
        Fiber("2x0"),
        HIDDEN,
        Fiber("1x0"),
        num_layers=2,
        last="convolution",
        num_heads=1,
        skip="sum",
        radial_hidden=8,
        kernel="vectorised",
        layer_options=[{}, {"reduce": "mean"}],
    )
    first, last = model.layers
    assert isinstance(first, SE3AttentionBlock)
    assert isinstance(last, EquivariantConv)
    assert last.reduce == "mean"
    assert last.radial.hidden == first.value_key[0].radial.hidden == 8  # type: ignore[union-attr]
    assert last.kernel is get_kernel("vectorised")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"last": "pooling"}, "last='pooling': expected attention or convolution"),
        ({"relative_position": "cat"}, "relative_position='cat': expected none, to_source or to_target"),
        ({"layer_options": [{}]}, "layer_options: expected one mapping for each of 2 layers, got 1"),
        ({"pooling": "median"}, "pooling 'median': expected mean, sum or max"),
        ({"fiber_last": Fiber("2x1")}, "1x0 is not a part of the last layer's 2x1"),
    ],
)
def test_an_option_that_cannot_be_is_refused_when_built(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SE3Transformer(Fiber("2x0"), HIDDEN, Fiber("1x0"), num_layers=2, **options)  # type: ignore[arg-type]


def test_a_model_is_made_from_plain_arguments() -> None:
    """As a file holds them: fibers as words, also those of single layers."""
    arguments = {
        "fiber_in": "2x0",
        "fiber_hidden": "4x0+2x1",
        "fiber_out": "1x1",
        "num_layers": 2,
        "layer_options": [{"fiber_value": "2x0+2x1"}, {"fiber_value": "3x1"}],
    }
    model = model_from_arguments("se3_transformer", arguments)
    assert isinstance(model, SE3Transformer)
    assert model.fiber_hidden == Fiber("4x0+2x1")
    assert model.layers[1].attention.fiber_value == Fiber("3x1")  # type: ignore[union-attr]
    assert arguments["fiber_in"] == "2x0"
    with pytest.raises(UserError, match="no model is called 'se3'"):
        model_from_arguments("se3", arguments)


def test_a_single_degree_goes_in_through_and_out() -> None:
    model = SE3Transformer(Fiber("2x1"), Fiber("4x1"), Fiber("1x1"), num_layers=2)
    assert model.max_degree == 1


def test_the_degrees_of_values_count() -> None:
    own = [{"fiber_value": Fiber("2x0+1x1+2x5")}, {}]
    model = SE3Transformer(Fiber("2x0"), Fiber("4x0+2x1"), Fiber("1x0"), num_layers=2, layer_options=own)
    assert model.max_degree == 5


def test_number_of_layers_counts_the_output_block() -> None:
    model = SE3Transformer(Fiber("1x0"), HIDDEN, Fiber("1x1"), num_layers=1)
    assert len(model.layers) == 1
    assert len(model.norms) == 0
    with pytest.raises(ValueError, match="num_layers=0: expected at least 1"):
        SE3Transformer(Fiber("1x0"), HIDDEN, Fiber("1x1"), num_layers=0)


def test_configuration_decides_the_sizes() -> None:
    config = SE3TransformerModel(num_layers=3, num_degrees=2, channels=6, channels_div=3, num_heads=2)
    model = build_model(config, fiber_in=Fiber("1x0+2x1"), fiber_out=Fiber("2x1"), num_edge_scalars=1, horizon=1.0)
    assert isinstance(model, SE3Transformer)
    assert model.fiber_hidden == Fiber("6x0+6x1")
    assert model.layers[1].attention.fiber_value == Fiber("2x0+2x1")  # type: ignore[union-attr]
    names = [type(module).__name__ for module in model.modules()]
    assert names.count("SE3AttentionBlock") == 3
    assert names.count("NormNonlinearity") == 2


def test_same_seed_gives_the_same_model() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        states.append(SE3Transformer(Fiber("1x0"), HIDDEN, Fiber("1x1"), num_layers=2).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
