"""Figure 4: accuracy against the rotation of test objects. Matplotlib is imported when it is drawn."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from se3t.errors import UserError
from se3t.experiments import scanobjectnn
from se3t.experiments.scanobjectnn import VERTICAL, axis_in_words, data_name, parse_rotation
from se3t.reporting.figures.style import (
    COLOURS,
    FAINT,
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
from se3t.reporting.published import load_published, system_name
from se3t.reporting.reading import finished_fields
from se3t.reporting.spelling import span
from se3t.runs import Fields

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXPERIMENT = scanobjectnn.EXPERIMENT.name
EXPECTED = f"expected the folder of a finished run; make one: se3t train experiment={EXPERIMENT}"
NUM_CLASSES = 15
"""Of all data of this experiment."""

_TICKS = range(0, 181, 30)
_SO3, _SPREAD = 210, 18  # its position on the axis of angles, and the width of its markers
_FIRST = (("se3_transformer", True), ("se3_transformer", False), ("tfn", False), ("tfn", True))
_NOTICE = {"ha": "center", "va": "center", "bbox": {"facecolor": "white", "edgecolor": "none"}}
_AUGMENTATIONS = {"so3": "SO(3)"}


def not_apart(first: str, second: str, seed: int, system: tuple[str, bool]) -> UserError:
    """The error for two runs that would share one point."""
    return UserError(
        f"{first} and {second} are both seed {seed} of {system_name(*system)} and cannot be told apart in the figure; "
        "leave one out, or draw it with another --out"
    )


def finished_run(folder: Path) -> Fields:
    """The record of a finished classification run.

    Raises:
        UserError: there is none, or it is one of another experiment.
    """
    return finished_fields(folder, EXPERIMENT, EXPECTED)


# --- Figure 4: its data -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """One system, trained in one way.

    Attributes:
        system: model, and whether heights are part of its input.
        remark: what tells it from other lines of the system; "" where there is none.
        augmentation: random rotations in training: none, vertical or so3.
        accuracies: in % by the largest test rotation (degrees, infinite for SO(3)), ascending, then by seed.
    """

    system: tuple[str, bool]
    remark: str
    augmentation: str
    accuracies: dict[float, dict[int, float]]


@dataclass(frozen=True)
class Rotations:
    """What Figure 4 shows: description, number of test objects and checksum of the data, and the lines."""

    data: str
    is_synthetic: bool
    num_objects: int
    steps: tuple[int, ...]
    lines: tuple[Line, ...]
    checksum: str = ""

    @property
    def num_seeds(self) -> list[int]:
        """How many seeds the points of the figure have, ascending."""
        return sorted({len(seeds) for line in self.lines for seeds in line.accuracies.values()})

    def label(self, line: Line) -> str:
        """The name of a line in the legend, with its augmentation where there are several kinds."""
        kinds = {line.augmentation for line in self.lines} - {"none"}
        has_kind = len(kinds) > 1 and line.augmentation in kinds
        kind = _AUGMENTATIONS.get(line.augmentation, line.augmentation) if has_kind else ""
        return ", ".join(filter(None, (system_name(*line.system), line.remark, kind)))


def load_rotations(path: Path) -> Rotations:
    """Read what ``se3t.measure.rotations`` wrote.

    Raises:
        UserError: naming file and field, when the file cannot be read or is another one, and where two runs would have
            to share one point, or runs with different settings one line.
    """
    fields = Fields.read(path, "what se3t figure 4 wrote beside its pictures")
    listed = fields.items("points")
    points = [_point(fields, f"points.{index}") for index in range(len(listed))]
    require_one_setting(listed, path)
    is_synthetic, up_axis = fields.flag("data.synthetic"), fields.text("data.up_axis")
    name = data_name(fields.text("data.variant"), is_synthetic)
    return Rotations(
        data=name if up_axis == VERTICAL else f"{name}, {axis_in_words(up_axis)}",
        is_synthetic=is_synthetic,
        num_objects=max(point["size"] for point in points),
        steps=tuple(sorted({point["steps_done"] for point in points if point["steps_done"] is not None})),
        lines=tuple(_lines(points, str(path))),
        checksum=str(fields.mapping("data").get("checksum") or "")[:8],
    )


def line_of(point: Mapping[str, Any]) -> tuple[Any, ...]:
    """The line that a point of the JSON file, or a run with its attributes, belongs to."""
    return tuple(point.get(name) for name in ("model", "height", "augmentation", *_WORDS))


def require_one_setting(points: Iterable[Mapping[str, Any]], path: Path) -> None:
    """A line is the mean over seeds, and over nothing else.

    Args:
        points: of the JSON file.
        path: that file.

    Raises:
        UserError: two points of one line are of runs with different settings.
    """
    firsts: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for point in points:
        first = firsts.setdefault(line_of(point), point)
        if first["settings"] != point["settings"]:
            raise UserError(
                f"{path}: {first['run']} and {point['run']} would be one line, "
                f"{system_name(point['model'], point['height'])}, but differ in more than their seeds; draw each "
                "with an --out of its own"
            )


def _point(fields: Fields, name: str) -> dict[str, Any]:
    optional = fields.mapping(name)
    return {
        "run": fields.text(f"{name}.run"),
        "settings": fields.text(f"{name}.settings"),
        "system": (fields.text(f"{name}.model"), fields.flag(f"{name}.height")),
        "augmentation": fields.text(f"{name}.augmentation"),
        "seed": fields.integer(f"{name}.seed"),
        "num_points": fields.integer(f"{name}.num_points"),
        "rotation": parse_rotation(fields, f"{name}.rotation"),
        "accuracy": 100 * fields.number(f"{name}.accuracy"),
        "size": fields.integer(f"{name}.size"),
        "preset": optional.get("preset"),
        "max_steps": optional.get("max_steps"),
        "steps_done": optional.get("steps_done", optional.get("max_steps")),  # earlier versions wrote the latter alone
    }


def _lines(points: Sequence[Mapping[str, Any]], origin: str) -> Iterable[Line]:
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for point in points:
        key = (point["system"], point["augmentation"], *(point[name] for name in _WORDS))
        groups.setdefault(key, []).append(point)
    systems = _in_order({point["system"] for point in points})
    for system in systems:
        of_system = [point for point in points if point["system"] == system]
        differing = [name for name in _WORDS if len({point[name] for point in of_system}) > 1]
        for key in sorted((key for key in groups if key[0] == system), key=str):
            group = groups[key]
            remarks = [_WORDS[name].format(group[0][name]) for name in differing if group[0][name] is not None]
            yield Line(system, ", ".join(remarks), key[1], _accuracies(group, origin))


_WORDS = {"num_points": "{:,} points", "preset": "preset {}", "max_steps": "{:,} steps"}
"""What may tell lines of one system apart."""


def _in_order(systems: Iterable[tuple[str, bool]]) -> list[tuple[str, bool]]:
    """Those of the paper's figure first, then as in its table, then others."""
    paper = [("set_transformer", False), ("deepset", False)]
    paper += [(str(entry.model), entry.height) for entry in load_published("table2").models.values()]
    known = list(dict.fromkeys([*_FIRST, *paper]))
    return sorted(systems, key=lambda system: (known.index(system) if system in known else len(known), system))


