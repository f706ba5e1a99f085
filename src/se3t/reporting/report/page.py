"""The page: what stands on it and in which order. Everything is inside one file that needs no network."""

from __future__ import annotations

import importlib.metadata
import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from string import Template
from typing import Any

from se3t import __version__
from se3t.errors import UserError
from se3t.experiments import nbody
from se3t.reporting.figures.style import page_colours
from se3t.reporting.published import load_published
from se3t.reporting.report.equivariance import equivariance_errors
from se3t.reporting.report.figures import figures
from se3t.reporting.report.markup import Markup, element, fingerprint, join
from se3t.reporting.report.result_tables import result_table
from se3t.reporting.report.rotation_view import load_view, rotation_view
from se3t.reporting.report.run_list import run_list
from se3t.reporting.report.runs import Run
from se3t.reporting.tables.build import all_names, experiments_in, named_tables, names
from se3t.runs import FINISHED, RESULT, STATES

_PACKAGES = ("torch", "lightning", "torch-geometric", "numpy", "e3nn", "matplotlib")
_WITHOUT_SCRIPT = "#rotation .panel,.filters,#runs .expand{display:none}tr[hidden]{display:table-row!important}"
_TRAIN = (
    "se3t train experiment=nbody preset=reduced model=se3_transformer,set_transformer -m",
    "se3t report",
)
_TITLE = "SE(3)-Transformers: what was measured"


@dataclass(frozen=True)
class Content:
    """What goes into a page.

    Attributes:
        runs: all there are, finished or not.
        sources: where they were looked for, in words.
        made: when.
        figure3: file of ``se3t figure 3``; None where there is none.
        figure4: file of ``se3t figure 4``; likewise.
        harmonics: file of ``se3t figure sh``; likewise.
        remarks: what was left out, and why.
        trials: which of the runs a sweep has made: by folder its title.
    """

    runs: Sequence[Run]
    sources: Sequence[str]
    made: datetime
    figure3: Path | None = None
    figure4: Path | None = None
    harmonics: Path | None = None
    remarks: Sequence[str] = ()
    trials: Mapping[Path, str] = field(default_factory=dict)


def render(content: Content) -> str:
    """The page as text.

    Raises:
        UserError: naming file and field, when a file of a figure cannot be read.
    """
    view = None if content.figure3 is None else load_view(content.figure3)
    sections = [
        _section("tables", "Tables", _tables(content.runs)),
        _section("rotation", "A prediction that turns with its input", _rotation(view)),
        _section("figures", "Figures", figures(content.runs, content.figure3, content.figure4, content.harmonics)),
        _section("equivariance", "Equivariance errors", [_about_errors(), equivariance_errors(content.runs)]),
        _section("runs", "Runs", [_about_runs(content.runs), run_list(content.runs, content.trials)]),
    ]
    style, script = _asset("report.css").replace("/* colours */", page_colours()), _asset("report.js")
    sources = [("style-src", (style, _WITHOUT_SCRIPT)), ("script-src", (script,))]
    rules = [f"{name} {' '.join(map(fingerprint, texts))}" for name, texts in sources]
    return Template(_asset("page.html")).substitute(
        policy=join("; ".join(["default-src 'none'", "img-src data:", *rules])),
        title=join(_TITLE),
        style=style,
        without_script=_WITHOUT_SCRIPT,
        heading=_heading(content),
        contents=_contents(sections),
        sections=join([section.markup for section in sections]),
        footer=element(
            "p", "Made by ", element("code", "se3t report"), "; one file, which loads nothing from anywhere."
        ),
        script=script,
    )


