"""``se3t doctor`` says in words what is there and what is not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from se3t.cli import doctor
from se3t.config import NBodyData
from se3t.data.nbody.prepare import store_path

from .conftest import Run

_DRIVER = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024"


@pytest.mark.parametrize(
    ("built_for", "available", "driver", "words"),
    [
        ("13.0", True, _DRIVER, ["usable", "13.0"]),
        (None, False, None, ["not usable", "built for CPU only"]),
        (None, False, _DRIVER, ["not usable", "install a CUDA build"]),
        ("13.0", False, None, ["not usable", "no NVIDIA driver"]),
        ("13.0", False, _DRIVER, ["not usable", "535.183.01", "too old for CUDA 13.0", "update the driver"]),
    ],
)
def test_state_of_cuda_in_words(built_for: str | None, available: bool, driver: str | None, words: list[str]) -> None:
    assert all(word in doctor.cuda_state(built_for, available, driver) for word in words)


def test_doctor_names_versions_devices_data_and_loggers(run: Run, tmp_path: Path) -> None:
    store = store_path(NBodyData(root="stores"))
    run("--version")
    (tmp_path / store).parent.mkdir(parents=True)
    (tmp_path / store).write_bytes(b"0" * 2**20)
    answer = run("doctor", "--root", "stores")
    assert answer.status == 0
    assert answer.err == ""
    assert f"torch {torch.__version__.partition('+')[0]}" in answer.out
    for title in (
        "installation",
        "packages",
        "optional packages",
        "devices",
        "trained models",
        "data",
        "Weights & Biases",
    ):
        assert f"{title}\n  " in answer.out
    assert f"{store}, 1.0 MiB (Table 1)" in answer.out
    assert "bench: " in answer.out
    assert "disabled" in answer.out
    assert answer.files == ["stores"]


def test_doctor_says_how_to_prepare_what_is_missing(run: Run) -> None:
    answer = run("doctor", "--root", "nowhere")
    assert "se3t data prepare nbody data.root=nowhere" in answer.out
    assert answer.files == []


def test_a_package_that_training_does_without_is_told_and_no_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    found = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "rdkit" else found(name))
    answer = run("doctor")
    assert answer.status == 0
    assert "rdkit MISSING: molecules cannot be read from raw files" in answer.out


def test_a_checkout_that_was_not_installed_knows_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    def names(extra: str) -> set[str]:
        return {name for name, _ in doctor._packages(extra)}

    installed = {extra: names(extra) for extra in ("bench", "sweep", "slurm")}

    def missing(name: str) -> None:
        raise doctor.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(doctor.importlib.metadata, "metadata", missing)
    assert {extra: names(extra) for extra in installed} == installed
    assert {"torch", "hydra-core"} <= names("")


def test_a_missing_package_is_an_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    found = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "h5py" else found(name))
    answer = run("doctor")
    assert answer.status == 1
    assert "h5py MISSING" in answer.out
    assert "missing: h5py; install" in answer.out
