"""The words of ``trainer.precision``: dtype of weights and data, and the context a forward pass runs in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from se3t.errors import UserError, did_you_mean

LIGHTNING = {"64": "64-true", "32": "32-true", "tf32": "32-true", "bf16": "bf16-mixed"}
"""What Lightning calls each of them."""


def data_dtype(precision: str) -> torch.dtype:
    """Dtype of weights, inputs and targets: double for "64", else single; "tf32" and "bf16" multiply matrices in fewer
    bits but keep single weights.

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


def require_device(precision: str, device: torch.device) -> None:
    """Refuse a precision that the device does not have.

    Raises:
        UserError: for "tf32" anywhere but on a GPU.
    """
    if precision == "tf32" and device.type != "cuda":
        raise UserError(f"precision tf32: only NVIDIA GPUs have it, this is {device.type}; use precision 32")


@contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """Let single-precision products of matrices and convolutions of grids on a GPU round their factors to TF32 (10
    bits), for "tf32" only; torch alone would round those of convolutions always.
    """
    before, cudnn_before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        torch.backends.cudnn.allow_tf32 = cudnn_before


@contextmanager
def forward_context(precision: str, device: torch.device) -> Iterator[None]:
    """What a forward pass outside of Lightning runs in."""
    with (
        default_dtype(data_dtype(precision)),
        matmul_precision(precision),
        torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"),
    ):
        yield
