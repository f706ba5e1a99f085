"""N-body: where charged particles are, and how fast they move, at a later time (Table 1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

from se3t.config.overrides import spell
from se3t.config.schemas import NBodyData, NBodyTask, redraws_starts
from se3t.experiments.base import DataSet, Experiment, Lazy, Metric, TaskSpec
from se3t.experiments.table import (
    ALWAYS_NAMED,
    NOT_COMPARABLE,
    OTHER,
    OTHER_DATA,
    SUBSET,
    DataFacts,
    Join,
    NoteParts,
    PublishedTable,
    TableColumn,
    TableSpec,
)
from se3t.runs import Fields, RunRecord
from se3t.runs.record import common, overridden

_LENGTH, _SPEED = "simulation length²", "simulation length² / simulation time²"
_LINEAR = "relative to constant velocity"

TASK = TaskSpec(
    name="nbody",
    implementation=Lazy("se3t.tasks.nbody:NBodyTask"),
    schema=NBodyTask,
    metrics=(
        Metric("loss", "loss", "mean of mse_x and mse_v, weighted as in training", optional=True),
        Metric("mse_x", "mean squared error of positions", _LENGTH, "MSE x"),
        Metric("mse_v", "mean squared error of velocities", _SPEED, "MSE v"),
        Metric("relative_mse_x", f"mean squared error of positions, {_LINEAR}", label="MSE x / Linear"),
        Metric("relative_mse_v", f"mean squared error of velocities, {_LINEAR}", label="MSE v / Linear"),
        Metric("equivariance_error_x", "equivariance error of positions"),
        Metric("equivariance_error_v", "equivariance error of velocities"),
    ),
    headline=("mse_x", "mse_v"),
    progress=("relative_mse_x", "relative_mse_v"),
    baselines={
        "constant_velocity": "constant velocity",
        "constant_position": "constant position",
        "least_squares": "least squares",
    },
    predicts="where particles move",
    limits=("meant for data simulated as those above; other numbers of particles or force laws were not tested",),
    baseline_metrics=("mse_x", "mse_v"),
    random=Lazy("se3t.suite.random_data:charges"),
)

DATA = DataSet(
    name="nbody",
    label="simulated N-body data",
    schema=NBodyData,
    store_path=Lazy("se3t.data.nbody.prepare:store_path"),
    prepare=Lazy("se3t.data.nbody.prepare:prepare_nbody"),
    summary=Lazy("se3t.data.nbody.summary:lines"),
    split_sizes=Lazy("se3t.data.nbody.presets:split_sizes"),
    seed_hint="the seed of the simulation is data.data_seed",
    cost_settings=Lazy("se3t.data.nbody.presets:cost_settings"),
    make_few=Lazy("se3t.data.nbody.simulator:make_few"),
)

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

    def name(self, overridden: Mapping[str, Any] = MappingProxyType({})) -> str:
        """The data in words, with the settings in which they differ from their preset."""
        with_settings = f" with settings overridden ({spelled(overridden)})" if overridden else ""
        return f"preset {self.preset}{with_settings}, horizon {self.horizon:g}, checksum {self.checksum[:8]}"

    def differing(self, sizes: Mapping[str, int]) -> dict[str, list[str]]:
        """The splits that have fewer, and those that have more trajectories than ``sizes``, in words."""
        words: dict[str, list[str]] = {"fewer": [], "more": []}
        for name, size in zip(_SPLITS, self.sizes, strict=False):
            if size < sizes.get(name, size):
                words["fewer"].append(f"{size:,} of {sizes[name]:,} {name}")
            elif size > sizes.get(name, size):
                words["more"].append(f"{size:,} in place of {sizes[name]:,} {name}")
        return words


def spelled(settings: Mapping[str, Any]) -> str:
    """Settings as a command line spells them, with commas."""
    return ", ".join(f"{name}={spell(value)}" for name, value in settings.items())


@dataclass(frozen=True, kw_only=True)
class NBodyRecord(RunRecord):
    """A finished run of the N-body experiment.

    Attributes:
        distinct_samples: (trajectory, start) pairs that training can see; None: an earlier version wrote the record,
            whose random starts were drawn once.
    """

    data: Simulation
    distinct_samples: int | None = None

    @property
    def data_name(self) -> str:
        """Its data in words, with the settings in which they differ from their preset."""
        return f"simulated N-body data, {self.data.name(self.overridden)}"

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
    places = enumerate(TASK.baseline_metrics)
    errors = {metric: fields.amount(f"data.baselines.constant_velocity.{place}") for place, metric in places}
    return NBodyRecord(
        **common(fields),
        overridden={name: value for name, value in given.items() if (name, value) != ("data_seed", 0)},
        data=Simulation(
            fields.text("data.preset"),
            fields.amount("data.horizon"),
            fields.text("data.checksum"),
            tuple(fields.integer(f"data.sizes.{name}") for name in _SPLITS) if "sizes" in data else (),
        ),
        baselines={"linear": errors | {f"relative_{metric}": 1.0 for metric in errors}},
        distinct_samples=fields.integer("data.distinct_samples") if "distinct_samples" in data else None,
        metrics=TASK.read(fields, "test"),
    )


# --- tables -----------------------------------------------------------------------------------------------------------


def _plainest(records: Sequence[NBodyRecord]) -> NBodyRecord:
    """The record with the fewest overrides: on the same data, further ones have no effect."""
    return min(records, key=lambda record: len(record.overridden))


def _describe(
    records: Sequence[NBodyRecord], published: PublishedTable | None, *, preset: str, relative: str
) -> DataFacts:
    """Title and notes of a table of simulated data.

    Args:
        records: on the same data; none: on those of ``preset``.
        published: the published table beside it.
        preset: of the data where nothing was run.
        relative: what relative numbers of the table are.
    """
    assert published is not None
    if not records:
        return DataFacts(_title(published, f"preset {preset}", preset), notes=(relative,), reading=preset)
    record = _plainest(records)
    data, changes = record.data, spelled(record.changes)
    reading = data.preset if data.preset in published.readings and not changes else None
    what = f"preset {data.preset}" + (f" with {changes}" if changes else "") + f", horizon {data.horizon:g}"
    sizes = data.differing(published.sizes)
    return DataFacts(
        title=_title(published, what, reading),
        name=data.name(record.overridden),
        notes=(*_data_notes(record, published, reading), relative),
        how=(*[SUBSET] * bool(sizes["fewer"]), *[OTHER_DATA] * (reading is None or bool(sizes["more"]))),
        reading=reading,
    )


def _title(published: PublishedTable, what: str, reading: str | None) -> str:
    """The simulation, its reading of the paper, and ``what`` it is."""
    simulation = published.title.partition(", ")[2]
    if reading is None:
        return f"{simulation} ({what}): {NOT_COMPARABLE}"
    return f"{simulation}: {published.readings[reading].partition(' of ')[0]} ({what})"


def _data_notes(record: NBodyRecord, published: PublishedTable, reading: str | None) -> Iterable[str]:
    data = record.data
    samples = "" if record.distinct_samples is None else f"; {record.distinct_samples:,} distinct training samples"
    yield f"Simulated data: {data.name(record.overridden)}{samples}. Errors on test, in units of the simulation."
    if reading is not None:
        yield f"This is the {published.readings[reading]}."
    else:
        what = f"other data than preset {data.preset} ({spelled(record.changes)})" if record.changes else "other data"
        yield f"{OTHER} {what}, no reading of the paper: {NOT_COMPARABLE}."
    for which, sizes in data.differing(published.sizes).items():
        if sizes:
            yield f"{OTHER} {which} trajectories than the paper's ({', '.join(sizes)}): {NOT_COMPARABLE}."


def _notes(parts: NoteParts) -> Iterable[str]:
    remarks = (f"{label}, {note}." for label, note in parts.remarks)
    return (*parts.budget, *parts.spread, *parts.source, *remarks)


def _join(records: Sequence[NBodyRecord]) -> Join:
    record = _plainest(records)
    return Join({"preset": record.data.preset, **record.overridden})


def _table(
    name: str, published: str, preset: str, relative: str, columns: Sequence[TableColumn], **more: Any
) -> TableSpec:
    return TableSpec(
        name=name,
        experiment=TASK.name,
        published=published,
        columns=lambda records, published, wanted: columns,
        describe=partial(_describe, preset=preset, relative=relative),
        join=_join,
        notes=_notes,
        always_named=ALWAYS_NAMED,
        data=preset,
        **more,
    )


TABLE_1 = _table(
    "1",
    "table1",
    NBodyData().preset,
    "rel.: relative to constant velocity (Linear) on the same data.",
    (
        TableColumn("MSE x", "mse_x", places=4),
        TableColumn("rel.", "relative_mse_x", style="relative", over=("mse_x", "linear")),
        TableColumn("Δ_EQ x", "equivariance_error_x", style="error"),
        TableColumn("MSE v", "mse_v", places=4),
        TableColumn("rel.", "relative_mse_v", style="relative", over=("mse_v", "linear")),
        TableColumn("Δ_EQ v", "equivariance_error_v", style="error"),
    ),
    place=1,
)
EGNN = _table(
    "egnn",
    "egnn",
    "egnn",
    "/ EGNN: relative to the published error of EGNN.",
    (
        TableColumn("MSE x", "mse_x", places=4),
        TableColumn("/ EGNN", "over_egnn_mse_x", style="relative", over=("mse_x", "egnn")),
        TableColumn("Δ_EQ x", "equivariance_error_x", style="error"),
    ),
    place=5,
    takes=lambda record: record.data.preset == "egnn",
    budget="egnn",
)
"""The N-body benchmark of Satorras et al. 2021."""

EXPERIMENT = Experiment(
    name="nbody",
    task=TASK,
    datasets=(DATA,),
    parse_record=parse_record,
    title="Table 1",
    paper_presets=("paper",),
    tables=(TABLE_1, EGNN),
    describe=lambda config: "" if config.data.preset == NBodyData().preset else str(config.data.preset),
)
