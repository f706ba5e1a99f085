"""Schemas of every configuration group: plain dataclasses, checked by OmegaConf. Imports no torch.

One YAML file in ``conf/<group>/`` per choice; each has a dataclass here, so that an unknown key or a wrong type is an error.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

# --- data ---------------------------------------------------------------------------------------------------------------------


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


# --- models -------------------------------------------------------------------------------------------------------------------


@dataclass
class LinearModel:
    """Constant velocity: x_0 + T v_0, v_0. No parameters."""

    name: str = "linear"


@dataclass
class DeepSetModel:
    """Deep Sets, Zaheer et al. 2017, as the paper's N-body baseline uses it."""

    name: str = "deepset"
    width: int = 64
    num_encoder_layers: int = 3
    num_decoder_layers: int = 2


@dataclass
class SetTransformerModel:
    """Set Transformer, Lee et al. 2019: SAB blocks and a point-wise head."""

    name: str = "set_transformer"
    width: int = 64
    num_layers: int = 4
    num_heads: int = 4
    layer_norm: bool = False


@dataclass
class TFNModel:
    """Tensor Field Network, Thomas et al. 2018."""

    name: str = "tfn"
    num_layers: int = 4
    num_degrees: int = 4
    channels: int = 8
    norm: str = "bias"  # bias | layer | tfn | none: se3t.nn.norm
    reduce: str = "sum"  # sum | mean
    radial_hidden: int = 32
    kernel: str = "vectorised"  # vectorised | reference


@dataclass
class SE3TransformerModel:
    """SE(3)-Transformer, Fuchs et al. 2020."""

    name: str = "se3_transformer"
    num_layers: int = 4
    num_degrees: int = 4
    channels: int = 8
    channels_div: int = 4
    num_heads: int = 2
    self_interaction: str = "attentive"  # attentive | linear
    skip: str = "cat"  # cat | sum
    norm: str = "bias"  # bias | layer | tfn | none
    radial_hidden: int = 32
    share_radial: str = "none"  # none | full | degree_out | degree_in: which degree pairs share the hidden radial layers
    fuse_key_value: bool = True
    kernel: str = "vectorised"  # vectorised | reference


# --- task, optimiser, trainer, logger -------------------------------------------------------------------------------------------


@dataclass
class NBodyTask:
    """Relative position and velocity of every particle at the horizon (Table 1)."""

    name: str = "nbody"


@dataclass
class OptimConfig:
    """Adam; ``lr`` null means: the model's own tuned preset."""

    name: str = "adam"
    lr: float = 1e-3
    weight_decay: float = 0.0
    schedule: str = "constant"  # constant | cosine
    warmup_steps: int = 0
    final_lr_ratio: float = 0.1  # of a cosine schedule
    clip_norm: float | None = None


@dataclass
class TrainerConfig:
    """Budget, devices and checkpoints."""

    max_steps: int = 100_000
    batch_size: int = 128
    eval_batch_size: int = 1000
    eval_every: int = 1000  # steps between validations
    checkpoint_every: int = 1000  # steps between checkpoints for resume
    devices: int = 1
    accelerator: str = "auto"  # auto | cpu | gpu
    precision: str = "32"  # 64 | 32 | bf16
    ema_decay: float | None = None
    early_stopping: int | None = None  # evaluations without improvement
    num_equivariance_samples: int = 2  # rotations per evaluation batch
    progress: bool = True
    threads: int | None = None  # CPU threads of torch; null leaves torch's choice


@dataclass
class LoggerConfig:
    """Run record on disk always; Weights & Biases by ``wandb``."""

    wandb: str = "auto"  # auto | online | offline | disabled
    project: str = "se3t"
    group: str | None = None
    tags: list[str] = field(default_factory=list)


@dataclass
class Config:
    """What ``se3t train`` composes."""

    experiment: str = "nbody"
    preset: str | None = None
    seed: int = 0
    resume: bool = False
    runs: str = "runs"  # folder of the run records
    data: Any = field(default_factory=NBodyData)
    task: Any = field(default_factory=NBodyTask)
    model: Any = field(default_factory=SE3TransformerModel)
    optim: OptimConfig = field(default_factory=OptimConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
