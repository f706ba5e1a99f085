"""The list of runs: one line for each, and behind it all settings, the data and where the run comes from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from se3t.experiments.table import MISSING, Estimate
from se3t.reporting.report.markup import Markup, element, join
from se3t.reporting.report.runs import ON_VALIDATION, Run
from se3t.reporting.spelling import error
from se3t.runs import DAMAGED, FAILED, FINISHED, STATES

_COLUMNS = (
    ("experiment", "text"),
    ("model", "text"),
    ("preset", "text"),
    ("seed", "number"),
    ("steps", "number"),
    ("result", "number"),
    ("Δ_EQ", "number"),
    ("parameters", "number"),
    ("time", "number"),
    ("state", "text"),
)

_NOT_VERIFIED = "Not verified: the record, of an earlier version, has no digest that tells whether it was changed."


def run_list(runs: Sequence[Run], trials: Mapping[Path, str]) -> Markup:
    """A table that can be sorted and filtered.

    Args:
        runs: all of them.
        trials: which of them a sweep has made: by folder its title.
    """
    if not runs:
        return element("p", "No run yet.")
    heads = [
        element("th", element("button", name, type="button", data_kind=kind), scope="col", aria_sort="none")
        for name, kind in _COLUMNS
    ]
    head = element(
        "thead", element("tr", element("th", element("span", "details", class_="unseen"), scope="col"), heads)
    )
    bodies = [_body(index, run, trials.get(run.folder)) for index, run in enumerate(runs)]
    table = element("table", head, bodies, class_="runs", id="run-table")
    region = element("div", table, class_="scroll", tabindex="0", role="region", aria_label="Runs")
    return join([_filters(runs), region, *(element("p", note, class_="note") for note in _notes(runs))])


def _filters(runs: Sequence[Run]) -> Markup:
    states = [state for state in STATES if any(run.state == state for run in runs)]
    text = element("input", id="filter", type="search", placeholder="tfn, smoke, 0.003 …", autocomplete="off")
    return element(
        "div",
        element("label", "Filter ", text),
        element("label", "Experiment ", _choice("filter-experiment", sorted({run.what for run in runs if run.what}))),
        element("label", "State ", _choice("filter-state", states)),
        element("output", f"{len(runs)} runs", id="count", aria_live="polite"),
        class_="controls filters",
    )


def _choice(identifier: str, values: Iterable[str]) -> Markup:
    options = [element("option", "all", value=""), *(element("option", value, value=value) for value in values)]
    return element("select", options, id=identifier)


def _notes(runs: Sequence[Run]) -> Iterable[str]:
    if any(run.split == "valid" for run in runs):
        yield ON_VALIDATION
    if any(run.is_synthetic for run in runs):
        yield "synthetic: data made by this program, a stand-in for real scans."


def _body(index: int, run: Run, sweep: str | None) -> Markup:
    """A line, and a second one that is shown on demand."""
    details = f"run-{index}"
    button = element(
        "button",
        "▸",
        type="button",
        class_="expand",
        aria_expanded="false",
        aria_controls=details,
        aria_label=f"Details of {run.folder}",
    )
    line = element("tr", element("td", button), _cells(run, sweep))
    inside = element("td", element("div", _details(run), class_="details"), colspan=len(_COLUMNS) + 1)
    return element(
        "tbody",
        line,
        element("tr", inside, id=details, hidden=True),
        class_="run",
        data_experiment=run.what,
        data_state=run.state,
    )


def _cells(run: Run, sweep: str | None) -> list[Markup]:
    done = run.steps[0]
    errors = [f"{name} {error(Estimate(value))}".strip() for name, value in run.errors.items()]
    synthetic = element("span", "synthetic", class_="tag") if run.is_synthetic else None
    trial = element("span", f"trial of {sweep}", class_="tag") if sweep else None
    return [
        _cell([run.what or MISSING, " ", synthetic, " ", trial], run.what),
        _cell(run.system or str(run.folder), run.system),
        _cell(run.preset or MISSING, run.preset or ""),
        _cell(MISSING if run.seed is None else str(run.seed), run.seed, "number"),
        _cell(run.progress, done, "number"),
        _cell(_lines(run.results), run.headline[0][1] if run.headline else None, "number"),
        _cell(_lines(errors), max(run.errors.values(), default=None), "number"),
        _cell(MISSING if run.parameters is None else f"{run.parameters:,}", run.parameters, "number"),
        _cell(duration(run.seconds), run.seconds, "number"),
        _cell(element("span", run.state, class_=f"state {run.state}"), run.state),
    ]


def _lines(texts: Sequence[str]) -> list[Any]:
    return [[element("br") if index else None, text] for index, text in enumerate(texts or [MISSING])]


def _cell(content: Any, value: Any, class_: str | None = None) -> Markup:
    """A cell and what it is sorted by; nothing known comes last."""
    return element("td", content, data_value="" if value is None else value, class_=class_)


def duration(seconds: float | None) -> str:
    """A time in words."""
    if seconds is None:
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


# --- details ----------------------------------------------------------------------------------------------------------


def _details(run: Run) -> list[Markup]:
    parts = [element("p", element("strong", "Folder "), element("code", str(run.folder)))]
    if run.state == DAMAGED:
        return [*parts, element("p", f"Cannot be read: {run.problem}", class_="notice")]
    if not run.is_verified:
        parts.append(element("p", _NOT_VERIFIED, class_="notice"))
    if run.command:
        parts.append(element("p", element("strong", "Command "), element("code", run.command)))
    if run.state == FAILED:
        parts.append(element("p", f"This run failed: {run.problem}", class_="notice"))
    if run.state != FINISHED:
        parts.append(element("p", f"This run is {run.state}; the command with resume=true continues it."))
    parts += [_part("Metrics", _metrics(run))] if run.metrics else []
    parts += [_part("Settings", _yaml(run.config, nested=True))] if run.config else []
    parts += [_part("Data", _yaml(run.data, nested=False))] if run.data else []
    return [*parts, _part("Provenance", _sessions(run.sessions))]


def _part(title: str, content: Markup) -> Markup:
    return element("section", element("h4", title), content)


def _yaml(values: Mapping[str, Any], *, nested: bool) -> Markup:
    """Settings as they are written in ``conf``: one a line, or with what is innermost on one line."""
    style = False if nested else None
    text = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=100, default_flow_style=style)
    return element("pre", text.rstrip("\n"), tabindex="0")


def _metrics(run: Run) -> Markup:
    splits = {"test": run.metrics} if run.split == "test" else {}
    splits |= {"valid": run.valid}
    names = list(dict.fromkeys(name for values in splits.values() for name in values))
    head = element("tr", *(element("th", name, scope="col") for name in ("metric", *splits, "unit")))
    rows = [
        element(
            "tr",
            element("th", name, scope="row"),
            *(
                element("td", f"{values[name]:.6g}" if name in values else MISSING, class_="number")
                for values in splits.values()
            ),
            element("td", run.units.get(name, "")),
        )
        for name in names
    ]
    return element("table", element("thead", head), element("tbody", rows))


def _sessions(sessions: Sequence[Mapping[str, Any]]) -> Markup:
    if not sessions:
        return element("p", "There is no provenance.json.")
    found = []
    for session in sessions:
        step = session.get("resumed_from_step")
        title = "started anew" if step is None else f"continued from step {step}"
        facts = [
            [element("dt", str(name).replace("_", " ")), element("dd", _fact(value))]
            for name, value in session.items()
            if value is not None and name != "resumed_from_step"
        ]
        found.append(element("li", element("p", title), element("dl", facts)))
    return element("ol", found, class_="sessions")


def _fact(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {inner}" for name, inner in value.items())
    return str(value)
