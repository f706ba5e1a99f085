"""QM9: one property of a small molecule (Table 3)."""

from __future__ import annotations

from typing import Any

from se3t.config.schemas import PropertyTask, QM9Data
from se3t.experiments.base import DataSet, Experiment, Lazy, Metric, TaskSpec

TASK = TaskSpec(
    name="property",
    implementation=Lazy("se3t.tasks.property:PropertyTask"),
    schema=PropertyTask,
    metrics=(
        Metric("mae", "MAE", "mean absolute error", unit=""),
        Metric("relative_mae", "MAE / mean", "mean absolute error, relative to the mean predictor"),
        Metric("loss", "loss", "loss", "standard deviations of the target"),
        Metric(
            "equivariance_error",
            "Δ inv",
            "equivariance error (change when the input is rotated)",
            "standard deviations of the target",
        ),
    ),
    headline=("mae",),
    progress=("mae",),
    baselines={"mean": "mean predictor", "composition": "linear in composition"},
    baseline_metrics=("mae",),
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
    cost_settings=lambda data: {"data": data.name, "graph": data.graph, "radius": data.radius},
)

EXPERIMENT = Experiment(
    name="qm9",
    task=TASK,
    datasets=(DATA,),
    parse_record=Lazy("se3t.reporting.properties:parse_record"),
    title="Table 3",
    paper_presets=("released", "paper"),
    describe=describe,
)
