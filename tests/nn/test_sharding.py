"""Two processes that share the clouds, and with FSDP the parameters of a model, do what one does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from se3t.nn.kernels.native import unavailable

from .sharding_parts import MODELS, REFUSED, STRATEGIES, alone, start

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        unavailable(torch.device("cpu"), torch.float64) is not None, reason="there is no compiled kernel here"
    ),
]


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> list[dict[tuple[str, str], Any]]:
    folder = tmp_path_factory.mktemp("together")
    start(folder)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.fixture(scope="module")
def expected() -> dict[str, dict[str, Tensor]]:
    return {name: alone(name) for name in MODELS}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_steps_of_two_processes_are_those_of_one(
    model: str, strategy: str, together: list[dict[tuple[str, str], Any]], expected: dict[str, dict[str, Tensor]]
) -> None:
    for results in together:
        torch.testing.assert_close(results[model, strategy], expected[model], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("strategy", REFUSED)
def test_what_fsdp_may_not_wrap_is_refused_in_one_sentence(
    strategy: str, together: list[dict[tuple[str, str], Any]]
) -> None:
    """Its parameters would be read when they are not there, by compiled code."""
    for results in together:
        assert "wrap layers (EquivariantConv, SE3AttentionBlock) or the model" in results["transformer", strategy]
