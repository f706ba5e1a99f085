"""``se3t bench memory``: peak memory of a training step by workload and kernel, each in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence

from se3t.bench.contenders import MOST_KEPT, REBUILD, Ours, default_names, require_usable
from se3t.bench.options import Options
from se3t.bench.report import RATIO, Column, Report, Row, ratios
from se3t.bench.workloads import NBODY, Workload
from se3t.errors import UserError

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
    workloads: Sequence[str] = (NBODY,),
    names: Sequence[str] = (),
    num_graphs: int | None = None,
) -> Report:
    """Measure a training step of each workload.

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
    require_usable(names, options.device)
    where = "" if options.device == "cpu" else " (of the allocator of torch)"
    report = Report(
        "memory",
        "Peak memory of a training step on synthetic graphs, float32",
        COLUMNS,
        notes=[
            "Bytes beyond what the process held before its first of three steps, each contender in a process of its "
            f"own{where}. ratio: over the workload's first line. radial weights: the size of those of all edges and "
            "layers, which some kernels hold."
        ],
        settings={"workloads": [workload.spec for workload in chosen]},
        group="workload",
    )
    with options.measuring(report):
        for workload in chosen:
            contenders, missing = (list(dict.fromkeys(names)), []) if names else default_names(workload, MOST_KEPT)
            report.notes += missing
            report.rows += [_measure(options, workload, name, report.notes) for name in contenders]
    ratios(report.rows, "peak_memory", "workload")
    if not any(row["peak_memory"] is not None for row in report.rows):
        raise UserError(f"nothing could be measured: {' '.join(report.notes[1:])}")
    return report


def _measure(options: Options, workload: Workload, name: str, notes: list[str]) -> Row:
    peak = options.measure_peak(REBUILD, {"spec": workload.spec, "name": name})
    if peak.reason:
        notes.append(f"{workload.name}: {name} is missing: its process {peak.reason}.")
    return {
        "workload": workload.name,
        "name": name,
        "peak_memory": peak.bytes,
        "per_edge": None if peak.bytes is None else peak.bytes / workload.num_edges,
        "num_edges": workload.num_edges,
        "radial": workload.kept_bytes(Ours.parse(name).separate),
    }
