"""Whether a run record is as its run left it: what it says twice must agree."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from se3t.config.identity import first_difference, identity, settings_hash
from se3t.errors import UserError
from se3t.reporting.fields import Fields

_CONFIG = "config.yaml"
_TWICE = {
    "seed": "seed",
    "experiment": "experiment",
    "preset": "preset",
    "model": "model.name",
    "budget.max_steps": "trainer.max_steps",
    "budget.batch_size": "trainer.batch_size",
}
"""Fields of a result that its ``config`` has, too."""
_FOLDER = re.compile(r"(\d+)-([0-9a-f]{8})")
_ABSENT = object()
_ADVICE = "the record was changed after its run; bring the file back, or remove its folder and run again"


def require_unchanged(fields: Fields) -> None:
    """Refuse the result of a finished run that disagrees with itself, with ``config.yaml`` beside it, or with the name
    that training gave its folder, ``<seed>-<hash of the settings>``. Folders may have other names.

    Raises:
        UserError: naming file and field.
    """
    fields.integer("seed")
    config = fields.mapping("config")
    fields.integer("config.seed")
    for name, setting in _TWICE.items():
        ours, theirs = _value(fields.content, name), _value(config, setting)
        if _ABSENT not in (ours, theirs) and ours != theirs:
            raise UserError(
                f"{fields.origin}: field {name!r} is {ours!r}, but 'config.{setting}' {theirs!r}; {_ADVICE}"
            )
    path = Path(fields.origin)
    if path.is_file():
        _require_config_beside(path, config)
        _require_name_of_folder(path, config)


def _value(content: Mapping[str, Any], name: str) -> Any:
    value: Any = content
    for key in name.split("."):
        value = value.get(key, _ABSENT) if isinstance(value, Mapping) else _ABSENT
    return value


def _require_config_beside(path: Path, config: Mapping[str, Any]) -> None:
    """Settings that do not tell runs apart may differ: a run that goes on has another ``trainer.max_steps`` there
    until it has finished once more.
    """
    beside = path.with_name(_CONFIG)
    if not beside.is_file():
        return
    settings = _read_yaml(beside)
    name = first_difference(config, settings)
    if name is not None:
        ours, theirs = identity(config).get(name), identity(settings).get(name)
        raise UserError(f"{path}: field 'config.{name}' is {ours!r}, but {theirs!r} in {beside}; {_ADVICE}")


def _read_yaml(path: Path) -> Mapping[str, Any]:
    import yaml

    try:  # the parser in C is fifteen times as fast, where the other takes most of the time of a table
        content = yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: cannot be read as the settings of a run ({reason}); bring the file back") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds no settings; bring the file back, or remove its folder and run again")
    return {str(key): value for key, value in content.items()}


def _require_name_of_folder(path: Path, config: Mapping[str, Any]) -> None:
    found = _FOLDER.fullmatch(path.absolute().parent.name)
    if not found:
        return
    if int(found[1]) != config["seed"]:
        raise UserError(f"{path}: field 'config.seed' is {config['seed']}, but its folder says {found[1]}; {_ADVICE}")
    if settings_hash(config) != found[2]:
        raise UserError(
            f"{path}: the settings in field 'config' have the hash {settings_hash(config)}, but its folder says "
            f"{found[2]}; {_ADVICE}"
        )
