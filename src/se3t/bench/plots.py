"""The figure of a benchmark. Matplotlib is imported when one is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from se3t.errors import UserError, did_you_mean
from se3t.files import write_atomically
from se3t.reporting.figures.style import headline

if TYPE_CHECKING:
    from se3t.bench.report import Panel, Report, Series

# Okabe and Ito's colours, told apart by people with any kind of colour vision; markers say the same once more.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442", "#888888")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "h")
_HATCHES = ("", "//", "..")  # of the first nine bars, the next nine …
SUFFIXES = (".png", ".pdf", ".svg")
_DPI = 150
_PER_ROW = 3


def check_suffix(path: Path) -> None:
    """Make sure that the ending of a file says what to draw.

    Raises:
        UserError: when it does not.
    """
    if path.suffix.lower() not in SUFFIXES:
        what = path.suffix or "a file without ending"
        raise UserError(f"{path}: cannot draw {what}; {did_you_mean(path.suffix, SUFFIXES)}")


def save_plot(report: Report, path: Path) -> None:
    """Draw the panels of a report.

    Args:
        report: with at least one panel.
        path: PNG, PDF or SVG, by its ending.

    Raises:
        UserError: for another ending.
    """
    check_suffix(path)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [panel for panel in report.panels if any(series.y for series in panel.series)]
    columns = min(_PER_ROW, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(1.5 + 4.2 * columns, 0.9 + 3.4 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).flat
    names = list(dict.fromkeys(_kind(series) for panel in panels for series in panel.series))
    for axis, panel in zip(axes, panels, strict=False):
        _draw(axis, panel, names)
    for axis in list(axes)[len(panels) :]:
        axis.set_visible(False)
    headline(figure, report.title, [str(report.machine.get("device", ""))])
    write_atomically(path, lambda file: figure.savefig(file, format=path.suffix[1:].lower(), dpi=_DPI))


def _draw(axis: Any, panel: Panel, names: list[str]) -> None:
    is_bars = any(isinstance(x, str) for series in panel.series for x in series.x)
    drawn = [series for series in panel.series if series.y]  # a contender may lack the quantity of one panel
    for place, series in enumerate(drawn):
        number = names.index(_kind(series))
        if is_bars:
            _bars(axis, drawn, place, number)
        else:
            axis.errorbar(
                series.x,
                series.y,
                yerr=_errors(series),
                label=series.name,
                color=_COLOURS[number % len(_COLOURS)],
                marker=_MARKERS[number % len(_MARKERS)],
                linestyle="-" if number < len(_COLOURS) else "--",
                markersize=4,
                linewidth=1.2,
                capsize=2,
            )
    axis.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
    axis.title.set_fontsize(10)
    if panel.log_x and not is_bars:
        axis.set_xscale("log")
    if panel.log_y:
        axis.set_yscale("log")
    axis.grid(axis="y", linewidth=0.4, alpha=0.6)
    axis.set_axisbelow(True)
    axis.legend(fontsize=7, frameon=False)


def _kind(series: Series) -> str:
    """What has one colour in all panels: the name without a remark in brackets."""
    return series.name.partition(" (")[0]


def _bars(axis: Any, drawn: list[Series], place: int, number: int) -> None:
    series = drawn[place]
    words = list(dict.fromkeys(x for one in drawn for x in one.x))
    width = 0.8 / len(drawn)
    where = [words.index(x) + (place + 0.5) * width - 0.4 for x in series.x]
    axis.bar(
        where,
        series.y,
        width,
        yerr=_errors(series),
        label=series.name,
        color=_COLOURS[number % len(_COLOURS)],
        hatch=_HATCHES[number // len(_COLOURS) % len(_HATCHES)],
        edgecolor="white",
        capsize=2,
        error_kw={"linewidth": 0.8},
    )
    axis.set_xticks(range(len(words)), words, fontsize=8)


def _errors(series: Series) -> list[list[float]] | None:
    if not series.low:
        return None
    below = [max(0.0, y - low) for y, low in zip(series.y, series.low, strict=True)]
    above = [max(0.0, high - y) for y, high in zip(series.y, series.high, strict=True)]
    return [below, above]
