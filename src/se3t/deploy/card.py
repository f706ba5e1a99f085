"""The model card: what a trained model is, how accurate it is and what it is for, in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from se3t.config import Config
from se3t.config.fields import time_in_words
from se3t.experiments import DataSet, TaskSpec, dataset, task
from se3t.reporting.published import printed_names
from se3t.runs.names import DIGEST, TIME
from se3t.screen import markdown_text

MISSING = "–"
_SPLITS = {"train": "training", "valid": "validation", "test": "test"}
_WEIGHTS = 'In Python, `safetensors.torch.load_file("model.safetensors")` gives its weights as plain tensors.'
_PAPER = (
    "F. B. Fuchs, D. E. Worrall, V. Fischer, M. Welling: SE(3)-Transformers: 3D Roto-Translation Equivariant Attention "
    "Networks. NeurIPS 2020. arXiv:2006.10503"
)


@dataclass(frozen=True)
class Exported:
    """All that a card is made from.

    Attributes:
        config: settings of its training.
        step: when its weights were taken.
        valid: metrics of these weights on validation.
        facts: of the task, as the checkpoint holds them.
        result: ``result.json`` of the run; None for one that has not finished.
        versions: by package, of the training.
        exported_with: version of this package.
        command: that trained it; empty where unknown.
    """

    config: Config
    step: int
    valid: Mapping[str, float]
    facts: Mapping[str, Any]
    result: Mapping[str, Any] | None
    versions: Mapping[str, str]
    exported_with: str
    command: str = ""

    @property
    def data(self) -> Mapping[str, Any]:
        """The data, as in the run record."""
        return {} if self.result is None else self.result["data"]

    @property
    def dataset(self) -> DataSet:
        """What it was trained on."""
        return dataset(self.facts.get("kind", self.config.data.name))

    @property
    def task(self) -> TaskSpec:
        """What it has learned."""
        return task(self.config.task.name)


def model_card(model: Exported) -> str:
    """The card as Markdown. Every number is one of the run record or of the checkpoint."""
    card = model.task.card(model)
    sections = {
        "": [card.summary(), "", *_table(("what", "value"), [*card.rows(), *_rows(model)])],
        "Data": [*_data(model, card.data_name(), card.official()), *card.data()],
        "Training": _training(model),
        "Errors": _errors(model, card),
        "Limits": [f"- {limit}" for limit in (*card.limits(), *model.dataset.limits)],
        "Use": ["```bash", *card.commands(), "```", "", _WEIGHTS, *card.python()],
        "Versions": [
            ", ".join(f"{name} {version}" for name, version in model.versions.items()) + " (training)",
            f"and se3t {model.exported_with} (export).",
        ],
        "Licence and citation": _citation(model),
    }
    texts = [(f"## {title}\n\n" if title else "") + "\n".join(lines) for title, lines in sections.items()]
    return f"# {_title(model)}\n\n" + "\n\n".join(texts) + "\n"


class Card:
    """The task-specific parts of a model card; subclasses override those that they extend."""

    def __init__(self, model: Exported) -> None:
        self.model = model

    def summary(self) -> str:
        """What the model does, in a sentence."""
        predicts = f": predicts {self.model.task.predicts}" if self.model.task.predicts else ""
        return f"Trained by `se3t train experiment={self.model.config.experiment}`{predicts}."

    def rows(self) -> list[tuple[str, str]]:
        """Names and values for the first table."""
        return []

    def data_name(self) -> str:
        """Of the training data."""
        return self.model.dataset.label

    def official(self) -> Mapping[str, int]:
        """Published sizes of the splits, where there are some."""
        return {}

    def data(self) -> list[str]:
        """More lines about the training data."""
        return []

    def limits(self) -> Iterable[str]:
        """What the model is not for; those of the data are added."""
        return self.model.task.limits

    def baseline_place(self, metric: str) -> int | None:
        """The place of a metric in the errors of predictions without a network; None where it is not among them."""
        metrics = self.model.task.baseline_metrics
        return metrics.index(metric) if metric in metrics else None

    def units(self) -> Mapping[str, str]:
        """Units of metrics, where no run record tells them."""
        return {}

    def commands(self) -> list[str]:
        """Command lines that use the exported folder."""
        return ["se3t eval checkpoint=. data.root=<folder of the prepared data>"]

    def python(self) -> list[str]:
        """More lines on how to use it in Python."""
        return []


def _title(model: Exported) -> str:
    name = printed_names().get(model.config.model.name, model.config.model.name)
    return f"{name}: {markdown_text(model.facts.get('target', model.config.task.name))}"


def _rows(model: Exported) -> list[tuple[str, str]]:
    settings = {name: value for name, value in vars(model.config.model).items() if name not in ("name", "kernel")}
    return [
        ("experiment", model.config.experiment),
        ("model", f"`{model.config.model.name}`"),
        *([] if model.result is None else [("parameters", f"{model.result['parameters']:,}")]),
        ("settings", ", ".join(f"{name}={_spelt(value)}" for name, value in settings.items()) or MISSING),
    ]


def _data(model: Exported, name: str, official: Mapping[str, int]) -> Iterator[str]:
    yield f"- data: {name}"
    preset = getattr(model.config.data, "preset", None)
    if preset is not None:
        yield f"- preset: {preset}"
    yield f"- checksum of the prepared data: `{model.data.get('checksum', model.facts.get('checksum', MISSING))}`"
    for split, count in sizes_of(model).items():
        whole = f" of {official[split]:,}" if split in official else ""
        yield f"- {_SPLITS.get(split, split)}: {count:,}{whole}"


def sizes_of(model: Exported) -> Mapping[str, int]:
    """Samples of each split, as far as known."""
    return model.data.get("sizes") or ({"train": model.facts["num_train"]} if "num_train" in model.facts else {})


def _training(model: Exported) -> Iterator[str]:
    trainer, optim = model.config.trainer, model.config.optim
    if model.result is None:
        yield "- **this run had not finished** when it was exported"
        batches = f"batches of {trainer.batch_size:,}"
        limit = "" if trainer.max_time is None else f", in at most {time_in_words(trainer.max_time)} of training"
        yield f"- steps: weights of step {model.step:,} of {trainer.max_steps:,} planned{limit}, {batches}"
    else:
        budget = model.result["budget"]
        early = ", stopped early" if budget.get("stopped_early") else ""
        early = f" in {time_in_words(budget['max_time'])} of training" if budget.get("ended_by") == TIME else early
        batches = f"batches of {budget['batch_size']:,}"
        yield f"- steps: {budget['steps_done']:,}{early}, {batches}; weights of step {model.step:,}"
        yield f"- time: {budget['seconds']:,.0f} s, evaluations included"
        if DIGEST not in model.result:
            yield "- **unverified**: the run record is of an earlier version, without the digest that shows changes"
    rate = f"{optim.name}, learning rate {optim.lr:g} ({optim.schedule})"
    decay = f", weight decay {optim.weight_decay:g}" if optim.weight_decay else ""
    average = "" if trainer.ema_decay is None else f"; weights averaged with decay {trainer.ema_decay:g}"
    yield f"- optimiser: {rate}{decay}{average}"
    yield f"- precision: {trainer.precision}; seed: {model.config.seed}; preset: {_spelt(model.config.preset)}"
    if model.command:
        yield from ("", "```bash", model.command, "```")


def _errors(model: Exported, card: Card) -> Iterator[str]:
    measured = {"valid": model.valid, "test": {} if model.result is None else model.result["test"] or {}}
    units = card.units() if model.result is None else model.result["units"]
    declared = [metric.name for metric in model.task.metrics]
    rows: list[tuple[str, ...]] = []
    for name in sorted(model.valid, key=lambda name: declared.index(name) if name in declared else len(declared)):
        unit = "" if units.get(name) in (None, "1") else markdown_text(units[name])
        rows.append(
            (model.task.metric(name).description, *(_number(part.get(name)) for part in measured.values()), unit)
        )
        for label, values in _baselines(model, card.baseline_place(name), name, measured):
            rows.append((f"… {label}, without a network", *(_number(values.get(split)) for split in measured), unit))
    yield from _table(("", "validation", "test", "unit"), rows)
    yield ""
    if measured["test"]:
        yield "Validation chose the weights; test was measured once."
    else:
        why = "the run has not finished" if model.result is None else "the data hold no test split"
        yield f"Not measured on test: {why}. Validation chose the weights, so its error is somewhat too small."


def _baselines(
    model: Exported, place: int | None, metric: str, measured: Mapping[str, Mapping[str, float]]
) -> Iterator[tuple[str, dict[str, float]]]:
    """What predictions without a network reach in one metric: their name, and the error by split as far as known."""
    if place is None:
        return
    names = model.task.baselines
    reference = next(iter(names))
    errors: dict[str, dict[str, float]] = {reference: {}}
    for name, values in model.data.get("baselines", {}).items():
        errors[name] = {model.data.get("baseline_split", "test"): values[place]}
    for split, values in measured.items():  # a relative error tells the one that it refers to
        if values.get(f"relative_{metric}"):
            errors[reference].setdefault(split, values[metric] / values[f"relative_{metric}"])
    for name, by_split in errors.items():
        yield names.get(name, name.replace("_", " ")), by_split


def _citation(model: Exported) -> list[str]:
    sources = (_PAPER, *model.dataset.sources)
    return ["The code, se3t, is under the MIT licence.", "", *(f"- {source}" for source in sources)]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield "|" + "---|" * len(header)
    for row in rows:
        cells = [re.sub(r"(?<!\\)\|", r"\\|", cell) for cell in row]
        yield f"| {' | '.join(cells)} |"


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{value:.4g}"


def _spelt(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
