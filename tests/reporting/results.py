"""Results as training writes them, for the tests of reporting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from se3t.reporting.tables.layout import ResultTable
from se3t.reporting.tables.layout import lines as printed_lines

TWICE = {
    "seed": "config__seed",
    "experiment": "config__experiment",
    "preset": "config__preset",
    "model": "config__model__name",
    "budget__max_steps": "config__trainer__max_steps",
    "budget__batch_size": "config__trainer__batch_size",
}
"""What a result says twice; a change of one of both is made in both."""


def result(model: str = "se3_transformer", seed: int = 0, **changes: Any) -> dict[str, Any]:
    """A finished run; ``changes`` replace fields by dotted name, ``__`` for the dot."""
    content: dict[str, Any] = {
        "status": "finished",
        "experiment": "nbody",
        "model": model,
        "preset": None,
        "seed": seed,
        "budget": {"max_steps": 2000, "batch_size": 128, "steps_done": 2000, "seconds": 10.0},
        "parameters": 12345,
        "data": {
            "preset": "calibrated_random",
            "horizon": 0.78,
            "checksum": "0123456789abcdef",
            "sizes": {"train": 5000, "valid": 1000, "test": 1000},
            "distinct_samples": 1_050_000,
            "baselines": {"constant_velocity": [0.07, 0.26], "constant_position": [0.2, 0.26]},
        },
        "test": {
            "mse_x": 0.035,
            "mse_v": 0.13,
            "relative_mse_x": 0.5,
            "relative_mse_v": 0.5,
            "equivariance_error_x": 3.4e-7,
            "equivariance_error_v": 5.6e-7,
        },
        "config": {
            "seed": seed,
            "runs": "runs",
            "model": {"name": model, "channels": 8},
            "trainer": {"max_steps": 2000},
        },
    }
    return change(content, changes)


SIZES = {"train": 100_000, "valid": 17_748, "test": 13_083}
UNITS = {"homo": "meV", "lumo": "meV", "gap": "meV", "mu": "D", "alpha": "bohr^3", "cv": "cal/(mol K)", "u0": "meV"}


def property_result(
    model: str = "se3_transformer", target: str = "homo", seed: int = 0, **changes: Any
) -> dict[str, Any]:
    """A finished run on all of QM9 with invented numbers; ``changes`` as above."""
    measured = {"loss": 0.1, "mae": 44.0, "relative_mae": 0.1, "equivariance_error": 2.5e-6}
    content: dict[str, Any] = {
        "status": "finished",
        "experiment": "qm9",
        "model": model,
        "preset": "released",
        "seed": seed,
        "budget": {"max_steps": 156_250, "batch_size": 32, "steps_done": 156_250, "seconds": 10.0},
        "parameters": 1_234_567,
        "data": {
            "kind": "qm9",
            "target": target,
            "label": f"<{target}>",
            "unit": UNITS.get(target, ""),
            "checksum": "0123456789abcdef",
            "graph": "bonds",
            "sizes": dict(SIZES),
            "official": dict(SIZES),
            "baselines": {"mean": [440.0], "composition": [330.0]},
            "baseline_split": "test",
        },
        "test": dict(measured),
        "valid": {**measured, "mae": 22.0},
        "units": {"mae": UNITS.get(target, "")},
        "config": {
            "experiment": "qm9",
            "preset": "released",
            "seed": seed,
            "data": {"name": "qm9", "root": "data", "raw": None, "graph": "bonds", "num_train": None},
            "task": {"name": "property", "target": target, "column": None},
            "model": {"name": model, "channels": 32},
            "trainer": {"max_steps": 156_250, "batch_size": 32},
        },
    }
    return change(content, changes)


def subset_result(*args: Any, **changes: Any) -> dict[str, Any]:
    """The same on a part of QM9 without any molecule of the test split."""
    content = property_result(*args)
    sizes = {"train": 71_000, "valid": 12_000, "test": 0}
    content["data"] |= {"sizes": sizes, "checksum": "fedcba9876543210", "baseline_split": "valid"}
    content["test"] = None
    return change(content, changes)


def change(content: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Replace fields by dotted name, ``__`` for the dot, and their twins."""
    for name, value in changes.items():
        _set(content, name, value)
    for name, twin in TWICE.items():
        for given, other in ((name, twin), (twin, name)):
            if given in changes and other not in changes and (other == name or _has(content, other)):
                _set(content, other, changes[given])
    return content


def _has(content: Mapping[str, Any], name: str) -> bool:
    value: Any = content
    for key in name.split("__"):
        if not isinstance(value, Mapping) or key not in value:
            return False
        value = value[key]
    return True


def _set(content: dict[str, Any], name: str, value: Any) -> None:
    target = content
    *path, last = name.split("__")
    for key in path:
        target = target[key]
    target[last] = value


def lines(table: ResultTable, kind: str = "ratio") -> dict[str, list[tuple[str, ...]]]:
    """Label and cells of the lines of each system as they are printed, without those of one kind."""
    return {
        block.system: [(line.label, *line.cells) for line in printed_lines(table, block) if line.kind != kind]
        for block in table.blocks
    }


def ratios(table: ResultTable) -> dict[str, list[tuple[str, ...]]]:
    """Cells of the ratios of each system."""
    return {
        block.system: [line.cells for line in printed_lines(table, block) if line.kind == "ratio"]
        for block in table.blocks
    }
