"""Configurations: their schemas, and the way from settings to a checked configuration. Imports no torch."""

from __future__ import annotations

import dataclasses
import enum
import math
import re
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from se3t.config.choices import choices, conf_dir, conf_file, conf_folders, extend
from se3t.config.fields import rotation_angle, seconds_of
from se3t.config.models import (
    DeepSetModel,
    DGCNNModel,
    LinearModel,
    ModifiedFisherModel,
    MPNNModel,
    PointCNNModel,
    PointGLRModel,
    PointNet2Model,
    PointNetModel,
    SchNetModel,
    SE3TransformerModel,
    SetTransformerModel,
    SpiderCNNModel,
    TFNModel,
)
from se3t.config.overrides import literal
from se3t.config.schemas import (
    ACCELERATORS,
    AXES,
    CLOUD_VARIANTS,
    PRECISIONS,
    SCHEMAS,
    TARGETS,
    ClassificationTask,
    Config,
    EvalConfig,
    EvalData,
    EvalTask,
    EvalTrainer,
    LoggerConfig,
    MoleculesData,
    NBodyData,
    NBodyTask,
    OptimConfig,
    PropertyTask,
    QM9Data,
    ScanObjectNNData,
    Shapes15Data,
    TrainerConfig,
)
from se3t.errors import UserError, did_you_mean

if typing.TYPE_CHECKING:
    from omegaconf import DictConfig
    from omegaconf.errors import OmegaConfBaseException

__all__ = [
    "ACCELERATORS",
    "AXES",
    "CLOUD_VARIANTS",
    "PRECISIONS",
    "SCHEMAS",
    "TARGETS",
    "ClassificationTask",
    "Config",
    "DGCNNModel",
    "DeepSetModel",
    "EvalConfig",
    "EvalData",
    "EvalTask",
    "EvalTrainer",
    "LinearModel",
    "LoggerConfig",
    "MPNNModel",
    "ModifiedFisherModel",
    "MoleculesData",
    "NBodyData",
    "NBodyTask",
    "OptimConfig",
    "PointCNNModel",
    "PointGLRModel",
    "PointNet2Model",
    "PointNetModel",
    "PropertyTask",
    "QM9Data",
    "SE3TransformerModel",
    "ScanObjectNNData",
    "SchNetModel",
    "SetTransformerModel",
    "Shapes15Data",
    "SpiderCNNModel",
    "TFNModel",
    "TrainerConfig",
    "choices",
    "conf_dir",
    "conf_file",
    "conf_folders",
    "explain",
    "extend",
    "rotation_angle",
    "setting_names",
    "text_settings",
    "to_config",
    "to_eval_config",
    "validate",
]


