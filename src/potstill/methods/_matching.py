"""The engine of matching: what is stored moves down an objective that real samples and networks take part in.

What differs between methods are the parts: the objective (`potstill.methods.gradient._gradients`,
`potstill.methods.distribution._features`), where the networks come from and how they go on
(`potstill.methods._networks` and its neighbours), the rules by which leaves move, and the start.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, TypeVar, final, runtime_checkable

import torch
from torch import Generator, Tensor

from potstill.core import Asset, Inputs, Metrics, Network, Normalization, Part, Problem, Space, Synthetic
from potstill.errors import PotstillError
from potstill.functional.coreset import central
from potstill.functional.features import embed_real
from potstill.functional.leaves import Leaves, Rule, Rules, descend, planted, under, values
from potstill.functional.sampling import random_per_class
from potstill.inputs import device_of
from potstill.rng import draw_seed

__all__ = [
    "TARGETS",
    "Descent",
    "Labels",
    "MatchState",
    "Matching",
    "Networks",
    "Objective",
    "PoolMember",
    "Seen",
    "Sloped",
    "Start",
    "augmenting",
    "bounds",
    "descended",
    "first_inputs",
    "first_samples",
    "hard_labels",
    "has_classes",
    "image",
    "inputs_of",
    "moves",
    "nearest_to_centres",
    "rate",
    "seen_inputs",
    "shown",
]  # fmt: skip

Start: TypeAlias = Literal["real", "noise", "k-means"]
Labels: TypeAlias = Literal["hard", "learned"]

Seen: TypeAlias = Mapping[str, Tensor]
"""What an objective looks at: ``inputs`` in model space (``inputs/NAME`` of each where they have names), ``labels``
(rows) where they are learned, and by its own name every leaf that is neither of the payload nor of the labels."""

TARGETS = "labels/targets"
"""The leaf of targets that are no classes: those of the samples that a set begins with."""

Sloped: TypeAlias = tuple[float, Mapping[str, Tensor]]
"""A loss, and its gradients by the names of `Seen`."""

CONFIDENCE = 0.9
"""What learned labels first give their own class. Ours."""

K_MEANS_ITERATIONS = 20
"""Of a start from centres. Ours."""

B = TypeVar("B")


@dataclass(frozen=True, kw_only=True)
class PoolMember:
    """A network in training, as a value."""

    seed: int
    theta: Mapping[str, Tensor]
    velocity: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]
    right: int = 0
    """Training samples that it classified rightly as it met them, of ``seen``."""
    seen: int = 0

    @property
    def accuracy(self) -> float:
        return self.right / self.seen if self.seen else 0.0


@dataclass(frozen=True, kw_only=True)
class MatchState:
    """Everything that evolves while a method matches."""

    leaves: Leaves
    """``payload/…``, and ``labels/logits`` where labels are learned."""
    pool: tuple[PoolMember, ...] = ()
    """Networks that train along."""
    block: int = 0
    """Seed of the draws that some steps share."""
    used: int = 0
    """Steps made with them, or with the present network."""
    kept: Mapping[str, Tensor] = field(default_factory=dict)
    """What was taken of real samples, while more steps will use it."""
    memory: Mapping[str, Tensor] = field(default_factory=dict)
    """What an objective or its networks carry from step to step."""
    iteration: int = 0
    """Of ``iterations``: steps, or networks used up."""
    loss: float = 0.0
    """Of the step that led here."""


class Descent(NamedTuple):
    """One descent of a step: down ``of``, once for each group of classes."""

    name: str
    of: Callable[[list[int], Seen], Sloped]
    groups: list[list[int]]
    share: int = 1
    """What the loss is divided by before it is shown."""


@runtime_checkable
class Networks(Protocol):
    """Where networks come from, and how they go on."""

    def begin(self, problem: Problem, state: MatchState, rng: Generator, seed: int | None, /) -> MatchState:
        """The first state with the networks that train along; ``seed``: that of the first, if it is drawn already."""
        ...

    def embedder(self, problem: Problem, state: MatchState, rng: Generator, /) -> tuple[Network, Network | None]:
        """The network that embeds, and one that classifies, for objectives that calibrate."""
        ...

    def follow(self, problem: Problem, state: MatchState, net: Network, rng: Generator, /) -> MatchState:
        """The state after ``net`` has served a step, its iteration counted."""
        ...

    def parts(self, problem: Problem, state: MatchState, /) -> tuple[Part, ...]:
        """What they do in a step, for a plan."""
        ...


@runtime_checkable
class Objective(Protocol[B]):
    """What is compared. A block is what the descents of one step have in common, among it the network, ``net``."""

    def block(
        self, problem: Problem, networks: Networks, state: MatchState, rng: Generator, /
    ) -> tuple[MatchState, B]: ...
    def descents(self, problem: Problem, state: MatchState, block: B, /) -> Iterable[Descent]:
        """In order; each is asked for when the one before it is made."""
        ...

    def begin(self, problem: Problem, rng: Generator, /) -> Mapping[str, Tensor]:
        """The first memory."""
        ...

    def after(self, problem: Problem, state: MatchState, block: B, /) -> MatchState:
        """The state with what the objective carries along and what more steps will use."""
        ...

    def parts(self, problem: Problem, networks: Networks, state: MatchState, /) -> tuple[Part, ...]: ...


@final
@dataclass(frozen=True, kw_only=True)
class Matching:
    """The engine. A step: a block is drawn, what is stored descends, then networks and memories follow."""

    objective: Objective[Any]
    networks: Networks
    rules: Callable[[MatchState, bool], Rules]
    """How leaves move at this state, before which they have none; whether it is the last move of a step's descent."""
    iterations: int
    steps: int | None
    """How many steps the iterations take, where it is known."""
    start: Start
    labels: Labels
    space: Space = "model"
    """``data``: the payload decodes to data units and is normalised afterwards."""
    beside: Mapping[str, Tensor] = field(default_factory=dict)
    """Further leaves as they begin, such as ``student/lr``."""
    needs: tuple[Asset, ...] = ()
    """What must be made before the first step."""
    first_seen: bool = False
    """A start from centres looks at the network that is matched first, as DREAM's condense.py does."""

    def assets(self, problem: Problem) -> tuple[Asset, ...]:
        return self.needs

    def init(self, problem: Problem, rng: Generator) -> MatchState:
        seed = draw_seed(rng) if self.first_seen and self.start == "k-means" else None
        x, y = first_samples(problem, self.start, rng, self.space, seed)
        encoded = problem.parametrization.encode(x, problem, rng)
        first = {f"payload/{n}": t for n, t in encoded.items()} | dict(self.beside)
        if y is not None:
            first[TARGETS] = y
        elif self.labels == "learned":
            first["labels/logits"] = _first_logits(problem).to(device_of(x))
        bare = MatchState(leaves=planted({}, {}))
        state = replace(bare, leaves=planted(first, self._rules(bare, False)))
        state = self.networks.begin(problem, state, rng, seed)
        return replace(state, memory={**state.memory, **self.objective.begin(problem, rng)})

    def step(self, problem: Problem, state: MatchState, rng: Generator) -> tuple[MatchState, Metrics]:
        state, block = self.objective.block(problem, self.networks, state, rng)
        leaves, metrics = state.leaves, dict[str, float]()
        for name, of, groups, share in self.objective.descents(problem, state, block):
            loss = 0.0
            for group in groups:
                rules = self._rules(state, group is groups[-1])
                leaves, value = descended(problem, leaves, partial(of, group), rules, self.space)
                loss += value
            metrics[name] = loss / share
        after = replace(state, leaves=leaves, loss=sum(metrics.values()))
        after = self.objective.after(problem, after, block)
        return self.networks.follow(problem, after, block.net, rng), metrics

    def done(self, problem: Problem, state: MatchState) -> bool:
        return state.iteration >= self.iterations

    def result(self, problem: Problem, state: MatchState) -> Synthetic:
        found = values(state.leaves, self._rules(state, False))
        logits, targets = found.pop("labels/logits", None), found.pop(TARGETS, None)
        given = hard_labels(problem) if targets is None else targets
        return Synthetic(
            payload=under("payload/", found), space=self.space,
            labels=given if logits is None else logits.softmax(1),
            learned={n: t for n, t in found.items() if not n.startswith("payload/")},
        )  # fmt: skip

    def _rules(self, state: MatchState, last: bool) -> Rules:
        """The rules; targets that are no classes stay as they are."""
        return {**self.rules(state, last), TARGETS: Rule(lr=0.0)}

    def horizon(self, problem: Problem) -> int | None:
        return self.steps

    def parts(self, problem: Problem, state: MatchState) -> tuple[Part, ...]:
        compared = self.objective.parts(problem, self.networks, state)
        return (*compared, *self.networks.parts(problem, state))


