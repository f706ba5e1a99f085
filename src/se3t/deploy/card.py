"""The model card: what a trained model is, how good, and for what, in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from se3t.config import Config
from se3t.config.fields import time_in_words
from se3t.data.molecules.graphs import spell_elements
from se3t.data.qm9.splits import SPLIT_SIZES
from se3t.deploy.predict import is_atomisation, what_it_is
from se3t.experiments import TaskSpec, dataset, molecules, qm9, task
from se3t.experiments.qm9 import is_subset
from se3t.reporting.published import printed_names
from se3t.runs import DIGEST, TIME
from se3t.screen import markdown_text

_MISSING = "–"
_SPLITS = {"train": "training", "valid": "validation", "test": "test"}
_READS_BONDS = ("se3_transformer", "tfn", "mpnn")
_PAPER = (
    "F. B. Fuchs, D. E. Worrall, V. Fischer, M. Welling: SE(3)-Transformers: 3D Roto-Translation Equivariant Attention "
    "Networks. NeurIPS 2020. arXiv:2006.10503"
)
_QM9 = (
    "R. Ramakrishnan, P. O. Dral, M. Rupp, O. A. von Lilienfeld: Quantum chemistry structures and properties of 134 "
    "kilo molecules. Scientific Data 1, 140022 (2014). doi:10.1038/sdata.2014.22",
    "L. Ruddigkeit, R. van Deursen, L. C. Blum, J.-L. Reymond: Enumeration of 166 billion organic small molecules in "
    "the chemical universe database GDB-17. J. Chem. Inf. Model. 52, 2864–2875 (2012). doi:10.1021/ci300415d",
)


@dataclass(frozen=True)
class Exported:
    """All that a card says about a model.

    Attributes:
        config: settings of its training.
        step: when its weights were taken.
        valid: metrics of these weights on validation.
        facts: of the task, as the checkpoint holds them.
        result: ``result.json`` of the run; None for one that has not finished.
        versions: by package, of the training.
        exported_with: version of this package.
        parameters: number of them, where it is known.
    """

    config: Config
    step: int
    valid: Mapping[str, float]
    facts: Mapping[str, Any]
    result: Mapping[str, Any] | None
    versions: Mapping[str, str]
    exported_with: str
    parameters: int | None

    @property
    def task(self) -> TaskSpec:
        """What is said of its task."""
        return task(self.config.task.name)

    @property
    def is_property(self) -> bool:
        """Whether it predicts a property of molecules."""
        return bool(self.config.task.name == "property")

    @property
    def is_classification(self) -> bool:
        """Whether it names the class of a point cloud."""
        return bool(self.config.task.name == "classification")

    @property
    def is_qm9(self) -> bool:
        """Whether its molecules are those of QM9."""
        return self.facts.get("kind") == qm9.DATA.name

    @property
    def data(self) -> Mapping[str, Any]:
        """What the run record says of the data."""
        return {} if self.result is None else self.result["data"]


def model_card(model: Exported) -> str:
    """The card as Markdown. Every number is one of the run record or of the checkpoint."""
    sections = [("", _summary(model)), ("Data", _data(model)), ("Training", _training(model))]
    sections += [("Errors", _errors(model)), ("Limits", _limits(model)), ("Use", _use(model))]
    sections += [("Versions", _versions(model)), ("Licence and citation", _citation(model))]
    body = [f"## {title}\n\n{_text(lines)}" if title else _text(lines) for title, lines in sections]
    return f"# {_title(model)}\n\n" + "\n\n".join(body) + "\n"


def _text(lines: Iterable[str]) -> str:
    return "\n".join(lines)


def _title(model: Exported) -> str:
    name = printed_names().get(model.config.model.name, model.config.model.name)
    target = model.facts.get("target", model.config.task.name)
    return f"{name}: {markdown_text(target)}"


def _summary(model: Exported) -> Iterator[str]:
    if model.is_property:
        seen = "positions and bonds" if model.config.model.name in _READS_BONDS else "positions"
        yield f"From the atoms of a molecule and their {seen}: {markdown_text(what_it_is(model.facts))}."
    elif model.is_classification:
        yield f"The class of a scanned object, one of {len(model.facts['classes'])}, from coordinates of its points."
    else:
        predicts = f": predicts {model.task.predicts}" if model.task.predicts else ""
        yield f"Trained by `se3t train experiment={model.config.experiment}`{predicts}."
    yield ""
    settings = {name: value for name, value in vars(model.config.model).items() if name not in ("name", "kernel")}
    rows: list[tuple[str, str]] = [("experiment", model.config.experiment)]
    if model.is_property:
        rows += [
            ("target", markdown_text(f"{model.facts['target']} ({model.facts['label']})")),
            ("unit", markdown_text(model.facts["unit"]) or _MISSING),
        ]
        edges = model.facts["edges"]
        rows.append(("edges", f"radius, {model.facts['radius']:g} angstrom" if edges == "radius" else edges))
    if model.is_classification:
        task = model.config.task
        rows.append(
            ("input", f"{task.num_points} points ({task.sampling})" + (", with heights" if task.height else ""))
        )
    rows.append(("model", f"`{model.config.model.name}`"))
    rows += [] if model.parameters is None else [("parameters", f"{model.parameters:,}")]
    rows.append(("settings", ", ".join(f"{name}={_spelt(value)}" for name, value in settings.items()) or _MISSING))
    yield from _table(("what", "value"), rows)


def _data(model: Exported) -> Iterator[str]:
    name = dataset(model.config.data.name).label
    if model.is_classification:
        name = f"{'synthetic ' if model.facts['synthetic'] else ''}{name}, {model.facts['variant']}"
    sizes = model.data.get("sizes") or ({"train": model.facts["num_train"]} if "num_train" in model.facts else {})
    official = SPLIT_SIZES if model.is_qm9 else {}
    present = [split for split in official if split in sizes]
    lacks = is_subset([sizes[split] for split in present], [official[split] for split in present])
    yield f"- data: {name}{' subset: not all molecules of the official splits' if lacks else ''}"
    preset = getattr(model.config.data, "preset", None)
    if preset is not None:
        yield f"- preset: {preset}"
    yield f"- checksum of the prepared data: `{model.data.get('checksum', model.facts.get('checksum', _MISSING))}`"
    for split, count in sizes.items():
        whole = f" of {official[split]:,}" if split in official else ""
        yield f"- {_SPLITS.get(split, split)}: {count:,}{whole}"
    if model.is_property:
        yield f"- elements of the training molecules: {spell_elements(model.facts['elements_seen'])}"
        yield f"- largest training molecule: {model.facts['max_atoms']} atoms"
        yield f"- mean and standard deviation of the training values: {_pair(model.facts)}"
    if model.is_classification:
        yield f"- classes: {', '.join(model.facts['classes'])}"
        yield f"- height: coordinate {model.facts['up_axis']}"


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


def _errors(model: Exported) -> Iterator[str]:
    measured = {"valid": model.valid, "test": {} if model.result is None else model.result["test"] or {}}
    units = {"mae": model.facts.get("unit", "")} if model.result is None else model.result["units"]
    declared = [metric.name for metric in model.task.metrics]
    order = sorted(model.valid, key=lambda name: declared.index(name) if name in declared else len(declared))
    rows: list[tuple[str, ...]] = []
    for name in order:
        unit = "" if units.get(name) in (None, "1") else markdown_text(units[name])
        numbers = (_number(measured[split].get(name)) for split in measured)
        rows.append((model.task.metric(name).description, *numbers, unit))
        for label, values in _baselines(model, name, measured):
            rows.append((f"… {label}, without a network", *(_number(values.get(split)) for split in measured), unit))
    yield from _table(("", "validation", "test", "unit"), rows)
    yield ""
    if measured["test"]:
        yield "Validation chose the weights; test was measured once."
    else:
        why = "the run has not finished" if model.result is None else "there are no molecules of the test split"
        yield f"Not measured on test: {why}. Validation chose the weights, so its error is somewhat too small."


def _baselines(
    model: Exported, metric: str, measured: Mapping[str, Mapping[str, float]]
) -> Iterator[tuple[str, dict[str, float]]]:
    """What predictions without a network reach in one metric: their name, and the error by split as far as known."""
    task = model.task
    if metric not in task.baseline_metrics:
        return
    place, relative, reference = task.baseline_metrics.index(metric), f"relative_{metric}", next(iter(task.baselines))
    found: dict[str, dict[str, float]] = {reference: {}}
    for name, errors in model.data.get("baselines", {}).items():
        found[name] = {model.data.get("baseline_split", "test"): errors[place]}
    for split, values in measured.items():  # a relative error tells the one that it refers to
        if values.get(relative):
            found[reference].setdefault(split, values[metric] / values[relative])
    for name, by_split in found.items():
        yield task.baselines.get(name, name.replace("_", " ")), by_split


def _limits(model: Exported) -> Iterator[str]:
    if model.is_classification:
        yield "- meant for single objects, centred and scaled to the unit sphere, as those above"
        if model.facts["synthetic"]:
            yield "- trained on synthetic scans: nothing is known about real ones"
        return
    if not model.is_property:
        yield from (f"- {sentence}" for sentence in model.task.limits)
        return
    yield f"- only molecules of {spell_elements(model.facts['elements_seen'])}; `se3t predict` refuses others"
    yield f"- nothing is known about molecules of more than {model.facts['max_atoms']} atoms; they get a warning"
    if model.is_qm9:
        yield "- neutral molecules in their ground state"
        yield (
            "- geometries: QM9 has those relaxed with B3LYP/6-31G(2df,p), and its values belong to these; other "
            "geometries (force fields, crystals, SMILES embedded by RDKit) add an error that was not measured"
        )
        yield "- the values are those of B3LYP, not of experiments"
    else:
        yield "- neutral molecules, with geometries made in the same way as those of the training"
    if is_atomisation(model.facts):
        yield "- the numbers are atomisation energies: energies of single atoms were taken off"


def _use(model: Exported) -> Iterator[str]:
    yield "```bash"
    if model.is_property:
        yield "se3t predict --checkpoint . molecules.sdf        # or .xyz, or a SMILES a line in .smi"
    own = " data.raw=<the molecules it was trained on>" if model.facts.get("kind") == molecules.DATA.name else ""
    yield f"se3t eval checkpoint=.{own} data.root=<folder of the prepared data>"
    yield "```"
    yield ""
    yield 'In Python, `torch.load("model.ckpt", weights_only=True)` gives its weights as plain tensors.'
    if model.is_property:
        yield '`se3t.deploy.predict.load_predictor(".")` is the model, to be called with a list of molecules.'


def _versions(model: Exported) -> Iterator[str]:
    yield ", ".join(f"{name} {version}" for name, version in model.versions.items()) + " (training)"
    yield f"and se3t {model.exported_with} (export)."


def _citation(model: Exported) -> Iterator[str]:
    yield "The code, se3t, is under the MIT licence."
    yield ""
    for source in (_PAPER, *(_QM9 if model.is_qm9 else ())):
        yield f"- {source}"


# --- words and numbers ------------------------------------------------------------------------------------------------


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield "|" + "---|" * len(header)
    for row in rows:
        cells = [re.sub(r"(?<!\\)\|", r"\\|", cell) for cell in row]
        yield f"| {' | '.join(cells)} |"


def _number(value: float | None) -> str:
    return _MISSING if value is None else f"{value:.4g}"


def _spelt(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _pair(facts: Mapping[str, Any]) -> str:
    return f"{facts['mean']:.6g} ± {facts['std']:.6g} {facts['unit']}".rstrip()
