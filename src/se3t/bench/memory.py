"""``se3t bench memory``: peak memory of a training step by workload and kernel, each in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence

from se3t.bench.contenders import MEMORY, MOST_KEPT, Ours, kernel_names, refusal, too_large, unavailable
from se3t.bench.counting import Sizes, kept_bytes
from se3t.bench.machine import describe
from se3t.bench.options import Options
from se3t.bench.report import RATIO, Column, Panel, Report, Row, ratios, series_by_name
from se3t.bench.workloads import Workload
from se3t.errors import UserError

_REBUILD = "se3t.bench.contenders:rebuild"
COLUMNS = (
    Column("workload", "workload"),
    Column("name", "contender"),
    Column("peak_memory", "peak MiB", "MiB"),
    RATIO,
    Column("per_edge", "bytes / edge", "count"),
    Column("radial", "radial weights MiB", "MiB"),
)


def run(
    options: Options,
    workloads: Sequence[str] = ("nbody",),
    names: Sequence[str] = (),
    num_graphs: int | None = None,
) -> Report:
    """Weigh a training step of each workload.

    Args:
        options: how; peak memory is measured in a quick run too.
        workloads: names, see :data:`se3t.bench.workloads.WORKLOADS`.
        names: kernels with their endings; empty: all, and both memory modes of those that have them.
        num_graphs: graphs of a batch, in place of the workload's.

    Raises:
        UserError: for an unknown name, a contender that was named and cannot run here, or when nothing could be
            measured.
    """
    chosen = options.workloads(workloads, num_graphs)
    rows: list[Row] = []
    notes: list[str] = []
    for workload in chosen:
        rows += _weigh(options, workload, list(dict.fromkeys(names)), notes)
    ratios(rows, "peak_memory", "workload")
    if not any(row["peak_memory"] is not None for row in rows):
        raise UserError(f"nothing could be measured: {' '.join(notes)}")
    with options.in_force():
        machine = describe(options.device)
    return Report(
        benchmark="memory",
        title="Peak memory of a training step on synthetic graphs, float32",
        columns=COLUMNS,
        rows=rows,
        notes=[
            "Bytes beyond what the process held before its first of three steps, each contender in a process of its own"
            f"{'' if options.device == 'cpu' else ' (of the allocator of torch)'}. ratio: over the workload's first "
            "line. radial weights: the size of those of all edges and layers, held by whoever keeps them.",
            *dict.fromkeys(notes),
        ],
        settings={**options.record, "workloads": [workload.spec for workload in chosen]},
        machine=machine,
        panels=[_panel(rows)],
        group="workload",
    )


def _weigh(options: Options, workload: Workload, names: list[str], notes: list[str]) -> list[Row]:
    unique = Sizes.of(workload).unique
    rows = []
    for name in names or _all():
        ours = Ours.parse(name)
        share, fuse = ("none", False) if ours.separate else ("full", True)
        kept = kept_bytes(workload, unique, share, fuse)
        reason = unavailable(name, workload.device)
        if reason is not None and names:
            raise refusal(name, reason)
        if reason is None and not names and ours.keeps_weights and kept > MOST_KEPT:
            reason = too_large(kept)
        if reason is not None:
            notes.append(f"{workload.name}: {name} is left out: {reason}.")
            continue
        peak = options.weigh(_REBUILD, {"spec": workload.spec, "name": name})
        if peak.reason:
            notes.append(f"{workload.name}: {name} is missing: its process {peak.reason}.")
        rows.append(
            {
                "workload": workload.name,
                "name": name,
                "peak_memory": peak.bytes,
                "per_edge": None if peak.bytes is None else peak.bytes / workload.num_edges,
                "num_edges": workload.num_edges,
                "radial": kept,
            }
        )
    return rows


def _all() -> list[str]:
    return [*kernel_names(), *("edge_frame" + ending for ending in MEMORY)]


def _panel(rows: Sequence[Row]) -> Panel:
    series = series_by_name(rows, "workload", "peak_memory", 2.0**-20)
    return Panel("training step", "", "peak MiB", series, log_y=len({row["workload"] for row in rows}) > 1)