def seen_inputs(seen: Seen) -> Inputs:
    """The inputs in it, one tensor or several with names."""
    return seen["inputs"] if "inputs" in seen else under("inputs/", seen)


def shown(x: Inputs) -> dict[str, Tensor]:
    """Inputs by their names in `Seen`."""
    return {"inputs": x} if isinstance(x, Tensor) else {f"inputs/{n}": t for n, t in x.items()}


def augmenting(problem: Problem) -> Callable[[Any, Any], Any]:
    """The problem's augmentation of inputs, with what was drawn for them. Inputs with names stay as they are."""
    apply = problem.augment.apply
    return lambda x, params: apply(x, params) if isinstance(x, Tensor) else x


def has_classes(problem: Problem) -> bool:
    """Whether the groups that real samples are drawn by are what is to be learned."""
    return problem.task.name == "classification"


def image(x: Inputs) -> Tensor:
    """The one tensor of an input.

    Raises:
        PotstillError: the input is a named set of tensors.
    """
    if not isinstance(x, Tensor):
        raise PotstillError(f"matching needs inputs of one tensor, but these have {', '.join(x)}; join them into one")
    return x


def moves(
    payload: Rule, lr_labels: float, optimizer: Literal["sgd", "adamw"] | None = None, factor: float = 1.0
) -> Rules:
    """Rules of the payload and of learned labels, which do not decay and are not bounded."""
    kind = payload.optimizer if optimizer is None else optimizer
    return {
        "payload/": replace(payload, lr=payload.lr * factor, optimizer=kind),
        "labels/": Rule(lr=lr_labels * factor, optimizer=kind, momentum=payload.momentum),
    }


