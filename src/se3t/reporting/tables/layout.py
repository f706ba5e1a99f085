"""What a table is, before it is written in any format: lines of numbers, each with its spread, origin and reference."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from se3t.experiments.base import OTHER_DATA, SUBSET, SYNTHETIC, VALIDATION
from se3t.reporting import spelling
from se3t.reporting.published import Estimate
from se3t.reporting.spelling import MISSING, span
from se3t.runs import RunRecord

REDUCED, OTHER_NETWORK, OTHER, VALID = "†", "‡", "ˢ", "ᵛ"
"""Signs: of a budget, of a network, of numbers on other data than the paper's, and of numbers on validation."""
UNVERIFIED, UNVERIFIED_SIGN = "unverified", "ᵘ"
"""What a line is of which some record has no digest, and its sign."""
NOT_RUN = "not run"
NOT_COMPARABLE = "not comparable with the published numbers"

FULL, REDUCED_BUDGET, NO_TRAINING = "full budget", "reduced budget", "no training"
SMALLER, DIFFERENT = "smaller network", "other network"
PUBLISHED_ONLY = "published only"
"""How a number was obtained: words of CSV and JSON, where every number has them."""

PUBLISHED = "published"
"""What a row of published numbers is called, and the reference of ratios unless a table has another."""

_SPELL: dict[str, Callable[[Estimate | None, int | None, str], str]] = {
    "number": spelling.number,
    "error": lambda estimate, places, mark: spelling.error(estimate, mark),
    "relative": lambda estimate, places, mark: spelling.relative(estimate, mark),
}


@dataclass(frozen=True)
class TableColumn:
    """A column.

    Attributes:
        label: what stands above it.
        metric: name of its numbers in CSV and JSON; "" for one of words, such as steps.
        unit: of its numbers.
        style: number, error (of equivariance) or relative.
        places: digits after the point of measured numbers; None: three digits that count.
    """

    label: str
    metric: str = ""
    unit: str = ""
    style: str = "number"
    places: int | None = None

    @property
    def heading(self) -> str:
        """Label and unit."""
        return ", ".join(filter(None, (self.label, self.unit)))

    def text(self, cell: Cell) -> str:
        """A cell as it is printed in this column."""
        if cell.text is not None:
            return cell.text
        if cell.estimate is None:
            return NOT_RUN if cell.command else MISSING
        return _SPELL[self.style](cell.estimate, self.places, cell.mark)


@dataclass(frozen=True)
class Cell:
    """One number, or words.

    Attributes:
        estimate: mean and standard deviation, not rounded; None where there is no number.
        seeds: whose mean it is.
        mark: signs that a note explains.
        published: the number of the paper that a measured one stands beside.
        ratio: the number over its reference, the published one unless the table says another.
        command: makes the number that is missing.
        text: words in place of a number.
    """

    estimate: Estimate | None = None
    seeds: tuple[int, ...] = ()
    mark: str = ""
    published: Estimate | None = None
    ratio: float | None = None
    command: str = ""
    text: str | None = None


@dataclass(frozen=True)
class Row:
    """One line.

    Attributes:
        kind: measured, baseline (needs no network), published or missing.
        label: what the line is, in words.
        cells: one for each column.
        setting: what tells it from other lines of its system; "" where there is one only.
        seeds: of its runs.
        how: how its numbers were obtained.
        parameters: of its runs' models.
        steps: that its runs were trained for.
        records: files of its runs.
    """

    kind: str
    label: str
    cells: tuple[Cell, ...]
    setting: str = ""
    seeds: tuple[int, ...] = ()
    how: tuple[str, ...] = ()
    parameters: tuple[int, ...] = ()
    steps: tuple[int, ...] = ()
    records: tuple[str, ...] = ()


@dataclass(frozen=True)
class Block:
    """All lines of one system: what was measured (one line per setting), then what is published.

    Attributes:
        system: its printed name.
        rows: its lines.
        command: trains it; "" for what is no part of this package or has been run.
    """

    system: str
    rows: tuple[Row, ...]
    command: str = ""

    @property
    def is_measured(self) -> bool:
        """Whether a line of it holds numbers of ours."""
        return any(row.kind in ("measured", "baseline") for row in self.rows)


@dataclass(frozen=True)
class ResultTable:
    """A table of one data set: never of two.

    Attributes:
        name: 1, 2, 3, egnn, ablations, or own.
        title: what it shows.
        data: the data set in words; "" where nothing was run.
        columns: its columns.
        blocks: its systems, in order.
        notes: what one must know to read it.
        missing: what was not run, each with the command that runs it.
        reference: what ratios refer to.
        left_out: for every record that could not be taken a sentence that names it.
        details: those of the notes that only the whole table needs.
    """

    name: str
    title: str
    data: str
    columns: tuple[TableColumn, ...]
    blocks: tuple[Block, ...]
    notes: tuple[str, ...]
    missing: tuple[str, ...] = ()
    reference: str = PUBLISHED
    left_out: tuple[str, ...] = ()
    details: tuple[str, ...] = ()

    @property
    def headings(self) -> tuple[str, ...]:
        """What stands above the columns; a unit follows after a comma."""
        return tuple(column.heading for column in self.columns)


@dataclass(frozen=True)
class DataFacts:
    """What a table says of its data.

    Attributes:
        title: of the table, after its number.
        name: the data in words.
        notes: what they are, and how they differ from the paper's.
        how: what the numbers are measured on, where it is not what the published ones are.
    """

    title: str
    name: str
    notes: tuple[str, ...]
    how: tuple[str, ...]

    @property
    def mark(self) -> str:
        """The signs of numbers on them."""
        return signs(self.how)


