"""Table 3: errors of molecular properties beside what the paper prints; and the same for molecules of one's own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from se3t.config.schemas import TARGETS
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
from se3t.reporting.published import Column, Estimate, PublishedTable, load_published, printed_names
from se3t.reporting.records import Fields, RunRecord, common, group_by_data, group_by_settings, overridden

SPLITS = ("train", "valid", "test")
METRICS = ("mae", "equivariance_error")
BASELINES = {"mean": "mean predictor", "composition": "linear in composition"}

_DEFAULT_PRESET = "released"
_SIZES = ("num_train", "num_valid", "num_test")
_ALWAYS = ("preset", "data.graph", "data.radius")
_TOLERANCE = 1e-3
_SUBSET, _VALID = "ˢ", "ᵛ"


class Molecules(NamedTuple):
    """Data of a property: QM9 or own ones by ``kind``, and how many molecules of each split there are.

    ``official``: of the splits of QM9, as far as known; ``measured_on``: the split of the numbers, validation where
    there is no molecule of test.
    """

    kind: str
    checksum: str
    sizes: tuple[int, ...]
    official: tuple[int, ...]
    measured_on: str

    @property
    def is_subset(self) -> bool:
        """Whether more than single molecules of the official splits are missing."""
        return is_subset(self.sizes, self.official)


def is_subset(sizes: Iterable[int], official: Iterable[int]) -> bool:
    """Whether some split lacks more than one molecule in a thousand, as those that cannot be read are."""
    return any(size < (1 - _TOLERANCE) * whole for size, whole in zip(sizes, official, strict=False))


@dataclass(frozen=True)
class PropertyRecord(RunRecord):
    """A finished run that learned one property.

    Attributes:
        target: name of the property.
        column: how it is printed, and its unit.
        baselines: mean absolute errors of predictions without a network, by the names of ``BASELINES``.
        baseline_split: what those were measured on.
    """

    data: Molecules
    target: str
    column: Column
    baselines: dict[str, float]
    baseline_split: str

    @property
    def repeat(self) -> tuple[str, int]:
        """One line of a table has several targets, each with several seeds."""
        return (self.target, self.seed)


def parse_record(fields: Fields) -> PropertyRecord:
    """Check the content of one ``result.json`` and keep what tables need.

    Raises:
        UserError: naming file and field, when a field is missing, of the wrong type, or not finite.
    """
    arguments = common(fields)
    settings = arguments["settings"]
    arguments["settings"] = {name: settings[name] for name in settings if name not in ("task.target", "task.column")}
    is_tested = fields.content.get("test", ()) is not None
    split = "test" if is_tested else "valid"
    kind = fields.text("data.kind")
    return PropertyRecord(
        **arguments,
        overridden={name: value for name, value in overridden(fields, ()).items() if name in _SIZES},
        data=Molecules(
            kind,
            fields.text("data.checksum"),
            sizes=tuple(fields.integer(f"data.sizes.{name}") for name in SPLITS),
            official=tuple(fields.integer(f"data.official.{name}") for name in SPLITS) if kind == "qm9" else (),
            measured_on=split,
        ),
        metrics={metric: fields.number(f"{split}.{metric}") for metric in METRICS},
        target=fields.text("data.target"),
        column=Column(fields.text("data.label"), _typeset(fields.text("data.unit"))),
        baselines={name: fields.number(f"data.baselines.{name}.0") for name in BASELINES},
        baseline_split=fields.text("data.baseline_split"),
    )


def _typeset(unit: str) -> str:
    return unit.replace("^2", "²").replace("^3", "³")


def tables(runs: Iterable[Fields]) -> list[ResultTable]:
    """Table 3 for every version of QM9 among the runs, and a table for every set of own molecules."""
    groups = group_by_data(parse_record(fields) for fields in runs)
    return [table3(group) if group[0].data.kind == "qm9" else own_table(group) for group in groups.values()]


def table3(records: Sequence[PropertyRecord]) -> ResultTable:
    """Table 3 from records of one data set, with a column for every target that was learned.

    Raises:
        UserError: when a unit is not the one of the paper.
    """
    published = load_published("table3")
    columns = {
        target: _as_published(records, target, column, published)
        for target, column in _columns(records, [*published.columns, *TARGETS]).items()
    }
    groups = group_by_settings(records)
    budget = (published.batch_size, published.max_steps * published.batch_size)
    is_published = any(target in published.columns for target in columns)  # the paper has six of the twelve
    blocks = [_baselines(records, columns)]
    for entry in published.models.values():
        own = [group for group in groups if group[0].model == entry.model]
        rows = _measured_rows(own, columns, *budget)
        if is_published:
            cells = [number(entry.metrics.get(target)) for target in columns]
            rows.append(Row("published" if own else "published only", (*cells, *_no_cost(columns))))
        if rows:
            blocks.append(Block(entry.label, tuple(rows)))
    known = {entry.model for entry in published.models.values()}
    blocks += _blocks([group for group in groups if group[0].model not in known], columns, *budget)
    source = [f"Published: {published.source}."] if is_published else []
    notes = [*_notes(records, groups, budget[1]), *source, *_not_run(records, columns, published)]
    return ResultTable(published.title + _addition(records[0].data), _headers(columns), tuple(blocks), tuple(notes))


def own_table(records: Sequence[PropertyRecord]) -> ResultTable:
    """What runs on molecules of one's own measured, with a column for every property; nothing is published."""
    columns = _columns(records, sorted({record.target for record in records}))
    groups = group_by_settings(records)
    blocks = (_baselines(records, columns), *_blocks(groups, columns))
    return ResultTable("Own molecules", _headers(columns), blocks, tuple(_notes(records, groups)))


