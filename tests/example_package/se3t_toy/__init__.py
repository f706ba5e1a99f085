"""An experiment from outside: where is the centre of a cloud, seen from each of its points? Imports no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from se3t.config.fields import number
from se3t.experiments import DataSet, Experiment, Lazy, Metric, TaskSpec


@dataclass
class ToyData:
    name: str = "toy"
    num_points: int = number(5, at_least=1)
    data_seed: int = 0


@dataclass
class ToyTask:
    name: str = "toy"


@dataclass
class ToyModelSettings:
    name: str = "toy_model"
    scale: float = 1.0
    implementation: ClassVar[str] = "se3t_toy.model:ToyModel"


EXPERIMENT = Experiment(
    name="toy",
    title="Centres of clouds",
    task=TaskSpec(
        name="toy",
        implementation=Lazy("se3t_toy.task:ToyTask"),
        schema=ToyTask,
        metrics=(Metric("loss", "loss"), Metric("mse", "mean squared error", "length²", "MSE")),
        headline=("mse",),
        progress=("mse",),
    ),
    datasets=(DataSet(name="toy", label="random clouds", schema=ToyData),),
    conf=Path(__file__).with_name("conf"),
)
