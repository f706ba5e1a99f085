from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from benchmarks.adapter import Adapter, rebuild
from benchmarks.step import collect
from se3t.bench.workloads import Workload
from se3t.errors import UserError

pytestmark = pytest.mark.e2e  # comparisons with other codes

GOOD = """
from helper import WORD
def build(workload, times="1"):
    count = []
    def step():
        count.append(workload.num_graphs)
    step.count = count
    return step, f"{WORD} {workload.name} times {times}"
"""
WORKLOAD = Workload.of("nbody", 2)


def write(folder: Path, text: str) -> str:
    (folder / "helper.py").write_text("WORD = 'counts'\n")
    path = folder / "peer_file.py"
    path.write_text(text)
    return str(path)


def test_an_adapter_sees_the_workload_its_options_and_the_files_beside_it(tmp_path: Path) -> None:
    adapter = Adapter.parse(f"{write(tmp_path, GOOD)}:times=3")
    contender = adapter.make(WORKLOAD)
    assert contender.name == "peer_file-3"
    assert contender.description.startswith("peer_file-3: counts nbody times 3;")
    assert contender.difference is None
    contender.work.run(lambda: 0.0)


def test_an_adapter_comes_back_from_its_text_in_another_process(tmp_path: Path) -> None:
    adapter = Adapter.parse(f"{write(tmp_path, GOOD)}:times=3")
    assert Adapter.parse(adapter.text) == adapter
    assert rebuild(WORKLOAD.spec, adapter=adapter.text).run(lambda: 0.0) == (0.0,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import no_such_package", r"peer_file\.py: cannot be loaded: ModuleNotFoundError: No module named"),
        ("def build(workload) return", r"peer_file\.py: cannot be loaded: SyntaxError"),
        ("def biuld(workload): ...", r"peer_file\.py: has no function build"),
        ("def build(workload): return 1", r"peer_file\.py: build must return \(step, description\), got int"),
        ("def build(workload): raise ValueError('a\\nb')", r"build fails for workload 'nbody': ValueError: a$"),
        ("def build(): ...", "build fails for workload 'nbody': TypeError"),
        ("def build(workload): return 3, 'x'", r"build must return \(step, description\), got \(int, str\)"),
        ("import sys\nsys.exit('enough')", r"peer_file\.py: cannot be loaded: SystemExit: enough$"),
        ("def build(workload): raise SystemExit(3)", "build fails for workload 'nbody': SystemExit: 3$"),
    ],
)
def test_what_is_wrong_with_an_adapter_is_one_sentence_with_its_name(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        Adapter.parse(write(tmp_path, text)).make(WORKLOAD)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("step", "message"), [("1 / 0", "ZeroDivisionError: division by zero"), ("exit(2)", "SystemExit: 2")]
)
def test_a_step_that_fails_names_the_file(tmp_path: Path, step: str, message: str) -> None:
    path = write(tmp_path, f"from sys import exit\ndef build(workload):\n    return lambda: {step}, 'fails'")
    contender = Adapter.parse(path).make(WORKLOAD)
    with pytest.raises(UserError, match=rf"peer_file\.py: its step fails: {message}"):
        contender.work.run(lambda: 0.0)


@pytest.mark.parametrize("ending", ["return lambda: None, 'x'", "raise NotImplementedError('no')"])
def test_what_a_file_does_to_torch_as_a_whole_does_not_last(tmp_path: Path, ending: str) -> None:
    before = torch.get_num_threads()
    path = write(
        tmp_path,
        "import torch\ntorch.set_grad_enabled(False)\ndef build(workload):\n"
        f"    torch.set_default_dtype(torch.float64)\n    torch.set_num_threads({before + 1})\n    {ending}",
    )
    with nullcontext() if "return" in ending else pytest.raises(NotImplementedError):
        Adapter.parse(path).make(WORKLOAD)
    assert (torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads()) == (
        True,
        torch.float32,
        before,
    )


def test_two_contenders_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "edge_frame.py"
    path.write_text("def build(workload):\n    return lambda: None, 'idle'")
    adapter = Adapter.parse(str(path))
    for names, adapters in ((["edge_frame"], [adapter]), (["native"], [adapter, adapter]), ([], [adapter])):
        with pytest.raises(UserError, match="contender 'edge_frame' is named twice; give each adapter file"):
            collect(WORKLOAD, names, [], adapters)


def test_an_adapter_may_leave_a_workload_out(tmp_path: Path) -> None:
    path = write(tmp_path, "def build(workload):\n    raise NotImplementedError('no molecules')")
    contenders, notes = collect(WORKLOAD, ["edge_frame"], [], [Adapter.parse(path)])
    assert [contender.name for contender in contenders] == ["edge_frame"]
    assert notes == ["nbody: peer_file is left out: no molecules."]


@pytest.mark.parametrize(
    ("text", "message"), [("nowhere.py", "no such file"), ("{file}:times", "expected options as FILE:name=value")]
)
def test_bad_names_of_adapters_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Adapter.parse(text.format(file=write(tmp_path, GOOD)))