def _columns(records: Sequence[PropertyRecord], order: Iterable[str]) -> dict[str, Column]:
    found = {record.target: record.column for record in records}
    return {target: found[target] for target in dict.fromkeys([*order, *found]) if target in found}


def _as_published(records: Sequence[PropertyRecord], target: str, column: Column, published: PublishedTable) -> Column:
    """The column as the paper prints it, which numbers in another unit must not join."""
    wanted = published.columns.get(target, column)
    for record in records:
        if record.target == target and record.column.unit != wanted.unit:
            raise UserError(
                f"{record.origin}: field 'data.unit' is {record.column.unit!r}, expected {wanted.unit!r} for {target}, "
                "the unit of its column; the run was made by another version, run it again"
            )
    return wanted


def _headers(columns: dict[str, Column]) -> tuple[str, ...]:
    targets = [", ".join(filter(None, (column.label, column.unit))) for column in columns.values()]
    return (*targets, *(("Δ_EQ", "batch") if len(columns) == 1 else ()), "param.", "steps")


def _no_cost(columns: dict[str, Column]) -> list[str]:
    return [MISSING] * (len(_headers(columns)) - len(columns))


def _addition(data: Molecules) -> str:
    return " subset: not comparable with the published numbers" if data.is_subset else ""


def _mark(data: Molecules, split: str) -> str:
    return (_SUBSET if data.is_subset else "") + (_VALID if split == "valid" else "")


# --- rows -------------------------------------------------------------------------------------------------------------


def _baselines(records: Sequence[PropertyRecord], columns: dict[str, Column]) -> Block:
    """What needs no training; the same for all runs of one target, as they have the same data."""
    first = [next(record for record in records if record.target == target) for target in columns]
    rows = []
    for name, label in BASELINES.items():
        cells = [
            number(Estimate(record.baselines[name]), mark=_mark(record.data, record.baseline_split)) for record in first
        ]
        rows.append(Row(label, (*cells, *_no_cost(columns))))
    return Block("No network", tuple(rows))


def _blocks(
    groups: Sequence[list[PropertyRecord]],
    columns: dict[str, Column],
    batch_size: int | None = None,
    full: int = 0,
) -> list[Block]:
    """Measured lines alone."""
    names = printed_names()
    found = []
    for model in dict.fromkeys(group[0].model for group in groups):
        own = [group for group in groups if group[0].model == model]
        found.append(Block(names.get(model, model), tuple(_measured_rows(own, columns, batch_size, full))))
    return found


