"""Table 1: what N-body runs measured beside what the paper prints, model by model; and other tables of such runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from se3t.config import NBodyData
from se3t.config.presets import settings_of_preset
from se3t.errors import UserError
from se3t.experiments.nbody import NBodyRecord, parse_record
from se3t.reporting.labels import (
    ALWAYS_NAMED,
    command,
    default_preset,
    labels,
    preset_words,
    run_all,
    settings_to_join,
)
from se3t.reporting.published import Estimate, PublishedModel, PublishedTable, load_published, printed_names
from se3t.reporting.spelling import MISSING
from se3t.reporting.tables import budgets
from se3t.reporting.tables.layout import (
    COST,
    NO_CELL,
    NO_TRAINING,
    Block,
    Cell,
    DataFacts,
    ResultTable,
    Row,
    TableColumn,
    beside,
    facts,
    measured,
    measured_row,
    seeds_of,
    spread_note,
    words,
)
from se3t.reporting.tables.simulations import describe, plainest, reading_of, title_of
from se3t.runs import Fields, group_by_data, group_by_settings

_RELATIVE = "rel."
RELATIVE_NOTE = f"{_RELATIVE}: relative to constant velocity (Linear) on the same data."
MEASURED = (
    TableColumn("MSE x", "mse_x", places=4),
    TableColumn(_RELATIVE, "relative_mse_x", style="relative"),
    TableColumn("Δ_EQ x", "equivariance_error_x", style="error"),
    TableColumn("MSE v", "mse_v", places=4),
    TableColumn(_RELATIVE, "relative_mse_v", style="relative"),
    TableColumn("Δ_EQ v", "equivariance_error_v", style="error"),
)
"""Columns of numbers, as the paper has them and, beside each error, relative to Linear."""
COLUMNS = (*MEASURED, *COST)

_DEFAULT_DATA = NBodyData().preset
_RELATIVE_TO = {"relative_": "linear", "over_egnn_": "egnn"}
"""Relative to which model's error a metric is, by how its name begins."""


@dataclass(frozen=True)
class Kind:
    """What tells the tables of N-body runs apart.

    Attributes:
        name: of the table.
        published: its file of published numbers.
        measured: its columns of numbers.
        relative_note: what its relative numbers are.
        data: preset of the data of an empty table.
        budget: preset that its trainings have unless told; None: the default of its experiment.
        elsewhere: presets of data that have a table of their own, by its name.
    """

    name: str
    published: str
    measured: tuple[TableColumn, ...]
    relative_note: str
    data: str
    budget: str | None = None
    elsewhere: Mapping[str, str] = field(default_factory=dict)

    def words(self, experiment: str, preset: str | None) -> list[str]:
        """What a training of an empty table needs beside its model."""
        preset = preset or self.budget
        given = settings_of_preset(experiment, preset or default_preset(experiment))
        has_data = given.get("data.preset", _DEFAULT_DATA) == self.data
        return [*preset_words(experiment, preset), *([] if has_data else [f"data.preset={self.data}"])]

    def own(self, settings: Iterable[str]) -> list[str]:
        """Words without a budget that is for another table."""
        return [word for word in settings if word not in {f"preset={name}" for name in self.elsewhere.values()}]


TABLE1 = Kind("1", "table1", MEASURED, RELATIVE_NOTE, _DEFAULT_DATA, elsewhere={"egnn": "egnn"})


def tables(
    runs: Iterable[Fields], *, always: bool = False, preset: str | None = None, kind: Kind = TABLE1
) -> list[ResultTable]:
    """A table for every data set among the runs: first those that the paper may mean, then the others.

    Args:
        runs: finished ones of this experiment.
        always: whether there is a table of the default data even where nothing was run on them.
        preset: the budget that commands for missing runs then name.
        kind: of the tables.
    """
    published = load_published(kind.published)
    records = [_with_ratios(parse_record(fields), published) for fields in runs]
    others = sorted({record.data.preset for record in records} & set(kind.elsewhere))
    groups = list(group_by_data(record for record in records if record.data.preset not in others).values())
    order = list(published.readings)

    def place(records: Sequence[NBodyRecord]) -> tuple[int, bool]:
        name = reading_of(records, published)
        return (len(order) if name is None else order.index(name), bool(records[0].data.lacks(published.sizes)))

    groups.sort(key=place)
    present = {name for records in groups if (name := reading_of(records, published)) is not None}
    is_empty = always and kind.data not in present
    there = present | ({kind.data} if is_empty else set())
    found = [empty_table(published, preset, there, kind)] if is_empty else []
    found += [table1(records, published, there, kind) for records in groups]
    notes = [f"Runs on preset {name} have a table of their own: se3t table {kind.elsewhere[name]}." for name in others]
    return [replace(table, notes=(*table.notes, *notes)) for table in found]


