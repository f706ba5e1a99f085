"""Run a command's work through Hydra: one job, or one per combination with ``-m``."""

from __future__ import annotations

import argparse
import io
import logging
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from se3t.cli.arguments import check_flags, split_flags
from se3t.cli.failures import FAILURE, USER_ERROR, report, sentence, status
from se3t.config import conf_dir
from se3t.config.compose import checked, prepare_hydra
from se3t.config.explain import in_sentences, translated
from se3t.config.origins import Origins, annotated
from se3t.config.overrides import override
from se3t.errors import UserError
from se3t.screen import show
from se3t.signals import Interrupted

Work = Callable[[Any], Any]
"""What one job does with the configuration that Hydra composed."""

_BASIC_LAUNCHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"


@dataclass
class Job:
    """One job: its overrides, and what came of it."""

    overrides: list[str]
    result: Any = None
    error: Exception | None = None


@dataclass
class App:
    """The jobs of one command line.

    Attributes:
        command: the sub-command, and the name of its configuration file.
        arguments: its arguments, as typed.
        work: what to do with the configuration of a job.
        multirun: whether jobs are several by intent (``-m``).
        jobs: filled while running.
    """

    command: str
    arguments: list[str]
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
        flags, overrides = split_flags(self.arguments)
        given = dict(flag.partition("=")[::2] for flag in flags)
        self.multirun = "--multirun" in given
        check_flags(self.command, given)
        overrides = checked(overrides, several=self.multirun)
        several_devices = [text for text in overrides if re.match(r"\+*trainer\.devices=(?!1$)", text)]
        if self.multirun and several_devices and not _chooses_launcher(overrides):
            raise _refuse_devices(several_devices[0])  # which would fail in every job
        prepare_hydra([Path(given["--config-dir"])] if "--config-dir" in given else [])
        with in_sentences(), messages(), _sweep_folder(self.multirun, overrides) as folder:
            try:
                if "--cfg" in given:
                    self._print_settings(flags, overrides, given.get("--package", ""))
                else:
                    self._hydra([*flags, *overrides, *folder])
            except Interrupted as stop:
                stop.advice = self._unfinished(overrides) if self.multirun and self.jobs else stop.advice
                raise
        return self._report()

    def _hydra(self, arguments: Sequence[str]) -> None:
        """Hydra with the arguments of its command line, which it reads from ``sys.argv``."""
        import hydra

        main = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=self.command)(self._job)
        with _raised_errors(), _tolerant_help(), _replaced(sys, "argv", [sys.argv[0], *arguments]):
            main()

    def _print_settings(self, flags: Sequence[str], overrides: Sequence[str], package: str) -> None:
        origins = Origins(overrides)
        with redirect_stdout(io.StringIO()) as printed, origins.recorded():
            self._hydra([*flags, *overrides])
        print(annotated(printed.getvalue(), origins.by_setting(), package.removeprefix("_global_")), end="")

    def _job(self, config: Any) -> Any:
        from hydra.core.hydra_config import HydraConfig
        from omegaconf import OmegaConf

        settings = HydraConfig.get()
        parallel = settings.mode is not None and settings.mode.name == "MULTIRUN"
        self.multirun = self.multirun or parallel
        # Only jobs in this process can be collected; other launchers bring results and errors home themselves.
        if parallel and settings.launcher._target_ != _BASIC_LAUNCHER:
            return self._work(config)
        overrides: Any = OmegaConf.to_container(settings.overrides.task, resolve=False)
        job = Job(overrides)
        self.jobs.append(job)
        if parallel:
            show(f"job {len(self.jobs)}: {' '.join(job.overrides)}", flush=True)
        try:
            if parallel and self.command == "train" and OmegaConf.select(config, "trainer.devices") != 1:
                raise _refuse_devices(f"trainer.devices={config.trainer.devices}")
            job.result = self._work(config)
        except Exception as error:
            job.error = translated(error)  # reported later: other jobs continue
            if parallel:
                report(job.error, f"job {len(self.jobs)} failed")
        return job.result

    def _work(self, config: Any) -> Any:
        # The run record quotes sys.argv, and Lightning starts further processes from it: it must be the line as typed.
        with _replaced(sys, "argv", [sys.argv[0], self.command, *self.arguments]):
            return self.work(config)

    def _report(self) -> int:
        errors = [(job, job.error) for job in self.jobs if job.error is not None]
        if not errors:
            return 0
        if not self.multirun:
            raise errors[0][1]
        show(f"se3t: {len(errors)} of {len(self.jobs)} jobs failed", file=sys.stderr)
        names = _differences([job.overrides for job in self.jobs])
        by_message: dict[str, list[str]] = {}
        for job, error in errors:
            by_message.setdefault(sentence(error), []).append(names[self.jobs.index(job)])
        for message, failed in by_message.items():
            show(f"  {', '.join(failed)}: {message}", file=sys.stderr)
        return USER_ERROR if all(status(error) == USER_ERROR for _, error in errors) else FAILURE

    def _unfinished(self, overrides: Sequence[str]) -> str:
        """Which jobs of a multirun a signal has left, and the command that continues them."""
        by_state: dict[str, list[str]] = {}
        for number, name in enumerate(_differences(_combinations(overrides))):
            job = self.jobs[number] if number < len(self.jobs) else None
            if job is None:
                state = "not started"
            else:
                state = "failed" if job.error else "interrupted" if job.result is None else "finished"
            by_state.setdefault(state, []).append(name)
        states = "; ".join(f"{state}: {', '.join(names)}" for state, names in by_state.items())
        arguments = [*self.arguments, *([] if "resume=true" in self.arguments else ["resume=true"])]
        return f"{states}; continue with: {shlex.join(['se3t', self.command, *arguments])}"


def _combinations(overrides: Sequence[str]) -> list[list[str]]:
    """The overrides of every job of a multirun, as Hydra's own sweeper makes them."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    (jobs,) = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(list(overrides)), None)
    return jobs


def _differences(jobs: Sequence[Sequence[str]]) -> list[str]:
    """A name for each job: the overrides that not all of them share."""
    common = set.intersection(*map(set, jobs)) if len(jobs) > 1 else set()
    return [" ".join(text for text in job if text not in common) for job in jobs]


def _chooses_launcher(overrides: Sequence[str]) -> bool:
    return any(text.startswith("hydra/launcher=") for text in overrides)


def _refuse_devices(setting: str) -> UserError:
    return UserError(
        f"{setting} cannot be combined with -m, whose jobs share one process: use trainer.devices=1, or start the runs "
        "one by one without -m"
    )


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Set an attribute, and restore it."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def _raised_errors() -> Iterator[None]:
    """Let Hydra raise errors as they are, in place of printing them."""
    variable = "HYDRA_FULL_ERROR"
    before = os.environ.get(variable)
    os.environ[variable] = "1"
    try:
        yield
    finally:
        os.environ.pop(variable)
        os.environ.update({} if before is None else {variable: before})


@contextmanager
def _sweep_folder(multirun: bool, overrides: Sequence[str]) -> Iterator[list[str]]:
    """Hydra writes a file per sweep. Jobs of this process have no use for it; those of a cluster's launcher read it."""
    own_folder = any(text.startswith("hydra.sweep.dir=") for text in overrides)
    if not multirun or own_folder or _chooses_launcher(overrides):
        yield []
        return
    with tempfile.TemporaryDirectory(prefix="se3t-") as folder:
        yield [override("hydra.sweep.dir", folder)]


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

    with _replaced(argparse.ArgumentParser, "_check_help", check_text_only):
        yield
