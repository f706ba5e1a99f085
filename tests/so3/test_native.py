"""The compiled code of so3 against torch's operations."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.library import opcheck

from se3t.so3 import spherical_harmonics
from se3t.so3.frame import polar_frames
from se3t.so3.native import unavailable

CPU = torch.device("cpu")
FLOAT64 = torch.float64
ONLY_FORWARD = ("test_schema", "test_autograd_registration", "test_faketensor")

pytestmark = pytest.mark.skipif(unavailable(CPU, FLOAT64) is not None, reason="there is no compiled code here")


def vectors_of(count: int, dtype: torch.dtype = FLOAT64) -> Tensor:
    """Of all lengths, in all directions; the first is zero, the second and third are the poles."""
    some = torch.randn(count, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    some[:3] = torch.tensor([[0.0, 0, 0], [0, 2, 0], [0, -3, 0]], dtype=torch.float64)[:count]
    return some.to(dtype)


def first_and_second(function: Callable[[Tensor], Tensor], vectors: Tensor) -> list[Tensor]:
    """Values, their gradient, the same where it may be differentiated, and the gradient of that."""
    leaf = vectors.clone(memory_format=torch.preserve_format).requires_grad_()
    values = function(leaf)
    weight = torch.linspace(-1, 1, values.numel(), dtype=values.dtype).view(values.shape)
    (plain,) = torch.autograd.grad(values, leaf, weight, retain_graph=True)
    (first,) = torch.autograd.grad(values, leaf, weight, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), leaf)
    return [values.detach(), plain, first.detach(), second]


def agree(received: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(received, expected, strict=True):
        scale = max(1.0, float(other.abs().max())) if other.numel() else 1.0
        assert one.shape == other.shape
        torch.testing.assert_close(one / scale, other / scale, rtol=1e-11, atol=1e-13)


@pytest.fixture
def without_compiled_code(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], list[Tensor]]], list[Tensor]]:
    def run(function: Callable[[], list[Tensor]]) -> list[Tensor]:
        with monkeypatch.context() as patch:
            patch.setattr("se3t.so3.native.unavailable", lambda device, dtype: "there is no compiler")
            return function()

    return run


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("max_degree", [1, 2, 5, 8, 12])
@pytest.mark.parametrize("count", [0, 1, 7, 8, 16, 33, 1000])
def test_harmonics_and_their_derivatives_are_those_of_torch(
    count: int, max_degree: int, normalize: bool, without_compiled_code
) -> None:
    def run() -> list[Tensor]:
        return first_and_second(lambda some: spherical_harmonics(max_degree, some, normalize), vectors_of(count))

    agree(run(), without_compiled_code(run))


def frames_together(max_degree: int, vectors: Tensor) -> Tensor:
    return torch.cat([frame.flatten(1) for frame in polar_frames(max_degree, vectors)], dim=1)


@pytest.mark.parametrize("max_degree", [1, 2, 3, 6])
@pytest.mark.parametrize("count", [0, 1, 7, 8, 16, 33, 1000])
def test_frames_and_their_derivatives_are_those_of_torch(count: int, max_degree: int, without_compiled_code) -> None:
    def run() -> list[Tensor]:
        return first_and_second(lambda some: frames_together(max_degree, some), vectors_of(count))

    agree(run(), without_compiled_code(run))


def test_frames_without_gradients_and_with_some_of_them(without_compiled_code) -> None:
    def run() -> list[Tensor]:
        vectors = vectors_of(20).requires_grad_()
        first = polar_frames(0, vectors)
        assert len(first) == 1
        frames = polar_frames(3, vectors)
        return [*first, *torch.autograd.grad(frames[2].square().sum() + frames[2].sum(), vectors)]

    agree(run(), without_compiled_code(run))


@pytest.mark.parametrize("exponent", [-45, -20, -12, -11, 0, 8, 18])
def test_frames_are_finite_at_every_length_of_float32(exponent: int, without_compiled_code) -> None:
    def run() -> list[Tensor]:
        vectors = (vectors_of(20) * 10.0**exponent).float()
        values, gradient, *_ = first_and_second(lambda some: frames_together(3, some), vectors)
        return [values, gradient / gradient.abs().max().clamp(min=1e-30)]

    for one, other in zip(run(), without_compiled_code(run), strict=True):
        assert one.isfinite().all()
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("normalize", [True, False])
def test_points_and_gradients_may_lie_in_memory_in_any_way(normalize: bool, without_compiled_code) -> None:
    vectors = vectors_of(70)
    layouts = [vectors, vectors.T.contiguous().T, torch.randn(70, 2, 5, dtype=FLOAT64)[:, 1, 1:4].copy_(vectors)]

    def run() -> list[Tensor]:
        results = []
        for some in layouts:
            leaf = some.detach().requires_grad_()
            values = spherical_harmonics(4, leaf, normalize)
            weight = torch.linspace(-1, 1, values.numel(), dtype=FLOAT64).view(values.shape)
            for grad in (weight, weight.T.contiguous().T, weight[:1].expand_as(weight)):
                results += torch.autograd.grad(values, leaf, grad, retain_graph=True)
        return results

    agree(run(), without_compiled_code(run))


def test_many_points_are_shared_among_threads(without_compiled_code) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:

        def run() -> list[Tensor]:
            vectors = vectors_of(10_000)
            harmonics = first_and_second(lambda some: spherical_harmonics(3, some), vectors)
            return harmonics + first_and_second(lambda some: frames_together(3, some), vectors)

        agree(run(), without_compiled_code(run))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("normalize", [True, False])
def test_harmonics_keep_what_torch_asks_of_operators(normalize: bool) -> None:
    points = vectors_of(9).T.requires_grad_()
    opcheck(torch.ops.se3t.spherical_harmonics.default, (points, 3, normalize))
    (rows,) = torch.ops.se3t.spherical_harmonics(points.detach(), 3, normalize)
    arguments = (torch.randn_like(rows), points, rows, 3, normalize)
    opcheck(torch.ops.se3t.spherical_harmonics_backward.default, arguments, test_utils=ONLY_FORWARD)


def test_frames_keep_what_torch_asks_of_operators() -> None:
    vectors = vectors_of(9).requires_grad_()
    opcheck(torch.ops.se3t.polar_frames.default, (vectors, 3))
    grads = [torch.randn_like(frame) for frame in torch.ops.se3t.polar_frames(vectors.detach(), 3)]
    opcheck(torch.ops.se3t.polar_frames_backward.default, (grads, vectors), test_utils=ONLY_FORWARD)


def test_derivatives_of_compiled_frames_agree_with_finite_differences() -> None:
    apart = torch.tensor([0.0, 0.1, 0.0], dtype=FLOAT64)  # from where the two charts meet
    vectors = (torch.cat([vectors_of(6)[3:], torch.eye(3, dtype=FLOAT64)]) + apart).requires_grad_()
    assert gradcheck(lambda some: frames_together(3, some), vectors)
    assert gradgradcheck(lambda some: frames_together(3, some), vectors)


@pytest.mark.parametrize("normalize", [True, False])
def test_derivatives_of_the_compiled_gradient_agree_with_finite_differences(normalize: bool) -> None:
    vectors = vectors_of(5)[1:].requires_grad_()
    assert gradcheck(lambda some: spherical_harmonics(4, some, normalize), vectors)
    assert gradgradcheck(lambda some: spherical_harmonics(3, some, normalize), vectors)
    grads = torch.randn(2, 4, 16, dtype=FLOAT64)
    values = spherical_harmonics(3, vectors, normalize)
    (together,) = torch.autograd.grad(values, vectors, grads, is_grads_batched=True, retain_graph=True)
    apart = [torch.autograd.grad(values, vectors, grad, retain_graph=True)[0] for grad in grads]
    torch.testing.assert_close(together, torch.stack(apart), rtol=1e-12, atol=1e-12)
