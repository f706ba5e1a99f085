"""Prepare the store of QM9: raw files, bonds, official splits. Imports no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from se3t.config import TARGETS
from se3t.data.download import Source, download
from se3t.data.molecules import building
from se3t.data.molecules.building import (
    UNITS,
    build,
    from_block,
    load,
    provenance_lines,
    split_sizes,
)
from se3t.data.molecules.readers import Record
from se3t.data.progress import progress_bar
from se3t.data.qm9.raw import RawFiles, find_raw, from_xyz, iter_records
from se3t.data.qm9.splits import NO_SPLIT, NUM_MOLECULES, PACKAGED_LIST, SPLIT_SIZES, official_splits, read_ids
from se3t.data.qm9.targets import QM9_TARGETS, in_table_units
from se3t.data.raw import checksum_of, is_missing, made_from_others
from se3t.data.store import Store, create_store, make_folder
from se3t.errors import UserError
from se3t.experiments.qm9 import DATA

RAW_SOURCES = (
    Source(
        "https://ndownloader.figshare.com/files/3195389",
        "dsgdb9nsd.xyz.tar.bz2",
        "3a63848ac80691bdb8d41834b575afad345b9300d7a2db0c38adb7f6eaa8360c",
    ),
    Source("https://deepchemdata.s3-us-west-1.amazonaws.com/datasets/molnet_publish/qm9.zip", "qm9.zip"),
)
"""Raw files of QM9 in the order in which they are tried.

