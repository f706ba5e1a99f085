"""Converted models: written, read, and the same function."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from se3t.compat import golden, load_model
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
    with pytest.raises(UserError, match="holds a model 'unheard' that this version does not know"):
        load_model(path)
    torch.save({**good, "state_dict": {"a": torch.ones(1)}}, path)
    with pytest.raises(UserError, match="its weights do not fit its model"):
        load_model(path)
