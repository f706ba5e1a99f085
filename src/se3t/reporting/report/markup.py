"""HTML built from values: what is not marked as HTML is escaped, so no text of a run record can become a part of it."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterable
from typing import Any, TypeAlias

_WITHOUT_END = ("img", "input", "br", "line", "path")


class Markup(str):
    """HTML that goes into a page as it is; made by the functions of this module only."""

    __slots__ = ()


Child: TypeAlias = "str | int | Iterable[Child] | None"
"""What can stand inside an element; a plain string is text."""


def element(name: str, *children: Child, **attributes: Any) -> Markup:
    """An element of HTML or SVG.

    Args:
        name: its tag.
        children: what stands inside.
        attributes: ``class_`` is class, ``data_value`` is data-value; True stands without a value, None and False are
            left out.
    """
    words = [name]
    for key, value in attributes.items():
        attribute = key.rstrip("_").replace("_", "-")
        if value is True:
            words.append(attribute)
        elif value is not None and value is not False:
            words.append(f'{attribute}="{html.escape(str(value))}"')
    start = " ".join(words)
    return Markup(f"<{start}/>" if name in _WITHOUT_END else f"<{start}>{join(children)}</{name}>")


def join(children: Child) -> Markup:
    """Several pieces one after the other."""
    if children is None:
        return Markup("")
    if isinstance(children, Markup):
        return children
    if isinstance(children, str | int):
        return Markup(html.escape(str(children)))
    return Markup("".join(join(child) for child in children))


def embedded_json(value: Any, identifier: str) -> Markup:
    """Data for the script of the page. No text in them can end the element they stand in."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)  # everything but ASCII is written as \\u…
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(f'<script type="application/json" id="{html.escape(identifier)}">{text}</script>')


def picture(content: bytes, kind: str, description: str, width: int, height: int) -> Markup:
    """A picture inside the page.

    Args:
        content: of its file.
        kind: its media type.
        description: for those who cannot see it.
        width: in pixels of the page.
        height: likewise.
    """
    source = f"data:{kind};base64,{base64.b64encode(content).decode()}"
    return element("img", src=source, alt=description, width=width, height=height)


def fingerprint(text: str) -> str:
    """A script or a style sheet as the policy of the page names it: nothing else is run or applied."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
