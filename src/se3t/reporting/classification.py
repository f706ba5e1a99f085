"""Table 2: accuracies of point cloud classifiers beside what the paper prints."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from se3t.config import SCHEMAS, rotation_angle
from se3t.errors import UserError
from se3t.reporting.labels import labels, settings_to_join
from se3t.reporting.layout import (
    MISSING,
    REDUCED,
    Block,
    ResultTable,
    Row,
    error,
    mean,
    measured_label,
    number,
    span,
    steps,
)
from se3t.reporting.published import Estimate, PublishedModel, PublishedTable, load_published, system_name
from se3t.reporting.records import Fields, RunRecord, common, group_by_data, group_by_settings, overridden

SPLITS = ("train", "valid", "test")
BASELINES = {"majority": "majority class", "nearest_centroid": "nearest centroid"}
COLUMNS = ("accuracy, %", "class mean, %", "Δ inv", "points", "param.", "steps")
PUBLISHED_ON = "main_split_nobg"
VERTICAL = "y"
"""The coordinate that is the height of all of these data."""

SYNTHETIC = "synthetic shapes15"
"""What every table and figure calls the generated data."""

_NOT_COMPARABLE = "not comparable with the published numbers"
_DEFAULT_PRESET = "paper"
_OTHER, _VALID = "ˢ", "ᵛ"
_PLACES = 1


class Clouds(NamedTuple):
    """Data of a classification, and what is measured on them.

    ``rotation``: the largest angle of the test rotations in degrees, infinite for all of SO(3). ``up_axis``: the
    coordinate taken for the height. ``official``: objects of the published files in training (validation included) and
    test, as far as known. ``measured_on``: the split of the numbers.
    """

    kind: str
    variant: str
    checksum: str
    rotation: float
    up_axis: str
    sizes: tuple[int, ...]
    split_seed: int
    official: tuple[int, ...]
    is_synthetic: bool
    measured_on: str

    @property
    def name(self) -> str:
        """The data in words."""
        return data_name(self.variant, self.is_synthetic)

    @property
    def is_subset(self) -> bool:
        """Whether objects of the published files are missing."""
        train, valid, test = self.sizes
        return any(size < whole for size, whole in zip((train + valid, test), self.official, strict=False))

    @property
    def differences(self) -> list[str]:
        """Why the numbers cannot be compared with the published ones; nothing where they can."""
        found = []
        if self.is_synthetic:
            found.append(SYNTHETIC)
        elif self.variant != PUBLISHED_ON:
            found.append(self.name)
        elif self.is_subset:
            found.append(f"a part of {PUBLISHED_ON}")
        found += [axis_in_words(self.up_axis)] if self.up_axis != VERTICAL else []
        return [*found, *([rotation_in_words(self.rotation)] if self.rotation else [])]


def data_name(variant: str, is_synthetic: bool) -> str:
    """Data in words: "ScanObjectNN main_split_nobg", or that they are synthetic."""
    return f"{SYNTHETIC}, {variant}" if is_synthetic else f"ScanObjectNN {variant}"


def axis_in_words(up_axis: str) -> str:
    """A wrong vertical."""
    return f"{up_axis} taken for the vertical"


def rotation_in_words(rotation: float) -> str:
    """A test rotation, given by its largest angle in degrees; infinite: SO(3)."""
    if math.isinf(rotation):
        return "test rotation from all of SO(3)"
    return f"test rotation up to {rotation:g}° about a horizontal axis"


@dataclass(frozen=True)
class ClassificationRecord(RunRecord):
    """A finished run that learned classes.

    Attributes:
        height: whether heights were part of the input ("+z").
        num_points: of a cloud.
        augmentation: random rotations in training: none, vertical or so3.
        baselines: accuracy and class-mean accuracy in % of predictions without a network, by the names of
            ``BASELINES``.
        baseline_split: what those were measured on.
    """

    data: Clouds
    height: bool
    num_points: int
    augmentation: str
    baselines: dict[str, tuple[float, float]]
    baseline_split: str


def parse_record(fields: Fields) -> ClassificationRecord:
    """Check the content of one ``result.json`` and keep what Table 2 needs; accuracies become %.

    Raises:
        UserError: naming file and field, when a field is missing, of the wrong type, or not finite.
    """
    split = "test" if fields.content.get("test", ()) is not None else "valid"
    shared = common(fields)
    shared["settings"].pop("task.test_rotation", None)  # one of the data: 90 and 90.0 are the same
    return ClassificationRecord(
        **shared,
        overridden=_other_than_default(fields),
        data=_clouds(fields, split),
        metrics={
            "accuracy": 100 * fields.number(f"{split}.accuracy"),
            "class_accuracy": 100 * fields.number(f"{split}.class_accuracy"),
            "equivariance_error": fields.number(f"{split}.equivariance_error"),
        },
        height=flag(fields, "config.task", "height"),
        num_points=fields.integer("config.task.num_points"),
        augmentation=fields.text("config.task.augmentation"),
        baselines={
            name: (100 * fields.number(f"data.baselines.{name}.0"), 100 * fields.number(f"data.baselines.{name}.1"))
            for name in BASELINES
        },
        baseline_split=fields.text("data.baseline_split"),
    )


def _clouds(fields: Fields, split: str) -> Clouds:
    official = fields.mapping("data.official")
    return Clouds(
        kind=fields.text("data.kind"),
        variant=fields.text("data.variant"),
        checksum=fields.text("data.checksum"),
        rotation=parse_rotation(fields, "config.task.test_rotation"),
        up_axis=fields.text("data.up_axis"),
        sizes=tuple(fields.integer(f"data.sizes.{name}") for name in SPLITS),
        split_seed=fields.integer("config.data.split_seed"),
        official=tuple(fields.integer(f"data.official.{name}") for name in ("train", "test")) if official else (),
        is_synthetic=flag(fields, "data", "synthetic"),
        measured_on=split,
    )


def flag(fields: Fields, parent: str, name: str) -> bool:
    """A yes or no of a record.

    Raises:
        UserError: naming file and field, when it is something else.
    """
    value = fields.mapping(parent).get(name)
    if not isinstance(value, bool):
        raise UserError(f"{fields.origin}: field '{parent}.{name}' should be true or false, got {value!r}")
    return value


def parse_rotation(fields: Fields, name: str) -> float:
    """The largest angle of a test rotation in degrees, infinite for SO(3).

    Raises:
        UserError: naming file and field, when it is neither.
    """
    text = fields.text(name)
    try:
        return rotation_angle(text)
    except UserError as error:
        raise UserError(f"{fields.origin}: field {name!r} should be 0 … 180 or so3, got {text!r}") from error


def _other_than_default(fields: Fields) -> dict[str, Any]:
    kind = fields.text("data.kind")
    default = asdict(SCHEMAS["data"][kind]()) if kind in SCHEMAS["data"] else {}
    given = overridden(fields, ("name", "root", "raw"))
    return {name: value for name, value in given.items() if default.get(name) != value}


def tables(runs: Iterable[Fields]) -> list[ResultTable]:
    """Table 2 for every data set among the runs, and for every test rotation."""
    groups = group_by_data(parse_record(fields) for fields in runs)
    return [table2(group) for group in groups.values()]


def table2(records: Sequence[ClassificationRecord]) -> ResultTable:
    """Table 2 from records of one data set, measured under one test rotation."""
    published = load_published("table2")
    groups = group_by_settings(records)
    entries = {(str(entry.model), entry.height): entry for entry in published.models.values()}
    found = [(group[0].model, group[0].height) for group in groups]
    blocks = [_baselines(records[0])]
    for model, height in dict.fromkeys([*entries, *sorted(found)]):
        own = [group for group in groups if (group[0].model, group[0].height) == (model, height)]
        rows = _measured_rows(own, published, _always(records))
        entry = entries.get((model, height))
        rows += [] if entry is None else [_published_row(entry, published, only=not own)]
        blocks.append(Block(system_name(model, height) if entry is None else entry.label, tuple(rows)))
    notes = tuple(_notes(records, groups, published))
    return ResultTable(_title(records[0].data, published), COLUMNS, tuple(blocks), notes)


def _title(data: Clouds, published: PublishedTable) -> str:
    title = f"{published.title.partition(',')[0]}, {SYNTHETIC}" if data.is_synthetic else published.title
    if not data.is_synthetic and data.variant != PUBLISHED_ON:
        title += f" {data.variant}"
    elif not data.is_synthetic and data.is_subset:
        title += " subset"
    title += f", {axis_in_words(data.up_axis)}" if data.up_axis != VERTICAL else ""
    title += f", {rotation_in_words(data.rotation)}" if data.rotation else ""
    return title + (f": {_NOT_COMPARABLE}" if data.differences else "")


# --- rows -------------------------------------------------------------------------------------------------------------


def _baselines(record: ClassificationRecord) -> Block:
    """What needs no training; the same for all runs on the same data."""
    mark = _mark(record.data, record.baseline_split)
    rows = []
    for name, label in BASELINES.items():
        cells = [number(Estimate(value), _PLACES, mark) for value in record.baselines[name]]
        rows.append(Row(label, (*cells, *[MISSING] * (len(COLUMNS) - len(cells)))))
    return Block("No network", tuple(rows))


def _mark(data: Clouds, split: str) -> str:
    return (_OTHER if data.differences else "") + (_VALID if split == "valid" else "")


def _always(records: Iterable[ClassificationRecord]) -> tuple[str, ...]:
    """Augmentation is named in every line as soon as there is any."""
    return ("task.augmentation",) if any(record.augmentation != "none" for record in records) else ()


def _measured_rows(
    groups: Sequence[list[ClassificationRecord]], published: PublishedTable, always: Sequence[str]
) -> list[Row]:
    """A line for each setting of one system."""
    rows = []
    for runs, label in zip(groups, labels(groups, always), strict=True):
        mark = _mark(runs[0].data, runs[0].data.measured_on)
        cells = (
            number(mean(runs, "accuracy"), _PLACES, mark),
            number(mean(runs, "class_accuracy"), _PLACES, mark),
            error(mean(runs, "equivariance_error")),
            f"{runs[0].num_points:,}",
            span(run.parameters for run in runs),
            steps(runs, batch_size=published.batch_size, is_reduced=_is_reduced(runs, published)),
        )
        rows.append(Row(measured_label(runs, label), cells))
    return rows


def _published_row(entry: PublishedModel, published: PublishedTable, *, only: bool) -> Row:
    label = ("published only" if only else "published") + (", quoted" if entry.is_quoted else "")
    points = MISSING if entry.num_points is None else f"{entry.num_points:,}"
    done = MISSING if entry.is_quoted else f"{published.max_steps:,}"
    return Row(label, (number(entry.metrics["accuracy"]), MISSING, MISSING, points, MISSING, done))


def _is_reduced(runs: Iterable[ClassificationRecord], published: PublishedTable) -> bool:
    return min(run.steps_done * run.batch_size for run in runs) < published.max_steps * published.batch_size


# --- notes ------------------------------------------------------------------------------------------------------------


def _notes(
    records: Sequence[ClassificationRecord],
    groups: Sequence[list[ClassificationRecord]],
    published: PublishedTable,
) -> Iterable[str]:
    yield from _data_notes(records[0].data)
    yield "class mean: mean of the accuracies of the classes. majority class: the most frequent one in training."
    unrotated = ", without test rotation" if records[0].data.rotation else ""
    yield f"nearest centroid: of histograms of heights and distances from the vertical and the centre{unrotated}."
    yield "Δ inv: relative change of the logits when the objects are rotated; about the vertical for +z."
    budget = f"{published.max_steps:,} steps of batch {published.batch_size}"
    if any(_is_reduced(group, published) for group in groups):
        total = published.max_steps * published.batch_size
        yield f"{REDUCED} reduced budget: fewer objects seen than the {total:,} of the systems of the paper ({budget})."
    else:
        yield f"Full budget: {budget}, or more."
    if any(len(group) > 1 for group in groups):
        yield "±: standard deviation over seeds."
    if _always(records):
        yield "augmentation: random rotations of the training objects, about the vertical or from all of SO(3) (so3)."
    else:
        yield "Trained without rotation augmentation."
    yield from _published_notes(records, published)
    yield from _not_run(records, published)


def _published_notes(records: Sequence[ClassificationRecord], published: PublishedTable) -> Iterable[str]:
    yield f"Published: {published.source}. quoted: not trained by that paper, but taken from earlier ones."
    yield f"Published ±: {published.spread}."
    measured = {(record.model, record.height) for record in records}
    for entry in published.models.values():
        if entry.note and (entry.model, entry.height) in measured:
            yield f"{entry.label}: {entry.note}."


def _data_notes(data: Clouds) -> Iterable[str]:
    for difference in data.differences:
        yield f"{_OTHER} {difference[0].upper()}{difference[1:]}: {_NOT_COMPARABLE}."
    train, valid, test = (f"{size:,}" for size in data.sizes)
    of = f", of {data.official[0]:,} and {data.official[1]:,} in the files" if data.is_subset else ""
    seed = f"; split seed {data.split_seed}" if data.split_seed else ""
    name = data.name[0].upper() + data.name[1:]
    yield f"{name}: {train} objects train, {valid} validate, {test} test{of}{seed}; checksum {data.checksum[:8]}."
    if data.measured_on == "valid":
        yield f"{_VALID} accuracies on validation, which also chose the weights: nothing was measured on test."
    else:
        yield "Accuracies on test."


def _not_run(records: Sequence[ClassificationRecord], published: PublishedTable) -> Iterable[str]:
    """How to fill what is missing: one command for the plain systems, one for those with heights."""
    done = {(record.model, record.height) for record in records}
    data = records[0].data
    words = [f"data={data.kind}"] if data.kind != published.experiment else []
    words += settings_to_join(records, _DEFAULT_PRESET, records[0].overridden)
    if data.rotation:
        words.append(f"task.test_rotation={'so3' if math.isinf(data.rotation) else f'{data.rotation:g}'}")
    augmentations = {record.augmentation for record in records} - {"none"}
    if len(augmentations) == 1 and all(record.augmentation in augmentations for record in records):
        words.append(f"task.augmentation={records[0].augmentation}")
    for height in (False, True):
        entries = [entry for entry in published.models.values() if entry.height == height]
        missing = [entry for entry in entries if (entry.model, height) not in done]
        if missing:
            several = ["-m"] * (len(missing) > 1)
            models = f"model={','.join(str(entry.model) for entry in missing)}"
            command = ["se3t train", f"experiment={published.experiment}", *several, models]
            command += ["task.height=true"] * height + words
            yield f"Not run: {', '.join(entry.label for entry in missing)}. To run: {' '.join(command)}"
