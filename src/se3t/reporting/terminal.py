"""Tables for a terminal."""

from __future__ import annotations

import textwrap

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from se3t.reporting.layout import Line, ResultTable, lines

_LABEL_WIDTH = 19
_WORDS = ("steps",)
_STYLES = {"published": "dim", "ratio": "italic"}


def to_rich(table: ResultTable) -> Table:
    """The table for a terminal of 80 columns or more, its notes as caption; a spread stands below its number."""
    rendered = Table(
        title=escape(table.title),
        caption=escape("\n".join([*table.notes, *table.missing])),
        title_justify="left",
        caption_justify="left",
        caption_style="",
        box=SIMPLE_HEAD,
        padding=0,
    )
    rendered.add_column("", no_wrap=True)
    for heading in table.headings:
        is_words = heading in _WORDS  # breaks where it is too long, numbers do not
        rendered.add_column(escape(_heading(heading)), justify="right", overflow="fold", no_wrap=not is_words)
    for block in table.blocks:
        rendered.add_row(escape(block.system), style="bold")
        for line in lines(table, block):
            cells = (escape(cell).replace(" ± ", "\n±") for cell in line.cells)
            rendered.add_row(escape(_label(line)), *cells, style=_STYLES.get(line.kind, ""))
        rendered.add_section()
    return rendered


def _heading(heading: str) -> str:
    """The unit stands below the name, in two lines where it is long."""
    name, comma, unit = heading.rpartition(", ")
    return "\n".join((name, unit.replace("/(", "/\n("))) if comma else heading


def _label(line: Line) -> str:
    """What a line is, in several lines where it is long."""
    wrapped = textwrap.wrap(line.label, _LABEL_WIDTH - 1, break_long_words=False, break_on_hyphens=False)
    return "\n".join([f" {wrapped[0]}", *(f"   {rest}" for rest in wrapped[1:])])
