"""``python -m benchmarks sh``: spherical harmonics by degree, ours against SciPy, e3nn and sphericart."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

from se3t.bench import sh
from se3t.bench.options import Options
from se3t.bench.report import Report
from se3t.bench.sh import Evaluate, Implementation
from se3t.errors import UserError, require_known


def _e3nn(max_degree: int) -> Evaluate:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its use of functions that torch deprecates
        from e3nn import o3
    return partial(o3.spherical_harmonics, list(range(max_degree + 1)), normalize=True, normalization="integral")


def _sphericart(max_degree: int) -> Evaluate:
    module: Any = importlib.import_module("sphericart.torch")
    harmonics: Evaluate = module.SphericalHarmonics(max_degree)
    return harmonics


IMPLEMENTATIONS: Mapping[str, Implementation] = {
    sh.OURS: sh.IMPLEMENTATIONS[sh.OURS],
    "sphericart": Implementation(_sphericart, is_polar_z=True),
    "e3nn": Implementation(_e3nn),
    "scipy": sh.IMPLEMENTATIONS["scipy"],
}
_PACKAGES = {"sphericart": "sphericart-torch", "e3nn": "e3nn"}


def run(
    options: Options, names: Sequence[str] = (), max_degree: int | None = None, num_vectors: int | None = None
) -> Report:
    """See :func:`se3t.bench.sh.run`.

    Raises:
        UserError: for an unknown implementation, or one that was named and is not installed.
    """
    chosen = require_known("implementation", names, IMPLEMENTATIONS) or [*IMPLEMENTATIONS]
    missing = {name: _PACKAGES[name] for name in chosen if name in _PACKAGES and find_spec(name) is None}
    for name, package in missing.items() if names else ():
        raise UserError(f"{name} needs the package {package}; install it: pip install 'se3t[bench]'")
    installed = {name: IMPLEMENTATIONS[name] for name in chosen if name not in missing}
    report = sh.run(options, (), max_degree, num_vectors, installed)
    report.notes += [
        f"{name} is left out: the package {package} is missing (pip install 'se3t[bench]')."
        for name, package in missing.items()
    ]
    return report
