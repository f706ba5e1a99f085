"""All tables of run records, by their names in the paper."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from se3t.config import choices
from se3t.errors import UserError, did_you_mean
from se3t.experiments import experiments, experiments_of
from se3t.experiments import tables as declared
from se3t.experiments.table import TableSpec
from se3t.reporting.reading import LeftOut, Readable, Result, readable
from se3t.reporting.tables.ablations import ablation_tables
from se3t.reporting.tables.builder import apart_from, tables_of
from se3t.reporting.tables.layout import UNVERIFIED, UNVERIFIED_SIGN, Block, ResultTable, Row, shortened
from se3t.reporting.tables.terminal import to_rich
from se3t.runs import Fields, RunRecord
from se3t.screen import Folded

ABLATIONS = "ablations"


def names() -> list[str]:
    """Tables that exist even where nothing was run."""
    return [*(name for name, spec in declared().items() if spec.published), ABLATIONS]


def all_names() -> list[str]:
    """All tables, including those that exist only where something was run."""
    return [*names(), *(name for name, spec in declared().items() if name == spec.experiment)]


def experiments_in(name: str) -> list[str]:
    """The experiments whose runs a table shows; the first one trains what it lacks."""
    if name != ABLATIONS:
        return experiments_of(declared()[name])
    tables = [spec for spec in declared().values() if spec.name in names()]
    return list(dict.fromkeys(experiment for spec in tables for experiment in experiments_of(spec)))


_NOT_VERIFIED = (
    f"{UNVERIFIED_SIGN} {UNVERIFIED}: a record of an earlier version, without the digest that tells whether it was "
    "changed; run the training again to get one."
)
_MOST_NAMED = 3


def require_name(name: str) -> None:
    """Refuse a table that does not exist.

    Raises:
        UserError: naming those that do.
    """
    if name not in all_names():
        raise UserError(f"table {name}: unknown; {did_you_mean(name, all_names())}")


def require_preset(preset: str, name: str | None = None, *, is_run: bool = False) -> None:
    """Refuse a budget that no experiment of a table has.

    Args:
        preset: the budget.
        name: of the table; None: any.
        is_run: whether missing runs are to be trained.

    Raises:
        UserError: naming those that there are.
    """
    experiments = experiments_in(ABLATIONS if name is None else name)[: 1 if is_run else None]
    presets = {experiment: choices(f"budget/{experiment}") for experiment in experiments}
    without = set() if name in (None, ABLATIONS) else {other.budget for other in apart_from(declared()[str(name)])}
    known = sorted({preset for names in presets.values() for preset in names} - without)
    if preset not in known:
        table = "" if name is None else f" of table {name}"
        one = [experiment for experiment, names in presets.items() if names]
        who = f"experiment {one[0]!r}{table} has no such preset" if len(one) == 1 else f"no experiment{table} has it"
        raise UserError(f"--preset {preset}: {who}; {did_you_mean(preset, known)}")


def tables(results: Iterable[Result], target: str | None = None, preset: str | None = None) -> list[ResultTable]:
    """All tables that the results fill, one for every data set of every experiment; that of ablations comes last.

    Args:
        results: files, or their contents; those of unfinished runs are left out.
        target: only runs that learned this property of molecules.
        preset: only runs of this budget.

    Records that are damaged, were changed or have an impossible number are left out, and a note names them.

    Raises:
        UserError: naming file and field, when no record is left.
    """
    records = readable(results)
    runs = _chosen(records.runs, target, preset)
    whole = _whole(runs)
    built = [table for spec in declared().values() for table in tables_of(spec, _of(spec, whole), target=target)]
    return _with_notes([*built, *ablation_tables(runs)], records)


def named_tables(
    name: str, results: Iterable[Result], target: str | None = None, preset: str | None = None
) -> list[ResultTable]:
    """One table, complete: all rows and columns of the paper, whether they were run or not; several where there are
    runs on several data sets.

    Args:
        name: one of ``all_names()``.
        results: as in :func:`tables`.
        target: of table 3, the only column.
        preset: only runs of this budget; commands for those that are missing name it.

    Raises:
        UserError: as :func:`tables`, for an unknown name, or where neither the paper nor a run has the target.
    """
    require_name(name)
    if target is not None and not (name in declared() and declared()[name].choice):
        raise UserError(f"--target: chooses a property of molecules, a column of table 3 and not of table {name}")
    records = readable(results)
    return _with_notes(_named(name, _chosen(records.runs, target, preset), target, preset), records)


def _named(name: str, runs: Sequence[RunRecord], target: str | None, preset: str | None) -> list[ResultTable]:
    if name == ABLATIONS:
        return ablation_tables(runs, always=True, preset=preset)
    spec = declared()[name]
    built = tables_of(spec, _of(spec, _whole(runs)), always=bool(spec.published), preset=preset, target=target)
    if not built:
        raise UserError(f"table {name}: no finished run there; train one: se3t train experiment={spec.experiment}")
    return built


def render_tables(results: Iterable[Result]) -> list[Folded]:
    """All tables that the results fill, for a terminal: measured rows, with the published numbers beside them."""
    return [to_rich(shortened(table, _hint(table))) for table in tables(results)]


def _hint(table: ResultTable) -> str:
    return f"se3t table {table.name} says how" if table.name in names() else ""


def _chosen(runs: Iterable[Fields], target: str | None, preset: str | None) -> list[RunRecord]:
    """Records of known experiments, of one property of molecules and of one budget where these are given."""
    return [
        experiments()[fields.text("experiment")].read(fields)
        for fields in runs
        if fields.content.get("experiment") in experiments()
        and (target is None or target in _targets(fields))
        and (preset is None or fields.content.get("preset") == preset)
    ]


def _targets(fields: Fields) -> list[str]:
    """The properties that a run has learned."""
    data = fields.mapping("data")
    entries = data.get("properties") or [data]
    return [str(entry.get("target")) for entry in entries if isinstance(entry, Mapping)]


# --- what is not verified, and what was left out ----------------------------------------------------------------------


def _with_notes(tables: Iterable[ResultTable], records: Readable) -> list[ResultTable]:
    """The tables with unverified rows marked, and with notes on left out records."""
    unverified = {fields.origin for fields in records.runs if not fields.is_verified}
    return [_with_left_out(_marked(table, unverified), records.left_out) for table in tables]


def _marked(table: ResultTable, unverified: set[str]) -> ResultTable:
    """A row is not verified when one of its runs is not; one without runs, such as a baseline, may have its numbers
    from any run.
    """
    if not unverified & {origin for block in table.blocks for row in block.rows for origin in row.records}:
        return table

    def marked(row: Row) -> Row:
        is_measured = row.kind in ("measured", "baseline")
        if not is_measured or (row.records and not unverified & set(row.records)):
            return row
        return replace(row, label=f"{row.label} {UNVERIFIED_SIGN}", how=(*row.how, UNVERIFIED))

    blocks: list[Block] = [replace(block, rows=tuple(map(marked, block.rows))) for block in table.blocks]
    return replace(table, blocks=tuple(blocks), notes=(*table.notes, _NOT_VERIFIED))


def _with_left_out(table: ResultTable, left_out: Sequence[LeftOut]) -> ResultTable:
    relevant = [record for record in left_out if record.experiment is None or _may_show(table, record.experiment)]
    notes = [f"Left out: {record.reason}." for record in relevant[:_MOST_NAMED]]
    if len(relevant) > _MOST_NAMED:
        notes.append(f"{len(relevant) - _MOST_NAMED} more are left out; se3t runs --state damaged names them.")
    return replace(table, notes=(*table.notes, *notes), left_out=tuple(record.reason for record in relevant))


def _may_show(table: ResultTable, experiment: str) -> bool:
    return table.name not in names() or experiment in experiments_in(table.name)


def _whole(runs: Iterable[RunRecord]) -> list[RunRecord]:
    """Runs of whole models, without ablation."""
    return [run for run in runs if run.ablation == "none"]


def _of(spec: TableSpec, runs: Iterable[RunRecord]) -> list[RunRecord]:
    return [run for run in runs if run.experiment in experiments_of(spec)]
