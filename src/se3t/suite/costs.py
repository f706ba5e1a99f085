"""How long trainings will take: from run records of a machine like this one if there are any, else measured now.
Imports no torch.
"""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, TypeAlias

from se3t.config import Config
from se3t.data.molecules.parallel import available_cores
from se3t.errors import UserError
from se3t.experiments import dataset
from se3t.runs import RunFolder, read_json
from se3t.runs.files import read_config
from se3t.runs.names import CONFIG, METRICS, PROVENANCE, RESULT
from se3t.suite.jobs import Job
from se3t.suite.pool import ended_by

Source: TypeAlias = Literal["records", "measured"]

MEASURE_SECONDS = 1.0
"""For training steps of each kind of training that is measured."""
WORTH_MEASURING = 50
"""Shorter trainings take as long as a measurement, or as the start of a process."""
_START_OF_DATA = 0.6  # of the start of a training: no Lightning is loaded
_COMMAND = [sys.executable, "-m", "se3t.suite.probe"]
_LEAST_STEPS = 50  # of a record: shorter ones have measured how a process warms up


@dataclass(frozen=True)
class Cost:
    """Seconds of one training step and of measuring one sample, where the numbers come from, and the rest of a
    training: slower first steps, writing files.
    """

    step: float
    sample: float
    source: Source
    besides: float = 0.0


@dataclass(frozen=True)
class Estimates:
    """What trainings cost.

    Attributes:
        costs: by kind of training; missing kinds are unknown.
        startup: seconds from the start of a process to its first step; 0 where nothing was measured.
        threads: of torch in every training.
        trouble: why some kinds could not be measured.
        preparation: of data that are simulated or made here, by their file.
    """

    costs: Mapping[str, Cost]
    startup: float
    threads: int | None
    trouble: str = ""
    preparation: Mapping[Path, float] = field(default_factory=dict)

    def preparing(self) -> list[float]:
        """Seconds of each preparation of data that is still to be done."""
        return [seconds for store, seconds in self.preparation.items() if not store.exists()]

    def last_step(self, job: Job, pace: float | None = None) -> int:
        """The step that ends a job; where ``trainer.max_time`` will, by estimate.

        Args:
            job: any.
            pace: seconds of a step where no cost is known.
        """
        cost = self.costs.get(kind(job.config))
        step = pace if cost is None else cost.step
        limit = job.config.trainer.max_seconds
        return job.steps if not step or math.isinf(limit) else min(job.steps, max(1, int(limit / step)))

    def seconds(self, job: Job) -> float | None:
        """Seconds that are left of a job, its start included; None where not known."""
        if job.state == "finished":
            return 0.0
        cost = self.costs.get(kind(job.config))
        if cost is None:
            return self.startup if job.steps <= WORTH_MEASURING and self.startup else None
        sizes, done, every = job.data.split_sizes(job.config.data), job.saved_step, job.config.trainer.eval_every
        last = max(self.last_step(job), done)
        evaluations = last // every - done // every + (last < job.steps)  # one more at the end that time sets
        samples = evaluations * sizes.get("valid", 0) + sizes.get("test", 0)
        return self.startup + cost.besides + (last - done) * cost.step + samples * cost.sample


def estimate(jobs: Sequence[Job], workers: int, threads: int | None, *, always: bool = True) -> Estimates:
    """What the jobs that are not finished cost here.

    Args:
        jobs: any number.
        workers: how many run at a time; times are measured with as many processes.
        threads: of torch in each.
        always: measure the start of a process even where nothing else is to be measured.
    """
    todo = [job for job in jobs if job.state != "finished"]
    wanted = {kind(job.config): job for job in todo}
    known = {kind(job.config): cost for job in wanted.values() if (cost := recorded(job, threads)) is not None}
    long = [job for job in todo if job.steps > WORTH_MEASURING]
    missing = {key: wanted[key].config for key in dict.fromkeys(kind(job.config) for job in long) if key not in known}
    if not missing and not (always and todo):
        return Estimates(known, 0.0, threads)
    stores = {job.store: job.config for job in todo if job.data.make_few is not None and not job.store.exists()}
    startup, measured, made, trouble = _measured(list(missing.values()), list(stores.values()), workers, threads)
    new = {key: cost for key, cost in zip(missing, measured, strict=True) if cost is not None}
    preparation = {store: _START_OF_DATA * startup + one for store, one in zip(stores, made, strict=False)}
    return Estimates({**known, **new}, startup, threads, trouble, preparation)


