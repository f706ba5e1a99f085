"""The class of a point cloud: ScanObjectNN (Table 2), or its synthetic stand-in."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from se3t.config import ClassificationTask as ClassificationTaskConfig
from se3t.config import Config, rotation_angle, validate
from se3t.data.clouds.dataset import CloudData, baseline_accuracies, load_clouds
from se3t.data.clouds.draws import CloudDraws, random_rotations, turn
from se3t.errors import UserError
from se3t.experiments.scanobjectnn import TASK
from se3t.fiber import Features, Fiber
from se3t.graph import Graph, Pairing
from se3t.neighbors import knn_graph
from se3t.so3 import random_rotation, rotation_about_axis
from se3t.tasks.base import Draw, Task

_FIXED = 0  # draw of the points of validation and test, the same for all seeds
_TURNED = 1  # draw of their rotations, so that rotating an object does not change its points


@dataclass(frozen=True)
class CloudBatch:
    """Some objects of one split.

    Attributes:
        points: ``[sample, point, 3]`` drawn from each object, turned as training or test want it.
        labels: ``[sample]`` classes.
        weights: ``[sample]`` N / (C N_c), with N objects of C classes in the split, N_c of this one: the weighted mean
            over the split is the mean over the classes.
    """

    points: Float[Tensor, "sample point 3"]
    labels: Int[Tensor, " sample"]
    weights: Float[Tensor, " sample"]

    def __len__(self) -> int:
        """Number of objects."""
        return len(self.points)


class ClassificationTask(Task):
    """Classify a scanned object from the coordinates of some of its points.

    Points are redrawn in every training step, and fixed for validation and test: by farthest point sampling from a
    random start, or at random. With ``inputs=edges`` every point has edges to its nearest neighbours, and the graph
    carries the constant 1 on nodes (type 0) and the relative position x_j − x_i on edges (type 1), which is symmetric
    under all rotations. ``height`` (the paper's "+z") puts the height on nodes and the relative height on
    edges as type 0, and leaves the horizontal part of the relative position as type 1: the symmetry that remains is
    about the vertical. ``inputs=positions`` has no edges, and the position as type 1 on nodes, for models that use
    coordinates as plain numbers.

    The loss is the cross-entropy. Test objects are turned about a horizontal axis of random direction, by up to
    ``test_rotation`` degrees, or arbitrarily (``so3``); validation objects never are.

    **Deviation**: the paper names the heights as two further type-0 fields beside its input of relative positions, but
    not where they enter; a node needs some feature to ask with, which is the constant.

    Args:
        config: settings of the task.
        data: the objects.

    Raises:
        UserError: too many points or neighbours, or an invalid rotation.

    Source: Fuchs et al. 2020, Section 4.2 and appendix.
    """

    name = TASK.name
    units = TASK.units
    headline = TASK.progress
    pooled = True

    def __init__(self, config: ClassificationTaskConfig, data: CloudData) -> None:
        self.config, self.data, self.num_edge_scalars = config, data, 0
        validate(config, "task.")
        if config.num_points > data.points.shape[1]:
            raise UserError(
                f"task.num_points={config.num_points}: the objects have {data.points.shape[1]} points; ask for as many "
                "or fewer"
            )
        if config.inputs == "positions":
            self.fiber_in, self.fiber_edge = Fiber("1x1"), Fiber({})
        else:
            self.fiber_in = Fiber("2x0" if config.height else "1x0")
            self.fiber_edge = Fiber("1x0+1x1" if config.height else "1x1")
        self.fiber_out = Fiber({0: len(data.classes)})
        self._up = torch.zeros(3, dtype=torch.float64, device="cpu")
        self._up[data.up_axis] = 1
        self._index = {split: torch.from_numpy(members) for split, members in data.splits.items()}
        self._labels = torch.from_numpy(data.labels)
        self._weights = {split: _class_weights(self._labels[members]) for split, members in self._index.items()}
        self._baselines: dict[str, dict[str, tuple[float, ...]]] = {}
        self.to("cpu", torch.get_default_dtype())

    @classmethod
    def from_config(cls, config: Config) -> ClassificationTask:
        """Load the prepared objects, preparing them first where they are missing.

        Raises:
            UserError: the data are not available.
        """
        return cls(config.task, load_clouds(config.data, progress=config.trainer.progress))

    def restore(self, facts: Mapping[str, Any]) -> None:
        """Refuse data with other classes or another vertical than in training.

        Raises:
            UserError: naming both.
        """
        present = self.facts()
        for name in ("classes", "up_axis"):
            if (before := facts.get(name, present[name])) != present[name]:
                raise UserError(
                    f"data: these weights were trained on data with {name} {before}, these data have {present[name]}"
                )

    def with_test_rotation(self, rotation: str) -> ClassificationTask:
        """The task with another rotation of test objects; it shares the data.

        Args:
            rotation: degrees or ``so3``, as in ``task.test_rotation``.
        """
        other = copy.copy(self)
        other.config = replace(self.config, test_rotation=rotation)
        validate(other.config, "task.")
        other._chosen = {split: points for split, points in self._chosen.items() if split != "test"}
        return other

    def size(self, split: str) -> int:
        """Number of objects of a split."""
        return len(self._index[split])

    def to(self, device: torch.device | str, dtype: torch.dtype) -> ClassificationTask:
        """Keep working copies on ``device``, floating ones in ``dtype``."""
        self._points = torch.from_numpy(self.data.points).to(device=device, dtype=dtype)
        self._labels = self._labels.to(device)
        self._index = {split: members.to(device) for split, members in self._index.items()}
        self._weights = {split: weights.to(device) for split, weights in self._weights.items()}
        self._upward = self._up.to(device=device, dtype=dtype)
        self._chosen: dict[str, Tensor] = {}  # points of whole splits, drawn once
        return self

    def batch(self, split: str, index: Int[Tensor, " sample"], draw: Draw = None) -> CloudBatch:
        """The objects with the given numbers within the split; with ``draw`` their points are redrawn and augmented."""
        objects = self._index[split][index]
        points = self._fixed(split)[index] if draw is None else self._augmented(objects, int(draw))
        return CloudBatch(points, self._labels[objects], self._weights[split][index])

    def graph(self, batch: CloudBatch) -> Graph:
        """All objects of a batch as one graph of disjoint clouds."""
        count, size = batch.points.shape[:2]
        cloud = torch.arange(count, device=batch.points.device).repeat_interleave(size)
        if self.config.inputs == "positions":
            edges = cloud.new_empty(2, 0)
        else:
            edges = knn_graph(batch.points, self.config.num_neighbors)
        unpaired = Pairing(None)  # some neighbours are not mutual, so there is none
        positions = batch.points.flatten(0, 1)
        return self._described(Graph(positions, {}, edges, cloud, count, pairing=unpaired, cloud_size=size))

    def loss(self, prediction: Features, batch: CloudBatch) -> Float[Tensor, ""]:
        """Cross-entropy."""
        return nn.functional.cross_entropy(prediction[0].squeeze(-1), batch.labels)

    def metrics(self, prediction: Features, batch: CloudBatch) -> dict[str, Float[Tensor, " sample"]]:
        """``loss``, ``accuracy`` and ``class_accuracy`` of every sample, whose means over the split are the metrics."""
        logits = prediction[0].squeeze(-1).double()
        correct = (logits.argmax(dim=1) == batch.labels).double()
        loss = nn.functional.cross_entropy(logits, batch.labels, reduction="none")
        return {"loss": loss, "accuracy": correct, "class_accuracy": correct * batch.weights}

    def details(self, prediction: Features, batch: CloudBatch) -> dict[str, Int[Tensor, " sample"]]:
        """True and predicted class of every object."""
        return {"label": batch.labels, "predicted": prediction[0].squeeze(-1).argmax(dim=1)}

    def equivariance(
        self, model: nn.Module, graph: Graph, prediction: Features, generator: torch.Generator
    ) -> dict[str, Float[Tensor, " sample"]]:
        """Changes under one random rotation of every object: about the vertical with ``height``, else any.

        ``equivariance_error`` ‖Φ(f) − Φ(L_s f)‖₂ / ‖Φ(f)‖₂ of the logits, with the neighbours kept;
        ``rebuilt_error`` the same with neighbours searched again, of which ``flipped_edges`` is the share that differs
        (rounding decides between equal distances); ``changed_class`` 1 where the predicted class differs then.
        """
        rotation = self._symmetry(graph.num_graphs, generator).to(graph.device)[graph.batch]
        turned = torch.einsum("nij,nj->ni", rotation, graph.positions.double()).to(graph.positions.dtype)
        fixed = self._described(replace(graph, positions=turned))
        logits, after = (value[0].squeeze(-1).double() for value in (prediction, model(fixed)))
        changes = {"equivariance_error": _relative_change(logits, after)}
        if self.config.inputs == "edges":
            edges = knn_graph(turned.unflatten(0, (graph.num_graphs, -1)), self.config.num_neighbors)
            changes["flipped_edges"] = _flipped(graph, edges)
            if not torch.equal(edges, graph.edge_index):
                after = model(self._described(replace(fixed, edge_index=edges)))[0].squeeze(-1).double()
            changes["rebuilt_error"] = _relative_change(logits, after)
        return {**changes, "changed_class": (after.argmax(dim=1) != logits.argmax(dim=1)).double()}

    def baselines(self, split: str) -> dict[str, tuple[float, ...]]:
        """(accuracy, class-mean accuracy) of the most frequent class, and of the nearest class mean of histograms."""
        if split not in self._baselines:
            self._baselines[split] = dict(baseline_accuracies(self.data, split))
        return self._baselines[split]

    def describe(self) -> dict[str, Any]:
        """Kind, classes, sizes, checksum and baselines of the data (on test, where there is one)."""
        data, split = self.data, "test" if self.size("test") else "valid"
        return {
            **self.facts(),
            "preset": ("synthetic " if data.synthetic else "") + f"{data.kind}, {data.variant}",
            "sizes": {name: self.size(name) for name in self._index},
            "official": dict(data.official),
            "baselines": {name: list(values) for name, values in self.baselines(split).items()},
            "baseline_split": split,
        }

    def facts(self) -> dict[str, Any]:
        """Data and classes of the weights."""
        data = self.data
        return {
            "kind": data.kind,
            "variant": data.variant,
            "synthetic": data.synthetic,
            "up_axis": "xyz"[data.up_axis],
            "classes": list(data.classes),
            "checksum": data.checksum,
        }

    def _described(self, graph: Graph) -> Graph:
        """The graph with the features of its positions and edges."""
        positions = graph.positions
        if self.config.inputs == "positions":
            return replace(graph, features={1: positions[:, None]})
        constant = torch.ones_like(positions[:, :1])
        relative = positions[graph.source] - positions[graph.target]  # [edge, 3]
        if not self.config.height:
            return replace(graph, features={0: constant[..., None]}, edge_features={1: relative[:, None]})
        up = self._upward.to(positions)
        nodes = torch.stack((constant[:, 0], positions @ up), dim=1)[..., None]  # [node, 2, 1]
        return replace(
            graph,
            features={0: nodes},
            edge_features={0: (relative @ up)[:, None, None], 1: (relative * (1 - up))[:, None]},
        )

    def _fixed(self, split: str) -> Float[Tensor, "object point 3"]:
        """Points of a whole split, drawn once; those of test rotated by ``test_rotation``."""
        if split not in self._chosen:
            objects = self._index[split]
            chunks = [self._drawn(chunk, CloudDraws(_FIXED, chunk.tolist())) for chunk in objects.split(64)]
            points = torch.cat([*chunks, self._points[:0, : self.config.num_points]])
            angle, up = rotation_angle(self.config.test_rotation), self.data.up_axis
            if split == "test" and angle > 0:
                draws = CloudDraws(_TURNED, objects.tolist())
                points = turn(points, draws.haar() if math.isinf(angle) else draws.tilt(up, angle))
            self._chosen[split] = points
        return self._chosen[split]

    def _augmented(self, objects: Tensor, draw: int) -> Float[Tensor, "sample point 3"]:
        draws = CloudDraws(draw, objects.tolist())
        points = self._drawn(objects, draws)
        if self.config.augmentation != "none":
            points = turn(points, random_rotations(draws, self.config.augmentation, self.data.up_axis))
        if self.config.jitter > 0:
            noise = self.config.jitter * draws.noise(points.shape[1])
            points = points + noise.to(points.device, points.dtype, non_blocking=True)
        return points

    def _drawn(self, objects: Tensor, draws: CloudDraws) -> Float[Tensor, "sample point 3"]:
        return draws.choose(self._points[objects], self.config.num_points, self.config.sampling)

    def _symmetry(self, count: int, generator: torch.Generator) -> Float[Tensor, "cloud 3 3"]:
        """Random elements of the symmetry group of the inputs."""
        if self.config.height and self.config.inputs == "edges":
            angle = 2 * torch.pi * torch.rand(count, generator=generator, dtype=torch.float64)
            return rotation_about_axis(self._up, angle)
        return random_rotation(count, generator=generator, dtype=torch.float64)


def _class_weights(labels: Int[Tensor, " object"]) -> Float[Tensor, " object"]:
    counts = torch.bincount(labels).double()
    return len(labels) / ((counts > 0).sum() * counts[labels])


def _relative_change(before: Float[Tensor, "sample class"], after: Float[Tensor, "sample class"]) -> Tensor:
    tiny = torch.finfo(torch.float64).tiny  # 0 / 0 counts as no error
    return (before - after).norm(dim=1) / before.norm(dim=1).clamp_min(tiny)


def _flipped(graph: Graph, edges: Int[Tensor, "2 edge"]) -> Float[Tensor, " cloud"]:
    """Share of the edges of each cloud that are not among ``edges``."""
    before, after = (index[1] * graph.num_nodes + index[0] for index in (graph.edge_index, edges))
    cloud, lost = graph.batch[graph.target], ~torch.isin(before, after)
    total, gone = (torch.bincount(cloud, weights, graph.num_graphs) for weights in (None, lost.double()))
    return gone / total.clamp(min=1)
