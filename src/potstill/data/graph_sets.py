"""Loader of many graphs with a class each: a folder in the TU format, PyTorch Geometric's ``Data``, or networkx graphs.

A sample is one tensor (n, d + n) for at most n nodes: the features of the nodes, and the upper triangle of the
adjacency, with a 1 on its diagonal for each node that is there. Nodes are in descending order of their degrees, then of
their features, so that equal graphs of another numbering are mostly equal.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from potstill.core import InputSpec, Normalization, Splits, Task, registry
from potstill.data.arrays import encode_labels, to_array
from potstill.data.limits import require_memory
from potstill.data.read_options import ReadOptions
from potstill.data.splits import RawPart, RawSplits, assemble
from potstill.errors import PotstillError

__all__ = ["read_graph_set"]

Array = npt.NDArray[Any]
_REFUSED = ("label", "size", "stream", "missing", "text", "encode", "series", "horizontal_flip")
_MOST_NODES = 512


@dataclass(frozen=True, kw_only=True)
class _Padded:
    """A representation of graphs.

    Raises:
        PotstillError: a setting out of its range.
    """

    nodes: int = 0
    """Nodes up to which graphs are read; larger ones are left out. 0: those of the largest, up to 128."""

    def __post_init__(self) -> None:
        if not 0 <= self.nodes <= _MOST_NODES:
            raise PotstillError(f"graphs are read up to {_MOST_NODES} nodes, but nodes is {self.nodes}; change it")


_DEFAULT_MOST = 128


@dataclass(frozen=True, kw_only=True)
class _Graph:
    """One graph: features (n, d), undirected edges (2, m) and its label."""

    features: Array
    edges: Array
    label: Any


def read_graph_set(task: Task, data: object, options: ReadOptions) -> Splits:
    """Read graphs with a class each.

    Args:
        task: classification.
        data: a folder with ``NAME_A.txt``, ``NAME_graph_indicator.txt`` and ``NAME_graph_labels.txt`` (and
            ``NAME_node_labels.txt`` or ``NAME_node_attributes.txt``), or a sequence of PyTorch Geometric's ``Data``
            with ``y``, or of networkx graphs whose attribute ``label`` is their class.
        options: how to read it.

    Raises:
        PotstillError: files or objects that are not understood, or options of other data.
    """
    for option in _REFUSED:
        if getattr(options, option) is not None:
            raise PotstillError(f"graphs are read without `{option}=`; leave it out")
    if options.skip_bad or options.group is not None or options.attribute is not None:
        which = "skip_bad" if options.skip_bad else "group" if options.group is not None else "attribute"
        raise PotstillError(f"graphs are read without `{which}=`; leave it out")
    padded = _parse(options.representation)
    name, graphs, notes = _read_folder(Path(data)) if isinstance(data, str | Path) else _read_objects(data)
    sizes = [len(g.features) for g in graphs]
    most = padded.nodes or max(sizes)
    if not padded.nodes and most > _DEFAULT_MOST:
        raise PotstillError(
            f"{name}: the largest graph has {most:,} nodes, and {sum(s > _DEFAULT_MOST for s in sizes):,} have more "
            f"than {_DEFAULT_MOST}; give representation=padded:nodes=N, which leaves larger ones out"
        )
    kept = [g for g in graphs if len(g.features) <= most]
    if len(kept) < len(graphs):
        notes.append(f"{name}: {len(graphs) - len(kept):,} graphs of more than {most} nodes are left out")
    if not kept:
        raise PotstillError(f"{name}: no graph has at most {most} nodes; raise nodes= of the representation")
    d = kept[0].features.shape[1]
    require_memory(4 * len(kept) * most * (d + most), f"{name}: its padded graphs", "give fewer nodes")
    y, _, classes, label_notes = encode_labels([g.label for g in kept], None, name=name)
    edges = sum(g.edges.shape[1] for g in kept)
    notes = [
        f"{name}: {len(kept):,} graphs of {min(sizes)} to {min(most, max(sizes))} nodes, {edges:,} undirected edges, "
        f"{d} feature{'s' * (d > 1)} of a node", *notes, *label_notes,
    ]  # fmt: skip
    inputs = torch.stack([torch.from_numpy(_pad(g, most)) for g in kept])
    raw = RawSplits(
        name=name, train=RawPart(inputs=inputs, labels=y, places=torch.arange(len(kept))), test=None,
        spec=InputSpec(kind="graph", shape=(most, d + most), units="features of nodes, and their edges"),
        classes=classes, notes=tuple(notes),
        normalization=options.normalization or Normalization(torch.zeros(most), torch.ones(most)),
    )  # fmt: skip
    return assemble(raw, options)


def _accepts(data: object) -> bool:
    if isinstance(data, str | Path):
        return os.path.isdir(data) and _tu_name(Path(data)) is not None  # a name that is too long is no folder
    return isinstance(data, Sequence) and bool(data) and all(_is_graph(each) for each in data)


read_graph_set.accepts = _accepts  # type: ignore[attr-defined]


def _is_graph(each: object) -> bool:
    return hasattr(each, "edge_index") or type(each).__module__.partition(".")[0] == "networkx"


def _parse(spelled: str | None) -> _Padded:
    name, _, settings = (spelled or "padded").partition(":")
    if name != "padded":
        raise PotstillError(
            f'graphs have the representation padded, not {name[:40]!r}; for example `representation="padded:nodes=64"`'
        )
    representation: _Padded = registry.with_settings("representation padded", _Padded, settings)
    return representation


def _tu_name(folder: Path) -> str | None:
    found = sorted(p.name.removesuffix("_A.txt") for p in folder.glob("*_A.txt"))
    return next((name for name in found if (folder / f"{name}_graph_indicator.txt").is_file()), None)


def _rows(path: Path, kind: type = int) -> Array:
    """Return the numbers of a file with one row a line, separated by commas."""
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        rows = [[kind(v) for v in line.replace(",", " ").split()] for line in lines]
        found = np.array(rows, dtype=np.float64 if kind is float else np.int64)
    except FileNotFoundError as error:
        raise PotstillError(f"{path}: no such file; graphs need it") from error
    except (OSError, ValueError, OverflowError) as error:
        raise PotstillError(f"{path}: rows of numbers are required ({str(error)[:80]}); correct it") from error
    if found.ndim != 2:
        raise PotstillError(f"{path}: at least one row of numbers is required, each as long as the others; correct it")
    return found


def _read_folder(folder: Path) -> tuple[str, list[_Graph], list[str]]:
    name = _tu_name(folder)
    if name is None:
        raise PotstillError(
            f"{folder}: graphs need NAME_A.txt, NAME_graph_indicator.txt and NAME_graph_labels.txt; give such a folder"
        )
    at = folder / name
    pairs, owner = _rows(Path(f"{at}_A.txt")), _rows(Path(f"{at}_graph_indicator.txt"))[:, 0]
    labels = _rows(Path(f"{at}_graph_labels.txt"))[:, 0]
    n, count, notes = len(owner), len(labels), list[str]()
    if pairs.shape[1] != 2 or pairs.min() < 1 or pairs.max() > n:
        raise PotstillError(f"{at}_A.txt: two nodes in each row are required, from 1 to {n:,}; correct it")
    if owner.min() < 1 or owner.max() > count:
        raise PotstillError(f"{at}_graph_indicator.txt: numbers of graphs from 1 to {count:,} are required; correct it")
    if (owner[pairs[:, 0] - 1] != owner[pairs[:, 1] - 1]).any():
        raise PotstillError(f"{at}_A.txt: an edge joins two graphs; correct it")
    features = _features(at, n)
    notes += [f"{name}: labels of edges are not read"] * Path(f"{at}_edge_labels.txt").is_file()
    order = np.argsort(owner, kind="stable")
    ends = np.searchsorted(owner[order], np.arange(1, count + 2))
    place = np.empty(n, dtype=np.int64)
    place[order] = np.arange(n)
    by_graph = np.argsort(owner[pairs[:, 0] - 1], kind="stable")
    cuts = np.searchsorted(owner[pairs[:, 0] - 1][by_graph], np.arange(1, count + 2))
    graphs = []
    for g in range(count):
        nodes = order[ends[g] : ends[g + 1]]
        if not len(nodes):
            raise PotstillError(f"{at}_graph_indicator.txt: graph {g + 1} has no node; correct it")
        inside = place[pairs[by_graph[cuts[g] : cuts[g + 1]]] - 1].T - ends[g]
        graphs.append(_Graph(features=features[nodes], edges=_once(inside), label=int(labels[g])))
    return name, graphs, notes


def _features(at: Path, n: int) -> Array:
    """Return attributes of nodes, their labels one-hot, or a 1 for each where there are neither."""
    attributes, labels = Path(f"{at}_node_attributes.txt"), Path(f"{at}_node_labels.txt")
    parts = []
    if labels.is_file():
        codes = np.unique(_rows(labels)[:, 0], return_inverse=True)[1]
        parts.append(np.eye(int(codes.max()) + 1, dtype=np.float32)[codes])
    if attributes.is_file():
        parts.append(_rows(attributes, float).astype(np.float32))
    if not parts:
        parts.append(np.ones((n, 1), dtype=np.float32))
    if any(len(part) != n for part in parts):
        raise PotstillError(f"{at}: {n:,} nodes are in a graph, but {len(parts[0]):,} have labels; correct the files")
    return np.concatenate(parts, 1)


def _read_objects(data: Any) -> tuple[str, list[_Graph], list[str]]:
    if not (isinstance(data, Sequence) and data and all(_is_graph(each) for each in data)):
        raise PotstillError(
            f"graphs are a folder in the TU format or a list of graphs, not a {type(data).__name__}; give one of them"
        )
    return "graphs", [_of_object(each, n) for n, each in enumerate(data)], []


def _of_object(each: Any, number: int) -> _Graph:
    name = f"graph {number}"
    if not hasattr(each, "edge_index"):
        nodes = {node: i for i, node in enumerate(each.nodes)}
        rows = [each.nodes[node].get("x") for node in nodes]
        ends = np.array([(nodes[u], nodes[v]) for u, v in each.edges()], dtype=np.int64).reshape(-1, 2).T
        label, n = each.graph.get("label"), len(nodes)
        x = (
            None
            if any(row is None for row in rows)
            else np.stack([np.atleast_1d(row) for row in rows])
            if rows
            else None
        )
    else:
        ends = to_array(each.edge_index, f"{name}: edge_index").astype(np.int64)
        x = None if getattr(each, "x", None) is None else to_array(each.x, f"{name}: x")
        y = getattr(each, "y", None)
        values = [] if y is None else to_array(y, f"{name}: y").reshape(-1).tolist()
        label = values[0] if len(values) == 1 else None
        n = int(getattr(each, "num_nodes", None) or (0 if x is None else len(x)))
    if label is None:
        raise PotstillError(f"{name}: one class is required, as y or as the graph's attribute label; give it")
    x = np.ones((n, 1), dtype=np.float32) if x is None else x.astype(np.float32)
    if not n or len(x) != n or x.ndim != 2 or not np.isfinite(x).all():
        raise PotstillError(f"{name}: finite features (nodes, features) of at least one node are required; correct x")
    if ends.shape[0] != 2 or (ends.size and not 0 <= int(ends.min()) <= int(ends.max()) < n):
        raise PotstillError(f"{name}: edges (2, edges) between its {n:,} nodes are required; correct edge_index")
    return _Graph(features=x, edges=_once(ends), label=int(label) if isinstance(label, float) else label)


def _once(ends: Array) -> Array:
    """Return each undirected edge once, without loops."""
    pairs = np.sort(ends.reshape(2, -1), axis=0)
    pairs = pairs[:, pairs[0] != pairs[1]]
    return np.unique(pairs, axis=1) if pairs.size else pairs


def _pad(graph: _Graph, most: int) -> npt.NDArray[np.float32]:
    """Return features and edges (most, d + most), nodes by degree and features in descending order."""
    x = graph.features.astype(np.float32)
    n, d = x.shape
    adjacency = np.eye(n, dtype=np.float32)
    adjacency[graph.edges[0], graph.edges[1]] = adjacency[graph.edges[1], graph.edges[0]] = 1
    order = np.lexsort([*(-x[:, j] for j in range(d - 1, -1, -1)), -adjacency.sum(1)])
    padded = np.zeros((most, d + most), dtype=np.float32)
    padded[:n, :d] = x[order]
    padded[:n, d : d + n] = np.triu(adjacency[np.ix_(order, order)])
    return padded
