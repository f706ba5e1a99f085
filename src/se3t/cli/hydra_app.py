"""Run a command's work through Hydra: one job, or one per combination with ``-m``."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from se3t.cli.arguments import check_flags, split_flags
from se3t.cli.completion import without_command
from se3t.cli.failures import FAILURE, USER_ERROR, report, sentence, status
from se3t.config import conf_dir
from se3t.config.compose import as_typed, in_sentences, prepare_hydra
from se3t.config.overrides import override
from se3t.config.refusals import check_words
from se3t.errors import UserError
from se3t.screen import show
from se3t.signals import Interrupted

Work = Callable[[Any], Any]
"""What one job does with the configuration that Hydra composed."""

_BASIC_LAUNCHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"


@dataclass
class Job:
    """One job: its overrides, and what came of it. As a context it keeps its error for later, and other jobs go on."""

    overrides: list[str]
    result: Any = None
    error: Exception | None = None

    def __enter__(self) -> Job:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if isinstance(error, Exception):
            self.error = error
        return isinstance(error, Exception)


@dataclass
class App:
    """The jobs of one command line.

    Attributes:
        command: the sub-command, and the name of its configuration file.
        words: its words, as typed.
        work: what to do with the configuration of a job.
        multirun: whether jobs are several by intent (``-m``).
        jobs: filled while running.
    """

    command: str
    words: list[str]
    work: Work
    multirun: bool = False
    jobs: list[Job] = field(default_factory=list)

    def run(self) -> int:
        """Run all jobs.

        Returns:
            Exit status: 0 when all jobs finished; failures of a multirun are listed on stderr.

        Raises:
            Exception: that of the job, when there is one job only.
        """
        import hydra

        flags, overrides = split_flags(self.words)
        self.multirun = "--multirun" in flags
        overrides = as_typed(overrides)
        check_flags(self.command, flags)
        check_words(overrides, several=self.multirun)
        _check_devices(overrides, self.multirun)
        prepare_hydra([Path(flag.partition("=")[2]) for flag in flags if flag.startswith("--config-dir=")])
        with ExitStack() as stack:
            stack.enter_context(in_sentences())
            overrides += stack.enter_context(_sweep_folder(self.multirun, overrides))
            stack.enter_context(environment("HYDRA_FULL_ERROR", "1"))  # errors as they are, not printed by Hydra
            if "--shell-completion" in flags:
                stack.enter_context(environment("COMP_LINE", without_command(os.environ.get("COMP_LINE", ""))))
            stack.enter_context(_tolerant_help())
            stack.enter_context(messages())
            stack.enter_context(replaced(sys, "argv", [sys.argv[0], *flags, *overrides]))
            try:
                hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=self.command)(self._job)()
            except Interrupted as stop:
                stop.advice = self._unfinished(overrides) if self.multirun and self.jobs else stop.advice
                raise
        return self._report()

    def _job(self, config: Any) -> Any:
        from hydra.core.hydra_config import HydraConfig
        from omegaconf import OmegaConf

        settings = HydraConfig.get()
        parallel = settings.mode is not None and settings.mode.name == "MULTIRUN"
        self.multirun = self.multirun or parallel
        # Only jobs in this process can be collected; other launchers bring results and errors home themselves.
        if parallel and settings.launcher._target_ != _BASIC_LAUNCHER:
            return self._work(config, in_process_multirun=False)
        typed: Any = OmegaConf.to_container(settings.overrides.task, resolve=False)
        job = Job(typed)
        self.jobs.append(job)
        if parallel:
            show(f"job {len(self.jobs)}: {' '.join(job.overrides)}", flush=True)
        with job:
            job.result = self._work(config, in_process_multirun=parallel)
        if parallel and job.error is not None:
            report(job.error, f"job {len(self.jobs)} failed")
        return job.result

    def _work(self, config: Any, in_process_multirun: bool) -> Any:
        from omegaconf import OmegaConf

        if in_process_multirun and self.command == "train" and OmegaConf.select(config, "trainer.devices") != 1:
            raise _refuse_devices(f"trainer.devices={config.trainer.devices}")
        # The run record quotes sys.argv, and Lightning starts further processes from it: it must be the line as typed.
        with replaced(sys, "argv", [sys.argv[0], self.command, *self.words]):
            return self.work(config)

    def _report(self) -> int:
        failed = [job for job in self.jobs if job.error is not None]
        if not failed:
            return 0
        if not self.multirun:
            assert failed[0].error is not None
            raise failed[0].error
        show(f"se3t: {len(failed)} of {len(self.jobs)} jobs failed", file=sys.stderr)
        for message, names in self._by_message(failed).items():
            show(f"  {', '.join(names)}: {message}", file=sys.stderr)
        return (
            USER_ERROR if all(job.error is not None and status(job.error) == USER_ERROR for job in failed) else FAILURE
        )

    def _unfinished(self, overrides: Sequence[str]) -> str:
        """Which jobs of a multirun a signal has left, and the command that goes on with them."""
        from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
        from hydra.core.override_parser.overrides_parser import OverridesParser

        (names,) = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(list(overrides)), None)
        common = set.intersection(*(set(name) for name in names)) if len(names) > 1 else set()
        groups: dict[str, list[str]] = {}
        for number, name in enumerate(names):
            job = self.jobs[number] if number < len(self.jobs) else None
            state = "not started" if job is None else "interrupted"
            state = state if job is None or job.result is None else "finished"
            state = state if job is None or job.error is None else "failed"
            groups.setdefault(state, []).append(" ".join(word for word in name if word not in common))
        told = "; ".join(f"{state}: {', '.join(found)}" for state, found in groups.items())
        words = [*self.words, *([] if "resume=true" in self.words else ["resume=true"])]
        return f"{told}; continue with: {shlex.join(['se3t', self.command, *words])}"

    def _by_message(self, failed: Sequence[Job]) -> dict[str, list[str]]:
        """Names of failed jobs, the overrides in which jobs differ, by the error they ended with."""
        common = set.intersection(*(set(job.overrides) for job in self.jobs)) if len(self.jobs) > 1 else set()
        names: dict[str, list[str]] = {}
        for job in failed:
            name = " ".join(word for word in job.overrides if word not in common)
            names.setdefault(sentence(job.error) if job.error else "", []).append(name)
        return names


def _check_devices(overrides: Sequence[str], multirun: bool) -> None:
    """Refuse what would fail in every job."""
    for word in overrides:
        key, _, value = word.lstrip("+").partition("=")
        if multirun and not _chooses_launcher(overrides) and key == "trainer.devices" and value != "1":
            raise _refuse_devices(word)


def _chooses_launcher(overrides: Sequence[str]) -> bool:
    return any(word.startswith("hydra/launcher=") for word in overrides)


def _refuse_devices(word: str) -> UserError:
    return UserError(
        f"{word} does not go together with -m, whose jobs share one process: use trainer.devices=1, or start the runs "
        "one by one without -m"
    )


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Give an attribute another value for a while."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def _sweep_folder(multirun: bool, overrides: Sequence[str]) -> Iterator[list[str]]:
    """Hydra writes a file per sweep. Jobs of this process have no use for it; those of a cluster's launcher read it."""
    own_folder = any(word.startswith("hydra.sweep.dir=") for word in overrides)
    if not multirun or own_folder or _chooses_launcher(overrides):
        yield []
        return
    with tempfile.TemporaryDirectory(prefix="se3t-") as folder:
        yield [override("hydra.sweep.dir", folder)]


@contextmanager
def environment(name: str, value: str) -> Iterator[None]:
    """Give a variable of the environment another value for a while."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def messages() -> Iterator[None]:
    """Show what this program logs, as plain lines on stderr; Hydra and Lightning log for themselves."""
    logger, handler = logging.getLogger("se3t"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("se3t: %(message)s"))
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


@contextmanager
def _tolerant_help() -> Iterator[None]:
    """Python 3.14 checks help texts when a flag is added, and one of Hydra 1.3 is not a string but turns into one."""
    check = getattr(argparse.ArgumentParser, "_check_help", None)
    if check is None:
        yield
        return

    def check_text_only(parser: argparse.ArgumentParser, action: argparse.Action) -> None:
        if action.help is None or isinstance(action.help, str):
            check(parser, action)

    with replaced(argparse.ArgumentParser, "_check_help", check_text_only):
        yield
