"""Where each value of a composed configuration comes from, as comments in its YAML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from se3t.config.choices import conf_dir
from se3t.config.explain import GROUPS
from se3t.config.schemas import SCHEMAS
from se3t.config.settings import flatten

_TYPED, _DEFAULT = "command line", "default"
_TARGET = "task.target"  # which every choice of a task of molecules sets, the default one too


@dataclass
class Origins:
    """What Hydra composed a configuration of.

    Attributes:
        layers: files and schemas in the order in which they were merged: name, values, defaults list.
        overrides: of the command line.
    """

    overrides: Sequence[str]
    layers: list[tuple[str, Mapping[str, Any], Sequence[Any]]] = field(default_factory=list)

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Record the layers of configurations composed meanwhile."""
        from hydra._internal.config_loader_impl import ConfigLoaderImpl
        from omegaconf import OmegaConf

        loader_class: Any = ConfigLoaderImpl
        load = loader_class._load_single_config

        def load_and_note(loader: Any, default: Any, repo: Any) -> Any:
            result = load(loader, default, repo)
            values: Any = OmegaConf.to_container(result.config, throw_on_missing=False)
            self.layers.append((_layer_name(default.config_path, result), values, result.defaults_list or ()))
            return result

        loader_class._load_single_config = load_and_note
        try:
            yield
        finally:
            loader_class._load_single_config = load

    def by_setting(self) -> dict[str, str]:
        """The origin of each setting by its dotted name."""
        origins: dict[str, str] = {}
        for name, values, _ in self.layers:
            origins |= dict.fromkeys(dict(flatten(values)), name)
        typed = self._typed()
        chosen = {group: _TYPED if group in typed else name for group, name in self._chosen().items()}
        for group in GROUPS:
            if group in chosen and group not in SCHEMAS:
                origins[group] = chosen[group]
            elif group in chosen:
                origins |= {key: chosen[group] for key in self._set_by_choice(group) if origins[key] == _DEFAULT}
        return origins | dict.fromkeys(typed, _TYPED)

    def _typed(self) -> set[str]:
        from hydra.core.override_parser.overrides_parser import OverridesParser

        names: set[str] = set()
        for override in OverridesParser.create().parse_overrides(list(self.overrides)):
            names |= set(dict(flatten({override.key_or_group: override.value()})))
        return names

    def _chosen(self) -> dict[str, str]:
        """The file that makes each choice: the primary one, or one with ``override /<group>``."""
        items = [(item, name) for name, _, defaults in self.layers for item in defaults if getattr(item, "group", None)]
        items.sort(key=lambda pair: bool(pair[0].override))
        return {item.group.lstrip("/"): name for item, name in items}

    def _set_by_choice(self, group: str) -> list[str]:
        """The name of a choice, and what distinguishes it from its schema: ``task=homo`` sets ``task.target``."""
        values = next((dict(flatten(part)) for _, part, _ in self.layers if set(part) == {group}), {})
        schema = SCHEMAS[group].get(str(values.get(f"{group}.name")))
        plain = vars(schema()) if schema is not None else {}
        return [
            key
            for key, value in values.items()
            if key in (f"{group}.name", _TARGET) or plain.get(key.partition(".")[2]) != value
        ]


def _layer_name(path: str, result: Any) -> str:
    """How a layer is called: default for a schema, else a file, without its folder where that is ``conf``."""
    if result.path.startswith("structured://"):
        return _DEFAULT
    if path.startswith("hydra/") and result.path.startswith("pkg://"):
        return "hydra"
    folder = result.path.removeprefix("file://")
    return f"{path}.yaml" if folder == str(conf_dir()) else f"{folder}/{path}.yaml"


def annotated(text: str, origins: Mapping[str, str], package: str = "") -> str:
    """YAML with the origin of every value as a comment behind it.

    Args:
        text: block style, as Hydra prints it.
        origins: by dotted name of the setting.
        package: the dotted name of what ``text`` shows; "" for all.
    """
    import yaml

    lines = text.splitlines()
    for key, line in _ends(yaml.compose(text), package):
        if key in origins:
            lines[line] += f"  # {origins[key]}"
    return "\n".join(lines) + "\n"


def _ends(node: Any, key: str) -> Iterator[tuple[str, int]]:
    """The dotted name of every value, with the line behind which a comment belongs to it."""
    import yaml

    if not isinstance(node, yaml.MappingNode):
        return
    for name, value in node.value:
        inner = f"{key}.{name.value}" if key else name.value
        yield from _ends(value, inner)
        if not isinstance(value, yaml.MappingNode) or not value.value:
            is_block = isinstance(value, yaml.SequenceNode) and not value.flow_style
            yield inner, name.end_mark.line if is_block else value.end_mark.line
