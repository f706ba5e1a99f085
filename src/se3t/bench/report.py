"""What every benchmark returns: rows of plain values, and how they are printed, written and drawn."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from se3t.errors import UserError
from se3t.files import write_atomically
from se3t.signals import Interrupted

if TYPE_CHECKING:
    from rich.console import Group

Row = dict[str, Any]
MISSING = "–"


@dataclass(frozen=True)
class Column:
    """A column of the printed table.

    Attributes:
        key: field of the rows.
        title: heading.
        kind: how the value is printed: ``text``, ``ms`` (seconds, shown in milliseconds), ``range`` (two of them),
            ``ratio``, ``MiB`` (bytes), ``share`` (of one, in per cent), ``error``, ``count``, ``number``.
    """

    key: str
    title: str
    kind: str = "text"


# Of a step: what several benchmarks print alike.
TIME = (Column("step", "step ms", "ms"), Column("step_quartiles", "quartiles", "range"))
PARTS = (Column("forward", "forward", "ms"), Column("backward", "backw.", "ms"))
RATIO = Column("ratio", "ratio", "ratio")
PEAK_MEMORY = Column("peak_memory", "MiB", "MiB")
ROOF = (Column("gflops", "GFLOP/s", "number"), Column("share_of_roof", "of roof", "share"))


@dataclass(frozen=True)
class Series:
    """A line, or a set of bars where ``x`` are words; ``low`` and ``high`` are quartiles."""

    name: str
    x: Sequence[Any]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclass(frozen=True)
class Panel:
    """One pair of axes of the figure."""

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    log_x: bool = False
    log_y: bool = False


@dataclass
class Report:
    """A measurement.

    Attributes:
        benchmark: word on the command line.
        title: of the table.
        columns: what is printed of the rows.
        rows: one for each thing measured: plain values, seconds and bytes.
        notes: what a reader must know, a sentence each.
        settings: what was asked for.
        machine: where it ran, see :func:`se3t.bench.machine.describe`.
        facts: results that belong to no single row, such as peaks or exponents.
        panels: the figure.
        group: field of the rows whose change starts a new section of the table.
        failures: what was not measured: kernels that compute something else than the reference, and all that a signal
            cut short; a sentence each.
    """

    benchmark: str
    title: str
    columns: Sequence[Column]
    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    settings: Row = field(default_factory=dict)
    machine: Row = field(default_factory=dict)
    facts: Row = field(default_factory=dict)
    panels: Sequence[Panel] = ()
    group: str | None = None
    failures: list[str] = field(default_factory=list)

    def to_rich(self) -> Group:
        """The table for a terminal, notes below it."""
        from rich.box import SIMPLE_HEAD
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        from se3t.screen import Folded, printable

        table = Table(title=self.title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for column in self.columns:
            is_text = column.kind == "text"
            table.add_column(column.title, justify="left" if is_text else "right", no_wrap=not is_text)
        for row, following in zip(self.rows, [*self.rows[1:], None], strict=True):
            ends = self.group is not None and following is not None and row[self.group] != following[self.group]
            table.add_row(*(shown(row.get(c.key), c.kind) for c in self.columns), end_section=ends)
        lines = [self._where(), *self.notes, *(f"FAILED: {line}" for line in self.failures)]
        return Group(Folded(table), *(Text(printable(line)) for line in lines if line))

    def to_json(self) -> str:
        """Everything but the layout of table and figure; numbers that are not finite become null."""
        content = {
            "benchmark": self.benchmark,
            "title": self.title,
            "settings": self.settings,
            "machine": self.machine,
            "facts": self.facts,
            "rows": self.rows,
            "notes": self.notes,
            "failures": self.failures,
        }
        return json.dumps(_finite(content), indent=2, ensure_ascii=False, allow_nan=False)

    def save(self, json_file: Path | None, plot_file: Path | None) -> None:
        """Write what is asked for.

        Args:
            json_file: file of :meth:`to_json`, or None.
            plot_file: figure, PNG, PDF or SVG by its ending, or None.

        Raises:
            UserError: when there is nothing to draw.
        """
        if json_file is not None:
            text = self.to_json() + "\n"
            write_atomically(json_file, lambda file: file.write(text.encode()))
        if plot_file is not None:
            from se3t.bench.plots import save_plot

            if not any(series.y for panel in self.panels for series in panel.series):
                raise UserError(f"{plot_file}: nothing was measured that can be drawn")
            save_plot(self, plot_file)

    def _where(self) -> str:
        if not self.machine:
            return ""
        return f"{self.machine['device']}, {self.machine['threads']} threads, torch {self.machine['torch']}."


@contextmanager
def until_stopped(rows: Sequence[Row], failures: list[str]) -> Iterator[None]:
    """Let a signal end the measuring, and not what was measured until then.

    Args:
        rows: of the report; where there is none yet, the signal ends the program.
        failures: of the report, takes note of the signal.
    """
    try:
        yield
    except Interrupted as stop:
        if not rows:
            raise
        failures.append(f"{stop} before everything was measured")


def shown(value: Any, kind: str) -> str:
    """A cell of the table.

    Args:
        value: what a row holds; None: not measured.
        kind: see :class:`Column`.
    """
    if value is None:
        return MISSING
    if kind == "range":
        return "–".join(_ms(bound) for bound in value)
    formats: Mapping[str, Any] = {
        "text": str,
        "ms": _ms,
        "ratio": lambda number: f"{number:.3g}",
        "MiB": lambda number: f"{number / 2**20:,.0f}",
        "share": lambda number: f"{100 * number:.0f} %" if number >= 0.1 else f"{100 * number:.2g} %",
        "error": lambda number: f"{number:.0e}" if number else "0",
        "count": lambda number: f"{number:,.0f}",
        "number": lambda number: f"{number:.3g}",
    }
    text: str = formats[kind](value)
    return text


def spread_fields(name: str, times: Any) -> Row:
    """Fields of a row for a :class:`se3t.bench.timing.Times`: ``name`` (median) and ``name_quartiles``, in seconds."""
    return {name: times.total.median, f"{name}_quartiles": [times.total.low, times.total.high]}


def series_by_name(rows: Sequence[Row], x: str, y: str, scale: float = 1.0) -> list[Series]:
    """A line for every ``name`` of the rows, with quartiles where the rows have those of ``y``.

    Args:
        rows: those without a value are passed over.
        x: field that is the abscissa.
        y: field that is the ordinate.
        scale: factor of the ordinate.
    """
    series = []
    for name in dict.fromkeys(row["name"] for row in rows):
        own = [row for row in rows if row["name"] == name and row.get(y) is not None]
        bounds = [row[f"{y}_quartiles"] for row in own if f"{y}_quartiles" in row]
        low, high = ([scale * bound[end] for bound in bounds] for end in (0, 1))
        series.append(Series(name, [row[x] for row in own], [scale * row[y] for row in own], low, high))
    return series


def ratios(rows: Sequence[Row], key: str, group: str | None = None) -> None:
    """Set ``ratio`` of every row: its ``key`` over that of the first row of its group."""
    first: dict[Any, float] = {}
    for row in rows:
        of = row[group] if group is not None else None
        if row.get(key) is not None:
            row["ratio"] = row[key] / first.setdefault(of, row[key])


def _ms(seconds: float) -> str:
    milliseconds = 1e3 * seconds
    return f"{milliseconds:.3g}" if milliseconds < 1000 else f"{milliseconds:,.0f}"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
