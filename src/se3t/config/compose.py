"""Configurations composed from ``conf``, without Hydra's machinery of jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from se3t.config import conf_dir, register_schemas


def compose(command: str, overrides: Sequence[str]) -> Any:
    """What ``se3t <command> <overrides>`` would work with.

    Args:
        command: train or eval, the name of a file of ``conf``.
        overrides: words such as ``experiment=nbody``.

    Returns:
        Nested settings; :func:`se3t.config.to_config` makes a configuration of those of train.

    Raises:
        hydra.errors.HydraException: for words that fit nothing; the command line tells them in one sentence.
    """
    import hydra

    register_schemas()
    with hydra.initialize_config_dir(config_dir=str(conf_dir()), version_base="1.3"):
        return hydra.compose(command, list(overrides))
