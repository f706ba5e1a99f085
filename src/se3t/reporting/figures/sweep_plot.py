"""The picture of a sweep: its objective against each parameter. Matplotlib is imported when it is drawn."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from se3t.config.fields import time_in_words
from se3t.config.overrides import spell
from se3t.errors import UserError
from se3t.experiments import nbody
from se3t.reporting.figures.style import (
    COLOURS,
    FAINT,
    SMALL,
    WIDTH,
    blank_figure,
    grid,
    headline,
    legend_below,
    styled,
)
from se3t.reporting.sweep_record import SweepRecord, Trial
from se3t.runs import read_json
from se3t.runs.fields import value_at

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BEST, _POINT = COLOURS[1], COLOURS[0]
_PANEL = 1.75  # inches: height of one
_TOP = 0.85  # … of title and legend
_LINES = 0.25  # … of what more the legend of a grid says
_MOST_TICKS = 9
_OUTLIER = 10.0  # objectives so many times the interquartile range above the median would leave no room for the others


def facts(record: SweepRecord) -> list[str]:
    """What every number of a sweep depends on: data, budget, split; from its first finished run, without
    what its parameters change.

    Raises:
        UserError: when a record that should be there is damaged.
    """
    measured = f"{record.metric} of validation, not test"
    finished = next((run for trial in record.trials for run in trial.runs if run.state == "finished"), None)
    path = Path(finished.folder) / "result.json" if finished is not None else Path()
    if not path.is_file():
        return [measured]
    result = read_json(path, "the result.json of a finished run")
    kind = "simulated, " if record.experiment == nbody.EXPERIMENT.name else ""
    lines = [f"data: {kind}{value_at(result, 'data.preset') or '?'}"]
    if (size := value_at(result, "data.sizes.train")) and "preset" not in record.parameters:
        lines[0] += f", {size:,} training samples"
    return [*lines, "; ".join([*_budget(record, result), measured])]


def _budget(record: SweepRecord, result: Mapping[str, Any]) -> list[str]:
    """What all trainings of a sweep have in common of it."""
    if "preset" in record.parameters:
        return []
    parts = [f"preset {result['preset']}"] if result.get("preset") else []
    steps, batch, time = (value_at(result, f"budget.{name}") for name in ("max_steps", "batch_size", "max_time"))
    if steps and "trainer.max_steps" not in record.parameters:
        size = f" x {batch}" if batch and "trainer.batch_size" not in record.parameters else ""
        limit = f" or {time_in_words(time)}" if time and "trainer.max_time" not in record.parameters else ""
        parts.append(f"{steps:,} steps{size}{limit}")
    return [", ".join(parts)] if parts else []


@styled
def draw_sweep(record: SweepRecord) -> Figure:
    """One panel for each parameter, one below another.

    Raises:
        UserError: when there is nothing to draw yet.
    """
    if not any(_value(trial) is not None for trial in record.trials):
        raise UserError(f"{record.title}: no trial has a value yet; run the sweep first")
    names = list(record.parameters)
    top = _TOP + (_LINES if record.search == "grid" else 0)
    figure = blank_figure(WIDTH, top + _PANEL * len(names))
    headline(figure, f"Sweep {record.title}", [record.experiment, *facts(record)])
    panels = figure.subplots(len(names), 1, squeeze=False)[:, 0]
    drawn: Any = None
    for axis, name in zip(panels, names, strict=True):
        if record.search == "grid":
            _draw_grid(axis, record, name)
        else:
            drawn = _draw_search(axis, record, name)
        _scale(axis, record, name)
    if drawn is not None:
        bar = figure.colorbar(drawn, ax=list(panels), pad=0.02, aspect=30)
        bar.set_label("trial")
        bar.ax.tick_params(labelsize=SMALL)
    legend_below(figure, panels[:1], columns=1 if record.search == "grid" else 2)
    return figure


def _draw_grid(axis: Any, record: SweepRecord, name: str) -> None:
    """Every run as a point; their mean at each value, over seeds and other parameters, with the standard deviation."""
    places = _places(record, name)
    values: dict[float, list[float]] = {}
    for trial in record.trials:
        values.setdefault(places[spell(trial.parameters[name])], []).extend(trial.values)
    values = {place: results for place, results in sorted(values.items()) if results}
    dots = [(place, value) for place, results in values.items() for value in results]
    axis.plot(*zip(*dots, strict=True), "o", color=FAINT, markersize=2.5, label="one run", zorder=2)
    means = [statistics.fmean(results) for results in values.values()]
    spreads = [statistics.stdev(results) if len(results) > 1 else 0.0 for results in values.values()]
    style = {"color": _POINT, "marker": "s", "elinewidth": 1}
    line = {"linestyle": "-" if _is_numeric(record, name) else "none"}
    axis.errorbar(list(values), means, yerr=spreads, label=_mean(record), zorder=3, **style, **line)
    _mark_best(axis, record, places, name)


def _mean(record: SweepRecord) -> str:
    """What the bars of a grid say, and over what."""
    both = ["seeds"] * (len(record.seeds) > 1) + ["the other parameters"] * (len(record.parameters) > 1)
    over = "\nand ".join(both)  # a longer line would not fit
    return f"mean ± standard deviation over {over}" if over else "mean"


def _draw_search(axis: Any, record: SweepRecord, name: str) -> Any:
    """Every trial as a point in the colour of its number; those that were stopped are hollow, others that have no
    result yet are crosses.
    """
    places = _places(record, name)
    numbers = [trial.number for trial in record.trials]
    shown = {"vmin": min(numbers), "vmax": max(max(numbers), 1), "cmap": "viridis", "s": 14}
    ended = [trial for trial in record.trials if trial.value is not None]
    others = [trial for trial in record.trials if trial.value is None and _value(trial) is not None]
    stopped = [trial for trial in others if trial.state == "pruned"]
    failed = [trial for trial in others if trial.state != "pruned"]

    def scatter(trials: Sequence[Trial], **style: Any) -> Any:
        x = [places[spell(trial.parameters[name])] for trial in trials]
        return axis.scatter(x, list(map(_value, trials)), c=[trial.number for trial in trials], **shown, **style)

    drawn = scatter(ended, label="finished", zorder=3)
    if stopped:
        hollow = scatter(stopped, linewidths=0.9, label="stopped early, last value", zorder=2)
        hollow.set(edgecolors=hollow.to_rgba(hollow.get_array()), facecolors="none")
    if failed:
        scatter(failed, marker="x", linewidths=0.9, label="no result, last value", zorder=2)
    _mark_best(axis, record, places, name)
    return drawn


def _mark_best(axis: Any, record: SweepRecord, places: Mapping[str, float], name: str) -> None:
    if ranking := record.ranking():
        best = ranking[0]
        label = "best combination, mean" if record.search == "grid" else "best trial"
        style = {"markersize": 9, "markerfacecolor": "none", "color": _BEST, "zorder": 4, "label": label}
        axis.plot([places[spell(best.parameters[name])]], [best.value], "o", **style)


def _value(trial: Trial) -> float | None:
    """The objective of a trial, or its last known value."""
    if trial.value is not None or not trial.history:
        return trial.value if trial.value is not None else (statistics.fmean(trial.values) if trial.values else None)
    return trial.history[-1][1]


def _scale(axis: Any, record: SweepRecord, name: str) -> None:
    places, space = _places(record, name), record.parameters[name]
    axis.set_xlabel(name)
    axis.set_ylabel(f"validation {record.metric}")
    grid(axis, "y")
    axis.margins(0.06, 0.12)  # room for the circle around the best
    if space.get("log"):
        axis.set_xscale("log")
    if step := space.get("step"):
        count = int((space["high"] - space["low"]) / step) + 1
        if count <= _MOST_TICKS:
            axis.set_xticks([space["low"] + step * index for index in range(count)])
    if "values" in space:
        axis.set_xticks(sorted(set(places.values())), list(dict.fromkeys(_labels(places))))
        axis.xaxis.minorticks_off()
        if not _is_numeric(record, name):
            axis.set_xlim(-0.5, len(places) - 0.5)
    values = [value for trial in record.trials if (value := _value(trial)) is not None]
    _limit(axis, values, record.direction)


def _labels(places: Mapping[str, float]) -> Iterable[str]:
    return [text for text, _ in sorted(places.items(), key=lambda pair: pair[1])]


def _limit(axis: Any, values: Sequence[float], direction: str) -> None:
    """Keep a few hopeless trials from squeezing all others together; a line says how many are left out."""
    if len(values) < 4:
        return
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    sign = -1 if direction == "maximize" else 1
    limit = middle + sign * _OUTLIER * max(high - low, 1e-12)
    worst = max(values) if sign > 0 else min(values)
    if sign * (worst - limit) <= 0:
        return
    inside = [value for value in values if sign * (value - limit) <= 0]
    margin = 0.08 * max(max(inside) - min(inside), 1e-12)
    axis.set_ylim(min(inside) - margin, max(inside) + margin)
    outside = len(values) - len(inside)
    text = f"{outside} off the scale, {'up' if sign > 0 else 'down'} to {worst:.3g}"
    axis.set_title(text, loc="right")


def _places(record: SweepRecord, name: str) -> dict[str, float]:
    """Positions of the values of a parameter on its axis: numbers as they are, words one after another."""
    space = record.parameters[name]
    values = space.get("values") or [trial.parameters[name] for trial in record.trials if name in trial.parameters]
    if _is_numeric(record, name):
        return {spell(value): float(value) for value in values}
    return {spell(value): float(index) for index, value in enumerate(values)}


def _is_numeric(record: SweepRecord, name: str) -> bool:
    values = record.parameters[name].get("values")
    if values is None:
        return True
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
