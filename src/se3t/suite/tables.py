"""The trainings behind a table of the paper: what is missing, what it costs, and running it. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from se3t.config import Config, to_config
from se3t.config.compose import compose
from se3t.config.overrides import override
from se3t.errors import UserError, did_you_mean
from se3t.experiments import dataset, tables
from se3t.experiments.table import TableSpec
from se3t.reporting.published import load_published
from se3t.reporting.tables import ablations
from se3t.reporting.tables.ablations import ABLATED
from se3t.reporting.tables.build import require_name, require_preset
from se3t.runs import RunFolder, read_json
from se3t.runs.folder import require_same_data
from se3t.screen import console, say
from se3t.suite.costs import estimate, resources
from se3t.suite.jobs import Job, job_of
from se3t.suite.launch import LocalLauncher
from se3t.suite.pool import Outcome, run_jobs
from se3t.suite.progress import Clock, view
from se3t.suite.wording import failures, obstacle_of, opening, plan_lines, trouble

DEFAULT_PRESET, DEFAULT_SEEDS = "reduced", (0, 1, 2)
ABLATIONS = (
    (f"model={ablations.FULL_MODEL}",),
    *(
        (f"model={ablations.FULL_MODEL}", f"model.ablation={name}", *ablations.OWN_SETTINGS.get(name, ()))
        for name in ablations.ABLATIONS
    ),
    *((f"model={name}",) for name in ablations.SYSTEMS),
)
"""What is taken out of the SE(3)-Transformer, and the models of the paper that lack the same by design."""
_WITHOUT_SEEDS = ("linear",)  # has nothing that a seed could change
_OTHERWISE = {
    "seed": "use --seeds, such as --seeds 0,1,2",
    "preset": "use --preset, such as --preset smoke",
    "experiment": "follows from the table; leave it out",
    "resume": "interrupted trainings are always resumed; leave it out",
    "trainer.progress": "there is one view of all trainings; leave it out",
}


@dataclass(frozen=True)
class TableRequest:
    """What ``se3t table`` was asked to run.

    Attributes:
        which: "1", "2", "3", "egnn" or "ablations".
        preset: of all trainings; None: see :func:`default_preset`.
        seeds: of every system; empty: 0, 1 and 2, with the preset "smoke" 0 alone.
        workers: trainings at a time; None: as many as there are cores, one on a GPU.
        overrides: settings ``key=value`` of every training; of ``model``, ``task`` and ``data.preset`` they choose some
            of the table's.
        runs: folder of the run records.
    """

    which: str
    preset: str | None = None
    seeds: tuple[int, ...] = ()
    workers: int | None = None
    overrides: tuple[str, ...] = ()
    runs: Path = Path("runs")


def default_preset(which: str) -> str:
    """The budget of a table's trainings unless told."""
    return _spec(which).budget or DEFAULT_PRESET


def _spec(which: str) -> TableSpec:
    """The declaration of a table; ablations are those of Table 1."""
    return tables()[ABLATED if which == "ablations" else which]


def plan(request: TableRequest) -> None:
    """Print the trainings, their state and their cost; writes and trains nothing.

    Raises:
        UserError: for overrides that are refused, or a run record that contradicts them.
    """
    jobs, out = jobs_of(request), console()
    workers, threads = resources(jobs, request.workers)
    with console(stderr=True).status("measuring training steps …"):
        estimates = estimate(jobs, workers, threads)
    for line in plan_lines(request.which, jobs, estimates, workers):
        say(out, line)


def run(request: TableRequest) -> Outcome:
    """Train what is missing, with one view of all; failures are listed at the end.

    Raises:
        UserError: for overrides that are refused, data that cannot be had, or a run record that contradicts them;
            nothing was started then.
        Interrupted: when a signal ends it; the same request resumes.
    """
    jobs, screen = jobs_of(request), console(stderr=True)
    if (reason := obstacle_of(request.which, jobs)) is not None:
        raise UserError(reason)
    workers, threads = resources(jobs, request.workers)
    todo = [job for job in jobs if job.state != "finished"]
    for job in todo:
        RunFolder(job.folder).require_writable()
    with screen.status("measuring training steps …"):
        estimates = estimate(todo, workers, threads, always=False)
    clock = Clock(todo, estimates, workers)
    for line in (opening(request.which, jobs, todo, clock.seconds({}), workers), *trouble(estimates)):
        say(screen, line)
    if not todo:
        return Outcome([job.result for job in jobs])
    group = any(text.startswith("logger.group=") for text in request.overrides)
    launcher = LocalLauncher(threads, () if group else (f"logger.group={_group(request.which)}",))
    outcome = run_jobs(jobs, launcher, workers, view(screen, todo, clock))
    for line in failures(outcome.failed, len(todo)):
        say(screen, line)
    return outcome


# --- which trainings --------------------------------------------------------------------------------------------------


