"""The table of ablations: the SE(3)-Transformer without one of its parts, beside the full model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from se3t.experiments import experiments_of
from se3t.experiments import tables as declared
from se3t.experiments.table import ALWAYS_NAMED, MISSING, TableSpec
from se3t.reporting.labels import command, labels, preset_overrides, run_all
from se3t.reporting.published import load_published, printed_names, system_name
from se3t.reporting.tables.builder import TableBuilder, settings_of
from se3t.reporting.tables.layout import COST, Block, Cell, ResultTable, Row
from se3t.reporting.tables.rows import budget_notes, seeds_of, spread_note
from se3t.runs import RunRecord

ABLATED = "1"
"""The table with the ablated system, where there are no runs."""
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
"""Systems of the paper beside the ablations."""

_FULL_NAME = "full model"


def ablated_name(model: str, ablation: str, height: bool = False) -> str:
    """What the paper calls a model, with what was taken out of it."""
    part = "" if ablation in ("none", "") else ABLATIONS.get(ablation, (ablation,))[0].lower()
    return ", ".join(filter(None, (system_name(model, height), part)))


def ablation_tables(
    records: Iterable[RunRecord], *, always: bool = False, preset: str | None = None
) -> list[ResultTable]:
    """A table for each data set and budget on which a model without one of its parts was run.

    Args:
        records: finished runs of any experiment.
        always: whether there is one for runs of the full model alone, too, and one where nothing was run; both for the
            experiment of the first table.
        preset: the budget that commands for missing runs then name.
    """
    shown = [record for record in records if record.model == FULL_MODEL or record.model in SYSTEMS]
    first, tables = declared()[ABLATED], []
    for spec in declared().values():
        groups: dict[tuple[Any, ...], list[RunRecord]] = {}
        for record in shown if spec.budget is None else ():
            if record.experiment in experiments_of(spec) and spec.takes(record):
                groups.setdefault((record.data, _part(spec, record), str(record.preset)), []).append(record)
        for _, group in sorted(groups.items(), key=lambda item: item[0]):
            is_ablated = any(record.ablation != "none" for record in group)
            if is_ablated or (always and spec is first and any(record.model == FULL_MODEL for record in group)):
                tables.append(_Ablations(spec, group).ablations())
    return tables or ([_Ablations(first, [], preset).ablations()] if always else [])


class _Ablations(TableBuilder):
    """The table of ablations of one data set and budget.

    Args:
        spec: of the table of the experiment.
        records: of the full model, of ablations and of the systems beside them; none: nothing was run.
        preset: budget that commands name where nothing was run.
    """

    def __init__(self, spec: TableSpec, records: Sequence[RunRecord], preset: str | None = None) -> None:
        published = load_published(spec.published) if spec.published else None
        settings = preset_overrides(spec.experiment, preset)
        if records:
            height = ["task.height=true"] * records[0].system[2]
            choice = [f"{spec.choice}={records[0].part}"] if spec.choice else []
            settings = [*height, *choice, *settings_of(spec, records)]
        super().__init__(spec, published, records, settings)
        self.columns = tuple(column for column in self.columns if column.metric)
        self.ablated = [group for group in self.groups if group[0].ablation != "none"]
        full = [group for group in self.groups if group[0].model == FULL_MODEL and group[0].ablation == "none"]
        matched = [group for group in full if any(_settings(group) == _settings(other) for other in self.ablated)]
        self.full = matched or full
        self.others = [group for group in self.groups if group[0].model in SYSTEMS]
        self.trained = [*self.full, *self.ablated, *self.others]
        self.seeds = seeds_of(self.trained)

    def ablations(self) -> ResultTable:
        """The whole table."""
        title, what = self.data.title, []
        if self.records:
            preset = self.records[0].preset
            what = [_part(self.spec, self.records[0]), f"budget {preset}" if preset else ""]
        elif self.published is not None:
            title = self.published.title.partition(", ")[2]
        blocks = tuple(self._ablation_blocks())
        return ResultTable(
            name="ablations",
            title="; ".join(filter(None, (f"Ablations, {title}", *what))),
            data=", ".join(filter(None, (self.data.name, *what))),
            columns=(*self.columns, *COST),
            blocks=blocks,
            notes=tuple(self._ablation_notes()),
            missing=tuple(self._not_run(blocks)),
            reference=_FULL_NAME,
        )

    def _ablation_blocks(self) -> Iterator[Block]:
        yield self._block(printed_names()[FULL_MODEL], self.full, [])
        for name, (label, _) in ABLATIONS.items():
            overrides = [f"model.ablation={name}", *(OWN_SETTINGS.get(name, ()) if self._is_first else ())]
            yield self._block(label, [group for group in self.ablated if group[0].ablation == name], overrides)
        for model in SYSTEMS:
            if groups := [group for group in self.others if group[0].model == model]:
                yield self._block(printed_names()[model], groups, [])

    def _block(self, system: str, groups: Sequence[list[RunRecord]], overrides: Sequence[str]) -> Block:
        if groups:
            lines = zip(groups, labels(groups, ALWAYS_NAMED), strict=True)
            return Block(system, tuple(self.row(runs, label, None, self._reference(runs)) for runs, label in lines))
        line = command(self.spec.experiment, [*overrides, *self.settings])
        cells = (Cell(command=line, text=MISSING),) * (len(self.columns) + len(COST))
        return Block(system, (Row("missing", "not run", cells),), line)

    def _reference(self, runs: list[RunRecord]) -> Sequence[RunRecord]:
        """Runs of the full model that differ in nothing but what was taken out; beside another model, or one with
        settings of its own, those of the same budget, where these are one line.
        """
        if runs in self.full:
            return ()
        alike = _settings if runs[0].model == FULL_MODEL and runs[0].ablation not in OWN_SETTINGS else _budget
        matching = [group for group in self.full if alike(group) == alike(runs)]
        return matching[0] if len(matching) == 1 else ()

    def _ablation_notes(self) -> Iterator[str]:
        meanings = [f"{label} (model.ablation={name}): {meaning}." for name, (label, meaning) in ABLATIONS.items()]
        if not self.records:
            yield from (*meanings, *self.data.notes)
            return
        yield from (*self.data.notes, *meanings)
        for model in dict.fromkeys(group[0].model for group in self.others):
            yield f"{printed_names()[model]}: {SYSTEMS[model]}; another architecture, with a learning rate of its own."
        settings = "settings and budget (other architectures and learning rates: the same budget)"
        yield f"Ratios are to the full model on the same data, with the same {settings}, over the same seeds."
        yield from budget_notes(self.trained, self.published)
        yield from spread_note(self.trained)

    def _not_run(self, blocks: Iterable[Block]) -> Iterator[str]:
        left = [block for block in blocks if block.command]
        yield from (f"{block.system} not run: {block.command}" for block in left)
        if left and self._is_first:
            joins = self.spec.experiment if self.records else ""
            yield f"All that is not run: {run_all('ablations', self.settings, joins)}"

    @property
    def _is_first(self) -> bool:
        """Whether ``se3t table ablations --run`` trains on these data."""
        return self.spec.name == ABLATED


def _part(spec: TableSpec, record: RunRecord) -> str:
    """What beside data and budget splits tables: the property that is learned, or heights as inputs."""
    return record.part if spec.choice else "+z" if record.system[2] else ""


def _settings(runs: Sequence[RunRecord]) -> tuple[Any, ...]:
    settings = {name: value for name, value in runs[0].line.items() if name != "model.ablation"}
    return (settings, runs[0].max_steps)


def _budget(runs: Sequence[RunRecord]) -> tuple[Any, ...]:
    return (runs[0].max_steps, runs[0].batch_size, runs[0].setting("trainer.max_time"))
