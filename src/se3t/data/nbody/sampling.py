"""Initial states of trajectories, one random stream each, from integer bits by + − × ÷ √ alone.

So they are bit-identical on every machine: NumPy guarantees the raw integers of Philox and ``SeedSequence`` across
versions, but not the normal deviates of its ``Generator``, which also call the platform's ``exp`` and ``log``. The
deviates are therefore computed here.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from numpy.random import Philox, SeedSequence

from se3t.data.nbody.presets import RANDOM_ONCE, SPLITS, NBodySettings

_LN_2 = 0.6931471805599453
_SQRT_HALF = 0.7071067811865476
_NUM_TERMS = 13  # of the series in z², z² < 0.0295: the first term left out is below 1e-20


def initial_states(
    settings: NBodySettings, split: str, indices: Int[np.ndarray, " trajectory"]
) -> tuple[
    Float[np.ndarray, "3 particle trajectory"],
    Float[np.ndarray, "3 particle trajectory"],
    Float[np.ndarray, "particle trajectory"],
    Int[np.ndarray, " trajectory"],
]:
    """Draw charges ±1, the start frame, x ~ N(0, ``position_scale``²), and v of norm ``speed`` in a random direction.

    Trajectory ``index`` of a split reads the stream keyed by (data_seed, split, index) and nothing else, so neither the
    size of the split nor the order of the indices matters. Within the stream the order is as above. Only with
    ``start=random`` the start depends on the size, since it is spread over the split: ⌊last · index / size⌋, as in the
    authors' public code for its test split.

    Args:
        settings: the data set.
        split: "train", "valid" or "test".
        indices: numbers of the trajectories within the split.

    Returns:
        Positions and velocities ``[3, particle, trajectory]``, charges ``[particle, trajectory]``, start frames
        ``[trajectory]``.
    """
    num_particles = settings.num_particles
    positions = np.empty((3, num_particles, len(indices)))
    velocities = np.empty_like(positions)
    charges = np.empty((num_particles, len(indices)))
    starts = np.empty(len(indices), dtype=np.int64)
    for column, index in enumerate(indices):
        stream = Philox(SeedSequence(settings.data_seed, spawn_key=(SPLITS.index(split), int(index))))
        bits = stream.random_raw(num_particles + 1)
        charges[:, column] = np.where(bits[:-1] >> np.uint64(63), 1.0, -1.0)
        draw = int(_unit_interval(bits[-1:])[0] * settings.num_starts)
        starts[column] = draw if settings.start == RANDOM_ONCE else _fixed_start(settings, split, int(index))
        normal = standard_normal(stream, 6 * num_particles).reshape(2, num_particles, 3)
        positions[:, :, column], velocities[:, :, column] = normal[0].T, normal[1].T
    norm = np.sqrt((velocities[0] * velocities[0] + velocities[1] * velocities[1]) + velocities[2] * velocities[2])
    return settings.position_scale * positions, velocities * (settings.speed / norm), charges, starts


def _fixed_start(settings: NBodySettings, split: str, index: int) -> int:
    if isinstance(settings.start, int):
        return settings.start
    return (settings.num_starts - 1) * index // settings.num_trajectories(split)


def standard_normal(stream: Philox, count: int) -> Float[np.ndarray, " count"]:
    """Independent N(0, 1) deviates by Marsaglia's polar method.

    (a, b) · √(−2 ln s / s) with (a, b) uniform in the unit disk and s = a² + b².

    Args:
        stream: source of 64-bit integers; the number used depends on how many points fall outside the disk.
        count: number of deviates.
    """
    deviates = np.empty(0)
    while len(deviates) < count:
        missing = (count - len(deviates) + 1) // 2
        points = 2.0 * _unit_interval(stream.random_raw(3 * missing + 4)) - 1.0  # π/4 of the pairs fall inside the disk
        a, b = points[: len(points) // 2], points[len(points) // 2 : 2 * (len(points) // 2)]
        square = a * a + b * b
        inside = (square > 0.0) & (square < 1.0)
        a, b, square = a[inside], b[inside], square[inside]
        factor = np.sqrt(-2.0 * natural_log(square) / square)
        deviates = np.concatenate([deviates, np.stack([a * factor, b * factor], axis=1).ravel()])
    return deviates[:count]


def natural_log(values: Float[np.ndarray, " value"]) -> Float[np.ndarray, " value"]:
    """Return ln of positive numbers: ln(m·2^e) = e ln 2 + 2 artanh((m − 1)/(m + 1)), m in [√½, √2), by the series."""
    mantissa, exponent = np.frexp(values)
    low = mantissa < _SQRT_HALF
    mantissa, exponent = np.where(low, 2.0 * mantissa, mantissa), exponent - low
    z = (mantissa - 1.0) / (mantissa + 1.0)
    square = z * z
    series = np.full_like(z, 1.0 / (2 * _NUM_TERMS - 1))
    for term in range(_NUM_TERMS - 2, -1, -1):
        series = series * square + 1.0 / (2 * term + 1)
    return exponent * _LN_2 + (2.0 * z) * series


def _unit_interval(bits: np.ndarray) -> Float[np.ndarray, " value"]:
    # The upper 53 bits as a double in [0, 1), exactly.
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
