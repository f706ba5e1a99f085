"""Features and radial weights sorted by order m, in the frame of the edge, where only equal |m| couple."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from se3t.fiber import Features, Fiber

Pair: TypeAlias = tuple[int, int]


@dataclass(frozen=True)
class Layout:
    """Which degrees and channels a product has, and where its radial weights come from.

    Attributes:
        fiber_in: source features. fiber_out: messages.
        trunk_of: number of the trunk of each pair (degree_out, degree_in).
        mixing: for each pair the map from its J-paths to its orders, ``[order, path]``.
        repeat: consecutive edges that share their radial weights.
    """

    fiber_in: Fiber
    fiber_out: Fiber
    trunk_of: Mapping[Pair, int]
    mixing: Mapping[Pair, Tensor]
    repeat: int

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """All (degree_out, degree_in), in the order of the parameters."""
        return tuple((l, k) for l in self.fiber_out for k in self.fiber_in)

    @property
    def orders(self) -> range:
        """The orders m that couple."""
        return range(min(self.fiber_in.max_degree, self.fiber_out.max_degree) + 1)

    @property
    def num_trunks(self) -> int:
        """Number of trunks."""
        return max(self.trunk_of.values()) + 1

    def shared(self, value: Tensor) -> Tensor:
        """``[edge, a, c]`` → ``[unique, (edge a), c]``."""
        return value.unflatten(0, (-1, self.repeat)).flatten(1, 2) if self.repeat > 1 else value

    def single(self, value: Tensor) -> Tensor:
        """The inverse of :meth:`shared`."""
        return value.unflatten(1, (self.repeat, -1)).flatten(0, 1) if self.repeat > 1 else value


def stack(rotated: Features, order: int) -> Tensor:
    """Components ±order of all degrees: ``[edge, 1, (k u)]``, or rows (+order, -order) ``[edge, 2, (a|b k u)]``."""
    parts = [(value, degree) for degree, value in rotated.items() if degree >= order]
    plus = [value[:, degree + order] for value, degree in parts]
    if order == 0:
        return torch.cat(plus, dim=1)[:, None]
    minus = [value[:, degree - order] for value, degree in parts]
    return torch.cat([*plus, *minus, *minus, *(-value for value in plus)], dim=1).unflatten(1, (2, -1))


def components(products: Sequence[Tensor], fiber: Fiber) -> Features:
    """Rows (+m, -m) of each order ``[edge, 1 or 2, (l w)]`` back to components ``[edge, 2l+1, w]`` by degree.

    Orders that the input cannot reach are zero.
    """
    columns: dict[int, list[Tensor]] = {degree: [] for degree in fiber}
    for order, product in enumerate(products):
        degrees = [degree for degree in fiber if degree >= order]
        for degree, part in zip(degrees, product.split([fiber[degree] for degree in degrees], dim=2), strict=True):
            columns[degree].append(part)
    out: Features = {}
    for degree, parts in columns.items():
        missing = [torch.zeros_like(parts[0])] * (degree + 1 - len(parts))
        minus = [*missing, *(part[:, 1:] for part in reversed(parts[1:]))]
        out[degree] = torch.cat([*minus, parts[0], *(part[:, :1] for part in parts[1:]), *missing], dim=1)
    return out


def assemble(values: Mapping[Pair, Tensor], layout: Layout) -> list[Tensor]:
    """``[…, w, q, u]`` per pair → per order m one matrix ``[…, (l w), (a|b k u)]``; q runs over a_0, a_1 …, b_1 …"""
    matrices = []
    for order in layout.orders:
        degrees_in = [k for k in layout.fiber_in if k >= order]
        rows = []
        for l in (degree for degree in layout.fiber_out if degree >= order):
            symmetric = [values[l, k][..., order, :] for k in degrees_in]
            skew = [values[l, k][..., min(l, k) + order, :] for k in degrees_in if order > 0]
            rows.append(torch.cat([*symmetric, *skew], dim=-1))
        matrices.append(torch.cat(rows, dim=-2))
    return matrices


def rotate(features: Features, frames: Mapping[int, Tensor]) -> Features:
    """Into the frame of the edge, components first: ``[edge, u, 2k+1]`` → ``[edge, 2k+1, u]``."""
    return {degree: frames[degree] @ value.mT if degree else value.mT for degree, value in features.items()}


def rotate_back(features: Features, frames: Mapping[int, Tensor]) -> Features:
    """Out of the frame of the edge: ``[edge, 2l+1, w]`` → ``[edge, w, 2l+1]``."""
    return {degree: (frames[degree].mT @ value if degree else value).mT for degree, value in features.items()}


def rows(turned: Features, order: int) -> Tensor:
    """Components (+order, -order) of all degrees, ``[edge, 1 or 2, (l w)]``: the transpose of :func:`components`."""
    parts = [(value, degree) for degree, value in turned.items() if degree >= order]
    plus = [value[:, degree + order] for value, degree in parts]
    if order == 0:
        return torch.cat(plus, dim=1)[:, None]
    minus = [value[:, degree - order] for value, degree in parts]
    return torch.cat([*plus, *minus], dim=1).unflatten(1, (2, -1))


def unstack(stacks: Sequence[Tensor], fiber: Fiber) -> Features:
    """The transpose of :func:`stack`, for all orders at once: ``[edge, 2k+1, u]`` by degree."""
    some = stacks[0]
    out = {degree: some.new_zeros(some.shape[0], 2 * degree + 1, channels) for degree, channels in fiber.items()}
    for order, value in enumerate(stacks):
        degrees = [degree for degree in fiber if degree >= order]
        sizes = [fiber[degree] for degree in degrees]
        if order == 0:
            for degree, part in zip(degrees, value[:, 0].split(sizes, dim=1), strict=True):
                out[degree][:, degree] = part
            continue
        symmetric, skew = value.unflatten(2, (2, -1)).unbind(2)  # [edge, 2, (k u)]
        plus, minus = symmetric[:, 0] - skew[:, 1], symmetric[:, 1] + skew[:, 0]
        for degree, up, down in zip(degrees, plus.split(sizes, dim=1), minus.split(sizes, dim=1), strict=True):
            out[degree][:, degree + order], out[degree][:, degree - order] = up, down
    return out


def disassemble(matrices: Sequence[Tensor], layout: Layout) -> dict[Pair, Tensor]:
    """The transpose of :func:`assemble`: per order ``[…, (l w), (a|b k u)]`` → ``[…, w, q, u]`` per pair."""
    lead = matrices[0].shape[:-2]
    out = {
        (l, k): matrices[0].new_empty(*lead, layout.fiber_out[l], 2 * min(l, k) + 1, layout.fiber_in[k])
        for l, k in layout.pairs
    }
    for order, matrix in zip(layout.orders, matrices, strict=True):
        degrees_in = [k for k in layout.fiber_in if k >= order]
        degrees_out = [l for l in layout.fiber_out if l >= order]
        widths = [layout.fiber_in[k] for k in degrees_in] * (1 if order == 0 else 2)
        for l, row in zip(degrees_out, matrix.split([layout.fiber_out[l] for l in degrees_out], dim=-2), strict=True):
            for number, part in enumerate(row.split(widths, dim=-1)):
                k = degrees_in[number % len(degrees_in)]
                out[l, k][..., order if number < len(degrees_in) else min(l, k) + order, :] = part
    return out
