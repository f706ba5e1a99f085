"""The oracle: e3nn, whose conventions are ours up to the signs of the coupling tensors."""

from __future__ import annotations

import warnings
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def o3() -> ModuleType:
    with warnings.catch_warnings():  # some releases of e3nn load their constants in ways that torch now discourages
        warnings.filterwarnings("ignore", message=".*(TorchScript|torch.jit|weights_only|pkg_resources).*")
        from e3nn import o3
    return o3
