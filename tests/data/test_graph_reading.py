"""Graphs from files and objects as people have them, and what is wrong with them."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from potstill.data import load
from potstill.data.graph import NodeGraph, Propagated
from potstill.errors import PotstillError
from potstill.functional.graph import undirected_edges
from tests.graph_data import block_graph


def refuse(data, message, **options):
    with pytest.raises(PotstillError, match=message) as caught:
        load(data, **options)
    assert "\n" not in str(caught.value)


def changed(**arrays):
    return {k: v for k, v in (block_graph() | arrays).items() if v is not None}


def folder(path, graph, names=("id", "label", "split"), ends=("source", "target")):
    path.mkdir()
    split = np.full(len(graph["labels"]), "", dtype=object)
    for part in ("train", "val", "test"):
        split[graph[f"{part}_mask"]] = part
    with (path / "nodes.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow([*names, *(f"word{j}" for j in range(graph["features"].shape[1]))])
        for i, row in enumerate(graph["features"].tolist()):
            table.writerow([f"n{i}", f"class{graph['labels'][i]}", split[i], *row])
    with (path / "edges.csv").open("w", newline="") as file:
        csv.writer(file).writerows([ends, *((f"n{i}", f"n{j}") for i, j in graph["edge_index"].T)])
    return str(path)


def dense_vectors(graph, hops=2):
    """Return every node's vector by dense matrices."""
    x = graph["features"] / graph["features"].sum(1, keepdims=True)
    a = np.eye(len(x))
    a[graph["edge_index"][0], graph["edge_index"][1]] = a[graph["edge_index"][1], graph["edge_index"][0]] = 1
    scale = 1 / np.sqrt(a.sum(1))
    return np.linalg.matrix_power(scale[:, None] * a * scale, hops) @ x


def test_training_nodes_are_propagated_features_and_the_split_is_the_graphs():
    graph = block_graph()
    s = load(graph)
    assert (s.train.input.kind, s.train.input.shape, len(s.train), len(s.test)) == ("node", (24,), 24, 36)
    vectors = torch.from_numpy(dense_vectors(graph)).float()
    for source, mask in ((s.train, "train_mask"), (s.test, "test_mask")):
        assert torch.equal(source.places, torch.from_numpy(np.where(graph[mask])[0]))
        assert source.labels.tolist() == graph["labels"][graph[mask]].tolist()
        torch.testing.assert_close(source.inputs, vectors[source.places])
    assert torch.equal(s.train.graph.validation, torch.from_numpy(np.where(graph["val_mask"])[0]))
    assert s.train.graph is s.test.graph
    assert s.train.graph.validation_labels.tolist() == graph["labels"][graph["val_mask"]].tolist()
    assert any("24 nodes train, 18 choose, 36 test" in note for note in s.notes)


def test_normalization_looks_at_training_nodes_alone():
    graph = block_graph()
    other = graph["features"].copy()
    alone = np.where(graph["test_mask"])[0]
    edges = graph["edge_index"][:, ~np.isin(graph["edge_index"], alone).any(0)]
    other[alone] = other[alone] * 0 + 5
    a, b = (load(changed(features=x, edge_index=edges)) for x in (graph["features"], other))
    assert torch.equal(a.train.inputs, b.train.inputs)
    assert torch.equal(a.train.normalization.std, b.train.normalization.std)
    signed = graph["features"] - 0.5
    wild = signed.copy()
    wild[alone] = 90
    a, b = (load(changed(features=x, edge_index=edges)) for x in (signed, wild))
    assert torch.equal(a.train.inputs, b.train.inputs)
    assert any("standardised" in note for note in a.notes)


def test_inductive_training_nodes_do_not_see_others():
    graph = block_graph()
    s = load(graph, representation="propagated:inductive=True")
    train = np.where(graph["train_mask"])[0]
    inside = np.isin(graph["edge_index"], train).all(0)
    among = {"features": graph["features"][train], "edge_index": np.searchsorted(train, graph["edge_index"][:, inside])}
    torch.testing.assert_close(s.train.inputs, torch.from_numpy(dense_vectors(among)).float())
    torch.testing.assert_close(s.test.inputs, load(graph).test.inputs)
    assert s.train.content_hash != load(graph).train.content_hash


def test_every_form_gives_the_same(tmp_path):
    graph = block_graph()
    np.savez(tmp_path / "graph.npz", **graph)
    expected = load(graph)
    both_ways = np.concatenate([graph["edge_index"], graph["edge_index"][::-1], [[3], [3]]], 1)
    for data in (
        str(tmp_path / "graph.npz"), folder(tmp_path / "folder", graph), changed(edge_index=both_ways),
        changed(edge_index=graph["edge_index"].T),
        SimpleNamespace(x=torch.from_numpy(graph["features"]), edge_index=torch.from_numpy(graph["edge_index"]),
                        y=torch.from_numpy(graph["labels"]), **{k: v for k, v in graph.items() if "mask" in k}),
    ):  # fmt: skip
        found = load(data)
        assert torch.equal(found.train.inputs, expected.train.inputs)
        assert torch.equal(found.test.labels, expected.test.labels)
        if found.train.classes == expected.train.classes:  # the folder has names
            assert found.train.content_hash == expected.train.content_hash
    named = load(str(tmp_path / "folder"))
    assert named.train.classes == ("class0", "class1", "class2")
    assert named.train.input.columns[:2] == ("word0", "word1")


