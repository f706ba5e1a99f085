"""``se3t bench sh``: spherical harmonics by degree, ours against SciPy, e3nn and sphericart, each with its error."""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from se3t.bench.equality import DisagreementError
from se3t.bench.machine import describe
from se3t.bench.options import Options
from se3t.bench.report import RATIO, Column, Panel, Report, Row, Series, ratios, spread_fields, until_stopped
from se3t.bench.timing import Call, Timed
from se3t.errors import UserError, did_you_mean
from se3t.so3 import spherical_harmonics

Evaluate = Callable[[Tensor], Tensor]
MAX_DEGREE, NUM_VECTORS = 10, 100_000
_QUICK_DEGREES, _QUICK_VECTORS = (0, 2, 4), 2_000
TOLERANCE = 1e-3  # who is further off has another convention, or has lost its digits: it is not timed
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


def run(
    options: Options, names: Sequence[str] = (), max_degree: int | None = None, num_vectors: int | None = None
) -> Report:
    """Time all harmonics of degrees 0 … J of float32 vectors, for every J.

    Args:
        options: how; SciPy works on the CPU whatever the device.
        names: implementations, see ``IMPLEMENTATIONS``; empty: all that are installed.
        max_degree: largest J; None: 10, or 4 in a quick run.
        num_vectors: vectors at a time; None: 100,000, or 2,000 in a quick run.

    Raises:
        UserError: for an unknown implementation, or one that was named and is missing; without SciPy, which ours is
            compared with too.
        DisagreementError: when ours is further than ``TOLERANCE`` from the values in double precision; another
            implementation is left out where it is.
    """
    if max_degree is not None and max_degree < 0:
        raise UserError(f"max_degree={max_degree}: expected 0 or more")
    chosen, notes = _present([*dict.fromkeys(names)])
    degrees = range(max_degree + 1) if max_degree is not None else _QUICK_DEGREES if options.quick else range(11)
    count = num_vectors or (_QUICK_VECTORS if options.quick else NUM_VECTORS)
    vectors = torch.randn(count, 3, generator=torch.Generator().manual_seed(options.seed))
    rows: list[Row] = []
    failures: list[str] = []
    with options.in_force():
        with until_stopped(rows, failures):
            for degree in degrees:
                rows += _measure(options, degree, vectors, chosen, notes)
        machine = describe(options.device)
    rows.sort(key=lambda row: (row["what"] != FORWARD, row["degree"]))
    ratios(rows, "time", "case")
    return Report(
        benchmark="sh",
        title=f"Spherical harmonics of degrees 0 … J of {count:,} random vectors, float32",
        columns=COLUMNS,
        rows=rows,
        notes=[
            "10⁶ / s: vectors. ratio: time over that of the first line of the same J. Largest difference: of any value "
            "from SciPy in double precision, relative to the largest value; of gradients: from ours in double "
            "precision.",
            "All are given in the order and the signs of ours; what turns the axes is not timed. SciPy has no gradients"
            f"{'' if options.device == 'cpu' else ' and works on the CPU'}.",
            *dict.fromkeys(notes),
        ],
        settings={**options.record, "num_vectors": count, "degrees": list(degrees)},
        machine=machine,
        panels=[_panel(rows, what) for what in (FORWARD, BOTH)],
        group="case",
        failures=failures,
    )


def scipy_harmonics(max_degree: int, vectors: Tensor) -> Tensor:
    """Real harmonics in our order and signs from SciPy's complex ones, in the precision of the vectors.

    Args:
        max_degree: largest degree.
        vectors: ``[vector, 3]``, none of length zero, with SciPy's axes: its polar axis z is our y.

    Source: real part × √2 (−1)^m for m > 0, imaginary part for m < 0; (−1)^m undoes the Condon–Shortley phase.
    """
    import numpy as np

    sph_harm_y = _scipys_own()
    x, y, z = vectors.detach().cpu().numpy().T
    polar, azimuth = np.arctan2(np.hypot(x, y), z), np.arctan2(y, x)
    columns = []
    for degree in range(max_degree + 1):
        values = [sph_harm_y(degree, order, polar, azimuth) for order in range(degree + 1)]
        scaled = [math.sqrt(2) * (-1) ** order * value for order, value in enumerate(values)]
        columns += [value.imag for value in scaled[:0:-1]]
        columns += [values[0].real, *(value.real for value in scaled[1:])]
    return torch.from_numpy(np.stack(columns, axis=1))


def _scipys_own() -> Callable[..., Any]:
    try:
        from scipy.special import sph_harm_y
    except ImportError as error:
        raise UserError(
            "bench sh: the package scipy (1.15 or later) is missing, whose values all others are compared with; "
            "install it: pip install 'scipy>=1.15'"
        ) from error
    return cast(Callable[..., Any], sph_harm_y)


def _ours(max_degree: int) -> Evaluate:
    return lambda vectors: spherical_harmonics(max_degree, vectors)


def _scipy(max_degree: int) -> Evaluate:
    return lambda vectors: scipy_harmonics(max_degree, vectors)


def _e3nn(max_degree: int) -> Evaluate:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its use of functions that torch deprecates
        from e3nn import o3
    degrees = list(range(max_degree + 1))
    return lambda vectors: cast(
        Tensor, o3.spherical_harmonics(degrees, vectors, normalize=True, normalization="integral")
    )


