"""Table 2: accuracies of point cloud classifiers beside what the paper prints."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from se3t.experiments.scanobjectnn import (
    PUBLISHED_ON,
    SHAPES,
    TASK,
    VERTICAL,
    ClassificationRecord,
    Clouds,
    axis_in_words,
    parse_record,
    rotation_in_words,
)
from se3t.reporting.labels import command, labels, preset_words, run_all, settings_to_join
from se3t.reporting.published import Estimate, PublishedModel, PublishedTable, load_published, system_name
from se3t.reporting.spelling import MISSING
from se3t.reporting.tables import budgets
from se3t.reporting.tables.layout import (
    COST,
    NO_CELL,
    NO_TRAINING,
    NOT_COMPARABLE,
    OTHER,
    VALID,
    Block,
    Cell,
    DataFacts,
    ResultTable,
    Row,
    TableColumn,
    measured,
    measured_row,
    seeds_of,
    signs,
    spread_note,
    words,
)
from se3t.runs import Fields, group_by_data, group_by_settings

_PLACES = 1
MEASURED = (
    TableColumn("accuracy", "accuracy", "%", places=_PLACES),
    TableColumn("class mean", "class_accuracy", "%", places=_PLACES),
    TableColumn("Δ inv", "equivariance_error", style="error"),
)
COLUMNS = (*MEASURED, TableColumn("points"), *COST)


def tables(runs: Iterable[Fields], *, always: bool = False, preset: str | None = None) -> list[ResultTable]:
    """Table 2 for every data set among the runs, and for every test rotation.

    Args:
        runs: finished ones of this experiment.
        always: whether there is a table where nothing was run.
        preset: the budget that commands for missing runs then name.
    """
    groups = group_by_data(parse_record(fields) for fields in runs)
    found = [table2(group) for group in groups.values()]
    return found or ([empty_table(preset)] if always else [])


def table2(records: Sequence[ClassificationRecord]) -> ResultTable:
    """Table 2 from records of one data set, measured under one test rotation."""
    published = load_published("table2")
    lines, data = _Lines(published, group_by_settings(records), words_to_join(records)), describe(records, published)
    return ResultTable(
        name="2",
        title=f"Table 2, {data.title}",
        data=data.name,
        columns=COLUMNS,
        blocks=(_baselines(records[0]), *lines.blocks()),
        notes=(*data.notes, *_notes(records[0].data, lines.groups, published)),
        missing=tuple(lines.missing()),
    )


def describe(records: Sequence[ClassificationRecord], published: PublishedTable) -> DataFacts:
    """What is to be said of the data of some records, which all have the same."""
    data = records[0].data
    return DataFacts(_title(data, published), records[0].data_name, tuple(_data_notes(data)), tuple(data.how))


def empty_table(preset: str | None) -> ResultTable:
    """Table 2 where nothing was run: what is published, and how to run the rest."""
    published = load_published("table2")
    lines = _Lines(published, [], preset_words(published.experiment, preset))
    return ResultTable(
        name="2",
        title=published.title,
        data="",
        columns=COLUMNS,
        blocks=tuple(lines.blocks()),
        notes=tuple(_published_notes([], published)),
        missing=tuple(lines.missing()),
    )


def _title(data: Clouds, published: PublishedTable) -> str:
    title = SHAPES if data.is_synthetic else published.title.partition(", ")[2]
    if not data.is_synthetic and data.variant != PUBLISHED_ON:
        title += f" {data.variant}"
    elif not data.is_synthetic and data.is_subset:
        title += " subset"
    title += f", {axis_in_words(data.up_axis)}" if data.up_axis != VERTICAL else ""
    title += f", {rotation_in_words(data.rotation)}" if data.rotation else ""
    return title + (f": {NOT_COMPARABLE}" if data.differences else "")


def words_to_join(records: Sequence[ClassificationRecord]) -> list[str]:
    """What a run of another system needs to share a table with these."""
    data = records[0].data
    words = [f"data={data.kind}"] if data.kind != records[0].experiment else []
    words += settings_to_join(records, records[0].overridden)
    if data.rotation:
        words.append(f"task.test_rotation={'so3' if math.isinf(data.rotation) else f'{data.rotation:g}'}")
    augmentations = {record.augmentation for record in records}
    if len(augmentations) == 1 and augmentations != {"none"}:
        words.append(f"task.augmentation={records[0].augmentation}")
    return words


# --- lines ------------------------------------------------------------------------------------------------------------


def _baselines(record: ClassificationRecord) -> Block:
    """What needs no training; the same for all runs on the same data."""
    how = [NO_TRAINING, *record.data._replace(measured_on=record.baseline_split).how]
    rows = []
    for name, label in TASK.baselines.items():
        cells = [Cell(Estimate(value), mark=signs(how)) for value in record.baselines[name]]
        padding = [NO_CELL] * (len(COLUMNS) - len(cells))
        rows.append(Row("baseline", label, (*cells, *padding), label, how=tuple(how)))
    return Block("No network", tuple(rows))


def _always(groups: Iterable[Sequence[ClassificationRecord]]) -> tuple[str, ...]:
    """Augmentation is named in every line as soon as there is any."""
    is_augmented = any(record.augmentation != "none" for group in groups for record in group)
    return ("task.augmentation",) if is_augmented else ()


@dataclass(frozen=True)
class _Lines:
    """The lines of one table.

    Attributes:
        published: the numbers of the paper.
        groups: the runs of each measured line.
        settings: words that a run needs to join the table.
    """

    published: PublishedTable
    groups: Sequence[list[ClassificationRecord]]
    settings: Sequence[str]

    def blocks(self) -> Iterable[Block]:
        """Every system of the paper, then the others that were run."""
        entries = {(str(entry.model), entry.height): entry for entry in self.published.models.values()}
        found = [(group[0].model, group[0].height) for group in self.groups]
        for system in dict.fromkeys([*entries, *sorted(found)]):
            own = [group for group in self.groups if (group[0].model, group[0].height) == system]
            entry = entries.get(system)
            settings = labels(own, _always(self.groups))
            rows = [self._row(group, label, entry) for group, label in zip(own, settings, strict=True)]
            rows += [] if entry is None else [_published_row(entry, self.published, is_alone=not own)]
            name = system_name(*system) if entry is None else entry.label
            yield Block(name, tuple(rows), "" if own else self._command(*system))

    def missing(self) -> Iterable[str]:
        """How to fill what is missing: one command for the plain systems, one for those with heights."""
        done = {(group[0].model, group[0].height) for group in self.groups}
        for height in (False, True):
            entries = [entry for entry in self.published.models.values() if entry.height == height]
            missing = [entry for entry in entries if (entry.model, height) not in done]
            if missing:
                names = ", ".join(entry.label for entry in missing)
                models = ",".join(str(entry.model) for entry in missing)
                yield f"Not run: {names}. To run: {self._command(models, height)}"
        if any((entry.model, entry.height) not in done for entry in self.published.models.values()):
            joins = self.published.experiment if self.groups else ""
            yield f"All that is not run: {run_all('2', self.settings, joins)}"

    def _command(self, model: str, height: bool) -> str:
        several = ["-m"] * ("," in model)
        heights = ["task.height=true"] * height
        return command(self.published.experiment, [*several, f"model={model}", *heights, *self.settings])

    def _row(self, runs: list[ClassificationRecord], setting: str, entry: PublishedModel | None) -> Row:
        data, printed = runs[0].data, {} if entry is None else entry.metrics
        metrics = [column.metric for column in MEASURED]
        cells = [measured(runs, metric, printed.get(metric), signs(data.how)) for metric in metrics]
        cells += [words(f"{runs[0].num_points:,}"), *budgets.cost(runs, self.published)]
        how = [*budgets.how_trained(runs, self.published), *data.how]
        return measured_row(runs, cells, setting, seeds_of(self.groups), how)


def _published_row(entry: PublishedModel, published: PublishedTable, *, is_alone: bool) -> Row:
    label = ("quoted" if entry.is_quoted else "published") + (", not run" if is_alone else "")
    points = MISSING if entry.num_points is None else f"{entry.num_points:,}"
    done = MISSING if entry.is_quoted else f"{published.max_steps:,}"
    numbers = [Cell(entry.metrics.get(column.metric)) for column in MEASURED]
    return Row("published", label, (*numbers, words(points), NO_CELL, words(done)))


# --- notes ------------------------------------------------------------------------------------------------------------


def _notes(data: Clouds, groups: Sequence[list[ClassificationRecord]], published: PublishedTable) -> Iterable[str]:
    yield "class mean: mean of the accuracies of the classes. majority class: the most frequent one in training."
    unrotated = ", without test rotation" if data.rotation else ""
    yield f"nearest centroid: of histograms of heights and distances from the vertical and the centre{unrotated}."
    yield "Δ inv: relative change of the logits when the objects are rotated; about the vertical for +z."
    yield from budgets.notes(groups, published)
    yield from spread_note(groups)
    if _always(groups):
        yield "augmentation: random rotations of the training objects, about the vertical or from all of SO(3) (so3)."
    else:
        yield "Trained without rotation augmentation."
    yield from _published_notes(groups, published)


def _published_notes(groups: Iterable[Sequence[ClassificationRecord]], published: PublishedTable) -> Iterable[str]:
    yield f"Published: {published.source}. quoted: not trained by that paper, but taken from earlier ones."
    yield f"Published ±: {published.spread}."
    measured = {(group[0].model, group[0].height) for group in groups}
    for entry in published.models.values():
        if entry.note and (entry.model, entry.height) in measured:
            yield f"{entry.label}: {entry.note}."


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
