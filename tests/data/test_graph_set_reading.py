"""Many graphs: the TU format, objects of other packages, and one line for what is no set of graphs."""

from types import SimpleNamespace

import networkx
import numpy as np
import pytest
import torch

from potstill.data import load
from potstill.errors import PotstillError
from potstill.nn.graph_networks import split_graph
from tests.graph_set_data import objects, small_graphs, write_tu


def edges_of(x):
    n = x.shape[0]
    adjacency = np.triu(x[:, x.shape[1] - n :].numpy(), 1)
    return int(x[:, x.shape[1] - n :].diagonal().sum()), int(adjacency.sum())


def test_files_of_the_tu_format_are_the_graphs(tmp_path):
    splits = load(write_tu(tmp_path / "SHAPES"), test_fraction=0)
    train = splits.train
    assert train.input.kind == "graph"
    assert train.input.shape == (8, 2 + 8)
    assert train.classes == ("0", "1", "2")
    graphs = small_graphs()
    assert [edges_of(x) for x in train.inputs] == [(n, len(edges)) for n, edges, _ in graphs]
    assert train.labels.tolist() == [label for *_, label in graphs]
    first = next(i for i, (n, _, label) in enumerate(graphs) if label == 1 and n == 5)
    x = train.inputs[first]  # a star of five: the centre has most edges and comes first
    assert x[:5, 2:7].tolist() == [[1, 1, 1, 1, 1], *([0.0] * i + [1.0] + [0.0] * (4 - i) for i in range(1, 5))]
    assert not x[5:].any()
    assert any("36 graphs of 4 to 8 nodes" in note for note in splits.notes)


def test_the_numbering_of_nodes_does_not_matter():
    graph = networkx.relabel_nodes(networkx.star_graph(4), {0: 3, 3: 0})
    other = networkx.star_graph(4)
    rings = [networkx.cycle_graph(n) for n in (4, 5)]
    for each, label in ((graph, "star"), (other, "star"), *((ring, "ring") for ring in rings)):
        each.graph["label"] = label
    train = load([graph, other, *rings], test_fraction=0).train
    assert torch.equal(train.inputs[0], train.inputs[1])
    assert train.classes == ("ring", "star")


def test_objects_are_read_as_their_files_are(tmp_path):
    files = load(write_tu(tmp_path / "SHAPES"), test_fraction=0).train.inputs
    given = load(objects(), test_fraction=0).train.inputs
    assert given.shape == (36, 8, 1 + 8)
    assert [edges_of(x) for x in given] == [edges_of(x) for x in files]


def test_attributes_of_nodes_stand_beside_their_labels(tmp_path):
    folder = write_tu(tmp_path / "SHAPES")
    nodes = sum(n for n, *_ in small_graphs())
    (folder / "SHAPES_node_attributes.txt").write_text("\n".join(f"{i}, 0.5" for i in range(nodes)), encoding="utf-8")
    assert load(folder, test_fraction=0).train.input.shape == (8, 4 + 8)


def test_larger_graphs_are_left_out_where_that_is_said(tmp_path):
    splits = load(write_tu(tmp_path / "SHAPES"), test_fraction=0, representation="padded:nodes=6")
    kept = [n for n, *_ in small_graphs() if n <= 6]
    assert len(splits.train) == len(kept)
    assert any(f"{36 - len(kept)} graphs of more than 6 nodes are left out" in note for note in splits.notes)
    large = objects(each=2)
    large[0] = SimpleNamespace(x=torch.ones(200, 1), edge_index=torch.zeros(2, 0).long(), y=0, num_nodes=200)
    with pytest.raises(PotstillError, match=r"200 nodes, and 1 have more than 128; give representation=padded:nodes=N"):
        load(large)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("A", "1, 99999\n", "two nodes in each row are required, from 1 to"),
        ("A", "1, 2\n3\n", "rows of numbers are required"),
        ("A", "1, two\n", "rows of numbers are required"),
        ("A", "", "at least one row"),
        ("A", "1, 30\n", "an edge joins two graphs"),
        ("graph_indicator", "7\n" * 10, "correct"),
        ("graph_labels", "0\n1\n", "numbers of graphs from 1 to 2"),
        ("node_labels", "0\n1\n", "nodes are in a graph, but 2 have labels"),
    ],
)
def test_damaged_files_are_one_line(tmp_path, name, content, message):
    folder = write_tu(tmp_path / "SHAPES")
    (folder / f"SHAPES_{name}.txt").write_text(content, encoding="utf-8")
    with pytest.raises(PotstillError, match=message) as raised:
        load(folder)
    assert "\n" not in str(raised.value)


def test_what_is_no_set_of_graphs_is_one_line(tmp_path):
    with pytest.raises(PotstillError, match=r"graphs need NAME_A\.txt"):
        load(tmp_path, kind="graph")
    with pytest.raises(PotstillError, match="graph 0: one class is required"):
        load([SimpleNamespace(x=torch.ones(2, 1), edge_index=torch.zeros(2, 0).long(), num_nodes=2)])
    with pytest.raises(PotstillError, match=r"graph 0: edges \(2, edges\) between its 2 nodes"):
        load([SimpleNamespace(x=torch.ones(2, 1), edge_index=torch.tensor([[0], [2]]), y=0, num_nodes=2)])
    bad = torch.full((2, 1), torch.nan)
    with pytest.raises(PotstillError, match="graph 0: finite features"):
        load([SimpleNamespace(x=bad, edge_index=torch.zeros(2, 0).long(), y=0, num_nodes=2)])
    folder = write_tu(tmp_path / "SHAPES")
    with pytest.raises(PotstillError, match="graphs have the representation padded, not 'latent'"):
        load(folder, representation="latent")
    with pytest.raises(PotstillError, match="read without `size=`"):
        load(folder, size=8)


def test_a_graph_comes_apart_into_features_and_edges(tmp_path):
    train = load(write_tu(tmp_path / "SHAPES"), test_fraction=0).train
    features, adjacency, there = split_graph(train.inputs)
    assert torch.equal(adjacency, adjacency.transpose(1, 2))
    assert there.sum(1).tolist() == [n for n, *_ in small_graphs()]
    assert features.sum(2).sum(1).tolist() == there.sum(1).tolist()
