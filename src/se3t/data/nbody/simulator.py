"""Charged particles under Coulomb forces, integrated for many trajectories at once: the data of Table 1.

Every operation is an elementwise + − × ÷ √ of IEEE double precision over an array whose last axis is the trajectory, in
an order that does not depend on the number of trajectories; sums over particles and axes are written out. So a
trajectory is bit-identical in any block.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from threading import Lock
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from se3t.data.molecules.parallel import available_cores
from se3t.data.nbody.presets import NBodySettings, resolve
from se3t.data.nbody.sampling import initial_states

BLOCK_SIZE = 512  # trajectories integrated together: enough to hide the cost of a NumPy call, few enough for the cache
_MOST_THREADS = 4  # all take turns between two calls of NumPy


class ChargedParticles:
    """State of a block of trajectories, and the integrator: kick v += Δt F(x), drift x += Δt v, reflection at the box.

    F_i = Σ_j q_i q_j (x_i − x_j) / ‖x_i − x_j‖³, each component clipped to ± ``max_force``.

    Source: charged-particle simulation of Kipf et al. 2018 (Neural Relational Inference) in three dimensions.

    Attributes:
        positions: ``[3, particle, trajectory]``.
        velocities: ``[3, particle, trajectory]``.
        clipped: ``[trajectory]`` number of force components clipped so far.
    """

    def __init__(
        self,
        positions: Float[np.ndarray, "3 particle trajectory"],
        velocities: Float[np.ndarray, "3 particle trajectory"],
        charges: Float[np.ndarray, "particle trajectory"],
        *,
        step_size: float,
        box: float = 0.0,
        max_force: float = 100.0,
    ) -> None:
        self.positions, self.velocities = positions.copy(), velocities.copy()
        self.clipped = np.zeros(positions.shape[-1], dtype=np.int64)
        self._step_size, self._box, self._max_force = step_size, box, max_force
        num_particles, num_trajectories = charges.shape
        # Pair (i, i + k) for k = 1 … n−1: each k is one slice, so that the differences need no gather.
        offsets = range(1, num_particles)
        ends = np.cumsum([num_particles - k for k in offsets]).tolist()
        self._groups = [(k, slice(end - (num_particles - k), end)) for k, end in zip(offsets, ends, strict=True)]
        num_pairs = ends[-1]
        self._charge_products = np.concatenate([charges[k:] * charges[:-k] for k in offsets])
        self._difference = np.empty((3, num_pairs, num_trajectories))
        self._vector = np.empty_like(self._difference)
        self._square = np.empty((num_pairs, num_trajectories))
        self._distance = np.empty_like(self._square)
        self._force = np.empty_like(self.positions)
        self._move = np.empty_like(self.positions)

    def advance(self, num_steps: int) -> None:
        """Make ``num_steps`` steps, each a kick and a drift.

        States are recorded after a drift, so a recorded state is continued by the same pair of operations.
        """
        # Coincident particles give NaN, which the store refuses; no warnings at every step.
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            for _ in range(num_steps):
                self._kick()
                self._drift()

    def forces(self) -> Float[np.ndarray, "3 particle trajectory"]:
        """Forces at the present positions, before the clip (a buffer that the next call overwrites)."""
        self._measure_pairs()
        np.multiply(self._square, self._distance, out=self._square)  # ‖x‖³
        np.divide(self._charge_products, self._square, out=self._square)
        np.multiply(self._difference, self._square, out=self._vector)
        self._force.fill(0.0)
        for k, pairs in self._groups:
            upper, lower = self._force[:, k:], self._force[:, :-k]
            np.add(upper, self._vector[:, pairs], out=upper)
            np.subtract(lower, self._vector[:, pairs], out=lower)
        return self._force

    def energy(self) -> Float[np.ndarray, " trajectory"]:
        """Total energy Σ_i ½‖v_i‖² + Σ_{i<j} q_i q_j / ‖x_i − x_j‖ (unit masses)."""
        self._measure_pairs()
        np.divide(self._charge_products, self._distance, out=self._distance)
        total = np.zeros(self.positions.shape[-1])
        for pair in self._distance:
            total += pair
        for row in self.velocities.reshape(-1, self.velocities.shape[-1]):
            total += 0.5 * row * row
        return total

    def _measure_pairs(self) -> None:
        # x_(i+k) − x_i, its square and its norm, into the buffers.
        for k, pairs in self._groups:
            np.subtract(self.positions[:, k:], self.positions[:, :-k], out=self._difference[:, pairs])
        np.multiply(self._difference, self._difference, out=self._vector)
        np.add(self._vector[0], self._vector[1], out=self._square)
        np.add(self._square, self._vector[2], out=self._square)
        np.sqrt(self._square, out=self._distance)

    def _kick(self) -> None:
        force, limit = self.forces(), self._max_force
        if not (force.max() <= limit and force.min() >= -limit):  # else no component is clipped
            self.clipped += np.count_nonzero(np.abs(force) > limit, axis=(0, 1))
            np.clip(force, -limit, limit, out=force)
        np.multiply(force, self._step_size, out=force)
        np.add(self.velocities, force, out=self.velocities)

    def _drift(self) -> None:
        np.multiply(self.velocities, self._step_size, out=self._move)
        np.add(self.positions, self._move, out=self.positions)
        if self._box > 0:
            self._reflect()

    def _reflect(self) -> None:
        x, v, box = self.positions, self.velocities, self._box
        if x.max() > box:
            out = x > box
            x[out] = 2.0 * box - x[out]
            v[out] = -np.abs(v[out])
        if x.min() < -box:
            out = x < -box
            x[out] = -2.0 * box - x[out]
            v[out] = np.abs(v[out])


@dataclass(frozen=True)
class Samples:
    """Input and target states of trajectories, trajectory first.

    Attributes:
        positions: ``[trajectory, particle, 3]`` at the start frame.
        velocities: ``[trajectory, particle, 3]`` at the start frame.
        charges: ``[trajectory, particle, 1]``, ±1.
        target_positions: ``[trajectory, particle, 3]`` x_T − x_0.
        target_velocities: ``[trajectory, particle, 3]`` v_T − v_0.
        start_frame: ``[trajectory]`` index of the start frame.
        energy: ``[trajectory, 2]`` total energy at the start and at the target.
        clipped: ``[trajectory]`` force components clipped between step 0 and the target.
        frames: ``[trajectory, frame, particle, 2, 3]`` position and velocity in all frames, in single precision; None
            where training needs only start and target.
    """

    positions: Float[np.ndarray, "trajectory particle 3"]
    velocities: Float[np.ndarray, "trajectory particle 3"]
    charges: Float[np.ndarray, "trajectory particle 1"]
    target_positions: Float[np.ndarray, "trajectory particle 3"]
    target_velocities: Float[np.ndarray, "trajectory particle 3"]
    start_frame: Int[np.ndarray, " trajectory"]
    energy: Float[np.ndarray, "trajectory 2"]
    clipped: Int[np.ndarray, " trajectory"]
    frames: Float[np.ndarray, "trajectory frame particle 2 3"] | None = None

    def as_dict(self) -> dict[str, np.ndarray]:
        """The arrays by name, those that there are."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: array for name, array in arrays.items() if array is not None}


