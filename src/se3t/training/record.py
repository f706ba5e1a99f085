"""The run record: one folder per run that says what was run and what came out. Imports no torch.

``runs/<experiment>/<model>/<seed>-<confighash>/`` holds ``config.yaml`` (the settings), ``provenance.json`` (versions,
command line), ``metrics.jsonl`` (one JSON object a line), ``console.log`` (what it said), ``result.json`` (final
metrics, only once the run has finished), ``details.json`` (what the task keeps of every sample) and ``checkpoints/``.
How they are read, and how a change is told: :mod:`se3t.runs`.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import math
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from se3t import runs
from se3t.config import Config
from se3t.config.identity import first_difference, settings_hash
from se3t.config.schemas import redraws_starts
from se3t.errors import BusyError, UserError
from se3t.files import write_atomically, writing
from se3t.reporting.checks import require_kinds
from se3t.reporting.fields import Fields
from se3t.runs import CHECKPOINTS as CHECKPOINTS
from se3t.runs import CONFIG as CONFIG
from se3t.runs import DETAILS as DETAILS
from se3t.runs import FAILURE as FAILURE
from se3t.runs import LOCK as LOCK
from se3t.runs import METRICS as METRICS
from se3t.runs import PROVENANCE as PROVENANCE
from se3t.runs import RESULT as RESULT
from se3t.runs import TIME

log = logging.getLogger(__name__)

PACKAGES = ("torch", "lightning", "torch-geometric", "numpy", "hydra-core", "e3nn")


def plain(config: Config) -> dict[str, Any]:
    """The configuration as nested dictionaries of plain values."""
    return asdict(config)


def config_hash(config: Config) -> str:
    """Eight hexadecimal digits of the settings that tell runs apart; the same in every process and on every machine."""
    return settings_hash(plain(config))


def run_dir(config: Config) -> Path:
    """Folder of the run that ``config`` describes; it depends on the settings alone."""
    return Path(config.runs) / config.experiment / config.model.name / f"{config.seed}-{config_hash(config)}"


# --- files ------------------------------------------------------------------------------------------------------------


def write_json(path: Path, value: Any, *, sealed: bool = False) -> None:
    """Write JSON atomically; a number that is not finite becomes null, so that every reader can parse it.

    Args:
        path: the file.
        value: its content.
        sealed: add the digest of the content.
    """
    value = _finite(value)
    text = json.dumps(runs.seal(value) if sealed else value, indent=2) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def write_config(path: Path, config: Config) -> None:
    """Write the configuration as YAML, atomically."""
    from omegaconf import OmegaConf

    text = OmegaConf.to_yaml(OmegaConf.create(plain(config)))
    write_atomically(path, lambda file: file.write(text.encode()))


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        UserError: when the file is damaged.
    """
    return runs.read_json(path, "a file of a run record; remove it and run again")


def read_result(folder: Path) -> dict[str, Any]:
    """The result of a finished run, which is as its run left it.

    Raises:
        UserError: when the file is damaged, or was changed after the run.
    """
    content = read_json(folder / RESULT)
    runs.require_sealed(content, str(folder / RESULT))
    require_kinds(Fields(content, str(folder / RESULT)))
    return content


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


