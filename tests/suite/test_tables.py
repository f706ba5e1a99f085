"""The trainings of a table: all of them, nothing but them, and nothing twice."""

from __future__ import annotations

import copy
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import pytest
import yaml
from tests.suite.parts import StubLauncher, job, with_data

from se3t.config import Config, QM9Data, SE3TransformerModel, conf_dir
from se3t.errors import UserError
from se3t.reporting.published import load_published
from se3t.runs import RunFolder
from se3t.runs.names import CHECKPOINTS
from se3t.suite import costs, pool, tables
from se3t.suite.costs import resources
from se3t.suite.jobs import Job
from se3t.suite.launch import LocalHandle
from se3t.suite.tables import TableRequest, jobs_of, plan, run

probe = costs._probe

_composed: dict[tuple[str, ...], Config] = {}
_compose = tables._composed


def composed(words: tuple[str, ...]) -> tuple[tuple[str, ...], Config]:
    """As :func:`tables._composed`, once for every line: Hydra takes its time."""
    if words not in _composed:
        _composed[words] = _compose(words)[1]
    return words, copy.deepcopy(_composed[words])


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and no measuring."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pool, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(costs, "_probe", measured)
    monkeypatch.setattr(tables, "_composed", composed)
    return tmp_path


def measured(configs: Sequence[object], data: Sequence[object], threads: int | None) -> dict[str, object]:
    return {
        "startup": 2.0,
        "costs": [{"step": 0.1, "sample": 0.0} for _ in configs],
        "preparation": [1.0 for _ in data],
    }


BOTH = "data.preset=calibrated_random,text"


def request(which: str, *words: str, preset: str | None = "smoke", **options: object) -> TableRequest:
    return TableRequest(which, preset=preset, overrides=words, **options)  # type: ignore[arg-type]


def systems(jobs: Sequence[Job]) -> list[tuple[str, int]]:
    return [(one.config.model.name, one.config.seed) for one in jobs]


# --- which ------------------------------------------------------------------------------------------------------------


def test_table_1_has_five_systems_with_every_seed_on_the_data_that_were_chosen() -> None:
    jobs = jobs_of(request("1", BOTH, seeds=(0, 1)))
    found = {(one.config.data.preset, one.config.model.name, one.config.seed) for one in jobs}
    models = load_published("table1").models
    wanted = {(data, name, seed) for data in ("calibrated_random", "text") for name in models for seed in (0, 1)}
    assert found == wanted - {(data, "linear", 1) for data in ("calibrated_random", "text")}  # nothing there for a seed
    assert len(jobs) == len(found) == 18
    assert [one.folder for one in jobs_of(request("1", seeds=(0, 1)))] == [one.folder for one in jobs[:9]]


def test_table_2_has_a_training_for_every_published_system() -> None:
    ((*found,),) = tables._groups("2", {})
    entries = load_published("table2").models.values()
    assert found == [(f"model={one.model}", *(["task.height=true"] if one.height else [])) for one in entries]
    with_height = jobs_of(request("2", "data=shapes15", "model=tfn"))
    assert [(one.config.data.name, one.config.task.height) for one in with_height] == [
        ("shapes15", False),
        ("shapes15", True),
    ]


def test_table_3_has_every_target_for_every_model_of_this_package() -> None:
    published = load_published("table3")
    models = [entry.model for entry in published.models.values() if entry.model is not None]
    found = [words for group in tables._groups("3", {}) for words in group]
    assert found == [(f"model={model}", f"task={target}") for target in published.columns for model in models]
    assert models == ["mpnn", "schnet", "tfn", "se3_transformer"]


def test_the_reduced_budget_of_table_3_is_that_of_the_measured_table() -> None:
    jobs = jobs_of(request("3", "task=homo", "model=tfn,se3_transformer", preset="reduced", seeds=(0,)))
    for config in (one.config for one in jobs):
        budget = config.trainer.max_steps, config.trainer.batch_size, config.trainer.eval_every
        assert budget == (22_330, 32, 2_233)
        assert (config.trainer.ema_decay, config.optim.schedule, config.optim.final_lr_ratio) == (0.999, "cosine", 0.02)
        assert (config.model.channels, config.model.num_layers, config.model.num_degrees) == (16, 4, 3)
    assert len(jobs) == 2
    (schnet,) = jobs_of(request("3", "task=homo", "model=schnet", preset="reduced", seeds=(0,)))
    model = schnet.config.model
    assert (model.channels, model.num_filters, model.num_layers) == (64, 64, 3)


