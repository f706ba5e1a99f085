"""Models of the authors' released code (``equivariant_attention``), as models of this library.

Four classes are known: ``SE3Transformer`` and ``TFN`` of its N-body and of its QM9 experiment. What differs from this
library, all of it expressed by options of our layers:

- relative positions point the other way, d = x_i − x_j, and harmonics carry (−1)^J; together W is the same function;
- the Clebsch–Gordan matrices Q_J come out of a singular value decomposition, whose signs are not reproducible: weights
  have a meaning only together with the Q_J they were trained with;
- TFN layers take the mean over the neighbours, and add the self term to every message (isolated nodes get zero) or, for
  the N-body TFN, let it mix the messages;
- keys and values have radial networks of their own, one for each pair of degrees.

Source: https://github.com/FabianFuchsML/se3-transformer-public, commit a9010df.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from se3t.compat.mapping import AFFINE, TWO_LINEAR, Converted, RadialNames, Signs, WeightMap, signs_of
from se3t.compat.models import model_from_arguments
from se3t.compat.settings import checked, choice, first_name, number, readable, require, require_heads, whole
from se3t.errors import UserError
from se3t.fiber import Fiber
from se3t.nn import EquivariantConv, SE3AttentionBlock

RADIAL = RadialNames(("0", "3", "6"), ("1.bn", "4.bn"))
MIN_NORM = 1e-12
CLASSES = {
    "nbody_se3_transformer": "experiments.nbody.nbody_models.SE3Transformer",
    "nbody_tfn": "experiments.nbody.nbody_models.TFN",
    "qm9_se3_transformer": "experiments.qm9.models.SE3Transformer",
    "qm9_tfn": "experiments.qm9.models.TFN",
}
_SIZES = ("num_layers", "num_channels", "num_degrees")
_COMMON = {**dict.fromkeys(_SIZES, whole()), "div": number(), "n_heads": whole()}
_SELF_INTERACTION = choice("1x1", "att")
_NBODY = {**_COMMON, "si_m": _SELF_INTERACTION, "si_e": _SELF_INTERACTION, "x_ij": choice("add", "cat", None)}
_QM9 = {**_COMMON, "pooling": choice("avg", "max"), "atom_feature_size": whole(), "num_nlayers": whole(0)}
_QM9 |= {"edge_dim": whole(0)}
_FIELDS = {kind: _NBODY if kind.startswith("nbody") else _QM9 for kind in CLASSES}  # TFNs accept more than they use
_DEFAULTS: dict[str, dict[str, Any]] = {
    "nbody_se3_transformer": {"si_m": "1x1", "si_e": "att", "edge_dim": 1},
    "nbody_tfn": {"edge_dim": 1},
    "qm9_se3_transformer": {"edge_dim": 4},
    "qm9_tfn": {"edge_dim": 4, "norm_layers": 1},
}
_WORDS = {
    "num_layers": "number of layers",
    "num_channels": "channels of each degree",
    "num_degrees": "degrees 0 to num_degrees - 1",
    "n_heads": "attention heads",
    "x_ij": "add, or null for none",
    "pooling": "avg or max",
    "Q_J": "the Clebsch-Gordan matrices of their training, {(J, d_in, d_out): matrix}, with --couplings",
}


def load(
    state_dict: Mapping[str, Tensor],
    config: Mapping[str, Any] | None = None,
    *,
    couplings: Mapping[Any, Tensor] | None = None,
    source: str = "weights",
    kernel: str = "auto",
) -> Converted:
    """The equal model of this library.

    Args:
        state_dict: weights under the names of the authors' code.
        config: constructor arguments of their class, for what shapes do not show: ``n_heads``; ``x_ij`` (N-body) unless
            it is ``cat``; ``pooling`` (QM9). Others are checked against the weights. ``cls`` may name the class.
        couplings: the matrices Q_J by (J, d_in, d_out), ``[(2 d_out + 1)(2 d_in + 1), 2J + 1]``.
        source: where the weights come from, for errors.
        kernel: implementation of the convolutions, see :mod:`se3t.nn.kernels`.

    Raises:
        UserError: listing the fields that are missing, or naming the first parameter that does not fit.
    """
    given = dict(config or {})
    kind = _kind(state_dict, given.pop("cls", None), source)
    with readable(source):
        known = _read_off(state_dict, kind)
    settings = _settings(known, kind, given, couplings, source)
    converted = _build(kind, settings, couplings or {}, source, kernel)
    converted.weights.check(state_dict, source)
    converted.weights.load(converted.model, state_dict)
    return converted


def build(
    config: Mapping[str, Any], couplings: Mapping[Any, Tensor], *, kernel: str = "auto", radial_hidden: int = 32
) -> Converted:
    """The model that their class makes of a configuration, with random weights.

    Args:
        config: ``cls``, such as ``experiments.nbody.nbody_models.TFN``, and its constructor arguments.
        couplings: the matrices Q_J that the weights shall go with.
        kernel: implementation of the convolutions.
        radial_hidden: width of the radial networks, which their classes fix at 32.

    Raises:
        UserError: for an unknown class, a missing argument or one that it does not take.
    """
    given = dict(config)
    cls = str(given.pop("cls", ""))
    kind = next((word for word, name in CLASSES.items() if name == cls), None)
    if kind is None:
        raise UserError(f"cls={cls}: expected one of {', '.join(CLASSES.values())}")
    settings = _settings({**_DEFAULTS[kind], "radial_hidden": radial_hidden}, kind, given, couplings, cls)
    return _build(kind, settings, couplings, cls, kernel)


def _build(kind: str, settings: dict[str, Any], couplings: Mapping[Any, Tensor], source: str, kernel: str) -> Converted:
    signs = signs_of(couplings, settings["num_degrees"] - 1, source)
    name, arguments = _arguments(kind, settings, kernel)
    model = model_from_arguments(name, arguments)
    weights = _layout(kind, settings, model, signs)
    return Converted(model.eval(), weights, name, arguments, {"cls": CLASSES[kind], **settings})


def fields(state_dict: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The fields that a configuration of these weights may have."""
    return tuple(_FIELDS[_kind(state_dict, None, "weights")])


