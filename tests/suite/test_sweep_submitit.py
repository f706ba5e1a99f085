"""Trainings through submitit: on this machine, and on a SLURM of four shell scripts."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from tests.suite.parts import job

from se3t.errors import UserError
from se3t.runs import RunFolder, read_json
from se3t.runs.names import PROVENANCE
from se3t.suite.jobs import Job
from se3t.suite.pool import run_jobs
from se3t.suite.submitit_launcher import SubmititHandle, SubmititLauncher, Training, parameters

pytest.importorskip("submitit")

WORDS = ("experiment=nbody", "model=deepset", "preset=smoke")
SETTINGS = {"partition": "gpu", "time": "1-12:00:00", "gpus": "1", "cpus": "6", "memory": "16GB"}

SCRIPTS = {
    "sbatch": """
echo "$@" >> "$SLURM_OF_TESTS/submitted"
export SLURM_JOB_ID=$((100 + $(wc -l < "$SLURM_OF_TESTS/submitted")))
export SLURM_NTASKS=1 SLURM_JOB_NUM_NODES=1 SLURM_NODEID=0 SLURM_PROCID=0 SLURM_LOCALID=0
cp "$1" "$SLURM_OF_TESTS/$SLURM_JOB_ID.sh" # as sbatch does: the file may go at once
if [ ! -e "$SLURM_OF_TESTS/queue" ]; then setsid bash "$SLURM_OF_TESTS/$SLURM_JOB_ID.sh" > /dev/null 2>&1 & fi
echo "Submitted batch job $SLURM_JOB_ID"
""",
    "srun": """
while [[ "$1" == --* ]]; do [ "$1" = --unbuffered ] && shift || shift 2; done
exec "$@"
""",
    "sacct": """
