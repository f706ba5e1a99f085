"""Records of runs that learned a property of molecules."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from se3t.reporting.published import Column
from se3t.reporting.tables.layout import OWN_DATA, SUBSET, VALIDATION
from se3t.runs import Fields, RunRecord, common, measured_split, overridden

SPLITS = ("train", "valid", "test")
METRICS = ("mae", "equivariance_error")
BASELINES = {"mean": "mean predictor", "composition": "linear in composition"}

_SIZES = ("num_train", "num_valid", "num_test")
_TOLERANCE = 1e-3


class Molecules(NamedTuple):
    """Data of a property: QM9 or own ones by ``kind``, and how many molecules of each split there are.

    ``official``: of the splits of QM9, as far as known; ``measured_on``: the split of the numbers, validation where
    there is no molecule of test.
    """

    kind: str
    checksum: str
    sizes: tuple[int, ...]
    official: tuple[int, ...]
    measured_on: str

    @property
    def is_subset(self) -> bool:
        """Whether more than single molecules of the official splits are missing."""
        return is_subset(self.sizes, self.official)

    @property
    def how(self) -> list[str]:
        """What the numbers are measured on, where it is not what the published ones are, in the words of tables."""
        data = [OWN_DATA] if self.kind != "qm9" else [SUBSET] if self.is_subset else []
        return [*data, *[VALIDATION] * (self.measured_on == "valid")]


def is_subset(sizes: Iterable[int], official: Iterable[int]) -> bool:
    """Whether some split lacks more than one molecule in a thousand, as those that cannot be read are."""
    return any(size < (1 - _TOLERANCE) * whole for size, whole in zip(sizes, official, strict=False))


@dataclass(frozen=True)
class PropertyRecord(RunRecord):
    """A finished run that learned one property.

    Attributes:
        target: name of the property.
        column: how it is printed, and its unit.
        baselines: mean absolute errors of predictions without a network, by the names of ``BASELINES``.
        baseline_split: what those were measured on.
    """

    data: Molecules
    target: str
    column: Column
    baselines: dict[str, float]
    baseline_split: str

    @property
    def repeat(self) -> tuple[str, int]:
        """One line of a table has several targets, each with several seeds."""
        return (self.target, self.seed)


def parse_record(fields: Fields) -> PropertyRecord:
    """Check the content of one ``result.json`` and keep what tables need.

    Raises:
        UserError: naming file and field, when a field is missing, of the wrong type, or not finite.
    """
    arguments = common(fields)
    settings = arguments["settings"]
    arguments["settings"] = {name: settings[name] for name in settings if name not in ("task.target", "task.column")}
    split = measured_split(fields)
    kind = fields.text("data.kind")
    return PropertyRecord(
        **arguments,
        overridden={name: value for name, value in overridden(fields, ()).items() if name in _SIZES},
        data=Molecules(
            kind,
            fields.text("data.checksum"),
            sizes=tuple(fields.integer(f"data.sizes.{name}") for name in SPLITS),
            official=tuple(fields.integer(f"data.official.{name}") for name in SPLITS) if kind == "qm9" else (),
            measured_on=split,
        ),
        metrics={metric: fields.amount(f"{split}.{metric}") for metric in METRICS},
        target=fields.text("data.target"),
        column=Column(fields.text("data.label"), _typeset(fields.text("data.unit"))),
        baselines={name: fields.amount(f"data.baselines.{name}.0") for name in BASELINES},
        baseline_split=fields.text("data.baseline_split"),
    )


def _typeset(unit: str) -> str:
    return unit.replace("^2", "²").replace("^3", "³")
