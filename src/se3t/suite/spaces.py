"""Files of sweeps: which settings vary and over what, how they are searched, and the objective. Imports no
torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from se3t.config.choices import choices, conf_file
from se3t.config.explain import not_yaml
from se3t.config.fields import choice, number
from se3t.config.overrides import spell
from se3t.config.validation import checked
from se3t.errors import UserError, did_you_mean

T = TypeVar("T")
Scalar: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True)
class Values:
    """A few values, all of which a grid takes; TPE chooses among them."""

    values: tuple[Scalar, ...]

    @property
    def log(self) -> bool:
        """Whether the values are numbers above zero that span a factor of ten or more."""
        numbers = [value for value in self.values if isinstance(value, int | float) and not isinstance(value, bool)]
        return len(numbers) == len(self.values) and min(numbers) > 0 and max(numbers) / min(numbers) >= 10

    def __contains__(self, value: object) -> bool:
        return value in self.values

    def __str__(self) -> str:
        return ", ".join(map(spell, self.values))


@dataclass(frozen=True)
class Interval:
    """Numbers from ``low`` to ``high``, both included; whole ones where both ends are.

    Attributes:
        low: smallest.
        high: largest.
        log: whether factors count, not differences.
        step: distance between two of them; None: any.
    """

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = None

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are meant."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        if self.whole and not isinstance(value, int):
            return False
        steps = (value - self.low) / self.step if self.step is not None else 0
        return math.isclose(steps, round(steps), abs_tol=1e-9)

    def __str__(self) -> str:
        words = [f"{spell(self.low)} to {spell(self.high)}"]
        words += [f"in steps of {spell(self.step)}"] if self.step is not None else []
        return " ".join([*words, *["(log)"] * self.log])


Space: TypeAlias = Values | Interval


@dataclass
class Objective:
    """A metric of validation, at the step whose weights validation chose; never one of test."""

    metric: str = "loss"
    direction: str = choice("minimize", "maximize")


@dataclass
class Pruning:
    """When a run that performs badly is stopped, of ``search: tpe``.

    Attributes:
        method: none, median (worse than the median of the other runs at that step) or hyperband.
        startup_trials: number of first trials that are never stopped: there is nothing to compare them with (median).
        warmup_evaluations: no trial is stopped before it has been validated this many times.
        reduction: of hyperband: one of this many trials continues at every rung.
    """

    method: str = choice("none", "median", "hyperband")
    startup_trials: int = number(5, at_least=0)
    warmup_evaluations: int = number(2, at_least=0)
    reduction: int = number(3, at_least=2)


@dataclass
class SweepFile:
    """A file of ``conf/sweep`` as it is written.

    Attributes:
        description: a sentence.
        search: grid or tpe.
        parameters: of each setting by its dotted name a list of values, or an interval.
        objective: of the sweep; a metric alone means its usual direction.
        seeds: every combination is trained with each of them.
        trials: how many combinations TPE tries.
        pruning: of TPE; a method alone means its defaults.
        defaults: overrides that the command line may replace.
        experiments: those that the sweep is meant for, each with fields that take the place of those above; null: any.
    """

    description: str = ""
    search: str = choice("grid", "tpe")
    parameters: dict[str, Any] = field(default_factory=dict)
    objective: Objective = field(default_factory=Objective)
    seeds: Any = 0
    trials: int = number(20, at_least=1)
    pruning: Pruning = field(default_factory=Pruning)
    defaults: list[str] = field(default_factory=list)
    experiments: dict[str, Any] | None = None


@dataclass(frozen=True)
class Sweep:
    """A sweep of one experiment, from a :class:`SweepFile` of the same name or from a command line."""

    name: str
    description: str = ""
    search: str = "grid"
    parameters: Mapping[str, Space] = field(default_factory=dict)
    objective: Objective = field(default_factory=Objective)
    seeds: tuple[int, ...] = (0,)
    trials: int = 20
    pruning: Pruning = field(default_factory=Pruning)
    defaults: tuple[str, ...] = ()


def load(name: str, experiment: str) -> Sweep:
    """A sweep for an experiment.

    Args:
        name: of a file of ``conf/sweep``, or the path of a YAML file.
        experiment: word of the command line.

    Raises:
        UserError: naming file and field, when the file cannot be used, or is meant for other experiments.
    """
    path, content = _content(name)
    meant = _checked(SweepFile, content, f"{path}: ").experiments
    if meant is not None:
        if experiment not in meant:
            hint = ", ".join(f"experiment={word}" for word in meant)
            raise UserError(f"sweep={name}: is not meant for experiment={experiment}; it is for {hint}")
        section = _spelled_out(path, meant[experiment] or {}, f"experiments.{experiment}")
        _checked(SweepFile, section, f"{path}: experiments.{experiment}.")
        parameters = {**content.get("parameters", {}), **section.get("parameters", {})}
        content = {**content, **section, "parameters": parameters}
    return _sweep(path, content)


def values_of_words(texts: Sequence[str]) -> Values:
    """Values as the command line spells them: numbers, true, false and null are read as such."""
    from omegaconf import OmegaConf

    parsed: Any = OmegaConf.to_container(OmegaConf.from_dotlist([f"{n}={text}" for n, text in enumerate(texts)]))
    return Values(tuple(value if text else text for text, value in zip(texts, parsed.values(), strict=True)))


def seeds_of(value: Any, field: str) -> tuple[int, ...]:
    """Seeds of every combination.

    Args:
        value: a list, a number, or a word with commas.
        field: where it stands, for the error.

    Raises:
        UserError: when they are not different whole numbers from 0.
    """
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else [value]
    seeds: tuple[Any, ...] = tuple(
        int(part) if isinstance(part, str) and part.strip().isdecimal() else part for part in parts
    )
    whole = all(isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0 for seed in seeds)
    if not seeds or not whole or len(set(seeds)) < len(seeds):
        raise UserError(f"{field}: expected different whole numbers from 0, such as 0,1,2, got {value}")
    return seeds


# --- reading a file ---------------------------------------------------------------------------------------------------


def _content(name: str) -> tuple[Path, dict[str, Any]]:
    """Path and content of a file, with short forms written out."""
    import yaml
    from omegaconf import OmegaConf

    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        ready = conf_file(f"sweep/{name}.yaml")
        if ready is None:
            known = choices("sweep")
            raise UserError(f"sweep={name}: unknown; {did_you_mean(name, known)}; or the path of a YAML file")
        path = ready
    try:
        return path, _spelled_out(path, OmegaConf.to_container(OmegaConf.load(path)))
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"sweep={name}: cannot be read ({reason}); expected a YAML file of a sweep") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise not_yaml(error, path, "the fields of a sweep") from error


def _spelled_out(path: Path, content: Any, section: str = "") -> dict[str, Any]:
    """Fields with their short forms written out: a metric for an objective, a method for the pruning."""
    where = f"{section}." if section else ""
    fields = _mapping(path, section, content)
    for name, word in (("objective", "metric"), ("pruning", "method")):
        if isinstance(fields.get(name), str):
            fields[name] = {word: fields[name]}
    for name in ("parameters", "objective", "pruning", "experiments"):
        if fields.get(name) is None:
            fields.pop(name, None)
        else:
            fields[name] = _mapping(path, f"{where}{name}", fields[name])
    if "objective" in fields:
        usual = "maximize" if "accuracy" in str(fields["objective"].get("metric")) else "minimize"
        fields["objective"].setdefault("direction", usual)
    if fields.get("pruning"):
        fields["pruning"].setdefault("method", "median")
    return fields


def _mapping(path: Path, key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        where = f"{key}: " if key else ""
        raise UserError(f"{path}: {where}expected names with values, got {value}")
    return {str(name): item for name, item in value.items()}


def _checked(schema: type[T], content: Mapping[str, Any], where: str) -> T:
    try:
        return checked(schema, content)
    except UserError as error:
        raise UserError(f"{where}{error}") from error


def _sweep(path: Path, content: Mapping[str, Any]) -> Sweep:
    file = _checked(SweepFile, content, f"{path}: ")
    metric = file.objective.metric
    if not file.parameters:
        raise UserError(f"{path}: parameters: is empty; expected settings with their values, such as optim.lr: [1e-3]")
    if metric.partition("/")[0] == "test" or metric.startswith("test_"):
        raise UserError(f"{path}: objective.metric: {metric} is of test; choose a metric of validation, such as loss")
    if not all(isinstance(override, str) and "=" in override for override in file.defaults):
        raise UserError(f"{path}: defaults: expected a list of overrides such as [preset=reduced], got {file.defaults}")
    parameters = {name: _space(path, f"parameters.{name}", value) for name, value in file.parameters.items()}
    if file.search == "grid":
        for name in [name for name, space in parameters.items() if isinstance(space, Interval)]:
            raise UserError(f"{path}: parameters.{name}: a grid needs a list of values; or use search: tpe")
        for name in [name for name in ("trials", "pruning") if name in content]:
            raise UserError(f"{path}: {name}: belongs to search: tpe; a grid tries everything")
    return Sweep(
        name=path.stem,
        description=file.description,
        search=file.search,
        parameters=parameters,
        objective=file.objective,
        seeds=seeds_of(file.seeds, f"{path}: seeds"),
        trials=file.trials,
        pruning=file.pruning,
        defaults=tuple(file.defaults),
    )


def _space(path: Path, key: str, value: Any) -> Space:
    if isinstance(value, dict):
        return _interval(value, f"{path}: {key}")
    if not isinstance(value, list):
        raise UserError(f"{path}: {key}: expected a list of values, or low and high, got {value}")
    if not value or any(isinstance(item, list | dict) for item in value):
        raise UserError(f"{path}: {key}: expected a list of plain values, such as [1, 2, 4], got {value}")
    if len(set(map(spell, value))) < len(value):
        raise UserError(f"{path}: {key}: the same value is given twice: {value}")
    return Values(tuple(value))


def _interval(value: Mapping[str, Any], where: str) -> Interval:
    space = _checked(Interval, {**value, "low": value.get("low"), "high": value.get("high")}, f"{where}.")
    ends = (space.low, space.high)
    if space.low >= space.high:
        raise UserError(f"{where}: low ({space.low}) must be below high ({space.high})")
    if not all(map(math.isfinite, ends)):
        raise UserError(f"{where}: expected finite numbers, got low {space.low} and high {space.high}")
    if space.log and space.low <= 0:
        raise UserError(f"{where}: log needs low above 0, got {space.low}")
    if space.step is not None and (space.log or space.step <= 0 or (space.whole and not isinstance(space.step, int))):
        raise UserError(f"{where}.step: must be above 0, whole if low and high are, and cannot be combined with log")
    if space.high not in space:
        raise UserError(f"{where}.step: steps of {space.step} from {space.low} do not end at {space.high}")
    return space
