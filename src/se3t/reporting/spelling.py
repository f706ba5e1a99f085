"""How numbers are written, wherever they are shown."""

from __future__ import annotations

import math
from collections.abc import Iterable

from se3t.reporting.published import Estimate

MISSING = "–"


def number(estimate: Estimate | None, places: int | None = None, mark: str = "") -> str:
    """A number with ``mark`` and its spread, which a spread of nothing is not.

    Args:
        estimate: a published number keeps the digits it was printed with.
        places: digits after the point of a measured one; None: three digits that count.
        mark: what a note explains.
    """
    if estimate is None:
        return MISSING
    places = places if estimate.places is None else estimate.places
    places = _three_digits(estimate.value) if places is None else places
    values = [estimate.value, *([estimate.std] if estimate.std else [])]
    if places > 6 or abs(estimate.value) >= 1e7:  # an own property may have any unit
        texts = [_power_of_ten(value) for value in values]
    else:
        texts = [f"{value:.{places}f}" for value in values]
    return " ± ".join([texts[0] + mark, *texts[1:]])


def _three_digits(value: float) -> int:
    return 3 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))


def error(estimate: Estimate | None) -> str:
    """An error of equivariance, without its spread: three digits, or a power of ten."""
    if estimate is None:
        return MISSING
    if estimate.value >= 1e-3 or estimate.value == 0:
        return f"{estimate.value:.3g}"
    return _power_of_ten(estimate.value)


def relative(estimate: Estimate | None) -> str:
    """A number relative to a reference, without its spread; the reference itself, but for rounding, is 1."""
    if estimate is None:
        return MISSING
    return "1" if abs(estimate.value - 1) < 1e-6 else f"{estimate.value:.3f}"


def ratio(value: float | None) -> str:
    """How many times as large as its reference a number is."""
    if value is None:
        return MISSING
    if 0.01 <= value < 10:
        return f"{value:.2f}"
    return f"{value:.1f}" if 10 <= value < 1000 else "0" if value == 0 else _power_of_ten(value)


def _power_of_ten(value: float) -> str:
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def span(values: Iterable[int]) -> str:
    """A number, or the smallest and the largest of several."""
    found = sorted(set(values))
    return f"{found[0]:,}" if len(found) == 1 else f"{found[0]:,} … {found[-1]:,}"
