"""One table from the declaration of an experiment, run records and published numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from se3t.experiments import tables as declared
from se3t.experiments.table import (
    MISSING,
    SUBSET,
    Estimate,
    NoteParts,
    PublishedModel,
    PublishedTable,
    TableColumn,
    TableSpec,
    signs,
)
from se3t.reporting.labels import command, given_settings, labels, preset_overrides, run_all, settings_to_join
from se3t.reporting.published import load_published, system_name
from se3t.reporting.tables.layout import COST, NO_TRAINING, Block, Cell, ResultTable, Row
from se3t.reporting.tables.rows import (
    beside,
    budget_notes,
    cost,
    facts,
    how_trained,
    mean,
    seeds_in_words,
    seeds_of,
    spread_note,
)
from se3t.runs import RunRecord
from se3t.runs.record import group_by_data, group_by_settings


def tables_of(
    spec: TableSpec,
    records: Iterable[RunRecord],
    *,
    always: bool = False,
    preset: str | None = None,
    target: str | None = None,
) -> list[ResultTable]:
    """A table for every data set among the runs: first the paper's possible ones, then the others.

    Args:
        spec: of the tables.
        records: finished runs of its experiments.
        always: whether to have all published columns, and a table also where nothing was run.
        preset: budget that commands name where nothing was run.
        target: the only column.
    """
    published = load_published(spec.published) if spec.published else None
    wanted = [target] if target is not None else list(published.columns) if always and published is not None else []
    apart = apart_from(spec)
    shown = [record for record in records if spec.takes(record)]
    others = [other for other in apart if any(other.takes(record) for record in shown)]
    groups = group_by_data(record for record in shown if not any(other.takes(record) for other in others)).values()
    drafts = [TableBuilder(spec, published, group, settings_of(spec, group), wanted) for group in groups]
    readings = [] if published is None else list(published.readings)
    if readings:
        drafts.sort(key=lambda draft: _place(draft.data.reading, draft.data.how, readings))
    if always and spec.data not in {draft.data.reading for draft in drafts}:
        drafts.insert(0, TableBuilder(spec, published, [], _settings_of_none(spec, preset), wanted))
    present = {draft.data.reading for draft in drafts}
    notes = [f"Runs on preset {other.data} have a table of their own: se3t table {other.name}." for other in others]
    return [draft.table(present, notes) for draft in drafts]


def apart_from(spec: TableSpec) -> list[TableSpec]:
    """The tables that take the runs on some data from this one."""
    return [
        other
        for other in declared().values()
        if other.budget and other.experiment == spec.experiment and other.name != spec.name
    ]


def _place(reading: str | None, how: Sequence[str], readings: Sequence[str]) -> tuple[int, bool]:
    return len(readings) if reading is None else readings.index(reading), SUBSET in how


def settings_of(spec: TableSpec, records: Sequence[RunRecord]) -> list[str]:
    """Overrides with which a run of another model joins the table of these."""
    join = spec.join(records)
    return [*join.before, *settings_to_join(records, join.data), *join.after]


def _settings_of_none(spec: TableSpec, preset: str | None) -> list[str]:
    """Overrides of the first run of a table."""
    preset = preset or spec.budget
    has_data = spec.data is None or given_settings(spec.experiment, preset).get("data.preset") == spec.data
    return [*preset_overrides(spec.experiment, preset), *([] if has_data else [f"data.preset={spec.data}"])]


class TableBuilder:
    """Blocks, rows and cells of one table.

    Args:
        spec: of the table.
        published: the published table; None: there is nothing to compare with.
        records: on one data set; none: nothing was run.
        settings: overrides with which a run joins the table.
        wanted: columns to show even where no run fills them.
    """

    def __init__(
        self,
        spec: TableSpec,
        published: PublishedTable | None,
        records: Sequence[RunRecord],
        settings: Sequence[str],
        wanted: Sequence[str] = (),
    ) -> None:
        self.spec, self.published, self.records, self.settings = spec, published, records, settings
        self.columns = tuple(spec.columns(records, published, wanted))
        self.numbers = [column for column in self.columns if column.metric and column.style == "number"]
        self.data = spec.describe(records, published)
        self.groups = group_by_settings(records)
        self.entries = [] if published is None else list(published.models.values())
        names = {entry.model for entry in self.entries}
        baselines = records[0].baselines if records else {}
        self.baselines = [name for name in baselines if name not in names]
        self.free = {name: values for name, values in baselines.items() if name in names}
        self.trained = [group for group in self.groups if group[0].model not in self.free]
        self.seeds = seeds_of(self.trained)
        self.is_published = any(column.metric in published.columns for column in self.columns) if published else False

    def table(self, present: Iterable[str | None] = (), notes: Iterable[str] = ()) -> ResultTable:
        """The whole table.

        Args:
            present: readings of the paper that have a table.
            notes: the last ones.
        """
        spec, published = self.spec, self.published
        name = "" if published is None else published.title.partition(", ")[0]
        details = tuple(self._details())
        return ResultTable(
            name=spec.name,
            title=", ".join(filter(None, (name, self.data.title))),
            data=self.data.name,
            columns=(*self.columns, *COST),
            blocks=tuple(self._blocks()),
            notes=(*self.data.notes, *spec.notes(self._note_parts()), *details, *notes),
            missing=(*self._missing(), *self._other_readings(present)),
            details=details,
        )

    # --- blocks and rows

    def _blocks(self) -> Iterator[Block]:
        """Baselines, every published system, then the other systems that were run."""
        if self.baselines:
            yield Block("No network", tuple(map(self._baseline_row, self.baselines)))
        systems = {(entry.model, entry.height): entry for entry in self.entries}
        for entry in self.entries:
            rows = self._rows(entry.model, entry.height, entry)
            is_alone = not rows and entry.model is not None
            if self.is_published:
                rows.append(self._published_row(entry, is_alone))
            if rows:
                yield Block(entry.label, tuple(rows), self._command([entry.model], entry.height) if is_alone else "")
        others = {(group[0].model, group[0].system[2]) for group in self.groups} - set(systems)
        for model, height in sorted(others):
            yield Block(system_name(model, height), tuple(self._rows(model, height)))

    def _groups(self, model: str | None, height: bool) -> list[list[RunRecord]]:
        return [group for group in self.groups if (group[0].model, group[0].system[2]) == (model, height)]

    def _rows(self, model: str | None, height: bool, entry: PublishedModel | None = None) -> list[Row]:
        """A row for each setting of one system; none where there are no runs."""
        groups = self._groups(model, height)
        if model in self.free:
            return [self._free_row(model, groups[0] if groups else [], entry)]
        always = dict.fromkeys([*self.spec.always_named, *(name for run in self.records for name in run.always_named)])
        return [self.row(*line, entry) for line in zip(groups, labels(groups, tuple(always)), strict=True)]

    def row(
        self,
        runs: Sequence[RunRecord],
        setting: str,
        entry: PublishedModel | None = None,
        reference: Sequence[RunRecord] = (),
    ) -> Row:
        """A row of measured numbers.

        Args:
            runs: of the row.
            setting: what tells it from other rows of its system.
            entry: the published model beside it.
            reference: runs whose numbers its ratios refer to, over the seeds that both have; (): published numbers.
        """
        label = ", ".join(filter(None, ("measured", seeds_in_words(runs, self.seeds), setting)))
        cells = [self._cell(runs, column, entry, reference) for column in self.columns]
        tells_batch = all(column.label != "batch" for column in self.columns)
        cells += cost(runs, self.published, tells_batch=tells_batch)
        how = (*how_trained(runs, self.published), *self.data.how)
        return Row("measured", label, tuple(cells), setting, how=how, **facts(runs))

    def _free_row(self, model: str, runs: Sequence[RunRecord], entry: PublishedModel | None) -> Row:
        """A model some of whose numbers come with the data, so that only its other numbers need a run."""
        cells = []
        for column in self.columns:
            value = None if runs else self._known(self.free[model], column)
            if value is None:
                cells.append(self._cell(runs, column, entry))
            else:
                cells.append(beside(Cell(Estimate(value), mark=self.data.mark), self._printed(column, entry)))
        how = (NO_TRAINING, *self.data.how)
        row = Row("measured", "measured", (*cells, Cell(text="0"), Cell(text=MISSING)), how=how, **facts(runs))
        return replace(row, parameters=(0,))

    def _baseline_row(self, name: str) -> Row:
        """Numbers that need no network: the same for all runs on the same data."""
        how = (NO_TRAINING, *self.records[0].baseline_how)
        cells = []
        for column in self.columns:
            errors = (record.baselines[name].get(column.metric) for record in self.records)
            value = next((error for error in errors if error is not None), None) if column in self.numbers else None
            cells.append(Cell(text=MISSING) if value is None else Cell(Estimate(value), mark=signs(how)))
        return Row("baseline", name, (*cells, *[Cell(text=MISSING)] * len(COST)), name, how=how)

    def _published_row(self, entry: PublishedModel, is_alone: bool) -> Row:
        only = " only" * (entry.model is None and bool(self.spec.choice))
        label = "quoted" if entry.is_quoted else f"published{only}"
        cells = [
            Cell(self._printed(column, entry)) if column.metric else Cell(text=column.tell_published(entry))
            for column in self.columns
        ]
        steps = f"{self.published.max_steps:,}" if self.published and entry.has_budget else MISSING
        cells += [Cell(text=MISSING), Cell(text=steps)]
        return Row("published", label + (", not run" if is_alone else ""), tuple(cells))

    # --- cells

    def _cell(
        self,
        runs: Sequence[RunRecord],
        column: TableColumn,
        entry: PublishedModel | None,
        reference: Sequence[RunRecord] = (),
    ) -> Cell:
        """The mean of a column over runs, beside what is published, or with its ratio to that of a reference."""
        if not column.metric:
            return Cell(text=column.tell(runs))
        values = self._values(runs, column)
        model, height = (runs[0].model, runs[0].system[2]) if runs else (str(entry and entry.model), False)
        make = "" if values or self.published is None else self._command([model], height, [column])
        cell = Cell(mean(values), tuple(sorted({run.seed for run, _ in values})), self.data.mark, command=make)
        if not reference:
            return beside(cell, self._printed(column, entry))
        common = {run.seed for run in runs} & {run.seed for run in reference}
        ours, theirs = (
            mean([(run, value) for run, value in self._values(group, column) if run.seed in common])
            for group in (runs, reference)
        )
        return replace(cell, ratio=ours.value / theirs.value if ours and theirs and theirs.value else None)

    def _values(self, runs: Iterable[RunRecord], column: TableColumn) -> list[tuple[RunRecord, float]]:
        values = ((run, self._known(run.metrics, column)) for run in runs)
        return [(run, value) for run, value in values if value is not None]

    def _known(self, metrics: Mapping[str, float], column: TableColumn) -> float | None:
        """A number of a column, or its ratio to a published one where the column shows that."""
        value = metrics.get(column.metric)
        if value is not None or column.over is None or self.published is None:
            return value
        metric, model = column.over
        reference = self.published.models[model].metrics[metric]
        return None if reference is None else metrics[metric] / reference.value

    def _printed(self, column: TableColumn, entry: PublishedModel | None) -> Estimate | None:
        """A published number, or the ratio of two of them."""
        if entry is None or self.published is None:
            return None
        if column.over is None:
            return entry.metrics.get(column.metric)
        metric, model = column.over
        value = entry.relative(metric, self.published.models[model])
        return None if value is None else Estimate(value)

    # --- commands

    def _command(
        self, models: Sequence[str | None], height: bool = False, columns: Sequence[TableColumn] | None = None
    ) -> str:
        """The command that trains systems of the table, for all columns unless given."""
        choice = [column.metric for column in columns or self.numbers] if self.spec.choice else []
        overrides = [f"{self.spec.choice}={','.join(choice)}"] if choice else []
        overrides += [f"model={','.join(map(str, models))}", *["task.height=true"] * height]
        several = ["-m"] * (len(models) > 1 or len(choice) > 1)
        return command(self.spec.experiment, [*several, *overrides, *self.settings])

    def _missing(self) -> Iterator[str]:
        """What was not run, with the commands that run it."""
        left = [(entry, columns) for entry in self.entries if (columns := self._left(entry))]
        if any(entry.height for entry in self.entries):
            yield from self._missing_together([entry for entry, _ in left])
        else:
            for entry, columns in left:
                part = f" for {', '.join(column.metric for column in columns)}" * (len(columns) < len(self.numbers))
                yield f"{entry.label} not run{part}: {self._command([entry.model], columns=columns)}"
        for entry in self.entries:
            if entry.model in self.free and not self._groups(entry.model, entry.height):
                yield f"Δ_EQ of {entry.label} not run: {self._command([entry.model])}"
        if left:
            overrides = [f"{self.spec.choice}={column.metric}" for column in self.numbers if self.spec.choice]
            overrides = [*(overrides if len(overrides) == 1 else []), *self._without(self.settings)]
            overrides = [override for override in overrides if override != f"data.preset={self.spec.data}"]
            joins = self.spec.experiment if self.groups else ""
            yield f"All that is not run: {run_all(self.spec.name, overrides, joins)}"

    def _missing_together(self, entries: Sequence[PublishedModel]) -> Iterator[str]:
        """One command for the plain systems, one for those with heights."""
        for height in (False, True):
            missing = [entry for entry in entries if entry.height == height]
            if missing:
                names = ", ".join(entry.label for entry in missing)
                yield f"Not run: {names}. To run: {self._command([entry.model for entry in missing], height)}"

    def _left(self, entry: PublishedModel) -> list[TableColumn]:
        """The columns that a system of this package lacks; all or none where one training fills all."""
        if entry.model is None:
            return []
        groups = self._groups(entry.model, entry.height)
        if not self.spec.choice:
            return [] if groups or entry.model in self.free else self.numbers
        return [column for column in self.numbers if not any(self._values(group, column) for group in groups)]

    def _other_readings(self, present: Iterable[str | None]) -> Iterator[str]:
        """Notes on the tables on the other data that the paper may mean."""
        if self.published is None or self.data.reading is None:
            return
        order = list(self.published.readings)
        for name, reading in self.published.readings.items():
            if name == self.data.reading:
                continue
            if name in present:
                side = "above" if order.index(name) < order.index(self.data.reading) else "below"
                yield f"The {reading} (preset {name}), is the table {side}."
            else:
                overrides = [override for override in self._without(self.settings) if override.startswith("preset=")]
                line = run_all(self.spec.name, [*overrides, f"data.preset={name}"])
                yield f"The {reading} (preset {name}), not run: {line}"

    def _without(self, settings: Iterable[str]) -> list[str]:
        """Overrides without a preset that belongs to another table."""
        budgets_of_others = {f"preset={other.budget}" for other in apart_from(self.spec)}
        return [override for override in settings if override not in budgets_of_others]

    # --- notes

    def _note_parts(self) -> NoteParts:
        has_source = self.published is not None and self.is_published
        return NoteParts(
            records=self.records,
            columns=self.columns,
            published=self.published,
            budget=tuple(budget_notes(self.trained, self.published)),
            spread=spread_note(self.groups),
            source=[f"Published: {self.published.source}."] if self.published and has_source else [],
            remarks=[
                (entry.label, entry.note)
                for entry in self.entries
                if entry.note and (entry.model in self.free or self._groups(entry.model, entry.height))
            ],
        )

    def _details(self) -> Iterator[str]:
        """Sources of published numbers that are not from the paper of the table, and further notes on them."""
        sources: dict[str, list[str]] = {}
        for entry in self.entries:
            sources.setdefault(entry.source, []).append(entry.label)
        yield from (f"{', '.join(labels)}: {source}." for source, labels in sources.items() if source)
        yield from () if self.published is None else self.published.notes
