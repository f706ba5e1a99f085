"""``se3t table``."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from se3t.cli.options import Parser, output, positive, seeds
from se3t.errors import UserError, did_you_mean
from se3t.screen import show

if TYPE_CHECKING:
    from se3t.reporting.tables.layout import ResultTable

_RUNS = Path("runs")
_TERMINAL = "terminal"
_EXAMPLES = (
    "se3t train experiment=nbody preset=quick, se3t train experiment=scanobjectnn data=shapes15 preset=quick, or "
    "se3t train experiment=qm9 task=homo preset=fast; se3t table 1 prints what is published"
)
_WIDTH = 140


def parser() -> Parser:
    """Flags of ``se3t table``."""
    from se3t.reporting.tables.formats import FORMATS

    parser = Parser("table")
    parser.add_argument("arguments", nargs="*")
    parser.add_argument("--preset")
    parser.add_argument("--target")
    parser.add_argument("--trials", action="store_true")
    parser.add_argument("--format", choices=(_TERMINAL, *FORMATS))
    parser.add_argument("--markdown", action="store_const", const="markdown")
    parser.add_argument("--out", type=output)
    task = parser.add_mutually_exclusive_group()
    task.add_argument("--run", action="store_true")
    task.add_argument("--plan", action="store_true")
    parser.add_argument("--seeds", type=seeds, metavar="A,B,…")
    parser.add_argument("--jobs", type=positive, metavar="N")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Print one table of the paper, or all that have run records; with ``--run`` train the missing runs first."""
    given = parser().parse_intermixed_args(list(arguments))
    asked = _asked(given)
    if given.run or given.plan:
        return _train(given, asked)
    if given.seeds is not None or given.jobs is not None:
        raise UserError(f"{'--jobs' if given.seeds is None else '--seeds'}: belongs to --run or --plan")
    if asked.settings:
        raise UserError(f"{asked.settings[0]}: a setting belongs to --run or --plan; add one of them, or leave it out")
    _write(_tables(asked.which, _results(asked.paths, given.trials), given.target, given.preset), asked)
    return 0


@dataclass(frozen=True)
class _Asked:
    """The arguments: which table (None: all), of which runs, settings of trainings, and how it is written."""

    which: str | None
    paths: tuple[Path, ...]
    settings: tuple[str, ...]
    format: str
    out: Path | None


def _asked(given: argparse.Namespace) -> _Asked:
    from se3t.reporting.tables.build import all_names, require_preset

    which = given.arguments[0] if given.arguments and given.arguments[0] in all_names() else None
    paths, settings = [], []
    for argument in given.arguments[0 if which is None else 1 :]:
        if "=" in argument and not Path(argument).exists():
            settings.append(argument)
        elif Path(argument).exists():
            paths.append(Path(argument))
        elif argument in all_names():
            hint = (
                f"leave {argument} out" if which is not None else f"write se3t table {argument} first, then the folders"
            )
            raise UserError(f"table {which or '…'} {argument}: one table at a time; {hint}")
        elif which is None and "/" not in argument:
            raise UserError(
                f"{argument}: is not a table ({did_you_mean(argument, all_names())}), and does not exist as a folder "
                "of runs"
            )
        else:
            raise UserError(f"{argument}: does not exist; expected a folder of runs or a result.json")
    if given.target == "":
        raise UserError("--target: is empty; expected the name of a property, such as --target homo")
    if given.preset is not None:
        require_preset(given.preset, which, is_run=given.run or given.plan)
    return _Asked(which, tuple(paths), tuple(settings), _format(given), given.out)


def _format(given: argparse.Namespace) -> str:
    """The format, and a check that the file can be written."""
    from se3t.files import check_writable
    from se3t.reporting.tables.formats import SUFFIXES

    if given.markdown and given.format not in (None, given.markdown):
        raise UserError(f"--markdown: cannot be combined with --format {given.format}; leave one out")
    if given.plan and (given.format or given.markdown or given.out):
        raise UserError("--plan: tells what would be run and writes no table; leave --format and --out out")
    chosen: str | None = given.format or given.markdown
    if given.out is None:
        return chosen or _TERMINAL
    if chosen is None and given.out.suffix not in SUFFIXES:
        raise UserError(f"--out {given.out}: its suffix names no format; use one of {', '.join(SUFFIXES)}, or --format")
    check_writable(given.out)
    return chosen or SUFFIXES[given.out.suffix]


