"""The models, by name. Each one takes a :class:`~se3t.graph.Graph` and returns features of its ``fiber_out``:
one for each node, or with ``pooled`` one for each cloud.

A new model is one file here, one schema in ``se3t.config`` and one line in ``MODELS``.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from torch import nn

from se3t.config import SCHEMAS
from se3t.errors import UserError, did_you_mean
from se3t.fiber import Fiber

MODELS: dict[str, str] = {
    "linear": "se3t.models.linear:Linear",
    "deepset": "se3t.models.deepset:DeepSet",
    "tfn": "se3t.models.tfn:TFN",
    "set_transformer": "se3t.models.set_transformer:SetTransformer",
    "se3_transformer": "se3t.models.se3_transformer:SE3Transformer",
    "schnet": "se3t.models.schnet:SchNet",
    "mpnn": "se3t.models.mpnn:MPNN",
    "pointnet": "se3t.models.pointnet:PointNet",
    "pointnet2": "se3t.models.pointnet2:PointNet2",
    "dgcnn": "se3t.models.dgcnn:DGCNN",
    "pointcnn": "se3t.models.pointcnn:PointCNN",
    "spidercnn": "se3t.models.spidercnn:SpiderCNN",
    "modified_fisher": "se3t.models.modified_fisher:ModifiedFisherNet",
    "pointglr": "se3t.models.pointglr:PointGLR",
}
"""Name of a model -> ``'module:Class'``; a module is imported when its model is asked for. The schema of a model of
another package says the same in its attribute ``implementation``."""


def model_class(name: str) -> type[nn.Module]:
    """The class behind a name of the registry.

    Raises:
        UserError: for a name that is not in ``MODELS``.
    """
    target = MODELS.get(name) or getattr(SCHEMAS["model"].get(name), "implementation", None)
    if target is None:
        raise UserError(f"model: no model is called {name!r}; {did_you_mean(name, MODELS)}")
    module, _, attribute = target.partition(":")
    found: type[nn.Module] = getattr(importlib.import_module(module), attribute)
    return found


def build_model(
    config: Any,
    *,
    fiber_in: Fiber,
    fiber_out: Fiber,
    num_edge_scalars: int,
    horizon: float = 0.0,
    pooled: bool = False,
    fiber_edge: Fiber | None = None,
) -> nn.Module:
    """Build the model that ``config.name`` names.

    Args:
        config: a model schema of ``se3t.config``.
        fiber_in: fiber of the node features of the graphs to come.
        fiber_out: fiber of the prediction.
        num_edge_scalars: channels of ``Graph.edge_scalars``; 0 when there are none.
        horizon: time between input and target, in the unit of time of the data; models that extrapolate need it.
        pooled: whether the prediction is one for each cloud, not one for each node.
        fiber_edge: fiber of ``Graph.edge_features``; None or empty when there are none.

    Returns:
        A module with attributes ``fiber_in`` and ``fiber_out`` and ``forward(graph) -> Features``.

    Raises:
        UserError: for an unknown name, or settings that no model can have.
    """
    cls: Any = model_class(config.name)
    model: nn.Module = cls.from_config(
        config,
        fiber_in=fiber_in,
        fiber_out=fiber_out,
        num_edge_scalars=num_edge_scalars,
        horizon=horizon,
        pooled=pooled,
        fiber_edge=fiber_edge,
    )
    return model


def model_from_arguments(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """The model of a name with constructor arguments given as plain values, as a file holds them.

    Args:
        name: word of the registry.
        arguments: constructor arguments; those called ``fiber_…`` are strings such as ``"16x0+16x1"``.

    Raises:
        UserError: for an unknown name.
        ValueError: for arguments that the model cannot have.
    """
    return model_class(name)(**_with_fibers(arguments))


def _with_fibers(arguments: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(arguments)
    for name, value in arguments.items():
        if name.startswith("fiber_") and isinstance(value, str):
            out[name] = Fiber(value)
        elif name == "layer_options":
            out[name] = [_with_fibers(options) for options in value]
    return out
