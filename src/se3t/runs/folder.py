"""The run folder: the names of its files, reading and writing them, who holds it, and the state of the run.

``runs/<experiment>/<model>/<seed>-<hash of the settings>/`` holds ``config.yaml`` (the settings), ``provenance.json``
(versions, command line), ``metrics.jsonl`` (one JSON object a line), ``console.log`` (its output), ``result.json``
(final metrics, written when the run has finished), ``details.json`` (what the task keeps of every sample) and
``checkpoints/``.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from se3t.config import Config
from se3t.config.overrides import override_key
from se3t.config.schemas import redraws_starts
from se3t.errors import BusyError, UserError
from se3t.files import write_atomically, writing
from se3t.runs import names
from se3t.runs.checks import require_kinds
from se3t.runs.fields import Fields
from se3t.runs.files import finite, read_config, read_json, read_metrics, require_sealed, write_json
from se3t.runs.identity import first_difference, settings_hash

log = logging.getLogger(__name__)

_EXPECTED = "a file of a run record; remove it and run again"


@dataclass(frozen=True)
class _File:
    """A file of a run folder, by its name there."""

    name: str

    def __get__(self, run: RunFolder, owner: type[RunFolder]) -> Path:
        return run.path / self.name


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run.

    Args:
        path: of the folder; it need not exist.
    """

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @classmethod
    def of(cls, config: Config) -> RunFolder:
        """The folder of the run that ``config`` describes; it depends on the settings alone."""
        name = f"{config.seed}-{settings_hash(asdict(config))}"
        return cls(Path(config.runs) / config.experiment / config.model.name / name)

    # --- files --------------------------------------------------------------------------------------------------------

    config = _File(names.CONFIG)
    """The settings."""
    provenance = _File(names.PROVENANCE)
    """Versions and command line, for each part of a training that was continued."""
    metrics = _File(names.METRICS)
    """What was measured, one JSON object a line with at least ``kind`` and ``step``."""
    result = _File(names.RESULT)
    """The result of a finished run."""
    details = _File(names.DETAILS)
    """What the task keeps of every sample."""
    checkpoints = _File(names.CHECKPOINTS)
    """The folder of the checkpoints."""
    lock = _File(names.LOCK)
    """The file that the process that trains this run holds locked."""
    failure = _File(names.FAILURE)
    """Why the training failed."""

    # --- reading ------------------------------------------------------------------------------------------------------

    def read_config(self) -> dict[str, Any]:
        """The settings.

        Raises:
            UserError: when they cannot be read.
        """
        return read_config(self.config)

    def read_result(self) -> dict[str, Any]:
        """The result of a finished run, checked for changes.

        Raises:
            UserError: when the file is damaged, or was changed after the run.
        """
        content = read_json(self.result, _EXPECTED)
        require_sealed(content, str(self.result))
        require_kinds(Fields(content, str(self.result)))
        return content

    def read_metrics(self) -> list[dict[str, Any]]:
        """All complete lines of what was measured; none where there is no file.

        Raises:
            UserError: naming file and line, when one is damaged.
        """
        return read_metrics(self.metrics) if self.metrics.exists() else []

    def read_sessions(self) -> list[Mapping[str, Any]]:
        """Versions and command line of each session of the training; none where there is no file.

        Raises:
            UserError: when the file is damaged.
        """
        if not self.provenance.exists():
            return []
        content = read_json(self.provenance, _EXPECTED)
        sessions = content.get("sessions", [content])  # a file of one session only, as older runs have it
        return [session for session in sessions if isinstance(session, dict)] if isinstance(sessions, list) else []

    def read_overrides(self) -> list[str] | None:
        """The overrides of all parts of the training as typed, the last one of each setting; None where some part does
        not tell.

        Raises:
            UserError: when the file is damaged.
        """
        by_key: dict[str, str] = {}
        for session in self.read_sessions():
            given = session.get(names.OVERRIDES)
            if not isinstance(given, list):
                return None
            by_key |= {override_key(str(override)): str(override) for override in given}
        return list(by_key.values())

    # --- writing ------------------------------------------------------------------------------------------------------

    def write_config(self, config: Config) -> None:
        """Write the settings as YAML, atomically."""
        from omegaconf import OmegaConf

        text = OmegaConf.to_yaml(OmegaConf.create(asdict(config)))
        write_atomically(self.config, lambda file: file.write(text.encode()))

    def append_metrics(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Add one line to what was measured; lines are only ever appended."""
        line = json.dumps({"kind": kind, "step": step, **finite(values)})
        with writing(self.metrics), self.metrics.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def rewind_metrics(self, step: int, *, repeats_evaluation: bool = False) -> None:
        """Drop the lines that will be measured again: all after ``step``, and those of the final evaluation.

        Args:
            step: from which the run continues.
            repeats_evaluation: whether the evaluation after this step will be repeated, too.
        """
        kept = [line for line in self.read_metrics() if line["step"] <= step and not line.get("final", False)]
        if repeats_evaluation:
            kept = [line for line in kept if (line["kind"], line["step"]) != ("valid", step)]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        write_atomically(self.metrics, lambda file: file.write(text.encode()))

    def add_session(self, facts: Mapping[str, Any]) -> None:
        """Add versions and command line of this session; those of earlier sessions are kept."""
        write_json(self.provenance, {"sessions": [*self.read_sessions(), facts]})

    # --- who holds it -------------------------------------------------------------------------------------------------

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Lock the folder against other processes; the lock ends with the process.

        Raises:
            BusyError: when another process holds the folder.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.lock.touch()
        except OSError as error:
            raise self._not_writable(str(error.strerror)) from error
        with self.lock.open("w") as file:
            try:
                _lock(file)
            except BlockingIOError as error:
                raise self._in_progress() from error
            except OSError as error:  # some network file systems have no locks: then the user has to take care
                log.warning("%s: cannot be locked (%s); make sure no other process trains it", self, error.strerror)
            yield

    @property
    def is_held(self) -> bool:
        """Whether a process is training this run now; False where there is no such run, or no locks."""
        try:
            with self.lock.open("r") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def require_free(self) -> None:
        """Refuse a run that another process is training; nothing is written.

        Raises:
            BusyError: when another process holds the folder.
        """
        if self.is_held:
            raise self._in_progress()

    def require_writable(self) -> None:
        """Refuse a folder that cannot be made or written, before any work is done; nothing is written.

        Raises:
            UserError: naming ``runs`` and the obstacle.
        """
        path = self.path.absolute()
        nearest = next(folder for folder in (path, *path.parents) if os.access(folder, os.F_OK))
        if not nearest.is_dir():
            raise self._not_writable(f"{nearest} is no folder")
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise self._not_writable(f"{nearest} cannot be written")

    def _in_progress(self) -> BusyError:
        return BusyError(f"{self}: another process is training this run; wait for it to end or stop it")

    def _not_writable(self, reason: str) -> UserError:
        return UserError(
            f"runs: the run folder {self} cannot be made ({reason}); set runs to a folder that can be written"
        )

    # --- state --------------------------------------------------------------------------------------------------------

    @property
    def is_run(self) -> bool:
        """Whether this is the folder of a training: an exported model has a ``config.yaml``, too."""
        return any(path.exists() for path in (self.result, self.provenance, self.metrics, self.lock))

    @property
    def last_change(self) -> float:
        """When something was last measured, in seconds since 1970; 0 where nothing is there."""
        times = [0.0]
        for path in (self.result, self.metrics, self.config):
            with suppress(FileNotFoundError):
                times.append(path.stat().st_mtime)
        return max(times)

    def unfinished_state(self) -> tuple[str, str]:
        """The state of a run without a result, and why it failed.

        Raises:
            UserError: when the note of a failure is damaged.
        """
        if self.is_held:
            return names.RUNNING, ""
        if not self.failure.exists():
            return names.INTERRUPTED, ""
        reason = read_json(self.failure).get("reason")
        return names.FAILED, reason if isinstance(reason, str) else ""

    @contextmanager
    def failures_noted(self) -> Iterator[None]:
        """Write why a training failed; the file is removed when the run is continued. An interruption is no failure."""
        self.failure.unlink(missing_ok=True)
        try:
            yield
        except Exception as error:  # any exception: it is raised again
            reason = " ".join(str(error).split()) if isinstance(error, UserError) else repr(error)
            with suppress(OSError):  # such as a full disk: the error that is raised says more
                write_json(self.failure, {"reason": reason})
            raise


def _lock(file: IO[str]) -> None:
    """Take the lock exclusively; retry while another process checks it with ``is_held``."""
    for _ in range(5):
        with suppress(BlockingIOError):
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(0.05)
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return None


# --- what a training finds in its folder ------------------------------------------------------------------------------


def finished_result(folder: RunFolder, config: Config, *, is_first: bool = True) -> dict[str, Any] | None:
    """The result of an earlier run with the same settings, or None when there are steps left to train.

    Args:
        folder: of the run.
        config: of this run.
        is_first: whether this is the first process of the training. The others may see a folder that the first one has
            just made, so they do not ask whether an interrupted run may be continued.

    Raises:
        UserError: when there is a run that can neither be reported nor continued.
    """
    wanted = config.trainer.max_steps
    if not folder.result.exists():
        if is_first:
            _require_permission(folder, config, "was interrupted before it finished")
        return None
    result = folder.read_result()
    other = first_difference(asdict(config), result.get("config", {}))
    if other is not None:
        raise UserError(f"{folder}: holds another run, with another {other}; choose another folder, or remove this one")
    budget = result.get("budget", {})
    done, asked = budget.get("steps_done", 0), budget.get("max_steps", 0)
    if wanted == asked or result.get("parameters") == 0 or budget.get("stopped_early", False):
        return result
    if wanted < done:
        raise too_few_steps(folder, wanted, done)
    if budget.get("ended_by") == names.TIME:
        return result
    _require_permission(folder, config, f"has finished {done} of {wanted} steps")
    return None


def require_same_data(folder: RunFolder, result: Mapping[str, Any], checksum: str | None) -> None:
    """Refuse to report a finished run for data that have changed since.

    Args:
        folder: of the run.
        result: its ``result.json``.
        checksum: of the data as they are now; None where that is not known.

    Raises:
        UserError: naming both checksums; or for a record of an earlier version, which drew the starts of N-body
            trajectories once where training now draws them at every visit.
    """
    remedy = "set runs to another folder, or remove this one to train again"
    data = result.get("data", {})
    if "distinct_samples" not in data and redraws_starts(result.get("config", {}).get("data") or {}):
        raise UserError(
            f"{folder}: this run of an earlier version has finished on one start for each trajectory, and "
            f"training now draws them at every visit; {remedy}"
        )
    before = data.get("checksum")
    if None not in (before, checksum) and before != checksum:
        raise UserError(
            f"{folder}: this run has finished on data with checksum {before}, and the data now have {checksum}; "
            f"{remedy}"
        )


def too_few_steps(folder: RunFolder, wanted: int, done: int) -> UserError:
    """The error for a budget that a run has used up already."""
    return UserError(
        f"trainer.max_steps={wanted}: the run in {folder} has {done} steps already; "
        f"ask for {done} or more, or remove the folder to start again"
    )


def _require_permission(folder: RunFolder, config: Config, state: str) -> None:
    started = folder.config.exists() or folder.checkpoints.exists()
    if started and not config.resume:
        raise UserError(
            f"{folder}: this run {state}; add resume=true to continue it, or remove the folder to start again"
        )
