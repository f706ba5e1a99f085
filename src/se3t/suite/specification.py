"""One sweep of one command line: the overrides that all its trainings share, what varies, and the folder it is kept in.
Imports no torch.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from se3t.config import SCHEMAS, Config, choices, to_config
from se3t.config.compose import compose
from se3t.config.overrides import overrides
from se3t.config.settings import flatten
from se3t.errors import UserError
from se3t.experiments import task
from se3t.runs.identity import ADDED, identity
from se3t.suite import spaces
from se3t.suite.jobs import Job, job_of

FOLDER = "sweeps"
"""Of the run folder: where sweeps are kept, as ``<experiment>/<name>-<hash>``."""
ARGUMENTS_ALONE = "own"
"""Name of a sweep that is given by the arguments of the command line alone."""

_DIGITS = 4  # of a number that a search proposes: lines that are short enough to be typed again
_SEVERAL = re.compile(r"[^\[\](){},'\"]+(,[^\[\](){},'\"]+)+")  # a,b,c: no list in brackets
_MEASURED = ("experiment", "task", "task.target", "task.column", "task.velocity_weight", "data")
"""What no sweep may vary, beside all settings of the data."""

Parameters = Mapping[str, spaces.Scalar]
"""One value of each parameter."""


@dataclass(frozen=True)
class Specification:
    """What a command line asks for.

    Attributes:
        sweep: with the values, seeds and number of trials of the command line in place of those of the file.
        overrides: of all trainings: those of the file, then those of the command line.
        experiment: of all of them.
        settings: what ``overrides`` compose, without parameters and seed.
        runs: folder of the run records.
    """

    sweep: spaces.Sweep
    overrides: tuple[str, ...]
    experiment: str
    settings: Mapping[str, Any]
    runs: Path
    _configs: dict[str, Config] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def hash(self) -> str:
        """Eight hexadecimal digits of all that makes two sweeps different ones; the number of trials does not."""
        sweep = asdict(replace(self.sweep, name="", description="", trials=1, defaults=()))
        steps = self.settings.get("trainer", {}).get("max_steps")
        text = json.dumps([sweep, identity(self.settings), steps], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    @property
    def title(self) -> str:
        """Name and hash."""
        return f"{self.sweep.name}-{self.hash}"

    @property
    def folder(self) -> Path:
        """Where the sweep keeps what it knows."""
        return self.runs / FOLDER / self.experiment / self.title

    @property
    def num_jobs(self) -> int:
        """How many trainings the sweep has."""
        sizes = [len(space.values) for space in self.sweep.parameters.values() if isinstance(space, spaces.Values)]
        trials = math.prod(sizes) if self.sweep.search == "grid" else self.sweep.trials
        return trials * len(self.sweep.seeds)

    def combinations(self) -> Iterator[dict[str, spaces.Scalar]]:
        """All combinations of a grid; the last parameter changes fastest."""
        grids = [space.values for space in self.sweep.parameters.values() if isinstance(space, spaces.Values)]
        for values in itertools.product(*grids):
            yield dict(zip(self.sweep.parameters, values, strict=True))

    def job(self, parameters: Parameters, seed: int) -> Job:
        """The training of one combination with one seed.

        Raises:
            UserError: for settings that are refused.
        """
        combined = [*self.overrides, *overrides(parameters)]
        key = " ".join(combined)
        if key not in self._configs:  # takes some ten milliseconds, too long for each seed of a large sweep
            self._configs[key] = self._config(combined, parameters)
        return job_of([*combined, f"seed={seed}"], replace(self._configs[key], seed=seed))

    def _config(self, overrides: Sequence[str], parameters: Parameters) -> Config:
        if any(is_group(key) for key in parameters):
            return to_config(compose("train", overrides))
        # The same result as composing in a tenth of the time: such settings override all others.
        settings = copy.deepcopy(dict(self.settings))
        for key, value in parameters.items():
            group, _, name = key.rpartition(".")
            (settings[group] if group else settings)[name] = value
        return to_config(settings)


def is_group(key: str) -> bool:
    """Whether a setting is a choice that brings further settings."""
    return bool(choices(key))


def rounded(value: spaces.Scalar) -> spaces.Scalar:
    """A number that a search proposes, with the digits that are used."""
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value


def specify(arguments: Sequence[str], seeds: Sequence[int] | None = None, trials: int | None = None) -> Specification:
    """What the arguments behind ``se3t sweep`` ask for.

    Args:
        arguments: ``sweep=…`` and settings of ``se3t train``. Values of a setting, separated by commas, take the place
            of those of the sweep, or make it one more parameter.
        seeds: in place of those of the sweep.
        trials: likewise.

    Raises:
        UserError: for a sweep that is unknown or does not fit, and for settings that no training has.
    """
    given = dict(argument.partition("=")[::2] for argument in arguments)
    name = given.pop("sweep", None)
    experiment = given.get("experiment", Config().experiment)
    if _SEVERAL.fullmatch(experiment):
        raise _not_comparable(name or ARGUMENTS_ALONE, "experiment")
    sweep = spaces.load(name, experiment) if name is not None else spaces.Sweep(ARGUMENTS_ALONE)
    varied = {
        key: spaces.values_of_words(text.split(","))
        for key, text in given.items()
        if key in sweep.parameters or (_SEVERAL.fullmatch(text) and key != "seed")
    }
    own_seeds = spaces.seeds_of(given.pop("seed"), "seed") if "seed" in given else None
    if name is None and not varied:
        raise UserError(f"sweep: what varies is missing; add sweep=<name> ({', '.join(choices('sweep'))}) or key=a,b,c")
    if trials is not None and sweep.search == "grid":
        raise UserError(f"--trials {trials}: sweep={sweep.name} is a grid, which tries everything; leave it out")
    sweep = replace(
        sweep,
        parameters={**sweep.parameters, **varied},
        seeds=tuple(seeds or own_seeds or sweep.seeds),
        trials=trials or sweep.trials,
    )
    shared = {**dict(override.partition("=")[::2] for override in sweep.defaults), **given}
    return _composed(sweep, [f"{key}={text}" for key, text in shared.items() if key not in sweep.parameters])


def _composed(sweep: spaces.Sweep, overrides: Sequence[str]) -> Specification:
    from omegaconf import OmegaConf

    settings: Any = OmegaConf.to_container(compose("train", list(overrides)), resolve=True)
    _require_settings(sweep, settings)
    _require_known_length(sweep, settings)
    settings.pop("seed")
    runs = Path(settings["runs"])
    metric = task(settings["task"]["name"]).objective(sweep.objective.metric, settings["task"])
    sweep = replace(sweep, objective=replace(sweep.objective, metric=metric))
    return Specification(sweep, tuple(overrides), settings["experiment"], settings, runs)


def _require_settings(sweep: spaces.Sweep, settings: Mapping[str, Any]) -> None:
    """Every parameter is a setting of these trainings, and makes them different runs."""
    groups = {key for key in sweep.parameters if is_group(key)}
    known = {*identity(settings), *(ADDED.keys() & dict(flatten(settings)).keys())}
    for key in sweep.parameters:
        if key in _MEASURED or (key in known and key.startswith("data.")):
            raise _not_comparable(sweep.name, key)
        if key in groups or key in known or key.partition(".")[0] in groups:
            continue
        group, _, name = key.partition(".")
        if isinstance(settings.get(group), Mapping) and name in settings[group]:
            raise UserError(f"sweep={sweep.name}: {key} does not distinguish runs, so it cannot be a parameter")
        choice = _chosen(group, settings)
        schemas = SCHEMAS.get(group, {}).items()
        others = sorted(choice for choice, schema in schemas if name in (item.name for item in fields(schema)))
        hint = f"; {' or '.join(f'{group}={other}' for other in others)} has it" if others else ""
        raise UserError(f"sweep={sweep.name}: {choice} has no setting {key}{hint}")


def _require_known_length(sweep: spaces.Sweep, settings: Mapping[str, Any]) -> None:
    """Hyperband needs the number of steps of a whole training."""
    limit = "trainer.max_time"
    if sweep.pruning.method == "hyperband" and (
        limit in sweep.parameters or settings.get("trainer", {}).get("max_time") is not None
    ):
        raise UserError(
            f"sweep={sweep.name}: pruning.method=hyperband compares runs by the steps of a whole training, which are "
            f"unknown under {limit}; leave {limit} out and give trainer.max_steps, or prune by median"
        )


def _not_comparable(sweep: str, key: str) -> UserError:
    what = f"{key} decides what is learned or on which data, so values of the objective are not comparable"
    return UserError(f"sweep={sweep}: {what}; give it one value, and run a sweep for each")


def _chosen(group: str, settings: Mapping[str, Any]) -> str:
    part = settings.get(group)
    if group in SCHEMAS and isinstance(part, Mapping):
        return f"{group}={part.get('name')}"
    return f"experiment={settings.get('experiment')}"
