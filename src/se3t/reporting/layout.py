"""What a table is, and how it and its numbers are written: for a terminal, and as Markdown."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from se3t.reporting.published import Estimate
from se3t.reporting.records import RunRecord

REDUCED = "†"
MISSING = "–"


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
    """A table of one data set: never of two. A unit follows the name of its column after a comma."""

    title: str
    columns: tuple[str, ...]
    blocks: tuple[Block, ...]
    notes: tuple[str, ...]


def to_rich(table: ResultTable) -> Table:
    """The table for a terminal of 80 columns or more, its notes as caption; a spread stands below its number."""
    rendered = Table(
        title=escape(table.title),
        caption=escape("\n".join(table.notes)),
        title_justify="left",
        caption_justify="left",
        caption_style="",
        box=SIMPLE_HEAD,
        padding=0,
    )
    rendered.add_column("", no_wrap=True)
    for column in table.columns:
        rendered.add_column(escape("\n".join(column.rsplit(", ", 1))), justify="right", overflow="fold")
    for block in table.blocks:
        rendered.add_row(escape(block.model), style="bold")
        for row in block.rows:
            label = row.label.replace(", ", ",\n  ") if "=" in row.label else row.label
            rendered.add_row(f" {escape(label)}", *(escape(cell).replace(" ± ", "\n±") for cell in row.cells))
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
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def measured_label(runs: Sequence[RunRecord], label: str) -> str:
    """The name of a line of measured numbers: over how many seeds, and ``label``, what tells it from other lines."""
    seeds = Counter(run.repeat[:-1] for run in runs).values()  # the last of what tells runs apart is the seed
    words = ["measured", f"{span(seeds)} seeds" if max(seeds) > 1 else "", label]
    return ", ".join(filter(None, words))


def mean(runs: Sequence[RunRecord], metric: str) -> Estimate | None:
    """Mean and standard deviation of a metric over runs; None when there are none."""
    values = [run.metrics[metric] for run in runs]
    if not values:
        return None
    return Estimate(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


def number(estimate: Estimate | None, places: int | None = None, mark: str = "") -> str:
    """A number with ``mark`` and its spread.

    Args:
        estimate: a published number keeps the digits it was printed with.
        places: digits after the point of a measured one; None: three digits that count.
        mark: what a note explains.
    """
    if estimate is None:
        return MISSING
    places = estimate.places if places is None else places
    places = _three_digits(estimate.value) if places is None else places
    if places > 6 or abs(estimate.value) >= 1e7:  # an own property may have any unit
        texts = [_power_of_ten(value) for value in (estimate.value, estimate.std) if value is not None]
    else:
        texts = [f"{value:.{places}f}" for value in (estimate.value, estimate.std) if value is not None]
    return " ± ".join([texts[0] + mark, *texts[1:]])


def _three_digits(value: float) -> int:
    return 3 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))


def error(estimate: Estimate | None) -> str:
    """An error of equivariance: three digits, or a power of ten."""
    if estimate is None:
        return MISSING
    if estimate.value >= 1e-3 or estimate.value == 0:
        return f"{estimate.value:.3g}"
    return _power_of_ten(estimate.value)


def _power_of_ten(value: float) -> str:
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def span(values: Iterable[int]) -> str:
    """A number, or the smallest and the largest of several."""
    found = sorted(set(values))
    return f"{found[0]:,}" if len(found) == 1 else f"{found[0]:,} … {found[-1]:,}"


def steps(runs: Sequence[RunRecord], *, batch_size: int | None, is_reduced: bool) -> str:
    """Steps done, of the run's own budget where it stopped before.

    Args:
        runs: of one line.
        batch_size: is named where the runs have another; None: is not named.
        is_reduced: marks them.
    """
    text = span(run.steps_done for run in runs)
    if min(run.steps_done for run in runs) < runs[0].max_steps:
        text += f" of {runs[0].max_steps:,}"
    if batch_size is not None and runs[0].batch_size != batch_size:
        text += f" x {runs[0].batch_size}"
    return f"{text} {REDUCED}" if is_reduced else text