def _with_ratios(record: NBodyRecord, published: PublishedTable) -> NBodyRecord:
    return replace(record, metrics=record.metrics | _ratios(record.metrics["mse_x"], published))


def _ratios(mse_x: float, published: PublishedTable) -> dict[str, float]:
    """The error of positions relative to the published one of EGNN, where the table has it."""
    entry = published.models.get("egnn")
    reference = None if entry is None else entry.metrics["mse_x"]
    return {} if reference is None else {"over_egnn_mse_x": mse_x / reference.value}


def table1(
    records: list[NBodyRecord], published: PublishedTable, present: Iterable[str] = (), kind: Kind = TABLE1
) -> ResultTable:
    """The table of records of one data set.

    Args:
        records: finished runs of the N-body experiment, all on the same data.
        published: the numbers of the paper; decides which models appear, and their order.
        present: presets of the data that have a table.
        kind: of the table.

    Raises:
        UserError: when there are no records, or their data differ.
    """
    _require_same_data(records, published.experiment)
    groups, data = group_by_settings(records), describe(records, published, kind.relative_note)
    lines = _Lines(kind, published, groups, words_to_join(records), data)
    return _table(lines, data, _notes(groups, published), present, reading_of(records, published))


def _table(
    lines: _Lines, data: DataFacts, notes: Iterable[str], present: Iterable[str], reading: str | None
) -> ResultTable:
    kind, published = lines.kind, lines.published
    details = tuple(_details(published))
    return ResultTable(
        name=kind.name,
        title=f"{published.title.partition(', ')[0]}, {data.title}",
        data=data.name,
        columns=(*kind.measured, *COST),
        blocks=tuple(lines.blocks()),
        notes=(*data.notes, *notes, *details),
        missing=(*lines.missing(), *_other_readings(published, reading, present, lines.settings, kind)),
        details=details,
    )


def words_to_join(records: Sequence[NBodyRecord]) -> list[str]:
    """What a run of another system needs to share a table with these."""
    record = plainest(records)
    return settings_to_join(records, {"preset": record.data.preset, **record.overridden})


def empty_table(
    published: PublishedTable, preset: str | None, present: Iterable[str] = (), kind: Kind = TABLE1
) -> ResultTable:
    """The table where nothing was run: what is published, and how to run the rest."""
    lines = _Lines(kind, published, [], kind.words(published.experiment, preset))
    facts = DataFacts(title_of(published, f"preset {kind.data}", kind.data), "", (kind.relative_note,), ())
    return _table(lines, facts, [_source(published)], present, kind.data)


def _require_same_data(records: list[NBodyRecord], experiment: str) -> None:
    if not records:
        raise UserError(
            f"table: no finished run of experiment {experiment!r}; train one: se3t train experiment={experiment}"
        )
    groups = group_by_data(records)
    if len(groups) > 1:
        names = "; ".join(group[0].data.name() for group in groups.values())
        raise UserError(f"table: runs on different data cannot share a table, got {names}; choose the results of one")


