"""README, CONVENTIONS.md and the pages of docs: what they link to exists, what they show runs, worked examples work."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
THEORY = ROOT / "docs" / "theory.md"
WORKED = ("add_a_model", "add_a_data_set")
PAGES = [ROOT / "README.md", ROOT / "CONVENTIONS.md", *sorted((ROOT / "docs").glob("*.md"))]
EXECUTED = {"README.md", "released_weights.md", "theory.md", "speed.md", "pyg.md", *(f"{name}.md" for name in WORKED)}
"""Pages with Python: the first two are run by test_readme.py, pyg.md by test_pyg.py, the others here."""

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
_STEP = re.compile(
    r"^\*\*`(?P<path>[^`]+)`\*\* \((?P<kind>new|change)\)$|^```(?P<language>\w+)\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
"""In a worked page: a file that is new or changed, or a block."""


def prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def links(page: Path, pictures: bool = False) -> list[tuple[str, str]]:
    """(text, target) of every link, or of every picture, that leads into this repository."""
    found = _LINK.findall(prose(page))
    return [(text, target) for mark, text, target in found if bool(mark) == pictures and "://" not in target]


@cache
def anchors(page: Path) -> frozenset[str]:
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return frozenset(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings)


@cache
def names(file: Path) -> frozenset[str]:
    """Functions, classes, methods and constants that a file defines."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return frozenset(found)


