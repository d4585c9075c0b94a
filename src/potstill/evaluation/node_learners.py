"""Learners of nodes: GCN, SGC, GAT and an MLP, trained on a set of nodes and tested on the original graph.

Training follows the program of GCond (arXiv:2110.07580, ChandlerBang/GCond, models/gcn.py): 600 updates of Adam on the
whole set, a tenth of the rate and a new Adam from the middle on, and the weights of the update that is best on
validation nodes of the original graph. It looks at these after every update (``validate_every=1``); here every fifth is
looked at, as looking takes most of the time. Sets without an adjacency are nodes with a loop each.
"""

import warnings
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from potstill.augment.mix import label_rows
from potstill.core import Task
from potstill.data.graph import NodeGraph
from potstill.errors import PotstillError
from potstill.evaluation.estimators import Learner, Predictor, TrainingNodes
from potstill.evaluation.student import assign_gradients
from potstill.functional.graph import propagate
from potstill.nn.init import build_network
from potstill.rng import generator

__all__ = ["GAT", "GCN", "SGC", "NodeMLP"]

_SPARSE = 0.1
"""Fraction of features that are not 0, below which a product with them is sparse."""

_TRIAL_STEPS = 100
"""Updates of a learner that chooses among many candidate sets."""

Drop = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """Nodes as a network sees them. Legend: n nodes, d features."""

    x: Float[Tensor, "n d"]
    """Features, as a sparse matrix where most are 0."""
    adjacency: Float[Tensor, "n n"] | None
    """Normalised adjacency; ``None``: the identity."""

    @classmethod
    def of(cls, x: Tensor, adjacency: Tensor | None) -> "_View":
        filled = float((x != 0).float().mean()) if x.numel() else 1.0
        if filled >= _SPARSE:
            return cls(x, adjacency)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that torch calls this layout a beta
            return cls(x.to_sparse_csr(), adjacency)

    def around(self, nodes: Int[Tensor, " k"], hops: int) -> "tuple[_View, Tensor]":
        """Return the part that networks of so many layers need for some nodes, and the nodes' places in it."""
        inside = torch.zeros(len(self.x), dtype=torch.bool)
        inside[nodes] = True
        ends = torch.zeros(2, 0, dtype=torch.int64) if self.adjacency is None else self.adjacency.indices()
        for _ in range(hops):
            inside[ends[1][inside[ends[0]]]] = True
        members = torch.where(inside)[0]
        place = torch.zeros(len(self.x), dtype=torch.int64)
        place[members] = torch.arange(len(members))
        adjacency = None
        if self.adjacency is not None and hops:
            both = inside[ends].all(0)
            values, size = self.adjacency.values()[both], (len(members), len(members))
            adjacency = torch.sparse_coo_tensor(place[ends[:, both]], values, size, check_invariants=False).coalesce()
        x = self.x if self.x.layout == torch.strided else self.x.to_dense()
        return _View.of(x[members], adjacency), place[nodes]

    def spread(self, h: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        return h if self.adjacency is None else propagate(self.adjacency, h, 1)

    def times(self, layer: nn.Linear) -> Float[Tensor, "n k"]:
        """Return the product of the features and a layer's weights, without its bias."""
        if self.x.layout == torch.sparse_csr:
            product: Tensor = torch.sparse.mm(self.x, layer.weight.T.contiguous())
            return product
        dense: Tensor = self.x @ layer.weight.T
        return dense


class _Network(nn.Module):
    """Network over a `_View`."""

    @abstractmethod
    def forward(self, view: _View, drop: Drop) -> Float[Tensor, "n k"]:
        """Return the logits of all nodes."""


class _Convolutions(_Network):
    """Two graph convolutions, or two linear layers where edges are not looked at."""

    def __init__(self, features: int, hidden: int, outputs: int, spread: bool) -> None:
        super().__init__()
        self.first, self.second, self.spread = nn.Linear(features, hidden), nn.Linear(hidden, outputs), spread

    def forward(self, view: _View, drop: Drop) -> Float[Tensor, "n k"]:
        on = view if self.spread else _View(view.x, None)
        hidden = drop((on.spread(on.times(self.first)) + self.first.bias).relu())
        return on.spread(hidden @ self.second.weight.T) + self.second.bias


class _Linear(_Network):
    """One linear layer on propagated features."""

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.only = nn.Linear(features, outputs)

    def forward(self, view: _View, drop: Drop) -> Float[Tensor, "n k"]:
        return view.times(self.only) + self.only.bias


class _Attention(_Network):
    """Two layers of attention over neighbours: several heads, then one (arXiv:1710.10903)."""

    def __init__(self, features: int, hidden: int, outputs: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.Linear(features, hidden), nn.Linear(hidden, outputs)
        self.ends = nn.Linear(hidden // heads, 2 * heads, bias=False)
        self.last_ends = nn.Linear(outputs, 2, bias=False)

    def forward(self, view: _View, drop: Drop) -> Float[Tensor, "n k"]:
        hidden = self._attend(view, view.times(self.first), self.ends.weight, self.heads)
        hidden = drop(F.elu(hidden + self.first.bias))
        return self._attend(view, hidden @ self.second.weight.T, self.last_ends.weight, 1) + self.second.bias

    def _attend(self, view: _View, h: Tensor, ends: Tensor, heads: int) -> Tensor:
        """Return the mean of neighbours by attention; ``ends`` (2·heads, width) score targets, then sources."""
        if view.adjacency is None:  # each node has itself alone
            return h
        split = h.reshape(len(h), heads, -1)
        target, source = ((split * part).sum(2) for part in ends.reshape(2, heads, -1))
        where = view.adjacency if view.adjacency.is_sparse else view.adjacency.to_sparse()
        row, column = where.indices()
        score = F.leaky_relu(target[row] + source[column], 0.2)
        largest = torch.full_like(target, -torch.inf).scatter_reduce(
            0, row[:, None].expand_as(score), score.detach(), "amax"
        )
        # an edge of a weight counts with it, so that a weak one is nearly none; unweighted ones have equal weights
        share = (score - largest[row]).exp() * self._weights(where, row, column)
        total = torch.zeros_like(target).index_add(0, row, share)
        part = (share / total[row])[:, :, None] * split[column]
        return torch.zeros_like(split).index_add(0, row, part).reshape(len(h), -1)

    @staticmethod
    def _weights(where: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """Return the edges' own weights (e, 1): the normalised ones over those of the loops at both ends."""
        values = where.values()
        own = torch.ones(where.shape[0], device=values.device)
        loops = row == column
        own[row[loops]] = values[loops]
        return (values / (own[row] * own[column]).sqrt())[:, None]


@dataclass(frozen=True, kw_only=True)
class _NodeLearner:
    """Common part of learners of nodes.

    Raises:
        PotstillError: a setting out of its range.
    """

    name: ClassVar[str]
    tasks: ClassVar[tuple[str, ...]] = ("classification",)
    draws: ClassVar[Any] = True
    steps: int = 600
    """Updates (``train_iters``)."""
    lr: float = 0.01
    """Learning rate of Adam; a tenth of it from the middle on."""
    weight_decay: float = 5e-4
    """Decay of all parameters, as part of the gradient."""
    hidden: int = 256
    """Hidden units (``hidden``)."""
    dropout: float = 0.5
    """Fraction of hidden units that an update leaves out."""
    validate_every: int = 5
    """Updates between two looks at validation nodes."""
    hops_read: ClassVar[int] = 2
    """Hops from a node that a network reads."""

    def __post_init__(self) -> None:
        for setting, least in (("steps", 1), ("hidden", 1), ("validate_every", 1)):
            if getattr(self, setting) < least:
                raise PotstillError(f"{self.name}: {setting} must be at least {least}, not {getattr(self, setting)}")
        if not 0 <= self.dropout < 1:
            raise PotstillError(f"{self.name}: dropout must be at least 0 and below 1, not {self.dropout}")

    @abstractmethod
    def network(self, features: int, outputs: int) -> _Network:
        """Return a fresh network."""

    def view(self, x: Tensor, adjacency: Tensor | None, graph: NodeGraph) -> _View:
        """Return the nodes as the network sees them."""
        return _View.of(x, adjacency)

    def for_trials(self) -> Learner:
        """Return the learner that chooses among many candidate sets: a linear layer on propagated features."""
        return SGC(steps=_TRIAL_STEPS, validate_every=_TRIAL_STEPS // 5)

    def fit(self, x: Tensor, y: Tensor, weights: Tensor | None, task: Task, seed: int) -> Predictor:
        """Refuse vectors without a graph.

        Raises:
            PotstillError: always.
        """
        raise PotstillError(f"{self.name} learns nodes of a graph, and these data are none; choose linear-model or mlp")

    def fit_nodes(
        self, training: TrainingNodes, task: Task, seed: int, graph: NodeGraph, test_nodes: Int[Tensor, " k"]
    ) -> Int[Tensor, " k"]:
        """Train on nodes and return the classes of the graph's nodes ``test_nodes``."""
        rng = generator(seed, self.name)
        training = training.to_device(graph.features.device)
        make: Any = partial(self.network, graph.features.shape[1], task.outputs)
        network = build_network(make, training.x.device, rng)
        learned = self.view(training.x, training.adjacency, graph)
        rows = label_rows(training.y.detach(), task.outputs, torch.float32)
        share = torch.ones(len(rows)) if training.weights is None else training.weights.detach().float()
        parameters = list(network.parameters())
        whole = self.view(graph.features, graph.adjacency, graph)
        near, judges = whole.around(graph.validation, self.hops_read)
        best, state = -1.0, {name: t.detach().clone() for name, t in network.state_dict().items()}
        moves = torch.optim.Adam(parameters, lr=self.lr, weight_decay=self.weight_decay, fused=True)
        for step in range(self.steps):
            if step == self.steps // 2 and step:
                moves = torch.optim.Adam(parameters, lr=0.1 * self.lr, weight_decay=self.weight_decay, fused=True)
            out = network(learned, partial(_dropped, part=self.dropout, rng=rng))
            out = out if training.labelled is None else out[training.labelled]
            loss = (-(F.log_softmax(out, 1) * rows).sum(1) * share).mean()
            # attention has no gradient where nodes have no neighbours, and decays to the plain mean
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
            assign_gradients(parameters, gradients)
            moves.step()
            last = step + 1 == self.steps
            if len(graph.validation) and (last or (step + 1) % self.validate_every == 0):
                with torch.no_grad():
                    said = network(near, _identity)[judges].argmax(1)
                right = float((said == graph.validation_labels).float().mean())
                if right > best:  # the first of equals
                    best, state = right, {name: t.detach().clone() for name, t in network.state_dict().items()}
        if len(graph.validation):
            network.load_state_dict(state)
        with torch.no_grad():
            answers: Tensor = network(whole, _identity)[test_nodes].argmax(1)
        return answers


def _identity(h: Tensor) -> Tensor:
    return h


def _dropped(h: Tensor, part: float, rng: Generator) -> Tensor:
    return h if not part else h * ((torch.rand(h.shape, generator=rng) >= part).to(h) / (1 - part))


@dataclass(frozen=True, kw_only=True)
class GCN(_NodeLearner):
    """Two graph convolutions (Kipf and Welling, arXiv:1609.02907)."""

    name: ClassVar[str] = "gcn"

    def network(self, features: int, outputs: int) -> _Network:
        return _Convolutions(features, self.hidden, outputs, True)


@dataclass(frozen=True, kw_only=True)
class NodeMLP(_NodeLearner):
    """Two linear layers on a node's own features: what the classes give without edges."""

    name: ClassVar[str] = "node-mlp"
    hops_read: ClassVar[int] = 0

    def network(self, features: int, outputs: int) -> _Network:
        return _Convolutions(features, self.hidden, outputs, False)

    def for_trials(self) -> Learner:
        """Return itself in fewer updates: what it reads is no propagated features."""
        return replace(self, steps=min(self.steps, _TRIAL_STEPS), validate_every=_TRIAL_STEPS // 5)


@dataclass(frozen=True, kw_only=True)
class SGC(_NodeLearner):
    """One linear layer on features after products with the adjacency (Wu et al., arXiv:1902.07153)."""

    name: ClassVar[str] = "sgc"
    hops_read: ClassVar[int] = 0
    hops: int = 2
    """Products with the adjacency."""

    def network(self, features: int, outputs: int) -> _Network:
        return _Linear(features, outputs)

    def view(self, x: Tensor, adjacency: Tensor | None, graph: NodeGraph) -> _View:
        if adjacency is graph.adjacency and self.hops == graph.representation.hops:
            return _View.of(graph.propagated, None)
        return _View.of(x if adjacency is None else propagate(adjacency, x, self.hops), None)


@dataclass(frozen=True, kw_only=True)
class GAT(_NodeLearner):
    """Two layers of attention over neighbours (Veličković et al., arXiv:1710.10903)."""

    name: ClassVar[str] = "gat"
    heads: int = 8
    """Heads of the first layer, which share the hidden units."""
    validate_every: int = 10
    """Updates between two looks at validation nodes: each is the price of several updates."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.heads < 1 or self.hidden % self.heads:
            raise PotstillError(f"gat: hidden {self.hidden} must be a multiple of heads, not of {self.heads}")

    def network(self, features: int, outputs: int) -> _Network:
        return _Attention(features, self.hidden, outputs, self.heads)
