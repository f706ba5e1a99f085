"""ScanObjectNN: the class of a scanned object (Table 2); shapes15 is a synthetic stand-in for its data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from se3t.config import SCHEMAS, rotation_angle
from se3t.config.schemas import ClassificationTask, ScanObjectNNData, Shapes15Data
from se3t.errors import UserError
from se3t.experiments.base import DataSet, Experiment, Lazy, Metric, TaskSpec
from se3t.experiments.table import (
    MISSING,
    NOT_COMPARABLE,
    OTHER,
    OTHER_DATA,
    SUBSET,
    SYNTHETIC,
    VALID,
    VALIDATION,
    DataFacts,
    Join,
    NoteParts,
    PublishedTable,
    TableColumn,
    TableSpec,
)
from se3t.runs import Fields, RunRecord
from se3t.runs.record import common, measured_split, overridden

_PERCENT: dict[str, Any] = {"factor": 100.0, "shown_unit": "%", "at_most": 1.0}

TASK = TaskSpec(
    name="classification",
    implementation=Lazy("se3t.tasks.classification:ClassificationTask"),
    schema=ClassificationTask,
    metrics=(
        Metric("accuracy", "accuracy (share of objects)", **_PERCENT),
        Metric("class_accuracy", "accuracy, mean over the classes", "1, mean over the classes", **_PERCENT),
        Metric("loss", "loss", "nat", optional=True),
        Metric(
            "equivariance_error",
            "equivariance error (change when the input is rotated)",
            "1 (relative change of the logits)",
        ),
        Metric("rebuilt_error", "equivariance error, neighbours searched again", "1, new neighbours", optional=True),
        Metric(
            "flipped_edges",
            "share of neighbours that change when the input is rotated",
            "1, share of neighbours",
            optional=True,
        ),
        Metric(
            "changed_class",
            "share of objects whose class changes when the input is rotated",
            "1, share of objects",
            optional=True,
        ),
    ),
    headline=("accuracy",),
    progress=("accuracy",),
    baselines={"majority": "majority class", "nearest_centroid": "nearest centroid"},
    baseline_metrics=("accuracy", "class_accuracy"),
    card=Lazy("se3t.deploy.card_classification:ClassificationCard"),
    random=Lazy("se3t.suite.random_data:clouds"),
)

SCANS = DataSet(
    name="scanobjectnn",
    label="ScanObjectNN",
    schema=ScanObjectNNData,
    store_path=Lazy("se3t.data.scanobjectnn.prepare:store_path"),
    prepare=Lazy("se3t.data.scanobjectnn.prepare:prepare_scanobjectnn"),
    summary=Lazy("se3t.data.clouds.summary:lines"),
    store_settings=("root", "background", "raw", "variant"),
    has_checksum=True,
    split_sizes=Lazy("se3t.data.scanobjectnn.raw:sizes_of"),
    obstacle=Lazy("se3t.data.scanobjectnn.prepare:obstacle"),
    places=("root", "raw"),
    needs="data.raw=<what you downloaded>",
    remedy="then name them with data.raw=<folder or zip>, or take the synthetic stand-in with data=shapes15",
    seed_hint="the seed of the validation part is data.split_seed",
)

SHAPES15 = DataSet(
    name="shapes15",
    label="shapes15",
    schema=Shapes15Data,
    store_path=Lazy("se3t.data.shapes15.prepare:store_path"),
    prepare=Lazy("se3t.data.shapes15.prepare:prepare_shapes15"),
    summary=Lazy("se3t.data.clouds.summary:lines"),
    store_settings=("root", "background", "num_train", "num_test", "data_seed"),
    has_checksum=True,
    split_sizes=Lazy("se3t.data.shapes15.prepare:sizes_of"),
    seed_hint="the seed of the generator is data.data_seed",
    make_few=Lazy("se3t.data.shapes15.prepare:make_few"),
)

_SPLITS = ("train", "valid", "test")
PUBLISHED_ON = "main_split_nobg"
VERTICAL = "y"
"""The coordinate that is the height of all of these data."""

SHAPES = "synthetic shapes15"
"""Name of the generated data in tables and figures."""


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
    def how(self) -> tuple[str, ...]:
        """What the numbers are measured on, where it is not what the published ones are, in the words of tables."""
        objects = [SYNTHETIC] if self.is_synthetic else [SUBSET] if self.is_subset else []
        is_other = (not self.is_synthetic and self.variant != PUBLISHED_ON) or bool(self.changes)
        return (*objects, *[OTHER_DATA] * is_other, *[VALIDATION] * (self.measured_on == "valid"))

    @property
    def changes(self) -> list[str]:
        """A vertical and a test rotation that are not the paper's."""
        axis = [axis_in_words(self.up_axis)] if self.up_axis != VERTICAL else []
        return [*axis, *([rotation_in_words(self.rotation)] if self.rotation else [])]

    @property
    def differences(self) -> list[str]:
        """Why the numbers cannot be compared with the published ones; nothing where they can."""
        objects = f"a part of {PUBLISHED_ON}" if self.is_subset else ""
        if self.is_synthetic or self.variant != PUBLISHED_ON:
            objects = SHAPES if self.is_synthetic else self.name
        return [*filter(None, [objects]), *self.changes]


