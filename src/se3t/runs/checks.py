"""Whether a run record is unchanged since its run: fields that are stored twice must agree."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from se3t.errors import UserError
from se3t.runs.fields import Fields, value_at
from se3t.runs.files import read_config, read_json, require_sealed
from se3t.runs.identity import first_difference, setting, settings_hash
from se3t.runs.names import ADVICE, CONFIG, DIGESTS, RESULT

_TWICE = {
    "seed": "seed",
    "experiment": "experiment",
    "preset": "preset",
    "model": "model.name",
    "budget.max_steps": "trainer.max_steps",
    "budget.max_time": "trainer.max_time",
    "budget.batch_size": "trainer.batch_size",
}
"""Fields of a result that its ``config`` has, too."""
_KINDS: Mapping[str, Callable[[Fields, str], Any]] = {
    "config": Fields.mapping,
    "budget": Fields.mapping,
    "budget.max_steps": Fields.integer,
    "budget.steps_done": Fields.integer,
    "budget.seconds": Fields.amount,
    "budget.training_seconds": Fields.amount,
    "data": Fields.mapping,
    "units": Fields.mapping,
    "versions": Fields.mapping,
    "valid": Fields.mapping,
}
"""Types of some fields; a record of an earlier version may lack them."""
_FOLDER = re.compile(r"(\d+)-([0-9a-f]{8})")
_ABSENT = object()


def require_unchanged(fields: Fields) -> None:
    """Refuse the result of a finished run that disagrees with itself, with its digest, with ``config.yaml`` beside it,
    or with the name that training gave its folder, ``<seed>-<hash of the settings>``. Folders may have other names, and
    records of earlier versions have no digest: those are not verified.

    Raises:
        UserError: naming file and field.
    """
    if fields.is_checked:
        return
    fields.integer("seed")
    config = fields.mapping("config")
    fields.integer("config.seed")
    for name, twin in _TWICE.items():
        ours, theirs = value_at(fields.content, name, _ABSENT), value_at(config, twin, _ABSENT)
        if _ABSENT not in (ours, theirs) and ours != theirs:
            raise UserError(f"{fields.origin}: field {name!r} is {ours!r}, but 'config.{twin}' {theirs!r}; {ADVICE}")
    path = Path(fields.origin)
    if path.is_file():
        require_config(path.parent, config, fields.origin)
        _require_name_of_folder(path, config)
        fields.is_verified = require_sealed(fields.content, fields.origin)
    fields.is_checked = True


def require_kinds(fields: Fields) -> None:
    """Refuse a result in which a field of every experiment holds another kind of value, or a metric is no number.

    Raises:
        UserError: naming file and field.
    """
    for name, read in _KINDS.items():
        if value_at(fields.content, name, _ABSENT) is not _ABSENT:
            read(fields, name)
    for split in ("valid", "test"):
        metrics = fields.mapping(split) if fields.content.get(split) is not None else {}
        for name in [name for name, value in metrics.items() if value is not None]:  # null: it was not finite
            fields.number(f"{split}.{name}")


def _require_name_of_folder(path: Path, config: Mapping[str, Any]) -> None:
    name = _FOLDER.fullmatch(path.absolute().parent.name)
    if not name:
        return
    if int(name[1]) != config["seed"]:
        raise UserError(f"{path}: field 'config.seed' is {config['seed']}, but its folder says {name[1]}; {ADVICE}")
    if settings_hash(config) != name[2]:
        raise UserError(
            f"{path}: the settings in field 'config' have the hash {settings_hash(config)}, but its folder says "
            f"{name[2]}; {ADVICE}"
        )


# --- files beside a result --------------------------------------------------------------------------------------------


def require_file_unchanged(folder: Path, name: str, digest: str) -> None:
    """Refuse a file of a finished run that was changed since; not of a run that is being continued.

    Args:
        folder: of the run.
        name: of the file, a key of ``digests`` in the result.
        digest: of what the file holds.

    Raises:
        UserError: naming the file.
    """
    path = folder / RESULT
    if not path.is_file():
        return
    content = read_json(path, "the result of a finished run")
    digests = content.get(DIGESTS)
    known = digests.get(name) if isinstance(digests, Mapping) else None
    if known not in (None, digest) and not is_being_continued(folder, content):
        raise UserError(f"{folder / name}: does not match the digest in {path}; {ADVICE}")


def is_being_continued(folder: Path, result: Mapping[str, Any]) -> bool:
    """Whether a finished run is being continued to more steps: ``config.yaml`` then has another number of them."""
    path = folder / CONFIG
    if not path.is_file():
        return False
    budgets = [value_at(config, "trainer.max_steps") for config in (read_config(path), result.get("config"))]
    return None not in budgets and budgets[0] != budgets[1]


def require_config(folder: Path, settings: Mapping[str, Any], what: str, advice: str = ADVICE) -> None:
    """Refuse settings that differ from ``config.yaml`` in a folder, where there is one.

    Settings that do not tell runs apart may differ: a run that is being continued has another ``trainer.max_steps``
    there until it has finished again.

    Args:
        folder: of a run.
        settings: to compare.
        what: the file with these settings, for errors.
        advice: what the difference means, and what to do.

    Raises:
        UserError: naming the first setting that differs.
    """
    path = folder / CONFIG
    if not path.is_file():
        return
    other = read_config(path)
    name = first_difference(settings, other)
    if name is not None:
        ours, theirs = setting(settings, name), setting(other, name)
        raise UserError(f"{what}: field 'config.{name}' is {ours!r}, but {theirs!r} in {path}; {advice}")
