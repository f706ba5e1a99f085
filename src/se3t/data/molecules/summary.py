"""Output of ``se3t data prepare`` for molecules. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from rich.table import Table

from se3t.data.molecules import own
from se3t.data.molecules.building import provenance_lines
from se3t.data.qm9 import prepare as qm9
from se3t.data.store import Store
from se3t.screen import table


def lines(facts: dict[str, Any]) -> Iterator[str | Table]:
    """Sizes, statistics of every column, and how the bonds were found.

    Args:
        facts: the summary of a store, such as that of :func:`se3t.data.qm9.prepare.summary`.
    """
    official = facts["official"] or {}
    sizes = (
        f"{count:,}" + (f" of {official[name]:,}" if official else "") + f" {name}"
        for name, count in facts["sizes"].items()
    )
    yield table(
        ("column", "unit", "mean", "std", "error valid", "error test"),
        [_row(name, row) for name, row in facts["columns"].items()],
        num_left=2,
        title=f"{facts['title']}: {', '.join(sizes)}",
        caption="mean and standard deviation of train; mean absolute error of predicting that mean on valid and test; "
        f"checksum {facts['checksum'][:12]}",
    )
    yield from provenance_lines(facts)


def _row(name: str, row: dict[str, Any]) -> tuple[str, ...]:
    numbers = [row[key] for key in ("mean", "std", "mae_valid", "mae_test")]
    return (name, row["unit"] or "–", *("–" if math.isnan(value) else f"{value:.5g}" for value in numbers))


def lines_of_qm9(data: Any, store: Store) -> Iterator[str | Table]:
    """:func:`lines` of a store of QM9."""
    return lines(qm9.summary(store))


def lines_of_own(data: Any, store: Store) -> Iterator[str | Table]:
    """:func:`lines` of a store of own molecules."""
    return lines(own.summary(store))
