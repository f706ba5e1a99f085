"""Records of experiments that declare no record of their own."""

from __future__ import annotations

from se3t.experiments import experiment
from se3t.reporting.records import Fields, RunRecord, common, measured_split, overridden


def parse_record(fields: Fields) -> RunRecord:
    """Check the content of one ``result.json`` and keep every metric that its task declares.

    Raises:
        UserError: naming file and field, when a field is missing, of the wrong type, or not finite.
    """
    split, task = measured_split(fields), experiment(fields.text("experiment")).task
    measured = fields.mapping(split)
    return RunRecord(
        **common(fields),
        overridden=overridden(fields, ("name", "root")),
        data=(fields.text("data.preset"), fields.text("data.checksum")),
        metrics={
            metric.name: fields.number(f"{split}.{metric.name}") for metric in task.metrics if metric.name in measured
        },
    )
