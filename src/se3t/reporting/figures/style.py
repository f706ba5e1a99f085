"""One style for all pictures: colours, text sizes, lines, file formats. Matplotlib is imported when drawing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from se3t.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure
    from matplotlib.text import Text
    from numpy.typing import NDArray

SUFFIXES = (".png", ".pdf")
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8A6D00", "#888888")
"""Okabe and Ito's, for any kind of colour vision; markers or dashes repeat what they tell."""

MARKERS = ("o", "s", "^", "v", "D", "P", "X", "8", "h", "<", ">", "p", "d")
DASHES = ("-", "--", "-.", ":")
WIDTH = 3.4
"""Inches: a column, so that sizes of letters are those in print."""

TINY, SMALL, NORMAL = 6, 7, 8
"""Sizes of letters in points."""

INK, MUTED, FAINT = "0.2", "0.4", "0.7"
"""Greys: of symbols in legends, of reference lines and notes, of lines that divide a panel."""

STYLE: Mapping[str, Any] = {
    "font.size": SMALL,
    "axes.titlesize": SMALL,
    "axes.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "errorbar.capsize": 2,
}
"""Settings of matplotlib in which every picture is drawn."""

NOTES = "notes"
_LETTERS, _LEADING, _PAD = 132, 1.25, 0.05  # letters of a point in an inch, lines in heights of a letter, inches

DPI = 300
_GIF_COLOURS = 96
_LONG = 22  # letters, from which on two labels of a legend are too wide for a column
_P = ParamSpec("_P")
_R = TypeVar("_R")


def styled(draw: Callable[_P, _R]) -> Callable[_P, _R]:
    """Let a function draw in ``STYLE``."""

    @wraps(draw)
    def in_style(*args: _P.args, **options: _P.kwargs) -> _R:
        import matplotlib

        settings: Any = dict(STYLE)
        with matplotlib.rc_context(settings):
            return draw(*args, **options)

    return in_style


def blank_figure(width: float, height: float) -> Figure:
    """A figure of some inches that no window shows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def colour_of(number: int) -> str:
    """The colour of a line, by its number; after the last comes the first."""
    return COLOURS[number % len(COLOURS)]


def marker_of(number: int) -> str:
    """The marker of a line, by its number."""
    return MARKERS[number % len(MARKERS)]


def grid(axis: Any, which: str = "both") -> None:
    """Small numbers at the ticks, and thin lines behind what is drawn.

    Args:
        axis: matplotlib's axes.
        which: x, y or both.
    """
    axis.tick_params(which="both", labelsize=SMALL)
    axis.grid(axis=which, linewidth=0.4, alpha=0.6)
    axis.set_axisbelow(True)


def band(axis: Any, mean: Mapping[Any, float], spread: Mapping[Any, float], colour: str) -> None:
    """A band of one standard deviation about the means, by abscissa."""
    low, high = ([mean[x] + sign * spread[x] for x in mean] for sign in (-1, 1))
    axis.fill_between(list(mean), low, high, color=colour, alpha=0.18, linewidth=0, zorder=2)


def legend_columns(names: Iterable[str]) -> int:
    """How many columns the legend of a figure as wide as a column has: two, where the names are short."""
    return 1 if max(map(len, names)) > _LONG else 2


def legend_below(
    figure: Figure, axes: Iterable[Any], names: Sequence[str] | None = None, columns: int = 2, **options: Any
) -> None:
    """One legend for all panels, below them.

    Args:
        figure: that has room for it.
        axes: whose labels it shows, each once.
        names: the labels in their order; None: as they come.
        columns: of the legend.
        options: of matplotlib's legend.
    """
    handles: dict[str, Any] = {}
    for axis in axes:
        handles |= {label: handle for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    if names is not None:
        handles = {name: handles[name] for name in names if name in handles}
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=columns, **options)


def headline(figure: Figure, title: str, notes: Sequence[str]) -> Text:
    """A short title, and small below it what was measured how: data, budget, checksum. The figure grows by their room.

    Args:
        figure: with its final width, before it is drawn.
        title: a few words.
        notes: are joined, and broken into lines that fit the width.

    Returns:
        The title.
    """
    import textwrap

    width, height = figure.get_size_inches()
    heads = textwrap.wrap(title, int(_LETTERS * width / NORMAL))
    lines = textwrap.wrap("; ".join(filter(None, notes)), int(_LETTERS * width / TINY), break_on_hyphens=False)
    first = _PAD + len(heads) * _LEADING * NORMAL / 72
    room = first + len(lines) * _LEADING * TINY / 72 + _PAD / 2
    figure.set_size_inches(width, height + room)
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.set(rect=(0, 0, 1, height / (height + room)))  # type: ignore[call-arg]
    top: dict[str, Any] = {"ha": "center", "va": "top", "in_layout": False}
    text = figure.suptitle("\n".join(heads), fontsize=NORMAL, y=1 - _PAD / (height + room), **top)
    figure.text(0.5, 1 - first / (height + room), "\n".join(lines), fontsize=TINY, color=MUTED, gid=NOTES, **top)
    return text


def save(figure: Figure, out: Path) -> list[Path]:
    """Write a figure as PNG and PDF.

    Args:
        figure: what was drawn.
        out: the files without their endings.

    Returns:
        The files.
    """
    paths = [out.with_name(out.name + suffix) for suffix in SUFFIXES]
    for path in paths:
        write(figure, path)
    return paths


def write(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, PDF or SVG, by the ending of the file."""
    content = rendered(figure, path.suffix[1:].lower())
    write_atomically(path, lambda file: file.write(content))


