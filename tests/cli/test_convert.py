"""``se3t convert``, ``se3t check-golden`` and ``se3t eval`` of a converted model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from se3t.compat import load_model
from se3t.compat.converted import read_model
from se3t.config import Config, to_config
from se3t.config.compose import compose
from se3t.errors import UserError
from se3t.measure.evaluate import evaluate

from .conftest import Run

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
AUTHORS, NVIDIA = GOLDEN / "authors_nbody_se3t_add.pt", GOLDEN / "nvidia_partial.pt"


def content(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(path, weights_only=True)
    return loaded


def small_experiment(words: list[str]) -> Config:
    return to_config(compose("train", [*words, "preset=smoke"]))


def test_weights_and_a_configuration_become_a_model(run: Run, tmp_path: Path) -> None:
    file = content(AUTHORS)
    torch.save(file["state_dict"], tmp_path / "w.pt")
    torch.save(file["Q_J"], tmp_path / "q.pt")
    (tmp_path / "m.yaml").write_text("n_heads: 1\nx_ij: add\nnum_channels: 3\n")
    words = ["convert", "--from", "authors", "--config", "m.yaml", "--couplings", "q.pt", "w.pt", "--to", "model.pt"]
    answer = run(*words)
    assert answer.status == 0
    assert "model.pt: ReleasedSE3Transformer, 1x1 -> 3x0+3x1 -> 2x1" in answer.out
    assert "load_model('model.pt')" in answer.out
    assert answer.files == ["m.yaml", "model.pt", "q.pt", "w.pt"]
    assert next(load_model(tmp_path / "model.pt").parameters()).dtype == torch.float64
    origin = read_model(tmp_path / "model.pt").origin
    assert origin["code"] == "authors"
    assert origin["config"] == {"n_heads": 1, "x_ij": "add", "num_channels": 3}
    again = run(*words)
    assert again.status == 2
    assert "model.pt: exists; give another name with --to, or --force to replace it" in again.err
    assert run(*words, "--force").status == 0


def test_a_part_of_a_larger_model_is_converted(run: Run, tmp_path: Path) -> None:
    file = content(NVIDIA)
    torch.save({f"net.se3.{name}": value for name, value in file["state_dict"].items()}, tmp_path / "w.pt")
    (tmp_path / "m.yaml").write_text("num_heads: 2\npooling: null\nreturn_type: 1\nfiber_edge: {0: 1}\n")
    words = ["convert", "--from", "nvidia", "--config", "m.yaml", "w.pt", "--to", "model.pt"]
    answer = run(*words, "--prefix", "net.")
    assert answer.status == 2
    assert "not weights of NVIDIA's code" in answer.err
    assert run(*words, "--prefix", "net.se3.").status == 0


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ("num_heads: 2", ["the weights do not show pooling (avg, max or null for none), return_type (", "--config"]),
        ("num_heads: 2\nbad", ["m.yaml, line 2: is not valid YAML"]),
        ("- 1", ["m.yaml: holds a list; expected constructor arguments by name"]),
        ("", ["m.yaml: holds nothing"]),
        ("num_head: 2", ["'num_head' is no argument of this model; did you mean 'num_heads'?"]),
        (
            "num_heads: 2\npooling: null\nreturn_type: 1\nfiber_hidden: {0: 8, 1: 8, 2: 8}",
            ["w.pt: does not fit the configuration: parameter 'graph_modules.0.", "should have shape"],
        ),
        ("num_heads: 2\npooling: null\nreturn_type: 1\nfiber_in: x", ["fiber_in='x': expected {degree: channels}"]),
    ],
)
def test_a_wrong_configuration_is_named_and_leaves_nothing(
    run: Run, tmp_path: Path, config: str, named: list[str]
) -> None:
    torch.save(content(NVIDIA)["state_dict"], tmp_path / "w.pt")
    (tmp_path / "m.yaml").write_text(config)
    answer = run("convert", "--from", "nvidia", "--config", "m.yaml", "w.pt", "--to", "model.pt")
    assert answer.status == 2
    assert all(word in answer.err for word in named), answer.err
    assert len(answer.err.splitlines()) == 1
    assert answer.files == ["m.yaml", "w.pt"]


def test_weights_that_are_no_weights_are_named(run: Run, tmp_path: Path) -> None:
    for name, raw in {"cut.pt": AUTHORS.read_bytes()[:5000], "text.pt": b"weights", "empty.pt": b""}.items():
        (tmp_path / name).write_bytes(raw)
        answer = run("convert", "--from", "authors", name, "--to", "model.pt")
        assert answer.status == 2
        assert answer.err.startswith(f"se3t: {name}: ")
        assert len(answer.err.splitlines()) == 1
        assert "model.pt" not in answer.files


def test_reference_files_are_compared(run: Run) -> None:
    answer = run("check-golden", str(AUTHORS), str(NVIDIA), "--kernel", "vectorised")
    assert answer.status == 0
    assert [line.partition(": all within tolerance; ")[0] for line in answer.out.splitlines()] == [
        str(AUTHORS),
        str(NVIDIA),
    ]
    assert answer.files == []


def test_all_numbers_of_reference_files_are_printed_on_request(run: Run) -> None:
    answer = run("check-golden", str(AUTHORS), "--verbose")
    assert answer.status == 0
    assert answer.out.count("all within tolerance") == 1
    for word in (
        "edge_frame",
        "vectorised",
        "reference",
        "float64",
        "float32",
        "1e-10",
        "1e-08",
        "Gblock.3",
        "gradients",
    ):
        assert word in answer.out
    assert answer.files == []


def test_a_difference_is_marked_and_exits_with_1(run: Run, tmp_path: Path) -> None:
    file = content(NVIDIA)
    file["layer_outputs"]["graph_modules.0"]["1"] *= 1.001
    torch.save(file, tmp_path / "altered.pt")
    answer = run("check-golden", "altered.pt", str(NVIDIA), "--kernel", "vectorised", "--precision", "64", "--verbose")
    assert answer.status == 1
    assert (
        "altered.pt: 1 above tolerance; largest relative errors: float64 graph_modules.0 1.0e-03 of 1e-10" in answer.out
    )
    assert "! 1.0e-03" in answer.out
    assert "all within tolerance" in answer.out


def test_a_file_that_cannot_be_used_does_not_hide_the_others(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.pt").write_bytes(b"bad")
    answer = run("check-golden", "bad.pt", str(NVIDIA), "--kernel", "reference", "--precision", "64")
    assert answer.status == 2
    assert "se3t: bad.pt: is damaged" in answer.err
    assert "all within tolerance" in answer.out


def test_a_converted_model_says_nothing_of_data(run: Run) -> None:
    assert run("convert", "--from", "authors", str(AUTHORS), "--to", "model.pt").status == 0
    answer = run("eval", "checkpoint=model.pt")
    assert answer.status == 2
    assert "model.pt: a converted model, which does not name its data; add experiment=…" in answer.err


def test_a_converted_model_is_measured_on_data(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("se3t.cli.evaluate._experiment", small_experiment)
    assert run("convert", "--from", "authors", str(AUTHORS), "--to", "model.pt").status == 0
    answer = run("eval", "checkpoint=model.pt", "experiment=nbody", "trainer.precision=64")
    assert answer.status == 0
    assert "converted from authors (authors_nbody_se3t_add.pt)" in answer.out
    errors = dict(re.findall(r"(equivariance_error_.|mse_.) +│ +([\d.e+-]+)", answer.out))
    assert float(errors["equivariance_error_x"]) < 1e-12
    assert float(errors["mse_x"]) > 0


def test_a_converted_model_has_no_references_of_atoms(run: Run) -> None:
    assert run("convert", "--from", "authors", str(GOLDEN / "authors_qm9_tfn.pt"), "--to", "model.pt").status == 0
    experiment = to_config(compose("train", ["experiment=qm9", "task.reference=composition"]))
    with pytest.raises(UserError, match=r"task\.reference=composition: .*model\.pt is a converted model"):
        evaluate("model.pt", experiment=experiment, build=lambda *_: pytest.fail("asked for data"))


def test_a_model_of_another_task_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("se3t.cli.evaluate._experiment", small_experiment)
    assert run("convert", "--from", "authors", str(GOLDEN / "authors_qm9_tfn.pt"), "--to", "model.pt").status == 0
    answer = run("eval", "checkpoint=model.pt", "experiment=nbody")
    assert answer.status == 2
    assert "the model maps 6x0 to 1x0; task nbody has inputs 1x0+2x1 and needs 2x1" in answer.err
