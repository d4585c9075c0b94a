"""Active learning: a pool without labels, rounds of asking for a few, and a learner trained anew after each."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from potstill.active.acquisition import badge, core_set, entropy, least_confidence, margin, top
from potstill.core import Augmentation, Network, NetworkFactory, Source
from potstill.data import TensorSource
from potstill.errors import PotstillError, unknown_name
from potstill.functional.sampling import sample_distinct
from potstill.labels.teacher import SGD, train_teacher
from potstill.nn import default_network_name, factory, parse_network
from potstill.rng import derive_seed, generator

__all__ = [
    "ACQUISITIONS", "Acquisition", "ActiveRun", "LabelingSchedule", "Learner", "Round", "accuracy_on",
    "active_learning", "labelled_source", "learner_network", "predict", "train_learner",
]  # fmt: skip

Acquisition = Literal["random", "least-confidence", "entropy", "margin", "badge", "core-set"]
ACQUISITIONS: tuple[Acquisition, ...] = get_args(Acquisition)
_CHUNK = 512


@dataclass(frozen=True, kw_only=True)
class Learner:
    """Training settings of the learner: a fresh network each round, SGD with momentum, batches with replacement."""

    network: str | Callable[..., Any] | None = None
    """``None``: the ConvNet for pictures, an MLP for others."""
    steps: int = 200
    batch: int = 64
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    augment: Augmentation | None = None


@dataclass(frozen=True, kw_only=True)
class Round:
    """The samples that one round asked for, and the accuracy of the learner trained after it."""

    index: tuple[int, ...]
    """Samples of the pool that were asked for in this round."""
    labels: int
    """Labels asked for so far."""
    accuracy: float | None
    """On the test source; ``None`` without one."""
    seconds: float
    """Seconds of choosing, training and testing; waiting for labels does not count."""


@dataclass(frozen=True, kw_only=True)
class ActiveRun:
    """A whole run: the labelled set is ``pool`` at ``index`` with ``labels``, in the order they were asked for."""

    acquire: str
    seed: int
    rounds: tuple[Round, ...]
    index: Int[Tensor, " m"]
    labels: Int[Tensor, " m"]

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "acquire": self.acquire,
            "seed": self.seed,
            "labels": [r.labels for r in self.rounds],
            "accuracy": [r.accuracy for r in self.rounds],
            "seconds": [round(r.seconds, 3) for r in self.rounds],
            "index": self.index.tolist(),
            "classes": self.labels.tolist(),
        }


@dataclass(frozen=True, kw_only=True)
class LabelingSchedule:
    """Numbers of labels that are asked for."""

    rounds: int = 10
    """Rounds after the start."""
    per_round: int = 20
    initial_labels: int | None = None
    """Random samples that are asked for first; ``None``: as many as in a round."""
    candidates: int | None = None
    """Random samples of the pool that a round considers; ``None``: all."""

    @property
    def first(self) -> int:
        """Labels that are asked for before the first round."""
        return self.per_round if self.initial_labels is None else self.initial_labels

    def check(self, pool: Source) -> None:
        """
        Raises:
            PotstillError: the pool cannot give so many labels, or none are asked for.
        """
        rounds, per_round, first = self.rounds, self.per_round, self.first
        if min(rounds + 1, per_round, first) < 1 or first + rounds * per_round > len(pool):
            raise PotstillError(
                f"a pool of {len(pool):,} samples cannot give {first:,} labels and {rounds:,} × {per_round:,} more, "
                "each at least 1; ask for fewer"
            )


def active_learning(
    pool: Source,
    ask: Callable[[Int[Tensor, " b"]], Any],
    *,
    acquire: str = "margin",
    schedule: LabelingSchedule | None = None,
    learner: Learner | None = None,
    test: Source | None = None,
    seed: int = 0,
    progress: Callable[[Round], None] | None = None,
) -> ActiveRun:
    """Label a pool a few samples at a time, each time those that the learner so far would learn most from.

    The pool's labels are never read, only its inputs: what is known of labels comes from ``ask``.

    Args:
        pool: inputs, class names and normalization.
        ask: called with int64 indices into the pool; returns their classes as numbers, in that order.
        acquire: how to choose: ``random``; the most uncertain by ``least-confidence``, ``entropy`` or ``margin``;
            ``badge`` (uncertain and different); ``core-set`` (far from all that is labelled).
        schedule: default: 20 labels, and 20 more in each of 10 rounds.
        learner: how it is trained.
        test: where each round's learner is measured; nothing is chosen by it.
        seed: decides the start, the networks and all that is drawn. It is the same start for every ``acquire``.
        progress: called after every round.

    Raises:
        PotstillError: there is no such acquisition, the pool is too small, or an answer is not a class.
    """
    if acquire not in ACQUISITIONS:
        raise unknown_name("acquisition", acquire, ACQUISITIONS)
    schedule = schedule or LabelingSchedule()
    schedule.check(pool)
    per_round, candidates = schedule.per_round, schedule.candidates
    how = learner or Learner()
    _, make = learner_network(how, pool)
    index, y = torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
    rounds: list[Round] = []
    net: Network | None = None
    for number in range(schedule.rounds + 1):
        began = time.perf_counter()
        rng = generator(seed, "acquire", number)
        free = torch.ones(len(pool), dtype=torch.bool)
        free[index] = False
        open_to = free.nonzero().flatten()
        if net is None:
            chosen = open_to[sample_distinct(len(open_to), schedule.first, rng)]
        else:
            if candidates is not None and candidates < len(open_to):
                open_to = open_to[sample_distinct(len(open_to), max(candidates, per_round), rng)]
            chosen = open_to[_choose(acquire, net, pool, open_to, index, per_round, rng)]
        spent = time.perf_counter() - began
        y = torch.cat([y, _answers(ask(chosen), chosen, pool)])
        began = time.perf_counter()
        index = torch.cat([index, chosen])
        net = train_learner(how, make, labelled_source(pool, index, y), seed, number)
        accuracy = None if test is None else accuracy_on(net, test)
        spent += time.perf_counter() - began
        rounds.append(Round(index=tuple(chosen.tolist()), labels=len(index), accuracy=accuracy, seconds=spent))
        if progress is not None:
            progress(rounds[-1])
    return ActiveRun(acquire=acquire, seed=seed, rounds=tuple(rounds), index=index, labels=y)


def _answers(oracle: Any, indices: Tensor, pool: Source) -> Tensor:
    try:
        y = torch.as_tensor(oracle)
    except (TypeError, ValueError, RuntimeError):
        y = torch.zeros(0)
    k = len(pool.classes)
    if y.shape != indices.shape or y.is_floating_point() or y.is_complex() or int(y.min()) < 0 or int(y.max()) >= k:
        raise PotstillError(
            f"{len(indices)} samples were requested, so {len(indices)} class numbers in 0…{k - 1} must be answered, "
            f"but the answer is {str(oracle)[:60]!r}"
        )
    return y.cpu().long()


def labelled_source(pool: Source, index: Int[Tensor, " m"], y: Int[Tensor, " m"]) -> TensorSource:
    """The samples that have labels, in memory. The pool gives their inputs alone."""
    inputs = pool.raw(index)
    if not isinstance(inputs, Tensor):
        raise PotstillError(f"active learning needs inputs of one tensor, but these have {', '.join(inputs)}")
    return TensorSource(
        name=pool.name, input=pool.input, classes=pool.classes, normalization=pool.normalization, inputs=inputs,
        labels=y,
    )  # fmt: skip


def learner_network(how: Learner, pool: Source) -> tuple[str, NetworkFactory]:
    """Return the name of the learner's network (its own, or what suits the pool), and the maker of fresh ones."""
    network = parse_network(how.network) or default_network_name(pool.input)
    make = factory(network, pool.input, len(pool.classes), pool.device, normalization=pool.normalization)
    return str(network), make


