"""``se3t sweep``: grids and searches of fakes, their best, their picture, and wrong words."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.suite.parts import job

from se3t.config import to_config
from se3t.config.compose import compose
from se3t.reporting.sweep_record import read_record
from se3t.runs import RunFolder
from se3t.runs.files import seal
from suite.sweep_fakes import WORDS, FakeLauncher, prepare

from .conftest import Run

LINE = ("sweep", *WORDS, "optim.lr=0.001,0.003,0.01")


@pytest.fixture
def launchers(run: Run, monkeypatch: pytest.MonkeyPatch) -> list[FakeLauncher]:
    """What trained instead of processes of this machine; the data are there."""
    made: list[FakeLauncher] = []

    class Launcher(FakeLauncher):
        def __init__(self, threads: int | None, overrides: Sequence[str]) -> None:
            super().__init__(fails=lambda config: config.optim.lr == 0.5)
            self.overrides = overrides
            made.append(self)

    monkeypatch.setattr("se3t.suite.launch.LocalLauncher", Launcher)
    for module in ("pool", "search"):
        monkeypatch.setattr(f"se3t.suite.{module}.POLL_SECONDS", 0)
    prepare(job(WORDS))
    return made


def folder() -> Path:
    (found,) = Path("runs/sweeps/nbody").iterdir()
    return found


def reproduced(out: str) -> list[Path]:
    """The run folders that the printed command would fill."""
    (line,) = [line.strip() for line in out.splitlines() if line.startswith("  se3t train ")]
    words = [word for word in shlex.split(line)[2:] if word != "-m"]
    (seeds,) = [word.removeprefix("seed=") for word in words if word.startswith("seed=")]
    words = [word for word in words if not word.startswith("seed=")]
    return [RunFolder.of(to_config(compose("train", [*words, f"seed={seed}"]))).path for seed in seeds.split(",")]


def test_a_grid_ends_with_its_best_and_the_command_that_trains_it(run: Run, launchers: list[FakeLauncher]) -> None:
    answer = run(*LINE, "--seeds", "0,1", "--jobs", "2")
    assert answer.status == 0, answer.err
    assert "6 of 6 done" in answer.err
    assert "optim.lr=0.003, seed 1" in answer.err
    assert launchers[0].overrides == (f"logger.group={folder().name}",)
    assert f"Sweep {folder().name}, experiment nbody" in answer.out
    assert "preset smoke, 4 steps x 8; loss of validation, not test" in answer.out
    assert "data: simulated, calibrated_random, 32 training samples" in answer.out
    rows = [line.split() for line in answer.out.splitlines() if line.strip()[:1].isdigit()]
    assert [row[1] for row in rows] == ["0.003", "0.001", "0.01"]
    assert rows[0][2:] == ["0.255", "±", "0.0071", "2"]
    best = read_record(folder()).ranking()[0]
    assert list(map(str, reproduced(answer.out))) == [entry.folder for entry in best.runs]
    Path("own").mkdir()  # of no matter
    again = run("sweep", "--best", "own")
    assert again.out == answer.out
    assert (
        len([line for line in run("sweep", "--best", str(folder()), "--top", "1").out.splitlines() if "±" in line]) == 1
    )


def test_a_changed_result_or_record_of_a_sweep_is_not_taken(run: Run, launchers: list[FakeLauncher]) -> None:
    first = run(*LINE)
    best, *others = read_record(folder()).ranking()
    path = Path(best.runs[0].folder) / "result.json"
    before = path.read_text()
    changed = before.replace(f'"loss": {best.value}', '"loss": 0.0')
    for text, reason in (
        (changed, "its content does not match its field 'digest'"),
        (json.dumps(seal(json.loads(changed))), "loss of validation is 0, but "),
    ):
        path.write_text(text)
        answer = run("sweep", "--best", str(folder()))
        assert answer.status == 0
        (told,) = answer.err.splitlines()
        assert told.startswith(f"se3t: sweep: left out: trial {best.number}: {path}: {reason}")
        assert reproduced(answer.out) == [Path(others[0].runs[0].folder)]
    path.write_text(before)
    assert run("sweep", "--best", str(folder())).out == first.out
    trials = folder() / "trials.json"
    trials.write_text(trials.read_text().replace(f'"value": {best.value}', '"value": 0.0'))
    for flag in ("--best", "--plot"):
        answer = run("sweep", flag, str(folder()))
        assert answer.status == 2
        assert "trials.json: its content does not match its field 'digest'" in answer.err
    content = json.loads(trials.read_text().replace('"value": 0.0', f'"value": {best.value}'))
    del content["digest"]
    trials.write_text(json.dumps(content))
    answer = run("sweep", "--best", str(folder()))
    assert answer.out == first.out
    assert answer.err.startswith(f"se3t: sweep: unverified: {trials} is of an earlier version")
    assert answer.err.count("\n") == 1
    path.write_text(json.dumps({name: value for name, value in json.loads(before).items() if name != "digest"}))
    answer = run("sweep", "--best", str(folder()))
    assert answer.out == first.out
    assert answer.err.startswith(f"se3t: sweep: unverified: {trials} and 1 more are of an earlier version")


def test_the_same_line_again_trains_nothing(run: Run, launchers: list[FakeLauncher]) -> None:
    first = run(*LINE)
    again = run(*LINE)
    assert again.status == 0
    assert again.out == first.out
    assert launchers[1].started == []


def test_failures_are_listed_with_their_logs(run: Run, launchers: list[FakeLauncher]) -> None:
    answer = run("sweep", *WORDS, "optim.lr=0.001,0.5,-1", "--seeds", "3")
    assert answer.status == 1
    assert "se3t: 2 of 3 trials failed" in answer.err
    assert "trial 1, optim.lr=0.5, seed 3: the training loss became nan in step 3" in answer.err
    assert "log: runs/logs/nbody-deepset-3-" in answer.err
    assert "trial 2, optim.lr=-1: optim.lr=-1.0 is out of range" in answer.err
    assert "trials: 1 finished, 2 failed" in answer.out
    assert reproduced(answer.out)


def test_a_search_tells_of_every_trial_and_its_winner_can_be_trained(run: Run, launchers: list[FakeLauncher]) -> None:
    pytest.importorskip("optuna")
    text = "search: tpe\nparameters: {optim.lr: {low: 1e-4, high: 1e-1, log: true}, model.width: [16, 64]}\n"
    Path("mine.yaml").write_text(text)
    answer = run("sweep", *WORDS, "sweep=mine.yaml", "--trials", "3", "runs=elsewhere")
    assert answer.status == 0, answer.err
    assert len([line for line in answer.err.splitlines() if line.startswith("trial ")]) == 3
    best = run("sweep", "--best", "mine", "runs=elsewhere")
    assert best.out == answer.out
    (winner,) = reproduced(answer.out)
    assert (winner / "result.json").is_file()
    plan = run("sweep", *WORDS, "sweep=mine.yaml", "--trials", "5", "runs=elsewhere", "--plan")
    assert "optim.lr: 0.0001 to 0.1 (log)" in plan.out
    assert "5 trials x one seed, 4 steps each at most (none is stopped early); 3 have ended" in plan.out


def test_the_picture_lies_in_the_folder_or_where_it_is_wanted(run: Run, launchers: list[FakeLauncher]) -> None:
    run(*LINE)
    answer = run("sweep", "--plot", str(folder()))
    assert answer.out.splitlines() == [f"written: {folder()}/sweep{suffix}" for suffix in (".png", ".pdf")]
    answer = run("sweep", "--plot", "own", "--out", "pictures/lr.png")
    assert answer.status == 0, answer.err
    assert Path("pictures/lr.pdf").stat().st_size > 1000


def test_a_plan_says_what_is_there_and_trains_nothing(run: Run, launchers: list[FakeLauncher]) -> None:
    answer = run(*LINE, "--plan", "--seeds", "0,1")
    assert answer.status == 0
    assert "trial 2: optim.lr=0.01: seed 0 waiting, seed 1 waiting" in answer.out
    assert "3 combinations x 2 seeds, 4 steps each; 0 of 6 finished" in answer.out
    assert answer.files == ["data"]
    run(*LINE)
    assert "3 of 6 finished" in run(*LINE, "--plan", "--seeds", "0,1").out


def test_ready_sweeps_are_listed(run: Run) -> None:
    listed = run("sweep", "--list").out.splitlines()
    assert listed
    assert {line.split()[0] for line in listed} >= {"lr", "lr_channels", "degree", "points"}
    assert all(len(line) <= 120 and len(line.split()) > 2 for line in listed)
    assert all(line in run("sweep", "--help").out for line in listed)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], "what varies is missing; add sweep=<name>"),
        (["sweep=lr_chanels"], "did you mean 'lr_channels'?"),
        (["lr"], "for the sweep of that name write sweep=lr"),
        (["sweep=lr", "experiment=qm8"], "experiment=qm8: unknown; did you mean 'qm9'?"),
        (["sweep=lr", "optim.lrr=3"], "optim.lrr: no such setting; did you mean 'lr'?"),
        (["sweep=lr", "trainer.max_steps=-1"], "trainer.max_steps=-1 is out of range"),
        (["sweep=lr", "--job", "2"], "--job"),
        (["sweep=lr", "--jobs", "none"], "expected a whole number of at least 1"),
        (["sweep=lr", "--trials", "3"], "is a grid, which tries everything"),
        (["sweep=lr", "--seeds", "a"], "--seeds: got 'a', expected a whole number"),
        (["sweep=lr", "--launcher", "slrum"], "slrum"),
        (["sweep=lr", "slurm.partition=x"], "slurm.partition: belongs to --launcher slurm"),
        (["sweep=lr", "--launcher", "submitit", "slurm.partiton=x"], "did you mean 'partition'?"),
        (["sweep=points", "experiment=scanobjectnn"], "no files of ScanObjectNN in"),
        (["--best", "lr"], "lr: no such sweep; there is none in runs/sweeps"),
        (["--best", "lr", "--plot", "lr"], "argument --plot: not allowed with argument --best"),
        (["--best", "lr", "seed=3"], "only runs=<folder> is accepted"),
        (["--best", "."], ".: holds no trials.json"),
        (["sweep=lr", "--top", "3"], "--top belongs to --best"),
        (["sweep=lr", "--out", "x"], "--out belongs to --plot"),
    ],
)
def test_wrong_words_are_answered_in_one_sentence(run: Run, words: list[str], named: str) -> None:
    answer = run("sweep", *words)
    assert answer.status == 2
    assert named in answer.err
    assert len(answer.err.splitlines()) == 1
    assert answer.files == []


def sweep_of_processes(tmp_path: Path, *words: str) -> tuple[list[str], dict[str, Any]]:
    line = [sys.executable, "-m", "se3t", "sweep", *WORDS[:3], "trainer.max_steps=300", "trainer.eval_every=50"]
    options = {"cwd": tmp_path, "env": {**os.environ, "OMP_NUM_THREADS": "1"}, "text": True}
    return [*line, "trainer.checkpoint_every=20", "optim.lr=0.001,0.003", *words], options


@pytest.mark.slow
def test_a_sweep_that_is_killed_goes_on_and_ends_as_it_would_have(tmp_path: Path) -> None:
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    line, options = sweep_of_processes(tmp_path / "whole", "--jobs", "2")
    whole = subprocess.run(line, capture_output=True, check=True, **options)
    line, options = sweep_of_processes(tmp_path / "killed", "--jobs", "2")
    process = subprocess.Popen(line, stderr=subprocess.DEVNULL, **options)
    while len(list(tmp_path.glob("killed/runs/nbody/deepset/*/checkpoints/step-*"))) < 2:
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = subprocess.run(line, capture_output=True, check=True, **options)
    assert "continued at step" in again.stderr
    assert again.stdout == whole.stdout
    third = subprocess.run(line, capture_output=True, check=True, **options)
    assert third.stdout == whole.stdout
    assert "started" not in third.stderr
