from __future__ import annotations

import math
import warnings

import pytest
import torch

from se3t.fiber import Fiber, cat_features
from se3t.nn import EquivariantConv
from se3t.nn.basis import path_degrees
from se3t.nn.convolution import SELF_INTERACTIONS
from se3t.nn.kernels import KERNELS, Sources
from se3t.so3 import clebsch_gordan

from .clouds import FIBER, basis_of, features_of, make_graph


def test_convolution_equals_an_e3nn_tensor_product_with_mapped_weights() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from e3nn import o3
    torch.set_default_dtype(torch.float64)  # e3nn keeps its coefficients in the default dtype of the moment
    graph = make_graph(FIBER)
    layer = EquivariantConv(FIBER, FIBER, 2, reduce="none", kernel="edge_frame").double()
    basis = basis_of(graph)
    hidden = layer.radial(basis.geometry)
    expected = layer(graph.features, basis)
    irreps = o3.Irreps([(count, (degree, 1)) for degree, count in FIBER.items()])
    harmonics = o3.Irreps([(1, (degree, 1)) for degree in range(7)])
    for row, degree_out in enumerate(FIBER):
        received = torch.zeros_like(expected[degree_out])
        for column, degree_in in enumerate(FIBER):
            phi = layer.radial.pair_weight(hidden, degree_out, degree_in)
            for path, degree in enumerate(path_degrees(degree_out, degree_in)):
                product = o3.TensorProduct(
                    irreps,
                    harmonics,
                    irreps,
                    [(column, degree, row, "uvw", True)],
                    irrep_normalization="none",
                    path_normalization="none",
                    shared_weights=False,
                    compile_left_right=True,
                    _specialized_code=False,
                ).double()
                theirs = o3.wigner_3j(degree_in, degree, degree_out, dtype=torch.float64)
                sign = (theirs * clebsch_gordan(degree_out, degree_in, degree).permute(1, 2, 0)).sum()
                assert abs(abs(float(sign)) - 1) < 1e-12
                y = o3.spherical_harmonics(
                    harmonics, basis.geometry.direction, normalize=True, normalization="integral"
                )
                x = torch.cat([value.flatten(1) for value in graph.features.values()], dim=1)[basis.geometry.source]
                weight = sign * phi[:, :, path].mT
                out = product(x, y, weight.flatten(1))
                received += out[:, irreps.slices()[row]].unflatten(1, received.shape[1:])
        torch.testing.assert_close(received, expected[degree_out], rtol=0, atol=1e-12)


def test_sum_counts_every_neighbour_and_self_interaction_once() -> None:
    graph = make_graph(FIBER)
    torch.manual_seed(0)
    layer = EquivariantConv(FIBER, FIBER, 2, reduce="sum").double()
    messages = EquivariantConv(FIBER, FIBER, 2, reduce="none").double()
    messages.load_state_dict({k: v for k, v in layer.state_dict().items() if not k.startswith("self")})
    basis = basis_of(graph)
    edges = messages(graph.features, basis)
    out = layer(graph.features, basis)
    for degree in FIBER:
        own = layer.self_interaction.weight[str(degree)] @ graph.features[degree]  # type: ignore[union-attr, index]
        for node in range(graph.num_nodes):
            expected = own[node] + edges[degree][graph.target == node].sum(0)
            torch.testing.assert_close(out[degree][node], expected)


def test_mean_divides_by_the_number_of_neighbours() -> None:
    graph = make_graph(FIBER)
    layers = {}
    for reduce in ("sum", "mean"):
        torch.manual_seed(0)
        layers[reduce] = EquivariantConv(FIBER, FIBER, 2, reduce=reduce, self_interaction="none").double()
    layers["mean"].load_state_dict(layers["sum"].state_dict())
    basis = basis_of(graph)
    degrees = torch.bincount(graph.target, minlength=graph.num_nodes)[:, None, None]
    total, mean = (layers[reduce](graph.features, basis) for reduce in ("sum", "mean"))
    for degree in FIBER:
        torch.testing.assert_close(mean[degree], total[degree] / degrees)


@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_isolated_node_keeps_its_self_interaction(reduce: str) -> None:
    positions = torch.randn(9, 3, dtype=torch.float64)
    positions[0] = 100.0
    graph = make_graph(FIBER, positions, radius=5.0)
    assert (graph.target != 0).all()
    layer = EquivariantConv(FIBER, FIBER, 2, reduce=reduce).double()
    out = layer(graph.features, basis_of(graph))
    for degree in FIBER:
        own = layer.self_interaction.weight[str(degree)] @ graph.features[degree][0]  # type: ignore[union-attr, index]
        torch.testing.assert_close(out[degree][0], own)


