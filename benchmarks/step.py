"""``python -m benchmarks step``: ``se3t bench step`` with codes of others, the least work and the machine's roofs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from benchmarks import peer
from benchmarks.adapter import Adapter
from benchmarks.counting import Work, step_work
from benchmarks.roofs import ROOF, Peaks, measure_peaks, share_of_roof
from se3t.bench import contenders, step
from se3t.bench.contenders import EDGE_FRAME, SEPARATE, Collected, Contender, Ours, is_foreign, make_all
from se3t.bench.options import Options
from se3t.bench.report import Report, Row
from se3t.bench.step import PRECISIONS
from se3t.bench.workloads import NBODY, QM9, Workload
from se3t.errors import UserError

NVIDIA = {"tf32": 2.59, "bf16": 3.23}
"""Molecules per millisecond in training that NVIDIA publishes for its SE(3)-Transformer on one A100 of 80 GB: QM9,
batch 240, the sizes of workload qm9; mixed precision is float16 there. Source: README of SE3Transformer in its
DeepLearningExamples (2024)."""
NVIDIA_INFERENCE = 9.71
"""The same in inference, float16, batch 1,600."""


def run(
    options: Options,
    workloads: Sequence[str] = (NBODY,),
    names: Sequence[str] = (),
    adapters: Sequence[str] = (),
    num_graphs: int | None = None,
    precisions: Sequence[str] = ("32",),
) -> Report:
    """See :func:`se3t.bench.step.run`.

    Args:
        options: how.
        workloads: names.
        names: contenders, those of others among them; empty: all that are sensible here.
        adapters: files of other codes, see :meth:`benchmarks.adapter.Adapter.parse`.
        num_graphs: graphs of a batch, in place of the workload's.
        precisions: of the products.
    """
    files = [Adapter.parse(text) for text in adapters]
    with options.in_force():
        peaks = {precision: measure_peaks(options.device, options.quick, precision) for precision in precisions}
        report = step.run(options, workloads, names, num_graphs, precisions, partial(collect, adapters=files))
        for precision in {row["precision"] for row in report.rows} - peaks.keys():
            peaks[precision] = measure_peaks(options.device, options.quick, precision)
    work = {workload.name: step_work(workload) for workload in options.workloads(workloads, num_graphs)}
    for row in report.rows:
        row.update(_shares(row, work[row["workload"]], peaks[row["precision"]]))
    first = next(iter(peaks.values()))
    report.columns = (*report.columns, *ROOF)
    report.notes += [*_notes(report.rows, work, peaks), *_remarks(report.rows)]
    report.facts = {
        "peak_flop_per_second": first.flop,
        "peak_bytes_per_second": first.bandwidth,
        "product": first.side,
        "fastest_settings": {name: _settings(report.rows, name) for name in work},
        "peak_flop_per_second_by_precision": {name: peak.flop for name, peak in peaks.items()},
    }
    return report


def collect(
    workload: Workload, names: Sequence[str], failures: list[str], adapters: Sequence[Adapter] = ()
) -> Collected:
    """Contenders of ours and of others, see :func:`se3t.bench.contenders.collect`.

    Raises:
        UserError: for an unknown name, two contenders of one name, a contender that was named and cannot run, or a
            file that fails.
    """
    chosen, notes = (list(dict.fromkeys(names)), []) if names else _default_names(workload)
    own = partial(contenders.make, workload)
    makers = [(name, partial(peer.make, workload) if name == peer.PEER else partial(own, name)) for name in chosen]
    makers += [(adapter.name, partial(adapter.make, workload)) for adapter in adapters]
    return make_all(workload, _different(makers), {*names, *(adapter.name for adapter in adapters)}, notes, failures)


def _default_names(workload: Workload) -> tuple[list[str], list[str]]:
    names, notes = contenders.default_names(workload)
    return [*names, *([EDGE_FRAME + SEPARATE, peer.PEER] if workload.name == NBODY else [])], notes


def _different(makers: Sequence[tuple[str, Callable[[], Contender]]]) -> dict[str, Callable[[], Contender]]:
    by_name = dict(makers)
    for name in by_name:
        if [other for other, _ in makers].count(name) > 1:
            raise UserError(f"contender {name!r} is named twice; give each adapter file or its options another name")
    return by_name


def _shares(row: Row, work: Work, peak: Peaks) -> Row:
    """The least work, and what share of the roofs the step reaches; another model has other work."""
    total, is_ours = row["step"], row["difference"] is not None
    shares = {
        **share_of_roof(work, total, peak),
        "share_of_flop": work.flop / total / peak.flop,
        "share_of_bandwidth": work.bytes / total / peak.bandwidth,
    }
    least = {"least_flop": work.flop, "least_bytes": work.bytes}
    return least | (shares if is_ours else dict.fromkeys(shares))


def _notes(rows: Sequence[Row], work: Mapping[str, Work], peaks: Mapping[str, Peaks]) -> Iterator[str]:
    first = next(iter(peaks.values()))
    for name, least in work.items():
        if any(row["workload"] == name for row in rows):
            yield (
                f"{name}, counted: {least.flop / 1e9:.3g} GFLOP, {least.bytes / 1e6:,.0f} MB, at the roofs "
                f"{1e3 * least.flop / first.flop:.3g} and {1e3 * least.bytes / first.bandwidth:.3g} ms."
            )
    products = ", ".join(f"{peak.flop / 1e9:,.0f} GFLOP/s in {PRECISIONS[name]}" for name, peak in peaks.items())
    yield (
        f"Roofs of this machine in this run: {products} (product of {first.side}² matrices), "
        f"{first.bandwidth / 1e9:,.1f} GB/s (copy). GFLOP/s and share of the tighter roof take the counted least work "
        "of this model, with bytes of float32, whatever a contender computes beyond it."
    )


def _remarks(rows: Sequence[Row]) -> Iterator[str]:
    if any(row["contender"].startswith("e3nn") for row in rows):
        yield "e3nn: the same model and weights in float32, its convolutions as e3nn tensor products."
    for row in _fastest(rows, QM9):
        published = NVIDIA.get(row["precision"], NVIDIA["tf32"])
        yield (
            f"qm9, {PRECISIONS[row['precision']]}: {row['contender']} does {row['per_ms']:.3g} molecules/ms, "
            f"{row['per_ms'] / published:.2g} times the {published} that NVIDIA publishes for training on an A100 "
            f"(batch 240; TF32 {NVIDIA['tf32']}, mixed precision {NVIDIA['bf16']}, inference at batch 1,600 "
            f"{NVIDIA_INFERENCE}); its forward pass alone {row['per_ms'] * row['step'] / row['forward']:.3g}, "
            "gradients prepared."
        )


def _fastest(rows: Sequence[Row], workload: str) -> list[Row]:
    """The fastest row of our kernels in each precision, the fastest of all first."""
    best: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: row["step"]):
        if row["workload"] == workload and row["difference"] is not None:
            ours = Ours.parse(row["contender"])
            if not (ours.separate or is_foreign(ours.kernel)):
                best.setdefault(row["precision"], row)
    return list(best.values())


def _settings(rows: Sequence[Row], workload: str) -> list[str]:
    """What trains fastest, as settings of ``se3t train``."""
    for row in _fastest(rows, workload)[:1]:
        ours = Ours.parse(row["contender"])
        return [
            f"model.kernel={ours.kernel}",
            f"model.memory={ours.memory}",
            f"trainer.precision={row['precision']}",
        ]
    return []