def makespan(seconds: Sequence[float], workers: int) -> float:
    """Seconds until all are done, when each free worker takes the next one."""
    busy = [0.0] * workers
    for one in seconds:
        busy[busy.index(min(busy))] += one
    return max(busy)


def has_gpu() -> bool:
    """Whether torch finds a GPU here."""
    if sys.platform == "linux" and not any(Path("/dev", name).exists() for name in ("nvidiactl", "kfd", "dxg")):
        return False  # without waiting for torch
    import torch

    return torch.cuda.is_available()


def kind(config: Config) -> str:
    """All settings that the time of a step depends on, as a text: trainings with the same text take the same time."""
    return _kind(asdict(config))


def _kind(settings: Mapping[str, Any]) -> str:
    data = SimpleNamespace(**settings["data"])
    shape = dataset(data.name).cost_settings(data)
    task = {name: value for name, value in settings["task"].items() if name not in _IRRELEVANT_OF_TASK}
    trainer = {name: settings["trainer"][name] for name in _RELEVANT_OF_TRAINER}
    parts = [settings["experiment"], settings["model"], task, trainer, shape, settings["optim"]["clip_norm"] is None]
    return json.dumps(parts, sort_keys=True)


_IRRELEVANT_OF_TASK = ("target", "column", "test_rotation")
_RELEVANT_OF_TRAINER = ("batch_size", "devices", "accelerator", "precision", "cuda_graph", "num_equivariance_samples")


# --- how many at a time -----------------------------------------------------------------------------------------------