def _asset(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


# --- parts ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Section:
    identifier: str
    title: str
    markup: Markup


def _section(identifier: str, title: str, content: Iterable[Markup | None] | Markup) -> _Section:
    heading = element("h2", title, id=f"{identifier}-title")
    markup = element("section", heading, content, id=identifier, aria_labelledby=f"{identifier}-title")
    return _Section(identifier, title, markup)


def _contents(sections: Sequence[_Section]) -> Markup:
    links = [element("li", element("a", section.title, href=f"#{section.identifier}")) for section in sections]
    return element("ol", links)


def _heading(content: Content) -> Markup:
    lead = (
        "Tables, figures and runs of a reproduction of “SE(3)-Transformers: 3D Roto-Translation Equivariant Attention "
        "Networks” (Fuchs, Worrall, Fischer, Welling, NeurIPS 2020). Measured numbers come from the run records listed "
        "at the end; published ones are those of the paper and always called so."
    )
    facts = [
        ("made", content.made.strftime("%Y-%m-%d %H:%M %Z").strip()),
        ("runs", _counts(content.runs)),
        ("from", ", ".join(content.sources)),
        ("data", _data(content.runs)),
        ("versions", _versions()),
        ("published", load_published("table1").source.rpartition(", ")[0]),
    ]
    rows = [[element("dt", name), element("dd", text)] for name, text in facts if text]
    notices = [element("p", remark, class_="notice") for remark in content.remarks]
    return join(
        [element("h1", _TITLE), element("p", lead, class_="lead"), element("dl", rows, class_="facts"), notices]
    )


def _counts(runs: Sequence[Run]) -> str:
    counts = Counter(run.state for run in runs)
    return ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state]) or "none yet"


def _data(runs: Sequence[Run]) -> str:
    """The data of the finished runs, each with its checksum."""
    names = set()
    for run in runs:
        if run.state == FINISHED:
            name = str(run.data.get("preset") or run.data.get("kind") or "")
            name += " (synthetic)" if run.is_synthetic and "synthetic" not in name else ""
            names.add(f"{run.experiment} {name}, checksum {str(run.data.get('checksum'))[:8]}")
    return "; ".join(sorted(names))


def _versions() -> str:
    found = [f"se3t {__version__}", f"Python {platform.python_version()}"]
    for package in _PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def _tables(runs: Sequence[Run]) -> list[Markup]:
    """All tables of the paper, with what was not run; one whose records do not fit together leaves the reason."""
    finished = [run for run in runs if run.state == FINISHED]
    found: list[Markup] = []
    for name in all_names():
        results = [run.folder / RESULT for run in finished if run.experiment in experiments_in(name)]
        if not results and name not in names():
            continue
        try:
            tables = named_tables(name, results)
        except UserError as error:
            found.append(element("p", f"Table {name}: {error}", class_="notice"))
        else:  # that of EGNN, which is not of the paper, only where something was run
            found += [result_table(table) for table in tables if table.data or name != nbody.EGNN.name]
    return found


def _rotation(view: Mapping[str, Any] | None) -> list[Markup]:
    if view is None:
        return [
            element("p", "No finished N-body run with weights yet. Make two, then the page again:"),
            _commands(_TRAIN),
        ]
    about = (
        "The input of one test sample is turned about an axis, and the model predicts where its particles go. An "
        "equivariant model predicts the same, turned: its predictions move along the dashed circles. Shown: "
        f"{view['data']}; {view['sample']}."
    )
    return [element("p", about), rotation_view(view)]


def _commands(lines: Iterable[str]) -> Markup:
    return element("pre", "\n".join(lines), tabindex="0")


def _about_errors() -> Markup:
    about = (
        "How far a model is from what the symmetry demands: the norm of the difference between the output of the "
        "rotated input and the rotated output, over the norm of the output (Equation 14 of the paper), mean over "
        "samples and random rotations. An error of the size of rounding, 1e-7 to 1e-6 in single precision, means that "
        "the symmetry is built in."
    )
    return element("p", about)


def _about_runs(runs: Sequence[Run]) -> Markup:
    return element("p", "Every run folder found, with what it was told, what it measured and where it comes from.")
