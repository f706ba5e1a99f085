"""Learning curves from invented measurements: which runs become one line, and what stands in the picture."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from se3t.errors import UserError
from se3t.reporting.figures.curve_runs import find_curve_runs
from se3t.reporting.figures.curves import MAX_LINES, Curves, draw_curves, learning_curves
from se3t.reporting.figures.style import WIDTH

from .layout import notes_of, require_legible
from .results import property_result, result, subset_result
from .test_classification import cloud_result, shapes_result

VALID = {100: 0.5, 200: 0.2, 300: 0.3}


def put(
    folder: Path,
    content: dict[str, Any],
    valid: Mapping[int, float | None] = VALID,
    metric: str = "loss",
    best: int | None = 200,
) -> Path:
    """A run folder with its measurements."""
    folder.mkdir(parents=True)
    units = {metric: "m²"}
    text = json.dumps({**content, "best_step": best, "units": units})
    (folder / "result.json").write_text(text, encoding="utf-8")
    lines = [{"kind": "train", "step": step, "loss": 2 * (value or 0), "lr": 1e-3} for step, value in valid.items()]
    lines += [{"kind": "valid", "step": step, metric: value, "seconds": 1.0} for step, value in valid.items()]
    lines += [{"kind": "test", "step": 200, metric: 9.0, "final": True}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return folder


def steps(asked: int, done: int) -> dict[str, int]:
    return {"budget__max_steps": asked, "config__trainer__max_steps": asked, "budget__steps_done": done}


def curves(*paths: Path, metric: str = "loss", **options: Any) -> Curves:
    return learning_curves(find_curve_runs(paths, metric, **options), metric)


def test_a_line_is_the_mean_over_seeds_with_a_band_of_one_standard_deviation(tmp_path: Path) -> None:
    for seed in range(3):
        put(tmp_path / str(seed), result("tfn", seed), {step: value + 0.1 * seed for step, value in VALID.items()})
    found = curves(tmp_path)
    ((line,),) = (panel.lines for panel in found.panels)
    assert (line.label, line.seeds) == ("TFN", 3)
    assert line.mean == {step: pytest.approx(value + 0.1) for step, value in VALID.items()}
    assert line.spread == {step: pytest.approx(0.1) for step in VALID}
    assert line.train == {step: pytest.approx(2 * (value + 0.1)) for step, value in VALID.items()}
    assert line.best == tuple((200, pytest.approx(0.2 + 0.1 * seed)) for seed in range(3))
    figure = draw_curves(found)
    band = figure.axes[0].collections[0].get_paths()[0].get_extents()
    assert (band.x0, band.x1) == (100, 300)
    assert (band.y0, band.y1) == (pytest.approx(0.2), pytest.approx(0.7))
    assert figure.get_suptitle() == "loss on validation"
    assert notes_of(figure).split("; ") == [
        found.panels[0].data,
        "reduced budget: 2,000 steps of batch 128 (paper: 100,000 steps of batch 128)",
        "mean of 3 seeds ± standard deviation",
        "thin: on training batches",
    ]


def test_a_mean_is_over_the_same_seeds_everywhere(tmp_path: Path) -> None:
    put(tmp_path / "0", result("tfn", 0))
    put(tmp_path / "1", result("tfn", 1), {200: 0.4, 300: None, 400: 0.1})
    (line,) = curves(tmp_path).panels[0].lines
    assert line.mean == {200: pytest.approx(0.3)}
    put(tmp_path / "2", result("tfn", 2), {500: 0.4})
    with pytest.raises(UserError, match="has no validated step in common with"):
        curves(tmp_path)


def test_runs_with_different_settings_never_share_a_line(tmp_path: Path) -> None:
    put(tmp_path / "a", result())
    put(tmp_path / "b", result(seed=1, config__model__channels=16))
    put(tmp_path / "c", result(config__model__ablation="attention"))
    put(tmp_path / "d", result(seed=1, config__model__channels=16, **steps(9, 9)))
    put(tmp_path / "e", result("deepset"))
    (panel,) = curves(tmp_path).panels
    assert [line.label for line in panel.lines] == [
        "DeepSet",
        "SE(3)-Transformer, channels=16, 9 steps",
        "SE(3)-Transformer, channels=16, 2,000 steps",
        "SE(3)-Transformer, channels=8",
        "SE(3)-Transformer, attention removed",
    ]
    assert all(line.seeds == 1 for line in panel.lines)


def test_lines_are_told_apart_by_the_steps_that_were_done(tmp_path: Path) -> None:
    time = {"budget__max_time": "00:10:00", "budget__ended_by": "time"}
    put(tmp_path / "a", result("tfn", **steps(10_000_000, 12_345), **time))
    put(tmp_path / "b", result("tfn", **steps(2_000, 900)))
    put(tmp_path / "c", result("tfn", **steps(3_000, 3_000)))
    labels = {line.label for line in curves(tmp_path).panels[0].lines}
    assert labels == {"TFN, 12,345 steps in 10 min", "TFN, 900 of 2,000 steps", "TFN, 3,000 steps"}


def test_runs_on_different_data_stand_in_panels_of_their_own(tmp_path: Path) -> None:
    put(tmp_path / "a", result("tfn"))
    put(tmp_path / "b", result("tfn", data__preset="text", data__horizon=0.5, data__checksum="ff"))
    found = curves(tmp_path)
    assert [panel.data for panel in found.panels] == [
        "simulated N-body data, preset calibrated_random, horizon 0.78, checksum 01234567",
        "simulated N-body data, preset text, horizon 0.5, checksum ff",
    ]
    figure = draw_curves(found)
    assert [axis.get_title().replace("\n", " ") for axis in figure.axes] == [panel.data for panel in found.panels]
    assert len(figure.axes) == 2


def test_data_are_called_synthetic_subset_and_by_their_property(tmp_path: Path) -> None:
    put(tmp_path / "clouds", shapes_result("tfn"), metric="accuracy")
    (panel,) = curves(tmp_path, metric="accuracy").panels
    assert panel.data.startswith("synthetic shapes15, object only")
    put(tmp_path / "qm9" / "a", subset_result("tfn"))
    put(tmp_path / "qm9" / "b", subset_result("tfn", "gap"))
    panels = curves(tmp_path / "qm9").panels
    assert [panel.data.partition(", checksum")[0] for panel in panels] == ["<gap>, QM9 subset", "<homo>, QM9 subset"]
    put(tmp_path / "full", property_result())
    assert "full budget" in notes_of(draw_curves(curves(tmp_path / "full")))


def test_runs_that_differ_by_how_test_objects_were_turned_are_one_training(tmp_path: Path) -> None:
    put(tmp_path / "a", cloud_result("tfn"))
    put(tmp_path / "b", cloud_result("tfn", config__task__test_rotation="90"))
    put(tmp_path / "c", cloud_result("tfn", 1, config__task__test_rotation="90"))
    ((line,),) = (panel.lines for panel in curves(tmp_path).panels)
    assert line.seeds == 2
    put(tmp_path / "d", cloud_result("tfn", 1, config__task__test_rotation="90"))  # a copy
    ((line,),) = (panel.lines for panel in curves(tmp_path).panels)
    assert line.seeds == 2
    put(tmp_path / "e", cloud_result("tfn", 1, config__task__test_rotation="90", test__accuracy=0.9))
    with pytest.raises(UserError, match="the same run"):
        curves(tmp_path)


def test_an_untrained_system_is_a_level_line(tmp_path: Path) -> None:
    put(tmp_path / "a", result("linear", parameters=0), {0: 0.15}, best=0)
    put(tmp_path / "b", result("tfn"))
    axis = draw_curves(curves(tmp_path)).axes[0]
    lines = {line.get_label(): line for line in axis.get_lines()}
    assert list(lines["Linear, not trained"].get_ydata()) == [0.15, 0.15]
    assert list(lines["TFN"].get_ydata()) == list(VALID.values())


@pytest.mark.parametrize(
    ("metric", "values", "scale"),
    [
        ("mse_x", (0.5, 0.02), "log"),
        ("mse_x", (0.5, 0.4), "linear"),
        ("mse_x", (0.5, -0.02), "linear"),
        ("accuracy", (0.01, 0.9), "linear"),
        ("equivariance_error_x", (1e-7, 1e-1), "log"),
    ],
)
def test_the_axis_is_logarithmic_where_that_helps(
    tmp_path: Path, metric: str, values: tuple[float, ...], scale: str
) -> None:
    put(tmp_path / "a", result("tfn"), dict(enumerate(values, start=1)), metric)
    found = curves(tmp_path, metric=metric)
    (axis,) = draw_curves(found).axes
    assert axis.get_yscale() == scale
    assert axis.get_ylabel() == f"{metric}\nm²"
    assert found.panels[0].lines[0].train == {}


def test_letters_are_legible_lines_told_apart_and_nothing_is_cut_off(tmp_path: Path) -> None:
    models = ("se3_transformer", "tfn", "set_transformer", "deepset")
    for number, name in enumerate(models):
        put(tmp_path / name, result(name))
        put(tmp_path / f"{name}-16", result(name, config__model__channels=16 + number))
    put(tmp_path / "other", result("tfn", data__checksum="ff"))
    figure = draw_curves(curves(tmp_path))
    assert figure.get_figwidth() == WIDTH
    require_legible(figure)
    lines = [line for axis in figure.axes for line in axis.get_lines() if not line.get_label().startswith("_")]
    styles = {line.get_label(): (line.get_color(), line.get_linestyle(), line.get_marker()) for line in lines}
    assert len(set(styles.values())) == len(styles) == 2 * len(models) + 2  # one more TFN, and the chosen weights


# --- which runs -------------------------------------------------------------------------------------------------------


def test_runs_of_other_experiments_and_budgets_are_passed_over(tmp_path: Path) -> None:
    put(tmp_path / "a", result("tfn", preset="quick", config__preset="quick"))
    put(tmp_path / "b", result("tfn", 1))
    put(tmp_path / "c", cloud_result("tfn"))
    put(tmp_path / "d", result("tfn", 2, status="failed"))
    with pytest.raises(UserError, match="several experiments, nbody, scanobjectnn; choose one: --experiment nbody"):
        curves(tmp_path)
    (panel,) = curves(tmp_path, experiment="nbody", preset="quick").panels
    assert [line.seeds for line in panel.lines] == [1]
    assert len(find_curve_runs([tmp_path], "loss", "nbody")) == 2
    with pytest.raises(UserError, match=r"--preset quik: no finished run of it; did you mean 'quick'\?"):
        curves(tmp_path, experiment="nbody", preset="quik")
    with pytest.raises(UserError, match="c: is a run of experiment scanobjectnn, expected one of nbody"):
        curves(tmp_path / "c", experiment="nbody")
    with pytest.raises(UserError, match=r"d.result\.json: the run is not finished, its field 'status' is 'failed'"):
        curves(tmp_path / "d")


def test_nothing_there_an_unknown_metric_and_too_much_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no finished run of experiment qm9; .* se3t train experiment=qm9"):
        curves(tmp_path, experiment="qm9")
    put(tmp_path / "a", result("tfn"))
    with pytest.raises(UserError, match=r"--metric los: no validation measured it; did you mean 'loss'\? known: loss$"):
        curves(tmp_path, metric="los")
    with pytest.raises(UserError, match="--metric seconds: no validation measured it"):
        curves(tmp_path, metric="seconds")
    for number in range(MAX_LINES + 1):
        put(tmp_path / f"{number}", result("tfn", config__model__channels=100 + number))
    with pytest.raises(UserError, match=r"18 lines on 1 data sets are more than a figure holds"):
        curves(tmp_path)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{\n", r"line 1 is not valid JSON"),
        ('{"kind": "valid", "step": 1, "loss": 1}\n[]\n', r"line 2 is no measurement"),
        ('{"kind": "valid", "loss": 1}\n', r"line 1 is no measurement with a 'step'"),
    ],
)
def test_damaged_measurements_are_refused_by_line(tmp_path: Path, text: str, named: str) -> None:
    folder = put(tmp_path / "a", result("tfn"))
    (folder / "metrics.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=rf"metrics\.jsonl: {named}"):
        curves(folder)


def test_half_a_line_is_none_and_runs_without_measurements_are_named(tmp_path: Path) -> None:
    folder = put(tmp_path / "a", result("tfn"))
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"kind": "valid", "st')
    assert curves(folder).panels[0].lines[0].mean == VALID
    other = put(tmp_path / "b", result("tfn", 1), metric="mse_x")
    with pytest.raises(UserError, match=r"b/metrics\.jsonl: no validation measured loss; leave that run out"):
        curves(folder, other)
    (folder / "metrics.jsonl").unlink()
    with pytest.raises(UserError, match=r"a/metrics\.jsonl: cannot be read"):
        curves(folder)
