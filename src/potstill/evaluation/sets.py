"""What students are trained on: a distilled set, and its baselines at equal stored bytes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from potstill.core import Network, NetworkFactory, Source
from potstill.errors import PotstillError
from potstill.functional.coreset import herding
from potstill.functional.sampling import class_indices, random_per_class
from potstill.rng import derive, generator
from potstill.storage import Distilled, item_bytes
from potstill.supervise.teacher import Teacher, train_teacher
from potstill.supervise.teacher_store import Labels

__all__ = ["BASELINES", "TEACHER_STEPS", "TeacherJob", "TrainingSet", "baseline", "per_class_at_equal_bytes"]

TEACHER_STEPS = 200
BASELINES = ("random", "herding", "random-soft")


@dataclass(frozen=True, kw_only=True)
class TrainingSet:
    """Inputs and labels for each student: one pair for all, or one for each. ``bytes``: stored size of one pair."""

    pairs: Sequence[tuple[Tensor, Tensor]]
    bytes: int
    stored: Labels | None = None
    """A teacher's labels of its one pair."""
    weights: Tensor | None = None
    """What each sample's loss is multiplied by, mean 1; for one pair."""
    lr: float | None = None
    """The learning rate that was learned with it."""

    def of(self, student: int) -> tuple[Tensor, Tensor]:
        return self.pairs[student % len(self.pairs)]


def per_class_at_equal_bytes(total: int, shape: tuple[int, ...], classes: int, soft: bool) -> int:
    """Real samples per class that store nearest to ``total`` bytes, at least one.

    Real samples are counted in float32, as distilled inputs are stored: the field's convention, which is generous to
    distilled sets where the source holds bytes.
    """
    return max(1, round(total / (classes * item_bytes(shape, classes if soft else None))))


def baseline(
    name: str,
    distilled: Distilled,
    train: Source,
    students: int,
    seed: int,
    rows: Callable[[Tensor], Tensor] | None = None,
) -> TrainingSet:
    """``random``: another draw for each student. ``herding``: on inputs. ``random-soft``: random with soft labels.

    Args:
        rows: gives the soft labels of inputs; for ``random-soft``.

    Raises:
        PotstillError: a class of the source has too few samples.
    """
    k, soft = len(train.classes), name == "random-soft"
    wanted = per_class_at_equal_bytes(distilled.card["bytes"]["total"], train.input.shape, k, soft)
    index = class_indices(train.labels, k)
    # A small class gives all it has: the baseline may then weigh a little less than the set, and says so in its bytes.
    counts = [min(wanted, len(i)) for i in index]
    size = sum(counts) * item_bytes(train.input.shape, k if soft else None)
    if name == "herding":
        chosen = [i[herding(_inputs(train, i).flatten(1), c).cpu()] for i, c in zip(index, counts, strict=True)]
        picked = torch.cat(chosen)
        return TrainingSet(pairs=[(_inputs(train, picked), train.labels[picked].to(train.device))], bytes=size)
    draws = [
        torch.cat(random_per_class(index, counts, generator(seed, "baseline", name, n), train.classes))
        for n in range(students)
    ]
    pairs = [(_inputs(train, d), train.labels[d].to(train.device)) for d in draws]
    if rows is not None and soft:
        pairs = [(x, rows(x)) for x, _ in pairs]
    return TrainingSet(pairs=pairs, bytes=size)


@dataclass(frozen=True, kw_only=True)
class TeacherJob:
    """The training of random-soft's teacher as a job: stopped early, as its paper does."""

    train: Source
    make: NetworkFactory
    seed: int
    steps: int = field(default_factory=lambda: TEACHER_STEPS)

    def network(self) -> Network:
        """The teacher's architecture, and what it starts from."""
        return self.make(derive(self.seed, "baseline teacher")).train()

    def __call__(self) -> Teacher:
        batch = min(256, max(32, len(self.train) // 8))
        return train_teacher(self.network(), self.train, generator(self.seed, "teacher"), steps=self.steps, batch=batch)


def _inputs(train: Source, index: Tensor) -> Tensor:
    x = train.fetch(index).x
    if not isinstance(x, Tensor):
        raise PotstillError(f"students need inputs of one tensor, but these have {', '.join(x)}")
    return x
