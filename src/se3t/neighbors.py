"""Neighbourhoods N(i) of the paper in plain torch, for batches of clouds of unequal size.

Every builder returns ``edge_index`` ``[2, edge]`` int64 with rows (source j, target i), sorted by target and then by
source, without self loops and never between two clouds. Indices carry no gradient. Distances are computed from
differences (not as ‖a‖² + ‖b‖² − 2ab, which loses half the digits), on the padded table ``[cloud, target, source]``:
time and memory grow with clouds · (largest cloud)².

Equal distances are settled by the smaller index of the source, so that the same distances give the same graph on every
device. (Such a choice among exact ties cannot be equivariant under renumbering: on a lattice, prefer
:func:`radius_graph`.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class _Clouds:
    """Where each cloud lies in the flat list of nodes."""

    batch: Tensor  # [node]
    sizes: Tensor  # [cloud]
    first: Tensor  # [cloud] index of a cloud's first node
    local: Tensor  # [node] index within the node's own cloud
    largest: int  # points of the largest cloud
    are_equal: bool  # whether all clouds have as many, known without reading a tensor

    @classmethod
    def of(cls, batch: Tensor) -> _Clouds:
        if batch.numel() and (bool((batch.diff() < 0).any()) or int(batch[0]) < 0):
            raise ValueError(
                "batch: cloud indices must be >= 0 and ascending; reorder the nodes so that clouds are contiguous"
            )
        sizes = torch.bincount(batch)
        first = sizes.cumsum(0) - sizes
        local = torch.arange(len(batch), device=batch.device) - first[batch]
        return cls(batch, sizes, first, local, int(sizes.max()) if len(sizes) else 0, False)

    @classmethod
    def equal(cls, count: int, size: int, device: torch.device) -> _Clouds:
        cloud, node = torch.arange(count, device=device), torch.arange(count * size, device=device)
        batch = node // max(size, 1)
        return cls(batch, torch.full_like(cloud, size), cloud * size, node - batch * size, size, True)

    @property
    def num_clouds(self) -> int:
        return len(self.sizes)

    @property
    def smallest(self) -> int:
        return self.largest if self.are_equal else int(self.sizes.min())

    def pad(self, positions: Tensor) -> Tensor:
        """Positions ``[cloud, largest, 3]``, zeros after the last point."""
        if positions.shape[:-1].numel() == self.num_clouds * self.largest:  # clouds of equal size
            padded = positions.reshape(self.num_clouds, self.largest, 3)
        else:
            padded = positions.new_zeros(self.num_clouds, self.largest, 3)
            padded[self.batch, self.local] = positions
        return padded

    @property
    def present(self) -> Tensor:
        """Mask ``[cloud, largest]`` of points."""
        return torch.arange(self.largest, device=self.sizes.device) < self.sizes[:, None]

    @property
    def pairs(self) -> Tensor:
        """Mask ``[cloud, target, source]`` of pairs of distinct points."""
        pairs = self.present[:, :, None] & self.present[:, None, :]
        pairs.diagonal(dim1=-2, dim2=-1).fill_(False)
        return pairs

    def edges(self, chosen: Tensor, degree: int | None = None) -> Tensor:
        """``[2, edge]`` of a mask ``[cloud, target, source]``, whose row-major order is by target, then source.

        Args:
            chosen: the mask.
            degree: true entries of every row, where all have as many: then no value is read to count them.
        """
        if degree is None:
            cloud, target, source = chosen.nonzero(as_tuple=True)
            return torch.stack([source, target]) + self.first[cloud]
        falling = torch.arange(self.largest, 0, -1, dtype=torch.int32, device=chosen.device)
        source = (chosen * falling).topk(degree).indices  # [cloud, target, degree], ascending
        target = torch.arange(self.largest, device=chosen.device)[:, None].expand_as(source)
        return (torch.stack([source, target]) + self.first[:, None, None]).flatten(1)


def fully_connected(batch: Int[Tensor, " node"]) -> Int[Tensor, "2 edge"]:
    """All ordered pairs of distinct nodes of the same cloud.

    It depends on ``batch`` alone: a caller whose batches repeat (equal sizes) may build it once and keep it.

    Args:
        batch: cloud index of every node, ascending.

    Returns:
        rows (source, target), sorted by target, then source; a cloud of n nodes has n(n − 1) edges.

    Raises:
        ValueError: when ``batch`` is not ascending.
    """
    clouds = _Clouds.of(batch)
    return clouds.edges(clouds.pairs)


def knn_graph(
    positions: Float[Tensor, "*cloud node 3"], k: int, batch: Int[Tensor, " _"] | None = None
) -> Int[Tensor, "2 edge"]:
    """Edges from the ``k`` nearest other points of the same cloud to every point.

    A point is never its own neighbour, a coincident point is (at distance 0). In a cloud of n ≤ k points every point
    takes all n − 1 others: molecules and objects of unequal size share one ``k``, so this is no error.

    Args:
        positions: in any unit of length; detached. ``[cloud, point, 3]`` are clouds of one size, numbered through:
            then no value of a tensor is read on a GPU, where positions are believed to be finite.
        k: neighbours of each point, at least 1.
        batch: cloud index of every node, ascending; None means one cloud, or those of ``positions``.

    Returns:
        rows (source, target), sorted by target, then source (not by distance).

    Raises:
        ValueError: when ``k`` < 1, a position is not finite, or ``batch`` is not ascending or of another length.
    """
    if k < 1:
        raise ValueError(f"k: expected at least 1 neighbour, got {k}")
    clouds = _clouds(positions, batch)
    degree = None  # on a CPU counting is the faster way
    if clouds.are_equal and positions.device.type != "cpu":
        degree = max(min(k, clouds.largest - 1), 0)
    return clouds.edges(_nearest(_distances(clouds, positions), k), degree)


def radius_graph(
    positions: Float[Tensor, "node 3"],
    radius: float,
    batch: Int[Tensor, " _"] | None = None,
    max_num_neighbors: int | None = None,
) -> Int[Tensor, "2 edge"]:
    """Edges from all points of the same cloud within ``radius`` (boundary included) to every point.

    Args:
        positions: in any unit of length; detached.
        radius: in the same unit, above 0.
        batch: cloud index of every node, ascending; None means one cloud.
        max_num_neighbors: keep only so many nearest sources of each target; None keeps all. With a limit the graph may
            be directed: j → i without i → j.

    Returns:
        rows (source, target), sorted by target, then source. Isolated points have no edge.

    Raises:
        ValueError: when ``radius`` is not above 0, ``max_num_neighbors`` < 1, a position is not finite, or ``batch`` is
            not ascending or of another length.
    """
    if math.isnan(radius) or radius <= 0:
        raise ValueError(f"radius: expected a length above 0, got {radius}")
    if max_num_neighbors is not None and max_num_neighbors < 1:
        raise ValueError(f"max_num_neighbors: expected at least 1 or None, got {max_num_neighbors}")
    clouds = _clouds(positions, batch)
    distance = _distances(clouds, positions)
    if max_num_neighbors is None:
        return clouds.edges(distance <= min(radius, torch.finfo(distance.dtype).max))
    return clouds.edges(_nearest(distance.masked_fill_(distance > radius, torch.inf), max_num_neighbors))


def farthest_point_sampling(
    positions: Float[Tensor, "*cloud node 3"],
    num_samples: int,
    batch: Int[Tensor, " _"] | None = None,
    random_start: bool = False,
    generator: torch.Generator | None = None,
    start: Int[Tensor, " cloud"] | None = None,
) -> Int[Tensor, " sample"]:
    """Choose ``num_samples`` points of each cloud, each the farthest from those chosen before it.

    Greedy: the next point maximises min over chosen c of ‖x − c‖; the smaller index wins a tie, and
    no point is chosen twice.

    Args:
        positions: in any unit of length; detached. ``[cloud, point, 3]`` are clouds of one size, as in
            :func:`knn_graph`.
        num_samples: points kept of each cloud, at least 1 and at most the size of the smallest cloud.
        batch: cloud index of every node, ascending; None means one cloud, or those of ``positions``.
        random_start: start from a uniformly random point of each cloud; False starts from its first point.
        generator: of the random start.
        start: the point of each cloud to start from, counted within the cloud, in place of the first or a random one;
            on the device of the positions or on the CPU.

    Returns:
        node indices, ``num_samples`` for each cloud in the order of choice, clouds one after another, so that
        ``batch[index]`` is ascending.

    Raises:
        ValueError: when ``num_samples`` < 1 or above the size of a cloud, a position is not finite, ``batch`` is not
            ascending or of another length, or ``start`` names no point of its cloud.
    """
    clouds = _clouds(positions, batch)
    if num_samples < 1:
        raise ValueError(f"num_samples: expected at least 1, got {num_samples}")
    if clouds.num_clouds and num_samples > clouds.smallest:
        small = int(clouds.sizes.argmin())
        raise ValueError(f"num_samples: cloud {small} has only {int(clouds.sizes[small])} points, not {num_samples}")
    start = _starts(clouds, random_start, generator) if start is None else _checked(clouds, start)
    return (
        _farthest(clouds.pad(positions.detach()), clouds.present, start, num_samples) + clouds.first[:, None]
    ).flatten()


def sort_by_target(edge_index: Int[Tensor, "2 edge"], *edge_values: Tensor) -> tuple[Tensor, ...]:
    """Sort edges by target, then source, and values given per edge along with them; repeated edges keep their order.

    Args:
        edge_index: rows (source, target).
        edge_values: tensors with one row for each edge.

    Returns:
        ``(edge_index, *edge_values)``, sorted.

    Raises:
        ValueError: when a value has not one row for each edge.
    """
    num_edges = edge_index.shape[1]
    for value in edge_values:
        if value.shape[:1] != (num_edges,):
            raise ValueError(f"edge_values: expected one row for each of {num_edges} edges, got {tuple(value.shape)}")
    by_source = torch.argsort(edge_index[0], stable=True)
    order = by_source[torch.argsort(edge_index[1, by_source], stable=True)]
    return edge_index[:, order], *(value[order] for value in edge_values)


def _clouds(positions: Tensor, batch: Tensor | None) -> _Clouds:
    if positions.dim() == 3 and batch is None:
        if positions.device.type == "cpu":
            _check_finite(positions.flatten(0, 1))
        return _Clouds.equal(positions.shape[0], positions.shape[1], positions.device)
    if positions.dim() != 2:
        raise ValueError(
            f"positions: expected [node, 3], or [cloud, point, 3] without batch, got {tuple(positions.shape)}"
        )
    num_nodes = len(positions)
    if batch is None:
        batch = torch.zeros(num_nodes, dtype=torch.int64, device=positions.device)
    if len(batch) != num_nodes:
        raise ValueError(f"batch: expected one cloud index for each of {num_nodes} nodes, got {len(batch)}")
    _check_finite(positions)
    return _Clouds.of(batch)


def _check_finite(positions: Tensor) -> None:
    finite = positions.isfinite().all(dim=-1)
    if not bool(finite.all()):
        raise ValueError(f"positions: node {int((~finite).nonzero()[0])} has a coordinate that is NaN or infinite")


def _distances(clouds: _Clouds, positions: Tensor) -> Float[Tensor, "cloud size size"]:
    """Distance table; infinite between a point and itself and where a cloud has no point."""
    padded = clouds.pad(positions.detach())
    distance = torch.cdist(padded, padded, compute_mode="donot_use_mm_for_euclid_dist")
    return distance.masked_fill_(~clouds.pairs, torch.inf)


def _nearest(distance: Float[Tensor, "cloud size size"], k: int) -> Bool[Tensor, "cloud size size"]:
    """Mask of the ``k`` smallest finite entries of every row; of equal ones, those with the smallest index."""
    largest = torch.finfo(distance.dtype).max  # below infinity: stands for "finite" in comparisons
    if k >= distance.shape[-1]:
        return distance <= largest
    # Which of several equal entries topk returns is undefined, so only the k-th value and the one after it are used.
    values = distance.topk(k + 1, largest=False).values
    limit, following = values[..., k - 1 : k].clamp(max=largest), values[..., k:]
    chosen = distance <= limit
    if distance.device.type == "cpu" and not bool((following <= limit).any()):  # no tie at the limit: the usual case
        return chosen
    closer = distance < limit
    tied = chosen & ~closer
    return closer | (tied & (tied.cumsum(dim=-1) <= k - closer.sum(dim=-1, keepdim=True)))


def _starts(clouds: _Clouds, random_start: bool, generator: torch.Generator | None) -> Int[Tensor, " cloud"]:
    if not random_start:
        return torch.zeros_like(clouds.sizes)
    where = clouds.sizes.device if generator is None else generator.device
    uniform = torch.rand(clouds.num_clouds, generator=generator, device=where, dtype=torch.float64)
    return (uniform.to(clouds.sizes.device) * clouds.sizes).long()


def _checked(clouds: _Clouds, start: Tensor) -> Tensor:
    """Points to start from, on the device of the clouds; the size of equal clouds is compared where they lie."""
    sizes = clouds.largest if clouds.are_equal else clouds.sizes.to(start.device)
    reads = not clouds.are_equal or start.device.type == "cpu"
    if start.shape != clouds.sizes.shape or (reads and bool(((start < 0) | (start >= sizes)).any())):
        raise ValueError(f"start: expected for each of {clouds.num_clouds} clouds the number of one of its points")
    return start.to(clouds.sizes.device, non_blocking=True)


def _farthest(padded: Tensor, present: Tensor, start: Tensor, num_samples: int) -> Int[Tensor, "cloud sample"]:
    if len(padded) == 0:
        return start.new_empty(0, num_samples)
    # Coordinate by coordinate and in place: three planes of consecutive numbers, and no memory asked for in the loop.
    planes = padded.permute(2, 0, 1).contiguous()  # [3, cloud, size]
    squares = torch.empty_like(planes)
    distance = torch.full_like(planes[0], torch.inf).masked_fill_(~present, -torch.inf)  # [cloud, size], squared
    latest = start[:, None].long()
    chosen = [latest]
    for _ in range(num_samples - 1):
        torch.sub(planes, planes.gather(2, latest.expand(3, -1, 1)), out=squares).square_()
        torch.minimum(distance, squares[0].add_(squares[1]).add_(squares[2]), out=distance)
        distance.scatter_(1, latest, -torch.inf)  # taken: a coincident twin at distance 0 still comes before it
        latest = distance.argmax(dim=1, keepdim=True)
        chosen.append(latest)
    return torch.cat(chosen, dim=1)
