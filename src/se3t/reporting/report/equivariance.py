"""Equivariance errors of all runs: a chart on a logarithmic scale, and the same as a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from se3t.experiments.table import MISSING, Estimate
from se3t.reporting.published import load_published
from se3t.reporting.report.markup import Child, Markup, element, join
from se3t.reporting.report.runs import Run
from se3t.reporting.spelling import error
from se3t.runs import FINISHED

_SMALLEST = 1e-9
"""Anything below is drawn at the left edge."""

_SHAPES = {"x": "circle", "v": "square", "": "triangle"}
_HEIGHT = 28  # pixels of a line of the chart
_NAMES = {"x": "Δ_EQ of positions x", "v": "Δ_EQ of velocities v", "": "Δ inv, of invariant outputs"}
_SHORT = {"x": "Δ_EQ x", "v": "Δ_EQ v", "": "Δ inv"}


@dataclass(frozen=True)
class _System:
    """Finished runs of one system on one kind of data, and the published errors by what they are of."""

    what: str
    name: str
    runs: tuple[Run, ...]
    published: Mapping[str, float]

    def values(self, of: str) -> list[float]:
        return [run.errors[of] for run in self.runs if of in run.errors]


def equivariance_errors(runs: Sequence[Run]) -> Markup:
    """The section's content."""
    systems = _systems([run for run in runs if run.errors and run.state == FINISHED])
    if not systems:
        return element("p", "No finished run has measured an equivariance error yet.")
    values = [value for system in systems for run in system.runs for value in run.errors.values()]
    values += [value for system in systems for value in system.published.values()]
    decades = _decades(values)
    kinds = [of for of in _SHAPES if any(system.values(of) for system in systems)]
    is_published = any(system.published for system in systems)
    return join([_legend(kinds, is_published), _chart(systems, decades), _table(systems, kinds, is_published)])


def _systems(runs: Sequence[Run]) -> list[_System]:
    published = load_published("table1")
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((_data_in_words(run), run.system), []).append(run)
    found = []
    for (what, name), group in sorted(groups.items()):
        plain = [entry for entry in published.models.values() if entry.label == name and what == published.experiment]
        printed = {of: entry.metrics.get(f"equivariance_error_{of}") for entry in plain for of in "xv"}
        values = {of: estimate.value for of, estimate in printed.items() if estimate is not None}
        found.append(_System(what, name, tuple(group), values))
    return found


def _data_in_words(run: Run) -> str:
    words = ["synthetic"] * run.is_synthetic + ["validation"] * (run.split == "valid")
    return ", ".join([run.what, *words])


def _decades(values: Sequence[float]) -> range:
    """Powers of ten that hold all values, at least three."""
    logarithms = [math.log10(max(value, _SMALLEST)) for value in values]
    low, high = math.floor(min(logarithms)), math.ceil(max(logarithms))
    return range(low, max(high, low + 3) + 1)


# --- chart ------------------------------------------------------------------------------------------------------------


def _place(value: float, decades: range) -> str:
    """Where a value stands, in % of the width; the first and last decade keep some distance from the edges."""
    share = (math.log10(max(value, _SMALLEST)) - decades[0]) / (decades[-1] - decades[0])
    return f"{3 + 94 * share:.2f}%"


def _chart(systems: Sequence[_System], decades: range) -> Markup:
    lines = [
        element(
            "div",
            element("div", system.name, " ", element("small", system.what), class_="name"),
            _strip(system, decades),
            class_="line",
        )
        for system in systems
    ]
    axis = element("div", element("div", class_="name"), _axis(decades), class_="line axis")
    return element(
        "div",
        lines,
        axis,
        class_="chart",
        role="img",
        aria_label="Equivariance errors; the table below has the numbers",
    )


