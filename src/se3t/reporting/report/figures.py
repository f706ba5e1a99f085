"""The figures of the page, drawn by matplotlib; in place of one that cannot be drawn is the reason."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from se3t.errors import UserError
from se3t.experiments import experiments
from se3t.reporting.figures.curve_runs import METRICS, find_curve_runs
from se3t.reporting.figures.curve_runs import Run as CurveRun
from se3t.reporting.figures.curves import MAX_LINES, draw_curves, learning_curves, num_lines
from se3t.reporting.figures.figure3 import Trajectories, draw_figure3, load_trajectories
from se3t.reporting.figures.figure4 import draw_figure4, load_rotations
from se3t.reporting.figures.harmonics import draw_harmonics, load_harmonics
from se3t.reporting.figures.style import rendered
from se3t.reporting.figures.trajectory_runs import SYSTEMS
from se3t.reporting.published import printed_names
from se3t.reporting.report.runs import Run
from se3t.runs.names import FINISHED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST = 4  # models in Figure 3 of the page; the three-dimensional view has all of them


_DPI = 200
_LARGEST_DRAWING = 200_000  # bytes; larger drawings are smaller as PNG
_PIXELS_PER_INCH = 96


class Image(NamedTuple):
    """A picture inside the page: its file as an address, what it shows for those who cannot see it, and its pixels."""

    source: str
    description: str
    width: int
    height: int


class Place(NamedTuple):
    """An entry of the gallery: a picture with its caption, or why there is none and the command that makes it."""

    text: str
    command: str = ""
    image: Image | None = None


def figures(
    runs: Sequence[Run], figure3: Path | None, figure4: Path | None, harmonics: Path | None = None
) -> list[Place]:
    """All figures that can be drawn, and the commands that make the others."""
    return [_figure3(figure3), _figure4(figure4), _harmonics(harmonics), *_curves(runs)]


def _drawn(draw: Callable[[], Figure], description: str, caption: str) -> Place:
    """A figure, as SVG where that is small, else as PNG."""
    try:
        figure = draw()
        content, kind = rendered(figure, "svg"), "svg+xml"
        if len(content) > _LARGEST_DRAWING:
            content, kind = rendered(figure, "png", _DPI), "png"
    except (ValueError, OSError) as error:  # only this figure fails, not the page
        return Place(f"Not drawn: {error}")
    source = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    width, height = (round(_PIXELS_PER_INCH * 1.5 * inches) for inches in figure.get_size_inches())
    return Place(caption, image=Image(source, description, width, height))


def _figure3(path: Path | None) -> Place:
    if path is None:
        return Place("Figure 3 (predictions for a rotated input) needs a finished N-body run.", "se3t figure 3")
    shown = _as_printed(load_trajectories(path))
    names = " and ".join(model.label for model in shown.models)
    return _drawn(
        lambda: draw_figure3(shown),
        f"Figure 3: input, truth and prediction of a trajectory by {names}, and below the predictions for the input "
        "rotated in steps, beside the dashed circles of a perfectly equivariant model",
        f"Figure 3. A test trajectory as {names} predict it, and the same with the input rotated: a perfectly "
        "equivariant model stays on the dashed circles.",
    )


def _as_printed(measured: Trajectories) -> Trajectories:
    """The trajectories of the two systems of the paper's figure, where there are more than these."""
    names = [printed_names()[name] for name in SYSTEMS]
    models = tuple(model for model in measured.models if model.label in names)
    if len(measured.models) <= 2 or len(models) < 2:
        models = measured.models[:_MOST]
    return replace(measured, models=tuple(sorted(models, key=lambda model: (*names, model.label).index(model.label))))


def _figure4(path: Path | None) -> Place:
    if path is None:
        return Place("Figure 4 (accuracy of rotated objects) has not been measured yet.", "se3t figure 4")
    rotations = load_rotations(path)
    return _drawn(
        lambda: draw_figure4(rotations),
        "Figure 4: test accuracy against the largest rotation of the test objects, trained without and with rotations",
        f"Figure 4 on {rotations.data}, {rotations.num_objects:,} test objects: accuracy against the largest test "
        "rotation.",
    )


def _harmonics(path: Path | None) -> Place:
    if path is None:
        return Place("The speed of the spherical harmonics has not been measured yet.", "se3t figure sh")
    harmonics = load_harmonics([path])
    return _drawn(
        lambda: draw_harmonics(harmonics),
        "Spherical harmonics: vectors a second and the largest relative difference from double precision, by degree",
        f"Spherical harmonics, measured on {'; '.join(harmonics.machines)}: speed and difference from values in double "
        "precision against the largest degree.",
    )


def _curves(runs: Sequence[Run]) -> Iterable[Place]:
    """Learning curves, a figure for each data set and metric."""
    groups: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        if run.state == FINISHED and run.experiment in experiments() and (run.folder / METRICS).is_file():
            groups.setdefault((run.experiment, run.what, str(run.data.get("checksum"))), []).append(run)
    if not groups:
        yield Place("Learning curves need a finished run.", "se3t train experiment=nbody preset=quick")
    for (experiment, what, checksum), group in sorted(groups.items(), key=lambda item: item[0]):
        measured = {name for run in group for name in run.metrics}
        for metric in experiments()[experiment].task.headline:
            if metric in measured:
                folders = [run.folder for run in group]
                yield from _learning_curves(f"{what} on the data with checksum {checksum[:8]}", folders, metric)


def _learning_curves(what: str, folders: Sequence[Path], metric: str) -> Iterable[Place]:
    """One figure; where that is too many lines, one for each preset."""
    try:
        runs = find_curve_runs(folders, metric)
        drawings = [("", runs, 0)] if num_lines(runs) <= MAX_LINES else _by_preset(runs)
    except UserError as error:  # only this figure fails, not the page
        yield Place(f"Learning curves of {what}, {metric}, are not drawn: {error}")
        return
    for preset, shown, left_out in drawings:
        note = f" Not shown: {left_out} lines with other settings than those of the preset." if left_out else ""
        yield _drawn(
            partial(_draw_curves, shown, metric),
            f"Learning curves of {what}{preset}: {metric} on validation against training steps",
            f"Learning curves of {what}{preset}: {metric} on validation. A star marks the weights that validation "
            f"chose.{note}",
        )


def _draw_curves(runs: Sequence[CurveRun], metric: str) -> Figure:
    return draw_curves(learning_curves(runs, metric))


def _by_preset(runs: Sequence[CurveRun]) -> list[tuple[str, list[CurveRun], int]]:
    """For each preset its name in words, its runs, and how many lines were left out: where there are still too many,
    those with other settings than the preset's.
    """
    drawings = []
    for preset in sorted({run.record.preset or "" for run in runs}):
        of_preset = [run for run in runs if (run.record.preset or "") == preset]
        shown = (
            of_preset
            if num_lines(of_preset) <= MAX_LINES
            else [run for run in of_preset if _is_as_preset(run)] or of_preset
        )
        name = f", preset {preset}" if preset else ", without preset"
        drawings.append((name, shown, num_lines(of_preset) - num_lines(shown)))
    return drawings


def _is_as_preset(run: CurveRun) -> bool:
    names = [name for name in run.record.settings if name.startswith(("model.", "optim.", "trainer."))]
    return not any(run.record.is_overridden(name) for name in names)
