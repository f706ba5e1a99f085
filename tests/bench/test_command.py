"""``python -m benchmarks``: words, files, errors."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.__main__ import COMMAND, FLAGS, WHAT, main
from se3t.cli import bench
from se3t.nn.kernels import KERNELS

pytestmark = pytest.mark.e2e  # comparisons with other codes

README = (Path(__file__).resolve().parents[2] / "benchmarks/README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^python -m benchmarks (\w.*)$", README, re.MULTILINE)
Run = Callable[[str], tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run it with some words in an empty folder; status, output, errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(KERNELS, "e3nn", "benchmarks.twin")  # taken out again after the test

    def command(words: str) -> tuple[int, str, str]:
        status = main(words.split())
        return status, *capfd.readouterr()

    return command


def test_table_json_and_plot_are_written_where_asked(run: Run, tmp_path: Path) -> None:
    words = "sh --quick --contenders se3t e3nn --max-degree 1 --num-vectors 50 --json out/a.json --plot a.png"
    status, out, err = run(words)
    assert (status, err) == (0, "")
    assert all(word in out for word in ("Spherical harmonics", "e3nn", "ratio", "written: out/a.json"))
    assert json.loads((tmp_path / "out/a.json").read_text(encoding="utf-8"))["benchmark"] == "sh"
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_step_is_measured_with_an_adapter(run: Run, tmp_path: Path) -> None:
    (tmp_path / "idle.py").write_text("def build(workload):\n    return lambda: None, workload.title")
    words = "step --quick --repetitions 1 --num-graphs 1 --contenders edge_frame --adapter idle.py --threads 1"
    status, out, _ = run(words)
    assert status == 0
    assert all(word in out for word in ("edge_frame", "idle: charged particles", "of roof", "GFLOP"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("stpe", "python -m benchmarks: 'stpe' is unknown; did you mean 'step'?"),
        ("layer --sweep chanels", "sweep 'chanels' is not known; did you mean 'channels'?"),
        ("scaling --adapter x.py", "python -m benchmarks scaling: --adapter is unknown"),
        ("step --plot figure.gif", "figure.gif: cannot draw .gif"),
        ("sh --plot note/a.png", "note/a.png: cannot be written"),
        ("layer --contenders peer", "contender 'peer' takes part in step only"),
        ("memory --contenders e3nn-speed", "contender 'e3nn-speed': only edge_frame and auto have the endings"),
        ("step --adapter nowhere.py", "adapter nowhere.py: no such file"),
        ("clouds --neighbors 128", "neighbors=128: a point of 128 has 1 to 127 neighbours"),
    ],
)
def test_what_is_wrong_is_one_sentence(run: Run, tmp_path: Path, words: str, message: str) -> None:
    (tmp_path / "note").touch()
    status, _, err = run(words)
    assert status == 2
    assert message in err
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


@pytest.mark.parametrize("line", EXAMPLES)
def test_examples_of_the_page_are_understood(line: str) -> None:
    assert bench.parse(shlex.split(line), WHAT, FLAGS, COMMAND).what in WHAT


def test_the_page_names_every_benchmark_and_flag_of_its_own() -> None:
    assert len(EXAMPLES) >= 5
    assert all(f"`{what}`" in README for what in WHAT if what != "data")
    assert set(FLAGS) - set(bench.FLAGS) <= set(re.findall(r"--[a-z-]+", README))