def resources(jobs: Sequence[Job], wanted: int | None) -> tuple[int, int | None]:
    """Trainings at a time, and torch's threads in each, None on a GPU.

    Both depend on all jobs, not on the remaining ones: a training resumed with another number of threads would
    differ in the last digits.

    Args:
        jobs: all of a table or a sweep.
        wanted: trainings at a time; None: as many as there are cores, one on a GPU.
    """
    cores, devices = available_cores(), max(job.config.trainer.devices for job in jobs)
    if any(job.config.trainer.accelerator != "cpu" for job in jobs) and has_gpu():
        return wanted or 1, None
    workers = min(wanted or max(1, cores // devices), len(jobs))
    given = {job.config.trainer.threads for job in jobs}
    return workers, given.pop() if given != {None} else max(1, cores // workers)


# --- from records -----------------------------------------------------------------------------------------------------


def recorded(job: Job, threads: int | None) -> Cost | None:
    """The cost of runs of the same kind on a machine like this one, interrupted ones included; None without such runs.

    Args:
        job: says where run records lie, and of which kind.
        threads: of torch; runs with another number are skipped. None: any number.
    """
    folder = Path(job.config.runs) / job.config.experiment / job.config.model.name
    costs = [cost for path in folder.glob(f"*/{METRICS}") if (cost := _cost_of(path, job, threads)) is not None]
    if not costs:
        return None
    steps, samples = zip(*costs, strict=True)
    return Cost(statistics.median(steps), statistics.median(samples), "records")


def _cost_of(metrics: Path, job: Job, threads: int | None) -> tuple[float, float] | None:
    """Seconds of a step and of measuring a sample in one run; None where it is not comparable with the job."""
    try:
        settings = _settings_of(metrics.parent)
        if _kind(settings) != kind(job.config) or not _made_on_such_a_machine(
            metrics.with_name(PROVENANCE), job, threads
        ):
            return None
        lines = [line for line in RunFolder(metrics.parent).read_metrics() if line["kind"] == "valid"]
        if job.steps == 0:
            return 0.0, 0.0
        lines = [line for line in lines if not line.get("final", False)]
        if len(lines) < 2 or lines[-1]["step"] < min(_LEAST_STEPS, job.steps):
            return None
        steps = [1 / line["steps_per_second"] for line in lines[1:]]
        data = SimpleNamespace(**settings["data"])
        size = dataset(data.name).split_sizes(data).get("valid") or math.inf
        rests = [_rest(*pair) / size for pair in pairwise(lines)]
    except (UserError, OSError, LookupError, TypeError, AttributeError, ValueError, ZeroDivisionError):
        return None  # a record of another version, or a damaged one, which the commands that report runs name
    return statistics.median(steps), max(0.0, statistics.median(rests))


def _settings_of(folder: Path) -> Mapping[str, Any]:
    if (folder / RESULT).exists():
        settings: Mapping[str, Any] = read_json(folder / RESULT)["config"]
        return settings
    return read_config(folder / CONFIG)


def _rest(before: Mapping[str, Any], now: Mapping[str, Any]) -> float:
    """Seconds between two evaluations that were not spent on training, but on the first of the two."""
    training: float = (now["step"] - before["step"]) / now["steps_per_second"]
    passed: float = now["seconds"] - before["seconds"]
    return passed - training


def _made_on_such_a_machine(provenance: Path, job: Job, threads: int | None) -> bool:
    """Whether a run was made on a machine like this one, on the kind of device that the job will get."""
    session = read_json(provenance)["sessions"][-1]
    here: dict[str, Any] = {"machine": platform.machine(), "system": platform.system(), "cpu_count": os.cpu_count()}
    if job.config.trainer.accelerator != "cpu":  # else both ran on a CPU: the setting is part of the kind
        if "device" not in session:
            return False  # written by a version that did not record it
        here["device"] = "cuda" if has_gpu() else "cpu"
    return all(session[name] == value for name, value in here.items()) and threads in (None, session["torch_threads"])


# --- measured ---------------------------------------------------------------------------------------------------------


def _measured(
    configs: Sequence[Config], data: Sequence[Config], workers: int, threads: int | None
) -> tuple[float, list[Cost | None], list[float], str]:
    """Seconds of a start, and the costs of some trainings, measured by as many processes as will train; None for one
    that fails. Then seconds of the preparation of ``data``, and why a process has failed, or nothing.
    """
    count = max(1, min(workers, len(configs)))
    shares = [list(configs[number::count]) for number in range(count)]
    with ThreadPoolExecutor(count) as pool:
        stores: list[Sequence[Config]] = [data, *[()] * (count - 1)]
        answers = list(pool.map(lambda share, few: _probe(share, few, threads), shares, stores))
    starts = [answer["startup"] for answer in answers if "trouble" not in answer]
    measured = [answers[number % count]["costs"][number // count] for number in range(len(configs))]
    costs = [None if one is None else Cost(source="measured", **one) for one in measured]
    trouble = next((answer["trouble"] for answer in answers if "trouble" in answer), "")
    return statistics.median(starts) if starts else 0.0, costs, answers[0].get("preparation", []), trouble


def _probe(configs: Sequence[Config], data: Sequence[Config], threads: int | None) -> dict[str, Any]:
    """The answer of :mod:`se3t.suite.probe`. A process that fails, for example out of memory, leaves times unknown and
    stops nothing.
    """
    request = {
        "configs": [asdict(config) for config in configs],
        "data": [asdict(config) for config in data],
        "threads": threads,
        "seconds": MEASURE_SECONDS,
        "started": time.time(),
    }
    environment = os.environ | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
    try:
        done = subprocess.run(
            _COMMAND, input=json.dumps(request), capture_output=True, text=True, check=False, env=environment
        )
        if done.returncode == 0:
            answer: dict[str, Any] = json.loads(done.stdout)
            return answer
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        trouble = ended_by(-done.returncode) if done.returncode < 0 else lines[-1]
    except (OSError, ValueError) as error:
        trouble = str(error)
    return {"costs": [None for _ in configs], "trouble": trouble}
