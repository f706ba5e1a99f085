"""Layers of the released codes, in what they do differently."""

from __future__ import annotations

import math

import pytest
import torch

from nn.clouds import FIBER, basis_of, make_conv, make_graph
from se3t.compat.layers import SELF_INTERACTIONS, ReleasedConv, ReleasedSettings
from se3t.fiber import Fiber, cat_features
from se3t.nn.kernels import KERNELS, Sources


@pytest.mark.parametrize("reduce", ["sum", "mean"])
@pytest.mark.parametrize("fiber_out", [FIBER, Fiber("2x1+3x4"), Fiber("2x4")], ids=repr)
def test_self_interaction_per_edge_is_part_of_every_message(reduce: str, fiber_out: Fiber) -> None:
    positions = torch.randn(9, 3, dtype=torch.float64)
    positions[0] = 100.0
    graph = make_graph(FIBER, positions, radius=3.0)
    layer = make_conv(FIBER, fiber_out, 2, reduce=reduce, self_interaction="per_edge", bias=True).double()
    messages = make_conv(FIBER, fiber_out, 2, reduce="none").double()
    messages.load_state_dict({k: v for k, v in layer.state_dict().items() if not k.startswith("self")})
    basis = basis_of(graph, 4)
    edges = messages(graph.features, basis)
    if layer.self_interaction is not None:
        torch.nn.init.constant_(layer.self_interaction.bias, 0.7) if 0 in fiber_out else None
        own = layer.self_interaction({degree: graph.features[degree] for degree in layer.self_interaction.fiber_in})
        edges = {l: value + own[l][graph.target] if l in own else value for l, value in edges.items()}
    neighbours = torch.bincount(graph.target, minlength=9)
    assert len(neighbours.unique()) > 2
    out = layer(graph.features, basis)
    for degree in fiber_out:
        assert (out[degree][0] == 0).all()  # no neighbours, nothing
        for node in range(1, 9):
            incoming = edges[degree][graph.target == node]
            expected = incoming.sum(0) if reduce == "sum" else incoming.mean(0)
            torch.testing.assert_close(out[degree][node], expected)


@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_self_interaction_of_messages_mixes_what_the_neighbours_sent(reduce: str) -> None:
    fiber_out = Fiber("2x1+3x4")
    graph = make_graph(FIBER)
    layer = make_conv(FIBER, fiber_out, 2, reduce=reduce, self_interaction="message").double()
    without = make_conv(FIBER, fiber_out, 2, reduce=reduce, self_interaction="none").double()
    without.load_state_dict({k: v for k, v in layer.state_dict().items() if not k.startswith("self")})
    basis = basis_of(graph, 4)
    reduced, out = without(graph.features, basis), layer(graph.features, basis)
    assert layer.self_interaction is not None
    assert layer.self_interaction.fiber_in == fiber_out  # degree 4 too, which the input lacks
    for degree in fiber_out:
        weight = layer.self_interaction.weight[str(degree)]
        torch.testing.assert_close(out[degree], torch.einsum("wu,num->nwm", weight, reduced[degree]))


def test_messages_have_no_self_interaction() -> None:
    for kind in SELF_INTERACTIONS:
        assert make_conv(FIBER, FIBER, 2, reduce="none", self_interaction=kind).self_interaction is None


@pytest.mark.parametrize("kernel", [name for name in KERNELS if name not in ("auto", "triton")])
@pytest.mark.parametrize("share", ["none", "full"])
def test_kernel_of_scalars_may_go_without_its_constant(kernel: str, share: str) -> None:
    """Y_00 = 1/√(4π) is left out of the pair (0, 0), and of no other."""
    graph = make_graph(FIBER)
    basis = basis_of(graph)
    layers = []
    for constant in (True, False):
        torch.manual_seed(1)
        layers.append(
            make_conv(
                FIBER, FIBER, 2, reduce="none", kernel=kernel, share_radial=share, scalar_constant=constant
            ).double()
        )
    with torch.no_grad():
        for values in (layers[0].radial.weight, layers[0].radial.bias):
            values["0_0"] += 0.3
            layers[1].radial.load_state_dict(layers[0].radial.state_dict())
    with_constant, without = (layer(graph.features, basis) for layer in layers)
    only = {**graph.features, **{degree: torch.zeros_like(graph.features[degree]) for degree in (1, 2, 3)}}
    scalars_with, scalars_without = (layer(only, basis) for layer in layers)
    torch.testing.assert_close(scalars_without[0], scalars_with[0] * math.sqrt(4 * math.pi))
    torch.testing.assert_close(without[0] - scalars_without[0], with_constant[0] - scalars_with[0])
    for degree in (1, 2, 3):
        torch.testing.assert_close(without[degree], with_constant[degree])


