"""Tables as files: Markdown, CSV and JSON; numbers are rounded in Markdown only. LaTeX is in ``latex``."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from se3t.reporting.tables.latex import to_latex
from se3t.reporting.tables.layout import NOT_RUN, PUBLISHED_ONLY, Block, Cell, ResultTable, Row, TableColumn, lines
from se3t.screen import csv_text, markdown_text

_NUMBERS = ("unit", "mean", "std", "num_seeds", "seeds", "published", "published_std", "ratio", "ratio_to", "how")
_COST = ("parameters", "steps", "command")
CSV_COLUMNS = ("table", "data", "system", "setting", "metric", *_NUMBERS, *_COST)
"""Of a CSV file: one line for every number of every line of every table."""


def to_markdown(table: ResultTable) -> str:
    """The table as Markdown, its notes as a list below it."""
    head = [_line(("model", "", *table.headings)), _line(("---", "---", *["--:"] * len(table.columns)))]
    rows = [_line((block.system, line.label, *line.cells)) for block in table.blocks for line in lines(table, block)]
    notes = [f"- {markdown_text(note)}" for note in (*table.notes, *table.missing)]
    return "\n".join([f"**{markdown_text(table.title)}**", "", *head, *rows, "", *notes, ""])


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(map(markdown_text, cells)) + " |"


def to_csv(tables: Iterable[ResultTable]) -> str:
    """All numbers of some tables in long form, one a line; several values of a cell are separated by spaces (seeds,
    steps, parameters) or semicolons (how).
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for table in tables:
        for block in table.blocks:
            for row in _exported(block):
                for metric, values in _metrics(table, block, row).items():
                    names = {"table": table.name, "data": table.data, "system": block.system, "setting": row.setting}
                    cells = {**names, "metric": metric, **_spelled({**values, **_cost(row)})}
                    writer.writerow({key: csv_text(cell) for key, cell in cells.items()})
    return text.getvalue()


def to_json(tables: Iterable[ResultTable]) -> str:
    """All numbers of some tables, by system, line and metric, with the notes."""
    content = [
        {
            "table": table.name,
            "title": table.title,
            "data": table.data,
            "notes": list(table.notes),
            "missing": list(table.missing),
            "systems": [
                {"system": block.system, "lines": [_json_line(table, block, row) for row in _exported(block)]}
                for block in table.blocks
            ],
        }
        for table in tables
    ]
    return json.dumps({"tables": content}, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _json_line(table: ResultTable, block: Block, row: Row) -> dict[str, Any]:
    seeds = {"num_seeds": len(row.seeds), "seeds": list(row.seeds)}
    metrics = _metrics(table, block, row)
    return {"setting": row.setting, **seeds, **_cost(row), "records": list(row.records), "metrics": metrics}


def _exported(block: Block) -> Sequence[Row]:
    """The measured rows of a system, which include published numbers; the published one where nothing was measured."""
    measured = [row for row in block.rows if row.kind != "published"]
    return measured or block.rows


def _metrics(table: ResultTable, block: Block, row: Row) -> dict[str, dict[str, Any]]:
    """All numbers of a line by the names of their columns."""
    cells = zip(table.columns, row.cells, strict=True)
    return {column.metric: _number(table, block, row, column, cell) for column, cell in cells if column.metric}


def _number(table: ResultTable, block: Block, row: Row, column: TableColumn, cell: Cell) -> dict[str, Any]:
    is_published = row.kind == "published"
    ours, published = (None, cell.estimate) if is_published else (cell.estimate, cell.published)
    command = (block.command if is_published else cell.command) or None
    how = row.how if ours is not None else (NOT_RUN,) if command else (PUBLISHED_ONLY,) if is_published else ()
    return {
        "unit": column.unit,
        "mean": ours.value if ours else None,
        "std": ours.std if ours else None,
        "num_seeds": len(cell.seeds),
        "seeds": list(cell.seeds),
        "published": published.value if published else None,
        "published_std": published.std if published else None,
        "ratio": cell.ratio,
        "ratio_to": None if cell.ratio is None else table.reference,
        "how": list(how),
        "command": command,
    }


def _cost(row: Row) -> dict[str, Any]:
    return {name: _one(values) for name, values in (("parameters", row.parameters), ("steps", row.steps))}


def _one(values: Sequence[int]) -> int | list[int] | None:
    """The value where there is one only."""
    return list(values) if len(values) > 1 else values[0] if values else None


def _spelled(values: dict[str, Any]) -> dict[str, Any]:
    """Values of JSON as cells of CSV."""
    separators = {"how": "; "}
    return {
        name: separators.get(name, " ").join(map(str, value)) if isinstance(value, list) else value
        for name, value in values.items()
    }


FORMATS: dict[str, Callable[[Sequence[ResultTable]], str]] = {
    "markdown": lambda tables: "\n".join(map(to_markdown, tables)),
    "csv": to_csv,
    "latex": lambda tables: "\n".join(map(to_latex, tables)),
    "json": to_json,
}
"""Functions that write tables as text, by format."""
SUFFIXES = {".md": "markdown", ".csv": "csv", ".tex": "latex", ".json": "json", ".txt": "terminal"}
"""The format of a file by the end of its name."""
