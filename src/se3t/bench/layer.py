"""``se3t bench layer``: one convolution that makes keys and values, by kernel, over channels, degrees and edges."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from se3t.bench.machine import Peaks, describe, measure_peaks
from se3t.bench.options import Options
from se3t.bench.report import (
    PARTS,
    RATIO,
    ROOF,
    TIME,
    Column,
    Panel,
    Report,
    Row,
    ratios,
    series_by_name,
    spread_fields,
    until_stopped,
)
from se3t.bench.single import Single, agreeing, usable

# What is varied: field of Single, and its values. Edges grow with the number of clouds, 320 edges each.
SWEEPS: dict[str, tuple[str, tuple[int, ...]]] = {
    "channels": ("channels", (4, 8, 16, 32)),
    "degrees": ("num_degrees", (1, 2, 3, 4, 5)),
    "edges": ("num_graphs", (1, 4, 16, 64)),
}
BASE = Single(num_graphs=4, num_points=32, num_neighbors=10, num_degrees=4, channels=16)
_QUICK_VALUES = 3
COLUMNS = (
    Column("sweep", "over"),
    Column("channels", "channels", "count"),
    Column("num_degrees", "degrees", "count"),
    Column("num_edges", "edges", "count"),
    Column("name", "kernel"),
    *TIME,
    *PARTS,
    RATIO,
    *ROOF,
)


def run(options: Options, names: Sequence[str] = (), sweeps: Sequence[str] = tuple(SWEEPS)) -> Report:
    """Check and time a convolution by kernel.

    Args:
        options: how.
        names: kernels; empty: all that can be used here but the reference.
        sweeps: what is varied, of ``SWEEPS``.

    Raises:
        UserError: for an unknown name, or a kernel that was named and cannot run here.
    """
    chosen, notes = usable(names, options.device)
    rows: list[Row] = []
    failures: list[str] = []
    base = dataclasses.replace(BASE, seed=options.seed, device=options.device)
    with options.in_force():
        peaks = measure_peaks(options.device, options.quick)
        small = dataclasses.replace(base, num_graphs=1, channels=4)
        chosen, found = agreeing(small, chosen, failures)
        with until_stopped(rows, failures):
            for sweep in sweeps:
                for single in _sizes(base, sweep, options.quick):
                    rows += _measure(options, sweep, single, chosen, peaks, notes)
        machine = describe(options.device)
    ratios(rows, "step", "case")
    return Report(
        benchmark="layer",
        title="One convolution to keys and values, forward and backward with its basis, float32",
        columns=COLUMNS,
        rows=rows,
        notes=[
            f"Synthetic clouds of {base.num_points} points with {base.num_neighbors} neighbours each; radial networks "
            "32 wide, one for all pairs of degrees; input and output have types 0 … degrees − 1, the output twice the "
            "channels. ratio: over the first kernel at the same sizes.",
            f"Equal outputs and gradients: within {found.value:.0e} of the reference kernel in float64, "
            f"{found.single:.0e} in float32.",
            f"Roofs in this run: {peaks.flop / 1e9:,.0f} GFLOP/s, {peaks.bandwidth / 1e9:,.1f} GB/s; counted is the "
            "least work, weights first in the frame of the edge.",
            *dict.fromkeys(notes),
        ],
        settings={**options.record, "sweeps": list(sweeps)},
        machine=machine,
        facts={"peak_flop_per_second": peaks.flop, "peak_bytes_per_second": peaks.bandwidth},
        panels=[_panel(rows, sweep) for sweep in sweeps],
        group="case",
        failures=failures,
    )


def _sizes(base: Single, sweep: str, quick: bool) -> Iterator[Single]:
    field, values = SWEEPS[sweep]
    start = dataclasses.replace(base, channels=8, num_graphs=1) if quick else base
    for value in values[:_QUICK_VALUES] if quick else values:
        yield dataclasses.replace(start, **{field: value})  # type: ignore[arg-type]


def _measure(
    options: Options, sweep: str, single: Single, names: Sequence[str], peaks: Peaks, notes: list[str]
) -> list[Row]:
    work = single.work()
    where = f"{single.num_edges:,} edges, {single.channels} channels, {single.num_degrees} degrees"
    left_out = [name for name in names if single.keeps_too_much(name)]
    notes += [f"{name} is left out at {where}: more than a GiB of radial weights." for name in left_out]
    steps = {name: single.step(name) for name in names if name not in left_out}
    return [
        {
            "case": f"{sweep}: {where}",
            "sweep": sweep,
            "channels": single.channels,
            "num_degrees": single.num_degrees,
            "num_edges": single.num_edges,
            "name": name,
            **spread_fields("step", times),
            "forward": times.parts[0].median,
            "backward": times.parts[1].median,
            "rounds": times.rounds,
            "least_flop": work.flop,
            "least_bytes": work.bytes,
            "gflops": work.flop / times.total.median / 1e9,
            "share_of_roof": peaks.roof(work.flop, work.bytes) / times.total.median,
        }
        for name, times in options.time(steps, repetitions=9, seconds=20.0).items()
    ]


def _panel(rows: Sequence[Row], sweep: str) -> Panel:
    field = {"channels": "channels", "degrees": "num_degrees", "edges": "num_edges"}[sweep]
    series = series_by_name([row for row in rows if row["sweep"] == sweep], field, "step", 1e3)
    return Panel(f"over {sweep}", sweep, "ms", series, log_x=sweep != "degrees", log_y=True)
