"""Search by TPE with pruning, kept in a database on disk; the only place that imports optuna, when it is needed."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from se3t.errors import UserError
from se3t.suite.spaces import Interval, Space, Sweep

DATABASE = "study.db"
_REASON, _AGAIN, _RETRY_OF = "reason", "again", "retry_of"


@dataclass
class Proposal:
    """A trial of the search.

    Attributes:
        number: from 0.
        parameters: as proposed, not rounded.
        state: running, finished, pruned or failed.
        value: of a finished one.
        history: objective by step.
        reason: why it failed.
        replaced: whether a later trial tries the same again.
    """

    number: int
    parameters: dict[str, Any]
    state: str = "running"
    value: float | None = None
    history: dict[int, float] = field(default_factory=dict)
    reason: str = ""
    replaced: bool = False


class Study:
    """The trials of a search. The same proposals follow, whether it is interrupted or not: those of trial n are a
    function of the trials before it and of n.

    Args:
        folder: of the sweep; the database lies there.
        title: name of the study.
        sweep: space, objective, pruning.
        eval_every: steps between two validations.
        max_steps: of a training.
        first: parameters of the first trial; None: as proposed.

    Raises:
        UserError: optuna is missing, or the database cannot be read; all methods raise it where it cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        title: str,
        sweep: Sweep,
        *,
        eval_every: int,
        max_steps: int,
        first: Mapping[str, Any] | None = None,
    ) -> None:
        self._optuna = require_optuna()
        self._title, self._space = title, _distributions(self._optuna, sweep.parameters)
        self._live: dict[int, Any] = {}
        self._path = (folder / DATABASE).absolute()
        with self._told("remove it to start the search again"):
            self._study = self._optuna.create_study(
                storage=_url(self._path),
                study_name=title,
                direction=sweep.objective.direction,
                pruner=_pruner(self._optuna, sweep, eval_every, max_steps),
                load_if_exists=True,
            )
            if first is not None and not self._study.get_trials(deepcopy=False):
                self._study.enqueue_trial(dict(first))
            self._retry_failed()

    def proposals(self) -> list[Proposal]:
        """All trials, in the order of their numbers."""
        with self._told():
            trials = self._study.get_trials(deepcopy=False)
        again = {trial.user_attrs.get(_RETRY_OF) for trial in trials}
        return [_proposal(trial, trial.number in again) for trial in trials]

    def unfinished(self) -> list[Proposal]:
        """Trials that an earlier process was at work on, now those of this one."""
        with self._told():
            running = self._study.get_trials(deepcopy=False, states=(self._optuna.trial.TrialState.RUNNING,))
            return [self._taken_up(frozen) for frozen in running if frozen.number not in self._live]

    def ask(self) -> Proposal:
        """A new trial; first one that failed in an earlier process and is tried again."""
        with self._told():
            self._study.sampler = self._sampler(self._next_number())
            trial = self._study.ask(self._space)
            self._live[trial.number] = trial
            return Proposal(trial.number, dict(trial.params))

    def report(self, number: int, step: int, value: float) -> None:
        """Tell the objective of a running trial after a step."""
        with self._told():
            self._live[number].report(value, step)

    def should_stop(self, number: int) -> bool:
        """Whether a running trial does too badly to go on."""
        with self._told():
            return bool(self._live[number].should_prune())

    def finish(self, number: int, value: float) -> None:
        """End a trial with its objective."""
        with self._told():
            self._study.tell(self._live.pop(number), value)

    def prune(self, number: int) -> None:
        """End a trial that did too badly."""
        with self._told():
            self._study.tell(self._live.pop(number), state=self._optuna.trial.TrialState.PRUNED)

    def fail(self, number: int, reason: str, *, again: bool) -> None:
        """End a trial without an objective.

        Args:
            number: of the trial.
            reason: a sentence.
            again: whether another process shall try it again; not for settings that are refused.
        """
        trial = self._live.pop(number)
        with self._told():
            trial.set_user_attr(_REASON, reason)
            trial.set_user_attr(_AGAIN, again)
            self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)

    @contextmanager
    def _told(self, remedy: str = "fix this, then rerun the command to resume") -> Iterator[None]:
        """What the database refuses, a full disk or a lock among others, in one sentence."""
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (SQLAlchemyError, self._optuna.exceptions.OptunaError, RuntimeError) as error:
            cause = error.__cause__ if isinstance(error.__cause__, SQLAlchemyError) else error
            why = str(cause).splitlines()[0]
            raise UserError(f"{self._path}: cannot be used ({why}); {remedy}") from error

    def _taken_up(self, frozen: Any) -> Proposal:
        self._study.sampler = self._sampler(frozen.number)
        trial = self._optuna.trial.Trial(self._study, frozen._trial_id)
        for name, distribution in self._space.items():
            trial._suggest(name, distribution)  # a value that is known already stays
        self._live[frozen.number] = trial
        return Proposal(frozen.number, dict(trial.params), history=dict(frozen.intermediate_values))

    def _retry_failed(self) -> None:
        trials = self._study.get_trials(deepcopy=False)
        again = {trial.user_attrs.get(_RETRY_OF) for trial in trials}
        for trial in trials:
            if trial.user_attrs.get(_AGAIN) and trial.number not in again:
                self._study.enqueue_trial(trial.params, user_attrs={_RETRY_OF: trial.number})

    def _next_number(self) -> int:
        waiting = self._study.get_trials(deepcopy=False, states=(self._optuna.trial.TrialState.WAITING,))
        return waiting[0].number if waiting else len(self._study.get_trials(deepcopy=False))

    def _sampler(self, number: int) -> Any:
        digest = hashlib.sha256(f"{self._title}/{number}".encode()).digest()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", self._optuna.exceptions.ExperimentalWarning)
            # Several trials at a time: those at work count as bad, so that the next one is tried elsewhere.
            return self._optuna.samplers.TPESampler(seed=int.from_bytes(digest[:4]), constant_liar=True)


