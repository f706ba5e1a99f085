"""The house: imports point one way, heavy packages live in one place each, and what must start fast loads no torch."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "se3t"

# A part of the package (a file or folder of src/se3t) imports parts of earlier rows, never of its own or a later row.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("screen", "files", "allocator", "signals", "compiling", "pretrained"),
    ("native",),
    ("so3", "config"),
    ("runs",),
    ("experiments",),
    ("reporting",),
    ("fiber", "precision"),
    ("neighbors", "graph_checks"),
    ("pyg",),
    ("graph",),
    ("geometry", "batching", "forces"),
    ("nn", "data"),
    ("models", "testing", "operators"),
    ("tasks", "compat"),
    ("training", "bench"),
    ("deploy", "measure"),
    ("suite",),
    ("cli",),
    ("__main__",),
)

LIBRARY = (
    *("compiling", "native", "so3", "fiber", "neighbors", "graph_checks", "pyg", "graph", "geometry"),
    *("batching", "forces", "nn", "models", "testing", "compat", "operators"),
)
LIBRARY_MAY_IMPORT = {"torch", "torch_geometric", "jaxtyping", "se3t", "triton"}  # triton comes with torch for CUDA

TORCH_FREE = (
    "errors",
    "allocator",
    "signals",
    "config",
    "runs",
    "experiments",
    "reporting",
    "pretrained",
    "cli.main",
    "data.nbody.presets",
    "data.molecules.chemistry",
    "data.molecules.embedding",
    "data.molecules.parallel",
    "data.qm9.prepare",
    "data.clouds.dataset",
    "data.scanobjectnn.prepare",
    "data.shapes15.prepare",
    "suite.jobs",
    "suite.sweep",
    "suite.tables",
    "suite.costs",
    "suite.progress",
)
HEAVY = {
    "torch",
    "torch_geometric",
    "lightning",
    "wandb",
    "rdkit",
    "h5py",
    "hydra",
    "pandas",
    "scipy",
    "matplotlib",
    "optuna",
    "submitit",
    "jinja2",
}

# Package -> the parts of src/se3t or the modules that may import it, and whether one file alone does.
HOMES: dict[str, tuple[tuple[str, ...], bool]] = {
    "wandb": (("training",), True),
    "rdkit": (tuple(f"data.molecules.{name}" for name in ("chemistry", "conversion", "embedding")), False),
    "h5py": (("data",), True),
    "lightning": (("training",), False),
    "triton": (("nn.kernels.triton_programs", "nn.kernels.triton_tiles"), False),
    "optuna": (("suite",), True),
    "submitit": (("suite",), True),
    "jinja2": (("reporting.report.page",), True),
    "safetensors": (("training.exported",), True),
    "hydra": (("cli", "config"), False),  # config: the ConfigStore that its schemas are registered with
}


@dataclass(frozen=True)
class Import:
    """One imported module: who imports it, and whether that happens when the importer is loaded."""

    importer: str  # dotted, below se3t: "nn.basis"
    module: str  # dotted and absolute: "se3t.graph", "torch.nn"
    at_load: bool

    @property
    def part(self) -> str:
        return self.importer.split(".")[0]

    @property
    def package(self) -> str:
        return self.module.split(".")[0]


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, Path]:
    return {module_name(path): path for path in sorted(SOURCE.rglob("*.py"))}


def guarded_by_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def walk(node: ast.AST, at_load: bool) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, at_load
        lazy = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) or guarded_by_type_checking(child)
        yield from walk(child, at_load and not lazy)


def imports_of(name: str, path: Path) -> Iterator[Import]:
    package = ["se3t", *(name.split(".") if path.name == "__init__.py" else name.split(".")[:-1])]
    for node, at_load in walk(ast.parse(path.read_text(encoding="utf-8")), True):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        else:
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            base += node.module.split(".") if node.module else []
            stem = ".".join(base)
            # "from se3t import graph" imports the module se3t.graph; "from se3t.graph import Graph" only se3t.graph.
            below = {alias.name: f"{stem}.{alias.name}" for alias in node.names}
            found = [below[n] if below[n].removeprefix("se3t.") in modules() else stem for n in below]
        yield from (Import(name, module, at_load) for module in found)


@cache
def all_imports() -> tuple[Import, ...]:
    return tuple(entry for name, path in modules().items() for entry in imports_of(name, path))


def floor(part: str) -> int:
    return next(number for number, parts in enumerate(FLOORS) if part in parts)


def test_every_part_of_the_package_has_a_floor() -> None:
    known = {part for parts in FLOORS for part in parts}
    assert {name.split(".")[0] for name in modules()} - {""} <= known


def test_imports_point_one_way() -> None:
    wrong = [
        f"{entry.importer} imports {entry.module}"
        for entry in all_imports()
        if entry.package == "se3t"
        for part in [entry.module.removeprefix("se3t").removeprefix(".").split(".")[0]]
        if part and entry.part and part != entry.part and floor(part) >= floor(entry.part)
    ]
    assert not wrong, "\n".join(wrong)


def test_no_file_leads_back_to_itself() -> None:
    """By whatever chain of imports: those inside functions and for type checkers count, as whoever reads one file of a
    circle has to read them all.
    """
    graph: dict[str, set[str]] = {name: set() for name in modules()}
    for entry in all_imports():
        if entry.package == "se3t":
            graph[entry.importer].add(entry.module.removeprefix("se3t").removeprefix("."))
    assert not circles(graph)


def circles(graph: Mapping[str, Collection[str]]) -> list[tuple[str, ...]]:
    """The files of each circle, or of circles that share a file: those that reach each other."""
    reached = {name: reachable(graph, name) for name in graph}
    parts = {tuple(sorted(other for other in reached[name] if name in reached[other])) for name in graph}
    return sorted(part for part in parts if len(part) > 1)


def reachable(graph: Mapping[str, Collection[str]], start: str) -> set[str]:
    found, waiting = set[str](), [start]
    while waiting:
        new = {other for other in graph[waiting.pop()] if other in graph} - found
        found |= new
        waiting += new
    return found


def test_the_package_itself_imports_none_of_its_parts() -> None:
    """``import se3t`` runs before every module: whatever it loads, all load."""
    wrong = [entry.module for entry in all_imports() if entry.importer == "" and entry.at_load]
    assert not [module for module in wrong if module.split(".")[0] not in sys.stdlib_module_names]


def test_the_library_imports_torch_pyg_and_jaxtyping_alone() -> None:
    wrong = [
        f"{entry.importer} imports {entry.module}"
        for entry in all_imports()
        if entry.part in LIBRARY and entry.package not in LIBRARY_MAY_IMPORT | sys.stdlib_module_names
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("package", HOMES)
def test_a_heavy_package_is_imported_in_one_place(package: str) -> None:
    parts, one_file = HOMES[package]
    importers = {entry.importer for entry in all_imports() if entry.package == package}
    strangers = [name for name in importers if name not in parts and name.split(".")[0] not in parts]
    assert not strangers, f"{package} is imported by {sorted(importers)}"
    if one_file:
        assert len(importers) <= 1, f"{package} is imported by {sorted(importers)}; let one of them do it for all"


@pytest.mark.parametrize("package", ["wandb", "rdkit", "h5py", "optuna", "submitit", "hydra", "jinja2"])
def test_optional_packages_are_imported_when_used(package: str) -> None:
    early = [entry.importer for entry in all_imports() if entry.package == package and entry.at_load]
    assert not early, f"{package} is imported as soon as one of {early} is; import it inside the function that needs it"


def loaded_with(name: str) -> dict[str, str]:
    """All modules that loading ``se3t.<name>`` loads, by static analysis, each with the module that asks for it."""
    found: dict[str, str] = {}
    waiting, seen = parents(name), set()
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        for entry in all_imports():
            if entry.importer == current and entry.at_load:
                found.setdefault(entry.module, current)
                waiting += parents(entry.module.removeprefix("se3t.")) if entry.package == "se3t" else []
    return found


def parents(name: str) -> list[str]:
    """The packages that are loaded before a module, and the module: "a.b" gives "", "a", "a.b"."""
    parts = name.split(".")
    return ["", *(".".join(parts[:n]) for n in range(1, len(parts) + 1))]


@pytest.mark.parametrize("name", TORCH_FREE)
def test_modules_that_must_start_fast_lead_to_no_heavy_import(name: str) -> None:
    assert name in modules(), f"se3t.{name} does not exist"
    chain = {module: importer for module, importer in loaded_with(name).items() if module.split(".")[0] in HEAVY}
    assert not chain, f"loading se3t.{name} loads {chain}"


def loaded_in_a_fresh_process(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*{{name.split('.')[0] for name in sys.modules}})"
    environment = {**os.environ, "PYTHONPATH": str(SOURCE.parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_the_command_line_and_what_it_needs_at_start_load_no_torch() -> None:
    names = [f"se3t.{name}" for name in modules() if name.split(".")[0] in ("errors", "config", "reporting")]
    loaded = loaded_in_a_fresh_process(f"import {', '.join([*names, 'se3t.cli.main', 'se3t.data.nbody.presets'])}")
    assert "se3t" in loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize("part", [part for part in LIBRARY if part in modules()])
def test_the_library_loads_none_of_the_suite(part: str) -> None:
    """Through whatever chain: the library is complete without the packages of data, training and command line."""
    reached = {module.split(".")[0] for name in modules() if name.split(".")[0] == part for module in loaded_with(name)}
    assert "torch" in reached
    assert reached <= LIBRARY_MAY_IMPORT | sys.stdlib_module_names


# --- the analysis itself ----------------------------------------------------------------------------------------------


def test_the_analysis_sees_lazy_relative_and_guarded_imports(tmp_path: Path) -> None:
    file = tmp_path / "basis.py"
    file.write_text(
        "from __future__ import annotations\n"
        "import torch.nn as t, os\n"
        "from se3t import graph\n"
        "from .radial import RadialNetwork\n"
        "from ..fiber import Fiber\n"
        "if TYPE_CHECKING:\n    import lightning\n"
        "try:\n    import rdkit\nexcept ImportError:\n    pass\n"
        "class A:\n    import h5py\n    def f(self):\n        import wandb\n"
    )
    found = {(entry.module, entry.at_load) for entry in imports_of("nn.basis", file)}
    assert found == {
        ("__future__", True),
        ("torch.nn", True),
        ("os", True),
        ("se3t.graph", True),
        ("se3t.nn.radial", True),
        ("se3t.fiber", True),
        ("lightning", False),
        ("rdkit", True),
        ("h5py", True),
        ("wandb", False),
    }


def test_circles_are_found_and_told_apart() -> None:
    graph = {"a": ["b"], "b": ["c"], "c": ["a", "d"], "d": ["e"], "e": ["d", "a.missing"], "f": ["a", "f"], "g": []}
    assert circles(graph) == [("a", "b", "c"), ("d", "e")]


def test_the_analysis_follows_imports_to_torch() -> None:
    assert loaded_with("geometry")["torch"] in modules()
    assert "se3t.so3.wigner" in loaded_with("graph")
