"""The HTML report from invented run records; ``tests/cli/test_report.py`` opens it in a browser."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2 import UndefinedError

import se3t.runs.record
from se3t.cli import report, table
from se3t.errors import UserError
from se3t.reporting.figures.trajectory_runs import SYSTEMS, find_trajectory_runs
from se3t.reporting.published import load_published
from se3t.reporting.report import view_runs
from se3t.reporting.report.equivariance import _decades, _place
from se3t.reporting.report.page import Content, duration, environment, render
from se3t.reporting.report.runs import Run, find_runs
from se3t.reporting.report.view_runs import load_view
from se3t.reporting.sweep_record import SweepRecord, Trial, TrialRun, trials_among, write_record
from se3t.runs import RunFolder

from .results import result

SE3 = "SE(3)-Transformer"
HOSTILE = "<script>alert(1)</script>"
ANGLES = [10 * number for number in range(36)]


def write_run(folder: Path, content: Mapping[str, Any], sessions: Sequence[Mapping[str, Any]] = ()) -> Path:
    """A finished run with weights."""
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "best.ckpt").write_bytes(b"weights")
    (folder / "result.json").write_text(json.dumps(content), encoding="utf-8")
    lines = [{"kind": "valid", "step": step, **content["test"]} for step in (1000, 2000)] if content["test"] else []
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (folder / "provenance.json").write_text(json.dumps({"sessions": list(sessions)}), encoding="utf-8")
    return folder


def write_unfinished(folder: Path, model: str = "tfn") -> Path:
    """A run that was killed while it wrote its second line."""
    folder.mkdir(parents=True)
    config = {"experiment": "nbody", "seed": 7, "model": {"name": model}, "trainer": {"max_steps": 900}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    line = {"kind": "valid", "step": 250, "mse_x": 0.5, "mse_v": 0.6, "equivariance_error_x": 2e-7, "seconds": 61.0}
    (folder / "metrics.jsonl").write_text(json.dumps(line) + '\n{"kind": "val', encoding="utf-8")
    return folder


def figure3(path: Path, **changes: Any) -> Path:
    """Five particles; one model is perfectly equivariant, the other turns its predictions half as far as its input."""
    axis = [0.0, 0.0, 1.0]
    positions = [[1.0, 0.2 * number, 0.3 * number - 0.6] for number in range(5)]
    target = [[x + 0.3, y + 0.2, z] for x, y, z in positions]
    models = []
    for name, label, turns in (
        ("set_transformer", "Set Transformer", 0.5),
        ("se3_transformer", "SE(3)-Transformer", 1.0),
    ):
        predictions = [[_turned(point, turns * angle) for point in target] for angle in ANGLES]
        facts = {"run": f"runs/{name}", "model": name, "label": label, "seed": 0, "preset": "quick", "max_steps": 1000}
        measured = {"steps_done": 1000, "batch_size": 128, "mse_x": 0.01, "equivariance_error_x": 0.2}
        models.append({**facts, **measured, "predictions": predictions})
    content = {
        "kind": "figure3",
        "data": {"preset": "calibrated_random", "horizon": 0.78, "checksum": "0123456789abcdef"},
        "sample": 3,
        "axis": axis,
        "angles": ANGLES,
        "charges": [1.0, -1.0, 1.0, 1.0, -1.0],
        "positions": positions,
        "velocities": [[0.1, 0.0, 0.2]] * 5,
        "target": target,
        "models": models,
        **changes,
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def _turned(point: Sequence[float], degrees: float) -> list[float]:
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return [cosine * point[0] - sine * point[1], sine * point[0] + cosine * point[1], point[2]]


@pytest.fixture(autouse=True)
def undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of matplotlib, which take the most time, are drawn only where a test says so."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr("se3t.reporting.report.page.figures", lambda *given: [])


@pytest.fixture
def drawn() -> None:
    """With all pictures."""


def page(runs: Sequence[Run] = (), **changes: Any) -> str:
    return render(Content(runs=runs, sources=["runs"], made=datetime(2026, 1, 2, tzinfo=UTC), **changes))


class Elements(HTMLParser):
    """All elements of a page with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


