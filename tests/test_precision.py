"""What the words of ``trainer.precision`` set for all of torch, and that it is as before afterwards."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
import torch

from se3t.errors import UserError
from se3t.precision import matmul_precision, require_device


@pytest.fixture(autouse=True)
def as_torch_starts() -> Iterator[None]:
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = True
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


@pytest.mark.parametrize(("word", "rounds"), [("32", False), ("64", False), ("bf16", False), ("tf32", True)])
@pytest.mark.parametrize("outside", [False, True])
def test_products_and_convolutions_are_rounded_to_tf32_only_where_it_says_so(
    word: str, rounds: bool, outside: bool
) -> None:
    torch.backends.cudnn.allow_tf32 = outside
    torch.set_float32_matmul_precision("high" if outside else "highest")
    found = []

    def work() -> None:
        with matmul_precision(word):
            found.append((torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()))
            raise ZeroDivisionError

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ZeroDivisionError):
            work()
    assert found == [(rounds, "high" if rounds else "highest")]
    assert torch.backends.cudnn.allow_tf32 is outside
    assert torch.get_float32_matmul_precision() == ("high" if outside else "highest")


def test_a_precision_that_the_device_lacks_is_refused() -> None:
    require_device("tf32", torch.device("cuda"))
    with pytest.raises(UserError, match="precision tf32: only NVIDIA GPUs have it, this is cpu; use precision 32"):
        require_device("tf32", torch.device("cpu"))
