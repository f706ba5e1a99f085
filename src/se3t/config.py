"""Schemas of every configuration group: plain dataclasses, checked by OmegaConf. Imports no torch.

One YAML file in ``conf/<group>/`` per choice; each has a dataclass here, so that an unknown key or a wrong type is an
error. Ranges and choices stand beside the field they limit and are checked by :func:`validate`.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from se3t.errors import UserError, did_you_mean

if typing.TYPE_CHECKING:
    from omegaconf import DictConfig
    from omegaconf.errors import OmegaConfBaseException


def choice(default: str, *others: str) -> Any:
    """A field that takes one of a few words, ``default`` among them."""
    return field(default=default, metadata={"choices": (default, *others)})


_Real: typing.TypeAlias = int | float  # an int is no float to those who execute annotations


def number(
    default: _Real | None, *, at_least: _Real = -math.inf, above: _Real = -math.inf, at_most: _Real = math.inf
) -> Any:
    """A finite number in a range; null passes where the field's type allows it."""
    return field(default=default, metadata={"at_least": at_least, "above": above, "at_most": at_most})


ACCELERATORS = ("auto", "cpu", "gpu")
PRECISIONS = ("32", "64", "bf16")


# --- data ---------------------------------------------------------------------------------------------------


@dataclass
class NBodyData:
    """Charged particles in 3-D. A knob left at null takes the value of ``preset`` (see ``se3t.data.nbody.presets``)."""

    name: str = "nbody"
    root: str = "data"  # folder of the prepared stores
    preset: str = "calibrated"  # calibrated | calibrated_random | text | authors | egnn
    num_train: int | None = None  # trajectories
    num_valid: int | None = None
    num_test: int | None = None
    num_particles: int | None = None
    step_size: float | None = None  # Δt, in the simulation's unit of time
    num_steps: int | None = None  # integration steps per trajectory
    sample_every: int | None = None  # steps between recorded frames
    box: float | None = None  # half width of the reflecting box; 0 means no box
    position_scale: float | None = None  # standard deviation of the initial positions
    speed: float | None = None  # norm of the initial velocities
    max_force: float | None = None  # clip per component
    start: str | None = None  # "first", "random" or the index of a frame
    horizon_frames: int | None = None  # frames from input to target
    data_seed: int = 0  # seed of the simulator; apart from ``seed``, so that all seeds of a sweep see the same data


# --- models -------------------------------------------------------------------------------------------------


@dataclass
class LinearModel:
    """Constant velocity: x_0 + T v_0, v_0. No parameters."""

    name: str = "linear"


@dataclass
class DeepSetModel:
    """Deep Sets, Zaheer et al. 2017, as the paper's N-body baseline uses it."""

    name: str = "deepset"
    width: int = number(64, at_least=1)
    num_encoder_layers: int = number(3, at_least=1)
    num_decoder_layers: int = number(2, at_least=1)


@dataclass
class SetTransformerModel:
    """Set Transformer, Lee et al. 2019: SAB blocks and a point-wise head."""

    name: str = "set_transformer"
    width: int = number(64, at_least=1)
    num_layers: int = number(4, at_least=1)
    num_heads: int = number(4, at_least=1)
    layer_norm: bool = False


@dataclass
class TFNModel:
    """Tensor Field Network, Thomas et al. 2018."""

    name: str = "tfn"
    num_layers: int = number(4, at_least=1)
    num_degrees: int = number(4, at_least=1)  # types 0 … num_degrees - 1
    channels: int = number(8, at_least=1)
    norm: str = choice("bias", "layer", "tfn", "none")  # se3t.nn.norm
    reduce: str = choice("sum", "mean")
    radial_hidden: int = number(32, at_least=1)
    share_radial: str = choice("none", "full", "degree_out", "degree_in")  # pairs that share the hidden radial layers
    kernel: str = choice("auto", "native", "triton", "edge_frame", "vectorised", "reference")
    memory: str = choice("auto", "speed", "low")


@dataclass
class SE3TransformerModel:
    """SE(3)-Transformer, Fuchs et al. 2020."""

    name: str = "se3_transformer"
    num_layers: int = number(4, at_least=1)
    num_degrees: int = number(4, at_least=1)  # types 0 … num_degrees - 1
    channels: int = number(8, at_least=1)
    channels_div: int = number(4, at_least=1)  # keys and values have channels / channels_div
    num_heads: int = number(2, at_least=1)
    self_interaction: str = choice("attentive", "linear")
    skip: str = choice("cat", "sum")
    norm: str = choice("bias", "layer", "tfn", "none")
    radial_hidden: int = number(32, at_least=1)
    share_radial: str = choice("none", "full", "degree_out", "degree_in")  # pairs that share the hidden radial layers
    fuse_key_value: bool = True
    kernel: str = choice("auto", "native", "triton", "edge_frame", "vectorised", "reference")
    memory: str = choice("auto", "speed", "low")


