"""Files of sweeps: what is ready, what is read, what is refused in one sentence."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from se3t.config import choices, conf_dir
from se3t.errors import UserError
from se3t.suite import spaces
from se3t.suite.spaces import Interval, Objective, Pruning, Values
from se3t.suite.specification import Specification, specify

EXPERIMENTS = sorted(path.stem for path in (conf_dir() / "experiment").glob("*.yaml"))
READY = [
    (path.stem, experiment)
    for path in sorted((conf_dir() / "sweep").glob("*.yaml"))
    for experiment in yaml.safe_load(path.read_text(encoding="utf-8")).get("experiments") or EXPERIMENTS
]  # every ready sweep with every experiment that it is for


def file(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def corners(spec: Specification) -> list[dict[str, Any]]:
    """All combinations of a grid; of a search the lowest and the highest values."""
    if spec.sweep.search == "grid":
        return list(spec.combinations())
    ends = {
        name: (space.low, space.high) if isinstance(space, Interval) else (space.values[0], space.values[-1])
        for name, space in spec.sweep.parameters.items()
    }
    return [{name: end[index] for name, end in ends.items()} for index in (0, 1)]


def test_the_ablations_of_the_paper_are_ready() -> None:
    assert {"lr", "lr_channels", "degree", "heads", "attention", "ablation", "self_interaction", "points"} <= set(
        choices("sweep")
    )


@pytest.mark.parametrize(("name", "experiment"), READY)
def test_every_combination_of_a_ready_sweep_is_a_training_of_its_own(name: str, experiment: str) -> None:
    spec = specify([f"experiment={experiment}", f"sweep={name}", "preset=smoke"])
    jobs = [spec.job(parameters, 0) for parameters in corners(spec)]
    assert len({job.folder for job in jobs}) == len(jobs) >= 2
    assert spec.sweep.description
    assert not spec.sweep.objective.metric.startswith("test")


def test_a_short_cut_to_a_configuration_is_what_the_line_composes() -> None:
    from tests.suite.parts import job

    spec = specify(["experiment=qm9", "sweep=lr_channels", "preset=smoke"])
    for parameters in corners(spec):
        short = spec.job(parameters, 3)
        assert asdict(job(short.overrides).config) == asdict(short.config)
        assert job(short.overrides).folder == short.folder


def test_a_file_of_the_user_is_read(tmp_path: Path) -> None:
    text = """
description: mine
search: tpe
objective: {metric: accuracy}
parameters:
  optim.lr: {low: 1e-4, high: 1e-2, log: true}
  model.channels: {low: 8, high: 32, step: 8}
  model.norm: [none, bias]
