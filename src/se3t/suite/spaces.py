"""Files of sweeps: which settings vary and over what, how they are searched, and what a run is judged by. Imports no
torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeAlias

from se3t.config import conf_dir
from se3t.errors import UserError, did_you_mean

SEARCHES = ("grid", "tpe")
DIRECTIONS = ("minimize", "maximize")
PRUNING = ("none", "median", "hyperband")
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

    def __str__(self) -> str:
        return ", ".join(map(_spell, self.values))


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
        return all(isinstance(value, int) for value in (self.low, self.high) if value is not None)

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        if self.whole and not isinstance(value, int):
            return False
        steps = (value - self.low) / self.step if self.step is not None else 0
        return math.isclose(steps, round(steps), abs_tol=1e-9)

    def __str__(self) -> str:
        words = [f"{_spell(self.low)} to {_spell(self.high)}"]
        words += [f"in steps of {_spell(self.step)}"] if self.step is not None else []
        return " ".join([*words, *["(log)"] * self.log])


Space: TypeAlias = Values | Interval


@dataclass(frozen=True)
class Objective:
    """A metric of validation, at the step whose weights validation chose; never one of test."""

    metric: str = "loss"
    direction: str = "minimize"


@dataclass(frozen=True)
class Pruning:
    """When a run that does badly is stopped, of ``search: tpe``.

    Attributes:
        method: none, median (worse than the median of the other runs at that step) or hyperband.
        startup_trials: number of first trials that are never stopped: there is nothing to compare them with (median).
        warmup_evaluations: no trial is stopped before it has been validated this many times.
        reduction: of hyperband: one of so many trials goes on at every rung.
    """

    method: str = "none"
    startup_trials: int = 5
    warmup_evaluations: int = 2
    reduction: int = 3


@dataclass(frozen=True)
class Sweep:
    """A file of ``conf/sweep`` as one experiment sees it.

    Attributes:
        name: of the file.
        description: a sentence.
        search: grid or tpe.
        parameters: space of each setting by its dotted name.
        objective: what counts.
        seeds: every combination is trained with each of them.
        trials: how many combinations TPE tries.
        pruning: of TPE.
        defaults: words that the command line may replace.
    """

    name: str
    description: str = ""
    search: str = "grid"
    parameters: Mapping[str, Space] = field(default_factory=dict)
    objective: Objective = Objective()
    seeds: tuple[int, ...] = (0,)
    trials: int = 20
    pruning: Pruning = Pruning()
    defaults: tuple[str, ...] = ()


def names() -> list[str]:
    """The sweeps that are ready to use."""
    return sorted(path.stem for path in (conf_dir() / "sweep").glob("*.yaml"))


def load(name: str, experiment: str) -> Sweep:
    """A sweep for an experiment.

    Args:
        name: of a file of ``conf/sweep``, or the path of a YAML file.
        experiment: word of the command line.

    Raises:
        UserError: naming file and field, when the file cannot be used, or is meant for other experiments.
    """
    path, content = _read(name)
    meant = content.pop("experiments", None)
    if meant is not None:
        own = _mapping(path, "experiments", meant)
        if experiment not in own:
            hint = ", ".join(f"experiment={word}" for word in own)
            raise UserError(f"sweep={name}: is not meant for experiment={experiment}; it is for {hint}")
        section = _mapping(path, f"experiments.{experiment}", own[experiment] or {})
        _require_known(path, section, (*_FIELDS, "experiments"), f"experiments.{experiment}.")
        parameters = {**_parameters_of(path, content), **_parameters_of(path, section)}
        content = {**content, **section, "parameters": parameters}
    return _sweep(path, content)


def experiments(name: str) -> list[str] | None:
    """The experiments that a ready sweep is meant for; None: any."""
    meant = _read(name)[1].get("experiments")
    return None if meant is None else sorted(meant)


def search(name: str) -> str:
    """How a ready sweep searches."""
    return str(_read(name)[1].get("search", "grid"))


def describe(name: str) -> str:
    """What a ready sweep says of itself."""
    return str(_read(name)[1].get("description", ""))


def values_of_words(texts: Sequence[str]) -> Values:
    """Values as the command line spells them: numbers, true, false and null are what they look like."""
    import yaml

    return Values(tuple(_number(yaml.safe_load(text)) if text else text for text in texts))


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

_FIELDS = tuple(item.name for item in fields(Sweep) if item.name != "name")


def _read(name: str) -> tuple[Path, dict[str, Any]]:
    import yaml

    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = conf_dir() / "sweep" / f"{name}.yaml"
        if name not in names():
            raise UserError(f"sweep={name}: unknown; {did_you_mean(name, names())}; or the path of a YAML file")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"sweep={name}: cannot be read ({error.strerror}); expected a YAML file of a sweep") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        first = str(error).splitlines()[0]
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark is not None else ""
        raise UserError(f"{path}{place}: is not valid YAML ({first}); expected the fields of a sweep") from error
    content = _mapping(path, "", content)
    _require_known(path, content, (*_FIELDS, "experiments"))
    return path, content


def _sweep(path: Path, content: Mapping[str, Any]) -> Sweep:
    search = _choice(path, "search", content.get("search", "grid"), SEARCHES)
    found = Sweep(
        name=path.stem,
        description=str(content.get("description", "")),
        search=search,
        parameters=_spaces(path, _parameters_of(path, content), search),
        objective=_objective(path, content.get("objective", {})),
        seeds=seeds_of(content.get("seeds", [0]), f"{path}: seeds"),
        trials=_count(path, "trials", content.get("trials", Sweep.trials)),
        pruning=_pruning(path, content.get("pruning", {})),
        defaults=_words(path, content.get("defaults", [])),
    )
    if search == "grid":
        for name in ("trials", "pruning"):
            if name in content:
                raise UserError(f"{path}: {name}: belongs to search: tpe; a grid tries everything")
    return found


def _parameters_of(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    return dict(_mapping(path, "parameters", content.get("parameters") or {}))


def _spaces(path: Path, content: Mapping[str, Any], search: str) -> dict[str, Space]:
    if not content:
        raise UserError(f"{path}: parameters: is empty; expected settings with their values, such as optim.lr: [1e-3]")
    spaces = {str(name): _space(path, f"parameters.{name}", value) for name, value in content.items()}
    for name, space in spaces.items():
        if search == "grid" and isinstance(space, Interval):
            raise UserError(f"{path}: parameters.{name}: a grid needs a list of values; or use search: tpe")
    return spaces


def _space(path: Path, key: str, value: Any) -> Space:
    if isinstance(value, list):
        values = tuple(map(_number, value))
        if not values or any(isinstance(item, list | dict) for item in values):
            raise UserError(f"{path}: {key}: expected a list of plain values, such as [1, 2, 4], got {value}")
        if len({_spell(item) for item in values}) < len(values):
            raise UserError(f"{path}: {key}: the same value stands there twice: {value}")
        return Values(values)
    if not isinstance(value, dict):
        raise UserError(f"{path}: {key}: expected a list of values, or low and high, got {value}")
    _require_known(path, value, ("low", "high", "log", "step"), f"{key}.")
    low, high, step = (_number(value.get(name)) for name in ("low", "high", "step"))
    ends = {"low": low, "high": high} | ({"step": step} if "step" in value else {})
    for name, number in ends.items():
        if not isinstance(number, int | float) or isinstance(number, bool) or not math.isfinite(number):
            raise UserError(f"{path}: {key}.{name}: expected a number, got {value.get(name)}")
    if not isinstance(log := value.get("log", False), bool):
        raise UserError(f"{path}: {key}.log: expected true or false, got {log!r}")
    found = Interval(low, high, log, step)
    _check_interval(path, key, found)
    return found


def _check_interval(path: Path, key: str, found: Interval) -> None:
    if found.low >= found.high:
        raise UserError(f"{path}: {key}: low ({found.low}) must be below high ({found.high})")
    if found.log and found.low <= 0:
        raise UserError(f"{path}: {key}: log needs low above 0, got {found.low}")
    if found.step is not None and (found.log or found.step <= 0 or (found.whole and not isinstance(found.step, int))):
        raise UserError(f"{path}: {key}.step: must be above 0, whole where low and high are, and goes without log")
    if found.high not in found:
        raise UserError(f"{path}: {key}.step: steps of {found.step} from {found.low} do not end at {found.high}")


def _objective(path: Path, value: Any) -> Objective:
    content = {"metric": value} if isinstance(value, str) else _mapping(path, "objective", value)
    _require_known(path, content, ("metric", "direction"), "objective.")
    metric = str(content.get("metric", Objective.metric))
    if metric.partition("/")[0] == "test" or metric.startswith("test_"):
        raise UserError(f"{path}: objective.metric: {metric} is of test; a sweep selects on validation, such as loss")
    usual = "maximize" if "accuracy" in metric else "minimize"
    return Objective(metric, _choice(path, "objective.direction", content.get("direction", usual), DIRECTIONS))


def _pruning(path: Path, value: Any) -> Pruning:
    content = {"method": value} if isinstance(value, str) else _mapping(path, "pruning", value)
    _require_known(path, content, [item.name for item in fields(Pruning)], "pruning.")
    method = _choice(path, "pruning.method", content.get("method", "median" if content else "none"), PRUNING)
    least = {"startup_trials": 0, "warmup_evaluations": 0, "reduction": 2}
    counts = {name: _count(path, f"pruning.{name}", content[name], least[name]) for name in least if name in content}
    return Pruning(method, **counts)


def _words(path: Path, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(word, str) and "=" in word for word in value):
        raise UserError(f"{path}: defaults: expected a list of words such as [preset=reduced], got {value}")
    return tuple(value)


def _mapping(path: Path, key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        where = f"{key}: " if key else ""
        raise UserError(f"{path}: {where}expected names with values, got {value}")
    return {str(name): item for name, item in value.items()}


def _require_known(path: Path, content: Mapping[str, Any], known: Sequence[str], prefix: str = "") -> None:
    for name in content:
        if name not in known:
            raise UserError(f"{path}: {prefix}{name}: no such field; {did_you_mean(name, known)}")


def _choice(path: Path, key: str, value: Any, known: Sequence[str]) -> str:
    if value not in known:
        raise UserError(f"{path}: {key}: {value}: unknown; {did_you_mean(str(value), known)}")
    return str(value)


def _count(path: Path, key: str, value: Any, least: int = 1) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UserError(f"{path}: {key}: expected a whole number, {least} or more, got {value}")
    return value


def _number(value: Any) -> Any:
    """YAML 1.1 takes 1e-3 for a word."""
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value


def _spell(value: Scalar) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
