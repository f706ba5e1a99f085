"""Table 3: errors of molecular properties beside what the paper prints; and the same for molecules of one's own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from se3t.config.schemas import TARGETS
from se3t.errors import UserError, did_you_mean
from se3t.experiments.base import Column
from se3t.experiments.qm9 import TASK, Molecules, PropertyRecord, parse_record
from se3t.reporting.labels import command, labels, preset_words, run_all, settings_to_join
from se3t.reporting.published import Estimate, PublishedModel, PublishedTable, load_published, printed_names
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

_ALWAYS = ("preset", "data.graph", "data.radius")
INVARIANCE = TableColumn("Δ_EQ", "equivariance_error", style="error")
_COST_OF_ONE = (INVARIANCE, TableColumn("batch"))


def tables(
    runs: Iterable[Fields], *, always: bool = False, preset: str | None = None, target: str | None = None
) -> list[ResultTable]:
    """Table 3 for every version of QM9 among the runs, and a table for every set of own molecules.

    Args:
        runs: finished ones.
        always: whether all columns of the paper are there, and the table of QM9 also where nothing was run.
        preset: the budget that commands for missing runs name where nothing was run.
        target: the only column.
    """
    published = load_published("table3")
    columns = [] if not always else [target] if target is not None else list(published.columns)
    groups = group_by_data(parse_record(fields) for fields in runs).values()
    own = [own_table(group) for group in groups if group[0].data.kind != "qm9"]
    found = [table3(group, columns) for group in groups if group[0].data.kind == "qm9"]
    if always and not found:
        if target is not None and target not in published.columns:
            hint = did_you_mean(target, published.columns)
            raise UserError(f"--target {target}: no finished run on QM9 learned it, nor has the paper a column; {hint}")
        found = [empty_table(columns, preset)]
    return [*own, *found]


def table3(records: Sequence[PropertyRecord], always: Sequence[str] = ()) -> ResultTable:
    """Table 3 from records of one data set, with a column for every target that was learned.

    Args:
        records: finished runs on QM9.
        always: targets with a column even where no run learned them.

    Raises:
        UserError: when a unit is not the one of the paper.
    """
    published = load_published("table3")
    found = _columns(records, [*published.columns, *TARGETS])
    targets = {
        target: as_published(records, target, found.get(target), published)
        for target in dict.fromkeys([*published.columns, *found])
        if target in always or target in found
    }
    lines, data = _Lines(targets, group_by_settings(records), published, words_to_join(records)), describe(records)
    source = [f"Published: {published.source}."] if lines.is_published else []
    return ResultTable(
        name="3",
        title=f"Table 3, {data.title}",
        data=data.name,
        columns=_headers(targets),
        blocks=(_baselines(records, targets), *lines.blocks()),
        notes=(*data.notes, *_notes(records, lines), *source),
        missing=tuple(lines.missing()),
    )


def describe(records: Sequence[PropertyRecord], _: PublishedTable | None = None) -> DataFacts:
    """What is to be said of the data of some records, which all have the same."""
    data = records[0].data
    title = f"{data.title}: {NOT_COMPARABLE}" if data.is_subset else data.title
    return DataFacts(title, data.name, tuple(_data_notes(data)), tuple(data.how))


def words_to_join(records: Sequence[PropertyRecord]) -> list[str]:
    """What a run of another system needs to share a table with these."""
    return settings_to_join(records, records[0].overridden)


def empty_table(targets: Sequence[str], preset: str | None) -> ResultTable:
    """Table 3 where nothing was run: what is published, and how to run the rest."""
    published = load_published("table3")
    columns = {target: published.columns[target] for target in targets}
    lines = _Lines(columns, [], published, preset_words(published.experiment, preset))
    return ResultTable(
        name="3",
        title=published.title,
        data="",
        columns=_headers(columns),
        blocks=tuple(lines.blocks()),
        notes=(f"Published: {published.source}.",),
        missing=tuple(lines.missing()),
    )


def own_table(records: Sequence[PropertyRecord]) -> ResultTable:
    """What runs on molecules of one's own measured, with a column for every property; nothing is published."""
    columns = _columns(records, sorted({record.target for record in records}))
    lines, data = _Lines(columns, group_by_settings(records)), describe(records)
    return ResultTable(
        name="own",
        title=data.title,
        data=data.name,
        columns=_headers(columns),
        blocks=(_baselines(records, columns), *lines.blocks()),
        notes=(*data.notes, *_notes(records, lines)),
    )


