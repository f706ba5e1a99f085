"""Real spherical harmonics in Cartesian form, by the explicit formula and Legendre recursion of the paper's appendix.

With the polar axis y, the azimuth φ = atan2(x, z) and s = sin θ, the formula

    Y_Jm = √((2J+1)/4π · (J−|m|)!/(J+|m|)!) · P_J^{|m|}(cos θ) · {√2 sin |m|φ (m < 0), 1 (m = 0), √2 cos mφ (m > 0)}

needs no angle: P_J^m / s^m is a polynomial in y = cos θ, and s^m cos mφ, s^m sin mφ are the real and imaginary part
of (z + i x)^m. Every factor is a polynomial, so values and all derivatives are finite in every direction.

The recursion (J−m) P_J^m = (2J−1) y P_{J−1}^m − (J+m−1) P_{J−2}^m subtracts nearly equal numbers near the poles. We
carry their difference instead: for T_J^m = P_J^m / s^m, divided by its value at the pole, and with 1 = y² + s²,

    T_J = y T_{J−1} + c E_J,    E_J = y E_{J−1} − b s² T_{J−2}    (c, b: constants of J and m)

is the same recursion; its corrections E vanish at the poles, and it is homogeneous: on a vector of any length r it
gives the solid harmonics r^J Y_J(x/r).
"""

from __future__ import annotations

from collections.abc import Iterator
from math import pi, sqrt
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from se3t.compiling import apply, computed, copied, register
from se3t.so3 import native
from se3t.so3.native.harmonics import fill_harmonics, harmonics_gradient
from se3t.so3.recursion import Step, derivatives, steps_up_to
from se3t.so3.safe import is_zero, masked_norm
from se3t.so3.wrapped import has_memory, is_transforming

_POINTS_PER_CORE = 2**16  # a float32 row of a block takes a quarter of a megabyte of each core's cache


def spherical_harmonics(
    max_degree: int, vectors: Float[Tensor, "*batch 3"], normalize: bool = True
) -> Float[Tensor, "*batch components"]:
    """Real spherical harmonics Y_J (Eq. 8), J = 0 … max_degree, orthonormal on the sphere: ∫ Y_Jm Y_J'm' = δ_JJ' δ_mm'.

    No Condon–Shortley phase and no (−1)^J; component order m = −J … J; Y_1 = √(3/4π) (x, y, z).

    Args:
        max_degree: largest degree, 0 or more.
        vectors: ``[*batch, 3]``, any unit. The zero vector has no direction: its Y_0 is 1/√4π, all other values are 0,
            and so are all derivatives. A float32 vector is normalised in float64 and rounded once.
        normalize: False takes the vectors as they are and returns the solid harmonics ‖x‖^J Y_J(x/‖x‖), polynomials.

    Returns:
        ``[*batch, (max_degree+1)²]``; degree J is the slice ``J² : (J+1)²``. A view of memory in which the last
        dimension is the outermost, as the computation leaves it; ``.contiguous()`` costs a copy.

    Raises:
        ValueError: when ``max_degree`` is negative.

    Source: the paper's appendix on spherical harmonics. The Cartesian form and the pole-safe recursion are ours.

    **Deviation**: the authors' code evaluates the formula in angles and carries a further factor (−1)^J, which we drop:
    see :func:`se3t.so3.to_authors_phase`.
    """
    if max_degree < 0:
        raise ValueError(f"max_degree: expected 0 or more, got {max_degree}")
    if vectors.dtype in (torch.float16, torch.bfloat16):
        return spherical_harmonics(max_degree, vectors.float(), normalize).to(vectors.dtype)
    if max_degree == 0 and not vectors.requires_grad:
        return torch.full_like(vectors[..., :1], 1 / sqrt(4 * pi))
    shape = vectors.shape
    points = (vectors if len(shape) == 2 else vectors.reshape(-1, 3)).T  # [3, point]
    if torch.compiler.is_compiling():
        (rows,) = _operator(points, max_degree, normalize)
    elif is_transforming():
        rows = _SphericalHarmonics.apply(None, points, max_degree, normalize)
    else:
        rows = apply(_SphericalHarmonics, None, points, max_degree, normalize)
    return rows.T if len(shape) == 2 else rows.T.reshape(*shape[:-1], (max_degree + 1) ** 2)