@pytest.mark.parametrize("reduce", ["sum", "mean"])
@pytest.mark.parametrize("fiber_out", [FIBER, Fiber("2x1+3x4"), Fiber("2x4")], ids=repr)
def test_self_interaction_per_edge_is_part_of_every_message(reduce: str, fiber_out: Fiber) -> None:
    positions = torch.randn(9, 3, dtype=torch.float64)
    positions[0] = 100.0
    graph = make_graph(FIBER, positions, radius=3.0)
    layer = EquivariantConv(
        FIBER, fiber_out, 2, reduce=reduce, self_interaction="per_edge", self_interaction_bias=True
    ).double()
    messages = EquivariantConv(FIBER, fiber_out, 2, reduce="none").double()
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
    layer = EquivariantConv(FIBER, fiber_out, 2, reduce=reduce, self_interaction="message").double()
    without = EquivariantConv(FIBER, fiber_out, 2, reduce=reduce, self_interaction="none").double()
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
        assert EquivariantConv(FIBER, FIBER, 2, reduce="none", self_interaction=kind).self_interaction is None


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
            EquivariantConv(
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
    layer = EquivariantConv(
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
    layer = EquivariantConv(fiber, fiber, 2, fiber_edge=fiber_edge, edge_mode="add", reduce="none").double()
    before = layer(graph.features, basis_of(graph))
    graph.edge_features[1].add_(1.0)
    assert all(torch.equal(layer(graph.features, basis_of(graph))[degree], before[degree]) for degree in fiber)
    graph.edge_features[0].add_(1.0)
    assert not torch.equal(layer(graph.features, basis_of(graph))[0], before[0])


def test_edge_features_by_cat_equal_channels_of_the_source() -> None:
    fiber_edge = Fiber("2x1+1x4")
    graph = make_graph(FIBER, fiber_edge=fiber_edge)
    layer = EquivariantConv(FIBER, FIBER, 2, fiber_edge=fiber_edge, reduce="none", kernel="vectorised").double()
    basis = basis_of(graph, 4)
    source = {degree: value[graph.source] for degree, value in graph.features.items()}
    joined = cat_features(source, graph.edge_features)
    expected = layer.kernel(Sources(joined), layer.radial, basis)
    received = layer(graph.features, basis)
    assert all(torch.equal(expected[degree], received[degree]) for degree in FIBER)


def test_edge_features_by_add_enter_the_first_channels() -> None:
    fiber, fiber_edge = Fiber("3x0+2x1"), Fiber("1x1")
    graph = make_graph(fiber, fiber_edge=fiber_edge)
    layer = EquivariantConv(fiber, fiber, 2, fiber_edge=fiber_edge, edge_mode="add", reduce="none").double()
    basis = basis_of(graph)
    source = {degree: value[graph.source].clone() for degree, value in graph.features.items()}
    source[1][:, :1] += graph.edge_features[1]
    expected = layer.kernel(Sources(source), layer.radial, basis)
    received = layer(graph.features, basis)
    for degree in fiber:
        torch.testing.assert_close(received[degree], expected[degree])


def test_self_interaction_serves_the_degrees_that_input_and_output_share() -> None:
    layer = EquivariantConv(Fiber("2x0+1x1"), Fiber("3x1+1x2"))
    assert layer.self_interaction is not None
    assert layer.self_interaction.fiber_out == Fiber("3x1")
    assert EquivariantConv(Fiber("2x0"), Fiber("3x1")).self_interaction is None
    assert repr(layer) == "EquivariantConv(2x0+1x1 -> 3x1+1x2, reduce=sum)"


def test_wrong_input_is_named() -> None:
    graph = make_graph(FIBER)
    basis = basis_of(graph)
    layer = EquivariantConv(FIBER, FIBER, 2).double()
    with pytest.raises(ValueError, match=r"expected fiber 3x0.*got 2x0"):
        layer(features_of(Fiber("2x0"), graph.num_nodes), basis)
    with pytest.raises(ValueError, match="edge_scalars: expected 1 per edge, got 2"):
        EquivariantConv(FIBER, FIBER, 1).double()(graph.features, basis)
    with pytest.raises(ValueError, match="edge_features: expected fiber 1x1, got 0"):
        EquivariantConv(FIBER, FIBER, 2, fiber_edge=Fiber("1x1")).double()(graph.features, basis)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"reduce": "median"}, "reduce='median': expected one of sum, mean, none"),
        ({"self_interaction": "edge"}, "self_interaction='edge': expected one of once, per_edge, message, none"),
        ({"share_radial": "some"}, "share='some': expected one of none, full"),
        ({"edge_mode": "mul"}, "edge_mode='mul': expected one of cat, cat_shared, add"),
        ({"edge_mode": "add", "fiber_edge": Fiber("9x1")}, "9 edge channels of degree 1 need as many node channels"),
    ],
)
def test_wrong_option_is_refused_when_built(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        EquivariantConv(FIBER, FIBER, 2, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("layer_norm", "bias"), [(True, True), (False, True), (True, False), (False, False)])
def test_radial_options_decide_the_parameters(layer_norm: bool, bias: bool) -> None:
    layer = EquivariantConv(
        FIBER, FIBER, 2, radial_layer_norm=layer_norm, radial_bias=bias, kernel="edge_frame"
    ).double()
    names = {name.split(".")[-1] for name, _ in layer.radial.trunk.named_parameters()}
    assert ("gain" in names) == layer_norm
    assert bool(layer.radial.bias) == bias
    graph = make_graph(FIBER)
    assert layer(graph.features, basis_of(graph))[3].isfinite().all()


@pytest.mark.parametrize("parity", [False, True])
def test_messages_of_unit_variance_features_start_with_unit_variance(parity: bool) -> None:
    """The claim of the initialisation, over many seeds."""
    fiber = Fiber.uniform(4, 8)
    graph = make_graph(fiber)
    values: dict[int, list[torch.Tensor]] = {degree: [] for degree in fiber}
    for seed in range(20):
        torch.manual_seed(seed)
        layer = EquivariantConv(fiber, fiber, 2, reduce="none", parity=parity).double()
        for degree, value in layer(features_of(fiber, graph.num_nodes), basis_of(graph)).items():
            values[degree].append(value.detach().flatten())
    for degree in fiber:
        assert 0.7 < float(torch.cat(values[degree]).std()) < 1.4
