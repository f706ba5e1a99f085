"""The scripts of this repository do what they say, in a small setting."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks.__main__ import COMMAND, FLAGS, WHAT
from se3t.bench.contenders import Ours
from se3t.bench.workloads import WORKLOADS
from se3t.cli import bench
from se3t.config import to_config
from se3t.config.compose import compose

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


@pytest.mark.e2e
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


@pytest.mark.e2e
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


@pytest.mark.e2e
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
FAKE = """#!{python}
import json, pathlib, signal, sys, time

line = " ".join(sys.argv[1:])
if "-m pip" in line:
    sys.exit()
{behaviour}
print("did:", line, flush=True)
for word in sys.argv:
    if word.startswith("runs="):
        folder = pathlib.Path(word.removeprefix("runs=")) / "qm9/model/0-a/checkpoints"
        folder.mkdir(parents=True)
        for file in (folder.parent / "config.yaml", folder / "best.ckpt", folder / "step-1.ckpt"):
            file.write_bytes(b"x")
if "--json" in sys.argv:
    settings = {{"facts": {{"fastest_settings": {{"qm9": ["model.kernel=triton"]}}}}}}
    pathlib.Path(sys.argv[sys.argv.index("--json") + 1]).write_text(json.dumps(settings))
"""
LATE = """
def late(number, frame):
    time.sleep(1)
    print("ended late", flush=True)
    sys.exit(3)
signal.signal(signal.SIGTERM, late)
if "bench sh" in line:
    time.sleep(60)
"""


class GpuCheck:
    """scripts/gpu_check.py with a program of a few lines in place of Python."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        spec = importlib.util.spec_from_file_location("gpu_check", SCRIPTS / "gpu_check.py")
        assert spec is not None
        assert spec.loader is not None
        self.module, self.folder, self.patch = importlib.util.module_from_spec(spec), folder, patch
        patch.setitem(sys.modules, "gpu_check", self.module)
        spec.loader.exec_module(self.module)

    def __call__(self, *words: str, behaviour: str = "") -> int:
        fake = self.folder / "python"
        fake.write_text(FAKE.format(python=sys.executable, behaviour=behaviour))
        fake.chmod(0o755)
        handlers = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)}
        with self.patch.context() as patch:
            patch.setattr(sys, "executable", str(fake))
            patch.setattr(sys, "argv", ["gpu_check.py", "--out", str(self.folder / "out"), *words])
            try:
                status: int = self.module.main()
            finally:
                for number, handler in handlers.items():
                    signal.signal(number, handler)
        return status

    @property
    def ended(self) -> dict[str, str]:
        phases = json.loads((self.folder / "out/summary.json").read_text(encoding="utf-8"))["phases"]
        return {phase["phase"]: phase["result"] for phase in phases}

    @property
    def files(self) -> set[str]:
        return {path.name for path in (self.folder / "out").iterdir()}


@pytest.fixture
def gpu_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GpuCheck:
    return GpuCheck(tmp_path, monkeypatch)


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_the_check_of_a_gpu_runs_all_phases_and_leaves_few_files(
    gpu_check: GpuCheck, capsys: pytest.CaptureFixture[str], device: str
) -> None:
    data = gpu_check.folder / "da ta"
    (data / "qm9").mkdir(parents=True)
    (data / "qm9/qm9.h5").touch()
    assert gpu_check("--device", device, "--data", str(data)) == 0
    shown = capsys.readouterr().out
    assert gpu_check.ended == dict.fromkeys(PHASES, "ok")
    assert gpu_check.files == {"log.txt", "summary.json", "run.tar.gz", *(f"{name}.json" for name in PHASES[3:7])}
    assert (gpu_check.folder / "out/log.txt").read_text(encoding="utf-8") == shown
    words = next(line for line in shown.splitlines() if line.startswith("did: -m se3t train "))
    assert all(word in words for word in ("task=homo", "model.kernel=triton", "trainer.max_time=00:0", f"root={data} "))
    assert ("preset=fast" in words) == ("accelerator=gpu" in words) == (device == "cuda")
    with tarfile.open(gpu_check.folder / "out/run.tar.gz") as archive:
        folder = "runs/qm9/model/0-a"
        assert archive.getnames() == [f"{folder}/checkpoints/best.ckpt", f"{folder}/config.yaml"]


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_the_command_line_understands_what_the_check_of_a_gpu_types(gpu_check: GpuCheck, device: str) -> None:
    (gpu_check.folder / "qm9").mkdir()
    (gpu_check.folder / "qm9/qm9.h5").touch()
    given = gpu_check.module.parse(["--device", device, "--data", str(gpu_check.folder)])
    commands = [phase.words(300.0) for phase in gpu_check.module.phases(given, gpu_check.folder)]
    benches = [bench.parse(words[3:]) for words in commands if words[:3] == ["-m", "se3t", "bench"]]
    benches += [bench.parse(words[2:], WHAT, FLAGS, COMMAND) for words in commands if words[:2] == ["-m", "benchmarks"]]
    assert [given.device for given in benches] == [device] * 5
    for given in benches:
        assert set(getattr(given, "workloads", ())) <= set(WORKLOADS)
        for name in getattr(given, "names", ()) if given.what in ("step", "scaling") else ():
            Ours.parse(name)
    (words,) = [words[3:] for words in commands if words[:3] == ["-m", "se3t", "train"]]
    config = to_config(compose("train", words))
    assert (config.experiment, config.trainer.accelerator) == ("qm9", "gpu" if device == "cuda" else "cpu")
    assert 60 < config.trainer.max_seconds < 300


