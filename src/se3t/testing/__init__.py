"""Public testing tools: equivariance errors, a contract for models, and negative controls."""

from se3t.testing.contract import ModelContract
from se3t.testing.controls import CONTROLS, Control
from se3t.testing.equivariance import (
    TRANSFORMS,
    assert_equivariant,
    equivariance_error,
    equivariance_error_per_channel,
)

__all__ = [
    "CONTROLS",
    "TRANSFORMS",
    "Control",
    "ModelContract",
    "assert_equivariant",
    "equivariance_error",
    "equivariance_error_per_channel",
]
