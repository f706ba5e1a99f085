"""Constants of the recursion of :mod:`se3t.so3.harmonics` and of its derivatives."""

from __future__ import annotations

from math import comb, factorial, pi, prod, sqrt
from typing import NamedTuple

from se3t.compiling import constant
from se3t.so3.clebsch_gordan import clebsch_gordan


class Step(NamedTuple):
    """Constants of one T_J^m = y T_{J−1}^m + gain E_J, E_J = y E_{J−1} − loss s² T_{J−2}^m."""

    degree: int
    order: int
    pole: float  # P_J^m / s^m at the pole
    scale: float  # Y_J,±m = scale · T_J^m · s^m {cos mφ, sin mφ}
    gain: float
    loss: float


@constant
def steps_up_to(max_degree: int) -> tuple[Step, ...]:
    """The steps in their order: m outside, J = m, m+1, … inside."""
    steps: list[Step] = []
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
            steps.append(Step(degree, order, float(first * value), sqrt(norm) * first * value, gain, loss))
    return tuple(steps)


@constant
def derivatives(max_degree: int) -> tuple[tuple[int, int, int, float], ...]:
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
