"""``se3t runs``."""

from __future__ import annotations

import difflib
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from se3t.cli.options import Parser, require_record
from se3t.errors import UserError, did_you_mean
from se3t.screen import show

if TYPE_CHECKING:
    from se3t.reporting.report.runs import Run

_RUNS = Path("runs")
_COMPARE = "compare"


def parser() -> Parser:
    """Flags of ``se3t runs``."""
    parser = Parser("runs")
    parser.add_argument("arguments", nargs="*")
    parser.add_argument("--state")
    parser.add_argument("--format", choices=("text", "csv", "json"), default="text")
    return parser


def run(arguments: Sequence[str]) -> int:
    """List runs, or compare some."""
    given = parser().parse_intermixed_args(list(arguments))
    if given.arguments[:1] == [_COMPARE]:
        if given.state is not None or given.format != "text":
            raise UserError("runs compare: takes folders only; leave --state and --format out")
        return _compare([Path(argument) for argument in given.arguments[1:]])
    settings = [argument for argument in given.arguments if "=" in argument and not Path(argument).exists()]
    paths = [Path(argument) for argument in given.arguments if argument not in settings]
    return _list(paths, settings, given.state, given.format)


def _list(paths: Sequence[Path], settings: Sequence[str], states: str | None, form: str) -> int:
    from se3t.reporting.report.runs import find_runs
    from se3t.reporting.run_texts import listed, to_csv, to_json

    for path in paths:
        require_record(path, ", key=value")
    wanted = _states(states)
    runs = find_runs(paths or [_RUNS])
    kept = [run for run in _with_settings(runs, settings) if not wanted or run.state in wanted]
    kept.sort(key=lambda run: (-run.changed, str(run.folder)))
    if form != "text":
        print({"csv": to_csv, "json": to_json}[form](kept), end="")
    elif kept:
        show("\n".join(listed(kept, _width(), time.time())))
    else:
        where = ", ".join(map(str, paths or [_RUNS]))
        show(f"no run in {where}" if not runs else f"none of the {len(runs)} runs in {where} fits")
    return 0


def _compare(paths: Sequence[Path]) -> int:
    from se3t.reporting.report.runs import read_run
    from se3t.reporting.run_texts import compared
    from se3t.runs import RunFolder
    from se3t.runs.names import DAMAGED

    if len(paths) < 2:
        raise UserError("runs compare: expected two run folders or more: se3t runs compare <run folder> <run folder>")
    for path in paths:
        require_record(path, ", key=value")
    runs = []
    for path in paths:
        folder = path.parent if path.is_file() else path
        if not RunFolder(folder).is_run:
            raise UserError(f"{path}: is no run folder; expected one such as runs/nbody/tfn/0-1a2b3c4d")
        runs.append(read_run(folder))
        if runs[-1].state == DAMAGED:
            raise UserError(f"runs compare: {folder} is damaged: {runs[-1].problem}")
    show("\n".join(compared(runs, _width())))
    return 0


def _states(text: str | None) -> list[str]:
    from se3t.runs.names import STATES

    states = [] if text is None else text.split(",")
    for state in states:
        if state not in STATES:
            raise UserError(f"--state {state}: unknown; {did_you_mean(state, STATES)}")
    return states


def _with_settings(runs: Sequence[Run], overrides: Sequence[str]) -> list[Run]:
    """The runs that have all of some settings, which are written as for ``se3t train``."""
    from se3t.config import setting_names
    from se3t.config.overrides import spell
    from se3t.config.settings import flatten

    flat = [{name: spell(value) for name, value in flatten(run.config)} for run in runs]
    for settings, run in zip(flat, runs, strict=True):
        settings |= {"experiment": run.experiment, "model": run.model, "task": settings.get("task.target", "")}
        settings |= {"data": settings.get("data.name", ""), "preset": run.preset or "null"}
    known = {*setting_names(), "experiment", "model", "preset", "task", "data"}.union(*flat)
    kept = list(range(len(runs)))
    for override in overrides:
        name, _, value = override.partition("=")
        if name not in known:
            raise UserError(f"{override}: no run has such a setting; {_hint(name, known)}")
        kept = [index for index in kept if _is_one_of(flat[index].get(name), value)]
    return [runs[index] for index in kept]


def _hint(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else "se3t train --cfg job prints them"


def _is_one_of(value: str | None, wanted: str) -> bool:
    """Whether a value is the one wanted, or one of several with commas between them."""
    return any(_is_equal(value, text) for text in (wanted, *wanted.split(",")))


def _is_equal(value: str | None, wanted: str) -> bool:
    """Whether two spellings are of one value: 1e-3 is 0.001."""
    if value is None or value == wanted:
        return value == wanted
    try:
        return float(value) == float(wanted)
    except ValueError:
        return False


def _width() -> int:
    from se3t.screen import console

    return console().width