def _measured_rows(
    groups: Sequence[list[PropertyRecord]], columns: dict[str, Column], batch_size: int | None, full: int
) -> list[Row]:
    """A line for each setting of one model.

    Args:
        groups: runs of each line.
        columns: by target.
        batch_size: of the paper, named where a line has another and no column for it; None: not named.
        full: molecules that the paper's budget shows to the network; a line below that is marked.
    """
    rows = []
    for runs, label in zip(groups, labels(groups, _ALWAYS), strict=True):
        cells = []
        for target in columns:
            estimate = mean([run for run in runs if run.target == target], "mae")
            cells.append(number(estimate, mark=_mark(runs[0].data, runs[0].data.measured_on)))
        if len(columns) == 1:
            cells += [error(mean(runs, "equivariance_error")), f"{runs[0].batch_size:,}"]
        cells.append(span(run.parameters for run in runs))
        cells.append(
            steps(runs, batch_size=None if len(columns) == 1 else batch_size, is_reduced=_is_reduced(runs, full))
        )
        rows.append(Row(measured_label(runs, label), tuple(cells)))
    return rows


def _is_reduced(runs: Iterable[PropertyRecord], full: int) -> bool:
    return min(run.steps_done * run.batch_size for run in runs) < full


# --- notes ------------------------------------------------------------------------------------------------------------


def _notes(records: Sequence[PropertyRecord], groups: Sequence[list[PropertyRecord]], full: int = 0) -> Iterable[str]:
    yield from _data_notes(records[0].data)
    yield (
        "Mean predictor: the mean of the training molecules; linear in composition: least squares on the numbers of "
        "atoms of each element."
    )
    if any(_is_reduced(group, full) for group in groups):
        published = load_published("table3")
        yield (
            f"{REDUCED} reduced budget: fewer molecules seen than the {full:,} of the paper "
            f"({published.max_steps:,} steps of batch {published.batch_size})."
        )
    if any("data.graph" in record.settings for record in records):
        yield "graph: edges are the bonds, all pairs of atoms of a molecule (complete) or those within a radius."
    if any(len({run.seed for run in group}) > 1 for group in groups):
        yield "±: standard deviation over seeds."
    if len({record.target for record in records}) == 1:
        yield "Δ_EQ: change of the prediction when a molecule is rotated, in standard deviations of the target."


def _data_notes(data: Molecules) -> Iterable[str]:
    name = "QM9" if data.kind == "qm9" else "Own molecules"
    train, valid, test = (f"{size:,}" for size in data.sizes)
    if data.is_subset:
        whole = [f"{size:,}" for size in data.official]
        yield (
            f"{_SUBSET} QM9 subset: {train} of {whole[0]} training molecules, {valid} of {whole[1]} of validation, "
            f"{test} of {whole[2]} of test; checksum {data.checksum[:8]}. Not comparable with the published numbers."
        )
    else:
        total = f", of {sum(data.official):,}" if data.official else ""
        yield f"{name}: {train} molecules train, {valid} validate, {test} test{total}; checksum {data.checksum[:8]}."
    if data.measured_on == "valid":
        yield (
            f"{_VALID} mean absolute errors on validation, which also chose the weights: there is no molecule of the "
            "test split."
        )
    else:
        yield "Mean absolute errors on test."


def _not_run(records: Sequence[PropertyRecord], columns: dict[str, Column], published: PublishedTable) -> Iterable[str]:
    """How to fill what is missing, for every model of the paper that is part of this package."""
    settings = settings_to_join(records, _DEFAULT_PRESET, records[0].overridden)
    for entry in published.models.values():
        if entry.model is None:
            continue
        missing = [
            target
            for target in columns
            if not any(record.model == entry.model and record.target == target for record in records)
        ]
        if missing:
            is_part = f" for {', '.join(missing)}" if len(missing) < len(columns) else ""
            task = ("-m " if len(missing) > 1 else "") + f"task={','.join(missing)}"
            command = f"se3t train experiment={published.experiment} {task} model={entry.model}"
            yield f"{entry.label} not run{is_part}: {' '.join([command, *settings])}"
