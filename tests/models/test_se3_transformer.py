from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from se3t.config import SE3TransformerModel
from se3t.fiber import Fiber
from se3t.graph import Graph, fully_connected
from se3t.models import build_model
from se3t.models.se3_transformer import SE3Transformer
from se3t.nn import EquivariantConv, RadialNetwork, SE3AttentionBlock
from se3t.nn.kernels import get_kernel
from se3t.testing import ModelContract

HIDDEN = Fiber("4x0+3x1+2x2")


SMALL = {"num_layers": 2, "channels_div": 1, "num_heads": 1, "self_interaction": "linear"}


class TestSE3Transformer(ModelContract):
    """As Table 1 uses it, in small: attentive self-interaction, fused keys and values, edge-frame kernel."""

    fiber_in, fiber_out, num_edge_scalars = Fiber("1x0+2x1"), Fiber("2x1"), 1

    def make_model(self) -> SE3Transformer:
        settings = SE3TransformerModel(num_layers=3, channels=4, channels_div=2)
        return SE3Transformer(self.fiber_in, self.fiber_out, settings, num_edge_scalars=1)


class TestSE3TransformerLayerNorm(ModelContract):
    """Unequal channels, LayerNorm on norms, sum skip, vector edge features, vectorised kernel."""

    fiber_in, fiber_out, fiber_edge = Fiber("3x0"), Fiber("2x0+1x1"), Fiber("1x1")

    def make_model(self) -> SE3Transformer:
        choices = {"norm": "layer", "skip": "sum", "fuse_key_value": False, "kernel": "vectorised"}
        settings = SE3TransformerModel(**SMALL, **choices, share_radial="full")
        return SE3Transformer(self.fiber_in, self.fiber_out, settings, fiber_hidden=HIDDEN, fiber_edge=self.fiber_edge)


class TestSE3TransformerPooled(ModelContract):
    """As for QM9: attentive self-interaction, convolution as last layer, maximum, regression head."""

    fiber_in, fiber_out, num_edge_scalars = Fiber("3x0"), Fiber("1x0"), 2

    def make_model(self) -> SE3Transformer:
        sizes = {"num_layers": 2, "num_degrees": 3, "channels": 4, "channels_div": 1, "pool_channels": 4}
        return SE3Transformer(
            self.fiber_in,
            self.fiber_out,
            SE3TransformerModel(**sizes, norm="layer"),
            num_edge_scalars=2,
            relative_position="to_target",
            pooled=True,
        )


class TestSE3TransformerAttentionSettings(ModelContract):
    """Every setting of attention away from the published one, Bessel functions of the distance, gates."""

    fiber_in, fiber_out, fiber_edge = Fiber("1x0+2x1"), Fiber("2x0+2x1"), Fiber("1x1")

    def make_model(self) -> SE3Transformer:
        attention = {
            "key_nodes": "both",
            "attention_weights": "sqrt_softmax",
            "logit_scale": "learned",
            "attention_scale": "degree",
        }
        basis = {"radial_basis": "bessel", "radial_functions": 3, "radial_cutoff": 2.0}
        settings = SE3TransformerModel(num_layers=2, channels=4, channels_div=2, norm="gate", **attention, **basis)
        return SE3Transformer(self.fiber_in, self.fiber_out, settings, fiber_edge=self.fiber_edge)


class TestSE3TransformerLowMemory(ModelContract):
    """Radial weights made chunk by chunk, one radial network for all pairs of degrees."""

    fiber_in, fiber_out, num_edge_scalars = Fiber("1x0+2x1"), Fiber("2x1"), 1

    def make_model(self) -> SE3Transformer:
        settings = SE3TransformerModel(**SMALL, share_radial="full", memory="low")
        return SE3Transformer(self.fiber_in, self.fiber_out, settings, fiber_hidden=HIDDEN, num_edge_scalars=1)


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


def test_a_convolution_as_last_layer_has_the_radial_networks_and_the_kernel_of_the_others() -> None:
    settings = SE3TransformerModel(num_layers=1, radial_hidden=16, kernel="vectorised")
    first, last = SE3Transformer(Fiber("2x0"), Fiber("1x0"), settings, pooled=True).layers
    assert isinstance(first, SE3AttentionBlock)
    assert isinstance(last, EquivariantConv)
    assert last.reduce == "sum"
    assert last.radial.hidden == first.value_key[0].radial.hidden == 16  # type: ignore[union-attr]
    assert last.kernel is get_kernel("vectorised")