def test_a_phase_that_fails_or_takes_too_long_does_not_stop_the_next(
    gpu_check: GpuCheck, capsys: pytest.CaptureFixture[str]
) -> None:
    """The next one begins when the last process of the one before has ended."""
    behaviour = f"""{LATE}
if "-m pytest" in line:
    print("1 failed" + 300 * "─")
    sys.exit(1)
"""
    assert gpu_check("--device", "cpu", "--minutes", "1", "--only", "tests,sh,scaling", behaviour=behaviour) == 1
    shown = capsys.readouterr().out
    assert gpu_check.ended == {"tests": "failed, status 1", "sh": "time limit", "scaling": "ok"}
    assert "== sh: time limit, " in shown
    assert shown.index("ended late") < shown.index("== scaling")
    assert "2 of 3 phases failed" in shown
    assert not any(word in (gpu_check.folder / "out/log.txt").read_text(encoding="utf-8") for word in ("Traceback",))


def test_a_process_that_does_not_end_is_killed(gpu_check: GpuCheck, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_check.module, "GRACE", 0.5)
    behaviour = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)"
    begun = time.monotonic()
    assert gpu_check("--device", "cpu", "--minutes", "1", "--only", "sh", behaviour=behaviour) == 1
    assert gpu_check.ended == {"sh": "time limit"}
    assert time.monotonic() - begun < 30


def test_phases_that_are_run_later_add_to_what_is_there(gpu_check: GpuCheck) -> None:
    gpu_check("--device", "cpu", "--only", "tests,qm9")
    assert gpu_check("--device", "cpu", "--only", "qm9, sh", behaviour='if "--workload" in line: sys.exit(4)') == 1
    assert gpu_check.ended == {"tests": "ok", "qm9": "failed, status 4", "sh": "ok"}
    assert gpu_check.files == {"log.txt", "summary.json", "sh.json"}  # qm9.json was of the earlier call


def test_without_prepared_molecules_it_trains_another_experiment_and_says_so(
    gpu_check: GpuCheck, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gpu_check("--device", "cpu", "--only", "train", "--data", "none") == 0
    shown = capsys.readouterr().out
    assert "none/qm9/qm9.h5: trains N-body in place of HOMO" in shown
    assert "did: -m se3t train experiment=nbody" in shown


def test_a_signal_ends_the_phase_at_work_and_keeps_what_there_is(tmp_path: Path) -> None:
    """Of the real script, by its name in a folder of its own."""
    words = [SCRIPTS / "gpu_check.sh", "--device", "cpu", "--only", "sh,scaling", "--out", tmp_path / "out"]
    environment = {**os.environ, "PYTHON": sys.executable}
    with subprocess.Popen(
        [*map(str, words)], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("== sh, at most ")
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
    assert process.returncode == 143
    assert "stopped by signal 15" in rest
    assert "== scaling" not in rest


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--devise", "cpu"], "unrecognized arguments: --devise"),
        (["--device", "tpu"], "invalid choice: 'tpu'"),
        (["--minutes", "0"], "0: expected a whole number above 0"),
        (["--only", "tests,bench"], "'bench' is unknown; expected versions, tests, tiles"),
        (["--only", ""], "'' is unknown; expected versions, tests, tiles"),
        (["--wheels", "nowhere"], "nowhere: holds no .whl"),
    ],
)
def test_the_check_of_a_gpu_names_a_wrong_word(
    gpu_check: GpuCheck, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        gpu_check(*words)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not (gpu_check.folder / "out").exists()


def test_the_check_of_a_gpu_explains_itself(tmp_path: Path) -> None:
    done = run(SCRIPTS / "gpu_check.sh", "--help", folder=tmp_path, PYTHON=sys.executable)
    assert done.returncode == 0
    assert all(phase in done.stdout for phase in PHASES)
    missing = run(SCRIPTS / "gpu_check.sh", folder=tmp_path, PYTHON="nowhere")
    assert missing.returncode == 2
    assert "PYTHON=nowhere: there is no such program" in missing.stderr
