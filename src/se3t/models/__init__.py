"""The models, by name. Each one takes a :class:`~se3t.graph.Graph` and returns features of its ``fiber_out``:
one for each node, or with ``pooled`` one for each cloud.

A new model is one file here and one schema in ``se3t.config``, which names its class.
"""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from torch import nn

from se3t.config import SCHEMAS
from se3t.errors import UserError, did_you_mean
from se3t.fiber import Fiber

ABLATIONS: dict[str, str] = {
    "attention": "se3t.models.ablation:WithoutAttention",
    "radial": "se3t.models.ablation:WithoutRadialNetworks",
    "equivariance": "se3t.models.ablation:WithoutEquivariance",
}
"""What ``model.ablation`` takes out of an SE(3)-Transformer -> ``'module:Class'`` of the model without it."""


def model_class(name: str, ablation: str = "none") -> type[nn.Module]:
    """The class behind the name of a model.

    Args:
        name: of a schema in ``SCHEMAS["model"]``.
        ablation: key of ``ABLATIONS``, or ``none``.

    Raises:
        UserError: for a name without a schema, or a schema without ``implementation``.
    """
    target = getattr(SCHEMAS["model"].get(name), "implementation", None)
    if target is None:
        raise UserError(f"model: no model is called {name!r}; {did_you_mean(name, SCHEMAS['model'])}")
    module, _, attribute = ABLATIONS.get(ablation, target).partition(":")
    cls: type[nn.Module] = getattr(importlib.import_module(module), attribute)
    return cls


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

    Its constructor gets, by name, what it takes of the arguments below, and its settings: either all at once, as
    ``settings``, or each of them. A model that does not take ``pooled`` says by a class attribute ``pooled`` whether
    it gives one output for each cloud (default: one for each node).

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
        TypeError: when the constructor lacks a setting of the schema, which would have no effect.
    """
    cls: Any = model_class(config.name, getattr(config, "ablation", "none"))
    parameters = inspect.signature(cls).parameters
    settings = {name: value for name, value in vars(config).items() if name != "name"}
    if "settings" in parameters:
        settings = {"settings": config}
    elif unknown := settings.keys() - parameters.keys():
        raise TypeError(f"{cls.__name__} takes no {', '.join(sorted(unknown))}, settings of {type(config).__name__}")
    if "pooled" not in parameters and getattr(cls, "pooled", False) != pooled:
        given, wanted = ("point", "cloud") if pooled else ("cloud", "point")
        raise UserError(
            f"model={config.name} gives one prediction for each {given}, this task asks for one for each {wanted}: "
            "choose another model"
        )
    task = {
        "fiber_in": fiber_in,
        "fiber_out": fiber_out,
        "num_edge_scalars": num_edge_scalars,
        "horizon": horizon,
        "pooled": pooled,
        "fiber_edge": fiber_edge,
    }
    model: nn.Module = cls(**settings, **{name: value for name, value in task.items() if name in parameters})
    return model