# --- which model ------------------------------------------------------------------------------------------------------


def recognises(state_dict: Iterable[str]) -> bool:
    """Whether parameter names are those of the authors' code."""
    return any(re.match(r"(Gblock|block0)\.\d+\.(GMAB|kernel_unary)\.", name) for name in state_dict)


def _kind(state: Mapping[str, Tensor], cls: str | None, source: str) -> str:
    if not recognises(state):
        raise UserError(
            f"{source}: not weights of the authors' code: expected parameters named Gblock.0… or block0.0…, "
            f"{first_name(state)}"
        )
    if any(name.startswith("block0.") for name in state):
        kind = "qm9_tfn"
    elif not any(".GMAB." in name for name in state):
        kind = "nbody_tfn"
    else:
        kind = "qm9_se3_transformer" if any(name.startswith("FCblock.") for name in state) else "nbody_se3_transformer"
    if cls not in (None, CLASSES[kind], CLASSES[kind].rpartition(".")[2]):
        raise UserError(f"{source}: the weights are those of {CLASSES[kind]}, the configuration says cls={cls}")
    return kind


def _settings(
    known: Mapping[str, Any], kind: str, config: Mapping[str, Any], couplings: object, source: str
) -> dict[str, Any]:
    settings = {**known, **checked(config, _FIELDS[kind], source)}
    wanted = [*_SIZES] if couplings is not None else [*_SIZES, "Q_J"]
    if kind.endswith("se3_transformer"):
        wanted += ["n_heads", "x_ij" if kind.startswith("nbody") else "pooling"]
    require(settings, {name: _WORDS[name] for name in wanted}, source)
    if kind == "qm9_tfn" and "num_nlayers" in config:
        settings["norm_layers"] = config["num_nlayers"]
    if "div" in config or (kind.endswith("se3_transformer") and "mid_channels" not in settings):
        settings["mid_channels"] = int(settings["num_channels"] // config.get("div", 4))
    if kind.endswith("se3_transformer"):
        middle = Fiber.uniform(settings["num_degrees"], settings["mid_channels"])
        require_heads(settings["n_heads"], middle, source)
    return settings


def _read_off(state: Mapping[str, Tensor], kind: str) -> dict[str, Any]:
    """Settings that follow from names and shapes; damaged weights yield fewer, and are refused later."""
    root = "block0" if kind == "qm9_tfn" else "Gblock"
    last = max(int(name.split(".")[1]) for name in state if name.startswith(f"{root}."))
    known: dict[str, Any] = {"num_layers": last // 2 + (0 if kind.endswith("se3_transformer") else 1)}
    norms = {re.sub(rf"{root}\.1\.(bias|transform)\.", "", name): name for name in state if _is_norm(name, root)}
    degrees = {int(name.split(".")[0]) for name in norms}
    if degrees:
        known["num_degrees"] = len(degrees)
        known["num_channels"] = state[next(iter(norms.values()))].shape[-1]
        known["norm_layers"] = sum(name.startswith("0.") and state[norms[name]].dim() == 2 for name in norms)
        known["norm_layers"] *= kind.startswith("qm9")
    first = next(value for name, value in state.items() if name.endswith(".rp.net.0.weight"))
    known["radial_hidden"], known["edge_dim"] = first.shape[0], first.shape[1] - 1
    if kind.startswith("qm9"):
        source = state.get(f"{root}.0.GMAB.q.transform.0", state.get(f"{root}.0.kernel_self.0"))
        if source is not None:
            known["atom_feature_size"] = source.shape[-1]
    if kind.endswith("se3_transformer"):
        known |= _read_off_attention(state, kind)
    return known


def _is_norm(name: str, root: str) -> bool:
    return re.match(rf"{root}\.1\.(bias\.\d+$|transform\.\d+\..*weight$)", name) is not None


def _read_off_attention(state: Mapping[str, Tensor], kind: str) -> dict[str, Any]:
    known: dict[str, Any] = {}
    degree_in = 1 if kind.startswith("nbody") else 0
    query = state.get(f"Gblock.0.GMAB.q.transform.{degree_in}")
    if query is not None:
        known["mid_channels"] = query.shape[0]
    blocks = sorted({int(name.split(".")[1]) for name in state if ".GMAB." in name})
    for field, block in (("si_m", blocks[0]), ("si_e", blocks[-1])):
        attentive = any(re.match(rf"Gblock\.{block}\.project\.transform\.\d+\.\d", name) for name in state)
        known[field] = "att" if attentive else "1x1"
    value = state.get("Gblock.0.GMAB.v.kernel_unary.(1,0).rp.net.6.weight")
    if kind.startswith("nbody") and value is not None and query is not None and value.shape[0] == 2 * query.shape[0]:
        known["x_ij"] = "cat"
    return known


# --- the equal model --------------------------------------------------------------------------------------------------


def _arguments(kind: str, settings: Mapping[str, Any], kernel: str) -> tuple[str, dict[str, Any]]:
    """Name and constructor arguments of our model, as plain values."""
    hidden = Fiber.uniform(settings["num_degrees"], settings["num_channels"])
    attention, nbody = kind.endswith("se3_transformer"), kind.startswith("nbody")
    invariant = settings["num_channels"] * settings["num_degrees"]
    common: dict[str, Any] = {
        "fiber_hidden": repr(hidden),
        "num_edge_scalars": settings.get("edge_dim", 1),
        "num_layers": settings["num_layers"] + int(attention),
        "norm": "bias" if nbody else "layer",
        "norm_options": {"min_norm": MIN_NORM},
        "radial_hidden": settings.get("radial_hidden", 32),
        "kernel": kernel,
    }
    if nbody:
        common |= {"fiber_in": "1x1" if attention else "1x0+1x1", "fiber_out": "2x1"}
    else:
        common |= {"fiber_in": f"{settings.get('atom_feature_size', 6)}x0", "fiber_out": "1x0"}
        common |= {"fiber_last": f"{invariant}x0", "head": True}
        common["pooling"] = "mean" if attention and settings["pooling"] == "avg" else "max"
        common["norm_options"] |= {"num_layers": settings.get("norm_layers", 0)}
    if not attention:
        self_term = {"self_interaction": "message" if nbody else "per_edge", "self_interaction_bias": False}
        return "tfn", common | self_term | {"reduce": "mean"}
    common |= {"fuse_key_value": False, "last": "attention" if nbody else "convolution"}
    return "se3_transformer", common | _attention_options(nbody, hidden, settings)


def _attention_options(nbody: bool, hidden: Fiber, settings: Mapping[str, Any]) -> dict[str, Any]:
    middle = {
        "num_heads": settings["n_heads"],
        "fiber_value": repr(Fiber(dict.fromkeys(hidden, settings["mid_channels"]))),
        "self_interaction": _self_interaction(settings.get("si_m", "1x1")),
    }
    last: dict[str, Any] = {"reduce": "mean", "self_interaction": "per_edge"}
    options: dict[str, Any] = {}
    if nbody:
        last = {"num_heads": min(settings["n_heads"], 2), "fiber_value": "2x1"}
        last["self_interaction"] = _self_interaction(settings.get("si_e", "att"))
    if nbody and settings["x_ij"] is not None:
        options = {"relative_position": "to_target", "edge_mode": settings["x_ij"]}
    return options | {"layer_options": [*[middle] * settings["num_layers"], last]}


def _self_interaction(word: str) -> str:
    return "attentive_softmax" if word == "att" else "linear"


# --- where the weights go ---------------------------------------------------------------------------------------------


def _layout(kind: str, settings: Mapping[str, Any], model: nn.Module, signs: Signs) -> WeightMap:
    weights = WeightMap(model)
    weights.aliases = {"enc.": "Gblock."} if kind == "nbody_tfn" else {}  # their class has the list under two names
    root = "block0" if kind == "qm9_tfn" else "Gblock"
    layers: Any = model.layers
    for index, layer in enumerate(layers):
        theirs, ours = f"{root}.{2 * index}", f"layers.{index}"
        weights.layers[theirs] = ours
        if isinstance(layer, SE3AttentionBlock):
            _block(weights, theirs, ours, layer, signs)
        else:
            _convolution(weights, theirs, ours, layer, signs)
        if index < len(layers) - 1:
            weights.layers[f"{root}.{2 * index + 1}"] = f"norms.{index}"
            _norm(weights, f"{root}.{2 * index + 1}", f"norms.{index}", model.fiber_hidden, settings)  # type: ignore[arg-type]
    if kind.startswith("qm9"):
        weights.layers["block1.0" if kind == "qm9_tfn" else f"{root}.{2 * len(layers) - 1}"] = "readout.pooling"
        head = "block2" if kind == "qm9_tfn" else "FCblock"
        weights.head(head)
    return weights


def _block(weights: WeightMap, theirs: str, ours: str, block: SE3AttentionBlock, signs: Signs) -> None:
    for index, part in enumerate(("v", "k")):
        conv: Any = block.value_key[index]
        _kernels(weights, f"{theirs}.GMAB.{part}", f"{ours}.value_key.{index}", conv, signs)
    weights.linear(f"{theirs}.GMAB.q.transform", f"{ours}.query", block.query.fiber_out)
    self_interaction = f"{ours}.self_interaction"
    if f"{self_interaction}.mlp.{block.fiber_out.degrees[0]}.0.weight" in weights.ours:
        for degree in block.fiber_out:
            weights.network(f"{theirs}.project.transform.{degree}", f"{self_interaction}.mlp.{degree}", TWO_LINEAR)
    else:
        weights.linear(f"{theirs}.project.transform", self_interaction, block.fiber_out)


def _convolution(weights: WeightMap, theirs: str, ours: str, conv: EquivariantConv, signs: Signs) -> None:
    _kernels(weights, theirs, ours, conv, signs)
    if conv.self_interaction is not None:
        weights.linear(f"{theirs}.kernel_self", f"{ours}.self_interaction", conv.self_interaction.fiber_out, (1,))


def _kernels(weights: WeightMap, theirs: str, ours: str, conv: EquivariantConv, signs: Signs) -> None:
    for k in conv.radial.fiber_in:
        for l in conv.fiber_out:
            weights.radial(f"{theirs}.kernel_unary.({k},{l}).rp.net", ours, conv, [(l, k)], RADIAL, signs)


def _norm(weights: WeightMap, theirs: str, ours: str, fiber: Fiber, settings: Mapping[str, Any]) -> None:
    for degree, channels in fiber.items():
        if f"{ours}.bias.{degree}" in weights.ours:
            weights.same(f"{theirs}.bias.{degree}", f"{ours}.bias.{degree}", (1, channels))
            continue
        number = settings.get("norm_layers", 0)
        for layer in range(max(number, 1)):
            our_norm = f"{ours}.norm.{degree}" if number == 0 else f"{ours}.norm.{degree}.{layer}"
            norm = our_norm if number == 0 else f"{our_norm}.0"
            weights.network(f"{theirs}.transform.{degree}.{3 * layer}.bn", norm)
            if number:
                linear = AFFINE if layer == number - 1 else AFFINE[:1]
                weights.network(f"{theirs}.transform.{degree}.{3 * layer + 2}", f"{our_norm}.2", linear)
