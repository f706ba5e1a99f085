from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from se3t.allocator import SWITCH

_RESIDENT = """
import ctypes, sys
from se3t.allocator import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "keep" else False
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
before = resident()
block = ctypes.c_void_p(libc.malloc(ctypes.c_size_t(2**28)))
ctypes.memset(block, 1, 2**28)
libc.free(block)
print(kept, (resident() - before) / 2**28)
"""


def measure(word: str, **environment: str) -> tuple[str, float]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_", "SE3T_"))}
    done = subprocess.run(
        [sys.executable, "-c", _RESIDENT, word],
        capture_output=True,
        text=True,
        check=True,
        env={**clean, **environment},
    )
    kept, share = done.stdout.split()
    return kept, float(share)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_freed_memory_stays_with_the_process() -> None:
    assert measure("keep") == ("True", pytest.approx(1, abs=0.1))
    kept, share = measure("leave")
    assert kept == "False"
    assert share < 0.1


@pytest.mark.parametrize("own", [{SWITCH: "0"}, {"MALLOC_ARENA_MAX": "2"}])
def test_settings_of_the_user_stand(own: dict[str, str]) -> None:
    kept, share = measure("keep", **own)
    assert kept == "False"
    assert share < 0.1