# --- tables -----------------------------------------------------------------------------------------------------------


def _tables(which: str | None, results: Sequence[Path], target: str | None, preset: str | None) -> list[ResultTable]:
    from se3t.reporting.tables.build import named_tables, tables

    if which is not None:
        return named_tables(which, results, target, preset)
    result_tables = tables(results, target, preset)
    if not result_tables:
        words = [f" with {name} {value}" for name, value in (("target", target), ("preset", preset)) if value]
        raise UserError(f"table: no finished run{' and'.join(words)} there; train one: {_EXAMPLES}")
    return result_tables


def _results(paths: Sequence[Path], with_trials: bool) -> list[Path]:
    """Without the trials of sweeps below the folders, unless asked for."""
    from se3t.reporting.sweep_record import trials_among, trials_left_out
    from se3t.runs.record import find_results

    results: list[Path] = []
    for path in paths or [_RUNS]:
        results += [path] if path.is_file() else find_results(path)
    named = {path if path.is_file() else path / "result.json" for path in paths}
    trials = {} if with_trials else trials_among(path.parent for path in results if path not in named)
    if trials:
        print(f"se3t: table: {trials_left_out(trials)}", file=sys.stderr)
    return [path for path in dict.fromkeys(results) if path.parent not in trials]


def _write(tables: Sequence[ResultTable], asked: _Asked) -> None:
    from se3t.reporting.tables.formats import FORMATS
    from se3t.reporting.tables.terminal import to_rich
    from se3t.screen import console

    for reason in dict.fromkeys(reason for table in tables for reason in table.left_out):
        show(f"se3t: table: left out: {reason}", file=sys.stderr)
    if asked.format == _TERMINAL and asked.out is None:
        for table in tables:
            console().print(to_rich(table))
        return
    text = _plain(tables) if asked.format == _TERMINAL else FORMATS[asked.format](tables)
    if asked.out is None:
        print(text, end="")
        return
    from se3t.files import write_atomically

    write_atomically(asked.out, lambda file: file.write(text.encode()))
    show(f"written: {asked.out}")


def _plain(tables: Sequence[ResultTable]) -> str:
    """The text of a terminal, without colours."""
    from rich.console import Console

    from se3t.reporting.tables.terminal import to_rich

    console = Console(file=io.StringIO(), width=_WIDTH, color_system=None)
    with console.capture() as captured:
        for table in tables:
            console.print(to_rich(table))
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


# --- trainings --------------------------------------------------------------------------------------------------------


def _train(given: argparse.Namespace, asked: _Asked) -> int:
    """Train or list what is missing, and print the table of what has finished."""
    flag = "--run" if given.run else "--plan"
    if asked.which is None:
        raise UserError(f"{flag}: of which table; expected se3t table 1 {flag}, or another one in place of 1")
    if given.target is not None and asked.which != "3":
        raise UserError(f"--target: chooses a column of table 3, not of table {asked.which}")
    from se3t.suite import tables as suite

    target = [] if given.target is None else [f"task={given.target}"]
    request = suite.TableRequest(
        which=asked.which,
        preset=given.preset,
        seeds=given.seeds or (),
        workers=given.jobs,
        overrides=(*(setting for setting in asked.settings if not setting.startswith("runs=")), *target),
        runs=_folder_of_runs(asked),
    )
    if given.plan:
        suite.plan(request)
        return 0
    outcome = suite.run(request)
    preset = given.preset or suite.default_preset(asked.which)
    _write(_tables(asked.which, outcome.finished, given.target, preset), asked)
    return 1 if outcome.failed else 0


def _folder_of_runs(asked: _Asked) -> Path:
    """Where the records are, from a path or from ``runs=``."""
    from se3t.config.compose import text_of

    folders = [*asked.paths, *(Path(text_of(setting)) for setting in asked.settings if setting.startswith("runs="))]
    if len(folders) > 1 or any(path.is_file() for path in folders):
        raise UserError(f"{folders[-1]}: --run and --plan take one folder of runs, which the records are written to")
    return folders[0] if folders else _RUNS
