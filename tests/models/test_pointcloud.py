from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from se3t.errors import UserError
from se3t.fiber import Fiber
from se3t.models import pointcloud
from se3t.models.dgcnn import DGCNN
from se3t.models.pointcloud import (
    POSITIONS,
    ClassifierHead,
    PointNorm,
    SharedMLP,
    dense_positions,
    gather,
    nearest,
)

from .point_contract import CLASSES, point_clouds


def unlike_at_first(model: nn.Module) -> nn.Module:
    """Move statistics and signs of batch normalisation off 0, 1 and +, where faults would hide."""
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(norm.running_mean, std=0.3)
            nn.init.uniform_(norm.running_var, 0.5, 1.5)
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, std=0.3)
            with torch.no_grad():
                norm.weight[::3] *= -1
    return model


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- clouds -----------------------------------------------------------------------------------------------------------


def test_clouds_become_rows_of_a_batch():
    clouds = _normal(3, 4, 3)
    assert torch.equal(dense_positions(point_clouds(*clouds), "pointnet"), clouds)


def test_clouds_of_unequal_size_are_refused():
    graph = point_clouds(_normal(3, 3), _normal(5, 3))
    with pytest.raises(UserError, match=r"model=pointnet needs clouds of one size.* 3 to 5 points"):
        dense_positions(graph, "pointnet")


def test_clouds_without_points_are_refused():
    with pytest.raises(UserError, match="0 to 0 points"):
        dense_positions(point_clouds(*_normal(2, 0, 3)), "pointnet")


@pytest.mark.parametrize("fiber", ["1x0", "1x0+1x1", "2x1"])
def test_other_inputs_than_coordinates_are_refused(fiber: str):
    with pytest.raises(UserError, match=r"model=dgcnn reads the coordinates.*task.inputs=positions"):
        DGCNN(Fiber(fiber), CLASSES)


def test_vectors_as_classes_are_refused():
    with pytest.raises(UserError, match="predicts scalars"):
        DGCNN(POSITIONS, Fiber("2x1"))


# --- neighbours -------------------------------------------------------------------------------------------------------


def by_hand(points: Tensor, centres: Tensor, k: int) -> list[list[list[int]]]:
    """Nearest points one pair at a time."""
    found = []
    for cloud, around in zip(points, centres, strict=True):
        distances = [[float((point - centre).norm()) for point in cloud] for centre in around]
        found.append([sorted(range(len(row)), key=row.__getitem__)[:k] for row in distances])
    return found


@pytest.mark.parametrize("width", [1, 3, 4, 16])
@pytest.mark.parametrize("k", [1, 3, 9, 12])
def test_nearest_points_are_those_of_brute_force(width: int, k: int):
    points, centres = _normal(2, 9, width), _normal(2, 5, width, seed=1)
    assert nearest(points, centres, k).tolist() == by_hand(points, centres, k)


@pytest.mark.parametrize("width", [3, 8])
def test_a_point_is_its_own_first_neighbour(width: int):
    points = _normal(2, 30, width).float()
    assert torch.equal(nearest(points, points, 4)[..., 0], torch.arange(30).expand(2, 30))


def test_neighbours_found_in_parts_are_the_same(monkeypatch: pytest.MonkeyPatch):
    points = _normal(5, 12, 8)
    whole = nearest(points, points, 4)
    monkeypatch.setattr(pointcloud, "_TABLE", 2 * 12 * 12)
    assert torch.equal(nearest(points, points, 4), whole)


def test_neighbours_do_not_depend_on_mixed_precision():
    points = _normal(2, 60, 16).float()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = nearest(points, points, 5)
    assert torch.equal(mixed, nearest(points, points, 5))


def test_neighbours_far_from_the_origin_are_found_in_single_precision():
    far = _normal(1, 40, 3).float() + 64
    assert torch.equal(nearest(far, far, 5), nearest(far - 64, far - 64, 5))  # the subtraction is exact


def test_no_neighbours_are_refused():
    with pytest.raises(ValueError, match="at least 1 neighbour, got 0"):
        nearest(_normal(1, 3, 3), _normal(1, 3, 3), 0)


def test_gathered_values_are_those_of_the_points():
    values, index = _normal(2, 6, 3), torch.tensor([[[0, 5], [2, 2]], [[1, 0], [3, 4]]])
    gathered = gather(values, index)
    assert all(
        torch.equal(gathered[graph, centre, place], values[graph, index[graph, centre, place]])
        for graph in range(2)
        for centre in range(2)
        for place in range(2)
    )


# --- networks ---------------------------------------------------------------------------------------------------------


