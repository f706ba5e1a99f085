"""Every experiment's smoke preset, trained, continued and measured. Run on the CPU, not yet on a GPU."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from data.molecules.parts import crowd, repulsion, split_words, write
from data.scanobjectnn.raw_files import raw_folder
from se3t.config import TARGETS, Config, to_config
from se3t.measure.evaluate import evaluate
from se3t.nn.kernels import triton_kernel
from se3t.runs import read_json
from se3t.runs.names import CHECKPOINTS, PROVENANCE
from se3t.training import checkpoint as ckpt
from se3t.training.train import train

from .conftest import DEVICE, MARKS, ON_GPU, needs_cuda

pytest.importorskip("hydra", reason="hydra-core, which composes configurations, is not installed")
from se3t.config.compose import compose

pytestmark = MARKS

MOLECULES = {"train": 64, "valid": 16, "test": 16}
STEPS, MORE = 4, 6
CLOSE = {"rel": 1e-4, "abs": 1e-6}
"""A metric of float32 on two devices, after some rounding."""


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Words that name small data made on the spot, by experiment."""
    root = tmp_path_factory.mktemp("data")
    molecules = crowd(sum(MOLECULES.values()))
    values = [repulsion(one) for one in molecules]
    write(root / "qm9" / "qm9.h5", molecules, split_words(MOLECULES), dict.fromkeys(TARGETS, values))
    return {
        "nbody": [f"data.root={root}", "data.num_steps=1000"],
        "qm9": [f"data.root={root}"],
        "scanobjectnn": [f"data.root={root}", f"data.raw={raw_folder(root / 'raw')}"],
    }


def config_of(runs: Path, experiment: str, *words: str) -> Config:
    """The smoke preset on the device, with few steps."""
    every = STEPS // 2
    own = [f"experiment={experiment}", "preset=smoke", f"runs={runs}", "trainer.progress=false"]
    steps = [f"trainer.max_steps={STEPS}", f"trainer.eval_every={every}", f"trainer.checkpoint_every={every}"]
    device = f"trainer.accelerator={'gpu' if ON_GPU else 'cpu'}"
    return to_config(compose("train", [*own, *steps, device, *words]))


def results_of(path: Path) -> dict[str, Any]:
    """What was written, all of it finite."""
    result = read_json(path)
    for split in ("valid", "test"):
        assert result[split]
        assert all(isinstance(value, float) and math.isfinite(value) for value in result[split].values()), result[split]
    newest = ckpt.newest_checkpoint(path.parent / CHECKPOINTS)
    assert newest is not None
    for name, value in newest.content["state_dict"].items():
        assert value.isfinite().all(), name
        assert value.dtype in (torch.float32, torch.int64), name
    return result


def provenance_of(path: Path) -> dict[str, Any]:
    (*_, last) = read_json(path.parent / PROVENANCE)["sessions"]
    return last


@pytest.mark.parametrize("experiment", ["nbody", "qm9", "scanobjectnn"])
def test_the_smoke_preset_trains_goes_on_and_is_measured_on_the_cpu(
    experiment: str, stores: dict[str, list[str]], tmp_path: Path
) -> None:
    config = config_of(tmp_path, experiment, *stores[experiment])
    assert results_of(train(config))["budget"]["steps_done"] == STEPS
    longer = replace(config, resume=True, trainer=replace(config.trainer, max_steps=MORE))
    path = train(longer)
    result, session = results_of(path), provenance_of(path)
    assert result["budget"]["steps_done"] == MORE
    assert (session["device"], session["resumed_from_step"]) == (DEVICE.type, STEPS)
    found = evaluate(path.parent, overrides={"trainer.accelerator": "cpu"})["metrics"]
    assert found.keys() == result["test"].keys()
    for name, value in result["test"].items():
        if any(word in name for word in ("equivariance", "rebuilt", "flipped", "changed")):
            assert found[name] == pytest.approx(value, abs=1e-3), name  # rounding is what they measure
        else:
            assert found[name] == pytest.approx(value, **CLOSE), name


@pytest.mark.parametrize("precision", ["bf16", pytest.param("tf32", marks=needs_cuda)])
@pytest.mark.parametrize("experiment", ["nbody", "qm9"])
def test_reduced_precision_trains_with_weights_in_float32(
    experiment: str, precision: str, stores: dict[str, list[str]], tmp_path: Path
) -> None:
    exact, rough = (
        results_of(train(config_of(tmp_path, experiment, f"trainer.precision={word}", *stores[experiment])))
        for word in ("32", precision)
    )
    assert rough["config"]["trainer"]["precision"] == precision
    assert rough["valid"]["loss"] == pytest.approx(exact["valid"]["loss"], rel=0.2 if precision == "bf16" else 0.02)
    assert rough["valid"]["loss"] != exact["valid"]["loss"]


def test_the_triton_kernel_trains_as_the_other_one(stores: dict[str, list[str]], tmp_path: Path) -> None:
    reason = triton_kernel.unavailable(DEVICE)
    if reason is not None:
        assert not ON_GPU, reason
        pytest.skip(f"kernel triton: {reason}")
    words = [*stores["qm9"], *([] if ON_GPU else ["trainer.max_steps=1", "trainer.batch_size=2", "data.num_test=1"])]
    words += [] if ON_GPU else ["data.num_valid=1", "model.num_layers=1"]
    losses = [
        results_of(train(config_of(tmp_path, "qm9", f"model.kernel={kernel}", *words)))["valid"]["loss"]
        for kernel in ("edge_frame", "triton")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
