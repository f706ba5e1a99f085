"""The class ``Fiber`` as callers of NVIDIA's code use it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from se3t import fiber


class FiberEl(NamedTuple):
    """One type of a fiber: its degree and number of channels."""

    degree: int
    channels: int


class Fiber(dict):  # not dict[int, int]: its iterator yields pairs
    """Channels by degree, with the methods of ``se3_transformer.model.fiber.Fiber``.

    Args:
        structure: a mapping ``{degree: channels}`` (degrees may be strings), or pairs (degree, channels).

    Raises:
        ValueError: when a degree or a number of channels is not a whole number of at least 0.

    **Deviation**: ``structure`` is ordered by degree; theirs by channels, which no result depends on.
    """

    def __init__(self, structure: Mapping[Any, int] | Iterable[tuple[int, int]]) -> None:
        pairs = dict.items(structure) if isinstance(structure, dict) else structure
        elements = sorted(FiberEl(int(degree), int(channels)) for degree, channels in pairs)
        negative = [element for element in elements if min(element) < 0]
        if negative:
            raise ValueError(f"Fiber: expected whole numbers of at least 0, got {negative[0]}")
        self.structure = elements
        super().__init__(elements)

    @staticmethod
    def create(num_degrees: int, num_channels: int) -> Fiber:
        """Degrees 0 … num_degrees − 1 with equal channels."""
        return Fiber(dict.fromkeys(range(num_degrees), num_channels))

    @staticmethod
    def from_features(feats: Mapping[str, Tensor]) -> Fiber:
        """The fiber of features ``[…, C, 2l+1]`` by degree.

        Raises:
            ValueError: when the last dimension does not fit the degree.
        """
        for degree, value in feats.items():
            if value.dim() != 3 or value.shape[-1] != 2 * int(degree) + 1:
                raise ValueError(
                    f"degree {degree}: expected [point, channels, {2 * int(degree) + 1}], got {tuple(value.shape)}"
                )
        return Fiber({int(degree): value.shape[-2] for degree, value in feats.items()})

    @staticmethod
    def from_native(native: fiber.Fiber) -> Fiber:
        """The same type as a :class:`se3t.fiber.Fiber`."""
        return Fiber(dict(native.items()))

    @property
    def native(self) -> fiber.Fiber:
        """The same type as this library writes it."""
        return fiber.Fiber(dict(self.structure))

    @property
    def degrees(self) -> list[int]:
        """The degrees, ascending."""
        return [element.degree for element in self.structure]

    @property
    def channels(self) -> list[int]:
        """Channels in the order of the degrees."""
        return [element.channels for element in self.structure]

    @property
    def num_features(self) -> int:
        """Number of components of all types together."""
        return sum(channels * (2 * degree + 1) for degree, channels in self.structure)

    def __getitem__(self, degree: int) -> int:
        """Channels of a degree, 0 for one that does not occur."""
        return self.get(degree, 0)

    def __iter__(self) -> Iterator[FiberEl]:
        return iter(self.structure)

    def __reduce__(self) -> tuple[Any, ...]:
        return Fiber, (self.structure,)

    def __mul__(self, other: int | Fiber) -> Any:
        """All pairs of types with another fiber; with a number, that many times as many channels."""
        if isinstance(other, Fiber):
            return itertools.product(self.structure, other.structure)
        return Fiber({degree: channels * other for degree, channels in self.structure})

    def __add__(self, other: int | Fiber) -> Fiber:
        """More channels of each degree: a number, or as many as another fiber has of it."""
        return Fiber(
            {degree: channels + (other[degree] if isinstance(other, Fiber) else other) for degree, channels in self}
        )

    def __repr__(self) -> str:
        return str(self.structure)

    @staticmethod
    def combine_max(f1: Fiber, f2: Fiber) -> Fiber:
        """The larger number of channels, for every degree of either."""
        return Fiber({degree: max(f1[degree], f2[degree]) for degree in {*f1.degrees, *f2.degrees}})

    @staticmethod
    def combine_selectively(f1: Fiber, f2: Fiber) -> Fiber:
        """The sum of channels, for the degrees of the first."""
        return Fiber({degree: channels + f2[degree] for degree, channels in f1})

    def to_attention_heads(self, tensors: Mapping[str, Tensor], num_heads: int) -> Tensor:
        """``[…, C, 2l+1]`` by degree → ``[…, head, feature]``, degrees one after another."""
        parts = [tensors[str(degree)].flatten(-2).unflatten(-1, (num_heads, -1)) for degree in self.degrees]
        return torch.cat(parts, dim=-1)
