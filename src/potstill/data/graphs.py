"""Loader of graphs whose nodes are classified: every labelled node becomes the vector of its propagated features."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from potstill.core import InputSpec, Splits, Task
from potstill.data.arrays import encode_labels
from potstill.data.graph import NodeGraph, parse_propagated
from potstill.data.graph_files import GraphArrays, holds_graph, read_graph_arrays
from potstill.data.in_memory import TensorSource
from potstill.data.limits import require_memory
from potstill.data.read_options import ReadOptions
from potstill.data.splits import RawPart, RawSplits, assemble, draw_test_split
from potstill.data.text_encoder import text_normalization
from potstill.errors import PotstillError
from potstill.functional.graph import undirected_edges

__all__ = ["read_graph"]

_REFUSED = ("size", "stream", "missing", "text", "encode", "series", "horizontal_flip")


def read_graph(task: Task, data: object, options: ReadOptions) -> Splits:
    """Read a graph for node classification: an ``.npz``, a folder with nodes.csv and edges.csv, PyTorch Geometric's
    ``Data``, a networkx graph, or a mapping of arrays.

    Edges count in both directions, and loops are left out. Without a mask of test nodes, all labelled nodes that are in
    no mask are tested where there is a mask of training nodes; else test nodes are drawn from the labelled ones.

    Args:
        task: classification.
        data: what holds it.
        options: how to read it; ``representation`` says how a node becomes a vector.

    Raises:
        PotstillError: edges, features, labels or masks that are not understood, or options of other data.
    """
    for option in _REFUSED:
        if getattr(options, option) is not None:
            raise PotstillError(f"nodes of a graph are read without `{option}=`; leave it out")
    if options.skip_bad or options.group is not None or options.attribute is not None:
        which = "skip_bad" if options.skip_bad else "group" if options.group is not None else "attribute"
        raise PotstillError(f"nodes of a graph are read without `{which}=`; leave it out")
    representation = parse_propagated(options.representation)
    read = read_graph_arrays(data, options.label)
    require_memory(3 * read.features.nbytes, f"{read.name}: features of its nodes", "give fewer features")
    parts, y, test_y, validation_y, classes, notes = _parts(read, options)
    x, scale = representation.scaled(torch.from_numpy(read.features), parts[0])
    edges = undirected_edges(torch.from_numpy(read.edges))
    graph = NodeGraph(
        features=x, edges=edges, validation=parts[1], validation_labels=validation_y, representation=representation,
        columns=read.columns,
    )  # fmt: skip
    loops = int((read.edges[0] == read.edges[1]).sum())
    notes.append(
        f"{read.name}: {len(x):,} nodes, {edges.shape[1]:,} undirected edges"
        + (f" ({loops:,} loops left out)" if loops else "")
        + f"; {len(parts[0]):,} nodes train, {len(parts[1]):,} choose, {len(parts[2]):,} test"
        + {"rows": "; each node's features sum to 1", "columns": "; features standardised"}.get(scale, "")
    )
    train_x = graph.training_vectors(parts[0])

    def part(at: Tensor, inputs: Tensor, labels: Tensor) -> RawPart:
        names = tuple(read.names[i] for i in at.tolist()) if read.names else ()
        return RawPart(inputs=inputs, labels=labels, places=at, names=names)

    raw = RawSplits(
        name=read.name, train=part(parts[0], train_x, y),
        test=part(parts[2], graph.propagated[parts[2]], test_y) if len(parts[2]) else None,
        spec=InputSpec(
            kind="node", shape=(x.shape[1],), units="propagated features of a node", columns=read.columns
        ),
        classes=classes, normalization=options.normalization or text_normalization(train_x), notes=tuple(notes),
    )  # fmt: skip
    made = assemble(raw, options if len(parts[2]) else replace(options, test_fraction=0))

    def with_graph(source: Any) -> Any:
        return replace(source, graph=graph) if isinstance(source, TensorSource) else source

    return replace(made, train=with_graph(made.train), test=with_graph(made.test))


read_graph.accepts = holds_graph  # type: ignore[attr-defined]


def _parts(
    read: GraphArrays, options: ReadOptions
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor, Tensor, Tensor, tuple[str, ...], list[str]]:
    """Return training, validation and test nodes, their labels, the classes, and notes."""
    name, has_label = read.name, np.array([each is not None for each in read.labels])
    given = [None if mask is None else torch.from_numpy(np.where(mask)[0]) for mask in read.masks]
    notes: list[str] = []
    for nodes, what in zip(given, ("training", "validation", "test"), strict=True):
        if nodes is not None and (lacking := int((~has_label[nodes.numpy()]).sum())):
            raise PotstillError(
                f"{name}: {lacking:,} {what} nodes have no label; give one, or take them out of the mask"
            )
    others = torch.from_numpy(has_label)
    for nodes in given:
        if nodes is not None:
            others[nodes] = False
    train = torch.where(others)[0] if given[0] is None else given[0]
    if not len(train):
        raise PotstillError(f"{name}: there are no training nodes with a label; give train_mask or labels")

    def encoded(nodes: Int[Tensor, " k"] | None) -> list[Any]:
        return [] if nodes is None else [read.labels[i] for i in nodes.tolist()]

    if given[0] is not None and given[2] is None and options.test_fraction and others.any():
        given[2] = unmasked = torch.where(others)[0]
        notes.append(f"{name}: test nodes are the {len(unmasked):,} labelled ones that are in no mask")
    rest = [nodes for nodes in given[1:] if nodes is not None and len(nodes)]
    y, more, classes, label_notes = encode_labels(
        encoded(train), [each for nodes in rest for each in encoded(nodes)] if rest else None, classes=read.classes,
        name=name,
    )  # fmt: skip
    notes += label_notes
    validation = torch.zeros(0, dtype=torch.int64) if given[1] is None else given[1]
    test = torch.zeros(0, dtype=torch.int64) if given[2] is None else given[2]
    everything = torch.zeros(0, dtype=torch.int64) if more is None else more
    validation_y, test_y = everything[: len(validation)], everything[len(validation) :]
    if given[2] is None and options.test_fraction:
        kept, held, drawn = draw_test_split(name, classes, y, options, None, None)
        notes += drawn
        test, test_y, train, y = train[held], y[held], train[kept], y[kept]
    return (train, validation, test), y, test_y, validation_y, classes, notes