# --- task, optimiser, trainer, logger -----------------------------------------------------------------------


@dataclass
class NBodyTask:
    """Relative position and velocity of every particle at the horizon (Table 1)."""

    name: str = "nbody"


@dataclass
class OptimConfig:
    """Adam. The learning rate of a model in an experiment stands in ``conf/tuned/<experiment>/<model>.yaml``."""

    name: str = choice("adam")
    lr: float = number(1e-3, above=0)
    weight_decay: float = number(0.0, at_least=0)
    schedule: str = choice("constant", "cosine")
    warmup_steps: int = number(0, at_least=0)
    final_lr_ratio: float = number(0.1, at_least=0, at_most=1)  # of a cosine schedule
    clip_norm: float | None = number(None, above=0)


@dataclass
class TrainerConfig:
    """Budget, devices and checkpoints."""

    max_steps: int = number(100_000, at_least=1)
    batch_size: int = number(128, at_least=1)
    eval_batch_size: int = number(1000, at_least=1)
    eval_every: int = number(1000, at_least=1)  # steps between validations
    checkpoint_every: int = number(1000, at_least=1)  # steps between checkpoints for resume
    devices: int = number(1, at_least=1)
    accelerator: str = choice(*ACCELERATORS)
    precision: str = choice(*PRECISIONS)
    ema_decay: float | None = number(None, above=0, at_most=1)
    early_stopping: int | None = number(None, at_least=1)  # evaluations without improvement
    num_equivariance_samples: int = number(2, at_least=1)  # rotations per evaluation batch
    progress: bool = True
    threads: int | None = number(None, at_least=1)  # CPU threads of torch; null leaves torch's choice
    cuda_graph: bool = False  # replay captured steps on a GPU: faster for small batches


@dataclass
class LoggerConfig:
    """Run record on disk always; Weights & Biases by ``wandb``."""

    wandb: str = choice("auto", "online", "offline", "disabled")
    project: str = "se3t"
    group: str | None = None
    tags: list[str] = field(default_factory=list)


# --- the commands -------------------------------------------------------------------------------------------


@dataclass
class Config:
    """What ``se3t train`` composes."""

    experiment: str = "nbody"
    preset: str | None = None
    seed: int = number(0, at_least=0, at_most=2**63 - 1)
    resume: bool = False
    runs: str = "runs"  # folder of the run records
    data: Any = field(default_factory=NBodyData)
    task: Any = field(default_factory=NBodyTask)
    model: Any = field(default_factory=SE3TransformerModel)
    optim: OptimConfig = field(default_factory=OptimConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)


@dataclass
class EvalData:
    """Which data, and where they lie on this machine; null: as in training."""

    root: str | None = None
    preset: str | None = None


@dataclass
class EvalTrainer:
    """How to measure; null: as in training."""

    precision: str | None = field(default=None, metadata={"choices": PRECISIONS})
    accelerator: str | None = field(default=None, metadata={"choices": ACCELERATORS})
    num_equivariance_samples: int | None = number(None, at_least=1)


@dataclass
class EvalConfig:
    """What ``se3t eval`` composes. A run's checkpoint brings its settings with it."""

    checkpoint: str = "???"  # a run folder, one checkpoint file, or what se3t convert wrote
    split: str = choice("test", "valid", "train")
    data: EvalData = field(default_factory=EvalData)
    trainer: EvalTrainer = field(default_factory=EvalTrainer)


SCHEMAS: dict[str, dict[str, type]] = {
    "data": {"nbody": NBodyData},
    "task": {"nbody": NBodyTask},
    "model": {
        "linear": LinearModel,
        "deepset": DeepSetModel,
        "tfn": TFNModel,
        "set_transformer": SetTransformerModel,
        "se3_transformer": SE3TransformerModel,
    },
}
"""Schemas of the groups that offer a choice, by group and by the ``name`` of the choice."""


# --- from settings to a configuration -----------------------------------------------------------------------


def conf_dir() -> Path:
    """Folder of the YAML files: inside the installed package, else beside the sources of a checkout."""
    package = Path(__file__).resolve().parent
    for folder in (package / "conf", package.parents[1] / "conf"):
        if (folder / "train.yaml").is_file():
            return folder
    raise UserError(f"the configuration files are missing: no conf/train.yaml in {package}; install the package again")


