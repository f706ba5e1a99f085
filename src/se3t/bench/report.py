"""What every benchmark returns: rows of plain values, and how they are printed and written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from se3t.files import write_atomically
from se3t.runs.files import finite
from se3t.signals import Interrupted

if TYPE_CHECKING:
    from rich.console import Group

    from se3t.bench.timing import Times

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


@dataclass
class Report:
    """A measurement.

    Attributes:
        benchmark: word on the command line.
        title: of the table.
        columns: what is printed of the rows; one that no row has a field for is left out.
        rows: one for each thing measured: plain values, seconds and bytes.
        notes: what a reader must know, a sentence each.
        settings: what was asked for.
        machine: where it ran, see :meth:`se3t.bench.options.Options.in_force`.
        facts: results that belong to no single row, such as peaks or exponents.
        group: field of the rows whose change starts a new section of the table.
        failures: what was not measured: kernels that compute something else than the reference, and all that a signal
            cut short; a sentence each.
    """

    benchmark: str
    title: str
    columns: Sequence[Column]
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    settings: Row = field(default_factory=dict)
    machine: Row = field(default_factory=dict)
    facts: Row = field(default_factory=dict)
    group: str | None = None
    failures: list[str] = field(default_factory=list)

    def to_rich(self) -> Group:
        """The table for a terminal, with the notes below it."""
        from rich.box import SIMPLE_HEAD
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        from se3t.screen import Folded, printable

        table = Table(title=self.title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        columns = [column for column in self.columns if any(column.key in row for row in self.rows)]
        for column in columns:
            is_text = column.kind == "text"
            table.add_column(column.title, justify="left" if is_text else "right", no_wrap=not is_text)
        for row, following in zip(self.rows, [*self.rows[1:], None], strict=True):
            ends = self.group is not None and following is not None and row[self.group] != following[self.group]
            table.add_row(*(shown(row.get(c.key), c.kind) for c in columns), end_section=ends)
        where = "{device}, {threads} threads, torch {torch}.".format(**self.machine) if self.machine else ""
        lines = [where, *self.notes, *(f"FAILED: {line}" for line in self.failures)]
        return Group(Folded(table), *(Text(printable(line)) for line in lines if line))

    def to_json(self) -> str:
        """Everything but the layout of table and figure; numbers that are not finite become null."""
        names = ("benchmark", "title", "settings", "machine", "facts", "rows", "notes", "failures")
        content = {name: getattr(self, name) for name in names}
        return json.dumps(finite(content), indent=2, ensure_ascii=False, allow_nan=False)

    def save(self, file: Path) -> None:
        """Write :meth:`to_json` to a file."""
        write_atomically(file, lambda stream: stream.write(f"{self.to_json()}\n".encode()))


@contextmanager
def until_stopped(rows: Sequence[Row], failures: list[str]) -> Iterator[None]:
    """End the measuring at a signal, and keep what was measured before.

    Args:
        rows: of the report; where there is none yet, the signal ends the program.
        failures: of the report, where the signal is noted.
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
    formats: dict[str, Callable[[Any], str]] = {
        "text": str,
        "ms": _ms,
        "ratio": lambda number: f"{number:.3g}",
        "MiB": lambda number: f"{number / 2**20:,.0f}",
        "share": lambda number: f"{100 * number:.0f} %" if number >= 0.1 else f"{100 * number:.2g} %",
        "error": lambda number: f"{number:.0e}" if number else "0",
        "count": lambda number: f"{number:,.0f}",
        "number": lambda number: f"{number:.3g}",
    }
    return formats[kind](value)


def time_fields(times: Times, name: str = "step") -> Row:
    """Fields of a row, in seconds: ``name`` (median), ``name_quartiles``, forward and backward of a step, and rounds.

    Args:
        times: what was measured.
        name: of the whole.
    """
    parts = zip(("forward", "backward"), (part.median for part in times.parts), strict=False)
    whole = {name: times.total.median, f"{name}_quartiles": [times.total.low, times.total.high]}
    return {**whole, **dict(parts), "rounds": times.rounds}


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
