"""Schemas of every configuration group: plain dataclasses, checked by OmegaConf. Imports no torch.

One YAML file in ``conf/<group>/`` per choice; each has a dataclass here, so that an unknown key or a wrong type is an
error. Ranges and choices stand beside the field they limit and are checked by :func:`se3t.config.validate`.
"""

from __future__ import annotations

import math
import typing
from dataclasses import dataclass, field
from typing import Any


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

    name: str = "qm9"
    uncharacterized: str | None = None  # list of molecules to leave out; null: beside the raw file, else the own list


@dataclass
class MoleculesData(_Molecules):
    """Molecules of your own. ``raw`` is a folder with one .sdf and at most one .csv file, or an .sdf file."""

    name: str = "molecules"
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
    pooling: str = choice("max", "mean", "sum")  # where a task wants one output for each cloud


@dataclass
class SetTransformerModel:
    """Set Transformer, Lee et al. 2019: SAB blocks and a point-wise head."""

    name: str = "set_transformer"
    width: int = number(64, at_least=1)
    num_layers: int = number(4, at_least=1)
    num_heads: int = number(4, at_least=1)
    layer_norm: bool = False
    num_inducing: int = number(0, at_least=0)  # inducing points of an ISAB; 0: SAB, all points attend to all
    pooling: str = choice("max", "mean", "sum", "attention")  # attention: PMA, then one SAB
    num_seeds: int = number(1, at_least=1)  # of PMA


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
    pooling: str = choice("max", "mean", "sum")  # where a task wants one output for each cloud, …
    pool_channels: int = number(128, at_least=1)  # … of type 0 by one more TFN layer; two linear layers follow


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
    pooling: str = choice("max", "mean", "sum")  # where a task wants one output for each cloud, …
    pool_channels: int = number(128, at_least=1)  # … of type 0 by one more layer; two linear layers follow
    last: str = choice("convolution", "attention")  # what that layer is: a TFN layer, or attention again


@dataclass
class SchNetModel:
    """SchNet, Schütt et al. 2018: continuous-filter convolutions of distances."""

    name: str = "schnet"
    channels: int = number(128, at_least=1)
    num_filters: int = number(128, at_least=1)
    num_layers: int = number(6, at_least=1)  # interaction blocks
    num_gaussians: int = number(50, at_least=2)  # of the distances, up to ``cutoff``
    cutoff: float = number(10.0, above=0)  # angstrom
    pooling: str = choice("mean", "sum", "max")


@dataclass
class MPNNModel:
    """Neural message passing ("NMP"), Gilmer et al. 2017: edge networks, GRU, Set2Set."""

    name: str = "mpnn"
    channels: int = number(64, at_least=1)
    edge_hidden: int = number(128, at_least=1)  # width of the network that makes a matrix of an edge
    num_layers: int = number(3, at_least=1)  # rounds of messages, with the same weights
    num_gaussians: int = number(16, at_least=2)  # of the distances, up to ``cutoff``
    cutoff: float = number(10.0, above=0)
    set2set_steps: int = number(3, at_least=1)


@dataclass
class PointNetModel:
    """PointNet, Qi et al. 2017: a network on every point, the maximum over all, learned alignments of the input."""

    name: str = "pointnet"
    transform: bool = True  # T-Nets for the input and for the features
    regularization: float = number(0.001, at_least=0)  # of the feature transform, ‖I − A Aᵀ‖²
    dropout: float = number(0.3, at_least=0, at_most=0.95)


@dataclass
class PointNet2Model:
    """PointNet++, Qi et al. 2017: PointNets on neighbourhoods of fewer and fewer points (single-scale grouping)."""

    name: str = "pointnet2"
    dropout: float = number(0.5, at_least=0, at_most=0.95)


@dataclass
class DGCNNModel:
    """DGCNN, Wang et al. 2019: EdgeConv on neighbours in the space of the features, found anew in every layer."""

    name: str = "dgcnn"
    num_neighbors: int = number(20, at_least=1)
    dropout: float = number(0.5, at_least=0, at_most=0.95)


@dataclass
class PointCNNModel:
    """PointCNN, Li et al. 2018: X-Conv, which weights and permutes the neighbours of a point before a convolution."""

    name: str = "pointcnn"
    dropout: float = number(0.5, at_least=0, at_most=0.95)


@dataclass
class SpiderCNNModel:
    """SpiderCNN, Xu et al. 2018: filters that are step functions times Taylor polynomials of the neighbour's place."""

    name: str = "spidercnn"
    num_neighbors: int = number(20, at_least=1)
    num_taylor: int = number(5, at_least=1)  # terms of each filter
    dropout: float = number(0.7, at_least=0, at_most=0.95)


@dataclass
class ModifiedFisherModel:
    """3DmFV-Net, Ben-Shabat et al. 2018: Fisher vectors on a grid of Gaussians, then 3-D convolutions."""

    name: str = "modified_fisher"
    grid: int = number(8, at_least=2)  # Gaussians along each axis
    dropout: float = number(0.3, at_least=0, at_most=0.95)


@dataclass
class PointGLRModel:
    """PointGLR, Rao et al. 2020: an unsupervised code of shapes, here learned together with the classes."""

    name: str = "pointglr"
    dropout: float = number(0.5, at_least=0, at_most=0.95)


# --- task, optimiser, trainer, logger -----------------------------------------------------------------------


@dataclass
class NBodyTask:
    """Relative position and velocity of every particle at the horizon (Table 1)."""

    name: str = "nbody"


TARGETS = ("homo", "lumo", "gap", "mu", "alpha", "cv", "u0", "u", "h", "g", "r2", "zpve")
"""The twelve properties of QM9 that are learned; ``se3t.data.qm9.targets`` says what they are."""


@dataclass
class PropertyTask:
    """One number for each molecule (Table 3)."""

    name: str = "property"
    target: str = choice(*TARGETS)
    column: str | None = None  # with data=molecules: the column of your table, in place of a target
    inputs: str = choice("atoms", "atoms_positions")  # the latter for models that see nothing of a graph


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
    """Adam. The learning rate of a model in an experiment stands in ``conf/tuned/<experiment>/<model>.yaml``."""

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
    raw: str | None = None


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
    "data": {
        "nbody": NBodyData,
        "qm9": QM9Data,
        "molecules": MoleculesData,
        "scanobjectnn": ScanObjectNNData,
        "shapes15": Shapes15Data,
    },
    "task": {"nbody": NBodyTask, "property": PropertyTask, "classification": ClassificationTask},
    "model": {
        "linear": LinearModel,
        "deepset": DeepSetModel,
        "tfn": TFNModel,
        "set_transformer": SetTransformerModel,
        "se3_transformer": SE3TransformerModel,
        "schnet": SchNetModel,
        "mpnn": MPNNModel,
        "pointnet": PointNetModel,
        "pointnet2": PointNet2Model,
        "dgcnn": DGCNNModel,
        "pointcnn": PointCNNModel,
        "spidercnn": SpiderCNNModel,
        "modified_fisher": ModifiedFisherModel,
        "pointglr": PointGLRModel,
    },
}
"""Schemas of the groups that offer a choice, by group and by the ``name`` of the choice."""
