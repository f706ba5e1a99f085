"""QM9: properties of small molecules (Table 3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from se3t.config.schemas import TARGETS, PropertyTask, QM9Data, targets_of
from se3t.errors import UserError, did_you_mean
from se3t.experiments.base import DataSet, Experiment, Lazy, Metric, TaskSpec
from se3t.experiments.table import (
    NOT_COMPARABLE,
    OTHER,
    OWN_DATA,
    SUBSET,
    VALID,
    VALIDATION,
    DataFacts,
    NoteParts,
    PublishedTable,
    TableColumn,
    TableSpec,
)
from se3t.runs import Fields, RunRecord
from se3t.runs.record import common, measured_split, overridden

_DEVIATIONS = "standard deviations of the target"


def mae_names(targets: Sequence[str]) -> tuple[str, ...]:
    """The metrics of the mean absolute errors of what one network learns: ``mae`` of one, else one for each."""
    return ("mae",) if len(targets) == 1 else tuple(f"mae_{target}" for target in targets)


def _objective(metric: str, task: Mapping[str, Any]) -> str:
    """Errors of several properties have no common unit."""
    return "relative_mae" if metric == "mae" and len(targets_of(str(task["target"]))) > 1 else metric


TASK = TaskSpec(
    name="property",
    implementation=Lazy("se3t.tasks.property:PropertyTask"),
    schema=PropertyTask,
    metrics=(
        Metric("mae", "mean absolute error", unit="", label="MAE", optional=True),
        *(
            Metric(name, f"mean absolute error of {target}", unit="", label=f"MAE {target}", optional=True)
            for name, target in zip(mae_names(TARGETS), TARGETS, strict=True)
        ),
        Metric("relative_mae", "mean absolute error, relative to the mean predictor", optional=True),
        Metric("loss", "loss", _DEVIATIONS, optional=True),
        Metric("equivariance_error", "equivariance error (change when the input is rotated)", _DEVIATIONS),
    ),
    headline=("mae", *mae_names(TARGETS)),
    progress=("mae",),
    baselines={"mean": "mean predictor", "composition": "linear in composition"},
    baseline_metrics=("mae",),
    objective=_objective,
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
    def how(self) -> tuple[str, ...]:
        """What the numbers are measured on, where it is not what the published ones are, in the words of tables."""
        data = [OWN_DATA] if self.kind != DATA.name else [SUBSET] if self.is_subset else []
        return (*data, *[VALIDATION] * (self.measured_on == "valid"))


def is_subset(sizes: Iterable[int], official: Iterable[int]) -> bool:
    """Whether a split lacks more than one molecule in a thousand: so many cannot be read."""
    return any(size < (1 - _TOLERANCE) * whole for size, whole in zip(sizes, official, strict=False))


@dataclass(frozen=True, kw_only=True)
class PropertyRecord(RunRecord):
    """A finished run that learned one property, or several together.

    Attributes:
        columns: how each is printed, and its unit.
    """

    data: Molecules
    columns: tuple[TableColumn, ...]

    @property
    def data_name(self) -> str:
        """The properties, and the data in words."""
        return ", ".join((*(column.label for column in self.columns), self.data.name))


def parse_record(fields: Fields) -> PropertyRecord:
    """Check the content of one ``result.json`` and keep what tables need.

    Raises:
        UserError: naming file and field, when a field is missing, of the wrong type, or not finite.
    """
    arguments = common(fields)
    split, several = measured_split(fields), fields.mapping("data").get("properties")
    entries = ["data"] if several is None else [f"data.properties.{place}" for place in range(len(several))]
    columns = tuple(_column(fields, entry) for entry in entries)
    targets = [column.metric for column in columns]
    if several is None:  # a row of a table joins runs that differ by the property alone
        settings = arguments["settings"].items()
        arguments["settings"] = {name: value for name, value in settings if name not in ("task.target", "task.column")}
    kind = fields.text("data.kind")
    data = Molecules(
        kind,
        fields.text("data.checksum"),
        sizes=tuple(fields.integer(f"data.sizes.{name}") for name in _SPLITS),
        official=tuple(fields.integer(f"data.official.{name}") for name in _SPLITS) if kind == DATA.name else (),
        measured_on=split,
    )
    errors = {
        target: fields.amount(f"{split}.{name}") for target, name in zip(targets, mae_names(targets), strict=True)
    }
    return PropertyRecord(
        **arguments,
        overridden={name: value for name, value in overridden(fields, ()).items() if name in _SIZES},
        data=data,
        metrics={**errors, **TASK.read(fields, split)},
        part=fields.text("data.target"),
        columns=columns,
        how=data.how,
        baselines={
            printed: {target: fields.amount(f"data.baselines.{name}.{place}") for place, target in enumerate(targets)}
            for name, printed in TASK.baselines.items()
        },
        baseline_how=data._replace(measured_on=fields.text("data.baseline_split")).how,
    )


def _column(fields: Fields, entry: str) -> TableColumn:
    unit = fields.text(f"{entry}.unit").replace("^2", "²").replace("^3", "³")
    return TableColumn(fields.text(f"{entry}.label"), fields.text(f"{entry}.target"), unit)


# --- tables -----------------------------------------------------------------------------------------------------------

INVARIANCE = TableColumn("Δ_EQ", "equivariance_error", style="error")
_BATCH = TableColumn("batch", tell=lambda runs: f"{runs[0].batch_size:,}")


def _columns(
    records: Sequence[PropertyRecord], published: PublishedTable | None, wanted: Sequence[str]
) -> Sequence[TableColumn]:
    """A column for every property that was learned or is wanted, those of the paper first; one alone with its
    equivariance error.

    Raises:
        UserError: for one that neither the paper nor a run has, or when a unit is not the one of the paper.
    """
    learned = {column.metric: column for record in records for column in record.columns}
    printed = {} if published is None else published.columns
    for target in wanted:
        if target not in learned and target not in printed:
            hint = did_you_mean(target, printed)
            raise UserError(f"--target {target}: no finished run on QM9 learned it, nor has the paper a column; {hint}")
    order = sorted(learned) if published is None else [*printed, *TARGETS, *learned]
    targets = [target for target in dict.fromkeys(order) if target in learned or target in wanted]
    targets = list(wanted) if len(wanted) == 1 else targets
    for record in records if published is not None else ():
        for column in record.columns:
            unit = printed.get(column.metric, column).unit
            if column.unit != unit:
                raise UserError(
                    f"{record.origin}: field 'data.unit' is {column.unit!r}, expected {unit!r} for {column.metric}, "
                    "the unit of its column; the run was made by another version, run it again"
                )
    columns = [printed.get(target) or learned[target] for target in targets]
    return (*columns, INVARIANCE, _BATCH) if len(columns) == 1 else columns


def _describe_data(records: Sequence[PropertyRecord], published: PublishedTable | None) -> DataFacts:
    if not records:
        return DataFacts("" if published is None else published.title.partition(", ")[2])
    data = records[0].data
    title = f"{data.title}: {NOT_COMPARABLE}" if data.is_subset else data.title
    return DataFacts(title, data.name, tuple(_data_notes(data)), records[0].how)


def _data_notes(data: Molecules) -> Iterable[str]:
    train, valid, test = (f"{size:,}" for size in data.sizes)
    if data.is_subset:
        whole = [f"{size:,}" for size in data.official]
        yield (
            f"{OTHER} {data.title}: {train} of {whole[0]} training molecules, {valid} of {whole[1]} of validation, "
            f"{test} of {whole[2]} of test; checksum {data.checksum[:8]}. {NOT_COMPARABLE.capitalize()}."
        )
    else:
        total = f", of {sum(data.official):,}" if data.official else ""
        sizes = f"{train} molecules train, {valid} validate, {test} test{total}"
        yield f"{data.title}: {sizes}; checksum {data.checksum[:8]}."
    if data.measured_on == "valid":
        yield (
            f"{VALID} mean absolute errors on validation, which also chose the weights: there is no molecule of the "
            "test split."
        )
    else:
        yield "Mean absolute errors on test."


def _notes(parts: NoteParts) -> Iterable[str]:
    if parts.records:
        composition = "linear in composition: least squares on the numbers of atoms of each element"
        yield f"Mean predictor: the mean of the training molecules; {composition}."
        yield from parts.budget
        if any("data.graph" in record.settings for record in parts.records):
            yield "graph: edges are the bonds, all pairs of atoms of a molecule (complete) or those within a radius."
        if any("task.target" in record.settings for record in parts.records):
            yield "target=several, or all: one network learned them together, with the mean of their losses."
        if any(record.settings.get("task.reference") == "composition" for record in parts.records):
            yield (
                "reference=composition: a reference for each atom, by element (least squares on the training "
                "molecules), was subtracted from the property before training and is added again to predictions; "
                "standard deviations, of Δ_EQ too, are those of what is left."
            )
        yield from parts.spread
        if INVARIANCE in parts.columns:
            yield "Δ_EQ: change of the prediction when a molecule is rotated, in standard deviations of the target."
    yield from parts.source


def _table(name: str, published: str, is_own: bool) -> TableSpec:
    return TableSpec(
        name=name,
        experiment="qm9",
        published=published,
        place=3,
        columns=_columns,
        takes=lambda record: (record.data.kind != DATA.name) == is_own,
        describe=_describe_data,
        notes=_notes,
        always_named=("preset", "data.graph", "data.radius", "task.reference", "task.target"),
        choice="task",
    )


TABLES = (_table("own", "", is_own=True), _table("3", "table3", is_own=False))
"""Of own molecules and of QM9; experiment qm9 trains on both."""

EXPERIMENT = Experiment(
    name="qm9",
    task=TASK,
    datasets=(DATA,),
    parse_record=parse_record,
    title="Table 3",
    paper_presets=("released", "paper"),
    tables=TABLES,
    describe=describe,
)
