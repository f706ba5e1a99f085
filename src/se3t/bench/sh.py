"""``se3t bench sh``: spherical harmonics by degree, ours beside SciPy's, each with its error."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from se3t.bench.equality import DisagreementError
from se3t.bench.options import Options
from se3t.bench.report import RATIO, Column, Report, Row, ratios, time_fields
from se3t.bench.timing import Call, Timed
from se3t.errors import UserError, require_known
from se3t.so3 import spherical_harmonics

Evaluate = Callable[[Tensor], Tensor]
MAX_DEGREE, NUM_VECTORS = 10, 100_000
_QUICK_DEGREES, _QUICK_VECTORS = (0, 2, 4), 2_000
TOLERANCE = 1e-3
"""Relative; an implementation that is further off has another convention, or has lost its digits: it is not timed."""
OURS = "se3t"
FORWARD, BOTH = "forward", "forward + backward"
COLUMNS = (
    Column("degree", "J ≤", "count"),
    Column("name", "implementation"),
    Column("what", "what"),
    Column("time", "ms", "ms"),
    Column("time_quartiles", "quartiles", "range"),
    Column("per_second", "10⁶ / s", "number"),
    RATIO,
    Column("difference", "largest difference", "error"),
)


@dataclass(frozen=True)
class Implementation:
    """What computes harmonics.

    Attributes:
        make: makes the function of the vectors for a largest degree.
        is_polar_z: whether its polar axis is z; ours is y.
        is_torch: whether it works on tensors, with gradients and on any device; else on the CPU alone.
    """

    make: Callable[[int], Evaluate]
    is_polar_z: bool = False
    is_torch: bool = True


IMPLEMENTATIONS: Mapping[str, Implementation] = {
    OURS: Implementation(lambda degree: partial(spherical_harmonics, degree)),
    "scipy": Implementation(lambda degree: partial(scipy_harmonics, degree), is_polar_z=True, is_torch=False),
}


def run(
    options: Options,
    names: Sequence[str] = (),
    max_degree: int | None = None,
    num_vectors: int | None = None,
    implementations: Mapping[str, Implementation] = IMPLEMENTATIONS,
) -> Report:
    """Time all harmonics of degrees 0 … J of float32 vectors, for every J.

    Args:
        options: how; SciPy works on the CPU whatever the device.
        names: of implementations; empty: all.
        max_degree: largest J; None: 10, or 4 in a quick run.
        num_vectors: vectors at a time; None: 100,000, or 2,000 in a quick run.
        implementations: by name.

    Raises:
        UserError: for an unknown implementation.
        DisagreementError: when ours is further than ``TOLERANCE`` from the values in double precision; another
            implementation is left out where it is.
    """
    if max_degree is not None and max_degree < 0:
        raise UserError(f"max_degree={max_degree}: expected 0 or more")
    names = require_known("implementation", names, implementations) or [*implementations]
    chosen = {name: implementations[name] for name in names}
    degrees = range(max_degree + 1) if max_degree is not None else _QUICK_DEGREES if options.quick else range(11)
    count = num_vectors or (_QUICK_VECTORS if options.quick else NUM_VECTORS)
    vectors = torch.randn(count, 3, generator=torch.Generator().manual_seed(options.seed))
    where = "" if options.device == "cpu" else " and works on the CPU"
    report = Report(
        "sh",
        f"Spherical harmonics of degrees 0 … J of {count:,} random vectors, float32",
        COLUMNS,
        notes=[
            "10⁶ / s: vectors. ratio: time over that of the first line of the same J. Largest difference: of any value "
            "from SciPy in double precision, relative to the largest value; of gradients: from ours in double "
            "precision.",
            "All are given in the order and the signs of ours; what turns the axes is not timed. SciPy has no gradients"
            f"{where}.",
        ],
        settings={"num_vectors": count, "degrees": list(degrees)},
        group="case",
    )
    with options.measuring(report):
        for degree in degrees:
            report.rows += _measure(options, degree, vectors, chosen, report.notes)
    report.rows.sort(key=lambda row: (row["what"] != FORWARD, row["degree"]))
    ratios(report.rows, "time", "case")
    return report


def scipy_harmonics(max_degree: int, vectors: Tensor) -> Tensor:
    """Real harmonics in our order and signs from SciPy's complex ones, in the precision of the vectors.

    Args:
        max_degree: largest degree.
        vectors: ``[vector, 3]``, none of length zero, with SciPy's axes: its polar axis z is our y.

    Source: real part × √2 (−1)^m for m > 0, imaginary part for m < 0; (−1)^m undoes the Condon–Shortley phase.
    """
    import numpy as np
    from scipy.special import sph_harm_y

    x, y, z = vectors.detach().cpu().numpy().T
    polar, azimuth = np.arctan2(np.hypot(x, y), z), np.arctan2(y, x)
    columns = []
    for degree in range(max_degree + 1):
        values = [sph_harm_y(degree, order, polar, azimuth) for order in range(degree + 1)]
        scaled = [math.sqrt(2) * (-1) ** order * value for order, value in enumerate(values)]
        columns += [value.imag for value in scaled[:0:-1]]
        columns += [values[0].real, *(value.real for value in scaled[1:])]
    return torch.from_numpy(np.stack(columns, axis=1))


def _measure(
    options: Options, degree: int, vectors: Tensor, chosen: Mapping[str, Implementation], notes: list[str]
) -> list[Row]:
    exact = scipy_harmonics(degree, _turned(vectors.double()))
    cotangent = torch.randn(exact.shape, generator=torch.Generator().manual_seed(1))
    exact_gradient = _gradient(partial(spherical_harmonics, degree), vectors.double(), cotangent.double())
    work: dict[str, dict[str, Timed]] = {FORWARD: {}, BOTH: {}}
    differences: dict[tuple[str, str], float] = {}
    for name, implementation in chosen.items():
        try:
            passes = _passes(implementation, degree, vectors, cotangent, options.device)
            for (what, (call, value)), expected in zip(passes, (exact, exact_gradient), strict=False):
                differences[what, name] = _difference(name, degree, value, expected)
                work[what][name] = Call(call)
        except RuntimeError as error:
            notes.append(f"{name} is left out at J ≤ {degree}: {str(error).splitlines()[0]}")
        except DisagreementError as error:
            if name == OURS:
                raise
            notes.append(f"left out: {error}.")
    return [
        {
            "case": f"{what} {degree}",
            "degree": degree,
            "name": name,
            "what": what,
            **time_fields(times, "time"),
            "per_second": len(vectors) / times.total.median / 1e6,
            "difference": differences[what, name],
        }
        for what, calls in work.items()
        for name, times in options.time(calls, repetitions=9, seconds=10.0).items()
    ]


def _passes(
    implementation: Implementation, degree: int, vectors: Tensor, cotangent: Tensor, device: str
) -> Iterator[tuple[str, tuple[Callable[[], object], Tensor]]]:
    """The forward pass, and that with gradients: each as a function, and what it computes in our axes."""
    evaluate = implementation.make(degree)
    device = device if implementation.is_torch else "cpu"
    inputs = (_turned(vectors) if implementation.is_polar_z else vectors).to(device)
    yield FORWARD, (partial(_without_gradient, evaluate, inputs), evaluate(inputs))
    if implementation.is_torch:
        call = partial(_gradient, evaluate, inputs, cotangent.to(device))
        gradient = call()
        yield BOTH, (call, gradient.roll(-1, 1) if implementation.is_polar_z else gradient)


def _turned(vectors: Tensor) -> Tensor:
    """(x, y, z) ↦ (z, x, y): harmonics with polar axis z of this are those with polar axis y of the vectors."""
    return vectors.roll(1, -1)


def _without_gradient(evaluate: Evaluate, vectors: Tensor) -> Tensor:
    with torch.no_grad():
        return evaluate(vectors)


def _gradient(evaluate: Evaluate, vectors: Tensor, cotangent: Tensor) -> Tensor:
    inputs = vectors.detach().requires_grad_()
    values = evaluate(inputs)
    if not values.requires_grad:  # degree 0 alone is a constant
        return torch.zeros_like(inputs)
    (gradient,) = torch.autograd.grad(values, inputs, cotangent, allow_unused=True)
    return torch.zeros_like(inputs) if gradient is None else gradient


def _difference(name: str, degree: int, value: Tensor, exact: Tensor) -> float:
    largest = float(exact.abs().max())
    gap = float((value.detach().cpu().double() - exact).abs().max())
    relative = gap / largest if largest else gap
    if not relative <= TOLERANCE:
        raise DisagreementError(
            f"{name}, J ≤ {degree}: differs by {relative:.1e} relative, above {TOLERANCE:.0e}; not timed"
        )
    return relative
