"""Many jobs on a few workers: nothing finished is repeated, failures stop nothing, whatever kills it."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from tests.suite.parts import Diary, StubLauncher, make_job, prepare_slowly, with_data

from se3t.errors import BusyError
from se3t.signals import Interrupted
from se3t.suite import pool
from se3t.suite.jobs import Job
from se3t.suite.launch import LocalHandle, LocalLauncher, spawn
from se3t.suite.pool import Outcome, Pool, Watch, run_jobs

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "POLL_SECONDS", 0.01)


def names(failed: Sequence[pool.Ended]) -> list[int]:
    return [failure.job.config.seed for failure in failed]


def test_nothing_finished_is_repeated(tmp_path: Path) -> None:
    jobs, trace = with_data(*(make_job(tmp_path, seed) for seed in range(3))), tmp_path / "trace"
    first = run_jobs(jobs[:2], StubLauncher(trace), workers=2)
    before = trace.read_text()
    second = run_jobs(jobs, StubLauncher(trace), workers=2)
    assert first.finished == [job.result for job in jobs[:2]]
    assert second.finished == [job.result for job in jobs]
    assert trace.read_text().removeprefix(before).split("\n")[0] == f"{jobs[2].folder.name} from 0"
    assert trace.read_text().count("finished") == 3


def test_a_failure_is_told_with_reason_and_log_and_stops_no_other(tmp_path: Path) -> None:
    jobs = with_data(make_job(tmp_path, 0), make_job(tmp_path, 1, lr=2.0), make_job(tmp_path, 2))
    diary = Diary()
    outcome = run_jobs(jobs, StubLauncher(tmp_path / "trace"), workers=1, watch=diary)
    assert outcome.finished == [jobs[0].result, jobs[2].result]
    (failure,) = outcome.failed
    assert (failure.job, failure.reason) == (jobs[1], "the training loss became nan in step 1; lower optim.lr")
    assert failure.log == tmp_path / "runs" / "logs" / f"nbody-deepset-{jobs[1].folder.name}.log"
    assert failure.log.read_text().startswith("--- ")
    assert diary.lines == ["started 0", "finished 0", "started 1", "failed 1", "started 2", "finished 2"]


def test_a_job_given_twice_runs_once(tmp_path: Path) -> None:
    jobs = with_data(make_job(tmp_path), make_job(tmp_path))
    assert run_jobs(jobs, StubLauncher(tmp_path / "trace"), workers=2).finished == [jobs[0].result]
    assert (tmp_path / "trace").read_text().count("from 0") == 1


def test_a_signal_is_named_as_the_reason(tmp_path: Path) -> None:
    class Killed(StubLauncher):
        def start(self, job: Job, log: Path) -> LocalHandle:
            code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
            return spawn([sys.executable, "-c", code], log, {}, "killed")

    (failure,) = run_jobs(with_data(make_job(tmp_path)), Killed(tmp_path / "trace")).failed
    assert failure.reason == "ended by SIGKILL, perhaps out of memory"


def test_a_failure_without_a_log_or_a_name_of_its_signal_has_a_reason_still(tmp_path: Path) -> None:
    assert (
        pool.ending(tmp_path / "log", 0, 1) == "exit status 1, and its log cannot be read (No such file or directory)"
    )
    assert pool.ending(tmp_path / "log", 0, -40) == "ended by signal 40"
    assert pool.ending(tmp_path / "log", 0, -signal.SIGTERM) == "ended by SIGTERM"
    assert pool.ending(tmp_path / "log", 0, 128 + signal.SIGTERM) == "ended by SIGTERM"


# --- data that jobs share ---------------------------------------------------------------------------------------------


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """Preparations as they were asked for; that of data_seed 1 fails."""
    asked: list[list[str]] = []

    def start(words: Sequence[str], log: Path) -> LocalHandle:
        asked.append(list(words))
        if "data.data_seed=1" in words:
            return spawn([sys.executable, "-c", "print('se3t: no space left'); exit(1)"], log, {}, "prepare")
        return prepare_slowly(make_job(tmp_path).store, tmp_path / "trace", 0.2, log)

    monkeypatch.setattr(pool, "start_process", start)
    return asked


def test_data_are_prepared_once_and_first(tmp_path: Path, prepared: list[list[str]]) -> None:
    diary = Diary()
    jobs = [make_job(tmp_path, seed) for seed in range(4)]
    outcome = run_jobs(jobs, StubLauncher(tmp_path / "trace"), workers=4, watch=diary)
    assert len(outcome.finished) == 4
    assert diary.lines[:2] == ["preparing", "started 0"]
    ((command, *words),) = prepared
    assert (command, words[:2], words[-1]) == ("data", ["prepare", "nbody"], "trainer.progress=false")


def test_jobs_whose_data_cannot_be_prepared_fail_and_the_others_run(tmp_path: Path, prepared: list[list[str]]) -> None:
    jobs = [make_job(tmp_path, 0, data_seed=1), make_job(tmp_path, 1, data_seed=1), make_job(tmp_path, 2)]
    outcome = run_jobs(jobs, StubLauncher(tmp_path / "trace"), workers=2)
    assert (names(outcome.failed), len(outcome.finished)) == ([0, 1], 1)
    assert {failure.reason for failure in outcome.failed} == {"its data cannot be prepared: no space left"}
    assert outcome.failed[0].log.name.startswith("data-nbody-")
    assert len(prepared) == 2


# --- other processes, interruptions -----------------------------------------------------------------------------------


def test_a_run_that_another_process_trains_is_waited_for(tmp_path: Path) -> None:
    jobs, diary = with_data(make_job(tmp_path, 0), make_job(tmp_path, 1)), Diary()
    jobs[0].folder.mkdir(parents=True)
    lock = (jobs[0].folder / ".lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    queue = Pool(StubLauncher(tmp_path / "trace"), 2, diary)
    for job in jobs:
        queue.submit(job)
    while jobs[1].state != "finished":
        assert [ended for ended in queue.step() if ended.job == jobs[0]] == []
        time.sleep(0.01)
    lock.close()
    while not queue.is_idle:
        queue.step()
        time.sleep(0.01)
    assert diary.lines[:2] == ["blocked 0", "started 1"]
    assert sorted(diary.lines[2:]) == ["finished 0", "finished 1", "started 0"]


@pytest.mark.parametrize(("status", "is_tried_again"), [(BusyError.status, True), (2, False)])
def test_a_run_that_another_process_took_before_the_start_is_tried_again_by_its_exit_status_alone(
    tmp_path: Path, status: int, is_tried_again: bool
) -> None:
    class Overtaken(StubLauncher):
        def start(self, job: Job, log: Path) -> LocalHandle:
            if self.handles:
                return super().start(job, log)
            said = "" if is_tried_again else "print('se3t: another process is training this run'); "
            self.handles.append(spawn([sys.executable, "-c", f"{said}exit({status})"], log, {}, "overtaken"))
            return self.handles[-1]

    (job,) = with_data(make_job(tmp_path))
    launcher, diary = Overtaken(tmp_path / "trace"), Diary()
    outcome = run_jobs([job], launcher, watch=diary)
    assert (outcome.finished == [job.result], len(launcher.handles)) == (is_tried_again, 1 + is_tried_again)
    assert diary.lines == (["started 0", "started 0", "finished 0"] if is_tried_again else ["started 0", "failed 0"])


def test_a_signal_stops_all_that_runs_and_says_how_to_resume(tmp_path: Path) -> None:
    class Impatient(Watch):
        def tick(self, running: Sequence[Job]) -> None:
            if all(job.saved_step for job in running) and len(running) == 2:
                os.kill(os.getpid(), signal.SIGTERM)

    launcher = StubLauncher(tmp_path / "trace", 0.1)
    jobs = with_data(*(make_job(tmp_path, seed, max_steps=1000) for seed in range(3)))
    with pytest.raises(Interrupted, match=r"^ended by SIGTERM; rerun the command to resume"):
        run_jobs(jobs, launcher, workers=2, watch=Impatient())
    assert [handle.poll() is not None for handle in launcher.handles] == [True, True]
    assert [job.state for job in jobs] == ["interrupted", "interrupted", "new"]


def test_one_job_can_be_stopped(tmp_path: Path) -> None:
    launcher, diary = StubLauncher(tmp_path / "trace", 0.05), Diary()
    slow, quick = with_data(make_job(tmp_path, 0, max_steps=1000), make_job(tmp_path, 1, max_steps=1))
    queue = Pool(launcher, 2, diary)
    queue.submit(slow)
    queue.submit(quick)
    while slow.saved_step == 0:
        queue.step()
        time.sleep(0.01)
    queue.stop(slow)
    while not queue.is_idle:
        queue.step()
        time.sleep(0.01)
    assert "stopped 0" in diary.lines
    assert "finished 1" in diary.lines
    assert launcher.handles[0].poll() is not None


def run_until(folder: Path, seconds: float | None, number: int = 0) -> int:
    """Six jobs in a process of their own, killed that long after their data began to be prepared; its exit status."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.suite import parts; parts.main({str(folder)!r})"
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    if seconds is not None:
        while not (folder / "trace").exists():
            time.sleep(0.01)
        time.sleep(seconds)
        os.killpg(process.pid, number)
    return process.wait(60)


