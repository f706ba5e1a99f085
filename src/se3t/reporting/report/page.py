"""The page: the content of its templates (``page.html`` and one for each section beside it).

Everything is inside one file that needs no network.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import platform
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from se3t import __version__
from se3t.errors import UserError
from se3t.experiments import nbody
from se3t.experiments.table import MISSING, Estimate
from se3t.reporting.published import load_published
from se3t.reporting.report.equivariance import equivariance_errors, span
from se3t.reporting.report.figures import figures
from se3t.reporting.report.runs import ON_VALIDATION, Run
from se3t.reporting.report.view_runs import load_view
from se3t.reporting.spelling import error
from se3t.reporting.tables.build import all_names, experiments_in, named_tables, names
from se3t.reporting.tables.layout import ResultTable, lines
from se3t.runs.names import FINISHED, RESULT, STATES

if TYPE_CHECKING:
    from jinja2 import Environment

_PACKAGES = ("torch", "lightning", "torch-geometric", "numpy", "e3nn", "matplotlib")
_WITHOUT_SCRIPT = "#rotation .panel,.filters,#runs .expand{display:none}tr[hidden]{display:table-row!important}"


@dataclass(frozen=True)
class Content:
    """What goes into a page.

    Attributes:
        runs: all there are, finished or not.
        sources: the folders or files that were searched.
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
    runs, script, style = content.runs, _asset("report.js"), _asset("report.css")
    styles = " ".join(map(_fingerprint, (style, _WITHOUT_SCRIPT)))
    return (
        environment()
        .get_template("page.html")
        .render(
            policy=f"default-src 'none'; img-src data:; style-src {styles}; script-src {_fingerprint(script)}",
            style=style,
            without_script=_WITHOUT_SCRIPT,
            script=script,
            facts=_facts(content),
            remarks=content.remarks,
            tables=_tables(runs),
            view=None if content.figure3 is None else load_view(content.figure3),
            figures=figures(runs, content.figure3, content.figure4, content.harmonics),
            errors=equivariance_errors(runs),
            runs=runs,
            trials=content.trials,
            experiments=sorted({run.what for run in runs if run.what}),
            states=[state for state in STATES if any(run.state == state for run in runs)],
            notes=list(_notes(runs)),
        )
    )


def environment() -> Environment:
    """The templates beside this file. All text is escaped: nothing in a run record becomes markup."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    functions = (lines, span, error_lines, duration, as_yaml, metric_rows)
    templates.globals |= {"MISSING": MISSING, **{function.__name__: function for function in functions}}
    return templates


def _asset(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _fingerprint(text: str) -> str:
    """A script or a style sheet as the policy of the page names it: no other one is run or applied."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


# --- parts ------------------------------------------------------------------------------------------------------------


def _facts(content: Content) -> list[tuple[str, str]]:
    return [
        ("made", content.made.strftime("%Y-%m-%d %H:%M %Z").strip()),
        ("runs", _counts(content.runs)),
        ("from", ", ".join(content.sources)),
        ("data", _data(content.runs)),
        ("versions", _versions()),
        ("published", load_published("table1").source.rpartition(", ")[0]),
    ]


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
    versions = [f"se3t {__version__}", f"Python {platform.python_version()}"]
    for package in _PACKAGES:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(versions)


def _tables(runs: Sequence[Run]) -> list[ResultTable | str]:
    """All tables of the paper, with what was not run; in place of one whose records do not fit together the reason."""
    finished = [run for run in runs if run.state == FINISHED]
    shown: list[ResultTable | str] = []
    for name in all_names():
        results = [run.folder / RESULT for run in finished if run.experiment in experiments_in(name)]
        if not results and name not in names():
            continue
        try:
            tables = named_tables(name, results)
        except UserError as error:
            shown.append(f"Table {name}: {error}")
        else:  # that of EGNN, which is not of the paper, only where something was run
            shown += [table for table in tables if table.data or name != nbody.EGNN.name]
    return shown


# --- the list of runs -------------------------------------------------------------------------------------------------


def _notes(runs: Sequence[Run]) -> Iterator[str]:
    """Notes on the list."""
    if any(run.split == "valid" for run in runs):
        yield ON_VALIDATION
    if any(run.is_synthetic for run in runs):
        yield "synthetic: data made by this program, a stand-in for real scans."


def error_lines(run: Run) -> list[str]:
    """The equivariance errors of a run, each with what it is of."""
    return [f"{name} {error(Estimate(value))}".strip() for name, value in run.errors.items()] or [MISSING]


def duration(seconds: float | None) -> str:
    """A time in words."""
    if seconds is None:
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def as_yaml(values: Mapping[str, Any], *, nested: bool) -> str:
    """Settings as they are written in ``conf``: one a line, or with what is innermost on one line."""
    style = False if nested else None
    text = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=100, default_flow_style=style)
    return text.rstrip("\n")


def metric_rows(run: Run) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """The splits a run was measured on, and for each metric its number on each of them."""
    splits = {"test": run.metrics} if run.split == "test" else {}
    splits |= {"valid": run.valid}
    names = dict.fromkeys(name for values in splits.values() for name in values)
    rows = [
        (name, [f"{values[name]:.6g}" if name in values else MISSING for values in splits.values()]) for name in names
    ]
    return list(splits), rows
