"""SE(3)-Transformers: 3D roto-translation equivariant attention networks, as a library and an experiment suite.

``from se3t import SE3Transformer, Fiber, Graph, knn_graph, …``: a name of ``__all__`` is imported when it is asked for,
so that ``import se3t`` itself loads nothing.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # to type checkers true, without loading typing
if TYPE_CHECKING:
    from se3t.batching import batch_graphs, collate
    from se3t.compat import load_model
    from se3t.config import SE3TransformerModel, TFNModel
    from se3t.fiber import Features, Fiber
    from se3t.geometry import EdgeGeometry
    from se3t.graph import Graph, farthest_point_sampling, fully_connected, knn_graph, radius_graph
    from se3t.models import build_model
    from se3t.models.se3_transformer import SE3Transformer
    from se3t.models.tfn import TFN
    from se3t.nn import (
        AttentiveSelfInteraction,
        ConvSettings,
        EdgeAttention,
        EquivariantBasis,
        EquivariantConv,
        EquivariantLinear,
        NormNonlinearity,
        SE3AttentionBlock,
        pool,
    )
    from se3t.so3 import clebsch_gordan, random_rotation, spherical_harmonics, wigner_d
    from se3t.testing import ModelContract, assert_equivariant, equivariance_error

__version__ = "0.1.0"

__all__ = [
    "TFN",
    "AttentiveSelfInteraction",
    "ConvSettings",
    "EdgeAttention",
    "EdgeGeometry",
    "EquivariantBasis",
    "EquivariantConv",
    "EquivariantLinear",
    "Features",
    "Fiber",
    "Graph",
    "ModelContract",
    "NormNonlinearity",
    "SE3AttentionBlock",
    "SE3Transformer",
    "SE3TransformerModel",
    "TFNModel",
    "assert_equivariant",
    "batch_graphs",
    "build_model",
    "clebsch_gordan",
    "collate",
    "equivariance_error",
    "farthest_point_sampling",
    "fully_connected",
    "knn_graph",
    "load_model",
    "pool",
    "radius_graph",
    "random_rotation",
    "spherical_harmonics",
    "wigner_d",
]

_MODULES = {  # where a name is found, unless in se3t.nn
    "fiber": ("Features", "Fiber"),
    "geometry": ("EdgeGeometry",),
    "batching": ("batch_graphs", "collate"),
    "graph": ("Graph", "farthest_point_sampling", "fully_connected", "knn_graph", "radius_graph"),
    "models": ("build_model",),
    "models.se3_transformer": ("SE3Transformer",),
    "models.tfn": ("TFN",),
    "so3": ("clebsch_gordan", "random_rotation", "spherical_harmonics", "wigner_d"),
    "testing": ("ModelContract", "assert_equivariant", "equivariance_error"),
    "compat": ("load_model",),
    "config": ("SE3TransformerModel", "TFNModel"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'se3t' has no attribute {name!r}")
    value = getattr(import_module(f"se3t.{_HOMES.get(name, 'nn')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
