"""The same function: every kernel gives the reference values, from weights under the names of the released codes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from se3t.cli import check_golden
from se3t.compat import golden
from se3t.compat.golden import Comparison, compare
from se3t.compat.nvidia import Fiber, SE3Transformer
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
File = dict[str, Any]
Change = Callable[[File], object]
EVERYTHING = {"output", "output_rotated", "output_translated", "gradients"}


def failures(rows: list[Comparison]) -> list[Comparison]:
    return [row for row in rows if not row.passed]


@cache
def rounded(path: Path) -> dict[str, float]:
    return golden.rounding(content(path), path.name)


@pytest.mark.parametrize("kernel", [name for name in KERNELS if name not in ("auto", "triton")])
@pytest.mark.parametrize("precision", ["64", "32"])
@pytest.mark.parametrize("path", OWN, ids=lambda path: path.stem)
def test_every_kernel_gives_the_reference_values(path: Path, kernel: str, precision: str) -> None:
    rows = compare(content(path), path.name, kernel=kernel, precision=precision, rounded=rounded(path))
    assert {row.name for row in rows} >= EVERYTHING
    assert len(rows) > len(EVERYTHING) + 1
    assert failures(rows) == []


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.stem)
def test_radial_weights_in_chunks_give_them_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("se3t.nn.kernels.edge_frame.WHOLE_BYTES", {"cpu": 0})
    monkeypatch.setattr("se3t.nn.kernels.chunked.CHUNK_BYTES", {"cpu": 2**16})
    assert failures(compare(content(path), path.name, kernel="edge_frame")) == []


@pytest.mark.parametrize("kernel", [name for name in KERNELS if name not in ("auto", "triton")])
@pytest.mark.parametrize("name", RELEASED_FILES)
def test_values_of_the_released_codes_are_met(name: str, kernel: str) -> None:
    path = RELEASED / name
    if not path.exists():
        pytest.skip(f"{path} is not here: values computed with the released codes are development data")
    for precision in ("64", "32"):
        rows = compare(content(path), name, kernel=kernel, precision=precision, rounded=rounded(path))
        assert failures(rows) == []


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


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda file: file.pop("config"), "'config' missing"),
        (
            lambda file: file["inputs"].pop("velocities"),
            "takes 1 channels of type 1, expected them in node_1 or velocities",
        ),
        (lambda file: file["config"].update(fiber_out={1: 3}), "does not fit the configuration"),
        (lambda file: file.update(state_dict={"weight": torch.zeros(2)}), "not weights of NVIDIA's code"),
    ],
)
def test_a_file_of_another_kind_is_refused_in_words(change: Change, words: str) -> None:
    altered = own("nvidia_partial")
    change(altered)
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


# --- float32 of deep networks -----------------------------------------------------------------------------------------


def deep_file(num_layers: int, seed: int) -> File:
    """A reference file of a random network, its values computed by the reference kernel in float64."""
    torch.manual_seed(seed)
    hidden, nodes = {0: 4, 1: 4, 2: 4}, 8
    config = {"num_layers": num_layers, "fiber_in": {0: 1, 1: 1}, "fiber_hidden": hidden, "fiber_out": {1: 2}}
    config |= {"num_heads": 2, "channels_div": 2, "fiber_edge": {0: 1}, "norm": True, "use_layer_norm": True}
    fibers = {name: Fiber(value) for name, value in config.items() if name.startswith("fiber")}
    weights = SE3Transformer(**{**config, **fibers}).double().state_dict()
    state = {name: value + 0.3 * torch.randn_like(value) * (value.dim() == 1) for name, value in weights.items()}
    edge_index = (1 - torch.eye(nodes)).nonzero().T
    inputs = {
        "positions": torch.randn(nodes, 3, dtype=torch.float64),
        "velocities": torch.randn(nodes, 1, 3, dtype=torch.float64),
        "features": torch.randn(nodes, 1, 1, dtype=torch.float64),
        "edge_index": edge_index,
        "edge_attr": torch.randn(edge_index.shape[1], 1, dtype=torch.float64),
        "batch": torch.zeros(nodes, dtype=torch.int64),
    }
    file: File = {"config": config, "state_dict": state, "inputs": inputs}
    model = golden.load(file, "deep", "reference").model.double()
    with torch.no_grad():
        out = model(golden.graph_of(inputs, model, "deep"))
    return file | {"output": {str(degree): value for degree, value in out.items()}}


@pytest.fixture(scope="module")
def deep() -> File:
    """One whose rounding errors are far above those of a shallow one."""
    return deep_file(num_layers=8, seed=3)


def test_the_tolerance_of_float32_follows_what_depth_makes_of_rounding(deep: File) -> None:
    flat = golden.rounding(deep_file(num_layers=1, seed=1), "flat")
    assert max(golden.rounding(deep, "deep").values()) > 20 * max(flat.values())
    for moved, expected in {1e-8: 1e-5, 1e-6: 5e-5, 1.0: golden.WIDEST, torch.nan: 1e-5}.items():
        assert golden.tolerance("output", "32", {"output": moved}) == pytest.approx(expected)
    assert golden.tolerance("output", "64", {"output": 1.0}) == 1e-10


def test_eight_layers_are_within_the_tolerance_of_float32(deep: File) -> None:
    moved = golden.rounding(deep, "deep")
    for kernel in ("reference", "edge_frame"):
        assert failures(compare(deep, "deep", kernel=kernel, precision="32", rounded=moved)) == []


@pytest.mark.parametrize("change", ["sign of an output", "sign of weights", "weights by 1e-3", "one weight by 1e-3"])
def test_a_real_error_fails_at_the_widest_tolerance_too(deep: File, change: str) -> None:
    altered = {**deep, "state_dict": dict(deep["state_dict"]), "output": dict(deep["output"])}
    name = "graph_modules.0.to_key_value.conv.0,0.radial_func.net.6.weight"
    weights = altered["state_dict"][name]
    if change == "sign of an output":
        altered["output"]["1"] = -altered["output"]["1"]
    elif change == "one weight by 1e-3":
        altered["state_dict"][name] = weights.clone()
        altered["state_dict"][name][0, 0] += 1e-3
    else:
        altered["state_dict"][name] = -weights if change == "sign of weights" else weights * (1 + 1e-3)
    rows = failures(compare(altered, "deep", kernel="vectorised", precision="32"))
    assert [row.name for row in rows] == ["output"]


@pytest.mark.parametrize("path", OWN[-1:], ids=lambda path: path.stem)
def test_a_wrong_reference_value_does_not_widen_the_tolerance(path: Path) -> None:
    file = content(path)
    rounded = golden.rounding(file, "file")
    altered = {**file, "output": None, "layer_outputs": None, "output_rotated": None, "output_translated": None}
    assert golden.rounding(altered, "altered") == rounded


# --- malformed files --------------------------------------------------------------------------------------------------


def put(*path: str, value: object) -> Change:
    """A change of a file: another value at the end of a path of names."""

    def change(file: File) -> None:
        for name in path[:-1]:
            file = file[name]
        file[path[-1]] = value

    return change


def drop(*path: str) -> Change:
    """A change of a file: without the entry at the end of a path of names."""

    def change(file: File) -> None:
        for name in path[:-1]:
            file = file[name]
        del file[path[-1]]

    return change


def act(*path: str, by: Callable[[Tensor], object]) -> Change:
    """A change of a file: the tensor at the end of a path of names becomes what a function makes of it."""

    def change(file: File) -> None:
        for name in path[:-1]:
            file = file[name]
        file[path[-1]] = by(file[path[-1]])

    return change


def entry(index: tuple[int, ...], value: int) -> Callable[[Tensor], Tensor]:
    return lambda tensor: tensor.index_put(tuple(torch.tensor(i) for i in index), torch.tensor(value))


WEIGHT = "graph_modules.0.to_query.weights.1"
MALFORMED: dict[str, tuple[Change, list[str]]] = {
    "no configuration": (drop("config"), ["'config' missing"]),
    "configuration None": (put("config", value=None), ["config: expected a mapping", "found None"]),
    "configuration a list": (put("config", value=[2]), ["config: expected a mapping", "found a list"]),
    "configuration of a strange head count": (put("config", "num_heads", value="many"), ["num_heads", "many"]),
    "configuration of a strange division": (put("config", "channels_div", value=0), ["channels_div", "0"]),
    "a head count that prints as lines": (
        put("config", "num_heads", value=torch.zeros(2, 2)),
        ["num_heads", "[0., 0.]"],
    ),
    "weights a list": (put("state_dict", value=[]), ["state_dict: expected a mapping", "found a list"]),
    "weights None": (put("state_dict", value=None), ["state_dict: expected a mapping", "found None"]),
    "no weights": (put("state_dict", value={}), ["not weights of NVIDIA's code"]),
    "a weight that is no tensor": (
        put("state_dict", WEIGHT, value=1.5),
        [WEIGHT, "floating-point tensor", "found 1.5"],
    ),
    "a weight of whole numbers": (act("state_dict", WEIGHT, by=Tensor.long), [WEIGHT, "floating-point", "found int64"]),
    "a weight without a name": (put("state_dict", 3, value=torch.zeros(1)), ["state_dict[3]: expected a str"]),  # type: ignore[arg-type]
    "couplings a list": (put("Q_J", value=[1]), ["Q_J: expected a mapping", "found a list"]),
    "couplings that are no tensors": (put("Q_J", value={(0, 0, 0): 1}), ["Q_J[(0, 0, 0)]", "found 1"]),
    "a strange release": (put("e3nn", value=None), ["e3nn=None: expected a release"]),
    "inputs None": (put("inputs", value=None), ["inputs: expected a mapping", "found None"]),
    "inputs a list": (put("inputs", value=[1]), ["inputs: expected a mapping", "found a list"]),
    "no positions": (drop("inputs", "positions"), ["inputs: positions missing", "edge_index, batch"]),
    "no edges": (drop("inputs", "edge_index"), ["inputs: edge_index missing"]),
    "no batch": (drop("inputs", "batch"), ["inputs: batch missing"]),
    "positions None": (put("inputs", "positions", value=None), ["inputs: positions", "[N, 3]", "found None"]),
    "positions in the plane": (act("inputs", "positions", by=lambda x: x[:, :2]), ["positions", "[N, 3]", "[8, 2]"]),
    "flat positions": (act("inputs", "positions", by=Tensor.flatten), ["positions", "[N, 3]", "found float64", "[24]"]),
    "complex positions": (act("inputs", "positions", by=lambda x: x + 0j), ["positions", "found complex128"]),
    "no points": (act("inputs", "positions", by=lambda x: x[:0]), ["positions: expected at least one point"]),
    "edges of one row": (act("inputs", "edge_index", by=lambda x: x[:1]), ["edge_index", "[2, E]", "[1, 24]"]),
    "edges of broken numbers": (
        act("inputs", "edge_index", by=Tensor.double),
        ["edge_index", "whole", "found float64"],
    ),
    "an edge to nowhere": (act("inputs", "edge_index", by=entry((1, 3), 8)), ["edge_index", "nodes 0 to 7", "found 8"]),
    "a negative edge": (act("inputs", "edge_index", by=entry((0, 3), -1)), ["edge_index", "nodes 0 to 7", "found -1"]),
    "a short batch": (act("inputs", "batch", by=lambda x: x[1:]), ["inputs: batch", "[8]", "found int64", "[7]"]),
    "a batch of broken numbers": (act("inputs", "batch", by=Tensor.double), ["inputs: batch", "found float64"]),
    "a descending batch": (act("inputs", "batch", by=entry((0,), 1)), ["inputs: batch", "ascending", "found [1, 0"]),
    "a negative batch": (act("inputs", "batch", by=entry((0,), -1)), ["inputs: batch", "found [-1, 0"]),
    "a batch of a huge number": (act("inputs", "batch", by=entry((7,), 10**15)), ["inputs: batch", "10000000"]),
    "no velocities": (drop("inputs", "velocities"), ["type 1, expected them in node_1 or velocities", "found None"]),
    "few velocities": (act("inputs", "velocities", by=lambda x: x[1:]), ["velocities", "[8, 1, 3]", "[7, 1, 3]"]),
    "velocities None": (put("inputs", "velocities", value=None), ["velocities", "[8, 1, 3]", "found None"]),
    "few edge attributes": (act("inputs", "edge_attr", by=lambda x: x[1:]), ["edge_attr", "[24, 1]", "[23, 1]"]),
    "no edge attributes": (drop("inputs", "edge_attr"), ["inputs: edge_attr", "[24, 1]", "found None"]),
    "many edge attributes": (act("inputs", "edge_attr", by=lambda x: x.expand(-1, 3)), ["edge_attr", "[24, 3]"]),
    "output None": (put("output", value=None), ["output: expected", "degrees 1", "found None"]),
    "output a list": (put("output", value=[1.0]), ["output: expected", "found a list"]),
    "output of another shape": (act("output", "1", by=lambda x: x[:, :1]), ["output['1']", "[8, 2, 3]", "[8, 1, 3]"]),
    "output turned over": (act("output", "1", by=lambda x: x.mT), ["output['1']", "[8, 2, 3]", "[8, 3, 2]"]),
    "output of a list": (act("output", "1", by=Tensor.tolist), ["output['1']", "found a list"]),
    "output of another degree": (act("output", by=lambda x: {"0": x["1"]}), ["output", "degrees 1", "a dict of '0'"]),
    "output without parts": (put("output", value={}), ["output: expected", "found a dict of nothing"]),
    "layers None": (put("layer_outputs", value=None), ["layer_outputs: expected a mapping", "found None"]),
    "a layer None": (put("layer_outputs", "graph_modules.0", value=None), ["layer_outputs['graph_modules.0']", "None"]),
    "a layer of another shape": (
        act("layer_outputs", "graph_modules.0", "2", by=lambda x: x[..., :3]),
        ["layer_outputs['graph_modules.0']['2']", "[8, 4, 5]", "[8, 4, 3]"],
    ),
    "a layer without degrees": (
        put("layer_outputs", "graph_modules.0", value=torch.zeros(8, 4, 1)),
        ["layer_outputs['graph_modules.0']", "degrees 0, 1, 2", "found float32"],
    ),
    "an unknown layer": (
        put("layer_outputs", "graph_modules.77", value={}),
        ["layer_outputs: expected names of this model, such as graph_modules.", "found 'graph_modules.77'"],
    ),
    "no probe": (drop("probe"), ["probe: expected", "found None"]),
    "a probe of another shape": (act("probe", "1", by=lambda x: x[:4]), ["probe['1']", "[8, 2, 3]", "[4, 2, 3]"]),
    "a probe of another degree": (act("probe", by=lambda x: {"2": x["1"]}), ["probe", "degrees 1", "a dict of '2'"]),
    "gradients None": (put("grads", value=None), ["grads: expected a mapping", "found None"]),
    "no gradients": (put("grads", value={}), ["grads: holds no gradient"]),
    "gradients all None": (act("grads", by=dict.fromkeys), ["grads: holds no gradient"]),  # type: ignore[arg-type]
    "a gradient of nothing": (
        put("grads", f"{WEIGHT}0", value=torch.zeros(2)),
        [f"grads: expected names of this model, such as {WEIGHT}", f"found '{WEIGHT}0'"],
    ),
    "a gradient of another shape": (act("grads", WEIGHT, by=Tensor.flatten), [f"grads['{WEIGHT}']", "found float64"]),
    "a rotation of another shape": (act("R", by=lambda x: x[:2]), ["R: expected", "[3, 3]", "[2, 3]"]),
    "a rotation None": (put("R", value=None), ["R: expected", "[3, 3]", "found None"]),
    "no rotation": (drop("R"), ["R: expected", "[3, 3]", "found None"]),
    "rotated output None": (put("output_rotated", value=None), ["output_rotated: expected", "found None"]),
    "translated output None": (put("output_translated", value=None), ["output_translated: expected", "found None"]),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_file_is_one_sentence_with_file_and_field(name: str) -> None:
    altered = own("nvidia_partial")
    change, words = MALFORMED[name]
    change(altered)
    with pytest.raises(UserError) as caught:
        compare(altered, "some/file.pt")
    message = str(caught.value)
    assert message.startswith("some/file.pt: ")
    assert "\n" not in message
    for word in words:
        assert word in message


FUNCTIONS: dict[str, tuple[Change, list[str]]] = {
    "no directions": (drop("u"), ["u: expected", "[points, 3]", "found None"]),
    "flat directions": (act("u", by=lambda u: u[:, :2]), ["u: expected", "[points, 3]", "[5, 2]"]),
    "harmonics a list": (put("Y", value=[]), ["Y: expected a mapping", "found a list"]),
    "no harmonics": (put("Y", value={}), ["Y: expected at least one tensor"]),
    "harmonics of a word": (put("Y", value={"one": torch.zeros(5, 3)}), ["Y: expected keys", "found 'one'"]),
    "harmonics of another shape": (put("Y", value={2: torch.zeros(5, 3)}), ["Y[2]", "[5, 5]", "[5, 3]"]),
    "harmonics of a huge degree": (put("Y", value={10**9: torch.zeros(5, 3)}), ["Y[1000000000]", "[5, 3]"]),
    "couplings None": (put("Q_J", value=None), ["Q_J: expected a mapping", "found None"]),
    "a coupling of two degrees": (put("Q_J", value={(0, 0): torch.ones(1)}), ["Q_J: expected keys of 3", "(0, 0)"]),
    "a coupling of another shape": (put("Q_J", value={(0, 0, 0): torch.ones(2)}), ["Q_J[(0, 0, 0)]", "found float32"]),
    "a coupling that is not": (put("Q_J", value={(3, 0, 0): torch.ones(1, 7)}), ["Q_J cannot be computed", "degree 3"]),
    "a list of matrices": (put("wigner_D", value=[]), ["wigner_D: expected a mapping", "found a list"]),
    "no rotations": (drop("rot_zyz"), ["rot_zyz: expected a list of 1 rotations", "found None"]),
    "few rotations": (put("rot_zyz", value=[]), ["rot_zyz: expected a list of 1 rotations", "found a list"]),
    "a flat rotation": (put("rot_zyz", value=[torch.ones(9)]), ["rot_zyz[0]", "[3, 3]", "[9]"]),
}


def functions() -> File:
    """A file of harmonics, couplings and Wigner matrices of degree 0, as the authors' code would have made it."""
    one, double = torch.ones(1, 1, dtype=torch.float64), torch.float64
    return {
        "u": torch.nn.functional.normalize(torch.ones(5, 3, dtype=double), dim=1),
        "Y": {0: torch.full((5, 1), (4 * torch.pi) ** -0.5, dtype=double)},
        "Q_J": {(0, 0, 0): one},
        "wigner_D": {(0, 0): one},
        "rot_zyz": [torch.eye(3, dtype=double)],
    }


