"""Table 1: what N-body runs measured beside what the paper prints, model by model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from se3t.errors import UserError
from se3t.reporting.labels import command, labels, run_all, settings_to_join, spell
from se3t.reporting.layout import (
    NO_TRAINING,
    OTHER_DATA,
    REDUCED,
    SUBSET,
    Block,
    Cell,
    ResultTable,
    Row,
    TableColumn,
    beside,
    budget,
    facts,
    is_reduced,
    measured,
    measured_row,
    seeds_of,
    spread_note,
    steps,
    words,
)
from se3t.reporting.nbody import NBodyRecord, Simulation, parse_record
from se3t.reporting.published import Estimate, PublishedTable, load_published
from se3t.reporting.records import Fields, group_by_data, group_by_settings
from se3t.reporting.spelling import MISSING, span

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
COLUMNS = (*MEASURED, TableColumn("param."), TableColumn("steps"))

_DEFAULT_PRESET = "paper"
_DEFAULT_DATA = "calibrated"
_FEWER = "ˢ"


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
        data = records[0].data
        return (order.index(data.preset) if data.preset in order else len(order), bool(data.lacks(published.sizes)))

    groups.sort(key=place)
    present = {records[0].data.preset for records in groups}
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
    data = _only_data(records, published.experiment)
    groups = group_by_settings(records)
    lines = _Lines(published, groups, words_to_join(records))
    return ResultTable(
        name="1",
        title=_title(published, data.preset, data.horizon),
        data=data_name(data, records[0].overridden),
        columns=COLUMNS,
        blocks=tuple(lines.block(model) for model in published.models),
        notes=tuple(_notes(records, groups, published)),
        missing=(*lines.missing(), *_other_readings(published, data.preset, present, lines.settings)),
    )


def words_to_join(records: Sequence[NBodyRecord]) -> list[str]:
    """What a run of another system needs to share a table with these."""
    name = records[0].data.preset
    preset = {} if name == _DEFAULT_DATA else {"preset": name}
    return settings_to_join(records, _DEFAULT_PRESET, {**preset, **records[0].overridden})


def words_to_start(preset: str | None) -> list[str]:
    """What a run with the budget ``preset`` needs."""
    return [] if preset in (None, _DEFAULT_PRESET) else [f"preset={preset}"]


def empty_table(published: PublishedTable, preset: str | None, present: Iterable[str] = ()) -> ResultTable:
    """Table 1 where nothing was run: what is published, and how to run the rest."""
    lines = _Lines(published, [], words_to_start(preset))
    return ResultTable(
        name="1",
        title=_title(published, _DEFAULT_DATA),
        data="",
        columns=COLUMNS,
        blocks=tuple(lines.block(model) for model in published.models),
        notes=(RELATIVE_NOTE, _source(published)),
        missing=(*lines.missing(), *_other_readings(published, _DEFAULT_DATA, present, lines.settings)),
    )


def _only_data(records: list[NBodyRecord], experiment: str) -> Simulation:
    if not records:
        raise UserError(
            f"table: no finished run of experiment {experiment!r}; train one: se3t train experiment={experiment}"
        )
    groups = group_by_data(records)
    if len(groups) > 1:
        names = "; ".join(data_name(group[0].data) for group in groups.values())
        raise UserError(f"table: runs on different data cannot share a table, got {names}; choose the results of one")
    return records[0].data


def _title(published: PublishedTable, preset: str, horizon: float | None = None) -> str:
    what = f"preset {preset}" + ("" if horizon is None else f", horizon {horizon:g}")
    reading = published.readings.get(preset)
    return published.title + (f": {reading.partition(' of ')[0]} ({what})" if reading else f" ({what})")


# --- lines ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Lines:
    """The lines of one table.

    Attributes:
        published: the numbers of the paper.
        groups: the runs of each measured line.
        settings: words that a run needs to join the table.
    """

    published: PublishedTable
    groups: Sequence[list[NBodyRecord]]
    settings: Sequence[str]

    def block(self, model: str) -> Block:
        """What was measured and what is published of one model."""
        own = [group for group in self.groups if group[0].model == model]
        if model == "linear" and self.groups:
            measured_rows = [self._linear(own[0] if own else [])]
        else:
            measured_rows = [self._row(group, label) for group, label in zip(own, labels(own), strict=True)]
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
            yield f"All that is not run: {run_all('1', self.settings, _DEFAULT_PRESET if self.groups else None)}"

    def _command(self, model: str) -> str:
        return command(self.published.experiment, [f"model={model}", *self.settings])

    def _linear(self, runs: Sequence[NBodyRecord]) -> Row:
        """Constant velocity comes with the data, so it needs no run of its own; its Δ_EQ does."""
        reference = next(group[0] for group in self.groups)
        known = {f"mse_{name}": value for name, value in zip("xv", reference.linear, strict=True)}
        known |= dict.fromkeys(("relative_mse_x", "relative_mse_v"), 1.0)
        sign = mark(reference.data, self.published)
        cells = []
        for metric in (column.metric for column in MEASURED):
            own = Cell(Estimate(known[metric]), mark=sign) if not runs and metric in known else None
            own = own or measured(runs, metric, mark=sign, command=self._command("linear"))
            cells.append(beside(own, _printed(metric, "linear", self.published)))
        cells += [words("0"), words(MISSING)]
        how = (NO_TRAINING, *how_measured(reference.data, self.published))
        row = Row("measured", "measured", tuple(cells), how=how, **facts(runs))
        return replace(row, parameters=(0,))

    def _row(self, runs: list[NBodyRecord], setting: str) -> Row:
        full = self.published.samples
        sign, model = mark(runs[0].data, self.published), runs[0].model
        metrics = [column.metric for column in MEASURED]
        cells = [measured(runs, metric, _printed(metric, model, self.published), sign) for metric in metrics]
        done = steps(runs, batch_size=self.published.batch_size, is_reduced=is_reduced(runs, full))
        cells += [words(span(run.parameters for run in runs)), done]
        seeds = seeds_of(group for group in self.groups if group[0].model != "linear")
        return measured_row(
            runs, cells, setting, seeds, [budget(runs, full), *how_measured(runs[0].data, self.published)]
        )


def mark(data: Simulation, published: PublishedTable) -> str:
    """The sign of numbers on fewer trajectories than the paper's."""
    return _FEWER if data.lacks(published.sizes) else ""


