"""``se3t bench step``: one training step, forward and backward with the basis, by workload and contender."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch

from se3t.bench.adapters import Adapter
from se3t.bench.contenders import E3NN, MEMORY, SEPARATE, Contender, Ours, collect
from se3t.bench.counting import Work, step_work
from se3t.bench.machine import Peaks, describe, measure_peaks
from se3t.bench.options import Options
from se3t.bench.report import (
    PARTS,
    PEAK_MEMORY,
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
from se3t.bench.timing import Times
from se3t.bench.workloads import Workload
from se3t.errors import UserError
from se3t.precision import require_device

_REBUILD = "se3t.bench.contenders:rebuild"
COLUMNS = (
    Column("workload", "workload"),
    Column("name", "contender"),
    *TIME,
    *PARTS,
    Column("per_ms", "graphs / ms", "number"),
    RATIO,
    PEAK_MEMORY,
    *ROOF,
)
NVIDIA = {"tf32": 2.59, "bf16": 3.23}
"""Molecules per millisecond in training that NVIDIA publishes for its SE(3)-Transformer on one A100 of 80 GB: QM9,
batch 240, the sizes of workload qm9; mixed precision is float16 there. Source: README of SE3Transformer in its
DeepLearningExamples (2024)."""
NVIDIA_INFERENCE = 9.71
"""The same in inference, float16, batch 1,600."""


def run(
    options: Options,
    workloads: Sequence[str] = ("nbody",),
    names: Sequence[str] = (),
    adapters: Sequence[Adapter] = (),
    num_graphs: int | None = None,
    precisions: Sequence[str] = ("32",),
) -> Report:
    """Check, time and weigh the contenders of each workload.

    Args:
        options: how.
        workloads: names, see :data:`se3t.bench.workloads.WORKLOADS`.
        names: contenders, the first one being what ratios refer to; empty: all that are sensible here.
        adapters: files of peers.
        num_graphs: graphs of a batch, in place of the workload's.
        precisions: of the products, words of :mod:`se3t.precision`; every contender in each.

    Raises:
        UserError: for unknown names, a contender or a precision that this device does not have.
    """
    chosen = options.workloads(workloads, num_graphs)
    precisions = list(dict.fromkeys(precisions))
    for precision in precisions:
        require_device(precision, torch.device(options.device))
    rows: list[Row] = []
    notes: list[str] = []
    failures: list[str] = []
    with options.in_force():
        peaks = {precision: measure_peaks(options.device, options.quick, precision) for precision in precisions}
        with until_stopped(rows, failures):
            for workload in chosen:
                found, missing = collect(workload, names, adapters, failures)
                notes += missing
                variants = _variants(workload, found, precisions, failures)
                for word in {variant.precision for variant in variants} - peaks.keys():
                    peaks[word] = measure_peaks(options.device, options.quick, word)
                rows += _measure(options, workload, variants, adapters, peaks, notes)
        machine = describe(options.device)
    if not rows:
        raise UserError(f"bench step: nothing could be measured: {'; '.join(failures)}")
    ratios(rows, "step", "workload")
    return Report(
        benchmark="step",
        title=f"Training step of the SE(3)-Transformer on synthetic graphs, {' and '.join(map(_words, precisions))}",
        columns=[column for column in COLUMNS if options.with_memory or column.key != "peak_memory"],
        rows=rows,
        notes=[*_notes(chosen, rows, peaks), *dict.fromkeys(notes)],
        settings={
            **options.record,
            "workloads": [workload.spec for workload in chosen],
            "precisions": precisions,
        },
        machine=machine,
        facts={
            "peak_flop_per_second": peaks[precisions[0]].flop,
            "peak_bytes_per_second": peaks[precisions[0]].bandwidth,
            "product": peaks[precisions[0]].side,
            "fastest_settings": {workload.name: _settings(rows, workload.name) for workload in chosen},
            "peak_flop_per_second_by_precision": {name: peak.flop for name, peak in peaks.items()},
        },
        failures=failures,
        panels=_panels(rows, chosen),
        group="workload",
    )


def _variants(
    workload: Workload, found: Sequence[Contender], precisions: Sequence[str], failures: list[str]
) -> list[Contender]:
    """Every contender in every precision that it knows, but for those that do not get through a step."""
    variants: dict[str, Contender] = {}
    for variant in (contender.in_precision(word) for word in precisions for contender in found):
        if variant.title in variants:
            continue
        try:
            variant.work.run(lambda: 0.0)
            variants[variant.title] = variant
        except (RuntimeError, UserError) as error:  # out of memory, an operation that a precision lacks
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            failures.append(f"{workload.name}: {variant.title} fails: {reason}")
    return [*variants.values()]


def _measure(
    options: Options,
    workload: Workload,
    found: Sequence[Contender],
    adapters: Sequence[Adapter],
    peaks: Mapping[str, Peaks],
    notes: list[str],
) -> list[Row]:
    seconds = 30.0 * len({contender.precision for contender in found})
    times = options.time({contender.title: contender.work for contender in found}, repetitions=11, seconds=seconds)
    work, rows = step_work(workload), []
    texts = {adapter.name: adapter.text for adapter in adapters}
    for contender in found:
        arguments = {"spec": workload.spec, "name": contender.name, "adapter": texts.get(contender.name)}
        arguments |= {"precision": contender.precision}
        peak = options.peak(_REBUILD, arguments)
        if peak.reason:
            notes.append(f"{workload.name}: peak memory of {contender.title} is missing: its process {peak.reason}.")
        own = _row(workload, contender, times[contender.title], work, peaks[contender.precision])
        rows.append(own | {"peak_memory": peak.bytes})
    notes += [contender.description for contender in found if contender.description]
    return rows


def _row(workload: Workload, contender: Contender, times: Times, work: Work, peaks: Peaks) -> Row:
    total = times.total.median
    parts = dict(zip(("forward", "backward"), (part.median for part in times.parts), strict=False))
    difference = contender.difference
    is_ours = difference is not None  # another model has other work
    return {
        "workload": workload.name,
        "name": contender.title,
        "contender": contender.name,
        "precision": contender.precision,
        **spread_fields("step", times),
        **parts,
        "per_ms": 1e-3 * workload.num_graphs / total,
        "rounds": times.rounds,
        "parameters": contender.parameters,
        "weights_per_edge": contender.weights_per_edge,
        "difference": None if difference is None else difference.value,
        "difference_single": None if difference is None else difference.single,
        "least_flop": work.flop,
        "least_bytes": work.bytes,
        "gflops": work.flop / total / 1e9 if is_ours else None,
        "share_of_flop": work.flop / total / peaks.flop if is_ours else None,
        "share_of_bandwidth": work.bytes / total / peaks.bandwidth if is_ours else None,
        "share_of_roof": peaks.roof(work.flop, work.bytes) / total if is_ours else None,
    }


def _notes(workloads: Sequence[Workload], rows: Sequence[Row], all_peaks: Mapping[str, Peaks]) -> list[str]:
    peaks = next(iter(all_peaks.values()))
    products = ", ".join(f"{own.flop / 1e9:,.0f} GFLOP/s in {_words(name)}" for name, own in all_peaks.items())
    turns = min(row["rounds"] for row in rows)
    notes = [
        f"Median of {turns} turns or more in one process (everything is done twice in a turn, the second time counts); "
        "ratio: time over that of the workload's first line; MiB: peak of a step beyond what was there before, each in "
        "a process of its own.",
    ]
    for workload in workloads:
        work = next((row for row in rows if row["workload"] == workload.name), None)
        if work is None:
            continue
        notes.append(
            f"{workload.name}: {workload.title}; {workload.num_graphs} x {workload.num_points} points, "
            f"{workload.num_edges:,} edges, {workload.num_layers} layers, types 0–{workload.num_degrees - 1}, "
            f"{workload.channels} channels; counted: {work['least_flop'] / 1e9:.3g} GFLOP, "
            f"{work['least_bytes'] / 1e6:,.0f} MB, at the roofs "
            f"{1e3 * work['least_flop'] / peaks.flop:.3g} and {1e3 * work['least_bytes'] / peaks.bandwidth:.3g} ms."
        )
    notes.append(
        f"Roofs of this machine in this run: {products} (product of {peaks.side}² matrices), "
        f"{peaks.bandwidth / 1e9:,.1f} GB/s (copy). GFLOP/s and share of the tighter roof take the counted least work "
        "of this model, with bytes of float32, whatever a contender computes beyond it."
    )
    return notes + [line for row in _fastest(rows, "qm9") for line in _beside_nvidia(row)] + _remarks(rows)


def _fastest(rows: Sequence[Row], workload: str) -> list[Row]:
    """The fastest row of our kernels in each precision, the fastest of all first."""
    best: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: row["step"]):
        is_ours = row["difference"] is not None and not row["contender"].startswith(E3NN)
        if is_ours and row["workload"] == workload and not row["contender"].endswith(SEPARATE):
            best.setdefault(row["precision"], row)
    return list(best.values())


def _settings(rows: Sequence[Row], workload: str) -> list[str]:
    """What trains in the fastest way, as words of ``se3t train``."""
    fastest = _fastest(rows, workload)[:1]
    chosen = [(Ours.parse(row["contender"]), row["precision"]) for row in fastest]
    return [
        word
        for ours, precision in chosen
        for word in (f"model.kernel={ours.kernel}", f"model.memory={ours.memory}", f"trainer.precision={precision}")
    ]


def _beside_nvidia(row: Row) -> Iterator[str]:
    published = NVIDIA.get(row["precision"], NVIDIA["tf32"])
    yield (
        f"qm9, {_words(row['precision'])}: {row['contender']} does {row['per_ms']:.3g} molecules/ms, "
        f"{row['per_ms'] / published:.2g} times the {published} that NVIDIA publishes for training on an A100 (batch "
        f"240; TF32 {NVIDIA['tf32']}, mixed precision {NVIDIA['bf16']}, inference at batch 1,600 {NVIDIA_INFERENCE}); "
        f"its forward pass alone {row['per_ms'] * row['step'] / row['forward']:.3g}, gradients prepared."
    )


def _words(precision: str) -> str:
    return {"32": "float32", "tf32": "TF32", "bf16": "bfloat16 autocast"}[precision]


def _remarks(rows: Sequence[Row]) -> list[str]:
    remarks = []
    values = [row["difference"] for row in rows if row["difference"] is not None]
    if values:
        singles = [row["difference_single"] for row in rows if row["difference_single"] is not None]
        remarks.append(
            "Checked on a smaller batch before timing, outputs and gradients: all but peers and adapters equal the "
            f"reference kernel, outputs within {max(values):.0e} in float64 and {max(singles):.0e} in float32."
        )
    names = [row["contender"] for row in rows]
    if any(name.endswith(SEPARATE) for name in names):
        remarks.append(f"{SEPARATE}: keys and values apart, and a radial network for each pair of degrees.")
    if any(name.endswith(tuple(MEMORY)) for name in names):
        remarks.append("-low: radial weights are made a few edges at a time, and again for gradients; -speed: kept.")
    if any(name.startswith("e3nn") for name in names):
        remarks.append("e3nn: the same model and weights in float32, its convolutions as e3nn tensor products.")
    return remarks


def _panels(rows: Sequence[Row], workloads: Sequence[Workload]) -> list[Panel]:
    own = {one.name: [row for row in rows if row["workload"] == one.name] for one in workloads}
    times = [
        Panel(f"training step, {name}", "", "ms", series_by_name(part, "workload", "step", 1e3))
        for name, part in own.items()
    ]
    memory = series_by_name(rows, "workload", "peak_memory", 2.0**-20)
    shares = series_by_name(rows, "workload", "share_of_roof", 100.0)
    return [
        *times,
        Panel("peak memory", "", "MiB", memory, log_y=len(workloads) > 1),
        Panel("share of the tighter roof", "", "%", shares),
    ]
