"""Random draws for the points of objects: which points are used, rotations, jitter.

Every object has its own generator, seeded with (draw, number of the object): its draws depend neither on the other
objects of the batch nor on the number of processes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from se3t.errors import UserError
from se3t.neighbors import farthest_point_sampling
from se3t.so3 import matrix_from_quaternion, rotation_about_axis

SO3 = "so3"


class CloudDraws:
    """The draws of some objects.

    Args:
        draw: seed of the draws.
        objects: numbers of the objects.
    """

    def __init__(self, draw: int, objects: Sequence[int]) -> None:
        self._generators = [np.random.default_rng((draw, number)) for number in objects]

    def choose(
        self, points: Float[Tensor, "object all 3"], num_points: int, sampling: str
    ) -> Float[Tensor, "object point 3"]:
        """Some points of each object: farthest point sampling from a random start, or at random.

        Args:
            points: all points of the objects.
            num_points: number of points to choose.
            sampling: ``farthest`` or ``random``, without repetition.

        Raises:
            UserError: the objects have fewer points.
        """
        size = points.shape[1]
        if num_points > size:
            raise UserError(f"task.num_points={num_points}: the objects have {size} points; ask for {size} or fewer")
        if sampling == "random":
            rows = np.stack([generator.permutation(size)[:num_points] for generator in self._generators])
            index = torch.from_numpy(rows).to(points.device, non_blocking=True)
        else:
            start = self._tensor(lambda generator: generator.integers(size))
            index = farthest_point_sampling(points, num_points, start=start).view(len(points), num_points) % size
        return points.gather(1, index[..., None].expand(-1, -1, 3))

    def haar(self) -> Float[Tensor, "object 3 3"]:
        """A uniform rotation for each object."""
        return matrix_from_quaternion(self._tensor(lambda generator: generator.normal(size=4)))

    def vertical(self, up_axis: int) -> Float[Tensor, "object 3 3"]:
        """A rotation about the vertical by a uniform angle for each object."""
        return _about(up_axis, 2 * math.pi * self._tensor(lambda generator: generator.random()))

    def tilt(self, up_axis: int, largest: float) -> Float[Tensor, "object 3 3"]:
        """A rotation about a horizontal axis of random direction, by an angle uniform between 0 and ``largest``.

        Args:
            up_axis: coordinate of the height.
            largest: degrees. The same generator gives the same axes and the same share of ``largest`` for any value.
        """
        heading = 2 * math.pi * self._tensor(lambda generator: generator.random())
        angle = math.radians(largest) * self._tensor(lambda generator: generator.random())
        return _about(up_axis, heading) @ _about((up_axis + 1) % 3, angle) @ _about(up_axis, -heading)

    def noise(self, num_points: int) -> Float[Tensor, "object point 3"]:
        """Normal numbers of standard deviation 1."""
        return self._tensor(lambda generator: generator.normal(size=(num_points, 3)))

    def _tensor(self, make: Callable[[np.random.Generator], object]) -> Tensor:
        return torch.from_numpy(np.stack([np.asarray(make(generator)) for generator in self._generators]))


def turn(points: Float[Tensor, "object point 3"], rotation: Float[Tensor, "object 3 3"]) -> Tensor:
    """``[object, point, 3]`` x ↦ R x, in double precision and rounded once."""
    rotation = rotation.to(points.device, non_blocking=True)
    return torch.einsum("bik,bnk->bni", rotation.double(), points.double()).to(points.dtype)


def _about(axis: int, angle: Float[Tensor, " object"]) -> Float[Tensor, "object 3 3"]:
    return rotation_about_axis(torch.eye(3, dtype=torch.float64)[axis], angle)


def random_rotations(draws: CloudDraws, kind: str, up_axis: int) -> Float[Tensor, "object 3 3"]:
    """Rotations of an augmentation, ``vertical`` or ``so3``."""
    return draws.haar() if kind == SO3 else draws.vertical(up_axis)