def test_killed_at_any_moment_it_goes_on_repeats_nothing_finished_and_ends_the_same(tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    killed.mkdir()
    whole.mkdir()
    assert run_until(whole, None) == 0
    for seconds, number in ((0.1, signal.SIGKILL), (0.45, signal.SIGKILL), (0.3, signal.SIGTERM)):
        assert run_until(killed, seconds, number) != 0
        before = results(killed)
    assert run_until(killed, None) == 0
    assert len(before) < 6
    assert results(killed) == results(whole)
    assert len(results(whole)) == 6
    lines = (killed / "trace").read_text().splitlines()
    assert sum(line.endswith("finished") for line in lines) == 6
    after = {name: lines[lines.index(f"{name} finished") + 1 :] for name in results(killed)}
    assert not [line for name, rest in after.items() for line in rest if line.startswith(name)]


def results(folder: Path) -> dict[str, str]:
    found = folder.glob("runs/**/result.json")
    return {path.parent.name: json.loads(path.read_text())["value"] for path in found}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no signal for the death of a parent")
def test_a_job_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from se3t.suite.launch import spawn; "
        "child = 'from se3t.cli.child import end_with_parent; end_with_parent(); import time; print(1, flush=True); "
        "time.sleep(60)'; handle = spawn([sys.executable, '-c', child], Path(sys.argv[1]), {}, 'child'); "
        "print(handle.process.pid, flush=True); time.sleep(60)"
    )
    log = tmp_path / "log"
    parent = subprocess.Popen([sys.executable, "-c", code, str(log)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    while not log.exists() or not log.read_text().endswith("1\n"):
        time.sleep(0.01)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 5
    while Path(f"/proc/{child}").exists() and state_of(child) != "Z" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not Path(f"/proc/{child}").exists() or state_of(child) == "Z"


def state_of(process: int) -> str:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def test_a_local_job_is_its_line_with_the_words_of_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[list[str], dict[str, str]]] = []

    def start(words: Sequence[str], log: Path, environment: Mapping[str, str]) -> LocalHandle:
        asked.append((list(words), dict(environment)))
        return spawn([sys.executable, "-c", ""], log, {}, "nothing")

    monkeypatch.setattr("se3t.suite.launch.start_process", start)
    launcher = LocalLauncher(threads=1, overrides=["logger.group=table1"])
    launcher.start(make_job(tmp_path, 3), tmp_path / "log").stop()
    launcher.start(make_job(tmp_path, 3, threads=2), tmp_path / "log").stop()
    (words, environment), (_, other) = asked
    own = ["train", "model=deepset", "seed=3", "logger.group=table1", "trainer.threads=1"]
    assert words == [*own, "resume=true", "trainer.progress=false"]
    assert environment == {"OMP_NUM_THREADS": "1"}
    assert other == {"OMP_NUM_THREADS": "2"}


def test_an_outcome_of_nothing_is_empty() -> None:
    assert run_jobs([]) == Outcome()
