from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from se3t.config import PointNetModel
from se3t.models import build_model
from se3t.models.auxiliary import AuxiliaryLoss
from se3t.models.pointnet import PointNet, TNet, orthogonality_penalty
from se3t.so3 import random_rotation

from .point_contract import CLASSES, POSITIONS, PointCloudContract, count_parameters, point_clouds, scans
from .test_pointcloud import unlike_at_first


class TestPointNet(PointCloudContract):
    """With both transforms."""

    config = PointNetModel()

    def make_model(self) -> nn.Module:
        return unlike_at_first(PointNet(POSITIONS, CLASSES))


def test_parameters_for_40_classes_are_those_of_the_paper():
    """3.5 million in Qi et al. 2017, "PointNet", Table 6; 3.48 million in Li et al. 2018, "PointCNN", Table 6."""
    count = count_parameters(PointNetModel())
    assert count == 3_480_049
    assert round(count / 1e6, 1) == 3.5
    assert round(count / 1e6, 2) == 3.48


def test_parameters_without_transforms_are_those_of_the_vanilla_network():
    """0.8 million in Qi et al. 2017, Table 6, "PointNet (vanilla)"."""
    count = count_parameters(PointNetModel(transform=False))
    assert count == 819_624
    assert round(count / 1e6, 1) == 0.8


def test_transforms_begin_as_the_identity():
    values = torch.randn(2, 6, 5)
    assert torch.equal(TNet(5).eval()(values), torch.eye(5).expand(2, 5, 5))


def test_at_first_the_transforms_change_nothing():
    model = PointNet(POSITIONS, CLASSES).eval()
    plain = PointNet(POSITIONS, CLASSES, transform=False).eval()
    plain.load_state_dict({name: value for name, value in model.state_dict().items() if "align" not in name})
    graph = scans(2, 6, dtype=torch.float32)
    torch.testing.assert_close(model(graph)[0], plain(graph)[0])


def test_pointnet_agrees_with_its_formula_cloud_by_cloud():
    model = unlike_at_first(PointNet(POSITIONS, CLASSES)).double().eval()
    nn.init.normal_(model.align_points.head.last.weight, std=0.1)
    nn.init.normal_(model.align_features.head.last.weight, std=0.1)
    clouds = torch.randn(3, 6, 3, dtype=torch.float64)
    for cloud, output in zip(clouds, model(point_clouds(*clouds))[0], strict=True):
        align = model.align_points(cloud[None])[0]
        features = model.first(torch.stack([align @ point for point in cloud]))
        align = model.align_features(features[None])[0]
        last = model.second(torch.stack([align @ feature for feature in features]))
        torch.testing.assert_close(output[:, 0], model.head(last.amax(dim=0, keepdim=True))[0])


def test_the_penalty_is_the_squared_distance_from_orthogonality():
    assert float(orthogonality_penalty(random_rotation(4))) == pytest.approx(0, abs=1e-10)
    matrix = torch.tensor([[[2.0, 0.0], [0.0, 1.0]], [[1.0, 1.0], [0.0, 1.0]]])
    # I − A Aᵀ: diag(−3, 0), sum of squares 9, and −[[1, 1], [1, 0]], sum of squares 3
    assert float(orthogonality_penalty(matrix)) == pytest.approx((9 + 3) / 2)


def test_the_auxiliary_loss_trains_the_feature_transform():
    model = PointNet(POSITIONS, CLASSES, regularization=0.5)
    assert isinstance(model, AuxiliaryLoss)
    with pytest.raises(RuntimeError, match="needs a forward pass in training first"):
        model.auxiliary_loss()
    graph = scans(3, 6, dtype=torch.float32)
    model(graph)
    assert float(model.auxiliary_loss().detach()) == 0  # the identity
    nn.init.normal_(model.align_features.head.last.weight, std=0.1)
    model(graph)
    loss = model.auxiliary_loss()
    loss.backward()
    assert float(loss.detach()) > 0
    assert float(model.align_features.head.last.weight.grad.abs().max()) > 0


def test_without_transforms_there_is_no_penalty():
    model = PointNet(POSITIONS, CLASSES, transform=False)
    model(scans(2, 6, dtype=torch.float32))
    assert float(model.auxiliary_loss()) == 0


def test_configuration_reaches_the_model():
    config = PointNetModel(transform=False, regularization=0.25, dropout=0.1)
    model = build_model(config, fiber_in=POSITIONS, fiber_out=CLASSES, num_edge_scalars=0, pooled=True)
    assert isinstance(model, PointNet)
    assert (model.align_points, model.align_features) == (None, None)
    assert (model.regularization, model.head.dropout.p) == (0.25, 0.1)


def test_a_model_in_training_can_be_copied():
    model = PointNet(POSITIONS, CLASSES)
    model(scans(3, 6, dtype=torch.float32))
    twin = copy.deepcopy(model)
    with pytest.raises(RuntimeError, match="needs a forward pass in training first"):
        twin.auxiliary_loss()
    assert model.auxiliary_loss().requires_grad
