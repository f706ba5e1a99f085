"""Tables of measured and published numbers as HTML: nothing else of the page knows what such a table is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from se3t.reporting.report.markup import Markup, element
from se3t.reporting.tables.layout import Block, Line, ResultTable, lines


def result_table(table: ResultTable) -> Markup:
    """A table with its caption, its notes, and the commands of what was not run."""
    rows = [_block(table, block) for block in table.blocks]
    data = element("span", table.data, class_="data") if table.data else None
    caption = element("caption", element("div", table.title, data))
    body = element("table", caption, _head(table), rows, class_="results")
    region = element("div", body, class_="scroll", tabindex="0", role="region", aria_label=table.title)
    return element("div", region, _notes(table.notes), _missing(table.missing), class_="result")


def _head(table: ResultTable) -> Markup:
    heads = [element("th", _heading(heading), scope="col") for heading in table.headings]
    return element("thead", element("tr", element("th", "system", scope="col"), heads))


def _heading(text: str) -> list[Markup | str | None]:
    """A unit stands below its column."""
    name, comma, unit = text.rpartition(", ")
    return [name, element("br"), element("small", unit)] if comma else [text]


def _block(table: ResultTable, block: Block) -> Markup:
    name = element("th", block.system, colspan=len(table.columns) + 1, scope="rowgroup")
    printed = [_line(line) for line in lines(table, block)]
    return element("tbody", element("tr", name, class_="system"), printed)


def _line(line: Line) -> Markup:
    cells = [element("td", text, class_="number") for text in line.cells]
    return element("tr", element("th", line.label, scope="row"), cells, class_=line.kind)


def _notes(notes: Iterable[str]) -> Markup | None:
    items = [element("li", note) for note in notes]
    return element("ul", items, class_="notes") if items else None


def _missing(missing: Sequence[str]) -> Markup | None:
    """What was not run, folded: the commands are long."""
    if not missing:
        return None
    items = [element("li", _with_command(text)) for text in missing]
    summary = element("summary", "What was not run here, and the commands that run it")
    return element("details", summary, element("ul", items))


def _with_command(text: str) -> list[Markup | str]:
    before, command, after = text.partition("se3t ")
    return [before, element("code", command + after)] if command else [text]