# --- markup -----------------------------------------------------------------------------------------------------------


def test_text_is_escaped_and_what_is_not_given_is_an_error() -> None:
    template = environment().from_string('<p title="{{ text }}">{{ text }}</p>')
    assert template.render(text="\"a' < &") == '<p title="&#34;a&#39; &lt; &amp;">&#34;a&#39; &lt; &amp;</p>'
    with pytest.raises(UndefinedError, match="'text' is undefined"):
        template.render()


def test_embedded_data_cannot_end_their_element_and_come_back_as_they_were(tmp_path: Path) -> None:
    label = "</script><script>alert(1)</script><!--\u2028&"
    models = json.loads(figure3(tmp_path / "plain.json").read_text(encoding="utf-8"))["models"]
    path = figure3(tmp_path / "figure3.json", models=[{**models[0], "label": label}, models[1]])
    content = re.search(r'<script type="application/json" id="view-data">(.*?)</script>', page(figure3=path), re.DOTALL)
    assert content is not None
    assert not set("<>&\u2028") & set(content[1])
    assert json.loads(content[1]) == load_view(path)
    assert label in [model["label"] for model in load_view(path)["models"]]
    with pytest.raises(ValueError, match="not JSON compliant"):
        environment().from_string("{{ value | tojson }}").render(value=math.nan)


# --- runs -------------------------------------------------------------------------------------------------------------


