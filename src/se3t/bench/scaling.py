"""``se3t bench scaling``: time and memory of one attention layer as points, neighbours and degrees grow."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from itertools import pairwise

from se3t.bench.contenders import usable_kernels
from se3t.bench.options import Options
from se3t.bench.report import PEAK_MEMORY, RATIO, TIME, Column, Report, Row, ratios, time_fields
from se3t.bench.single import Single, agreeing
from se3t.errors import UserError, require_known

SWEEPS = ("points", "neighbors", "degree")
FIRST_EDGES, MOST_EDGES = 1_000, 1_000_000
BAR = 1.1  # largest exponent of time in edges
_QUICK_EDGES, _QUICK_DEGREE = 10_000, 3
_CLOUD = Single(num_graphs=1, num_points=50, num_neighbors=20, num_degrees=3, channels=5)
_W3 = Single(num_graphs=10, num_points=128, num_neighbors=40, num_degrees=3, channels=5)
_NEIGHBORS, _MAX_DEGREE = (5, 10, 20, 40, 80), 6
_STEADY = 20_000  # edges from which on what does not depend on them no longer matters
_REBUILD = "se3t.bench.single:rebuild"
COLUMNS = (
    Column("sweep", "over"),
    Column("num_nodes", "points", "count"),
    Column("num_neighbors", "k", "count"),
    Column("max_degree", "types 0–", "count"),
    Column("num_edges", "edges", "count"),
    Column("name", "kernel"),
    *TIME,
    Column("per_edge", "µs / edge", "number"),
    RATIO,
    PEAK_MEMORY,
)


def run(
    options: Options, names: Sequence[str] = (), sweeps: Sequence[str] = SWEEPS, max_edges: int | None = None
) -> Report:
    """Time a layer at growing sizes and fit the exponent of time in edges.

    Args:
        options: how.
        names: kernels; empty: all that can be used here but the reference.
        sweeps: what grows, of ``SWEEPS``.
        max_edges: no case has more edges; None: a million, or ten thousand in a quick run.

    Raises:
        UserError: for an unknown name, a kernel that was named and cannot run here, or when no case has so few edges.
    """
    sweeps = require_known("sweep", sweeps, SWEEPS)
    chosen, notes = usable_kernels(names, options.device)
    most = max_edges or (_QUICK_EDGES if options.quick else MOST_EDGES)
    sizes = {sweep: cases(sweep, most, options) for sweep in sweeps}
    notes += _too_small(sizes, most, options)
    report = Report(
        "scaling",
        "One attention layer with its basis, forward and backward, float32, on synthetic clouds",
        COLUMNS,
        notes=notes,
        settings={"sweeps": list(sweeps), "max_edges": most},
        group="case",
    )
    small = dataclasses.replace(_CLOUD, num_points=16, num_neighbors=5, device=options.device, seed=options.seed)
    with options.measuring(report):
        chosen, difference = agreeing(small, chosen, report.failures)
        for sweep, singles in sizes.items():
            for single in singles:
                report.rows += _measure(options, sweep, single, chosen, notes)
    ratios(report.rows, "step", "case")
    exponents = fits(report.rows)
    report.facts = {"fits": exponents, "largest_difference": difference.value}
    report.notes[:0] = [
        f"5 channels, one head, keys and values in one convolution, radial networks 32 wide. Equal outputs and "
        f"gradients: within {difference.value:.0e} of the reference kernel in float64, {difference.single:.0e} in "
        "float32.",
        "points: more and more clouds of 50 points with 20 neighbours each; neighbors and degree: clouds of 128 "
        "points, as many as the point-cloud workload has (quick: one). ratio: over the first kernel at the same "
        "size; MiB: peak of a step, each in a process of its own.",
        *_fit_notes(exponents),
    ]
    return report


def cases(sweep: str, max_edges: int, options: Options) -> list[Single]:
    """The sizes of a sweep, up to a number of edges.

    Args:
        sweep: one of ``SWEEPS``.
        max_edges: largest number of edges.
        options: device and seed; a quick run has a single cloud in place of ten.
    """
    clouds = 1 if options.quick else _W3.num_graphs
    w3 = dataclasses.replace(_W3, num_graphs=clouds)
    if sweep == "points":
        count = int(math.log(max(1, max_edges / FIRST_EDGES), 10**0.5) + 1e-9) + 1
        singles = [dataclasses.replace(_CLOUD, num_graphs=round(10 ** (step / 2))) for step in range(count)]
    elif sweep == "neighbors":
        singles = [dataclasses.replace(w3, num_neighbors=count) for count in _NEIGHBORS]
    else:
        last = _QUICK_DEGREE if options.quick else _MAX_DEGREE
        singles = [dataclasses.replace(w3, num_degrees=degree + 1) for degree in range(last + 1)]
    placed = [dataclasses.replace(one, device=options.device, seed=options.seed) for one in singles]
    return [one for one in placed if one.num_edges <= max_edges]


def _too_small(sizes: Mapping[str, Sequence[Single]], most: int, options: Options) -> list[str]:
    """Notes about sweeps without a case; an error where that is all of them."""
    empty = [sweep for sweep, singles in sizes.items() if not singles]
    least = {sweep: min(one.num_edges for one in cases(sweep, MOST_EDGES, options)) for sweep in empty}
    if len(empty) == len(sizes):
        sweep = min(empty, key=lambda sweep: least[sweep])
        raise UserError(
            f"max_edges={most}: expected at least {least[sweep]}, the edges of the smallest case (sweep {sweep})"
        )
    return [f"sweep {sweep} is left out: its smallest case has {least[sweep]:,} edges." for sweep in empty]


def fits(rows: Sequence[Row]) -> dict[str, Row]:
    """By kernel: exponent of time in edges over all points of the sweep ``points`` and over its large ones, the same of
    the sweep ``neighbors``, and bytes per edge at the end of the sweep ``points``.
    """
    out: dict[str, Row] = {}
    for name in dict.fromkeys(row["name"] for row in rows):
        points = [row for row in rows if row["name"] == name and row["sweep"] == "points"]
        neighbors = [row for row in rows if row["name"] == name and row["sweep"] == "neighbors"]
        out[name] = {
            "exponent": exponent(points),
            "exponent_large": exponent([row for row in points if row["num_edges"] >= _STEADY]),
            "exponent_neighbors": exponent(neighbors),
            "bytes_per_edge": _slope(points),
        }
    return out


def exponent(rows: Sequence[Row]) -> float | None:
    """Slope of log time over log edges, by least squares; None below two sizes."""
    edges, seconds = ([math.log(row[name]) for row in rows] for name in ("num_edges", "step"))
    return statistics.linear_regression(edges, seconds).slope if len(set(edges)) > 1 else None


def _slope(rows: Sequence[Row]) -> float | None:
    known = [(row["num_edges"], row["peak_memory"]) for row in rows if row.get("peak_memory") is not None]
    steps = [(after[1] - before[1]) / (after[0] - before[0]) for before, after in pairwise(known)]
    return steps[-1] if steps else None


def _measure(options: Options, sweep: str, single: Single, names: Sequence[str], notes: list[str]) -> list[Row]:
    times = options.time(single.steps(names, notes), repetitions=7, seconds=20.0)
    plain = dataclasses.asdict(single)
    return [
        {
            "case": f"{sweep} {single.num_edges} {single.num_degrees}",
            "sweep": sweep,
            "num_nodes": single.num_graphs * single.num_points,
            "num_neighbors": single.num_neighbors,
            "max_degree": single.num_degrees - 1,
            "num_edges": single.num_edges,
            "name": name,
            **time_fields(timed),
            "per_edge": 1e6 * timed.total.median / single.num_edges,
            **options.peak_memory(
                _REBUILD, {"single": plain, "name": name}, f"{name}, {single.num_edges:,} edges", notes, rounds=2
            ),
        }
        for name, timed in times.items()
    ]


def _fit_notes(all_fits: dict[str, Row]) -> list[str]:
    notes = []
    for name, fit in all_fits.items():
        powers = [
            f"{fit[key]:.2f} {what}"
            for key, what in (
                ("exponent", "over all edges"),
                ("exponent_large", f"from {_STEADY:,} edges on"),
                ("exponent_neighbors", "over neighbours"),
            )
            if fit[key] is not None
        ]
        if powers:
            memory = "" if fit["bytes_per_edge"] is None else f"; {fit['bytes_per_edge']:,.0f} bytes for one more edge"
            notes.append(f"{name}: time grows with edges to the power {', '.join(powers)} (bar: {BAR}){memory}.")
    return notes
