"""The wheel carries command and configuration to any directory; `make install` sets up and then answers at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.e2e

_ROOT = Path(__file__).resolve().parents[1]
_LARGEST = 12 * 10**6  # bytes of the wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(_ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("se3t-*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of commands of a bare environment that holds the wheel; what it depends on comes from this environment."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    scripts = folder / "bin"
    python = scripts / "python"
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    paths = {"base": str(folder), "platbase": str(folder)}
    packages = Path(sysconfig.get_path("purelib", vars=paths))
    # After the environment's own packages, so that a checkout of se3t in this environment cannot come first.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return scripts


def test_the_wheel_carries_the_sources_of_the_compiled_kernel(wheel: Path) -> None:
    sources = [path.relative_to(_ROOT / "src") for path in (_ROOT / "src").rglob("*.[ch]")]
    assert sources
    with zipfile.ZipFile(wheel) as archive:
        assert {str(path) for path in sources} <= set(archive.namelist())


def test_wheel_holds_configuration_types_and_licence(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    configuration = {path.relative_to(_ROOT).as_posix() for path in (_ROOT / "conf").rglob("*.yaml")}
    assert {f"se3t/{name}" for name in configuration} <= set(names)
    numbers = {f"se3t/reporting/published_numbers/{name}.yaml" for name in ("table1", "table2", "table3", "egnn")}
    assert numbers <= set(names)
    assert {"se3t/py.typed", "se3t/data/qm9/uncharacterized.txt"} <= set(names)
    models = [path for path in (_ROOT / "src" / "se3t" / "pretrained").rglob("*/*") if "__pycache__" not in path.parts]
    assert "se3t/pretrained/qm9/model.safetensors" in names
    assert {path.relative_to(_ROOT / "src").as_posix() for path in models} <= set(names)
    assert wheel.stat().st_size < _LARGEST
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not any(name.startswith(("tests", "data", "runs")) for name in names)


def test_installed_command_works_from_any_directory(installed: Path, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    program = str(installed / "se3t")
    assert "usage: se3t" in run(program, "--help")
    config = yaml.safe_load(run(program, "train", "model=tfn", "preset=smoke", "--cfg", "job"))
    assert (config["model"]["name"], config["trainer"]["max_steps"]) == ("tfn", 4)
    code = "import se3t.config as c; print(c.conf_dir())"
    folder = Path(run(str(installed / "python"), "-c", code).strip())
    assert folder.is_relative_to(installed.parent.resolve())
    table = run(program, "table", "1", "--markdown")
    assert all(text in table for text in ("Set Transformer", "0.0139", "se3t table 1 --run"))
    assert list(tmp_path.iterdir()) == []
    run(program, "report", "--out", "report.html")
    assert "Set Transformer" in (tmp_path / "report.html").read_text()


_FAKE_PYTHON = """\
#!/bin/sh
# Stands in for Python: answers the question about its version, makes a folder like venv does, notes what pip is asked.
case "$1" in
  --version) echo "Python {version}";;
  -c) exit {too_old};;
  -m) case "$2" in
        venv) mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; cp "$0" "$3/bin/pip";;
        pip) echo "$@" >> pip.log;;
      esac;;
esac
"""


def _make(folder: Path, version: str, too_old: int, target: str) -> subprocess.CompletedProcess[str]:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        if not (folder / name).exists():
            shutil.copy2(_ROOT / name, folder / name)
    python = folder / "python-for-make"
    python.write_text(_FAKE_PYTHON.format(version=version, too_old=too_old))
    python.chmod(0o755)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    return subprocess.run(
        ["make", "--no-print-directory", target, f"PYTHON={python}"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_install_installs_once_and_again_when_requirements_change(tmp_path: Path) -> None:
    assert _make(tmp_path, "3.12.1", 0, "install").returncode == 0
    log = tmp_path / "pip.log"
    (line,) = log.read_text().splitlines()
    assert ".[dev]" in line
    assert "-c constraints.txt" in line
    assert _make(tmp_path, "3.12.1", 0, "install").returncode == 0
    assert len(log.read_text().splitlines()) == 1
    stamp = (tmp_path / ".venv" / ".installed").stat().st_mtime
    os.utime(tmp_path / "pyproject.toml", (stamp + 5, stamp + 5))
    assert _make(tmp_path, "3.12.1", 0, "install").returncode == 0
    assert len(log.read_text().splitlines()) == 2


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_an_old_python_is_refused_in_words(tmp_path: Path) -> None:
    done = _make(tmp_path, "3.9.2", 1, "train")
    assert done.returncode != 0
    assert "needs Python 3.11 or newer" in done.stderr
    assert "Python 3.9.2" in done.stderr
    assert "make train PYTHON=" in done.stderr
    assert not (tmp_path / ".venv").exists()


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_help_lists_the_habits(tmp_path: Path) -> None:
    out = _make(tmp_path, "3.12.1", 0, "help").stdout
    for target in ("install", "train", "test", "lint", "bench", "tables", "clean"):
        assert f"  make {target} " in out
