"""The same run records give the same tables, digit for digit and note for note, in every format.

``golden_tables/records.jsonl`` holds results of earlier runs with invented numbers. Of Markdown the whole text is kept,
of the other formats its digest. After an intended change: ``SE3T_WRITE_GOLDEN=1 pytest -n0
tests/reporting/test_tables_golden.py`` writes the tables again and fails once, so that somebody reads the difference.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from se3t.cli.main import main
from se3t.runs.files import seal

GOLDEN = Path(__file__).parent / "golden_tables"
RECORDS = [json.loads(line) for line in (GOLDEN / "records.jsonl").read_text(encoding="utf-8").splitlines()]
FORMATS = {"terminal": "txt", "markdown": "md", "csv": "csv", "latex": "tex", "json": "json"}
EVERY = [(name, [*([] if name == "all" else [name])]) for name in ("all", "1", "2", "3", "egnn", "ablations")]
CASES = [
    *((f"{name}.{ending}", [*words, "--format", form]) for name, words in EVERY for form, ending in FORMATS.items()),
    ("1_reduced.md", ["1", "--preset", "reduced", "--format", "markdown"]),
    ("2_reduced.md", ["2", "--preset", "reduced", "--format", "markdown"]),
    ("3_homo.md", ["3", "--target", "homo", "--format", "markdown"]),
    ("3_gap.md", ["3", "--target", "gap", "--format", "markdown"]),
    *((f"{name}_without_runs.md", [*words, "--format", "markdown"]) for name, words in EVERY[1:]),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("golden")
    for index, record in enumerate(RECORDS):
        is_sealed = not record.pop("unsealed", False)
        path = top / "runs" / record["experiment"] / record["model"] / f"run {index:02}" / "result.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(seal(record) if is_sealed else record), encoding="utf-8")
    (top / "empty" / "runs").mkdir(parents=True)
    return top


@pytest.mark.parametrize(("name", "words"), CASES, ids=[name for name, _ in CASES])
def test_a_table_is_as_it_was(
    name: str, words: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.chdir(folder / "empty" if "without" in name else folder)
    assert main(["table", *words]) == 0
    text = capsys.readouterr().out
    if not name.endswith(".md"):
        name, text = f"{name}.sha256", hashlib.sha256(text.encode()).hexdigest() + "\n"
    path = GOLDEN / name
    if os.environ.get("SE3T_WRITE_GOLDEN"):
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        path.write_text(text, encoding="utf-8")
        assert before == text, "written again; read the difference"
    assert text == path.read_text(encoding="utf-8")
