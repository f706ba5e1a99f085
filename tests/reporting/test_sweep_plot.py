"""The picture of a sweep, on invented numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from se3t.errors import UserError
from se3t.reporting.figures.sweep_plot import draw_sweep, facts
from se3t.reporting.sweep_record import SweepRecord, Trial, TrialRun

from .layout import notes_of

LR = {"low": 1e-4, "high": 1e-1, "log": True}


def trial(number: int, parameters: dict[str, Any], values: list[float], state: str = "finished") -> Trial:
    runs = [TrialRun(seed, f"runs/{number}-{seed}", "finished", value) for seed, value in enumerate(values)]
    return Trial(number, parameters, state, runs, [(1, 0.9), (2, 0.8)])


def sweep(search: str, parameters: dict[str, dict[str, Any]], trials: list[Trial]) -> SweepRecord:
    return SweepRecord("mine-1a2b3c4d", "", "nbody", search, "loss", "minimize", parameters, [0], 9, [], trials)


def test_a_search_has_a_panel_for_each_parameter_and_hollow_points_for_trials_that_were_stopped() -> None:
    parameters = {"optim.lr": LR, "model.channels": {"low": 8, "high": 24, "log": False, "step": 8}}
    trials = [
        trial(0, {"optim.lr": 1e-3, "model.channels": 8}, [0.5]),
        trial(1, {"optim.lr": 1e-2, "model.channels": 16}, [0.25]),
        trial(2, {"optim.lr": 1e-1, "model.channels": 24}, [], "pruned"),
        trial(3, {"optim.lr": 1e-4, "model.channels": 24}, [], "failed"),
    ]
    trials[3].history = []
    figure = draw_sweep(sweep("tpe", parameters, trials))
    lr, channels, bar = figure.axes
    assert (lr.get_xscale(), channels.get_xscale()) == ("log", "linear")
    assert [panel.get_xlabel() for panel in (lr, channels)] == ["optim.lr", "model.channels"]
    assert list(channels.get_xticks()) == [8, 16, 24]
    assert lr.get_ylabel() == "validation loss"
    assert bar.get_ylabel() == "trial"
    finished, stopped = lr.collections
    assert finished.get_offsets().tolist() == [[1e-3, 0.5], [1e-2, 0.25]]
    assert stopped.get_offsets().tolist() == [[1e-1, 0.8]]
    assert len(stopped.get_facecolor()) == 0
    (best,) = lr.lines
    assert (best.get_xdata()[0], best.get_ydata()[0]) == (1e-2, 0.25)


def test_a_grid_shows_every_run_and_the_mean_at_each_value() -> None:
    parameters = {"model.norm": {"values": ["none", "bias"], "log": False}}
    trials = [trial(0, {"model.norm": "none"}, [0.5, 0.25]), trial(1, {"model.norm": "bias"}, [0.125, 0.125])]
    (axis,) = draw_sweep(sweep("grid", parameters, trials)).axes
    dots, best = axis.lines[0], axis.lines[-1]
    assert list(zip(dots.get_xdata(), dots.get_ydata(), strict=True)) == [(0, 0.5), (0, 0.25), (1, 0.125), (1, 0.125)]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["none", "bias"]
    assert (best.get_xdata()[0], best.get_ydata()[0]) == (1, 0.125)


def test_a_hopeless_trial_does_not_squeeze_the_others() -> None:
    values = [0.1, 0.11, 0.12, 0.13, 0.14, 50.0]
    trials = [trial(number, {"optim.lr": 10.0**-number}, [value]) for number, value in enumerate(values)]
    axis = draw_sweep(sweep("tpe", {"optim.lr": LR}, trials)).axes[0]
    assert axis.get_ylim()[1] < 0.2
    assert axis.get_title(loc="right") == "1 off the scale, up to 50"


def test_the_title_says_data_budget_and_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    one = sweep("tpe", {"optim.lr": LR}, [trial(0, {"optim.lr": 1e-3}, [0.5])])
    assert facts(one) == ["loss of validation, not test"]
    path = Path(one.trials[0].runs[0].folder) / "result.json"
    path.parent.mkdir(parents=True)
    content = {"preset": "quick", "budget": {"max_steps": 1000, "batch_size": 128}}
    path.write_text(json.dumps({**content, "data": {"preset": "calibrated_random", "sizes": {"train": 3000}}}))
    figure = draw_sweep(one)
    assert figure.get_suptitle() == "Sweep mine-1a2b3c4d"
    assert notes_of(figure).split("; ") == [
        "nbody",
        "data: simulated, calibrated_random, 3,000 training samples",
        "preset quick, 1,000 steps x 128",
        "loss of validation, not test",
    ]
    path.write_text(json.dumps({**content, "budget": {**content["budget"], "max_time": "00:10:00"}}))
    assert "preset quick, 1,000 steps x 128 or 10 min; " in facts(one)[1]


def test_what_the_parameters_change_is_in_no_title(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("runs/0-0/result.json")
    path.parent.mkdir(parents=True)
    content = {"preset": "quick", "budget": {"max_steps": 1000, "batch_size": 128}}
    path.write_text(json.dumps({**content, "data": {"preset": "calibrated_random", "sizes": {"train": 3000}}}))
    last = {
        "trainer.batch_size": "preset quick, 1,000 steps; loss of validation, not test",
        "trainer.max_steps": "preset quick; loss of validation, not test",
        "preset": "loss of validation, not test",
    }
    for name, text in last.items():
        lines = facts(sweep("grid", {name: {"values": [1]}}, [trial(0, {name: 1}, [0.5])]))
        assert lines[-1] == text
        assert ("3,000" in lines[0]) == (name != "preset")


@pytest.mark.parametrize("content", [{"data": None, "budget": None}, {"data": {"sizes": None}, "budget": {}}])
def test_a_result_that_says_little_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs/0-0").mkdir(parents=True)
    Path("runs/0-0/result.json").write_text(json.dumps(content))
    one = sweep("tpe", {"optim.lr": LR}, [trial(0, {"optim.lr": 1e-3}, [0.5])])
    assert facts(one) == ["data: simulated, ?", "loss of validation, not test"]


def test_only_trials_that_were_stopped_are_called_so() -> None:
    trials = [trial(0, {"optim.lr": 1e-3}, [0.5])]
    trials += [trial(n, {"optim.lr": 10.0**-n}, [], state) for n, state in ((1, "failed"), (2, "running"))]
    figure = draw_sweep(sweep("tpe", {"optim.lr": LR}, trials))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["finished", "no result, last value", "best trial"]


@pytest.mark.parametrize(
    ("seeds", "names", "label"),
    [
        ([0, 1], ["a"], "mean ± standard deviation over seeds"),
        ([0, 1], ["a", "b"], "mean ± standard deviation over seeds\nand the other parameters"),
        ([0], ["a", "b"], "mean ± standard deviation over the other parameters"),
        ([0], ["a"], "mean"),
    ],
)
def test_a_mean_says_what_it_is_of(seeds: list[int], names: list[str], label: str) -> None:
    record = sweep("grid", {name: {"values": [1]} for name in names}, [trial(0, dict.fromkeys(names, 1), [0.5, 0.25])])
    record.seeds = seeds
    assert label in [text.get_text() for text in draw_sweep(record).legends[0].get_texts()]


def test_nothing_to_draw_is_told() -> None:
    with pytest.raises(UserError, match="mine-1a2b3c4d: no trial has a value yet"):
        draw_sweep(sweep("tpe", {"optim.lr": LR}, [Trial(0, {"optim.lr": 1e-3})]))