The raw XYZ files hold no bonds, but are what the authors published, with a checksum. The SDF of DeepChem was made from
them and holds bonds, but has no published checksum; its first download is pinned. Bonds of both agree for nearly all
molecules: `se3t data prepare` says how each were found.
"""
_METHODS = {
    "sdf": "bonds of gdb9.sdf, aromatic ones perceived by RDKit",
    "xyz": "bonds of the SMILES of each raw XYZ file, matched to its geometry, else perceived by RDKit",
}


def store_path(config: Any) -> Path:
    """File of the prepared data: <data.root>/qm9/qm9.h5."""
    return Path(config.root) / DATA.name / "qm9.h5"


def raw_folder(config: Any) -> Path:
    """Folder of downloads, and of files fetched by hand: <data.root>/qm9/raw."""
    return Path(config.root) / DATA.name / "raw"


def prepare_qm9(config: Any, progress: bool = True, force: bool = False) -> Store:
    """The store of QM9, made first from ``data.raw`` or a download where it is missing; the log says how.

    Args:
        config: a ``se3t.config.QM9Data``, or an OmegaConf node with its fields.
        progress: show progress bars on standard error.
        force: rebuild an existing store.

    Returns:
        What is in the store at :func:`store_path`, verified or just written.

    Raises:
        UserError: raw data that are missing, damaged, or not those of the store; a damaged store (and no
            ``force``); no network; a folder that cannot be written.
    """
    path = store_path(config)
    if path.exists() and not force:
        store = read_qm9_store(config)
        _require_same_inputs(config, store)
        return store
    raw = _downloaded(config, progress) if config.raw is None else find_raw(Path(config.raw).expanduser())
    inputs = _Inputs.of(config, raw)
    return create_store(path, lambda: _make_store(inputs, config.workers, progress), provenance_lines)


def read_qm9_store(config: Any) -> Store:
    """Read and verify the store of QM9.

    Raises:
        UserError: it is missing, damaged or of another version; the message says which command makes it.
    """
    path = store_path(config)
    return load(path, DATA.name, fix=DATA.prepare_command(config, force=path.exists()), columns=list(TARGETS))


def summary(store: Store) -> dict[str, Any]:
    """:func:`se3t.data.molecules.building.summary` in the units of Table 3, U0, U, H and G as atomisation energies."""
    columns = {
        name: (target.unit, in_table_units(target, store.arrays["targets"][:, place], store.arrays))
        for place, (name, target) in enumerate(QM9_TARGETS.items())
    }
    return building.summary(store, DATA.label, columns, SPLIT_SIZES)


# --- raw data -----------------------------------------------------------------------------------------------------


@dataclass
class _Inputs:
    """The inputs of a store.

    Attributes:
        raw: the raw files.
        checksums: SHA-256 of each, by name.
        removed: numbers of the uncharacterized molecules.
        list_from: the list of them that is used, in words.
        beside: whether the list is beside the raw files.
        num_removed: number of them in the raw files, counted while reading.
        num_without_split: number of others in no official split, counted while reading.
    """

    raw: RawFiles
    checksums: dict[str, str]
    removed: frozenset[int]
    list_from: str
    beside: bool
    num_removed: int = field(default=0, init=False)
    num_without_split: int = field(default=0, init=False)

    @classmethod
    def of(cls, config: Any, raw: RawFiles) -> _Inputs:
        checksums = {path.name: checksum_of(path) for path in raw.files}
        beside = raw.path.with_name("uncharacterized.txt")
        chosen, list_from = PACKAGED_LIST, "the list that comes with se3t"
        if beside.is_file():
            unread = "" if config.uncharacterized is None else ", which takes precedence over data.uncharacterized"
            chosen, list_from = beside, f"the list {beside} beside the raw data{unread}"
        elif config.uncharacterized is not None:
            chosen = Path(config.uncharacterized).expanduser()
            list_from = f"data.uncharacterized={chosen}"
        return cls(raw, checksums, frozenset(read_ids(chosen)), list_from, chosen == beside)

    @property
    def settings(self) -> dict[str, Any]:
        """What determines the store: contents, not paths."""
        return {
            "columns": list(TARGETS),
            "column_units": {name: target.unit_raw for name, target in QM9_TARGETS.items()},
            "raw": self.checksums,
            "uncharacterized": _list_settings(self.removed),
        }

    def kept(self, records: Iterable[Record]) -> Iterator[Record]:
        """The records of molecules that belong into the store; counts the others."""
        splits = official_splits()
        for record in records:
            if record.index in self.removed:
                self.num_removed += 1
            elif splits[record.index] == NO_SPLIT:
                self.num_without_split += 1
            else:
                yield record

    def notes(self) -> list[str]:
        """Notes on the raw data."""
        official = len(read_ids(PACKAGED_LIST))
        count = f"{self.num_removed:,} uncharacterized molecules removed, by {self.list_from}"
        if len(self.removed) != official:
            count += f", which names {len(self.removed):,} where the published one names {official:,}"
        notes = [f"raw data: {', '.join(str(path) for path in self.raw.files)}", count]
        if self.num_without_split:
            notes.append(f"{self.num_without_split:,} more left out: not in any official split")
        return [*notes, "u0, u, h, g: energies of the raw data minus those of the single atoms"]


def _list_settings(ids: Iterable[int]) -> dict[str, Any]:
    numbers = sorted(ids)
    return {"count": len(numbers), "sha256": hashlib.sha256(" ".join(map(str, numbers)).encode()).hexdigest()}


def _downloaded(config: Any, progress: bool) -> RawFiles:
    make_folder(store_path(config).parent)
    folder = raw_folder(config)
    for source in RAW_SOURCES:
        path = folder / source.name
        if path.is_file():
            digest = checksum_of(path)
            if source.sha256 not in (None, digest):
                raise UserError(
                    f"{path}: has checksum {digest[:12]}…, expected {source.sha256[:12]}…, the published one; remove "
                    f"it and repeat the command, or use it as it is with data.raw={path}"
                )
            return find_raw(path)
    return find_raw(download(RAW_SOURCES, folder, setting="data.raw", progress=progress))


def _require_same_inputs(config: Any, store: Store) -> None:
    """Refuse a store that was made from other raw data."""
    if is_missing(config.raw, store_path(config)):
        return
    differing = ""
    if config.raw is not None:
        inputs = _Inputs.of(config, find_raw(Path(config.raw).expanduser()))
        if sorted(inputs.checksums.values()) != sorted(store.settings["raw"].values()):
            differing = f"data.raw={config.raw}"
        elif inputs.settings["uncharacterized"] != store.settings["uncharacterized"]:
            differing = inputs.list_from
    elif config.uncharacterized is not None and not store.provenance["list_beside_raw"]:
        ids = read_ids(Path(config.uncharacterized).expanduser())
        if _list_settings(ids) != store.settings["uncharacterized"]:
            differing = f"data.uncharacterized={config.uncharacterized}"
    if differing:
        fix = DATA.prepare_command(config, force=True)
        raise made_from_others(store_path(config), store.settings["raw"], differing, fix)


def _make_store(inputs: _Inputs, workers: int | None, progress: bool) -> Store:
    make = from_xyz if inputs.raw.layout == "xyz" else from_block
    with progress_bar(progress, f"QM9: molecules of {inputs.raw.path.name}", NUM_MOLECULES) as advance:
        records = inputs.kept(iter_records(inputs.raw))
        arrays, facts = build(make, records, len(TARGETS), workers=workers, advance=advance)
        advance(NUM_MOLECULES)
    if not len(arrays["mol_id"]):
        raise UserError(f"{inputs.raw.path}: no molecule of an official split could be read; nothing was written")
    split = official_splits()[arrays["mol_id"]]
    facts |= {
        "method": _METHODS[inputs.raw.layout],
        "sizes": split_sizes(split),
        "official_sizes": SPLIT_SIZES,
        "num_uncharacterized": inputs.num_removed,
        "num_without_split": inputs.num_without_split,
        "list_beside_raw": inputs.beside,
        "notes": inputs.notes(),
    }
    return Store(DATA.name, {**arrays, "split": split}, inputs.settings, UNITS, facts)