def _sphericart(max_degree: int) -> Evaluate:
    module: Any = importlib.import_module("sphericart.torch")
    return cast(Evaluate, module.SphericalHarmonics(max_degree))


# By name: module that must be there, what makes it for a largest degree, and whether its polar axis is z.
IMPLEMENTATIONS: Mapping[str, tuple[str, Callable[[int], Evaluate], bool]] = {
    OURS: ("se3t", _ours, False),
    "sphericart": ("sphericart", _sphericart, True),
    "e3nn": ("e3nn", _e3nn, False),
    "scipy": ("scipy", _scipy, True),
}
_PACKAGES = {"sphericart": "sphericart-torch"}


def _present(names: Sequence[str]) -> tuple[list[str], list[str]]:
    for name in names:
        if name not in IMPLEMENTATIONS:
            raise UserError(f"implementation {name!r} is not known; {did_you_mean(name, IMPLEMENTATIONS)}")
    chosen, notes = [], []
    for name in names or IMPLEMENTATIONS:
        package = _PACKAGES.get(name, name)
        if importlib.util.find_spec(IMPLEMENTATIONS[name][0]) is not None:
            chosen.append(name)
        elif names:
            raise UserError(f"{name} needs the package {package}; install it: pip install 'se3t[bench]'")
        else:
            notes.append(f"{name} is left out: the package {package} is missing (pip install 'se3t[bench]').")
    return chosen, notes


def _measure(options: Options, degree: int, vectors: Tensor, names: Sequence[str], notes: list[str]) -> list[Row]:
    exact = scipy_harmonics(degree, _turned(vectors.double()))
    cotangent = torch.randn(exact.shape, generator=torch.Generator().manual_seed(1))
    exact_gradient = _gradient(_ours(degree), vectors.double(), cotangent.double())
    forward: dict[str, Timed] = {}
    both: dict[str, Timed] = {}
    differences: dict[tuple[str, str], float] = {}
    for name in names:
        _, make, is_polar_z = IMPLEMENTATIONS[name]
        device = "cpu" if name == "scipy" else options.device
        own, weights = (_turned(vectors) if is_polar_z else vectors).to(device), cotangent.to(device)
        try:
            evaluate = make(degree)
            differences[name, FORWARD] = _difference(name, degree, evaluate(own), exact)
            forward[name] = Call(_without_gradient(evaluate, own))
            if name != "scipy":
                gradient = _gradient(evaluate, own, weights)
                gradient = gradient.roll(-1, 1) if is_polar_z else gradient
                differences[name, BOTH] = _difference(name, degree, gradient, exact_gradient)
                both[name] = Call(_with_gradient(evaluate, own, weights))
        except RuntimeError as error:
            notes.append(f"{name} is left out at J ≤ {degree}: {str(error).splitlines()[0]}")
        except DisagreementError as error:
            if name == OURS:
                raise
            notes.append(f"left out: {error}.")
    rows: list[Row] = []
    for what, work in ((FORWARD, forward), (BOTH, both)):
        for name, times in options.time(work, repetitions=9, seconds=10.0).items():
            rows.append(
                {
                    "case": f"{what} {degree}",
                    "degree": degree,
                    "name": name,
                    "what": what,
                    **spread_fields("time", times),
                    "per_second": len(vectors) / times.total.median / 1e6,
                    "difference": differences[name, what],
                }
            )
    return rows


def _turned(vectors: Tensor) -> Tensor:
    """(x, y, z) ↦ (z, x, y): harmonics with polar axis z of this are those with polar axis y of the vectors."""
    return vectors.roll(1, -1)


def _without_gradient(evaluate: Evaluate, vectors: Tensor) -> Callable[[], object]:
    def call() -> object:
        with torch.no_grad():
            return evaluate(vectors)

    return call


def _with_gradient(evaluate: Evaluate, vectors: Tensor, cotangent: Tensor) -> Callable[[], object]:
    return lambda: _gradient(evaluate, vectors, cotangent)


def _gradient(evaluate: Evaluate, vectors: Tensor, cotangent: Tensor) -> Tensor:
    own = vectors.detach().requires_grad_()
    values = evaluate(own)
    if not values.requires_grad:  # degree 0 alone is a constant
        return torch.zeros_like(own)
    (found,) = torch.autograd.grad(values, own, cotangent, allow_unused=True)
    return torch.zeros_like(own) if found is None else found


def _difference(name: str, degree: int, found: Tensor, exact: Tensor) -> float:
    largest = float(exact.abs().max())
    gap = float((found.detach().cpu().double() - exact).abs().max())
    relative = gap / largest if largest else gap
    if not relative <= TOLERANCE:
        raise DisagreementError(
            f"{name}, J ≤ {degree}: differs by {relative:.1e} relative, above {TOLERANCE:.0e}; not timed"
        )
    return relative


def _panel(rows: Sequence[Row], what: str) -> Panel:
    series = []
    for name in dict.fromkeys(row["name"] for row in rows):
        own = [row for row in rows if row["name"] == name and row["what"] == what]
        worst = max((row["difference"] for row in own), default=0.0)
        label = f"{name} (differs by {worst:.0e})" if what == FORWARD else name
        series.append(Series(label, [row["degree"] for row in own], [row["per_second"] for row in own]))
    return Panel(what, "degrees 0 … J", "10⁶ vectors / s", series, log_y=True)
