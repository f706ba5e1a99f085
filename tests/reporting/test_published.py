from __future__ import annotations

import re
from pathlib import Path

import pytest

from se3t.config import SCHEMAS, TARGETS
from se3t.errors import UserError
from se3t.experiments.table import Estimate, PublishedTable
from se3t.reporting.published import load_published, printed_names, published_tables


def test_published_models_stand_in_the_papers_order():
    published = load_published("table1")
    labels = [model.label for model in published.models.values()]
    assert labels == ["Linear", "DeepSet", "TFN", "Set Transformer", "SE(3)-Transformer"]


def test_models_of_table_3_stand_in_the_papers_order_and_some_are_part_of_this_package():
    models = load_published("table3").models.values()
    assert {model.label: model.model for model in models} == {
        "WaveScatt": None,
        "NMP": "mpnn",
        "SchNet": "schnet",
        "Cormorant": None,
        "LieConv(T3)": None,
        "TFN": "tfn",
        "SE(3)-Transformer": "se3_transformer",
    }
    assert [model.label for model in models][::3] == ["WaveScatt", "Cormorant", "SE(3)-Transformer"]


def test_columns_of_table_3_are_targets_of_this_package():
    assert set(load_published("table3").columns) < set(TARGETS)


@pytest.mark.parametrize("table", published_tables(), ids=lambda table: table.title)
def test_every_published_model_of_this_package_can_be_trained(table: PublishedTable):
    models = {model.model for model in table.models.values() if model.model is not None}
    assert models <= set(SCHEMAS["model"])
    assert models <= set(printed_names())


def test_digits_are_those_that_are_printed():
    models = load_published("table3").models
    assert models["wavescatt"].metrics["alpha"] == Estimate(0.16, None, places=3)
    assert models["nmp"].metrics["gap"] == Estimate(69.0, None, places=0)
    assert models["se3_transformer"].metrics["homo"] == Estimate(35.0, 0.9, places=1)


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


def test_numbers_of_table_3_agree_with_the_facts_of_the_paper(shared_dir: Path):
    """Table 3 as the project's fact sheet prints it, read by machine."""
    facts = (shared_dir / "docs" / "PAPER.md").read_text(encoding="utf-8")
    section = facts[facts.index("## 4. Table 3") : facts.index("## 5.")]
    lines = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    printed = {cells[0].strip(" *"): [cell.strip() for cell in cells[1:]] for cells in lines[2:]}
    published = load_published("table3")
    assert len(printed) == len(published.models)
    for (name, cells), model in zip(printed.items(), published.models.values(), strict=True):
        assert name.replace("SE(3)-T", "SE(3)-Transformer") == model.label
        for cell, number in zip(cells, model.metrics.values(), strict=True):
            value, _, std = cell.partition("±")
            assert number == Estimate(float(value), float(std) if std else None, len(value.partition(".")[2]))


def test_published_numbers_are_relative_to_the_papers_linear():
    models = load_published("table1").models
    assert models["se3_transformer"].relative("mse_x", models["linear"]) == pytest.approx(0.11, abs=1e-3)
    assert models["linear"].relative("mse_v", models["linear"]) == 1
    assert models["linear"].relative("equivariance_error_x", models["tfn"]) is None


def test_missing_table_is_named(tmp_path: Path):
    with pytest.raises(UserError, match=r"table9\.yaml does not exist"):
        load_published(tmp_path / "table9.yaml")


# Of Table 1 the smallest errors, of Table 3 those of the SE(3)-Transformer with their spread: unlikely by chance.
@pytest.mark.parametrize(
    ("numbers", "home"),
    [
        (r"(?<![\d.])0?\.(0691|0639|0151|0139|0076)(?!\d)", "table1.yaml"),
        (r"(?<![\d.])(71\.4|73\.8|74\.1|79\.2|79\.5|87\.2)(?!\d)", "table2.yaml"),
        (r"(?<![\d.])(0?\.(142|223|085|084|235)|53\.0|33\.0)(?!\d)", "table3.yaml"),
        (r"(?<![\d.])0?\.(0819|0244|0155|01285|0071|00824)(?!\d)", "egnn.yaml"),
    ],
)
def test_published_numbers_are_written_nowhere_else(numbers: str, home: str):
    """A copied number goes stale: 0.0691 and its neighbours stand in those files alone."""
    root = Path(__file__).resolve().parents[2]
    folders = ((root / "src" / "se3t", "*.py"), (root / "src" / "se3t", "*.yaml"), (root / "conf", "*.yaml"))
    sources = [path for folder, ending in folders for path in folder.rglob(ending)] + [root / "README.md"]
    assert len(sources) > 50
    texts = {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in sources}
    # What was measured stands there beside what it is compared with.
    block = r"<!-- measured results: begin -->.*?<!-- measured results: end -->"
    texts["README.md"], blocks = re.subn(block, "", texts["README.md"], flags=re.DOTALL)
    assert blocks >= 1
    found = [name for name, text in texts.items() if re.search(numbers, text)]
    assert found == [f"src/se3t/reporting/published_numbers/{home}"]
