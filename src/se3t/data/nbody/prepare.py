"""Prepare the store of an N-body data set. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from se3t.data.nbody.presets import SPLITS, NBodySettings, resolve
from se3t.data.nbody.simulator import simulate
from se3t.data.progress import progress_bar
from se3t.data.store import Store, create_store, read_store
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
"""Whole training trajectories, where training draws start frames."""
_METHOD = "charged particles of Kipf et al. 2018 in three dimensions, semi-implicit Euler, Coulomb forces"


def store_path(config: Any) -> Path:
    """File of the data set that ``config`` describes: <data.root>/nbody/<preset>-<digest of the settings>.h5."""
    settings = resolve(config)
    return Path(config.root) / DATA.name / f"{settings.preset}-{settings.digest()}.h5"


def prepare_nbody(config: Any, progress: bool = True, force: bool = False) -> Store:
    """The store of the data set, simulated first where it is missing.

    Args:
        config: a ``se3t.config.NBodyData``, or an OmegaConf node with its fields.
        progress: show a progress bar on standard error.
        force: replace an existing store.

    Returns:
        What is in the store at :func:`store_path`, verified or just written.

    Raises:
        UserError: a setting out of range, a damaged store (and no ``force``), or a folder that cannot be written.
    """
    settings, path = resolve(config), store_path(config)
    if path.exists() and not force:
        return read_nbody_store(config)
    return create_store(path, lambda: _make_store(settings, progress))


def _make_store(settings: NBodySettings, progress: bool) -> Store:
    arrays: dict[str, np.ndarray] = {}
    count = sum(map(settings.num_trajectories, SPLITS))
    title, total, done = f"N-body {settings.preset}: {count} trajectories", count * (settings.last_frame + 1), 0
    with progress_bar(progress, title, total) as show:

        def advance(frames: int) -> None:
            nonlocal done
            done += frames
            show(done)

        for split in SPLITS:
            samples = simulate(settings, split, on_progress=advance)
            arrays |= {f"{split}/{name}": np.ascontiguousarray(array) for name, array in samples.as_dict().items()}
    units = {f"{split}/{name}": unit for split in SPLITS for name, unit in UNITS.items()}
    if settings.redraws:
        units[FRAMES] = f"{UNITS['positions']}, {UNITS['velocities']}"
    return Store(DATA.name, arrays, settings.as_dict(), units, {"method": _METHOD})


def read_nbody_store(config: Any) -> Store:
    """Read and verify the store of the data set.

    Raises:
        UserError: it is missing, damaged, or was made from other settings; the message says which command makes it.
    """
    settings, path = resolve(config), store_path(config)
    arrays = [*(f"{split}/{name}" for split in SPLITS for name in UNITS), *([FRAMES] if settings.redraws else [])]
    fix = DATA.prepare_command(config, force=path.exists())
    return read_store(path, DATA.name, fix=fix, arrays=arrays, settings=settings.as_dict())
