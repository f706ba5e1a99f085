"""Learning curves: a metric on validation against training steps. Matplotlib is imported when they are drawn."""

from __future__ import annotations

import math
import statistics
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from se3t.errors import UserError
from se3t.reporting.figures.curve_runs import Run, Series
from se3t.reporting.figures.style import (
    DASHES,
    MUTED,
    WIDTH,
    band,
    blank_figure,
    colour_of,
    grid,
    headline,
    legend_below,
    legend_columns,
    marker_of,
    styled,
)
from se3t.reporting.labels import labels
from se3t.reporting.published import paper_models, published_tables
from se3t.reporting.spelling import span
from se3t.reporting.tables.ablations import ablated_name
from se3t.reporting.tables.rows import is_reduced, steps_in_words
from se3t.runs import RunRecord
from se3t.runs.record import group_by_settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_PANELS, MAX_LINES = 4, 16
_LETTERS = 50  # per line of a title
_HEIGHT, _LINE = 2.0, 0.14  # inches
_MARKED = 6  # markers on a line, approximately
_DECADES = 0.7  # a metric with a larger range has a logarithmic axis
_CHOSEN = "chosen weights"
_UNTRAINED = {"color": MUTED, "linestyle": (0, (4, 2))}
_SHARES = ("accuracy",)  # names of metrics from 0 to 1


@dataclass(frozen=True)
class Line:
    """One system in one setting, the mean over its seeds.

    Attributes:
        label: its name in the legend.
        system: model, ablation, and whether heights are part of its input.
        seeds: how many.
        mean: of the metric on validation.
        spread: its standard deviation over the seeds; nothing for one seed.
        train: the mean of the loss on training batches; nothing for other metrics.
        best: step and metric of the weights that validation chose, for each seed where known.
        is_trained: whether it has parameters to train.
    """

    label: str
    system: tuple[str, str, bool]
    seeds: int
    mean: Series
    spread: Series
    train: Series
    best: tuple[tuple[int, float], ...]
    is_trained: bool


@dataclass(frozen=True)
class Panel:
    """The lines of one data set; of molecules, of one property of them."""

    data: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Curves:
    """What the figure shows: metric and unit, the budget, and the panels."""

    metric: str
    unit: str
    budget: str
    panels: tuple[Panel, ...]


def learning_curves(runs: Sequence[Run], metric: str) -> Curves:
    """Lines from runs of one experiment; runs on different data or with different settings never share one.

    Args:
        runs: see :func:`se3t.reporting.figures.curve_runs.find_curve_runs`.
        metric: that the runs were read for.

    Raises:
        UserError: more lines or data sets than fit, a run that is given twice, or seeds without a common step.
    """
    panels = _panels(runs)
    count = _count(panels)
    if len(panels) > MAX_PANELS or count > MAX_LINES:
        raise UserError(
            f"{count} lines on {len(panels)} data sets are more than a figure holds ({MAX_LINES} on {MAX_PANELS}); "
            "give the folders of some, or --preset"
        )
    units = {run.unit for run in runs}
    return Curves(metric, units.pop() if len(units) == 1 else "", _budget([run.record for run in runs]), panels)


def num_lines(runs: Sequence[Run]) -> int:
    """How many lines runs of one experiment make, whether they fit into a figure or not.

    Raises:
        UserError: a run that is given twice, or seeds without a common step.
    """
    return _count(_panels(runs))


def _panels(runs: Sequence[Run]) -> tuple[Panel, ...]:
    by_data: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        by_data.setdefault((run.record.data, run.record.part), []).append(run)
    groups = [by_data[key] for key in sorted(by_data, key=str)]
    return tuple(Panel(group[0].record.data_name, tuple(_lines(group))) for group in groups)


def _count(panels: Sequence[Panel]) -> int:
    return len(dict.fromkeys(line.label for panel in panels for line in panel.lines))


# --- lines ------------------------------------------------------------------------------------------------------------


