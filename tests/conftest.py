"""Shared fixtures. With SE3T_TYPED=1 (``make typed``) annotations of shapes are executed."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # not loaded in the process that hands out the tests to the workers
    import torch

os.environ.setdefault("WANDB_MODE", "disabled")
# For tests/gpu on a CPU: Triton decides when it is loaded whether it interprets, and Lightning loads it.
if os.environ.get("SE3T_TEST_DEVICE") == "cpu":
    os.environ.setdefault("TRITON_INTERPRET", "1")
# As in a terminal, also where the tests run in the background or under nohup, which ignore these signals.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

if os.environ.get("SE3T_TYPED"):
    # Before the hook: while it loads a module of this package, all that this module imports is compiled anew (30 s).
    import beartype  # noqa: F401
    import lightning.pytorch  # noqa: F401
    import torch_geometric  # noqa: F401
    from jaxtyping import install_import_hook

    _hook = install_import_hook("se3t", "beartype.beartype")
    _hook.__enter__()


def pytest_collection_finish() -> None:
    """What is loaded now stays: without it, every collection of garbage goes through a million objects (0.3 s)."""
    gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder of real development data beside the checkout, or $SE3T_SHARED; where it is absent, tests skip."""
    folder = Path(os.environ.get("SE3T_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"shared development data are absent (looked in {folder}; set SE3T_SHARED)")
    return folder


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """Every test starts from the same random state and leaves the default dtype as it was."""
    import torch

    torch.manual_seed(0)
    default = torch.get_default_dtype()
    yield
    torch.set_default_dtype(default)


@pytest.fixture
def generator() -> torch.Generator:
    import torch

    return torch.Generator().manual_seed(1234)


@pytest.fixture
def interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skips where Triton cannot interpret its kernels, which child processes are to do."""
    from se3t.nn.kernels import triton_kernel

    with monkeypatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        reason = triton_kernel.unavailable("cpu")
    if reason is not None:
        pytest.skip(reason)
