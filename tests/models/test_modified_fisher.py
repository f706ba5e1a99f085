from __future__ import annotations

import itertools
import math

import pytest
import torch

from se3t.config import ModifiedFisherModel
from se3t.errors import UserError
from se3t.models.modified_fisher import CHANNELS, Inception, ModifiedFisherNet, modified_fisher_vector

from .point_contract import CLASSES, POSITIONS, PointCloudContract, count_parameters, scans


class TestModifiedFisherNet(PointCloudContract):
    """The grid is fixed in space: no symmetry but that of permutations."""

    config = ModifiedFisherModel(grid=2)

    def make_model(self) -> ModifiedFisherNet:
        return ModifiedFisherNet(POSITIONS, CLASSES, grid=4, width=2)


def fisher_by_loops(points: torch.Tensor, grid: int) -> torch.Tensor:
    """The definition: densities of all Gaussians, derivatives of the log-likelihood, one point after another."""
    axis = [(2 * number + 1) / grid - 1 for number in range(grid)]
    means = [torch.tensor(mean, dtype=torch.float64) for mean in itertools.product(axis, axis, axis)]
    sigma, weight, count = 1 / grid, 1 / len(means), len(points)
    image = torch.zeros(CHANNELS, len(means), dtype=torch.float64)
    for number, mean in enumerate(means):
        rows = []
        for point in points:
            densities = [weight * math.exp(-0.5 * float(((point - other) / sigma).square().sum())) for other in means]
            share = densities[number] / sum(densities)
            offset = (point - mean) / sigma
            of_weight = torch.tensor([(share - weight) / (math.sqrt(weight) * count)], dtype=torch.float64)
            of_mean = share * offset / (math.sqrt(weight) * count)
            of_sigma = share * (offset**2 - 1) / (math.sqrt(2 * weight) * count)
            rows.append(torch.cat((of_weight, of_mean, of_sigma)))
        table = torch.stack(rows)
        most, least, total = table.amax(0), table.amin(0), table.sum(0)
        image[:, number] = torch.cat(
            (most[:1], total[:1], most[1:4], least[1:4], total[1:4], most[4:], least[4:], total[4:])
        )
    image = image.sign() * image.abs().sqrt()
    return (image / image.norm(dim=1, keepdim=True)).unflatten(1, (grid, grid, grid))


@pytest.mark.parametrize("grid", [2, 3])
def test_the_fisher_vector_is_that_of_a_double_loop(grid: int):
    graph = scans(2, 7)
    clouds = graph.positions.view(2, 7, 3)
    expected = torch.stack([fisher_by_loops(cloud, grid) for cloud in clouds])
    torch.testing.assert_close(modified_fisher_vector(clouds, grid), expected, rtol=1e-10, atol=1e-10)


def test_derivatives_are_those_of_the_log_likelihood_of_the_mixture():
    """Summed channels of means and deviations, against autograd of Σ log p with the Fisher scaling undone."""
    points = scans(1, 6).positions.view(1, 6, 3)
    grid = torch.cartesian_prod(*[torch.tensor([-0.5, 0.5]).double()] * 3).requires_grad_()
    sigma = torch.full_like(grid, 0.5).requires_grad_()
    log_density = -0.5 * ((points[0][:, None] - grid) / sigma).square().sum(-1) - sigma.log().sum(-1)
    of_mean, of_sigma = torch.autograd.grad(log_density.logsumexp(1).sum(), (grid, sigma))
    image = modified_fisher_vector(points, 2)[0]
    for summed, gradient in ((image[8:11], of_mean), (image[17:20], of_sigma)):
        root = gradient.T.sign() * gradient.T.abs().sqrt()
        torch.testing.assert_close(summed.flatten(1), root / root.norm(dim=1, keepdim=True))


def test_the_fisher_vector_does_not_depend_on_order_and_is_finite_far_away():
    points = scans(2, 9).positions.view(2, 9, 3)
    torch.testing.assert_close(modified_fisher_vector(points.flip(1), 4), modified_fisher_vector(points, 4))
    assert bool(modified_fisher_vector(points * 1e4, 4).isfinite().all())


def test_each_image_has_unit_norm():
    image = modified_fisher_vector(scans(3, 50).positions.view(3, 50, 3), 5)
    assert image.shape == (3, 20, 5, 5, 5)
    torch.testing.assert_close(image.flatten(2).norm(dim=2), torch.ones(3, 20).double())


def test_inception_keeps_the_grid_and_gives_three_times_its_filters():
    module = Inception(5, 4)
    assert module(torch.randn(2, 5, 3, 3, 3)).shape == (2, 12, 3, 3, 3)


@pytest.mark.parametrize("grid", [2, 3, 5])
def test_any_grid_is_read(grid: int):
    model = ModifiedFisherNet(POSITIONS, CLASSES, grid=grid, width=2).double().eval()
    assert model(scans(2, 6))[0].shape == (2, 5, 1)


def test_parameters_for_40_classes():
    assert count_parameters(ModifiedFisherModel()) == 45_767_016


@pytest.mark.parametrize(("setting", "value"), [("grid", 1), ("width", 3), ("width", 0)])
def test_impossible_sizes_are_refused(setting: str, value: int):
    with pytest.raises(UserError, match=setting):
        ModifiedFisherNet(POSITIONS, CLASSES, **{setting: value})
