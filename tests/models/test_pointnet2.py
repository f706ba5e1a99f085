from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from se3t.config import PointNet2Model
from se3t.errors import UserError
from se3t.graph import farthest_point_sampling
from se3t.models import build_model
from se3t.models.pointnet2 import PointNet2, SetAbstraction, ball

from .point_contract import CLASSES, POSITIONS, PointCloudContract, count_parameters, point_clouds
from .test_pointcloud import Plain, unlike_at_first


class TestPointNet2(PointCloudContract):
    """Clouds of fewer points than centres and than places in a ball: no choice depends on the order of the points."""

    config = PointNet2Model()

    def make_model(self) -> nn.Module:
        return unlike_at_first(PointNet2(POSITIONS, CLASSES))


def sphere(num_graphs: int, num_points: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(num_graphs, num_points, 3, generator=generator, dtype=torch.float64)
    return nn.functional.normalize(points, dim=-1)


def test_parameters_for_40_classes_are_those_of_the_paper():
    """1.48 million in Li et al. 2018, "PointCNN", Table 6, for single-scale grouping."""
    count = count_parameters(PointNet2Model())
    assert count == 1_475_688
    assert round(count / 1e6, 2) == 1.48


def test_a_ball_holds_its_first_points_and_repeats_the_first_of_all():
    points = torch.tensor([[[0.9, 0, 0], [0.0, 0, 0], [0.1, 0, 0], [0, 0.2, 0], [0, 0, -0.1]]])
    centres = points[:, [1, 0]]
    assert ball(points, centres, 0.2, 4).tolist() == [[[1, 2, 3, 4], [0, 0, 0, 0]]]
    assert ball(points, centres, 0.2, 2).tolist() == [[[1, 2], [0, 0]]]
    assert ball(points, centres, 0.15, 4).tolist() == [[[1, 2, 4, 1], [0, 0, 0, 0]]]
    assert ball(points, centres, 0.15, 32).shape == (1, 2, 5)  # never more places than points


def test_balls_are_those_of_brute_force():
    points, centres = sphere(3, 40), sphere(3, 40)[:, ::4]
    found = ball(points, centres, 0.7, 6)
    for graph in range(3):
        for centre in range(10):
            distance = (points[graph] - centres[graph, centre]).norm(dim=-1)
            within = (distance <= 0.7).nonzero().flatten().tolist()[:6]
            assert found[graph, centre].tolist() == within + within[:1] * (6 - len(within))


def test_an_empty_ball_is_refused():
    with pytest.raises(UserError, match=r"radius 0\.2 holds none"):
        ball(torch.zeros(1, 3, 3), torch.ones(1, 1, 3), 0.2, 4)


def test_grouping_by_hand():
    """Two centres of a cloud of four points, each ball worked out one point at a time."""
    layer = unlike_at_first(SetAbstraction(2, 0.5, 3, 2, [7, 5])).double().eval()
    network = Plain(layer.network)
    positions = torch.tensor([[[0.0, 0, 0], [0.3, 0, 0], [1.0, 0, 0], [0.9, 0.1, 0]]], dtype=torch.float64)
    values = torch.randn(1, 4, 2, dtype=torch.float64)
    centres, output = layer(positions, values)
    assert centres.tolist() == [[[0, 0, 0], [1, 0, 0]]]
    for row, (centre, members) in enumerate([(0, [0, 1]), (2, [2, 3])]):
        pairs = [torch.cat((positions[0, j] - positions[0, centre], values[0, j])) for j in members]
        torch.testing.assert_close(output[0, row], network(torch.stack(pairs)).amax(dim=0))


def test_repeated_points_count_in_the_statistics_of_training():
    layer = SetAbstraction(3, 0.5, 3, 0, [7, 5]).double()
    network = Plain(layer.network)
    positions = torch.tensor([[[0.0, 0, 0], [1.0, 0, 0], [0.3, 0, 0]]] * 2, dtype=torch.float64)
    positions[1, 0] = 0.1
    _, output = layer(positions, positions[..., :0])
    index = torch.tensor([[0, 2, 0], [1, 1, 1], [0, 2, 0]])
    pairs = torch.stack([cloud[index] - cloud[:, None] for cloud in positions])
    # Sampling starts anywhere in training: the three centres come in any order.
    torch.testing.assert_close(output.sum(dim=1), network(pairs).amax(dim=2).sum(dim=1))
    torch.testing.assert_close(layer.network.norms[1].running_var, network.norms[1].running_var)


def test_centres_are_those_of_farthest_point_sampling_from_the_first_point():
    layer = SetAbstraction(6, 0.5, 3, 0, [4, 4]).eval()
    positions = sphere(3, 20)
    for cloud, centres in zip(positions, layer._centres(positions), strict=True):
        assert torch.equal(centres, cloud[farthest_point_sampling(cloud, 6)])


def test_centres_start_at_random_points_in_training_alone():
    layer = SetAbstraction(3, 0.5, 3, 0, [4, 4]).train()
    positions = sphere(1, 20)
    starts = {tuple(layer._centres(positions)[0, 0].tolist()) for _ in range(30)}
    assert len(starts) > 3
    layer.eval()
    assert torch.equal(layer._centres(positions)[:, 0], positions[:, 0])


def test_the_order_of_many_points_matters_and_the_first_one_is_where_sampling_starts():
    model = unlike_at_first(PointNet2(POSITIONS, CLASSES)).double().eval()
    clouds = sphere(1, 700)
    output = model(point_clouds(*clouds))[0]
    assert float((model(point_clouds(*clouds.roll(1, dims=1)))[0] - output).detach().abs().max()) > 1e-6
    assert torch.equal(model(point_clouds(*clouds))[0], output)


@pytest.mark.parametrize("num_points", [2, 100, 300])
def test_clouds_with_fewer_points_than_centres_train(num_points: int):
    model = PointNet2(POSITIONS, CLASSES)
    graph = point_clouds(*sphere(2, num_points).float())
    model(graph)[0].square().sum().backward()
    assert all(bool(parameter.grad.isfinite().all()) for parameter in model.parameters())


def test_configuration_reaches_the_model():
    config = PointNet2Model(dropout=0.1)
    model = build_model(config, fiber_in=POSITIONS, fiber_out=CLASSES, num_edge_scalars=0, pooled=True)
    assert isinstance(model, PointNet2)
    assert model.head.dropout.p == 0.1
    sizes = [(layer.num_centres, layer.radius, layer.num_samples) for layer in (model.first, model.second)]
    assert sizes == [(512, 0.2, 32), (128, 0.4, 64)]
