"""Condensed graphs as GraphSlim writes them (Emory-Melody/GraphSlim, dataset/utils.py): ``feat_NAME.pt``,
``label_NAME.pt`` and, where nodes have edges, ``adj_NAME.pt``, with NAME = ``DATASET_RATE_SEED``.

A set without ``adj``, or whose adjacency has no edge between two nodes, is one of nodes without edges. Another one
becomes a payload {X, A} of parametrization ``learned-graph``.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from potstill._util.input_limits import limit_hint, limits
from potstill.core import DecodeContext, InputSpec, Normalization, Source, registry
from potstill.data.text_encoder import text_normalization
from potstill.dataset_file import Contents, Distilled, Encoding, Provenance, Schema, build
from potstill.dataset_file.safe_unpickle import load_torch_file
from potstill.errors import PotstillError
from potstill.parametrize.learned_graph import EDGES, FEATURES, LearnedGraph

__all__ = ["find_graphs", "import_graphslim"]

_FILE = re.compile(r"feat_(.+)\.pt")
_NEAR = 1e-4
"""Difference of two weights that are taken for equal."""


def find_graphs(path: Path) -> list[Path]:
    """Return the files of features in a folder, by name; of a file itself, where it is one."""
    if path.is_dir():
        return sorted(p for p in path.iterdir() if _FILE.fullmatch(p.name) and _sibling(p, "label").is_file())
    return [path] if _FILE.fullmatch(path.name) and _sibling(path, "label").is_file() else []


def import_graphslim(path: Path, *, method: str | None = None, train: Source | None = None) -> Distilled:
    """Import a condensed graph.

    Args:
        path: its file of features, or a folder with one.
        method: method that made it. Default: the folder's name where it is a method here, else graphslim.
        train: training part of the original graph. Default: none, and classes are numbers.

    Raises:
        PotstillError: files are missing, unsafe or of another form, or the data are others: one line.
    """
    graph = _read(path, train)
    name = method or (graph.file.parent.name if graph.file.parent.name in registry.names("methods") else "graphslim")
    spec, normalization, classes, about = _of_data(graph, train)
    contents, encoding = _contents(graph, spec, normalization, train)
    hard = graph.labels.argmax(1) if graph.labels.ndim == 2 else graph.labels
    files = ", ".join(graph.hashes)
    notes = [f"made by another program and imported from {files}: that it saw the training part alone is its word"]
    return build(
        contents, Schema(classes=classes, input=spec, normalization=normalization),
        Provenance(
            method=name, config={"imported": "graphslim"}, ipc=max(Counter(hard.tolist()).values()),
            source={**about, "notes": notes},
            outcome={"kind": "imported", "message": f"released set, read from {files}", "step": 0},
            extra={"imported": {"form": "graphslim", "sha256": dict(graph.hashes)}},
        ),
        encoding,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class _Graph:
    """Contents of the files. Legend: n nodes, d features, k classes."""

    file: Path
    features: Float[Tensor, "n d"]
    labels: Tensor
    """int64 (n,), or float32 rows (n, k) that sum to 1."""
    weights: Tensor | None
    """Weights of the pairs i < j, row by row; ``None``: nodes have no edges."""
    hashes: Mapping[str, str]


def _sibling(features: Path, what: str) -> Path:
    return features.with_name(features.name.replace("feat", what, 1))


def _read(path: Path, train: Source | None) -> _Graph:
    found = find_graphs(path)
    if len(found) != 1:
        names = ", ".join(p.name for p in found[:3])
        raise PotstillError(
            f"{path}: one feat_DATASET_RATE_SEED.pt beside its label_….pt is required, but there are {len(found)}"
            f"{f' ({names})' if names else ''}; give the file of features"
        )
    file = found[0]
    features = _tensor(file, "features (nodes, features)", 2)
    if not features.is_floating_point() or 0 in features.shape or not bool(features.isfinite().all()):
        raise PotstillError(f"{file}: finite features of at least one node are required; get the file again")
    features = features.float()
    beside = [file, _sibling(file, "label")]
    labels = _labels(beside[1], len(features))
    weights, adjacency = None, _sibling(file, "adj")
    if adjacency.is_file():
        beside.append(adjacency)
        weights = _weights(adjacency, len(features))
    if train is not None and (train.input.kind != "node" or train.input.shape != features.shape[1:]):
        raise PotstillError(
            f"{file}: nodes have {features.shape[1]:,} features, but {train.name} has {train.input.kind} data of "
            f"{'×'.join(map(str, train.input.shape))}; give the graph that the set was made of"
        )
    hashes = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in beside}
    return _Graph(file=file, features=features, labels=labels, weights=weights, hashes=hashes)


def _tensor(file: Path, what: str, axes: int) -> Tensor:
    content = load_torch_file(file, limits().set_bytes)
    if not isinstance(content, Tensor) or content.ndim != axes:
        said = f"a tensor {list(content.shape)}" if isinstance(content, Tensor) else f"a {type(content).__name__}"
        raise PotstillError(f"{file}: {what} are required, but this is {said}; check `format=`")
    return content.detach()


def _labels(file: Path, nodes: int) -> Tensor:
    content = load_torch_file(file, limits().set_bytes)
    labels = content.detach() if isinstance(content, Tensor) else torch.zeros(0)
    if labels.ndim not in (1, 2) or len(labels) != nodes:
        raise PotstillError(f"{file}: {nodes:,} classes, or rows, are required as labels; get the file again")
    if labels.ndim == 2:
        rows = labels.float()
        if not bool(((rows >= -_NEAR) & (rows <= 1 + _NEAR)).all() and ((rows.sum(1) - 1).abs() < 1e-3).all()):
            raise PotstillError(
                f"{file}: rows of labels are read as probabilities, but some do not sum to 1; save their classes "
                "(argmax) or their softmax"
            )
        return rows.clamp(0, 1) / rows.clamp(0, 1).sum(1, keepdim=True)
    if labels.is_floating_point() or int(labels.min()) < 0:
        raise PotstillError(f"{file}: labels must be classes, whole numbers from 0; get the file again")
    if int(labels.max()) >= limits().classes:
        raise PotstillError(f"{file}: its labels count up to {int(labels.max()):,}; {limit_hint('classes')}")
    return labels.long()


def _weights(file: Path, nodes: int) -> Tensor | None:
    """Return the weights of the pairs i < j; ``None`` where no two nodes have an edge."""
    content = load_torch_file(file, limits().set_bytes)
    shape = [nodes, nodes]
    if not isinstance(content, Tensor) or list(content.shape) != shape:
        raise PotstillError(f"{file}: one adjacency {shape} is required; save it as a tensor, dense or sparse")
    if content.layout != torch.strided and 4 * nodes * nodes > limits().set_bytes:
        raise PotstillError(f"{file}: {nodes:,} nodes are too many for all pairs; {limit_hint('set_bytes')}")
    dense = (content if content.layout == torch.strided else content.to_dense()).detach().float()
    if not bool(dense.isfinite().all()) or float(dense.min()) < 0:
        raise PotstillError(f"{file}: weights of edges must be finite and at least 0; get the file again")
    off = dense - torch.diag(dense.diagonal())
    if not bool(off.any()):
        return None
    if bool(dense.diagonal().any()):
        raise PotstillError(
            f"{file}: nodes have edges to others and loops with weights, but learners add a loop of 1 to each; save "
            "the adjacency with a diagonal of 0"
        )
    if float((off - off.T).abs().max()) > _NEAR:
        raise PotstillError(f"{file}: edges count in both directions, but the adjacency is not symmetric; save A + Aᵀ")
    if float(off.max()) > 1:
        raise PotstillError(
            f"{file}: weights of edges are read from 0 to 1, but some are larger; divide by the largest"
        )
    above = torch.triu_indices(nodes, nodes, 1)
    return off[above[0], above[1]]


def _of_data(
    graph: _Graph, train: Source | None
) -> tuple[InputSpec, Normalization, tuple[str, ...], Mapping[str, Any]]:
    """Return the input spec, the normalization, class names, and what is known of the data."""
    k = graph.labels.shape[1] if graph.labels.ndim == 2 else int(graph.labels.max()) + 1
    if train is None:
        spec = InputSpec(kind="node", shape=tuple(graph.features.shape[1:]), units="propagated features of a node")
        return spec, text_normalization(graph.features), tuple(map(str, range(k))), {"name": "unknown"}
    classes = len(train.classes)
    if k > classes or (graph.labels.ndim == 2 and k != classes):
        raise PotstillError(f"{graph.file}: labels have {k} classes, but {train.name} {classes}; give its own graph")
    about = {"name": train.name, "samples": len(train), "hash": train.content_hash}
    return train.input, train.normalization, tuple(train.classes), about


def _contents(
    graph: _Graph, spec: InputSpec, normalization: Normalization, train: Source | None
) -> tuple[Contents, Encoding]:
    if graph.weights is None:
        return Contents(inputs=graph.features, labels=graph.labels), Encoding()
    hops = getattr(getattr(getattr(train, "graph", None), "representation", None), "hops", LearnedGraph().hops)
    payload = {FEATURES: graph.features, EDGES: graph.weights}
    context = DecodeContext(input=spec, normalization=normalization)
    inputs = LearnedGraph(hops=max(1, hops)).decode(payload, context)
    decoder = {"parametrization": f"learned-graph:hops={max(1, hops)}", "space": "data"}
    return Contents(inputs=inputs, labels=graph.labels, payload=payload), Encoding(decoder=decoder)
