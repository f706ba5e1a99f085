from __future__ import annotations

import warnings

import pytest
import torch

from se3t.fiber import Fiber, cat_features
from se3t.nn.basis import path_degrees
from se3t.nn.kernels import Sources
from se3t.so3 import clebsch_gordan

from .clouds import FIBER, basis_of, features_of, make_conv, make_graph


def test_convolution_equals_an_e3nn_tensor_product_with_mapped_weights() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from e3nn import o3
    torch.set_default_dtype(torch.float64)  # e3nn keeps its coefficients in the default dtype of the moment
    graph = make_graph(FIBER)
    layer = make_conv(FIBER, FIBER, 2, reduce="none", kernel="edge_frame").double()
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
    layer = make_conv(FIBER, FIBER, 2, reduce="sum").double()
    messages = make_conv(FIBER, FIBER, 2, reduce="none").double()
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
        layers[reduce] = make_conv(FIBER, FIBER, 2, reduce=reduce, self_interaction="none").double()
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
    layer = make_conv(FIBER, FIBER, 2, reduce=reduce).double()
    out = layer(graph.features, basis_of(graph))
    for degree in FIBER:
        own = layer.self_interaction.weight[str(degree)] @ graph.features[degree][0]  # type: ignore[union-attr, index]
        torch.testing.assert_close(out[degree][0], own)


def test_edge_features_by_cat_equal_channels_of_the_source() -> None:
    fiber_edge = Fiber("2x1+1x4")
    graph = make_graph(FIBER, fiber_edge=fiber_edge)
    layer = make_conv(FIBER, FIBER, 2, fiber_edge=fiber_edge, reduce="none", kernel="vectorised").double()
    basis = basis_of(graph, 4)
    source = {degree: value[graph.source] for degree, value in graph.features.items()}
    joined = cat_features(source, graph.edge_features)
    expected = layer.kernel(Sources(joined), layer.radial, basis)
    received = layer(graph.features, basis)
    assert all(torch.equal(expected[degree], received[degree]) for degree in FIBER)


def test_self_interaction_serves_the_degrees_that_input_and_output_share() -> None:
    layer = make_conv(Fiber("2x0+1x1"), Fiber("3x1+1x2"))
    assert layer.self_interaction is not None
    assert layer.self_interaction.fiber_out == Fiber("3x1")
    assert make_conv(Fiber("2x0"), Fiber("3x1")).self_interaction is None
    assert repr(layer) == "EquivariantConv(2x0+1x1 -> 3x1+1x2, reduce=sum)"


def test_wrong_input_is_named() -> None:
    graph = make_graph(FIBER)
    basis = basis_of(graph)
    layer = make_conv(FIBER, FIBER, 2).double()
    with pytest.raises(ValueError, match=r"expected fiber 3x0.*got 2x0"):
        layer(features_of(Fiber("2x0"), graph.num_nodes), basis)
    with pytest.raises(ValueError, match="edge_scalars: expected 1 per edge, got 2"):
        make_conv(FIBER, FIBER, 1).double()(graph.features, basis)
    with pytest.raises(ValueError, match="edge_features: expected fiber 1x1, got 0"):
        make_conv(FIBER, FIBER, 2, fiber_edge=Fiber("1x1")).double()(graph.features, basis)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"reduce": "median"}, "reduce='median': expected one of sum, mean, none"),
        ({"share_radial": "some"}, "share='some': expected one of none, full"),
    ],
)
def test_wrong_option_is_refused_when_built(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make_conv(FIBER, FIBER, 2, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("parity", [False, True])
def test_messages_of_unit_variance_features_start_with_unit_variance(parity: bool) -> None:
    """The claim of the initialisation, over many seeds."""
    fiber = Fiber.uniform(4, 8)
    graph = make_graph(fiber)
    values: dict[int, list[torch.Tensor]] = {degree: [] for degree in fiber}
    for seed in range(20):
        torch.manual_seed(seed)
        layer = make_conv(fiber, fiber, 2, reduce="none", parity=parity).double()
        for degree, value in layer(features_of(fiber, graph.num_nodes), basis_of(graph)).items():
            values[degree].append(value.detach().flatten())
    for degree in fiber:
        assert 0.7 < float(torch.cat(values[degree]).std()) < 1.4
