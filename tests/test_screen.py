"""What is printed for people: nothing is lost in a narrow terminal, and text of users stays text."""

from __future__ import annotations

import io
import re

import pytest
from rich.box import HEAVY_HEAD, SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from se3t.reporting.tables.build import named_tables, names
from se3t.reporting.tables.terminal import to_rich
from se3t.screen import Folded, Screen, bar_columns, csv_text, fixed, markdown_text, printable, say

WIDTHS = (40, 50, 60, 72, 80, 100, 200)


def drawn(content: object, width: int) -> str:
    screen = Screen(file=io.StringIO(), width=width, color_system=None)
    screen.print(content)
    text: str = screen.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(cell_len, text.splitlines())) <= width
    return text


def tokens(text: str) -> set[str]:
    """Numbers with the marks on them, however lines are broken."""
    return set(re.findall(r"[±]?[\d.,]*\d(?:e-?\d+)?[†‡ˢᵛ%]*", text))


def table(**options: object) -> Table:
    made = Table(title="title of 12 molecules", caption="5 of 7, checksum 0a1b2c3d4e5f", **options)  # type: ignore[arg-type]
    made.add_column("name of a row")
    for index in range(9):
        made.add_column(f"column {index} of words", justify="right", no_wrap=bool(index % 2))
    for row in range(4):
        made.add_row(
            f"system {row} with a long name", *(f"{row}.{index}e-{index + 5}†\n±0.{row}{index}7" for index in range(9))
        )
    return made


@pytest.mark.parametrize("width", WIDTHS)
def test_every_number_and_mark_stands_in_the_folded_table(width: int) -> None:
    wide = tokens(drawn(Folded(table()), 400))
    for options in ({}, {"box": SIMPLE_HEAD, "show_edge": False, "padding": 0}, {"box": HEAVY_HEAD}):
        assert tokens(drawn(Folded(table(**options)), width)) == wide


@pytest.mark.parametrize("name", names())
def test_tables_of_the_paper_lose_nothing_at_any_width(name: str) -> None:
    for made in named_tables(name, []):
        wide = tokens(drawn(to_rich(made), 400))
        for width in WIDTHS:
            assert tokens(drawn(to_rich(made), width)) == wide


def test_text_of_users_is_no_formula_in_csv_and_no_html_in_markdown() -> None:
    assert [csv_text(cell) for cell in ("=1+1", "+a", "-a", "@a", "\ta")] == ["'=1+1", "'+a", "'-a", "'@a", "'\ta"]
    assert [csv_text(cell) for cell in ("-1.5e-7", "+2", -3.0, None, "a=b", "-inf")] == [
        "-1.5e-7",
        "+2",
        -3.0,
        None,
        "a=b",
        "-inf",
    ]
    assert markdown_text("<b>a|b</b> [x](y)\n`c`") == r"&lt;b&gt;a\|b&lt;/b&gt; \[x\](y) \`c\`"


def test_blocks_stand_below_each_other_each_with_the_names_of_rows() -> None:
    text = drawn(Folded(table(box=SIMPLE_HEAD)), 60)
    assert text.count("title") == text.count("checksum") == 1
    assert text.count("name of a row") == text.count("system 0 with") > 1
    assert drawn(Folded(table(box=SIMPLE_HEAD)), 250).count("system 0 with a long name") == 1


TEXTS = ("[red]x", "k [/s]", "[/]", ":smile:", "\x1b[31mred", "a\rb", "\u202egnp", "\ud800", "[link=x]y[/link]")


def test_text_of_users_is_neither_markup_nor_a_command_to_the_terminal() -> None:
    for name in TEXTS:
        made = Table(title=name, caption=name)
        made.add_column(name)
        made.add_column(name)
        made.add_row(name, name)
        assert drawn(Folded(made), 80).count(printable(name)) == 6
        for screen in (Console(file=io.StringIO()), Screen(file=io.StringIO())):
            say(screen, name)
            assert screen.file.getvalue() == f"{printable(name)}\n"  # type: ignore[attr-defined]
    assert printable("\x1b[31m a\r\u202e\ud800\tb\n") == "\\x1b[31m a\\r\\u202e\\ud800\tb\n"
    assert printable("naïve 漢字 ± † ˢ Å") == "naïve 漢字 ± † ˢ Å"


@pytest.mark.parametrize("width", [80, 100])
def test_a_bar_keeps_count_and_time_and_shortens_the_name(width: int) -> None:
    screen = Screen(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    columns = (MofNCompleteColumn(table_column=fixed()), TimeRemainingColumn(compact=True, table_column=fixed()))
    bar = Progress(*bar_columns(screen, *columns), console=screen, auto_refresh=False)
    bar.add_task(
        "molecules/[red]a long name of a user's own " * 3,
        total=156250,
        completed=100000,
        note="epoch 12.3  loss 0.0123  MAE 57.1 meV",
    )
    screen.print(bar.get_renderable())
    (line,) = screen.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert line.startswith("molecules/[red]a")
    assert "━━━━" in line
    assert "100000/156250" in line
    assert "--:--" in line
    assert not re.search(r"loss 0\.0?1?2?$", line)


def test_a_table_without_columns_is_its_title_and_caption() -> None:
    assert drawn(Folded(Table(title="nothing measured", caption="0 rows")), 40).split() == [
        "nothing",
        "measured",
        "0",
        "rows",
    ]
