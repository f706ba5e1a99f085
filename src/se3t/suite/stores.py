"""Prepared data that jobs share: where they lie, and the command that makes them. Imports no torch."""

from __future__ import annotations

import shlex
from importlib import import_module
from pathlib import Path
from typing import Any

_MODULES = {
    "nbody": "se3t.data.nbody.prepare",
    "qm9": "se3t.data.qm9.prepare",
    "molecules": "se3t.data.molecules.own",
    "scanobjectnn": "se3t.data.scanobjectnn.prepare",
    "shapes15": "se3t.data.shapes15.prepare",
}


def store_path(data: Any) -> Path:
    """File of the prepared data that a configuration's ``data`` names, there or not.

    Raises:
        UserError: for settings that no data can have.
    """
    path: Path = import_module(_MODULES[data.name]).store_path(data)
    return path


def prepare_words(data: Any) -> list[str]:
    """The words behind ``se3t`` that prepare it."""
    return shlex.split(import_module(_MODULES[data.name]).prepare_command(data))[1:]


def split_sizes(data: Any) -> dict[str, int]:
    """Samples of each split as far as settings and published sizes tell; prepared data may hold fewer."""
    if data.name == "nbody":
        from se3t.data.nbody.presets import SPLITS, resolve

        return {split: resolve(data).num_trajectories(split) for split in SPLITS}
    if data.name == "qm9":
        from se3t.data.qm9.splits import SPLIT_SIZES

        given = {split: getattr(data, f"num_{split}") for split in SPLIT_SIZES}
        return {split: min(size, given[split] or size) for split, size in SPLIT_SIZES.items()}
    if data.name == "molecules":
        return {}
    from se3t.data.scanobjectnn.raw import OFFICIAL

    both = OFFICIAL if data.name == "scanobjectnn" else {"train": data.num_train, "test": data.num_test}
    valid = round(both["train"] * data.valid_fraction)
    return {"train": both["train"] - valid, "valid": valid, "test": both["test"]}


def obstacle(data: Any) -> str | None:
    """Why data cannot be prepared, as far as a look at the files tells; None where they are, or nothing is in the
    way.
    """
    if data.name != "scanobjectnn" or store_path(data).exists():
        return None
    prepare = import_module(_MODULES[data.name])
    raw: Path = prepare.raw_folder(data) if data.raw is None else Path(data.raw).expanduser()
    if raw.exists() and (data.raw is not None or any(raw.iterdir())):
        return None
    where = f"in {raw}" if data.raw is None else f"at data.raw={data.raw}"
    return f"there are no files of ScanObjectNN {where}, and they have to be downloaded by hand from {prepare.SITE}"
