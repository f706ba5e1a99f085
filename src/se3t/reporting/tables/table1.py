"""Table 1: what N-body runs measured beside what the paper prints, model by model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from se3t.config import NBodyData
from se3t.errors import UserError
from se3t.reporting.labels import command, labels, preset_words, run_all, settings_to_join, spell
from se3t.reporting.nbody import NBodyRecord, Simulation, parse_record
from se3t.reporting.published import Estimate, PublishedTable, load_published
from se3t.reporting.records import Fields, group_by_data, group_by_settings
from se3t.reporting.spelling import MISSING
from se3t.reporting.tables import budgets
from se3t.reporting.tables.layout import (
    COST,
    NO_CELL,
    NO_TRAINING,
    NOT_COMPARABLE,
    OTHER,
    OTHER_DATA,
    SUBSET,
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


def tables(runs: Iterable[Fields], *, always: bool = False, preset: str | None = None) -> list[ResultTable]:
    """Table 1 once for every data set among the runs: first those that the paper may mean, then the others.

    Args:
        runs: finished ones of this experiment.
        always: whether there is a table of the default data even where nothing was run on them.
        preset: the budget that commands for missing runs then name.
    """
    published = load_published("table1")
    groups = list(group_by_data(parse_record(fields) for fields in runs).values())
    order = list(published.readings)

    def place(records: Sequence[NBodyRecord]) -> tuple[int, bool]:
        name = _reading(records, published)
        return (len(order) if name is None else order.index(name), bool(records[0].data.lacks(published.sizes)))

    groups.sort(key=place)
    present = {name for records in groups if (name := _reading(records, published)) is not None}
    is_empty = always and _DEFAULT_DATA not in present
    there = present | ({_DEFAULT_DATA} if is_empty else set())
    found = [table1(records, published, there) for records in groups]
    return [empty_table(published, preset, there), *found] if is_empty else found


def table1(records: list[NBodyRecord], published: PublishedTable, present: Iterable[str] = ()) -> ResultTable:
    """Table 1 from records of one data set.

    Args:
        records: finished runs of the N-body experiment, all on the same data.
        published: the numbers of the paper; decides which models appear, and their order.
        present: presets of the data that have a table.

    Raises:
        UserError: when there are no records, or their data differ.
    """
    _require_same_data(records, published.experiment)
    groups, data = group_by_settings(records), describe(records, published)
    lines = _Lines(published, groups, words_to_join(records), data)
    return ResultTable(
        name="1",
        title=f"Table 1, {data.title}",
        data=data.name,
        columns=COLUMNS,
        blocks=tuple(lines.block(model) for model in published.models),
        notes=(*data.notes, *_notes(groups, published)),
        missing=(*lines.missing(), *_other_readings(published, _reading(records, published), present, lines.settings)),
    )


def words_to_join(records: Sequence[NBodyRecord]) -> list[str]:
    """What a run of another system needs to share a table with these."""
    record = _plainest(records)
    preset = {} if record.data.preset == _DEFAULT_DATA else {"preset": record.data.preset}
    return settings_to_join(records, {**preset, **record.overridden})


def empty_table(published: PublishedTable, preset: str | None, present: Iterable[str] = ()) -> ResultTable:
    """Table 1 where nothing was run: what is published, and how to run the rest."""
    lines = _Lines(published, [], preset_words(published.experiment, preset))
    return ResultTable(
        name="1",
        title=f"Table 1, {_title(published, f'preset {_DEFAULT_DATA}', _DEFAULT_DATA)}",
        data="",
        columns=COLUMNS,
        blocks=tuple(lines.block(model) for model in published.models),
        notes=(RELATIVE_NOTE, _source(published)),
        missing=(*lines.missing(), *_other_readings(published, _DEFAULT_DATA, present, lines.settings)),
    )


def _require_same_data(records: list[NBodyRecord], experiment: str) -> None:
    if not records:
        raise UserError(
            f"table: no finished run of experiment {experiment!r}; train one: se3t train experiment={experiment}"
        )
    groups = group_by_data(records)
    if len(groups) > 1:
        names = "; ".join(data_name(group[0].data) for group in groups.values())
        raise UserError(f"table: runs on different data cannot share a table, got {names}; choose the results of one")


# --- lines ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Lines:
    """The lines of one table.

    Attributes:
        published: the numbers of the paper.
        groups: the runs of each measured line.
        settings: words that a run needs to join the table.
        data: of the runs; None: there are none.
    """

    published: PublishedTable
    groups: Sequence[list[NBodyRecord]]
    settings: Sequence[str]
    data: DataFacts | None = None

    def block(self, model: str) -> Block:
        """What was measured and what is published of one model."""
        own = [group for group in self.groups if group[0].model == model]
        if self.data is None:
            measured_rows = []
        elif model == "linear":
            measured_rows = [self._linear(own[0] if own else [], self.data)]
        else:
            measured_rows = [self._row(group, label, self.data) for group, label in zip(own, labels(own), strict=True)]
        row = _published_row(model, self.published, is_alone=not measured_rows)
        return Block(
            self.published.models[model].label, (*measured_rows, row), "" if measured_rows else self._command(model)
        )

    def missing(self) -> Iterable[str]:
        """What was not run, with its command."""
        done = {group[0].model for group in self.groups} | ({"linear"} if self.groups else set())
        for model, entry in self.published.models.items():
            if model not in done:
                yield f"{entry.label} not run: {self._command(model)}"
        if "linear" in done and all(group[0].model != "linear" for group in self.groups):
            yield f"Δ_EQ of {self.published.models['linear'].label} not run: {self._command('linear')}"
        if set(self.published.models) - done:
            joins = self.published.experiment if self.groups else ""
            yield f"All that is not run: {run_all('1', self.settings, joins)}"

    def _command(self, model: str) -> str:
        return command(self.published.experiment, [f"model={model}", *self.settings])

    def _linear(self, runs: Sequence[NBodyRecord], data: DataFacts) -> Row:
        """Constant velocity comes with the data, so it needs no run of its own; its Δ_EQ does."""
        reference = next(group[0] for group in self.groups)
        known = {f"mse_{name}": value for name, value in zip("xv", reference.linear, strict=True)}
        known |= dict.fromkeys(("relative_mse_x", "relative_mse_v"), 1.0)
        cells = []
        for metric in (column.metric for column in MEASURED):
            own = Cell(Estimate(known[metric]), mark=data.mark) if not runs and metric in known else None
            own = own or measured(runs, metric, mark=data.mark, command=self._command("linear"))
            cells.append(beside(own, _printed(metric, "linear", self.published)))
        cells += [words("0"), NO_CELL]
        row = Row("measured", "measured", tuple(cells), how=(NO_TRAINING, *data.how), **facts(runs))
        return replace(row, parameters=(0,))

    def _row(self, runs: list[NBodyRecord], setting: str, data: DataFacts) -> Row:
        model = runs[0].model
        metrics = [column.metric for column in MEASURED]
        cells = [measured(runs, metric, _printed(metric, model, self.published), data.mark) for metric in metrics]
        cells += budgets.cost(runs, self.published)
        seeds = seeds_of(group for group in self.groups if group[0].model != "linear")
        return measured_row(runs, cells, setting, seeds, [*budgets.how_trained(runs, self.published), *data.how])


def _printed(metric: str, model: str, published: PublishedTable) -> Estimate | None:
    """A number of the paper; relative ones follow from two of them."""
    entry = published.models.get(model)
    if entry is None or not metric.startswith("relative_"):
        return None if entry is None else entry.metrics.get(metric)
    value = entry.relative(metric.removeprefix("relative_"), published.models["linear"])
    return None if value is None else Estimate(value)


def _published_row(model: str, published: PublishedTable, *, is_alone: bool) -> Row:
    cells = [Cell(_printed(column.metric, model, published)) for column in MEASURED]
    done = MISSING if model == "linear" else f"{published.max_steps:,}"
    label = "published, not run" if is_alone else "published"
    return Row("published", label, (*cells, NO_CELL, words(done)))


# --- data and notes ---------------------------------------------------------------------------------------------------


def describe(records: Sequence[NBodyRecord], published: PublishedTable) -> DataFacts:
    """What is to be said of the data of some records, which all have the same."""
    record, reading = _plainest(records), _reading(records, published)
    data, changes = record.data, _spelled(record.changes)
    what = f"preset {data.preset}" + (f" with {changes}" if changes else "") + f", horizon {data.horizon:g}"
    is_subset, is_other = bool(data.lacks(published.sizes)), reading is None or bool(data.exceeds(published.sizes))
    return DataFacts(
        title=_title(published, what, reading),
        name=data_name(data, record.overridden),
        notes=(*_data_notes(record, published, reading), RELATIVE_NOTE),
        how=(*[SUBSET] * is_subset, *[OTHER_DATA] * is_other),
    )


def _plainest(records: Sequence[NBodyRecord]) -> NBodyRecord:
    """The record that overrides least: what others do beside it, on the same data, changes nothing."""
    return min(records, key=lambda record: len(record.overridden))


def _reading(records: Sequence[NBodyRecord], published: PublishedTable) -> str | None:
    """Preset of the reading of the paper that the data of some records are; None: they are none."""
    record = _plainest(records)
    return record.data.preset if record.data.preset in published.readings and not record.changes else None


def _title(published: PublishedTable, what: str, reading: str | None) -> str:
    simulation = published.title.partition(", ")[2]
    if reading is None:
        return f"{simulation} ({what}): {NOT_COMPARABLE}"
    return f"{simulation}: {published.readings[reading].partition(' of ')[0]} ({what})"


def _spelled(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={spell(value)}" for name, value in settings.items())


def data_name(data: Simulation, changed: Mapping[str, Any] | None = None) -> str:
    """Data in words, with the settings in which they differ from their preset."""
    preset = f"preset {data.preset}" + (f" with settings overridden ({_spelled(changed)})" if changed else "")
    return f"{preset}, horizon {data.horizon:g}, checksum {data.checksum[:8]}"


def _data_notes(record: NBodyRecord, published: PublishedTable, reading: str | None) -> Iterable[str]:
    data = record.data
    yield f"Simulated data: {data_name(data, record.overridden)}. Errors on test, in units of the simulation."
    if reading is not None:
        yield f"This is the {published.readings[reading]}."
    else:
        what = f"other data than preset {data.preset} ({_spelled(record.changes)})" if record.changes else "other data"
        yield f"{OTHER} {what}, no reading of the paper: {NOT_COMPARABLE}."
    for which, sizes in (("fewer", data.lacks(published.sizes)), ("more", data.exceeds(published.sizes))):
        if sizes:
            yield f"{OTHER} {which} trajectories than the paper's ({', '.join(sizes)}): {NOT_COMPARABLE}."


def _notes(groups: Sequence[list[NBodyRecord]], published: PublishedTable) -> Iterable[str]:
    yield from budgets.notes([group for group in groups if group[0].model != "linear"], published)
    yield from spread_note(groups)
    yield _source(published)


def _source(published: PublishedTable) -> str:
    return f"Published: {published.source}."


def _other_readings(
    published: PublishedTable, preset: str | None, present: Iterable[str], settings: Sequence[str]
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
            words = [word for word in settings if word.startswith("preset=")]
            yield f"The {reading} (preset {name}), not run: {run_all('1', [*words, f'data.preset={name}'])}"