class Plain(nn.Module):
    """A SharedMLP of torch's own layers on rows, with the same names."""

    def __init__(self, mlp: SharedMLP) -> None:
        super().__init__()
        self.linears = copy.deepcopy(mlp.linears)
        self.norms = nn.ModuleList(nn.BatchNorm1d(norm.num_features) for norm in mlp.norms)
        self.activation = copy.deepcopy(mlp.activation)
        self.double().load_state_dict(mlp.state_dict())
        self.train(mlp.training)

    def forward(self, values: Tensor) -> Tensor:
        """As SharedMLP."""
        rows = values.flatten(0, -2)
        for linear, norm in zip(self.linears, self.norms, strict=True):
            rows = self.activation(norm(linear(rows)))
        return rows.unflatten(0, values.shape[:-1])


def gradients_and_statistics(model: nn.Module, output: Tensor, leaf: Tensor) -> list[Tensor]:
    """By the input and by all parameters, for a loss that weighs every number differently, and what was recorded."""
    loss = (output * torch.linspace(-1, 2, output.numel()).double().view(output.shape)).sum()
    return [*torch.autograd.grad(loss, [leaf, *model.parameters()]), *(buffer.double() for buffer in model.buffers())]


def after_first_product(mlp: SharedMLP, values: Tensor) -> Tensor:
    """By way of the first product."""
    return mlp.maximum_after_first(mlp.linears[0](values))


@pytest.mark.parametrize("activation", [None, nn.LeakyReLU(0.2, inplace=True)])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("ours", "largest"), [(SharedMLP.forward, False), (SharedMLP.maximum, True), (after_first_product, True)]
)
def test_shared_layers_and_their_maximum_equal_torch_on_rows(
    activation: nn.Module | None,
    training: bool,
    bias: bool,
    ours: Callable[[SharedMLP, Tensor], Tensor],
    largest: bool,
):
    """Values, gradients by input and parameters, and recorded statistics, for weights of both signs."""
    mlp = unlike_at_first(SharedMLP([3, 8, 5], activation, bias=bias)).double().train(training)
    plain = Plain(mlp)
    values = _normal(4, 6, 7, 3).requires_grad_()
    expected = plain(values).amax(dim=-2) if largest else plain(values)
    output = ours(mlp, values)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(
        gradients_and_statistics(mlp, output, values), gradients_and_statistics(plain, expected, values)
    )


def test_the_maximum_in_parts_has_the_same_statistics(monkeypatch: pytest.MonkeyPatch):
    mlp, values = SharedMLP([3, 5]).double(), _normal(4, 7, 3)
    mlp.maximum(values)
    whole = mlp.norms[0].running_var.clone()
    mlp.norms[0].reset_running_stats()
    monkeypatch.setattr(pointcloud, "_TABLE", 5 * 4)
    mlp.maximum(values)
    torch.testing.assert_close(mlp.norms[0].running_var, whole)


def test_coincident_points_have_finite_gradients_in_training():
    mlp = SharedMLP([3, 8, 5])
    values = torch.zeros(2, 6, 3, requires_grad=True)
    mlp.maximum(values).square().sum().backward()
    assert values.grad is not None
    assert bool(values.grad.isfinite().all())
    assert all(bool(parameter.grad.isfinite().all()) for parameter in mlp.parameters())


def test_the_sign_of_a_channel_without_slope_is_positive():
    norm = PointNorm(3)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([-2.0, 0.0, 1.0]))
    assert norm.sign().tolist() == [-1, 1, 1]


def test_the_head_ends_in_one_linear_layer_to_the_classes():
    head = ClassifierHead(7, [6, 5], 4, dropout=0.25)
    shapes = [(layer.in_features, layer.out_features) for layer in head.modules() if isinstance(layer, nn.Linear)]
    assert shapes == [(7, 6), (6, 5), (5, 4)]
    assert head.dropout.p == 0.25
    values = _normal(3, 7).float()
    head.eval()
    hidden = head.layers[1](head.layers[0](values))
    torch.testing.assert_close(head(values), nn.functional.linear(hidden, head.last.weight, head.last.bias))


def test_the_head_drops_values_of_every_hidden_layer_in_training_alone():
    head = ClassifierHead(7, [6], 4, dropout=0.9)
    values = _normal(3, 7).float()
    assert not torch.equal(head(values), head(values))
    head.eval()
    assert torch.equal(head(values), head(values))


def test_training_on_a_single_cloud_is_refused_in_one_sentence():
    head = ClassifierHead(7, [6], 4)
    with pytest.raises(UserError, match="batch of 1 cloud"):
        head(torch.zeros(1, 7))
    assert head.eval()(torch.zeros(1, 7)).shape == (1, 4)