@pytest.mark.parametrize(
    ("settings", "arguments", "words"),
    [
        ({"last": "pooling"}, {}, "last=pooling: unknown"),
        ({"pooling": "median"}, {}, "pooling=median: unknown"),
        ({"num_layers": 0}, {}, "num_layers=0 is out of range: it must be 1 or more"),
        ({"ablation": "radial"}, {}, "ablation=radial: SE3Transformer is not that model; use build_model"),
        ({}, {"relative_position": "cat"}, "relative_position='cat': expected one of none, to_source, to_target"),
        ({}, {"pooled": True}, "head: makes type 0 from type 0, got 128x0 -> 1x1"),
    ],
)
def test_what_cannot_be_is_refused_when_built(settings: dict[str, Any], arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SE3Transformer(Fiber("2x0"), Fiber("1x1"), SE3TransformerModel(**settings), **arguments)


@pytest.mark.parametrize(
    ("settings", "added"),
    [
        ({"attention_scale": "degree", "logit_scale": "head", "attention_weights": "sqrt_softmax"}, set()),
        ({"logit_scale": "learned"}, {"layers.0.attention.log_factor", "layers.1.attention.log_factor"}),
        ({"key_nodes": "both"}, {f"layers.{n}.value_key.0.target.weight.{l}" for n in (0, 1) for l in range(n + 1)}),
        ({"norm": "gate"}, {"norms.0.gates.weight", "norms.0.gates.bias"}),
        ({"radial_basis": "gaussian"}, set()),
    ],
)
def test_each_setting_changes_the_output_and_adds_no_parameters_but_its_own(
    settings: dict[str, Any], added: set[str], generator: torch.Generator
) -> None:
    sizes = {"num_layers": 2, "num_degrees": 2, "channels": 4, "channels_div": 1, "num_heads": 2, "norm": "none"}
    models = []
    for changes in ({}, settings):
        torch.manual_seed(0)
        config = SE3TransformerModel(**{**sizes, **changes})
        models.append(SE3Transformer(Fiber("2x0"), Fiber("1x0"), config).double())
    states = [model.state_dict() for model in models]
    assert states[1].keys() - states[0].keys() == added
    assert not states[0].keys() - states[1].keys()
    positions = torch.randn(4, 3, dtype=torch.float64, generator=generator)
    features = {0: torch.randn(4, 2, 1, dtype=torch.float64, generator=generator)}
    batch = torch.zeros(4, dtype=torch.long)
    graph = Graph(positions, features, fully_connected(batch), batch, 1)
    shared = {name: value for name, value in states[0].items() if value.shape == states[1][name].shape}
    models[1].load_state_dict({**states[1], **shared})
    default, changed = (model(graph)[0] for model in models)
    assert (default - changed).abs().max() > 1e-3


def test_a_single_degree_goes_in_through_and_out() -> None:
    model = SE3Transformer(Fiber("2x1"), Fiber("1x1"), SE3TransformerModel(**SMALL), fiber_hidden=Fiber("4x1"))
    assert model.max_degree == 1


def test_number_of_layers_counts_the_output_block() -> None:
    model = SE3Transformer(Fiber("1x0"), Fiber("1x1"), SE3TransformerModel(num_layers=1))
    assert len(model.layers) == 1
    assert len(model.norms) == 0


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
        states.append(SE3Transformer(Fiber("1x0"), Fiber("1x1"), SE3TransformerModel(num_layers=2)).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("norm", ["gate", "none"])
def test_sums_over_few_neighbours_do_not_grow_from_layer_to_layer(norm: str, generator: torch.Generator) -> None:
    count = 24
    nodes = torch.arange(count)
    ring = torch.cat([torch.stack([nodes, (nodes + step) % count]) for step in (1, 2)], dim=1)
    edges = torch.cat([ring, ring.flip(0)], dim=1)  # four neighbours each
    edges = edges[:, torch.argsort(edges[1], stable=True)]
    positions = torch.randn(count, 3, generator=generator)
    graph = Graph(positions, {0: torch.randn(count, 16, 1, generator=generator)}, edges, torch.zeros_like(nodes), 1)
    settings = SE3TransformerModel(
        num_layers=6, num_degrees=3, channels=16, channels_div=1, attention_scale="degree", norm=norm,
        self_interaction="linear",
    )  # fmt: skip
    model = SE3Transformer(Fiber("16x0"), Fiber("16x0+16x1+16x2"), settings)
    sizes: list[float] = []
    for layer in model.layers:
        layer.register_forward_hook(
            lambda _, __, out: sizes.append(float(torch.cat([*map(torch.flatten, out.values())]).std()))
        )
    with torch.no_grad():
        model(graph)
    assert len(sizes) == 6
    assert all(0.1 < size < 3 for size in sizes), sizes
