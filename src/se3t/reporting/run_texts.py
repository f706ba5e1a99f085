"""The list of runs, and runs side by side, as text, JSON and CSV. Nothing is truncated: long lines are wrapped."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from se3t.config.overrides import spell
from se3t.experiments.table import MISSING
from se3t.reporting.report.runs import ON_VALIDATION, Run
from se3t.reporting.tables.layout import UNVERIFIED, UNVERIFIED_SIGN
from se3t.runs.identity import ADDED, relevant
from se3t.screen import csv_text, one_line

_HEADS = ("state", "experiment", "model", "preset", "seed", "step", "result", "age", "folder")
_RIGHT = ("seed", "step", "age")
_GAP = "  "


# --- list -------------------------------------------------------------------------------------------------------------


def listed(runs: Sequence[Run], width: int, now: float) -> list[str]:
    """The lines of the list.

    Args:
        runs: in the order of the list.
        width: of the terminal.
        now: in seconds since 1970.
    """
    rows = [_cells(run, now) for run in runs]
    heads = dict(zip(_HEADS, _HEADS, strict=True))
    widths = {name: max(len(row[name]) for row in (heads, *rows)) for name in _HEADS}
    shown = list(_HEADS)
    for name in ("folder", "result", "step", "preset"):  # moved to the next line, in this order
        if sum(widths[name] + len(_GAP) for name in shown) - len(_GAP) > width:
            shown.remove(name)
    lines = [_aligned(heads, shown, widths)]
    for row, run in zip(rows, runs, strict=True):
        rest = [_named(name, row[name]) for name in _HEADS if name not in shown and row[name] != MISSING]
        problem = [f"    {one_line(run.problem)}"] if run.problem else []
        lines += [_aligned(row, shown, widths), *_packed(rest, width), *problem]
    notes = [ON_VALIDATION] if any(run.split == "valid" for run in runs) else []
    return [*lines, *notes, *_not_verified(runs)]


def _named(name: str, text: str) -> str:
    return f"{name} {text}" if name in ("step", "preset") else text


def _cells(run: Run, now: float) -> dict[str, str]:
    texts = {
        "state": _state(run),
        "experiment": run.what or MISSING,
        "model": run.model or MISSING,
        "preset": run.preset or MISSING,
        "seed": MISSING if run.seed is None else str(run.seed),
        "step": run.progress,
        "result": ", ".join(run.results) or MISSING,
        "age": age(now - run.changed),
        "folder": str(run.folder),
    }
    return {name: one_line(text) for name, text in texts.items()}


def _aligned(row: Mapping[str, str], shown: Iterable[str], widths: Mapping[str, int]) -> str:
    cells = [row[name].rjust(widths[name]) if name in _RIGHT else row[name].ljust(widths[name]) for name in shown]
    return _GAP.join(cells).rstrip()


def _packed(parts: Iterable[str], width: int) -> list[str]:
    """As many of the parts on a line as fit, none of them cut."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + len(_GAP) + len(part) <= width:
            lines[-1] += _GAP + part
        else:
            lines.append(f"    {part}")
    return lines


def _state(run: Run) -> str:
    return run.state if run.is_verified else f"{run.state} {UNVERIFIED_SIGN}"


def _not_verified(runs: Sequence[Run]) -> list[str]:
    note = f"{UNVERIFIED_SIGN} {UNVERIFIED}: a record without the digest that tells whether it was changed."
    return [] if all(run.is_verified for run in runs) else [note]