def _columns(records: Sequence[PropertyRecord], order: Iterable[str]) -> dict[str, Column]:
    found = {record.target: record.column for record in records}
    return {target: found[target] for target in dict.fromkeys([*order, *found]) if target in found}


def as_published(
    records: Sequence[PropertyRecord], target: str, column: Column | None, published: PublishedTable
) -> Column:
    """The column as the paper prints it, which numbers in another unit must not join.

    Raises:
        UserError: naming the record whose unit is another.
    """
    wanted = published.columns.get(target) or column
    assert wanted is not None
    for record in records:
        if record.target == target and record.column.unit != wanted.unit:
            raise UserError(
                f"{record.origin}: field 'data.unit' is {record.column.unit!r}, expected {wanted.unit!r} for {target}, "
                "the unit of its column; the run was made by another version, run it again"
            )
    return wanted


def _headers(columns: dict[str, Column]) -> tuple[TableColumn, ...]:
    targets = [TableColumn(column.label, target, column.unit) for target, column in columns.items()]
    return (*targets, *(_COST_OF_ONE if len(columns) == 1 else ()), *COST)


def _no_cost(columns: dict[str, Column]) -> list[Cell]:
    return [NO_CELL] * (len(_headers(columns)) - len(columns))


# --- lines ------------------------------------------------------------------------------------------------------------


def _baselines(records: Sequence[PropertyRecord], columns: dict[str, Column]) -> Block:
    """What needs no training; the same for all runs of one target, as they have the same data."""
    first = {target: next((run for run in records if run.target == target), None) for target in columns}
    how = [NO_TRAINING, *records[0].data._replace(measured_on=records[0].baseline_split).how]
    rows = []
    for name, label in TASK.baselines.items():
        cells = [
            NO_CELL if record is None else Cell(Estimate(record.baselines[name]), mark=signs(how))
            for record in first.values()
        ]
        rows.append(Row("baseline", label, (*cells, *_no_cost(columns)), label, how=tuple(how)))
    return Block("No network", tuple(rows))


