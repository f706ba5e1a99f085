"""Tile sizes of the Triton kernel: measured ones where there are any for the GPU, else defaults that were not timed.

``python -m benchmarks tiles`` measures them and writes a file that is read here. Imports no Triton.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from se3t.errors import UserError
from se3t.files import cache_folder, write_atomically

FILE = "SE3T_TILES"
"""Environment variable: file of the tile sizes; ``0``: the defaults. Otherwise a file in the user's cache, else one of
the package, of that GPU."""
COLUMNS = (64, 32, 16)
"""Columns of a tile; the matrix units take 16 at least."""
_SHIPPED = Path(__file__).with_name("tiles")
_POWERS = {"columns": COLUMNS, "edges": (16, 32, 64, 128, 256), "warps": (1, 2, 4, 8, 16), "stages": (1, 2, 3, 4, 5)}
_BYTES = {"bfloat16": 2, "float16": 2, "float64": 8}
_UNREADABLE = (OSError, ValueError, KeyError, TypeError)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Case:
    """What a tile size is chosen for.

    Attributes:
        kernel: ``contract``, ``hidden_gradients`` or ``layer_gradients``.
        precision: of the products: ``bfloat16``, ``float16``, ``tf32``, ``float32`` or ``float64``.
        rows: that share the weights of an edge: 1, 2 or 4.
        units: of a hidden layer, rounded up to a power of two.
        columns: of the tiles that have the least padding.
    """

    kernel: str
    precision: str
    rows: int
    units: int
    columns: int


@dataclass(frozen=True)
class Tiling:
    """Sizes of the work of one program.

    Attributes:
        columns: of a tile, at most.
        edges: of a tile.
        warps: that share it.
        stages: of the pipeline of loads.
    """

    columns: int
    edges: int
    warps: int
    stages: int


def default(case: Case) -> Tiling:
    """Sizes that do not spill in bfloat16 (compute capability 9.0); they were not timed.

    Wide hidden layers have fewer stages and edges, so that the shared memory of a small GPU (99 KiB) is enough.
    """
    row = case.units * _BYTES.get(case.precision, 4)  # bytes of the hidden features of an edge
    columns = case.columns if row <= 512 else min(case.columns, 32 if row <= 1024 else 16)
    warps = 8 if columns == 64 else 4
    if case.kernel == "layer_gradients":
        few = columns < 64 or case.precision in ("tf32", "float32", "float64")
        return Tiling(columns, 16 if few else 32, warps, 2)
    return Tiling(columns, 64 if row <= 512 else 32, warps, 3 if row <= 256 else 2 if row <= 512 else 1)


def tiling_of(case: Case, device: torch.device) -> Tiling:
    """The measured sizes of a case on a device, else the default ones."""
    return _measured(name_of(device)).get(case) or default(case)


@cache
def name_of(device: torch.device) -> str:
    """What the measurements of a device are filed under."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "interpreter"


def own_file(name: str) -> Path:
    """Where the measurements of a device are written to, and read from before the package's own."""
    given = os.environ.get(FILE)
    return Path(given) if given and given != "0" else cache_folder() / _file_name(name)


def source_of(name: str) -> Path | None:
    """The file that the tile sizes of a device are read from; None: there is none, or ``SE3T_TILES=0``."""
    if os.environ.get(FILE) == "0":
        return None
    shipped = _SHIPPED / _file_name(name)
    try:
        return next((path for path in (own_file(name), shipped) if path.is_file()), None)
    except (OSError, RuntimeError):  # a cache that cannot be read, a user without a home
        return shipped if shipped.is_file() else None


def file_to_write(name: str) -> Path:
    """Where :func:`write` will write, for asking before anything is measured.

    Raises:
        UserError: ``SE3T_TILES=0``, no home, or the file is of another device.
    """
    if os.environ.get(FILE) == "0":
        raise UserError(f"{FILE}=0: no file of tile sizes is read; unset it, or name the file to write")
    try:
        path = own_file(name)
    except RuntimeError as error:
        raise UserError(f"{FILE}: there is no home for a file of tile sizes ({error}); name a file") from error
    try:
        device, _ = _parsed(path)
    except _UNREADABLE:  # none yet, or a damaged one
        return path
    if device != name:
        raise UserError(f"{path}: holds tile sizes of {device}, not of {name}; name another file with {FILE}")
    return path


def write(name: str, tilings: Mapping[Case, Tiling], facts: Mapping[str, Any]) -> Path:
    """Write measured sizes for :func:`tiling_of`, for processes that start later; those of other cases stay.

    Args:
        name: of the device, see :func:`name_of`.
        tilings: what was measured.
        facts: what else the file is to tell of this measurement, the last one.
    """
    entries = [asdict(case) | {"tile": asdict(tiling)} for case, tiling in {**_read(name), **tilings}.items()]
    text = json.dumps({"device": name, **facts, "tilings": entries}, indent=1) + "\n"
    path = own_file(name)
    write_atomically(path, lambda file: file.write(text.encode()))
    return path


@cache
def _measured(name: str) -> dict[Case, Tiling]:
    return _read(name)


def _read(name: str) -> dict[Case, Tiling]:
    path = source_of(name)
    if path is None:
        return {}
    try:
        device, tilings = _parsed(path)
    except _UNREADABLE as error:
        _log.warning(
            "%s: not a file of tile sizes (%r): not used; python -m benchmarks tiles measures them", path, error
        )
        return {}
    if device != name:
        _log.warning("%s: tile sizes of %s, not of %s: not used", path, device, name)
        return {}
    return tilings


def _parsed(path: Path) -> tuple[str, dict[Case, Tiling]]:
    content = json.loads(path.read_text(encoding="utf-8"))
    return str(content["device"]), dict(map(_entry, content["tilings"]))


def _entry(entry: Mapping[str, Any]) -> tuple[Case, Tiling]:
    tiling = Tiling(**entry["tile"])
    for name, value in asdict(tiling).items():
        if value not in _POWERS[name]:
            raise ValueError(f"{name}={value}: expected one of {_POWERS[name]}")
    return Case(**{name: value for name, value in entry.items() if name != "tile"}), tiling


def _file_name(name: str) -> str:
    return f"tiles-{re.sub('[^a-z0-9]+', '-', name.lower())}.json"
