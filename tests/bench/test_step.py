from __future__ import annotations

import dataclasses

import pytest
import torch

from se3t.bench import contenders, single, step
from se3t.bench.child import Peak, peak_memory_elsewhere
from se3t.bench.contenders import SEPARATE, Ours, UnusableError, collect, default_names, make
from se3t.bench.equality import Difference, DisagreementError
from se3t.bench.options import Options
from se3t.bench.timing import Timed, Times
from se3t.bench.workloads import Workload
from se3t.errors import UserError
from se3t.fiber import Features
from se3t.nn import RadialNetwork
from se3t.nn.basis import EquivariantBasis
from se3t.nn.kernels import KERNELS, Sources, vectorised
from se3t.signals import Interrupted

QUICK = Options(quick=True, threads=1, repetitions=1)
NBODY = Workload.of("nbody", 2)
RIGHT = vectorised.messages
SHOWN = [name for name in KERNELS if contenders.unavailable(name, "cpu") is None]


@pytest.mark.parametrize("name", [*SHOWN, f"vectorised{SEPARATE}", "edge_frame-low", f"edge_frame-speed{SEPARATE}"])
def test_every_kernel_agrees_with_the_reference(name: str) -> None:
    difference = Ours.parse(name).difference(NBODY).check(name)
    assert difference.value <= 1e-12
    assert difference.gradient <= 1e-12


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_kernel_that_is_wrong_in_either_precision_is_not_timed(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = vectorised.messages

    def wrong(sources: Sources, radial: RadialNetwork, basis: EquivariantBasis, memory: str = "auto") -> Features:
        out = right(sources, radial, basis, memory)
        return {degree: value * (1.001 if value.dtype == dtype else 1) for degree, value in out.items()}

    monkeypatch.setattr(vectorised, "messages", wrong)
    with pytest.raises(
        DisagreementError, match=rf"vectorised: its output in {str(dtype)[6:]} differs from the reference"
    ):
        make(NBODY, "vectorised")


def wrong_in_float64(
    sources: Sources, radial: RadialNetwork, basis: EquivariantBasis, memory: str = "auto"
) -> Features:
    return {degree: 1.001 * value for degree, value in RIGHT(sources, radial, basis, memory).items()}


def test_a_wrong_kernel_does_not_keep_the_others_from_being_timed_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectorised, "messages", wrong_in_float64)
    report = step.run(QUICK, ["nbody"], ["edge_frame", "vectorised"], num_graphs=1)
    assert [row["name"] for row in report.rows] == ["edge_frame"]
    (line,) = report.failures
    assert "nbody: vectorised: its output in float64 differs" in line
    with pytest.raises(UserError, match="no contender is left; nbody: vectorised: its output"):
        step.run(QUICK, ["nbody"], ["vectorised"], num_graphs=1)
    layers = single.agreeing(single.Single(1, 8, 3, 2, 4), ["vectorised", "edge_frame"], lines := [])
    assert layers[0] == ["edge_frame"]
    assert "vectorised" in lines[0]


def test_a_signal_leaves_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Options.time

    def stopped(self: Options, work: dict[str, Timed], **limits: float) -> dict[str, Times]:
        if len(seen) == 1:
            raise Interrupted(15)
        seen.append(work)
        return right(self, work, **limits)

    seen: list[object] = []
    monkeypatch.setattr(Options, "time", stopped)
    report = step.run(QUICK, ["nbody", "nbody_attentive"], ["edge_frame"], num_graphs=1)
    assert [row["workload"] for row in report.rows] == ["nbody"]
    assert report.failures == ["ended by SIGTERM before everything was measured"]
    with pytest.raises(Interrupted):
        step.run(QUICK, ["nbody"], ["edge_frame"], num_graphs=1)


def test_a_step_in_bfloat16_multiplies_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    (contender,), _ = collect(NBODY, ["vectorised"], [])
    seen: list[torch.dtype] = []
    product = torch.Tensor.__matmul__
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda a, b: seen.append((out := product(a, b)).dtype) or out)
    for precision, dtype in (("32", torch.float32), ("bf16", torch.bfloat16)):
        seen.clear()
        contender.in_precision(precision).work.run(lambda: 0.0)
        assert dtype in seen


def test_a_variant_that_fails_is_told_and_the_others_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(sources: Sources, radial: RadialNetwork, basis: EquivariantBasis, memory: str = "auto") -> Features:
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("no such product\nand more")
        return RIGHT(sources, radial, basis, memory)

    monkeypatch.setattr(vectorised, "messages", fails)
    report = step.run(QUICK, ["nbody"], ["edge_frame", "vectorised"], num_graphs=1, precisions=("32", "bf16"))
    assert [row["name"] for row in report.rows] == ["edge_frame", "vectorised", "edge_frame bf16"]
    assert report.failures == ["nbody: vectorised bf16 fails: no such product"]


def test_tf32_is_refused_on_a_cpu() -> None:
    with pytest.raises(UserError, match="precision tf32: only NVIDIA GPUs have it"):
        step.run(QUICK, ["nbody"], ["edge_frame"], precisions=("tf32",))


def test_not_a_number_is_a_disagreement() -> None:
    with pytest.raises(DisagreementError):
        Difference(0.0, float("nan"), 0.0, 0.0).check("kernel")


def test_memory_that_decides_by_size_is_checked_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []
    build = Ours.build
    monkeypatch.setattr(Ours, "build", lambda self, workload, memory=None: seen.append(memory) or build(self, workload))
    Ours.parse("edge_frame").difference(NBODY)
    assert {"low", "speed"} <= set(seen)
    seen.clear()
    Ours.parse("vectorised").difference(NBODY)
    assert set(seen) <= {"auto", None}


