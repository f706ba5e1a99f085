"""What every figure keeps: letters that can be read, all of them inside, and none on another."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations

from matplotlib.figure import Figure
from matplotlib.text import Text

from se3t.reporting.figures.style import NOTES, SMALL, TINY


def require_legible(figure: Figure) -> None:
    """Draw it, and look at letters and at what stands around the panels."""
    figure.canvas.draw()
    for text in figure.findobj(Text):
        if text.get_text() and text.get_visible():
            assert text.get_fontsize() >= (TINY if text.get_gid() == NOTES else SMALL) >= 6
    parts = list(_parts(figure))
    for part in parts:
        assert part.x0 >= 0
        assert part.x1 <= figure.bbox.width
        assert part.y0 >= 0
        assert part.y1 <= figure.bbox.height
    for first, second in combinations(parts, 2):
        assert not first.shrunk(0.99, 0.99).overlaps(second.shrunk(0.99, 0.99))


def _parts(figure: Figure) -> Iterable[object]:
    """Boxes of title, notes and legends, and of each panel with its own title and labels."""
    for part in (*figure.legends, *figure.texts):
        yield part.get_window_extent()
    for axis in figure.axes:
        yield axis.get_tightbbox(for_layout_only=False)


def notes_of(figure: Figure) -> str:
    """The small lines below the title of a figure, as one."""
    return " ".join(part.get_text().replace("\n", " ") for part in figure.texts if part.get_gid() == NOTES)
