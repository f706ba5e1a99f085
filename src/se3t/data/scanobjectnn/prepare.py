"""Prepare the store of ScanObjectNN from downloaded files. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from se3t.data.clouds.objects import CLASSES, NUM_POINTS, TEST, TRAIN, UNITS, chunks, normalise
from se3t.data.progress import progress_bar
from se3t.data.raw import is_missing, made_from_others
from se3t.data.scanobjectnn.raw import FOLDERS, OFFICIAL, SIDES, RawFiles, RawObjects, file_name, find_raw
from se3t.data.store import Store, create_store, read_store
from se3t.errors import UserError
from se3t.experiments.scanobjectnn import SCANS

SITE = "https://hkust-vgd.github.io/scanobjectnn/"


def store_path(config: Any) -> Path:
    """File of the prepared data: <data.root>/scanobjectnn/<data.variant>.h5, or <data.variant>-background.h5."""
    return Path(config.root) / SCANS.name / f"{config.variant}{'-background' if config.background else ''}.h5"


def raw_folder(config: Any) -> Path:
    """Folder of the downloaded files when ``data.raw`` is null: <data.root>/scanobjectnn/raw."""
    return Path(config.root) / SCANS.name / "raw"


def prepare_scanobjectnn(config: Any, progress: bool = True, force: bool = False) -> Store:
    """The store of a variant of ScanObjectNN, made first from the files in ``data.raw`` where it is missing.

    Args:
        config: a ``se3t.config.ScanObjectNNData``, or an OmegaConf node with its fields.
        progress: show a progress bar on standard error.
        force: rebuild an existing store.

    Returns:
        What is in the store at :func:`store_path`, verified or just written.

    Raises:
        UserError: raw files that are missing, damaged, or not those of the store; a damaged store (and no
            ``force``); a folder that cannot be written.
    """
    path = store_path(config)
    if path.exists() and not force:
        store = read_store(path, SCANS.name, fix=SCANS.prepare_command(config, force=True), arrays=UNITS)
        _require_same_inputs(config, store)
        return store
    raw = _find(config)
    return create_store(path, lambda: _make_store(raw, config, progress))


def obstacle(data: Any) -> str | None:
    """Why the store cannot be made, judged by which files exist; None if the store or the files exist."""
    if store_path(data).exists():
        return None
    raw = raw_folder(data) if data.raw is None else Path(data.raw).expanduser()
    if raw.exists() and (data.raw is not None or any(raw.iterdir())):
        return None
    where = f"in {raw}" if data.raw is None else f"at data.raw={data.raw}"
    return f"there are no files of ScanObjectNN {where}; download them by hand from {SITE}"


# --- raw data -----------------------------------------------------------------------------------------------------


def _find(config: Any) -> RawFiles:
    if config.raw is not None:
        return find_raw(Path(config.raw).expanduser(), config.variant, config.background)
    folder = raw_folder(config)
    if folder.is_dir() and any(folder.iterdir()):
        return find_raw(folder, config.variant, config.background)
    train, test = (file_name(config.variant, split) for split in SIDES)
    raise UserError(
        f"ScanObjectNN: no data in {folder}, and they cannot be fetched for you: accept the terms of use at {SITE} and "
        f"download h5_files.zip, of which {FOLDERS[config.background]}/{train} and {test} are needed; put the zip, or "
        f"its folder h5_files, into {folder}, or name it: {SCANS.prepare_command(config)} data.raw=<folder or zip>; "
        "data=shapes15 preset=quick is a synthetic stand-in that needs no download and takes minutes"
    )


def _require_same_inputs(config: Any, store: Store) -> None:
    """Refuse a store that was made from other raw data."""
    if config.raw is None or is_missing(config.raw, store_path(config)):
        return
    if _find(config).checksums() != store.settings["raw"]:
        fix = SCANS.prepare_command(config, force=True)
        raise made_from_others(store_path(config), store.settings["raw"], f"data.raw={config.raw}", fix)


def _make_store(raw: RawFiles, config: Any, progress: bool) -> Store:
    sides: dict[str, RawObjects] = {}
    with progress_bar(progress, f"ScanObjectNN: {FOLDERS[config.background]}", 3) as advance:
        for done, split in enumerate(SIDES, start=1):
            sides[split] = raw.read(split)
            advance(done)
        _check_same_background(raw, sides)
        points = np.concatenate([normalise(side.points) for side in sides.values()])
        notes = [*_notes(raw, sides, config), *_oddities(sides)]
        advance(3)
    sizes = {split: len(side.labels) for split, side in sides.items()}
    arrays = {
        "points": points,
        "label": np.concatenate([side.labels for side in sides.values()]),
        "split": np.repeat(np.array([TRAIN, TEST], dtype=np.uint8), list(sizes.values())),
    }
    return Store(SCANS.name, arrays, _settings(raw, config), UNITS, {"sizes": sizes, "notes": notes})


def _settings(raw: RawFiles, config: Any) -> dict[str, Any]:
    """What determines the store: contents, not paths."""
    return {
        "classes": list(CLASSES),
        "up_axis": "y",
        "variant": config.variant,
        "background": bool(config.background),
        "synthetic": False,
        "num_points": NUM_POINTS,
        "raw": raw.checksums(),
    }


# --- notes --------------------------------------------------------------------------------------------------------


def _check_same_background(raw: RawFiles, sides: dict[str, RawObjects]) -> None:
    shares = {split: side.background for split, side in sides.items() if side.background is not None}
    if len(shares) == 2 and (shares["train"] > 0) != (shares["test"] > 0):
        with_it, without = sorted(shares, key=lambda split: -shares[split])
        raise UserError(
            f"{raw.name(with_it)} has points of the background (by its mask) and {raw.name(without)} has none: files "
            "of different variants, expected both of main_split or both of main_split_nobg"
        )


def _notes(raw: RawFiles, sides: dict[str, RawObjects], config: Any) -> Iterator[str]:
    yield f"raw data: {', '.join(raw.name(split) for split in sides)}; up is y in them"
    if config.variant == "obj":
        sizes = {split: len(side.labels) for split, side in sides.items()}
        objects, known = (f"{size['train']:,} training and {size['test']:,} test objects" for size in (sizes, OFFICIAL))
        yield f"{objects}, " + ("as published" if sizes == OFFICIAL else f"where the published files have {known}")
    else:
        yield (
            "the files do not say which perturbed copies are of one object: copies of one may be in both training and "
            "validation, so validation accuracy is optimistic; the test objects are different ones"
        )
    if missing := [name for label, name in enumerate(CLASSES) if label not in sides["train"].labels]:
        yield f"no training object of: {', '.join(missing)}"
    for split, side in sides.items():
        if side.background and not config.background:
            share = f"{100 * side.background:.1f} %"
            yield f"{raw.name(split)}: mask marks {share} of the points as background, and data.background=false"


def _oddities(sides: dict[str, RawObjects]) -> Iterator[str]:
    repeated, points = 0, 0
    for side in sides.values():
        for part in chunks(len(side.points)):
            cloud = side.points[part]
            order = np.lexsort(np.moveaxis(cloud, -1, 0), axis=-1)
            ranked = np.take_along_axis(cloud, order[..., None], axis=1)
            same = (ranked[:, 1:] == ranked[:, :-1]).all(axis=-1)  # [object, neighbours in that order]
            repeated += int(same.any(axis=1).sum())
            points += int(same.all(axis=1).sum())
    if repeated:
        yield f"objects with a point that occurs more than once: {repeated:,}; they are kept as they are"
    if points:
        yield f"objects of one repeated point: {points:,}; all their coordinates are 0"