def bounds(problem: Problem) -> tuple[float, float] | None:
    """[0, 1] for a payload that holds values of pictures in data units."""
    return (0.0, 1.0) if problem.parametrization.bounded and problem.train.input.kind == "image" else None


def rate(problem: Problem, lr: float, side: int) -> float:
    """IDC's rate: ``lr`` for ten stored items per class and pictures of ``side``² pixels, in proportion to both.

    IDC's argument.py, tune_lr_img: what its releases take for ``side`` is 28 for MNIST, 224 for ImageNet, else 32.
    """
    shape = problem.train.input.shape
    area = shape[-2] * shape[-1] / side**2 if len(shape) == 3 else 1.0
    return lr * problem.ipc / 10 * area


def nearest_to_centres(
    problem: Problem, net: Network, index: Tensor, n: int, rng: Generator, iterations: int
) -> Tensor:
    """The samples of a class that lie nearest to ``n`` k-means centres of its embeddings; all where it has no more."""
    if len(index) <= n:
        return index
    parts = [embed_real(net, problem.train.fetch(some).x) for some in torch.split(index, 2048)]
    return index[central(torch.cat(parts), n, rng, iterations).cpu()]


def first_inputs(
    problem: Problem, how: Start, rng: Generator, space: Space = "model", seed: int | None = None
) -> Tensor:
    """What decoded inputs of one tensor begin as: as `first_samples`."""
    return image(first_samples(problem, how, rng, space, seed)[0])


