from __future__ import annotations

import math

import pytest
import torch

from se3t.config import PointGLRModel
from se3t.errors import UserError
from se3t.fiber import Fiber
from se3t.models.auxiliary import AuxiliaryLoss
from se3t.models.pointglr import CodedNetwork, PointGLR, chamfer_distance, estimated_normals, local_to_global

from .point_contract import CLASSES, POSITIONS, PointCloudContract, count_parameters, scans

TASKS = ("folds.", "normals.")


class TestPointGLR(PointCloudContract):
    """No symmetry but that of permutations, here of clouds with fewer points than centres."""

    config = PointGLRModel()
    unused_parameters = tuple(
        name for name, _ in PointGLR(POSITIONS, CLASSES).named_parameters() if name.startswith(TASKS)
    )

    def make_model(self) -> PointGLR:
        return PointGLR(POSITIONS, CLASSES, width=16)


@pytest.fixture
def model() -> PointGLR:
    torch.manual_seed(0)
    return PointGLR(POSITIONS, CLASSES, width=16).double()


def test_training_adds_three_tasks_and_evaluation_none(model: PointGLR):
    graph = scans(3, 20)
    assert isinstance(model, AuxiliaryLoss)
    with pytest.raises(RuntimeError, match="auxiliary"):
        model.auxiliary_loss()
    model.train()
    model(graph)
    model.auxiliary_loss().backward()
    without = {name for name, value in model.named_parameters() if value.grad is None}
    assert without == {"classifier.1.weight", "classifier.1.bias"}  # the tasks do not see the classes
    model.eval()(graph)
    with pytest.raises(RuntimeError, match="auxiliary"):
        model.auxiliary_loss()


def test_the_auxiliary_loss_is_the_sum_of_its_tasks(model: PointGLR):
    points = scans(3, 20).positions.view(3, 20, 3)
    model.first._centres = model.second._centres = lambda positions: positions  # their order is random in training
    stages = model.train().encode(points)
    code = torch.cat([stage.amax(1) for stage in stages], dim=1)
    expected = chamfer_distance(model.reconstruct(code), points)
    for local in stages[:2]:
        expected = expected + local_to_global(local, stages[2][:, 0])
    normals = torch.nn.functional.normalize(model.normals(points, code), dim=-1)
    expected = expected + 1 - (normals * estimated_normals(points)).sum(-1).abs().mean()
    model(scans(3, 20))
    torch.testing.assert_close(model.auxiliary_loss(), expected)


def test_local_to_global_is_a_cross_entropy_over_the_clouds_of_the_batch():
    local = torch.nn.functional.normalize(torch.randn(3, 4, 5).double(), dim=-1)
    whole = torch.nn.functional.normalize(torch.randn(3, 5).double(), dim=-1)
    losses = []
    for cloud in range(3):
        for point in range(4):
            scores = [64 * float(local[cloud, point] @ whole[other]) for other in range(3)]
            losses.append(math.log(sum(math.exp(score - scores[cloud]) for score in scores)))
    assert float(local_to_global(local, whole)) == pytest.approx(sum(losses) / 12)


def test_chamfer_distance_is_that_of_all_pairs():
    first, second = scans(2, 6, seed=1).positions.view(2, 6, 3), scans(2, 4, seed=2).positions.view(2, 4, 3)
    table = (torch.cdist(first, second).square() + 1e-6).sqrt()
    torch.testing.assert_close(chamfer_distance(first, second), table.amin(2).mean() + table.amin(1).mean())


def test_gradients_of_the_chamfer_distance_are_those_of_finite_differences():
    first, second = scans(1, 4, seed=1).positions.view(1, 4, 3), scans(1, 3, seed=2).positions.view(1, 3, 3)
    assert torch.autograd.gradcheck(chamfer_distance, (first.requires_grad_(), second.requires_grad_()))


def test_normals_of_a_plane_are_perpendicular_to_it():
    plane = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)).double()).Q
    points = scans(1, 40).positions.view(1, 40, 3)[..., :2] @ plane[:2]
    normals = estimated_normals(points)
    torch.testing.assert_close((normals @ plane[2]).abs(), torch.ones(1, 40).double())


def test_normals_of_coincident_points_are_finite():
    assert bool(estimated_normals(torch.ones(1, 5, 3)).isfinite().all())


def test_a_coded_network_is_one_on_places_and_codes_side_by_side():
    network = CodedNetwork(2, 5).double().eval()
    places, code = torch.randn(3, 4, 2).double(), torch.randn(3, 5).double()
    weight = torch.cat((network.place.weight, network.code.weight), dim=1)
    joined = torch.cat((places, code[:, None].expand(-1, 4, -1)), dim=-1)
    first = network.norm((joined @ weight.T + network.code.bias).flatten(0, 1)).relu()
    expected = network.last(network.hidden(first)).view(3, 4, 3)
    torch.testing.assert_close(network(places, code), expected)


def test_reconstruction_folds_a_square_of_1024_points(model: PointGLR):
    seen: list[torch.Tensor] = []
    model.folds[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    assert model.reconstruct(torch.randn(2, 48).double()).shape == (2, 1024, 3)
    assert seen[0].shape == (2, 1024, 2)
    assert torch.equal(seen[0][0].unique(dim=0), seen[0][0])


def test_parts_of_the_code_are_maxima_of_unit_vectors(model: PointGLR):
    points = scans(2, 9).positions.view(2, 9, 3)
    stages = model.eval().encode(points)
    assert [tuple(stage.shape) for stage in stages] == [(2, 9, 16), (2, 9, 16), (2, 1, 16)]
    for stage in stages:
        torch.testing.assert_close(stage.norm(dim=2), torch.ones(stage.shape[:2]).double())
    code = torch.cat([stage.amax(1) for stage in stages], dim=1)
    torch.testing.assert_close(model(scans(2, 9))[0][..., 0], model.classifier(4 * code))


def test_parameters_for_40_classes():
    assert count_parameters(PointGLRModel()) == 5_110_705
    model = PointGLR(POSITIONS, Fiber({0: 40}))
    predicting = [value.numel() for name, value in model.named_parameters() if not name.startswith(TASKS)]
    assert sum(predicting) == 2_344_872


def test_an_impossible_width_is_refused():
    with pytest.raises(UserError, match="width"):
        PointGLR(POSITIONS, CLASSES, width=0)