def train_learner(how: Learner, make: NetworkFactory, source: Source, seed: int, number: int) -> Network:
    """A network trained on ``source``, in evaluation mode; ``number`` tells the rounds of a run apart."""
    net = make(derive_seed(seed, "learner", number))
    trained = train_teacher(
        net.train(), source, generator(seed, "batches", number), how.steps,
        SGD(batch=how.batch, lr=how.lr, momentum=how.momentum, weight_decay=how.weight_decay), augment=how.augment,
    )  # fmt: skip
    net.load_state_dict({**trained.params, **trained.buffers}, strict=False)
    return net.eval()


def predict(
    net: Network, source: Source, index: Int[Tensor, " n"] | None = None
) -> tuple[Float[Tensor, "n k"], Float[Tensor, "n d"]]:
    """Probabilities and embeddings of the samples at ``index`` (else of all), of which only the inputs are read."""
    rows = torch.arange(len(source)) if index is None else index
    p, h = [], []
    with torch.no_grad():
        for part in torch.split(rows, _CHUNK):
            raw = source.raw(part)
            assert isinstance(raw, Tensor)
            h.append(net.embed(source.normalization.apply(raw)))
            p.append(net.classifier(h[-1]).softmax(1))
    return torch.cat(p), torch.cat(h)


def accuracy_on(net: Network, test: Source) -> float:
    """The part of ``test`` that is classified rightly."""
    return float((predict(net, test)[0].argmax(1).cpu() == test.labels).double().mean())


def _choose(
    acquire: str, net: Network, pool: Source, open_to: Tensor, labelled_index: Tensor, m: int, rng: Generator
) -> Tensor:
    """``m`` positions in ``open_to``."""
    if acquire == "random":
        return sample_distinct(len(open_to), m, rng)
    p, h = predict(net, pool, open_to)
    if acquire == "badge":
        return badge(p, h, m, rng)
    if acquire == "core-set":
        return core_set(h, predict(net, pool, labelled_index)[1], m)
    scores = {"least-confidence": least_confidence, "entropy": entropy, "margin": margin}[acquire](p)
    return top(scores, m)
