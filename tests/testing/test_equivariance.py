from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from se3t.fiber import Features, Fiber, rotate_features
from se3t.graph import Graph
from se3t.so3 import random_rotation
from se3t.testing import TRANSFORMS, assert_equivariant, equivariance_error, equivariance_error_per_channel
from se3t.testing.controls import AddFixedVector

from .toys import Chiral, Moments, Pooled, random_graph

FIBER_IN, FIBER_OUT = Fiber("2x0+1x1"), Fiber("1x0+2x1+1x2+1x3")


@pytest.fixture
def graph() -> Graph:
    return random_graph(FIBER_IN, 5, 3, 6)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("model", [Moments, Pooled])
def test_error_of_an_equivariant_model_is_rounding(model, transform: str, graph: Graph) -> None:
    errors = equivariance_error(model(FIBER_IN, FIBER_OUT).double(), graph, transform=transform)
    assert list(errors) == [0, 1, 2, 3]
    assert max(errors.values()) < 1e-13


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_error_of_an_equivariant_model_in_single_precision(transform: str) -> None:
    errors = equivariance_error(
        Moments(FIBER_IN, FIBER_OUT), random_graph(FIBER_IN, 5, 6, dtype=torch.float32), transform=transform
    )
    assert max(errors.values()) < 2e-6


def test_error_is_equation_14_per_graph_and_not_squared(graph: Graph) -> None:
    model = AddFixedVector(Moments(FIBER_IN, FIBER_OUT).double())
    measured = equivariance_error(model, graph, num_samples=3, generator=torch.Generator().manual_seed(5))
    generator, ratios = torch.Generator().manual_seed(5), []
    for _ in range(3):
        rotation = random_rotation(generator=generator, dtype=torch.float64)
        with torch.no_grad():
            expected, received = rotate_features(model(graph), rotation)[1], model(graph.rotate(rotation))[1]
        for cloud in range(3):
            nodes = graph.batch == cloud
            ratios.append(float((expected - received)[nodes].norm() / expected[nodes].norm()))
    assert measured[1] == pytest.approx(sum(ratios) / len(ratios), rel=1e-12)
    assert measured[0] < 1e-13


def test_rotations_are_uniform() -> None:
    """A fixed vector misses its rotated self by the mean chord of the unit sphere, 4/3 (squared, it would be 2)."""
    graph = random_graph(Fiber("1x0"), 1)
    vector = torch.tensor([[[1.0, 2.0, 3.0]]], dtype=torch.float64)
    error = equivariance_error(lambda _: {1: vector}, graph, num_samples=300, generator=torch.Generator())
    assert error[1] == pytest.approx(4 / 3, abs=0.06)


def test_channels_are_measured_apart(graph: Graph) -> None:
    def model(graph: Graph) -> Features:
        vector = graph.features[1][:, 0]
        return {1: torch.stack([1e6 * vector, torch.ones_like(vector)], dim=1)}

    first, second = equivariance_error_per_channel(model, graph, num_samples=8)[1]
    assert first < 1e-14
    assert second > 0.5
    assert equivariance_error(model, graph, num_samples=8)[1] < 1e-5  # together the large channel hides the small one


def test_random_transforms_come_from_the_generator_alone(graph: Graph) -> None:
    model = AddFixedVector(Moments(FIBER_IN, FIBER_OUT).double())
    before = torch.get_rng_state()
    for transform in TRANSFORMS:
        first, second, other = (
            equivariance_error(model, graph, generator=torch.Generator().manual_seed(seed), transform=transform)[1]
            for seed in (3, 3, 4)
        )
        assert first == second
        assert transform != "rotation" or first != other
    assert torch.equal(torch.get_rng_state(), before)


