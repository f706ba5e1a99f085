"""What one row of a table says of its runs: mean and spread, seeds, the ratio to what is published."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from se3t.experiments.table import Estimate
from se3t.reporting.spelling import span
from se3t.reporting.tables.layout import Cell
from se3t.runs import RunRecord


def mean(values: Sequence[tuple[RunRecord, float]]) -> Estimate | None:
    """Mean and standard deviation; None when there are no runs."""
    numbers = [value for _, value in values]
    if not numbers:
        return None
    return Estimate(statistics.fmean(numbers), statistics.stdev(numbers) if len(numbers) > 1 else None)


def beside(cell: Cell, published: Estimate | None) -> Cell:
    """The cell with the published number that it stands beside, and its ratio to that."""
    if cell.estimate is None or published is None or published.value == 0:
        return replace(cell, published=published)
    return replace(cell, published=published, ratio=cell.estimate.value / published.value)


def facts(runs: Sequence[RunRecord]) -> dict[str, Any]:
    """What a row tells of its runs."""
    return {
        "seeds": seeds_of([runs]),
        "parameters": tuple(sorted({run.parameters for run in runs})),
        "steps": tuple(sorted({run.steps_done for run in runs})),
        "records": tuple(run.origin for run in runs),
    }


def seeds_of(groups: Iterable[Sequence[RunRecord]]) -> tuple[int, ...]:
    """All seeds of some rows, sorted."""
    return tuple(sorted({run.seed for group in groups for run in group}))


def seeds_in_words(runs: Sequence[RunRecord], all_seeds: Iterable[int]) -> str:
    """How many seeds; where others of the table have more or other ones, which.

    ``3 seeds``, ``2 of 3 seeds: 0, 2``; where the numbers of a row have several numbers of seeds ``1 … 2 of 2 seeds:
    0, 1``.
    """
    every, seeds = tuple(all_seeds), seeds_of([runs])
    by_number: dict[Any, set[int]] = {}
    for run in runs:
        by_number.setdefault(run.repeat[:-1], set()).add(run.seed)  # the last of what tells runs apart is the seed
    counts = span(len(seeds) for seeds in by_number.values())
    if seeds == every and counts == f"{len(seeds)}":
        return f"{counts} seed" + "s" * (len(seeds) > 1)
    return f"{counts} of {len(every)} seeds: {', '.join(map(str, seeds))}"


def spread_note(groups: Iterable[Sequence[RunRecord]]) -> list[str]:
    """What ± is, where a row has several seeds."""
    has_several = any(len({run.seed for run in group}) > 1 for group in groups)
    return ["±: standard deviation over seeds."] if has_several else []
