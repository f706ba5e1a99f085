"""Terminal output: user text is printed literally, and wide tables are folded on narrow terminals."""

from __future__ import annotations

import copy
import html
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.measure import Measurement
from rich.progress import BarColumn, ProgressColumn, Task
from rich.table import Column, Table
from rich.text import Text

_PIPE = 140
_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # control, bidirectional and surrogate characters
_FORMULA = re.compile(r"[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(inf|nan)", re.IGNORECASE)
_MARKED = re.compile(r"[|\[\]`\\]")
_NARROW = 12  # least terminal columns for the names of rows


def printable(text: str) -> str:
    """User text for a terminal: control characters are shown as escapes."""
    return "".join(map(_printable, text))


def one_line(text: str) -> str:
    """The same on one line: line ends and tabs are shown as escapes."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def show(text: str, *, file: Any = None, flush: bool = False) -> None:
    """Write lines of text, by default to standard output, with control characters escaped."""
    stream = sys.stdout if file is None else file
    stream.write(f"{printable(text)}\n")
    if flush:
        stream.flush()


def csv_text(cell: Any) -> Any:
    """A cell of a CSV file: text that a spreadsheet would read as a formula gets a leading apostrophe."""
    return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) and not _NUMBER.fullmatch(cell) else cell


def markdown_text(text: str) -> str:
    """Text escaped for a Markdown table cell: no HTML, no links, no cell separators."""
    return _MARKED.sub(r"\\\g<0>", html.escape(" ".join(printable(text).split()), quote=False))


def _printable(character: str) -> str:
    if character in "\n\t" or unicodedata.category(character) not in _HIDDEN:
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


class Screen(Console):
    """A console that prints text literally: no markup, emoji codes or control characters.

    Args:
        options: of :class:`rich.console.Console`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """The text with control characters escaped."""
        return super().render_str(printable(text), **options)


def console(*, stderr: bool = False) -> Screen:
    """The terminal at its width; a file or pipe gets a fixed width that fits a table."""
    terminal = Screen(stderr=stderr)
    return terminal if terminal.is_terminal else Screen(stderr=stderr, width=_PIPE)


def say(screen: Console, text: str) -> None:
    """Print lines of text; the terminal wraps them."""
    screen.print(Text(printable(text)), soft_wrap=True)


def table(columns: Sequence[str], rows: Iterable[Iterable[str]], *, num_left: int = 1, **options: Any) -> Table:
    """A table whose first ``num_left`` columns are aligned to the left, the others to the right.

    Args:
        columns: their headings.
        rows: their cells.
        num_left: number of columns of words.
        options: of :class:`rich.table.Table`.
    """
    made = Table(title_justify="left", caption_justify="left", **options)
    for place, heading in enumerate(columns):
        made.add_column(heading, justify="left" if place < num_left else "right")
    for row in rows:
        made.add_row(*row)
    return made


