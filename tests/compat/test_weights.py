"""Files of weights are read without running them, and what is wrong with one is said in a sentence."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from se3t.compat.weights import prefixes, read_file, read_weights
from se3t.errors import UserError

STATE = {"Gblock.0.weight": torch.arange(6.0).reshape(2, 3), "Gblock.1.bias": torch.ones(4)}


class Marker:
    """A pickle of it makes a file when it is loaded by a reader that runs code."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def save(path: Path, value: object, **options: Any) -> Path:
    torch.save(value, path, **options)
    return path


def message(path: Path, prefix: str = "") -> str:
    with pytest.raises(UserError) as error:
        read_weights(path, prefix)
    text = str(error.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    "value",
    [
        STATE,
        {"state_dict": STATE},
        {"model_state_dict": STATE, "epoch": 3},
        {"state_dict": {f"module.{name}": value for name, value in STATE.items()}},
        {f"module.{name}": value for name, value in STATE.items()},
    ],
)
@pytest.mark.parametrize("is_zip", [True, False])
def test_weights_are_found_as_training_scripts_save_them(tmp_path: Path, value: object, is_zip: bool) -> None:
    found = read_weights(save(tmp_path / "w.pt", value, _use_new_zipfile_serialization=is_zip))
    assert list(found.state_dict) == list(STATE)
    assert all(torch.equal(found.state_dict[name], STATE[name]) for name in STATE)


def test_what_else_a_file_holds_is_kept(tmp_path: Path) -> None:
    found = read_weights(
        save(tmp_path / "w.pt", {"state_dict": STATE, "config": {"n_heads": 2}, "Q_J": {(0, 0, 0): 1}})
    )
    assert found.config == {"n_heads": 2}
    assert found.extra == {"Q_J": {(0, 0, 0): 1}}


def test_a_part_of_a_larger_model_is_taken_out(tmp_path: Path) -> None:
    state = {f"a.se3.{name}": value for name, value in STATE.items()} | {"b.graph_modules.0.x": torch.ones(1)}
    path = save(tmp_path / "w.pt", {**state, "c.transformer.graph_modules.0.x": torch.ones(1), "d": torch.ones(1)})
    assert list(read_weights(path, "a.se3.").state_dict) == list(STATE)
    assert "no parameter is called e.…; prefixes there: 'a.se3.', 'b.', 'c.'" in message(path, "e.")
    assert "nothing in the file looks like weights" in message(save(tmp_path / "v.pt", {"d": torch.ones(1)}), "e.")


def test_prefixes_are_those_before_either_code() -> None:
    names = [f"m{number}.graph_modules.0.x" for number in range(20)]
    assert prefixes(["x.block0.3.y", "Gblock.0.z", "other"]) == ["x.", ""]
    assert len(prefixes(names)) == 20


def test_a_file_that_is_missing_or_empty_or_a_folder_is_named(tmp_path: Path) -> None:
    assert "no such file" in message(tmp_path / "nowhere.pt")
    assert "is a folder" in message(tmp_path)
    (tmp_path / "empty.pt").touch()
    assert "is empty" in message(tmp_path / "empty.pt")


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.99])
def test_a_truncated_file_is_named(tmp_path: Path, share: float) -> None:
    path = save(tmp_path / "w.pt", {f"Gblock.{number}": torch.ones(100) for number in range(5)})
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert "is damaged or was not written by torch.save" in message(path)


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_damaged_record_is_seen(tmp_path: Path, is_zip: bool) -> None:
    path = save(tmp_path / "w.pt", {"Gblock.0": torch.ones(4000)}, _use_new_zipfile_serialization=is_zip)
    raw = bytearray(path.read_bytes())
    place = len(raw) // 2
    raw[place : place + 8] = b"\x00\x01\x02\x03\x04\x05\x06\x07"
    path.write_bytes(bytes(raw))
    if is_zip:
        assert "is damaged" in message(path)
    else:  # the older format has no check sums: other numbers, but nothing else
        assert read_weights(path).state_dict["Gblock.0"].shape == (4000,)


@pytest.mark.parametrize(
    "raw", [b"hello, world", b"\x89PNG\r\n\x1a\n" + bytes(64), b'{"a": 1}', b"PK\x03\x04" + bytes(99)]
)
def test_what_is_no_file_of_torch_is_named(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "w.pt"
    path.write_bytes(raw)
    assert "is damaged or was not written by torch.save" in message(path)


@pytest.mark.parametrize("is_zip", [True, False])
def test_code_in_a_file_is_refused_and_does_not_run(tmp_path: Path, is_zip: bool) -> None:
    trap = tmp_path / "trap"
    state = {**STATE, "x": Marker(trap)}
    text = message(save(tmp_path / "w.pt", state, _use_new_zipfile_serialization=is_zip))
    assert "refused: it asks for" in text
    assert "mkdir" in text
    assert "torch.save(model.state_dict(), 'weights.pt')" in text
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Marker(trap)))
    message(tmp_path / "plain.pkl")
    assert not trap.exists()


def test_a_whole_model_is_refused(tmp_path: Path) -> None:
    text = message(save(tmp_path / "w.pt", torch.nn.Linear(2, 2)))
    assert "refused: it asks for torch.nn.modules.linear.Linear" in text


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({}, "holds no weights"),
        ({"state_dict": {}}, "holds no weights"),
        ([1, 2], "holds a list"),
        ({"a": 1}, "'a' is no tensor but a int"),
        ({"state_dict": {**STATE, "b": "x"}}, "'b' is no tensor but a str"),
        ({3: torch.ones(1)}, "3 is no tensor"),
        ({"state_dict": STATE, "config": [1]}, "'config' is a list"),
    ],
)
def test_what_is_no_state_dict_is_named(tmp_path: Path, value: object, words: str) -> None:
    assert words in message(save(tmp_path / "w.pt", value))


def test_tensors_come_to_the_cpu_from_any_place(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(STATE, buffer)
    (tmp_path / "w.pt").write_bytes(buffer.getvalue())
    content = read_file(tmp_path / "w.pt")
    assert all(value.device.type == "cpu" for value in content.values())