# --- lines ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Lines:
    """The lines of one table.

    Attributes:
        kind: of the table.
        published: the numbers of the paper.
        groups: the runs of each measured line.
        settings: words that a run needs to join the table.
        data: of the runs; None: there are none.
    """

    kind: Kind
    published: PublishedTable
    groups: Sequence[list[NBodyRecord]]
    settings: Sequence[str]
    data: DataFacts | None = None

    def blocks(self) -> Iterable[Block]:
        """What was measured and what is published of every model of the paper, then of the others that were run."""
        for entry in self.published.models.values():
            rows = self._rows(entry.model)
            is_alone = not rows and entry.model is not None
            command = self._command(str(entry.model)) if is_alone else ""
            yield Block(entry.label, (*rows, self._published_row(entry, is_alone=is_alone)), command)
        known, names = {entry.model for entry in self.published.models.values()}, printed_names()
        for model in dict.fromkeys(group[0].model for group in self.groups if group[0].model not in known):
            yield Block(names.get(model, model), tuple(self._rows(model)))

    def missing(self) -> Iterable[str]:
        """What was not run, with its command."""
        done = {group[0].model for group in self.groups} | ({"linear"} if self.groups else set())
        left = [
            entry for entry in self.published.models.values() if entry.model is not None and entry.model not in done
        ]
        for entry in left:
            yield f"{entry.label} not run: {self._command(str(entry.model))}"
        if "linear" in done and all(group[0].model != "linear" for group in self.groups):
            yield f"Δ_EQ of {self.published.models['linear'].label} not run: {self._command('linear')}"
        if left:
            joins = self.published.experiment if self.groups else ""
            words = [word for word in self.kind.own(self.settings) if word != f"data.preset={self.kind.data}"]
            yield f"All that is not run: {run_all(self.kind.name, words, joins)}"

    def _command(self, model: str) -> str:
        return command(self.published.experiment, [f"model={model}", *self.settings])

    def _rows(self, model: str | None) -> list[Row]:
        """A line for each setting of one model; none where there are no runs."""
        own = [group for group in self.groups if group[0].model == model]
        if self.data is None:
            return []
        if model == "linear":
            return [self._linear(own[0] if own else [], self.data)]
        return [self._row(group, label, self.data) for group, label in zip(own, labels(own, ALWAYS_NAMED), strict=True)]

    def _linear(self, runs: Sequence[NBodyRecord], data: DataFacts) -> Row:
        """Constant velocity comes with the data, so it needs no run of its own; its Δ_EQ does."""
        reference = next(group[0] for group in self.groups)
        known = {f"mse_{name}": value for name, value in zip("xv", reference.linear, strict=True)}
        known |= dict.fromkeys(("relative_mse_x", "relative_mse_v"), 1.0) | _ratios(known["mse_x"], self.published)
        cells = []
        for metric in (column.metric for column in self.kind.measured):
            own = Cell(Estimate(known[metric]), mark=data.mark) if not runs and metric in known else None
            own = own or measured(runs, metric, mark=data.mark, command=self._command("linear"))
            cells.append(beside(own, self._printed(metric, "linear")))
        cells += [words("0"), NO_CELL]
        row = Row("measured", "measured", tuple(cells), how=(NO_TRAINING, *data.how), **facts(runs))
        return replace(row, parameters=(0,))

    def _row(self, runs: list[NBodyRecord], setting: str, data: DataFacts) -> Row:
        metrics = [column.metric for column in self.kind.measured]
        cells = [measured(runs, metric, self._printed(metric, runs[0].model), data.mark) for metric in metrics]
        cells += budgets.cost(runs, self.published)
        seeds = seeds_of(group for group in self.groups if group[0].model != "linear")
        return measured_row(runs, cells, setting, seeds, [*budgets.how_trained(runs, self.published), *data.how])

    def _published_row(self, entry: PublishedModel, *, is_alone: bool) -> Row:
        cells = [Cell(_printed(column.metric, entry, self.published)) for column in self.kind.measured]
        done = MISSING if entry.model == "linear" or entry.source else f"{self.published.max_steps:,}"
        return Row("published", "published, not run" if is_alone else "published", (*cells, NO_CELL, words(done)))

    def _printed(self, metric: str, model: str) -> Estimate | None:
        return _printed(metric, self.published.models.get(model), self.published)


def _printed(metric: str, entry: PublishedModel | None, published: PublishedTable) -> Estimate | None:
    """A number of the paper; relative ones follow from two of them."""
    if entry is None:
        return None
    for prefix, reference in _RELATIVE_TO.items():
        if metric.startswith(prefix):
            value = entry.relative(metric.removeprefix(prefix), published.models[reference])
            return None if value is None else Estimate(value)
    return entry.metrics.get(metric)


# --- notes ------------------------------------------------------------------------------------------------------------


def _notes(groups: Sequence[list[NBodyRecord]], published: PublishedTable) -> Iterable[str]:
    yield from budgets.notes([group for group in groups if group[0].model != "linear"], published)
    yield from spread_note(groups)
    yield _source(published)
    done = {group[0].model for group in groups} | {"linear"}
    yield from (
        f"{entry.label}, {entry.note}." for entry in published.models.values() if entry.note and entry.model in done
    )


def _source(published: PublishedTable) -> str:
    return f"Published: {published.source}."


def _details(published: PublishedTable) -> Iterable[str]:
    """Where published numbers stand that are not from the paper of the table, and what else is said of them."""
    sources: dict[str, list[str]] = {}
    for entry in published.models.values():
        sources.setdefault(entry.source, []).append(entry.label)
    yield from (f"{', '.join(labels)}: {source}." for source, labels in sources.items() if source)
    yield from published.notes


def _other_readings(
    published: PublishedTable, preset: str | None, present: Iterable[str], settings: Sequence[str], kind: Kind
) -> Iterable[str]:
    """Where the same table on the other data is that the paper may mean."""
    if preset is None:
        return
    for name, reading in published.readings.items():
        if name == preset:
            continue
        if name in present:
            before = list(published.readings).index(name) < list(published.readings).index(preset)
            yield f"The {reading} (preset {name}), is the table {'above' if before else 'below'}."
        else:
            words = [word for word in kind.own(settings) if word.startswith("preset=")]
            yield f"The {reading} (preset {name}), not run: {run_all(kind.name, [*words, f'data.preset={name}'])}"
