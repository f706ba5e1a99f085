"""``se3t bench step``: one training step, forward and backward with the basis, by workload and contender."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from se3t.bench.contenders import MEMORY, SEPARATE, Collected, Contender, collect
from se3t.bench.options import Options
from se3t.bench.report import PARTS, PEAK_MEMORY, RATIO, TIME, Column, Report, Row, ratios, time_fields
from se3t.bench.workloads import NBODY, Workload
from se3t.errors import UserError
from se3t.precision import require_device

COLUMNS = (
    Column("workload", "workload"),
    Column("name", "contender"),
    *TIME,
    *PARTS,
    Column("per_ms", "graphs / ms", "number"),
    RATIO,
    PEAK_MEMORY,
)
PRECISIONS = {"32": "float32", "tf32": "TF32", "bf16": "bfloat16 autocast"}


def run(
    options: Options,
    workloads: Sequence[str] = (NBODY,),
    names: Sequence[str] = (),
    num_graphs: int | None = None,
    precisions: Sequence[str] = ("32",),
    collect: Callable[[Workload, Sequence[str], list[str]], Collected] = collect,
) -> Report:
    """Check the contenders of each workload, then measure time and memory.

    Args:
        options: how.
        workloads: names, see :data:`se3t.bench.workloads.WORKLOADS`.
        names: contenders, the first one being what ratios refer to; empty: :func:`se3t.bench.contenders.default_names`.
        num_graphs: graphs of a batch, in place of the workload's.
        precisions: of the products, see :mod:`se3t.precision`; every contender in each.
        collect: makes the contenders of a workload, see :func:`se3t.bench.contenders.collect`.

    Raises:
        UserError: for unknown names, a contender or a precision that this device does not have.
    """
    chosen = options.workloads(workloads, num_graphs)
    precisions = list(dict.fromkeys(precisions))
    for precision in precisions:
        require_device(precision, torch.device(options.device))
    title = "Training step of the SE(3)-Transformer on synthetic graphs, "
    title += " and ".join(PRECISIONS[precision] for precision in precisions)
    settings = {"workloads": [workload.spec for workload in chosen], "precisions": precisions}
    report = Report("step", title, COLUMNS, settings=settings, group="workload")
    with options.measuring(report):
        for workload in chosen:
            contenders, missing = collect(workload, names, report.failures)
            report.notes += missing
            variants = _variants(workload, contenders, precisions, report.failures)
            report.rows += _measure(options, workload, variants, report.notes)
    if not report.rows:
        raise UserError(f"bench step: nothing could be measured: {'; '.join(report.failures)}")
    ratios(report.rows, "step", "workload")
    report.notes[:0] = _notes(chosen, report.rows)
    return report


def _variants(
    workload: Workload, contenders: Sequence[Contender], precisions: Sequence[str], failures: list[str]
) -> list[Contender]:
    """Every contender in every precision that it offers, except those whose step fails."""
    variants: dict[str, Contender] = {}
    for variant in (contender.in_precision(precision) for precision in precisions for contender in contenders):
        if variant.title in variants:
            continue
        try:
            variant.work.run(lambda: 0.0)
            variants[variant.title] = variant
        except (RuntimeError, UserError) as error:  # out of memory, an operation that a precision lacks
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            failures.append(f"{workload.name}: {variant.title} fails: {reason}")
    return [*variants.values()]


def _measure(options: Options, workload: Workload, contenders: Sequence[Contender], notes: list[str]) -> list[Row]:
    seconds = 30.0 * len({contender.precision for contender in contenders})
    times = options.time({contender.title: contender.work for contender in contenders}, repetitions=11, seconds=seconds)
    rows = []
    for contender in contenders:
        timed, difference = times[contender.title], contender.difference
        what = f"{workload.name}, {contender.title}"
        rows.append(
            {
                "workload": workload.name,
                "name": contender.title,
                "contender": contender.name,
                "precision": contender.precision,
                **time_fields(timed),
                "per_ms": 1e-3 * workload.num_graphs / timed.total.median,
                "parameters": contender.parameters,
                "weights_per_edge": contender.weights_per_edge,
                "difference": None if difference is None else difference.value,
                "difference_single": None if difference is None else difference.single,
                **options.peak_memory(contender.maker, contender.arguments, what, notes),
            }
        )
    notes += [contender.description for contender in contenders if contender.description]
    return rows


def _notes(workloads: Sequence[Workload], rows: Sequence[Row]) -> list[str]:
    turns = min(row["rounds"] for row in rows)
    notes = [
        f"Median of {turns} turns or more in one process (everything is done twice in a turn, the second time counts); "
        "ratio: time over that of the workload's first line; MiB: peak of a step beyond what was there before, each in "
        "a process of its own."
    ]
    notes += [
        f"{workload.name}: {workload.title}; {workload.num_graphs} x {workload.num_points} points, "
        f"{workload.num_edges:,} edges, {workload.num_layers} layers, types 0–{workload.num_degrees - 1}, "
        f"{workload.channels} channels."
        for workload in workloads
        if any(row["workload"] == workload.name for row in rows)
    ]
    compared = [row for row in rows if row["difference"] is not None]
    if compared:
        value, single = (max(row[key] for row in compared) for key in ("difference", "difference_single"))
        notes.append(
            "Checked on a smaller batch before timing, outputs and gradients: every kernel equals the reference "
            f"kernel, outputs within {value:.0e} in float64 and {single:.0e} in float32."
        )
    names = [row["contender"] for row in rows]
    if any(name.endswith(SEPARATE) for name in names):
        notes.append(f"{SEPARATE}: keys and values apart, and a radial network for each pair of degrees.")
    if any(name.endswith(tuple(MEMORY)) for name in names):
        notes.append("-low: radial weights are made a few edges at a time, and again for gradients; -speed: kept.")
    return notes
