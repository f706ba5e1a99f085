"""The choices of every group: the schemas and YAML files of this package, and those that other packages add.
Imports neither torch nor hydra.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from se3t.config.schemas import ALL_TARGETS, SCHEMAS, TARGETS, PropertyTask
from se3t.errors import UserError

_added: list[Path] = []


def conf_dir() -> Path:
    """Folder of the YAML files: inside the installed package, else beside the sources of a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "conf", package.parents[1] / "conf"):
        if (folder / "train.yaml").is_file():
            return folder
    raise UserError(f"the configuration files are missing: no conf/train.yaml in {package}; install the package again")


def conf_folders() -> list[Path]:
    """:func:`conf_dir`, then the folders that other packages have added."""
    return [conf_dir(), *_added]


def conf_file(name: str) -> Path | None:
    """A file of these folders by its name in them, such as ``recipe/nbody/tfn.yaml``; None where there is none."""
    return next((path for folder in conf_folders() if (path := folder / name).is_file()), None)


def extend(folder: Path | None = None, schemas: Mapping[str, Mapping[str, type]] | None = None) -> None:
    """Add the choices of another package; doing so twice changes nothing.

    Args:
        folder: laid out as ``conf``: ``experiment/<name>.yaml``, ``budget/<experiment>/<preset>.yaml``,
            ``recipe/<experiment>/[<preset>/]<model>.yaml``, and ``<group>/<word>.yaml`` for choices beside the schemas.
        schemas: a dataclass for each new choice by group (data, task, model) and by its ``name``, which is also the
            default of its field ``name``. ``/schema/<group>/<name>@_here_`` in a YAML file builds on it.

    Raises:
        UserError: for a folder that is not there, and a name that another schema has already.
    """
    for group, added in (schemas or {}).items():
        for name, schema in added.items():
            if SCHEMAS[group].setdefault(name, schema) is not schema:
                raise UserError(f"{group}={name}: there is a schema of this name already; choose another name")
    if folder is not None and not folder.is_dir():
        raise UserError(f"{folder}: not found; expected a folder of configuration files")
    if folder is not None and folder not in _added:
        _added.append(folder)


def schema_choices(group: str) -> dict[str, Any]:
    """The choices of a group that need no file, each with its defaults: schemas, or targets of QM9 and all of them."""
    by_name: dict[str, Any] = {}
    for name, schema in SCHEMAS.get(group, {}).items():
        is_property = schema is PropertyTask
        targets = (*TARGETS, ALL_TARGETS) if is_property else ()
        by_name |= {target: PropertyTask(target=target) for target in targets} or {name: schema()}
    return by_name


def choices(group: str) -> list[str]:
    """The choices of a configuration group. A preset is a budget of an experiment."""
    if not group:
        return []
    patterns = [f"{group}/*.yaml", *(["budget/*/*.yaml"] if group == "preset" else [])]
    files = (path.stem for folder in conf_folders() for pattern in patterns for path in folder.glob(pattern))
    return sorted({*schema_choices(group), *files})