def test_ablations_are_the_full_model_what_is_taken_out_of_it_and_two_others() -> None:
    jobs = jobs_of(request("ablations"))
    found = [(one.config.model.name, getattr(one.config.model, "ablation", "none")) for one in jobs]
    own = [("se3_transformer", word) for word in ("none", "attention", "radial", "equivariance")]
    assert found == [*own, ("tfn", "none"), ("set_transformer", "none")]
    assert jobs[0].folder == jobs_of(request("1", "model=se3_transformer"))[0].folder  # one training serves both tables


def test_every_part_that_a_model_can_lack_is_an_ablation() -> None:
    from se3t.models import ABLATIONS as BUILT

    (setting,) = (item for item in fields(SE3TransformerModel) if item.name == "ablation")
    swept = yaml.safe_load((conf_dir() / "sweep" / "ablation.yaml").read_text())["parameters"]["model.ablation"]
    trained = [words[1].partition("=")[2] for words in tables.ABLATIONS if len(words) > 1]
    assert ["none", *trained] == list(setting.metadata["choices"]) == swept == ["none", *BUILT]


def test_the_default_is_the_reduced_budget_with_three_seeds_and_one_of_smoke() -> None:
    jobs = jobs_of(request("ablations", "model=tfn", preset=None))
    assert [(one.config.preset, one.config.seed) for one in jobs] == [("reduced", seed) for seed in (0, 1, 2)]
    assert [one.config.seed for one in jobs_of(request("ablations", "model=tfn"))] == [0]


def test_the_table_of_egnn_trains_on_its_data_with_every_budget() -> None:
    jobs = jobs_of(request("egnn", preset=None))
    models = [("linear", 0), *((model, seed) for seed in (0, 1, 2) for model in ("se3_transformer", "tfn"))]
    assert sorted(systems(jobs)) == sorted(models)
    assert {one.config.preset for one in jobs} == {"egnn"}
    others = [one for preset in ("smoke", "reduced", "quick") for one in jobs_of(request("egnn", preset=preset))]
    assert {one.config.data.preset for one in (*jobs, *others)} == {"egnn"}
    assert jobs_of(request("egnn", "data.preset=egnn", "model=tfn"))[0].folder == others[2].folder


def test_every_job_is_the_line_that_gives_its_configuration() -> None:
    jobs = jobs_of(request("1", "model=tfn", "optim.lr=0.5", seeds=(0, 7), runs=Path("my runs, here")))
    for one in (jobs[0], jobs[-1]):
        again = job(shlex.split(one.command)[2:])
        assert (again.config, again.folder) == (one.config, one.folder)
    assert jobs[-1].config.optim.lr == 0.5
    assert jobs[-1].folder.is_relative_to("my runs, here")


def test_words_choose_among_the_trainings() -> None:
    assert systems(jobs_of(request("1", "model=tfn,deepset", "data.preset=text"))) == [("deepset", 0), ("tfn", 0)]
    found = jobs_of(request("3", "task=gap,homo", "model=schnet"))
    assert [one.config.task.target for one in found] == ["gap", "homo"]
    assert [one.config.data.preset for one in jobs_of(request("1", "model=tfn", "data.preset=egnn,text"))] == [
        "egnn",
        "text",
    ]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (request("4"), r"table 4: unknown; known: 1, 2, 3, ablations"),
        (
            request("1", preset="released"),
            r"--preset released: experiment 'nbody' of table 1 has no such preset; .*quick",
        ),
        (request("1", preset="egnn"), r"--preset egnn: experiment 'nbody' of table 1 has no such preset; .*quick"),
        (request("egnn", "data.preset=text"), r"table egnn: data\.preset=text: is not part of the table; .*egnn"),
        (request("3", preset="quick"), r"experiment 'qm9' of table 3 has no such preset; .*fast"),
        (request("1", "seed=3"), r"seed=3: use --seeds"),
        (request("1", "preset=paper"), r"preset=paper: use --preset"),
        (request("1", "model=schnet"), r"table 1: model=schnet: is not part of the table; .*tfn"),
        (request("3", "task=gpa"), r"table 3: task=gpa: is not part of the table; did you mean 'gap'"),
        (request("1", "model="), r"table 1: model=: is empty; expected one or more"),
        (request("1", "data.preset=,"), r"table 1: data\.preset=,: is empty"),
        (request("3", "task="), r"table 3: task=: is empty"),
        (request("1", "task=homo"), r"table 1: task=homo: this setting is fixed; .* model=… or data\.preset=…"),
        (request("2", "task=homo"), r"table 2: task=homo: this setting is fixed"),
        (request("ablations", "task=homo"), r"table ablations: task=homo: this setting is fixed"),
        (request("3", "data.preset=text"), r"table 3: data\.preset=text: this setting is fixed; .* task=…"),
        (request("1", "optim.lr=0.1,0.2"), r"optim\.lr=0\.1,0\.2: several values"),
        (request("1", "model.num_degrees=3"), r"model=linear: model\.num_degrees: no such setting; known: name"),
        (request("1", "trainer.max_steps=0"), r"trainer\.max_steps=0 is out of range"),
        (request("2", "data=shapes15", "data.num_train=3"), r"data\.num_train"),
    ],
)
def test_what_is_refused_is_told_before_anything_starts(asked: TableRequest, message: str, place: Path) -> None:
    for command in (plan, run):
        with pytest.raises(UserError, match=message):
            command(asked)
    assert list(place.iterdir()) == []


