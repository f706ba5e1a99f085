"""Predictions of trained models on molecules of files, from a checkpoint alone: no prepared data are needed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from se3t import pretrained
from se3t.compat.converted import is_model
from se3t.config import Config
from se3t.data.molecules.conversion import rdkit_version
from se3t.data.molecules.dataset import composition
from se3t.data.molecules.domain import Domain
from se3t.data.molecules.graphs import GraphSettings, MoleculeGraphs, spell_elements
from se3t.data.molecules.inputs import Entry
from se3t.data.molecules.molecule import Molecule, kind_of, pack
from se3t.data.molecules.scores import Score, scores_of
from se3t.data.qm9.targets import target_of
from se3t.errors import UserError
from se3t.fiber import Fiber
from se3t.models import build_model
from se3t.precision import default_dtype
from se3t.runs.names import CHECKPOINTS
from se3t.training import checkpoint as ckpt

BATCH_SIZE = 128
MAX_EDGES = 25_000
"""Edges of a batch, which bound its memory: some hundred MiB."""
MAX_EDGES_OF_ONE = 250_000
"""Edges of a single molecule: all pairs of 500 atoms."""
_EXAMPLES = 5
_DIGITS = 7  # of single precision, which is that of the score


@dataclass(frozen=True)
class Predictor:
    """A trained model of one property, or of several.

    Attributes:
        path: the checkpoint.
        model: in single precision and ``eval()``.
        config: of its training.
        facts: what :meth:`se3t.tasks.property.PropertyTask.facts` says.
        step: of its training.
        metrics: of its validation.
        device: where it computes.
    """

    path: Path
    model: nn.Module = field(repr=False)
    config: Config = field(repr=False)
    facts: Mapping[str, Any] = field(repr=False)
    step: int
    metrics: Mapping[str, float] = field(repr=False)
    device: torch.device

    @property
    def settings(self) -> GraphSettings:
        """What the model sees of a molecule."""
        return _settings(self.facts)

    @property
    def scores(self) -> tuple[Score, ...]:
        """The properties that it predicts."""
        return scores_of(self.facts)

    @property
    def columns(self) -> list[str]:
        """Property and unit of each, as a table heads the predictions."""
        kinds = [" atomisation" if is_atomisation(self.facts["kind"], score) else "" for score in self.scores]
        units = [f" ({score.unit})" if score.unit else "" for score in self.scores]
        return [f"{score.target}{kind}{unit}" for score, kind, unit in zip(self.scores, kinds, units, strict=True)]

    @cached_property
    def domain(self) -> Domain | None:
        """What its training molecules have; None for a model of an earlier version, which does not know."""
        return Domain.from_facts(self.facts)

    def warnings(self, molecules: Sequence[Molecule]) -> list[list[str]]:
        """For each molecule, what no training molecule has: an atom with its neighbours, the length of a bond."""
        return [[] for _ in molecules] if self.domain is None else self.domain.warnings(pack(molecules))

    def reason_against(self, molecule: Molecule) -> str:
        """Why the model cannot predict this molecule; empty where it can."""
        unseen = sorted(set(molecule.numbers.tolist()) - set(self.facts["elements_seen"]))
        if unseen:
            element = "element" if len(unseen) == 1 else "elements"
            return f"{element} {spell_elements(unseen)} not among the training molecules"
        if num_edges(molecule, self.settings) > MAX_EDGES_OF_ONE:
            return f"{len(molecule)} atoms are too many for graphs of this kind ({self.settings.edges})"
        return ""

    def __call__(self, molecules: Sequence[Molecule]) -> Float[Tensor, "molecule property"]:
        """Predictions in the units of :attr:`scores`, in double precision on the CPU: mean + std · network +
        references.

        All molecules are one batch; :func:`predict` makes batches of bounded memory.
        """
        with torch.no_grad(), default_dtype(torch.float32):
            arrays = pack(molecules)
            graphs = MoleculeGraphs(arrays, self.settings).to(self.device, torch.float32)
            outputs = self.model(graphs.graph(torch.arange(len(molecules), device=self.device)))[0]
        counts = composition(arrays, self.settings.elements)
        offsets = np.column_stack([score.offset(counts) for score in self.scores])
        std = torch.tensor([score.std for score in self.scores], dtype=torch.float64)
        return torch.from_numpy(offsets) + std * outputs.squeeze(-1).double().cpu()


def is_atomisation(kind: str, score: Score) -> bool:
    """Whether a property, learned on data of some kind, is the energy of a molecule less that of its single atoms."""
    target = target_of(kind, score.target)
    return target is not None and target.is_atomisation


def what_it_is(kind: str, score: Score) -> str:
    """Description of a property, with its unit."""
    target = target_of(kind, score.target)
    description = f"column {score.target!r} of the training table" if target is None else target.label
    atoms = ", less the energies of the single atoms: negative for bound molecules"
    less = atoms if is_atomisation(kind, score) else ""
    return f"{description}{less}, in {score.unit or 'the unit of the table'}"


def load(checkpoint: Path | str = pretrained.DEFAULT, device: torch.device | str = "cpu") -> Predictor:
    """A model that predicts properties of molecules.

    Args:
        checkpoint: a run folder, a checkpoint file, a folder that ``se3t export`` wrote, or the name of a model of the
            package, see :func:`se3t.pretrained.names`.
        device: where it computes.

    Raises:
        UserError: it is missing or damaged, or not of a model that learned a property of molecules.
    """
    loaded = ckpt.load(Path(checkpoint))
    if is_model(loaded.content):
        raise UserError(
            f"{loaded.path}: a converted model, which has no property, unit or training molecules; se3t predict "
            "needs a model trained by se3t train (experiment=qm9)"
        )
    config = loaded.config
    if config.task.name != "property":
        raise UserError(
            f"{loaded.path}: was trained for experiment={config.experiment}, not for a property of molecules; se3t "
            "predict needs a run of experiment=qm9"
        )
    if "elements_seen" not in loaded.facts:
        raise UserError(f"{loaded.path}: has no record of its training molecules; train the model again")
    model, metrics, device = _model(loaded).to(device).eval(), loaded.content.get("metrics", {}), torch.device(device)
    return Predictor(loaded.path, model, config, loaded.facts, loaded.step, metrics, device)


def _settings(facts: Mapping[str, Any]) -> GraphSettings:
    return GraphSettings(tuple(facts["elements"]), facts["edges"], facts["radius"], facts["inputs"])


def _model(checkpoint: ckpt.Checkpoint) -> nn.Module:
    settings, config = _settings(checkpoint.facts), checkpoint.config.model
    # The fastest kernel of this machine, whichever was asked for in training: all compute the same function.
    anywhere = {name: "auto" for name in ("kernel", "memory") if name in vars(config)}
    with default_dtype(torch.float32):
        model = build_model(
            replace(config, **anywhere),
            fiber_in=settings.fiber_in,
            fiber_out=Fiber({0: len(scores_of(checkpoint.facts))}),
            num_edge_scalars=settings.num_edge_scalars,
            pooled=True,
        )
    ckpt.load_weights(model, checkpoint.weights, checkpoint.path)
    return model


# --- predicting -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """The result for one entry.

    Attributes:
        entry: the record of a file.
        values: the predictions of every model, in the units of its properties; None where there is none.
        warnings: about the prediction.
        reason: why no model predicts anything; empty where one does.
    """

    entry: Entry
    values: tuple[float | None, ...]
    warnings: tuple[str, ...] = ()
    reason: str = ""

    @property
    def status(self) -> str:
        """``ok``, the warnings, or the reason."""
        if self.reason:
            return f"not predicted: {self.reason}"
        return f"warning: {'; '.join(self.warnings)}" if self.warnings else "ok"


def predict(predictors: Sequence[Predictor], entries: Iterable[Entry], batch_size: int = BATCH_SIZE) -> Iterator[Row]:
    """Predictions for molecules, in order; where there is none, the reason.

    Args:
        predictors: models of one or several properties.
        entries: see :func:`se3t.data.molecules.inputs.read_molecules`; they are read as far as needed.
        batch_size: molecules at a time, at most; fewer where they have many edges.

    Yields:
        A row for each entry.
    """
    waiting: list[tuple[Entry, list[str]]] = []
    largest = molecules = 0
    for entry in entries:
        molecule = entry.molecule
        against = [entry.problem if molecule is None else model.reason_against(molecule) for model in predictors]
        if "" in against and molecule is not None:
            size = max(num_edges(molecule, predictor.settings) for predictor in predictors)
            # Each counts as the largest one: models of point clouds pad them to the same size.
            if molecules == batch_size or max(largest, size) * (molecules + 1) > MAX_EDGES:
                yield from _rows(predictors, waiting)
                waiting, largest, molecules = [], 0, 0
            largest, molecules = max(largest, size), molecules + 1
        waiting.append((entry, against))
        if molecules == 0:  # no prediction to wait for
            yield from _rows(predictors, waiting)
            waiting = []
    yield from _rows(predictors, waiting)


def num_edges(molecule: Molecule, settings: GraphSettings) -> int:
    """Number of edges of a molecule; for ``radius`` the number there may be at most.

    Models that see points in place of edges work on all pairs.
    """
    if settings.edges == "bonds" and settings.inputs == "atoms":
        return 2 * len(molecule.bond_classes)
    return len(molecule) * (len(molecule) - 1)


def _rows(predictors: Sequence[Predictor], waiting: Sequence[tuple[Entry, list[str]]]) -> Iterator[Row]:
    columns = []
    for place, predictor in enumerate(predictors):
        chosen = [entry.molecule for entry, against in waiting if not against[place] and entry.molecule is not None]
        found = zip(predictor(chosen).tolist(), predictor.warnings(chosen), strict=True) if chosen else iter(())
        columns.append([(None, []) if against[place] else next(found) for _, against in waiting])
    for row, (entry, against) in enumerate(waiting):
        yield _row(predictors, entry, against, [column[row] for column in columns])


def _row(
    predictors: Sequence[Predictor],
    entry: Entry,
    against: Sequence[str],
    predicted: Sequence[tuple[list[float] | None, list[str]]],
) -> Row:
    """The row of an entry; ``predicted`` are the values and the warnings of each model."""
    targets: list[str] = []
    reasons: list[str] = []
    shown: list[float | None] = []
    for predictor, reason, (values, _) in zip(predictors, against, predicted, strict=True):
        for score, value in zip(predictor.scores, values or repeat(None), strict=False):
            finite = value is None or math.isfinite(value)
            targets.append(score.target)
            reasons.append(reason if finite else "the network's output is not a finite number")
            shown.append(None if reasons[-1] else value)
    if all(reasons):
        return Row(entry, tuple(shown), reason="; ".join(dict.fromkeys(reasons)))
    without: dict[str, list[str]] = {}
    for target, reason in zip(targets, reasons, strict=True):
        without.setdefault(reason, []).append(target)
    missing = [f"no {', '.join(names)}: {reason}" for reason, names in without.items() if reason]
    unlike = _unlike(predictors, [warnings for _, warnings in predicted])
    return Row(entry, tuple(shown), (*entry.notes, *_too_large(predictors, entry), *unlike, *missing))


def _unlike(predictors: Sequence[Predictor], warnings: Sequence[Sequence[str]]) -> list[str]:
    """Warnings of the models, with the name of the model where others do not give them."""
    by_text: dict[str, list[str]] = {}
    for predictor, texts in zip(predictors, warnings, strict=True):
        for text in texts:
            by_text.setdefault(text, []).append(run_name(predictor.path))
    return [
        text if len(names) == len(predictors) else f"{text} ({', '.join(names)})" for text, names in by_text.items()
    ]


def _too_large(predictors: Sequence[Predictor], entry: Entry) -> list[str]:
    limit = min(int(predictor.facts["max_atoms"]) for predictor in predictors)
    count = 0 if entry.molecule is None else len(entry.molecule)
    return [f"size: {count} atoms, more than the {limit} of the largest training molecule"] if count > limit else []


# --- the table --------------------------------------------------------------------------------------------------------


@dataclass
class Summary:
    """Counts over all rows.

    Attributes:
        counts: of rows: ``predicted``, ``warned`` (among them), ``refused``, ``embedded``.
        warnings: how often each was given, by kind.
        refusals: the first few rows without a prediction.
    """

    counts: Counter[str] = field(default_factory=Counter)
    warnings: dict[str, Counter[str]] = field(default_factory=dict)
    refusals: list[Row] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """Count one row."""
        if row.reason:
            self.counts["refused"] += 1
            self.refusals += [row] if len(self.refusals) < _EXAMPLES else []
            return
        self.counts["predicted"] += 1
        self.counts["warned"] += bool(row.warnings)
        self.counts["embedded"] += row.entry.embedded
        for warning in row.warnings:
            self.warnings.setdefault(kind_of(warning), Counter())[warning] += 1


def columns_of(predictors: Sequence[Predictor]) -> list[str]:
    """A heading for every property; those of two models are told apart by their folders."""
    pairs = [(name, predictor) for predictor in predictors for name in predictor.columns]
    names = [name for name, _ in pairs]
    return [name if names.count(name) == 1 else f"{name} [{run_name(predictor.path)}]" for name, predictor in pairs]


def run_name(path: Path) -> str:
    """The folder of a run, where the checkpoint is in one, or of the checkpoint."""
    folder = path.absolute().parent
    return folder.parent.name if folder.name == CHECKPOINTS else folder.name


def write_table(
    write: Callable[[list[str]], object],
    predictors: Sequence[Predictor],
    rows: Iterable[Row],
    tell: Callable[[int], None] = lambda done: None,
) -> Summary:
    """Write predictions: file, index, identifier, a column for each property, where the geometry is from, status.

    Args:
        write: takes the cells of a row, the headings first; such as ``csv.writer(file).writerow``.
        predictors: those that made the rows.
        rows: see :func:`predict`.
        tell: called with the number of rows written.
    """
    write(["file", "index", "identifier", *columns_of(predictors), "geometry", "status"])
    summary, scores = Summary(), [score for predictor in predictors for score in predictor.scores]
    for number, row in enumerate(rows, start=1):
        entry = row.entry
        values = [_text(value, score) for value, score in zip(row.values, scores, strict=True)]
        place = str(entry.index or "")
        write([entry.file, place, entry.identifier, *values, _geometry(entry), row.status])
        summary.add(row)
        tell(number)
    return summary


def _text(value: float | None, score: Score) -> str:
    """With the digits that the score decides: a mean, or references of atoms, may be much larger than its unit."""
    if value is None:
        return ""
    larger = max(1.0, abs(value) / score.std)
    return f"{value:.{_DIGITS + math.floor(math.log10(larger))}g}"


def _geometry(entry: Entry) -> str:
    if entry.molecule is None:
        return ""
    return f"embedded by RDKit {rdkit_version()}" if entry.embedded else "as in the file"
