"""The tests of a GPU run on the CPU, too: some of them here, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CHOSEN = (
    "(gaps-degree_out and (triton or auto) and float64) or values_and_gradients_are_those_of_the_cpu and tfn-float32"
)


@pytest.mark.e2e
@pytest.mark.usefixtures("interpreter")
def test_tests_for_a_gpu_pass_on_the_cpu() -> None:
    """Interpreted where they are for Triton; all files of the folder are loaded."""
    unset = ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "TRITON_INTERPRET")
    kept = {name: value for name, value in os.environ.items() if name not in unset}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", "gpu", "tests/gpu", "-k", CHOSEN]
    done = subprocess.run(
        command,
        env={**kept, "SE3T_TEST_DEVICE": "cpu", "PYTHONPATH": str(ROOT / "src")},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
    assert "skipped" not in done.stdout