# --- the plan ---------------------------------------------------------------------------------------------------------


def test_a_plan_is_complete_and_writes_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan(request("1", "model=tfn,linear", BOTH, preset="reduced"))
    text = capsys.readouterr().out
    lines = [line for line in text.splitlines() if line.startswith("new")]
    assert len(lines) == 8
    words = "se3t train experiment=nbody model=tfn data.preset=text preset=reduced seed=2"
    assert any(line.startswith("new  12,000 steps") and line.endswith(f"20 min  {words}") for line in lines)
    assert "table 1: 8 trainings, 8 new\n" in text
    assert "time: about " in text
    assert "6 from a few training steps measured now on random data" in text
    assert "they change with the load" in text
    assert "se3t data prepare nbody data.preset=text" in text
    assert list(place.iterdir()) == []


def test_a_measurement_that_fails_stops_no_training(
    stub: type[Launcher], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    killed = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    monkeypatch.setattr(costs, "_probe", probe)
    monkeypatch.setattr(costs, "_COMMAND", [sys.executable, "-c", killed])
    asked = request("ablations", "model=tfn", "trainer.max_steps=60")
    jobs = with_data(*jobs_of(asked))
    assert run(asked).finished == [one.result for one in jobs]
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "ablations: 1 trainings, 1 new; 1 at a time"
    assert (
        told[1] == "some times are unknown, because their measurement failed: ended by SIGKILL, perhaps out of memory"
    )


def test_a_plan_says_what_is_finished_and_where_others_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    first, second, *_ = jobs_of(request("1", "data.preset=calibrated_random"))
    finish(first)
    RunFolder(second.folder).write_config(second.config)
    (second.folder / CHECKPOINTS).mkdir()
    (second.folder / CHECKPOINTS / "step-0000000002.ckpt").touch()
    plan(request("1", "data.preset=calibrated_random"))
    text = capsys.readouterr().out
    assert text.splitlines()[0].startswith("finished ")
    assert text.splitlines()[1].startswith("interrupted at step 2  ")
    assert "table 1: 5 trainings, 1 finished, 1 interrupted, 3 new\n" in text


def test_table_2_without_its_files_says_so_and_names_the_stand_in(capsys: pytest.CaptureFixture[str]) -> None:
    plan(request("2", "model=tfn"))
    assert "not yet possible: table 2: there are no files of ScanObjectNN in data" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"there are no files of ScanObjectNN in data.*data=shapes15"):
        run(request("2", "model=tfn"))
    with pytest.raises(UserError, match=r"no files of ScanObjectNN at data\.raw=nowhere"):
        run(request("2", "model=tfn", "data.raw=nowhere"))


# --- running ----------------------------------------------------------------------------------------------------------


class Launcher(StubLauncher):
    """Keeps what it was made with; the DeepSet fails."""

    made: list[tuple[int | None, tuple[str, ...]]]

    def __init__(self, threads: int | None, words: tuple[str, ...]) -> None:
        super().__init__(Path("trace"))
        type(self).made.append((threads, words))

    def start(self, job: Job, log: Path) -> LocalHandle:
        if job.config.model.name == "deepset":
            job.config.optim.lr = 2.0
        return super().start(job, log)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> type[Launcher]:
    Launcher.made = []
    monkeypatch.setattr(tables, "LocalLauncher", Launcher)
    return Launcher


