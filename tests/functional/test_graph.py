"""Graphs as sparse matrices, beside plain dense ones."""

import math

import pytest
import torch

from potstill.errors import PotstillError
from potstill.functional.graph import normalized_adjacency, propagate, subgraph, undirected_edges


def drawn(n=12, e=40, seed=0):
    return torch.randint(n, (2, e), generator=torch.Generator().manual_seed(seed))


def dense(edges, n, weights=None):
    """Return D^-1/2 (A + I) D^-1/2 by loops."""
    a = torch.eye(n, dtype=torch.float64)
    for k, (i, j) in enumerate(edges.T.tolist()):
        a[i, j] = a[j, i] = 1.0 if weights is None else float(weights[k])
    degree = a.sum(1)
    return torch.stack([torch.stack([a[i, j] / math.sqrt(degree[i] * degree[j]) for j in range(n)]) for i in range(n)])


def test_edges_count_once_and_loops_do_not():
    edges = drawn()
    plain = sorted({(min(p), max(p)) for p in edges.T.tolist() if p[0] != p[1]})
    assert [tuple(p) for p in undirected_edges(edges).T.tolist()] == plain
    assert torch.equal(undirected_edges(edges.flip(0)), undirected_edges(edges))
    assert undirected_edges(torch.zeros(2, 0, dtype=torch.int64)).shape == (2, 0)
    assert undirected_edges(torch.tensor([[3], [3]])).shape == (2, 0)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_adjacency_is_the_dense_one(weighted):
    edges = undirected_edges(drawn())
    weights = torch.rand(edges.shape[1], generator=torch.Generator().manual_seed(1)) if weighted else None
    made = normalized_adjacency(edges, 12, weights)
    assert made.is_coalesced()
    torch.testing.assert_close(made.to_dense().double(), dense(edges, 12, weights), atol=1e-7, rtol=1e-6)


def test_a_path_of_three_nodes():
    made = normalized_adjacency(torch.tensor([[0, 1], [1, 2]]), 3).to_dense()
    s = 1 / math.sqrt(6)
    torch.testing.assert_close(made, torch.tensor([[1 / 2, s, 0], [s, 1 / 3, s], [0, s, 1 / 2]]))
    # (A-hat)² e_0, by hand: 1/4 + 1/6, s (1/2 + 1/3), 1/6
    said = propagate(made, torch.tensor([[1.0], [0.0], [0.0]]), 2)
    torch.testing.assert_close(said, torch.tensor([[5 / 12], [0.340206909], [1 / 6]]))


def test_nodes_without_neighbours_keep_their_features():
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    alone = normalized_adjacency(torch.tensor([[0], [1]]), 4)
    assert torch.equal(propagate(alone, x, 3)[2:], x[2:])
    assert propagate(alone, x, 0) is x


def test_propagation_is_the_dense_power_and_has_its_gradient():
    edges = undirected_edges(drawn())
    adjacency = normalized_adjacency(edges, 12).double()
    x = torch.randn(12, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2), requires_grad=True)
    power = torch.linalg.matrix_power(dense(edges, 12), 3)
    torch.testing.assert_close(propagate(adjacency, x, 3), power @ x, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(propagate(adjacency.to_dense(), x, 3), power @ x, atol=1e-6, rtol=1e-6)
    assert torch.autograd.gradcheck(lambda x: propagate(adjacency, x, 2), (x,))


def test_a_subgraph_has_the_edges_among_its_nodes():
    edges, nodes = undirected_edges(drawn()), torch.tensor([7, 2, 9, 0, 5])
    plain = {tuple(sorted((nodes.tolist().index(i), nodes.tolist().index(j)))) for i, j in edges.T.tolist()
             if i in nodes.tolist() and j in nodes.tolist()}  # fmt: skip
    assert {tuple(p) for p in subgraph(edges, nodes, 12).T.tolist()} == plain
    assert plain


def test_an_edge_to_nowhere_is_refused():
    with pytest.raises(PotstillError, match=r"nodes from 0 to 5, but there are 5 nodes.*correct the edges"):
        normalized_adjacency(torch.tensor([[0], [5]]), 5)
    with pytest.raises(PotstillError, match="from -1"):
        normalized_adjacency(torch.tensor([[-1], [2]]), 5)