class Metrics:
    """``metrics.jsonl``: what was measured, one JSON object a line with at least ``kind`` and ``step``; lines are only
    ever appended.

    Args:
        path: the file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Add one line."""
        line = json.dumps({"kind": kind, "step": step, **_finite(values)})
        with writing(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def read(self) -> list[dict[str, Any]]:
        """All complete lines.

        Raises:
            UserError: naming file and line, when one is damaged.
        """
        return runs.read_metrics(self.path) if self.path.exists() else []

    def rewind(self, step: int, *, repeats_evaluation: bool = False) -> None:
        """Forget what will be measured again: all after ``step``, and what belonged to the end of the run.

        Args:
            step: from which the run continues.
            repeats_evaluation: whether the evaluation after this step will be repeated, too.
        """
        kept = [line for line in self.read() if line["step"] <= step and not line.get("final", False)]
        if repeats_evaluation:
            kept = [line for line in kept if (line["kind"], line["step"]) != ("valid", step)]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        write_atomically(self.path, lambda file: file.write(text.encode()))


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold the run folder: no second process may write there. The hold ends with the process, however that ends.

    Raises:
        BusyError: when another process holds the folder.
    """
    import fcntl

    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / LOCK).touch()
    except OSError as error:
        raise UserError(_not_writable(folder, str(error.strerror))) from error
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(_in_progress(folder)) from error
        except OSError as error:  # some network file systems have no locks: then the user has to take care
            log.warning("%s: cannot be locked (%s); see that no other process trains this run", folder, error.strerror)
        yield


@contextmanager
def failures_noted(folder: Path) -> Iterator[None]:
    """Note in the run folder why a training failed; the note goes when the run is continued. An interruption is no
    failure.
    """
    (folder / FAILURE).unlink(missing_ok=True)
    try:
        yield
    except Exception as error:  # of whatever kind: it is raised again
        reason = " ".join(str(error).split()) if isinstance(error, UserError) else repr(error)
        with suppress(OSError):  # such as a full disk: the error that is on its way says more
            write_json(folder / FAILURE, {"reason": reason})
        raise


def require_free(folder: Path) -> None:
    """Refuse a run that another process is training; nothing is written.

    Raises:
        BusyError: when another process holds the folder.
    """
    import fcntl

    try:
        with (folder / LOCK).open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BusyError(_in_progress(folder)) from error
    except OSError:
        return  # no such run yet, or no locks here: what comes next says more


def require_writable(folder: Path) -> None:
    """Refuse a folder that cannot be made or written, before any work is done; nothing is written.

    Raises:
        UserError: naming ``runs`` and what is in the way.
    """
    paths = (folder.absolute(), *folder.absolute().parents)
    nearest = next(path for path in paths if os.access(path, os.F_OK))
    if not nearest.is_dir():
        raise UserError(_not_writable(folder, f"{nearest} is no folder"))
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(_not_writable(folder, f"{nearest} cannot be written"))


def _in_progress(folder: Path) -> str:
    return f"{folder}: another process is training this run; wait for it to end or stop it"


def _not_writable(folder: Path, reason: str) -> str:
    return f"runs: the run folder {folder} cannot be made ({reason}); set runs to a folder that can be written"


# --- provenance and result --------------------------------------------------------------------------------------------


def command_line() -> str:
    """The command this process was started with, ready to be pasted into a shell."""
    program = Path(sys.argv[0]).name
    return shlex.join(["se3t" if program == "__main__.py" else program, *sys.argv[1:]])


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of what the numbers depend on."""
    from se3t import __version__

    found = {"python": platform.python_version(), "se3t": __version__}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """Commit of the checkout this package is imported from, with ``+`` when any tracked file of the checkout differs;
    None for an installed package.
    """
    package = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(package), *arguments], capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    if git("ls-files", "--error-unmatch", "__init__.py") is None:
        return None  # not a checkout, or a package installed inside somebody else's repository
    commit = git("rev-parse", "HEAD")
    return f"{commit}+" if commit and git("status", "--porcelain", "--untracked-files=no") else commit


def provenance(**facts: Any) -> dict[str, Any]:
    """Where a run comes from: versions, commit, command line, number of processors; no name of a host or a user."""
    return {
        "versions": versions(),
        "git_commit": git_commit(),
        "command": command_line(),
        "machine": platform.machine(),
        "system": platform.system(),
        "cpu_count": os.cpu_count(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        **facts,
    }


def add_provenance(path: Path, facts: Mapping[str, Any]) -> None:
    """Append to ``sessions`` of ``provenance.json``: a run that is continued keeps what its earlier parts came from."""
    sessions: list[Any] = []
    if path.exists():
        found = read_json(path)
        sessions = found.get("sessions", [found])  # a file of one session only, as older runs have it
    write_json(path, {"sessions": [*sessions, facts]})


def finished_result(folder: Path, config: Config, *, is_first: bool = True) -> dict[str, Any] | None:
    """The result of an earlier run of the same line, or None when there is something left to train.

    Args:
        folder: of the run.
        config: of this line.
        is_first: whether this is the first process of the training. The others may see a folder that the first one has
            just made, so they do not ask whether an interrupted run may be continued.

    Raises:
        UserError: when a run is there that this line neither reports nor may continue.
    """
    path, wanted = folder / RESULT, config.trainer.max_steps
    if not path.exists():
        if is_first:
            _require_permission(folder, config, "was interrupted before it finished")
        return None
    result = read_result(folder)
    other = first_difference(plain(config), result.get("config", {}))
    if other is not None:
        raise UserError(f"{folder}: holds another run, with another {other}; choose another folder, or remove this one")
    budget = result.get("budget", {})
    done, asked = budget.get("steps_done", 0), budget.get("max_steps", 0)
    if wanted == asked or result.get("parameters") == 0 or budget.get("stopped_early", False):
        return result
    if wanted < done:
        raise too_few_steps(folder, wanted, done)
    if budget.get("ended_by") == TIME:
        return result
    _require_permission(folder, config, f"has finished {done} of {wanted} steps")
    return None


def require_same_data(folder: Path, result: Mapping[str, Any], checksum: str | None) -> None:
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


def too_few_steps(folder: Path, wanted: int, done: int) -> UserError:
    """The error for a budget that a run has used up already."""
    return UserError(
        f"trainer.max_steps={wanted}: the run in {folder} has {done} steps already; "
        f"ask for {done} or more, or remove the folder to start again"
    )


def _require_permission(folder: Path, config: Config, state: str) -> None:
    started = (folder / CONFIG).exists() or (folder / CHECKPOINTS).exists()
    if started and not config.resume:
        raise UserError(
            f"{folder}: this run {state}; add resume=true to continue it, or remove the folder to start again"
        )
