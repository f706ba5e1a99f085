"""Table 1: what runs measured beside what the paper prints, model by model, as a terminal table and as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from se3t.errors import UserError
from se3t.reporting.labels import labels, settings_to_join, spell
from se3t.reporting.published import Estimate, PublishedModel, PublishedTable, load_published
from se3t.reporting.records import DataKey, Result, RunRecord, group_by_data, group_by_settings, load_records

REDUCED = "†"
_MISSING = "–"
_RELATIVE = "rel."


@dataclass(frozen=True)
class Row:
    """One line of the table, ready to print."""

    label: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Block:
    """All lines of one model: what was measured (one line per setting), then what is published."""

    model: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class ResultTable:
    """A table of one data set: never of two."""

    title: str
    columns: tuple[str, ...]
    blocks: tuple[Block, ...]
    notes: tuple[str, ...]


def table1(records: list[RunRecord], published: PublishedTable) -> ResultTable:
    """Table 1 from records of one data set.

    Args:
        records: finished runs of the N-body experiment, all on the same data.
        published: the numbers of the paper; decides which models appear, and their order.

    Raises:
        UserError: when there are no records, or their data differ.
    """
    data = _only_data(records, published.experiment)
    runs = group_by_settings(records)
    columns = ("MSE x", _RELATIVE, "Δ_EQ x", "MSE v", _RELATIVE, "Δ_EQ v", "param.", "steps")
    blocks = tuple(_block(model, runs, published, records[0].linear) for model in published.models)
    return ResultTable(published.title, columns, blocks, tuple(_notes(data, runs, published)))


def render_tables(results: Iterable[Result]) -> list[Table]:
    """A terminal table of Table 1 for every data set among the results (files, or their contents)."""
    return [to_rich(table) for table in tables1(results)]


def tables1(results: Iterable[Result]) -> list[ResultTable]:
    """Table 1 once for every data set among the results (files, or their contents)."""
    published = load_published()
    groups = group_by_data(load_records(results, published.experiment))
    return [table1(records, published) for records in groups.values()]


def to_rich(table: ResultTable) -> Table:
    """The table for a terminal of 80 columns or more, its notes as caption; a spread stands below its number."""
    rendered = Table(
        title=table.title,
        caption="\n".join(table.notes),
        title_justify="left",
        caption_justify="left",
        caption_style="",
        box=SIMPLE_HEAD,
        padding=0,
    )
    rendered.add_column("", no_wrap=True)
    for column in table.columns:
        rendered.add_column(column, justify="right")
    for block in table.blocks:
        rendered.add_row(block.model, style="bold")
        for row in block.rows:
            label = row.label.replace(", ", ",\n  ") if "=" in row.label else row.label
            rendered.add_row(f" {label}", *(cell.replace(" ± ", "\n±") for cell in row.cells))
        rendered.add_section()
    return rendered


def to_markdown(table: ResultTable) -> str:
    """The table as Markdown, its notes as a list below it."""
    lines = [
        f"**{table.title}**",
        "",
        _line(("model", "", *table.columns)),
        _line(("---", "---", *["--:"] * len(table.columns))),
    ]
    lines += [_line((block.model, row.label, *row.cells)) for block in table.blocks for row in block.rows]
    return "\n".join([*lines, "", *(f"- {note}" for note in table.notes), ""])


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _only_data(records: list[RunRecord], experiment: str) -> DataKey:
    if not records:
        raise UserError(
            f"table: no finished run of experiment {experiment!r}; train one: se3t train experiment={experiment}"
        )
    groups = list(group_by_data(records))
    if len(groups) > 1:
        names = "; ".join(_data_name(key) for key in groups)
        raise UserError(f"table: runs on different data cannot share a table, got {names}; choose the results of one")
    return groups[0]


def _block(model: str, runs: list[list[RunRecord]], published: PublishedTable, linear: tuple[float, float]) -> Block:
    entry = published.models[model]
    own = [group for group in runs if group[0].model == model]
    if model == "linear":
        measured = [_linear_row(linear, own[0] if own else [])]
    else:
        measured = [_measured_row(group, label, published) for group, label in zip(own, labels(own), strict=True)]
    return Block(entry.label, (*measured, _published_row(entry, published, only=not measured)))


def _linear_row(linear: tuple[float, float], runs: list[RunRecord]) -> Row:
    """Constant velocity comes with the data, so it needs no run of its own; its Δ_EQ does."""
    errors = [_error(_mean(runs, f"equivariance_error_{column}")) for column in "xv"]
    return Row("measured", (f"{linear[0]:.4f}", "1", errors[0], f"{linear[1]:.4f}", "1", errors[1], "0", _MISSING))


def _measured_row(runs: list[RunRecord], label: str, published: PublishedTable) -> Row:
    cells = [
        cell
        for column in "xv"
        for cell in (
            _estimate(_mean(runs, f"mse_{column}"), places=4),
            f"{statistics.fmean(run.metrics[f'relative_mse_{column}'] for run in runs):.3f}",
            _error(_mean(runs, f"equivariance_error_{column}")),
        )
    ]
    parts = ["measured", *([f"{len(runs)} seeds"] if len(runs) > 1 else []), *([label] if label else [])]
    return Row(", ".join(parts), (*cells, f"{runs[0].parameters:,}", _steps(runs, published)))


def _published_row(entry: PublishedModel, published: PublishedTable, *, only: bool) -> Row:
    cells: list[str] = []
    for column in "xv":
        relative = entry.relative(f"mse_{column}", published.models["linear"])
        cells.append(_estimate(entry.metrics[f"mse_{column}"]))
        cells.append(_MISSING if relative is None else "1" if relative == 1 else f"{relative:.3f}")
        cells.append(_error(entry.metrics[f"equivariance_error_{column}"]))
    steps = _MISSING if entry is published.models["linear"] else f"{published.max_steps:,}"
    return Row("published only" if only else "published", (*cells, _MISSING, steps))


def _mean(runs: list[RunRecord], metric: str) -> Estimate | None:
    values = [run.metrics[metric] for run in runs]
    if not values:
        return None
    return Estimate(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


def _estimate(estimate: Estimate | None, places: int | None = None) -> str:
    """A number and its spread; a published number keeps the digits it was printed with."""
    if estimate is None:
        return _MISSING
    numbers = [number for number in (estimate.value, estimate.std) if number is not None]
    return " ± ".join(f"{number}" if places is None else f"{number:.{places}f}" for number in numbers)


def _error(estimate: Estimate | None) -> str:
    if estimate is None:
        return _MISSING
    if estimate.value >= 1e-3 or estimate.value == 0:
        return f"{estimate.value:.3g}"
    mantissa, exponent = f"{estimate.value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def _steps(runs: list[RunRecord], published: PublishedTable) -> str:
    """Steps done, of the run's own budget where it stopped before; marked where that is less than the paper's."""
    done = sorted({run.steps_done for run in runs})
    text = f"{done[0]:,}" if len(done) == 1 else f"{done[0]:,} … {done[-1]:,}"
    if done[0] < runs[0].max_steps:
        text += f" of {runs[0].max_steps:,}"
    if runs[0].batch_size != published.batch_size:
        text += f" x {runs[0].batch_size}"
    return f"{text} {REDUCED}" if _is_reduced(runs, published) else text


def _is_reduced(runs: list[RunRecord], published: PublishedTable) -> bool:
    full = published.max_steps * published.batch_size
    return runs[0].model != "linear" and min(run.steps_done * run.batch_size for run in runs) < full


def _data_name(data: DataKey, overridden: Mapping[str, Any] | None = None) -> str:
    changes = ", ".join(f"{name}={spell(value)}" for name, value in (overridden or {}).items())
    preset = f"preset {data.preset}" + (f" with settings overridden ({changes})" if changes else "")
    return f"{preset}, horizon {data.horizon:g}, checksum {data.checksum[:8]}"


def _notes(data: DataKey, runs: list[list[RunRecord]], published: PublishedTable) -> Iterable[str]:
    records = [run for group in runs for run in group]
    yield f"Simulated data: {_data_name(data, records[0].overridden)}. Errors on test, in units of the simulation."
    yield f"{_RELATIVE}: relative to constant velocity (Linear) on the same data."
    reduced = [group for group in runs if _is_reduced(group, published)]
    budget = f"{published.max_steps:,} steps of batch {published.batch_size}"
    if reduced:
        yield f"{REDUCED} reduced budget; the published numbers were trained for {budget}."
    elif any(group[0].model != "linear" for group in runs):
        yield f"Full budget: {budget}, or more."
    if any(len(group) > 1 for group in runs):
        yield "±: standard deviation over seeds."
    yield f"Published: {published.source}."
    missing = [
        model for model in published.models if model != "linear" and all(group[0].model != model for group in runs)
    ]
    settings = settings_to_join(records)
    for model in missing:
        command = " ".join([f"se3t train experiment={published.experiment} model={model}", *settings])
        yield f"{published.models[model].label} not run: {command}"
