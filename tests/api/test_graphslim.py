"""GraphSlim's files and PyTorch Geometric's objects: in, out, and one line where they are not what they should be."""

import json
import pickle
import sys
import types

import numpy as np
import pytest
import torch

import potstill
from potstill.cli.main import main
from potstill.errors import PotstillError
from potstill.evaluation.set_graph import graph_of_set
from potstill.exporters import to_geometric
from potstill.parametrize.learned_graph import EDGES, FEATURES
from tests.graph_data import block_graph


def write(folder, n=6, *, adjacency=None, labels=None, features=None, name="blocks_0.25_1"):
    folder.mkdir(parents=True, exist_ok=True)
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(n, 24, generator=draw) if features is None else features
    torch.save(x, folder / f"feat_{name}.pt")
    torch.save(torch.arange(n) % 3 if labels is None else labels, folder / f"label_{name}.pt")
    if adjacency is not None:
        torch.save(adjacency, folder / f"adj_{name}.pt")
    return x


def edges(n=6):
    a = torch.zeros(n, n)
    a[0, 1] = a[1, 0] = 0.75
    a[2, 4] = a[4, 2] = 0.25
    return a


@pytest.mark.parametrize("adjacency", [None, torch.eye(6), torch.zeros(6, 6)], ids=["none", "identity", "zeros"])
def test_nodes_without_edges_are_inputs(tmp_path, adjacency):
    x = write(tmp_path / "gcondx", adjacency=adjacency)
    small = potstill.import_set(tmp_path / "gcondx", data=potstill.load_data(block_graph()))
    assert torch.equal(small.inputs, x)
    assert small.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert small.input.kind == "node"
    assert graph_of_set(small) is None
    assert small.metadata["imported"]["form"] == "graphslim"


@pytest.mark.parametrize("layout", ["dense", "coo"])
def test_edges_become_a_payload_and_come_back(tmp_path, layout):
    a = edges()
    held = a.to_sparse() if layout == "coo" else a
    x = write(tmp_path / "in", adjacency=held)
    small = potstill.import_set(tmp_path / "in" / "feat_blocks_0.25_1.pt", data=potstill.load_data(block_graph()))
    again = potstill.load(small.save(tmp_path / "s.safetensors"))
    assert torch.equal(again.payload[FEATURES], x)
    assert again.payload[EDGES].tolist().count(0) == 13
    spread = a + torch.eye(6)
    spread = spread / (spread.sum(1)[:, None] * spread.sum(1)[None, :]).sqrt()
    torch.testing.assert_close(again.inputs, spread @ spread @ x, atol=1e-6, rtol=1e-5)
    out = potstill.export(again, "graphslim", tmp_path / "out")
    (file,) = out.glob("adj_*.pt")
    assert torch.equal(torch.load(file, weights_only=True), a)
    assert torch.equal(torch.load(next(out.glob("feat_*.pt")), weights_only=True), x)
    once_more = potstill.import_set(out, data=potstill.load_data(block_graph()))
    assert torch.equal(once_more.payload[EDGES], again.payload[EDGES])
    assert torch.equal(once_more.labels, again.labels)


