"""CONVENTIONS.md is one page, and every line of it is held by tests that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "CONVENTIONS.md"

LINK = re.compile(r"\[(test_\w+)\]\(([\w./]+\.py)\)")
"""A convention's test: [name_of_the_function](file from the top of the checkout)."""


def links() -> list[tuple[str, str]]:
    return LINK.findall(PAGE.read_text(encoding="utf-8"))


@cache
def functions(file: Path) -> frozenset[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize(("name", "file"), links())
def test_every_test_that_the_page_names_exists(name: str, file: str) -> None:
    path = ROOT / file
    assert path.is_file(), f"CONVENTIONS.md names {file}, which does not exist"
    assert name in functions(path), f"CONVENTIONS.md names {name}, which {file} does not have"


def test_every_convention_names_a_test() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    body = [line for line in lines if line.startswith("| ") and not line.startswith(("| what", "| ---"))]
    assert len(body) > 20
    assert not [line for line in body if not LINK.search(line)]


def test_every_mention_of_a_test_is_a_link() -> None:
    mentioned = re.findall(r"\btest_\w+\b", LINK.sub("", PAGE.read_text(encoding="utf-8")))
    assert not mentioned


def test_the_page_stays_short() -> None:
    assert len(PAGE.read_text(encoding="utf-8").splitlines()) <= 120  # a section for each experiment