def missing_names(text: str, file: Path) -> list[str]:
    """Of what a link to a Python file calls by name, that which the file does not define."""
    if text.startswith("test_"):
        return [] if text in names(file) else [text]
    words = re.findall(r"[\w.]+", text) if re.fullmatch(r"`[\w.]+`(, `[\w.]+`)*", text) else []
    module = ".".join(file.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__") if words else ""
    return [word for word in words if word != module and word not in names(file)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_a_name_and_a_heading_that_exist(page: Path) -> None:
    for text, target in links(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name} links to {path}, which does not exist"
        if anchor:
            assert anchor in anchors(file), f"{page.name} links to {target}, but {file.name} has no such heading"
        if file.suffix == ".py":
            assert not missing_names(text, file), f"{page.name}: {path} does not define {missing_names(text, file)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_picture_is_there_and_described(page: Path) -> None:
    for text, target in links(page, pictures=True):
        assert (page.parent / target).is_file(), f"{page.name} shows {target}, which does not exist"
        assert len(text) > 20, f"{page.name}: {target} needs a description for those who do not see it"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_row_of_a_table_has_as_many_cells_as_its_head(page: Path) -> None:
    for table in re.findall(r"(?:^\|.*\|\n)+", prose(page), re.MULTILINE):
        counts = [row.replace(r"\|", "").count("|") for row in table.splitlines()]
        assert len(set(counts)) == 1, f"{page.name}: {table.splitlines()[counts.index(max(counts))]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_measured_results_are_marked_from_beginning_to_end(page: Path) -> None:
    marks = re.findall(r"^<!-- measured results: (begin|end) -->$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert marks == ["begin", "end"] * (len(marks) // 2)


def test_the_readme_stays_short_and_begins_with_two_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 190
    start = text.partition("## Start\n\n")[2]
    assert start.startswith("With Python 3.11 or newer, and nothing else:\n\n```bash\nmake train\nmake test\n```\n")
    linked = {target for _, target in links(ROOT / "README.md")}
    assert {f"docs/{page.name}" for page in PAGES if page.parent.name == "docs"} <= linked


# --- theory -----------------------------------------------------------------------------------------------------------


def test_every_file_of_the_theory_is_mentioned() -> None:
    linked = {(THEORY.parent / target).resolve() for _, target in links(THEORY)}
    files = [*(ROOT / "src/se3t/so3").glob("*.py"), *(ROOT / "src/se3t/nn").glob("*.py")]
    files += (ROOT / "src/se3t/nn/kernels").glob("*.py")
    unmentioned = [file.name for file in files if file.name != "__init__.py" and file not in linked]
    assert not unmentioned


def test_every_public_function_of_so3_and_layer_of_nn_is_named() -> None:
    from se3t import nn, so3

    text = THEORY.read_text(encoding="utf-8")
    helpers = {"cross_matrix", "matrix_from_quaternion", "from_polar_z"}
    public = {name for part in (so3, nn) for name, value in vars(part).items() if callable(value) and name[0] != "_"}
    assert {"spherical_harmonics", "EquivariantConv"} < public
    assert sorted(name for name in public - helpers if f"`{name}`" not in text) == []


def test_every_test_that_theory_names_is_a_link() -> None:
    assert re.findall(r"\btest_\w+\b(?!\.py)", _LINK.sub("", prose(THEORY))) == []
    assert len([text for text, _ in links(THEORY) if text.startswith("test_")]) > 50


BLOCKS = {
    f"{page.name} {number}": body
    for page in (THEORY, ROOT / "docs" / "speed.md")
    for number, (language, body) in enumerate(_FENCE.findall(page.read_text(encoding="utf-8")))
    if language == "python"
}


@pytest.mark.e2e
@pytest.mark.parametrize("name", BLOCKS)
def test_code_of_pages_runs(name: str) -> None:
    exec(compile(BLOCKS[name], name, "exec"), {})


def test_no_page_shows_python_that_nothing_runs() -> None:
    assert {page.name for page in PAGES if "```python" in page.read_text(encoding="utf-8")} == EXECUTED


# --- worked examples --------------------------------------------------------------------------------------------------


def steps(page: str) -> Iterator[tuple[str, str, str]]:
    """(path, new or change, content or diff) of all files that a page makes or changes."""
    path = kind = ""
    for step in _STEP.finditer(page):
        if step["path"]:
            path, kind = step["path"], step["kind"]
        elif path and (kind == "new" or step["language"] == "diff"):
            yield path, kind, step["body"]
            path = "" if kind == "new" else path  # several places of one file may change


def changed(text: str, diff: str, path: str) -> str:
    lines = [line or " " for line in diff.splitlines()]
    before, after = ("\n".join(line[1:] for line in lines if line[0] in marks) for marks in (" -", " +"))
    if after in text:  # whoever runs this has followed the page
        return text
    assert text.count(before) == 1, f"{path} has {text.count(before)} places such as\n{before}"
    return text.replace(before, after)


def copy(root: Path) -> None:
    for folder in ("src", "conf", "docs", "tests"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__", "golden"))
    shutil.copy(ROOT / "pyproject.toml", root)


def apply(name: str, root: Path) -> list[Path]:
    """Do what a page says in a copy of the repository, as far as nobody has; the files that it adds."""
    new = []
    for path, kind, body in steps((ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")):
        file = root / path
        if kind == "change":
            file.write_text(changed(file.read_text(encoding="utf-8"), body, path), encoding="utf-8")
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(body, encoding="utf-8")
        new.append(file)
    return new


def commands(name: str, program: str) -> list[list[str]]:
    blocks = _FENCE.findall((ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8"))
    lines = [shlex.split(line) for language, body in blocks if language == "bash" for line in body.splitlines()]
    return [words[1:] for words in lines if words[0] == program]


def run(root: Path, *command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(root / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.e2e
def test_the_added_model_trains_on_the_added_data(tmp_path: Path) -> None:
    """Both pages at once, in one training; each by itself is slow."""
    copy(tmp_path)
    new = [file for name in WORKED for file in apply(name, tmp_path)]
    files = [str(file) for file in new if file.suffix == ".py"]
    run(tmp_path, "ruff", "check", "-q", *files)
    run(tmp_path, "ruff", "format", "-q", "--check", *files)
    words = ("experiment=charges", "model=vector_gnn", "preset=smoke", "trainer.progress=false")
    printed = run(tmp_path, "se3t", "train", *words)
    assert "run record: runs/charges/vector_gnn/" in printed


@pytest.mark.slow
@pytest.mark.parametrize("name", WORKED)
def test_commands_and_tests_of_a_worked_example_run(name: str, tmp_path: Path) -> None:
    copy(tmp_path)
    apply(name, tmp_path)
    for words in commands(name, "se3t"):
        if words[0] == "data":
            run(tmp_path, "se3t", *words)
        elif "preset=smoke" in words:
            assert "run record: runs/" in run(tmp_path, "se3t", *words, "trainer.progress=false")
        else:  # a longer training is understood, in each of its jobs
            one = (re.sub(r"=(\w+),.*", r"=\1", word) for word in words if word != "-m")
            run(tmp_path, "se3t", *one, "--cfg", "job")
    (words,) = commands(name, "pytest")
    run(tmp_path, "pytest", "-p", "no:cacheprovider", *words)