@dataclass(frozen=True)
class _Lines:
    """The lines of one table.

    Attributes:
        columns: by target.
        groups: the runs of each measured line.
        published: the numbers of the paper; None: there are none.
        settings: words that a run needs to join the table.
    """

    columns: dict[str, Column]
    groups: Sequence[list[PropertyRecord]]
    published: PublishedTable | None = None
    settings: Sequence[str] = ()

    @property
    def is_published(self) -> bool:
        """Whether the paper has one of the columns: it has six of the twelve."""
        return self.published is not None and any(target in self.published.columns for target in self.columns)

    def blocks(self) -> Iterable[Block]:
        """Every system of the paper, then the others that were run."""
        entries = [] if self.published is None else list(self.published.models.values())
        for entry in entries:
            own = [group for group in self.groups if group[0].model == entry.model]
            rows = self._rows(own, entry)
            rows += [self._published_row(entry, is_alone=not own)] if self.is_published else []
            if rows:
                command = "" if own or entry.model is None else self._command(entry.model, list(self.columns))
                yield Block(entry.label, tuple(rows), command)
        names, known = printed_names(), {entry.model for entry in entries}
        for model in dict.fromkeys(group[0].model for group in self.groups if group[0].model not in known):
            own = [group for group in self.groups if group[0].model == model]
            yield Block(names.get(model, model), tuple(self._rows(own, None)))

    def missing(self) -> Iterable[str]:
        """How to fill what is missing, for every model of the paper that is part of this package."""
        entries = [] if self.published is None else self.published.models.values()
        found = False
        for entry in entries:
            done = {run.target for group in self.groups if group[0].model == entry.model for run in group}
            targets = [target for target in self.columns if target not in done]
            if targets and entry.model is not None:
                is_part = f" for {', '.join(targets)}" if len(targets) < len(self.columns) else ""
                yield f"{entry.label} not run{is_part}: {self._command(entry.model, targets)}"
                found = True
        if found:
            words = [f"task={target}" for target in self.columns if len(self.columns) == 1]
            joins = "qm9" if self.groups else ""
            yield f"All that is not run: {run_all('3', [*words, *self.settings], joins)}"

    def _command(self, model: str, targets: Sequence[str]) -> str:
        task = [*["-m"] * (len(targets) > 1), f"task={','.join(targets)}"]
        return command("qm9", [*task, f"model={model}", *self.settings])

    def _rows(self, groups: Sequence[list[PropertyRecord]], entry: PublishedModel | None) -> list[Row]:
        """A line for each setting of one model."""
        return [self._row(group, label, entry) for group, label in zip(groups, labels(groups, _ALWAYS), strict=True)]

    def _row(self, runs: list[PropertyRecord], setting: str, entry: PublishedModel | None) -> Row:
        cells, data = [self._cell(runs, target, entry) for target in self.columns], runs[0].data
        is_one = len(self.columns) == 1
        if is_one:
            cells += [
                measured(runs, INVARIANCE.metric, mark=signs(data.how)),
                words(f"{runs[0].batch_size:,}"),
            ]
        cells += budgets.cost(runs, self.published, tells_batch=not is_one)
        how = [*budgets.how_trained(runs, self.published), *data.how]
        return measured_row(runs, cells, setting, seeds_of(self.groups), how)

    def _cell(self, runs: Sequence[PropertyRecord], target: str, entry: PublishedModel | None) -> Cell:
        own = [run for run in runs if run.target == target]
        command = "" if self.published is None else self._command(runs[0].model, [target])
        printed = None if entry is None else entry.metrics.get(target)
        return measured(own, "mae", printed, signs(runs[0].data.how), command)

    def _published_row(self, entry: PublishedModel, *, is_alone: bool) -> Row:
        cells = [Cell(entry.metrics.get(target)) for target in self.columns]
        label = "published only" if entry.model is None else "published" + (", not run" if is_alone else "")
        return Row("published", label, (*cells, *_no_cost(self.columns)))


# --- notes ------------------------------------------------------------------------------------------------------------


def _notes(records: Sequence[PropertyRecord], lines: _Lines) -> Iterable[str]:
    yield (
        "Mean predictor: the mean of the training molecules; linear in composition: least squares on the numbers of "
        "atoms of each element."
    )
    yield from budgets.notes(lines.groups, lines.published)
    if any("data.graph" in record.settings for record in records):
        yield "graph: edges are the bonds, all pairs of atoms of a molecule (complete) or those within a radius."
    yield from spread_note(lines.groups)
    if len(lines.columns) == 1:
        yield "Δ_EQ: change of the prediction when a molecule is rotated, in standard deviations of the target."


def _data_notes(data: Molecules) -> Iterable[str]:
    train, valid, test = (f"{size:,}" for size in data.sizes)
    if data.is_subset:
        whole = [f"{size:,}" for size in data.official]
        yield (
            f"{OTHER} {data.title}: {train} of {whole[0]} training molecules, {valid} of {whole[1]} of validation, "
            f"{test} of {whole[2]} of test; checksum {data.checksum[:8]}. {NOT_COMPARABLE.capitalize()}."
        )
    else:
        total = f", of {sum(data.official):,}" if data.official else ""
        sizes = f"{train} molecules train, {valid} validate, {test} test{total}"
        yield f"{data.title}: {sizes}; checksum {data.checksum[:8]}."
    if data.measured_on == "valid":
        yield (
            f"{VALID} mean absolute errors on validation, which also chose the weights: there is no molecule of the "
            "test split."
        )
    else:
        yield "Mean absolute errors on test."
