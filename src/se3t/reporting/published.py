"""The numbers of the paper, read from ``published_numbers``: written nowhere else."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from se3t.errors import UserError
from se3t.experiments.base import Column

TABLES = ("table1", "table2", "table3", "egnn")
PUBLISHED_NUMBERS = Path(__file__).parent / "published_numbers"


@dataclass(frozen=True)
class Estimate:
    """A number, its spread, and how many digits after the point it was printed with; None where unknown."""

    value: float
    std: float | None = None
    places: int | None = None


@dataclass(frozen=True)
class PublishedModel:
    """One model of a published table.

    Attributes:
        label: its printed name.
        model: its name in this package; None for one that is not part of it.
        metrics: its numbers by column, None where a dash is printed.
        height: whether heights are part of its input ("+z"): another system than the same model without.
        num_points: of a cloud; None where its inputs are no clouds drawn from more points.
        is_quoted: whether the paper took its numbers from elsewhere.
        note: what to say where a measured number stands beside the published one; "" where there is nothing.
        source: where its numbers stand; "" where in the paper of the table.
        network: settings of this package that are known of its network; {} where those of presets are it.
    """

    label: str
    model: str | None
    metrics: dict[str, Estimate | None]
    height: bool = False
    num_points: int | None = None
    is_quoted: bool = False
    note: str = ""
    source: str = ""
    network: dict[str, Any] = field(default_factory=dict)

    def relative(self, metric: str, reference: PublishedModel) -> float | None:
        """This model's number over that of ``reference``; None when either is missing."""
        own, other = self.metrics.get(metric), reference.metrics.get(metric)
        return None if own is None or other is None else own.value / other.value


@dataclass(frozen=True)
class PublishedTable:
    """A published table: where it stands, what its spreads are, the budget behind it, its columns and its models in the
    paper's order.

    Attributes:
        sizes: of the splits behind it; {} where the data files tell them.
        readings: by preset of the data, what the table is on them; {} where the paper leaves no choice.
        notes: what else to say of the published numbers.
    """

    title: str
    experiment: str
    source: str
    spread: str
    max_steps: int
    batch_size: int
    columns: dict[str, Column]
    models: dict[str, PublishedModel]
    sizes: dict[str, int] = field(default_factory=dict)
    readings: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def networks(self) -> dict[str, dict[str, Any]]:
        """Settings of the published networks by model; {} where those of presets are them."""
        return {str(entry.model): entry.network for entry in self.models.values() if entry.network}

    @property
    def samples(self) -> int:
        """How many samples the budget shows to a network."""
        return self.max_steps * self.batch_size

    @property
    def budget(self) -> str:
        """The budget in words."""
        return f"{self.max_steps:,} steps of batch {self.batch_size}"


@cache
def load_published(name: str = "table1", folder: Path | None = None) -> PublishedTable:
    """Read ``<folder>/<name>.yaml``; the folder is ``published_numbers`` unless told.

    Raises:
        UserError: when the file is missing.
    """
    path = (folder or PUBLISHED_NUMBERS) / f"{name}.yaml"
    if not path.is_file():
        raise UserError(f"published numbers: {path} does not exist; reinstall se3t, or run from a complete checkout")
    content: Any = OmegaConf.to_container(OmegaConf.load(path))
    columns = {metric: Column(**entry) for metric, entry in content["metrics"].items()}
    models = {
        name: PublishedModel(
            label=entry["label"],
            model=entry.get("model", name),
            metrics={metric: _estimate(entry[metric]) for metric in columns},
            height=entry.get("height", False),
            num_points=entry.get("num_points"),
            is_quoted=entry.get("quoted", False),
            note=entry.get("note", ""),
            source=entry.get("source", ""),
            network={f"model.{name}": value for name, value in entry.get("network", {}).items()},
        )
        for name, entry in content["models"].items()
    }
    return PublishedTable(
        title=content["title"],
        experiment=content["experiment"],
        source=content["source"],
        spread=content["spread"],
        max_steps=content["budget"]["max_steps"],
        batch_size=content["budget"]["batch_size"],
        columns=columns,
        models=models,
        sizes=content.get("data", {}),
        readings=content.get("readings", {}),
        notes=tuple(content.get("notes", ())),
    )


@cache
def printed_names() -> dict[str, str]:
    """What the paper calls the models of this package, by their names here; without "+z"."""
    entries = [entry for table in TABLES for entry in load_published(table).models.values()]
    return {entry.model: entry.label for entry in entries if entry.model is not None and not entry.height}


def system_name(model: str, height: bool) -> str:
    """What the paper calls a model, with "+z" where heights are part of its input."""
    return printed_names().get(model, model) + (" +z" if height else "")


def _estimate(entry: dict[str, Any] | None) -> Estimate | None:
    """A number, in quotes where the digits it was printed with would get lost."""
    if entry is None or entry["value"] is None:
        return None
    exponent = Decimal(str(entry["value"])).as_tuple().exponent
    std = None if entry["std"] is None else float(entry["std"])
    return Estimate(float(entry["value"]), std, max(0, -int(exponent)))
