"""The numbers of the paper, read from ``conf/paper``: written nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from se3t.config import conf_dir
from se3t.errors import UserError


@dataclass(frozen=True)
class Estimate:
    """A number with its spread; ``std`` is None where none is known."""

    value: float
    std: float | None = None


@dataclass(frozen=True)
class PublishedModel:
    """One model of a published table: its printed name, and its numbers by metric (None where a dash is printed)."""

    label: str
    metrics: dict[str, Estimate | None]

    def relative(self, metric: str, reference: PublishedModel) -> float | None:
        """This model's number over that of ``reference``; None when either is missing."""
        own, other = self.metrics.get(metric), reference.metrics.get(metric)
        return None if own is None or other is None else own.value / other.value


@dataclass(frozen=True)
class PublishedTable:
    """A published table: where it stands, the budget behind it, and its models in the paper's order."""

    title: str
    experiment: str
    source: str
    max_steps: int
    batch_size: int
    models: dict[str, PublishedModel]


def load_published(name: str = "table1", folder: Path | None = None) -> PublishedTable:
    """Read ``<folder>/<name>.yaml``; the folder is ``conf/paper`` unless told.

    Raises:
        UserError: when the file is missing.
    """
    path = (conf_dir() / "paper" if folder is None else folder) / f"{name}.yaml"
    if not path.is_file():
        raise UserError(f"published numbers: {path} does not exist; reinstall se3t, or run from a complete checkout")
    content: Any = OmegaConf.to_container(OmegaConf.load(path))
    metrics = list(content["metrics"])
    models = {
        model: PublishedModel(entry["label"], {metric: _estimate(entry[metric]) for metric in metrics})
        for model, entry in content["models"].items()
    }
    return PublishedTable(
        title=content["title"],
        experiment=content["experiment"],
        source=content["source"],
        max_steps=content["budget"]["max_steps"],
        batch_size=content["budget"]["batch_size"],
        models=models,
    )


def _estimate(entry: dict[str, float | None] | None) -> Estimate | None:
    if entry is None or entry["value"] is None:
        return None
    return Estimate(entry["value"], entry["std"])
