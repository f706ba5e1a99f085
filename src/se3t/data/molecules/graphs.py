"""Molecules in memory as flat tensors, and batches of them as graphs, by index arithmetic alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from se3t.data.molecules.edges import NO_BOND, Bonds, EdgeLists, bonded, complete, ranges, within_radius
from se3t.data.molecules.molecule import ELEMENTS
from se3t.errors import UserError
from se3t.fiber import Features, Fiber
from se3t.graph import Graph, Pairing


@dataclass(frozen=True)
class GraphSettings:
    """The inputs of a model for a molecule.

    Attributes:
        elements: atomic numbers of the one-hot code, in order.
        edges: ``bonds``, ``complete`` or ``radius``.
        radius: angstrom, of ``radius``.
        inputs: ``atoms``: one-hot element and atomic number (type 0); ``atoms_positions``: also the position relative
            to the centre of the atoms (type 1), for models without a graph.
    """

    elements: tuple[int, ...]
    edges: str = "bonds"
    radius: float = 5.0
    inputs: str = "atoms"

    @property
    def fiber_in(self) -> Fiber:
        """Fiber of the node features: for QM9 ``6x0`` (H, C, N, O, F, and the atomic number)."""
        positions = Fiber({1: 1}) if self.inputs == "atoms_positions" else Fiber({})
        return Fiber({0: len(self.elements) + 1}) + positions

    @property
    def num_edge_scalars(self) -> int:
        """Bond classes (single, double, triple, aromatic), and "no bond" where edges need not be bonds.

        With the distance, the radial input has 5 channels for bonds and 6 for complete graphs, as in the paper.
        """
        return NO_BOND if self.edges == "bonds" else NO_BOND + 1


class MoleculeGraphs:
    """Molecules in memory.

    Args:
        arrays: those of :func:`se3t.data.molecules.molecule.pack`.
        settings: the inputs of the model.

    Raises:
        UserError: a molecule holds an element that is not one of ``settings.elements``.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], settings: GraphSettings) -> None:
        self.settings = settings
        self.num_atoms = _long(arrays["num_atoms"])
        self.first_atom = self.num_atoms.cumsum(0) - self.num_atoms
        self._element = _element_index(_long(arrays["numbers"]), settings.elements)
        self._exact = self._positions = torch.from_numpy(arrays["positions"]).float()
        bonds = Bonds(*(_long(arrays[name]) for name in ("bonds", "bond_classes", "num_bonds", "num_atoms")))
        self._edges = _edge_lists(bonds, self._exact, settings)
        self._tables = _tables(settings)
        self.to("cpu", torch.get_default_dtype())

    def __len__(self) -> int:
        """Number of molecules."""
        return len(self.num_atoms)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> MoleculeGraphs:
        """Keep working copies on ``device``, floating ones in ``dtype``; the same object is returned."""
        self.num_atoms, self.first_atom = self.num_atoms.to(device), self.first_atom.to(device)
        self._element, self._edges = self._element.to(device), self._edges.to(device)
        self._positions = self._exact.to(device, dtype)
        elements, classes = _tables(self.settings)
        self._tables = (elements.to(device, dtype), classes.to(device, dtype))
        return self

    def graph(self, index: Int[Tensor, " chosen"]) -> Graph:
        """The molecules with the given numbers as one graph of disjoint clouds.

        Args:
            index: on the device of the data.
        """
        lists = self._edges
        size, count = self.num_atoms.index_select(0, index), lists.count.index_select(0, index)
        first, first_edge = size.cumsum(0) - size, count.cumsum(0) - count
        num_nodes, num_edges = torch.stack([size.sum(), count.sum()]).tolist()  # the only synchronisation with the host
        cloud = torch.repeat_interleave(size, output_size=num_nodes)  # molecule of a node
        of_edge = torch.repeat_interleave(count, output_size=num_edges)
        atom = ranges(cloud, self.first_atom.index_select(0, index) - first)
        row = ranges(of_edge, lists.start.index_select(0, index) - first_edge)
        place = ranges(of_edge, lists.class_start.index_select(0, index) - first_edge)
        shift = first.index_select(0, of_edge)
        element_codes, class_codes = self._tables
        elements, classes = (
            kind.index_select(0, at).int() for kind, at in ((self._element, atom), (lists.classes, place))
        )
        positions = self._positions.index_select(0, atom)
        source, target, order = (part.index_select(0, row) for part in (lists.source, lists.target, lists.order))
        return Graph(
            positions=positions,
            features=self._features(element_codes.index_select(0, elements), positions, cloud, size),
            edge_index=torch.stack([source + shift, target + shift]),
            batch=cloud,
            num_graphs=len(index),
            edge_scalars=class_codes.index_select(0, classes),
            pairing=Pairing(order + first_edge.index_select(0, of_edge)),
        )

    def _features(self, codes: Float[Tensor, "node code"], positions: Tensor, cloud: Tensor, size: Tensor) -> Features:
        features: Features = {0: codes[..., None]}
        if self.settings.inputs == "atoms_positions":
            centre = positions.new_zeros(len(size), 3).index_add_(0, cloud, positions) / size[:, None]
            features[1] = (positions - centre[cloud])[:, None]
        return features


def elements_of(arrays: Mapping[str, np.ndarray], chosen: np.ndarray | None = None) -> tuple[int, ...]:
    """Atomic numbers that occur, ascending.

    Args:
        arrays: those of :func:`se3t.data.molecules.molecule.pack`.
        chosen: ``[molecule]`` whether to consider a molecule; None: all.
    """
    numbers = arrays["numbers"]
    if chosen is not None:
        numbers = numbers[np.repeat(chosen, arrays["num_atoms"])]
    return tuple(int(number) for number in np.unique(numbers))


def spell_elements(numbers: Sequence[int]) -> str:
    """Symbols of elements, for messages."""
    return ", ".join(ELEMENTS[number - 1] if 0 < number <= len(ELEMENTS) else f"element {number}" for number in numbers)


def _edge_lists(bonds: Bonds, positions: Tensor, settings: GraphSettings) -> EdgeLists:
    if settings.edges == "bonds":
        return bonded(bonds)
    return complete(bonds) if settings.edges == "complete" else within_radius(bonds, positions, settings.radius)


def _element_index(numbers: Tensor, elements: Sequence[int]) -> Tensor:
    place = torch.full((256,), -1, dtype=torch.int16)
    for index, number in enumerate(elements):
        place[number] = index
    indices = place[numbers]
    if bool((indices < 0).any()):
        unknown = numbers[indices < 0].unique().tolist()
        raise UserError(
            f"data: the molecules hold {spell_elements(unknown)}, and the model knows {spell_elements(elements)}; "
            "remove those molecules"
        )
    return indices


def _tables(settings: GraphSettings) -> tuple[Tensor, Tensor]:
    """Node features of every element, and edge scalars of every bond class."""
    one_hot = torch.eye(len(settings.elements))
    numbers = torch.tensor(settings.elements, dtype=one_hot.dtype)[:, None]
    return torch.cat([one_hot, numbers], dim=1), torch.eye(settings.num_edge_scalars)


def _long(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.astype(np.int64))
