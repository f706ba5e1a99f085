from __future__ import annotations

import re
from pathlib import Path

import pytest

from se3t.errors import UserError
from se3t.models import MODELS
from se3t.reporting.published import load_published


def test_published_models_stand_in_the_papers_order():
    published = load_published("table1")
    labels = [model.label for model in published.models.values()]
    assert labels == ["Linear", "DeepSet", "TFN", "Set Transformer", "SE(3)-Transformer"]


def test_every_published_model_can_be_trained():
    assert set(load_published("table1").models) <= set(MODELS)


def test_published_numbers_agree_with_the_facts_of_the_paper(shared_dir: Path):
    """The row of Table 1 as the project's fact sheet prints it, read by machine."""
    facts = (shared_dir / "docs" / "PAPER.md").read_text(encoding="utf-8")
    section = facts[facts.index("## 2. Table 1") :]
    rows = dict(re.findall(r"^\| (MSE x|MSE v) \| (.*) \|$", section, flags=re.MULTILINE))
    published = load_published("table1")
    for label, metric in (("MSE x", "mse_x"), ("MSE v", "mse_v")):
        printed = [float(cell.strip(" *")) for cell in rows[label].split("|")]
        assert printed == [model.metrics[metric].value for model in published.models.values()]
    errors = re.findall(r"^\| Δ_EQ \| – \| (.*) \|$", section, flags=re.MULTILINE)
    for line, metric in zip(errors, ("equivariance_error_x", "equivariance_error_v"), strict=True):
        trained = [model for name, model in published.models.items() if name != "linear"]
        assert [float(cell) for cell in line.split("|")] == [model.metrics[metric].value for model in trained]


def test_published_numbers_are_relative_to_the_papers_linear():
    models = load_published("table1").models
    assert models["se3_transformer"].relative("mse_x", models["linear"]) == pytest.approx(0.11, abs=1e-3)
    assert models["linear"].relative("mse_v", models["linear"]) == 1
    assert models["linear"].relative("equivariance_error_x", models["tfn"]) is None


def test_missing_table_is_named(tmp_path: Path):
    with pytest.raises(UserError, match=r"table9\.yaml does not exist"):
        load_published("table9", tmp_path)


def test_published_numbers_are_written_nowhere_else():
    """A copied number goes stale: 0.0691 and its neighbours stand in conf/paper alone."""
    root = Path(__file__).resolve().parents[2]
    numbers = re.compile(r"(?<![\d.])0?\.(0691|0639|0151|0139|0076)(?!\d)")
    sources = [*(root / "src" / "se3t").rglob("*.py"), *(root / "conf").rglob("*.yaml"), root / "README.md"]
    assert len(sources) > 50
    texts = {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in sources}
    # What was measured stands there beside what it is compared with.
    block = r"<!-- measured results: begin -->.*<!-- measured results: end -->"
    texts["README.md"], blocks = re.subn(block, "", texts["README.md"], flags=re.DOTALL)
    assert blocks == 1
    assert [name for name, text in texts.items() if numbers.search(text)] == ["conf/paper/table1.yaml"]
