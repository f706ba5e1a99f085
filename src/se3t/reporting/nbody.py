"""Records of N-body runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from se3t.config.schemas import redraws_starts
from se3t.runs import Fields, RunRecord, common, overridden

METRICS = ("mse_x", "mse_v", "relative_mse_x", "relative_mse_v", "equivariance_error_x", "equivariance_error_v")
"""Test metrics that a record of the N-body task holds."""

_SPLITS = ("train", "valid", "test")
_NOT_DATA_KNOBS = ("name", "root", "preset")
_AMOUNTS = ("num_train", "num_valid", "num_test", "data_seed")
"""Settings that draw more, fewer or other trajectories of the same simulation."""


class Simulation(NamedTuple):
    """Data of the N-body experiment: preset, horizon (time of the simulation), checksum and sizes of the splits, as far
    as a record tells them.
    """

    preset: str
    horizon: float
    checksum: str
    sizes: tuple[int, ...] = ()

    def lacks(self, sizes: Mapping[str, int]) -> list[str]:
        """Which splits have fewer trajectories than ``sizes``, in words."""
        own = dict(zip(_SPLITS, self.sizes, strict=False))
        return [f"{own[name]:,} of {whole:,} {name}" for name, whole in sizes.items() if own.get(name, whole) < whole]

    def exceeds(self, sizes: Mapping[str, int]) -> list[str]:
        """Which splits have more trajectories than ``sizes``, in words."""
        own = dict(zip(_SPLITS, self.sizes, strict=False))
        more = {name: whole for name, whole in sizes.items() if own.get(name, whole) > whole}
        return [f"{own[name]:,} in place of {whole:,} {name}" for name, whole in more.items()]


@dataclass(frozen=True)
class NBodyRecord(RunRecord):
    """A finished run of the N-body experiment.

    Attributes:
        linear: test MSE of x and of v of the constant-velocity baseline on the same data.
        distinct_samples: (trajectory, start) pairs that training can see; None: an earlier version wrote the record,
            whose random starts were drawn once.
    """

    data: Simulation
    linear: tuple[float, float]
    distinct_samples: int | None = None

    @property
    def changes(self) -> dict[str, Any]:
        """Settings of the simulation that are not those of its preset."""
        return {name: value for name, value in self.overridden.items() if name not in _AMOUNTS}


def parse_record(fields: Fields) -> NBodyRecord:
    """Check the content of one ``result.json`` and keep what Table 1 needs.

    Raises:
        UserError: naming file and field, when a field is missing, of the wrong type, or not finite.
    """
    data = fields.mapping("data")  # of older records: without sizes or number of samples
    given = overridden(fields, _NOT_DATA_KNOBS)
    if "distinct_samples" not in data and redraws_starts(fields.mapping("config").get("data") or {}):
        given["start"] = "random_once"
    return NBodyRecord(
        **common(fields),
        overridden={name: value for name, value in given.items() if (name, value) != ("data_seed", 0)},
        data=Simulation(
            fields.text("data.preset"),
            fields.amount("data.horizon"),
            fields.text("data.checksum"),
            tuple(fields.integer(f"data.sizes.{name}") for name in _SPLITS) if "sizes" in data else (),
        ),
        linear=(
            fields.amount("data.baselines.constant_velocity.0"),
            fields.amount("data.baselines.constant_velocity.1"),
        ),
        distinct_samples=fields.integer("data.distinct_samples") if "distinct_samples" in data else None,
        metrics={metric: fields.amount(f"test.{metric}") for metric in METRICS},
    )