def first_samples(
    problem: Problem, how: Start, rng: Generator, space: Space = "model", seed: int | None = None
) -> tuple[Inputs, Tensor | None]:
    """What decoded inputs begin as: random real samples of each class, those nearest to k-means centres, or noise.

    The centres are those of embeddings in an untrained network, made from ``seed`` or from one that is drawn (DREAM).
    Noise is standard normal in model space; in data units its quarter about one half, clamped to [0, 1] (IDC's).
    Where the problem has inputs to start from, it is those, and nothing is drawn.

    Returns:
        The inputs, and the targets of the real samples that they are, where those are no classes.

    Raises:
        PotstillError: a class has fewer samples than a start from real ones needs, or there are no classes, and noise
            would have no targets.
    """
    if problem.initial is not None:
        x = problem.initial.to(problem.train.device)
        return x if space == "data" else problem.train.normalization.apply(x), None
    if how == "noise" and not has_classes(problem):
        raise PotstillError(
            f"noise has no {problem.task.name} targets; start from real samples: --start real, or --start k-means"
        )
    sizes, shape = problem.sizes, problem.train.input.shape
    if how == "noise":
        x = torch.randn(sum(sizes), *shape, generator=rng)
        return ((x / 4 + 0.5).clamp(0, 1) if space == "data" else x).to(problem.train.device), None
    # A class must have as many samples as its budget holds; where they decode to more inputs, samples come again.
    wanted = tuple(
        min(size, max(n, len(i))) for n, size, i in zip(problem.counts, sizes, problem.by_class, strict=True)
    )
    chosen = random_per_class(problem.by_class, wanted, rng, problem.train.classes)
    if how == "k-means":
        net = problem.network(draw_seed(rng) if seed is None else seed).eval().requires_grad_(False)
        chosen = tuple(
            nearest_to_centres(problem, net, index, n, rng, K_MEANS_ITERATIONS)
            for index, n in zip(problem.by_class, wanted, strict=True)
        )
    index = torch.cat([i[torch.arange(size) % len(i)] for i, size in zip(chosen, sizes, strict=True)])
    batch = problem.train.fetch(index)
    return problem.train.raw(index) if space == "data" else batch.x, None if has_classes(problem) else batch.y


def hard_labels(problem: Problem) -> Tensor:
    """The class of every decoded input, int64, on the CPU."""
    return torch.repeat_interleave(torch.arange(problem.num_classes), torch.tensor(problem.sizes))


def _first_logits(problem: Problem) -> Tensor:
    k = problem.num_classes
    height = math.log(CONFIDENCE * (k - 1) / (1 - CONFIDENCE))
    return height * torch.nn.functional.one_hot(hard_labels(problem), k).float()


def inputs_of(problem: Problem, leaves: Leaves, space: Space) -> tuple[Any, Tensor]:
    """The decoded inputs in model space, and their targets: classes, or rows where they are learned. No graph."""
    with torch.no_grad():
        x = _normal(problem, problem.decode(under("payload/", leaves.held)), space)
    if (targets := leaves.held.get(TARGETS)) is not None:
        return x, targets
    logits = leaves.held.get("labels/logits")
    return x, hard_labels(problem).to(device_of(x)) if logits is None else logits.softmax(1)


def _normal(problem: Problem, decoded: Inputs, space: Space) -> Inputs:
    normalization: Normalization = problem.train.normalization
    return normalization.apply(decoded) if space == "data" else decoded


def descended(
    problem: Problem, leaves: Leaves, objective: Callable[[Seen], Sloped], rules: Rules, space: Space = "model"
) -> tuple[Leaves, float]:
    """The leaves after one move down an objective of what they decode to, and the loss before it."""
    known = values(leaves, rules)
    with torch.enable_grad():
        moving = {
            n: t.detach().requires_grad_() for n, t in known.items()
            if n in leaves.first and n.startswith(("payload/", "labels/"))
        }  # fmt: skip
        ends = shown(_normal(problem, problem.decode(under("payload/", {**known, **moving})), space))
        if "labels/logits" in moving:
            ends["labels"] = moving["labels/logits"].softmax(1)
    beside = {n: t for n, t in known.items() if not n.startswith(("payload/", "labels/")) or n == TARGETS}
    loss, slopes = objective({n: t.detach() for n, t in ends.items()} | beside)
    through = [n for n in ends if n in slopes]
    found = torch.autograd.grad(
        [ends[n] for n in through], tuple(moving.values()), [slopes[n] for n in through], allow_unused=True
    )
    grads = {n: g for n, g in zip(moving, found, strict=True) if g is not None}
    return descend(leaves, grads | {n: slopes[n] for n in slopes if n not in ends}, rules), loss