def signs(how: Iterable[str]) -> str:
    """The signs of numbers that were obtained so: on other data than the paper's, on validation."""
    words = set(how)
    return (OTHER if words & {SUBSET, SYNTHETIC, OTHER_DATA} else "") + (VALID if VALIDATION in words else "")


@dataclass(frozen=True)
class Line:
    """A line as it is printed; ``kind`` is that of its row, or ratio."""

    kind: str
    label: str
    cells: tuple[str, ...]


def lines(table: ResultTable, block: Block) -> Iterator[Line]:
    """All lines of one system as they are printed: below a measured one its ratios, where it has any.

    A ratio to a published number has the signs of the measured one.
    """
    is_published = table.reference == PUBLISHED
    for row in block.rows:
        texts = [column.text(cell) for column, cell in zip(table.columns, row.cells, strict=True)]
        yield Line(row.kind, row.label, tuple(texts))
        if any(cell.ratio is not None for cell in row.cells):
            ratios = [spelling.ratio(cell.ratio, cell.mark if is_published else "") for cell in row.cells]
            yield Line("ratio", f"ours / {table.reference}", tuple(ratios))


def shortened(table: ResultTable, hint: str) -> ResultTable:
    """The table with nothing but what was measured, and the published numbers beside that.

    Args:
        table: a whole one.
        hint: where the rest is told.
    """
    kept = tuple(block for block in table.blocks if block.is_measured)
    left_out = [block.system for block in table.blocks if not block.is_measured and block.command]
    missing = (f"Not run: {', '.join(left_out)}. {hint}",) if left_out else ()
    notes = tuple(note for note in table.notes if note not in table.details)
    return replace(table, blocks=kept, notes=notes, missing=missing)


# --- cells and lines of measured numbers ------------------------------------------------------------------------------


def mean(runs: Sequence[RunRecord], metric: str) -> Estimate | None:
    """Mean and standard deviation of a metric over runs; None when there are none."""
    values = [run.metrics[metric] for run in runs]
    if not values:
        return None
    return Estimate(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


def measured(
    runs: Sequence[RunRecord], metric: str, published: Estimate | None = None, mark: str = "", command: str = ""
) -> Cell:
    """The mean of a metric over runs, beside what is published; ``command`` makes it where there are no runs."""
    estimate = mean(runs, metric)
    seeds = tuple(sorted({run.seed for run in runs}))
    return beside(Cell(estimate, seeds, mark, command="" if runs else command), published)


def beside(cell: Cell, published: Estimate | None) -> Cell:
    """The cell with the published number that it stands beside, and its ratio to that."""
    is_comparable = cell.estimate is not None and published is not None and published.value != 0
    ratio = cell.estimate.value / published.value if is_comparable else None  # type: ignore[union-attr]
    return replace(cell, published=published, ratio=ratio)


def words(text: str) -> Cell:
    """A cell that holds no number of its own."""
    return Cell(text=text)


NO_CELL = words(MISSING)
COST = (TableColumn("param."), TableColumn("steps"))
"""Columns of words; see :func:`se3t.reporting.tables.budgets.cost`."""


def measured_row(
    runs: Sequence[RunRecord], cells: Iterable[Cell], setting: str, all_seeds: Iterable[int], how: Iterable[str]
) -> Row:
    """A line of measured numbers.

    Args:
        runs: of the line.
        cells: its numbers.
        setting: what tells it from other lines of its system.
        all_seeds: of all lines of the table, see :func:`seeds_of`.
        how: how its numbers were obtained.
    """
    label = ", ".join(filter(None, ("measured", seeds_in_words(runs, all_seeds), setting)))
    return Row("measured", label, tuple(cells), setting, how=tuple(how), **facts(runs))


def facts(runs: Sequence[RunRecord]) -> dict[str, Any]:
    """What a line tells of its runs."""
    return {
        "seeds": tuple(sorted({run.seed for run in runs})),
        "parameters": tuple(sorted({run.parameters for run in runs})),
        "steps": tuple(sorted({run.steps_done for run in runs})),
        "records": tuple(run.origin for run in runs),
    }


def seeds_of(groups: Iterable[Sequence[RunRecord]]) -> tuple[int, ...]:
    """All seeds of some lines, sorted."""
    return tuple(sorted({run.seed for group in groups for run in group}))


def seeds_in_words(runs: Sequence[RunRecord], all_seeds: Iterable[int]) -> str:
    """How many seeds; where others of the table have more or other ones, which.

    ``3 seeds``, ``2 of 3 seeds: 0, 2``; where the numbers of a line have several numbers of seeds ``1 … 2 of 2 seeds:
    0, 1``.
    """
    every, own = tuple(all_seeds), seeds_of([runs])
    by_number: dict[Any, set[int]] = {}
    for run in runs:
        by_number.setdefault(run.repeat[:-1], set()).add(run.seed)  # the last of what tells runs apart is the seed
    counts = span(len(seeds) for seeds in by_number.values())
    if own == every and counts == f"{len(own)}":
        return f"{counts} seed" + "s" * (len(own) > 1)
    return f"{counts} of {len(every)} seeds: {', '.join(map(str, own))}"


def spread_note(groups: Iterable[Sequence[RunRecord]]) -> list[str]:
    """What ± is, where a line has several seeds."""
    has_several = any(len({run.seed for run in group}) > 1 for group in groups)
    return ["±: standard deviation over seeds."] if has_several else []


def is_reduced(runs: Iterable[RunRecord], full: int) -> bool:
    """Whether some run saw fewer samples than the budget of the paper shows to a network."""
    return min(run.steps_done * run.batch_size for run in runs) < full
