"""``se3t doctor``: what is installed, found and possible on this machine."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shlex
import tomllib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from se3t import __version__, pretrained
from se3t.cli.options import Parser
from se3t.config import conf_dir
from se3t.errors import UserError
from se3t.experiments import DataSet, experiments
from se3t.screen import show

_PACKAGE = Path(__file__).resolve().parents[1]
_NVIDIA = Path("/proc/driver/nvidia/version")
_TRAINS_WITHOUT = {
    "matplotlib": "no figures can be drawn",
    "rdkit": "molecules cannot be read from raw files; prepared data can be trained on",
    "scipy": "molecules of your own cannot be prepared, se3t bench sh has nothing to compare with",
    "wandb": "runs are recorded on disk only",
}
"""Packages that training on prepared data does not import, and what is not possible without them."""


def run(arguments: Sequence[str]) -> int:
    """Print the findings.

    Returns:
        0, or 1 when a package that training needs is missing.
    """
    parser = Parser("doctor")
    parser.add_argument("--root", type=Path, default=Path("data"))
    root: Path = parser.parse_args(list(arguments)).root
    packages = _packages("")
    missing = [name for name, version in packages if version is None and name not in _TRAINS_WITHOUT]
    sections = {
        "installation": _installation(),
        "packages": [f"{name} {version or _missing(name)}" for name, version in packages],
        "optional packages": list(_extras()),
        "devices": list(_devices()) if "torch" not in missing else ["torch is missing: no device can be used"],
        "trained models": [", ".join(pretrained.names()) or "none in this package"],
        "data": list(_data(root)),
        "Weights & Biases": [wandb_state()],
    }
    for title, lines in sections.items():
        show(f"{title}\n  " + "\n  ".join(lines))
    if missing:
        show(f"\nmissing: {', '.join(missing)}; install them again with: make install")
    return 1 if missing else 0


def _installation() -> list[str]:
    return [
        f"se3t {__version__} from {_PACKAGE}",
        f"configuration in {conf_dir()}",
        f"Python {platform.python_version()} on {platform.system()} {platform.machine()}",
    ]


def _missing(name: str) -> str:
    return f"MISSING: {_TRAINS_WITHOUT[name]}" if name in _TRAINS_WITHOUT else "MISSING"


def _packages(extra: str) -> list[tuple[str, str | None]]:
    """Names and versions (None: not installed) of the packages of an extra; those always needed for the empty name."""
    versions: list[tuple[str, str | None]] = []
    for requirement in _requirements().get(extra, []):
        distribution = re.split(r"[\s<>=!~\[(;]", requirement.strip(), maxsplit=1)[0]
        versions.append((distribution, _version(distribution)))
    return versions


def _requirements() -> dict[str, list[str]]:
    """By extra, "" for those always needed: of the installed package, or of a checkout that runs uninstalled."""
    try:
        metadata = importlib.metadata.metadata("se3t")
    except importlib.metadata.PackageNotFoundError:
        project = tomllib.loads((conf_dir().parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        return {"": project["dependencies"], **project["optional-dependencies"]}
    by_extra: dict[str, list[str]] = {extra: [] for extra in ("", *metadata.get_all("Provides-Extra", []))}
    for requirement in metadata.get_all("Requires-Dist", []):
        of = re.search(r"extra == ['\"](\w+)['\"]", requirement)
        by_extra[of[1] if of else ""].append(requirement)
    return by_extra


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _extras() -> Iterator[str]:
    for extra in filter(None, _requirements()):
        packages = _packages(extra)
        missing = [name for name, version in packages if version is None]
        if missing:
            what = "se3t" if conf_dir().parent == _PACKAGE else "-e ."  # beside the package: a checkout
            yield f"{extra}: {', '.join(missing)} missing; install with: pip install {what}'[{extra}]'"
        else:
            yield f"{extra}: {', '.join(f'{name} {version}' for name, version in packages)}"


def _devices() -> Iterator[str]:
    import torch

    yield f"CPU: {os.cpu_count()} processors, {torch.get_num_threads()} threads of torch"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about an old driver; cuda_state explains it
        available = torch.cuda.is_available()
    driver = _NVIDIA.read_text(encoding="utf-8") if _NVIDIA.exists() else None
    yield cuda_state(torch.version.cuda, available, driver)
    for index in range(torch.cuda.device_count() if available else 0):
        properties = torch.cuda.get_device_properties(index)
        yield f"GPU {index}: {properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    yield from _kernels(torch.device("cuda" if available else "cpu"))
    if torch.backends.mps.is_available():
        yield "MPS: present, not used by this program"


def _kernels(device: Any) -> Iterator[str]:
    """Which kernel ``auto`` takes on a CPU and, where there is one, a GPU, and why; there also the tile sizes."""
    import torch

    from se3t.nn.kernels import auto, tilings

    for place in dict.fromkeys((torch.device("cpu"), device)):
        yield f"kernel on {place.type}: {auto.describe(place)}"
    if device.type == "cuda":
        file = tilings.source_of(tilings.name_of(device))
        yield f"tile sizes of kernel triton: {file or 'defaults, not timed; python -m benchmarks tiles measures them'}"


def cuda_state(built_for: str | None, available: bool, driver: str | None) -> str:
    """Whether torch can use an NVIDIA GPU; if not, why, and what to do.

    Args:
        built_for: CUDA version torch was built for, or None.
        available: what ``torch.cuda.is_available()`` says: False, without a reason, also where the driver is too old.
        driver: text of the kernel driver about itself, or None where there is no driver.
    """
    if available:
        return f"CUDA: usable; torch is built for CUDA {built_for}"
    if built_for is None:
        advice = "; for the GPU of this machine install a CUDA build of torch" if driver else ""
        return f"CUDA: not usable: this torch is built for CPU only{advice}"
    if driver is None:
        return f"CUDA: not usable: no NVIDIA driver is loaded; torch is built for CUDA {built_for}"
    version = re.search(r"\b(\d{3,}(?:\.\d+)+)\b", driver)
    return (
        f"CUDA: not usable, although an NVIDIA driver ({version[1] if version else 'version unknown'}) is loaded. "
        f"Usually the driver is too old for CUDA {built_for}, which this torch is built for: update the driver, or "
        "install a torch built for an older CUDA. A GPU hidden by CUDA_VISIBLE_DEVICES looks the same"
    )


def _data(root: Path) -> Iterator[str]:
    known = dict(_default_data(root))
    for path, (name, data) in sorted(known.items(), key=lambda entry: entry[1][0]):
        if not path.exists():
            how = "" if data.needs else "training prepares it, or: "
            arguments = shlex.join([f"data.root={root}"]) + (f" {data.needs}" if data.needs else "")
            yield f"{name}: not prepared ({path}); {how}se3t data prepare {data.name} {arguments}"
    stores = sorted(root.rglob("*.h5")) if root.is_dir() else []
    for path in stores:
        note = f" ({known[path][0]})" if path in known else ""
        yield f"{path}, {path.stat().st_size / 2**20:.1f} MiB{note}"
    for part in sorted(root.rglob("*.part")) if root.is_dir() else []:
        yield f"{part}, {part.stat().st_size / 2**20:.1f} MiB of an interrupted download; preparing continues it"
    if not stores:
        yield f"no store in {root.resolve()}"


def _default_data(root: Path) -> Iterator[tuple[Path, tuple[str, DataSet]]]:
    """By file the data that each experiment is trained on unless told; none for those that are your own."""
    for entry in experiments().values():
        data = entry.datasets[0]
        if "root" not in vars(data.schema()):  # made by the task, without a file
            continue
        with suppress(UserError):  # own data are where a setting says
            yield data.store_path(data.schema(root=str(root))), (entry.title, data)


def wandb_state() -> str:
    """Where Weights & Biases would write with ``logger.wandb=auto``."""
    if importlib.util.find_spec("wandb") is None:
        return "not installed: runs are recorded on disk only"
    from se3t.training.loggers import wandb_mode

    mode, why = wandb_mode("auto"), f" (WANDB_MODE={os.environ['WANDB_MODE']})" if os.environ.get("WANDB_MODE") else ""
    return {
        "online": f"online: runs go to the server{why}",
        "offline": f"offline: runs are kept in their folder{why or '; log in with: wandb login'}",
        "disabled": f"disabled: runs are recorded on disk only{why}",
    }[mode]
