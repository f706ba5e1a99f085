"""The words of ``trainer.precision``: dtype of weights and data, and the context a forward pass runs in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from se3t.errors import UserError, did_you_mean

LIGHTNING = {"64": "64-true", "32": "32-true", "bf16": "bf16-mixed"}
"""What Lightning calls each of them."""


def data_dtype(precision: str) -> torch.dtype:
    """Dtype of weights, inputs and targets: double for "64", else single; "bf16" computes in bfloat16 but keeps single
    weights.

    Raises:
        UserError: for an unknown word.
    """
    if precision not in LIGHTNING:
        raise UserError(f"precision={precision}: unknown; {did_you_mean(precision, LIGHTNING)}")
    return torch.float64 if precision == "64" else torch.float32


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Make tensors without a stated dtype in ``dtype``."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def forward_context(precision: str, device: torch.device) -> Iterator[None]:
    """What a forward pass outside of Lightning runs in."""
    with (
        default_dtype(data_dtype(precision)),
        torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"),
    ):
        yield
