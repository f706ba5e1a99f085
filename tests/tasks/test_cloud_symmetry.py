"""The symmetries that point clouds leave to a network: all rotations, or with heights those about the vertical."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from se3t.config import SE3TransformerModel
from se3t.data.clouds.dataset import CloudData
from se3t.data.clouds.draws import CloudDraws, turn
from se3t.fiber import Features
from se3t.graph import Graph
from se3t.nn import EquivariantConv, SE3AttentionBlock
from se3t.so3 import rotation_about_axis
from se3t.tasks.classification import ClassificationTask
from training.cloud_parts import (
    PLAIN,
    SMALL,
    cloud_data,
    logits_of,
    measure,
    model_of,
    task_of,
)

EQUIVARIANT = sorted(SMALL)


@pytest.fixture(scope="module")
def data() -> CloudData:
    return cloud_data()


# --- symmetries -------------------------------------------------------------------------------------------------------


def change(task: ClassificationTask, model: nn.Module, rotation: Tensor) -> Tensor:
    """Relative change of the logits of every test object under its rotation, with the neighbours as they were."""
    batch = task.batch("test", torch.arange(len(rotation)))
    before, after = (task.graph(one) for one in (batch, replace(batch, points=turn(batch.points, rotation))))
    assert torch.equal(before.edge_index, after.edge_index)
    first, second = logits_of(model, before), logits_of(model, after)
    return (first - second).norm(dim=1) / first.norm(dim=1)


@pytest.mark.parametrize("name", EQUIVARIANT)
def test_with_heights_the_symmetry_is_that_about_the_vertical(name: str, data: CloudData) -> None:
    task = task_of(data, height=True)
    model, draws = model_of(task, SMALL[name]), CloudDraws(3, range(13))
    assert float(change(task, model, draws.vertical(1)).max()) < 1e-11
    assert float(change(task, model, draws.tilt(1, 180.0)).median()) > 1e-2
    assert float(change(task, model, draws.haar()).median()) > 1e-2
    found = measure(task, model)
    assert found["equivariance_error"] < 1e-11
    assert found["rebuilt_error"] < 1e-11
    assert (found["flipped_edges"], found["changed_class"]) == (0, 0)


@pytest.mark.parametrize("name", EQUIVARIANT)
@pytest.mark.parametrize("wrong", [0, 2])
def test_with_another_axis_taken_for_the_vertical_that_symmetry_is_broken(
    name: str, wrong: int, data: CloudData
) -> None:
    task = task_of(replace(data, up_axis=wrong), height=True)
    assert float(change(task, model_of(task, SMALL[name]), CloudDraws(3, range(13)).vertical(1)).median()) > 1e-2


@pytest.mark.parametrize("name", EQUIVARIANT)
def test_without_heights_the_symmetry_is_that_of_all_rotations(name: str, data: CloudData) -> None:
    task = task_of(data)
    model, draws = model_of(task, SMALL[name]), CloudDraws(3, range(13))
    assert float(change(task, model, draws.haar()).max()) < 1e-11
    found = measure(task, model)
    assert found["equivariance_error"] < 1e-11
    larger = task.graph(replace(batch := task.batch("test", torch.arange(13)), points=1.1 * batch.points))
    assert float((logits_of(model, larger) - logits_of(model, task.graph(batch))).abs().max()) > 1e-3


@pytest.mark.parametrize("height", [False, True])
@pytest.mark.parametrize("name", EQUIVARIANT)
def test_in_single_precision_the_symmetry_holds_to_rounding(name: str, height: bool, data: CloudData) -> None:
    task = task_of(data, torch.float32, height=height)
    found = measure(task, model_of(task, SMALL[name], torch.float32))
    assert 0 < found["equivariance_error"] < 1e-4


def test_a_convolution_or_attention_may_come_last_and_both_keep_the_symmetry(data: CloudData) -> None:
    task = task_of(data, height=True)
    for last, kind in (("convolution", EquivariantConv), ("attention", SE3AttentionBlock)):
        model = model_of(task, replace(SMALL["se3_transformer"], last=last))
        assert isinstance(model.layers[-1], kind)
        assert measure(task, model)["equivariance_error"] < 1e-11
    assert SE3TransformerModel().last == "convolution"


@pytest.mark.parametrize("name", EQUIVARIANT)
def test_models_read_the_relative_height_of_every_edge(name: str, data: CloudData) -> None:
    task = task_of(data, height=True)
    model = model_of(task, SMALL[name])
    graph = task.graph(task.batch("test", torch.arange(13)))
    assert graph.edge_features is not None
    before = logits_of(model, graph)
    for degree, value in graph.edge_features.items():
        other = logits_of(model, replace(graph, edge_features={**graph.edge_features, degree: 1.5 * value}))
        assert float((other - before).abs().max()) > 1e-3, degree
    with pytest.raises(ValueError, match="edge_features"):
        logits_of(model, replace(graph, edge_features={}))


@pytest.mark.parametrize("name", PLAIN)
def test_models_that_see_coordinates_as_numbers_are_not_invariant(name: str, data: CloudData) -> None:
    task = task_of(data, inputs="positions")
    assert measure(task, model_of(task, PLAIN[name]))["equivariance_error"] > 1e-3


class Height(nn.Module):
    """Logits that a rotation changes in a way that is known: sums of the three coordinates."""

    def forward(self, graph: Graph) -> Features:
        total = graph.positions.new_zeros(graph.num_graphs, 3).index_add_(0, graph.batch, graph.positions)
        return {0: total[..., None]}


def test_the_error_is_the_relative_change_of_the_logits(data: CloudData) -> None:
    task, model = task_of(data, height=True), Height()
    graph = task.graph(task.batch("test", torch.arange(13)))
    found = task.equivariance(model, graph, model(graph), torch.Generator().manual_seed(3))
    angle = 2 * torch.pi * torch.rand(13, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    rotation = rotation_about_axis(torch.tensor([0.0, 1.0, 0.0]).double(), angle)
    before = model(graph)[0]
    after = rotation @ before
    torch.testing.assert_close(
        found["equivariance_error"], ((after - before).norm(dim=(1, 2)) / before.norm(dim=(1, 2))), rtol=1e-9, atol=0
    )
    assert found["changed_class"].tolist() == (after.argmax(dim=1) != before.argmax(dim=1))[:, 0].double().tolist()
    assert 0 < float(found["changed_class"].mean()) < 1
    torch.testing.assert_close(found["rebuilt_error"], found["equivariance_error"])


# --- lists found anew -------------------------------------------------------------------------------------------------


def lattice() -> CloudData:
    """Points of a cubic lattice, where many neighbours are at the same distance."""
    grid = np.array(list(itertools.product(range(4), repeat=3)), dtype=np.float32) - 1.5
    return cloud_data(points=np.repeat(grid[None] / np.float32(1.5 * 3**0.5), 60, axis=0))


@pytest.mark.parametrize("height", [False, True])
@pytest.mark.parametrize("name", EQUIVARIANT)
def test_on_a_lattice_ties_flip_neighbours_and_not_the_symmetry(name: str, height: bool) -> None:
    task = task_of(lattice(), height=height, num_points=48)
    # Some neighbourhoods are symmetric, and a norm nonlinearity with a bias makes the zero vectors of such points as
    # long as the bias, in whatever direction rounding left them.
    found = measure(task, model_of(task, replace(SMALL[name], norm="none")))
    assert found["equivariance_error"] < 1e-11
    assert 0.01 < found["flipped_edges"] < 0.9
    assert found["rebuilt_error"] > 1e-4


def test_the_share_of_flipped_edges_is_counted_for_each_object(data: CloudData) -> None:
    mixed = data.points.copy()
    mixed[data.splits["test"][[1, 4]]] = lattice().points[0]
    task = task_of(replace(data, points=mixed))
    graph = task.graph(task.batch("test", torch.arange(13)))
    model = model_of(task, SMALL["tfn"])
    with torch.no_grad():
        found = task.equivariance(model, graph, model(graph), torch.Generator().manual_seed(0))
    assert set(found["flipped_edges"].nonzero()[:, 0].tolist()) == {1, 4}
    steady = [place for place in range(13) if place not in (1, 4)]
    torch.testing.assert_close(found["rebuilt_error"][steady], found["equivariance_error"][steady], rtol=0, atol=1e-11)
    assert float(found["rebuilt_error"][[1, 4]].min()) > 1e-4


# --- points that coincide ---------------------------------------------------------------------------------------------


def coincident() -> CloudData:
    """Among the training objects one that is one repeated point, and one of which every point occurs twice."""
    data = cloud_data()
    points = data.points[:, :16].copy()
    first, second = data.splits["train"][:2]
    points[first] = 0
    points[second, 8:] = points[second, :8]
    return replace(data, points=points)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *[(name, {"height": height}) for name in EQUIVARIANT for height in (False, True)],
        *[(name, {"inputs": "positions"}) for name in PLAIN],
    ],
)
def test_coincident_points_give_finite_losses_and_gradients(name: str, settings: dict[str, Any]) -> None:
    task = task_of(coincident(), torch.float32, num_points=12, **settings)
    model = model_of(task, {**SMALL, **PLAIN}[name], torch.float32).train()
    for draw in (None, 3):
        batch = task.batch("train", torch.arange(3), draw)
        assert float(batch.points[0].abs().max()) == 0
        loss = task.loss(model(task.graph(batch)), batch)
        gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
        assert bool(loss.isfinite())
        assert all(bool(one.isfinite().all()) for one in gradients if one is not None)
        assert sum(float(one.abs().sum()) for one in gradients if one is not None) > 0
    graph = task.graph(batch)
    with torch.no_grad():
        found = task.equivariance(model, graph, model(graph), torch.Generator().manual_seed(0))
    assert all(bool(values.isfinite().all()) for values in found.values())
