"""Tables before they are written in a format: rows of numbers, each with its spread, origin and reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from se3t.experiments.table import MISSING, Estimate, TableColumn
from se3t.reporting import spelling

REDUCED, OTHER_NETWORK = "†", "‡"
"""Signs of a budget and of a network that are not the paper's; those of data are in :mod:`se3t.experiments.table`."""
UNVERIFIED, UNVERIFIED_SIGN = "unverified", "ᵘ"
"""Word and sign of a row with a record without digest."""
NOT_RUN = "not run"

FULL, REDUCED_BUDGET, NO_TRAINING = "full budget", "reduced budget", "no training"
SMALLER, DIFFERENT = "smaller network", "other network"
PUBLISHED_ONLY = "published only"
"""How a number was obtained, in CSV and JSON."""

PUBLISHED = "published"
"""What a row of published numbers is called, and the reference of ratios unless a table has another."""

COST = (TableColumn("param."), TableColumn("steps"))
"""Columns of text; see :func:`se3t.reporting.tables.rows.cost`."""

_SPELL: dict[str, Callable[[Estimate | None, int | None, str], str]] = {
    "number": spelling.number,
    "error": lambda estimate, places, mark: spelling.error(estimate, mark),
    "relative": lambda estimate, places, mark: spelling.relative(estimate, mark),
}


@dataclass(frozen=True)
class Cell:
    """One number, or a text.

    Attributes:
        estimate: mean and standard deviation, not rounded; None where there is no number.
        seeds: whose mean it is.
        mark: signs that a note explains.
        published: the number of the paper beside a measured one.
        ratio: the number over its reference, the published one unless the table says another.
        command: makes the number that is missing.
        text: printed in place of a number.
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
        label: its printed name.
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
        """Whether it has a measured row."""
        return any(row.kind in ("measured", "baseline") for row in self.rows)


@dataclass(frozen=True)
class ResultTable:
    """A table of one data set.

    Attributes:
        name: 1, 2, 3, egnn, ablations, or own.
        title: what it shows.
        data: description of the data set; "" where nothing was run.
        columns: its columns.
        blocks: its systems, in order.
        notes: notes for its readers.
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
        """Headings of the columns; a unit follows after a comma."""
        return tuple(column.heading for column in self.columns)


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
        texts = [text_of(column, cell) for column, cell in zip(table.columns, row.cells, strict=True)]
        yield Line(row.kind, row.label, tuple(texts))
        if any(cell.ratio is not None for cell in row.cells):
            ratios = [spelling.ratio(cell.ratio, cell.mark if is_published else "") for cell in row.cells]
            yield Line("ratio", f"ours / {table.reference}", tuple(ratios))


def text_of(column: TableColumn, cell: Cell) -> str:
    """A cell as it is printed in a column."""
    if cell.text is not None:
        return cell.text
    if cell.estimate is None:
        return NOT_RUN if cell.command else MISSING
    return _SPELL[column.style](cell.estimate, column.places, cell.mark)


def shortened(table: ResultTable, hint: str) -> ResultTable:
    """The table with measured systems alone, and the published numbers of these.

    Args:
        table: a whole one.
        hint: where to find the rest.
    """
    kept = tuple(block for block in table.blocks if block.is_measured)
    left_out = [block.system for block in table.blocks if not block.is_measured and block.command]
    missing = (f"Not run: {', '.join(left_out)}. {hint}",) if left_out else ()
    notes = tuple(note for note in table.notes if note not in table.details)
    return replace(table, blocks=kept, notes=notes, missing=missing)
