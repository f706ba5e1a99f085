"""The compiled code of this folder: convolutions, attention, linear maps, norm nonlinearities."""

from __future__ import annotations

from pathlib import Path

import torch

from se3t.native.compiler import Library, NativeUnavailableError

_LIBRARY = Library("native", str(Path(__file__).parent))
compiled, unavailable = _LIBRARY.compiled, _LIBRARY.unavailable


def require(device: torch.device, dtype: torch.dtype) -> None:
    """Make sure that there is compiled code for such tensors.

    Raises:
        NativeUnavailableError: when there is none, with the reason.
    """
    reason = unavailable(device, dtype)
    if reason is not None:
        raise NativeUnavailableError(f"kernel 'native': {reason}; use kernel='auto', which takes the next best")