def _accuracies(points: Sequence[Mapping[str, Any]], origin: str) -> dict[float, dict[int, float]]:
    accuracies: dict[float, dict[int, float]] = {}
    runs: dict[tuple[float, int], str] = {}
    for point in points:
        place = (point["rotation"], point["seed"])
        if place in runs:
            raise not_apart(f"{origin}: {runs[place]}", point["run"], point["seed"], point["system"])
        runs[place] = point["run"]
        accuracies.setdefault(point["rotation"], {})[point["seed"]] = point["accuracy"]
    return dict(sorted(accuracies.items()))


# --- Figure 4: its picture --------------------------------------------------------------------------------------------


@styled
def draw_figure4(rotations: Rotations) -> Figure:
    """Test accuracy against the largest test rotation: (a) trained without, (b) with rotation augmentation."""
    names = list(dict.fromkeys(map(rotations.label, rotations.lines)))
    columns = legend_columns(names)
    figure = blank_figure(WIDTH, 4.4 + 0.15 * math.ceil(len(names) / columns))
    headline(figure, "Figure 4: accuracy of rotated objects", _notes(rotations))
    panels = figure.subplots(2, 1, sharex=True)
    _draw_panel(panels[0], rotations, is_augmented=False)
    _draw_panel(panels[1], rotations, is_augmented=True)
    panels[1].set_xlabel("largest test rotation about a horizontal axis, degrees")
    legend_below(figure, panels, [*names, "chance"], columns, handlelength=3)
    return figure