def _strip(system: _System, decades: range) -> Markup:
    marks = [
        _mark(of, value, decades, "published", f"{system.name}, published, {_NAMES[of]}: {value:.2g}")
        for of, value in system.published.items()
    ]
    marks += [
        _mark(of, value, decades, "", f"{run.folder.name}, seed {run.seed}, {_NAMES.get(of, of)}: {value:.2g}")
        for run in system.runs
        for of, value in run.errors.items()
    ]
    return element("svg", _grid(decades), marks, height=_HEIGHT, width="100%", aria_hidden="true")


def _grid(decades: range) -> list[Markup]:
    places = [_place(10.0**power, decades) for power in decades]
    return [element("line", x1=place, x2=place, y1=0, y2=_HEIGHT, class_="grid") for place in places]


def _mark(of: str, value: float, decades: range, kind: str, title: str) -> Markup:
    """A nested drawing stands at a share of the width, so that the chart fits any screen and its marks keep their
    size.
    """
    shape = _shape(of, _HEIGHT / 2, kind, title)
    return element("svg", shape, x=_place(value, decades), y=0, overflow="visible", width=1, height=_HEIGHT)


def _shape(of: str, middle: float, kind: str, title: str) -> Markup:
    name = _SHAPES.get(of, "triangle")
    class_ = f"mark {name} {kind}".strip()
    paths = {
        "circle": "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z",
        "square": "M-4.5 -4.5h9v9h-9z",
        "triangle": "M0 -5.5l5.5 9.5h-11z",
    }
    return element("g", element("title", title), _path(paths[name], class_), transform=f"translate(0 {middle:g})")


def _path(outline: str, class_: str) -> Markup:
    return element("path", d=outline, class_=class_)


def _axis(decades: range) -> Markup:
    """Powers of ten, every second one where there are many."""
    step = 2 if len(decades) > 6 else 1
    labels = [
        element(
            "text",
            "1" if power == 0 else f"{'≤' if 10.0**power <= _SMALLEST else ''}1e{power}",
            x=_place(10.0**power, decades),
            y=14,
            text_anchor="middle",
        )
        for power in decades[::step]
    ]
    return element("svg", labels, height=20, width="100%", aria_hidden="true")


def _legend(kinds: Sequence[str], is_published: bool) -> Markup:
    entries = [(of, "", _NAMES[of]) for of in kinds]
    entries += [("x", "published", "published (hollow)")] if is_published else []
    items = [
        element(
            "span", element("svg", _shape(of, 8.0, kind, label), width=16, height=16, viewBox="-8 0 16 16"), f" {label}"
        )
        for of, kind, label in entries
    ]
    return element("p", items, class_="legend")


# --- table ------------------------------------------------------------------------------------------------------------


def _table(systems: Sequence[_System], kinds: Sequence[str], is_published: bool) -> Markup:
    heads = ["system", "experiment", "presets", "runs", *(_SHORT[of] for of in kinds)]
    heads += ["published x", "published v"] if is_published else []
    head = element("thead", element("tr", *(element("th", name, scope="col") for name in heads)))
    rows = []
    for system in systems:
        numbers: list[Child] = [str(len(system.runs)), *(_span(system.values(of)) for of in kinds)]
        if is_published:
            numbers += [_span([system.published[of]] if of in system.published else []) for of in "xv"]
        cells = [element("td", text, class_="number") for text in numbers]
        presets = ", ".join(sorted({run.preset or MISSING for run in system.runs}))
        words = [element("td", text) for text in (system.what, presets)]
        rows.append(element("tr", element("th", system.name, scope="row"), words, cells))
    caption = element("caption", element("div", "Equivariance errors: the smallest and the largest of the runs"))
    table = element("table", caption, head, element("tbody", rows), class_="results plain")
    return element("div", table, class_="scroll", tabindex="0", role="region", aria_label="Equivariance errors")


def _span(values: Sequence[float]) -> Child:
    """The smallest and the largest, one below the other: side by side the table would be wider than a page."""
    if not values:
        return MISSING
    texts = [error(Estimate(value)) for value in (min(values), max(values))]
    return texts[0] if texts[0] == texts[1] else [f"{texts[0]} …", element("br"), texts[1]]