def _lines(runs: Sequence[Run]) -> Iterable[Line]:
    """The lines of one panel, in the order of the paper's tables."""
    by_origin = {run.record.origin: run for run in runs}
    systems: dict[tuple[str, str, bool], list[RunRecord]] = {}
    for run in runs:
        systems.setdefault(run.record.system, []).append(run.record)
    for system in sorted(systems, key=_place):
        groups = group_by_settings(systems[system])
        for group, setting in zip(groups, _apart(groups), strict=True):
            remark = "" if any(record.parameters for record in group) else "not trained"
            label = ", ".join(filter(None, (ablated_name(*system), setting, remark)))
            yield _line(label, system, [by_origin[record.origin] for record in group])


def _place(system: tuple[str, str, bool]) -> tuple[Any, ...]:
    order, (model, ablation, height) = paper_models(), system
    return (order.index(model) if model in order else len(order), model, ablation != "none", ablation, height)


def _apart(groups: Sequence[Sequence[RunRecord]]) -> list[str]:
    """What distinguishes the lines of one system; steps and batch, which have columns in tables, come last."""
    always = tuple(dict.fromkeys(name for group in groups for run in group for name in run.always_named))
    names = labels(groups, always)
    for tell in (lambda runs: steps_in_words(runs, " steps"), lambda runs: f"batch {runs[0].batch_size}"):
        counts = Counter(names)
        parts = [tell(group) if counts[text] > 1 else "" for text, group in zip(names, groups, strict=True)]
        names = [", ".join(filter(None, both)) for both in zip(names, parts, strict=True)]
    return names


def _line(label: str, system: tuple[str, str, bool], runs: Sequence[Run]) -> Line:
    common = _common([run.valid for run in runs])
    if not common:
        raise UserError(
            f"{runs[0].folder}: has no validated step in common with {runs[-1].folder}; draw them in separate figures"
        )
    several = len(runs) > 1
    return Line(
        label=label,
        system=system,
        seeds=len(runs),
        mean={step: statistics.fmean(run.valid[step] for run in runs) for step in common},
        spread={step: statistics.stdev(run.valid[step] for run in runs) for step in common} if several else {},
        train={
            step: statistics.fmean(run.train[step] for run in runs) for step in _common([run.train for run in runs])
        },
        best=tuple((run.best_step, run.valid[run.best_step]) for run in runs if run.best_step in run.valid),
        is_trained=any(run.record.parameters for run in runs),
    )


def _common(series: Sequence[Series]) -> list[int]:
    """Steps that all seeds have, so that every mean is over the same seeds."""
    return sorted(set.intersection(*map(set, series)))


# --- words ------------------------------------------------------------------------------------------------------------


def _budget(records: Sequence[RunRecord]) -> str:
    """How the training compares with that of the paper."""
    tables = (table for table in published_tables() if table.experiment == records[0].experiment)
    trained = [record for record in records if record.parameters]
    published = next(tables, None)
    if published is None or not trained:
        return ""
    if not any(is_reduced([record], published.samples) for record in trained):
        return "full budget"
    steps, batches = (span(getattr(run, name) for run in trained) for name in ("steps_done", "batch_size"))
    return f"reduced budget: {steps} steps of batch {batches} (paper: {published.budget})"


# --- the picture ------------------------------------------------------------------------------------------------------


@styled
def draw_curves(curves: Curves) -> Figure:
    """A panel for each data set: means on validation with a band of one standard deviation, training losses thin."""
    lines = [line for panel in curves.panels for line in panel.lines]
    styles = _styles(lines)
    columns = legend_columns(styles)
    rows = math.ceil((len(styles) + 1) / columns)
    figure = blank_figure(WIDTH, 0.5 + _HEIGHT * len(curves.panels) + _LINE * rows)
    headline(figure, f"{curves.metric} on validation", _notes(curves))
    axes = figure.subplots(len(curves.panels), 1, squeeze=False)[:, 0]
    for axis, panel in zip(axes, curves.panels, strict=True):
        _draw_panel(axis, panel, curves, styles)
    axes[-1].set_xlabel("training steps")
    legend_below(figure, axes, [*styles, _CHOSEN], columns)
    return figure