def to_config(settings: Mapping[str, Any] | DictConfig) -> Config:
    """The validated configuration that ``settings`` describe: what Hydra composed, or the ``config.yaml`` of a run.

    Interpolations such as ``${oc.env:HOME}`` are resolved in what Hydra composed. In plain settings, as of a run record
    or a checkpoint, they are text like any other.

    Raises:
        UserError: for an unknown key, a wrong type, an unknown choice or a number out of range.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        given = _resolved(settings)
        base = OmegaConf.structured(Config)
        for group, schemas in SCHEMAS.items():
            base[group] = OmegaConf.structured(_schema_of(group, schemas, given))
    except OmegaConfBaseException as error:
        raise explain(error) from error
    config: Config = _checked(base, given)
    return config


def to_eval_config(settings: Mapping[str, Any] | DictConfig) -> EvalConfig:
    """The same as :func:`to_config` for ``se3t eval``."""
    return typing.cast(EvalConfig, _checked(EvalConfig, _resolved(settings)))


def _resolved(settings: Any) -> Any:
    from omegaconf import DictConfig, OmegaConf

    return OmegaConf.to_container(settings, resolve=True) if isinstance(settings, DictConfig) else settings


def _checked(schema: Any, settings: Any) -> Any:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        config = OmegaConf.to_object(OmegaConf.merge(schema, _as_text(settings)))
    except OmegaConfBaseException as error:
        raise explain(error) from error
    validate(config)
    return config


def _as_text(settings: Any) -> Any:
    """Settings in which ``${`` means nothing."""
    if isinstance(settings, Mapping):
        return {key: _as_text(value) for key, value in settings.items()}
    if isinstance(settings, list):
        return [_as_text(value) for value in settings]
    return literal(settings) if isinstance(settings, str) else settings


def _schema_of(group: str, schemas: dict[str, type], given: Any) -> type:
    part = given.get(group, {})
    name = part.get("name") if isinstance(part, dict) else part
    if name is None:
        name = dataclasses.asdict(Config())[group]["name"]
    if name not in schemas:
        raise UserError(f"{group}={name}: unknown; {did_you_mean(str(name), schemas)}")
    return schemas[name]


def validate(config: Any, prefix: str = "") -> None:
    """Check every number and word of a configuration against the limits beside its field.

    Raises:
        UserError: naming the first setting that is out of range, what was expected and the value received.
    """
    for item in dataclasses.fields(config):
        value, key = getattr(config, item.name), f"{prefix}{item.name}"
        if dataclasses.is_dataclass(value):
            validate(value, f"{key}.")
        elif value is None:
            continue  # where the type allows it; OmegaConf saw to that
        elif "choices" in item.metadata and value not in item.metadata["choices"]:
            raise UserError(f"{key}={value}: unknown; {did_you_mean(str(value), item.metadata['choices'])}")
        elif "is_time" in item.metadata:
            seconds_of(value, key)
        elif "above" in item.metadata:
            _check_range(key, value, **item.metadata)
    if isinstance(config, TFNModel | SE3TransformerModel) and config.norm == "layer" and config.channels == 1:
        raise UserError(f"{prefix}norm=layer: LayerNorm needs {prefix}channels=2 or more; or use {prefix}norm=bias")
    if isinstance(config, SE3TransformerModel) and config.parity and config.ablation == "equivariance":
        raise UserError(f"{prefix}parity=true: with {prefix}ablation=equivariance there is no symmetry; leave one out")
    if isinstance(config, SetTransformerModel) and config.width % config.num_heads:
        raise UserError(f"{prefix}num_heads={config.num_heads}: must divide {prefix}width={config.width}; change one")

    if isinstance(config, ClassificationTask):
        _check_classification(config, prefix)


def _check_classification(task: ClassificationTask, prefix: str) -> None:
    rotation_angle(task.test_rotation)
    if task.inputs == "edges" and task.num_neighbors >= task.num_points:
        raise UserError(
            f"{prefix}num_neighbors={task.num_neighbors}: a point of {prefix}num_points={task.num_points} has "
            f"{task.num_points - 1} others; ask for as many or fewer"
        )
    if task.height and task.inputs == "positions":
        raise UserError(
            f"{prefix}height: belongs to {prefix}inputs=edges; models that read positions see the height anyway"
        )


def _check_range(key: str, value: int | float, at_least: int | float, above: int | float, at_most: int | float) -> None:
    if at_least <= value <= at_most and value > above and math.isfinite(value):
        return
    limits = {f"{at_least} or more": at_least, f"above {above}": above, f"at most {at_most}": at_most}
    words = [word for word, limit in limits.items() if math.isfinite(limit)]
    raise UserError(f"{key}={value} is out of range: it must be {' and '.join(words)}")


# --- errors in one sentence ---------------------------------------------------------------------------------


def explain(error: OmegaConfBaseException) -> UserError:
    """What OmegaConf refused, in one sentence: the setting, what was expected, the nearest name."""
    from omegaconf.errors import (
        ConfigAttributeError,
        ConfigKeyError,
        GrammarParseError,
        InterpolationResolutionError,
        MissingMandatoryValue,
        UnsupportedInterpolationType,
        ValidationError,
    )

    key, name, schema = str(error.full_key or error.key or ""), str(error.key), error.object_type
    known = [item.name for item in dataclasses.fields(schema)] if dataclasses.is_dataclass(schema) else []
    if isinstance(error, InterpolationResolutionError | UnsupportedInterpolationType | GrammarParseError):
        return UserError(f"{key or '${…}'}: {_interpolation(error)}")
    if isinstance(error, MissingMandatoryValue):
        return UserError(f"{key}: a value is missing; add {key}=… to the command")
    if isinstance(error, ConfigAttributeError | ConfigKeyError) and known:
        return UserError(f"{key}: no such setting; {_nearest_setting(key, name, known)}")
    if isinstance(error, ValidationError) and name in known:
        expected = _in_words(typing.get_type_hints(schema)[name])
        return UserError(f"{key}={error.value}: wrong type; expected {expected}")
    return UserError((f"{key}: " if key else "") + str(error.msg or error).splitlines()[0])


def _interpolation(error: Exception) -> str:
    first = str(getattr(error, "msg", None) or error).splitlines()[0]
    kinds = r"key '(?P<setting>.*?)' not found|type (?P<function>\S+)|variable '(?P<variable>.*?)' not found"
    found = re.search(kinds, first)
    what = "${…} cannot be resolved"
    if found and (kind := found.lastgroup):
        none = {"setting": "no such setting", "function": "no such function", "variable": "no such variable is set"}
        what = f"${{…}} names {found[kind]}: {none[kind]}"
    return f"{what}; write ${{<name of a setting>}} or ${{oc.env:<variable of the environment>}}"


def _nearest_setting(key: str, name: str, known: list[str]) -> str:
    """The same name in another group (``max_steps`` stands in ``trainer``), else the nearest of ``known``."""
    elsewhere = [path for path in setting_names() if path.rpartition(".")[2] == name and path != key]
    return f"did you mean {elsewhere[0]!r}?" if elsewhere and name not in _GROUPS else did_you_mean(name, known)


_GROUPS: dict[str, list[type]] = {
    **{group: list(schemas.values()) for group, schemas in SCHEMAS.items()},
    "optim": [OptimConfig],
    "trainer": [TrainerConfig],
    "logger": [LoggerConfig],
}
_EVAL_GROUPS: dict[str, list[type]] = {"data": [EvalData], "task": [EvalTask], "trainer": [EvalTrainer]}


def setting_names() -> Iterator[str]:
    """Every setting of ``se3t train`` by its dotted name, those of all models and data sets included."""
    yield from (name for name, _ in _settings())


def text_settings() -> frozenset[str]:
    """The settings of ``se3t train`` and ``se3t eval`` that are any text, such as folders."""
    names = [name for name, is_text in [*_settings(), *_settings(EvalConfig, _EVAL_GROUPS)] if is_text]
    return frozenset(names) - {"experiment", "preset"}  # which choose files


def _settings(
    schema: type = Config, groups: Mapping[str, list[type]] | None = None, prefix: str = ""
) -> Iterator[tuple[str, bool]]:
    """Every setting of a schema by its dotted name, and whether it is any text."""
    groups, hints = _GROUPS if groups is None else groups, typing.get_type_hints(schema)
    for item in dataclasses.fields(schema):
        if item.name not in groups:
            yield f"{prefix}{item.name}", hints[item.name] in (str, str | None) and "choices" not in item.metadata
        for inner in groups.get(item.name, []):
            yield from _settings(inner, {}, f"{item.name}.")


_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word", type(None): "null"}


def _in_words(hint: Any) -> str:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return " or ".join(_in_words(part) for part in typing.get_args(hint))
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return " or ".join(hint.__members__)
    if typing.get_origin(hint) is list:
        return f"a list, such as [{', '.join('ab')}]"
    return _WORDS.get(hint, "a group of settings")