def age(seconds: float) -> str:
    """A time span in its largest unit: 40 s, 5 min, 3 h, 12 d."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(max(0.0, seconds))} s"


# --- files ------------------------------------------------------------------------------------------------------------


def to_json(runs: Iterable[Run]) -> str:
    """All facts of the list, with unrounded numbers."""
    return json.dumps({"runs": [_facts(run) for run in runs]}, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _facts(run: Run) -> dict[str, Any]:
    return {
        "folder": str(run.folder),
        "state": run.state,
        "problem": run.problem,
        "verified": run.is_verified,
        "experiment": run.experiment,
        "model": run.model,
        "preset": run.preset,
        "seed": run.seed,
        "steps_done": run.steps[0],
        "max_steps": run.steps[1],
        "max_time": run.max_time,
        "ended_by": run.ended_by,
        "parameters": run.parameters,
        "seconds": run.seconds,
        "changed": run.changed,
        "split": run.split,
        "metrics": dict(run.metrics),
        "units": dict(run.units),
    }


def to_csv(runs: Iterable[Run]) -> str:
    """One line for each run, and a column for each metric that any of them has."""
    rows = [_facts(run) for run in runs]
    metrics = list(dict.fromkeys(name for row in rows for name in row["metrics"]))
    plain = [name for name in (rows[0] if rows else {"folder": "", "state": ""}) if name not in ("metrics", "units")]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(csv_text, [*plain, *metrics]))
    for row in rows:
        values = [*(row[name] for name in plain), *(row["metrics"].get(name) for name in metrics)]
        writer.writerow(map(csv_text, values))
    return text.getvalue()


# --- side by side -----------------------------------------------------------------------------------------------------


def compared(runs: Sequence[Run], width: int) -> list[str]:
    """Settings that differ, then metrics of each split, side by side.

    Args:
        runs: two or more.
        width: of the terminal; where the columns do not fit, every value has its own line.
    """
    names = [_letter(index) for index in range(len(runs))]
    lines = [f"{name}  {one_line(str(run.folder))}, {_state(run)}" for name, run in zip(names, runs, strict=True)]
    for title, rows in _parts(runs):
        lines += ["", title, *_side_by_side(names, rows, width)]
    return [*lines, *_not_verified(runs)]


def _letter(index: int) -> str:
    return chr(ord("A") + index) if index < 26 else str(index + 1)


def differing(runs: Sequence[Run]) -> dict[str, list[str]]:
    """By dotted name the settings in which runs differ, with each value as text. A setting that is missing equals one
    that is null, or that changes nothing.
    """
    flat = [relevant(run.config) for run in runs]
    names = dict.fromkeys(name for settings in flat for name in settings)
    texts = {name: [spell(settings.get(name, ADDED.get(name))) for settings in flat] for name in names}
    known = {name: [name in settings or name in ADDED for settings in flat] for name in names}
    return {
        name: [text if is_known else MISSING for text, is_known in zip(texts[name], known[name], strict=True)]
        for name in names
        if len(set(texts[name])) > 1
    }


def _parts(runs: Sequence[Run]) -> Iterable[tuple[str, list[tuple[str, list[str]]]]]:
    settings = list(differing(runs).items())
    yield ("settings that differ" if settings else "no setting differs"), settings
    facts = [("steps", [run.steps[0] for run in runs]), ("parameters", [run.parameters for run in runs])]
    checksums = [str(run.data.get("checksum", MISSING))[:12] for run in runs]
    rows = [(name, [MISSING if value is None else f"{value:,}" for value in values]) for name, values in facts]
    yield "training", [*rows, *([("data checksum", checksums)] if len(set(checksums)) > 1 else [])]
    for split, metrics in (
        ("test", [run.metrics if run.split == "test" else {} for run in runs]),
        ("validation", [run.valid for run in runs]),
    ):
        names = dict.fromkeys(name for by_name in metrics for name in by_name)
        units = {name: unit for run in runs for name, unit in run.units.items()}
        yield (
            f"metrics on {split}",
            [(_with_unit(name, units), [_number(by_name.get(name)) for by_name in metrics]) for name in names],
        )


def _with_unit(name: str, units: Mapping[str, str]) -> str:
    unit = units.get(name, "1")
    return name if unit in ("1", "") else f"{name}, {unit}"


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{value:.6g}"


def _side_by_side(names: Sequence[str], rows: Sequence[tuple[str, list[str]]], width: int) -> list[str]:
    cells = [["", *names], *([one_line(name), *map(one_line, values)] for name, values in rows)]
    if not rows:
        return []
    widths = [max(len(row[column]) for row in cells) for column in range(len(names) + 1)]
    if sum(widths) + len(_GAP) * len(names) + len(_GAP) <= width:
        return [
            _GAP + _GAP.join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in cells
        ]
    lines = []
    for label, *values in cells[1:]:
        lines += [f"{_GAP}{label}", *(f"{_GAP * 2}{name}  {value}" for name, value in zip(names, values, strict=True))]
    return lines
