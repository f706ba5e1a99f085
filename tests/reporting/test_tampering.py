"""Whatever is done to the folder of a finished run: tables leave it out, or mark it, or show the numbers measured."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from se3t.cli.main import main
from se3t.errors import UserError
from se3t.reporting.figures.confusion import load_confusion
from se3t.reporting.figures.curve_runs import find_curve_runs
from se3t.reporting.report.runs import find_runs, read_run
from se3t.reporting.tables.build import named_tables, tables
from se3t.reporting.tables.formats import to_csv, to_markdown
from se3t.runs.files import digest_of, digest_of_metrics, seal
from se3t.runs.identity import settings_hash
from se3t.runs.names import ADVICE, DAMAGED, DIGESTS, FINISHED
from se3t.runs.record import find_results
from se3t.screen import markdown_text

from .results import result
from .test_classification import cloud_result

Run = dict[str, Any]


def make(runs: Path, seed: int = 0, model: str = "se3_transformer", mse: float = 0.035) -> Path:
    """A finished run as training leaves it."""
    content = result(
        model, seed, test__mse_x=mse, units={"mse_x": "m²"}, config__data={"name": "nbody", "root": "data"}
    )
    folder = runs / "nbody" / model / f"{seed}-{settings_hash(content['config'])}"
    (folder / "checkpoints").mkdir(parents=True)
    lines = [{"kind": "valid", "step": step, "loss": 100 / step, "seconds": 1.0} for step in (1000, 2000)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    content[DIGESTS] = {"metrics.jsonl": digest_of_metrics(lines)}
    (folder / "result.json").write_text(json.dumps(seal(content), indent=2))
    (folder / "config.yaml").write_text(yaml.safe_dump(content["config"]))
    return folder


def edit(name: str, value: Any) -> Callable[[Path], None]:
    """Set a field by dotted name, or remove it for None."""

    def change(folder: Path) -> None:
        content = json.loads((folder / "result.json").read_text())
        target = content
        *path, last = name.split(".")
        for key in path:
            target = target[key]
        target.pop(last, None) if value is None else target.update({last: value})
        (folder / "result.json").write_text(json.dumps(content))

    return change


def replaced(old: str, new: str) -> Callable[[Path], None]:
    """Replace text in the file, as a careless editor does."""

    def change(folder: Path) -> None:
        text = (folder / "result.json").read_text()
        assert old in text
        (folder / "result.json").write_text(text.replace(old, new, 1))

    return change


def write(content: bytes, name: str = "result.json") -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


def rename(name: str) -> Callable[[Path], None]:
    return lambda folder: folder.rename(folder.with_name(name)) and None


def reseal_with(name: str, value: Any) -> Callable[[Path], None]:
    """An edit by somebody who writes the digest anew: only what cannot be true is refused."""

    def change(folder: Path) -> None:
        edit(name, value)(folder)
        content = json.loads((folder / "result.json").read_text())
        (folder / "result.json").write_text(json.dumps(seal(content)))

    return change


def both(*changes: Callable[[Path], None]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for one in changes:
            one(folder)

    return change


def both_configs(folder: Path) -> None:
    edit("config.model.channels", 64)(folder)
    config = json.loads((folder / "result.json").read_text())["config"]
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def digest_of_another(folder: Path) -> None:
    other = json.loads((make(folder.parents[3] / "elsewhere", 7, mse=0.02) / "result.json").read_text())
    edit("digest", other["digest"])(folder)


def result_of_another(folder: Path) -> None:
    other = make(folder.parents[3] / "elsewhere", 7, mse=0.001)
    shutil.copy(other / "result.json", folder / "result.json")


def link_to_another(folder: Path) -> None:
    other = make(folder.parents[3] / "elsewhere", 7, mse=0.001)
    (folder / "result.json").unlink()
    (folder / "result.json").symlink_to(other / "result.json")


def huge(folder: Path) -> None:
    os.truncate(folder / "result.json", 2**30)


def pipe(folder: Path) -> None:
    (folder / "result.json").unlink()
    os.mkfifo(folder / "result.json")


def as_folder(folder: Path) -> None:
    (folder / "result.json").unlink()
    (folder / "result.json").mkdir()


REFUSED: dict[str, Callable[[Path], None]] = {
    "a number": edit("test.mse_x", 0.001),
    "the last digit of a number": replaced("0.035", "0.034"),
    "a number on validation in place of test": edit("test", {"mse_x": 0.001}),
    "no numbers on test": edit("test", None),
    "a unit": edit("units.mse_x", "cm²"),
    "the size of a split": edit("data.sizes.test", 5),
    "the seed": edit("seed", 1),
    "the seed and its settings": both(edit("seed", 1), edit("config.seed", 1)),
    "a setting": edit("config.model.channels", 64),
    "a setting in both files": both_configs,
    "settings beside it": write(b"seed: 0\nmodel: {name: tfn}\n", "config.yaml"),
    "settings that are none": write(b"\x80\x81", "config.yaml"),
    "aliases in the settings": write(
        b"a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
        "config.yaml",
    ),
    "settings nested too deeply": write(b"[" * 100_000, "config.yaml"),
    "an interpolation in the settings": edit("config.data.root", "${oc.env:SECRET}"),
    "the name of the folder, another seed": rename("5-01234567"),
    "the name of the folder, another hash": rename("0-01234567"),
    "the checksum of the data": edit("data.checksum", "fedcba9876543210"),
    "a baseline": edit("data.baselines.constant_velocity", [0.7, 2.6]),
    "the digest of another": digest_of_another,
    "a digest that is none": edit("digest", 5),
    "the digest of the record, not of the files": edit("digest", None),
    "half of the file": lambda folder: os.truncate(folder / "result.json", 200),
    "an empty file": lambda folder: os.truncate(folder / "result.json", 0),
    "a key more": edit("remark", "better"),
    "a key twice": replaced('"mse_x": 0.035', '"mse_x": 0.035, "mse_x": 0.001'),
    "NaN": edit("test.mse_x", float("nan")),
    "infinity": replaced("0.035", "Infinity"),
    "a number too large for a float": replaced("0.035", "1" + "0" * 400),
    "a negative error": edit("test.mse_x", -0.035),
    "a negative error with a digest": reseal_with("test.mse_x", -0.035),
    "a text for a number": reseal_with("test.mse_x", "0.001"),
    "a missing metric": reseal_with("test.mse_v", None),
    "another model": edit("model", "tfn"),
    "another model, twice": both(edit("model", "tfn"), edit("config.model.name", "tfn")),
    "the number of steps": edit("budget.steps_done", 100_000),
    "the number of parameters": edit("parameters", 5),
    "the preset": edit("preset", "paper"),
    "the status": edit("status", "running"),
    "another experiment": edit("experiment", "qm9"),
    "the result of another": result_of_another,
    "a link to the result of another": link_to_another,
    "a list": write(b"[1, 2]"),
    "brackets without end": write(b"[" * 100_000),
    "binary garbage": write(bytes(range(256)) * 16),
    "UTF-16": lambda folder: (
        (folder / "result.json").write_text((folder / "result.json").read_text(), encoding="utf-16") and None
    ),
    "a huge file": huge,
    "a pipe": pipe,
    "a folder": as_folder,
}


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECRET", "hunter2")
    return tmp_path / "runs"


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    status = main(words)
    told = capsys.readouterr()
    return status, told.out, told.err


@pytest.mark.parametrize("tamper", REFUSED.values(), ids=REFUSED.keys())
def test_a_record_that_was_tampered_with_is_left_out_and_named(runs: Path, tamper: Callable[[Path], None]) -> None:
    make(runs, 1, "tfn", mse=0.5)
    folder = make(runs)
    tamper(folder)
    (path,) = folder.parent.iterdir()
    (table,) = named_tables("1", find_results(runs))
    shown = to_markdown(table)
    assert "0.5000" in shown  # the other run
    for number in ("0.0350", "0.0340", "0.0010"):
        assert number not in shown
    (reason,) = table.left_out
    assert str(path) in reason
    assert f"- Left out: {markdown_text(reason)}." in shown
    with pytest.raises(UserError) as alone:
        named_tables("1", find_results(path))
    for told in (reason, str(alone.value), read_run(path).problem):
        assert len(told.splitlines()) == 1
        assert "hunter2" not in told
    assert read_run(path).state == DAMAGED


def test_a_table_goes_on_without_a_damaged_record_and_says_so(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(runs, 1, "tfn", mse=0.5)
    folder = make(runs)
    edit("test.mse_x", 0.001)(folder)
    status, out, err = answer(capsys, "table", "1", "runs")
    assert status == 0
    assert "0.5000" in out
    assert err.startswith("se3t: table: left out: runs/nbody/se3_transformer/")
    assert len(err.splitlines()) == 1
    assert "Left out: runs/nbody/se3_transformer/" in out
    status, out, err = answer(capsys, "table", "1", str(folder))
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert "its content does not match its field 'digest'" in err


without_digests = both(edit("digest", None), edit("digests", None))
MARKED: dict[str, Callable[[Path], None]] = {
    "the digest": without_digests,
    "the digest, and a number": both(without_digests, edit("test.mse_v", 0.02)),
}


@pytest.mark.parametrize("tamper", MARKED.values(), ids=MARKED.keys())
def test_a_record_without_a_digest_is_marked_in_every_format(
    runs: Path, tamper: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make(runs)
    make(runs, 0, "tfn", mse=0.5)
    tamper(folder)
    paths = sorted(runs.glob("**/result.json"))
    (table,) = named_tables("1", paths)
    (line,) = [line for line in to_markdown(table).splitlines() if "0.0350" in line]
    assert line.startswith("| SE(3)-Transformer | measured, 1 seed ᵘ |")
    assert any(note.startswith("ᵘ unverified: ") for note in table.notes)
    hows = {line.partition(",measured")[0]: line for line in to_csv([table]).splitlines() if "unverified" in line}
    assert all("SE(3)-Transformer" in line or "Linear" in line for line in hows)
    assert "unverified" in to_csv([table])
    status, out, _ = answer(capsys, "table", "1")
    assert status == 0
    assert "ᵘ" in out
    assert not read_run(folder).is_verified
    assert read_run(folder).state == FINISHED
    assert "finished ᵘ" in answer(capsys, "runs")[1]


def test_what_changes_no_number_is_no_tampering(runs: Path) -> None:
    folder = make(runs)
    path = folder / "result.json"
    before = to_markdown(*tables([path]))
    content = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(content.items())), indent=7))  # another order, other white space
    assert to_markdown(*tables([path])) == before
    kept = folder.rename(folder.with_name("kept by hand"))
    assert to_markdown(*tables([kept / "result.json"])) == before
    assert "ᵘ" not in before


def test_a_copy_counts_once_and_is_named(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make(runs)
    shutil.copytree(folder, folder.with_name("copy"))
    status, out, err = answer(capsys, "table", "1", "--markdown")
    assert status == 0
    assert "measured, 1 seed |" in out
    assert err.count("is a copy of") == 1
    assert len(find_curve_runs([runs], "loss")) == 1


def test_of_one_run_with_two_results_none_is_chosen(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(make(runs), runs / "mine")
    reseal_with("test.mse_x", 0.001)(runs / "mine")
    status, out, err = answer(capsys, "table", "1")
    assert (status, out) == (2, "")
    assert "the same run (model se3_transformer, seed 0) is also in" in err


def test_changed_measurements_stay_out_of_learning_curves(runs: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder, other = make(runs), make(runs, 1)
    path = folder / "metrics.jsonl"
    path.write_text(path.read_text().replace("0.05", "0.01"))
    assert [run.folder for run in find_curve_runs([runs], "loss")] == [other]
    assert f"left out: {path}: does not match the digest" in caplog.text
    with pytest.raises(UserError, match=r"metrics\.jsonl: does not match the digest in .*result\.json"):
        find_curve_runs([folder], "loss")
    longer = yaml.safe_load((folder / "config.yaml").read_text()) | {"trainer": {"max_steps": 9000}}
    (folder / "config.yaml").write_text(yaml.safe_dump(longer))  # as of a run that goes on, and appends lines
    assert len(find_curve_runs([folder], "loss")) == 1


def test_seconds_of_the_machine_are_no_part_of_the_digest(runs: Path) -> None:
    path = make(runs) / "metrics.jsonl"
    path.write_text(path.read_text().replace('"seconds": 1.0', '"seconds": 2.0'))
    assert len(find_curve_runs([runs], "loss")) == 1


def test_changed_predictions_make_no_confusion_matrix(runs: Path) -> None:
    details = {"split": "test", "classes": ["a", "b"], "label": [0, 1], "predicted": [0, 0]}
    folder = runs / "clouds"
    folder.mkdir(parents=True)
    (folder / "details.json").write_text(json.dumps(details))
    content = {**cloud_result(), DIGESTS: {"details.json": digest_of(details)}}
    (folder / "result.json").write_text(json.dumps(seal(content)))
    assert load_confusion(folder).counts == [[1, 0], [1, 0]]
    (folder / "details.json").write_text(json.dumps({**details, "predicted": [0, 1]}))
    with pytest.raises(UserError, match=r"details\.json: does not match the digest .*restore the file"):
        load_confusion(folder)
    assert "changed after its run" in ADVICE


def test_the_report_lists_what_tables_leave_out(runs: Path) -> None:
    make(runs, 1)
    edit("test.mse_x", 0.001)(make(runs))
    assert sorted(run.state for run in find_runs([runs])) == [DAMAGED, FINISHED]