class Folded:
    """A table that is folded if too wide: blocks of columns below each other, each with the first column.

    Numbers and words are never cut; text wraps between words and is printed literally. The title is above the first
    block, the caption below the last.

    Args:
        table: its first column names the rows.
    """

    def __init__(self, table: Table) -> None:
        self.table = table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
        if self.table.title:
            yield _text(self.table.title, "table.title")
        for number, block in enumerate(self._blocks(console, options)):
            yield from [Text(), block] if number else [block]
        if self.table.caption:
            yield _text(self.table.caption, "" if self.table.caption_style == "" else "table.caption")

    def _blocks(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        if not self.table.columns:
            return
        first, *others = (self._extent(console, options, column) for column in self.table.columns)
        room = options.max_width - self._extra(1)
        most = sum(extent.maximum for extent in (first, *others))
        if most + self._extra(len(others) + 1) <= options.max_width:
            yield self._block([first, *others], range(len(others) + 1))
            return
        widest = max((extent.minimum for extent in others), default=0)
        name = max(min(first.maximum, room // 3), min(first.minimum, room - widest - self._gap), _NARROW)
        name = min(name, first.maximum)
        for columns in self._parts(others, room - name):
            left = room - name - sum(others[index].minimum + self._gap for index in columns)
            yield self._block(
                [Measurement(name, name), *_widened(others, columns, left)], [0, *(i + 1 for i in columns)]
            )

    def _parts(self, others: Sequence[Measurement], room: int) -> list[list[int]]:
        """Numbers of the columns of each block."""
        parts: list[list[int]] = [[]]
        left = room
        for index, extent in enumerate(others):
            if parts[-1] and extent.minimum + self._gap > left:
                parts.append([])
                left = room
            parts[-1].append(index)
            left -= extent.minimum + self._gap
        return parts

    def _block(self, extents: Sequence[Measurement], columns: Sequence[int]) -> Table:
        block = copy.copy(self.table)
        block.title = block.caption = None
        block.columns = []
        for index, extent in zip(columns, extents, strict=True):
            column = copy.copy(self.table.columns[index])
            column.width, column.overflow, column.no_wrap = extent.maximum, "fold", False
            column.header, column._cells = _text(column.header), [_text(cell) for cell in column.cells]
            column._index = len(block.columns)
            block.columns.append(column)
        return block

    def _extent(self, console: Console, options: ConsoleOptions, column: Column) -> Measurement:
        """Longest word and longest line of a column; for a column without wrapping the longest line is both."""
        texts = [_text(cell) for cell in (column.header, *column.cells)]
        wide = options.update(max_width=10_000)
        extents = [Measurement.get(console, wide, text) for text in texts]
        longest = max(extent.maximum for extent in extents)
        if column.no_wrap:
            longest_cell = max((extent.maximum for extent in extents[1:]), default=0)
            return Measurement(max(longest_cell, extents[0].minimum), longest)
        return Measurement(max(extent.minimum for extent in extents), longest)

    @property
    def _gap(self) -> int:
        return self._extra(2) - self._extra(1)

    def _extra(self, count: int) -> int:
        """Terminal columns taken by padding and borders of ``count`` columns."""
        table, (_, right, _, left) = self.table, self.table.padding
        padding = count * (left + right) - (0 if table.pad_edge else left + right)
        if table.collapse_padding and count > 1:
            padding -= (count - 1) * min(left, right)
        edges = 2 if table.box and table.show_edge else 0
        return padding + edges + (count - 1 if table.box else 0)


def _widened(others: Sequence[Measurement], columns: Sequence[int], left: int) -> Iterator[Measurement]:
    """Columns of a block, widened from the first on by the width left."""
    for index in columns:
        extra = min(max(left, 0), others[index].maximum - others[index].minimum)
        left -= extra
        yield Measurement(others[index].minimum, others[index].minimum + extra)


def _text(cell: Any, style: str = "") -> Text:
    cell_style = cell.style if isinstance(cell, Text) else ""
    return Text(printable(str(cell)), style or cell_style, overflow="fold")


# --- bars of progress -------------------------------------------------------------------------------------------------


def fixed() -> Column:
    """A column of a progress bar that keeps its width."""
    return Column(no_wrap=True)


def bar_columns(screen: Console, *between: ProgressColumn) -> list[ProgressColumn]:
    """Columns of a progress bar that fits the terminal: name, bar, ``between``, and the field ``note``.

    A long name is shortened, and the note shows as many parts as fit.
    """
    return [_Name(screen), BarColumn(min(20, screen.width // 4), table_column=fixed()), *between, _Note()]


class _Name(ProgressColumn):
    def __init__(self, screen: Console) -> None:
        super().__init__(fixed())
        self.screen = screen

    def render(self, task: Task) -> Text:
        text = Text(printable(task.description))
        text.truncate(self.screen.width // 3, overflow="ellipsis")
        return text


class _Note(ProgressColumn):
    def render(self, task: Task) -> Any:
        return _Parts(printable(task.fields.get("note", "")).split("  "))


class _Parts:
    """Parts of a line; as many as fit are shown."""

    def __init__(self, parts: Sequence[str]) -> None:
        self.parts = parts

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
        fitting = [line for line in accumulate(self.parts, "{}  {}".format) if cell_len(line) <= options.max_width]
        yield Text(fitting[-1] if fitting else "", no_wrap=True)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(0, cell_len("  ".join(self.parts)))