def test_runs_are_found_in_whatever_state(tmp_path: Path) -> None:
    write_run(tmp_path / "a", result("tfn", 2))
    write_unfinished(tmp_path / "deep" / "b")
    for name, text in (("c", "{"), ("d", '{"status": "odd"}'), ("e", "[]"), ("f", '{"status": NaN}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(text, encoding="utf-8")
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / "config.yaml").write_text("of something else: 1", encoding="utf-8")
    write_run(tmp_path / ".hidden", result())
    runs = {run.folder.name: run for run in find_runs([tmp_path])}
    states = {name: run.state for name, run in runs.items()}
    assert states == {"a": "finished", "b": "interrupted", **dict.fromkeys("cdef", "damaged")}
    assert "is not valid JSON" in runs["c"].problem
    assert "the run is not finished" in runs["d"].problem
    assert (runs["a"].steps, runs["a"].seed, runs["a"].split) == ((2000, 2000), 2, "test")
    assert runs["b"].steps == (250, 900)
    assert runs["b"].metrics == {"mse_x": 0.5, "mse_v": 0.6, "equivariance_error_x": 2e-7}
    assert (runs["b"].split, runs["b"].seconds) == ("valid", 61.0)


def test_a_run_that_another_process_holds_is_running(tmp_path: Path) -> None:

    folder = write_unfinished(tmp_path / "a")
    with RunFolder(folder).exclusive():
        assert [run.state for run in find_runs([tmp_path])] == ["running"]
    assert [run.state for run in find_runs([tmp_path])] == ["interrupted"]


def test_values_of_the_wrong_type_are_damage_and_not_fatal(tmp_path: Path) -> None:
    odd = {"budget": [], "parameters": "many", "test": {"mse_x": "x", "mse_v": 10**400}, "config": 3, "seed": True}
    write_run(tmp_path / "a", result() | {"valid": None} | odd | {"test": {"mse_x": None}})
    (run,) = find_runs([tmp_path])
    assert run.state == "damaged"
    assert "field 'seed' should be an integer, got True" in run.problem
    assert "Runs" in page([run])


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "–"), (0.71, "0.7 s"), (90.0, "2 min"), (3599.0, "1 h 00 min"), (4000.0, "1 h 07 min")]
)
def test_times_are_told_in_words(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


# --- the page ---------------------------------------------------------------------------------------------------------


def test_nothing_of_a_run_becomes_a_part_of_the_page(tmp_path: Path) -> None:
    hostile = result("tfn", preset=HOSTILE, config__model={"name": HOSTILE, "note": HOSTILE})
    hostile["data"]["preset"] = hostile["command"] = hostile["experiment"] = HOSTILE
    hostile["units"] = {"mse_x": HOSTILE}
    sessions = [{"command": HOSTILE, "versions": {HOSTILE: HOSTILE}, "resumed_from_step": HOSTILE}]
    write_run(tmp_path / "<script>alert(2)<" / "img src=x onerror=alert(3)>", hostile, sessions)
    (tmp_path / '"><svg onload=alert(4)>').mkdir()
    (tmp_path / '"><svg onload=alert(4)>' / "result.json").write_text(HOSTILE, encoding="utf-8")
    data = json.loads(figure3(tmp_path / "figure3.json").read_text())
    data["models"][0]["label"] = f"</script>{HOSTILE}"
    path = figure3(tmp_path / "figure3.json", models=data["models"])
    plain = [tag for tag, _ in Elements(page(figure3=figure3(tmp_path / "plain.json"))).found if tag == "script"]
    found = Elements(page(find_runs([tmp_path]), figure3=path, remarks=[HOSTILE]))
    assert [tag for tag, _ in found.found if tag == "script"] == plain == ["script", "script"]
    assert not [name for _, attributes in found.found for name in attributes if name.startswith("on")]
    assert not [tag for tag, attributes in found.found if tag == "img" and not attributes["src"].startswith("data:")]
    assert HOSTILE in found.text


def test_the_page_loads_nothing_and_says_so(tmp_path: Path) -> None:
    write_run(tmp_path / "a", result())
    text = page(find_runs([tmp_path]), figure3=figure3(tmp_path / "figure3.json"))
    found = Elements(text).found
    assert not [tag for tag, _ in found if tag in ("iframe", "object", "embed", "base", "audio", "video")]
    for tag, attributes in found:
        assert not {"srcset", "action", "formaction", "data", "xlink:href", "style"} & set(attributes), tag
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
    (policy,) = [attributes["content"] for tag, attributes in found if "http-equiv" in attributes]
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|import\(", text)


@pytest.mark.usefixtures("drawn")
def test_the_same_runs_make_the_same_page(tmp_path: Path) -> None:
    write_run(tmp_path / "a", result())
    data = figure3(tmp_path / "figure3.json")
    assert page(find_runs([tmp_path]), figure3=data) == page(find_runs([tmp_path]), figure3=data)


def test_every_number_of_a_run_and_where_it_comes_from_is_on_the_page(tmp_path: Path) -> None:
    session = {"git_commit": "abc123", "machine": "x86_64", "versions": {"torch": "2.9"}, "resumed_from_step": None}
    sessions = [session, {**session, "resumed_from_step": 500}]
    write_run(tmp_path / "5-a", result("tfn", 5, command="se3t train model=tfn", test__mse_x=0.0123456), sessions)
    write_unfinished(tmp_path / "7-b")
    text = Elements(page(find_runs([tmp_path]))).text
    for expected in (
        *("0.0123456", "12,345", "0123456789abcdef", "se3t train model=tfn", "abc123", "x86_64", "torch 2.9"),
        *("started again", "continued from step 500", "interrupted", "250 of 900", "1 finished, 1 interrupted"),
    ):
        assert expected in text, expected


@pytest.mark.usefixtures("drawn")
def test_without_runs_the_published_numbers_and_the_commands_are_there() -> None:
    found = Elements(page())
    for name in ("table1", "table2", "table3"):
        for model in load_published(name).models.values():
            assert model.label in found.text
    assert "0.0076" in found.text
    assert "se3t train" in found.text
    assert "se3t figure 4" in found.text
    assert "none yet" in found.text


def test_the_table_of_egnn_is_there_where_something_was_run_for_it(tmp_path: Path) -> None:
    write_run(tmp_path / "a", result())
    assert "PONITA" not in Elements(page(find_runs([tmp_path]))).text
    write_run(tmp_path / "b", result(data__preset="egnn", data__checksum="5"))
    assert "PONITA" in Elements(page(find_runs([tmp_path]))).text


def test_records_that_do_not_fit_together_are_told_in_their_table_only(tmp_path: Path) -> None:
    for name, error in (("a", 0.03), ("copy-of-a", 0.04)):
        write_run(tmp_path / name, result("tfn", test__mse_x=error))
    text = Elements(page(find_runs([tmp_path]))).text
    assert "the same run" in text
    assert "ScanObjectNN" in text
    assert text.count("copy-of-a") >= 2


def test_forty_runs_make_a_page_of_less_than_two_megabytes_besides_its_pictures(tmp_path: Path) -> None:
    for seed in range(8):
        for model in ("deepset", "tfn", "set_transformer", "se3_transformer", "linear"):
            write_run(tmp_path / model / f"{seed}-x", result(model, seed))
    runs = find_runs([tmp_path])
    assert len(runs) == 40
    assert len(page(runs, figure3=figure3(tmp_path / "figure3.json")).encode()) < 2e6


def test_every_identifier_is_used_once_and_every_label_has_its_control(tmp_path: Path) -> None:
    write_run(tmp_path / "a", result())
    write_run(tmp_path / "b", result("tfn"))
    found = Elements(page(find_runs([tmp_path]), figure3=figure3(tmp_path / "figure3.json"))).found
    names = [attributes["id"] for _, attributes in found if "id" in attributes]
    assert len(names) == len(set(names))
    for key in ("aria-controls", "aria-labelledby", "aria-describedby"):
        assert {attributes[key] for _, attributes in found if key in attributes} <= set(names)
    assert {attributes["href"] for tag, attributes in found if tag == "a"} <= {f"#{name}" for name in names}
    assert all(attributes.get("alt") for tag, attributes in found if tag == "img")
    assert all(attributes.get("scope") for tag, attributes in found if tag == "th")


# --- figures ----------------------------------------------------------------------------------------------------------


def _sweep(folder: Path, preset: str, count: int) -> None:
    for number in range(count):
        changes = {"preset": preset, "config__preset": preset, "config__optim": {"lr": 1e-3 * (number + 1)}}
        write_run(folder / f"{preset}-{number}", result("tfn", **changes))


@pytest.mark.usefixtures("drawn")
def test_more_lines_than_a_figure_holds_are_parted_by_preset(tmp_path: Path) -> None:
    _sweep(tmp_path, "smoke", 9)
    _sweep(tmp_path, "quick", 9)
    text = Elements(page(find_runs([tmp_path]))).text
    assert "preset quick: mse_x on validation" in text
    assert "preset smoke: mse_x on validation" in text
    assert "ot drawn" not in text


@pytest.mark.usefixtures("drawn")
def test_of_a_preset_with_too_many_lines_those_as_the_preset_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _sweep(tmp_path, "smoke", 18)
    of_preset = {"optim.lr": 2e-3, "model.name": "tfn", "model.channels": 8, "trainer.max_steps": 2000}
    monkeypatch.setattr(se3t.runs.record, "settings_of_preset", lambda *names: of_preset)
    text = Elements(page(find_runs([tmp_path]))).text
    assert "Not shown: 17 lines with other settings than those of the preset." in text
    assert "ot drawn" not in text


@pytest.mark.usefixtures("drawn")
def test_the_speed_of_harmonics_is_drawn_where_it_was_measured(tmp_path: Path) -> None:
    row = {"name": "scipy", "what": "forward", "degree": 1, "per_second": 2.0, "difference": 1e-8}
    machine = {"device": "an invented CPU", "threads": 2}
    settings = {"device": "cpu", "num_vectors": 10}
    path = tmp_path / "harmonics.json"
    report = {"benchmark": "sh", "rows": [row], "machine": machine, "settings": settings}
    path.write_text(json.dumps({"kind": "harmonics", "reports": [report]}), encoding="utf-8")
    assert "measured on an invented CPU, 2 threads" in Elements(page(harmonics=path)).text
    assert "se3t figure sh" in Elements(page()).text


# --- equivariance errors ----------------------------------------------------------------------------------------------


def test_the_scale_of_errors_is_logarithmic_and_holds_them_all() -> None:
    decades = _decades([3e-7, 0.2])
    assert (decades[0], decades[-1]) == (-7, 0)
    places = [float(_place(value, decades).rstrip("%")) for value in (1e-7, 1e-6, 1e-5, 1.0)]
    assert places[1] - places[0] == pytest.approx(places[2] - places[1])
    assert 0 < places[0] < places[3] < 100
    assert len(_decades([1.0])) >= 4


def test_an_error_of_zero_has_a_place(tmp_path: Path) -> None:
    write_run(tmp_path / "a", result("linear", test__equivariance_error_x=0.0, test__equivariance_error_v=0.0))
    text = page(find_runs([tmp_path]))
    assert "NaN" not in text
    assert "Equivariance errors: the smallest" in text


# --- the three-dimensional view ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"kind": "figure4"}, "'kind'"),
        ({"charges": []}, "'charges'"),
        ({"velocities": [[0, 0, 0]]}, "velocities.1.0"),
        ({"target": [[0, 0]] * 5}, "'target"),
        ({"models": []}, "'models'"),
        ({"positions": [[0, 0, "x"]] * 5}, "'positions"),
    ],
)
def test_a_file_that_is_no_figure_3_is_refused_by_field(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    path = figure3(tmp_path / "figure3.json", **changes)
    with pytest.raises(UserError, match=re.escape(named)) as error:
        load_view(path)
    assert str(path) in str(error.value)


def test_the_view_shows_one_run_of_every_system_on_the_data_with_most(tmp_path: Path) -> None:
    write_run(tmp_path / "tfn-other-data", result("tfn", data__checksum="ffff"))
    write_run(tmp_path / "tfn-1", result("tfn", 1))
    write_run(tmp_path / "tfn-0", result("tfn", 0))
    write_run(tmp_path / "tfn-short", result("tfn", 0, budget__steps_done=10))
    write_run(tmp_path / "se3", result("se3_transformer"))
    write_run(tmp_path / "deepset", result("deepset"))
    without = write_run(tmp_path / "set", result("set_transformer"))
    (without / "checkpoints" / "best.ckpt").unlink()
    write_run(tmp_path / "odd", result("linear", test__mse_x="far"))
    runs = find_runs([tmp_path])
    assert [run.folder.name for run in runs if run.state == "damaged"] == ["odd"]
    chosen, left_out = view_runs.view_runs(runs)
    assert [folder.name for folder in chosen] == ["deepset", "tfn-0", "se3"]
    assert left_out == []
    assert view_runs.view_runs([]) == ([], [])


def test_the_view_and_figure_3_choose_the_same_runs(tmp_path: Path) -> None:
    """Many systems on one data set, and the two of the paper trained for longer, in larger batches, on another."""
    for model in ("deepset", "tfn", "linear", "set_transformer", "se3_transformer"):
        write_run(tmp_path / model, result(model))
    longer = {"data__checksum": "ffff", "budget__batch_size": 512}
    expected = [write_run(tmp_path / f"long-{model}", result(model, **longer)) for model in SYSTEMS]
    assert find_trajectory_runs([tmp_path]) == expected
    assert view_runs.view_runs(find_runs([tmp_path]))[0] == expected


def test_what_was_measured_holds_until_weights_or_runs_change(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / name, result(name)) for name in ("tfn", "deepset")]
    path, wanted = figure3(tmp_path / "figure3.json"), view_runs.sources(folders)
    assert not view_runs.is_current(path, wanted)
    assert not view_runs.may_be_replaced(path), "it is a file of se3t figure 3"
    view_runs.remember(path, wanted, path)
    assert view_runs.is_current(path, wanted)
    assert view_runs.may_be_replaced(path)
    assert load_view(path)["angles"] == ANGLES
    assert not view_runs.is_current(path, view_runs.sources(folders[:1]))
    (folders[0] / "checkpoints" / "best.ckpt").write_bytes(b"others")
    assert not view_runs.is_current(path, view_runs.sources(folders))
    path.write_text("{")
    assert not view_runs.is_current(path, wanted)


