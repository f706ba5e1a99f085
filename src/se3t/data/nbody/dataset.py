"""N-body data in memory: whole splits as tensors."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from se3t.data.nbody.prepare import FRAMES, read_nbody_store
from se3t.data.nbody.presets import SPLITS, NBodySettings, resolve
from se3t.data.store import Store

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_MULTIPLIERS = ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64))


@dataclass(frozen=True)
class NBodySplit:
    """Samples of one split in double precision, in dimensionless simulation units.

    Attributes:
        positions: ``[trajectory, particle, 3]`` x_0.
        velocities: ``[trajectory, particle, 3]`` v_0.
        charges: ``[trajectory, particle, 1]``, ±1.
        target_positions: ``[trajectory, particle, 3]`` x_T − x_0.
        target_velocities: ``[trajectory, particle, 3]`` v_T − v_0.
        horizon: time T from input to target.
    """

    positions: Float[Tensor, "trajectory particle 3"]
    velocities: Float[Tensor, "trajectory particle 3"]
    charges: Float[Tensor, "trajectory particle 1"]
    target_positions: Float[Tensor, "trajectory particle 3"]
    target_velocities: Float[Tensor, "trajectory particle 3"]
    horizon: float

    def __len__(self) -> int:
        """Number of trajectories."""
        return len(self.positions)

    @property
    def num_particles(self) -> int:
        """Bodies per trajectory."""
        return self.positions.shape[1]

    def select(self, index: slice | Tensor) -> NBodySplit:
        """The trajectories of ``index``: a slice, or a tensor of numbers."""
        tensors = {item.name: getattr(self, item.name)[index] for item in fields(self) if item.name != "horizon"}
        return NBodySplit(**tensors, horizon=self.horizon)


@dataclass(frozen=True)
class NBodyDiagnostics:
    """Diagnostics of the integration of one split; not an input of models.

    Attributes:
        start_frame: ``[trajectory]`` index of the frame of x_0.
        energy: ``[trajectory, 2]`` total energy at the input and at the target.
        clipped: ``[trajectory]`` number of force components that were clipped between step 0 and the target.
    """

    start_frame: Int[Tensor, " trajectory"]
    energy: Float[Tensor, "trajectory 2"]
    clipped: Int[Tensor, " trajectory"]


@dataclass(frozen=True)
class NBodyTrajectories:
    """Whole training trajectories, for start frames redrawn at every visit.

    Attributes:
        frames: ``[trajectory, frame, particle, 2, 3]`` position and velocity, in single precision.
        horizon_frames: frames from input to target.
    """

    frames: Float[Tensor, "trajectory frame particle 2 3"]
    horizon_frames: int

    @property
    def num_starts(self) -> int:
        """Frames that have a target."""
        return self.frames.shape[1] - self.horizon_frames

    def to(self, device: torch.device | str, dtype: torch.dtype) -> NBodyTrajectories:
        """Copy to a device, in a dtype."""
        return replace(self, frames=self.frames.to(device=device, dtype=dtype))

    def states_at(
        self, index: Int[Tensor, " sample"], start: Int[Tensor, " sample"]
    ) -> tuple[Float[Tensor, "sample particle 2 3"], Float[Tensor, "sample particle 2 3"]]:
        """Position and velocity of some trajectories at their starts, and one horizon later."""
        rows, first = self.frames.flatten(0, 1), index * self.frames.shape[1] + start
        states = rows.index_select(0, torch.cat((first, first + self.horizon_frames)))  # one wait for the memory
        return states[: len(index)], states[len(index) :]


@dataclass(frozen=True)
class NBodyDataset:
    """A prepared data set.

    Attributes:
        splits: "train", "valid", "test", one sample of each trajectory.
        horizon: time from input to target.
        checksum: SHA-256 of the content.
        settings: the settings it was made with.
        diagnostics: of every split.
        trajectories: those of "train", where training draws start frames; None: it uses the samples of ``splits``.
    """

    splits: dict[str, NBodySplit]
    horizon: float
    checksum: str
    settings: NBodySettings = field(default_factory=NBodySettings)
    diagnostics: dict[str, NBodyDiagnostics] = field(default_factory=dict)
    trajectories: NBodyTrajectories | None = None

    @property
    def distinct_samples(self) -> int:
        """Distinct training samples: (trajectory, start) pairs."""
        return len(self.splits["train"]) * (1 if self.trajectories is None else self.trajectories.num_starts)


def load_nbody(config: Any) -> NBodyDataset:
    """Read a prepared data set into memory; its checksum is verified.

    Args:
        config: a ``se3t.config.NBodyData``, or an OmegaConf node with its fields.

    Raises:
        UserError: the store is missing or damaged; the message names the command that makes it.
    """
    return from_store(config, read_nbody_store(config))


def from_store(config: Any, store: Store) -> NBodyDataset:
    """The content of a store as tensors.

    Args:
        config: as in :func:`load_nbody`.
        store: of these settings.
    """
    settings = resolve(config)
    trajectories = None
    if settings.redraws:
        trajectories = NBodyTrajectories(torch.from_numpy(store.arrays[FRAMES]), settings.horizon_frames)
    return NBodyDataset(
        splits={split: NBodySplit(**_tensors(store, split, NBodySplit), horizon=settings.horizon) for split in SPLITS},
        horizon=settings.horizon,
        checksum=store.checksum,
        settings=settings,
        diagnostics={split: NBodyDiagnostics(**_tensors(store, split, NBodyDiagnostics)) for split in SPLITS},
        trajectories=trajectories,
    )


def _tensors(store: Store, split: str, kind: type[NBodySplit] | type[NBodyDiagnostics]) -> dict[str, Tensor]:
    names = [item.name for item in fields(kind) if item.name != "horizon"]
    return {name: torch.from_numpy(store.arrays[f"{split}/{name}"]) for name in names}


# --- what a training step draws -----------------------------------------------------------------------------------
# A function of (draw, trajectory) alone: of neither the batch nor the number of processes. It is made on the device of
# the data, which a captured step needs.


def random_bits(draw: int | Int[Tensor, ""], index: Int[Tensor, " sample"]) -> Int[Tensor, " sample"]:
    """64 random bits for each trajectory: output ``index`` of the generator SplitMix64 with the seed ``draw``.

    Args:
        draw: seed of the step.
        index: numbers of the trajectories.

    Source: Steele, Lea, Flood 2014, Fast splittable pseudorandom number generators.
    """
    bits = draw + (index + 1) * _GOLDEN  # modulo 2^64
    for shift, multiplier in _MULTIPLIERS:
        bits = (bits ^ _shifted(bits, shift)) * multiplier
    return bits ^ _shifted(bits, 31)


def random_starts(bits: Int[Tensor, " sample"], num_starts: int) -> Int[Tensor, " sample"]:
    """A start frame below ``num_starts`` from the upper 32 bits."""
    return (_shifted(bits, 32) * num_starts) >> 32


def random_signs(bits: Int[Tensor, " sample"]) -> Int[Tensor, " sample"]:
    """+1 or −1 from the lowest bit."""
    return 1 - 2 * (bits & 1)


def _shifted(bits: Tensor, places: int) -> Tensor:
    # A logical shift to the right: torch has signed integers only.
    return (bits >> places) & ((1 << (64 - places)) - 1)