def test_the_reference_is_evaluated_once_for_all_contenders_of_a_workload(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    build = Ours.build
    monkeypatch.setattr(Ours, "build", lambda self, *rest: seen.append(self.kernel) or build(self, *rest))
    workload = Workload.of("nbody", 2, seed=11)
    collect(workload, ["edge_frame", "vectorised"], [])
    assert seen.count("reference") == 1
    collect(dataclasses.replace(workload, seed=12), ["vectorised"], [])
    assert seen.count("reference") == 2


@pytest.mark.parametrize("name", ["native-low", "triton-speed", f"vectorised-low{SEPARATE}"])
def test_an_ending_without_effect_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"contender '{name}': only edge_frame and auto have the endings"):
        Ours.parse(name)


def test_auto_may_be_told_what_to_do_with_memory() -> None:
    assert (Ours.parse("auto-low").memory, Ours.parse(f"edge_frame-speed{SEPARATE}").memory) == ("low", "speed")


def test_a_name_that_is_given_twice_takes_part_once() -> None:
    assert [contender.name for contender in collect(NBODY, ["edge_frame", "edge_frame"], [])[0]] == ["edge_frame"]


def test_the_seed_reaches_the_batch_that_is_timed() -> None:
    seen: list[Workload] = []

    def look(workload: Workload, names: object, failures: list[str]) -> contenders.Collected:
        seen.append(workload)
        return collect(workload, ["edge_frame"], failures)

    report = step.run(dataclasses.replace(QUICK, seed=7), ["nbody"], num_graphs=1, collect=look)
    assert seen == [Workload.of("nbody", 1, seed=7)]
    assert report.settings["workloads"][0]["seed"] == report.settings["seed"] == 7


@pytest.fixture(scope="module")
def report() -> step.Report:
    return step.run(QUICK, ["nbody", "nbody_attentive"], ["edge_frame", "vectorised"], num_graphs=1)


def test_report_has_a_row_for_every_workload_and_contender_with_ratios_over_the_first(report: step.Report) -> None:
    assert [(row["workload"], row["name"]) for row in report.rows] == [
        (workload, name) for workload in ("nbody", "nbody_attentive") for name in ("edge_frame", "vectorised")
    ]
    for first, second in (report.rows[:2], report.rows[2:]):
        assert first["ratio"] == 1
        assert second["ratio"] == pytest.approx(second["step"] / first["step"])
        assert 0 < second["forward"] < second["step"]


def test_peak_memory_of_a_contender_is_measured_in_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def measure_peak(self: Options, maker: str, arguments: dict[str, object], rounds: int = 3) -> Peak:
        asked.append((maker, str(arguments["name"])))
        return peak_memory_elsewhere(maker, arguments, device="cpu", threads=1, rounds=1)

    monkeypatch.setattr(Options, "measure_peak", measure_peak)
    (row,) = step.run(dataclasses.replace(QUICK, quick=False), ["nbody"], ["edge_frame"], num_graphs=2).rows
    assert asked == [("se3t.bench.contenders:rebuild", "edge_frame")]
    assert row["peak_memory"] > 0


def test_a_kernel_that_gives_a_reason_is_left_out_or_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectorised, "unavailable", lambda device: f"not on {device.type}", raising=False)
    names, notes = default_names(NBODY)
    assert "vectorised" not in names
    assert "nbody: vectorised is left out: not on cpu." in notes
    with pytest.raises(UnusableError, match="contender 'vectorised' cannot run here: not on cpu"):
        collect(NBODY, ["vectorised"], [])


def test_a_kernel_that_refuses_in_a_sentence_is_left_out_unless_it_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> Features:
        raise UserError("kernel 'vectorised': it is switched off")

    monkeypatch.setattr(contenders, "default_names", lambda workload: (["vectorised", "edge_frame"], []))
    monkeypatch.setattr(vectorised, "messages", refuse)
    found, notes = collect(NBODY, [], [])
    assert [contender.name for contender in found] == ["edge_frame"]
    assert notes == ["nbody: vectorised is left out: kernel 'vectorised': it is switched off."]
    with pytest.raises(UserError, match=r"^kernel 'vectorised': it is switched off$"):
        collect(NBODY, ["vectorised"], [])


def test_a_kernel_that_fails_is_left_out_unless_it_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> Features:
        raise RuntimeError("no such instruction\nand more")

    monkeypatch.setattr(contenders, "default_names", lambda workload: (["vectorised", "edge_frame"], []))
    monkeypatch.setattr(vectorised, "messages", refuse)
    found, notes = collect(NBODY, [], [])
    assert [contender.name for contender in found] == ["edge_frame"]
    assert notes == ["nbody: vectorised is left out: no such instruction."]
    with pytest.raises(UserError, match="'vectorised' fails on workload 'nbody': no such instruction"):
        collect(NBODY, ["vectorised"], [])


def test_what_would_hold_gigabytes_is_left_out_unless_it_was_named() -> None:
    names, notes = default_names(Workload.of("qm9_complete"))
    assert not {"reference", "vectorised", "edge_frame-speed"} & set(names)
    assert "edge_frame-low" in names
    assert sum("MiB of radial weights" in note for note in notes) >= 3


@pytest.mark.parametrize("name", ["vectorized", "edge_frame-slow", "edgeframe", "nativ"])
def test_an_unknown_contender_suggests_the_nearest(name: str) -> None:
    with pytest.raises(UserError, match=rf"contender '{name}' is not known; did you mean"):
        make(NBODY, name)
