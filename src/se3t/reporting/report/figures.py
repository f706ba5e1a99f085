"""The figures of the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from se3t.reporting.curve_runs import METRICS, find_curve_runs
from se3t.reporting.curves import draw_curves, learning_curves
from se3t.reporting.figure3 import Trajectories, draw_figure3, load_trajectories
from se3t.reporting.figure4 import draw_figure4, load_sweep
from se3t.reporting.published import printed_names
from se3t.reporting.report.markup import Markup, element
from se3t.reporting.report.pictures import figure_element
from se3t.reporting.report.runs import FINISHED, Run
from se3t.reporting.trajectory_runs import SYSTEMS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CURVES = {"nbody": ("mse_x", "mse_v"), "scanobjectnn": ("accuracy",), "qm9": ("mae",), "molecules": ("mae",)}
"""By experiment the metrics whose learning curves are drawn."""

_MOST = 4  # models of the printed Figure 3; the three-dimensional view has all of them


def figures(runs: Sequence[Run], figure3: Path | None, figure4: Path | None) -> list[Markup]:
    """All that can be drawn; for the rest the commands that make it."""
    found = [*_figure3(figure3), *_figure4(figure4), *_curves(runs)]
    return [element("div", found, class_="gallery")]


def _figure3(path: Path | None) -> Iterable[Markup]:
    if path is None:
        yield _not_there("Figure 3 (predictions for a rotated input) needs a finished N-body run.", "se3t figure 3")
        return
    found = _as_printed(load_trajectories(path))
    names = " and ".join(model.label for model in found.models)
    yield figure_element(
        lambda: draw_figure3(found),
        f"Figure 3: input, truth and prediction of a trajectory by {names}, and below the predictions for the input "
        "rotated in steps, beside the dashed circles of a perfectly equivariant model",
        f"Figure 3. A test trajectory as {names} predict it, and the same with the input rotated: a perfectly "
        "equivariant model stays on the dashed circles.",
    )


def _as_printed(found: Trajectories) -> Trajectories:
    """With the two systems of the paper's figure where they are among many."""
    names = [printed_names()[name] for name in SYSTEMS]
    models = tuple(model for model in found.models if model.label in names)
    if len(found.models) <= 2 or len(models) < 2:
        models = found.models[:_MOST]
    return replace(found, models=tuple(sorted(models, key=lambda model: (*names, model.label).index(model.label))))


def _figure4(path: Path | None) -> Iterable[Markup]:
    if path is None:
        yield _not_there(
            "Figure 4 (accuracy of rotated objects) has not been measured yet.",
            "se3t figure 4 --out runs/figures/figure4",
        )
        return
    sweep = load_sweep(path)
    yield figure_element(
        lambda: draw_figure4(sweep),
        "Figure 4: test accuracy against the largest rotation of the test objects, trained without and with rotations",
        f"Figure 4 on {sweep.data}, {sweep.num_objects:,} test objects: accuracy against the largest test rotation.",
    )


def _curves(runs: Sequence[Run]) -> Iterable[Markup]:
    """Learning curves, a figure for each data set and metric."""
    groups: dict[tuple[str, str], list[Path]] = {}
    for run in runs:
        if run.state == FINISHED and run.experiment in _CURVES and (run.folder / METRICS).is_file():
            groups.setdefault((run.what, str(run.data.get("checksum"))), []).append(run.folder)
    if not groups:
        yield _not_there("Learning curves need a finished run.", "se3t train experiment=nbody preset=quick")
    for (what, checksum), folders in sorted(groups.items()):
        for metric in _CURVES[what.split()[0]]:
            yield figure_element(
                partial(_learning_curves, folders, metric),
                f"Learning curves of {what}: {metric} on validation against training steps",
                f"Learning curves of {what} on the data with checksum {checksum[:8]}: {metric} on validation. A star "
                "marks the weights that validation chose.",
            )


def _learning_curves(folders: Sequence[Path], metric: str) -> Figure:
    return draw_curves(learning_curves(find_curve_runs(folders, metric), metric))


def _not_there(reason: str, command: str) -> Markup:
    return element("div", element("p", reason), element("pre", command, tabindex="0"))
