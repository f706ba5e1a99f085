"""The figure of a benchmark, drawn from the rows of its report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from se3t.bench.report import Report, Row
from se3t.errors import UserError, did_you_mean
from se3t.reporting.figures.style import (
    COLOURS,
    blank_figure,
    colour_of,
    grid,
    headline,
    legend_below,
    marker_of,
    styled,
    write,
)

SUFFIXES = (".png", ".pdf", ".svg")
_HATCHES = ("", "//", "..")  # of the first bars, as many as there are colours, the next ones …
_PER_ROW = 3


@dataclass(frozen=True)
class Series:
    """A line, or a set of bars where ``x`` are words; ``low`` and ``high`` are quartiles."""

    name: str
    x: Sequence[Any]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclass(frozen=True)
class Panel:
    """One pair of axes of the figure."""

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    log_x: bool = False
    log_y: bool = False


def series_by_name(rows: Sequence[Row], x: str, y: str, scale: float = 1.0) -> list[Series]:
    """A line for every ``name`` of the rows, with quartiles where the rows have those of ``y``.

    Args:
        rows: those without a value are skipped.
        x: field that is the abscissa.
        y: field that is the ordinate.
        scale: factor of the ordinate.
    """
    series = []
    for name in dict.fromkeys(row["name"] for row in rows):
        own = [row for row in rows if row["name"] == name and row.get(y) is not None]
        bounds = [row[f"{y}_quartiles"] for row in own if f"{y}_quartiles" in row]
        low, high = ([scale * bound[end] for bound in bounds] for end in (0, 1))
        series.append(Series(name, [row[x] for row in own], [scale * row[y] for row in own], low, high))
    return series


# --- what is drawn of each benchmark ----------------------------------------------------------------------------------


def _step(rows: Sequence[Row]) -> list[Panel]:
    workloads = list(dict.fromkeys(row["workload"] for row in rows))
    own = {name: [row for row in rows if row["workload"] == name] for name in workloads}
    return [
        *(
            Panel(f"training step, {name}", "", "ms", series_by_name(part, "workload", "step", 1e3))
            for name, part in own.items()
        ),
        *_memory(rows),
        Panel("share of the tighter roof", "", "%", series_by_name(rows, "workload", "share_of_roof", 100.0)),
    ]


def _memory(rows: Sequence[Row]) -> list[Panel]:
    series = series_by_name(rows, "workload", "peak_memory", 2.0**-20)
    return [Panel("peak memory", "", "MiB", series, log_y=len({row["workload"] for row in rows}) > 1)]


def _layer(rows: Sequence[Row]) -> list[Panel]:
    fields = {"channels": "channels", "degrees": "num_degrees", "edges": "num_edges"}
    return [
        _sweep(rows, sweep, fields[sweep], sweep, "step", log_x=sweep != "degrees")
        for sweep in dict.fromkeys(row["sweep"] for row in rows)
    ]


def _scaling(rows: Sequence[Row]) -> list[Panel]:
    return [
        _sweep(rows, sweep, *axis, y, log_x=sweep != "degree")
        for y in ("step", "peak_memory")
        for sweep in dict.fromkeys(row["sweep"] for row in rows)
        for axis in [("max_degree", "largest type") if sweep == "degree" else ("num_edges", "edges")]
    ]


def _sweep(rows: Sequence[Row], sweep: str, x: str, x_label: str, y: str, log_x: bool) -> Panel:
    scale, y_label = (1e3, "ms") if y == "step" else (2.0**-20, "MiB")
    series = series_by_name([row for row in rows if row["sweep"] == sweep], x, y, scale)
    return Panel(f"over {sweep}", x_label, y_label, series, log_x=log_x, log_y=True)


def _data(rows: Sequence[Row]) -> list[Panel]:
    named = [{**row, "name": f"{row['store']}, {row['name']}"} for row in rows]
    series = series_by_name(named, "batch_size", "per_second")
    return [Panel("one core", "samples in a batch", "batches / s", series, log_x=True, log_y=True)]


def _clouds(rows: Sequence[Row]) -> list[Panel]:
    return [
        Panel("training step", "", "ms", series_by_name(rows, "case", "step", 1e3)),
        Panel("sampling and kNN", "", "% of the step", series_by_name(rows, "case", "share_of_data", 100.0)),
        Panel("peak memory", "", "MiB", series_by_name(rows, "case", "peak_memory", 2.0**-20)),
    ]


def _train(rows: Sequence[Row]) -> list[Panel]:
    return [Panel("training step", "", "ms", series_by_name(rows, "case", "step", 1e3))]


def _sh(rows: Sequence[Row]) -> list[Panel]:
    passes = list(dict.fromkeys(row["what"] for row in rows))
    worst: dict[str, float] = {}
    for row in rows:
        if row["what"] == passes[0]:
            worst[row["name"]] = max(row["difference"], worst.get(row["name"], 0.0))
    named = [{**row, "name": f"{row['name']} (differs by {worst.get(row['name'], 0.0):.0e})"} for row in rows]
    return [
        Panel(
            what,
            "degrees 0 … J",
            "10⁶ vectors / s",
            series_by_name([row for row in named if row["what"] == what], "degree", "per_second"),
            log_y=True,
        )
        for what in passes
    ]


PANELS: Mapping[str, Callable[[Sequence[Row]], list[Panel]]] = {
    "step": _step,
    "layer": _layer,
    "scaling": _scaling,
    "memory": _memory,
    "data": _data,
    "clouds": _clouds,
    "sh": _sh,
    "train": _train,
}


# --- the picture ------------------------------------------------------------------------------------------------------


def check_suffix(path: Path) -> None:
    """Refuse a file whose ending is not a format of pictures.

    Raises:
        UserError: when it does not.
    """
    if path.suffix.lower() not in SUFFIXES:
        what = path.suffix or "a file without ending"
        raise UserError(f"{path}: cannot draw {what}; {did_you_mean(path.suffix, SUFFIXES)}")


def save_plot(report: Report, path: Path) -> None:
    """Draw a report.

    Args:
        report: of one of ``PANELS``.
        path: PNG, PDF or SVG, by its ending.

    Raises:
        UserError: for another ending, or when there is nothing to draw.
    """
    check_suffix(path)
    panels = PANELS[report.benchmark](report.rows) if report.benchmark in PANELS else []
    panels = [panel for panel in panels if any(series.y for series in panel.series)]
    if not panels:
        raise UserError(f"{path}: nothing was measured that can be drawn")
    draw(path, report.title, str(report.machine.get("device", "")), panels)


@styled
def draw(path: Path, title: str, machine: str, panels: Sequence[Panel]) -> None:
    """Draw panels, one beside another, and write them.

    Args:
        path: PNG, PDF or SVG, by its ending.
        title: of all.
        machine: that was measured.
        panels: at least one.
    """
    columns = 2 if len(panels) == 4 else min(_PER_ROW, len(panels))
    rows = -(-len(panels) // columns)
    names = list(dict.fromkeys(_kind(series) for panel in panels for series in panel.series))
    in_legend = 2 * columns
    figure = blank_figure(0.4 + 2.6 * columns, 0.3 + 2.1 * rows + 0.15 * -(-len(names) // in_legend))
    headline(figure, title, [machine])
    axes = [*figure.subplots(rows, columns, squeeze=False).flat]
    for axis, panel in zip(axes, panels, strict=False):
        draw_panel(axis, panel, names)
    for axis in axes[len(panels) :]:
        axis.remove()
    legend_below(figure, axes[: len(panels)], columns=in_legend)
    write(figure, path)


def draw_panel(axis: Any, panel: Panel, names: list[str]) -> None:
    """Draw one panel.

    Args:
        axis: where.
        panel: what.
        names: of all series of the figure, each of which has a colour.
    """
    is_bars = any(isinstance(x, str) for series in panel.series for x in series.x)
    drawn = [series for series in panel.series if series.y]  # a contender may lack the quantity of one panel
    for place, series in enumerate(drawn):
        number = names.index(_kind(series))
        if is_bars:
            _bars(axis, drawn, place, number)
        else:
            style = {"color": colour_of(number), "marker": marker_of(number)}
            axis.errorbar(series.x, series.y, yerr=_errors(series), label=series.name, **style)
    axis.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
    if panel.log_x and not is_bars:
        axis.set_xscale("log")
    elif not is_bars:
        axis.xaxis.get_major_locator().set_params(integer=True)
    if panel.log_y:
        axis.set_yscale("log")
    grid(axis, "y" if is_bars else "both")


def _kind(series: Series) -> str:
    """What has one colour in all panels: the name without a remark in brackets."""
    return series.name.partition(" (")[0]


def _bars(axis: Any, drawn: list[Series], place: int, number: int) -> None:
    series = drawn[place]
    places = list(dict.fromkeys(x for one in drawn for x in one.x))
    width = 0.8 / len(drawn)
    where = [places.index(x) + (place + 0.5) * width - 0.4 for x in series.x]
    axis.bar(
        where,
        series.y,
        width,
        yerr=_errors(series),
        label=series.name,
        color=colour_of(number),
        hatch=_HATCHES[number // len(COLOURS) % len(_HATCHES)],
        edgecolor="white",
        error_kw={"linewidth": 0.8},
    )
    axis.set_xticks(range(len(places)), places)


def _errors(series: Series) -> list[list[float]] | None:
    if not series.low:
        return None
    below = [max(0.0, y - low) for y, low in zip(series.y, series.low, strict=True)]
    above = [max(0.0, high - y) for y, high in zip(series.y, series.high, strict=True)]
    return [below, above]
