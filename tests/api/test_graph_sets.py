"""Sets of nodes from a file to a page: the command line and Python, on a small graph."""

import json
import re

import numpy as np
import torch

import potstill
from potstill.cli.main import main
from tests.graph_data import block_graph


def test_a_set_of_nodes_is_made_measured_and_shown(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("blocks.npz", **block_graph())
    assert main(["distill", "blocks.npz", "--method", "kip", "--ipc", "2", "--out", "small.safetensors"]) == 0
    said = capsys.readouterr()
    assert "120 nodes" in said.err
    assert "6 nodes of 24 in 3 classes" in said.out
    evaluate = ["evaluate", "small.safetensors", "--data", "blocks.npz", "--network", "gcn:hidden=16,steps=100",
                "--seeds", "2", "--json"]  # fmt: skip
    assert main(evaluate) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["accuracy"]["mean"] > 0.6
    assert card["full"]["mean"] > 0.8
    assert card["baselines"]["random"]["bytes"] <= card["bytes"]["total"]
    assert main(["report", "small.safetensors", "--out", "page.html"]) == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "6 of 6 nodes, each with the 8 of its 24 propagated features" in page
    assert "Mean of the nodes of a class" in page
    assert re.search(r"feature \d+ −?0\.\d+", page)


def test_selected_nodes_are_real_ones_and_names_of_features_are_escaped(tmp_path):
    graph = block_graph()
    folder = tmp_path / "graph"
    folder.mkdir()
    columns = ["<b>w</b>", *(f"w{j}" for j in range(1, 24))]
    lines = [",".join(["label", "split", *columns])]
    parts = np.where(graph["train_mask"], "train", np.where(graph["test_mask"], "test", ""))
    for y, part, x in zip(graph["labels"], parts, graph["features"], strict=True):
        lines.append(",".join([str(y), part, *(str(v) for v in x)]))
    (folder / "nodes.csv").write_text("\n".join(lines), encoding="utf-8")
    ends = "\n".join(f"{i},{j}" for i, j in graph["edge_index"].T.tolist())
    (folder / "edges.csv").write_text(f"source,target\n{ends}\n", encoding="utf-8")
    splits = potstill.load_data(folder)
    small = potstill.distill(splits, "herding", ipc=8, progress=None)
    at = torch.as_tensor(small.index)
    torch.testing.assert_close(torch.as_tensor(small.inputs), splits.train.inputs[at])
    page = potstill.report(small.save(tmp_path / "s.safetensors"), tmp_path / "p.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;w&lt;/b&gt;" in page
    assert "<b>w</b>" not in page
