"""Jobs whose trainings are processes that learn nothing (``stub.py``)."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from se3t.config import Config, DeepSetModel, NBodyData, OptimConfig, TrainerConfig, to_config
from se3t.config.compose import compose
from se3t.suite.jobs import Job, job_of
from se3t.suite.launch import LocalHandle, spawn
from se3t.suite.pool import Ended, Watch, run_jobs


def job(words: Sequence[str]) -> Job:
    """The job of the words behind ``se3t train``."""
    return job_of(words, to_config(compose("train", words)))


STUB = Path(__file__).with_name("stub.py")


def make_job(
    folder: Path, seed: int = 0, *, max_steps: int = 4, lr: float = 1e-3, data_seed: int = 0, **trainer: Any
) -> Job:
    config = Config(
        runs=str(folder / "runs"),
        seed=seed,
        model=DeepSetModel(),
        data=NBodyData(root=str(folder / "data"), num_train=8, num_valid=8, num_test=8, data_seed=data_seed),
        optim=OptimConfig(lr=lr),
        trainer=TrainerConfig(max_steps=max_steps, batch_size=4, eval_every=1, checkpoint_every=1, **trainer),
    )
    return job_of(["model=deepset", f"seed={seed}"], config)


def with_data(*jobs: Job) -> list[Job]:
    for job in jobs:
        job.store.parent.mkdir(parents=True, exist_ok=True)
        job.store.touch()
    return list(jobs)


class StubLauncher:
    """Starts ``stub.py``."""

    def __init__(self, trace: Path, seconds: float = 0.0) -> None:
        self.trace, self.seconds = trace, seconds
        self.handles: list[LocalHandle] = []

    def start(self, job: Job, log: Path) -> LocalHandle:
        settings = json.dumps(asdict(job.config))
        arguments = [sys.executable, str(STUB), str(job.folder), settings, str(self.seconds), str(self.trace)]
        self.handles.append(spawn(arguments, log, {}, job.command))
        return self.handles[-1]


class Diary(Watch):
    """Keeps what it is told, in words."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def preparing(self, store: Path) -> None:
        self.lines.append("preparing")

    def started(self, job: Job) -> None:
        self.lines.append(f"started {job.config.seed}")

    def blocked(self, job: Job) -> None:
        self.lines.append(f"blocked {job.config.seed}")

    def ended(self, ended: Ended) -> None:
        self.lines.append(f"{ended.status} {ended.job.config.seed}")


def prepare_slowly(store: Path, trace: Path, seconds: float, log: Path) -> LocalHandle:
    """A preparation that takes a while, and leaves the store whole or not at all."""
    code = (
        "import sys, time, os; from pathlib import Path; "
        "from se3t.cli.child import end_with_parent; end_with_parent(); "
        "store, trace = Path(sys.argv[1]), Path(sys.argv[2]); store.parent.mkdir(parents=True, exist_ok=True); "
        "trace.open('a').write('prepare\\n'); time.sleep(float(sys.argv[3])); "
        "part = store.with_suffix(f'.{os.getpid()}'); part.touch(); os.replace(part, store)"
    )
    return spawn([sys.executable, "-c", code, str(store), str(trace), str(seconds)], log, {}, "prepare")


def main(folder: str) -> None:
    """Run six jobs on two workers, their data first: what a process does that tests kill."""
    from se3t.suite import pool

    jobs = [make_job(Path(folder), seed, max_steps=5) for seed in range(6)]
    trace = Path(folder) / "trace"
    pool.start_process = lambda words, log: prepare_slowly(jobs[0].store, trace, 0.3, log)
    with suppress(KeyboardInterrupt):
        outcome = run_jobs(jobs, StubLauncher(trace, 0.03), workers=2)
        assert not outcome.failed, outcome.failed
        sys.exit(0)
    sys.exit(130)