def simulate(
    settings: NBodySettings,
    split: str,
    indices: Int[np.ndarray, " trajectory"] | None = None,
    *,
    block_size: int = BLOCK_SIZE,
    on_progress: Callable[[int], object] | None = None,
) -> Samples:
    """Integrate trajectories of a split: inputs and targets, and all frames where training redraws starts.

    Args:
        settings: the data set.
        split: "train", "valid" or "test".
        indices: numbers of the trajectories; by default the whole split.
        block_size: trajectories integrated together; the result does not depend on it.
        on_progress: called with the number of frames integrated since the last call, summed over trajectories; by
            several threads, but by one at a time.

    Returns:
        The samples in the order of ``indices``.
    """
    chosen = np.arange(settings.num_trajectories(split)) if indices is None else indices
    lock = Lock()

    def advance(frames: int) -> None:
        if on_progress is not None:
            with lock:
                on_progress(frames)

    def block(begin: int) -> Samples:
        return _simulate_block(settings, split, chosen[begin : begin + block_size], advance)

    threads = ThreadPoolExecutor(min(available_cores(), _MOST_THREADS))
    try:
        blocks = list(threads.map(block, range(0, len(chosen), block_size)))
    finally:
        threads.shutdown(cancel_futures=True)
    return Samples(
        **{name: np.concatenate([block.as_dict()[name] for block in blocks]) for name in blocks[0].as_dict()}
    )


def _simulate_block(
    settings: NBodySettings, split: str, indices: np.ndarray, on_progress: Callable[[int], object]
) -> Samples:
    positions, velocities, charges, starts = initial_states(settings, split, indices)
    system = ChargedParticles(
        positions, velocities, charges, step_size=settings.step_size, box=settings.box, max_force=settings.max_force
    )
    states = np.full((2, 2, *positions.shape), np.nan)  # [start or target, position or velocity, …]
    energy = np.full((2, len(indices)), np.nan)
    clipped = np.zeros(len(indices), dtype=np.int64)
    frames = None
    if settings.redraws and split == "train":
        shape = (len(indices), settings.num_frames, settings.num_particles, 2, 3)
        frames = np.empty(shape, dtype=np.float32)
    for frame in range(settings.last_frame + 1):
        system.advance(settings.sample_every)
        if frames is not None:
            frames[:, frame, :, 0] = system.positions.transpose(2, 1, 0)
            frames[:, frame, :, 1] = system.velocities.transpose(2, 1, 0)
        for number, due in enumerate((starts == frame, starts + settings.horizon_frames == frame)):
            if due.any():
                states[number, 0][..., due] = system.positions[..., due]
                states[number, 1][..., due] = system.velocities[..., due]
                energy[number, due] = system.energy()[due]
                clipped[due] = system.clipped[due]
        on_progress(len(indices))
    start, target = states.swapaxes(2, 4)  # each [2, trajectory, particle, 3]
    return Samples(
        positions=start[0],
        velocities=start[1],
        charges=charges.T[:, :, None],
        target_positions=target[0] - start[0],
        target_velocities=target[1] - start[1],
        start_frame=starts,
        energy=energy.T,
        clipped=clipped,
        frames=frames,
    )


def make_few(data: Any) -> int:
    """Simulate some training trajectories of the settings, to measure the time.

    Returns:
        How many.
    """
    settings = resolve(data)
    few = min(settings.num_train, 2 * BLOCK_SIZE)
    simulate(replace(settings, num_train=few), "train")
    return few
