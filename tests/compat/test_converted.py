"""Converted models: written, read, and the same function."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from se3t.compat import golden, load_model, nvidia
from se3t.compat.converted import is_model, read_model, save_model
from se3t.compat.weights import read_file
from se3t.errors import UserError

from .files import OWN, content, own


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.stem)
def test_a_converted_model_computes_the_reference_output(path: Path, tmp_path: Path) -> None:
    file = content(path)
    save_model(tmp_path / "model.pt", golden.load(file, path.name), {"code": "test"})
    model = load_model(tmp_path / "model.pt")
    out = model(golden.graph_of(file["inputs"], model, path.name))
    for degree, expected in file["output"].items():
        torch.testing.assert_close(out[int(degree)], expected, rtol=1e-10, atol=1e-12)
    assert [item.name for item in tmp_path.iterdir()] == ["model.pt"]


def test_a_file_says_where_its_weights_come_from(tmp_path: Path) -> None:
    converted = golden.load(own("nvidia_pooled"), "file")
    save_model(tmp_path / "model.pt", converted, {"code": "nvidia", "sha256": "00"})
    found = read_model(tmp_path / "model.pt")
    assert found.origin == {"code": "nvidia", "sha256": "00"}
    assert found.name == "se3_transformer"
    assert found.arguments == converted.arguments
    assert not found.model.training


def test_a_failure_leaves_the_file_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(b"before")

    def fail(content: object, file: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="no space left"):
        save_model(path, golden.load(own("nvidia_pooled"), "file"), {})
    assert path.read_bytes() == b"before"
    assert [item.name for item in tmp_path.iterdir()] == ["model.pt"]


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"state_dict": {"a": torch.ones(1)}}, path)
    with pytest.raises(UserError, match="not a converted model"):
        load_model(path)
    with pytest.raises(UserError, match="no such file"):
        load_model(tmp_path / "nowhere.pt")
    save_model(path, golden.load(own("nvidia_pooled"), "file"), {})
    good = read_file(path)
    assert is_model(good)
    torch.save({**good, "model": {**good["model"], "name": "unheard"}}, path)
    with pytest.raises(UserError, match=r"model\.pt: model: no model is called 'unheard'.*convert the weights again"):
        load_model(path)


@pytest.mark.parametrize(
    "change",
    [
        {"state_dict": {"a": torch.ones(1)}},
        {"state_dict": {}},
        {"state_dict": None},
        {"model": "x"},
        {"model": {"name": "tfn", "arguments": None}},
        {"model": {"name": "tfn", "arguments": {"fiber_in": "1x0", "depth": 3}}},
    ],
    ids=str,
)
def test_a_file_of_another_version_is_refused_in_one_sentence(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "model.pt"
    save_model(path, golden.load(own("nvidia_pooled"), "file"), {})
    torch.save({**read_file(path), **change}, path)
    with pytest.raises(UserError, match=r"model\.pt: does not hold a model .*convert the weights again"):
        load_model(path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_single_without_loss(tmp_path: Path, dtype: torch.dtype) -> None:
    state = {name: value.to(dtype) for name, value in own("nvidia_partial")["state_dict"].items()}
    converted = nvidia.load(state, {"num_heads": 2, "pooling": None, "return_type": 1})
    assert {value.dtype for value in converted.model.state_dict().values()} == {torch.float32}
    assert all(torch.equal(value, state[name].float()) for name, value in converted.state_dict().items())


def test_no_digit_of_double_precision_is_lost() -> None:
    """The reference files hold numbers that float32 holds as well, and would not show it."""
    state = {
        name: value + 1e-9 * torch.randn_like(value) for name, value in own("nvidia_partial")["state_dict"].items()
    }
    config = {"num_heads": 2, "pooling": None, "return_type": 1}
    ways = [
        nvidia.SE3Transformer.from_state_dict(state, **config).state_dict(),
        nvidia.SE3Transformer.from_state_dict(state, **config).native().state_dict(),
        nvidia.load(state, config).state_dict(),
    ]
    assert any((value != value.float()).any() for value in state.values())
    for found in ways:
        assert all(torch.equal(found[name], value) for name, value in state.items())


def test_mixed_precision_becomes_the_highest() -> None:
    state = own("nvidia_partial")["state_dict"]
    first = next(iter(state))
    converted = nvidia.load({**state, first: state[first].float()}, {"num_heads": 2, "pooling": None, "return_type": 1})
    assert {value.dtype for value in converted.model.state_dict().values()} == {torch.float64}
