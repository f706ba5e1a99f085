"""``python -m benchmarks clouds``: a training step of the ScanObjectNN models, its data included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from torch import nn

from se3t.bench.contenders import AUTO, MEMORY, REFERENCE
from se3t.bench.equality import Difference, Reference
from se3t.bench.options import Options
from se3t.bench.report import PARTS, PEAK_MEMORY, RATIO, TIME, Column, Report, Row, ratios, time_fields
from se3t.bench.timing import Times
from se3t.config import SCHEMAS, conf_dir
from se3t.config import ClassificationTask as TaskConfig
from se3t.data.clouds.dataset import CloudData
from se3t.data.clouds.objects import CLASSES, NUM_POINTS, normalise
from se3t.errors import UserError, require_known
from se3t.models import build_model
from se3t.tasks.classification import ClassificationTask

HEIGHT = "+z"
CONTENDERS = {name + ending: (name, bool(ending)) for name in ("se3_transformer", "tfn") for ending in ("", HEIGHT)}
"""By name: the model, and whether it sees the height."""
NEIGHBORS = (10, 40)
NUM_GRAPHS, SAMPLED = 10, 128
_QUICK_GRAPHS = 2
_BATCHES = 4  # of different objects, in turns
_SMALL = {"num_points": 18, "num_neighbors": 10}  # where the reference kernel is quick
_REBUILD = "benchmarks.clouds:rebuild"
COLUMNS = (
    Column("case", "neighbours"),
    Column("name", "model"),
    *TIME,
    Column("sample", "sampling", "ms"),
    Column("join", "kNN", "ms"),
    *PARTS,
    Column("share_of_data", "data", "share"),
    RATIO,
    PEAK_MEMORY,
)


def boxes(num_objects: int, seed: int) -> CloudData:
    """Points on the faces of random boxes: objects of the size that the stores have, to train on.

    Args:
        num_objects: how many; their classes take turns, and mean nothing.
        seed: of the boxes and the points.
    """
    random = np.random.default_rng(seed)
    points = random.uniform(-1, 1, (num_objects, NUM_POINTS, 3))
    face = random.integers(3, size=(num_objects, NUM_POINTS, 1))
    np.put_along_axis(points, face, np.sign(np.take_along_axis(points, face, 2)), 2)
    members = np.arange(num_objects)
    return CloudData(
        kind="boxes",
        points=normalise(points * random.uniform(0.2, 1, (num_objects, 1, 3))),
        labels=members % len(CLASSES),
        splits={"train": members, "valid": members[:0], "test": members[:0]},
        classes=CLASSES,
        up_axis=1,
        variant="random boxes",
        synthetic=True,
        checksum="",
        official={},
    )


@dataclass
class CloudStep:
    """A training step from the stored objects on; the draw of points, and so the graph, is another one every time.

    Attributes:
        task: gives batches and graphs.
        model: its gradients are cleared first, which counts as a part of forward.
        num_graphs: objects of a batch.
        draw: number of the next step.
    """

    task: ClassificationTask
    model: nn.Module
    num_graphs: int
    draw: int = 0

    def run(self, now: Callable[[], float]) -> tuple[float, ...]:
        """Seconds of sampling, of finding the neighbours, of forward (the loss included) and of backward."""
        self.draw += 1
        index = torch.arange(self.num_graphs) + self.draw * self.num_graphs
        begin = now()
        batch = self.task.batch("train", index % self.task.size("train"), self.draw)
        sampled = now()
        graph = self.task.graph(batch)
        joined = now()
        self.model.zero_grad(set_to_none=True)
        loss = self.task.loss(self.model(graph), batch)
        forward = now()
        loss.backward()
        return sampled - begin, joined - sampled, forward - joined, now() - forward


def run(
    options: Options,
    names: Sequence[str] = (),
    neighbors: Sequence[int] = NEIGHBORS,
    num_graphs: int | None = None,
) -> Report:
    """Check the models of the experiment, then measure time and memory, as ``conf/recipe/scanobjectnn`` sets them.

    Args:
        options: how.
        names: of ``CONTENDERS``, the first one being what ratios refer to; empty: all.
        neighbors: of each point, one table section for each number.
        num_graphs: objects of a batch; None: ten, two in a quick run.

    Raises:
        DisagreementError: when a model with the fastest kernel does not compute what it computes with the reference.
        UserError: for an unknown name, or more neighbours than there are.
    """
    chosen = require_known("contender", names, CONTENDERS) or [*CONTENDERS]
    for number in neighbors:
        if not 0 < number < SAMPLED:
            raise UserError(f"neighbors={number}: a point of {SAMPLED} has 1 to {SAMPLED - 1} neighbours")
    count = num_graphs or (_QUICK_GRAPHS if options.quick else NUM_GRAPHS)
    report = Report(
        "clouds",
        f"Training step on {count} synthetic clouds of {SAMPLED} points, data included, float32",
        COLUMNS,
        settings={"num_graphs": count, "num_points": SAMPLED, "neighbors": list(neighbors)},
        group="case",
    )
    with options.measuring(report):
        differences = {name: difference_of(name, options.seed, options.device).check(name) for name in chosen}
        for number in dict.fromkeys(neighbors):
            report.rows += _measure(options, chosen, number, count, report.notes)
    for row in report.rows:
        difference = differences[row["name"]]
        row.update(difference=difference.value, difference_single=difference.single)
    ratios(report.rows, "step", "case")
    report.notes[:0] = _notes(report.rows)
    return report


def difference_of(name: str, seed: int = 0, device: str = "cpu") -> Difference:
    """How far a model with the fastest kernel is from the reference kernel, in both of its memory modes.

    Args:
        name: of ``CONTENDERS``.
        seed: of the objects and the weights.
        device: where.
    """
    task = _task(name, boxes(2, seed), **_SMALL).to(device, torch.float64)
    graph = task.graph(task.batch("train", torch.arange(2, device=device), seed))  # one graph: rounding moves no edge
    reference = Reference.of(graph.to, partial(_model, name, task, seed, REFERENCE))
    return Difference.largest(
        [reference.difference(graph.to, partial(_model, name, task, seed, AUTO, mode)) for mode in MEMORY.values()]
    )


def rebuild(name: str, num_neighbors: int, num_graphs: int, seed: int, device: str) -> CloudStep:
    """The step of a model from plain values: for a process of its own."""
    task = _task(name, boxes(_BATCHES * num_graphs, seed), num_points=SAMPLED, num_neighbors=num_neighbors)
    task.to(device, torch.float32)
    return CloudStep(task, _model(name, task, seed).to(device), num_graphs)


def _task(name: str, data: CloudData, **sizes: Any) -> ClassificationTask:
    return ClassificationTask(TaskConfig(height=CONTENDERS[name][1], **sizes), data)


def _model(name: str, task: ClassificationTask, seed: int, kernel: str = AUTO, memory: str = "auto") -> nn.Module:
    """The model of the experiment in float32 on the CPU; the same weights for every kernel."""
    model = CONTENDERS[name][0]
    settings: Any = OmegaConf.load(conf_dir() / f"recipe/scanobjectnn/{model}.yaml")
    config = SCHEMAS["model"][model](**settings.model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_model(
            replace(config, kernel=kernel, memory=memory),
            fiber_in=task.fiber_in,
            fiber_out=task.fiber_out,
            num_edge_scalars=task.num_edge_scalars,
            pooled=task.pooled,
            fiber_edge=task.fiber_edge,
        )


def _measure(options: Options, names: Sequence[str], neighbors: int, count: int, notes: list[str]) -> list[Row]:
    given: dict[str, dict[str, Any]] = {
        name: {
            "name": name,
            "num_neighbors": neighbors,
            "num_graphs": count,
            "seed": options.seed,
            "device": options.device,
        }
        for name in names
    }
    work = {name: rebuild(**arguments) for name, arguments in given.items()}
    rows = []
    for name, times in options.time(dict(work), repetitions=11, seconds=60.0).items():
        parameters = sum(value.numel() for value in work[name].model.parameters())
        edges = count * SAMPLED * neighbors
        rows.append(
            {"case": f"k = {neighbors}", "name": name, "num_neighbors": neighbors, "num_edges": edges}
            | _times(times)
            | {"parameters": parameters}
            | options.peak_memory(_REBUILD, given[name], f"k = {neighbors}, {name}", notes)
        )
    return rows


def _times(times: Times) -> Row:
    parts = dict(zip(("sample", "join", "forward", "backward"), (one.median for one in times.parts), strict=True))
    share = (parts["sample"] + parts["join"]) / sum(parts.values())
    return {**time_fields(times), **parts, "share_of_data": share}


def _notes(rows: Sequence[Row]) -> list[str]:
    value, single = (max(row[key] for row in rows) for key in ("difference", "difference_single"))
    most = max(rows, key=lambda row: row["share_of_data"])
    return [
        f"The clouds are synthetic: {NUM_POINTS:,} points on the faces of random boxes. sampling: {SAMPLED} of them by "
        "farthest point sampling from a random start, redrawn in every step; kNN: the graph and its features; forward "
        f"holds basis and loss. The optimiser is not included. {HEIGHT}: with the height.",
        "Time: median of all turns, "
        f"{min(row['rounds'] for row in rows)} at least. data: sampling and kNN as a share of the step, at most "
        f"{100 * most['share_of_data']:.2g} % ({most['name']}, {most['case']}). ratio: over the section's first line.",
        "Checked on a smaller batch before timing, outputs and gradients: kernel auto equals the reference kernel, "
        f"outputs within {value:.0e} in float64 and {single:.0e} in float32.",
    ]
