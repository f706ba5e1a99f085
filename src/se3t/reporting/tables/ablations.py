"""The table of ablations: what the SE(3)-Transformer is without one of its parts, beside the full model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from se3t.experiments.base import OWN_DATA
from se3t.experiments.nbody import parse_record as parse_nbody
from se3t.experiments.qm9 import PropertyRecord
from se3t.experiments.qm9 import parse_record as parse_property
from se3t.experiments.scanobjectnn import parse_record as parse_clouds
from se3t.reporting.labels import ALWAYS_NAMED, command, labels, preset_words, run_all
from se3t.reporting.published import PublishedTable, load_published, printed_names
from se3t.reporting.spelling import MISSING
from se3t.reporting.tables import budgets, simulations, table1, table2, table3
from se3t.reporting.tables.layout import (
    COST,
    Block,
    Cell,
    DataFacts,
    ResultTable,
    Row,
    TableColumn,
    mean,
    measured,
    measured_row,
    seeds_of,
    spread_note,
)
from se3t.runs import Fields, RunRecord, group_by_settings

FULL_MODEL = "se3_transformer"
ABLATIONS = {
    "attention": ("Attention removed", "all neighbours of a point weigh the same"),
    "radial": ("Radial networks off", "one number for all edges in place of a function of their length and scalars"),
    "equivariance": ("Equivariance removed", "as many channels, but every component of a type is a plain number"),
}
"""By ``model.ablation``: what a line is called, and what it means."""
OWN_SETTINGS = {"equivariance": ("optim.lr=0.001", "optim.warmup_steps=100")}
"""Of N-body: words of an ablation that does not train well with those of the full model; chosen on validation."""
SYSTEMS = {"tfn": "the paper's system without attention", "set_transformer": "the paper's system without equivariance"}
"""Systems of the paper that stand beside the ablations."""

_FULL_NAME = "full model"


@dataclass(frozen=True)
class _Experiment:
    """What tables of one experiment consist of.

    Attributes:
        table: the table of the paper with the published budget.
        names: of the experiment in records.
        parse: reads a record.
        columns: of numbers, for some records.
        describe: what is to be said of the data of some records.
        settings: words that a run needs to join some records.
        part: what else than data and budget splits tables.
    """

    table: str
    names: tuple[str, ...]
    parse: Callable[[Fields], Any]
    columns: Callable[[Any], Sequence[TableColumn]]
    describe: Callable[[Any, PublishedTable], DataFacts]
    settings: Callable[[Any], list[str]]
    part: Callable[[Any], str]


def tables(runs: Iterable[Fields], *, always: bool = False, preset: str | None = None) -> list[ResultTable]:
    """A table for each data set and budget on which a model without one of its parts was run.

    Args:
        runs: finished ones of any experiment.
        always: whether there is one for N-body runs of the full model alone, too, and one where nothing was run.
        preset: the budget that commands for missing runs then name.
    """
    given, found = list(runs), []
    for experiment in _EXPERIMENTS:
        own = [experiment.parse(fields) for fields in given if fields.content.get("experiment") in experiment.names]
        groups: dict[tuple[Any, ...], list[RunRecord]] = {}
        for record in own:
            if record.model == FULL_MODEL or record.model in SYSTEMS:
                key = (record.data, experiment.part(record), str(record.preset))
                groups.setdefault(key, []).append(record)
        is_wanted = always and experiment.table == "table1"
        for _, records in sorted(groups.items(), key=lambda item: item[0]):
            ablated = any(record.ablation != "none" for record in records)
            if ablated or (is_wanted and any(record.model == FULL_MODEL for record in records)):
                found.append(_Lines(experiment, records).table())
    return found or ([_empty(preset)] if always else [])


def _empty(preset: str | None) -> ResultTable:
    """The table of N-body data where nothing was run."""
    published = load_published("table1")
    settings = preset_words(published.experiment, preset)
    blocks = [_not_run(_name("none"), published.experiment, settings, len(table1.COLUMNS))]
    for name in ABLATIONS:
        blocks.append(
            _not_run(
                _name(name), published.experiment, [*_words(name, published.experiment), *settings], len(table1.COLUMNS)
            )
        )
    return ResultTable(
        name="ablations",
        title=f"Ablations, {published.title.partition(', ')[2]}",
        data="",
        columns=table1.COLUMNS,
        blocks=tuple(blocks),
        notes=(*_meanings(ABLATIONS), table1.RELATIVE_NOTE),
        missing=tuple(_missing(blocks, settings, published, joins="")),
        reference=_FULL_NAME,
    )


def _name(ablation: str) -> str:
    return ABLATIONS[ablation][0] if ablation in ABLATIONS else printed_names()[FULL_MODEL]


def _words(ablation: str, experiment: str) -> list[str]:
    return [f"model.ablation={ablation}", *(OWN_SETTINGS.get(ablation, ()) if experiment == "nbody" else ())]


def _meanings(names: Iterable[str]) -> list[str]:
    return [f"{ABLATIONS[name][0]} (model.ablation={name}): {ABLATIONS[name][1]}." for name in names]


def _not_run(system: str, experiment: str, settings: Sequence[str], count: int) -> Block:
    line = command(experiment, settings)
    return Block(system, (Row("missing", "not run", (Cell(command=line, text=MISSING),) * count),), line)


def _missing(blocks: Iterable[Block], settings: Sequence[str], published: PublishedTable, joins: str) -> Iterable[str]:
    found = [block for block in blocks if block.command]
    for block in found:
        yield f"{block.system} not run: {block.command}"
    if found and published.experiment == "nbody":
        yield f"All that is not run: {run_all('ablations', settings, joins)}"


class _Lines:
    """The lines of one table.

    Args:
        experiment: what its tables consist of.
        records: runs on one data set and of one budget.
    """

    def __init__(self, experiment: _Experiment, records: Sequence[RunRecord]) -> None:
        self.experiment, self.records = experiment, records
        self.published = load_published(experiment.table)
        self.columns = tuple(experiment.columns(records[0]))
        self.data = experiment.describe(records, self.published)
        self.paper = None if OWN_DATA in self.data.how else self.published
        groups = group_by_settings(records)
        self.ablated = [group for group in groups if group[0].ablation != "none"]
        full = [group for group in groups if group[0].model == FULL_MODEL and group[0].ablation == "none"]
        matched = [group for group in full if any(_settings(group) == _settings(other) for other in self.ablated)]
        self.full = matched or full
        self.others = [group for group in groups if group[0].model in SYSTEMS]
        self.seeds = seeds_of([*self.full, *self.ablated, *self.others])

    def table(self) -> ResultTable:
        """The whole table."""
        blocks = [self._block(_name("none"), self.full, [])]
        for name in ABLATIONS:
            own = [group for group in self.ablated if group[0].ablation == name]
            blocks.append(self._block(_name(name), own, _words(name, self.published.experiment)))
        for model in SYSTEMS:
            own = [group for group in self.others if group[0].model == model]
            blocks += [self._block(printed_names()[model], own, [])] if own else []
        preset, experiment = self.records[0].preset, self.published.experiment
        what = [self.experiment.part(self.records[0]), f"budget {preset}" if preset else ""]
        return ResultTable(
            name="ablations",
            title="; ".join(filter(None, (f"Ablations, {self.data.title}", *what))),
            data=", ".join(filter(None, (self.data.name, *what))),
            columns=(*self.columns, *COST),
            blocks=tuple(blocks),
            notes=tuple(self._all_notes()),
            missing=tuple(_missing(blocks, self.experiment.settings(self.records), self.published, experiment)),
            reference=_FULL_NAME,
        )

    def _block(self, system: str, groups: Sequence[list[RunRecord]], settings: Sequence[str]) -> Block:
        if not groups:
            settings = [*settings, *self.experiment.settings(self.records)]
            return _not_run(system, self.published.experiment, settings, len(self.columns) + len(COST))
        return Block(system, tuple(self._row(*line) for line in zip(groups, labels(groups, ALWAYS_NAMED), strict=True)))

    def _row(self, runs: list[RunRecord], setting: str) -> Row:
        reference = [] if runs in self.full else self._reference(runs)
        cells = [self._cell(runs, reference, column.metric) for column in self.columns]
        cells += budgets.cost(runs, self.paper)
        how = [*budgets.how_trained(runs, self.paper), *self.data.how]
        return measured_row(runs, cells, setting, self.seeds, how)

    def _reference(self, runs: Sequence[RunRecord]) -> Sequence[RunRecord]:
        """Runs of the full model that differ in nothing but what was taken out; beside another model, or one with
        settings of its own, those of the same budget, where these are one line.
        """
        if runs[0].model == FULL_MODEL and runs[0].ablation not in OWN_SETTINGS:
            found = [group for group in self.full if _settings(group) == _settings(runs)]
        else:
            found = [group for group in self.full if _budget(group) == _budget(runs)]
        return found[0] if len(found) == 1 else []

    def _cell(self, runs: Sequence[RunRecord], reference: Sequence[RunRecord], metric: str) -> Cell:
        """A mean, and its ratio to that of the reference over the seeds that both have."""
        common = {run.seed for run in runs} & {run.seed for run in reference}
        name = "mae" if metric not in runs[0].metrics else metric
        ours, theirs = (mean([run for run in group if run.seed in common], name) for group in (runs, reference))
        ratio = ours.value / theirs.value if ours and theirs and theirs.value else None
        return replace(measured(runs, name, mark=self.data.mark), ratio=ratio)

    def _all_notes(self) -> Iterable[str]:
        yield from self.data.notes
        yield from _meanings(ABLATIONS)
        for model in dict.fromkeys(group[0].model for group in self.others):
            yield f"{printed_names()[model]}: {SYSTEMS[model]}; another architecture, with a learning rate of its own."
        settings = "settings and budget (other architectures and learning rates: the same budget)"
        yield f"Ratios are to the full model on the same data, with the same {settings}, over the same seeds."
        groups = [*self.full, *self.ablated, *self.others]
        yield from budgets.notes(groups, self.paper)
        yield from spread_note(groups)


def _settings(runs: Sequence[RunRecord]) -> tuple[Any, ...]:
    settings = {name: value for name, value in runs[0].line.items() if name != "model.ablation"}
    return (settings, runs[0].max_steps)


def _budget(runs: Sequence[RunRecord]) -> tuple[Any, ...]:
    return (runs[0].max_steps, runs[0].batch_size, runs[0].setting("trainer.max_time"))


# --- experiments ------------------------------------------------------------------------------------------------------


def _columns_of_property(record: PropertyRecord) -> list[TableColumn]:
    column = record.column
    if record.data.kind == "qm9":
        column = table3.as_published([record], record.target, column, load_published("table3"))
    return [TableColumn(column.label, record.target, column.unit), table3.INVARIANCE]


_EXPERIMENTS = (
    _Experiment(
        table="table1",
        names=("nbody",),
        parse=parse_nbody,
        columns=lambda record: table1.MEASURED,
        describe=partial(simulations.describe, relative_note=table1.RELATIVE_NOTE),
        settings=table1.words_to_join,
        part=lambda record: "",
    ),
    _Experiment(
        table="table2",
        names=("scanobjectnn",),
        parse=parse_clouds,
        columns=lambda record: table2.MEASURED,
        describe=table2.describe,
        settings=lambda records: [*["task.height=true"] * records[0].height, *table2.words_to_join(records)],
        part=lambda record: "+z" if record.height else "",
    ),
    _Experiment(
        table="table3",
        names=("qm9", "molecules"),
        parse=parse_property,
        columns=_columns_of_property,
        describe=table3.describe,
        settings=lambda records: [f"task={records[0].target}", *table3.words_to_join(records)],
        part=lambda record: record.target,
    ),
)