# --- trials of sweeps, own molecules, order ---------------------------------------------------------------------------


def with_sweep(runs: Path) -> list[Path]:
    """A trial of a sweep, a training of one's own that the sweep has found finished, and one that it does not know."""
    groups = {"0-trial": "lr-1a2b", "0-own": None, "1-own": None}
    folders = []
    for number, (name, group) in enumerate(groups.items()):
        content = result("tfn", seed=number, config__logger={"group": group})
        folders.append(write_run(runs / "nbody" / "tfn" / name, content))
    trials = [
        Trial(number, {"optim.lr": 0.1**number}, runs=[TrialRun(0, f"elsewhere/nbody/tfn/{folder.name}")])
        for number, folder in enumerate(folders[:2])
    ]
    sweep = runs / "sweeps" / "nbody" / "lr-1a2b"
    sweep.mkdir(parents=True)
    record = SweepRecord("lr-1a2b", "", "nbody", "grid", "loss", "minimize", {}, [0], 2, [], trials)
    write_record(sweep, record)
    (runs / "sweeps" / "nbody" / "bad").mkdir()
    (runs / "sweeps" / "nbody" / "bad" / "trials.json").write_text("{")
    return folders


def test_trials_are_those_that_a_sweep_has_started(tmp_path: Path) -> None:
    folders = with_sweep(tmp_path / "runs")
    assert trials_among(folders) == {folders[0]: "lr-1a2b"}
    assert trials_among([Path("a"), tmp_path]) == {}