def test_our_set_goes_out_under_the_name_by_which_it_is_read(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.savez("blocks.npz", **block_graph())
    assert main(["distill", "blocks.npz", "--method", "dm", "--steps", "2", "--ipc", "2", "--seed", "3", "--out",
                 "s.safetensors"]) == 0  # fmt: skip
    assert main(["export", "s.safetensors", "--to", "graphslim", "--out", "gcondx"]) == 0
    names = {p.name for p in (tmp_path / "gcondx").iterdir()}
    assert names == {f"{part}_blocks_0.25_3.pt" for part in ("feat", "adj", "label")}
    small = potstill.load("s.safetensors")
    assert torch.equal(torch.load("gcondx/adj_blocks_0.25_3.pt", weights_only=True), torch.eye(6))
    assert torch.equal(torch.load("gcondx/feat_blocks_0.25_3.pt", weights_only=True), small.inputs)
    capsys.readouterr()
    arguments = ["import", "gcondx", "--data", "blocks.npz", "--out", "again.safetensors", "--json"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["items"] == 6
    assert torch.equal(potstill.load("again.safetensors").inputs, small.inputs)
    evaluate = ["evaluate", "again.safetensors", "--data", "blocks.npz", "--network", "gcn:hidden=16,steps=50",
                "--seeds", "2", "--no-baselines", "--no-full", "--json"]  # fmt: skip
    assert main(evaluate) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 2


def test_soft_labels_are_kept(tmp_path):
    rows = torch.softmax(torch.randn(6, 3, generator=torch.Generator().manual_seed(2)), 1)
    write(tmp_path / "geom", labels=rows)
    small = potstill.import_set(tmp_path / "geom")
    torch.testing.assert_close(small.labels, rows)
    assert small.classes == ("0", "1", "2")


class Attack:
    def __reduce__(self):
        return (open, ("stolen.txt", "w"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"adjacency": torch.zeros(5, 5)}, r"one adjacency \[6, 6\] is required"),
        ({"adjacency": edges() + torch.eye(6)}, "save the adjacency with a diagonal of 0"),
        ({"adjacency": torch.triu(edges())}, "the adjacency is not symmetric"),
        ({"adjacency": 4 * edges()}, "weights of edges are read from 0 to 1"),
        ({"adjacency": -edges()}, "finite and at least 0"),
        ({"labels": torch.randn(6, 3)}, "some do not sum to 1"),
        ({"labels": torch.rand(6)}, "labels must be classes"),
        ({"labels": torch.arange(5)}, "6 classes, or rows, are required"),
        ({"labels": torch.tensor([0, 0, 0, 0, 0, 2**40])}, "its labels count up to"),
        ({"features": torch.full((6, 24), torch.nan)}, "finite features"),
        ({"features": torch.rand(6)}, "features \\(nodes, features\\) are required"),
        ({"features": torch.rand(6, 7)}, "nodes have 7 features, but graph has node data of 24"),
        ({"labels": Attack()}, "nothing of it was run"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, monkeypatch, changed, message):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "in", **changed)
    with pytest.raises(PotstillError, match=message) as raised:
        potstill.import_set(tmp_path / "in", "graphslim", data=potstill.load_data(block_graph()))
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "stolen.txt").exists()


def test_several_graphs_in_a_folder_and_no_graph_are_refused(tmp_path):
    write(tmp_path / "two")
    write(tmp_path / "two", name="blocks_0.5_1")
    with pytest.raises(PotstillError, match=r"there are 2 .*give the file of features"):
        potstill.import_set(tmp_path / "two")
    with pytest.raises(PotstillError, match="there are 0; give the file of features"):
        potstill.import_set(tmp_path, "graphslim")
    with pytest.raises(PotstillError, match="lr belongs to pictures, but graphslim is a set of nodes"):
        potstill.import_set(tmp_path / "two", "graphslim", lr=0.1)


def test_a_pickle_of_another_class_is_not_run(tmp_path):
    write(tmp_path / "in")
    (tmp_path / "in" / "adj_blocks_0.25_1.pt").write_bytes(pickle.dumps(Attack()))
    with pytest.raises(PotstillError, match="nothing of it was run"):
        potstill.import_set(tmp_path / "in")


def test_pictures_are_no_graph(tmp_path):
    small = potstill.distill("digits", "random", ipc=1, progress=None)
    with pytest.raises(PotstillError, match="a graph is made of a set of nodes, but this one has image inputs"):
        potstill.export(small, "graphslim", tmp_path / "out")


def test_nodes_as_an_object_of_pytorch_geometric(tmp_path, monkeypatch):
    """A stand-in for the package, which need not be installed: the keywords are what `Data` takes."""
    write(tmp_path / "in", adjacency=edges())
    small = potstill.import_set(tmp_path / "in")
    monkeypatch.setitem(sys.modules, "torch_geometric", None)
    monkeypatch.delitem(sys.modules, "torch_geometric.data", raising=False)
    with pytest.raises(PotstillError, match=r"pip install 'potstill\[graphs\]'"):
        to_geometric(small)
    package = types.ModuleType("torch_geometric")
    package.data = types.ModuleType("torch_geometric.data")
    package.data.Data = types.SimpleNamespace
    monkeypatch.setitem(sys.modules, "torch_geometric", package)
    monkeypatch.setitem(sys.modules, "torch_geometric.data", package.data)
    data = to_geometric(small)
    assert data.edge_index.tolist() == [[0, 1, 2, 4], [1, 0, 4, 2]]
    assert data.edge_weight.tolist() == [0.75, 0.75, 0.25, 0.25]
    assert data.y.tolist() == small.labels.tolist()
    assert bool(data.train_mask.all())
    plain = to_geometric(potstill.distill(potstill.load_data(block_graph()), "random", ipc=1, progress=None))
    assert plain.edge_index.shape == (2, 0)
    assert not hasattr(plain, "edge_weight")
