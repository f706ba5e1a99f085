"""The same function: every kernel gives the reference values, from weights under the names of the released codes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from se3t.compat import golden
from se3t.compat.golden import Comparison, compare
from se3t.errors import UserError
from se3t.nn.kernels import KERNELS

from .files import OWN, RELEASED, content, own

RELEASED_FILES = (
    "authors_nbody_se3t.pt",
    "authors_qm9_se3t_max.pt",
    "authors_sh_and_Q.pt",
    "nvidia_nbody.pt",
    "nvidia_qm9_max.pt",
    "nvidia_sh_and_Q.pt",
)
EVERYTHING = {"output", "output_rotated", "output_translated", "gradients"}


def failures(rows: list[Comparison]) -> list[Comparison]:
    return [row for row in rows if not row.passed]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("precision", ["64", "32"])
@pytest.mark.parametrize("path", OWN, ids=lambda path: path.stem)
def test_every_kernel_gives_the_reference_values(path: Path, kernel: str, precision: str) -> None:
    rows = compare(content(path), path.name, kernel=kernel, precision=precision)
    assert {row.name for row in rows} >= EVERYTHING
    assert len(rows) > len(EVERYTHING) + 1
    assert failures(rows) == []


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", RELEASED_FILES)
def test_values_of_the_released_codes_are_met(name: str, kernel: str) -> None:
    path = RELEASED / name
    if not path.exists():
        pytest.skip(f"{path} is not here: values computed with the released codes are development data")
    for precision in ("64", "32"):
        assert failures(compare(content(path), name, kernel=kernel, precision=precision)) == []


@pytest.mark.parametrize("name", ["authors_nbody_se3t_cat", "nvidia_pairs_edge_vectors"])
@pytest.mark.parametrize(
    "part", ["state_dict", "output", "layer_outputs", "output_rotated", "output_translated", "grads"]
)
def test_a_small_error_anywhere_is_seen(name: str, part: str) -> None:
    altered = own(name)
    value = altered[part]
    while isinstance(value, dict):
        value = value[sorted(value)[0]]
    value[(0,) * value.dim()] += 1e-5 * value.abs().max() + 1e-6
    assert failures(compare(altered, name))


def test_the_worst_part_is_named() -> None:
    altered = own("nvidia_partial")
    altered["grads"]["graph_modules.0.to_query.weights.1"] *= 1.01
    altered["layer_outputs"]["graph_modules.1"]["2"] *= 1.01
    rows = {row.name: row for row in failures(compare(altered, "file"))}
    assert set(rows) == {"gradients", "graph_modules.1"}
    assert rows["gradients"].worst == "graph_modules.0.to_query.weights.1"
    assert rows["gradients"].error == pytest.approx(0.01 / 1.01, rel=1e-3)
    assert rows["graph_modules.1"].worst == "type 2"


def test_a_gradient_that_was_not_computed_is_passed_over() -> None:
    altered = own("nvidia_partial")
    altered["grads"]["graph_modules.0.to_query.weights.1"] = None
    assert failures(compare(altered, "file")) == []


def test_not_a_number_is_an_error() -> None:
    altered = own("nvidia_partial")
    altered["output"]["1"][0] = torch.nan
    assert "output" in {row.name for row in failures(compare(altered, "file"))}


def test_other_degrees_than_expected_are_an_error() -> None:
    altered = own("nvidia_partial")
    altered["output"] = {"0": altered["output"]["1"]}
    assert "output" in {row.name for row in failures(compare(altered, "file"))}


def test_a_layer_that_is_not_computed_is_an_error() -> None:
    altered = own("nvidia_partial")
    altered["layer_outputs"]["graph_modules.77"] = altered["layer_outputs"]["graph_modules.0"]
    assert [row.worst for row in failures(compare(altered, "file"))] == ["not computed"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda file: file.pop("config"), "'config' missing"),
        (
            lambda file: file["inputs"].pop("velocities"),
            "takes 1 channels of type 1, expected them in node_1 or velocities",
        ),
        (lambda file: file["config"].update(fiber_edge={0: 1, 1: 2}), "does not fit the configuration"),
        (lambda file: file.update(state_dict={"weight": torch.zeros(2)}), "not weights of NVIDIA's code"),
    ],
)
def test_a_file_of_another_kind_is_refused_in_words(change: object, words: str) -> None:
    altered = own("nvidia_partial")
    change(altered)  # type: ignore[operator]
    with pytest.raises(UserError, match=words):
        compare(altered, "file")


def test_more_edge_channels_than_relative_positions_must_be_in_the_file() -> None:
    file = own("nvidia_pairs_edge_vectors")
    model = golden.load(file, "file").model
    model.fiber_edge = type(model.fiber_edge)("2x1")
    with pytest.raises(UserError, match="expected in edge_1"):
        golden.graph_of(file["inputs"], model, "file")
    file["inputs"]["edge_1"] = torch.zeros(24, 2, 3, dtype=torch.float64)
    assert golden.graph_of(file["inputs"], model, "file").edge_features[1].shape == (24, 2, 3)
