"""N-body: relative position and velocity of charged particles at a later time (Table 1)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from se3t.config import Config
from se3t.config import NBodyTask as NBodyTaskConfig
from se3t.data.nbody.baselines import baselines, summary, summary_lines
from se3t.data.nbody.dataset import NBodyDataset, NBodySplit, from_store, random_bits, random_signs, random_starts
from se3t.errors import UserError
from se3t.experiments.nbody import TASK
from se3t.fiber import Features, Fiber, rotate_features
from se3t.geometry import reciprocal_order
from se3t.graph import Graph, Pairing
from se3t.neighbors import fully_connected
from se3t.tasks.base import Draw, Task, rotate_clouds

log = logging.getLogger(__name__)
INPUTS = {"all": Fiber("1x0+2x1"), "velocity": Fiber("1x1"), "charge_velocity": Fiber("1x0+1x1")}
"""Node features: charge, position and velocity; or, as in the authors' code, fewer."""


@dataclass(frozen=True)
class NBodyBatch:
    """Some samples of one split, or all of them.

    Attributes:
        vectors: ``[sample, particle, 2, 3]`` position relative to the centre of the particles, velocity.
        charges: ``[sample, particle, 1, 1]``.
        products: ``[sample, edge, 1]`` q_i q_j of every ordered pair, sorted by target, then source.
        targets: ``[sample, particle, 2, 3]`` x_T − x_0, v_T − v_0.
    """

    vectors: Float[Tensor, "sample particle 2 3"]
    charges: Float[Tensor, "sample particle 1 1"]
    products: Float[Tensor, "sample edge 1"]
    targets: Float[Tensor, "sample particle 2 3"]

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.vectors)

    def take(
        self,
        index: Int[Tensor, " chosen"],
        states: tuple[Float[Tensor, "chosen particle 2 3"], Float[Tensor, "chosen particle 2 3"]] | None = None,
    ) -> NBodyBatch:
        """The samples with the given numbers; ``states`` replaces positions and velocities, now and at the horizon."""
        charges, products = self.charges.index_select(0, index), self.products.index_select(0, index)
        if states is None:
            vectors, targets = self.vectors.index_select(0, index), self.targets.index_select(0, index)
        else:
            begin, end = states
            centre = begin[:, :, :1].mean(dim=1, keepdim=True)
            vectors, targets = torch.cat((begin[:, :, :1] - centre, begin[:, :, 1:]), dim=2), end - begin
        return NBodyBatch(vectors, charges, products, targets)

    def scaled(self, factor: Int[Tensor, " sample"]) -> NBodyBatch:
        """All vectors of each sample times a number; −1 is the inversion."""
        factor = factor.to(self.vectors)[:, None, None, None]
        return replace(self, vectors=factor * self.vectors, targets=factor * self.targets)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> NBodyBatch:
        """Copy to a device, in a dtype."""
        tensors = (self.vectors, self.charges, self.products, self.targets)
        return NBodyBatch(*(tensor.to(device=device, dtype=dtype) for tensor in tensors))