def test_a_model_with_odd_paths_is_rotation_but_not_reflection_equivariant(graph: Graph) -> None:
    model = Chiral(FIBER_IN, FIBER_OUT).double()
    assert equivariance_error(model, graph)[1] < 1e-13
    reflected = equivariance_error(model, graph, transform="reflection")
    assert reflected[1] > 0.1
    assert max(reflected[0], reflected[2], reflected[3]) < 1e-13


def test_permutation_moves_nodes_within_clouds(graph: Graph) -> None:
    seen = []

    def model(graph: Graph) -> Features:
        seen.append(graph.check().features[0].flatten())
        return {0: torch.arange(graph.num_nodes).double()[:, None, None]}

    errors = equivariance_error(model, graph, transform="permutation")
    assert errors[0] > 0.1
    for start, size in ((0, 5), (5, 3), (8, 6)):
        rows = [values.view(-1, 2)[start : start + size] for values in seen]
        assert all(torch.equal(row.sort(dim=0).values, rows[0].sort(dim=0).values) for row in rows)
        assert any(not torch.equal(row, rows[0]) for row in rows)


def test_translation_moves_positions_only(graph: Graph) -> None:
    errors = equivariance_error(lambda g: {0: g.positions[:, :, None]}, graph, transform="translation")
    assert errors[0] > 0.1
    assert equivariance_error(lambda g: g.features, graph, transform="translation") == {0: 0.0, 1: 0.0}


def test_a_vanishing_output_counts_zero_and_a_vanishing_reference_infinity(graph: Graph) -> None:
    zero = graph.features[1] * 0
    assert equivariance_error(lambda _: {1: zero}, graph) == {1: 0.0}
    calls = iter([zero] + [graph.features[1]] * 4)
    assert equivariance_error(lambda _: {1: next(calls)}, graph) == {1: math.inf}


def test_nan_is_reported_and_fails(graph: Graph) -> None:
    nan = {1: graph.features[1] * math.nan}
    assert math.isnan(equivariance_error(lambda _: nan, graph)[1])
    with pytest.raises(AssertionError, match="nan!"):
        assert_equivariant(lambda _: nan, graph)


def test_no_graph_of_gradients_is_built(graph: Graph) -> None:
    def model(graph: Graph) -> Features:
        assert not torch.is_grad_enabled()
        return graph.features

    equivariance_error(model, replace(graph, positions=graph.positions.requires_grad_()))


def test_assertion_reports_every_degree_and_transform(graph: Graph) -> None:
    model = AddFixedVector(Moments(FIBER_IN, FIBER_OUT).double())
    with pytest.raises(AssertionError) as error:
        assert_equivariant(model, graph)
    lines = str(error.value).splitlines()
    assert "1.0e-12" in lines[0]
    assert [line.split()[0] for line in lines[1:]] == ["rotation", "translation", "permutation"]
    assert all(line.count("degree") == 4 for line in lines[1:])
    assert [line.count("!") for line in lines[1:]] == [1, 0, 0]
    worst = float(lines[1].split("degree 1: ")[1].split("!")[0])
    assert 0.01 < worst < 10


def test_assertion_returns_what_it_measured(graph: Graph) -> None:
    errors = assert_equivariant(Moments(FIBER_IN, FIBER_OUT).double(), graph, transforms=TRANSFORMS)
    assert list(errors) == list(TRANSFORMS)
    assert all(0 <= value < 1e-12 for by_degree in errors.values() for value in by_degree.values())


def test_bad_requests_are_refused(graph: Graph) -> None:
    model = Moments(FIBER_IN, FIBER_OUT).double()
    with pytest.raises(ValueError, match="expected one of rotation, translation, permutation, reflection, got 'spin'"):
        equivariance_error(model, graph, transform="spin")
    with pytest.raises(ValueError, match="num_samples: expected at least 1, got 0"):
        equivariance_error(model, graph, num_samples=0)
    with pytest.raises(ValueError, match=r"expected 14 rows \(nodes\) or 3 rows \(graphs\), got 4"):
        equivariance_error(lambda _: {0: torch.ones(4, 1, 1)}, graph)
