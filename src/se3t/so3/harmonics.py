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
from math import comb, factorial, pi, prod, sqrt
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from se3t.compiling import computed, constant, register
from se3t.so3.clebsch_gordan import clebsch_gordan
from se3t.so3.safe import is_zero, masked_norm
from se3t.so3.wrapped import has_memory

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
    points = vectors.reshape(-1, 3).T  # [3, point]
    if not normalize:
        rows = _SolidHarmonics.apply(points, max_degree)
    elif torch.compiler.is_compiling():
        rows = _operator(points, max_degree)[0]
    else:
        rows = _SphericalHarmonics.apply(None, points, max_degree)[0]
    return rows.T.reshape(*vectors.shape[:-1], (max_degree + 1) ** 2)


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


class _Step(NamedTuple):
    """Constants of one T_J^m = y T_{J−1}^m + gain E_J, E_J = y E_{J−1} − loss s² T_{J−2}^m."""

    degree: int
    order: int
    pole: float  # P_J^m / s^m at the pole
    scale: float  # Y_J,±m = scale · T_J^m · s^m {cos mφ, sin mφ}
    gain: float
    loss: float


@constant
def _plan(max_degree: int) -> tuple[_Step, ...]:
    """The steps in their order: m outside, J = m, m+1, … inside."""
    steps = []
    for order in range(max_degree + 1):
        first = prod(range(1, 2 * order, 2))  # P_m^m = (2m−1)!! s^m
        ratio: list[int] = []  # of P_J^m / s^m at the pole, to J = m
        for degree in range(order, max_degree + 1):
            distance = degree - order
            value = comb(degree + order, distance)
            ratio.append(value)
            norm = (2 if order else 1) * (2 * degree + 1) / (4 * pi) * factorial(distance) / factorial(degree + order)
            gain = 1 / (distance * value) if distance else 0.0
            loss = float((degree + order - 1) * ratio[distance - 2]) if distance > 1 else 0.0
            steps.append(_Step(degree, order, float(first * value), sqrt(norm) * first * value, gain, loss))
    return tuple(steps)


def _polar_factors(max_degree: int, y: Tensor, square: Tensor) -> Iterator[tuple[_Step, Tensor]]:
    """T_J^m for all 0 ≤ m ≤ J, in the order of :func:`_plan`; ``square`` is s² = x² + z²."""
    one = torch.ones_like(y)
    before = last = correction = one
    for step in _plan(max_degree):
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


def _directions(points: Tensor) -> tuple[Tensor, Tensor]:
    """x/‖x‖ and 1/‖x‖ of points ``[3, point]``, as ``safe_normalize`` defines them: 0 for the zero vector.

    Computed in float64 and rounded once, in few passes; not differentiable, because it works in place.
    """
    work = points.to(torch.float64)
    x, y, z = work
    square = torch.mul(x, x).addcmul_(y, y).addcmul_(z, z)
    inverse = square.masked_fill_(is_zero(square, points.dtype), torch.inf).rsqrt_()
    return torch.mul(work, inverse, out=torch.empty_like(points)), inverse.to(points.dtype)


def _slope(max_degree: int, grad: Tensor, rows: Tensor) -> Tensor:
    """Σ_Jm grad_Jm ∇(r^J Y_Jm), ``[3, point]``, from the solid harmonics ``rows``; differentiable in both."""
    values, grads = rows.unbind(0), grad.unbind(0)
    sums = [torch.zeros_like(grads[0]) for _ in range(3)]
    in_place = has_memory(grad)
    for upper, axis, lower, factor in _derivatives(max_degree):
        add = sums[axis].addcmul_ if in_place else sums[axis].addcmul
        sums[axis] = add(grads[upper], values[lower], value=factor)
    return torch.stack(sums)


def _block_size(tensor: Tensor) -> int:
    """Points to take at a time, so that a row stays in the cache of each core; all at once on other devices."""
    return _POINTS_PER_CORE * torch.get_num_threads() if tensor.device.type == "cpu" else max(tensor.shape[-1], 1)


