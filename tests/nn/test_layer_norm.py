"""LayerNorm against PyTorch's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

from se3t.nn import layer_norm
from se3t.nn.layer_norm import LayerNorm


def layers(dtype: torch.dtype = torch.float64) -> tuple[nn.LayerNorm, LayerNorm]:
    torch.manual_seed(0)
    theirs, ours = nn.LayerNorm(7).to(dtype), LayerNorm(7).to(dtype)
    with torch.no_grad():
        theirs.weight.add_(torch.randn(7))
        theirs.bias.add_(torch.randn(7))
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def all_derivatives(layer: nn.LayerNorm, value: Tensor, times: int) -> list[Tensor]:
    """Result, and gradients of a scalar of the gradients, ``times`` times."""
    leaf = value.clone().requires_grad_()
    results = [layer(leaf)]
    leaves = [leaf, layer.weight, layer.bias]
    for _ in range(times):
        total = sum((part * (part.detach() + 0.3).sin()).sum() for part in results[-3:])
        results += torch.autograd.grad(total, leaves, create_graph=True, allow_unused=True, materialize_grads=True)
    return [part.detach() for part in results]


@pytest.mark.parametrize("shape", [(5, 7), (2, 3, 7), (0, 7)])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_values_and_derivatives_are_those_of_pytorch(shape: tuple[int, ...], times: int) -> None:
    value = torch.randn(shape, dtype=torch.float64)
    for expected, received in zip(*(all_derivatives(layer, value, times) for layer in layers()), strict=True):
        torch.testing.assert_close(received, expected)


def test_forces_and_their_gradients_are_those_of_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient by the value alone is differentiated, by formulas of our own."""
    monkeypatch.delattr(layer_norm, "second_gradients_of")
    value = torch.randn(6, 7, dtype=torch.float64)
    results = []
    for layer in layers():
        leaf = value.clone().requires_grad_()
        (force,) = torch.autograd.grad(layer(leaf).square().sum(), leaf, create_graph=True)
        force.sin().sum().backward()
        results.append([force.detach(), leaf.grad, layer.weight.grad, layer.bias.grad])
    for expected, received in zip(*results, strict=True):
        torch.testing.assert_close(received, expected)


def test_derivatives_are_exact_by_finite_differences() -> None:
    _, layer = layers()
    leaf = torch.randn(4, 7, dtype=torch.float64, requires_grad=True)
    assert gradcheck(layer, leaf)
    assert gradgradcheck(layer, leaf)


def test_batches_of_gradients_and_transforms_go_through() -> None:
    theirs, ours = layers()
    value = torch.randn(3, 7, dtype=torch.float64)
    leaf, probes = value.clone().requires_grad_(), torch.randn(4, 3, 7, dtype=torch.float64)
    expected, received = (
        torch.autograd.grad(layer(leaf), leaf, probes, is_grads_batched=True)[0] for layer in (theirs, ours)
    )
    torch.testing.assert_close(received, expected)
    torch.testing.assert_close(torch.func.jacrev(ours)(value), torch.func.jacrev(theirs)(value))
