"""Numbers for each molecule: properties of QM9 (Table 3), or a column of an own table."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from se3t.config import Config
from se3t.config import PropertyTask as PropertyTaskConfig
from se3t.data.molecules.dataset import Property, PropertyData, baseline_errors, composition_fit, load_property
from se3t.data.molecules.domain import Domain
from se3t.data.molecules.graphs import GraphSettings, MoleculeGraphs, elements_of
from se3t.data.molecules.molecule import take
from se3t.data.molecules.scores import SEVERAL, Score, facts_of, scores_of
from se3t.errors import UserError
from se3t.experiments import molecules, qm9
from se3t.fiber import Features, Fiber
from se3t.graph import Graph
from se3t.tasks.base import Draw, Task, rotate_clouds

log = logging.getLogger(__name__)
QM9_ELEMENTS = (1, 6, 7, 8, 9)
"""H, C, N, O, F: the order of the one-hot code."""
_ROUNDING = 1e-9  # of a standard deviation


@dataclass(frozen=True)
class PropertyBatch:
    """Some molecules of one split.

    Attributes:
        molecule: their numbers.
        targets: z-scores: (value − reference − mean) / standard deviation of the training molecules.
        values: in the units of the properties, in double precision.
    """

    molecule: Int[Tensor, " sample"]
    targets: Float[Tensor, "sample property"]
    values: Float[Tensor, "sample property"]


class PropertyTask(Task):
    """Predict properties of a molecule from its atoms, their positions and their bonds.

    Node features: one-hot element and atomic number (type 0). Edges: bonds both ways, one-hot class; other graphs by
    ``data.graph``. Targets are z-scored with mean and standard deviation of the training molecules, in every split;
    the loss is the mean absolute error of z-scores, of all properties alike, the metrics that in the units of Table 3.
    With ``config.reference="composition"`` the network learns what is left of them when a reference for each element is
    subtracted for each atom: least squares on the training molecules. Metrics and predictions have it added again.

    **Deviation**: the paper's table of the architecture has complete graphs, its text and both released codes bonds;
    ``data.graph`` chooses, and every record names it. References of atoms, and several properties from one network, are
    not in the paper.

    Args:
        config: settings of the task.
        data: the molecules.
        edges: ``bonds``, ``complete`` or ``radius``.
        radius: angstrom.

    Raises:
        UserError: all training molecules have the same value of a property, or references leave nothing of it.

    Source: Fuchs et al. 2020, Section 4.3 and appendix.
    """

    name = qm9.TASK.name
    pooled = True

    def __init__(
        self, config: PropertyTaskConfig, data: PropertyData, edges: str = "bonds", radius: float = 5.0
    ) -> None:
        self.config, self.data = config, data
        elements = QM9_ELEMENTS if data.kind == qm9.DATA.name else elements_of(data.arrays)
        self.settings = GraphSettings(elements, edges, radius, config.inputs)
        self.fiber_in, self.fiber_out = self.settings.fiber_in, Fiber({0: len(data.properties)})
        self.num_edge_scalars = self.settings.num_edge_scalars
        counts, weights = composition_fit(data, elements)
        self._counts = counts[:, :-1]
        references = weights[:-1].T if config.reference == "composition" else np.zeros((len(data.properties), 0))
        self.scores = tuple(map(self._score, data.properties, data.values.T, references))
        names = qm9.mae_names([learned.name for learned in data.properties])
        self.units = {name: unit for name, unit in qm9.TASK.units.items() if name not in qm9.TASK.headline}
        self.units |= dict(zip(names, (learned.unit for learned in data.properties), strict=True))
        self.headline = self._mae = names
        self._graphs = MoleculeGraphs(data.arrays, self.settings)
        self._exact = torch.from_numpy(data.values)
        self._index = {split: torch.from_numpy(members) for split, members in data.splits.items()}
        self._baselines: dict[str, dict[str, tuple[float, ...]]] = {}
        self.to("cpu", torch.get_default_dtype())

    def _score(self, learned: Property, values: np.ndarray, reference: np.ndarray) -> Score:
        train = self.data.splits["train"]
        values = values[train]
        if values.max() == values.min():
            raise UserError(
                f"{learned.name}: is {values[0]:g} for all {len(values)} training molecules: nothing to learn; "
                "choose another property, or more molecules"
            )
        rest = values - self._counts[train] @ reference if reference.size else values
        if rest.std() < _ROUNDING * values.std():
            raise UserError(
                f"task.reference=composition: the numbers of atoms of {len(values)} training molecules explain "
                f"{learned.name} exactly: nothing to learn; take more molecules, or task.reference=none"
            )
        return Score(
            learned.name, learned.label, learned.unit, float(rest.mean()), float(rest.std()), tuple(reference.tolist())
        )

    @classmethod
    def from_config(cls, config: Config) -> PropertyTask:
        """Load the prepared molecules, preparing them first where they are missing.

        Raises:
            UserError: the data are not available, or hold nothing to train on.
        """
        data = load_property(config.data, config.task, progress=config.trainer.progress)
        return cls(config.task, data, config.data.graph, config.data.radius)

    def restore(self, facts: Mapping[str, Any]) -> None:
        """Use mean, standard deviation and references of the molecules that the weights were trained on.

        Raises:
            UserError: the molecules differ from those of the training, and so does their random split.
        """
        before, now = facts.get("checksum"), self.data.checksum
        if before not in (None, now):
            if self.data.kind == molecules.DATA.name:
                raise UserError(
                    f"data.raw: these weights were trained on data with checksum {before[:12]}…, and the data now have "
                    f"{now[:12]}…, with another random split that may hold training molecules; bring back those files"
                )
            log.warning("the data have checksum %s…, those of the training had %s…", now[:12], before[:12])
        if facts.keys() & {"mean", SEVERAL}:
            self.scores = scores_of(facts)
        self.to(self._values.device, self._targets.dtype)

    def size(self, split: str) -> int:
        """Number of molecules of a split."""
        return len(self._index[split])

    def to(self, device: torch.device | str, dtype: torch.dtype) -> PropertyTask:
        """Keep working copies on ``device``, floating ones in ``dtype``; values stay in double precision."""
        self._graphs.to(device, dtype)
        self._values = self._exact.to(device)
        offsets = np.column_stack([score.offset(self._counts) for score in self.scores])
        self._expected = torch.from_numpy(offsets).to(device)
        self._std = torch.tensor([score.std for score in self.scores], dtype=torch.float64, device=device)
        self._targets = ((self._values - self._expected) / self._std).to(dtype)
        self._index = {split: members.to(device) for split, members in self._index.items()}
        return self

    def batch(self, split: str, index: Int[Tensor, " sample"], draw: Draw = None) -> PropertyBatch:
        """The molecules with the given numbers within the split."""
        molecule = self._index[split].index_select(0, index)
        targets, values = self._targets.index_select(0, molecule), self._values.index_select(0, molecule)
        return PropertyBatch(molecule, targets, values)

    def graph(self, batch: PropertyBatch) -> Graph:
        """All molecules of a batch as one graph of disjoint clouds."""
        return self._graphs.graph(batch.molecule)

    def loss(self, prediction: Features, batch: PropertyBatch) -> Float[Tensor, ""]:
        """Mean absolute error of the z-scores (L1)."""
        return nn.functional.l1_loss(prediction[0].squeeze(-1), batch.targets)

    def metrics(self, prediction: Features, batch: PropertyBatch) -> dict[str, Float[Tensor, " sample"]]:
        """``loss`` in standard deviations and ``mae`` in the unit of the property, of every molecule; of several
        properties their mean loss, and ``mae_<target>`` of each.
        """
        expected = self._expected.index_select(0, batch.molecule)
        error = (expected + self._std * prediction[0].squeeze(-1).double() - batch.values).abs()
        return {"loss": (error / self._std).mean(1), **dict(zip(self._mae, error.unbind(1), strict=True))}

    def equivariance(
        self, model: nn.Module, graph: Graph, prediction: Features, generator: torch.Generator
    ) -> dict[str, Float[Tensor, " sample"]]:
        """Change of the prediction under one Haar rotation of every molecule: |Φ(f) − Φ(L_s f)|, on z-scores, the mean
        of all properties.

        **Deviation**: Equation 14 divides by the size of the output. One z-scored number passes through zero, so the
        standard deviation of the target takes its place.
        """
        rotated, _ = rotate_clouds(graph, generator)
        difference = prediction[0].double() - model(rotated)[0].double()
        return {"equivariance_error": difference.squeeze(-1).abs().mean(1)}

    def baselines(self, split: str) -> dict[str, tuple[float, ...]]:
        """Mean absolute error of the training mean, and of a fit to the numbers of atoms of each element."""
        if split not in self._baselines:
            self._baselines[split] = dict(baseline_errors(self.data, self.settings.elements, split))
        return self._baselines[split]

    def relative(self, metrics: Mapping[str, float], split: str) -> dict[str, float]:
        """The error over that of predicting the training mean, the mean of all properties; none where that is zero."""
        means = self.baselines(split)["mean"]
        parts = [metrics[name] / mean for name, mean in zip(self._mae, means, strict=True) if mean]
        return {"relative_mae": sum(parts) / len(parts)} if len(parts) == len(means) else {}

    def describe(self) -> dict[str, Any]:
        """Properties, edges, sizes, training statistics, checksum and baselines (on test, where there is one)."""
        facts, split = self.facts(), "test" if self.size("test") else "valid"
        shared = ("kind", "target", "label", "unit", "checksum", "mean", "std", SEVERAL)
        return {name: facts[name] for name in shared if name in facts} | {
            "preset": f"{self.data.kind}, {facts['target']}, {self.settings.edges}",
            "graph": self.settings.edges,
            "sizes": {name: self.size(name) for name in self._index},
            "official": dict(self.data.official),
            "baselines": {name: list(errors) for name, errors in self.baselines(split).items()},
            "baseline_split": split,
        }

    def facts(self) -> dict[str, Any]:
        """What predictions need besides the weights, and properties of the training molecules."""
        train = self.data.splits["train"]
        chosen = torch.zeros(len(self.data.values), dtype=torch.bool)
        chosen[torch.from_numpy(train)] = True
        return {
            "kind": self.data.kind,
            **facts_of(self.scores),
            "elements": list(self.settings.elements),
            "elements_seen": list(elements_of(self.data.arrays, chosen.numpy())),
            "edges": self.settings.edges,
            "radius": self.settings.radius,
            "inputs": self.settings.inputs,
            "max_atoms": int(self.data.arrays["num_atoms"][train].max()),
            "num_train": len(train),
            "checksum": self.data.checksum,
            **self._domain.facts(),
        }

    @cached_property
    def _domain(self) -> Domain:
        return Domain.of(take(self.data.arrays, self.data.splits["train"]))
