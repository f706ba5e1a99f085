"""The figure of the spherical harmonics from invented measurements."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from se3t.bench import sh
from se3t.bench.options import Options
from se3t.errors import UserError
from se3t.reporting.figures.harmonics import draw_harmonics, load_harmonics, write_harmonics
from se3t.reporting.figures.style import WIDTH

from .layout import notes_of, require_legible


def row(name: str, degree: int, what: str = "forward", speed: float = 3.0, difference: float = 2e-7) -> dict[str, Any]:
    return {"name": name, "degree": degree, "what": what, "per_second": speed, "difference": difference}


def report(device: str = "cpu", **changes: Any) -> dict[str, Any]:
    both = "forward + backward"
    rows = [row(name, degree) for degree in (0, 1, 2) for name in ("se3t", "e3nn", "scipy")]
    rows += [row(name, degree, both, 1.0, degree * 1e-7) for degree in (0, 1, 2) for name in ("se3t", "e3nn")]
    content = {
        "benchmark": "sh",
        "settings": {"device": device, "num_vectors": 100_000},
        "machine": {"device": f"a {device}", "threads": 2},
        "rows": rows,
    }
    return {**content, **changes}


def written(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_panels_show_vectors_a_second_by_degree_and_the_largest_difference(tmp_path: Path) -> None:
    found = load_harmonics([written(tmp_path / "sh.json", report())])
    figure = draw_harmonics(found)
    forward, both, difference = figure.axes

    def lines(axis: Any) -> dict[str, Any]:
        return {line.get_label(): [tuple(point) for point in line.get_xydata()] for line in axis.get_lines()}

    speeds = [(degree, 3e6) for degree in (0, 1, 2)]
    assert lines(forward) == dict.fromkeys(("se3t, CPU", "e3nn, CPU", "SciPy, CPU"), speeds)
    assert lines(both) == {
        "se3t, CPU": [(0, 1e6), (1, 1e6), (2, 1e6)],
        "e3nn, CPU": [(0, 1e6), (1, 1e6), (2, 1e6)],
        "SciPy, CPU": [],
    }
    assert lines(difference)["se3t, CPU"] == [(0, 2e-7), (1, 2e-7), (2, 2e-7)]
    assert {axis.get_yscale() for axis in figure.axes} == {"log"}
    assert figure.get_suptitle() == "Speed of the spherical harmonics"
    assert notes_of(figure) == "100,000 vectors, single precision; a cpu, 2 threads"


def test_cpu_and_gpu_stand_in_one_figure_scipy_once(tmp_path: Path) -> None:
    path = write_harmonics([json.dumps(report()), json.dumps(report("cuda:0"))], tmp_path / "new" / "harmonics.json")
    apart = [written(tmp_path / f"{device}.json", report(device)) for device in ("cpu", "cuda:0")]
    for paths in ([path], apart):
        found = load_harmonics(paths)
        labels = [line.label for line in found.lines]
        assert labels == ["se3t, CPU", "e3nn, CPU", "SciPy, CPU", "se3t, GPU", "e3nn, GPU"]
        assert found.machines == ("a cpu, 2 threads", "a cuda:0, 2 threads")
    lines = {line.get_label(): line for line in draw_harmonics(found).axes[0].get_lines()}
    assert lines["se3t, CPU"].get_color() == lines["se3t, GPU"].get_color()
    assert (lines["se3t, CPU"].get_linestyle(), lines["se3t, GPU"].get_linestyle()) == ("-", "--")
    assert len({line.get_marker() for line in lines.values()}) == 3


def test_the_benchmark_has_what_the_figure_shows(tmp_path: Path) -> None:
    options = Options(threads=1, quick=True, repetitions=1)
    path = tmp_path / "sh.json"
    path.write_text(sh.run(options, ["se3t", "scipy"], 1, 10).to_json(), encoding="utf-8")
    found = load_harmonics([path])
    assert [line.label for line in found.lines] == ["se3t, CPU", "SciPy, CPU"]
    assert found.num_vectors == (10,)
    assert set(found.lines[0].per_second) == {"forward", "forward + backward"}
    assert all(0 < speed < 1e9 for speeds in found.lines[0].per_second.values() for speed in speeds.values())


def test_no_difference_at_all_is_left_out_of_a_logarithmic_axis(tmp_path: Path) -> None:
    rows = [row("se3t", 0, difference=0.0), row("se3t", 1)]
    found = load_harmonics([written(tmp_path / "sh.json", report(rows=rows))])
    points = [tuple(point) for point in draw_harmonics(found).axes[2].get_lines()[0].get_xydata()]
    assert points == [(1, 2e-7)]


def test_letters_are_legible_in_a_column_and_nothing_is_cut_off(tmp_path: Path) -> None:
    paths = [written(tmp_path / f"{device}.json", report(device)) for device in ("cpu", "cuda")]
    figure = draw_harmonics(load_harmonics(paths))
    assert figure.get_figwidth() == WIDTH
    require_legible(figure)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ([], r"expected a JSON object"),
        ({"benchmark": "step"}, r"field 'benchmark' is 'step', expected 'sh'"),
        ({"kind": "harmonics", "reports": []}, r"field 'reports' should be a list of measurements"),
        ({"kind": "harmonics", "reports": [report(), report()]}, r"one of several measurements of a cpu"),
        (report(rows=[]), r"field 'rows' should be a list that is not empty"),
        (report(rows=[row("se3t", 0, "backward")]), r"field 'rows\.0\.what' is 'backward', expected forward or"),
        (report(rows=[{**row("se3t", 0), "per_second": None}]), r"field 'rows\.0\.per_second' should be a number"),
        (report(machine={}), r"field 'machine\.device' is missing"),
    ],
)
def test_other_and_damaged_files_are_refused_by_field(tmp_path: Path, content: Any, named: str) -> None:
    with pytest.raises(UserError, match=rf"sh\.json: {named}"):
        load_harmonics([written(tmp_path / "sh.json", content)])
