"""What ``se3t data prepare`` prints of point clouds. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.table import Table

from se3t.data.clouds.dataset import from_store, summary
from se3t.data.store import Store


def lines(data: Any, store: Store) -> Iterator[str | Table]:
    """Sizes, objects of every class, and accuracies without a network.

    Args:
        data: settings of the data.
        store: the prepared data.
    """
    clouds = from_store(data, store)
    content = summary(clouds)
    title = "synthetic shapes15" if clouds.synthetic else "ScanObjectNN"
    sizes = ", ".join(f"{count:,} {name}" for name, count in content["sizes"].items())
    yield f"{title}, {clouds.variant}, up is {data.up_axis}: {sizes}"
    table = Table(caption=f"checksum {clouds.checksum[:12]}", caption_justify="left")
    for column in ("class", *content["sizes"]):
        table.add_column(column, justify="left" if column == "class" else "right")
    for name, counts in content["classes"].items():
        table.add_row(name, *(f"{count:,}" for count in counts.values()))
    yield table
    yield _accuracies(content["baselines"])
    yield from store.provenance.get("notes", [])


def _accuracies(baselines: dict[str, dict[str, tuple[float, float]]]) -> Table:
    table = Table(title="accuracy in %, in brackets the mean over classes", title_justify="left")
    for column in ("prediction without a network", *baselines):
        table.add_column(column, justify="left" if column not in baselines else "right")
    for name in next(iter(baselines.values())):
        cells = (f"{100 * rows[name][0]:.1f} ({100 * rows[name][1]:.1f})" for rows in baselines.values())
        table.add_row(name.replace("_", " "), *cells)
    return table
