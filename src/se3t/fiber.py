"""Fibers and features: which types a vector field carries, and the field itself.

A *fiber* is the direct sum f = ⊕_l f^l of the paper (Section 2): for every degree l (the paper's "type-l") a number of
channels, each with 2l+1 components that a rotation mixes by the Wigner matrix D^l. ``Fiber`` is the type, ``Features``
the value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TypeAlias

import torch
from torch import Tensor

from se3t.so3 import wigner_d

Features: TypeAlias = dict[int, Tensor]
"""Field values by degree: ``features[l]`` has shape ``[..., channels, 2l+1]``, components m = -l..l."""

_TERM = re.compile(r"^\s*(\d+)\s*x\s*(\d+)\s*$")


class Fiber(Mapping[int, int]):
    """Immutable, hashable map from degree to number of channels, always ordered by degree.

    Degrees with zero channels are dropped, so that equal types compare equal.

    Args:
        channels: a mapping ``{degree: channels}``, or a string such as ``"16x0+16x1"`` (channels x degree).

    Raises:
        ValueError: when a degree or a number of channels is negative, or the string cannot be read.
    """

    __slots__ = ("_channels",)

    def __init__(self, channels: Mapping[int, int] | str) -> None:
        items = _parse(channels) if isinstance(channels, str) else dict(channels)
        for degree, count in items.items():
            if int(degree) != degree or int(count) != count or degree < 0 or count < 0:
                raise ValueError(f"a fiber needs whole numbers >= 0, got {count} channels of degree {degree}")
        self._channels: dict[int, int] = {degree: items[degree] for degree in sorted(items) if items[degree] > 0}

    @classmethod
    def uniform(cls, num_degrees: int, channels: int) -> Fiber:
        """Degrees 0 … num_degrees - 1, each with the same number of channels."""
        return cls(dict.fromkeys(range(num_degrees), channels))

    @classmethod
    def of(cls, features: Features) -> Fiber:
        """The fiber that ``features`` belongs to."""
        return cls({degree: value.shape[-2] for degree, value in features.items()})

    def __getitem__(self, degree: int) -> int:
        return self._channels[degree]

    def __iter__(self) -> Iterator[int]:
        return iter(self._channels)

    def __len__(self) -> int:
        return len(self._channels)

    def __hash__(self) -> int:
        return hash(tuple(self._channels.items()))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Fiber):
            return self._channels == other._channels
        return NotImplemented

    def __add__(self, other: Fiber) -> Fiber:
        """Channel-wise concatenation, degree by degree."""
        return Fiber({degree: self.get(degree, 0) + other.get(degree, 0) for degree in {*self, *other}})

    def __repr__(self) -> str:
        return "+".join(f"{count}x{degree}" for degree, count in self._channels.items()) or "0"

    @property
    def degrees(self) -> tuple[int, ...]:
        """The degrees present, ascending."""
        return tuple(self._channels)

    @property
    def max_degree(self) -> int:
        """The largest degree present; -1 for an empty fiber."""
        return max(self._channels, default=-1)

    @property
    def dim(self) -> int:
        """Number of real components: Σ_l channels_l (2l+1)."""
        return sum(count * (2 * degree + 1) for degree, count in self._channels.items())

    def restrict(self, degrees: Mapping[int, int] | tuple[int, ...]) -> Fiber:
        """The part of this fiber whose degrees also occur in ``degrees``."""
        return Fiber({degree: count for degree, count in self.items() if degree in degrees})

    def check(self, features: Features, name: str = "features", *others: Features) -> None:
        """Raise ``ValueError`` unless ``features``, with ``others`` as further channels, are a field of this fiber."""
        channels: dict[int, int] = {}
        for part in (features, *others):
            for degree, value in part.items():
                if value.dim() < 2 or value.shape[-1] != 2 * degree + 1:
                    raise ValueError(
                        f"{name}: degree {degree} needs {2 * degree + 1} components in the last dimension after "
                        f"channels, got shape {tuple(value.shape)}"
                    )
                if value.shape[-2]:
                    channels[degree] = channels.get(degree, 0) + value.shape[-2]
        if channels != self._channels:
            raise ValueError(f"{name}: expected fiber {self!r}, got {Fiber(channels)!r}")


def _parse(text: str) -> dict[int, int]:
    items: dict[int, int] = {}
    if text.strip() == "0":
        return items
    for term in text.split("+"):
        match = _TERM.match(term)
        if match is None:
            raise ValueError(f"cannot read {term!r} in fiber {text!r}: expected channels x degree, such as '16x0+16x1'")
        count, degree = int(match[1]), int(match[2])
        items[degree] = items.get(degree, 0) + count
    return items


def cat_features(*parts: Features) -> Features:
    """Concatenate fields channel-wise, degree by degree; a degree missing in one part is taken from the others.

    Args:
        parts: fields over the same points, ``part[l]``: ``[..., channels, 2l+1]``.
    """
    degrees = sorted({degree for part in parts for degree in part})
    joined = {degree: [part[degree] for part in parts if degree in part] for degree in degrees}
    return {degree: values[0] if len(values) == 1 else torch.cat(values, dim=-2) for degree, values in joined.items()}


def split_features(features: Features, *fibers: Fiber) -> tuple[Features, ...]:
    """Undo :func:`cat_features`: cut ``features`` channel-wise into fields of the given fibers.

    Raises:
        ValueError: when the fibers do not add up to the fiber of ``features``.
    """
    total = sum(fibers, start=Fiber({}))
    total.check(features)
    parts: tuple[Features, ...] = tuple({} for _ in fibers)
    for degree, value in features.items():
        pieces = value.split([fiber.get(degree, 0) for fiber in fibers], dim=-2)
        for part, fiber, piece in zip(parts, fibers, pieces, strict=True):
            if degree in fiber:
                part[degree] = piece
    return parts


def rotate_features(features: Features, rotation: Tensor) -> Features:
    """Act on every type-l value with D^l(rotation): the representation L_g on fields at fixed points.

    Args:
        features: ``[..., channels, 2l+1]`` by degree.
        rotation: ``[3, 3]``, or ``[..., 3, 3]`` broadcastable over the leading dimensions of the features.

    Returns:
        fields of the dtype of ``features``; the product is formed in the wider of the two dtypes and rounded once.
    """
    return {degree: _rotate(value, wigner_d(degree, rotation)) for degree, value in features.items()}


def _rotate(value: Tensor, matrix: Tensor) -> Tensor:
    dtype = torch.promote_types(value.dtype, matrix.dtype)
    return (value.to(dtype) @ matrix.to(dtype).transpose(-1, -2)).to(value.dtype)
