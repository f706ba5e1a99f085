"""The scripts of this repository do what they say, in a small setting."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts"
SE3T = Path(sys.executable).with_name("se3t")

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")


def run(*words: str | Path, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SE3T": str(SE3T), "SE3T_FOLDER": str(folder), "WANDB_MODE": "disabled", **variables}
    return subprocess.run(
        [str(word) for word in words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


# --- reference values -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def golden() -> ModuleType:
    spec = importlib.util.spec_from_file_location("regenerate_golden", SCRIPTS / "regenerate_golden.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_golden_files_are_written_once_and_a_change_is_shown(
    golden: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["nvidia_pooled", "--to", str(tmp_path)]
    assert golden.main(words) == 1
    assert "nvidia_pooled.pt: new" in capsys.readouterr().out
    assert golden.main(words) == 0
    shutil.copy(ROOT / "tests" / "golden" / "nvidia_full.pt", tmp_path / "nvidia_pooled.pt")
    assert golden.main(words) == 1
    assert "largest difference inf" in capsys.readouterr().out
    assert golden.main(words) == 0


def test_committed_golden_files_are_what_the_script_makes(golden: ModuleType, tmp_path: Path) -> None:
    names = ["authors_qm9_tfn", "nvidia_pooled"]
    for name in names:
        shutil.copy(ROOT / "tests" / "golden" / f"{name}.pt", tmp_path)
    assert golden.main([*names, "--to", str(tmp_path)]) == 0


def test_an_unknown_golden_file_is_refused_with_the_known_ones(
    golden: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        golden.main(["nothing"])
    assert "nvidia_full" in capsys.readouterr().err


# --- SLURM ------------------------------------------------------------------------------------------------------------


def test_the_slurm_script_is_put_back_and_goes_on(tmp_path: Path) -> None:
    """SLURM's warning comes in the middle; the next turn continues the same run and finishes it."""
    commands = tmp_path / "commands"
    commands.mkdir()
    (commands / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/requeued\n')
    (commands / "scontrol").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{commands}:{os.environ['PATH']}",
        "SE3T": str(SE3T),
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "SLURM_JOB_ID": "7",
        "SLURM_ARRAY_TASK_ID": "3",
    }
    words = ["experiment=nbody", "preset=smoke", "model=deepset", "trainer.max_steps=1500", "trainer.eval_every=1500"]
    command = [str(SCRIPTS / "train.sbatch"), *words, "trainer.checkpoint_every=100"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as first:
        _wait_for(lambda: list(tmp_path.glob("runs/nbody/deepset/3-*/checkpoints/*.ckpt")), first)
        first.send_signal(signal.SIGUSR1)
        _, errors = first.communicate(timeout=60)
    assert first.returncode == 0, errors
    assert (tmp_path / "requeued").read_text() == "requeue 7\n"
    assert not list(tmp_path.glob("runs/**/result.json"))
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (result,) = tmp_path.glob("runs/nbody/deepset/3-*/result.json")
    assert json.loads(result.read_text())["budget"]["steps_done"] == 1500
    sessions = json.loads((result.parent / "provenance.json").read_text())["sessions"]
    assert [session["resumed_from_step"] is None for session in sessions] == [True, False]


def _wait_for(condition: object, process: subprocess.Popen[str]) -> None:
    assert callable(condition)
    for _ in range(1200):
        if condition():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("nothing came within a minute")


# --- the paper --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--only", "4"], "expected 1, 2, 3, ablations"),
        (["--presets", "smoke"], "--presets is unknown"),
        (["--preset"], "--preset needs a value"),
    ],
)
def test_wrong_words_are_refused_before_anything_is_done(tmp_path: Path, words: list[str], message: str) -> None:
    done = run(SCRIPTS / "reproduce_paper.sh", *words, folder=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert not list(tmp_path.iterdir())


def test_help_is_the_comment_at_its_top(tmp_path: Path) -> None:
    done = run(SCRIPTS / "reproduce_paper.sh", "--help", folder=tmp_path)
    assert done.returncode == 0
    assert "--only 2 data=shapes15" in done.stdout
    assert "set -" not in done.stdout


STUB = """
import signal, sys, time
def end(number, frame):
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    time.sleep(0.2)
    print("saved", flush=True)
    sys.exit(128 + number)
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, end)
print("begun", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("send", [os.kill, os.killpg])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_script_with_the_command_at_work(
    number: signal.Signals, send: Callable[[int, int], None], tmp_path: Path
) -> None:
    """Whoever gets it: the script alone, or its group, as from a terminal. Nothing is drawn of half the runs."""
    command = tmp_path / "se3t"
    command.write_text(f"#!{sys.executable}{STUB}")
    command.chmod(0o755)
    environment = {**os.environ, "SE3T": str(command), "SE3T_FOLDER": str(tmp_path)}
    with subprocess.Popen(
        [str(SCRIPTS / "reproduce_paper.sh"), "--only", "1"],
        env=environment,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # as in a terminal
    ) as script:
        assert script.stdout is not None
        while script.stdout.readline() != "begun\n":
            assert script.poll() is None
        time.sleep(0.2)  # between its first line and the sleep
        send(script.pid, number)
        said, _ = script.communicate(timeout=30)
    assert script.returncode == 128 + number
    assert said.startswith("saved\n")
    assert said.endswith("stopped; rerun the command to resume\n")
    assert "==" not in said


@pytest.mark.slow
def test_table_1_from_data_to_report_and_again(tmp_path: Path) -> None:
    """Synthetic trajectories, a few steps: everything is there, and the second time nothing is trained."""
    words = ["--only", "1", "--preset", "smoke", "--seeds", "0", "data.preset=calibrated_random"]
    done = run(SCRIPTS / "reproduce_paper.sh", *words, folder=tmp_path, SE3T_QUICK="1")
    assert done.returncode == 0, done.stdout + done.stderr
    results = {path.name for path in (tmp_path / "results").iterdir()}
    assert {f"table_1.{suffix}" for suffix in ("md", "csv", "tex", "json")} <= results
    assert {"figure3.png", "figure3.pdf", "figure3.gif", "curves.png", "harmonics.png", "report.html"} <= results
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/**/result.json")}
    table = (tmp_path / "results" / "table_1.json").read_text()
    assert len(before) == 5
    again = run(SCRIPTS / "reproduce_paper.sh", *words, folder=tmp_path, SE3T_QUICK="1")
    assert again.returncode == 0, again.stdout + again.stderr
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/**/result.json")}
    assert (tmp_path / "results" / "table_1.json").read_text() == table


# --- the check of a GPU -----------------------------------------------------------------------------------------------

PHASES = ("versions", "tests", "tiles", "qm9", "steps", "sh", "scaling", "train")


def gpu_check(folder: Path, *words: str, python: str = "") -> subprocess.CompletedProcess[str]:
    """With a Python that does what ``python`` says, a case of bash, in place of pytest and se3t."""
    fake = folder / "python"
    fake.write_text(
        f"""#!/bin/bash
all="$*"
case "$all" in
  {python}
  *"-m se3t train "*)
    folder="${{all##* runs=}}" && mkdir -p "${{folder%% *}}/a/checkpoints" && cd "${{folder%% *}}/a" || exit
    touch config.yaml checkpoints/best.ckpt checkpoints/step-1.ckpt && echo "trained: $all" ;;
  *--json*)
    file="${{all##*--json }}"
    echo '{{"facts": {{"fastest_settings": {{"qm9": ["model.kernel=triton"]}}}}}}' > "${{file%% *}}" ;;
  *"-m pytest"* | *"-m se3t"*) echo "did: $all" ;;
  *) exec {sys.executable} "$@" ;;
