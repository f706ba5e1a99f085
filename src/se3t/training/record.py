"""Provenance of a run: versions, commit and command line, which its record keeps. Imports no torch."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "lightning", "torch-geometric", "numpy", "hydra-core", "e3nn")


def command_line() -> str:
    """The command this process was started with, ready to be pasted into a shell."""
    program = Path(sys.argv[0]).name
    return shlex.join(["se3t" if program == "__main__.py" else program, *sys.argv[1:]])


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of what the numbers depend on."""
    from se3t import __version__

    known = {"python": platform.python_version(), "se3t": __version__}
    for package in PACKAGES:
        try:
            known[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return known


def git_commit() -> str | None:
    """Commit of the checkout this package is imported from, with ``+`` when any tracked file of the checkout differs;
    None for an installed package.
    """
    package = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(package), *arguments], capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    if git("ls-files", "--error-unmatch", "__init__.py") is None:
        return None  # not a checkout, or a package installed inside somebody else's repository
    commit = git("rev-parse", "HEAD")
    return f"{commit}+" if commit and git("status", "--porcelain", "--untracked-files=no") else commit


def provenance(**facts: Any) -> dict[str, Any]:
    """Versions, commit, command line, number of processors; no name of a host or a user."""
    return {
        "versions": versions(),
        "git_commit": git_commit(),
        "command": command_line(),
        "machine": platform.machine(),
        "system": platform.system(),
        "cpu_count": os.cpu_count(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        **facts,
    }
