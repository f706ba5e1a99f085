"""Table 1: what N-body runs measured beside what the paper prints, model by model."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from se3t.errors import UserError
from se3t.reporting.labels import labels, settings_to_join, spell
from se3t.reporting.layout import MISSING, REDUCED, Block, ResultTable, Row, error, mean, measured_label, number, steps
from se3t.reporting.published import PublishedModel, PublishedTable, load_published
from se3t.reporting.records import Fields, RunRecord, common, group_by_data, group_by_settings, overridden

METRICS = ("mse_x", "mse_v", "relative_mse_x", "relative_mse_v", "equivariance_error_x", "equivariance_error_v")
"""Test metrics that a record of the N-body task holds."""

_NOT_DATA_KNOBS = ("name", "root", "preset", "data_seed")
_DEFAULT_PRESET = "paper"
_DEFAULT_DATA = "calibrated"
_RELATIVE = "rel."


class Simulation(NamedTuple):
    """Data of the N-body experiment: preset, horizon (time of the simulation) and checksum."""

    preset: str
    horizon: float
    checksum: str


@dataclass(frozen=True)
class NBodyRecord(RunRecord):
    """A finished run of the N-body experiment.

    Attributes:
        linear: test MSE of x and of v of the constant-velocity baseline on the same data.
    """

    data: Simulation
    linear: tuple[float, float]


def parse_record(fields: Fields) -> NBodyRecord:
    """Check the content of one ``result.json`` and keep what Table 1 needs.

    Raises:
        UserError: naming file and field, when a field is missing, of the wrong type, or not finite.
    """
    return NBodyRecord(
        **common(fields),
        overridden=overridden(fields, _NOT_DATA_KNOBS),
        data=Simulation(fields.text("data.preset"), fields.number("data.horizon"), fields.text("data.checksum")),
        linear=(
            fields.number("data.baselines.constant_velocity.0"),
            fields.number("data.baselines.constant_velocity.1"),
        ),
        metrics={metric: fields.number(f"test.{metric}") for metric in METRICS},
    )


def tables(runs: Iterable[Fields]) -> list[ResultTable]:
    """Table 1 once for every data set among the runs."""
    published = load_published("table1")
    groups = group_by_data(parse_record(fields) for fields in runs)
    return [table1(records, published) for records in groups.values()]


def table1(records: list[NBodyRecord], published: PublishedTable) -> ResultTable:
    """Table 1 from records of one data set.

    Args:
        records: finished runs of the N-body experiment, all on the same data.
        published: the numbers of the paper; decides which models appear, and their order.

    Raises:
        UserError: when there are no records, or their data differ.
    """
    data = _only_data(records, published.experiment)
    runs = group_by_settings(records)
    columns = ("MSE x", _RELATIVE, "Δ_EQ x", "MSE v", _RELATIVE, "Δ_EQ v", "param.", "steps")
    blocks = tuple(_block(model, runs, published, records[0].linear) for model in published.models)
    return ResultTable(published.title, columns, blocks, tuple(_notes(data, runs, published)))


def _only_data(records: list[NBodyRecord], experiment: str) -> Simulation:
    if not records:
        raise UserError(
            f"table: no finished run of experiment {experiment!r}; train one: se3t train experiment={experiment}"
        )
    groups = group_by_data(records)
    if len(groups) > 1:
        names = "; ".join(_data_name(group[0].data) for group in groups.values())
        raise UserError(f"table: runs on different data cannot share a table, got {names}; choose the results of one")
    return records[0].data


def _block(model: str, runs: list[list[NBodyRecord]], published: PublishedTable, linear: tuple[float, float]) -> Block:
    entry = published.models[model]
    own = [group for group in runs if group[0].model == model]
    if model == "linear":
        measured = [_linear_row(linear, own[0] if own else [])]
    else:
        measured = [_measured_row(group, label, published) for group, label in zip(own, labels(own), strict=True)]
    return Block(entry.label, (*measured, _published_row(entry, published, only=not measured)))


def _linear_row(linear: tuple[float, float], runs: Sequence[NBodyRecord]) -> Row:
    """Constant velocity comes with the data, so it needs no run of its own; its Δ_EQ does."""
    errors = [error(mean(runs, f"equivariance_error_{column}")) for column in "xv"]
    return Row("measured", (f"{linear[0]:.4f}", "1", errors[0], f"{linear[1]:.4f}", "1", errors[1], "0", MISSING))


def _measured_row(runs: list[NBodyRecord], label: str, published: PublishedTable) -> Row:
    cells = [
        cell
        for column in "xv"
        for cell in (
            number(mean(runs, f"mse_{column}"), places=4),
            f"{statistics.fmean(run.metrics[f'relative_mse_{column}'] for run in runs):.3f}",
            error(mean(runs, f"equivariance_error_{column}")),
        )
    ]
    done = steps(runs, batch_size=published.batch_size, is_reduced=_is_reduced(runs, published))
    return Row(measured_label(runs, label), (*cells, f"{runs[0].parameters:,}", done))


def _published_row(entry: PublishedModel, published: PublishedTable, *, only: bool) -> Row:
    cells: list[str] = []
    for column in "xv":
        relative = entry.relative(f"mse_{column}", published.models["linear"])
        cells.append(number(entry.metrics[f"mse_{column}"]))
        cells.append(MISSING if relative is None else "1" if relative == 1 else f"{relative:.3f}")
        cells.append(error(entry.metrics[f"equivariance_error_{column}"]))
    done = MISSING if entry is published.models["linear"] else f"{published.max_steps:,}"
    return Row("published only" if only else "published", (*cells, MISSING, done))


def _is_reduced(runs: Sequence[NBodyRecord], published: PublishedTable) -> bool:
    full = published.max_steps * published.batch_size
    return runs[0].model != "linear" and min(run.steps_done * run.batch_size for run in runs) < full


def _data_name(data: Simulation, changed: Mapping[str, Any] | None = None) -> str:
    changes = ", ".join(f"{name}={spell(value)}" for name, value in (changed or {}).items())
    preset = f"preset {data.preset}" + (f" with settings overridden ({changes})" if changes else "")
    return f"{preset}, horizon {data.horizon:g}, checksum {data.checksum[:8]}"


def _notes(data: Simulation, runs: list[list[NBodyRecord]], published: PublishedTable) -> Iterable[str]:
    records = [run for group in runs for run in group]
    yield f"Simulated data: {_data_name(data, records[0].overridden)}. Errors on test, in units of the simulation."
    yield f"{_RELATIVE}: relative to constant velocity (Linear) on the same data."
    reduced = [group for group in runs if _is_reduced(group, published)]
    budget = f"{published.max_steps:,} steps of batch {published.batch_size}"
    if reduced:
        yield f"{REDUCED} reduced budget; the published numbers were trained for {budget}."
    elif any(group[0].model != "linear" for group in runs):
        yield f"Full budget: {budget}, or more."
    if any(len(group) > 1 for group in runs):
        yield "±: standard deviation over seeds."
    yield f"Published: {published.source}."
    missing = [
        model for model in published.models if model != "linear" and all(group[0].model != model for group in runs)
    ]
    preset = {} if data.preset == _DEFAULT_DATA else {"preset": data.preset}
    settings = settings_to_join(records, _DEFAULT_PRESET, {**preset, **records[0].overridden})
    for model in missing:
        command = " ".join([f"se3t train experiment={published.experiment} model={model}", *settings])
        yield f"{published.models[model].label} not run: {command}"
