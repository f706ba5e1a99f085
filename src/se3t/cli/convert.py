"""``se3t convert``."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from se3t.cli.options import Parser, require_new
from se3t.config.explain import not_yaml
from se3t.errors import UserError
from se3t.screen import show

CODES = {"authors": "se3t.compat.authors", "nvidia": "se3t.compat.nvidia.loading"}
"""By released code: the module whose ``load`` builds its model."""


def parser() -> Parser:
    """The flags of ``se3t convert``."""
    parser = Parser("convert")
    parser.add_argument("weights", type=Path)
    parser.add_argument("--from", dest="code", choices=CODES, required=True)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--couplings", type=Path)
    parser.add_argument("--prefix", default="")
    parser.add_argument("--force", action="store_true")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Write the model that some released weights belong to as a file of this library."""
    given = parser().parse_args(list(arguments))
    require_new("--to", given.to, [given.weights], given.force)
    given_config = {} if given.config is None else read_config(given.config)

    from se3t.compat.converted import save_model
    from se3t.compat.weights import read_weights

    file = read_weights(given.weights, given.prefix)
    couplings = _couplings(given.couplings, file.extra)
    config = {**_of_the_model(given.code, file.state_dict, file.config), **given_config}
    load = import_module(CODES[given.code]).load
    converted = load(file.state_dict, config, couplings=couplings, source=str(given.weights))
    origin = {
        "code": given.code,
        "file": str(given.weights),
        "sha256": hashlib.sha256(given.weights.read_bytes()).hexdigest(),
        "config": _plain(config),
    }
    save_model(given.to, converted, origin)
    _report(given.to, converted)
    return 0


def read_config(path: Path) -> dict[str, Any]:
    """A YAML file with constructor arguments of a released class.

    Raises:
        UserError: when it is missing or is not a mapping in YAML.
    """
    import yaml

    if not path.is_file():
        raise UserError(f"{path}: there is no such file; expected constructor arguments in YAML, such as num_heads: 8")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise not_yaml(error, path, "constructor arguments by name, such as num_heads: 8") from error
    if not isinstance(content, dict):
        kind = "nothing" if content is None else f"a {type(content).__name__}"
        raise UserError(f"{path}: holds {kind}; expected constructor arguments by name, such as num_heads: 8")
    return {str(name): value for name, value in content.items()}


def _couplings(path: Path | None, extra: Mapping[str, Any]) -> Any:
    """Clebsch–Gordan matrices by (J, d_in, d_out): of a file, or of the file of the weights."""
    from se3t.compat.weights import read_file

    matrices = extra.get("Q_J") if path is None else read_file(path)
    if isinstance(matrices, Mapping) and isinstance(matrices.get("Q_J"), Mapping):
        matrices = matrices["Q_J"]
    if matrices is not None and not isinstance(matrices, Mapping):
        raise UserError(f"Q_J is a {type(matrices).__name__}; expected matrices by (J, d_in, d_out)")
    return matrices


def _of_the_model(code: str, state: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the model in the configuration that a training script saved with the weights."""
    if code == "authors":
        from se3t.compat import authors

        known = (*authors.fields(state), "cls") if authors.recognises(state) else ()
    else:
        from se3t.compat.nvidia.architecture import FIELDS

        known = tuple(FIELDS)
    return {name: value for name, value in config.items() if name in known}


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in config.items()}


def _report(path: Path, converted: Any) -> None:
    model = converted.model
    count = sum(parameter.numel() for parameter in model.parameters())
    show(f"{path}: {type(model).__name__}, {model.fiber_in} -> {model.fiber_hidden} -> {model.fiber_out}")
    show(f"{count:,} parameters, {len(model.layers)} layers, {next(model.parameters()).dtype}".replace("torch.", ""))
    show(f"in Python: from se3t.compat import load_model; model = load_model({str(path)!r})")
