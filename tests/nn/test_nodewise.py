"""The compiled operators on the features of each node: equal to their composed forms, and sound for torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor
from torch.library import opcheck

from se3t.fiber import Fiber
from se3t.nn.kernels.native import unavailable
from se3t.nn.kernels.native.mixing import Mixing
from se3t.nn.kernels.native.nodewise import Shape
from se3t.nn.kernels.native.norm import Norm
from se3t.operators import mix, mix_backward, norm, norm_backward

pytestmark = [
    pytest.mark.skipif(unavailable(torch.device("cpu"), torch.float64) is not None, reason="there is no compiled code"),
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),  # torch, of its own
]
MIXINGS = [
    Mixing((Fiber("3x0+2x1"),), Fiber("4x0+1x1"), has_bias=True),
    Mixing((Fiber("2x0+8x2"), Fiber("8x0+1x1+9x2")), Fiber("8x0+3x1+17x2"), has_bias=False),
    Mixing((Fiber("1x3"), Fiber("16x0+33x3"), Fiber("2x0")), Fiber("40x0+33x3"), has_bias=True),
]
NORMS = [
    Norm(Fiber("3x0+8x1+17x2"), 1e-5),
    Norm(Fiber("1x0+5x3"), None),
    Norm(Fiber("2x1"), 1e-3),
]
OPERATORS = [(shape, mix, mix_backward) for shape in MIXINGS] + [(shape, norm, norm_backward) for shape in NORMS]
LAYOUTS: dict[str, Callable[[int, int, int], Tensor]] = {
    "by channel": lambda rows, channels, size: torch.randn(rows, channels, size, dtype=torch.float64),
    "by component": lambda rows, channels, size: torch.randn(rows, size, channels, dtype=torch.float64).mT,
    "part": lambda rows, channels, size: torch.randn(rows, size + 1, channels + 3, dtype=torch.float64).mT[:, 2:-1, 1:],
    "strided": lambda rows, channels, size: torch.randn(size, rows, 2 * channels, dtype=torch.float64)[
        ..., ::2
    ].permute(1, 2, 0),
}


def tensors_of(shape: Shape, rows: int, layout: str = "by component") -> list[Tensor]:
    torch.manual_seed(0)
    fibers = shape.parts if isinstance(shape, Mixing) else (shape.fiber,)
    features = [LAYOUTS[layout](rows, channels, 2 * l + 1) for fiber in fibers for l, channels in fiber.items()]
    if isinstance(shape, Mixing):
        out = shape.fiber_out
        sizes = [(channels, sum(part.get(l, 0) for part in shape.parts)) for l, channels in out.items()]
        sizes += [(out[0], 1)] if shape.has_bias else []
    else:
        sizes = [(channels,) for channels in shape.fiber.values()] * (1 if shape.epsilon is None else 2)
    for value in features:
        value += 0.2 * value.sign()  # short ones have steep gradients
    leaves = [*features, *(torch.randn(size, dtype=torch.float64) for size in sizes)]
    return [leaf.requires_grad_() for leaf in leaves]


def derivatives(function: Callable[[Sequence[Tensor]], list[Tensor]], tensors: list[Tensor]) -> list[Tensor]:
    """Values, gradients, and gradients of the squares of these."""
    out = function(tensors)
    total = torch.stack(
        [(value * torch.cos(torch.arange(value.numel())).view(value.shape)).sum() for value in out]
    ).sum()
    first = torch.autograd.grad(total, tensors, create_graph=True)
    squares = torch.stack([grad.square().sum() for grad in first]).sum()
    second = torch.autograd.grad(squares, tensors, allow_unused=True, materialize_grads=True)
    return [value.detach() for value in (*out, *first, *second)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("shape", "operator", "backward"), OPERATORS, ids=str)
def test_operator_equals_its_composed_form_in_values_and_derivatives(
    shape: Shape, operator: Callable[..., list[Tensor]], backward: object, layout: str
) -> None:
    tensors = tensors_of(shape, 11, layout)
    found = derivatives(lambda given: operator(given, shape.signature), tensors)
    torch.testing.assert_close(found, derivatives(shape.composed, tensors), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("rows", [0, 1, 4001])
@pytest.mark.parametrize("num_threads", [1, 3])
@pytest.mark.parametrize(("shape", "operator", "backward"), OPERATORS, ids=str)
def test_any_number_of_rows_and_threads_gives_the_same(
    shape: Shape,
    operator: Callable[..., list[Tensor]],
    backward: Callable[..., list[Tensor]],
    rows: int,
    num_threads: int,
) -> None:
    tensors = [tensor.detach().float() for tensor in tensors_of(shape, rows)]
    exact = [tensor.double().requires_grad_() for tensor in tensors]
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        out = operator(tensors, shape.signature)
        grads = [torch.cos(torch.arange(value.numel())).view(value.shape) for value in out]
        found = backward(grads, tensors, shape.signature)
    finally:
        torch.set_num_threads(before)
    expected = shape.composed(exact)
    wanted = torch.autograd.grad(expected, exact, [grad.double() for grad in grads])
    for one, other in zip([*out, *found], [*expected, *wanted], strict=True):
        assert one.shape == other.shape
        scale = max(1.0, float(other.detach().abs().max()) if other.numel() else 0.0)
        torch.testing.assert_close(one.double(), other.detach(), rtol=0, atol=2e-5 * scale)


@pytest.mark.parametrize(("shape", "operator", "backward"), OPERATORS, ids=str)
def test_operators_keep_what_torch_asks_of_operators(
    shape: Shape, operator: Callable[..., list[Tensor]], backward: Callable[..., list[Tensor]]
) -> None:
    tensors = tensors_of(shape, 5)
    opcheck(operator, (tensors, shape.signature))
    grads = [torch.randn_like(value) for value in operator(tensors, shape.signature)]
    only_forward = ("test_schema", "test_autograd_registration", "test_faketensor")
    opcheck(backward, (grads, tensors, shape.signature), test_utils=only_forward)


@pytest.mark.parametrize("shape", NORMS, ids=str)
def test_norm_passes_nan_on_and_zero_has_no_gradient(shape: Norm) -> None:
    tensors = tensors_of(shape, 3)
    with torch.no_grad():
        tensors[0][1] = 0
        tensors[0][2, 0, 0] = torch.nan
    out = norm(tensors, shape.signature)
    out[0][:2].sum().backward()
    assert out[0][2].isnan().any()
    assert (out[0][1] == 0).all()
    assert (tensors[0].grad[1] == 0).all()


@pytest.mark.parametrize(("shape", "operator", "backward"), OPERATORS, ids=str)
def test_a_tensor_of_another_size_is_refused(
    shape: Shape, operator: Callable[..., list[Tensor]], backward: Callable[..., list[Tensor]]
) -> None:
    tensors = [tensor.detach() for tensor in tensors_of(shape, 4)]
    grads = [torch.ones_like(value) for value in operator(tensors, shape.signature)]
    for number, tensor in enumerate(tensors):
        for other in (tensor[:-1], tensor[:, :-1] if tensor.shape[1:] else tensor[:0]):
            if number == 0 and shape.num_features == 1 and other.shape[1:] == tensor.shape[1:]:
                continue  # one tensor of features alone says how many rows there are
            wrong = [*tensors[:number], other, *tensors[number + 1 :]]
            with pytest.raises(ValueError, match="expected a tensor"):
                operator(wrong, shape.signature)
    for number, grad in enumerate(grads):
        with pytest.raises(ValueError, match="expected a tensor"):
            backward([*grads[:number], grad[:-1], *grads[number + 1 :]], tensors, shape.signature)