def test_shared_edge_features_are_those_of_the_degrees_of_the_nodes() -> None:
    fiber, fiber_edge = Fiber("3x0+2x2"), Fiber("2x0+1x1+1x2")
    graph = make_graph(fiber, fiber_edge=fiber_edge)
    layer = make_conv(
        fiber, FIBER, 2, fiber_edge=fiber_edge, edge_mode="cat_shared", reduce="none", kernel="vectorised"
    ).double()
    assert layer.radial.fiber_in == Fiber("5x0+3x2")
    basis = basis_of(graph, 4)
    source = {degree: value[graph.source] for degree, value in graph.features.items()}
    joined = cat_features(source, {degree: graph.edge_features[degree] for degree in (0, 2)})
    expected = layer.kernel(Sources(joined), layer.radial, basis)
    received = layer(graph.features, basis)
    assert all(torch.equal(expected[degree], received[degree]) for degree in FIBER)


def test_edge_features_are_not_added_to_a_single_channel() -> None:
    fiber, fiber_edge = Fiber("3x0+1x1"), Fiber("2x0+1x1")
    graph = make_graph(fiber, fiber_edge=fiber_edge)
    layer = make_conv(fiber, fiber, 2, fiber_edge=fiber_edge, edge_mode="add", reduce="none").double()
    before = layer(graph.features, basis_of(graph))
    graph.edge_features[1].add_(1.0)
    assert all(torch.equal(layer(graph.features, basis_of(graph))[degree], before[degree]) for degree in fiber)
    graph.edge_features[0].add_(1.0)
    assert not torch.equal(layer(graph.features, basis_of(graph))[0], before[0])


def test_edge_features_by_add_enter_the_first_channels() -> None:
    fiber, fiber_edge = Fiber("3x0+2x1"), Fiber("1x1")
    graph = make_graph(fiber, fiber_edge=fiber_edge)
    layer = make_conv(fiber, fiber, 2, fiber_edge=fiber_edge, edge_mode="add", reduce="none").double()
    basis = basis_of(graph)
    source = {degree: value[graph.source].clone() for degree, value in graph.features.items()}
    source[1][:, :1] += graph.edge_features[1]
    expected = layer.kernel(Sources(source), layer.radial, basis)
    received = layer(graph.features, basis)
    for degree in fiber:
        torch.testing.assert_close(received[degree], expected[degree])


@pytest.mark.parametrize(("layer_norm", "bias"), [(True, True), (False, True), (True, False), (False, False)])
def test_radial_options_decide_the_parameters(layer_norm: bool, bias: bool) -> None:
    layer = make_conv(FIBER, FIBER, 2, radial_layer_norm=layer_norm, radial_bias=bias, kernel="edge_frame").double()
    names = {name.split(".")[-1] for name, _ in layer.radial.trunk.named_parameters()}
    assert ("gain" in names) == layer_norm
    assert bool(layer.radial.bias) == bias
    graph = make_graph(FIBER)
    assert layer(graph.features, basis_of(graph))[3].isfinite().all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"self_interaction": "edge"}, "self_interaction='edge': expected one of once, per_edge, message, none"),
        ({"edge_mode": "mul"}, "edge_mode='mul': expected one of cat, cat_shared, add"),
        ({"edge_mode": "add", "fiber_edge": Fiber("9x1")}, "9 edge channels of degree 1 need as many node channels"),
    ],
)
def test_wrong_option_is_refused_when_built(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ReleasedConv(FIBER, FIBER, ReleasedSettings(2, **options))  # type: ignore[arg-type]