def jobs_of(request: TableRequest) -> list[Job]:
    """All trainings of a table, finished ones included: data set by data set (target by target), seed by seed.

    Raises:
        UserError: for overrides that are refused, or a run record that contradicts them.
    """
    preset, seeds = _checked(request)
    experiment = _spec(request.which).experiment
    chosen, others = _split(request.which, request.overrides)
    runs = () if request.runs == Path("runs") else (override("runs", request.runs),)
    jobs: dict[Path, Job] = {}
    for group in _groups(request.which, chosen):
        composed = [
            _composed((f"experiment={experiment}", *system, f"preset={preset}", *others, *runs)) for system in group
        ]
        for seed in seeds:
            for overrides, config in composed:
                if config.model.name in _WITHOUT_SEEDS and seed != seeds[0]:
                    continue
                job = job_of((*overrides, f"seed={seed}"), replace(config, seed=seed))
                jobs.setdefault(job.folder, job)
    _require_same_data(list(jobs.values()))
    return list(jobs.values())


def _groups(which: str, chosen: Mapping[str, Sequence[str]]) -> Iterator[list[tuple[str, ...]]]:
    """The systems of a table as the overrides that tell them apart, those of one data set (one target) together."""
    systems = list(_systems(which))
    models = list(dict.fromkeys(system[0].partition("=")[2] for system in systems))
    wanted = _known(chosen.get("model", models), models, f"table {which}: model")
    systems = [system for system in systems if system[0].partition("=")[2] in wanted]
    spec = _spec(which)
    if spec.choice:
        columns = list(load_published(spec.published).columns)
        for column in _known(chosen.get(spec.choice, columns), columns, f"table {which}: {spec.choice}"):
            yield [(system[0], f"{spec.choice}={column}", *system[1:]) for system in systems]
        return
    if spec.budget:
        _known(chosen.get("data.preset", ()), (str(spec.data),), f"table {which}: data.preset")
    presets: Sequence[str | None] = chosen.get("data.preset") or [spec.data if spec.budget else None]
    for preset in presets:
        yield [(*system, *([] if preset is None else [f"data.preset={preset}"])) for system in systems]


def _systems(which: str) -> Iterator[tuple[str, ...]]:
    """Model first, then what else makes it this system: those of the published table that are models here."""
    if which == "ablations":
        yield from ABLATIONS
        return
    for entry in load_published(_spec(which).published).models.values():
        if entry.model is not None:
            yield (f"model={entry.model}", *(["task.height=true"] if entry.height else []))


def _checked(request: TableRequest) -> tuple[str, tuple[int, ...]]:
    require_name(request.which)
    if request.which != "ablations" and not _spec(request.which).published:
        one = f"se3t train experiment={_spec(request.which).experiment} model=…"
        raise UserError(f"table {request.which}: names no systems to train; train each of them: {one}")
    preset = request.preset or default_preset(request.which)
    require_preset(preset, request.which, is_run=True)
    return preset, tuple(dict.fromkeys(request.seeds)) or (DEFAULT_SEEDS[:1] if preset == "smoke" else DEFAULT_SEEDS)


def _split(which: str, overrides: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """What chooses among the trainings of a table, by key, and the settings that all of them get."""
    chosen: dict[str, list[str]] = {}
    others: list[str] = []
    for setting in overrides:
        key, _, value = setting.lstrip("+").partition("=")
        if key in _OTHERWISE:
            raise UserError(f"{setting}: {_OTHERWISE[key]}")
        if key in ("model", "task", "data.preset"):
            chosen[key] = _choice(which, setting, key, value)
        elif re.fullmatch(r"[^\[\]{}()'\"]*,[^\[\]{}()'\"]*", value):
            raise UserError(f"{setting}: several values; give one for all trainings, or a list as {key}=[{value}]")
        else:
            others.append(setting)
    return chosen, others


def _choice(which: str, setting: str, key: str, value: str) -> list[str]:
    """The values of a setting that chooses among the trainings of a table."""
    spec = _spec(which)
    keys = ["model", *filter(None, [spec.choice or ("data.preset" if spec.data else "")])]
    if key not in keys:
        known = " or ".join(f"{name}=…" for name in keys)
        raise UserError(f"table {which}: {setting}: this setting is fixed; leave it out, or choose by {known}")
    values = [one for one in value.split(",") if one]
    if not values:
        raise UserError(f"table {which}: {setting}: is empty; expected one or more values with commas between them")
    return values


def _known(wanted: Sequence[str], known: Sequence[str], what: str) -> list[str]:
    for word in wanted:
        if word not in known:
            raise UserError(f"{what}={word}: is not part of the table; {did_you_mean(word, known)}")
    return list(wanted)


def _composed(overrides: tuple[str, ...]) -> tuple[tuple[str, ...], Config]:
    """The overrides with their configuration; an error names the system."""
    try:
        return overrides, to_config(compose("train", overrides))
    except UserError as error:
        raise UserError(f"{overrides[1]}: {error}") from error


def _require_same_data(jobs: Sequence[Job]) -> None:
    """Refuse finished runs on data that have changed since."""
    checksums: dict[Path, str | None] = {}
    for job in jobs:
        if job.state == "finished":
            if job.store not in checksums:
                checksums[job.store] = dataset(job.config.data.name).recorded_checksum(job.config.data)
            require_same_data(RunFolder(job.folder), read_json(job.result), checksums[job.store])


def _group(which: str) -> str:
    return f"table{which}" if which.isdigit() else which
