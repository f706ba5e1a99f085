from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from se3t.config import DGCNNModel
from se3t.errors import UserError
from se3t.models import build_model
from se3t.models.dgcnn import DGCNN, EdgeConv
from se3t.models.pointcloud import nearest

from .point_contract import CLASSES, POSITIONS, PointCloudContract, count_parameters, point_clouds, scans
from .test_pointcloud import gradients_and_statistics, unlike_at_first


class TestDGCNN(PointCloudContract):
    """Clouds of fewer points than neighbours: all points are neighbours."""

    config = DGCNNModel()

    def make_model(self) -> nn.Module:
        return unlike_at_first(DGCNN(POSITIONS, CLASSES))


class TestDGCNNWithFewNeighbors(TestDGCNN):
    """Neighbours are chosen."""

    config = DGCNNModel(num_neighbors=3)

    def make_model(self) -> nn.Module:
        return unlike_at_first(DGCNN(POSITIONS, CLASSES, num_neighbors=3))


class DirectEdgeConv(nn.Module):
    """The definition: one row (x_j − x_i, x_i) for every edge, then torch's own layers."""

    def __init__(self, layer: EdgeConv) -> None:
        super().__init__()
        self.linear = copy.deepcopy(layer.linear)
        self.norm = nn.BatchNorm1d(layer.norm.num_features).to(layer.norm.weight.dtype)
        self.norm.load_state_dict(layer.norm.state_dict())
        self.train(layer.training)

    def forward(self, values: Tensor, index: Tensor) -> Tensor:
        """As EdgeConv."""
        there = torch.stack([cloud[rows] for cloud, rows in zip(values, index, strict=True)])
        here = values[:, :, None].expand_as(there)
        edges = self.linear(torch.cat((there - here, here), dim=-1))
        normalised = self.norm(edges.flatten(0, 2)).unflatten(0, edges.shape[:3])
        return nn.functional.leaky_relu(normalised, 0.2).amax(dim=2)


@pytest.mark.parametrize("training", [True, False])
def test_the_split_form_equals_the_direct_form(training: bool):
    """Values, gradients by input and parameters, and recorded statistics, for weights of both signs."""
    torch.manual_seed(0)
    layer = unlike_at_first(EdgeConv(4, 16)).double().train(training)
    direct = DirectEdgeConv(layer)
    values = torch.randn(3, 11, 4, dtype=torch.float64, requires_grad=True)
    index = nearest(values, values, 5)
    split, expected = layer(values, index), direct(values, index)
    torch.testing.assert_close(split, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        gradients_and_statistics(layer, split, values),
        gradients_and_statistics(direct, expected, values),
        rtol=1e-10,
        atol=1e-10,
    )


def test_the_split_form_keeps_its_digits_in_single_precision():
    """Batch statistics far from zero do not cancel: clouds far from the origin, with neighbours near each other."""
    torch.manual_seed(0)
    layer = unlike_at_first(EdgeConv(3, 16)).train()
    values = torch.randn(3, 50, 3) + 30
    index = nearest(values, values, 5)
    expected = DirectEdgeConv(layer).double()(values.double(), index)
    torch.testing.assert_close(layer(values, index).double(), expected, rtol=1e-3, atol=1e-3)


def test_parameters_for_40_classes_are_those_of_the_release():
    """1.81 million, the layers of the authors' PyTorch release; 1.84 million in Li et al. 2018, "PointCNN", Table 6,
    which counts the first version of the paper.
    """
    count = count_parameters(DGCNNModel())
    assert count == 1_809_576
    assert round(count / 1e6, 2) == 1.81
    assert abs(count / 1.84e6 - 1) < 0.02


def test_neighbours_are_found_anew_in_the_space_of_the_features():
    torch.manual_seed(0)
    model = unlike_at_first(DGCNN(POSITIONS, CLASSES, num_neighbors=4)).double().eval()
    seen: list[tuple[Tensor, Tensor]] = []
    for convolution in model.convolutions:
        convolution.register_forward_hook(lambda _, given, __: seen.append(given))
    model(scans(2, 20))
    for values, index in seen:
        distance = torch.cdist(values, values, compute_mode="donot_use_mm_for_euclid_dist")
        expected = distance.topk(4, largest=False).indices
        assert torch.equal(index.sort(dim=-1).values, expected.sort(dim=-1).values)
    assert not torch.equal(seen[0][1].sort(dim=-1).values, seen[1][1].sort(dim=-1).values)


def test_dgcnn_agrees_with_its_formula():
    torch.manual_seed(0)
    model = unlike_at_first(DGCNN(POSITIONS, CLASSES, num_neighbors=4)).double().eval()
    clouds = torch.randn(2, 12, 3, dtype=torch.float64)
    values, outputs = clouds, []
    for convolution in model.convolutions:
        values = DirectEdgeConv(convolution)(values, nearest(values, values, 4))
        outputs.append(values)
    assert [output.shape[-1] for output in outputs] == [64, 64, 128, 256]
    points = model.points(torch.cat(outputs, dim=-1))
    expected = model.head(torch.cat((points.amax(dim=1), points.mean(dim=1)), dim=-1))
    torch.testing.assert_close(model(point_clouds(*clouds))[0][..., 0], expected)


@pytest.mark.parametrize("clouds", [torch.zeros(2, 6, 3), torch.ones(2, 1, 3), torch.randn(2, 30, 3)])
def test_training_is_finite_with_coincident_single_and_few_points(clouds: Tensor):
    model = DGCNN(POSITIONS, CLASSES)
    model(point_clouds(*clouds))[0].square().sum().backward()
    assert all(bool(parameter.grad.isfinite().all()) for parameter in model.parameters())
    assert all(bool(buffer.isfinite().all()) for buffer in model.buffers())


def test_configuration_reaches_the_model():
    config = DGCNNModel(num_neighbors=7, dropout=0.1)
    model = build_model(config, fiber_in=POSITIONS, fiber_out=CLASSES, num_edge_scalars=0, pooled=True)
    assert isinstance(model, DGCNN)
    assert (model.settings.num_neighbors, model.head.dropout.p) == (7, 0.1)


def test_impossible_settings_are_refused():
    with pytest.raises(UserError, match="num_neighbors=0 is out of range: it must be 1 or more"):
        DGCNN(POSITIONS, CLASSES, num_neighbors=0)
