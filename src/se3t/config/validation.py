"""From settings to a checked configuration. Imports neither torch nor hydra."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping
from typing import Any

from se3t.config.explain import explain
from se3t.config.fields import rotation_angle, seconds_of
from se3t.config.models import SE3TransformerModel, SetTransformerModel, TFNModel
from se3t.config.overrides import literal
from se3t.config.schemas import SCHEMAS, ClassificationTask, Config, EvalConfig, PropertyTask, targets_of
from se3t.errors import UserError, did_you_mean

if typing.TYPE_CHECKING:
    from omegaconf import DictConfig

Settings = typing.TypeVar("Settings")


def to_config(settings: Mapping[str, Any] | DictConfig) -> Config:
    """The validated configuration that ``settings`` describe: what Hydra composed, or the ``config.yaml`` of a run.

    Interpolations such as ``${oc.env:HOME}`` are resolved in what Hydra composed. In plain settings, as of a run record
    or a checkpoint, they are text like any other.

    Raises:
        UserError: for an unknown key, a wrong type, an unknown choice or a number out of range.
    """
    return typing.cast(Config, checked(Config, settings))


def to_eval_config(settings: Mapping[str, Any] | DictConfig) -> EvalConfig:
    """The same as :func:`to_config` for ``se3t eval``."""
    return typing.cast(EvalConfig, checked(EvalConfig, settings))


def checked(schema: type, settings: Any) -> Any:
    """The object of a schema that settings describe; see :func:`to_config`."""
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        plain: Any = OmegaConf.to_container(settings, resolve=True) if isinstance(settings, DictConfig) else settings
        base = OmegaConf.structured(schema)
        for group in SCHEMAS if schema is Config else ():
            base[group] = OmegaConf.structured(_chosen_schema(group, plain.get(group, {})))
        config = OmegaConf.to_object(OmegaConf.merge(base, _literal(plain)))
    except OmegaConfBaseException as error:
        raise explain(error) from error
    validate(config)
    return config


def model_settings(schema: type[Settings], given: Settings | None, *, is_required: bool = False) -> Settings:
    """The checked settings of a model that a program builds.

    Args:
        schema: what the model takes.
        given: an instance of it; None: the defaults.
        is_required: whether None is refused.

    Raises:
        UserError: for another object, or a setting of a wrong type or out of range.
    """
    if given is None and not is_required:
        return schema()
    if not isinstance(given, schema):
        raise UserError(
            f"settings: expected {schema.__name__}(…), got {type(given).__name__}; the order is fiber_in, fiber_out, "
            "settings, and fiber_hidden=… goes with settings"
        )
    values = dict(vars(given))
    # a program may register kernels of its own; the layers refuse those that it did not
    kernel = {"kernel": values.pop("kernel")} if "kernel" in values else {}
    return typing.cast(Settings, dataclasses.replace(checked(schema, values), **kernel))


def _literal(settings: Any) -> Any:
    """Settings in which ``${`` is plain text."""
    if isinstance(settings, Mapping):
        return {key: _literal(value) for key, value in settings.items()}
    if isinstance(settings, list):
        return [_literal(value) for value in settings]
    return literal(settings) if isinstance(settings, str) else settings


def _chosen_schema(group: str, part: Any) -> type:
    name = part.get("name") if isinstance(part, Mapping) else part
    if name is None:
        name = getattr(Config(), group).name
    if name not in SCHEMAS[group]:
        raise UserError(f"{group}={name}: unknown; {did_you_mean(str(name), SCHEMAS[group])}")
    return SCHEMAS[group][name]


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
    if isinstance(config, SE3TransformerModel):
        _check_ablation(config, prefix)
    if isinstance(config, TFNModel) and config.cutoff is not None and config.reduce == "mean":
        raise UserError(
            f"{prefix}cutoff={config.cutoff:g}: an edge that appears would change the mean of all others; use "
            f"{prefix}reduce=sum"
        )
    if isinstance(config, Config):
        _check_cutoff(config)
    if isinstance(config, SetTransformerModel) and config.width % config.num_heads:
        raise UserError(f"{prefix}num_heads={config.num_heads}: must divide {prefix}width={config.width}; change one")
    if isinstance(config, ClassificationTask):
        _check_classification(config, prefix)
    if isinstance(config, PropertyTask):
        targets_of(config.target)


def _check_cutoff(config: Config) -> None:
    model, data = config.model, config.data
    if not isinstance(model, TFNModel | SE3TransformerModel) or model.cutoff is None:
        return
    radius = getattr(data, "radius", math.inf)
    if getattr(data, "graph", "") == "radius" and model.cutoff > radius:
        raise UserError(
            f"model.cutoff={model.cutoff:g}: edges end at data.radius={radius:g}, before their messages have faded; "
            "make data.radius as large, or model.cutoff smaller"
        )


def _check_ablation(model: SE3TransformerModel, prefix: str) -> None:
    if model.parity and model.ablation == "equivariance":
        raise UserError(f"{prefix}parity=true: with {prefix}ablation=equivariance there is no symmetry; leave one out")
    for setting, default, ablation in (
        ("logit_scale", "all_heads", "attention"),
        ("radial_basis", "distance", "radial"),
    ):
        value = getattr(model, setting)
        if value != default and model.ablation == ablation:
            raise UserError(f"{prefix}{setting}={value}: has no effect with {prefix}ablation={ablation}; leave one out")


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
    expected = " and ".join(text for text, limit in limits.items() if math.isfinite(limit))
    if not math.isfinite(value):
        expected = f"finite, {expected}"
    raise UserError(f"{key}={value} is out of range: it must be {expected}")
