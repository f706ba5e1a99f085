from __future__ import annotations

import pytest
import torch

from se3t.config import SpiderCNNModel
from se3t.errors import UserError
from se3t.models import build_model, spidercnn
from se3t.models.pointcloud import nearest
from se3t.models.spidercnn import SpiderCNN, SpiderConv, monomials

from .point_contract import CLASSES, POSITIONS, PointCloudContract, count_parameters, scans


class TestSpiderCNN(PointCloudContract):
    """Coordinates are features: no symmetry but that of permutations."""

    config = SpiderCNNModel()

    def make_model(self) -> SpiderCNN:
        return SpiderCNN(POSITIONS, CLASSES, num_neighbors=4, num_taylor=2, widths=(32, 32, 48))


def test_monomials_are_all_products_of_at_most_three_coordinates():
    x, y, z = 2.0, 3.0, 5.0
    expected = [1, x, y, z, x * x, x * y, x * z, y * y, y * z, z * z]
    expected += [x**3, x * x * y, x * x * z, x * y * y, x * y * z, x * z * z, y**3, y * y * z, y * z * z, z**3]
    assert monomials(torch.tensor([x, y, z])).tolist() == expected


def test_spiderconv_is_a_direct_sum_over_neighbours_terms_and_channels():
    points = scans(2, 6).positions.view(2, 6, 3)
    values = torch.randn(2, 6, 2, dtype=torch.float64)
    convolution = SpiderConv(2, 3, num_neighbors=4, num_taylor=2).double()
    torch.nn.init.normal_(convolution.taylor)
    torch.nn.init.normal_(convolution.bias)
    index = nearest(points, points, 4)
    offsets = torch.stack([cloud[chosen] - cloud[:, None] for cloud, chosen in zip(points, index, strict=True)])
    received = convolution(values, index, monomials(offsets))
    expected = convolution.bias.expand(2, 6, 3).clone()
    for cloud in range(2):
        for point in range(6):
            by_distance = (points[cloud] - points[cloud, point]).norm(dim=1).argsort()
            for rank, neighbor in enumerate(by_distance[:4].tolist()):
                place = monomials(points[cloud, neighbor] - points[cloud, point])
                for term in range(2):
                    taylor = place @ convolution.taylor[:, term]
                    expected[cloud, point] += taylor * values[cloud, neighbor] @ convolution.step[rank, term]
    torch.testing.assert_close(received, expected)


def test_gradients_are_those_of_finite_differences_cloud_by_cloud(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(spidercnn, "_CHUNK", 1)
    points = scans(2, 5).positions.view(2, 5, 3)
    index = nearest(points, points, 3)
    terms = monomials(torch.stack([cloud[near] - cloud[:, None] for cloud, near in zip(points, index, strict=True)]))
    convolution = SpiderConv(2, 3, num_neighbors=4, num_taylor=2).double()

    def contract(values: torch.Tensor, terms: torch.Tensor, taylor: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        parameters = {"taylor": taylor, "step": step}
        return torch.func.functional_call(convolution, parameters, (values, index, terms))

    leaves = [torch.randn(2, 5, 2).double(), terms, convolution.taylor, convolution.step]
    assert torch.autograd.gradcheck(contract, [leaf.detach().requires_grad_() for leaf in leaves])


def test_the_constant_of_a_taylor_term_starts_at_zero():
    convolution = SpiderConv(4, 8, num_neighbors=3, num_taylor=2)
    assert not bool(convolution.taylor[0].any())
    assert bool((convolution.taylor[1:] != 0).all())


def test_a_cloud_of_fewer_points_than_neighbours_has_the_first_ranks_alone():
    graph = scans(2, 3)
    model = SpiderCNN(POSITIONS, CLASSES, num_neighbors=5, widths=(4, 4)).double().eval()
    before = model(graph)[0]
    with torch.no_grad():
        for convolution in model.convolutions:
            convolution.step[3:] += 1.0
    assert torch.equal(model(graph)[0], before)


def test_the_cloud_hands_on_its_two_largest_values_of_each_channel():
    model = SpiderCNN(POSITIONS, CLASSES, num_neighbors=4, widths=(4, 8)).double().eval()
    seen: list[torch.Tensor] = []
    kept: list[torch.Tensor] = []
    model.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for norm in model.norms:
        norm.register_forward_hook(lambda _, __, output: kept.append(output.relu()))
    model(scans(2, 9))
    channels = torch.cat(kept, dim=1)  # [graph, channel, point]
    expected = channels.sort(dim=2, descending=True).values[..., :2].mT
    torch.testing.assert_close(seen[0], expected.flatten(1))


def test_configuration_decides_neighbours_and_terms():
    config = SpiderCNNModel(num_neighbors=7, num_taylor=2, dropout=0.2)
    model = build_model(config, fiber_in=POSITIONS, fiber_out=CLASSES, num_edge_scalars=0, pooled=True)
    assert [tuple(layer.step.shape) for layer in model.convolutions] == [
        (7, 2, 3, 32),
        (7, 2, 32, 64),
        (7, 2, 64, 128),
        (7, 2, 128, 256),
    ]
    assert model.head.dropout.p == 0.2
    assert "num_neighbors=7" in repr(model)


def test_parameters_for_40_classes():
    assert count_parameters(SpiderCNNModel()) == 5_844_696


@pytest.mark.parametrize(("setting", "value"), [("num_neighbors", 0), ("num_taylor", 0), ("widths", (8, 0))])
def test_impossible_sizes_are_refused(setting: str, value: object):
    with pytest.raises(UserError, match=setting):
        SpiderCNN(POSITIONS, CLASSES, **{setting: value})