def data_name(variant: str, is_synthetic: bool) -> str:
    """Data in words: "ScanObjectNN main_split_nobg", or that they are synthetic."""
    return f"{SHAPES}, {variant}" if is_synthetic else f"ScanObjectNN {variant}"


def axis_in_words(up_axis: str) -> str:
    """A vertical that is not that of the data."""
    return f"{up_axis} taken for the vertical"


def rotation_in_words(rotation: float) -> str:
    """A test rotation, given by its largest angle in degrees; infinite: SO(3)."""
    if math.isinf(rotation):
        return "test rotation from all of SO(3)"
    return f"test rotation up to {rotation:g}° about a horizontal axis"


@dataclass(frozen=True, kw_only=True)
class ClassificationRecord(RunRecord):
    """A finished run that learned classes.

    Attributes:
        num_points: of a cloud.
        augmentation: random rotations in training: none, vertical or so3.
    """

    data: Clouds
    num_points: int
    augmentation: str

    @property
    def data_name(self) -> str:
        """Its data in words, with how they differ from the paper's."""
        others = (what for what in self.data.differences if what not in self.data.name)
        return ", ".join([self.data.name, *others, f"checksum {self.data.checksum[:8]}"])

    @property
    def as_trained(self) -> ClassificationRecord:
        """The record without the rotation of test objects."""
        data = self.data._replace(rotation=0.0)
        return replace(self, data=data, how=data.how)


def parse_record(fields: Fields) -> ClassificationRecord:
    """Check the content of one ``result.json`` and keep what Table 2 needs; accuracies become %.

    Raises:
        UserError: naming file and field, when a field is missing, of the wrong type, or not finite.
    """
    split = measured_split(fields)
    shared = common(fields)
    shared["settings"].pop("task.test_rotation", None)  # one of the data: 90 and 90.0 are the same
    data, augmentation = _clouds(fields, split), fields.text("config.task.augmentation")
    return ClassificationRecord(
        **shared,
        overridden=_other_than_default(fields),
        data=data,
        metrics=TASK.read(fields, split),
        height=fields.flag("config.task.height"),
        num_points=fields.integer("config.task.num_points"),
        augmentation=augmentation,
        always_named=() if augmentation == "none" else ("task.augmentation",),
        how=data.how,
        baselines={
            printed: {
                metric: 100 * fields.amount(f"data.baselines.{name}.{place}", 1.0)
                for place, metric in enumerate(TASK.baseline_metrics)
            }
            for name, printed in TASK.baselines.items()
        },
        baseline_how=data._replace(measured_on=fields.text("data.baseline_split")).how,
    )


def _clouds(fields: Fields, split: str) -> Clouds:
    official = fields.mapping("data.official")
    return Clouds(
        kind=fields.text("data.kind"),
        variant=fields.text("data.variant"),
        checksum=fields.text("data.checksum"),
        rotation=parse_rotation(fields, "config.task.test_rotation"),
        up_axis=fields.text("data.up_axis"),
        sizes=tuple(fields.integer(f"data.sizes.{name}") for name in _SPLITS),
        split_seed=fields.integer("config.data.split_seed"),
        official=tuple(fields.integer(f"data.official.{name}") for name in ("train", "test")) if official else (),
        is_synthetic=fields.flag("data.synthetic"),
        measured_on=split,
    )


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


