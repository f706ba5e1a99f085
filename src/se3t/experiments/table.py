"""Declarations of the tables of an experiment. Imports no torch.

The builder is :mod:`se3t.reporting.tables.builder`; the published numbers are in ``reporting/published_numbers``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

MISSING = "–"
"""Printed in place of a missing number."""
OTHER, VALID = "ˢ", "ᵛ"
"""Signs of numbers on other data than the paper's, and of numbers on validation."""
SUBSET, SYNTHETIC, OTHER_DATA, VALIDATION = "subset", "synthetic", "other data", "validation"
OWN_DATA = "own data"
"""What a number was measured on, where it is not what the published ones are: words of CSV and JSON."""
ALWAYS_NAMED = ("task.reflect", "task.velocity_weight", "model.parity")
"""Settings that rows name even where all rows have them; absent where they change nothing."""
NOT_COMPARABLE = "not comparable with the published numbers"


# --- published numbers ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """A number, its spread, and how many digits after the point it was printed with; None where unknown."""

    value: float
    std: float | None = None
    places: int | None = None


@dataclass(frozen=True)
class PublishedModel:
    """One model of a published table.

    Attributes:
        label: its printed name.
        model: its name in this package; None for one that is not part of it.
        metrics: its numbers by column, None where a dash is printed.
        height: whether heights are part of its input ("+z"): another system than the same model without.
        num_points: of a cloud; None where its inputs are no clouds drawn from more points.
        is_quoted: whether the paper took its numbers from elsewhere.
        has_budget: whether it was trained with the budget of the table.
        note: a note for tables with measured numbers beside the published ones; "" for none.
        source: where its numbers stand; "" where in the paper of the table.
        network: settings of this package that are known of its network; {} where those of presets are it.
    """

    label: str
    model: str | None
    metrics: dict[str, Estimate | None]
    height: bool = False
    num_points: int | None = None
    is_quoted: bool = False
    has_budget: bool = True
    note: str = ""
    source: str = ""
    network: dict[str, Any] = field(default_factory=dict)

    def relative(self, metric: str, reference: PublishedModel) -> float | None:
        """This model's number over that of ``reference``; None when either is missing."""
        number, other = self.metrics.get(metric), reference.metrics.get(metric)
        return None if number is None or other is None else number.value / other.value


@dataclass(frozen=True)
class PublishedTable:
    """A published table: its source, what its spreads are, the budget behind it, its columns and its models in the
    paper's order.

    Attributes:
        sizes: of the splits behind it; {} where the data files tell them.
        readings: by preset of the data, what the table is on them; {} where the paper leaves no choice.
        notes: what else to say of the published numbers.
    """

    title: str
    experiment: str
    source: str
    spread: str
    max_steps: int
    batch_size: int
    columns: dict[str, TableColumn]
    models: dict[str, PublishedModel]
    sizes: dict[str, int] = field(default_factory=dict)
    readings: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def networks(self) -> dict[str, dict[str, Any]]:
        """Settings of the published networks by model; {} where those of presets are them."""
        return {str(entry.model): entry.network for entry in self.models.values() if entry.network}

    @property
    def samples(self) -> int:
        """How many samples the budget shows to a network."""
        return self.max_steps * self.batch_size

    @property
    def budget(self) -> str:
        """The budget in words."""
        return f"{self.max_steps:,} steps of batch {self.batch_size}"


# --- the declaration --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TableColumn:
    """A column.

    Attributes:
        label: its heading.
        metric: name of its numbers in CSV and JSON; "" for a column of text.
        unit: of its numbers.
        style: number, error (of equivariance) or relative.
        places: digits after the point of measured numbers; None: three significant digits.
        over: metric and published model of which its numbers are a ratio, where records do not have it.
        tell: text of a column without numbers, from the runs of a row.
        tell_published: the same of a published model.
    """

    label: str
    metric: str = ""
    unit: str = ""
    style: str = "number"
    places: int | None = None
    over: tuple[str, str] | None = None
    tell: Callable[[Sequence[Any]], str] = lambda runs: MISSING
    tell_published: Callable[[PublishedModel], str] = lambda entry: MISSING

    @property
    def heading(self) -> str:
        """Label and unit."""
        return ", ".join(filter(None, (self.label, self.unit)))


