"""``python -m benchmarks layer``: one convolution to keys and values, by kernel, over channels, degrees and edges."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from benchmarks.counting import Sizes, Work, layer_work
from benchmarks.roofs import ROOF, Peaks, measure_peaks, share_of_roof
from se3t.bench.contenders import REFERENCE, usable_kernels
from se3t.bench.options import Options
from se3t.bench.report import PARTS, RATIO, TIME, Column, Report, Row, ratios, time_fields
from se3t.bench.single import Single, agreeing
from se3t.errors import require_known
from se3t.nn import ConvSettings, EquivariantConv


class Convolution(Single):
    """The convolution to keys and values that is part of an attention block, with twice the channels as output."""

    def layer(self, kernel: str, memory: str) -> nn.Module:
        """The layer, in float32 on the CPU; the same weights for every kernel."""
        settings = ConvSettings(share_radial="full", kernel=kernel, memory=memory)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return EquivariantConv(self.fiber, self.fiber + self.fiber, settings, reduce="none")


def work_of(single: Single) -> Work:
    """Least work of a step; the input has a gradient, and no two edges share their invariants."""
    sizes = Sizes(single.num_graphs * single.num_points, single.num_edges, single.num_edges, single.num_graphs)
    return layer_work(single.layer(REFERENCE, "auto"), sizes)


# What is varied: field of Single, and its values. Edges grow with the number of clouds, 320 edges each.
SWEEPS: dict[str, tuple[str, tuple[int, ...]]] = {
    "channels": ("channels", (4, 8, 16, 32)),
    "degrees": ("num_degrees", (1, 2, 3, 4, 5)),
    "edges": ("num_graphs", (1, 4, 16, 64)),
}
BASE = Convolution(num_graphs=4, num_points=32, num_neighbors=10, num_degrees=4, channels=16)
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
    sweeps = require_known("sweep", sweeps, SWEEPS)
    chosen, notes = usable_kernels(names, options.device)
    base = dataclasses.replace(BASE, seed=options.seed, device=options.device)
    report = Report(
        "layer",
        "One convolution to keys and values, forward and backward with its basis, float32",
        COLUMNS,
        notes=notes,
        settings={"sweeps": list(sweeps)},
        group="case",
    )
    with options.measuring(report):
        peaks = measure_peaks(options.device, options.quick)
        small = dataclasses.replace(base, num_graphs=1, channels=4)
        chosen, difference = agreeing(small, chosen, report.failures)
        for sweep in sweeps:
            for single in _sizes(base, sweep, options.quick):
                report.rows += _measure(options, sweep, single, chosen, peaks, report.notes)
    ratios(report.rows, "step", "case")
    report.facts = {"peak_flop_per_second": peaks.flop, "peak_bytes_per_second": peaks.bandwidth}
    report.notes[:0] = [
        f"Synthetic clouds of {base.num_points} points with {base.num_neighbors} neighbours each; radial networks "
        "32 wide, one for all pairs of degrees; input and output have types 0 … degrees − 1, the output twice the "
        "channels. ratio: over the first kernel at the same sizes.",
        f"Equal outputs and gradients: within {difference.value:.0e} of the reference kernel in float64, "
        f"{difference.single:.0e} in float32.",
        f"Roofs in this run: {peaks.flop / 1e9:,.0f} GFLOP/s, {peaks.bandwidth / 1e9:,.1f} GB/s; counted is the "
        "least work, weights first in the frame of the edge.",
    ]
    return report


def _sizes(base: Single, sweep: str, quick: bool) -> Iterator[Single]:
    field, values = SWEEPS[sweep]
    start = dataclasses.replace(base, channels=8, num_graphs=1) if quick else base
    for value in values[:_QUICK_VALUES] if quick else values:
        yield dataclasses.replace(start, **{field: value})  # type: ignore[arg-type]


def _measure(
    options: Options, sweep: str, single: Single, names: Sequence[str], peaks: Peaks, notes: list[str]
) -> list[Row]:
    work = work_of(single)
    where = f"{single.num_edges:,} edges, {single.channels} channels, {single.num_degrees} degrees"
    return [
        {
            "case": f"{sweep}: {where}",
            "sweep": sweep,
            "channels": single.channels,
            "num_degrees": single.num_degrees,
            "num_edges": single.num_edges,
            "name": name,
            **time_fields(times),
            "least_flop": work.flop,
            "least_bytes": work.bytes,
            **share_of_roof(work, times.total.median, peaks),
        }
        for name, times in options.time(single.steps(names, notes), repetitions=9, seconds=20.0).items()
    ]
