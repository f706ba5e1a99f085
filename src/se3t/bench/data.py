"""``se3t bench data``: batches per second of the stores, on one core."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch

from se3t.batching import batch_graphs
from se3t.bench.options import Options
from se3t.bench.report import RATIO, Column, Report, Row, ratios
from se3t.bench.timing import Call
from se3t.config import to_config
from se3t.config.compose import compose
from se3t.config.schemas import GRAPHS
from se3t.errors import require_known
from se3t.experiments import dataset, nbody, qm9, scanobjectnn
from se3t.experiments import task as declared_task
from se3t.graph import Graph
from se3t.tasks import build_task
from se3t.tasks.base import Task

_BATCHES = 16  # of one timed turn
_DRAW = 0  # of what a task redraws in every training step, such as the points of an object
_FLAT, _SINGLE = "flat arrays", "sample by sample"
_LARGE, _SMALL = (32, 128, 240, 512), (10, 32)  # sizes of batches; small ones for objects of 2,048 points
COLUMNS = (
    Column("store", "store"),
    Column("batch_size", "batch", "count"),
    Column("name", "assembled from"),
    Column("batch", "ms / batch", "ms"),
    Column("batch_quartiles", "quartiles", "range"),
    Column("per_second", "batches / s", "count"),
    Column("samples_per_second", "samples / s", "count"),
    RATIO,
)


@dataclasses.dataclass(frozen=True)
class Store:
    """Prepared data, and what graphs are made of them.

    Attributes:
        overrides: settings of a training on them.
        batch_sizes: samples of the batches that are timed.
        graphs: by label in the table the settings of the graphs.
    """

    overrides: Sequence[str]
    batch_sizes: Sequence[int]
    graphs: Mapping[str, Sequence[str]]


_CLOUDS = (f"experiment={scanobjectnn.EXPERIMENT.name}", f"data={scanobjectnn.SHAPES15.name}")
STORES: Mapping[str, Store] = {
    nbody.DATA.name: Store([f"experiment={nbody.EXPERIMENT.name}"], _LARGE, {"": ()}),
    qm9.DATA.name: Store(
        [f"experiment={qm9.EXPERIMENT.name}"], _LARGE, {kind: [f"data.graph={kind}"] for kind in GRAPHS}
    ),
    scanobjectnn.SHAPES15.name: Store(
        _CLOUDS,
        _SMALL,
        {
            "128 farthest": (),
            "1,024 random": ["task.num_points=1024", "task.sampling=random", "task.inputs=positions"],
        },
    ),
}
"""By name of the data."""


def run(options: Options, stores: Sequence[str] = (), root: str = "data") -> Report:
    """Time the assembly of graphs from prepared data, on one thread.

    Args:
        options: how.
        stores: names, see ``STORES``; empty: all.
        root: folder of prepared data; random samples of the same sizes replace what is missing.

    Raises:
        UserError: for an unknown store, or a damaged one.
    """
    report = Report(
        "data",
        "Graphs assembled from prepared data, on one core",
        COLUMNS,
        notes=[
            "A batch is a random choice of training samples, as one graph of disjoint clouds in float32.",
            f"{_FLAT}: by index arithmetic on the tensors of the whole split, as in training; {_SINGLE}: one graph for "
            "each sample, put side by side. Both give the same graph, which is checked. ratio: over the first. Of the "
            "2,048 points of an object, redrawn in every step: 128 farthest, 10 neighbours; 1,024 random.",
        ],
        settings={**options.record, "root": root},
        group="case",
    )
    with dataclasses.replace(options, device="cpu", threads=1).measuring(report):
        for name in require_known("store", stores, STORES) or STORES:
            for label, overrides in STORES[name].graphs.items():
                task, note = _task(STORES[name], overrides, root)
                report.notes.append(f"{name}: {note}")
                case = f"{name}, {label}" if label else name
                report.rows += _measure(options, case, task, STORES[name].batch_sizes)
    ratios(report.rows, "batch", "case")
    return report


def _task(store: Store, overrides: Sequence[str], root: str) -> tuple[Task, str]:
    """The task on prepared data or on random samples, and which."""
    size = max(store.batch_sizes)
    settings = [*store.overrides, *overrides, f"data.root={root}", f"trainer.batch_size={size}"]
    config = to_config(compose("train", settings))
    path = dataset(config.data.name).store_path(config.data)
    if path.exists():
        return build_task(config).to("cpu", torch.float32), f"prepared data in {path.parent}."
    make = declared_task(config.task.name).random
    assert make is not None
    task: Task = make(config).to("cpu", torch.float32)
    return task, f"no prepared data in {root}: {size} random samples of the same sizes, in memory."


def _measure(options: Options, store: str, task: Task, batch_sizes: Sequence[int]) -> list[Row]:
    rows: list[Row] = []
    generator = torch.Generator().manual_seed(options.seed)
    size = task.size("train")
    sizes = [count for count in batch_sizes if count <= size] or [size]
    for count in sizes[:1] if options.quick else sizes:
        chosen = [torch.randperm(size, generator=generator)[:count] for _ in range(_BATCHES)]
        _require_equal(task, chosen[0])
        work = {
            _FLAT: Call(lambda chosen=chosen: [_flat(task, index) for index in chosen]),  # type: ignore[misc]
            _SINGLE: Call(lambda chosen=chosen: [_single(task, index) for index in chosen[:2]]),  # type: ignore[misc]
        }
        done = {_FLAT: len(chosen), _SINGLE: 2}
        for name, times in options.time(work, repetitions=9, seconds=10.0).items():
            median = times.total.median / done[name]
            rows.append(
                {
                    "case": f"{store} {count}",
                    "store": store,
                    "batch_size": count,
                    "name": name,
                    "batch": median,
                    "batch_quartiles": [times.total.low / done[name], times.total.high / done[name]],
                    "per_second": 1 / median,
                    "samples_per_second": count / median,
                }
            )
    return rows


def _flat(task: Task, index: torch.Tensor) -> Graph:
    return task.graph(task.batch("train", index, _DRAW))


def _single(task: Task, index: torch.Tensor) -> Graph:
    return batch_graphs([task.graph(task.batch("train", number, _DRAW)) for number in index.split(1)])


def _require_equal(task: Task, index: torch.Tensor) -> None:
    single = vars(_single(task, index))
    for name, value in vars(_flat(task, index)).items():
        if name not in ("pairing", "cloud_size"):  # hints that change no value
            what = f"the two ways to assemble a batch differ in {name}"
            torch.testing.assert_close(value, single[name], rtol=0, atol=0, msg=what)
