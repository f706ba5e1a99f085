"""Sizes that no machine has: one sentence, with the setting where it is known."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from se3t.cli.failures import guarded, sentence, status
from se3t.cli.memory import out_of_memory

from .conftest import Run

HUGE = 10**15


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("model.channels=1000000000000", "while the model was built: .* .*than model.channels=1000000000000 "),
        ("model.num_layers=1000000000000", "while the model was built; use a smaller model than model.num_layers="),
        ("data.num_train=1000000000000000", "while the data .*: .* PiB .*; use fewer samples than data.num_train="),
        ("trainer.batch_size=1000000000000", r"^se3t: trainer\.batch_size=1000000000000: the graph of such a batch"),
    ],
)
def test_absurd_sizes_name_their_setting_in_one_sentence(run: Run, setting: str, sentence: str) -> None:
    small = ["data.num_train=4", "data.num_valid=2", "data.num_test=2", "data.num_particles=2"]
    answer = run("train", "experiment=nbody", "preset=smoke", "logger.wandb=disabled", *small, setting)
    assert answer.status == 2
    last = answer.err.splitlines()[-1]
    assert re.search(sentence, last), last
    assert "Traceback" not in answer.err


@pytest.mark.parametrize(
    "ask",
    [
        lambda: torch.empty(HUGE),
        lambda: torch.empty(10**30),
        lambda: torch.empty(2**40, 2**40),
        lambda: np.empty(HUGE),
        lambda: np.empty(10**18),
        lambda: np.empty(10**30),
        lambda: bytearray(HUGE),
    ],
)
def test_what_torch_numpy_and_python_say_is_one_sentence(ask: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(ask) == 2  # type: ignore[arg-type]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("se3t: out of memory")


def test_memory_of_a_gpu_is_told_alike() -> None:
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of …")
    assert sentence(error).startswith("out of memory: 20.00 GiB were asked for at once; ")
    assert status(error) == 2


@pytest.mark.parametrize("error", [RuntimeError("shapes do not fit"), TypeError("no"), OverflowError("cannot be said")])
def test_faults_of_the_program_keep_their_traceback(error: Exception) -> None:
    assert out_of_memory(error) is None

    def fail() -> int:
        raise error

    with pytest.raises(type(error)):
        guarded(fail)
