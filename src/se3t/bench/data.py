"""``se3t bench data``: batches per second of the stores, on one core."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from se3t.bench.options import Options
from se3t.bench.report import RATIO, Column, Report, Row, ratios
from se3t.bench.synthetic import molecules
from se3t.bench.timing import Call
from se3t.config import ClassificationTask as ClassificationTaskConfig
from se3t.config import NBodyData, QM9Data, Shapes15Data
from se3t.config import NBodyTask as NBodyTaskConfig
from se3t.config import PropertyTask as PropertyTaskConfig
from se3t.config.schemas import GRAPHS
from se3t.data.molecules.dataset import Property, PropertyData
from se3t.data.molecules.molecule import BOND_CLASSES, Molecule, pack
from se3t.errors import require_known
from se3t.graph import Graph, batch_graphs
from se3t.tasks.base import Task

BATCH_SIZES = (32, 128, 240, 512)
_CLOUD_BATCH_SIZES = (10, 32)  # of objects of 2,048 points
_BATCHES = 16  # of one timed turn
_DRAW = 0  # of what a task draws anew in every step of a training, such as the points of an object
_FLAT, _SINGLE = "flat arrays", "sample by sample"
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


@dataclass(frozen=True)
class Source:
    """Samples in memory.

    Attributes:
        label: what they are, in the table.
        task: makes graphs of them.
        note: where they come from.
        batch_sizes: samples of the batches that are timed.
    """

    label: str
    task: Task
    note: str
    batch_sizes: Sequence[int] = BATCH_SIZES


def run(options: Options, stores: Sequence[str] = (), root: str = "data") -> Report:
    """Time the assembly of graphs from prepared data, on one thread.

    Args:
        options: how.
        stores: names, see ``STORES``; empty: all.
        root: folder of prepared data; what is not there is made, smaller, in a temporary folder.

    Raises:
        UserError: for an unknown store, or a damaged one.
    """
    rows: list[Row] = []
    notes: dict[str, str] = {}
    on_one_core = dataclasses.replace(options, device="cpu", threads=1)
    with on_one_core.in_force() as machine, tempfile.TemporaryDirectory(prefix="se3t-bench-") as folder:
        for name in require_known("store", stores, STORES) or STORES:
            for source in STORES[name](root, folder, options):
                notes[name] = f"{name}: {source.note}"
                rows += _measure(options, source)
    ratios(rows, "batch", "case")
    return Report(
        benchmark="data",
        title="Graphs assembled from prepared data, on one core",
        columns=COLUMNS,
        rows=rows,
        notes=[
            "A batch is a random choice of training samples, as one graph of disjoint clouds in float32.",
            f"{_FLAT}: by index arithmetic on the tensors of the whole split, as in training; {_SINGLE}: one graph for "
            "each sample, put side by side. Both give the same graph, which is checked. ratio: over the first.",
            *notes.values(),
        ],
        settings={**options.record, "root": root},
        machine=machine,
        group="case",
    )


def _measure(options: Options, source: Source) -> list[Row]:
    store, task = source.label, source.task
    rows: list[Row] = []
    generator = torch.Generator().manual_seed(options.seed)
    size = task.size("train")
    sizes = [count for count in source.batch_sizes if count <= size] or [size]
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
    one, other = (dict(_tensors(make(task, index))) for make in (_flat, _single))
    for name, value in one.items():
        if not torch.equal(value, other[name]):
            raise ValueError(f"the two ways to assemble a batch differ in {name}")


def _tensors(graph: Graph) -> Iterator[tuple[str, torch.Tensor]]:
    for field in dataclasses.fields(graph):
        value = getattr(graph, field.name)
        if isinstance(value, torch.Tensor):
            yield field.name, value
        elif isinstance(value, Mapping):
            yield from ((f"{field.name} of degree {degree}", part) for degree, part in value.items())


def _nbody(root: str, folder: str, options: Options) -> Iterator[Source]:
    from se3t.data.nbody.dataset import load_nbody
    from se3t.data.nbody.prepare import prepare_nbody, store_path
    from se3t.tasks.nbody import NBodyTask

    config = NBodyData(root=root)
    if store_path(config).exists():
        note = f"prepared data in {Path(root) / 'nbody'}, simulated."
    else:
        count = 64 if options.quick else 1024
        # A few steps are enough: how far the particles have moved does not change what a batch costs.
        config = NBodyData(
            root=folder, num_train=count, num_valid=1, num_test=1, num_steps=20, sample_every=5, horizon_frames=1
        )
        prepare_nbody(config, progress=False)
        note = f"no prepared data in {root}: {count} short trajectories, simulated in a temporary folder."
    dataset = load_nbody(config)
    yield Source("nbody", NBodyTask(NBodyTaskConfig(), dataset).to("cpu", torch.float32), note)


def _qm9(root: str, folder: str, options: Options) -> Iterator[Source]:
    from se3t.data.molecules.dataset import load_property
    from se3t.data.qm9.prepare import store_path
    from se3t.tasks.property import PropertyTask

    config = QM9Data(root=root)
    if store_path(config).exists():
        data = load_property(config, PropertyTaskConfig(), progress=False)
        note = f"prepared data in {Path(root) / 'qm9'}."
    else:
        data = _synthetic(256 if options.quick else 2048, options.seed)
        note = f"no prepared data in {root}: {len(data.values)} synthetic molecules in memory, made at random."
    for kind in GRAPHS:
        task = PropertyTask(PropertyTaskConfig(), data, kind, config.radius).to("cpu", torch.float32)
        yield Source(f"qm9, {kind}", task, f"{note} radius: neighbours up to {config.radius:g} Å.")


def _shapes15(root: str, folder: str, options: Options) -> Iterator[Source]:
    from se3t.data.clouds.dataset import load_clouds
    from se3t.data.shapes15.prepare import store_path
    from se3t.tasks.classification import ClassificationTask

    config = Shapes15Data(root=root)
    note = f"prepared synthetic shapes15 in {Path(root) / 'shapes15'}."
    if not store_path(config).exists():
        count = 30 if options.quick else 90
        config = Shapes15Data(root=folder, num_train=count, num_test=15)
        note = f"no prepared data in {root}: {count} objects of synthetic shapes15, made in a temporary folder."
    data = load_clouds(config, progress=False)
    note += " Of the 2,048 points of an object, drawn anew in every step: 128 farthest, 10 neighbours; 1,024 random."
    for label, settings in (
        ("128 farthest", ClassificationTaskConfig()),
        ("1,024 random", ClassificationTaskConfig(num_points=1024, sampling="random", inputs="positions")),
    ):
        task = ClassificationTask(settings, data).to("cpu", torch.float32)
        yield Source(f"shapes15, {label}", task, note, _CLOUD_BATCH_SIZES)


_ATOMS = (12, 24)  # QM9 has 18 a molecule on average, and 19 bonds


def _synthetic(count: int, seed: int) -> PropertyData:
    """Random trees of atoms with a few rings, in the sizes of QM9; the property is a random number."""
    generator, random = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    made = []
    for size in random.integers(_ATOMS[0], _ATOMS[1], count, endpoint=True).tolist():
        positions, bonds = molecules(1, size, size + 1, generator)
        numbers = random.choice([1, 6, 7, 8, 9], size, p=[0.5, 0.35, 0.06, 0.08, 0.01])
        classes = random.integers(len(BOND_CLASSES), size=size + 1)
        made.append(
            Molecule(
                numbers.astype(np.uint8),
                positions.float().numpy(),
                bonds.T.numpy().astype(np.uint16),
                classes.astype(np.uint8),
            )
        )
    members = np.arange(count)
    splits = {"train": members, "valid": members[:0], "test": members[:0]}
    return PropertyData("qm9", pack(made), random.normal(size=count), splits, Property("random", "random", "1"), "", {})


STORES: Mapping[str, Callable[[str, str, Options], Iterator[Source]]] = {
    "nbody": _nbody,
    "qm9": _qm9,
    "shapes15": _shapes15,
}
"""By name: what makes tasks from the folder of prepared data, or from new data, in a temporary folder or in memory."""