echo "JobID|State|NodeList"
for id in 101 102; do echo "$id|$(cat "$SLURM_OF_TESTS/state")|node"; done
""",
    "scancel": 'echo "$@" >> "$SLURM_OF_TESTS/cancelled"; echo "CANCELLED by 0" > "$SLURM_OF_TESTS/state"',
}


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what a cluster would know, and its commands on the path."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name, text in SCRIPTS.items():
        (folder / name).write_text(f"#!/bin/bash\n{text}")
        (folder / name).chmod(0o755)
    (folder / "state").write_text("RUNNING")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_OF_TESTS", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


class Short(SubmititLauncher):
    """Its jobs run ``se3t --version``, which loads no torch."""

    def _training(self, job: Job, log: Path) -> Training:
        training = super()._training(job, log)
        training.arguments = ("--version",)
        training.result = str(Path.cwd())  # there already
        return training


def script(launcher: SubmititLauncher, job: Job) -> str:
    """What is given to sbatch."""
    executor = launcher._executor(launcher.folder, job)
    return str(executor._make_submission_file_text(executor._submitit_command_str, "script"))


def wait(handle: SubmititHandle, seconds: float = 60) -> int:
    deadline = time.monotonic() + seconds
    while (status := handle.poll()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return status


def test_the_script_for_sbatch_says_what_was_asked_for(slurm: Path) -> None:
    launcher = SubmititLauncher(Path("jobs"), "slurm", SETTINGS, "se3t-lr-1a2b3c4d", ("logger.group=lr-1a2b3c4d",))
    lines = script(launcher, job([*WORDS, "seed=7"])).splitlines()
    for line in (
        "#SBATCH --partition=gpu",
        "#SBATCH --time=2160",
        "#SBATCH --gpus-per-node=1",
        "#SBATCH --cpus-per-task=6",
        "#SBATCH --mem=16G",
        "#SBATCH --job-name=se3t-lr-1a2b3c4d",
        "#SBATCH --requeue",
        "# se3t train experiment=nbody model=deepset preset=smoke seed=7",
    ):
        assert line in lines
    assert any(line.startswith("#SBATCH --signal=USR2@") for line in lines)
    (command,) = [line for line in lines if line.startswith("srun")]
    assert f"{sys.executable} -u -m submitit.core._submit {Path('jobs').absolute()}" in command


def test_what_a_job_does_is_the_line_of_a_training_that_can_go_on(slurm: Path) -> None:
    launcher = SubmititLauncher(Path("jobs"), "slurm", SETTINGS, overrides=("logger.group=g",))
    training = launcher._training(job(WORDS), Path("a.log"))
    assert training.arguments == (
        "train",
        *WORDS,
        "logger.group=g",
        "trainer.threads=6",
        "resume=true",
        "trainer.progress=false",
    )
    assert training.environment == {"OMP_NUM_THREADS": "6"}
    again = training.checkpoint()
    assert (again.function.arguments, again.function.folder) == (training.arguments, training.folder)


@pytest.mark.e2e
def test_a_job_of_slurm_runs_and_its_status_comes_back(slurm: Path) -> None:
    launcher = Short(Path("jobs"), "slurm", SETTINGS)
    handle = launcher.start(job(WORDS), Path("logs/a.log"))
    assert wait(handle) == 0
    assert "se3t 0." in Path("logs/a.log").read_text()
    (script,) = Path("jobs").rglob("*_submission.sh")
    assert "#SBATCH --partition=gpu" in script.read_text()


def test_a_job_that_is_still_in_the_queue_is_not_submitted_again(slurm: Path) -> None:
    (slurm / "queue").touch()
    (slurm / "state").write_text("PENDING")
    first = Short(Path("jobs"), "slurm", SETTINGS).start(job(WORDS), Path("a.log"))
    again = Short(Path("jobs"), "slurm", SETTINGS).start(job(WORDS), Path("a.log"))
    assert first.job.job_id == again.job.job_id == "101"
    assert len((slurm / "submitted").read_text().splitlines()) == 1
    assert again.poll() is None
    again.stop()
    assert (slurm / "cancelled").read_text() == "101\n"
    other = Short(Path("jobs"), "slurm", SETTINGS).start(job(WORDS), Path("a.log"))
    assert other.job.job_id == "102"


def test_a_job_that_ends_without_a_word_is_a_failure_with_a_reason(
    slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import submitit

    monkeypatch.setattr(submitit.SlurmJob, "_results_timeout_s", 0)
    (slurm / "queue").touch()
    handle = Short(Path("jobs"), "slurm", SETTINGS).start(job(WORDS), Path("a.log"))
    (slurm / "state").write_text("NODE_FAIL")
    handle.job.done(force_check=True)
    assert wait(handle) == 1
    assert "se3t: job 101 has ended without a result" in Path("a.log").read_text()


@pytest.mark.e2e
def test_a_job_runs_in_a_process_of_submitit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    handle = Short(Path("jobs"), "local", {"cpus": "1"}).start(job(WORDS), Path("logs/a.log"))
    assert wait(handle) == 0
    assert "se3t 0." in Path("logs/a.log").read_text()
    handle.stop()


@pytest.mark.e2e
@pytest.mark.slow
def test_a_training_runs_in_a_process_of_submitit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = run_jobs(
        [job(WORDS)], SubmititLauncher(Path("jobs"), "local", {"cpus": "1"}, overrides=("logger.group=g",))
    )
    assert outcome.failed == []
    (result,) = outcome.finished
    content = read_json(result)
    assert content["status"] == "finished"
    assert content["config"]["logger"]["group"] == "g"
    assert content["command"].startswith("se3t train experiment=nbody")


@pytest.mark.e2e
@pytest.mark.slow
def test_a_training_that_is_stopped_ends_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    one = job([*WORDS, "trainer.max_steps=100000", "trainer.checkpoint_every=20"])
    handle = SubmititLauncher(Path("jobs"), "local", {"cpus": "1"}).start(one, Path("a.log"))
    while one.saved_step < 20:
        time.sleep(0.1)
        assert handle.poll() is None
    handle.stop()
    assert handle.poll() == -signal.SIGTERM
    RunFolder(one.folder).require_free()  # nobody trains on
    assert capfd.readouterr().err == ""


@pytest.mark.e2e
@pytest.mark.slow
def test_a_job_that_is_preempted_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = [*WORDS, "trainer.max_steps=3000", "trainer.eval_every=500", "trainer.checkpoint_every=20"]
    one = job(words)
    handle = SubmititLauncher(Path("jobs"), "local", {"cpus": "1"}).start(one, Path("a.log"))
    while one.saved_step < 100:
        time.sleep(0.1)
        assert handle.poll() is None
    controller = handle.job.job_id
    (task,) = Path(f"/proc/{controller}/task/{controller}/children").read_text().split()
    os.kill(int(task), signal.SIGUSR2)
    assert wait(handle, 300) == 0
    sessions = json.loads((one.folder / PROVENANCE).read_text())["sessions"]
    assert len(sessions) == 2
    assert sessions[1]["resumed_from_step"] >= 100
    assert one.state == "finished"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"partiton": "gpu"}, "slurm.partiton: no such setting; did you mean 'partition'?"),
        ({"time": "soon"}, "slurm.time=soon: expected minutes, H:MM:SS or D-HH:MM:SS"),
        ({"gpus": "0"}, "slurm.gpus=0: expected a whole number"),
        ({"memory": "much"}, "slurm.memory=much: expected a size such as 16G"),
        ({"account": ""}, "slurm.account: is empty; expected a name"),
    ],
)
def test_settings_that_are_wrong_are_refused_in_one_sentence(settings: dict[str, str], named: str) -> None:
    with pytest.raises(UserError) as error:
        parameters(settings)
    assert named in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("90", 90), ("1:30:00", 90), ("0:00:30", 1), ("2-0", 2880), ("1-12:00:00", 2160), ("30:00", 30)],
)
def test_times_are_read_as_sbatch_reads_them(text: str, minutes: int) -> None:
    assert parameters({"time": text}) == {"time": minutes}


def test_without_slurm_or_submitit_the_way_out_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="srun is not available here"):
        SubmititLauncher(tmp_path, "slurm", {})
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError, match=r"pip install 'se3t\[slurm\]'"):
        SubmititLauncher(tmp_path, "local", {})
