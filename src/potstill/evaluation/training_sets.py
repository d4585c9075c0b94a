"""Training sets of students, and the teacher of the baseline with soft labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from potstill.core import Inputs, Network, NetworkFactory, Source
from potstill.core.nested import device_of, num_samples, single_tensor
from potstill.dataset_file import Distilled
from potstill.evaluation.fitting import learned_lr
from potstill.evaluation.protocol import Protocol
from potstill.evaluation.set_graph import SetGraph, graph_of_set
from potstill.labels.teacher import SGD, Teacher, train_teacher
from potstill.labels.teacher_file import Labels
from potstill.rng import derive_seed, generator

__all__ = ["TEACHER_STEPS", "TeacherJob", "TrainingSet", "count_inputs"]

TEACHER_STEPS = 200
PASS_VIEWS = 5000
"""Views that count as one pass, at most, where a protocol asks for passes at least. Ours: more views are more variety,
and no reason to train longer."""


@dataclass(frozen=True, kw_only=True)
class TrainingSet:
    """Inputs and targets of students: one pair for all, or one pair for each."""

    pairs: Sequence[tuple[Inputs, Tensor]]
    bytes: int
    """Stored size of one pair; of several, the largest."""
    codec: str | None = None
    """Codec of the inputs."""
    per_class: int | None = None
    """Samples of each class, for classes that have as many."""
    trials: tuple[Mapping[str, Any], ...] = ()
    """Results of the codecs that were tried, best first."""
    way: Mapping[str, Any] = field(default_factory=dict)
    """Way in which its real samples were chosen and stored: ``codec``, ``selection``, ``balance``, ``labels``."""
    stored_labels: Labels | None = None
    """A teacher's stored labels of its only pair."""
    texts: tuple[tuple[str, ...], ...] = ()
    """Real texts of each pair's inputs; empty where they are not stored."""
    edges: SetGraph | None = None
    """Nodes of the only pair with edges between them; ``None``: inputs are no nodes, or have none."""
    weights: Tensor | None = None
    """Loss weight of each sample, mean 1; for one pair."""
    lr: float | None = None
    """Learning rate that was learned with the set."""
    is_augmented: bool = False
    """The inputs are views, which students learn as they are: without the protocol's augmentation."""
    scores: Tensor | None = None
    """Scores (n, k) of one pair whose labels are scores; the pair holds the probabilities that they are read as."""

    @classmethod
    def of_distilled(
        cls, distilled: Distilled, x: Inputs, size: int, *, weights: Tensor | None, stored_labels: Labels | None,
        own_labels: bool = True,
    ) -> "TrainingSet":  # fmt: skip
        """Return the training set of a distilled set: of one with a labeller, the views that it labels.

        Args:
            distilled: the set.
            x: its inputs in model space, on the device of the students.
            size: its bytes.
            weights: of its items, mean 1.
            stored_labels: a teacher's labels of it.
            own_labels: students learn the set's own labels; else a teacher labels its inputs.

        Raises:
            PotstillError: its learned learning rate is no positive number.
        """
        device = device_of(x)
        if distilled.labeller is not None and own_labels:
            pair = distilled.labeller.label(single_tensor(x, "a labeller"), len(distilled.classes))
            return cls(pairs=[pair], bytes=size, is_augmented=True)
        return cls(
            pairs=[(x, distilled.labels.to(device))], bytes=size, stored_labels=stored_labels,
            lr=learned_lr(distilled), weights=None if weights is None else weights.to(device),
            scores=None if distilled.scores is None else distilled.scores.to(device),
            texts=(distilled.captions,) if distilled.input.kind == "text" and distilled.captions else (),
            edges=graph_of_set(distilled),
        )  # fmt: skip

    @property
    def items(self) -> int:
        """Number of inputs of the largest pair."""
        return max(num_samples(x) for x, _ in self.pairs)

    @property
    def pass_items(self) -> int:
        """Inputs of the first pair that count as one pass where a protocol asks for a number of passes at least."""
        n = num_samples(self.pairs[0][0])
        return min(n, PASS_VIEWS) if self.is_augmented else n

    def texts_for(self, student: int) -> tuple[str, ...]:
        """Return the texts of a student's inputs; empty where they are none."""
        return self.texts[student % len(self.texts)] if self.texts else ()

    def pair_for(self, student: int) -> tuple[Inputs, Tensor]:
        return self.pairs[student % len(self.pairs)]


@dataclass(frozen=True, kw_only=True)
class TeacherJob:
    """Training of random-soft's teacher as a job, stopped early as in its paper."""

    train: Source
    make: NetworkFactory
    seed: int
    steps: int = field(default_factory=lambda: TEACHER_STEPS)

    def network(self) -> Network:
        """The teacher's architecture, and what it starts from."""
        return self.make(derive_seed(self.seed, "baseline teacher")).train()

    def __call__(self) -> Teacher:
        batch = min(256, max(32, len(self.train) // 8))
        return train_teacher(self.network(), self.train, generator(self.seed, "teacher"), self.steps, SGD(batch=batch))


def count_inputs(distilled: Distilled, protocol: Protocol) -> int:
    """Return the number of inputs that students have under a protocol, of views those of a pass."""
    if protocol.teaching.labels != "given" or distilled.labeller is None:
        return len(distilled)
    n = distilled.count_training_samples()
    return n if protocol.recipe.epochs else min(n, PASS_VIEWS)
