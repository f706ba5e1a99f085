"""The figure of the spherical harmonics: speed and difference by degree. Matplotlib is imported when it is drawn."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from se3t.errors import UserError
from se3t.reporting.figures.style import (
    MUTED,
    WIDTH,
    blank_figure,
    colour_of,
    grid,
    headline,
    legend_below,
    marker_of,
    styled,
)
from se3t.runs import Fields, read_json
from se3t.runs.files import write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KIND = "harmonics"
BENCHMARK = "sh"
PASSES = ("forward", "forward + backward")
_ON_THE_CPU_ALWAYS = ("scipy",)
_NAMES = {"scipy": "SciPy"}
_CPU = "cpu"
_EXPECTED = "what se3t figure sh wrote beside its pictures, or se3t bench sh --json"


@dataclass(frozen=True)
class Line:
    """One implementation on one device.

    Attributes:
        name: of the implementation.
        device: cpu or cuda.
        per_second: vectors a second by degree J, for each of ``PASSES``.
        difference: the largest relative difference from values in double precision by J, likewise.
    """

    name: str
    device: str
    per_second: Mapping[str, Mapping[int, float]]
    difference: Mapping[str, Mapping[int, float]]

    @property
    def label(self) -> str:
        """Its name in the legend."""
        return f"{_NAMES.get(self.name, self.name)}, {'CPU' if self.device == _CPU else 'GPU'}"


@dataclass(frozen=True)
class Harmonics:
    """What the figure shows: the machines, how many vectors at a time, and the lines."""

    machines: tuple[str, ...]
    num_vectors: tuple[int, ...]
    lines: tuple[Line, ...]


def write_harmonics(reports: Sequence[str], out: Path) -> Path:
    """Several measurements in one file.

    Args:
        reports: JSON of each.
        out: the file.

    Returns:
        ``out``.
    """
    write_json(out, {"kind": KIND, "reports": [json.loads(report) for report in reports]})
    return out


def load_harmonics(paths: Sequence[Path]) -> Harmonics:
    """Read measurements, of a CPU and of a GPU.

    Args:
        paths: files of ``se3t figure sh`` or ``se3t bench sh --json``.

    Raises:
        UserError: naming file and field, when one cannot be read or is another file, or a device was measured twice.
    """
    reports = [report for path in paths for report in _reports(path)]
    lines: dict[tuple[str, str], Line] = {}
    devices = [_device(report) for report in reports]
    for report, device in zip(reports, devices, strict=True):
        if devices.count(device) > 1:
            raise UserError(f"{report.origin}: one of several measurements of a {device}; give one of each device")
        for line in _lines(report, device):
            if device == _CPU or line.name not in _ON_THE_CPU_ALWAYS or _CPU not in devices:
                lines[line.name, line.device] = line
    return Harmonics(
        machines=tuple(dict.fromkeys(map(_machine, reports))),
        num_vectors=tuple(dict.fromkeys(report.integer("settings.num_vectors") for report in reports)),
        lines=tuple(lines.values()),
    )


def _reports(path: Path) -> list[Fields]:
    content = read_json(path, _EXPECTED)
    listed = content.get("reports") if content.get("kind") == KIND else [content]
    if not isinstance(listed, list) or not listed or not all(isinstance(part, dict) for part in listed):
        raise UserError(f"{path}: field 'reports' should be a list of measurements; expected {_EXPECTED}")
    for part in listed:
        if part.get("benchmark") != BENCHMARK:
            raise UserError(
                f"{path}: field 'benchmark' is {part.get('benchmark')!r}, expected {BENCHMARK!r}: {_EXPECTED}"
            )
    return [Fields(part, str(path)) for part in listed]


def _device(report: Fields) -> str:
    return report.text("settings.device").partition(":")[0]


def _machine(report: Fields) -> str:
    return f"{report.text('machine.device')}, {report.integer('machine.threads')} threads"


def _lines(report: Fields, device: str) -> list[Line]:
    speeds: dict[str, dict[str, dict[int, float]]] = {}
    differences: dict[str, dict[str, dict[int, float]]] = {}
    for number in range(len(report.items("rows"))):
        name, what = (report.text(f"rows.{number}.{field}") for field in ("name", "what"))
        if what not in PASSES:
            raise UserError(f"{report.origin}: field 'rows.{number}.what' is {what!r}, expected {' or '.join(PASSES)}")
        degree = report.integer(f"rows.{number}.degree")
        for values, field, scale in ((speeds, "per_second", 1e6), (differences, "difference", 1.0)):
            value = scale * report.number(f"rows.{number}.{field}")
            values.setdefault(name, {}).setdefault(what, {})[degree] = value
    on = {name: _CPU if name in _ON_THE_CPU_ALWAYS else device for name in speeds}
    return [Line(name, on[name], speeds[name], differences[name]) for name in speeds]


# --- the picture ------------------------------------------------------------------------------------------------------


@styled
def draw_harmonics(harmonics: Harmonics) -> Figure:
    """Vectors a second by degree, forward and with gradients, and the largest relative difference."""
    figure = blank_figure(WIDTH, 5.0 + 0.14 * math.ceil((len(harmonics.lines) + 1) / 2))
    headline(figure, "Speed of the spherical harmonics", _notes(harmonics))
    panels = figure.subplots(3, 1, sharex=True, height_ratios=(1, 1, 0.8))
    for panel, what, letter in zip(panels, PASSES, "ab", strict=False):
        _draw(panel, harmonics, [(line, line.per_second.get(what, {})) for line in harmonics.lines])
        panel.set_title(f"({letter}) {what}", loc="left")
        panel.set_ylabel("vectors a second")
    _draw(panels[2], harmonics, [(line, _largest(line)) for line in harmonics.lines])
    panels[2].axhline(2.0**-24, color=MUTED, linestyle=":", linewidth=0.8, label="rounding, 2⁻²⁴")
    panels[2].set_title("(c) largest relative difference", loc="left")
    panels[2].set_ylabel("values, gradients")
    panels[2].set_xlabel("all degrees 0 … J")
    panels[2].xaxis.get_major_locator().set_params(integer=True)
    legend_below(figure, panels[2:])
    return figure


def _notes(harmonics: Harmonics) -> list[str]:
    counts = " and ".join(f"{count:,}" for count in harmonics.num_vectors)
    return [f"{counts} vectors, single precision", *harmonics.machines]


def _largest(line: Line) -> dict[int, float]:
    """By degree, without differences of 0, which a logarithmic axis cannot show."""
    degrees = {degree for values in line.difference.values() for degree in values}
    worst = {degree: max(values.get(degree, 0.0) for values in line.difference.values()) for degree in degrees}
    return {degree: worst[degree] for degree in sorted(degrees) if worst[degree]}


def _draw(axis: Any, harmonics: Harmonics, series: Sequence[tuple[Line, Mapping[int, float]]]) -> None:
    """A colour and a marker for each implementation; dashed and open on a GPU."""
    names = list(dict.fromkeys(line.name for line in harmonics.lines))
    for line, values in series:
        number = names.index(line.name)
        colour = colour_of(number)
        is_gpu = line.device != _CPU
        style = {"linestyle": "--" if is_gpu else "-", "markerfacecolor": "white" if is_gpu else colour}
        axis.plot(
            list(values), list(values.values()), color=colour, marker=marker_of(number), label=line.label, **style
        )
    axis.set_yscale("log")
    shown = [value for _, values in series for value in values.values()]
    if shown:  # whole powers of ten, or too few of them would be on the axis
        low, high = math.log10(min(shown)), math.log10(max(shown))
        axis.set_ylim(10.0 ** math.floor(low - 0.05), 10.0 ** math.ceil(high + 0.05))
    grid(axis)