# --- the table --------------------------------------------------------------------------------------------------------


def _describe_data(records: Sequence[ClassificationRecord], published: PublishedTable | None) -> DataFacts:
    assert published is not None
    title = published.title.partition(", ")[2]
    if not records:
        return DataFacts(title)
    data = records[0].data
    return DataFacts(_title(data, title), records[0].data_name, tuple(_data_notes(data)), records[0].how)


def _title(data: Clouds, title: str) -> str:
    if data.is_synthetic:
        title = SHAPES
    elif data.variant != PUBLISHED_ON or data.is_subset:
        title += f" {data.variant}" if data.variant != PUBLISHED_ON else " subset"
    return ", ".join([title, *data.changes]) + (f": {NOT_COMPARABLE}" if data.differences else "")


def _data_notes(data: Clouds) -> Iterable[str]:
    for difference in data.differences:
        yield f"{OTHER} {difference[0].upper()}{difference[1:]}: {NOT_COMPARABLE}."
    train, valid, test = (f"{size:,}" for size in data.sizes)
    of = f", of {data.official[0]:,} and {data.official[1]:,} in the files" if data.is_subset else ""
    seed = f"; split seed {data.split_seed}" if data.split_seed else ""
    name = data.name[0].upper() + data.name[1:]
    yield f"{name}: {train} objects train, {valid} validate, {test} test{of}{seed}; checksum {data.checksum[:8]}."
    if data.measured_on == "valid":
        yield f"{VALID} accuracies on validation, which also chose the weights: nothing was measured on test."
    else:
        yield "Accuracies on test."


def _notes(parts: NoteParts) -> Iterable[str]:
    if parts.records:
        yield "class mean: mean of the accuracies of the classes. majority class: the most frequent one in training."
        unrotated = ", without test rotation" if parts.records[0].data.rotation else ""
        yield f"nearest centroid: of histograms of heights and distances from the vertical and the centre{unrotated}."
        yield "Δ inv: relative change of the logits when the objects are rotated; about the vertical for +z."
        yield from (*parts.budget, *parts.spread)
        if any(record.always_named for record in parts.records):
            rotations = "random rotations of the training objects"
            yield f"augmentation: {rotations}, about the vertical or from all of SO(3) (so3)."
        else:
            yield "Trained without rotation augmentation."
    yield from (f"{source} quoted: not trained by that paper, but taken from earlier ones." for source in parts.source)
    assert parts.published is not None
    yield f"Published ±: {parts.published.spread}."
    yield from (f"{label}: {note}." for label, note in parts.remarks)


def _join(records: Sequence[ClassificationRecord]) -> Join:
    data, augmentations = records[0].data, {record.augmentation for record in records}
    rotation = "so3" if math.isinf(data.rotation) else f"{data.rotation:g}"
    is_augmented = len(augmentations) == 1 and augmentations != {"none"}
    return Join(
        records[0].overridden,
        before=[f"data={data.kind}"] * (data.kind != records[0].experiment),
        after=[
            *[f"task.test_rotation={rotation}"] * bool(data.rotation),
            *[f"task.augmentation={records[0].augmentation}"] * is_augmented,
        ],
    )


TABLE_2 = TableSpec(
    name="2",
    experiment="scanobjectnn",
    published="table2",
    place=2,
    columns=lambda records, published, wanted: (
        TableColumn("accuracy", "accuracy", "%", places=1),
        TableColumn("class mean", "class_accuracy", "%", places=1),
        TableColumn("Δ inv", "equivariance_error", style="error"),
        TableColumn(
            "points",
            tell=lambda runs: f"{runs[0].num_points:,}",
            tell_published=lambda entry: MISSING if entry.num_points is None else f"{entry.num_points:,}",
        ),
    ),
    describe=_describe_data,
    join=_join,
    notes=_notes,
)

EXPERIMENT = Experiment(
    name="scanobjectnn",
    task=TASK,
    datasets=(SCANS, SHAPES15),
    parse_record=parse_record,
    title="Table 2",
    paper_presets=("paper",),
    tables=(TABLE_2,),
)
