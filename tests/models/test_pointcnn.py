from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from se3t.config import PointCNNModel
from se3t.errors import UserError
from se3t.models import build_model
from se3t.models.pointcnn import PointCNN, XConv, XConvSize

from .point_contract import CLASSES, POSITIONS, PointCloudContract, count_parameters, scans

SMALL = (XConvSize(3, 1, None, 8), XConvSize(2, 2, 6, 8), XConvSize(3, 1, 4, 12))


class TestPointCNN(PointCloudContract):
    """The last points vote with their own places: no symmetry but that of permutations."""

    config = PointCNNModel()

    def make_model(self) -> PointCNN:
        return PointCNN(POSITIONS, CLASSES, layers=SMALL)


def test_xconv_by_hand_with_a_swap_of_two_neighbours():
    """X set to the matrix that swaps rows, lifted places and features passed on: the kernel sees them swapped."""
    layer = XConv(1, 1, num_neighbors=2, dilation=1).double().eval()
    assert layer.depthwise.shape == (2, 2, 1)  # one lifted channel and one feature
    swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).double()
    layer.transformation = lambda places: swap.expand(*places.shape[:2], 2, 2)
    with torch.no_grad():
        layer.lift[0].linear.weight.copy_(torch.tensor([[1.0, 0.0, 0.0]]))
        layer.lift[1].linear.weight.fill_(1.0)
        layer.depthwise.copy_(torch.tensor([[[1.0], [10.0]], [[100.0], [1000.0]]]))
        layer.pointwise.linear.weight.copy_(torch.tensor([[1.0, 1.0]]))
    for norm in (layer.lift[0].norm, layer.lift[1].norm, layer.pointwise.norm):
        norm.eps = 1e-300  # torch 2.11 takes no zero
    points = torch.tensor([[[0.0, 0, 0], [2.0, 0, 0], [9.0, 0, 0]]]).double()
    values = torch.tensor([[[3.0], [5.0], [7.0]]]).double()
    # the point at 0 has the neighbours 0 (itself: place 0, feature 3) and 1 (place 2, feature 5), swapped
    assert layer(points, values, points[:, :1]).item() == 1 * 2 + 10 * 5 + 100 * 0 + 1000 * 3


def test_the_transformation_is_three_layers_of_all_places():
    layer = XConv(0, 4, num_neighbors=3, dilation=1).double().eval()
    places = torch.randn(2, 5, 3, 3).double()
    scale = (1 + layer.mix.norm.eps) ** -0.5
    received = layer.transformation(places)
    for graph in range(2):
        for centre in range(5):
            matrix = functional.elu(layer.mix.linear.weight @ places[graph, centre].flatten()).view(3, 3) * scale
            for kernel, nonlinearity in zip(layer.rows, (functional.elu, lambda value: value), strict=True):
                columns = [nonlinearity(matrix[:, c] @ kernel[:, c]) * scale for c in range(3)]
                matrix = torch.stack(columns)
            torch.testing.assert_close(received[graph, centre], matrix)


def test_dilation_takes_every_second_of_the_nearest():
    points = torch.tensor([[[0.0, 0, 0], [1.0, 0, 0], [2.5, 0, 0], [4.5, 0, 0], [9.0, 0, 0]]]).double()
    layer = XConv(0, 4, num_neighbors=2, dilation=2).double().eval()
    seen: list[torch.Tensor] = []
    layer.lift.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    layer(points, points[..., :0], points[:, :1])
    assert seen[0][0, 0, :, 0].tolist() == [0.0, 2.5]


def test_a_cloud_of_too_few_neighbours_repeats_them():
    points = scans(1, 2).positions.view(1, 2, 3)
    layer = XConv(0, 4, num_neighbors=5, dilation=1).double().eval()
    seen: list[torch.Tensor] = []
    layer.lift.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    layer(points, points[..., :0], points)
    assert torch.equal(seen[0][:, :, :2], seen[0][:, :, 2:4])


def test_representative_points_are_fewer_from_layer_to_layer_and_the_same_in_evaluation():
    model, graph = PointCNN(POSITIONS, CLASSES, layers=SMALL).double().eval(), scans(2, 9)
    centres: list[torch.Tensor] = []
    for convolution in model.convolutions:
        convolution.register_forward_pre_hook(lambda _, inputs: centres.append(inputs[2]))
    torch.testing.assert_close(model(graph)[0], model(graph)[0], rtol=0, atol=0)
    assert [tuple(value.shape[:2]) for value in centres[:3]] == [(2, 9), (2, 6), (2, 4)]
    assert torch.equal(centres[2], centres[1][:, :4])
    distances = torch.cdist(centres[1], centres[0]).amin(dim=2)
    assert float(distances.max()) == 0.0


def test_training_samples_other_points_each_time():
    model, graph = PointCNN(POSITIONS, CLASSES, layers=SMALL, dropout=0.0).double().train(), scans(2, 9)
    starts: set[float] = set()
    model.convolutions[1].register_forward_pre_hook(lambda _, inputs: starts.add(float(inputs[2][0, 0, 0])))
    torch.manual_seed(0)
    for _ in range(8):
        model(graph)
    assert len(starts) > 1


def test_logits_are_the_mean_of_the_votes_of_the_last_points():
    model = PointCNN(POSITIONS, CLASSES, layers=SMALL).double().eval()
    votes: list[torch.Tensor] = []
    model.votes.register_forward_hook(lambda _, __, output: votes.append(output))
    logits = model(scans(2, 9))[0][..., 0]
    assert votes[0].shape == (2, 4, 5)
    torch.testing.assert_close(logits, votes[0].mean(dim=1))


def test_the_layers_are_those_of_the_authors_for_modelnet():
    model = build_model(PointCNNModel(), fiber_in=POSITIONS, fiber_out=CLASSES, num_edge_scalars=0, pooled=True)
    assert [tuple(size) for size in model.layers] == [
        (8, 1, None, 48),
        (12, 2, 384, 96),
        (16, 2, 128, 192),
        (16, 3, 128, 384),
    ]
    assert [tuple(layer.depthwise.shape) for layer in model.convolutions] == [
        (8, 24, 4),
        (12, 60, 2),
        (16, 120, 2),
        (16, 240, 2),
    ]


def test_parameters_for_40_classes():
    assert count_parameters(PointCNNModel()) == 599_340


@pytest.mark.parametrize(
    "layers",
    [(), (XConvSize(0, 1, None, 4),), (XConvSize(1, 1, None, 1),), (XConvSize(1, 1, 4, 4), XConvSize(1, 1, 5, 4))],
)
def test_impossible_layers_are_refused(layers: tuple[XConvSize, ...]):
    with pytest.raises(UserError, match="layers"):
        PointCNN(POSITIONS, CLASSES, layers=layers)
