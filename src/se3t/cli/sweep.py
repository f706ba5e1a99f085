"""``se3t sweep``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from se3t.cli.help import ready_sweeps
from se3t.cli.options import Parser, output, positive, require_pictures, seeds
from se3t.config import choices, overrides
from se3t.errors import UserError
from se3t.screen import show

if TYPE_CHECKING:
    from se3t.reporting.sweep_record import SweepRecord, Trial
    from se3t.screen import Folded
    from se3t.suite.specification import Specification

LAUNCHERS = ("local", "slurm", "submitit")
_SLURM = "slurm."
_JOBS_OF_SLURM = 8
_TOP = 5


def parser() -> Parser:
    """Flags of ``se3t sweep``."""
    parser = Parser("sweep")
    parser.add_argument("arguments", nargs="*")
    parser.add_argument("--seeds", type=seeds, metavar="A,B,…")
    parser.add_argument("--trials", type=positive)
    parser.add_argument("--jobs", type=positive)
    parser.add_argument("--launcher", choices=LAUNCHERS, default="local")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--plan", action="store_true")
    mode.add_argument("--list", action="store_true")
    mode.add_argument("--best", metavar="SWEEP")
    mode.add_argument("--plot", metavar="SWEEP")
    parser.add_argument("--top", type=positive)
    parser.add_argument("--out", type=output)
    return parser


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The checked command line.

    Raises:
        UserError: for flags that cannot be combined, and arguments that are not settings.
    """
    given = parser().parse_intermixed_args(list(arguments))
    for flag, mode in (("top", "best"), ("out", "plot")):
        if getattr(given, flag) is not None and getattr(given, mode) is None:
            raise UserError(f"sweep: --{flag} belongs to --{mode}")
    for argument in given.arguments:
        if "=" not in argument:
            hint = f"; for the sweep of that name write sweep={argument}" if argument in choices("sweep") else ""
            raise UserError(f"sweep: {argument}: cannot be read as a setting; write key=value, such as sweep=lr{hint}")
    given.slurm = {
        key.removeprefix(_SLURM): value
        for key, _, value in (argument.partition("=") for argument in given.arguments)
        if key.startswith(_SLURM)
    }
    given.arguments = [argument for argument in given.arguments if not argument.startswith(_SLURM)]
    if given.slurm and given.launcher == "local":
        raise UserError(f"slurm.{next(iter(given.slurm))}: belongs to --launcher slurm; add that, or leave it out")
    return given


def run(arguments: Sequence[str]) -> int:
    """Run a sweep, or show one."""
    given = parse(arguments)
    if given.list:
        show(ready_sweeps())
        return 0
    if given.best is not None or given.plot is not None:
        _only_runs(given.arguments)
        return _best(given) if given.best is not None else _plot(given)
    from se3t.suite.specification import specify

    spec = specify(given.arguments, given.seeds, given.trials)
    if given.plan:
        return _plan(spec, given)
    return _run(spec, given)


# --- running ----------------------------------------------------------------------------------------------------------


def _run(spec: Specification, given: argparse.Namespace) -> int:
    from se3t.screen import console, say
    from se3t.suite.sweep import first_job, run, watch_of

    job = first_job(spec)
    if (reason := job.data.obstacle(job.config.data)) is not None:
        raise UserError(reason)
    workers, launcher = _launcher(spec, given)
    screen = console(stderr=True)

    def tell(text: str) -> None:
        say(screen, text)

    tell(f"se3t: sweep {spec.folder}")
    record = run(spec, launcher, workers, watch_of(spec, screen, workers), tell)
    _report(record, _TOP)
    return _failures(record)


def _launcher(spec: Specification, given: argparse.Namespace) -> tuple[int, Any]:
    """How many trainings at a time, and where."""
    from se3t.suite.costs import resources
    from se3t.suite.sweep import GROUP, first_job

    has_group = any(text.startswith(f"{GROUP}=") for text in spec.overrides)
    extra = () if has_group else (overrides.override(GROUP, spec.title),)
    workers, threads = resources([first_job(spec)] * spec.num_jobs, given.jobs)
    if given.launcher == "local":
        from se3t.suite.launch import LocalLauncher

        return workers, LocalLauncher(threads, extra)
    from se3t.suite.submitit_launcher import SubmititLauncher

    cluster = "slurm" if given.launcher == "slurm" else "local"
    if cluster == "slurm":
        workers = given.jobs or _JOBS_OF_SLURM
    settings = {"cpus": str(threads)} if cluster == "local" and threads else {}
    folder = spec.folder / "submitit"
    return workers, SubmititLauncher(folder, cluster, {**settings, **given.slurm}, f"se3t-{spec.title}", extra)


def _failures(record: SweepRecord) -> int:
    from se3t.suite.trials import words_of

    failed = [trial for trial in record.trials if trial.state == "failed"]
    if not failed:
        return 0
    lines = [f"se3t: {len(failed)} of {len(record.trials)} trials failed"]
    for trial in failed:
        runs = [run for run in trial.runs if run.state == "failed"]
        name = f"trial {trial.number}, {words_of(trial.parameters)}"
        lines += [f"  {name}, seed {run.seed}: {run.reason}\n    log: {run.log}" for run in runs]
        lines += [] if runs else [f"  {name}: {trial.reason}"]
    show("\n".join(lines), file=sys.stderr)
    return 1


