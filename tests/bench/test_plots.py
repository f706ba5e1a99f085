"""The pictures of the benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from matplotlib import image

from benchmarks.plots import PANELS, Panel, Series, draw, draw_panel, save_plot, series_by_name
from se3t.bench.report import Report
from se3t.errors import UserError

pytestmark = pytest.mark.e2e  # comparisons with other codes

ROWS = [
    {"workload": "a", "name": "first", "step": 0.002, "step_quartiles": [0.001, 0.003], "peak_memory": 2**21},
    {"workload": "a", "name": "[second]", "step": 0.004, "step_quartiles": [0.004, 0.004], "peak_memory": None},
    {"workload": "b", "name": "first", "step": 0.5, "step_quartiles": [0.4, 1.6], "peak_memory": 2**21},
]


def make_report(benchmark: str = "step", rows: list[dict[str, Any]] = ROWS) -> Report:
    return Report(benchmark, "Title", [], rows, machine={"device": "abacus"})


def sweep(name: str, value: int) -> dict[str, Any]:
    return {
        "sweep": name,
        "name": "kernel",
        "channels": value,
        "num_degrees": value,
        "max_degree": value,
        "num_edges": 10 * value,
        "step": 0.1 * value,
        "peak_memory": 2**20 * value,
    }


def harmonics(what: str, degree: int) -> dict[str, Any]:
    return {"what": what, "name": "se3t", "degree": degree, "per_second": 2.0, "difference": 1e-7 * degree}


DRAWN: dict[str, tuple[list[dict[str, Any]], list[str]]] = {
    "step": (ROWS, ["training step, a", "training step, b", "peak memory", "share of the tighter roof"]),
    "memory": (ROWS, ["peak memory"]),
    "layer": ([sweep("degrees", 1), sweep("edges", 2)], ["over degrees", "over edges"]),
    "scaling": ([sweep("points", 1), sweep("degree", 2)], ["over points", "over degree"] * 2),
    "data": (
        [{"store": "nbody", "name": "flat arrays", "batch_size": 32, "per_second": 9.0}],
        ["one core"],
    ),
    "clouds": (
        [{"case": "k = 3", "name": "tfn", "step": 0.1, "share_of_data": 0.2, "peak_memory": 2**20}],
        ["training step", "sampling and kNN", "peak memory"],
    ),
    "sh": ([harmonics("forward", 1), harmonics("both", 2)], ["forward", "both"]),
    "train": ([{"case": "preset=quick", "name": "clipping", "step": 0.1}], ["training step"]),
}


def test_every_benchmark_has_its_panels() -> None:
    assert {name: [panel.title for panel in PANELS[name](rows)] for name, (rows, _) in DRAWN.items()} == {
        name: titles for name, (_, titles) in DRAWN.items()
    }
    assert set(PANELS) == set(DRAWN)


def test_lines_of_a_sweep_are_over_what_it_varies() -> None:
    layer, scaling = PANELS["layer"](DRAWN["layer"][0]), PANELS["scaling"](DRAWN["scaling"][0])
    assert [panel.series[0].x for panel in layer] == [[1], [20]]
    assert [(panel.series[0].x, panel.series[0].y, panel.y_label) for panel in scaling] == [
        ([10], [100.0], "ms"),
        ([2], [200.0], "ms"),
        ([10], [1.0], "MiB"),
        ([2], [2.0], "MiB"),
    ]


def test_the_largest_difference_stands_in_the_legend_of_the_harmonics() -> None:
    rows = [harmonics("forward", degree) for degree in (1, 3, 2)]
    (panel,) = PANELS["sh"](rows)
    assert [(series.name, series.x) for series in panel.series] == [("se3t (differs by 3e-07)", [1, 3, 2])]
    assert rows[0]["name"] == "se3t"  # the report stays as it was


def lines_and_bars() -> tuple[Panel, ...]:
    line = Series("ours", [1, 10, 100], [1.0, 2.0, 4.0], [0.5, 1.5, 3.5], [1.5, 2.5, 5.0])
    bars = [Series(f"contender {number}", ["nbody", "qm9"], [1.0 + number, 2.0]) for number in range(11)]
    return Panel("lines", "edges", "ms", [line], log_x=True, log_y=True), Panel("bars", "", "MiB", bars)


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_figure_is_drawn_in_the_format_of_its_ending(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"figure{suffix}"
    draw(path, "Title", "abacus", lines_and_bars())
    content = path.read_bytes()
    assert content.startswith({".png": b"\x89PNG\r\n", ".pdf": b"%PDF-", ".svg": b"<?xml"}[suffix])
    if suffix == ".png":
        pixels = image.imread(path)
        assert pixels.shape[0] > 300
        assert pixels.std() > 0.05
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_bars_of_more_contenders_than_colours_are_told_apart_by_hatches() -> None:
    from matplotlib.figure import Figure

    axis = Figure().subplots()
    panel = lines_and_bars()[1]
    draw_panel(axis, panel, [series.name for series in panel.series])
    looks = {(patch.get_facecolor(), patch.get_hatch()) for patch in axis.patches}
    assert len(looks) == 11


@pytest.mark.parametrize("name", ["figure.gif", "figure"])
def test_another_ending_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="cannot draw"):
        save_plot(make_report(), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_series_are_by_name_scaled_and_without_what_was_not_measured() -> None:
    first, second = series_by_name(make_report().rows, "workload", "step", 1e3)
    assert first == Series("first", ["a", "b"], [2.0, 500.0], [1.0, 400.0], [3.0, 1600.0])
    assert second.name == "[second]"
    memory = series_by_name(make_report().rows[:2], "workload", "peak_memory", 2.0**-20)
    assert [(series.x, series.y, series.low) for series in memory] == [(["a"], [2.0], []), ([], [], [])]


def test_a_report_without_figures_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing was measured that can be drawn"):
        save_plot(make_report(rows=[]), tmp_path / "figure.png")


def test_what_lacks_a_quantity_has_no_place_in_its_panel_and_colours_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.axes import Axes

    seen: list[tuple[str, object]] = []
    bar = Axes.bar

    def note(self: Axes, *args: object, **options: object) -> object:
        seen.append((str(options["label"]), options["color"]))
        return bar(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Axes, "bar", note)
    first = Panel("time", "", "ms", (Series("a (best)", ("x",), (1.0,)), Series("b", ("x",), (2.0,))))
    second = Panel("share", "", "%", (Series("b", ("x",), (3.0,)), Series("a", (), ())))
    draw(tmp_path / "plot.png", "Title", "abacus", (first, second))
    (best, blue), (b, orange), (again, same) = seen
    assert (best, b, again) == ("a (best)", "b", "b")
    assert blue != orange == same
