"""The published numbers, read from ``published_numbers``."""

from __future__ import annotations

from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from se3t.errors import UserError
from se3t.experiments import tables
from se3t.experiments.table import Estimate, PublishedModel, PublishedTable, TableColumn

PUBLISHED_NUMBERS = Path(__file__).parent / "published_numbers"


@cache
def load_published(name: str | Path = "table1") -> PublishedTable:
    """Read ``published_numbers/<name>.yaml``. A path is the file itself.

    Raises:
        UserError: when the file is missing.
    """
    path = name if isinstance(name, Path) else PUBLISHED_NUMBERS / f"{name}.yaml"
    if not path.is_file():
        raise UserError(f"published numbers: {path} does not exist; reinstall se3t, or run from a complete checkout")
    content: Any = OmegaConf.to_container(OmegaConf.load(path))
    columns = {name: TableColumn(entry["label"], name, entry["unit"]) for name, entry in content["metrics"].items()}
    models = {
        name: PublishedModel(
            label=entry["label"],
            model=entry.get("model", name),
            metrics={metric: _estimate(entry[metric]) for metric in columns},
            height=entry.get("height", False),
            num_points=entry.get("num_points"),
            is_quoted=entry.get("quoted", False),
            has_budget=content["budget"].get("of_all", True) and _is_trained(entry),
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


def published_tables() -> list[PublishedTable]:
    """The published table of every table that has one, in their order."""
    return [load_published(spec.published) for spec in tables().values() if spec.published]


@cache
def printed_names() -> dict[str, str]:
    """What the paper calls the models of this package, by their names here; without "+z"."""
    entries = [entry for table in published_tables() for entry in table.models.values()]
    return {entry.model: entry.label for entry in entries if entry.model is not None and not entry.height}


@cache
def paper_models() -> list[str]:
    """Models of this package as in the paper's tables, one after the other."""
    return list(printed_names())


def system_name(model: str, height: bool = False) -> str:
    """What the paper calls a model, with "+z" where heights are part of its input."""
    return printed_names().get(model, model) + (" +z" if height else "")


def _is_trained(entry: dict[str, Any]) -> bool:
    """Whether the paper of a table trained this model, which is the default."""
    return bool(entry.get("trained", True)) and not entry.get("quoted") and not entry.get("source")


def _estimate(entry: dict[str, Any] | None) -> Estimate | None:
    """A number with its printed digits; in YAML it is quoted where it ends in zeros."""
    if entry is None or entry["value"] is None:
        return None
    exponent = Decimal(str(entry["value"])).as_tuple().exponent
    std = None if entry["std"] is None else float(entry["std"])
    return Estimate(float(entry["value"]), std, max(0, -int(exponent)))