def test_files_of_harmonics_and_couplings_are_compared() -> None:
    rows = compare(functions(), "file")
    assert [row.name for row in rows] == ["Y_J", "Q_J", "D^l"]
    assert failures(rows) == []


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_malformed_file_of_harmonics_is_one_sentence(name: str) -> None:
    altered = functions()
    change, words = FUNCTIONS[name]
    change(altered)
    with pytest.raises(UserError) as caught:
        compare(altered, "file")
    assert str(caught.value).startswith("file: ")
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "error", [ValueError("odd"), KeyError("odd"), TypeError("odd"), RuntimeError("odd\nmore"), UserError("odd")]
)
def test_an_error_of_the_library_names_the_file(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(golden.nvidia, "load", fail)
    with pytest.raises(UserError, match=r"^file: .*odd[^\n]*$"):
        compare(own("nvidia_partial"), "file")


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_indices_may_have_any_whole_number_dtype(dtype: torch.dtype) -> None:
    altered = own("authors_qm9_se3t_avg")
    for name in ("edge_index", "batch"):
        altered["inputs"][name] = altered["inputs"][name].to(dtype)
    assert failures(compare(altered, "file")) == []


def test_dimensions_of_size_one_may_be_missing() -> None:
    altered = own("nvidia_pooled")
    for name in ("output", "output_rotated", "output_translated", "probe"):
        altered[name] = altered[name]["0"].squeeze()
    altered["inputs"]["features"] = altered["inputs"]["features"].squeeze(-1)
    assert failures(compare(altered, "file")) == []


def test_gradients_that_are_all_zero_are_compared() -> None:
    altered = own("nvidia_partial")
    altered["probe"]["1"].zero_()
    altered["grads"] = {name: torch.zeros_like(value) for name, value in altered["grads"].items()}
    rows = compare(altered, "file")
    assert next(row.error for row in rows if row.name == "gradients") == 0


def test_a_graph_without_edges_is_compared() -> None:
    altered = own("nvidia_partial")
    altered["inputs"]["edge_index"] = altered["inputs"]["edge_index"][:, :0]
    altered["inputs"]["edge_attr"] = altered["inputs"]["edge_attr"][:0]
    assert "output" in {row.name for row in compare(altered, "file")}


# --- words of a configuration -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("nvidia_partial", "SE3Transformer"),
        ("nvidia_partial", "se3_transformer.model.transformer.SE3Transformer"),
        ("nvidia_pooled", "SE3TransformerPooled"),
        ("nvidia_pooled", "se3_transformer.model:SE3TransformerPooled"),
    ],
)
def test_a_configuration_may_name_nvidias_class(name: str, cls: str) -> None:
    altered = own(name)
    altered["config"]["cls"] = cls
    assert failures(compare(altered, "file")) == []


