"""The graph that stands in for DGL's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from se3t.compat.nvidia import EdgeGraph, batch, from_dgl, graph
from se3t.compat.nvidia.graph import as_edge_graph

SOURCE, TARGET = torch.tensor([0, 1, 2]), torch.tensor([1, 2, 0])


class StandIn:
    """The methods of a DGL graph that the conversion calls; DGL itself does not install beside a current torch."""

    etypes = ("_E",)

    def __init__(self) -> None:
        self.edata, self.ndata = {"rel_pos": torch.ones(3, 3)}, {"f": torch.zeros(4)}

    def edges(self) -> tuple[Tensor, Tensor]:
        return SOURCE, TARGET

    def num_nodes(self) -> int:
        return 4

    def batch_num_nodes(self) -> Tensor:
        return torch.tensor([3, 1])


def test_it_speaks_the_words_of_dgl() -> None:
    made = graph((SOURCE, TARGET), num_nodes=5)
    made.edata["rel_pos"] = torch.ones(3, 3)
    made.ndata["f"] = torch.zeros(5)
    assert made.num_nodes() == 5
    assert made.num_edges() == 3
    assert made.batch_size == 1
    assert made.batch_num_nodes().tolist() == [5]
    assert made.edges()[0] is SOURCE
    assert graph((SOURCE, TARGET)).num_nodes() == 3
    assert repr(made) == "EdgeGraph(5 nodes, 3 edges, 1 graphs)"
    assert EdgeGraph(torch.stack([SOURCE, TARGET])).edges()[1].tolist() == [1, 2, 0]


def test_moving_takes_everything_along() -> None:
    made = EdgeGraph((SOURCE, TARGET), 4, rel_pos=torch.ones(3, 3), batch_num_nodes=[3, 1])
    made.ndata["f"] = torch.zeros(4)
    moved = made.to("cpu", copy=True)
    assert moved.device.type == "cpu"
    for before, after in ((made.edges()[1], moved.edges()[1]), (made.ndata["f"], moved.ndata["f"])):
        assert torch.equal(before, after)
        assert before.data_ptr() != after.data_ptr()
    assert torch.equal(moved.edata["rel_pos"], made.edata["rel_pos"])
    assert moved.batch_num_nodes().tolist() == [3, 1]


def test_batching_keeps_graphs_apart() -> None:
    first = EdgeGraph((SOURCE, TARGET), 4, rel_pos=torch.ones(3, 3))
    both = batch([first, first])
    assert both.edges()[0].tolist() == [0, 1, 2, 4, 5, 6]
    assert both.batch_index.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert both.edata["rel_pos"].shape == (6, 3)
    assert batch([both, first]).batch_num_nodes().tolist() == [4, 4, 4]
    with pytest.raises(ValueError, match="at least one graph"):
        batch([])
    with pytest.raises(ValueError, match="carry different edata"):
        batch([first, EdgeGraph((SOURCE, TARGET), 4)])


def test_an_empty_graph_is_a_graph() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    assert EdgeGraph((none, none), 2).num_edges() == 0
    assert EdgeGraph((none, none)).num_nodes() == 0


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (((SOURCE.float(), TARGET),), {}, "whole numbers .edge. as source"),
        (((SOURCE, TARGET[:, None]),), {}, "whole numbers .edge. as target"),
        (((SOURCE, TARGET[:2]),), {}, "3 sources, but 2 targets"),
        (((SOURCE, TARGET), 2), {}, "expected nodes 0 to 1, got node 2"),
        (((SOURCE, TARGET - 1),), {}, "or a negative one"),
        (((SOURCE, TARGET),), {"rel_pos": torch.ones(2, 3)}, r"rel_pos: expected shape \[3, 3\], got \(2, 3\)"),
        (((SOURCE, TARGET), 4), {"batch_num_nodes": [3]}, "3 nodes together, expected 4"),
    ],
)
def test_what_does_not_fit_is_named(arguments: tuple[Any, ...], options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        EdgeGraph(*arguments, **options)


def test_a_graph_of_dgl_is_converted() -> None:
    made = from_dgl(StandIn())
    assert made.num_nodes() == 4
    assert made.batch_index.tolist() == [0, 0, 0, 1]
    assert set(made.edata) == {"rel_pos"}
    assert set(made.ndata) == {"f"}
    assert as_edge_graph(made) is made
    assert as_edge_graph(StandIn()).num_edges() == 3


def test_several_types_of_edges_are_refused() -> None:
    other = StandIn()
    other.etypes = ("a", "b")  # type: ignore[assignment]
    with pytest.raises(ValueError, match="expected one type of edges, got 2: a, b"):
        from_dgl(other)
