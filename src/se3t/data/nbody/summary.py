"""What ``se3t data prepare`` prints of simulated data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.table import Table

from se3t.data.nbody.baselines import summary
from se3t.data.nbody.dataset import load_nbody


def lines(data: Any, prepared: Any) -> Iterator[str | Table]:
    """Errors of predictions without a network, energy drift and force clip of the data that settings describe."""
    facts = summary(load_nbody(data))
    yield _table(facts)
    drift, clip = facts["energy_drift"], facts["force_clip"]
    yield f"distinct training samples (trajectory, start): {facts['distinct_samples']:,}"
    yield (
        f"energy drift to the target: median {drift['median']:.2g}, 99 % below {drift['quantile_99']:.2g} "
        f"(mean kinetic energy {drift['mean_kinetic_energy']:.2g})"
    )
    yield f"force clip at {clip['max_force']:g}: acted in {100 * clip['fraction']:.2f} % of the trajectories"


def _table(facts: dict[str, Any]) -> Table:
    sizes = ", ".join(f"{count} {name}" for name, count in facts["sizes"].items())
    table = Table(
        title=f"N-body, preset {facts['preset']}, horizon {facts['horizon']:g}: {sizes}",
        caption=f"mean squared error on test ± standard error; checksum {facts['checksum'][:12]}",
        title_justify="left",
        caption_justify="left",
    )
    for column in ("prediction", "MSE x", "x Linear", "MSE v", "x Linear"):
        table.add_column(column, justify="left" if column == "prediction" else "right")
    for name, row in facts["baselines"].items():
        cells = []
        for axis in "xv":
            cells.append(f"{row[f'mse_{axis}']:.4f} ± {row[f'spread_{axis}']:.4f}")
            cells.append(f"{row[f'relative_mse_{axis}']:.3f}")
        table.add_row(name.replace("_", " ") + (" (Linear)" if name == "constant_velocity" else ""), *cells)
    return table
