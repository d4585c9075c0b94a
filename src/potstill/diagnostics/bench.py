"""Shared by all diagnostics: the students, their training data, and the real samples that they are tested on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from potstill._util.progress import Callback, collect_results
from potstill.augment.mix import label_rows as as_rows
from potstill.core import Augmentation, Batch, Inputs, NetworkFactory, Source, Splits, Task
from potstill.core.nested import concat, index, to_device
from potstill.data import holdout
from potstill.data.iterate import map_samples
from potstill.data.real_data import RealData
from potstill.dataset_file import Distilled
from potstill.errors import PotstillError
from potstill.evaluation.adversarial_training import check_adversary
from potstill.evaluation.augmentation import student_augmentation
from potstill.evaluation.byte_matched_baselines import count_strata
from potstill.evaluation.candidate_trials import held_out_indices
from potstill.evaluation.estimators import is_learner_name, require_learner
from potstill.evaluation.evaluate import encode_like, normalize_like
from potstill.evaluation.fitting import check_compatible, learned_lr, network_from_metadata
from potstill.evaluation.protocol import Protocol
from potstill.evaluation.protocols import POTSTILL as PROTOCOL
from potstill.evaluation.samples import SampleScores, sample_scores
from potstill.evaluation.statistics import count_answers, summary
from potstill.evaluation.student import TEST_CHUNK, StudentJob, train
from potstill.execution import Executor, Serial
from potstill.functional.sampling import class_indices
from potstill.nn import CustomNetwork, default_network_name, factory_for
from potstill.rng import derive_seed, generator
from potstill.tasks import Classification, concat_targets, get_targets, get_task, is_ragged

__all__ = ["Bench", "Condition", "TrainingData", "drop_diverged", "make_bench", "network_outputs"]

J = TypeVar("J")
R = TypeVar("R")
LR, STEPS, STUDENTS = 0.03, 180, 3
"""Default learning rate, updates, and students of each condition. Ours."""
MAX_EVALUATED = 2000
"""Maximum number of real test samples."""
VALIDATION = 0.2
"""Fraction of the training data held out, if the test split is not used."""


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Training data of one student: inputs in model space, targets, and weights (n,) of mean 1 or none."""

    x: Inputs
    y: Tensor
    weights: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Training data of several students, each its own. Conditions of one name are equal and are trained once."""

    name: str
    items: int
    """Number of samples."""
    data_for: Callable[[int], TrainingData]
    """Returns the training data of a student by its number."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The set, its students and real samples. Outputs of conditions that several diagnostics need are cached."""

    distilled: Distilled
    make: NetworkFactory
    real: Source
    """Source of real samples, with the set's normalization."""
    eval_source: Source
    """Samples that students are tested on; nothing is selected on them."""
    test: Source | None
    """The whole test split, searched for copies."""
    eval_split: str
    """Split of ``eval_source``: ``test`` or ``validation``."""
    protocol: Protocol
    """Resolved, with one rate and one length."""
    students: int
    seed: int
    executor: Executor = field(default_factory=Serial)
    report: Callback = lambda what, done, total: None
    output_cache: dict[str, list[Tensor | None]] = field(default_factory=dict)
    """Outputs of conditions, by name."""
    stopped_networks: dict[tuple[int, ...], list[list[tuple[Tensor, Tensor]]]] = field(default_factory=dict)
    """Outputs of networks of real data, by their stops."""

    @cached_property
    def task(self) -> Task:
        return get_task(self.real)

    @property
    def classes(self) -> bool:
        """True for classification."""
        return isinstance(self.task, Classification)

    @cached_property
    def augment(self) -> Augmentation:
        return student_augmentation(self.protocol.recipe.augment, self.real)

    @cached_property
    def distilled_data(self) -> TrainingData:
        """The set as training data."""
        small, device = self.distilled, self.real.device
        weights = small.sample_weight if self.classes else None
        return TrainingData(
            x=to_device(small.model_space(), device), y=small.labels.to(device),
            weights=None if weights is None else weights.to(device),
        )  # fmt: skip

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Items of the set in each class; without classes, in all."""
        if not self.classes:
            return (len(self.distilled),)
        return tuple(torch.bincount(self.distilled.hard_labels, minlength=count_strata(self.real)).tolist())

    @cached_property
    def class_indices(self) -> tuple[Tensor, ...]:
        """Real samples of each class."""
        return class_indices(self.real.labels, count_strata(self.real))

    def draw_real(self, student: int, counts: Sequence[int]) -> TrainingData:
        """Draw ``counts`` real samples of each class for a student, in its own random order.

        A class with fewer gives all it has: two draws of one student share the same samples.
        """
        real = RealData.of_source(self.real)
        orders = real.draw(len(self.real), generator(self.seed, "study", "real", student))
        at = torch.cat([order[:n] for order, n in zip(orders, counts, strict=True)])
        batch = self.real.fetch(at)
        assert batch.y is not None
        return TrainingData(x=batch.x, y=batch.y)

    def join(self, one: TrainingData, other: TrainingData) -> TrainingData:
        """Join two sets of samples; without weights a sample weighs 1."""
        ys = [one.y, other.y]
        if self.classes and any(y.is_floating_point() for y in ys):
            k = len(self.real.classes)
            ys = [as_rows(y, k, torch.float32) for y in ys]
        y = concat_targets(ys) if is_ragged(self.task) else torch.cat(ys)
        weights = None
        if one.weights is not None or other.weights is not None:
            weights = torch.cat(
                [t.y.new_ones(len(t.y), dtype=torch.float32) if t.weights is None else t.weights for t in (one, other)]
            )
        return TrainingData(x=concat([one.x, other.x]), y=y, weights=weights)

    def without(self, items: Tensor) -> TrainingData:
        """Return the set without some items."""
        left = torch.ones(len(self.distilled), dtype=torch.bool)
        left[items] = False
        at = torch.where(left)[0]
        own = self.distilled_data
        weights = None if own.weights is None else own.weights[at.to(own.weights.device)]
        return TrainingData(
            x=index(own.x, at), y=own.y[at.to(own.y.device)],
            weights=None if weights is None else weights / weights.mean().clamp(min=1e-12),
        )  # fmt: skip

    def distilled_condition(self) -> Condition:
        """Return the condition of the set itself."""
        return Condition(name="set", items=len(self.distilled), data_for=lambda student: self.distilled_data)

    def random_condition(self, times: int = 1) -> Condition:
        """Return the condition of ``times`` as many real samples as the set has items, with the same class shares."""
        counts = [times * n for n in self.counts]
        here = sum(min(n, len(of)) for n, of in zip(counts, self.class_indices, strict=True))
        name = "random" if times == 1 else f"random x{times}"
        return Condition(name=name, items=here, data_for=lambda student: self.draw_real(student, counts))

    def job(self, taught: TrainingData, student: int) -> StudentJob:
        """Return a student's training; start and order are the same in all conditions."""
        return StudentJob(
            make=self.make, x=taught.x, y=taught.y, weights=taught.weights, protocol=self.protocol,
            lr=self.protocol.recipe.lr[0], steps=self.protocol.recipe.steps[0], augment=self.augment, task=self.task,
            seed=derive_seed(self.seed, "study", "student", student), normalization=self.real.normalization,
        )  # fmt: skip

    def run(self, name: str, function: Callable[[J], R], jobs: Sequence[J]) -> list[R]:
        """Run independent jobs on the executor, and report each."""
        return collect_results(self.executor.map(function, jobs), self.report, name, len(jobs))

    def outputs(self, lesson: Condition, *, keep: bool = True) -> list[Tensor | None]:
        """Return the outputs (n, …) of every student of a condition for ``eval_source``, on the CPU; ``None`` if it
        diverged."""
        if lesson.name in self.output_cache:
            return self.output_cache[lesson.name]
        jobs = [self.job(lesson.data_for(n), n) for n in range(self.students)]
        outputs = self.run(f"students of {lesson.name}", partial(_outputs, self.eval_source), jobs)
        if keep:
            self.output_cache[lesson.name] = outputs
        return outputs

    def scores(self, outputs: Sequence[Tensor | None]) -> list[float]:
        """Return the task's score of each student; a diverged student counts as chance."""
        y = get_targets(self.eval_source)
        return [self.task.chance_score(y) if o is None else self.task.score(self.task.predict(o), y) for o in outputs]

    def sample_scores(self, outputs: Sequence[Tensor | None]) -> SampleScores | None:
        """Return the scores of the single test samples."""
        said = [None if o is None else self.task.predict(o) for o in outputs]
        return sample_scores(self.task, said, get_targets(self.eval_source))

    def summarize(self, values: Sequence[float], samples: SampleScores | None = None) -> dict[str, Any]:
        """Return mean and interval of students' ``values``."""
        answers = count_answers(self.task.metric, len(self.eval_source))
        return summary(values, answers, self.task.metric.low, samples=samples)