esac
"""
    )
    fake.chmod(0o755)
    return run(SCRIPTS / "gpu_check.sh", "--python", fake, "--out", folder / "out", *words, folder=folder)


def ended(folder: Path) -> dict[str, str]:
    phases = json.loads((folder / "out/summary.json").read_text(encoding="utf-8"))["phases"]
    return {phase["phase"]: phase["result"] for phase in phases}


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_the_check_of_a_gpu_runs_all_phases_and_leaves_few_files(tmp_path: Path, device: str) -> None:
    (tmp_path / "data/qm9").mkdir(parents=True)
    (tmp_path / "data/qm9/qm9.h5").touch()
    done = gpu_check(tmp_path, "--device", device, "--data", str(tmp_path / "data"), "--minutes", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert ended(tmp_path) == dict.fromkeys(PHASES, "ok")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names <= {"log.txt", "summary.json", "tiles.json", "run.tar.gz", *(f"{n}.json" for n in PHASES[3:7])}
    assert (tmp_path / "out/log.txt").read_text(encoding="utf-8") in done.stdout
    words = next(line for line in done.stdout.splitlines() if line.startswith("trained: "))
    assert all(word in words for word in ("task=homo", "model.kernel=triton", "trainer.max_time=00:0"))
    assert ("preset=fast" in words) == ("accelerator=gpu" in words) == (device == "cuda")
    stored = subprocess.run(["tar", "tzf", tmp_path / "out/run.tar.gz"], capture_output=True, text=True, check=True)
    files = {line for line in stored.stdout.split() if not line.endswith("/")}
    assert files == {"runs/a/config.yaml", "runs/a/checkpoints/best.ckpt"}


def test_a_phase_that_fails_or_takes_too_long_does_not_stop_the_next(tmp_path: Path) -> None:
    behaviour = '*"-m pytest"*) echo "1 failed" && exit 1 ;; *"bench sh"*) sleep 60 ;;'
    done = gpu_check(tmp_path, "--device", "cpu", "--minutes", "1", "--only", "tests,sh,scaling", python=behaviour)
    assert done.returncode == 1
    assert ended(tmp_path) == {"tests": "failed, status 1", "sh": "time limit", "scaling": "ok"}
    assert "== tests: failed, status 1, " in done.stdout
    assert "1 failed" in done.stdout
    assert "2 phases failed" in done.stdout


def test_without_prepared_molecules_it_trains_another_experiment_and_says_so(tmp_path: Path) -> None:
    done = gpu_check(tmp_path, "--device", "cpu", "--only", "train", "--data", str(tmp_path / "none"), "--minutes", "1")
    assert "none/qm9/qm9.h5: trains N-body instead" in done.stdout
    assert "trained: -m se3t train experiment=nbody" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--devise", "cpu"], "--devise is unknown; expected --device, --minutes"),
        (["--device", "tpu"], "--device tpu: expected cuda or cpu"),
        (["--minutes", "0"], "--minutes 0: expected a whole number above 0"),
        (["--minutes"], "--minutes needs a value"),
        (["--only", "tests,bench"], "--only bench is unknown; expected versions, tests, tiles"),
        (["--wheels", "nowhere"], "--wheels nowhere: holds no .whl"),
        (["--python", "nowhere"], "--python nowhere: there is no such program"),
    ],
)
def test_the_check_of_a_gpu_names_a_wrong_word(tmp_path: Path, words: list[str], message: str) -> None:
    done = gpu_check(tmp_path, *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_check_of_a_gpu_explains_itself(tmp_path: Path) -> None:
    done = gpu_check(tmp_path, "--help")
    assert done.returncode == 0
    assert all(phase in done.stdout for phase in PHASES)
    assert "scripts/gpu_check.sh --device cpu --minutes 5" in done.stdout
