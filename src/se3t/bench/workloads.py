"""What is measured: training steps of models and synthetic graphs whose sizes are those of the paper's experiments."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from se3t.bench.synthetic import ball, molecules
from se3t.config import SE3TransformerModel
from se3t.errors import UserError, require_known
from se3t.fiber import Features, Fiber
from se3t.geometry import EdgeGeometry
from se3t.graph import Graph, fully_connected, knn_graph, sort_by_target
from se3t.models.se3_transformer import SE3Transformer
from se3t.nn import EquivariantConv, Readout
from se3t.nn.precision import at_least_float32

NBODY, QM9 = "nbody", "qm9"
"""Names of the workloads that are measured unless others are named, and for tile sizes."""
_SETTINGS = ("num_layers", "num_degrees", "channels", "channels_div", "num_heads", "self_interaction", "radial_hidden")
NUM_CLASSES = 4  # of bonds: single, double, triple, aromatic


@dataclass(frozen=True)
class Workload:
    """A model and a batch of synthetic graphs; a training step is forward, mean square, backward.

    Attributes:
        name: word on the command line.
        title: what it is, for people.
        num_graphs: graphs of a batch.
        num_points: points of each graph.
        edges: ``complete`` (all ordered pairs), ``bonds`` (of a tree with rings) or ``knn``.
        num_neighbors: of each point, with ``knn``.
        num_bonds: undirected bonds of each graph; ``complete`` graphs with bonds carry their classes too.
        num_layers: attention layers; the last one makes the output, unless a convolution follows.
        num_degrees: hidden degrees 0 … num_degrees − 1.
        channels: hidden channels of each degree.
        channels_div: keys and values have channels / channels_div channels.
        num_heads: attention heads.
        num_edge_scalars: invariant edge features, besides the distance.
        fiber_in: node features of the input.
        fiber_out: output.
        fiber_last: output of a convolution behind the attention layers; None: no convolution.
        relative_position: whether x_j − x_i is an edge feature, see :class:`SE3Transformer`.
        self_interaction: ``attentive`` or ``linear``.
        pooling: ``max`` over the points of a graph, or None.
        head: whether Linear – ReLU – Linear follows the pooling.
        radial_hidden: width of the radial networks.
        seed: of the graphs and of the weights.
        device: default device of :meth:`graph`.
    """

    name: str
    title: str
    num_graphs: int
    num_points: int
    edges: str
    num_layers: int
    num_degrees: int
    channels: int
    channels_div: int
    num_heads: int
    fiber_in: Fiber
    fiber_out: Fiber
    num_edge_scalars: int = 0
    num_neighbors: int | None = None
    num_bonds: int | None = None
    fiber_last: Fiber | None = None
    relative_position: str = "none"
    self_interaction: str = "linear"
    pooling: str | None = None
    head: bool = False
    radial_hidden: int = 32
    seed: int = 0
    device: str = "cpu"

    @property
    def spec(self) -> dict[str, str | int]:
        """Plain values that :meth:`of` makes the workload from, in another process too."""
        return {name: getattr(self, name) for name in ("name", "num_graphs", "num_points", "device", "seed")}

    @classmethod
    def of(
        cls,
        name: str,
        num_graphs: int | None = None,
        num_points: int | None = None,
        device: str = "cpu",
        seed: int = 0,
    ) -> Workload:
        """The workload of that name, resized and placed.

        Args:
            name: one of ``WORKLOADS``.
            num_graphs: graphs of a batch; None: as many as the workload has.
            num_points: points of a graph; None: as many as the workload has.
            device: of the graphs.
            seed: of the graphs and of the weights.

        Raises:
            UserError: for an unknown name, or sizes that the workload cannot have.
        """
        require_known("workload", [name], WORKLOADS)
        workload = WORKLOADS[name]
        for size, value, least in (("num_graphs", num_graphs, 1), ("num_points", num_points, 4)):
            if value is not None and value < least:
                raise UserError(f"{size}={value}: expected at least {least}")
        resized = workload.resized(num_graphs or workload.num_graphs, num_points)
        return dataclasses.replace(resized, device=device, seed=seed)

    @property
    def fiber_hidden(self) -> Fiber:
        """Types and channels between the layers."""
        return Fiber.uniform(self.num_degrees, self.channels)

    @property
    def num_edges(self) -> int:
        """Directed edges of a batch."""
        return self.num_graphs * self.resized(1).graph(device="cpu").edge_index.shape[1]

    @property
    def num_unique_edges(self) -> int:
        """Edges of a batch that differ in their invariants: one of each reciprocal pair where all are paired."""
        graph = self.resized(1).graph(device="cpu")
        return self.num_edges // EdgeGeometry.of(graph, pair=True, relative_position=self.relative_position).repeat

    def kept_bytes(self, separate: bool = False) -> int:
        """Size of the radial weights of all edges and layers, which some kernels hold at the same time.

        Args:
            separate: see :meth:`model`.
        """
        return 4 * self.num_unique_edges * weights_per_edge(self.model("reference", separate=separate))

    def resized(self, num_graphs: int, num_points: int | None = None) -> Workload:
        """The same model on another number of graphs and points; molecules keep their number of rings."""
        points = self.num_points if num_points is None else num_points
        bonds = None if self.num_bonds is None else self.num_bonds + points - self.num_points
        neighbors = None if self.num_neighbors is None else min(self.num_neighbors, points - 1)
        return dataclasses.replace(
            self, num_graphs=num_graphs, num_points=points, num_bonds=bonds, num_neighbors=neighbors
        )

    def graph(self, dtype: torch.dtype = torch.float32, device: str | torch.device | None = None) -> Graph:
        """The batch: the same values on every device, rounded to ``dtype`` from float64.

        Args:
            dtype: of all floating tensors.
            device: of the tensors; None: ``self.device``.
        """
        generator = torch.Generator().manual_seed(self.seed)
        batch = torch.arange(self.num_graphs).repeat_interleave(self.num_points)
        make = _molecules if self.num_bonds is not None else _points if self.edges == "knn" else _charges
        graph = Graph(batch=batch, num_graphs=self.num_graphs, **make(self, batch, generator))
        return graph.to(dtype).to(self.device if device is None else device)

    def model(self, kernel: str = "auto", memory: str = "auto", separate: bool = False) -> SE3Transformer:
        """The model in float32 on the CPU; the same weights for every kernel and memory mode.

        Args:
            kernel: see :class:`ConvSettings`.
            memory: see :class:`ConvSettings`.
            separate: whether keys and values have convolutions of their own, and each pair of degrees its own radial
                network, as in the paper.
        """
        settings = SE3TransformerModel(
            **{name: getattr(self, name) for name in _SETTINGS},
            fuse_key_value=not separate,
            share_radial="none" if separate else "full",
            pool_channels=(self.fiber_last or {0: 1})[0],
            kernel=kernel,
            memory=memory,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            model = SE3Transformer(
                self.fiber_in,
                self.fiber_out,
                settings,
                num_edge_scalars=self.num_edge_scalars,
                relative_position=self.relative_position,
                pooled=self.head,
            )
        if not self.head:
            model.readout = Readout(self.fiber_out, self.fiber_out, pooling=self.pooling)
        return model


def mean_square(output: Features) -> Float[Tensor, ""]:
    """Mean of the squares of all components of all degrees, in float32 at least: the loss of every workload."""
    return torch.cat([at_least_float32(value).flatten() for value in output.values()]).square().mean()


def weights_per_edge(model: nn.Module) -> int:
    """Radial weights of an edge, over all layers: paths × channels in × channels out."""
    return sum(part.radial.weights_per_edge for part in model.modules() if isinstance(part, EquivariantConv))


def _charges(workload: Workload, batch: Tensor, generator: torch.Generator) -> dict[str, Any]:
    """Normal positions and velocities, charges ±1; their product is the edge scalar."""
    edge_index = fully_connected(batch)
    charge = torch.randint(0, 2, (len(batch), 1, 1), generator=generator).double() * 2 - 1
    positions, velocities = torch.randn(2, len(batch), 3, generator=generator, dtype=torch.float64)
    return {
        "positions": positions,
        "features": {0: charge, 1: torch.stack((positions, velocities), dim=1)},
        "edge_index": edge_index,
        "edge_scalars": (charge[edge_index[0]] * charge[edge_index[1]])[:, 0],
    }


def _molecules(workload: Workload, batch: Tensor, generator: torch.Generator) -> dict[str, Any]:
    """Trees of atoms with rings; node features are an element (one of five) and a number, edge scalars a bond class."""
    positions, bonds = molecules(workload.num_graphs, workload.num_points, workload.num_bonds or 0, generator)
    classes = torch.randint(0, NUM_CLASSES, (bonds.shape[1],), generator=generator)
    scalars = torch.nn.functional.one_hot(classes, NUM_CLASSES).double()
    edge_index, scalars = sort_by_target(torch.cat([bonds, bonds.flip(0)], dim=1), torch.cat([scalars, scalars]))
    if workload.edges == "complete":
        edge_index, scalars = _completed(batch, edge_index, scalars)
    element = torch.randint(0, workload.fiber_in[0] - 1, (len(batch),), generator=generator)
    one_hot = torch.nn.functional.one_hot(element, workload.fiber_in[0] - 1).double()
    number = torch.randn(len(batch), 1, generator=generator, dtype=torch.float64)
    return {
        "positions": positions,
        "features": {0: torch.cat([one_hot, number], dim=1)[..., None]},
        "edge_index": edge_index,
        "edge_scalars": scalars,
    }


def _completed(batch: Tensor, edge_index: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
    """All ordered pairs, with zeros where there is no bond."""
    every = fully_connected(batch)
    number = every[1] * len(batch) + every[0]  # ascending, because the pairs are sorted by target and source
    out = scalars.new_zeros(every.shape[1], scalars.shape[1])
    out[torch.searchsorted(number, edge_index[1] * len(batch) + edge_index[0])] = scalars
    return every, out


def _points(workload: Workload, batch: Tensor, generator: torch.Generator) -> dict[str, Any]:
    """Points in the unit ball, each with the feature 1, and their nearest neighbours."""
    positions = ball(len(batch), generator)
    return {
        "positions": positions,
        "features": {0: torch.ones(len(batch), workload.fiber_in[0], 1, dtype=torch.float64)},
        "edge_index": knn_graph(positions, workload.num_neighbors or 1, batch),
    }


_QM9 = Workload(
    name=QM9,
    title="molecules, bonds (QM9 sizes)",
    num_graphs=32,
    num_points=18,
    edges="bonds",
    num_bonds=19,
    num_layers=7,
    num_degrees=4,
    channels=32,
    channels_div=2,
    num_heads=8,
    num_edge_scalars=NUM_CLASSES,
    fiber_in=Fiber("6x0"),
    fiber_out=Fiber("1x0"),
    fiber_last=Fiber("128x0"),
    pooling="max",
    head=True,
)
_POINTCLOUD = Workload(
    name="pointcloud",
    title="point clouds, types 0–2 (ScanObjectNN sizes)",
    num_graphs=10,
    num_points=128,
    edges="knn",
    num_neighbors=40,
    num_layers=4,
    num_degrees=3,
    channels=5,
    channels_div=1,
    num_heads=1,
    fiber_in=Fiber("1x0"),
    fiber_out=Fiber("64x0"),
    relative_position="to_source",
    pooling="max",
)
_NBODY = Workload(
    name=NBODY,
    title="charged particles (N-body, Table 1)",
    num_graphs=128,
    num_points=5,
    edges="complete",
    num_layers=4,
    num_degrees=4,
    channels=8,
    channels_div=4,
    num_heads=2,
    num_edge_scalars=1,
    fiber_in=Fiber("1x0+2x1"),
    fiber_out=Fiber("2x1"),
)
WORKLOADS: dict[str, Workload] = {
    workload.name: workload
    for workload in (
        _NBODY,
        dataclasses.replace(
            _NBODY,
            name="nbody_attentive",
            title="charged particles, attentive self-interaction (N-body, Table 1)",
            self_interaction="attentive",
        ),
        _QM9,
        dataclasses.replace(_QM9, name="qm9_complete", title="molecules, all pairs (QM9 sizes)", edges="complete"),
        _POINTCLOUD,
        dataclasses.replace(
            _POINTCLOUD,
            name="pointcloud_deg3",
            title="point clouds, types 0–3 (ScanObjectNN sizes)",
            num_degrees=4,
        ),
        dataclasses.replace(
            _POINTCLOUD,
            name="pointcloud_k10",
            title="point clouds, types 0–3, 10 neighbours (ScanObjectNN, Table 2)",
            num_degrees=4,
            num_neighbors=10,
        ),
    )
}
