"""Weights go from their names to ours and back without loss."""

from __future__ import annotations

import copy
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from se3t.compat import golden
from se3t.compat.mapping import Converted, signs_of
from se3t.errors import UserError
from se3t.so3 import clebsch_gordan

from .files import OWN, content, own


def converted(path: Path) -> Converted:
    return golden.load(content(path), path.name)


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.stem)
def test_round_trips_are_exact(path: Path) -> None:
    file, found = content(path), converted(path)
    theirs = found.state_dict()
    assert set(theirs) >= set(file["state_dict"])
    assert all(torch.equal(theirs[name], value) for name, value in file["state_dict"].items())
    source = torch.Generator().manual_seed(0)
    ours = {name: torch.randn(value.shape, generator=source) for name, value in found.model.state_dict().items()}
    again = found.weights.to_ours(found.weights.to_theirs(ours))
    assert all(torch.equal(again[name], value) for name, value in ours.items())
    assert set(again) == set(ours)


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.stem)
def test_every_number_is_used_once(path: Path) -> None:
    weights = converted(path).weights
    total = sum(torch.Size(shape).numel() for shape in weights.theirs.values())
    assert total == sum(torch.Size(shape).numel() for shape in weights.ours.values())
    start, numbered = 1, {}
    for name, shape in weights.theirs.items():
        size = torch.Size(shape).numel()
        numbered[name] = torch.arange(start, start + size, dtype=torch.float64).reshape(shape)
        start += size
    ours = torch.cat([value.flatten() for value in weights.to_ours(numbered).values()])
    assert torch.equal(ours.abs().sort().values, torch.arange(1, total + 1, dtype=torch.float64))


def test_gradients_flow_through_the_mapping() -> None:
    found = converted(OWN[0])
    theirs = {name: value.clone().requires_grad_() for name, value in found.state_dict().items()}
    sum((value**2).sum() for value in found.weights.to_ours(theirs).values()).backward()  # type: ignore[union-attr]
    for value in theirs.values():
        assert value.grad is not None
        assert torch.equal(value.grad, 2 * value)


def test_a_map_survives_copies() -> None:
    found = converted(OWN[-1])
    state = found.state_dict()
    expected = found.weights.to_ours(state)
    for other in (copy.deepcopy(found.weights), pickle.loads(pickle.dumps(found.weights))):
        received = other.to_ours(state)
        assert all(torch.equal(received[name], value) for name, value in expected.items())


@pytest.mark.parametrize("name", ["authors_nbody_se3t_cat", "authors_qm9_tfn", "nvidia_full", "nvidia_pooled"])
def test_each_missing_or_misshapen_parameter_is_named(name: str) -> None:
    file = own(name)
    for parameter, value in file["state_dict"].items():
        rest = {key: other for key, other in file["state_dict"].items() if key != parameter}
        with pytest.raises(UserError, match="file: ") as missing:
            golden.load({**file, "state_dict": rest}, "file")
        with pytest.raises(UserError, match="file: ") as misshapen:
            golden.load({**file, "state_dict": {**rest, parameter: torch.zeros(7, *value.shape)}}, "file")
        original = parameter.replace("enc.", "Gblock.")
        assert parameter in str(missing.value)
        assert parameter in str(misshapen.value) or original in str(misshapen.value)


def test_a_parameter_too_many_is_named() -> None:
    file = own("nvidia_full")
    file["state_dict"]["graph_modules.0.extra"] = torch.zeros(3)
    with pytest.raises(UserError, match=r"the model has no parameter 'graph_modules.0.extra', of shape \[3\]"):
        golden.load(file, "file")


def test_repeated_parameters_must_be_the_same() -> None:
    file: dict[str, Any] = own("authors_nbody_tfn")
    repeated = next(name for name in file["state_dict"] if name.startswith("enc."))
    file["state_dict"][repeated] = file["state_dict"][repeated] + 1
    with pytest.raises(UserError, match=f"parameter '{re.escape(repeated)}' should equal"):
        golden.load(file, "file")


def test_signs_of_stored_matrices_are_found() -> None:
    matrices = {
        (degree, k, l): (-1) ** (degree + k) * clebsch_gordan(l, k, degree).flatten(0, 1).float()
        for l in range(3)
        for k in range(3)
        for degree in range(abs(l - k), l + k + 1)
    }
    signs = signs_of(matrices, 2)
    assert all(signs(l, k, degree) == (-1) ** (degree + k) for degree, k, l in matrices)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda q: q.pop((2, 1, 1)), r"Q_J\[\(2, 1, 1\)\]: expected a matrix of \(J, d_in, d_out\), found nothing"),
        (lambda q: q.update({(2, 1, 1): torch.zeros(9, 4)}), r"Q_J\[\(2, 1, 1\)\]: has 36 entries, expected 45"),
        (lambda q: q.update({(2, 1, 1): torch.full((9, 5), torch.nan)}), "is not ± the Clebsch-Gordan matrix"),
        (lambda q: q.update({(2, 1, 1): 1.001 * q[2, 1, 1]}), "is not ± the Clebsch-Gordan matrix"),
        (lambda q: q.update({(2, 1, 1): q[2, 1, 1].to(torch.complex64)}), "found torch.complex64"),
        (lambda q: q.update({(2, 1, 1): [1.0]}), "found list"),
        (lambda q: q.update({(2, 1, 1): torch.ones(9, 5)}), "is not ± the Clebsch-Gordan matrix"),
    ],
)
def test_matrices_that_are_not_coupling_matrices_are_refused(change: Any, words: str) -> None:
    matrices = own("authors_nbody_se3t_cat")["Q_J"]
    change(matrices)
    with pytest.raises(UserError, match=words):
        signs_of(matrices, 2)