seeds: [3]
trials: 7
pruning: median
defaults: [preset=quick]
experiments: {nbody: {trials: 9}}
"""
    sweep = spaces.load(file(tmp_path, text), "nbody")
    assert sweep.name == "mine"
    assert sweep.parameters == {
        "optim.lr": Interval(1e-4, 1e-2, log=True),
        "model.channels": Interval(8, 32, step=8),
        "model.norm": Values(("none", "bias")),
    }
    assert sweep.objective == Objective("accuracy", "maximize")
    assert (sweep.seeds, sweep.trials, sweep.pruning) == ((3,), 9, Pruning("median"))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("parameters: {optim.lr: [1]}\nserch: grid", "serch: no such setting; did you mean 'search'?"),
        ("parameters: {optim.lr: [1]}\nsearch: gird", "search=gird: unknown; did you mean 'grid'?"),
        ("search: grid", "parameters: is empty"),
        ("parameters: {optim.lr: 3}", "parameters.optim.lr: expected a list of values"),
        ("parameters: {optim.lr: []}", "parameters.optim.lr: expected a list"),
        ("parameters: {optim.lr: [1, 1]}", "the same value is given twice"),
        ("parameters: {optim.lr: {low: 1, high: 2}}", "a grid needs a list of values"),
        ("search: tpe\nparameters: {optim.lr: {low: 2, high: 1}}", "low (2) must be below high (1)"),
        ("search: tpe\nparameters: {optim.lr: {low: 0, high: 1, log: true}}", "log needs low above 0"),
        (
            "search: tpe\nparameters: {optim.lr: {low: a, high: 1}}",
            "optim.lr.low=a: wrong type; expected a whole number or",
        ),
        ("search: tpe\nparameters: {optim.lr: {low: 1, hgih: 2}}", "did you mean 'high'?"),
        ("search: tpe\nparameters: {a: {low: 8, high: 9, step: 0}}", "a.step: must be above 0"),
        ("search: tpe\nparameters: {a: {low: 8, high: 30, step: 8}}", "a.step: steps of 8 from 8 do not end at 30"),
        (
            "search: tpe\nparameters: {a: {low: 1, high: 2, log: maybe}}",
            "a.log=maybe: wrong type; expected true or",
        ),
        ("parameters: {optim.lr: [1]}\nobjective: test/loss", "choose a metric of validation"),
        ("parameters: {optim.lr: [1]}\nobjective: {metric: loss, direction: up}", "objective.direction=up: unknown"),
        ("parameters: {optim.lr: [1]}\nseeds: [0, 0]", "seeds: expected different whole numbers"),
        ("parameters: {optim.lr: [1]}\ntrials: 3", "trials: belongs to search: tpe"),
        ("search: tpe\ntrials: 0\nparameters: {optim.lr: [1]}", "trials=0 is out of range: it must be 1 or more"),
        ("search: tpe\npruning: hyper\nparameters: {optim.lr: [1]}", "did you mean 'hyperband'?"),
        ("parameters: {optim.lr: [1]}\ndefaults: preset=quick", "defaults=preset=quick: wrong type; expected a list"),
        (
            "parameters: {optim.lr: [1]}\ndefaults: [quick]",
            "defaults: expected a list of overrides such as",
        ),
        ("parameters: {optim.lr: [1]}\nexperiments: {qm9: {}}", "it is for experiment=qm9"),
        ("parameters: [a", "line 2: is not valid YAML"),
        ("[a]", "expected names with values"),
        ("3", "cannot be read (Invalid loaded object type: int)"),
        ("parameters: {optim.lr: [1]}\nobjective: [loss]", "objective: expected names with values"),
        ("parameters: {optim.lr: [1]}\nexperiments: {nbody: {sreach: tpe}}", "experiments.nbody.sreach: no such"),
        ("search: tpe\nparameters: {a: {low: 1}}", "a.high=None: wrong type; expected a whole number or a number"),
        ("search: tpe\nparameters: {a: {low: 1, high: .inf}}", "a: expected finite numbers, got low 1 and high inf"),
    ],
)
def test_a_file_that_is_wrong_is_refused_in_one_sentence(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(UserError) as error:
        spaces.load(file(tmp_path, text + "\n"), "nbody")
    assert named in str(error.value)
    assert "mine.yaml" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["sweep=lr_chanels"], "sweep=lr_chanels: unknown; did you mean 'lr_channels'?"),
        (["sweep=nowhere.yaml"], "sweep=nowhere.yaml: cannot be read"),
        (["sweep=points"], "sweep=points: is not meant for experiment=nbody; it is for experiment=scanobjectnn"),
        (["sweep=degree", "model=deepset"], "model=deepset has no setting model.num_degrees"),
        (["sweep=degree", "model=deepset"], "model=se3_transformer or model=tfn has it"),
        (["trainer.max_steps=1,2", "preset=paper"], "trainer.max_steps does not distinguish runs"),
        (["data.root=a,b"], "data.root does not distinguish runs"),
        (["model=deepset", "model.parity=true,false"], "model=se3_transformer or model=tfn has it"),
        (["optim.lrr=1,2"], "no setting optim.lrr"),
        (["experiment=nbody,qm9", "optim.lr=1,2"], "experiment decides what is learned or on which data"),
        (["experiment=qm9,nbody", "sweep=heads"], "experiment decides what is learned"),
        (["experiment=qm9", "task=homo,gap"], "task decides what is learned or on which data"),
        (["experiment=qm9", "task.target=homo,gap"], "task.target decides"),
        (["experiment=qm9", "data=molecules", "task.column=a,b"], "task.column decides"),
        (["experiment=scanobjectnn", "data=scanobjectnn,shapes15"], "sweep=own: data decides"),
        (["data.preset=calibrated,text"], "data.preset decides"),
        (["task.velocity_weight=0.1,1"], "task.velocity_weight decides"),
        ([], "what varies is missing; add sweep=<name>"),
        (["sweep=lr", "seed=1,1"], "seed: expected different whole numbers from 0, such as 0,1,2, got 1,1"),
    ],
)
def test_a_sweep_that_does_not_fit_is_refused_in_one_sentence(words: list[str], named: str) -> None:
    with pytest.raises(UserError) as error:
        specify(["experiment=nbody", *words])
    assert named in str(error.value)
    assert "\n" not in str(error.value)


def test_values_of_the_line_take_the_place_of_those_of_the_file() -> None:
    spec = specify(["experiment=nbody", "sweep=lr", "optim.lr=1e-3,0.002", "model=tfn,deepset", "seed=4,5"])
    assert spec.sweep.parameters == {"optim.lr": Values((0.001, 0.002)), "model": Values(("tfn", "deepset"))}
    assert spec.sweep.seeds == (4, 5)
    assert spec.overrides == ("experiment=nbody",)
    assert spec.num_jobs == 8
    assert {spec.job(parameters, 4).config.model.name for parameters in spec.combinations()} == {"tfn", "deepset"}


def test_what_decides_nothing_of_the_data_may_vary() -> None:
    spec = specify(["experiment=scanobjectnn", "task.num_points=32,64", "task.num_neighbors=5,10", "preset=smoke"])
    assert list(spec.sweep.parameters) == ["task.num_points", "task.num_neighbors"]


def test_a_setting_that_came_later_may_vary() -> None:
    spec = specify(["experiment=nbody", "model.parity=true,false", "preset=smoke"])
    assert spec.sweep.parameters == {"model.parity": Values((True, False))}


def test_steps_of_fractions_end_where_they_should(tmp_path: Path) -> None:
    text = "search: tpe\nparameters: {optim.lr: {low: 0.1, high: 0.7, step: 0.1}}\n"
    (space,) = spaces.load(file(tmp_path, text), "nbody").parameters.values()
    assert isinstance(space, Interval)
    assert 0.1 + 0.2 in space
    assert 0.35 not in space
    assert 0.8 not in space


def test_words_of_the_line_win_over_those_of_the_file() -> None:
    words = ["experiment=nbody", "sweep=heads"]
    assert specify(words).settings["model"]["channels_div"] == 1
    assert specify([*words, "model.channels_div=2"]).settings["model"]["channels_div"] == 2


def test_the_folder_tells_sweeps_apart_and_depends_on_nothing_else() -> None:
    words = ["experiment=nbody", "sweep=lr_channels"]
    first = specify(words)
    assert specify([*words, "data.root=x", "logger.group=y", "trainer.progress=false"]).folder == first.folder
    assert specify(words, trials=99).folder == first.folder  # more trials of the same search
    for other in (["preset=quick"], ["trainer.max_steps=7"], ["model=tfn"], ["seed=1"], ["optim.lr=1e-3,1e-2"]):
        assert specify([*words, *other]).folder != first.folder
    assert specify([*words, "runs=elsewhere"]).folder == Path("elsewhere") / first.folder.relative_to("runs")


def test_what_a_sweep_writes_about_itself_is_a_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from se3t.suite.sweep import SPECIFICATION, kept

    monkeypatch.chdir(tmp_path)
    for name in ("lr_channels", "heads"):
        spec = specify(["experiment=nbody", f"sweep={name}", "preset=quick"])
        with kept(spec):
            pass
        again = specify(["experiment=nbody", f"sweep={spec.folder / SPECIFICATION}"])
        assert again.hash == spec.hash


def test_errors_of_several_properties_are_compared_without_their_units() -> None:
    words = ["experiment=qm9", "sweep=norm", "preset=smoke"]
    assert specify(words).sweep.objective.metric == "mae"
    for several in ("task=all", "task.target=homo+mu"):
        assert specify([*words, several]).sweep.objective.metric == "relative_mae"
