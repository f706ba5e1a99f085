"""Models made of layers of the released codes keep the contract of all models."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from se3t.compat.models import model_from_arguments
from se3t.errors import UserError
from se3t.fiber import Fiber
from se3t.models.se3_transformer import SE3Transformer
from se3t.models.tfn import TFN
from se3t.nn import EquivariantConv, SE3AttentionBlock
from se3t.nn.kernels import get_kernel
from se3t.testing import ModelContract


class _Released(ModelContract):
    name = "se3_transformer"
    arguments: dict[str, Any]

    def make_model(self) -> nn.Module:
        fibers = {"fiber_in": repr(self.fiber_in), "fiber_out": repr(self.fiber_out)}
        edges = {"fiber_edge": repr(self.fiber_edge), "num_edge_scalars": self.num_edge_scalars}
        return model_from_arguments(self.name, {**fibers, **edges, **self.arguments})


class TestSoftmaxAndConvolution(_Released):
    """As for QM9: attentive self-interaction with softmax, convolution as last layer, maximum, regression head."""

    fiber_in, fiber_out, num_edge_scalars = Fiber("3x0"), Fiber("1x0"), 2
    arguments = {  # noqa: RUF012
        "fiber_hidden": "4x0+4x1+4x2",
        "num_layers": 3,
        "num_heads": 2,
        "self_interaction": "attentive_softmax",
        "norm": "layer",
        "relative_position": "to_target",
        "last": "convolution",
        "fiber_last": "4x0",
        "pooling": "max",
        "head": True,
        "layer_options": [{}, {}, {"reduce": "mean", "self_interaction": "per_edge"}],
    }


class TestAddedEdgeFeatures(_Released):
    """Relative positions added to the features, values of their own types, no constant in the kernel of scalars."""

    fiber_in, fiber_out, fiber_edge = Fiber("2x0+2x1"), Fiber("3x0+2x1"), Fiber("1x1")
    arguments = {  # noqa: RUF012
        "fiber_hidden": "3x0+2x1",
        "num_layers": 2,
        "relative_position": "to_source",
        "edge_mode": "add",
        "norm": "bias",
        "norm_options": {"min_norm": 1e-12},
        "scalar_constant": False,
        "layer_options": [{"fiber_value": "2x0+1x1+1x2"}, {"num_heads": 1}],
    }


class TestSelfTermPerEdge(_Released):
    """Self term per edge, relative positions as edge features, maximum over the cloud, regression head."""

    name = "tfn"
    fiber_in, fiber_out, num_edge_scalars = Fiber("3x0"), Fiber("2x0"), 1
    arguments = {  # noqa: RUF012
        "fiber_hidden": "4x0+3x1+2x2",
        "num_layers": 3,
        "relative_position": "to_target",
        "norm": "layer",
        "norm_options": {"num_layers": 1},
        "self_interaction": "per_edge",
        "self_interaction_bias": True,
        "reduce": "mean",
        "fiber_last": "5x0",
        "pooling": "max",
        "head": True,
    }


class TestMixedMessages(_Released):
    """Mixed messages, edge features of shared degrees, mean over the cloud of more than type 0."""

    name = "tfn"
    fiber_in, fiber_out, fiber_edge = Fiber("2x0+1x1"), Fiber("1x0+2x1"), Fiber("1x1+1x2")
    arguments = {  # noqa: RUF012
        "fiber_hidden": "3x0+2x1",
        "num_layers": 2,
        "edge_mode": "cat_shared",
        "self_interaction": "message",
        "pooling": "mean",
        "layer_options": [{"share_radial": "full"}, {"share_radial": "degree_in", "radial_layer_norm": False}],
    }


SMALL = {"fiber_in": "2x0", "fiber_hidden": "4x0+2x1", "fiber_out": "1x0", "num_layers": 2}


def test_a_convolution_as_last_layer_takes_over_what_it_has() -> None:
    """Heads and skips are not for it; radial networks, kernel and its own options are."""
    common = {"last": "convolution", "num_heads": 1, "skip": "sum", "radial_hidden": 8, "kernel": "vectorised"}
    model = model_from_arguments("se3_transformer", {**SMALL, **common, "layer_options": [{}, {"reduce": "mean"}]})
    assert isinstance(model, SE3Transformer)
    first, last = model.layers
    assert isinstance(first, SE3AttentionBlock)
    assert isinstance(last, EquivariantConv)
    assert last.reduce == "mean"
    assert last.radial.hidden == first.value_key[0].radial.hidden == 8  # type: ignore[union-attr]
    assert last.kernel is get_kernel("vectorised")


def test_a_model_is_made_from_plain_arguments() -> None:
    """As a file holds them: fibers as words, also those of single layers."""
    arguments = {**SMALL, "fiber_out": "1x1", "layer_options": [{"fiber_value": "2x0+1x1+2x5"}, {"fiber_value": "3x1"}]}
    model = model_from_arguments("se3_transformer", arguments)
    assert isinstance(model, SE3Transformer)
    assert model.fiber_hidden == Fiber("4x0+2x1")
    assert model.layers[1].attention.fiber_value == Fiber("3x1")  # type: ignore[union-attr]
    assert model.max_degree == 5  # the degrees of values count
    assert arguments["fiber_in"] == "2x0"
    assert isinstance(model_from_arguments("tfn", SMALL), TFN)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"last": "pooling"}, ValueError, "last='pooling': expected attention or convolution"),
        ({"layer_options": [{}]}, ValueError, "layer_options: expected one mapping for each of 2 layers, got 1"),
        ({"pooling": "median"}, ValueError, "pooling 'median': expected mean, sum or max"),
        ({"fiber_last": "2x1"}, ValueError, "1x0 is not a part of the last layer's 2x1"),
        ({"skip": "residual"}, ValueError, "skip='residual': expected cat or sum"),
        ({"heads": 2}, TypeError, "heads"),
    ],
)
def test_what_cannot_be_is_refused(arguments: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        model_from_arguments("se3_transformer", {**SMALL, **arguments})


def test_another_name_is_refused() -> None:
    with pytest.raises(UserError, match="no model is called 'se3' in a released code; known: se3_transformer, tfn"):
        model_from_arguments("se3", SMALL)
