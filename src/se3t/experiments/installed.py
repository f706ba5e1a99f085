"""Experiments and models of other installed packages, by their entry points. Imports no torch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

from se3t.experiments.base import Experiment

EXPERIMENTS, MODELS = "se3t.experiments", "se3t.models"
"""Groups of entry points: of an :class:`Experiment`; of a model's schema, whose ``implementation`` names its class."""

log = logging.getLogger(__name__)


def installed_experiments() -> Iterator[tuple[str, Callable[[], Any]]]:
    """What the entry points of ``se3t.experiments`` declare: where each stands, and a function that loads it."""
    return _entries(EXPERIMENTS, Experiment, "an Experiment")


def installed_models() -> Iterator[tuple[str, Callable[[], Any]]]:
    """The same for the schemas of models that the entry points of ``se3t.models`` name."""
    return _entries(MODELS, type, "a dataclass of settings")


def add_installed(entries: Iterator[tuple[str, Callable[[], Any]]], add: Callable[[Any], None]) -> None:
    """Add what other packages declare; what cannot be loaded or added is left out, with a warning that names it."""
    for where, load in entries:
        try:
            add(load())
        except Exception as error:  # of another package: nothing else is to fail with it
            log.warning("%s is left out: %s", where, error)


def _entries(group: str, kind: type, expected: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    from importlib.metadata import entry_points  # which takes a while to load

    for entry in entry_points(group=group):

        def load(entry: Any = entry) -> Any:
            declared = entry.load()
            if not isinstance(declared, kind):
                raise TypeError(f"it is {type(declared).__name__}, expected {expected}")
            return declared

        package = "" if entry.dist is None else f" of {entry.dist.name}"
        yield f"{group} {entry.name}{package}", load
