"""Schemas of every configuration group: plain dataclasses, checked by OmegaConf. Imports no torch.

Each choice of data, task and model is a dataclass, so that an unknown key or a wrong type is an error; its defaults are
those of the choice. Ranges and choices are given beside their field; :func:`se3t.config.validate` checks them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from se3t.config.fields import by_name, choice, number, seconds_of, time_limit
from se3t.config.models import MODELS, SE3TransformerModel
from se3t.errors import UserError, did_you_mean

ACCELERATORS = ("auto", "cpu", "gpu")
PRECISIONS = ("32", "64", "tf32", "bf16")


# --- data ---------------------------------------------------------------------------------------------------


@dataclass
class NBodyData:
    """Charged particles in 3-D. A knob left at null takes the value of ``preset`` (see ``se3t.data.nbody.presets``)."""

    name: str = "nbody"
    root: str = "data"  # folder of the prepared stores
    preset: str = "calibrated_random"  # calibrated_random | calibrated | text | authors | egnn
    num_train: int | None = number(None, at_least=1)  # trajectories
    num_valid: int | None = number(None, at_least=1)
    num_test: int | None = number(None, at_least=1)
    num_particles: int | None = number(None, at_least=2)
    step_size: float | None = number(None, above=0)  # Δt, in the simulation's unit of time
    num_steps: int | None = number(None, at_least=2)  # integration steps per trajectory
    sample_every: int | None = number(None, at_least=1)  # steps between recorded frames
    box: float | None = number(None, at_least=0)  # half width of the reflecting box; 0 means no box
    position_scale: float | None = number(None, above=0)  # standard deviation of the initial positions
    speed: float | None = number(None, at_least=0)  # norm of the initial velocities
    max_force: float | None = number(None, above=0)  # clip per component
    start: str | None = None  # random (drawn anew at every visit), random_once, first, or the index of a frame
    horizon_frames: int | None = number(None, at_least=1)  # frames from input to target
    # seed of the simulator; apart from ``seed``, so that all seeds of a sweep see the same data
    data_seed: int = number(0, at_least=0)


RANDOM_STARTS = ("calibrated_random", "text", "authors")
"""Presets of the N-body data whose training starts are drawn again at every visit of a trajectory."""


def redraws_starts(data: Mapping[str, Any]) -> bool:
    """Whether settings of data are of N-body data whose training starts are drawn again at every visit."""
    start = data.get("start")
    return data.get("name") == "nbody" and (
        start == "random" or (start is None and data.get("preset") in RANDOM_STARTS)
    )


GRAPHS = ("bonds", "complete", "radius")
"""Which atoms are neighbours: bonded ones, all of a molecule, or those within ``data.radius``."""


@dataclass
class _Molecules:
    """What all data sets of molecules have."""

    name: str = ""
    root: str = "data"  # folder of the prepared stores
    raw: str | None = None
    graph: str = choice(*GRAPHS)
    radius: float = number(5.0, above=0)  # angstrom, of graph=radius
    num_train: int | None = number(None, at_least=1)  # only so many molecules of the split; null: all
    num_valid: int | None = number(None, at_least=1)
    num_test: int | None = number(None, at_least=1)
    workers: int | None = number(None, at_least=1)  # processes that prepare; null: one for each core


@dataclass
class QM9Data(_Molecules):
    """QM9: about 134,000 molecules of up to nine heavy atoms with twelve properties (``se3t.data.qm9``).

    ``raw`` is a downloaded file, or its folder; null: the prepared store, else a download.
    """

    made_from: ClassVar[tuple[str, ...]] = ("raw",)  # the prepared data do not depend on where these files are

    name: str = "qm9"
    uncharacterized: str | None = None  # list of molecules to leave out; null: beside the raw file, else the own list


@dataclass
class MoleculesData(_Molecules):
    """Molecules of your own. ``raw`` is a folder with a file of molecules and at most one table, or one such file."""

    name: str = "molecules"
    key: str | None = None  # column of the table that names the molecules, or: order; null: found by what it holds
    valid_fraction: float = number(0.1, above=0, at_most=0.5)
    test_fraction: float = number(0.1, at_least=0, at_most=0.5)
    split_seed: int = number(0, at_least=0)  # of the random split


CLOUD_VARIANTS = ("obj", "pb_t25", "pb_t25_r", "pb_t50_r", "pb_t50_rs")
"""Of ScanObjectNN: the objects as they are, and four sets of perturbed ones, from the easiest to the hardest."""
AXES = ("y", "x", "z")


@dataclass
class _Clouds:
    """What all data sets of labelled point clouds have."""

    name: str = ""
    root: str = "data"  # folder of the prepared stores
    background: bool = False  # whether points behind and beside the object are part of it
    up_axis: str = choice(*AXES)  # which coordinate of the points is the height
    valid_fraction: float = number(0.1, above=0, at_most=0.5)  # of the training objects, for every class alike
    split_seed: int = number(0, at_least=0)  # of the validation part


@dataclass
class ScanObjectNNData(_Clouds):
    """ScanObjectNN: scans of 2,902 objects of 15 classes. ``raw`` is the folder or zip that you downloaded."""

    made_from: ClassVar[tuple[str, ...]] = ("raw",)  # the prepared data do not depend on where these files are

    name: str = "scanobjectnn"
    raw: str | None = None
    variant: str = choice(*CLOUD_VARIANTS)


@dataclass
class Shapes15Data(_Clouds):
    """Synthetic scans of 15 parametric shapes, made on this machine: a stand-in with the schema of ScanObjectNN."""

    name: str = "shapes15"
    num_train: int = number(2250, at_least=30)  # objects, validation included
    num_test: int = number(600, at_least=15)
    data_seed: int = number(0, at_least=0)  # of the generator; apart from ``seed``


# --- task, optimiser, trainer, logger -----------------------------------------------------------------------


@dataclass
class NBodyTask:
    """Relative position and velocity of every particle at the horizon (Table 1)."""

    name: str = "nbody"
    velocity_weight: float = number(1.0, at_least=0)  # of the velocities' loss, beside 1 for the positions'
    reflect: bool = False  # invert half of the training samples, drawn anew at every visit (all vectors times -1)


TARGETS = ("homo", "lumo", "gap", "mu", "alpha", "cv", "u0", "u", "h", "g", "r2", "zpve")
"""The twelve properties of QM9 that are learned; ``se3t.data.qm9.targets`` says what they are."""
ALL_TARGETS = "all"


def targets_of(text: str) -> tuple[str, ...]:
    """The targets that ``task.target`` names: one, several joined by ``+``, or all of QM9.

    Raises:
        UserError: for an unknown one, or one that is named twice.
    """
    names = TARGETS if text == ALL_TARGETS else tuple(text.split("+"))
    for place, name in enumerate(names):
        if name == ALL_TARGETS or not name:
            raise UserError(f"task.target={text}: expected names with + between them, such as homo+lumo, or all alone")
        if name not in TARGETS:
            known = TARGETS if len(names) > 1 else (*TARGETS, ALL_TARGETS)
            raise UserError(f"task.target={text}: {name!r} is unknown; {did_you_mean(name, known)}")
        if name in names[:place]:
            raise UserError(f"task.target={text}: {name} is named twice; leave one out")
    return names


@dataclass
class PropertyTask:
    """One or several numbers for each molecule (Table 3)."""

    name: str = "property"
    target: str = "homo"  # of QM9: one, several as homo+lumo, or all; one network learns them together
    column: str | None = None  # with data=molecules: the column of your table, in place of a target
    inputs: str = choice("atoms", "atoms_positions")  # the latter for models that see nothing of a graph
    reference: str = choice("none", "composition")  # subtracted before training: least squares on the numbers of atoms


@dataclass
class ClassificationTask:
    """The class of a point cloud (Table 2)."""

    name: str = "classification"
    num_points: int = number(128, at_least=2)  # drawn from each object
    sampling: str = choice("farthest", "random")  # farthest: from a random start
    inputs: str = choice("edges", "positions")  # the latter for models that see coordinates as plain numbers
    num_neighbors: int = number(10, at_least=1)  # of each point, where inputs=edges
    height: bool = False  # "+z": absolute and relative height, symmetric about the vertical only
    augmentation: str = choice("none", "vertical", "so3")  # random rotations in training
    jitter: float = number(0.0, at_least=0, at_most=1)  # standard deviation of noise on the points in training
    test_rotation: str = "0"  # degrees, the largest about a random horizontal axis, 0 … 180; or so3


@dataclass
class OptimConfig:
    """Adam. The learning rate of a model in an experiment is in ``conf/recipe/<experiment>/<model>.yaml``."""

    name: str = choice("adam")
    lr: float = number(1e-3, above=0)
    weight_decay: float = number(0.0, at_least=0)
    schedule: str = choice("constant", "cosine", "step")
    warmup_steps: int = number(0, at_least=0)
    final_lr_ratio: float = number(0.1, at_least=0, at_most=1)  # of a cosine schedule
    decay_every: int = number(15_000, at_least=1)  # steps, of a step schedule
    decay_ratio: float = number(0.3, above=0, at_most=1)  # … what the rate is multiplied with then
    clip_norm: float | None = number(None, above=0)


@dataclass
class TrainerConfig:
    """Budget, devices and checkpoints."""

    max_steps: int = number(100_000, at_least=1)
    max_time: str | None = time_limit()  # HH:MM:SS of training, evaluations not counted; ends it before max_steps
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

    @property
    def max_seconds(self) -> float:
        """``max_time`` in seconds; infinite where there is none."""
        return math.inf if self.max_time is None else float(seconds_of(self.max_time, "trainer.max_time"))


@dataclass
class LoggerConfig:
    """Run record on disk always; Weights & Biases by ``wandb``, TensorBoard by ``tensorboard``."""

    wandb: str = choice("auto", "online", "offline", "disabled")
    project: str = "se3t"
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    tensorboard: bool = False  # event files in the run folder; needs the package tensorboard


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
    raw: str | None = None
    key: str | None = None


@dataclass
class EvalTask:
    """What to measure; null: as in training."""

    test_rotation: str | None = None


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
    task: EvalTask = field(default_factory=EvalTask)
    trainer: EvalTrainer = field(default_factory=EvalTrainer)


SCHEMAS: dict[str, dict[str, type]] = {
    "data": by_name(NBodyData, QM9Data, MoleculesData, ScanObjectNNData, Shapes15Data),
    "task": by_name(NBodyTask, PropertyTask, ClassificationTask),
    "model": MODELS,
}
"""Schemas of the groups that offer a choice, by group and by the ``name`` of the choice."""
