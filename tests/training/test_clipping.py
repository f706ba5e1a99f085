"""Clipping of gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from other_device import DEVICE, other_device
from se3t.training.module import clip_gradients

SHAPES = [(1,), (3, 5), (16, 33), (), (0, 2)]


def weights_with_gradients(dtype: torch.dtype, size: float) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    weights = [nn.Parameter(torch.zeros(shape, dtype=dtype)) for shape in SHAPES]
    for weight in weights:
        weight.grad = size * torch.randn(weight.shape, generator=generator, dtype=dtype)
    return [weights[0], nn.Parameter(torch.zeros(2, dtype=dtype)), *weights[1:]]  # one that the loss does not use


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e-3, 1.0, float("inf"), float("nan")])
def test_clipping_has_every_bit_of_torchs(dtype: torch.dtype, size: float) -> None:
    ours, theirs = weights_with_gradients(dtype, size), weights_with_gradients(dtype, size)
    clip_gradients(ours, 0.7)
    norm = nn.utils.clip_grad_norm_(theirs, 0.7)
    assert (size == 1e-3) == bool(norm < 0.7)
    for mine, other in zip(ours, theirs, strict=True):
        if other.grad is None:
            assert mine.grad is None
            continue
        assert mine.grad is not None
        torch.testing.assert_close(mine.grad, other.grad, rtol=0, atol=0, equal_nan=True)


def test_weights_without_gradients_are_left_alone() -> None:
    clip_gradients([nn.Parameter(torch.ones(2))], 1.0)


def test_nothing_is_read_on_another_device() -> None:
    with other_device() as found:
        weight = nn.Parameter(torch.ones(3).to(DEVICE))
        weight.grad = torch.ones(3).to(DEVICE)
        found.clear()
        clip_gradients([weight], 1e-2)
        assert found == []
