"""QM9: one property of a small molecule (Table 3)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from se3t.config.schemas import PropertyTask, QM9Data
from se3t.experiments.base import (
    OWN_DATA,
    SUBSET,
    VALIDATION,
    Column,
    DataSet,
    Experiment,
    Lazy,
    Metric,
    TaskSpec,
)
from se3t.runs import Fields, RunRecord, common, measured_split, overridden

_DEVIATIONS = "standard deviations of the target"

TASK = TaskSpec(
    name="property",
    implementation=Lazy("se3t.tasks.property:PropertyTask"),
    schema=PropertyTask,
    metrics=(
        Metric("mae", "mean absolute error", unit="", label="MAE"),
        Metric("relative_mae", "mean absolute error, relative to the mean predictor", optional=True),
        Metric("loss", "loss", _DEVIATIONS, optional=True),
        Metric("equivariance_error", "equivariance error (change when the input is rotated)", _DEVIATIONS),
    ),
    headline=("mae",),
    progress=("mae",),
    baselines={"mean": "mean predictor", "composition": "linear in composition"},
    baseline_metrics=("mae",),
    card=Lazy("se3t.deploy.card_property:PropertyCard"),
    random=Lazy("se3t.suite.random_data:molecules"),
)


def describe(config: Any) -> str:
    """The property that is learned."""
    return str(config.task.column or config.task.target)


DATA = DataSet(
    name="qm9",
    label="QM9",
    schema=QM9Data,
    store_path=Lazy("se3t.data.qm9.prepare:store_path"),
    prepare=Lazy("se3t.data.qm9.prepare:prepare_qm9"),
    summary=Lazy("se3t.data.molecules.summary:lines_of_qm9"),
    store_settings=("root", "raw", "uncharacterized"),
    has_checksum=True,
    split_sizes=Lazy("se3t.data.qm9.splits:sizes_of"),
    is_downloaded=lambda data: data.raw is None,
    places=("root", "raw", "uncharacterized"),
    limits=(
        "neutral molecules in their ground state",
        "geometries: QM9 has those relaxed with B3LYP/6-31G(2df,p), and its values belong to these; other geometries "
        "(force fields, crystals, SMILES embedded by RDKit) add an error that was not measured",
        "the values are those of B3LYP, not of experiments",
    ),
    sources=(
        "R. Ramakrishnan, P. O. Dral, M. Rupp, O. A. von Lilienfeld: Quantum chemistry structures and properties of "
        "134 kilo molecules. Scientific Data 1, 140022 (2014). doi:10.1038/sdata.2014.22",
        "L. Ruddigkeit, R. van Deursen, L. C. Blum, J.-L. Reymond: Enumeration of 166 billion organic small molecules "
        "in the chemical universe database GDB-17. J. Chem. Inf. Model. 52, 2864–2875 (2012). doi:10.1021/ci300415d",
    ),
    cost_settings=lambda data: {"data": data.name, "graph": data.graph, "radius": data.radius},
)

_SPLITS = ("train", "valid", "test")

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
    def title(self) -> str:
        """The data in a word or two."""
        return "Own molecules" if self.kind != DATA.name else "QM9 subset" if self.is_subset else "QM9"

    @property
    def name(self) -> str:
        """The data in words."""
        return f"{self.title}, checksum {self.checksum[:8]}"

    @property
    def is_subset(self) -> bool:
        """Whether more than single molecules of the official splits are missing."""
        return is_subset(self.sizes, self.official)

    @property
    def how(self) -> list[str]:
        """What the numbers are measured on, where it is not what the published ones are, in the words of tables."""
        data = [OWN_DATA] if self.kind != DATA.name else [SUBSET] if self.is_subset else []
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
        baselines: mean absolute errors of predictions without a network, by name.
        baseline_split: what those were measured on.
    """

    data: Molecules
    target: str
    column: Column
    baselines: dict[str, float]
    baseline_split: str

    @property
    def data_name(self) -> str:
        """The property, and the data in words."""
        return f"{self.column.label}, {self.data.name}"

    @property
    def part(self) -> str:
        """The property."""
        return self.target

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
            sizes=tuple(fields.integer(f"data.sizes.{name}") for name in _SPLITS),
            official=tuple(fields.integer(f"data.official.{name}") for name in _SPLITS) if kind == DATA.name else (),
            measured_on=split,
        ),
        metrics=TASK.read(fields, split),
        target=fields.text("data.target"),
        column=Column(fields.text("data.label"), _typeset(fields.text("data.unit"))),
        baselines={name: fields.amount(f"data.baselines.{name}.0") for name in TASK.baselines},
        baseline_split=fields.text("data.baseline_split"),
    )


def _typeset(unit: str) -> str:
    return unit.replace("^2", "²").replace("^3", "³")


EXPERIMENT = Experiment(
    name="qm9",
    task=TASK,
    datasets=(DATA,),
    parse_record=parse_record,
    title="Table 3",
    paper_presets=("released", "paper"),
    describe=describe,
)
