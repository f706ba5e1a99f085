"""How numbers are written in tables, figures and pages."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from se3t.experiments.table import MISSING, Estimate


def number(estimate: Estimate | None, places: int | None = None, mark: str = "") -> str:
    """A number with ``mark`` and its spread, unless that is 0 or unknown.

    Args:
        estimate: a published number keeps the digits it was printed with.
        places: digits after the point of a measured one; None: three significant digits.
        mark: a sign that a note explains.
    """
    if estimate is None:
        return MISSING
    places = places if estimate.places is None else estimate.places
    places = _three_digits(estimate.value) if places is None else places
    values = [estimate.value, *([estimate.std] if estimate.std else [])]
    if places > 6 or abs(estimate.value) >= 1e7:  # a property of your own molecules may have any unit
        texts = [_power_of_ten(value) for value in values]
    else:
        texts = [f"{value:.{places}f}" for value in values]
    return " ± ".join([texts[0] + mark, *texts[1:]])


def _three_digits(value: float) -> int:
    return 3 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))


def error(estimate: Estimate | None, mark: str = "") -> str:
    """An error of equivariance with ``mark``: three digits, or a power of ten; and its spread with two digits, which is
    left out where it would not change those of the error.
    """
    if estimate is None:
        return MISSING
    spread = [_small(estimate.std, 2)] if estimate.std and estimate.std >= 0.005 * abs(estimate.value) else []
    return " ± ".join([_small(estimate.value, 3) + mark, *spread])


def _small(value: float, digits: int) -> str:
    return f"{value:.{digits}g}" if value >= 1e-3 or value == 0 else _power_of_ten(value)


def relative(estimate: Estimate | None, mark: str = "") -> str:
    """A number relative to a reference with ``mark`` and its spread; the reference itself is 1, up to rounding."""
    if estimate is None:
        return MISSING
    if abs(estimate.value - 1) < 1e-6:
        return f"1{mark}"
    return number(replace(estimate, places=3), mark=mark)


def ratio(value: float | None, mark: str = "") -> str:
    """How many times as large as its reference a number is, with ``mark``."""
    if value is None:
        return MISSING
    if 0.01 <= value < 10:
        return f"{value:.2f}{mark}"
    return (f"{value:.1f}" if 10 <= value < 1000 else "0" if value == 0 else _power_of_ten(value)) + mark


def _power_of_ten(value: float) -> str:
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def span(values: Iterable[int]) -> str:
    """A number, or the smallest and the largest of several."""
    ordered = sorted(set(values))
    return f"{ordered[0]:,}" if len(ordered) == 1 else f"{ordered[0]:,} … {ordered[-1]:,}"
