"""Tables for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.table import Table

from se3t.reporting.tables.layout import COST, Line, ResultTable, lines
from se3t.screen import Folded

_WIDTH = 80
_LABELS = (18, 20)  # the narrowest and the widest that labels become
_WORDS = tuple(column.heading for column in COST)
_STYLES = {"published": "dim", "ratio": "italic"}


def to_rich(table: ResultTable) -> Folded:
    """The table for a terminal, its notes as caption; a spread is printed below its number."""
    rendered = Table(
        title=table.title,
        caption="\n".join(["", *table.notes, *table.missing]),
        title_justify="left",
        caption_justify="left",
        caption_style="",
        box=SIMPLE_HEAD,
        show_edge=False,
        padding=0,
    )
    printed = {block.system: list(lines(table, block)) for block in table.blocks}
    width = _label_width(table.headings, [line for rows in printed.values() for line in rows])
    rendered.add_column("", no_wrap=True)
    for heading in table.headings:
        is_words = heading in _WORDS  # breaks where it is too long, numbers do not
        rendered.add_column(_heading(heading), justify="right", no_wrap=not is_words)
    for system, rows in printed.items():
        rendered.add_row("\n".join(textwrap.wrap(system, width)), style="bold")
        for line in rows:
            cells = map(_stacked, line.cells)
            rendered.add_row(_label(line, width), *cells, style=_STYLES.get(line.kind, ""))
        rendered.add_section()
    return Folded(rendered)


def _label_width(headings: Sequence[str], printed: Sequence[Line]) -> int:
    """How much of 80 columns the numbers leave."""
    columns = zip(map(_heading, headings), *(map(_stacked, line.cells) for line in printed), strict=True)
    numbers = sum(1 + max(cell_len(part) for text in column for part in text.split("\n")) for column in columns)
    return min(max(_WIDTH - numbers, _LABELS[0]), _LABELS[1])


def _stacked(cell: str) -> str:
    """The spread is printed below the number."""
    return cell.replace(" ± ", "\n±")


def _heading(heading: str) -> str:
    """The unit is printed below the name, in two lines where it is long."""
    name, comma, unit = heading.rpartition(", ")
    return "\n".join((name, unit.replace("/(", "/\n("))) if comma else heading


def _label(line: Line, width: int) -> str:
    """What a line is, in several lines where it is long."""
    wrapped = textwrap.wrap(line.label, width - 1, break_long_words=False, break_on_hyphens=False)
    return "\n".join([f" {wrapped[0]}", *(f"   {rest}" for rest in wrapped[1:])])
