"""Folders of runs that a figure is asked for."""

from __future__ import annotations

from pathlib import Path

from se3t.errors import UserError
from se3t.reporting.reading import readable, require_whole, tell_left_out
from se3t.runs import RESULT, Fields, find_results, read_result


def finished_fields(folder: Path, experiment: str, expected: str) -> Fields:
    """The result of a finished run.

    Args:
        folder: of the run.
        experiment: that it must be of.
        expected: what to do about a folder that is none of a finished run, for errors.

    Raises:
        UserError: there is no such result, it was changed after its run, or it is one of another experiment.
    """
    path = folder / RESULT
    if not path.is_file():
        raise UserError(f"{folder}: no {RESULT} in it; {expected}")
    fields = read_result(path)
    require_whole(fields)
    found = fields.text("experiment")
    if found != experiment:
        raise UserError(f"{folder}: is a run of experiment {found}, expected one of {experiment}")
    return fields


def finished_below(folder: Path, experiment: str) -> dict[Path, Fields]:
    """By folder the results of the finished runs of an experiment below another folder; others are passed over, and
    what is damaged or was changed is left out and told in the log.

    Raises:
        UserError: naming the file, when nothing there can be taken.
    """
    found = readable(find_results(folder))
    tell_left_out(found)
    return {Path(run.origin).parent: run for run in found.runs if run.content.get("experiment") == experiment}
