"""Which settings identify a run, which are shared by the runs of one table row, and which have no effect.

This is the only list of settings that do not matter: names of run folders, labels and groups of runs follow from it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

from se3t.config import SCHEMAS
from se3t.config.settings import flatten

IRRELEVANT = (
    "resume",
    "runs",
    "logger",
    "data.root",
    "data.workers",
    "data.uncharacterized",  # like data.raw of QM9: the prepared store is the same
    "trainer.checkpoint_every",
    "trainer.progress",
    "trainer.threads",
)
"""Settings, or groups of them, that do not change what a run measures: how often it is saved, where files are, what is
shown."""

ADDED = {
    "data.key": None,
    "task.velocity_weight": 1.0,
    "task.reflect": False,
    "task.reference": "none",
    "model.parity": False,
    "model.radial_basis": "distance",
    "model.radial_functions": 16,
    "model.radial_cutoff": 5.0,
    "model.cutoff": None,
    "model.key_nodes": "source",
    "model.attention_weights": "softmax",
    "model.logit_scale": "all_heads",
    "model.attention_scale": "none",
    "trainer.max_time": None,
}
"""Settings that older runs do not have, with the values that change nothing: those runs are the same runs."""

_REPEATS = ("seed", "data.raw")  # runs that differ only here are repeats of one experiment


def identity(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that identify a run, by dotted name.

    More steps do not make it another run, unless the learning rate of every step depends on their
    number: then ``trainer.max_steps`` is one of these settings.
    """
    flat = relevant(settings)
    schema = SCHEMAS["data"].get(str(flat.get("data.name")))
    flat = without(flat, [f"data.{name}" for name in getattr(schema, "made_from", ())])
    if flat.get("optim.schedule") != "cosine":
        flat.pop("trainer.max_steps", None)
    return flat


def line_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that runs of one line of a table share, by dotted name: all relevant ones except the seed."""
    flat = {name: value for name, value in relevant(settings).items() if name not in _REPEATS}
    if flat.get("model.ablation") in ("none", None):
        flat.pop("model.ablation", None)  # as in records from before there was such a setting
    return flat


def relevant(settings: Mapping[str, Any]) -> dict[str, Any]:
    """All settings that may affect what a run measures, by dotted name."""
    flat = without(dict(flatten(settings)), IRRELEVANT)
    return {name: value for name, value in flat.items() if name not in ADDED or value != ADDED[name]}


def settings_hash(settings: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits of the settings that tell runs apart; the same in every process and on every machine."""
    return hashlib.sha256(json.dumps(identity(settings), sort_keys=True).encode()).hexdigest()[:8]


def first_difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str | None:
    """The first setting, by name, in which two configurations describe different runs; None when they are the same
    run.
    """
    left, right = identity(ours), identity(theirs)
    return next((name for name in sorted(left.keys() | right.keys()) if left.get(name) != right.get(name)), None)


def setting(settings: Mapping[str, Any], name: str) -> Any:
    """A setting that tells runs apart by its dotted name, as it was in effect; None where there is no such setting."""
    return identity(settings).get(name, ADDED.get(name))


def without(flat: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Settings by dotted name, without those named and those of a named group."""
    groups = tuple(f"{name}." for name in names)
    return {name: value for name, value in flat.items() if name not in names and not name.startswith(groups)}