def register_schemas() -> None:
    """Make the schemas known to Hydra, as the groups ``schema`` and ``schema/<group>``."""
    from hydra.core.config_store import ConfigStore
    from omegaconf import MISSING, OmegaConf

    store = ConfigStore.instance()
    train = OmegaConf.structured(Config)
    for group, schemas in SCHEMAS.items():
        train[group] = MISSING  # the choice brings its own schema; that of the default must not mix with it
        for name, schema in schemas.items():
            store.store(group=f"schema/{group}", name=name, node=schema)
    store.store(group="schema", name="train", node=train, package="_global_")
    store.store(group="schema", name="eval", node=EvalConfig, package="_global_")


def to_config(settings: Mapping[str, Any] | DictConfig) -> Config:
    """The validated configuration that ``settings`` describe: what Hydra composed, or the ``config.yaml`` of a run.

    Raises:
        UserError: for an unknown key, a wrong type, an unknown choice or a number out of range.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        given: Any = OmegaConf.to_container(OmegaConf.merge(settings), resolve=True)
        base = OmegaConf.structured(Config)
        for group, schemas in SCHEMAS.items():
            base[group] = OmegaConf.structured(_schema_of(group, schemas, given))
    except OmegaConfBaseException as error:
        raise explain(error) from error
    config: Config = _checked(base, given)
    return config


def to_eval_config(settings: Mapping[str, Any] | DictConfig) -> EvalConfig:
    """The same as :func:`to_config` for ``se3t eval``."""
    return typing.cast(EvalConfig, _checked(EvalConfig, settings))


def _checked(schema: Any, settings: Any) -> Any:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        config = OmegaConf.to_object(OmegaConf.merge(schema, settings))
    except OmegaConfBaseException as error:
        raise explain(error) from error
    validate(config)
    return config


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
        elif "above" in item.metadata:
            _check_range(key, value, **item.metadata)
    if isinstance(config, TFNModel | SE3TransformerModel) and config.norm == "layer" and config.channels == 1:
        raise UserError(f"{prefix}norm=layer: LayerNorm needs {prefix}channels=2 or more; or use {prefix}norm=bias")
    if isinstance(config, SetTransformerModel) and config.width % config.num_heads:
        raise UserError(f"{prefix}num_heads={config.num_heads}: must divide {prefix}width={config.width}; change one")


def _check_range(key: str, value: _Real, at_least: _Real, above: _Real, at_most: _Real) -> None:
    if at_least <= value <= at_most and value > above and math.isfinite(value):
        return
    limits = {f"{at_least} or more": at_least, f"above {above}": above, f"at most {at_most}": at_most}
    words = [word for word, limit in limits.items() if math.isfinite(limit)]
    raise UserError(f"{key}={value} is out of range: it must be {' and '.join(words)}")


# --- errors in one sentence ---------------------------------------------------------------------------------


def explain(error: OmegaConfBaseException) -> UserError:
    """What OmegaConf refused, in one sentence: the setting, what was expected, the nearest name."""
    from omegaconf.errors import ConfigAttributeError, ConfigKeyError, MissingMandatoryValue, ValidationError

    key, name, schema = str(error.full_key or error.key or ""), str(error.key), error.object_type
    known = [item.name for item in dataclasses.fields(schema)] if dataclasses.is_dataclass(schema) else []
    if isinstance(error, MissingMandatoryValue):
        return UserError(f"{key}: a value is missing; add {key}=… to the command")
    if isinstance(error, ConfigAttributeError | ConfigKeyError) and known:
        return UserError(f"{key}: no such setting; {_nearest_setting(key, name, known)}")
    if isinstance(error, ValidationError) and name in known:
        expected = _in_words(typing.get_type_hints(schema)[name])
        return UserError(f"{key}={error.value}: wrong type; expected {expected}")
    return UserError((f"{key}: " if key else "") + str(error.msg or error).splitlines()[0])


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


def setting_names() -> Iterator[str]:
    """Every setting of ``se3t train`` by its dotted name, those of all models and data sets included."""
    for item in dataclasses.fields(Config):
        if item.name not in _GROUPS:
            yield item.name
        for schema in _GROUPS.get(item.name, []):
            yield from (f"{item.name}.{inner.name}" for inner in dataclasses.fields(schema))


_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a word", type(None): "null"}


def _in_words(hint: Any) -> str:
    if isinstance(hint, types.UnionType):
        return " or ".join(_in_words(part) for part in typing.get_args(hint))
    if typing.get_origin(hint) is list:
        return f"a list, such as [{', '.join('ab')}]"
    return _WORDS.get(hint, "a group of settings")
