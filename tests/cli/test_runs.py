"""``se3t runs``: which runs it lists, in which words, at which widths, and two of them side by side."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from reporting.results import property_result, result
from se3t.reporting.report.runs import find_runs
from se3t.reporting.run_texts import age, compared, listed
from se3t.runs.files import seal
from se3t.runs.identity import settings_hash

from .conftest import Run


def write(content: dict[str, Any], minutes: int) -> Path:
    """A finished run, some minutes old."""
    config = content["config"]
    folder = Path("runs") / content["experiment"] / content["model"] / f"{content['seed']}-{settings_hash(config)}"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(seal(content)))
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return aged(folder, minutes)


def unfinished(name: str, minutes: int, failure: str = "") -> Path:
    folder = Path("runs") / name
    folder.mkdir(parents=True)
    config = {"experiment": "nbody", "seed": 7, "model": {"name": "deepset"}, "trainer": {"max_steps": 900}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    line = {"kind": "valid", "step": 250, "mse_x": 0.5, "mse_v": 0.6, "seconds": 61.0}
    (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    if failure:
        (folder / "failure.json").write_text(json.dumps({"reason": failure}))
    return aged(folder, minutes)


def aged(folder: Path, minutes: int) -> Path:
    for path in folder.iterdir():
        os.utime(path, (time.time() - 60 * minutes - 1,) * 2)
    return folder


@pytest.fixture
def folders(run: Run) -> dict[str, Path]:
    config = {"name": "tfn", "channels": 16}
    found = {
        "old": write(result("tfn", config__experiment="nbody"), 60 * 24 * 3),
        "new": write(result("tfn", 1, config__experiment="nbody", config__model=config, test__mse_x=0.03), 5),
        "qm9": write(property_result("se3_transformer"), 90),
        "stopped": unfinished("stopped", 30),
        "failed": unfinished("failed", 40, "the training loss became nan in step 3"),
        "damaged": write(property_result("tfn"), 50),
    }
    path = found["damaged"] / "result.json"
    path.write_text(path.read_text().replace("44.0", "4.0"))
    aged(found["damaged"], 50)
    Path("exported").mkdir()
    Path("exported/config.yaml").write_text("seed: 0\n")
    return found


def order(out: str, folders: dict[str, Path]) -> list[str]:
    places = {name: out.index(str(folder)) for name, folder in folders.items() if str(folder) in out}
    return sorted(places, key=lambda name: places[name])


def test_runs_are_listed_the_newest_first_with_state_and_result(run: Run, folders: dict[str, Path]) -> None:
    answer = run("runs")
    assert answer.status == 0, answer.err
    assert order(answer.out, folders) == ["new", "stopped", "failed", "damaged", "qm9", "old"]
    lines = {line.split()[0]: line for line in reversed(answer.out.splitlines()) if line[:1].isalpha()}
    assert lines["interrupted"].split()[1:6] == ["nbody", "deepset", "–", "7", "250"]
    assert "250 of 900" in lines["interrupted"]
    assert "MSE x 0.500ᵛ" in lines["interrupted"]
    assert "30 min" in lines["interrupted"]
    assert "    the training loss became nan in step 3" in answer.out.splitlines()
    assert "its content does not match its field 'digest'" in answer.out
    assert "MAE 44.0 meV" in answer.out
    assert "4.0 meV" not in answer.out.replace("44.0 meV", "")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["experiment=nbody", "model=tfn"], ["new", "old"]),
        (["model.channels=16"], ["new"]),
        (["model.channels=1.6e1"], ["new"]),
        (["model.channels=8,16", "seed=1,2"], ["new"]),
        (["task=homo"], ["damaged", "qm9"]),
        (["--state", "failed,damaged"], ["failed", "damaged"]),
        (["--state=finished", "seed=0"], ["qm9", "old"]),
        (["runs/nbody", "runs/stopped"], ["new", "stopped", "old"]),
        (["seed=5"], []),
    ],
)
def test_runs_are_chosen_by_settings_states_and_folders(
    run: Run, folders: dict[str, Path], words: list[str], expected: list[str]
) -> None:
    answer = run("runs", *words)
    assert answer.status == 0, answer.err
    assert order(answer.out, folders) == expected


def test_the_time_that_ended_a_run_and_that_an_unfinished_one_has_are_told(run: Run) -> None:
    trainer = {"max_steps": 2000, "max_time": "01:30:00"}
    budget = {"steps_done": 345, "batch_size": 128, "seconds": 5401.0, "training_seconds": 5400.2, "ended_by": "time"}
    write(result("tfn", config__trainer=trainer, budget={**trainer, **budget}), 5)
    folder = unfinished("stopped", 6)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump({**config, "trainer": {**trainer, "max_time": "10:00:00"}}))
    out = run("runs").out
    assert "345 in 1 h 30 min" in out
    assert "250 of 2,000 or 10 h" in out
    told = {entry["state"]: entry for entry in json.loads(run("runs", "--format", "json").out)["runs"]}
    assert (told["finished"]["max_time"], told["finished"]["ended_by"]) == ("01:30:00", "time")
    assert (told["interrupted"]["max_time"], told["interrupted"]["ended_by"]) == ("10:00:00", "")


@pytest.mark.parametrize("width", [40, 60, 80, 100, 140])
def test_no_line_is_wider_than_the_terminal_and_nothing_is_cut(folders: dict[str, Path], width: int) -> None:
    runs = find_runs([Path("runs")])
    lines = listed(runs, width, time.time())
    notes = 1
    if width >= 80:
        assert max(map(len, (line for line in lines[:-notes] if "digest" not in line))) <= width
    text = "\n".join(lines)
    for word in ("interrupted", "se3_transformer", "MSE x 0.0300, MSE v 0.130", "MAE 44.0 meV", "250 of 900", "2,000"):
        assert word in text
    assert all(str(folder) in text for folder in folders.values())


def test_a_run_in_progress_is_running_and_one_without_a_digest_marked(run: Run, folders: dict[str, Path]) -> None:
    content = json.loads((folders["old"] / "result.json").read_text())
    del content["digest"]
    (folders["old"] / "result.json").write_text(json.dumps(content))
    with (folders["stopped"] / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        answer = run("runs")
    assert "running" in answer.out
    assert "interrupted" not in answer.out
    assert "finished ᵘ" in answer.out
    assert "ᵘ unverified" in answer.out


def test_files_hold_all_numbers_unrounded(run: Run, folders: dict[str, Path]) -> None:
    content = json.loads(run("runs", "--format", "json").out)["runs"]
    rows = list(csv.DictReader(io.StringIO(run("runs", "--format", "csv").out)))
    assert [row["folder"] for row in rows] == [one["folder"] for one in content]
    assert (rows[0]["mse_x"], content[0]["metrics"]["mse_x"]) == ("0.03", 0.03)
    assert [one["state"] for one in content].count("damaged") == 1
    assert run("runs", "seed=5", "--format", "csv").out.startswith("folder,state\n")


def test_names_of_metrics_are_no_formulas_of_a_spreadsheet(run: Run) -> None:
    content = result("tfn", config__experiment="nbody")
    content["test"] |= {"=1+1": 2.0}
    write(content, 1)
    rows = list(csv.DictReader(io.StringIO(run("runs", "--format", "csv").out)))
    assert rows[0]["'=1+1"] == "2.0"


def test_runs_side_by_side_show_what_differs(run: Run, folders: dict[str, Path]) -> None:
    answer = run("runs", "compare", str(folders["old"]), str(folders["new"]))
    assert answer.status == 0, answer.err
    lines = [line.split() for line in answer.out.splitlines()]
    assert ["model.channels", "8", "16"] in lines
    other = run("runs", "compare", str(folders["old"]), str(folders["stopped"])).out
    assert ["model.channels", "8", "–"] in [line.split() for line in other.splitlines()]
    assert ["mse_x", "0.035", "0.03"] in lines
    assert ["seed", "0", "1"] in lines
    assert "model.name" not in answer.out
    runs = find_runs([folders["old"], folders["new"]])
    narrow = compared(runs, 20)
    assert "    B  0.03" in narrow
    assert "ᵘ" not in answer.out
    content = json.loads((folders["old"] / "result.json").read_text())
    del content["digest"]
    (folders["old"] / "result.json").write_text(json.dumps(content))
    out = run("runs", "compare", str(folders["old"]), str(folders["new"])).out
    assert out.startswith(f"A  {folders['old']}, finished ᵘ\nB  {folders['new']}, finished\n")
    assert "ᵘ unverified" in out


def test_words_of_a_record_are_no_terminal_escapes(run: Run, folders: dict[str, Path]) -> None:
    write(result("tfn", 5, preset="\x1b[31mred\n", config__experiment="nbody"), 1)
    out = run("runs").out
    assert "\x1b" not in out
    assert "\\x1b[31mred\\n" in out


@pytest.mark.parametrize(
    ("seconds", "text"), [(-5.0, "0 s"), (59.0, "59 s"), (60.0, "1 min"), (7300.0, "2 h"), (9e5, "10 d")]
)
def test_ages_are_told_in_their_largest_unit(seconds: float, text: str) -> None:
    assert age(seconds) == text


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere"], "nowhere: does not exist; expected a folder of runs, key=value or a result.json"),
        (["--state", "finishd"], "--state finishd: unknown; did you mean 'finished'?"),
        (["xyzzy=1"], "xyzzy=1: no run has such a setting; se3t train --cfg job prints them\n"),
        (["modle=tfn"], "modle=tfn: no run has such a setting; did you mean"),
        (["--format", "yaml"], "invalid choice: 'yaml'"),
        (["compare", "runs"], "runs compare: expected two run folders or more"),
        (["compare", "runs", "runs"], "runs: is no run folder; expected one such as"),
        (["compare", "exported", "runs/failed"], "exported: is no run folder; expected one such as"),
        (["compare", "runs/failed", "nowhere"], "nowhere: does not exist"),
        (["compare", "runs/failed", "runs/stopped", "--format", "csv"], "runs compare: takes folders only"),
    ],
)
def test_wrong_words_are_named(run: Run, folders: dict[str, Path], words: list[str], told: str) -> None:
    answer = run("runs", *words)
    assert (answer.status, answer.out) == (2, "")
    assert told in answer.err
    assert len(answer.err.splitlines()) == 1


def test_a_damaged_run_is_not_compared(run: Run, folders: dict[str, Path]) -> None:
    answer = run("runs", "compare", str(folders["old"]), str(folders["damaged"]))
    assert answer.status == 2
    assert "is damaged: " in answer.err


def test_without_runs_it_says_so(run: Run) -> None:
    assert run("runs").out == "no run in runs\n"
