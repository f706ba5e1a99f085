"""Output of ``se3t data prepare`` for point clouds. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.table import Table

from se3t.data.clouds.dataset import from_store, summary
from se3t.data.store import Store
from se3t.screen import table


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
    yield table(
        ("class", *content["sizes"]),
        [[name, *(f"{count:,}" for count in counts.values())] for name, counts in content["classes"].items()],
        caption=f"checksum {clouds.checksum[:12]}",
    )
    baselines = content["baselines"]
    yield table(
        ("prediction without a network", *baselines),
        [[name.replace("_", " "), *(_cell(rows[name]) for rows in baselines.values())] for name in baselines["test"]],
        title="accuracy in %, in brackets the mean over classes",
    )
    yield from store.provenance.get("notes", [])


def _cell(shares: tuple[float, float]) -> str:
    accuracy, class_mean = (100 * share for share in shares)
    return f"{accuracy:.1f} ({class_mean:.1f})"
