from __future__ import annotations

import pytest
import torch

from se3t.config import SE3TransformerModel
from se3t.fiber import Fiber
from se3t.models import build_model
from se3t.models.se3_transformer import SE3Transformer
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


def test_a_single_degree_goes_in_through_and_out() -> None:
    model = SE3Transformer(Fiber("2x1"), Fiber("4x1"), Fiber("1x1"), num_layers=2)
    assert model.max_degree == 1


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
