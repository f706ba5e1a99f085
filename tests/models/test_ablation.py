from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from se3t.config import SE3TransformerModel
from se3t.fiber import Fiber
from se3t.models import ABLATIONS, build_model, model_class
from se3t.models.se3_transformer import SE3Transformer
from se3t.testing import ModelContract

SMALL = {"num_layers": 2, "num_degrees": 3, "channels": 4, "channels_div": 2, "num_heads": 2}


class _Ablation(ModelContract):
    fiber_in, fiber_out, fiber_edge, num_edge_scalars = Fiber("1x0+2x1"), Fiber("1x0+2x1"), Fiber("1x1"), 1
    ablation: str

    def make_model(self) -> SE3Transformer:
        return build_model(
            SE3TransformerModel(ablation=self.ablation, **SMALL),
            fiber_in=self.fiber_in,
            fiber_out=self.fiber_out,
            num_edge_scalars=1,
            fiber_edge=self.fiber_edge,
        )


class TestWithoutAttention(_Ablation):
    ablation = "attention"


class TestWithoutRadialNetworks(_Ablation):
    ablation = "radial"


class TestWithoutEquivariance(_Ablation):
    ablation = "equivariance"
    holds = frozenset({"translation", "permutation"})
    breaks = frozenset({"rotation", "reflection"})


@pytest.mark.parametrize("name", ["none", *ABLATIONS])
def test_the_configuration_chooses_what_is_taken_out(name: str) -> None:
    model = build_model(
        SE3TransformerModel(ablation=name, **SMALL),
        fiber_in=Fiber("1x1"),
        fiber_out=Fiber("1x0"),
        num_edge_scalars=0,
        pooled=True,
    )
    assert type(model) is model_class("se3_transformer", name)
    assert model.ablation == name
    assert model.fiber_in == Fiber("1x1")


def _model(name: str) -> SE3Transformer:
    torch.manual_seed(0)
    settings = SE3TransformerModel(ablation=name, num_layers=2, num_degrees=2, channels=4, channels_div=1)
    fibers = {"fiber_in": Fiber("2x0"), "fiber_out": Fiber("1x0+1x1")}
    return build_model(settings, **fibers, num_edge_scalars=1).double()


def test_without_attention_messages_are_averaged() -> None:
    """The model with attention and the weights of the one without agrees once all its queries are zero."""
    graph = TestWithoutAttention().graph()
    graph = replace(graph, features={0: graph.features[0].expand(-1, 2, 1)}, edge_features={})
    without, full = _model("attention"), _model("none")
    full.load_state_dict(without.state_dict())
    assert (without(graph)[1] - full(graph)[1]).abs().max() > 1e-4
    for layer in full.layers:
        for parameter in layer.query.parameters():
            torch.nn.init.zeros_(parameter)
    torch.testing.assert_close(without(graph), full(graph))


def test_without_radial_networks_only_directions_matter() -> None:
    graph = TestWithoutRadialNetworks().graph()
    graph = replace(graph, features={0: graph.features[0].expand(-1, 2, 1)}, edge_features={})
    other = replace(graph, positions=3 * graph.positions, edge_scalars=torch.randn_like(graph.edge_scalars))
    without, full = _model("radial"), _model("none")
    torch.testing.assert_close(without(other), without(graph))
    assert (full(other)[1] - full(graph)[1]).abs().max() > 1e-3


def test_without_equivariance_there_are_as_many_channels_all_of_type_0() -> None:
    assert _model("equivariance").fiber_hidden == Fiber("8x0")