def test_a_table_leaves_trials_out_unless_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = with_sweep(tmp_path / "runs")
    results = [folder / "result.json" for folder in folders]
    assert table._results([tmp_path / "runs"], False) == results[1:]
    assert "1 trials of sweeps are left out (lr-1a2b); --trials shows them" in capsys.readouterr().err
    for paths, asked in (([tmp_path / "runs"], True), ([folders[0]], False), ([results[0]], False)):
        assert results[0] in table._results(paths, asked)
    assert capsys.readouterr().err == ""


def test_the_report_leaves_trials_out_or_marks_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_sweep(tmp_path / "runs")
    out = tmp_path / "page.html"
    words = [str(tmp_path / "runs"), "--out", str(out), "--no-measure"]
    assert report.run(words) == 0
    text = out.read_text()
    assert "0-trial" not in text
    assert "1 trials of sweeps are left out" in text
    assert report.run([*words, "--trials"]) == 0
    text = out.read_text()
    assert text.count("0-trial") > 0
    assert text.count("trial of lr-1a2b") == 1


def test_a_run_on_own_molecules_is_called_by_its_data_and_unit() -> None:
    config = {"task": {"target": "homo", "column": "logS"}, "data": {"name": "molecules", "raw": "my/esol.csv"}}
    run = Run(Path("r"), "finished", experiment="qm9", config=config, data={"label": "logS", "unit": "mol/L"})
    assert run.what == "molecules: esol, logS, mol/L"
    assert Run(Path("r"), "running", experiment="qm9", config=config).what == "molecules: esol, logS"