@pytest.mark.parametrize(
    ("name", "cls", "expected"),
    [
        ("nvidia_partial", "SE3TransformerPooled", "SE3Transformer"),
        ("nvidia_pooled", "model.SE3Transformer", "SE3TransformerPooled"),
        ("nvidia_partial", "experiments.nbody.nbody_models.TFN", "SE3Transformer"),
    ],
)
def test_a_class_that_the_weights_are_not_of_is_named(name: str, cls: str, expected: str) -> None:
    altered = own(name)
    altered["config"]["cls"] = cls
    with pytest.raises(UserError, match=rf"^file: config: cls={cls}: expected {expected}, whose weights these are$"):
        compare(altered, "file")


@pytest.mark.parametrize("name", ["nvidia_partial", "nvidia_pooled", "authors_qm9_tfn", "authors_nbody_tfn"])
def test_arguments_that_their_constructors_ignore_are_ignored(name: str) -> None:
    altered = own(name)
    altered["config"] |= {"max_degree": 3, "epochs": 100, "gpu": None, 7: "seven"}
    assert failures(compare(altered, "file")) == []


def test_arguments_of_the_pooled_class_alone_are_ignored_for_the_other() -> None:
    altered = own("nvidia_partial")
    altered["config"] |= {"output_dim": 1, "num_degrees": 9, "num_channels": 99}
    assert failures(compare(altered, "file")) == []


# --- several files ----------------------------------------------------------------------------------------------------


def test_a_malformed_file_does_not_hide_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        file = own("nvidia_by_input")
        if number == 1:
            file["inputs"]["positions"] = file["inputs"]["positions"][:, :2]
        torch.save(file, tmp_path / f"{number}.pt")
    paths = [str(tmp_path / f"{number}.pt") for number in range(3)]
    status = check_golden.run([*paths, "--kernel", "reference", "--precision", "64"])
    said = capsys.readouterr()
    assert status == 2
    assert said.err.strip() == (
        f"se3t: {paths[1]}: inputs: positions: expected a tensor of numbers of shape [N, 3], "
        "found float64 of shape [8, 2]"
    )
    assert said.out.count("all within tolerance") == 2


def test_a_path_that_cannot_be_looked_up_does_not_hide_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(own("nvidia_by_input"), tmp_path / "good.pt")
    long = str(tmp_path / ("x" * 300))
    assert check_golden.run([long, str(tmp_path / "good.pt"), "--kernel", "reference", "--precision", "64"]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("se3t: ")
    assert "xxx" in said.err
    assert said.out.count("all within tolerance") == 1