def _notes(curves: Curves) -> list[str]:
    counts = sorted({line.seeds for panel in curves.panels for line in panel.lines})
    many = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    seeds = "one seed" if counts == [1] else f"mean of {many} seeds ± standard deviation"
    thin = "thin: on training batches" if any(line.train for panel in curves.panels for line in panel.lines) else ""
    data = [curves.panels[0].data] if len(curves.panels) == 1 else []
    return [*data, curves.budget, seeds, thin]


def _styles(lines: Sequence[Line]) -> dict[str, dict[str, Any]]:
    """By label: a colour for each model, dashes for its lines, a marker for each line."""
    known = paper_models()
    models = sorted({line.system[0] for line in lines if line.is_trained})
    models.sort(key=lambda name: known.index(name) if name in known else len(known))
    styles: dict[str, dict[str, Any]] = {}
    counts: Counter[str] = Counter()
    for number, line in enumerate({line.label: line for line in lines}.values()):
        if not line.is_trained:
            styles[line.label] = {}
            continue
        model = line.system[0]
        styles[line.label] = {
            "color": colour_of(models.index(model)),
            "linestyle": DASHES[counts[model] % len(DASHES)],
            "marker": marker_of(number),
        }
        counts[model] += 1
    return styles


def _draw_panel(axis: Any, panel: Panel, curves: Curves, styles: Mapping[str, dict[str, Any]]) -> None:
    for line in panel.lines:
        _draw_line(axis, line, styles[line.label])
    if len(curves.panels) > 1:
        axis.set_title("\n".join(textwrap.wrap(panel.data, _LETTERS)))
    unit = f"\n{curves.unit}" if curves.unit not in ("", "1") else ""
    axis.set_ylabel(f"{curves.metric}{unit}")
    if _is_logarithmic(curves.metric, panel):
        _logarithmic(axis)
    axis.set_xlim(left=0)
    axis.xaxis.get_major_locator().set_params(integer=True)
    grid(axis)


def _draw_line(axis: Any, line: Line, style: Mapping[str, Any]) -> None:
    if not line.is_trained:
        axis.axhline(statistics.fmean(line.mean.values()), label=line.label, linewidth=1, **_UNTRAINED)
        return
    if line.train:
        axis.plot(*_pairs(line.train), color=style["color"], linewidth=0.4, alpha=0.55, zorder=1)
    steps, means = _pairs(line.mean)
    every = max(1, len(steps) // _MARKED)
    axis.plot(steps, means, label=line.label, markersize=3, markevery=every, zorder=3, **style)
    if line.spread:
        band(axis, line.mean, line.spread, style["color"])
    if line.best:
        star = {"marker": "*", "markersize": 7, "markeredgecolor": "black", "markeredgewidth": 0.5}
        axis.plot(*zip(*line.best, strict=True), color=style["color"], linestyle="none", zorder=4, **star)
        axis.plot([], [], color="white", linestyle="none", label=_CHOSEN, **star)


def _pairs(series: Series) -> tuple[list[int], list[float]]:
    return list(series), list(series.values())


def _is_logarithmic(metric: str, panel: Panel) -> bool:
    values = [value for line in panel.lines for series in (line.mean, line.train) for value in series.values()]
    if any(word in metric for word in _SHARES) or min(values) <= 0:
        return False
    return math.log10(max(values) / min(values)) > _DECADES


def _logarithmic(axis: Any) -> None:
    """A logarithmic axis; plain numbers at its ticks where it covers few powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    axis.set_yscale("log")
    low, high = axis.get_ylim()
    if low > 1e-4 and math.log10(high / low) < 2.5:
        axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
