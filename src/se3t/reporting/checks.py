"""Whether a run record is as its run left it: what it says twice must agree."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from se3t.config.identity import settings_hash
from se3t.errors import UserError
from se3t.reporting.fields import Fields
from se3t.runs import ADVICE, require_config, require_sealed

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
"""What some fields hold; a record of an earlier version may be without them."""
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
    for name, setting in _TWICE.items():
        ours, theirs = _value(fields.content, name), _value(config, setting)
        if _ABSENT not in (ours, theirs) and ours != theirs:
            raise UserError(f"{fields.origin}: field {name!r} is {ours!r}, but 'config.{setting}' {theirs!r}; {ADVICE}")
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
        if _value(fields.content, name) is not _ABSENT:
            read(fields, name)
    for split in ("valid", "test"):
        metrics = fields.mapping(split) if fields.content.get(split) is not None else {}
        for name in [name for name, value in metrics.items() if value is not None]:  # null: it was not finite
            fields.number(f"{split}.{name}")


def _value(content: Mapping[str, Any], name: str) -> Any:
    value: Any = content
    for key in name.split("."):
        value = value.get(key, _ABSENT) if isinstance(value, Mapping) else _ABSENT
    return value


def _require_name_of_folder(path: Path, config: Mapping[str, Any]) -> None:
    found = _FOLDER.fullmatch(path.absolute().parent.name)
    if not found:
        return
    if int(found[1]) != config["seed"]:
        raise UserError(f"{path}: field 'config.seed' is {config['seed']}, but its folder says {found[1]}; {ADVICE}")
    if settings_hash(config) != found[2]:
        raise UserError(
            f"{path}: the settings in field 'config' have the hash {settings_hash(config)}, but its folder says "
            f"{found[2]}; {ADVICE}"
        )
