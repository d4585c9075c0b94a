"""Graphs: samples that have axes of their own, N nodes and E edges, as a kind of input and a network for it."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from potstill.core import InputSpec, Normalization
from potstill.data import TensorSource
from potstill.kinds import Kind

GRAPH = Kind(name="wired", noun="graphs", network="graph-net")


def graph_source(
    nodes: Sequence[Tensor], edges: Sequence[Tensor], labels: Tensor, classes: tuple[str, ...]
) -> TensorSource:
    """Graphs as a source.

    Args:
        nodes: features (N, d) of each graph's nodes.
        edges: node numbers (E, 2) of each graph's edges, from and to, within the graph.
        labels: int64 class of each graph.
    """
    most = max(map(len, nodes))
    spec = InputSpec(
        kind="wired", shape=(), units="",
        parts=(
            ("nodes", InputSpec(kind="nodes", shape=(-1, nodes[0].shape[1]), units="")),
            ("edges", InputSpec(kind="edges", shape=(-1, 2), units="", levels=(most, most))),
        ),
    )  # fmt: skip
    inputs: dict[str, Tensor] = {}
    for name, several in (("nodes", nodes), ("edges", edges)):
        lengths = torch.tensor([len(one) for one in several])
        inputs |= {f"{name}/values": torch.cat(list(several)), f"{name}/offsets": lengths.cumsum(0) - lengths}
    normalization = Normalization(torch.zeros(0), torch.ones(0))
    return TensorSource(
        name="graphs", input=spec, classes=classes, normalization=normalization, inputs=inputs, labels=labels
    )


class GraphNet(nn.Module):
    """Two rounds of sums over neighbours, then the mean over a graph's nodes."""

    def __init__(self, spec: InputSpec, classes: int) -> None:
        super().__init__()
        self.first = nn.Linear(2 * dict(spec.parts)["nodes"].shape[1], 16)
        self.second = nn.Linear(32, 16)
        self.last = nn.Linear(16, classes)

    def forward(self, x: Mapping[str, Tensor]) -> Tensor:
        """Logits (n, classes) of n graphs."""
        h, offsets = x["nodes/values"], x["nodes/offsets"]
        of_node, of_edge = (_owners(x[f"{p}/offsets"], len(x[f"{p}/values"])) for p in ("nodes", "edges"))
        start, end = (x["edges/values"] + offsets[of_edge][:, None]).unbind(1)
        for layer in (self.first, self.second):
            near = torch.zeros_like(h).index_add(0, end, h[start])
            h = layer(torch.cat([h, near], 1)).relu()
        total = torch.zeros(len(offsets), h.shape[1], device=h.device).index_add(0, of_node, h)
        nodes = torch.bincount(of_node, minlength=len(offsets)).clamp_min(1)
        return self.last(total / nodes[:, None])


def _owners(offsets: Tensor, total: int) -> Tensor:
    """The graph that each row belongs to."""
    lengths = torch.cat([offsets[1:], offsets.new_tensor([total])]) - offsets
    return torch.repeat_interleave(torch.arange(len(offsets), device=offsets.device), lengths)
