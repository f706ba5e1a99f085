"""Names of the files of a run folder, and values of fields of its record."""

from __future__ import annotations

CONFIG, PROVENANCE, METRICS, RESULT, DETAILS, CHECKPOINTS = (
    "config.yaml",
    "provenance.json",
    "metrics.jsonl",
    "result.json",
    "details.json",
    "checkpoints",
)
LOCK, FAILURE = ".lock", "failure.json"
BEST = "best.ckpt"

DIGEST, DIGESTS = "digest", "digests"
"""Fields of ``result.json``: the digest of all its other fields, and by name those of the files beside it."""

OVERRIDES = "overrides"
"""Field of ``result.json`` and of each session in ``provenance.json``: the overrides of the command line as typed."""

COSTS = ("seconds", "steps_per_second", "peak_memory_bytes")
"""Time and memory in a line of ``metrics.jsonl``: equal trainings differ in these, so no digest covers them."""

NO_METRICS = ("step", "epoch", *COSTS)
"""What a line of ``metrics.jsonl`` holds besides metrics."""

STEPS, TIME, EARLY_STOPPING = "steps", "time", "early stopping"
"""What may have ended a training: values of ``budget.ended_by`` in ``result.json``."""

FINISHED, RUNNING, INTERRUPTED, FAILED, DAMAGED = "finished", "running", "interrupted", "failed", "damaged"
STATES = (FINISHED, RUNNING, INTERRUPTED, FAILED, DAMAGED)
"""States of a run."""

ADVICE = "the record was changed after its run; restore the file, or remove its folder and run again"
"""What to do about an inconsistent record."""