def test_a_run_trains_what_is_missing_lists_failures_and_a_second_one_repeats_nothing(
    stub: type[Launcher], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = request("1", "data.preset=calibrated_random", workers=2)
    jobs = with_data(*jobs_of(asked))
    finish(jobs[0])
    found = run(asked)
    assert found.finished == [one.result for one in jobs if one.config.model.name != "deepset"]
    assert [failure.job.config.model.name for failure in found.failed] == ["deepset"]
    told = capsys.readouterr().err
    assert told.startswith("table 1: 5 trainings, 1 finished, 4 new; 2 at a time\n")
    assert "started: SE(3)-Transformer, seed 0\n" in told
    assert "finished: TFN, seed 0  (" in told
    failed = "1 of 4 trainings failed; rerun the command to try them again:\n"
    assert f"{failed}  se3t train experiment=nbody model=dee" in told
    assert "    the training loss became nan in step 1; lower optim.lr (log: runs/logs/nbody-deepset-0-" in told
    trace = Path("trace").read_text()
    again = run(asked)
    assert (again.finished, len(again.failed)) == (found.finished, 1)
    new = Path("trace").read_text().removeprefix(trace)
    assert new.splitlines() == [f"{jobs[1].folder.name} from 0"]
    assert [words for _, words in stub.made] == [("logger.group=table1",)] * 2


def test_where_all_is_finished_nothing_starts(stub: type[Launcher], capsys: pytest.CaptureFixture[str]) -> None:
    asked = request("ablations", "model=tfn,set_transformer", "logger.group=mine")
    jobs = jobs_of(asked)
    for one in jobs:
        finish(one)
    assert run(asked).finished == [one.result for one in jobs]
    assert capsys.readouterr().err == "ablations: 2 trainings, 2 finished; nothing is left to do\n"
    assert not Path("trace").exists()


def test_a_run_record_that_contradicts_its_line_is_refused(stub: type[Launcher]) -> None:
    asked = request("ablations", "model=tfn")
    (first,) = jobs_of(asked)
    finish(first, config=asdict(jobs_of(request("ablations", "model=tfn", "optim.lr=0.5"))[0].config))
    with pytest.raises(UserError, match=r"holds another run, with another optim\.lr"):
        run(asked)


def test_a_finished_run_on_data_that_have_changed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("se3t.experiments.DataSet.recorded_checksum", lambda *_: "new")
    first, *_ = jobs_of(request("3", "task=homo", "model=tfn"))
    assert isinstance(first.config.data, QM9Data)
    finish(first, data={"checksum": "old"})
    with pytest.raises(UserError, match=r"has finished on data with checksum old, and the data now have new"):
        jobs_of(request("3", "task=homo", "model=tfn"))


def test_a_finished_run_whose_starts_an_earlier_version_drew_once_is_refused() -> None:
    asked = request("1", "model=tfn", "data.preset=text")
    (first,) = jobs_of(asked)
    finish(first, data={"checksum": "old"})
    with pytest.raises(
        UserError, match=r"has finished on one start for each trajectory.* remove this one to train again"
    ):
        jobs_of(asked)
    finish(first, data={"checksum": "old", "distinct_samples": 7})
    assert [one.state for one in jobs_of(asked)] == ["finished"]


def test_workers_and_threads_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("se3t.suite.costs.available_cores", lambda: 8)
    monkeypatch.setattr("se3t.suite.costs.has_gpu", lambda: False)
    jobs = jobs_of(request("1", "model=linear,deepset,tfn", BOTH, seeds=(0, 1, 2, 3)))
    assert resources(jobs, None) == (8, 1)
    assert resources(jobs, 2) == (2, 4)
    assert resources(jobs[:1], None) == (1, 8)
    assert resources(jobs_of(request("1", "model=tfn", BOTH, "trainer.threads=3")), 2) == (2, 3)
    assert resources(jobs_of(request("1", "trainer.devices=4", "model=tfn", BOTH)), None) == (2, 4)
    monkeypatch.setattr("se3t.suite.costs.has_gpu", lambda: True)
    assert resources(jobs, None) == (1, None)
    assert resources(jobs_of(request("1", "model=tfn", BOTH, "trainer.accelerator=cpu")), None) == (2, 4)


def finish(one: Job, **changed: object) -> None:
    one.folder.mkdir(parents=True, exist_ok=True)
    steps = one.config.trainer.max_steps
    content = {"config": asdict(one.config), "budget": {"max_steps": steps, "steps_done": steps}, "parameters": 1}
    content["data"] = {"distinct_samples": 7}
    one.result.write_text(json.dumps({**content, **changed}))