def rendered(figure: Figure, kind: str, dpi: int = DPI) -> bytes:
    """A figure as file content; the same figure is the same content.

    Args:
        figure: what was drawn.
        kind: png, pdf or svg.
        dpi: dots per inch, of png and of what is not drawn with lines.
    """
    import io

    import matplotlib

    dates = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
    file = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "se3t"}):
        figure.savefig(file, format=kind, dpi=dpi, metadata=dates.get(kind))
    return file.getvalue()


def save_animation(
    figure: Figure,
    path: Path,
    moving: Sequence[Artist],
    num_frames: int,
    show: Callable[[int], object],
    *,
    dpi: int,
    per_second: int,
) -> Path:
    """Write a figure that moves as GIF, repeated without end; all but the moving parts is drawn once.

    Args:
        figure: what was drawn, its moving parts in the state that needs most room.
        path: the file.
        moving: what changes, from the bottom to the top.
        num_frames: how many pictures.
        show: changes the moving parts into a frame, by its number.
        dpi: dots per inch.
        per_second: frames.

    Returns:
        ``path``.
    """
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    figure.set_dpi(dpi)
    canvas.draw()
    figure.set_layout_engine("none")
    for artist in moving:
        artist.set_animated(True)  # left out of the background
    canvas.draw()
    background, frames = canvas.copy_from_bbox(figure.bbox), []
    for number in range(num_frames):
        canvas.restore_region(background)
        show(number)
        for artist in moving:
            figure.draw_artist(artist)
        frames.append(np.asarray(canvas.buffer_rgba()) @ np.array([1 << 16, 1 << 8, 1, 0]))  # one number a pixel
    colours, counts = np.unique(frames[-1], return_counts=True)
    palette = colours[np.argsort(-counts, kind="stable")[:_GIF_COLOURS]]  # one for all: no flicker, and a small file
    small = [_reduced(frame, palette) for frame in frames]
    options: dict[str, Any] = {"save_all": True, "append_images": small[1:], "loop": 0, "duration": 1000 // per_second}
    write_atomically(path, lambda file: small[0].save(file, format="GIF", **options))
    return path


def _reduced(frame: NDArray[Any], palette: NDArray[Any]) -> Any:
    """A picture in the colours of a palette, those that are in it exact: white stays white, as Pillow does not keep it.

    Args:
        frame: ``[height, width]``, colours as one number.
        palette: ``[colour]``, likewise.
    """
    import numpy as np
    from PIL import Image

    colours, place = np.unique(frame, return_inverse=True)
    distance = np.square(_parts(colours)[:, None] - _parts(palette)).sum(axis=-1)
    index = distance.argmin(axis=1).astype(np.uint8)[place]
    picture = Image.frombytes("P", frame.shape[::-1], index.tobytes())
    picture.putpalette(_parts(palette).astype(np.uint8).tobytes())
    return picture


def _parts(colours: NDArray[Any]) -> NDArray[Any]:
    """``[colour, 3]``: red, green, blue."""
    import numpy as np

    return colours[:, None] >> np.array([16, 8, 0]) & 255