def associated_legendre(max_degree: int, x: Float[Tensor, "*batch"]) -> dict[tuple[int, int], Tensor]:
    """Associated Legendre functions P_J^m(x), 0 ≤ m ≤ J, *without* the Condon–Shortley phase: P_1^1 = +√(1−x²).

    Args:
        max_degree: largest degree, 0 or more.
        x: ``[*batch]``, cosine of the polar angle, in [−1, 1].

    Returns:
        ``{(J, m): [*batch]}`` for J ≤ max_degree. For instance P_3^1(0.3) = −0.787; with the phase it would be 0.787.

    Gradients are finite but for odd m at x = ±1, where √(1−x²) has none.

    Source: the recursion of :func:`spherical_harmonics`.
    """
    square = (1 - x) * (1 + x)
    powers = [square**half for half in range(max_degree // 2 + 1)]  # even m: polynomials, smooth at x = ±1
    sines = [powers[order // 2] * (square.sqrt() if order % 2 else 1) for order in range(max_degree + 1)]
    return {
        (step.degree, step.order): step.pole * sines[step.order] * factor
        for step, factor in _polar_factors(max_degree, x, square)
    }


def _polar_factors(max_degree: int, y: Tensor, square: Tensor) -> Iterator[tuple[Step, Tensor]]:
    """T_J^m for all 0 ≤ m ≤ J, in the order of :func:`steps_up_to`; ``square`` is s² = x² + z²."""
    one = torch.ones_like(y)
    before = last = correction = one
    for step in steps_up_to(max_degree):
        distance = step.degree - step.order
        if distance < 2:
            before, last = one, y if distance else one
        else:
            if distance == 2:
                correction = square * -step.loss
            else:
                correction = torch.mul(y, correction).addcmul_(square, before, value=-step.loss)
            before, last = last, torch.mul(y, last).add_(correction, alpha=step.gain)
        yield step, last


def _azimuth_factors(max_degree: int, x: Tensor, z: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Real and imaginary part of (z + i x)^m for m = 0 … max_degree: s^m cos mφ and s^m sin mφ."""
    cosines, sines = [torch.ones_like(z), z], [torch.zeros_like(x), x]
    for _ in range(1, max_degree):
        cosine, sine = cosines[-1], sines[-1]
        cosines.append(torch.mul(z, cosine).addcmul_(x, sine, value=-1))
        sines.append(torch.mul(z, sine).addcmul_(x, cosine))
    return cosines, sines


def _fill_rows(max_degree: int, points: Tensor, rows: Tensor) -> None:
    """Write r^J Y_J of points ``[3, point]`` to ``rows``, ``[(max_degree+1)², point]``."""
    x, y, z = points
    cosines, sines = _azimuth_factors(max_degree, x, z)
    for step, factor in _polar_factors(max_degree, y, torch.mul(x, x).addcmul_(z, z)):
        middle, order = step.degree * step.degree + step.degree, step.order
        if order == 0:
            torch.mul(factor, step.scale, out=rows[middle])
            continue
        scaled = factor * step.scale
        torch.mul(cosines[order], scaled, out=rows[middle + order])
        torch.mul(sines[order], scaled, out=rows[middle - order])


def _directions(points: Tensor) -> Tensor:
    """x/‖x‖ of points ``[3, point]``, as ``safe_normalize`` defines it: 0 for the zero vector.

    Computed in float64 and rounded once, in few passes; not differentiable, because it works in place.
    """
    work = points.to(torch.float64)
    x, y, z = work
    square = torch.mul(x, x).addcmul_(y, y).addcmul_(z, z)
    inverse = square.masked_fill_(is_zero(square, points.dtype), torch.inf).rsqrt_()
    return torch.mul(work, inverse, out=torch.empty_like(points))


def _slope(max_degree: int, grad: Tensor, rows: Tensor) -> Tensor:
    """Σ_Jm grad_Jm ∇(r^J Y_Jm), ``[3, point]``, from the solid harmonics ``rows``; differentiable in both."""
    values, grads = rows.unbind(0), grad.unbind(0)
    sums = [torch.zeros_like(grads[0]) for _ in range(3)]
    in_place = has_memory(grad)
    for upper, axis, lower, factor in derivatives(max_degree):
        add = sums[axis].addcmul_ if in_place else sums[axis].addcmul
        sums[axis] = add(grads[upper], values[lower], value=factor)
    return torch.stack(sums)


def _block_size(tensor: Tensor) -> int:
    """Points to take at a time, so that a row stays in the cache of each core; all at once on other devices."""
    return _POINTS_PER_CORE * torch.get_num_threads() if tensor.device.type == "cpu" else max(tensor.shape[-1], 1)


def _harmonics(points: Tensor, max_degree: int, normalize: bool) -> list[Tensor]:
    """``torch.ops.se3t.spherical_harmonics``: rows ``[(max_degree+1)², point]`` of points ``[3, point]``."""
    (rows,) = result = _without_values(points, max_degree)
    if native.unavailable(points.device, points.dtype) is None:
        fill_harmonics(points, max_degree, normalize, rows)
        return result
    size = _block_size(points)
    for some, out in zip(points.split(size, dim=1), rows.split(size, dim=1), strict=True):
        some = some.contiguous()
        _fill_rows(max_degree, _directions(some) if normalize else some, out)
    return result


def _without_values(points: Tensor, max_degree: int, *_: Any) -> list[Tensor]:
    return [points.new_empty((max_degree + 1) ** 2, points.shape[1])]


def _gradient(grad: Tensor, points: Tensor, rows: Tensor, max_degree: int, normalize: bool) -> list[Tensor]:
    """``torch.ops.se3t.spherical_harmonics_backward``: gradient of the points."""
    if native.unavailable(points.device, points.dtype) is None:
        return [harmonics_gradient(grad, points, max_degree, normalize)]
    return copied([_composed_gradient(grad, points, rows, max_degree, normalize)], [torch.empty_like(points)])


def _composed_gradient(grad: Tensor, points: Tensor, rows: Tensor, max_degree: int, normalize: bool) -> Tensor:
    """The same in terms of torch's operations, differentiable any number of times.

    The derivative is made of solid harmonics again, ∂_i (r^J Y_J) ∈ span(r^(J−1) Y_{J−1}): it needs nothing but the
    values. With d = x/‖x‖ and the slope g of the solid harmonics at d, the gradient is (g − d (d·g)) / ‖x‖.
    """
    slope = _slope(max_degree, grad.contiguous(), rows)
    if not normalize:
        return slope
    work = points.to(torch.float64)
    zero, length = masked_norm(work, 0, points.dtype)
    directions = torch.where(zero, 0, work / length).to(points.dtype)
    inverse = torch.where(zero, 0, 1 / length).to(points.dtype)
    radial = (directions * slope).sum(0)
    return torch.addcmul(slope, directions, radial, value=-1) * inverse


class _SphericalHarmonics(torch.autograd.Function):
    """r^J Y_J as rows of points, in one pass over the points each way."""

    @staticmethod
    def forward(keyset: Any, points: Tensor, max_degree: int, normalize: bool) -> Tensor:
        if keyset is None:  # not by way of the operator
            return _harmonics(points, max_degree, normalize)[0]
        return computed(_operator, keyset, points, max_degree, normalize)[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, Tensor, int, bool], output: Tensor) -> None:
        _, points, *ctx.others = inputs
        ctx.save_for_backward(points, output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None, None]:
        points, rows = ctx.saved_tensors
        # to be differentiated again, or a batch of gradients
        is_composed = torch.is_grad_enabled() or not has_memory(grad)
        arguments = (grad, points, rows, *ctx.others)
        result = _composed_gradient(*arguments) if is_composed else _gradient_operator(*arguments)[0]
        return None, result, None, None


_operator = register(
    "spherical_harmonics(Tensor points, int max_degree, bool normalize) -> Tensor[]",
    _harmonics,
    _without_values,
    lambda *arguments: [apply(_SphericalHarmonics, *arguments)],
    device="CompositeExplicitAutograd",
)
_gradient_operator = register(
    "spherical_harmonics_backward(Tensor grad, Tensor points, Tensor rows, int max_degree, bool normalize) -> Tensor[]",
    _gradient,
    lambda grad, points, *_: [torch.empty_like(points)],
    lambda _, *arguments: [_composed_gradient(*arguments)],
    device="CompositeExplicitAutograd",
)