def _draw_panel(axis: Any, rotations: Rotations, *, is_augmented: bool) -> None:
    lines = [line for line in rotations.lines if (line.augmentation != "none") == is_augmented]
    kinds = [_AUGMENTATIONS.get(kind, kind) for kind in sorted({line.augmentation for line in lines})]
    styles = _styles(rotations)
    for number, line in enumerate(lines):
        place = _SO3 + _SPREAD * ((number + 0.5) / len(lines) - 0.5)
        _draw_line(axis, line, place, rotations.label(line), styles[rotations.label(line)])
    title = "(b) with rotation augmentation" if is_augmented else "(a) without rotation augmentation"
    title += f" ({kinds[0]})" if is_augmented and len(kinds) == 1 else ""
    axis.set_title(title, loc="left")
    axis.axhline(100 / NUM_CLASSES, color=MUTED, linestyle=":", linewidth=1, label="chance")
    if not lines:
        axis.text(0.5, 0.5, _how_to_fill(rotations, is_augmented), transform=axis.transAxes, **_NOTICE)
    _scales(axis, any(math.inf in line.accuracies for line in rotations.lines))


def _notes(rotations: Rotations) -> list[str]:
    seeds = rotations.num_seeds
    count = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    mean = "one seed" if seeds == [1] else f"mean of {count} seeds ± standard deviation"
    checksum = f", checksum {rotations.checksum}" if rotations.checksum else ""
    return [f"{rotations.data}, {rotations.num_objects:,} test objects{checksum}", *_budget(rotations), mean]


def _budget(rotations: Rotations) -> list[str]:
    """The budget, compared with the paper's where that was larger."""
    published = load_published("table2").max_steps
    if not rotations.steps or rotations.steps[0] >= published:
        return [f"{span(rotations.steps)} training steps"] if rotations.steps else []
    return [f"reduced budget: {span(rotations.steps)} of the paper's {published:,} training steps"]


def _styles(rotations: Rotations) -> dict[str, dict[str, Any]]:
    """By label: a colour for each model, dashes for heights, a marker for each line."""
    models = list(dict.fromkeys(line.system[0] for line in rotations.lines))
    systems = {rotations.label(line): line.system for line in rotations.lines}
    styles: dict[str, dict[str, Any]] = {}
    for number, (label, (model, height)) in enumerate(systems.items()):
        colour = colour_of(models.index(model))
        solid = "-" if models.index(model) < len(COLOURS) else "-."
        dashes = {"linestyle": "--" if height else solid, "markerfacecolor": "white" if height else colour}
        styles[label] = {"color": colour, "marker": marker_of(number), **dashes}
    return styles


def _draw_line(axis: Any, line: Line, place: float, label: str, style: Mapping[str, Any]) -> None:
    """A line over the angles with a band of one standard deviation; SO(3) is separate, at ``place``, with a bar."""
    means = {angle: statistics.fmean(seeds.values()) for angle, seeds in line.accuracies.items()}
    spreads = {
        angle: statistics.stdev(seeds.values()) if len(seeds) > 1 else 0.0 for angle, seeds in line.accuracies.items()
    }
    angles = [angle for angle in means if math.isfinite(angle)]
    axis.plot(angles, [means[angle] for angle in angles], label=label, zorder=3, **style)
    if any(spreads[angle] for angle in angles):
        band(axis, {angle: means[angle] for angle in angles}, spreads, style["color"])
    if math.inf in means:
        bar = {**style, "linestyle": "none", "elinewidth": 1}
        axis.errorbar([place], [means[math.inf]], yerr=spreads[math.inf] or None, zorder=3, **bar)


def _scales(axis: Any, has_so3: bool) -> None:
    places = [*_TICKS, *([_SO3] if has_so3 else [])]
    axis.set_xticks(places, [*map(str, _TICKS), *(["SO(3)"] if has_so3 else [])])
    axis.set(xlim=(-6, places[-1] + (_SPREAD / 2 + 3 if has_so3 else 6)), ylim=(0, 100))
    axis.set_ylabel("test accuracy, %")
    if has_so3:
        axis.axvline((_TICKS[-1] + _SO3) / 2, color=FAINT, linewidth=0.6)
    grid(axis, "y")


def _how_to_fill(rotations: Rotations, is_augmented: bool) -> str:
    settings = ["data=shapes15"] * rotations.is_synthetic + ["task.augmentation=so3"] * is_augmented
    what = "with" if is_augmented else "without"
    lines = [f"no run {what} rotation augmentation yet:", f"se3t train experiment={EXPERIMENT} preset=figure4"]
    return "\n".join([*lines, *([" ".join(settings)] if settings else [])])
