"""Make the store of an N-body data set when it is not there yet. Imports no torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from se3t.data.nbody.presets import SPLITS, NBodySettings, resolve
from se3t.data.nbody.simulator import simulate
from se3t.data.store import Store, made_by, make_folder, read_store, write_store
from se3t.errors import UserError
from se3t.experiments.nbody import DATA

UNITS = {
    "positions": "simulation length",
    "velocities": "simulation length / simulation time",
    "charges": "simulation charge",
    "target_positions": "simulation length",
    "target_velocities": "simulation length / simulation time",
    "start_frame": "frame",
    "energy": "simulation energy",
    "clipped": "force components",
}
"""Dimensionless: masses and the constant of Coulomb's law are 1."""
FRAMES = "train/frames"
"""Whole training trajectories, where training draws its starts."""


def store_path(config: Any) -> Path:
    """File of the data set that ``config`` describes: <data.root>/nbody/<preset>-<digest of the settings>.h5."""
    settings = resolve(config)
    return Path(config.root) / DATA.name / f"{settings.preset}-{settings.digest()}.h5"


def prepare_nbody(config: Any, progress: bool = True, force: bool = False) -> Path:
    """Return the store of the data set, simulating it first where it is missing.

    Args:
        config: a ``se3t.config.NBodyData``, or an OmegaConf node with its fields.
        progress: show a progress bar on standard error.
        force: simulate even where a store exists, and replace it.

    Returns:
        Path of a store whose checksum was verified, or that was just written.

    Raises:
        UserError: a knob out of range, a damaged store (and no ``force``), or a folder that cannot be written.
    """
    settings, path = resolve(config), store_path(config)
    if path.exists() and not force:
        read_nbody_store(config)
        return path
    make_folder(path.parent)  # before the work, not after it
    begin = time.perf_counter()
    arrays: dict[str, np.ndarray] = {}
    with _progress_bar(settings, progress) as advance:
        for split in SPLITS:
            samples = simulate(settings, split, on_progress=advance)
            arrays |= {f"{split}/{name}": np.ascontiguousarray(array) for name, array in samples.as_dict().items()}
    units = {f"{split}/{name}": unit for split in SPLITS for name, unit in UNITS.items()}
    if settings.redraws:
        units[FRAMES] = f"{UNITS['positions']}, {UNITS['velocities']}"
    provenance = _provenance(time.perf_counter() - begin)
    write_store(
        path, Store(kind=DATA.name, arrays=arrays, settings=settings.as_dict(), units=units, provenance=provenance)
    )
    return path


def read_nbody_store(config: Any) -> Store:
    """Read and verify the store of the data set.

    Raises:
        UserError: it is missing, damaged, or was made from other settings; the message says which command makes it.
    """
    settings, path = resolve(config), store_path(config)
    fix = DATA.prepare_command(config, force=path.exists())
    store = read_store(path, DATA.name, fix=fix)
    expected = settings.as_dict()
    differing = sorted(name for name in expected if store.settings.get(name) != expected[name])
    required = {f"{split}/{name}" for split in SPLITS for name in UNITS} | ({FRAMES} if settings.redraws else set())
    missing = sorted(required - set(store.arrays))
    if differing:
        name = differing[0]
        made = store.settings.get(name)
        raise UserError(f"{path}: was made with {name} = {made}, expected {expected[name]}; make it again with `{fix}`")
    if missing:
        raise UserError(
            f"{path}: has no array {missing[0]!r}, expected {len(required)} of them; make it again with `{fix}`"
        )
    return store


def _provenance(seconds: float) -> dict[str, Any]:
    return {
        **made_by(),
        "seconds": round(seconds, 3),
        "method": "charged particles of Kipf et al. 2018 in three dimensions, semi-implicit Euler, Coulomb forces",
    }


@contextmanager
def _progress_bar(settings: NBodySettings, show: bool) -> Iterator[Callable[[int], object] | None]:
    if not show:
        yield None
        return
    from rich.progress import Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from se3t.screen import bar_columns, console

    screen = console(stderr=True)
    columns = (TextColumn("{task.percentage:>3.0f} %"), TimeElapsedColumn(), TimeRemainingColumn())
    count = sum(settings.num_trajectories(split) for split in SPLITS)
    with Progress(*bar_columns(screen, *columns), console=screen) as bar:
        task = bar.add_task(f"N-body {settings.preset}: {count} trajectories", total=count * (settings.last_frame + 1))
        yield lambda frames: bar.advance(task, frames)
