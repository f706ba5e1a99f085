"""Fixtures of the benchmarks."""

from __future__ import annotations

import pytest

from benchmarks import twin
from se3t.nn.kernels import KERNELS


@pytest.fixture
def e3nn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernel e3nn, for one test."""
    monkeypatch.setitem(KERNELS, twin.E3NN, twin.__name__)
