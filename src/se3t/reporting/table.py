"""Every table that run records fill, and how each is printed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from rich.table import Table

from se3t.reporting import classification, nbody, properties
from se3t.reporting.layout import ResultTable, to_markdown, to_rich
from se3t.reporting.records import Fields, Result, finished

__all__ = ["ResultTable", "render_tables", "tables", "to_markdown", "to_rich"]

_TABLES: Sequence[tuple[Sequence[str], Callable[[list[Fields]], list[ResultTable]]]] = (
    (("nbody",), nbody.tables),
    (("scanobjectnn",), classification.tables),
    (("qm9", "molecules"), properties.tables),
)
"""For some experiments, what makes tables of their finished runs."""


def tables(results: Iterable[Result], target: str | None = None) -> list[ResultTable]:
    """All tables that the results fill, one for every data set of every experiment.

    Args:
        results: files, or their contents; those of unfinished runs are left out.
        target: only runs that learned this property of molecules.

    Raises:
        UserError: naming file and field, when a file cannot be read, a field is missing, or a number is not finite.
    """
    runs = finished(results)
    if target is not None:
        runs = [fields for fields in runs if dict(fields.content.get("data") or {}).get("target") == target]
    found: list[ResultTable] = []
    for experiments, build in _TABLES:
        found += build([fields for fields in runs if fields.content.get("experiment") in experiments])
    return found


def render_tables(results: Iterable[Result]) -> list[Table]:
    """All tables that the results fill, for a terminal."""
    return [to_rich(table) for table in tables(results)]
