"""The official splits of QM9, and the molecules that are left out. Imports no torch."""

from __future__ import annotations

from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from se3t.data.molecules.molecule import SPLITS
from se3t.errors import UserError

NUM_MOLECULES = 133_885
SPLIT_SIZES = dict(zip(SPLITS, (100_000, 17_748, 13_083), strict=True))
NO_SPLIT = 255
PACKAGED_LIST = Path(__file__).with_name("uncharacterized.txt")


def read_ids(path: Path) -> tuple[int, ...]:
    """Numbers of the molecules of a list, ascending.

    Args:
        path: the published ``uncharacterized.txt``, or any text whose lines begin with one or more numbers.

    Raises:
        UserError: it cannot be read, holds no number, or a number of no molecule.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a list of molecules ({error})") from error
    ids = {int(word) for line in lines for word in takewhile(str.isdecimal, line.split())}
    if not ids:
        raise UserError(
            f"{path}: no line begins with the number of a molecule; expected a list such as uncharacterized.txt of QM9"
        )
    if max(ids) > NUM_MOLECULES or min(ids) < 1:
        wrong = max(ids) if max(ids) > NUM_MOLECULES else min(ids)
        raise UserError(f"{path}: names molecule {wrong}; expected numbers from 1 to {NUM_MOLECULES}")
    return tuple(sorted(ids))


@cache
def official_splits() -> np.ndarray:
    """The split of every molecule, drawn from the 130,831 that remain without the published uncharacterized ones.

    ``RandomState(0).permutation`` over the remaining numbers in ascending order: the first 100,000 train, the next
    17,748 validate, the last 13,083 test, whichever part of QM9 is present.

    Returns:
        ``[133886]`` uint8, by the number of a molecule (from 1): index into ``SPLITS``, or ``NO_SPLIT``.

    Source: Anderson, Hy, Kondor 2019 (Cormorant), whose split later work uses.
    """
    kept = np.setdiff1d(np.arange(1, NUM_MOLECULES + 1), read_ids(PACKAGED_LIST))
    shuffled = kept[np.random.RandomState(0).permutation(len(kept))]
    splits = np.full(NUM_MOLECULES + 1, NO_SPLIT, dtype=np.uint8)
    splits[shuffled] = np.repeat(np.arange(3, dtype=np.uint8), list(SPLIT_SIZES.values()))
    splits.flags.writeable = False
    return splits


def sizes_of(data: Any) -> dict[str, int]:
    """Largest number of molecules of each split by the settings."""
    asked = {split: getattr(data, f"num_{split}") for split in SPLIT_SIZES}
    return {split: min(size, asked[split] or size) for split, size in SPLIT_SIZES.items()}
