"""What the command line asks of the C library's allocator: to keep freed memory for the next step."""

from __future__ import annotations

import ctypes
import os
import platform

SWITCH = "SE3T_KEEP_MEMORY"
"""Environment variable: ``0`` leaves the allocator as it is."""
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # names of mallopt(3), in glibc's malloc.h
_TOP_PAD_BYTES = 64 * 2**20


def keep_freed_memory() -> bool:
    """Let freed memory stay with this process: a training step frees and asks for the same large blocks all the time.

    Otherwise glibc returns each of them to the system, which clears every page again. The process holds on to the most
    that it ever needed. A no-op without glibc, where the user has set ``MALLOC_…`` or ``GLIBC_TUNABLES`` himself, and
    with ``SE3T_KEEP_MEMORY=0``. For a program and not for a library to decide.

    Returns:
        Whether the allocator was set.
    """
    user_set = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    if user_set or os.environ.get(SWITCH) == "0" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, _TOP_PAD_BYTES))
    accepted = [mallopt(name, value) == 1 for name, value in settings]
    return all(accepted)
