"""What tables of N-body runs say of their data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from se3t.experiments.base import OTHER_DATA, SUBSET
from se3t.experiments.nbody import NBodyRecord, spelled
from se3t.reporting.published import PublishedTable
from se3t.reporting.tables.layout import NOT_COMPARABLE, OTHER, DataFacts


def describe(records: Sequence[NBodyRecord], published: PublishedTable, relative_note: str) -> DataFacts:
    """What is to be said of the data of some records, which all have the same.

    Args:
        records: on the same data.
        published: the table that they stand in.
        relative_note: what relative numbers of the table are.
    """
    record, reading = plainest(records), reading_of(records, published)
    data, changes = record.data, spelled(record.changes)
    what = f"preset {data.preset}" + (f" with {changes}" if changes else "") + f", horizon {data.horizon:g}"
    is_subset, is_other = bool(data.lacks(published.sizes)), reading is None or bool(data.exceeds(published.sizes))
    return DataFacts(
        title=title_of(published, what, reading),
        name=data.name(record.overridden),
        notes=(*_data_notes(record, published, reading), relative_note),
        how=(*[SUBSET] * is_subset, *[OTHER_DATA] * is_other),
    )


def plainest(records: Sequence[NBodyRecord]) -> NBodyRecord:
    """The record that overrides least: what others do beside it, on the same data, changes nothing."""
    return min(records, key=lambda record: len(record.overridden))


def reading_of(records: Sequence[NBodyRecord], published: PublishedTable) -> str | None:
    """Preset of the reading of the paper that the data of some records are; None: they are none."""
    record = plainest(records)
    return record.data.preset if record.data.preset in published.readings and not record.changes else None


def title_of(published: PublishedTable, what: str, reading: str | None) -> str:
    """Title of a table after its name: the simulation, its reading of the paper, and ``what`` it is."""
    simulation = published.title.partition(", ")[2]
    if reading is None:
        return f"{simulation} ({what}): {NOT_COMPARABLE}"
    return f"{simulation}: {published.readings[reading].partition(' of ')[0]} ({what})"


def _data_notes(record: NBodyRecord, published: PublishedTable, reading: str | None) -> Iterable[str]:
    data = record.data
    samples = "" if record.distinct_samples is None else f"; {record.distinct_samples:,} distinct training samples"
    yield f"Simulated data: {data.name(record.overridden)}{samples}. Errors on test, in units of the simulation."
    if reading is not None:
        yield f"This is the {published.readings[reading]}."
    else:
        what = f"other data than preset {data.preset} ({spelled(record.changes)})" if record.changes else "other data"
        yield f"{OTHER} {what}, no reading of the paper: {NOT_COMPARABLE}."
    for which, sizes in (("fewer", data.lacks(published.sizes)), ("more", data.exceeds(published.sizes))):
        if sizes:
            yield f"{OTHER} {which} trajectories than the paper's ({', '.join(sizes)}): {NOT_COMPARABLE}."
