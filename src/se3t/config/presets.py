"""The settings of a preset, read from ``conf`` as they are. Imports no torch."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from typing import Any

from omegaconf import OmegaConf

from se3t.config import conf_file
from se3t.config.schemas import SCHEMAS, OptimConfig, TrainerConfig


@cache
def settings_of_preset(experiment: str, preset: str, model: str = "") -> dict[str, Any]:
    """The settings of a preset by dotted name, as ``conf`` has them; with those of a model where one is named, its
    defaults included.
    """
    settings: dict[str, Any] = {}
    if model in SCHEMAS["model"]:
        defaults = {"model": SCHEMAS["model"][model](), "optim": OptimConfig(), "trainer": TrainerConfig()}
        for group, values in defaults.items():
            settings |= {f"{group}.{name}": value for name, value in asdict(values).items()}
        settings |= _read(f"recipe/{experiment}/{model}")
    settings |= _read(f"budget/{experiment}/{preset}")
    return settings | (_read(f"recipe/{experiment}/{preset}/{model}") if model else {})


def _read(name: str) -> dict[str, Any]:
    """A file of ``conf`` and those that it says it builds on; {} where there is none."""
    path = conf_file(f"{name}.yaml")
    content: Any = OmegaConf.to_container(OmegaConf.load(path)) if path is not None else {}
    settings: dict[str, Any] = {}
    for base in content.pop("defaults", []):
        settings |= _read(base.partition("@")[0].strip("/")) if base != "_self_" else {}
    for group, values in content.items():
        settings |= {f"{group}.{key}": value for key, value in values.items()} if isinstance(values, dict) else {}
    return settings
