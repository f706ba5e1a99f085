"""Settings of the N-body data sets: presets, resolved and checked. Imports no torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from se3t.config import NBodyData, validate
from se3t.errors import UserError, did_you_mean

SPLITS = ("train", "valid", "test")
RANDOM, RANDOM_ONCE = "random", "random_once"


@dataclass(frozen=True)
class NBodySettings:
    """Everything that determines the data. All quantities are in the simulation's own, dimensionless units.

    Attributes:
        preset: name of the preset.
        num_train: trajectories of the training split.
        num_valid: trajectories of the validation split.
        num_test: trajectories of the test split.
        num_particles: bodies per trajectory, n.
        step_size: Δt.
        num_steps: T, length of a trajectory in steps; recorded are the steps below T.
        sample_every: steps between two frames; frame index f is step (f + 1) · ``sample_every``.
        box: half width of the reflecting box; 0 means no box.
        position_scale: standard deviation of the initial coordinates.
        speed: norm of every initial velocity.
        max_force: a force is clipped to ± this, component by component.
        start: index of the input frame; or ``random``: in training redrawn at every visit of a trajectory, uniformly
            among the frames that have a target, and spread evenly over them in validation and test; or
            ``random_once``: drawn once for each trajectory and stored.
        horizon_frames: frames from the input to the target.
        data_seed: seed of all trajectories.
    """

    preset: str = "calibrated"
    num_train: int = 5000
    num_valid: int = 1000
    num_test: int = 1000
    num_particles: int = 5
    step_size: float = 0.001
    num_steps: int = 5000
    sample_every: int = 100
    box: float = 0.0
    position_scale: float = 1.0
    speed: float = 0.5
    max_force: float = 100.0
    start: int | str = 0
    horizon_frames: int = 10
    data_seed: int = 0

    @property
    def num_frames(self) -> int:
        """Frames of a whole trajectory; with 5000 steps and one frame in 100: 49 (steps 100 to 4900)."""
        return (self.num_steps - 1) // self.sample_every

    @property
    def num_starts(self) -> int:
        """Frames that have a target ``horizon_frames`` later within the trajectory."""
        return self.num_frames - self.horizon_frames

    @property
    def last_frame(self) -> int:
        """Index of the last frame to integrate."""
        return self.start + self.horizon_frames if isinstance(self.start, int) else self.num_frames - 1

    @property
    def redraws(self) -> bool:
        """Whether training redraws the start at every visit."""
        return self.start == RANDOM

    @property
    def horizon(self) -> float:
        """Time from the input to the target."""
        return self.horizon_frames * self.sample_every * self.step_size

    def num_trajectories(self, split: str) -> int:
        """Size of a split."""
        return {"train": self.num_train, "valid": self.num_valid, "test": self.num_test}[split]

    def as_dict(self) -> dict[str, Any]:
        """The settings as plain values, for the store and the run record."""
        return asdict(self)

    def digest(self) -> str:
        """Ten hexadecimal digits that identify these settings."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()[:10]


PRESETS: dict[str, NBodySettings] = {
    # Random starts with the horizon that gives the constant-velocity error of Table 1: 780 steps, 39 frames of 20.
    "calibrated_random": NBodySettings(preset="calibrated_random", sample_every=20, start=RANDOM, horizon_frames=39),
    # First frame (step 100) to step 1100: one fixed sample of each trajectory, with the same constant-velocity error.
    "calibrated": NBodySettings(preset="calibrated"),
    # The paper's words: 500 steps of 0.001.
    "text": NBodySettings(preset="text", start=RANDOM, horizon_frames=5),
    # The authors' public code: its generator has a box of half width 5, its run command predicts 1000 steps.
    "authors": NBodySettings(preset="authors", box=5.0, start=RANDOM),
    # Satorras et al. 2021 (EGNN): frame 30 to frame 40. They score positions only; velocities are stored too.
    "egnn": NBodySettings(preset="egnn", num_train=3000, num_valid=2000, num_test=2000, start=30),
}
"""Named data sets. Table 1 uses ``calibrated_random``.

With random starts training visits a trajectory at another frame each time, as the authors' public code does.
**Deviation** of ``calibrated``, ``egnn``, ``data.start=random_once``: a fixed list of one sample for each trajectory.
"""


def resolve(config: Any) -> NBodySettings:
    """Fill settings that are None from the preset, and check all.

    Args:
        config: a ``se3t.config.NBodyData``, or an OmegaConf node with its fields.

    Returns:
        The resolved settings.

    Raises:
        UserError: an unknown preset or a setting out of range.
    """
    if config.preset not in PRESETS:
        raise UserError(
            f"data.preset: no preset {config.preset!r} for the N-body data; {did_you_mean(config.preset, PRESETS)}"
        )
    base = PRESETS[config.preset]
    overrides = {
        field.name: getattr(config, field.name) for field in fields(base) if field.name not in ("preset", "start")
    }
    chosen = {name: _cast(value, getattr(base, name)) for name, value in overrides.items() if value is not None}
    settings = replace(base, **chosen)
    if config.start is not None:
        settings = replace(settings, start=_parse_start(config.start))
    _check_ranges(settings)
    _check_frames(settings)
    return settings


def _cast(value: Any, like: Any) -> Any:
    # 5 and 5.0 must give the same digest, which is computed from text.
    return float(value) if isinstance(like, float) else value


def _parse_start(word: str | int) -> int | str:
    text = str(word).strip()
    if text in (RANDOM, RANDOM_ONCE):
        return text
    if text != "first" and not text.isdecimal():
        raise UserError(
            f"data.start: got {word!r}; expected 'random' (redrawn at every visit), 'random_once', 'first' or the "
            "index of a frame (0, 1, …)"
        )
    return 0 if text == "first" else int(text)


def _check_ranges(settings: NBodySettings) -> None:
    validate(NBodyData(**settings.as_dict() | {"start": str(settings.start)}), "data.")
    if 0 < settings.box < settings.position_scale:
        raise UserError(
            f"data.box: half width {settings.box} is less than data.position_scale {settings.position_scale}, so that "
            "many particles would start outside; expected 0 (no box) or a larger box"
        )


def _check_frames(settings: NBodySettings) -> None:
    have = f"{settings.num_frames} frames (num_steps {settings.num_steps}, one in {settings.sample_every})"
    if settings.num_starts < 1:
        raise UserError(
            f"data.horizon_frames: got {settings.horizon_frames}, but a trajectory has {have}; expected at most "
            f"{settings.num_frames - 1}: lower it, or raise data.num_steps"
        )
    if isinstance(settings.start, int) and settings.start >= settings.num_starts:
        raise UserError(
            f"data.start: frame {settings.start} has no target {settings.horizon_frames} frames later, for a "
            f"trajectory has {have}; expected at most {settings.num_starts - 1}: lower it or data.horizon_frames, or "
            "raise data.num_steps"
        )


def split_sizes(data: Any) -> dict[str, int]:
    """Trajectories of each split by the settings."""
    return {split: resolve(data).num_trajectories(split) for split in SPLITS}


def cost_settings(data: Any) -> dict[str, int]:
    """Settings that determine the time of a training step."""
    return {"num_particles": resolve(data).num_particles}
