"""``Fiber`` as callers of NVIDIA's code use it."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from se3t.compat.nvidia import Fiber, FiberEl
from se3t.fiber import Fiber as Native

FIBER = Fiber({1: 8, 0: 16, 2: 2})


@pytest.mark.parametrize("other", [{"0": 16, "1": 8, "2": 2}, [(2, 2), (0, 16), (1, 8)], FIBER, FIBER.structure])
def test_spellings_of_one_fiber_are_equal(other: object) -> None:
    assert Fiber(other) == FIBER  # type: ignore[arg-type]
    assert Fiber(other).degrees == [0, 1, 2]  # type: ignore[arg-type]


def test_sizes_are_in_the_order_of_the_degrees() -> None:
    assert FIBER.channels == [16, 8, 2]
    assert FIBER.structure == [FiberEl(0, 16), FiberEl(1, 8), FiberEl(2, 2)]
    assert FIBER.num_features == 16 + 3 * 8 + 5 * 2
    assert list(FIBER) == [(0, 16), (1, 8), (2, 2)]
    assert FIBER[7] == 0
    assert Fiber.create(3, 4) == Fiber({0: 4, 1: 4, 2: 4})


def test_an_empty_fiber_has_nothing() -> None:
    empty = Fiber({})
    assert empty.degrees == []
    assert empty.num_features == 0
    assert (FIBER + empty) == FIBER


def test_arithmetic_is_by_degree() -> None:
    assert Fiber({0: 32, 1: 16, 2: 4}) == FIBER * 2
    assert Fiber({0: 17, 1: 9, 2: 3}) == FIBER + 1
    assert Fiber({0: 4}) + Fiber({0: 1, 1: 5}) == Fiber({0: 5})
    assert list(Fiber({0: 1}) * Fiber({1: 2, 2: 3})) == [((0, 1), (1, 2)), ((0, 1), (2, 3))]
    assert Fiber.combine_max(Fiber({0: 4, 1: 1}), Fiber({1: 3, 2: 2})) == Fiber({0: 4, 1: 3, 2: 2})
    assert Fiber.combine_selectively(Fiber({0: 4, 1: 1}), Fiber({1: 3, 2: 2})) == Fiber({0: 4, 1: 4})


def test_features_tell_their_fiber() -> None:
    feats = {"0": torch.zeros(5, 16, 1), "1": torch.zeros(5, 8, 3), "2": torch.zeros(5, 2, 5)}
    assert Fiber.from_features(feats) == FIBER
    with pytest.raises(ValueError, match=r"degree 1: expected \[point, channels, 3\], got \(5, 8, 4\)"):
        Fiber.from_features({"1": torch.zeros(5, 8, 4)})


def test_heads_divide_the_channels_of_every_degree() -> None:
    value = {"0": torch.arange(4.0).reshape(1, 4, 1), "1": torch.arange(12.0).reshape(1, 4, 3)}
    heads = Fiber({0: 4, 1: 4}).to_attention_heads(value, 2)
    assert heads.tolist() == [[[0, 1, 0, 1, 2, 3, 4, 5], [2, 3, 6, 7, 8, 9, 10, 11]]]


def test_it_converts_to_ours_and_back_and_survives_copies() -> None:
    assert FIBER.native == Native("16x0+8x1+2x2")
    assert Fiber.from_native(FIBER.native) == FIBER
    assert pickle.loads(pickle.dumps(FIBER)) == copy.deepcopy(FIBER) == FIBER


def test_negative_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="whole numbers of at least 0"):
        Fiber({0: -1})
