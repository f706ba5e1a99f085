from __future__ import annotations

import torch

from se3t.geometry import EdgeGeometry
from se3t.graph import Graph, fully_connected
from se3t.so3 import random_rotation


def cloud(positions: torch.Tensor) -> Graph:
    batch = torch.zeros(len(positions), dtype=torch.int64)
    return Graph(positions, {}, fully_connected(batch), batch, 1).check()


def test_edge_vector_points_from_target_to_source() -> None:
    """x_j − x_i of the paper: the message comes from j, the source."""
    positions = torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, 2.0]])
    geometry = EdgeGeometry.of(cloud(positions))
    edges = list(zip(geometry.source.tolist(), geometry.target.tolist(), strict=True))
    assert edges == [(1, 0), (0, 1)]
    assert geometry.vector.tolist() == [[1.0, 2.0, 2.0], [-1.0, -2.0, -2.0]]
    assert geometry.length.tolist() == [3.0, 3.0]
    torch.testing.assert_close(geometry.direction[0], torch.tensor([1.0, 2.0, 2.0]) / 3)
    assert geometry.num_nodes == 2


def test_vector_is_length_times_direction() -> None:
    geometry = EdgeGeometry.of(cloud(torch.randn(7, 3, dtype=torch.float64)))
    torch.testing.assert_close(geometry.length[:, None] * geometry.direction, geometry.vector)
    torch.testing.assert_close(geometry.direction.norm(dim=-1), torch.ones(42, dtype=torch.float64))


def test_geometry_turns_with_the_cloud_and_ignores_translation() -> None:
    graph = cloud(torch.randn(6, 3, dtype=torch.float64))
    rotation = random_rotation(dtype=torch.float64)
    before = EdgeGeometry.of(graph)
    after = EdgeGeometry.of(graph.rotate(rotation).translate(torch.ones(3, dtype=torch.float64)))
    torch.testing.assert_close(after.length, before.length)
    torch.testing.assert_close(after.direction, before.direction @ rotation.T)
    torch.testing.assert_close(after.vector, before.vector @ rotation.T)


def test_coincident_points_have_zero_length_direction_and_gradients() -> None:
    positions = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    positions.requires_grad_()
    geometry = EdgeGeometry.of(cloud(positions))
    zero = (geometry.vector == 0).all(dim=-1)
    assert zero.sum() == 2
    assert (geometry.length[zero] == 0).all()
    assert (geometry.direction[zero] == 0).all()
    assert geometry.direction.isfinite().all()
    for value in (geometry.length[zero].sum(), geometry.direction[zero].sum()):
        (gradient,) = torch.autograd.grad(value, positions, retain_graph=True)
        assert (gradient == 0).all()
    (gradient,) = torch.autograd.grad(geometry.length.sum() + geometry.direction.square().sum(), positions)
    assert gradient.isfinite().all()


def test_coincident_points_stay_coincident_when_the_cloud_is_rotated() -> None:
    """A last bit of difference would become a direction of length one."""
    positions = torch.randn(1, 3).repeat(37, 1)  # an odd number: the tail of a vectorised loop included
    for rotation in random_rotation(20, dtype=torch.float64):
        for angle in (rotation, rotation.float()):
            assert (EdgeGeometry.of(cloud(positions).rotate(angle)).length == 0).all()


def test_gradients_by_positions_are_those_of_finite_differences() -> None:
    positions = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)

    def outputs(positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        geometry = EdgeGeometry.of(cloud(positions))
        return geometry.vector, geometry.length, geometry.direction

    assert torch.autograd.gradcheck(outputs, positions)
    assert torch.autograd.gradgradcheck(outputs, positions)