class _SolidHarmonics(torch.autograd.Function):
    """r^J Y_J as rows ``[(max_degree+1)², point]`` of points ``[3, point]``.

    Its derivative is made of solid harmonics again, ∂_i (r^J Y_J) ∈ span(r^(J−1) Y_{J−1}), so the backward pass needs
    nothing but the values, and is itself differentiable, to any order.
    """

    @staticmethod
    def forward(points: Tensor, max_degree: int) -> Tensor:
        rows = points.new_empty((max_degree + 1) ** 2, points.shape[1])
        size = _block_size(points)
        for some, out in zip(points.split(size, dim=1), rows.split(size, dim=1), strict=True):
            _fill_rows(max_degree, some.contiguous(), out)
        return rows

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
        ctx.max_degree = inputs[1]
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (rows,) = ctx.saved_tensors
        return _slope(ctx.max_degree, grad.contiguous(), rows), None


class _SphericalHarmonics(torch.autograd.Function):
    """Y_J(x/‖x‖) as rows: normalisation and solid harmonics block by block, one pass over the points each way.

    The other results, x/‖x‖ and 1/‖x‖, are for the backward pass alone: they have no gradient.

    With d = x/‖x‖ and the slope g of the solid harmonics at d, the gradient is (g − d (d·g)) / ‖x‖. Where it is to be
    differentiated again, d and ‖x‖ are made once more by operations that autograd knows.
    """

    @staticmethod
    def forward(keyset: Any, points: Tensor, max_degree: int) -> tuple[Tensor, ...]:
        if keyset is None:  # not by way of the operator
            return tuple(_spherical_harmonics(points, max_degree))
        return tuple(computed(_operator, keyset, points, max_degree))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, Tensor, int], output: tuple[Tensor, Tensor, Tensor]) -> None:
        ctx.max_degree = inputs[2]
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)  # no zeros for them
        ctx.save_for_backward(inputs[1], *output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *_: None) -> tuple[None, Tensor | None, None]:
        if grad is None:
            return None, None, None
        points, rows, directions, inverse = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient is to be differentiated
            work = points.to(torch.float64)
            zero, length = masked_norm(work, 0, points.dtype)
            directions = torch.where(zero, 0, work / length).to(points.dtype)
            inverse = torch.where(zero, 0, 1 / length).to(points.dtype)
        slope = _slope(ctx.max_degree, grad.contiguous(), rows)
        radial = (directions * slope).sum(0)
        return None, torch.addcmul(slope, directions, radial, value=-1) * inverse, None


def _spherical_harmonics(points: Tensor, max_degree: int) -> list[Tensor]:
    """``torch.ops.se3t.spherical_harmonics``: the results of :class:`_SphericalHarmonics`."""
    rows, directions, inverse = _without_values(points, max_degree)
    size = _block_size(points)
    for start in range(0, points.shape[1], size):
        block = slice(start, start + size)
        directions[:, block], inverse[block] = _directions(points[:, block].contiguous())
        _fill_rows(max_degree, directions[:, block], rows[:, block])
    return [rows, directions, inverse]


def _without_values(points: Tensor, max_degree: int) -> list[Tensor]:
    num_points = points.shape[1]
    return [points.new_empty(size) for size in (((max_degree + 1) ** 2, num_points), (3, num_points), (num_points,))]


_operator = register(
    "spherical_harmonics(Tensor points, int max_degree) -> Tensor[]",
    _spherical_harmonics,
    _without_values,
    lambda *arguments: list(_SphericalHarmonics.apply(*arguments)),
    device="CompositeExplicitAutograd",
)


@constant
def _derivatives(max_degree: int) -> tuple[tuple[int, int, int, float], ...]:
    """The terms (row of Y_Jm, i, row of Y_{J−1,n}, factor) of ∂_i (r^J Y_Jm) = Σ_n factor · r^(J−1) Y_{J−1,n}.

    The gradient takes degree J to degrees 1 and J−1. Such a map is unique up to a factor: it is Q^{J1}_{J−1}. Its size
    follows from ∫ ‖∇ r^J Y_Jm‖² = J (2J+1) on the sphere, its sign from ∂_z Re (z + i x)^J = J Re (z + i x)^(J−1).
    """
    terms = []
    for degree in range(1, max_degree + 1):
        coupling = (2 * degree + 1) * sqrt(degree) * clebsch_gordan(degree, 1, degree - 1)
        coupling *= coupling[2 * degree, 2, 2 * degree - 2].sign()
        for upper, axis, lower in coupling.nonzero().tolist():
            factor = float(coupling[upper, axis, lower])
            terms.append((degree**2 + upper, axis, (degree - 1) ** 2 + lower, factor))
    return tuple(sorted(terms))
