"""Declarations of experiments, their data and their tasks. Imports no torch."""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from se3t.config.overrides import prepare_line
from se3t.experiments.table import DataFacts, TableColumn, TableSpec
from se3t.runs import Fields, RunRecord
from se3t.runs.record import common, measured_split, overridden


@dataclass(frozen=True)
class Lazy:
    """A function or class of another module, imported when it is first used.

    Attributes:
        target: ``"module:name"``.
    """

    target: str

    def load(self) -> Any:
        """The function or class itself."""
        module, _, name = self.target.partition(":")
        return getattr(importlib.import_module(module), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it."""
        return self.load()(*args, **kwargs)


@dataclass(frozen=True)
class Metric:
    """One number that a task measures.

    Attributes:
        name: of the field in run records.
        description: for readers who do not know it: "mean squared error of positions".
        unit: as run records give it; "" where the data decide it.
        label: short, for headings: "MSE x"; the name unless given.
        factor: what the number is multiplied by where it is shown.
        shown_unit: unit of the number that is shown; "" for none.
        at_most: the largest that the number can be; the smallest is 0.
        optional: whether a record may lack it.
    """

    name: str
    description: str
    unit: str = "1"
    label: str = ""
    factor: float = 1.0
    shown_unit: str = ""
    at_most: float = math.inf
    optional: bool = False

    @property
    def heading(self) -> str:
        """Label, or name, with the unit that is shown."""
        return ", ".join(filter(None, (self.label or self.name, self.shown_unit)))


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """Data that a task learns from. Every function takes the settings of the data, an instance of ``schema``.

    Attributes:
        name: word of ``data=``.
        label: its printed name.
        schema: dataclass of its settings.
        store_path: file of the prepared data, whether it exists or not; unless given, nothing is prepared.
        prepare: ``(data, progress=…, force=…)`` makes that file where it is missing.
        summary: ``(data, prepared)``: lines and rich tables that ``se3t data prepare`` prints; ``prepared`` is what
            ``prepare`` has returned.
        store_settings: settings that the command to prepare them names where they are not the defaults; (): all.
        split_sizes: samples of each split, from settings and published sizes; a store may hold fewer.
        obstacle: why the data cannot be prepared, from a look at the files; None: they can be.
        has_checksum: whether the checksum of the prepared file (:mod:`se3t.data.store`) tells whether finished runs
            still belong to it; else the settings alone determine the data.
        is_downloaded: whether preparing downloads files, with these settings.
        needs: what the command to prepare them lacks, such as ``data.raw=<what you downloaded>``.
        remedy: what to do about the obstacle, as the end of its sentence.
        seed_hint: which setting a seed of the data is, in words: "the seed of the simulation is data.data_seed".
        cost_settings: what the time of a training step depends on, by name.
        places: settings that name files or folders of one machine; an exported model has their defaults.
        limits: what a model trained on these data is not for, in sentences for its card.
        sources: what to cite.
        make_few: makes some samples and returns how many, to measure how long preparing takes; None: not measurable.
    """

    name: str
    label: str
    schema: type
    store_path: Callable[[Any], Path] = lambda data: Path(os.devnull)  # which always exists
    prepare: Callable[..., Any] = lambda data, progress=True, force=False: None
    summary: Callable[[Any, Any], Iterable[Any]] = lambda data, prepared: ()
    store_settings: tuple[str, ...] = ()
    split_sizes: Callable[[Any], dict[str, int]] = lambda data: {}
    obstacle: Callable[[Any], str | None] = lambda data: None
    has_checksum: bool = False
    is_downloaded: Callable[[Any], bool | None] = lambda data: None
    needs: str = ""
    remedy: str = ""
    seed_hint: str = ""
    cost_settings: Callable[[Any], Mapping[str, Any]] = lambda data: {}
    places: tuple[str, ...] = ("root",)
    limits: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    make_few: Callable[[Any], int] | None = None

    @property
    def is_prepared(self) -> bool:
        """Whether there is anything to prepare."""
        return self.store_path is not DataSet.store_path

    def prepare_command(self, data: Any, force: bool = False) -> str:
        """The command line that prepares these data; ``force`` adds the override that replaces a damaged file."""
        default = self.schema()
        names = self.store_settings or tuple(name for name in vars(default) if name != "name")
        changed = {name: getattr(data, name) for name in names if getattr(data, name) != getattr(default, name)}
        return prepare_line(self.name, changed, force)

    def recorded_checksum(self, data: Any) -> str | None:
        """Checksum of the prepared data; None where settings alone determine them, or nothing is prepared yet.

        Raises:
            UserError: for prepared data that are damaged.
        """
        if not self.has_checksum or not (path := self.store_path(data)).exists():
            return None
        checksum: str = Lazy("se3t.data.store:read_checksum")(path, fix=self.prepare_command(data, force=True))
        return checksum


@dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """What is learned; several experiments may share it.

    Attributes:
        name: as in ``conf/task`` and run records.
        implementation: the subclass of ``se3t.tasks.base.Task``.
        schema: dataclass of its settings.
        metrics: all that it measures, in the order in which they are printed.
        headline: main metrics: learning curves and lists of runs show them.
        progress: metrics that are shown while it is trained; the most important one first.
        predicts: what it predicts, for its model card: "where particles move".
        limits: what else a model card says of it, in sentences.
        baselines: printed names of predictions without a network; relative errors refer to the first.
        baseline_metrics: what the errors of these are, in their order.
        objective: the metric that sweeps compare with these settings of the task where they name the first one.
        card: what the card of an exported model says of the task, a subclass of ``se3t.deploy.card.Card``.
        random: makes the task on random samples of the sizes of real ones, from a configuration, so that the time of a
            training can be estimated before the data are prepared; None: it cannot.
    """

    name: str
    implementation: Lazy
    schema: type
    metrics: tuple[Metric, ...]
    headline: tuple[str, ...]
    progress: tuple[str, ...]
    predicts: str = ""
    limits: tuple[str, ...] = ()
    baselines: Mapping[str, str] = field(default_factory=dict)
    baseline_metrics: tuple[str, ...] = ()
    objective: Callable[[str, Mapping[str, Any]], str] = lambda metric, task: metric
    card: Lazy = Lazy("se3t.deploy.card:Card")
    random: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        declared = {metric.name for metric in self.metrics}
        if unknown := {*self.headline, *self.progress, *self.baseline_metrics} - declared:
            raise ValueError(
                f"task {self.name}: no metric is called {', '.join(sorted(unknown))}; declare it in metrics"
            )

    def metric(self, name: str) -> Metric:
        """The metric of that name; one that is not declared is called by its name."""
        return next((metric for metric in self.metrics if metric.name == name), Metric(name, name))

    def read(self, fields: Fields, split: str) -> dict[str, float]:
        """The metrics that every run measures, as they are shown, from the record of a run.

        Raises:
            UserError: naming file and field, when one is missing, of the wrong type, or out of range.
        """
        names = [metric for metric in self.metrics if not metric.optional]
        return {m.name: m.factor * fields.amount(f"{split}.{m.name}", m.at_most) for m in names}

    @property
    def units(self) -> dict[str, str]:
        """Unit of every metric, by name."""
        return {metric.name: metric.unit for metric in self.metrics}


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One experiment: what is learned, from which data, and how its results are read and shown.

    Attributes:
        name: word of ``experiment=``, and the first folder of its runs.
        task: what is learned.
        datasets: the data it can be trained on; the first is the default.
        title: what its results are called: "Table 1".
        parse_record: makes a typed record of the fields of a ``result.json``; unless given, with all metrics that the
            task declares, on data told apart by ``preset`` and ``checksum``.
        paper_presets: presets with the networks and the budget of the paper; the first is the default budget.
        tables: those that its runs fill; unless given, one of all metrics that every run measures, called like the
            experiment.
        describe: what tells trainings of the same system apart, from their configuration: the property that is learned,
            data that are not the default; "" for nothing.
        conf: folder of its YAML files, laid out as ``conf``, where it is not that of this package.
    """

    name: str
    task: TaskSpec
    datasets: tuple[DataSet, ...]
    title: str
    parse_record: Callable[[Fields], RunRecord] | None = None
    paper_presets: tuple[str, ...] = ()
    tables: tuple[TableSpec, ...] = ()
    describe: Callable[[Any], str] = lambda config: ""
    conf: Path | None = None

    def __post_init__(self) -> None:
        if not self.tables:
            object.__setattr__(self, "tables", (self._plain_table(),))

    def _plain_table(self) -> TableSpec:
        metrics = [metric for metric in self.task.metrics if not metric.optional and metric.name != "loss"]
        columns = [TableColumn(metric.label or metric.name, metric.name, metric.shown_unit) for metric in metrics]
        return TableSpec(
            name=self.name,
            experiment=self.name,
            columns=lambda records, published, wanted: columns,
            describe=lambda records, published: DataFacts(self.title, records[0].data_name),
        )

    def read(self, fields: Fields) -> RunRecord:
        """Check the content of one ``result.json`` and keep what tables and figures need.

        Raises:
            UserError: naming file and field, when a field is missing, of the wrong type, or not finite.
        """
        if self.parse_record is not None:
            return self.parse_record(fields)
        data = (fields.text("data.preset"), fields.text("data.checksum"))
        metrics = self.task.read(fields, measured_split(fields))
        return RunRecord(**common(fields), overridden=overridden(fields, ("name", "root")), data=data, metrics=metrics)
