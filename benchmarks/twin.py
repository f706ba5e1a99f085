"""Kernel ``e3nn``: the convolutions of the same model as tensor products of e3nn, as a user of e3nn would write them.

The radial networks, attention and everything between the convolutions are ours, so that values equal ours: only the
messages W^{lk}(x_j − x_i) f_j^k are computed by ``e3nn.o3.TensorProduct`` with one weight for every edge, path and pair
of channels.
"""

from __future__ import annotations

import importlib.util
import warnings
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from se3t.fiber import Features, Fiber
from se3t.nn import RadialNetwork
from se3t.nn.basis import EquivariantBasis, path_degrees
from se3t.nn.kernels import KERNELS, Sources
from se3t.nn.radial import affine
from se3t.so3 import e3nn_sign

E3NN = "e3nn"


def register() -> None:
    """Offer it as kernel ``e3nn`` of this process."""
    KERNELS[E3NN] = __name__


def unavailable(device: torch.device) -> str | None:
    """Why the kernel cannot run; None where it can."""
    missing = importlib.util.find_spec(E3NN) is None
    return f"it needs the package {E3NN}; install it: pip install 'se3t[bench]'" if missing else None


def messages(sources: Sources, radial: RadialNetwork, basis: EquivariantBasis, memory: str = "auto") -> Features:
    """Messages of all edges, see :mod:`se3t.nn.kernels`; ``memory`` has no effect."""
    if radial not in _MADE:
        _MADE[radial] = TensorProductKernel(radial)
    return _MADE[radial](sources, radial, basis)


class TensorProductKernel:
    """Messages for the fibers of one radial network.

    Args:
        radial: the network whose output the paths are weighted with.
    """

    def __init__(self, radial: RadialNetwork) -> None:
        self.fiber_in, self.fiber_out = radial.fiber_in, radial.fiber_out
        self.paths = [(l, k, path, J) for l in self.fiber_out for k in self.fiber_in for path, J in _paths(l, k)]
        self.largest = self.fiber_in.max_degree + self.fiber_out.max_degree
        self._products: dict[tuple[torch.dtype, torch.device], Any] = {}

    def __call__(self, sources: Sources, radial: RadialNetwork, basis: EquivariantBasis) -> Features:
        features = sources.gathered()
        flat = torch.cat([features[degree].flatten(1) for degree in self.fiber_in], dim=1)
        harmonics = basis.harmonics[:, : (self.largest + 1) ** 2]
        hidden = [rows.repeat_interleave(basis.geometry.repeat, 0) for rows in radial(basis.geometry)]
        out = self._product(flat)(flat, harmonics, self._weights(radial, hidden))
        sizes = [channels * (2 * degree + 1) for degree, channels in self.fiber_out.items()]
        return {
            degree: part.unflatten(1, (self.fiber_out[degree], -1))
            for degree, part in zip(self.fiber_out, out.split(sizes, dim=1), strict=True)
        }

    def _weights(self, radial: RadialNetwork, hidden: list[Tensor]) -> Tensor:
        """``[edge, Σ paths C_in C_out]`` in e3nn's order; signs and order are those of the small last layers."""
        parts: dict[int, list[tuple[Tensor, Tensor]]] = {}
        for l, k, path, degree in self.paths:
            weight, bias = radial.last_layer(l, k)
            sign, trunk = e3nn_sign(l, k, degree), radial.trunk_of[l, k]
            own = (sign * weight[:, :, path].mT.flatten(1), sign * bias[:, path].mT.flatten())
            parts.setdefault(trunk, []).append(own)
        # Trunks are numbered in the order of the pairs, which is that of the paths, or there is a single one.
        joined = [
            affine(hidden[trunk], torch.cat([weight for weight, _ in own], dim=1), torch.cat([bias for _, bias in own]))
            for trunk, own in parts.items()
        ]
        return torch.cat(joined, dim=1) if len(joined) > 1 else joined[0]

    def _product(self, like: Tensor) -> Any:
        key = (like.dtype, like.device)
        if key not in self._products:
            self._products[key] = self._make(like)
        return self._products[key]

    def _make(self, like: Tensor) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its use of functions that torch deprecates
            from e3nn import o3

            row = {degree: number for number, degree in enumerate(self.fiber_out)}
            column = {degree: number for number, degree in enumerate(self.fiber_in)}
            default = torch.get_default_dtype()
            torch.set_default_dtype(like.dtype)  # in which it makes its coefficients
            try:
                return o3.TensorProduct(
                    _irreps(o3, self.fiber_in),
                    _irreps(o3, Fiber.uniform(self.largest + 1, 1)),
                    _irreps(o3, self.fiber_out),
                    [(column[k], degree, row[l], "uvw", True) for l, k, _, degree in self.paths],
                    irrep_normalization="none",
                    path_normalization="none",
                    shared_weights=False,
                    internal_weights=False,
                ).to(like.device)
            finally:
                torch.set_default_dtype(default)


_MADE: WeakKeyDictionary[RadialNetwork, TensorProductKernel] = WeakKeyDictionary()


def _paths(degree_out: int, degree_in: int) -> list[tuple[int, int]]:
    return list(enumerate(path_degrees(degree_out, degree_in)))


def _irreps(o3: Any, fiber: Fiber) -> Any:
    return o3.Irreps([(channels, (degree, 1)) for degree, channels in fiber.items()])
