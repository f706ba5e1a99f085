"""The angular part of the kernel: W_J^{lk}(x) = Σ_m Y_Jm(x/‖x‖) Q_Jm^{lk} (Equation 8 of the paper)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from se3t.compiling import lazy, table, without_autocast
from se3t.geometry import EdgeGeometry
from se3t.so3 import clebsch_gordan, spherical_harmonics
from se3t.so3.frame import polar_frames
from se3t.so3.wrapped import is_transforming


def num_paths(degree_out: int, degree_in: int) -> int:
    """Number of J in |k - l| … k + l: 2 min(l, k) + 1."""
    return 2 * min(degree_out, degree_in) + 1


def path_degrees(degree_out: int, degree_in: int) -> range:
    """The J of the paths p = 0, 1, …: |k - l| … k + l, ascending."""
    return range(abs(degree_out - degree_in), degree_out + degree_in + 1)


class EquivariantBasis:
    """Basis of all equivariant kernels on the edges of a graph, made once per forward pass and shared by all layers.

    Each kernel takes what it needs, made on first use: harmonics, dense kernels, or the frames of the edges. Everything
    is differentiable with respect to the positions behind ``geometry``. At coincident points only the part l = k, J = 0
    is non-zero, which keeps a layer exactly equivariant there.

    Args:
        geometry: lengths and directions of the edges.
        max_degree: largest degree of any input or output of the layers that use the basis.
    """

    def __init__(self, geometry: EdgeGeometry, max_degree: int) -> None:
        self.geometry = geometry
        self.max_degree = max_degree
        self._dense: dict[tuple[int, tuple[int, ...]], Tensor] = {}

    @lazy
    def harmonics(self) -> Float[Tensor, "edge component"]:
        """Y_J of the edge directions for J up to twice the largest degree, side by side."""
        with _kept(self.geometry.vector.device):
            return spherical_harmonics(2 * self.max_degree, self.geometry.vector)

    @lazy
    def coincident(self) -> Int[Tensor, " edge"]:
        """Indices of the edges of length zero."""
        return torch.nonzero(self.geometry.length == 0)[:, 0]

    @lazy
    def _frames(self) -> tuple[Tensor, ...]:
        with _kept(self.geometry.vector.device):
            return polar_frames(self.max_degree, self.geometry.vector)

    @lazy
    def radial_invariants(self) -> Float[Tensor, "row channel"]:
        """Input of the radial networks of the compiled kernel, see :class:`se3t.geometry.RadialRows`."""
        with _kept(self.geometry.vector.device):
            return self.geometry.radial_rows.invariants(self.geometry)

    def harmonic(self, degree: int) -> Float[Tensor, "edge component"]:
        """Y_J of the edge directions, ``[edge, 2J+1]``."""
        self._require(degree, 2 * self.max_degree)
        return self.harmonics[:, degree**2 : (degree + 1) ** 2]

    def frame(self, degree: int) -> Float[Tensor, "edge component component"]:
        """D^l of the rotation that takes the edge to the polar axis, ``[edge, 2l+1, 2l+1]``."""
        self._require(degree, self.max_degree)
        return self._frames[degree]

    def dense(self, degree_in: int, degrees_out: tuple[int, ...]) -> Float[Tensor, "edge row component"]:
        """All kernels from one input degree, one below the other.

        Returns:
            ``[edge, Σ_l (2l+1) paths(l, k), 2k+1]``; the rows run over l (in the given order), then the output
            component, then p.
        """
        self._require(max(degree_in, *degrees_out), self.max_degree)
        key = (degree_in, degrees_out)
        if key not in self._dense:
            harmonics = self.harmonics
            coupling = _coupling(degree_in, harmonics.shape[1], *degrees_out, harmonics.dtype, harmonics.device)
            with _kept(harmonics.device):
                self._dense[key] = (harmonics @ coupling).unflatten(1, (-1, 2 * degree_in + 1))
        return self._dense[key]

    def _require(self, degree: int, largest: int) -> None:
        if degree > largest:
            raise ValueError(
                f"degree {degree}: this basis was made for degrees up to {largest}; give it a larger max_degree"
            )


@contextmanager
def _kept(device: torch.device) -> Iterator[None]:
    """For what is made once and serves all layers: in full precision, and no part of the layer that asks first.

    Activation checkpointing runs that layer again, when this is there already; so it must not see what is saved here.
    """
    # torch.func and the compiler know no hooks, and no checkpointing of a layer either
    is_plain = torch.compiler.is_compiling() or is_transforming()
    hooks = nullcontext() if is_plain else torch.autograd.graph.saved_tensors_hooks(_as_it_is, _as_it_is)
    with without_autocast(device.type), hooks:
        yield


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


def _num_rows(degree_in: int, num_harmonics: int, *degrees_out: int) -> tuple[int, int]:
    rows = sum((2 * degree_out + 1) * num_paths(degree_out, degree_in) for degree_out in degrees_out)
    return num_harmonics, rows * (2 * degree_in + 1)


@table(_num_rows)
def _coupling(degree_in: int, num_harmonics: int, *others: Any) -> Tensor:
    """Constant matrix from the harmonics ``[j]`` to :meth:`EquivariantBasis.dense`; made in float64, cast last."""
    *degrees_out, dtype, device = others
    rows = []
    for degree_out in degrees_out:
        shape = (num_harmonics, 2 * degree_out + 1, num_paths(degree_out, degree_in), 2 * degree_in + 1)
        block = torch.zeros(shape, dtype=torch.float64)  # [j, k, p, i]
        for path, degree in enumerate(path_degrees(degree_out, degree_in)):
            coupling = clebsch_gordan(degree_out, degree_in, degree)
            block[degree**2 : (degree + 1) ** 2, :, path] = coupling.permute(2, 0, 1)
        rows.append(block.flatten(1, 2))
    return torch.cat(rows, dim=1).flatten(1).to(dtype=dtype, device=device)