def _plan(spec: Specification, given: argparse.Namespace) -> int:
    from se3t.screen import console, say
    from se3t.suite.costs import resources
    from se3t.suite.sweep import first_job, plan, seconds_left
    from se3t.suite.trials import words_of
    from se3t.training.pace import duration

    record, lines = plan(spec), [f"sweep {spec.folder}"]
    for trial in record.trials:
        states = ", ".join(f"seed {run.seed} {run.state}" for run in trial.runs) or f"{trial.state}: {trial.reason}"
        lines.append(f"  trial {trial.number}: {words_of(trial.parameters)}: {states}")
    lines += _sums(spec, record)
    if given.launcher == "local":
        workers, threads = resources([first_job(spec)] * spec.num_jobs, given.jobs)
        with console(stderr=True).status("measuring training steps …"):
            seconds = seconds_left(spec, record, workers, threads)
        if seconds:
            lines.append(f"about {duration(seconds)} left here, {workers} at a time")
    say(console(), "\n".join(lines))
    return 0


def _sums(spec: Specification, record: SweepRecord) -> list[str]:
    from se3t.config.fields import steps_asked

    sweep, seeds = spec.sweep, f"{len(spec.sweep.seeds)} seeds" if len(spec.sweep.seeds) > 1 else "one seed"
    steps = steps_asked(*(spec.settings["trainer"][name] for name in ("max_steps", "max_time")))
    if sweep.search == "grid":
        done = sum(run.state == "finished" for trial in record.trials for run in trial.runs)
        size = f"{len(record.trials)} combinations x {seeds}, {steps} each; {done} of {spec.num_jobs} finished"
        return [size]
    lines = [f"  {name}: {space}" for name, space in sweep.parameters.items()]
    pruning = "none is stopped early" if sweep.pruning.method == "none" else f"stopped early by {sweep.pruning.method}"
    done = len(record.trials) - record.count("running") - record.count("waiting")
    return [*lines, f"{sweep.trials} trials x {seeds}, {steps} each at most ({pruning}); {done} have ended"]


# --- telling ----------------------------------------------------------------------------------------------------------


def _best(given: argparse.Namespace) -> int:
    from se3t.reporting.sweep_record import find_sweep

    record = _unchanged(find_sweep(given.best, _runs(given.arguments)))
    if not record.ranking():
        raise UserError(f"{record.title}: no trial is finished yet; run the sweep first")
    _report(record, given.top or _TOP)
    return 0


def _plot(given: argparse.Namespace) -> int:
    from se3t.reporting.figures.style import SUFFIXES, save
    from se3t.reporting.figures.sweep_plot import draw_sweep
    from se3t.reporting.sweep_record import find_sweep

    folder = find_sweep(given.plot, _runs(given.arguments))
    record, out = _unchanged(folder), given.out or folder / "sweep"
    out = out.with_suffix("") if out.suffix in SUFFIXES else out
    require_pictures(out)
    for path in save(draw_sweep(record), out):
        show(f"written: {path}")
    return 0


def _unchanged(folder: Path) -> SweepRecord:
    """The record of a sweep without trials whose results were changed; prints these and unverified files."""
    from se3t.reporting.sweep_record import read_record, require_results, unverified

    record = read_record(folder)
    for reason in require_results(record):
        show(f"se3t: sweep: left out: {reason}", file=sys.stderr)
    if paths := unverified(folder, record):
        files = f"{paths[0]} and {len(paths) - 1} more are" if len(paths) > 1 else f"{paths[0]} is"
        told = "of an earlier version, without the digest that tells whether a record was changed"
        show(f"se3t: sweep: unverified: {files} {told}", file=sys.stderr)
    return record


def _report(record: SweepRecord, count: int) -> None:
    """The best trials, and the command that trains the winner."""
    from se3t.reporting.figures.sweep_plot import facts
    from se3t.screen import console, say

    ranking, out = record.ranking(), console()
    if not ranking:
        return
    lines = [f"Sweep {record.title}, experiment {record.experiment}", *facts(record), f"trials: {_counts(record)}"]
    say(out, "\n".join(lines))
    out.print(_table(record, ranking[:count]))
    best = ["command of the best trial:", f"  {command(record, ranking[0])}"]
    say(out, "\n".join(best))


def command(record: SweepRecord, trial: Trial) -> str:
    """The line that trains a trial, with all its seeds."""
    several = ["-m"] if len(record.seeds) > 1 else []
    seeds = f"seed={','.join(map(str, record.seeds))}"
    return overrides.command(["train", *record.words, *overrides.overrides(trial.parameters), *several, seeds])


def _table(record: SweepRecord, trials: Sequence[Trial]) -> Folded:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from se3t.config.overrides import spell
    from se3t.screen import Folded

    table = Table(box=SIMPLE_HEAD)
    for name in ("trial", *record.parameters, f"validation {record.metric}", "seeds"):
        table.add_column(name, justify="right")
    for trial in trials:
        spread = "" if trial.spread is None else f" ± {trial.spread:.2g}"
        values = [spell(trial.parameters[name]) for name in record.parameters]
        table.add_row(str(trial.number), *values, f"{trial.value:.4g}{spread}", str(len(trial.values)))
    return Folded(table)


def _counts(record: SweepRecord) -> str:
    counts = {state: record.count(state) for state in ("finished", "pruned", "failed")}
    left = len(record.trials) - sum(counts.values())
    return ", ".join(f"{number} {state}" for state, number in {**counts, "not finished": left}.items() if number)


# --- arguments --------------------------------------------------------------------------------------------------------


def _only_runs(arguments: Sequence[str]) -> None:
    for argument in arguments:
        if not argument.startswith("runs="):
            raise UserError(
                f"sweep: {argument}: --best and --plot read an existing sweep; only runs=<folder> is accepted"
            )


def _runs(arguments: Sequence[str]) -> Path:
    from se3t.config.compose import text_of

    return Path(text_of(arguments[-1])) if arguments else Path("runs")
