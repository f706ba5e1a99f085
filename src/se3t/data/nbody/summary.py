"""Output of ``se3t data prepare`` for simulated data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.table import Table

from se3t.data.nbody.baselines import remarks, summary
from se3t.data.nbody.dataset import from_store
from se3t.data.store import Store
from se3t.screen import table


def lines(data: Any, store: Store) -> Iterator[str | Table]:
    """Errors of predictions without a network, energy drift and force clip of a store."""
    facts = summary(from_store(data, store))
    sizes = ", ".join(f"{count} {name}" for name, count in facts["sizes"].items())
    yield table(
        ("prediction", "MSE x", "x Linear", "MSE v", "x Linear"),
        [_row(name, row) for name, row in facts["baselines"].items()],
        title=f"N-body, preset {facts['preset']}, horizon {facts['horizon']:g}: {sizes}",
        caption=f"mean squared error on test ± standard error; checksum {facts['checksum'][:12]}",
    )
    yield from remarks(facts)


def _row(name: str, row: dict[str, float]) -> Iterator[str]:
    yield name.replace("_", " ") + (" (Linear)" if name == "constant_velocity" else "")
    for axis in "xv":
        yield f"{row[f'mse_{axis}']:.4f} ± {row[f'spread_{axis}']:.4f}"
        yield f"{row[f'relative_mse_{axis}']:.3f}"
