"""Figure 3: one N-body trajectory as models predict it, and the same with its input rotated.

Matplotlib is imported when it is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from se3t.config.overrides import spell
from se3t.errors import UserError
from se3t.experiments.table import Estimate
from se3t.reporting.figures.style import INK, WIDTH, blank_figure, colour_of, grid, headline, save_animation, styled
from se3t.reporting.published import load_published
from se3t.reporting.spelling import error, number, span
from se3t.runs import Fields

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

KIND = "figure3"
_TITLE = "Figure 3: predictions for a rotated input"
Point = Sequence[float]

_MARGIN = 1.1
_ROW = 1.85  # inches
_KINDS: Mapping[str, Mapping[str, Any]] = {
    "input": {"marker": "o", "markersize": 5.5, "markerfacecolor": "white"},
    "truth": {"marker": "x", "markersize": 4.5, "markeredgewidth": 1.3},
    "prediction": {"marker": "D", "markersize": 3, "alpha": 0.9},
}
_IDEAL = {"linestyle": "--", "linewidth": 0.7, "zorder": 1}
_DOT = {"linestyle": "none", "marker": ".", "markersize": 2.6, "zorder": 2}
_WAY = {"linestyle": "-", "linewidth": 0.8, "zorder": 1}
_MISS = {"linestyle": ":", "linewidth": 0.8, "zorder": 1}
_ROTATED = ({**_IDEAL, "label": "perfectly equivariant"}, {**_DOT, "label": "predictions, input rotated"})
_LINES = ({**_WAY, "label": "input to truth"}, {**_MISS, "label": "truth to prediction"}, *_ROTATED)
_GIF_WIDTH, _GIF_HEIGHT, _GIF_DPI, _GIF_PER_SECOND = 2.5, 3.5, 110, 8


# --- its data ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prediction:
    """What one model predicts.

    Attributes:
        label: its name in the figure.
        mse_x: of this trajectory.
        equivariance_error_x: of the run, on all test trajectories.
        steps: of its training.
        batch_size: of its training.
        positions: ``[angle][particle][3]``, for the input rotated by each angle.
    """

    label: str
    mse_x: float
    equivariance_error_x: float
    steps: int
    batch_size: int
    positions: Sequence[Sequence[Point]]


@dataclass(frozen=True)
class Trajectories:
    """What Figure 3 shows; lengths in units of the simulation.

    Attributes:
        data: their description.
        horizon: time from input to truth.
        checksum: of the data, its first digits; "" where unknown.
        sample: which test trajectory, and why it was chosen.
        axis: of the rotations, of length 1.
        angles: degrees.
        charges: ``[particle]``.
        positions: ``[particle][3]``, the input.
        target: ``[particle][3]``, the truth.
        models: in the order of the figure.
    """

    data: str
    horizon: float
    sample: str
    checksum: str
    axis: Point
    angles: Sequence[float]
    charges: Sequence[float]
    positions: Sequence[Point]
    target: Sequence[Point]
    models: tuple[Prediction, ...]

    def flat(self, points: ArrayLike, angle: float = 0.0) -> NDArray[np.float64]:
        """Points, ``[…, 3]``, rotated by some degrees about the axis, as seen along it, ``[…, 2]``."""
        cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        seen: NDArray[np.float64] = np.asarray(points) @ _sides(self.axis) @ [[cosine, sine], [-sine, cosine]]
        return seen

    def deviation(self, model: Prediction) -> float:
        """The largest distance between a prediction, rotated back, and the prediction for the input as it is: 0 for a
        perfectly equivariant model.
        """
        back = [self.flat(positions, -angle) for angle, positions in zip(self.angles, model.positions, strict=True)]
        heights = np.asarray(model.positions) @ self.axis
        return float(np.hypot(np.linalg.norm(back - back[0], axis=-1), heights - heights[0]).max())


def _sides(axis: Point) -> NDArray[np.float64]:
    """Two directions, ``[3, 2]``, that make a right-handed system with the axis: x and y for the axis z."""
    start = np.eye(3)[0 if abs(axis[0]) < 0.9 else 1]
    across = start - (start @ axis) * np.asarray(axis)
    across /= np.linalg.norm(across)
    return np.stack([across, np.cross(axis, across)], axis=1)


def load_trajectories(path: Path) -> Trajectories:
    """Read what ``se3t.measure.trajectories`` wrote.

    Raises:
        UserError: naming file and field, when the file cannot be read, is another one, or is damaged.
    """
    fields = Fields.read(path, "what se3t figure 3 wrote beside its pictures")
    kind = fields.content.get("kind")
    if kind != KIND:
        raise UserError(f"{path}: field 'kind' is {kind!r}, expected {KIND!r}: what se3t figure 3 wrote")
    charges, angles = (_array(fields, name, None) for name in ("charges", "angles"))
    axis = _array(fields, "axis", 3)
    if not any(axis) or angles[0] != 0:
        raise UserError(f"{path}: expected an 'axis' that is not zero, and 'angles' that begin with 0")
    return Trajectories(
        data=_data_in_words(fields),
        horizon=fields.number("data.horizon"),
        sample=_sample_in_words(fields),
        checksum=str(fields.mapping("data").get("checksum") or "")[:8],
        axis=tuple(value / math.hypot(*axis) for value in axis),
        angles=angles,
        charges=charges,
        positions=_array(fields, "positions", len(charges), 3),
        target=_array(fields, "target", len(charges), 3),
        models=tuple(
            _model(fields, f"models.{index}", len(angles), len(charges)) for index in range(len(fields.items("models")))
        ),
    )


def _model(fields: Fields, name: str, angles: int, particles: int) -> Prediction:
    return Prediction(
        label=fields.text(f"{name}.label"),
        mse_x=fields.number(f"{name}.mse_x"),
        equivariance_error_x=fields.number(f"{name}.equivariance_error_x"),
        steps=fields.integer(f"{name}.steps_done"),
        batch_size=fields.integer(f"{name}.batch_size"),
        positions=_array(fields, f"{name}.predictions", angles, particles, 3),
    )


def _array(fields: Fields, name: str, *shape: int | None) -> Any:
    """Nested lists of finite numbers of some shape; None: any length but 0."""
    if not shape:
        return fields.number(name)
    length = len(fields.items(name))
    if shape[0] not in (None, length):
        raise UserError(f"{fields.origin}: field {name!r} should be a list of {shape[0]}, got {length}; draw it again")
    return [_array(fields, f"{name}.{index}", *shape[1:]) for index in range(length)]


def _data_in_words(fields: Fields) -> str:
    changed = fields.mapping("data").get("overridden") or {}
    settings = [f"{name}={spell(value)}" for name, value in changed.items()]
    changes = f" ({', '.join(settings)})" if settings else ""
    return f"simulated N-body data, preset {fields.text('data.preset')}{changes}"


def _sample_in_words(fields: Fields) -> str:
    count, rule = fields.content.get("num_samples"), fields.content.get("sample_rule")
    of = f" of {count:,}" if isinstance(count, int) else ""
    return f"test trajectory {fields.integer('sample')}{of}" + (f": {rule}" if isinstance(rule, str) else "")


# --- its picture ------------------------------------------------------------------------------------------------------


@styled
def draw_figure3(shown: Trajectories) -> Figure:
    """For each model the trajectory and its prediction, and the predictions for all rotations of the input."""
    columns = min(2, len(shown.models))
    rows = 2 * math.ceil(len(shown.models) / 2) if columns == 2 else 1
    figure = blank_figure(WIDTH, _ROW * rows + 0.95)
    headline(figure, _TITLE, _notes(shown))
    grid = figure.subplots(rows, 2, squeeze=False)
    for place, model in enumerate(shown.models):
        row, column = 2 * (place // 2), place % 2
        pair = (grid[row][column], grid[row + 1][column]) if columns == 2 else grid[0]
        _draw_trajectory(pair[0], shown, model)
        _draw_rotations(pair[1], shown, model)
    for axis in [grid[row][1] for row in range(rows)][-2:] if columns == 2 and len(shown.models) % 2 else ():
        axis.remove()
    _legend(figure, shown.horizon, _LINES)
    return figure


def _notes(shown: Trajectories) -> list[str]:
    checksum = f", checksum {shown.checksum}" if shown.checksum else ""
    return [f"{shown.data}{checksum}", shown.sample, *_budget(shown), "lengths in units of the simulation"]


def _budget(shown: Trajectories) -> list[str]:
    """A note where the paper trained for longer."""
    published = load_published("table1")
    full = published.max_steps * published.batch_size
    trained = [model for model in shown.models if model.steps]
    if all(model.steps * model.batch_size >= full for model in trained):
        return []
    steps = span(model.steps for model in trained)
    return [f"reduced budget: {steps} of the paper's {published.max_steps:,} training steps"]


def _draw_trajectory(axis: Any, shown: Trajectories, model: Prediction) -> None:
    apart = len({other.steps for other in shown.models if other.steps}) > 1
    steps = f", {model.steps:,} steps" if apart and model.steps else ""
    axis.set_title(f"{model.label}\nMSE x {number(Estimate(model.mse_x))}{steps}")
    for place, colour in enumerate(_colours(shown)):
        start, truth = shown.flat(shown.positions[place]), shown.flat(shown.target[place])
        predicted = shown.flat(model.positions[0][place])
        axis.plot(*np.transpose([start, truth]), color=colour, **_WAY)
        axis.plot(*np.transpose([truth, predicted]), color=colour, **_MISS)
        for point, style in zip((start, truth, predicted, start), _styles(shown.charges[place]).values(), strict=True):
            _mark(axis, point, colour, style)
    _frame(axis, shown, *_region(shown))


def _draw_rotations(axis: Any, shown: Trajectories, model: Prediction) -> None:
    axis.set_title(f"input rotated in steps of {shown.angles[1]:g}°\n{_off(shown, model)}")
    for place, colour in enumerate(_colours(shown)):
        _draw_circle(axis, shown, model, place, colour)
        points = shown.flat([positions[place] for positions in model.positions])
        axis.plot(*points.T, color=colour, **_DOT)
        _mark(axis, points[0], colour, _KINDS["prediction"])
    _frame(axis, shown, (0.0, 0.0), _extent(shown))


def _off(shown: Trajectories, model: Prediction) -> str:
    return f"at most {error(Estimate(shown.deviation(model)))} from perfect"


def _draw_circle(axis: Any, shown: Trajectories, model: Prediction, place: int, colour: str) -> None:
    """The predictions of a perfectly equivariant model for one particle."""
    points = [shown.flat(model.positions[0][place], angle) for angle in range(0, 361, 3)]
    axis.plot(*np.transpose(points), color=colour, **_IDEAL)


def _mark(axis: Any, point: Any, colour: str, style: Mapping[str, Any]) -> Any:
    (artist,) = axis.plot(*([value] for value in point), color=colour, linestyle="none", **{"zorder": 3, **style})
    return artist


def _styles(charge: float) -> dict[str, Mapping[str, Any]]:
    """Those of positions, and of the sign of a charge, which is inside the circle of the input."""
    sign = {"marker": "+" if charge > 0 else "_", "markersize": 3, "markeredgewidth": 0.8, "zorder": 4}
    return {**_KINDS, "charge": sign}


def _colours(shown: Trajectories) -> list[str]:
    return [colour_of(place) for place in range(len(shown.charges))]


def _region(shown: Trajectories) -> tuple[tuple[float, float], float]:
    """Centre and half width of the square with everything that is not rotated, the same for all models."""
    points = shown.flat([*shown.positions, *shown.target, *(p for model in shown.models for p in model.positions[0])])
    low, high = points.min(axis=0), points.max(axis=0)
    return tuple((low + high) / 2), _MARGIN * (high - low).max() / 2


def _extent(shown: Trajectories) -> float:
    """The largest distance of any point from the axis."""
    points = [*shown.positions, *shown.target, *(p for model in shown.models for turn in model.positions for p in turn)]
    return float(_MARGIN * np.linalg.norm(shown.flat(points), axis=-1).max())


def _frame(axis: Any, shown: Trajectories, centre: tuple[float, float], half: float) -> None:
    from matplotlib.ticker import MaxNLocator

    names = ("x", "y") if tuple(shown.axis) == (0, 0, 1) else ("across the axis", "across both")
    for side, middle, name in zip("xy", centre, names, strict=True):
        axis.set(**{f"{side}label": name})
        getattr(axis, f"{side}axis").labelpad = 1
        axis.set(**{f"{side}lim": (middle - half, middle + half)})
        getattr(axis, f"{side}axis").set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axis.set_aspect("equal")
    axis.tick_params(pad=2, length=2)
    grid(axis)


def _legend(figure: Figure, horizon: float, lines: Sequence[Mapping[str, Any]]) -> None:
    """Marks of positions, and what lines mean."""
    from matplotlib.lines import Line2D

    times = {"input": "input, t = 0", "truth": f"truth, t = {horizon:g}", "prediction": f"prediction, t = {horizon:g}"}
    handles: list[Any] = [
        Line2D([], [], color=INK, linestyle="none", label=times[name], **style) for name, style in _KINDS.items()
    ]
    handles += [Line2D([], [], color=INK, **style) for style in lines]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, handlelength=1.6)


# --- its animation ----------------------------------------------------------------------------------------------------


@styled
def animate_figure3(shown: Trajectories, path: Path) -> Path:
    """The input rotated once about the axis, with the truth and what each model predicts, as GIF.

    Args:
        shown: the numbers.
        path: the file.

    Returns:
        ``path``.
    """
    columns = min(3, len(shown.models))
    rows = math.ceil(len(shown.models) / columns)
    figure = blank_figure(max(WIDTH, _GIF_WIDTH * columns), _GIF_HEIGHT * rows)
    grid = figure.subplots(rows, columns, squeeze=False)
    title = headline(figure, _frame_title(shown, -1), _notes(shown))
    moving = []
    for axis, model in zip(grid.flat, shown.models, strict=False):
        axis.set_title(f"{model.label}\n{_off(shown, model)}")
        _frame(axis, shown, (0.0, 0.0), _extent(shown))
        moving.append((model, _moving_parts(axis, shown, model)))
    for axis in grid.flat[len(shown.models) :]:
        axis.remove()
    _legend(figure, shown.horizon, _ROTATED)

    def show(frame: int) -> None:
        title.set_text(_frame_title(shown, frame))
        for model, parts in moving:
            for place, artists in enumerate(parts):
                _move(artists, shown, model, place, frame)

    artists = [title, *(artist for _, parts in moving for part in parts for artist in part.values())]
    return save_animation(figure, path, artists, len(shown.angles), show, dpi=_GIF_DPI, per_second=_GIF_PER_SECOND)


def _frame_title(shown: Trajectories, frame: int) -> str:
    return f"input rotated by {shown.angles[frame]:g}°"


def _moving_parts(axis: Any, shown: Trajectories, model: Prediction) -> list[dict[str, Any]]:
    """By particle what :func:`_move` moves; the circles stay."""
    parts = []
    for place, colour in enumerate(_colours(shown)):
        _draw_circle(axis, shown, model, place, colour)
        origin = (0.0, 0.0)
        styles = _styles(shown.charges[place])
        artists = {kind: _mark(axis, origin, colour, style) for kind, style in styles.items()}
        (artists["trail"],) = axis.plot([], [], color=colour, **_DOT)
        parts.append(artists)
    return parts


def _move(artists: Mapping[str, Any], shown: Trajectories, model: Prediction, place: int, frame: int) -> None:
    start, truth = (shown.flat(points[place], shown.angles[frame]) for points in (shown.positions, shown.target))
    trail = shown.flat([positions[place] for positions in model.positions[: frame + 1]])
    for kind, point in (("input", start), ("charge", start), ("truth", truth), ("prediction", trail[-1])):
        artists[kind].set_data(*point[:, None])
    artists["trail"].set_data(*trail.T)