def test_the_view_opens_on_the_se3_transformer(tmp_path: Path) -> None:
    labels = [model["label"] for model in load_view(figure3(tmp_path / "figure3.json"))["models"]]
    assert labels == [SE3, "Set Transformer"]


def test_figures_just_measured_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "figures").mkdir(parents=True)
    folder = Path("runs/figures")
    assert report._newest(folder, "harmonics.json") == folder / "harmonics.json"
    Path("harmonics.json").write_text("{}")
    assert report._newest(folder, "harmonics.json") == Path("harmonics.json")
    (folder / "harmonics.json").write_text("{}")
    os.utime("harmonics.json", (1, 1))
    assert report._newest(folder, "harmonics.json") == folder / "harmonics.json"


def test_a_figure_of_other_runs_in_the_current_folder_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("figure4.json").write_text(json.dumps({"points": [{"run": "runs/scanobjectnn/tfn/0-a"}]}))
    shown = [Run(Path("runs/scanobjectnn/tfn/0-a").absolute(), "finished")]
    others = [Run(Path("other/scanobjectnn/tfn/0-a"), "finished")]
    folder = Path("runs/figures")
    assert report._newest(folder, "figure4.json", shown) == Path("figure4.json")
    assert report._newest(folder, "figure4.json", others) == folder / "figure4.json"
