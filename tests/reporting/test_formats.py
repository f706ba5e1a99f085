"""Tables as Markdown, CSV, JSON and LaTeX."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shutil
import subprocess
from collections.abc import Iterable
from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import pytest

from se3t.cli.main import main
from se3t.reporting.published import load_published
from se3t.reporting.tables.build import named_tables, names, tables
from se3t.reporting.tables.formats import CSV_COLUMNS, FORMATS, to_csv, to_json, to_markdown
from se3t.reporting.tables.latex import escape, to_latex
from se3t.reporting.tables.layout import ResultTable
from se3t.runs.files import seal

from .results import lines, property_result, result, subset_result
from .test_classification import cloud_result, shapes_result


def some_tables() -> list[ResultTable]:
    """Tables with several seeds, sizes, budgets, marks, and properties with awkward names."""
    own = {
        "data__kind": "molecules",
        "data__official": {},
        "data__label": r"100 % {log} [P_x] & \frac ~ 日 é | -- '\"#$^",
    }
    return tables(
        [
            *(result(seed=seed, test__mse_x=0.1 / (seed + 3)) for seed in range(3)),
            result("tfn", 1, data__preset="text", data__checksum="7"),
            result(config__model__ablation="radial"),
            shapes_result("pointglr"),
            cloud_result(budget__steps_done=10),
            property_result("tfn", "alpha", preset="reduced", config__model={"name": "tfn", "num_layers": 4}),
            *(subset_result("tfn", target) for target in ("homo", "mu")),
            property_result("tfn", "logp", **own),
        ]
    )


def of(table: dict[str, Any], system: str, line: int = 0) -> dict[str, Any]:
    (found,) = [entry for entry in table["systems"] if entry["system"] == system]
    content: dict[str, Any] = found["lines"][line]
    return content


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


# --- every format -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("which", ["1", "2", "3"])
def test_every_system_of_the_paper_is_in_every_format(name: str, which: str):
    runs = {"1": result(), "2": cloud_result(), "3": property_result()}[which]
    for given in ([], [runs]):
        text = FORMATS[name](named_tables(which, given))
        for model in load_published(f"table{which}").models.values():
            assert model.label in text


@pytest.mark.parametrize("name", FORMATS)
def test_what_was_not_run_is_in_every_format_with_its_command(name: str):
    text = FORMATS[name](named_tables("1", [result()]))
    assert "se3t train experiment=nbody model=deepset" in text.replace(r"\_", "_")
    assert "not run" in text


@pytest.mark.parametrize("name", FORMATS)
def test_no_table_is_no_error(name: str):
    assert isinstance(FORMATS[name]([]), str)


# --- JSON and CSV -----------------------------------------------------------------------------------------------------


def recomputed(folder: Path, model: str, metric: str) -> tuple[float, float, int]:
    """A script that knows nothing of this package: mean, standard deviation and number of seeds from the files."""
    values = []
    for path in folder.glob("**/result.json"):
        run = json.loads(path.read_text(encoding="utf-8"))
        is_full = run["config"]["model"].get("ablation", "none") == "none"
        if is_full and (run["status"], run["experiment"], run["model"]) == ("finished", "nbody", model):
            values.append(Fraction(run["test"][metric]))  # exact: the order of a sum of floats would change digits
    total, count = sum(values), len(values)
    variance = sum((value - total / count) ** 2 for value in values) / (count - 1)
    with localcontext(prec=60):
        std = (Decimal(variance.numerator) / variance.denominator).sqrt()
    return float(total) / count, float(std), count


def write_runs(folder: Path, runs: Iterable[dict[str, Any]]) -> None:
    for index, run in enumerate(runs):
        path = folder / run["experiment"] / run["model"] / f"{run['seed']} of {index}" / "result.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(seal(run)), encoding="utf-8")


METRICS = ("mse_x", "mse_v", "relative_mse_x", "relative_mse_v", "equivariance_error_x", "equivariance_error_v")


def test_numbers_are_those_of_an_independent_script_to_the_last_digit(tmp_path: Path, capsys: Any):
    random = Random(0)
    models = {"TFN": "tfn", "DeepSet": "deepset", "SE(3)-Transformer": "se3_transformer"}
    for model in models.values():
        numbers = [{f"test__{metric}": random.lognormvariate(-5, 3) for metric in METRICS} for _ in range(7)]
        write_runs(tmp_path, [result(model, seed, **changes) for seed, changes in enumerate(numbers)])
    others = [result(seed=8, config__model__ablation="attention"), result("tfn", 9, status="running")]
    write_runs(tmp_path, [*others, property_result("deepset")])
    assert main(["table", "1", str(tmp_path), "--format", "json"]) == 0
    (table,) = json.loads(capsys.readouterr().out)["tables"]
    for (label, model), metric in product(models.items(), METRICS):
        found, (mean, std, count) = of(table, label)["metrics"][metric], recomputed(tmp_path, model, metric)
        assert (found["mean"], found["std"], found["num_seeds"]) == (mean, std, count)
        if "relative" not in metric:  # what is published of these is a ratio itself
            assert found["ratio"] == mean / found["published"]
    published = of(table, "TFN")["metrics"]["mse_x"]
    assert (published["published"], published["published_std"]) == (0.0151, 0.0011)


def test_printed_numbers_are_those_of_the_plain_formula(tmp_path: Path, capsys: Any):
    values = [0.0312, 0.0298, 0.0355]
    write_runs(tmp_path, [result("tfn", seed, test__mse_x=value) for seed, value in enumerate(values)])
    assert main(["table", "1", str(tmp_path), "--markdown"]) == 0
    mean = sum(values) / 3
    std = math.sqrt(sum((value - mean) ** 2 for value in values) / 2)
    assert f"| TFN | measured, 3 seeds | {mean:.4f} ± {std:.4f} |" in capsys.readouterr().out


def test_csv_holds_what_json_holds_one_number_a_line():
    found = some_tables()
    rows = iter(rows_of(to_csv(found)))
    for table in json.loads(to_json(found))["tables"]:
        for system in table["systems"]:
            for line in system["lines"]:
                for metric, number in line["metrics"].items():
                    row = next(rows)
                    assert list(row) == list(CSV_COLUMNS)
                    names = (table["table"], table["data"], system["system"], line["setting"], metric)
                    assert tuple(row.values())[:5] == names
                    for name in ("mean", "std", "published", "published_std", "ratio"):
                        assert (float(row[name]) if row[name] else None) == number[name]
                    assert row["seeds"].split() == [str(seed) for seed in number["seeds"]]
                    assert row["how"] == "; ".join(number["how"])
                    assert row["command"] == (number["command"] or "")
                    assert row["steps"] == ("" if line["steps"] is None else str(line["steps"]))
    assert next(rows, None) is None


def test_how_a_number_was_obtained_is_said_of_every_number():
    rows = rows_of(to_csv(some_tables()))
    assert all(row["how"] for row in rows if row["mean"])
    hows = {(row["table"], row["system"]): row["how"] for row in rows if row["metric"] in ("mse_x", "accuracy", "homo")}
    assert hows[("1", "SE(3)-Transformer")] in ("reduced budget", "not run")
    assert hows[("1", "Linear")] == "no training"
    assert hows[("2", "PointGLR")] == "full budget; synthetic"
    assert hows[("3", "TFN")] == "full budget; subset; validation"
    assert hows[("3", "Cormorant")] == "published only"
    assert hows[("3", "SchNet")] == "not run"


def test_lines_of_the_export_tell_seeds_parameters_steps_and_their_files(tmp_path: Path):
    paths = []
    for seed in (0, 2):
        paths.append(tmp_path / str(seed) / "result.json")
        paths[-1].parent.mkdir()
        paths[-1].write_text(json.dumps(result("tfn", seed, parameters=77)))
    (table,) = json.loads(to_json(tables(paths)))["tables"]
    line = of(table, "TFN")
    assert {name: line[name] for name in ("num_seeds", "seeds", "parameters", "steps")} == {
        "num_seeds": 2,
        "seeds": [0, 2],
        "parameters": 77,
        "steps": 2000,
    }
    assert line["records"] == [str(path) for path in paths]


def test_numbers_of_linear_are_those_of_its_runs_where_there_are_some():
    (table,) = json.loads(to_json(tables([result("linear", test__mse_x=0.07000000001)])))["tables"]
    assert of(table, "Linear")["metrics"]["mse_x"]["mean"] == 0.07000000001
    (table,) = json.loads(to_json(tables([result()])))["tables"]
    assert of(table, "Linear")["metrics"]["mse_x"]["mean"] == 0.07
    assert of(table, "Linear")["metrics"]["equivariance_error_x"]["how"] == ["not run"]


# --- Markdown ---------------------------------------------------------------------------------------------------------


def test_markdown_has_one_line_per_row_and_no_ragged_cells():
    (table,) = tables([result()])
    rows = [line for line in to_markdown(table).splitlines() if line.startswith("|")]
    assert len(rows) == 2 + sum(map(len, lines(table, "").values()))
    assert {row.count("|") for row in rows} == {11}
    assert "| SE(3)-Transformer | measured, 1 seed | 0.0350 | 0.500 |" in to_markdown(table)
    assert "| SE(3)-Transformer | ours / published | 4.61 | 4.55 |" in to_markdown(table)


# --- LaTeX ------------------------------------------------------------------------------------------------------------


def compiled(body: str, folder: Path) -> tuple[str, str]:
    """What pdflatex says of a document, and the text that can be read in it."""
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed")
    if subprocess.run(["kpsewhich", "booktabs.sty"], capture_output=True, check=False).returncode:
        pytest.skip("the LaTeX package booktabs is not installed")
    document = f"\\documentclass{{article}}\\usepackage{{booktabs}}\\begin{{document}}\n{body}\n\\end{{document}}\n"
    (folder / "tables.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout, (folder / "tables.log").read_text(encoding="utf-8", errors="replace")


def test_latex_compiles_with_booktabs_alone_and_nothing_is_overfull(tmp_path: Path):
    found = [*some_tables(), *(table for name in names() for table in named_tables(name, []))]
    _, log = compiled("\n".join(map(to_latex, found)), tmp_path)
    assert "Overfull" not in log
    assert not re.search(r"LaTeX Warning: (?!.*(Label|Rerun|rerun))", log), log
    assert "Missing character" not in log


def test_latex_is_plain_ascii():
    text = "".join(map(to_latex, some_tables()))
    assert text.isascii()
    assert r"$\Delta_{\mathrm{EQ}}$" not in text  # the index belongs to the letter
    assert r"$\Delta$$_{\mathrm{EQ}}$~x" in text
    assert r"$3.4\cdot 10^{-7}$" in text
    assert r"\midrule" in text
    assert r"1,234,567 $^\ddagger$" in text
    other = "".join(
        map(
            to_latex,
            tables(
                [
                    result(
                        "tfn", s, data__preset="authors", test__equivariance_error_x=(s + 2) * 1e-7, test__mse_x=s + 1.0
                    )
                    for s in (0, 1)
                ]
            ),
        )
    )
    assert r"$2.5\cdot 10^{-7}$\textsuperscript{s}$_{\pm 7.1\cdot 10^{-8}}$" in other
    assert r"0.500\textsuperscript{s} &" in other


def test_special_characters_are_escaped():
    assert escape("50 % of a_b & {c} #1 $") == r"50 \% of a\_b \& \{c\} \#1 \$"
    assert escape("α ± 2 µ² …") == r"$\alpha$ $\pm$ 2 $\mu$$^2$ \ldots{}"
    assert escape("se3t table 1 --run") == r"se3t table 1 -{}-run"
    assert escape('so "one" ("two") “three”') == "so ``one'' (``two'') ``three''"
    assert escape("é日\n\\x") == r"e(U+65E5) \textbackslash{}x"


def test_the_caption_of_latex_leaves_counting_to_latex():
    (table,) = named_tables("3", [])
    assert r"\caption{QM9 (Table 3 of the paper).}" in to_latex(table)