def how_measured(data: Simulation, published: PublishedTable) -> list[str]:
    """What the numbers are measured on, where it is not what the published ones are, in the words of tables."""
    how = [SUBSET] if data.lacks(published.sizes) else []
    return how + ([] if data.preset in published.readings else [OTHER_DATA])


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
    return Row("published", label, (*cells, words(MISSING), words(done)))


# --- notes ------------------------------------------------------------------------------------------------------------


def data_name(data: Simulation, changed: Mapping[str, Any] | None = None) -> str:
    """Data in words, with the settings in which they differ from their preset."""
    changes = ", ".join(f"{name}={spell(value)}" for name, value in (changed or {}).items())
    preset = f"preset {data.preset}" + (f" with settings overridden ({changes})" if changes else "")
    return f"{preset}, horizon {data.horizon:g}, checksum {data.checksum[:8]}"


def _notes(
    records: Sequence[NBodyRecord], groups: Sequence[list[NBodyRecord]], published: PublishedTable
) -> Iterable[str]:
    trained = [group for group in groups if group[0].model != "linear"]
    yield from data_notes(records[0], published)
    yield RELATIVE_NOTE
    if any(is_reduced(group, published.samples) for group in trained):
        yield f"{REDUCED} reduced budget; the published numbers were trained for {published.budget}."
    elif trained:
        yield f"Full budget: {published.budget}, or more."
    yield from spread_note(groups)
    yield _source(published)


def data_notes(record: NBodyRecord, published: PublishedTable) -> Iterable[str]:
    """What the data are, and how they differ from the paper's."""
    data = record.data
    yield f"Simulated data: {data_name(data, record.overridden)}. Errors on test, in units of the simulation."
    if reading := published.readings.get(data.preset):
        yield f"This is the {reading}."
    else:
        yield "Data that are no reading of the paper: not comparable with the published numbers."
    if lacking := data.lacks(published.sizes):
        yield f"{_FEWER} fewer trajectories than the paper's ({', '.join(lacking)}): not comparable with its numbers."


def _source(published: PublishedTable) -> str:
    return f"Published: {published.source}."


def _other_readings(
    published: PublishedTable, preset: str, present: Iterable[str], settings: Sequence[str]
) -> Iterable[str]:
    """Where the same table on the other data is that the paper may mean."""
    if preset not in published.readings:
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
