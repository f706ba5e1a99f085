"""Folders of runs that a figure is asked for."""

from __future__ import annotations

from pathlib import Path

from se3t.errors import UserError
from se3t.reporting.records import Fields, find_results, finished


def finished_fields(folder: Path, experiment: str, expected: str) -> Fields:
    """The result of a finished run.

    Args:
        folder: of the run.
        experiment: that it must be of.
        expected: what to do about a folder that is none of a finished run, for errors.

    Raises:
        UserError: there is no such result, or it is one of another experiment.
    """
    path = folder / "result.json"
    if not path.is_file():
        raise UserError(f"{folder}: no result.json in it; {expected}")
    runs = finished([path])
    if not runs:
        raise UserError(f"{path}: the run is not finished; {expected}")
    found = runs[0].text("experiment")
    if found != experiment:
        raise UserError(f"{folder}: is a run of experiment {found}, expected one of {experiment}")
    return runs[0]


def finished_below(folder: Path, experiment: str) -> dict[Path, Fields]:
    """By folder the results of the finished runs of an experiment below another folder; others are passed over.

    Raises:
        UserError: naming the file, when one cannot be read.
    """
    below = {result.parent: run for result in find_results(folder) for run in finished([result])}
    return {path: run for path, run in below.items() if run.content.get("experiment") == experiment}
