"""Read SDF files record by record, in constant memory. Imports neither torch nor rdkit.

Source: BIOVIA "CTfile Formats".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile

from se3t.errors import UserError

_FIELD_NAME = re.compile(r">.*?<(.*)>")


@dataclass(frozen=True)
class SDFRecord:
    """One molecule of an SDF file.

    Attributes:
        identifier: its title line, without blanks at the ends; may be empty.
        block: its mol block, up to and with ``M  END``.
        fields: its data fields by name; lines of a value, or values of a repeated field, are joined
            by line breaks.
    """

    identifier: str
    block: str
    fields: dict[str, str]


def iter_sdf(stream: Iterable[str], name: str) -> Iterator[SDFRecord]:
    """Records of an SDF file.

    A record that ends with ``$$$$`` is returned whatever its mol block holds: who parses it refuses it with a reason.
    A file that is one mol block without ``$$$$`` is one record.

    Args:
        stream: its lines, with any line endings.
        name: what to call the file in an error.

    Yields:
        The records, in order.

    Raises:
        UserError: the file ends within a record.
    """
    lines: list[str] = []
    number = 1
    for raw in stream:
        line = raw.rstrip("\r\n")
        if line.startswith("$$$$"):
            yield _sdf_record(lines)
            lines = []
            number += 1
        else:
            lines.append(line)
    if not any(line.strip() for line in lines):
        return
    end = _end_of_block(lines)
    if number > 1 or end is None or any(line.strip() for line in lines[end:]):
        raise _cut_short(name, number, lines, end)
    yield _sdf_record(lines)


def _sdf_record(lines: list[str]) -> SDFRecord:
    end = _end_of_block(lines) or len(lines)
    return SDFRecord(
        identifier=lines[0].strip() if lines else "",
        block="\n".join(lines[:end]) + "\n",
        fields=_fields(lines[end:]) if end < len(lines) else {},
    )


def _end_of_block(lines: list[str]) -> int | None:
    """Number of lines up to and with ``M  END``."""
    for place, line in enumerate(lines, start=1):
        if line.startswith("M  END"):
            return place
    return None


def _fields(lines: list[str]) -> dict[str, str]:
    fields: dict[str, str] = {}
    rows = iter(lines)
    for line in rows:
        if match := _FIELD_NAME.match(line):
            name, value = match[1].strip(), "\n".join(takewhile(str.strip, rows))
            fields[name] = f"{fields[name]}\n{value}" if fields.get(name) else value
    return fields


def _cut_short(name: str, number: int, lines: list[str], end: int | None) -> UserError:
    title = lines[0].strip() or "no title"
    expected = "its mol block up to 'M  END', and '$$$$'" if end is None else "a line '$$$$' at its end"
    return UserError(
        f"{name}: ends within record {number} ({title}), expected {expected}; the file was cut short: get it again, or "
        "remove this record"
    )
