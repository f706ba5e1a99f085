"""Compiles C sources of the package when they are first needed, and keeps the result for later runs."""

from __future__ import annotations

import atexit
import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from se3t.compiling import constant
from se3t.errors import UserError
from se3t.files import CACHE, cache_folder

SWITCH = "SE3T_NATIVE"
"""Environment variable: ``0`` keeps the compiled code out."""
REALS = {torch.float32: ("float", 4), torch.float64: ("double", 8)}

_HERE = Path(__file__).parent
_COMMON = ("-std=gnu11", "-O3", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden", "-fPIC", "-shared")
_TUNED = (("-march=native", "-fopenmp"), ("-mcpu=native", "-fopenmp"), ("-march=native",), ("-fopenmp",), ())
_TIMEOUT_SECONDS = 300
_ROOT = 0
_log = logging.getLogger(__name__)


class NativeUnavailableError(UserError):
    """Says why there is no compiled code."""


@dataclass(frozen=True)
class Library:
    """The compiled code of one folder: its ``native.c``, which includes the headers beside it and those shared by all.

    Attributes:
        name: of its files in the cache.
        folder: of its sources.
    """

    name: str
    folder: str

    def compiled(self, dtype: torch.dtype) -> ctypes.CDLL:
        """The code for float32 or float64.

        Raises:
            NativeUnavailableError: when it is switched off or cannot be compiled or loaded, with the reason.
        """
        return _loaded(self.name, self.folder, dtype)

    def unavailable(self, device: torch.device, dtype: torch.dtype = torch.float32) -> str | None:
        """Why the code cannot be used, or None where it can; compiles it if need be."""
        if device.type != "cpu":
            return f"it runs on a CPU, not on {device.type}"
        return _reason(self.name, self.folder, dtype)


@cache
def _loaded(name: str, folder: str, dtype: torch.dtype) -> ctypes.CDLL:
    if os.environ.get(SWITCH) == "0":
        raise NativeUnavailableError(f"it is switched off by {SWITCH}=0")
    if dtype not in REALS:
        raise NativeUnavailableError(f"it computes in float32 and float64, not in {dtype}")
    compiler, sources = _compiler(), Path(folder)
    real, size = REALS[dtype]
    path = _folder() / f"{name}-{real}-{_key(compiler, sources)}.so"
    try:
        if not path.exists():
            _compile(compiler, path, (f"-DREAL={real}", f"-DREAL_BYTES={size}", str(sources / "native.c")))
    except OSError as error:  # a full disk
        raise NativeUnavailableError(f"{path} cannot be written ({error})") from error
    try:
        loaded = ctypes.CDLL(str(path))
    except OSError as error:
        raise NativeUnavailableError(_not_loaded(path, error)) from error
    if not _is_ours(loaded, size):
        raise NativeUnavailableError(f"{path} is not what its name says; remove it to compile it again")
    return loaded


@constant
def _reason(name: str, folder: str, dtype: torch.dtype) -> str | None:
    try:
        _loaded(name, folder, dtype)
    except NativeUnavailableError as error:
        return str(error)
    return None


def _not_loaded(path: Path, error: OSError) -> str:
    if "not permitted" in str(error) or "failed to map segment" in str(error):
        return (
            f"{path.parent} does not allow compiled code to be loaded (its file system is mounted noexec, or a policy "
            f"forbids it); set {CACHE} to a folder on another file system"
        )
    return f"{path} cannot be loaded ({error}); remove it to compile it again"


def _is_ours(loaded: ctypes.CDLL, size: int) -> bool:
    try:
        return bool(loaded.real_bytes() == size)
    except AttributeError:  # a library without that function
        return False


def _compiler() -> tuple[str, ...]:
    """The words of the compiler's command: ``CC`` may hold options, or begin with ccache."""
    wanted = os.environ.get("CC", "").strip()
    commands = [[wanted], _words(wanted)] if wanted else [["cc"], ["gcc"], ["clang"]]
    for name, *options in commands:
        if path := shutil.which(name):
            return path, *options
    names = wanted or "cc, gcc, clang"
    raise NativeUnavailableError(f"no C compiler ({names}) is in PATH; install gcc or clang")


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command) or [command]
    except ValueError as error:
        raise NativeUnavailableError(
            f"CC={command} cannot be read ({error}); expected a command and options"
        ) from error


def _key(compiler: tuple[str, ...], sources: Path) -> str:
    """Changes with the sources, the flags, the compiler and the processor: a home folder may serve several machines."""
    digest = hashlib.sha256(repr((_COMMON, _TUNED, platform.machine(), _processor(), compiler[1:])).encode())
    digest.update(_output([*compiler, "--version"]).encode())
    for source in sorted([*_HERE.glob("*.h"), *sources.glob("*.h"), *sources.glob("*.c")]):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return "".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name", "CPU part"))}))


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NativeUnavailableError(f"{command[0]} does not run: {error}") from error
    return done.stdout


def _folder() -> Path:
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: a user without a home
        return _own_temporary_folder()
    reason = _reason_against(folder)
    if reason:
        _log.warning(
            "%s %s: the kernel is compiled for this process alone; set %s to another folder", folder, reason, CACHE
        )
    return _own_temporary_folder() if reason else folder


def _reason_against(folder: Path) -> str:
    """Why compiled code cannot be kept in a folder; "" where it can."""
    if folder.stat().st_uid not in (os.getuid(), _ROOT):
        return "belongs to another user"
    return "" if os.access(folder, os.W_OK) else "cannot be written"


@cache
def _own_temporary_folder() -> Path:
    """New for every process: what lies ready in a folder that others write to is not to be trusted."""
    folder = tempfile.mkdtemp(prefix="se3t-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _compile(compiler: tuple[str, ...], path: Path, arguments: tuple[str, ...]) -> None:
    _log.info("compiling %s (once for this machine)", path.name)
    message = ""
    for tuned in _TUNED:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".compile-") as folder:
            result = Path(folder) / path.name
            command = [*compiler, *_COMMON, *tuned, f"-I{_HERE}", *arguments, "-o", str(result), "-lm"]
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False)
            except (OSError, subprocess.TimeoutExpired) as error:
                raise NativeUnavailableError(f"{compiler[0]} does not run: {error}") from error
            if done.returncode == 0:
                result.replace(path)
                return
            lines = done.stderr.splitlines()
            message = next((line for line in lines if "error" in line), f"status {done.returncode}")
    raise NativeUnavailableError(f"{' '.join(compiler)} cannot compile it: {message}")
