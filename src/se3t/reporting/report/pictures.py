"""Figures drawn by matplotlib, inside the page; a figure that cannot be drawn leaves its reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from se3t.reporting.figures.style import rendered
from se3t.reporting.report.markup import Markup, element, picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 200
_LARGEST_DRAWING = 200_000  # bytes, from which on points are smaller than their description
_PIXELS_PER_INCH = 96


def figure_element(draw: Callable[[], Figure], description: str, caption: str) -> Markup:
    """A figure with its caption.

    Args:
        draw: makes it.
        description: what it shows, for those who cannot see it.
        caption: below it.
    """
    try:
        image = _image(draw(), description)
    except (ValueError, OSError) as error:  # of one figure only: the page has more to tell
        return element("p", f"Not drawn: {error}", class_="notice")
    return element("figure", element("div", image, class_="card"), element("figcaption", caption))


def _image(figure: Figure, description: str) -> Markup:
    """As drawing where that is small, else as PNG."""
    width, height = (round(_PIXELS_PER_INCH * 1.5 * inches) for inches in figure.get_size_inches())
    content = rendered(figure, "svg")
    if len(content) <= _LARGEST_DRAWING:
        return picture(content, "image/svg+xml", description, width, height)
    return picture(rendered(figure, "png", _DPI), "image/png", description, width, height)
