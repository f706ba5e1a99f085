"""Experiments and models of other installed packages, by their entry points. Imports no torch."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from se3t.experiments.base import Experiment

EXPERIMENTS, MODELS = "se3t.experiments", "se3t.models"
"""Groups of entry points: of an :class:`Experiment`; of a model's schema, whose ``implementation`` names its class."""

log = logging.getLogger(__name__)


def installed_experiments() -> list[Experiment]:
    """What the entry points of ``se3t.experiments`` declare."""
    return [found for found in _load(EXPERIMENTS) if isinstance(found, Experiment)]


def installed_models() -> list[type]:
    """The schemas of models that the entry points of ``se3t.models`` name."""
    return [found for found in _load(MODELS) if isinstance(found, type)]


def _load(group: str) -> Iterator[Any]:
    """What the entry points of a group name; those that cannot be loaded are told and left out."""
    from importlib.metadata import entry_points  # which takes a while to load

    for entry in entry_points(group=group):
        try:
            yield entry.load()
        except Exception as error:  # of another package: nothing else is to fail with it
            package = "" if entry.dist is None else f" of {entry.dist.name}"
            log.warning("%s %s%s cannot be loaded and is left out: %s", group, entry.name, package, error)
