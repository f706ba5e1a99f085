"""N-body: where charged particles are, and how fast they move, at a later time (Table 1)."""

from __future__ import annotations

from se3t.config.schemas import NBodyData, NBodyTask
from se3t.experiments.base import DataSet, Experiment, Lazy, Metric, TaskSpec

_LENGTH, _SPEED = "simulation length²", "simulation length² / simulation time²"
_LINEAR = "relative to constant velocity"

TASK = TaskSpec(
    name="nbody",
    implementation=Lazy("se3t.tasks.nbody:NBodyTask"),
    schema=NBodyTask,
    metrics=(
        Metric("loss", "loss", "loss", "mean of mse_x and mse_v, weighted as in training"),
        Metric("mse_x", "MSE x", "mean squared error of positions", _LENGTH),
        Metric("mse_v", "MSE v", "mean squared error of velocities", _SPEED),
        Metric("relative_mse_x", "MSE x / Linear", f"mean squared error of positions, {_LINEAR}"),
        Metric("relative_mse_v", "MSE v / Linear", f"mean squared error of velocities, {_LINEAR}"),
        Metric("equivariance_error_x", "Δ_EQ x", "equivariance error of positions"),
        Metric("equivariance_error_v", "Δ_EQ v", "equivariance error of velocities"),
    ),
    headline=("mse_x", "mse_v"),
    progress=("relative_mse_x", "relative_mse_v"),
    baselines={
        "constant_velocity": "constant velocity",
        "constant_position": "constant position",
        "least_squares": "least squares",
    },
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

EXPERIMENT = Experiment(
    name="nbody",
    task=TASK,
    datasets=(DATA,),
    parse_record=Lazy("se3t.reporting.nbody:parse_record"),
    title="Table 1",
    paper_presets=("paper",),
    describe=lambda config: "" if config.data.preset == NBodyData().preset else str(config.data.preset),
)