class NBodyTask(Task):
    """Predict position and velocity of charged particles in one step, ``dataset.horizon`` ahead.

    Inputs: charge (type 0), position relative to the centre of the particles and velocity (type 1), on the fully
    connected graph with q_i q_j on the edges. Output: x_T − x_0 and v_T − v_0 (two type-1 channels). The loss is
    (MSE x + w MSE v) / (1 + w) with w = ``velocity_weight``; each MSE is the mean over samples, particles and axes.

    Where the data hold whole trajectories, a training step draws a start for each of its trajectories from (seed, step,
    trajectory) alone; with ``reflect`` it also inverts half of the samples (all vectors times −1), a symmetry of the
    forces.

    **Deviation**: the authors' later code feeds velocities only (positions enter through the edges); the paper names
    positions and velocities.

    Args:
        config: settings of the task.
        dataset: the prepared data.

    Raises:
        UserError: the data hold a number that is not finite.

    Source: Fuchs et al. 2020, Section 4.1 and appendix.
    """

    name = TASK.name
    units = TASK.units
    headline = TASK.progress
    fixed_shapes = True

    def __init__(self, config: NBodyTaskConfig, dataset: NBodyDataset) -> None:
        self.config, self.dataset, self.horizon = config, dataset, dataset.horizon
        self.inputs, self.fiber_in = "all", INPUTS["all"]
        self.fiber_out, self.num_edge_scalars = Fiber("2x1"), 1
        for name, split in dataset.splits.items():
            _check_finite(name, split)
        if dataset.trajectories is not None and not bool(dataset.trajectories.frames.isfinite().all()):
            raise UserError("the frames of the train data hold a number that is not finite; prepare the data again")
        self._trajectories = dataset.trajectories
        num_particles = dataset.splits["train"].positions.shape[1]
        self._edges = fully_connected(torch.zeros(num_particles, dtype=torch.int64))
        self._exact = {name: _samples(split, self._edges) for name, split in dataset.splits.items()}
        self._data = self._exact
        self._templates: dict[tuple[int, torch.device], tuple[Tensor, Tensor, Pairing]] = {}
        self._baselines: dict[str, dict[str, tuple[float, ...]]] = {}
        self.to("cpu", torch.get_default_dtype())

    @classmethod
    def from_config(cls, config: Config) -> NBodyTask:
        """Load the prepared data, preparing them first where they are missing; new data are summarised in the log.

        Raises:
            UserError: for a damaged store or settings that no data can have.
        """
        from se3t.data.nbody.prepare import prepare_nbody, store_path

        are_new = not store_path(config.data).exists()
        dataset = from_store(config.data, prepare_nbody(config.data, progress=config.trainer.progress))
        for line in summary_lines(summary(dataset)) if are_new else ():
            log.info("%s", line)
        return cls(config.task, dataset)

    def size(self, split: str) -> int:
        """Number of trajectories of a split."""
        return len(self._data[split])

    def to(self, device: torch.device | str, dtype: torch.dtype) -> NBodyTask:
        """Keep working copies on ``device`` in ``dtype``, made from the double-precision data."""
        self._data = {name: samples.to(device, dtype) for name, samples in self._exact.items()}
        if self.dataset.trajectories is not None:
            self._trajectories = self.dataset.trajectories.to(device, dtype)
        self._templates = {}
        return self

    def batch(self, split: str, index: Int[Tensor, " sample"], draw: Draw = None) -> NBodyBatch:
        """The trajectories with the given numbers; with ``draw`` from random starts where the data are whole
        trajectories, and half of them inverted if configured.
        """
        if draw is None:
            return self._data[split].take(index)
        bits, states = random_bits(draw, index), None
        if self._trajectories is not None and split == "train":
            states = self._trajectories.states_at(index, random_starts(bits, self._trajectories.num_starts))
        samples = self._data[split].take(index, states)
        return samples.scaled(random_signs(bits)) if self.config.reflect else samples

    def graph(self, batch: NBodyBatch) -> Graph:
        """All particles of a batch as one graph of disjoint, fully connected clouds."""
        edge_index, cloud, pairing = self._template(len(batch), batch.vectors.device)
        vectors = batch.vectors.flatten(0, 1)  # [node, 2, 3]
        return Graph(
            positions=vectors[:, 0],
            features=self._features(batch.charges.flatten(0, 1), vectors),
            edge_index=edge_index,
            batch=cloud,
            num_graphs=len(batch),
            edge_scalars=batch.products.flatten(0, 1),
            pairing=pairing,
            cloud_size=vectors.shape[0] // len(batch),
        )

    def select_inputs(self, model: nn.Module) -> None:
        """Leave out charges (they stay on the edges) or positions if the model's ``fiber_in`` does.

        Raises:
            UserError: for other inputs than velocity (``1x1``), charge and velocity (``1x0+1x1``) or all, another
                output, or one for each cloud.
        """
        self.inputs, self.fiber_in = next(
            ((inputs, fiber) for inputs, fiber in INPUTS.items() if fiber == model.fiber_in),
            (self.inputs, self.fiber_in),
        )
        super().select_inputs(model)

    def loss(self, prediction: Features, batch: NBodyBatch) -> Float[Tensor, ""]:
        """(MSE x + w MSE v) / (1 + w)."""
        square = (prediction[1].view_as(batch.targets) - batch.targets).square()
        return self._weighted(square.mean(dim=(0, 1, 3)))

    def metrics(self, prediction: Features, batch: NBodyBatch) -> dict[str, Float[Tensor, " sample"]]:
        """``mse_x``, ``mse_v`` and the ``loss`` of every trajectory."""
        error = prediction[1].view_as(batch.targets).double() - batch.targets.double()
        mse = error.square().mean(dim=(1, 3))  # [sample, 2]
        return {"loss": self._weighted(mse), "mse_x": mse[:, 0], "mse_v": mse[:, 1]}

    def equivariance(
        self, model: nn.Module, graph: Graph, prediction: Features, generator: torch.Generator
    ) -> dict[str, Float[Tensor, " sample"]]:
        """Relative equivariance error of positions and of velocities, one Haar rotation for every cloud.

        Δ_EQ = ‖L_s Φ(f) − Φ L_s(f)‖₂ / ‖L_s Φ(f)‖₂ (Equation 14), norms over the particles and axes of a cloud, not
        squared, on the network's own outputs x_T − x_0 and v_T − v_0. A cloud whose output is zero both ways has error
        zero.

        Args:
            model: Φ, called once.
            graph: f.
            prediction: Φ(f).
            generator: source of the rotations, on any device.
        """
        rotated, rotation = rotate_clouds(graph, generator)
        expected = rotate_features({1: prediction[1].double()}, rotation)[1]
        difference = model(rotated)[1].double() - expected
        error, size = (_norm_per_cloud(value, graph.num_graphs) for value in (difference, expected))
        relative = error / size.clamp_min(torch.finfo(torch.float64).tiny)  # 0 / 0 counts as no error
        return {"equivariance_error_x": relative[:, 0], "equivariance_error_v": relative[:, 1]}

    def baselines(self, split: str) -> dict[str, tuple[float, ...]]:
        """(MSE x, MSE v) of constant velocity, constant position and a least-squares fit on a split."""
        if split not in self._baselines:
            splits = self.dataset.splits
            self._baselines[split] = dict(baselines(splits["train"], splits[split]))
        return self._baselines[split]

    def relative(self, metrics: Mapping[str, float], split: str) -> dict[str, float]:
        """MSE x and MSE v over those of constant velocity (the row "Linear") on the same split."""
        linear_x, linear_v = self.baselines(split)["constant_velocity"]
        return {"relative_mse_x": metrics["mse_x"] / linear_x, "relative_mse_v": metrics["mse_v"] / linear_v}

    def describe(self) -> dict[str, Any]:
        """Preset, horizon, checksum, sizes of the splits, number of distinct training samples, and the baselines on the
        test split.
        """
        return {
            "preset": self.dataset.settings.preset,
            "horizon": self.horizon,
            "checksum": self.dataset.checksum,
            "sizes": {name: self.size(name) for name in self._data},
            "distinct_samples": self.dataset.distinct_samples,
            "baselines": {name: list(errors) for name, errors in self.baselines("test").items()},
        }

    def _weighted(self, mse: Float[Tensor, "*sample 2"]) -> Float[Tensor, "*sample"]:
        weight = self.config.velocity_weight
        return (mse[..., 0] + weight * mse[..., 1]) / (1 + weight)

    def _features(self, charges: Tensor, vectors: Tensor) -> Features:
        if self.inputs == "velocity":
            return {1: vectors[:, 1:]}
        return {0: charges, 1: vectors if self.inputs == "all" else vectors[:, 1:]}

    def _template(self, count: int, device: torch.device) -> tuple[Tensor, Tensor, Pairing]:
        # Edges and cloud numbers of `count` clouds, built once on a device and kept until the data move, because
        # captured training steps read this memory.
        if (count, device) not in self._templates:
            num_particles = next(iter(self._data.values())).vectors.shape[1]
            first = num_particles * torch.arange(count, device=device)
            edges = (self._edges.to(device)[:, None, :] + first[:, None]).flatten(1)  # [2, count * edge]
            cloud = torch.arange(count, device=device).repeat_interleave(num_particles)
            # q_i q_j is q_j q_i: every edge has its reverse, with the same scalar.
            self._templates[count, device] = (edges, cloud, Pairing(reciprocal_order(edges, count * num_particles)))
        return self._templates[count, device]


def _samples(split: NBodySplit, edges: Int[Tensor, "2 edge"]) -> NBodyBatch:
    source, target = edges
    centred = split.positions - split.positions.mean(dim=1, keepdim=True)
    return NBodyBatch(
        vectors=torch.stack((centred, split.velocities), dim=2).double(),
        charges=split.charges[..., None].double(),
        products=(split.charges[:, target] * split.charges[:, source]).double(),
        targets=torch.stack((split.target_positions, split.target_velocities), dim=2).double(),
    )


def _check_finite(name: str, split: NBodySplit) -> None:
    for field in ("positions", "velocities", "charges", "target_positions", "target_velocities"):
        finite = getattr(split, field).isfinite().flatten(1).all(dim=1)
        if not bool(finite.all()):
            sample = int((~finite).nonzero()[0])
            raise UserError(
                f"the {name} data hold a {field} that is not a finite number, in trajectory {sample}; "
                "prepare the data again"
            )


def _norm_per_cloud(values: Tensor, num_clouds: int) -> Float[Tensor, "cloud channel"]:
    return values.unflatten(0, (num_clouds, -1)).square().sum(dim=(1, 3)).sqrt()
