"""Search by TPE with pruning, kept in a database on disk; the only place that imports optuna, when it is needed."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from se3t.errors import UserError
from se3t.reporting.sweep_record import Trial
from se3t.suite.spaces import Interval, Space, Sweep
from se3t.suite.specification import rounded

DATABASE = "study.db"
_REASON, _AGAIN, _RETRY_OF = "reason", "again", "retry_of"
_STATES = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed"}


class Study:
    """The trials of a search. Interruptions do not change the proposals: trial n is a function of n and of the
    trials before it.

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

    def ended(self) -> list[tuple[Trial, float | None]]:
        """Trials that have ended and are not tried again, without their runs; with the objective of finished ones."""
        with self._told():
            trials = self._study.get_trials(deepcopy=False)
        again = _tried_again(trials)
        ended = [trial for trial in trials if trial.state.name in _STATES and trial.number not in again]
        return [(_trial(trial, trial.intermediate_values, _STATES[trial.state.name]), trial.value) for trial in ended]

    def unfinished(self) -> list[Trial]:
        """Running trials of an earlier process, now of this one."""
        with self._told():
            running = self._study.get_trials(deepcopy=False, states=(self._optuna.trial.TrialState.RUNNING,))
            return [self._taken_up(frozen) for frozen in running if frozen.number not in self._live]

    def ask(self) -> Trial:
        """A new trial; first one that failed in an earlier process and is tried again."""
        with self._told():
            self._study.sampler = self._sampler(self._next_number())
            trial = self._study.ask(self._space)
            self._live[trial.number] = trial
            return _trial(trial)

    def report(self, number: int, step: int, value: float) -> None:
        """Report the objective of a running trial after a step."""
        with self._told():
            self._live[number].report(value, step)

    def should_stop(self, number: int) -> bool:
        """Whether a running trial performs too badly to continue."""
        with self._told():
            return bool(self._live[number].should_prune())

    def end(self, trial: Trial, *, again: bool = False) -> None:
        """End a trial that is finished, pruned or failed.

        Args:
            trial: with its state, objective and reason.
            again: whether another process shall try it again; not for settings that are refused.
        """
        live, (name,) = self._live.pop(trial.number), [name for name, state in _STATES.items() if state == trial.state]
        with self._told():
            if trial.state == "failed":
                live.set_user_attr(_REASON, trial.reason)
                live.set_user_attr(_AGAIN, again)
            self._study.tell(live, trial.value, state=self._optuna.trial.TrialState[name])

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

    def _taken_up(self, frozen: Any) -> Trial:
        self._study.sampler = self._sampler(frozen.number)
        trial = self._optuna.trial.Trial(self._study, frozen._trial_id)
        for name, distribution in self._space.items():
            trial._suggest(name, distribution)  # a value that is known already stays
        self._live[frozen.number] = trial
        return _trial(trial, frozen.intermediate_values)

    def _retry_failed(self) -> None:
        trials = self._study.get_trials(deepcopy=False)
        again = _tried_again(trials)
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
            # With several trials at a time, running ones count as bad, so that the next one differs.
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
    """A URL for optuna, which reads braces as placeholders."""
    from sqlalchemy.engine import URL

    text = URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)
    return text.replace("{", "{{").replace("}", "}}")


def _distributions(optuna: Any, parameters: Mapping[str, Space]) -> dict[str, Any]:
    distributions: dict[str, Any] = {}
    for name, space in parameters.items():
        if not isinstance(space, Interval):
            distributions[name] = optuna.distributions.CategoricalDistribution(space.values)
        elif space.whole:
            step = int(space.step or 1)
            distributions[name] = optuna.distributions.IntDistribution(space.low, space.high, log=space.log, step=step)
        else:
            ends = float(space.low), float(space.high)
            distributions[name] = optuna.distributions.FloatDistribution(*ends, log=space.log, step=space.step)
    return distributions


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


def _tried_again(trials: Iterable[Any]) -> set[int]:
    """Numbers of failed trials of which a later one tries the same again."""
    return {trial.user_attrs[_RETRY_OF] for trial in trials if _RETRY_OF in trial.user_attrs}


def _trial(trial: Any, history: Mapping[int, float] | None = None, state: str = "waiting") -> Trial:
    """A trial of optuna as the record of a sweep has it, without its runs."""
    parameters = {name: rounded(value) for name, value in trial.params.items()}
    reason = str(trial.user_attrs.get(_REASON, ""))
    return Trial(trial.number, parameters, state, history=sorted((history or {}).items()), reason=reason)
