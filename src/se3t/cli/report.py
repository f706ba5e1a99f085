"""``se3t report``."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from se3t.cli.options import Parser, output, require_record
from se3t.errors import UserError
from se3t.screen import show

if TYPE_CHECKING:
    from se3t.reporting.report.runs import Run

_RUNS = Path("runs")
_FIGURES = "figures"  # folder of measured numbers, beside the runs
_HARMONICS = "figure of the spherical harmonics"
_LEFT_OUT = "left out of the rotated predictions"


def parser() -> Parser:
    """Flags of ``se3t report``."""
    parser = Parser("report")
    parser.add_argument("runs", type=Path, nargs="*")
    parser.add_argument("--out", type=output, default=Path("report.html"))
    for name in ("--figure3", "--figure4", "--harmonics"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--no-measure", action="store_true")
    parser.add_argument("--trials", action="store_true")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Write one HTML file about all runs below some folders."""
    given = parser().parse_intermixed_args(list(arguments))
    _require_targets(given.out, given.runs)
    from se3t.files import write_atomically
    from se3t.reporting.figures.harmonics import load_harmonics
    from se3t.reporting.report.page import Content, render
    from se3t.reporting.report.runs import find_runs
    from se3t.reporting.sweep_record import trials_among, trials_left_out
    from se3t.runs.names import DAMAGED

    paths = given.runs or [_RUNS]
    runs, folder = find_runs(paths), _folder_of_figures(paths)
    remarks = [f"{path}: no run in it" for path in given.runs if not find_runs([path])]
    trials = trials_among([run.folder for run in runs])
    if trials and not given.trials:
        remarks.append(trials_left_out(trials))
        runs, trials = [run for run in runs if run.folder not in trials], {}
    with ExitStack() as stack:
        figure3 = given.figure3
        if figure3 is None:
            figure3 = _figure3(runs, folder, stack, remarks, measures=not given.no_measure)
        shown = Content(
            runs=runs,
            sources=[str(path) for path in paths],
            made=datetime.now(UTC),
            figure3=figure3,
            figure4=given.figure4 or _figure4(_newest(folder, "figure4.json", runs), runs, remarks),
            harmonics=given.harmonics
            or _readable(_newest(folder, "harmonics.json"), lambda path: load_harmonics([path]), _HARMONICS, remarks),
            remarks=remarks,
            trials=trials,
        )
        text = render(shown)
    content = text.encode(errors="replace")  # names of files may hold any bytes
    write_atomically(given.out, lambda file: file.write(content))
    damaged = [f"left out: {run.problem}" for run in runs if run.state == DAMAGED]
    for remark in [*damaged, *remarks]:
        show(f"se3t: report: {remark}", file=sys.stderr)
    show(f"written: {given.out}")
    return 0


def _require_targets(out: Path, runs: Sequence[Path]) -> None:
    """Check the arguments before the work."""
    from se3t.files import check_writable

    check_writable(out)
    for path in runs:
        require_record(path)


def _folder_of_figures(paths: Sequence[Path]) -> Path:
    """Beside the runs: below the folder above them all."""
    roots = [path.parent if path.is_file() else path for path in paths]
    roots = [root.parent if (root / "result.json").exists() else root for root in roots]
    common = roots[0] if len(set(roots)) == 1 else Path(os.path.commonpath([root.absolute() for root in roots]))
    return common / _FIGURES


def _newest(folder: Path, name: str, runs: Sequence[Run] = ()) -> Path:
    """What was measured last: beside the runs, or in the current folder, where ``se3t figure`` writes.

    Args:
        folder: of figures beside the runs.
        name: of the file.
        runs: one of which a file of the current folder must show, where it shows runs.
    """
    files = [path for path in (folder / name, Path(name)) if path.is_file()]
    files = [path for path in files if path.parent == folder or not runs or _shows(path, runs)]
    return max(files, key=lambda path: path.stat().st_mtime, default=folder / name)


def _shows(path: Path, runs: Sequence[Run]) -> bool:
    """Whether a file of Figure 3 or 4 was measured from some of the runs."""
    from se3t.runs import read_json

    try:
        content = read_json(path, "what se3t figure wrote")
    except UserError:
        return False
    parts = content.get("points") or content.get("models")
    named = {part.get("run") for part in parts if isinstance(part, dict)} if isinstance(parts, list) else set()
    folders = {run.folder.absolute() for run in runs}
    return any(isinstance(name, str) and Path(name).absolute() in folders for name in named)


def _figure3(runs: Sequence[Run], folder: Path, stack: ExitStack, remarks: list[str], *, measures: bool) -> Path | None:
    """What the runs predict for a rotated input: as measured before where runs and weights are the same, else anew."""
    from se3t.reporting.report import view_runs

    path, (chosen, left_out) = folder / view_runs.NAME, view_runs.view_runs(runs)
    remarks += [f"{_LEFT_OUT}: {reason}" for reason in left_out]
    if view_runs.is_current(path, view_runs.sources(chosen)):
        return path
    if not measures:
        if path.is_file():
            remarks.append(f"{path} was measured from other runs or weights than the present ones")
        return next((file for file in (path, _newest(folder, "figure3.json", runs)) if file.is_file()), None)
    if not chosen:
        return None
    measured = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="se3t-"))) / path.name
    try:
        _measure(chosen, measured, remarks)
    except UserError as error:  # such as data that were deleted: the rest of the page does not need them
        remarks.append(f"no rotated predictions: {error}")
        return None
    if not (view_runs.may_be_replaced(path) and _is_writable(path)):
        return measured
    view_runs.remember(measured, view_runs.sources(view_runs.shown(measured, chosen)), path)
    return path


def _measure(runs: Sequence[Path], path: Path, remarks: list[str]) -> None:
    from se3t.measure.trajectories import trajectories

    trajectories(runs, path, progress=True, on_failure=lambda failure: remarks.append(f"{_LEFT_OUT}: {failure}"))


def _figure4(path: Path, runs: Sequence[Run], remarks: list[str]) -> Path | None:
    """The rotations measured before; a remark where runs have changed since."""
    from se3t.reporting.figures.figure4 import load_rotations

    def check(path: Path) -> None:
        load_rotations(path)
        from se3t.measure.rotations import outdated

        if reasons := outdated(path, [run.folder for run in runs]):
            changed = f"{path} was measured before runs changed: {'; '.join(reasons)}"
            remarks.append(f"{changed}; measure again: se3t figure 4")

    return _readable(path, check, "Figure 4", remarks)


def _readable(path: Path, check: Callable[[Path], object], what: str, remarks: list[str]) -> Path | None:
    """A file that was measured before; a remark says why it cannot be read, since it was not asked for."""
    if not path.is_file():
        return None
    try:
        check(path)
    except UserError as error:
        remarks.append(f"no {what}: {error}")
        return None
    return path


def _is_writable(path: Path) -> bool:
    from se3t.files import check_writable

    with suppress(UserError):
        check_writable(path)
        return True
    return False