def require_optuna() -> Any:
    """The package optuna.

    Raises:
        UserError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise UserError("search: tpe needs the package optuna; install it: pip install 'se3t[sweep]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _url(path: Path) -> str:
    """As optuna reads it, which takes braces for a place to fill in."""
    from sqlalchemy.engine import URL

    text = URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)
    return text.replace("{", "{{").replace("}", "}}")


def _distributions(optuna: Any, parameters: Mapping[str, Space]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, space in parameters.items():
        if not isinstance(space, Interval):
            found[name] = optuna.distributions.CategoricalDistribution(space.values)
        elif space.whole:
            found[name] = optuna.distributions.IntDistribution(
                int(space.low), int(space.high), log=space.log, step=int(space.step or 1)
            )
        else:
            found[name] = optuna.distributions.FloatDistribution(
                float(space.low), float(space.high), log=space.log, step=space.step
            )
    return found


def _pruner(optuna: Any, sweep: Sweep, eval_every: int, max_steps: int) -> Any:
    pruning = sweep.pruning
    first = max(1, pruning.warmup_evaluations) * eval_every
    if pruning.method == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=pruning.startup_trials, n_warmup_steps=first)
    if pruning.method == "hyperband":
        return optuna.pruners.HyperbandPruner(
            min_resource=first, max_resource=max(first, max_steps), reduction_factor=pruning.reduction
        )
    return optuna.pruners.NopPruner()


def _proposal(trial: Any, replaced: bool) -> Proposal:
    states = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed", "WAITING": "waiting"}
    return Proposal(
        trial.number,
        dict(trial.params or trial.system_attrs.get("fixed_params", {})),
        states.get(trial.state.name, "running"),
        trial.value if trial.state.name == "COMPLETE" else None,
        dict(trial.intermediate_values),
        str(trial.user_attrs.get(_REASON, "")),
        replaced,
    )