@dataclass(frozen=True)
class DataFacts:
    """What a table says of its data.

    Attributes:
        title: of the table, after its number.
        name: the data in words; "" where nothing was run.
        notes: what they are, and how they differ from the paper's.
        how: what the numbers are measured on, where it is not what the published ones are.
        reading: preset of the data, where the paper may mean these: one of ``PublishedTable.readings``.
    """

    title: str
    name: str = ""
    notes: tuple[str, ...] = ()
    how: tuple[str, ...] = ()
    reading: str | None = None

    @property
    def mark(self) -> str:
        """The signs of numbers on them."""
        return signs(self.how)


def signs(how: Iterable[str]) -> str:
    """The signs of numbers that were obtained so: on other data than the paper's, on validation."""
    given = set(how)
    return (OTHER if given & {SUBSET, SYNTHETIC, OTHER_DATA} else "") + (VALID if VALIDATION in given else "")


class Join(NamedTuple):
    """What a run of another model needs to share a table: settings of the data that are not the defaults (those that
    the preset brings are left out), and other overrides before and after them.
    """

    data: Mapping[str, Any]
    before: Sequence[str] = ()
    after: Sequence[str] = ()


@dataclass(frozen=True)
class NoteParts:
    """What notes of a table are made of.

    Attributes:
        records: of its runs.
        columns: of numbers.
        published: the published table; None: there is none.
        budget: how budgets and networks differ from the paper's.
        spread: what ± is; () where nothing has a spread.
        source: where the published numbers stand; () where there are none in the table.
        remarks: of published models with measured numbers beside them: label and note.
    """

    records: Sequence[Any]
    columns: Sequence[TableColumn]
    published: PublishedTable | None
    budget: Sequence[str]
    spread: Sequence[str]
    source: Sequence[str]
    remarks: Sequence[tuple[str, str]]


def _describe(records: Sequence[Any], published: PublishedTable | None) -> DataFacts:
    """The data by their name alone."""
    if not records:
        return DataFacts("" if published is None else published.title.partition(", ")[2])
    return DataFacts(records[0].data_name, records[0].data_name, how=records[0].how)


@dataclass(frozen=True, kw_only=True)
class TableSpec:
    """A table of the runs of an experiment: one for each data set among them.

    Attributes:
        name: word of ``se3t table``.
        experiment: that trains what it lacks.
        columns: from the records of one table, the published one, and the columns asked for; without cost.
        published: published numbers, whose systems and order it has: the name of a file in ``published_numbers``, or
            the path of another file; "": there are none.
        place: its position among all tables.
        takes: whether it shows a record.
        describe: title and notes from records, which all have the same data; without records: those of a table
            where nothing was run.
        join: the settings with which a run joins the table of some records.
        notes: from their parts, without those on the data.
        always_named: settings that a row names even where all rows have them.
        data: preset of the data where nothing was run; None: there is no choice.
        budget: preset that trains on these data: runs on them are in this table alone.
        choice: setting that chooses a column, each of which is a training of its own; "": one training fills all.
    """

    name: str
    experiment: str
    columns: Callable[[Sequence[Any], PublishedTable | None, Sequence[str]], Sequence[TableColumn]]
    published: str | Path = ""
    place: int = 100
    takes: Callable[[Any], bool] = lambda record: True
    describe: Callable[[Sequence[Any], PublishedTable | None], DataFacts] = _describe
    join: Callable[[Sequence[Any]], Join] = lambda records: Join(records[0].overridden)
    notes: Callable[[NoteParts], Iterable[str]] = lambda parts: (*parts.budget, *parts.spread, *parts.source)
    always_named: tuple[str, ...] = ()
    data: str | None = None
    budget: str | None = None
    choice: str = ""