def test_a_networkx_graph():
    networkx = pytest.importorskip("networkx")
    graph = block_graph()
    made = networkx.Graph()
    parts = {name: graph[f"{name}_mask"] for name in ("train", "val", "test")}
    for i, x in enumerate(graph["features"]):
        split = next((name for name, mask in parts.items() if mask[i]), None)
        made.add_node(f"n{i}", x=x, label=int(graph["labels"][i]), split=split)
    made.add_edges_from((f"n{i}", f"n{j}") for i, j in graph["edge_index"].T.tolist())
    found = load(made)
    assert torch.equal(found.train.inputs, load(graph).train.inputs)
    refuse(made, r"each node needs a class as 'colour'", label="colour")
    refuse(networkx.path_graph(3), "each node needs features as 'x'; nodes have nothing")


def test_test_nodes_without_a_mask():
    s = load(changed(test_mask=None))
    assert len(s.test) == 120 - 24 - 18
    assert any("test nodes are the 78 labelled ones" in note for note in s.notes)
    assert load(changed(test_mask=None), test_fraction=0).test is None
    drawn = load(changed(train_mask=None, val_mask=None, test_mask=None))
    assert (len(drawn.train), len(drawn.test)) == (96, 24)
    assert not set(drawn.train.places.tolist()) & set(drawn.test.places.tolist())
    labels = block_graph()["labels"].astype(float)
    labels[::3] = np.nan
    some = load(changed(labels=labels, train_mask=None, val_mask=None, test_mask=None))
    assert len(some.train) + len(some.test) == 80


def test_parts_keep_their_graph():
    s = load(block_graph())
    some = s.train.subset(torch.tensor([5, 1]))
    assert some.graph is s.train.graph
    assert torch.equal(some.places, s.train.places[[5, 1]])
    assert len({s.train.content_hash, some.content_hash, s.test.content_hash}) == 3
    moved = changed(edge_index=block_graph()["edge_index"][:, 1:])
    assert load(moved).train.content_hash != s.train.content_hash


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"features": None}, "needs features of the nodes as 'features'; it has edge_index, labels"),
        ({"labels": None}, "needs labels of the nodes as 'labels'"),
        ({"labels": np.arange(5)}, "120 nodes have features, but 5 have labels"),
        ({"labels": np.full(120, 0.5)}, "classes, not .*0.5.*; give whole numbers"),
        ({"labels": np.zeros((120, 2))}, r"one class for each node \(n,\), not of shape \(120, 2\)"),
        ({"features": np.full((120, 2), np.inf)}, "features of node 0 are not all finite"),
        ({"features": np.zeros(120)}, r"numbers \(nodes, features\)"),
        ({"edge_index": np.array([[0, 1], [1, 120]])}, "edge 1 has the node 120, but there are 120 nodes"),
        ({"edge_index": np.zeros((3, 4), dtype=int)}, r"whole numbers \(2, edges\)"),
        ({"edge_index": np.zeros((2, 4))}, r"whole numbers \(2, edges\), not float64"),
        ({"train_mask": np.ones(120, dtype=bool)}, "nodes are in train_mask and in test_mask; each may be in one"),
        ({"train_mask": np.arange(120)}, "train_mask must say yes or no for each of 120 nodes"),
        ({"train_mask": np.zeros(120, dtype=bool)}, "there are no training nodes with a label"),
        ({"labels": np.where(np.arange(120) < 50, -1, block_graph()["labels"])}, "training nodes have no label"),
    ],
)  # fmt: skip
def test_bad_arrays_are_refused_in_one_line(arrays, message):
    refuse(changed(**arrays), message)


def test_bad_folders_are_refused_in_one_line(tmp_path):
    graph = block_graph(each=26)
    path = folder(tmp_path / "a", graph)
    edges = tmp_path / "a" / "edges.csv"
    edges.write_text("source,target\nn0,n1\nn0,n999\n")
    refuse(path, "edges.csv: line 3 has the node 'n999', which nodes.csv lacks")
    nodes = tmp_path / "a" / "nodes.csv"
    edges.write_text("source,target\nn0,n1\n")
    text = nodes.read_text()
    nodes.write_text(text.replace("\nn1,", "\nn0,"))
    refuse(path, "nodes.csv: the node 'n0' stands there twice")
    nodes.write_text(text.replace("train", "training set", 1))
    refuse(path, "the column 'split' says train, val, test or nothing, not 'training set'")
    nodes.write_text(text.replace("1.0", "much", 1))
    refuse(path, "features are columns of numbers without gaps, but 'word")


def test_options_of_other_data_and_wrong_settings_are_refused():
    refuse(block_graph(), r"read without `size=`", size=8)
    refuse(block_graph(), r"read without `skip_bad=`", skip_bad=True)
    refuse(block_graph(), r"leave `label=` out", label="y")
    refuse(block_graph(), "the representation propagated, not 'latent'", representation="latent:size=3")
    refuse(block_graph(), "hops must be from 0 to 10, not 11", representation="propagated:hops=11")
    refuse(block_graph(), "scale must be one of auto, rows, columns, none", representation="propagated:scale=most")
    several = SimpleNamespace(edge_types=[1, 2], edge_index=None)
    refuse(several, "several types of nodes or edges")
    with pytest.raises(ValueError, match="undirected_edges"):
        NodeGraph(features=torch.zeros(2, 1), edges=torch.tensor([[1], [0]]), validation=torch.zeros(0).long(),
                  validation_labels=torch.zeros(0).long(), representation=Propagated())  # fmt: skip
    assert undirected_edges(torch.tensor([[1], [0]])).tolist() == [[0], [1]]