def drop_diverged(outputs: Sequence[Tensor | None]) -> list[Tensor]:
    """Return the outputs of students that did not diverge."""
    return [o for o in outputs if o is not None]


def _outputs(source: Source, job: StudentJob) -> Tensor | None:
    network = train(job)
    finite = all(bool(torch.isfinite(p).all()) for p in network.parameters())
    return network_outputs(network, source) if finite else None


def network_outputs(network: torch.nn.Module, source: Source) -> Tensor:
    """Return a network's outputs for every sample (n, …), in evaluation mode, float32 on the CPU."""
    network.eval()

    def of(batch: Batch) -> Tensor:
        outputs: Tensor = network(batch.x)
        return outputs.float().cpu()

    with torch.no_grad():
        return map_samples(source, torch.arange(len(source)), TEST_CHUNK, of)


def make_bench(
    small: Distilled,
    splits: Splits,
    *,
    network: str | CustomNetwork | None = None,
    eval_split: str | None = None,
    students: int | None = None,
    steps: int | None = None,
    lr: float | None = None,
    seed: int = 0,
    most: int = MAX_EVALUATED,
    adversary: str = "none",
) -> Bench:
    """Return the setup for diagnostics of a set.

    Args:
        network: the students; default: the network that the set was made with, else one that suits the data.
        eval_split: ``test`` (default, if there is one) or ``validation``: a fifth of the training part, from which no
            real samples are drawn then; the set may have been made of it.
        students: of each condition.
        steps, lr: their updates and learning rate; default rate: the one learned with the set, if any.
        most: largest number of samples that are predicted.
        adversary: adversarial training of the students (`potstill.evaluation.protocol.Recipe`).

    Raises:
        PotstillError: the set does not fit the data, there is no such split, or a number is out of its range.
    """
    train_source = encode_like(splits.train, small)
    check_compatible(small, train_source)
    where = eval_split or ("validation" if splits.test is None else "test")
    if where not in ("test", "validation"):
        raise PotstillError(f"students predict the test or the validation part, not {where!r}; say one of them")
    seen = normalize_like(train_source, small)
    test = None if splits.test is None else normalize_like(encode_like(splits.test, small), small)
    if where == "test":
        if test is None:
            raise PotstillError("these data have no test part; ask students about the validation part (on validation)")
        real, whole = seen, test
    else:
        real, whole = holdout(seen, VALIDATION, derive_seed(seed, "study", "validation") % 2**31)
    if len(whole) > most:
        part: Any = whole
        whole = part.subset(held_out_indices(whole, derive_seed(seed, "study", "asked"), max_samples=most))
    name = network or network_from_metadata(small) or default_network_name(real.input, get_task(real))
    if isinstance(name, str) and is_learner_name(name):
        raise PotstillError(f"a study needs students that are networks, but {name} is none; name a network")
    require_learner([name], real)
    make = factory_for(name, real)
    many, updates = STUDENTS if students is None else students, STEPS if steps is None else steps
    for what, number in (("students", many), ("steps", updates)):
        if number < 1:
            raise PotstillError(f"a study needs {what} of at least 1, but it is {number}; change it")
    rate = lr or learned_lr(small) or LR
    said = PROTOCOL.override(steps=updates, lr=rate, least_epochs=0).resolve(real.name, make.name, real.input)
    if adversary != "none":
        said = said.change(adversary=adversary)
        check_adversary(said, real)
    return Bench(
        distilled=small, make=make, real=real, eval_source=whole, test=test, eval_split=where, protocol=said,
        students=many, seed=seed,
    )  # fmt: skip
