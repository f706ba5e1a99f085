from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import se3t


@pytest.mark.parametrize("name", se3t.__all__)
def test_a_public_name_can_be_imported_and_says_what_it_is(name: str) -> None:
    assert (inspect.getdoc(getattr(se3t, name)) or "").strip()
    assert name in dir(se3t)


def test_type_checkers_see_the_names_and_homes_that_python_sees() -> None:
    tree = ast.parse(Path(se3t.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imported = {alias.name: node.module for node in block.body for alias in node.names}  # type: ignore[attr-defined]
    assert sorted(imported) == sorted(se3t.__all__)
    for name, module in imported.items():
        __import__(module)
        assert getattr(sys.modules[module], name) is getattr(se3t, name)


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'se3t' has no attribute 'Transformer'"):
        se3t.Transformer  # noqa: B018


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, se3t; print(*(name.split('.')[0] for name in sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(answer.stdout.split())
    assert not loaded & {"torch", "numpy", "torch_geometric", "jaxtyping", "hydra", "omegaconf", "matplotlib", "scipy"}
    assert "se3t" in loaded
