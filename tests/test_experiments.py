"""Declarations of experiments: everything that they name exists, and agrees with what computes it."""

from __future__ import annotations

import dataclasses

import pytest

from se3t.config import SCHEMAS
from se3t.errors import UserError
from se3t.experiments import Lazy, dataset, experiment, experiments, task
from se3t.experiments import datasets as all_datasets

DATASETS = list(all_datasets())


@pytest.mark.parametrize("name", experiments())
def test_whatever_a_declaration_names_exists(name: str) -> None:
    declared = experiment(name)
    parts = [declared, declared.task, *declared.datasets]
    references = [getattr(part, field.name) for part in parts for field in dataclasses.fields(part)]
    lazy = [reference for reference in references if isinstance(reference, Lazy)]
    assert lazy
    for reference in lazy:
        assert callable(reference.load()), reference


@pytest.mark.parametrize("name", experiments())
def test_headlines_and_baselines_are_declared_metrics(name: str) -> None:
    spec = experiment(name).task
    names = [metric.name for metric in spec.metrics]
    assert len(set(names)) == len(names)
    assert {*spec.headline, *spec.progress, *spec.baseline_metrics} <= set(names)


@pytest.mark.parametrize("name", DATASETS)
def test_the_schema_of_a_data_set_is_that_of_the_configuration(name: str) -> None:
    assert dataset(name).schema is SCHEMAS["data"][name]
    assert dataset(name).schema().name == name


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match="experiment=nbdy: unknown; did you mean 'nbody'"):
        experiment("nbdy")
    with pytest.raises(UserError, match="data=qm: unknown"):
        dataset("qm")
    with pytest.raises(UserError, match="task=propert: unknown"):
        task("propert")
