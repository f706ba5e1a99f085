"""ScanObjectNN: the class of a scanned object (Table 2); shapes15 is a synthetic stand-in for its data."""

from __future__ import annotations

from se3t.config.schemas import ClassificationTask, ScanObjectNNData, Shapes15Data
from se3t.experiments.base import DataSet, Experiment, Lazy, Metric, TaskSpec

TASK = TaskSpec(
    name="classification",
    implementation=Lazy("se3t.tasks.classification:ClassificationTask"),
    schema=ClassificationTask,
    metrics=(
        Metric("accuracy", "accuracy", "accuracy (share of objects)", factor=100.0, shown_unit="%"),
        Metric(
            "class_accuracy",
            "class mean",
            "accuracy, mean over the classes",
            "1, mean over the classes",
            factor=100.0,
            shown_unit="%",
        ),
        Metric("loss", "loss", "loss", "nat"),
        Metric(
            "equivariance_error",
            "Δ inv",
            "equivariance error (change when the input is rotated)",
            "1 (relative change of the logits)",
        ),
        Metric(
            "rebuilt_error",
            "Δ inv, rebuilt",
            "equivariance error, neighbours searched again",
            "1, with neighbours found anew",
        ),
        Metric(
            "flipped_edges",
            "flipped edges",
            "share of neighbours that change when the input is rotated",
            "1, share of neighbours that change then",
        ),
        Metric(
            "changed_class",
            "changed class",
            "share of objects whose class changes when the input is rotated",
            "1, share of objects",
        ),
    ),
    headline=("accuracy",),
    progress=("accuracy",),
    baselines={"majority": "majority class", "nearest_centroid": "nearest centroid"},
    baseline_metrics=("accuracy", "class_accuracy"),
    random=Lazy("se3t.suite.random_data:clouds"),
)

SCANS = DataSet(
    name="scanobjectnn",
    label="ScanObjectNN",
    schema=ScanObjectNNData,
    store_path=Lazy("se3t.data.scanobjectnn.prepare:store_path"),
    prepare=Lazy("se3t.data.scanobjectnn.prepare:prepare_scanobjectnn"),
    summary=Lazy("se3t.data.clouds.summary:lines"),
    store_settings=("root", "background", "raw", "variant"),
    has_checksum=True,
    split_sizes=Lazy("se3t.data.scanobjectnn.raw:sizes_of"),
    obstacle=Lazy("se3t.data.scanobjectnn.prepare:obstacle"),
    needs="data.raw=<what you downloaded>",
    remedy="then name them with data.raw=<folder or zip>, or take the synthetic stand-in with data=shapes15",
    seed_hint="the seed of the validation part is data.split_seed",
)

SHAPES = DataSet(
    name="shapes15",
    label="shapes15",
    schema=Shapes15Data,
    store_path=Lazy("se3t.data.shapes15.prepare:store_path"),
    prepare=Lazy("se3t.data.shapes15.prepare:prepare_shapes15"),
    summary=Lazy("se3t.data.clouds.summary:lines"),
    store_settings=("root", "background", "num_train", "num_test", "data_seed"),
    has_checksum=True,
    split_sizes=Lazy("se3t.data.shapes15.prepare:sizes_of"),
    seed_hint="the seed of the generator is data.data_seed",
    make_few=Lazy("se3t.data.shapes15.prepare:make_few"),
)

EXPERIMENT = Experiment(
    name="scanobjectnn",
    task=TASK,
    datasets=(SCANS, SHAPES),
    parse_record=Lazy("se3t.reporting.classification:parse_record"),
    title="Table 2",
    paper_presets=("paper",),
)
