"""Reading and writing the files of a run folder; every problem with a file is a UserError that names it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from se3t.errors import UserError
from se3t.files import write_atomically
from se3t.runs.names import ADVICE, COSTS, DIGEST, DIGESTS

_DEEPEST = 20  # lists and mappings inside each other in config.yaml, which has 3
_LARGEST = 256 * 2**20  # bytes; the largest file of a run, details.json of all of ScanObjectNN, has 1 MiB


def read_text(path: Path, expected: str) -> str:
    """The text of a file of a run folder.

    Args:
        path: the file.
        expected: what it should be, for errors.

    Raises:
        UserError: the file is missing, no regular file, larger than any record, or not UTF-8.
    """
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait forever
            raise UserError(f"{path}: is not a regular file; expected {expected}")
        size = path.stat().st_size
        if size > _LARGEST:
            raise UserError(f"{path}: is {size / 2**20:,.0f} MiB, too large for a record; expected {expected}")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); expected {expected}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: cannot be read (it is not UTF-8); expected {expected}") from error


def read_json(path: Path, expected: str = "a JSON object") -> dict[str, Any]:
    """A JSON object.

    Args:
        path: its file.
        expected: what it should be, for errors.

    Raises:
        UserError: the file cannot be read, or holds something else.
    """
    text = read_text(path, expected)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise UserError(f"{path}: is not valid JSON ({reason}); expected {expected}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object, got {type(content).__name__}; expected {expected}")
    return content


def read_config(path: Path) -> dict[str, Any]:
    """The settings in a ``config.yaml``, as text: an interpolation such as ``${oc.env:HOME}`` stays what it is.

    Raises:
        UserError: the file cannot be read, or holds no settings.
    """
    import yaml

    text = read_text(path, "the settings of a run; restore the file")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C, fifteen times as fast, where there is one
    try:
        _require_small(yaml.parse(text, loader))
        content = yaml.load(text, loader)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: cannot be read as the settings of a run ({reason}); restore the file") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds no settings; restore the file, or remove its folder and run again")
    return {str(key): value for key, value in content.items()}


def _require_small(events: Iterable[Any]) -> None:
    """Refuse YAML that would exhaust the loader: deep nesting crashes the parser in C, and a few lines of aliases
    expand to billions of settings.
    """
    import yaml

    depth = 0
    for event in events:
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise yaml.YAMLError("nested too deeply")
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError("an alias of YAML, which no settings of a run have")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All complete lines of a ``metrics.jsonl``, without the partial line that a killed process may leave.

    Raises:
        UserError: naming the file, when it cannot be read, and the line, when it is no measurement with a ``kind`` and
            a ``step``.
    """
    whole = read_text(path, "what a training measured; restore the file, or leave the run out")
    expected = "what a training measured; remove that line, which no training depends on, or leave the run out"
    lines = []
    for number, text in enumerate(whole.split("\n")[:-1], start=1):
        if text.strip():
            try:
                line = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise UserError(f"{path}: line {number} is not valid JSON ({error}); expected {expected}") from error
            if not isinstance(line, dict) or type(line.get("step")) is not int or not isinstance(line.get("kind"), str):
                raise UserError(f"{path}: line {number} is no measurement with a 'step'; expected {expected}")
            lines.append(line)
    return lines


# --- writing ----------------------------------------------------------------------------------------------------------


def write_json(path: Path, value: Any, *, sealed: bool = False) -> None:
    """Write JSON atomically; a number that is not finite becomes null, so that every reader can parse it.

    Args:
        path: the file.
        value: its content.
        sealed: add the digest of the content.
    """
    value = finite(value)
    text = json.dumps(seal(value) if sealed else value, indent=2) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def finite(value: Any) -> Any:
    """A JSON value in which numbers that are not finite are null."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


# --- digests: whether a record was changed ----------------------------------------------------------------------------
# They guard against damage and careless edits. A digest is not a signature: whoever can write a record can write one.


def digest_of(value: Any) -> str:
    """SHA-256 of a JSON value, independent of the order of its keys and of white space."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def seal(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content with the digest of all its fields; read back from JSON it has the same digest."""
    fields = {name: value for name, value in content.items() if name != DIGEST}
    return {**fields, DIGEST: digest_of(fields)}


def require_sealed(content: Mapping[str, Any], origin: str) -> bool:
    """Refuse content that does not match its digest.

    Returns:
        Whether there is a digest: records of earlier versions have none, nor any of the files beside them.

    Raises:
        UserError: naming the file.
    """
    if DIGEST not in content and DIGESTS not in content:
        return False
    if DIGEST not in content:
        raise UserError(f"{origin}: field {DIGEST!r} is missing; {ADVICE}")
    if seal(content)[DIGEST] != content[DIGEST]:
        raise UserError(f"{origin}: its content does not match its field {DIGEST!r}; {ADVICE}")
    return True


def digest_of_metrics(lines: Iterable[Mapping[str, Any]]) -> str:
    """The digest of what a training measured, without time and memory."""
    return digest_of([{name: value for name, value in line.items() if name not in COSTS} for line in lines])
