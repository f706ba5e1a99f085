"""Checks of what a graph is made of: one sentence names the field, what was expected and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from se3t.errors import UserError


def require_floating(name: str, value: Any, like: Tensor | None = None) -> None:
    """Require a tensor of finite floating-point numbers. They are read, which makes a GPU wait.

    Args:
        name: of the field, for the error.
        value: to check; any shape.
        like: a tensor whose dtype and device it must have, the positions; None: any.

    Raises:
        UserError: when it is no tensor, holds integers, NaN or infinity, or differs from ``like``.
    """
    _require_tensor(name, value)
    if not value.is_floating_point():
        raise UserError(
            f"{name}: expected floating-point numbers, got {_kind(value)}; encode classes with "
            "torch.nn.functional.one_hot(…).float(), convert quantities with .float()"
        )
    if like is not None and value.dtype != like.dtype:
        expected = str(like.dtype).removeprefix("torch.")
        raise UserError(f"{name}: expected {expected} as the positions, got {_kind(value)}; use .to(positions)")
    if like is not None:
        _require_device(name, value, like)
    finite = value.isfinite()
    if not bool(finite.all()):
        row = int((~finite).nonzero()[0, 0]) if value.dim() else 0
        raise UserError(f"{name}: row {row} has a value that is NaN or infinite; correct it or leave that row out")


def check_positions(positions: Any, name: str = "positions") -> None:
    """Check ``[node, 3]``.

    Raises:
        UserError: when they are anything else than one point a row, of finite floating-point numbers.
    """
    _require_tensor(name, positions)
    if positions.dim() != 2 or positions.shape[1] != 3:
        raise UserError(f"{name}: expected shape [node, 3], got {tuple(positions.shape)}")
    require_floating(name, positions)


def check_batch(batch: Any, positions: Tensor) -> None:
    """Check that ``batch`` numbers the cloud of every node: ``[node]`` int64, ascending from 0.

    Raises:
        UserError: when it does not.
    """
    _require_tensor("batch", batch)
    num_nodes = len(positions)
    if batch.shape != (num_nodes,) or batch.dtype != torch.int64:
        raise UserError(f"batch: expected int64 [{num_nodes}], one cloud index a node, got {_kind(batch)}")
    _require_device("batch", batch, positions)
    if num_nodes and not bool((batch.diff() >= 0).all()):
        raise UserError("batch: cloud indices must be ascending; reorder the nodes so that clouds are contiguous")
    if num_nodes and int(batch[0]) < 0:
        raise UserError(f"batch: cloud {int(batch[0])} does not exist; clouds are numbered from 0")


def check_cloud_numbers(batch: Tensor, num_graphs: int, cloud_size: int | None) -> None:
    """Check a sound ``batch`` against the number and, where given, the size of the clouds.

    Raises:
        UserError: when they do not fit.
    """
    if len(batch) and int(batch[-1]) >= num_graphs:
        raise UserError(
            f"batch: cloud {int(batch[-1])} does not exist; the graph has {num_graphs} clouds, numbered from 0"
        )
    if cloud_size is None:
        return
    require_cloud_size(cloud_size, num_graphs, len(batch))
    if len(batch) and not torch.equal(batch, torch.arange(len(batch), device=batch.device) // cloud_size):
        raise UserError(f"cloud_size={cloud_size}: the clouds of batch differ in size; leave it out")


def require_cloud_size(size: int, num_graphs: int, num_nodes: int) -> None:
    """Raise UserError when so many clouds of one size do not make so many nodes."""
    if size * num_graphs != num_nodes:
        raise UserError(f"cloud_size={size}: {num_graphs} such clouds do not make {num_nodes} nodes; leave it out")


def check_edges(edge_index: Any, batch: Tensor, vectors: Tensor | None = None) -> None:
    """Check ``[2, edge]`` int64, in any order.

    Args:
        edge_index: to check.
        batch: ``[node]`` cloud of every node.
        vectors: of the edges; one that is not zero leads from a node to its own periodic image.

    Raises:
        UserError: for another shape or dtype, a node that does not exist, a self loop, or an edge between clouds.
    """
    check_edge_shape(edge_index)
    _require_device("edge_index", edge_index, batch)
    if edge_index.shape[1] == 0:
        return
    low, high = (int(bound) for bound in edge_index.aminmax())
    if low < 0 or high >= len(batch):
        bad = high if high >= len(batch) else low
        raise UserError(f"edge_index: node {bad} does not exist; the graph has nodes 0 to {len(batch) - 1}")
    loops = edge_index[0] == edge_index[1]
    if vectors is not None and vectors.shape == (len(loops), 3):
        loops = loops & (vectors == 0).all(dim=1)
    if bool(loops.any()):
        node = int(edge_index[0, loops][0])
        raise UserError(
            f"edge_index: node {node} is its own neighbour; remove self loops, with what they carry, as "
            "torch_geometric.utils.remove_self_loops does"
        )
    across = batch[edge_index[0]] != batch[edge_index[1]]
    if bool(across.any()):
        source, target = edge_index[:, int(across.nonzero()[0])].tolist()
        raise UserError(f"edge_index: edge {source} -> {target} joins two clouds; clouds of a batch must not interact")


def check_edge_shape(edge_index: Any) -> None:
    """Raise UserError unless ``edge_index`` is int64 of shape ``[2, edge]``."""
    _require_tensor("edge_index", edge_index)
    if edge_index.dim() == 2 and edge_index.shape[0] == 2 and edge_index.dtype == torch.int64:
        return
    is_transposed = edge_index.dim() == 2 and edge_index.shape[0] != 2 and edge_index.shape[1] == 2
    remedy = "transpose it with .t()" if is_transposed else "convert it with .long()"
    hint = f"; {remedy}" if is_transposed or edge_index.dtype != torch.int64 else ""
    raise UserError(f"edge_index: expected int64 [2, edge], got {_kind(edge_index)}{hint}")


def check_order(edge_index: Tensor) -> None:
    """Raise UserError unless the edges are sorted by target."""
    if not bool((edge_index[1].diff() >= 0).all()):
        raise UserError("edge_index: edges must be sorted by target (row 1); sort them with Graph.sort_edges")


def check_rows(name: str, value: Any, rows: int, what: str, like: Tensor | None = None) -> None:
    """Check invariant features: ``[rows, channels]``.

    Args:
        name: of the field, for the error.
        value: to check.
        rows: number of nodes or edges.
        what: ``node`` or ``edge``, for the error.
        like: as of :func:`require_floating`.

    Raises:
        UserError: when the shape or what it holds does not fit.
    """
    require_floating(name, value, like)
    if value.dim() != 2 or value.shape[0] != rows:
        hint = f"; make one channel of it with {name}[:, None]" if value.shape == (rows,) else ""
        raise UserError(
            f"{name}: expected shape [{rows}, channels], one row for each {what}, got {tuple(value.shape)}{hint}"
        )


def check_vectors(name: str, value: Any, rows: int, like: Tensor) -> None:
    """Raise UserError unless there is one vector, ``[rows, 3]``, for each edge."""
    _require_tensor(name, value)
    if value.shape != (rows, 3):
        raise UserError(f"{name}: expected shape [{rows}, 3], got {tuple(value.shape)}")
    require_floating(name, value, like)


def check_features(name: str, features: Any, rows: int, like: Tensor) -> None:
    """Check a field by degree: ``[rows, channels, 2l+1]``.

    Args:
        name: of the field, for the error.
        features: to check.
        rows: number of nodes or edges.
        like: as of :func:`require_floating`.

    Raises:
        UserError: when it is no mapping from degrees to such tensors.
    """
    if not isinstance(features, Mapping):
        raise UserError(
            f"{name}: expected {{degree: tensor [{rows}, channels, 2 * degree + 1]}}, got {type(features).__name__}"
        )
    for degree, value in features.items():
        if not isinstance(degree, int) or degree < 0:
            raise UserError(f"{name}: expected degrees 0, 1, … as keys, got {degree!r}")
        _require_tensor(f"{name}[{degree}]", value)
        if value.dim() != 3 or value.shape[0] != rows or value.shape[-1] != 2 * degree + 1:
            raise UserError(
                f"{name}[{degree}]: expected shape [{rows}, channels, {2 * degree + 1}], got {tuple(value.shape)}"
            )
        require_floating(f"{name}[{degree}]", value, like)


def _require_tensor(name: str, value: Any) -> None:
    if not isinstance(value, Tensor):
        raise UserError(f"{name}: expected a tensor, got {type(value).__name__}; make one with torch.as_tensor")


def _require_device(name: str, value: Tensor, like: Tensor) -> None:
    if value.device != like.device:
        raise UserError(f"{name}: expected on {like.device} as the positions, got {value.device}; move it there")


def _kind(value: Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
