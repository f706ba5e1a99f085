"""Settings as overrides: quoted so that Hydra reads back the same value, and the shell the same argument."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_PART = "[A-Za-z_./][A-Za-z0-9_./-]*"
_PLAIN = re.compile(f"{_PART}( {_PART})*")  # read literally by the grammar …
_NOT_TEXT = re.compile(r"(?i)\.[\d_]+(e.*)?|true|false|null|nan|inf(inity)?")  # … but for these
_BEFORE_INTERPOLATION = re.compile(r"(\\*)\$\{")


def override(key: str, value: Any) -> str:
    """The override ``key=value`` for one value: text, number, true or false, null, or a list of such.

    Args:
        key: such as ``data.raw``.
        value: text is taken as it is: neither quotes nor commas, ``${`` or words such as ``null`` mean anything in it.
    """
    return f"{key}={_spelled(value)}"


def override_key(argument: str) -> str:
    """The name that an override ``key=value`` sets, or ``~key`` removes."""
    return argument.partition("=")[0].lstrip("+~")


def overrides(settings: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The overrides of several settings, in their order."""
    return [override(f"{prefix}{key}", value) for key, value in settings.items()]


def command(arguments: Iterable[str]) -> str:
    """The line ``se3t <arguments>``, ready to be pasted into a shell."""
    return shlex.join(["se3t", *arguments])


def prepare_line(data: str, settings: Mapping[str, Any], force: bool = False) -> str:
    """The line that prepares a data set with ``settings`` of it; ``force`` adds the override that replaces a store."""
    return command(["data", "prepare", data, *overrides(settings, "data."), *(["force=true"] if force else [])])


def literal(text: str) -> str:
    """Text in which OmegaConf finds no interpolation, and which it resolves to ``text``."""
    return _BEFORE_INTERPOLATION.sub(lambda match: f"{match[1] * 2}\\${{", text)


def _spelled(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_spelled, value))}]"
    return _quoted(str(value)) if isinstance(value, str | Path) else str(value)


def _quoted(text: str) -> str:
    if _PLAIN.fullmatch(text) and not _NOT_TEXT.fullmatch(text):
        return text
    mark = "'" if '"' in text else '"'  # the shell needs the other one around the argument
    # Inside quotation marks a backslash counts as such in front of these marks and at the end.
    escaped = re.sub(
        rf"(\\*)({mark}|\Z)", lambda match: match[1] * 2 + match[2].replace(mark, f"\\{mark}"), literal(text)
    )
    return f"{mark}{escaped}{mark}"


def spell(value: Any) -> str:
    """A value as a command line spells it, for readers: without the quotation marks that :func:`override` may need."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
