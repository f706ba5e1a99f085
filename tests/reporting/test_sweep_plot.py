"""The picture of a sweep, on invented numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from se3t.errors import UserError
from se3t.reporting.sweep_plot import draw_sweep, facts
from se3t.reporting.sweep_record import SweepRecord, Trial, TrialRun

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
    path.write_text(json.dumps({**content, "data": {"preset": "calibrated", "sizes": {"train": 3000}}}))
    title = draw_sweep(one).get_suptitle().splitlines()
    assert title == [
        "Sweep mine-1a2b3c4d, nbody",
        "data: simulated, calibrated, 3,000 training samples",
        "preset quick, 1,000 steps x 128; loss of validation, not test",
    ]


def test_nothing_to_draw_is_told() -> None:
    with pytest.raises(UserError, match="mine-1a2b3c4d: no trial has a value yet"):
        draw_sweep(sweep("tpe", {"optim.lr": LR}, [Trial(0, {"optim.lr": 1e-3})]))
