"""Prepared molecules and properties of each, in memory. Imports neither torch nor rdkit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from se3t.config import targets_of
from se3t.data.molecules.building import mean_error
from se3t.data.molecules.molecule import SPLITS, take
from se3t.data.store import Store
from se3t.errors import UserError, did_you_mean
from se3t.experiments import qm9


@dataclass(frozen=True)
class Property:
    """A property that is learned.

    Attributes:
        name: of the target on the command line, or the column of a table.
        label: its name in tables.
        unit: of values, errors and predictions; "" where unknown.
    """

    name: str
    label: str
    unit: str


@dataclass(frozen=True)
class PropertyData:
    """Molecules whose properties are known.

    Attributes:
        kind: of the store, the name of the data set.
        arrays: flat arrays of these molecules, see :func:`se3t.data.molecules.molecule.pack`.
        values: ``[molecule, property]`` float64, in the units of the properties.
        splits: numbers of the molecules of each split, ascending.
        properties: what is learned.
        checksum: of the store.
        official: sizes of the splits of the whole data set, where known.
    """

    kind: str
    arrays: Mapping[str, np.ndarray]
    values: np.ndarray
    splits: Mapping[str, np.ndarray]
    properties: tuple[Property, ...]
    checksum: str
    official: Mapping[str, int]


def load_property(config: Any, task: Any, progress: bool = True) -> PropertyData:
    """The data of a configuration, prepared first where they are missing.

    Args:
        config: a ``QM9Data`` or ``MoleculesData``.
        task: a ``PropertyTask``.
        progress: show a progress bar while preparing.

    Raises:
        UserError: the data are not available, the column does not exist, or no molecule is left to train or validate.
    """
    if config.name == qm9.DATA.name:
        if task.column is not None:
            raise UserError("task.column: columns belong to data=molecules; QM9 has targets, such as task=homo")
        return _qm9(config, targets_of(task.target), progress)
    return _own(config, task.column, progress)


def _qm9(config: Any, names: Sequence[str], progress: bool) -> PropertyData:
    from se3t.data.qm9.prepare import prepare_qm9
    from se3t.data.qm9.splits import SPLIT_SIZES
    from se3t.data.qm9.targets import QM9_TARGETS, in_table_units

    store = prepare_qm9(config, progress=progress)
    targets, columns = [QM9_TARGETS[name] for name in names], store.settings["columns"]
    raw = [store.arrays["targets"][:, columns.index(name)] for name in names]
    values = np.column_stack([in_table_units(*pair, store.arrays) for pair in zip(targets, raw, strict=True)])
    properties = tuple(Property(target.name, target.symbol, target.unit) for target in targets)
    data = _select(config, store, values, np.ones(len(values), dtype=bool))
    return PropertyData(**data, properties=properties, official=SPLIT_SIZES)


def _own(config: Any, column: str | None, progress: bool) -> PropertyData:
    from se3t.data.molecules.own import prepare_molecules

    store = prepare_molecules(config, progress=progress)
    columns = list(store.settings["columns"])
    if column is None:
        raise UserError(f"task.column: a value is missing; the columns are: {', '.join(columns)}; add task.column=…")
    if column in (skipped := store.provenance.get("skipped", {})):
        raise UserError(f"task.column={column}: holds more than numbers: {skipped[column]}")
    if column not in columns:
        raise UserError(f"task.column={column}: no such column; {did_you_mean(column, columns)}")
    place = columns.index(column)
    data = _select(config, store, store.arrays["targets"][:, place, None], store.arrays["known"][:, place] > 0)
    unit = store.settings["column_units"].get(column) or ""
    return PropertyData(**data, properties=(Property(column, column, unit),), official={})


def _select(config: Any, store: Store, values: np.ndarray, known: np.ndarray) -> dict[str, Any]:
    """Molecules whose values are known, at most as many of each split as the settings ask for."""
    chosen: list[np.ndarray] = []
    for code, split in enumerate(SPLITS):
        members = np.flatnonzero((store.arrays["split"] == code) & known)
        if len(members) == 0 and split != "test":
            raise UserError(
                f"the prepared {store.kind} data hold no molecule of the {split} split that could be used; prepare "
                f"data that do (se3t data prepare {store.kind} force=true data.raw=…)"
            )
        limit = getattr(config, f"num_{split}")
        # At random: the numbers of molecules correlate with their size.
        chosen.append(np.random.RandomState(0).permutation(members)[:limit])
    places = np.sort(np.concatenate(chosen))
    arrays = take(store.arrays, places)
    splits = {split: np.flatnonzero(arrays["split"] == code) for code, split in enumerate(SPLITS)}
    return {
        "kind": store.kind,
        "arrays": arrays,
        "values": values[places],
        "splits": splits,
        "checksum": store.checksum,
    }


def composition(arrays: Mapping[str, np.ndarray], elements: tuple[int, ...]) -> np.ndarray:
    """Number of atoms of each element in every molecule, ``[molecule, element]``."""
    owner = np.repeat(np.arange(len(arrays["num_atoms"])), arrays["num_atoms"])
    counts = np.zeros((len(arrays["num_atoms"]), len(elements)))
    for place, element in enumerate(elements):
        counts[:, place] = np.bincount(owner[arrays["numbers"] == element], minlength=len(counts))
    return counts


def composition_fit(data: PropertyData, elements: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Least squares of the properties on the numbers of atoms of each element and a constant, on the training
    molecules.

    Returns:
        The numbers and a one for every molecule, ``[molecule, element + 1]``, and their weights
        ``[element + 1, property]``.
    """
    train = data.splits["train"]
    counts = np.column_stack([composition(data.arrays, elements), np.ones(len(data.values))])
    return counts, np.linalg.lstsq(counts[train], data.values[train], rcond=None)[0]


def baseline_errors(data: PropertyData, elements: tuple[int, ...], split: str) -> dict[str, tuple[float, ...]]:
    """Mean absolute errors on a split of predictions that use no geometry, of every property.

    Args:
        data: statistics are those of its training molecules.
        elements: atomic numbers to count.
        split: the split to evaluate on.

    Returns:
        ``mean``: the mean of the training molecules; ``composition``: least squares on the numbers of atoms of each
        element and a constant.
    """
    train, members = data.splits["train"], data.splits[split]
    truth, (counts, weights) = data.values[members], composition_fit(data, elements)
    mean = map(mean_error, data.values[train].T, truth.T)
    return {"mean": tuple(mean), "composition": tuple(np.abs(truth - counts[members] @ weights).mean(0).tolist())}
