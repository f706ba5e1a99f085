"""Where there is no compiled code: what is said, and what is used instead."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from se3t.fiber import Fiber
from se3t.geometry import EdgeGeometry
from se3t.native import compiler
from se3t.native.compiler import NativeUnavailableError
from se3t.nn import EdgeAttention
from se3t.nn.kernels import auto
from se3t.nn.kernels.native.compiler import _LIBRARY, unavailable

from .clouds import FIBER, features_of
from .native_cases import conv_of, edges_of, graph_of, outputs, run

CPU = torch.device("cpu")
needs_compiler = pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler here")
needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not in PATH")


def forget() -> None:
    for function in (compiler._loaded, compiler._reason, compiler._own_temporary_folder, auto._usable):
        function.cache_clear()


def with_optimisation(level: str) -> tuple[str, ...]:
    return tuple(level if flag.startswith("-O") else flag for flag in compiler._COMMON)


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """An empty cache, nothing loaded yet, and compilation that optimises nothing."""
    monkeypatch.setenv("SE3T_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SE3T_NATIVE", raising=False)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(compiler, "_COMMON", with_optimisation("-O0"))
    forget()
    yield
    forget()


def without_compiler(patch: pytest.MonkeyPatch, folder: Path) -> None:
    patch.setenv("PATH", str(folder))


def with_unknown_compiler(patch: pytest.MonkeyPatch, folder: Path) -> None:
    patch.setenv("CC", "no-such-compiler")


def with_compiler_that_fails(patch: pytest.MonkeyPatch, folder: Path) -> None:
    patch.setenv("CC", str(script(folder / "broken", "echo 'broken: error: it never works' >&2; exit 1")))


def with_compiler_that_makes_nonsense(patch: pytest.MonkeyPatch, folder: Path) -> None:
    lines = 'while [ $# -gt 1 ]; do [ "$1" = -o ] && echo nonsense > "$2"; shift; done'
    patch.setenv("CC", str(script(folder / "nonsense", lines)))


def switched_off(patch: pytest.MonkeyPatch, folder: Path) -> None:
    patch.setenv("SE3T_NATIVE", "0")


def script(path: Path, lines: str) -> Path:
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (without_compiler, r"no C compiler \(cc, gcc, clang\) is in PATH; install gcc or clang"),
        (with_unknown_compiler, r"no C compiler \(no-such-compiler\) is in PATH"),
        (with_compiler_that_fails, "cannot compile it: broken: error: it never works"),
        (with_compiler_that_makes_nonsense, "cannot be loaded .*; remove it to compile it again"),
        (switched_off, "switched off by SE3T_NATIVE=0"),
    ],
)
def test_without_compiled_code_auto_says_why_once_and_computes_the_same(
    spoil: Callable[[pytest.MonkeyPatch, Path], None],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    spoil(monkeypatch, tmp_path)
    graph = graph_of(FIBER, edges_of("some", 20))
    expected = run(conv_of(FIBER, FIBER, "edge_frame"), graph)
    with caplog.at_level(logging.WARNING, logger="se3t"):
        received = [run(conv_of(FIBER, FIBER, "auto"), graph) for _ in range(2)]
    for values in received:
        assert all(torch.equal(one, other) for one, other in zip(expected, values, strict=True))
    assert len(caplog.records) == 1
    assert caplog.messages[0].startswith("kernel native is not used: ")
    assert "edge_frame computes the same" in caplog.messages[0]
    with pytest.raises(NativeUnavailableError, match=words):
        outputs(conv_of(FIBER, FIBER, "native"), graph)
    fiber = Fiber("2x0")
    query, key = features_of(fiber, graph.num_nodes), features_of(fiber, 20)
    geometry = EdgeGeometry.of(graph)
    assert EdgeAttention(1, fiber, fiber)(query, key, key, geometry)[0].isfinite().all()
    with pytest.raises(NativeUnavailableError, match=words):
        EdgeAttention(1, fiber, fiber, "native")(query, key, key, geometry)


def test_the_reason_is_said_for_what_it_cannot_compute() -> None:
    assert unavailable(torch.device("cuda")) == "it runs on a CPU, not on cuda"
    assert unavailable(CPU, torch.float16) == "it computes in float32 and float64, not in torch.float16"


def test_tensors_of_another_device_are_refused_before_they_are_read() -> None:
    fiber = Fiber("2x0")
    graph = graph_of(fiber, edges_of("some", 4)).to("meta")
    with pytest.raises(NativeUnavailableError, match="it runs on a CPU, not on meta"):
        outputs(conv_of(fiber, fiber).to("meta"), graph)


@needs_compiler
def test_a_damaged_file_of_the_cache_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cache" / f"native-float-{compiler._key(compiler._compiler(), Path(_LIBRARY.folder))}.so"
    path.parent.mkdir()
    path.write_bytes(b"not a library")
    reason = unavailable(CPU)
    assert reason is not None
    assert str(path) in reason
    assert "remove it to compile it again" in reason
    path.unlink()
    forget()
    assert unavailable(CPU) is None


@needs_gcc
def test_a_library_without_our_functions_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "other.c"
    source.write_text("int other(void) { return 4; }\n")

    def make(compiler: str, path: Path, defines: tuple[str, ...]) -> None:
        subprocess.run(["gcc", "-shared", "-fPIC", str(source), "-o", str(path)], check=True)

    monkeypatch.setattr(compiler, "_compile", make)
    assert "is not what its name says; remove it to compile it again" in str(unavailable(CPU))


@needs_compiler
@pytest.mark.parametrize("trouble", ["a file is in its place", "the user has no home"])
def test_without_a_cache_folder_the_code_is_compiled_into_a_temporary_one(
    trouble: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if trouble == "the user has no home":

        def homeless() -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.delenv("SE3T_CACHE")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(Path, "home", homeless)
    else:
        (tmp_path / "cache").write_text("")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert unavailable(CPU) is None
    assert [path.suffix for path in tmp_path.glob("se3t-*/*")] == [".so"]


@needs_compiler
def test_a_full_disk_is_a_reason_not_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryDirectory", full)
    assert "No space left on device" in str(unavailable(CPU))


@needs_compiler
def test_nothing_but_the_result_stays_in_the_cache_and_it_is_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert unavailable(CPU, torch.float64) is None
    (path,) = (tmp_path / "cache").iterdir()
    assert path.name.startswith("native-double-")
    forget()
    monkeypatch.setattr(compiler, "_compile", None)  # a second compilation would fail
    assert unavailable(CPU, torch.float64) is None


@needs_compiler
def test_other_flags_make_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert unavailable(CPU) is None
    forget()
    monkeypatch.setattr(compiler, "_TUNED", ((),))
    assert unavailable(CPU) is None
    assert len(list((tmp_path / "cache").iterdir())) == 2


@needs_compiler
def test_flags_that_a_compiler_does_not_know_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "_TUNED", (("-march=nothing-of-this-name",), ()))
    assert unavailable(CPU) is None


@pytest.mark.e2e
@needs_compiler
def test_processes_may_compile_at_the_same_time(tmp_path: Path) -> None:
    code = (
        "import torch; from se3t.native import compiler as l; from se3t.nn.kernels.native.compiler import compiled;"
        "l._COMMON = tuple('-O1' if flag == '-O3' else flag for flag in l._COMMON);"
        "assert compiled(torch.float32).real_bytes() == 4"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    processes = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.e2e
@pytest.mark.parametrize("name", ["gcc", "clang"])
def test_each_compiler_makes_code_that_computes_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not in PATH")
    monkeypatch.setenv("CC", name)
    monkeypatch.setattr(compiler, "_COMMON", with_optimisation("-O1"))
    graph = graph_of(FIBER, edges_of("some", 40))
    expected, received = (run(conv_of(FIBER, FIBER, kernel), graph) for kernel in ("reference", "native"))
    for one, other in zip(expected, received, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-11, atol=1e-11)


@needs_gcc
@pytest.mark.parametrize("command", ["gcc -O1", "'gcc' -O1 -DNAME='a b'", "env gcc"])
def test_the_compiler_may_come_with_options_or_behind_another_command(
    monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("CC", command)
    assert unavailable(CPU) is None


def test_a_command_with_an_open_quote_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "gcc '-O1")
    assert "CC=gcc '-O1 cannot be read (No closing quotation)" in str(unavailable(CPU))


def test_a_folder_mounted_noexec_is_told_with_the_variable_that_moves_it() -> None:
    error = OSError("x.so: failed to map segment from shared object: Operation not permitted")
    assert "set SE3T_CACHE to a folder on another file system" in compiler._not_loaded(Path("/cache/x.so"), error)


def test_code_in_a_folder_of_another_user_is_not_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").mkdir()
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    monkeypatch.setattr(compiler, "_ROOT", 54321)
    assert compiler._folder() != tmp_path / "cache"
    assert "belongs to another user" in caplog.text
    assert "SE3T_CACHE" in caplog.text
