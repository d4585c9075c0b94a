"""Sets of nodes as GraphSlim and PyTorch Geometric have them."""

import io
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from potstill._util.optional import import_optional
from potstill.dataset_file.dataset import Distilled
from potstill.dataset_file.folders import write_folder
from potstill.errors import PotstillError
from potstill.parametrize.learned_graph import EDGES, FEATURES, adjacency_of

__all__ = ["nodes_of_set", "to_geometric", "write_graphslim"]


def nodes_of_set(distilled: Distilled) -> tuple[Tensor, Tensor | None]:
    """Return features (n, d) in data units and the adjacency (n, n) without loops; ``None``: nodes have no edges.

    Raises:
        PotstillError: the set holds no nodes.
    """
    if distilled.input.kind != "node":
        raise PotstillError(
            f"a graph is made of a set of nodes, but this one has {distilled.input.kind} inputs; choose another form"
        )
    described = distilled.metadata.get("decoder") or {}
    if str(described.get("parametrization", "")).partition(":")[0] != "learned-graph":
        return distilled.inputs, None
    x = distilled.payload[FEATURES].float()
    x = x if described.get("space") == "data" else distilled.normalization.invert(x)
    return x, adjacency_of(distilled.payload) if EDGES in distilled.payload else None


def write_graphslim(distilled: Distilled, path: Path) -> None:
    """Write a folder of ``feat_``, ``adj_`` and ``label_DATASET_RATE_SEED.pt``, as GraphSlim's ``load_reduced`` reads
    them. RATE is nodes per training node, with which it is started (``-R``); nodes without edges have A = I.

    Raises:
        PotstillError: the set holds no nodes, or the path is taken.
    """
    x, adjacency = nodes_of_set(distilled)
    source = distilled.metadata["source"]
    name = re.sub(r"\W+", "-", str(source.get("name", "")), flags=re.ASCII).strip("-") or "graph"
    samples = int(source.get("samples") or 0)
    rate = round(len(x) / samples, 6) if samples else 1.0
    ending = f"{name}_{rate}_{distilled.metadata['seed']}.pt"
    tensors = {
        "feat": x, "adj": torch.eye(len(x)) if adjacency is None else adjacency, "label": distilled.labels,
    }  # fmt: skip

    def fill(folder: Path) -> None:
        for part, tensor in tensors.items():
            buffer = io.BytesIO()
            torch.save(tensor.detach().clone(), buffer)
            (folder / f"{part}_{ending}").write_bytes(buffer.getvalue())

    write_folder(path, fill)


def to_geometric(distilled: Distilled) -> Any:
    """Return a set of nodes as PyTorch Geometric's ``Data``: ``x``, ``y``, ``edge_index``, and ``edge_weight`` where
    nodes have edges. All nodes are in ``train_mask``.

    Raises:
        PotstillError: the set holds no nodes, or torch-geometric is not installed.
    """
    data = import_optional("torch_geometric.data", "a graph for PyTorch Geometric", "graphs")
    x, adjacency = nodes_of_set(distilled)
    extra: dict[str, Tensor] = {}
    ends = torch.zeros(2, 0, dtype=torch.int64)
    if adjacency is not None:
        ends = adjacency.nonzero().T.contiguous()
        extra["edge_weight"] = adjacency[ends[0], ends[1]]
    mask = torch.ones(len(x), dtype=torch.bool)
    return data.Data(x=x, y=distilled.labels, edge_index=ends, train_mask=mask, **extra)
