"""Configurations composed from ``conf``, without Hydra's machinery of jobs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from se3t.config.choices import choices, conf_dir, conf_folders, schema_choices
from se3t.config.explain import in_sentences
from se3t.config.overrides import override
from se3t.config.refusals import check_overrides
from se3t.config.schemas import SCHEMAS, Config, EvalConfig
from se3t.config.settings import text_settings

_SETTING = re.compile(r"(\+{0,2})([\w.]+)=(.+)", re.DOTALL)


def compose(command: str, overrides: Sequence[str]) -> Any:
    """What ``se3t <command> <overrides>`` would work with.

    Args:
        command: train or eval, the name of a file of ``conf``.
        overrides: such as ``experiment=nbody``.

    Returns:
        Nested settings; :func:`se3t.config.to_config` makes a configuration of those of train.

    Raises:
        UserError: for overrides that fit nothing.
    """
    import hydra

    read = checked(overrides)
    prepare_hydra()
    with in_sentences(), hydra.initialize_config_dir(config_dir=str(conf_dir()), version_base="1.3"):
        return hydra.compose(command, read)


def prepare_hydra(folders: Sequence[Path] = ()) -> None:
    """Register with Hydra what the files of ``conf`` build on, and where further files are: the schemas as the groups
    ``schema`` and ``schema/<group>``, choices that need no file, the names of presets, folders of other packages.

    Args:
        folders: more folders with files, such as that of ``--config-dir``.
    """
    from hydra.core.config_store import ConfigStore
    from hydra.core.plugins import Plugins

    store = ConfigStore.instance()
    _store_schemas(tuple((group, *named) for group, schemas in SCHEMAS.items() for named in schemas.items()))
    more = {path.stem for folder in folders for path in folder.glob("budget/*/*.yaml")}
    with_file = {path.stem for folder in [*folders, *conf_folders()] for path in folder.glob("preset/*.yaml")}
    for name in {*choices("preset"), *more} - with_file:
        store.store(group="preset", name=name, node={"preset": name}, package="_global_")
    Plugins.instance().register(_search_path_plugin())


@cache  # a third of the time of compose
def _store_schemas(all_schemas: tuple[tuple[str, str, type], ...]) -> None:
    """Store those of ``SCHEMAS``, given as (group, name, schema)."""
    from hydra.core.config_store import ConfigStore
    from omegaconf import MISSING, OmegaConf

    store = ConfigStore.instance()
    train = OmegaConf.structured(Config)
    for group in SCHEMAS:
        train[group] = MISSING  # the choice brings its own schema; that of the default must not mix with it
        for name, schema in schema_choices(group).items():
            store.store(group=group, name=name, node=schema)
    for group, name, schema in all_schemas:
        store.store(group=f"schema/{group}", name=name, node=schema)
    store.store(group="schema", name="train", node=train, package="_global_")
    store.store(group="schema", name="eval", node=EvalConfig, package="_global_")


@cache
def _search_path_plugin() -> Any:
    from hydra.core.config_search_path import ConfigSearchPath
    from hydra.plugins.search_path_plugin import SearchPathPlugin

    class ConfFolders(SearchPathPlugin):
        def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
            for folder in conf_folders()[1:]:
                search_path.append("se3t", f"file://{folder.resolve()}")

    return ConfFolders


def checked(overrides: Sequence[str], *, several: bool = False) -> list[str]:
    """Overrides as Hydra is to read them, see :func:`as_typed`.

    Args:
        overrides: as typed.
        several: whether ``a,b`` are values of several jobs.

    Raises:
        UserError: for overrides that fit nothing.
    """
    read = [as_typed(argument) for argument in overrides]
    check_overrides(read, several=several)
    return read


def text_of(argument: str) -> str:
    """The value of an override ``key=value`` that sets a text."""
    return str(value_of(argument))


def value_of(argument: str) -> Any:
    """The value of an override ``key=value``, of a kind that :func:`checked` lets through."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_override(as_typed(argument)).value()


def as_typed(argument: str) -> str:
    """An override that sets a text means what was typed: ``data.raw=a (1)`` is that folder, ``task.column=1_2`` is
    not a number. What Hydra offers for text stays: quotation marks, ``a,b`` for several jobs, ``null`` and ``${…}``.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Glob, Sweep
    from hydra.errors import HydraException

    match = _SETTING.fullmatch(argument)
    if match is None or match[2] not in text_settings():
        return argument
    try:
        value = OverridesParser.create().parse_override(argument).value()
    except HydraException:
        value = 0  # no text either
    return (
        argument if value is None or isinstance(value, str | Sweep | Glob) else match[1] + override(match[2], match[3])
    )
