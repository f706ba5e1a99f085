"""Where these tests run: on a CUDA device or, with SE3T_TEST_DEVICE=cpu, on the CPU with Triton interpreted.

``pytest -m gpu tests/gpu`` is the whole check of the package on a GPU; the files run in the order of their numbers, the
most important one first. So far the tests have run on the CPU only.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from se3t.nn.kernels import triton_kernel

ASKED = os.environ.get("SE3T_TEST_DEVICE")
DEVICE = torch.device(ASKED or "cuda")
ON_GPU = DEVICE.type == "cuda"
HARMLESS = (
    r"The usage of `scatter\(reduce=",  # torch-geometric: slower than torch-scatter, which is not installed
    r"Please use the new API settings to control TF32",  # torch 2.9 and later, for get_float32_matmul_precision()
    r"Attempting to run cuBLAS, but there was no current CUDA context",  # in autograd's thread; torch then makes one
    r"The CUDA Graph is empty",  # left by a capture that fails on purpose
    r"The AccumulateGrad node's stream does not match",  # the passes before a capture run on a stream of their own
    r"RNN module weights are not part of single contiguous chunk",  # costs memory, once
    r"Can't initialize NVML",  # in containers; torch then asks CUDA itself
    r"The pynvml package is deprecated",  # torch, when it loads what counts the GPUs
)
"""Beginnings of warnings that are no fault of the package and can come on a GPU only."""
MARKS = [pytest.mark.gpu, *(pytest.mark.filterwarnings(f"ignore:{words}") for words in HARMLESS)]
needs_cuda = pytest.mark.skipif(not ON_GPU, reason="needs CUDA: SE3T_TEST_DEVICE=cpu")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Elsewhere ``edge_frame`` would be tested under the name of the other kernel."""
    reason = None if ON_GPU else triton_kernel.unavailable(DEVICE)
    here = [item for item in items if Path(__file__).parent in item.path.parents and "triton" in item.name]
    for item in here if reason is not None else ():
        item.add_marker(pytest.mark.skip(reason=f"kernel triton: {reason}"))


@pytest.fixture(scope="session", autouse=True)
def _device_is_here() -> None:
    if ON_GPU and not torch.cuda.is_available():
        if ASKED:
            pytest.fail(f"SE3T_TEST_DEVICE={ASKED}, but torch sees no CUDA device")
        pytest.skip("torch sees no CUDA device (SE3T_TEST_DEVICE=cpu runs these tests on the CPU)")
    if not ON_GPU and find_spec("triton") is not None:
        assert os.environ.get("TRITON_INTERPRET") == "1"  # set by tests/conftest.py, before Triton is loaded


@pytest.fixture(autouse=True)
def _exact_products(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No TF32: float32 means float32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    if ON_GPU:
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    yield
    torch.set_float32_matmul_precision(before)
