"""Evaluation protocols as values: every detail of a measurement, with a fingerprint."""

import dataclasses
import fnmatch
import hashlib
import json
import math
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Literal

from potstill.core import InputSpec
from potstill.errors import PotstillError, unknown_name
from potstill.evaluation.adversarial_training import parse_adversary
from potstill.evaluation.field_checks import Checked, check_counts, check_ranges, is_a, require
from potstill.kinds import get_kind
from potstill.labels.metadata import Statistics

__all__ = [
    "Case", "Labels", "Loss", "MixName", "ModelSelection", "Optimizer", "Precision", "Protocol", "Recipe", "Schedule",
    "Select", "Teaching",
]  # fmt: skip

Schedule = Literal["drop", "cosine", "half-cosine", "steps", "constant"]
Optimizer = Literal["sgd", "adamw", "adam"]
MixName = Literal["none", "cutmix", "mixup"]
Labels = Literal["given", "teacher"]
Loss = Literal["cross-entropy", "squared", "kl", "mse"]
_LOSSES: dict[str, tuple[str, ...]] = {"given": ("cross-entropy", "squared"), "teacher": ("kl", "mse")}
Select = Literal["last", "best-on-test"]
Precision = Literal["float32", "bfloat16"]
_PLAIN = ("given", "cross-entropy")
QUICK_STUDENTS, QUICK_EPOCHS, QUICK_STEPS, QUICK_TEACHER_EPOCHS = 3, 100, 60, 20
"""Maximum students, epochs or steps, and teacher epochs of `Protocol.quick`. Ours."""
_NOT_MIRRORED = ("digits", "mnist", "mnist-5k", "svhn")
"""Sources in the canonical form for ``Case(mirrored=False)``."""
_ALWAYS_STATED = {
    "name", "version", "paper", "summary", "optimistic", "students", "published_runs", "sources", "networks", "epochs",
    "augment", "lr", "momentum", "weight_decay", "batch", "extra_epoch", "steps", "least_epochs", "schedule",
    "drop_factor", "reset_momentum", "validation", "validation_students", "validation_most",
}  # fmt: skip
"""Fields that `Protocol.canonical` states even at their default, so that new fields leave fingerprints unchanged."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """An exception in a publication, for some data or some networks."""

    sources: tuple[str, ...] = ()
    """Names of the data; empty for any."""
    networks: str = "*"
    """Shell pattern of the student's full name."""
    mirrored: bool | None = None
    """Required ``InputSpec.mirrored`` (mirror images keep their class); ``None``: either."""
    epochs: int | None = None
    """Replaces the protocol's epochs."""
    augment: str | None = None
    """Replaces the protocol's augmentation."""
    test_every: int | None = None
    """Replaces the protocol's ``test_every``."""

    def fits(self, source: str, network: str, mirrored: bool) -> bool:
        """Return True if this case applies to the source, mirrorable or not, and the network."""
        named = not self.sources or source in self.sources
        return named and self.mirrored in (None, mirrored) and fnmatch.fnmatchcase(network, self.networks)


def _own_fields(value: Any) -> dict[str, Any]:
    """Return a value's fields without its parts."""
    found = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    return {name: held for name, held in found.items() if not dataclasses.is_dataclass(held)}


def _stated(value: Any) -> dict[str, Any]:
    """Return the fields of a value, without its parts, that the canonical form states."""
    if isinstance(value, Case) and value.mirrored is False and not value.sources:
        value = dataclasses.replace(value, mirrored=None, sources=_NOT_MIRRORED)
    defaults = {f.name: f.default for f in dataclasses.fields(value)}
    return {n: v for n, v in _own_fields(value).items() if n in _ALWAYS_STATED or v != defaults[n]}


@dataclass(frozen=True, kw_only=True)
class Recipe(Checked):
    """Training recipe of a student.

    Raises:
        PotstillError: a value out of its range, or both or neither of ``epochs`` and ``steps``.
    """

    lr: tuple[float, ...] = (0.01,)
    """Learning rate; of several, one is selected on validation data."""
    optimizer: Optimizer = "sgd"
    """``adamw`` and ``adam`` have torch's betas (0.9, 0.999) and eps (1e-8). ``adamw`` decays weights apart from the
    gradient, ``adam`` in it."""
    momentum: float = 0.9
    """For ``sgd``."""
    weight_decay: float = 5e-4
    decay: Literal["all", "matrices"] = "all"
    """Parameters with weight decay: all, or those with more than one axis (no biases, no norms)."""
    batch: int = 256
    batch_by_ipc: tuple[tuple[int, int], ...] = ()
    """(items per class, batch) pairs, ascending: the last pair that a set reaches replaces ``batch``; twice that from
    100 classes on, and never more than the set has items.
    """
    epochs: int | None = None
    """Passes over the set; or ``steps``."""
    extra_epoch: bool = False
    """Train one more epoch, as ``for ep in range(Epoch+1)`` does."""
    steps: tuple[int, ...] = ()
    """Updates; of several, one is selected on validation data."""
    steps_by_items: tuple[tuple[int, int], ...] = ()
    """(items, updates) pairs, ascending: the last pair that a set reaches (or else the first) replaces ``steps``."""
    least_epochs: int = 0
    """With ``steps``: minimum passes over the set."""
    schedule: Schedule = "cosine"
    """``drop``: after epoch number E//2+1 the rate is times ``drop_factor``. ``cosine``: to zero over all steps.
    ``half-cosine``: (1 + cos(πt/2T))/2, which ends at half the rate. ``steps``: times ``drop_factor`` at each of the
    ``milestones``. ``constant``: as it is."""
    warm_up: int = 0
    """Cosine by step only: updates, at most half of all, in which the rate rises linearly from 0 before the cosine."""
    lowest: float = 0.0
    """Cosine only: final rate relative to the initial one (``half-cosine``: the target of the fall), in [0, 1)."""
    rate_per: Literal["step", "epoch"] = "step"
    """Interval at which a cosine sets the rate."""
    milestones: tuple[float, ...] = ()
    """For ``steps``: fractions of the epochs, in (0, 1), rounded down to whole epochs; 1 is the ``extra_epoch``."""
    drop_factor: float = 0.1
    reset_momentum: bool = True
    """Recreate the optimizer at a drop, so that momentum starts from zero."""
    ema: float = 0.0
    """Decay of a moving average of the weights and of BatchNorm's statistics, in [0, 1): the average is tested. 0:
    none."""
    augment: str = "none"
    """Per-sample augmentation of images: a registered name, ``dc`` or ``dc-batch-norm``."""
    mix: MixName = "none"
    """``cutmix``, ``mixup``: batches of augmented images are mixed, and their labels with them."""
    mix_prob: float = 0.5
    """Probability that a batch is mixed, in [0, 1]."""
    mix_beta: float = 1.0
    """The kept share is drawn from Beta(b, b) with this b > 0; 1 is uniform."""
    adversary: str = "none"
    """Adversarial training on pictures: ``pgd:eps=8/255,steps=7`` or ``fgsm:eps=8/255`` in place of each batch, made
    against the student as it is then; eps is a radius of L∞, where pixels are in [0, 1]."""
    precision: Precision = "float32"
    """Precision of students' products; weights, norms, losses and gradient sums stay float32 in both. ``bfloat16``
    (torch's autocast) is for hardware that is faster with it.
    """

    @classmethod
    def check(cls, values: Any) -> None:
        super().check(values)
        check_counts(values, "batch")
        require(is_a(int, values.least_epochs), "least_epochs must be a whole number", values.least_epochs)
        epochs = () if values.epochs is None else (values.epochs,)
        for name, given in (("epochs", epochs), ("steps", values.steps)):
            require(all(is_a(int, v) and v >= 1 for v in given), f"{name} must be whole numbers of at least 1", given)
        positive = all(is_a(float, v) and 0 < v < math.inf for v in values.lr)
        require(bool(values.lr) and positive, "lr must be above 0", values.lr)
        check_ranges(values, momentum=1.0, weight_decay=math.inf, drop_factor=math.inf, ema=1.0, lowest=1.0)
        for name, what in (("batch_by_ipc", "batch"), ("steps_by_items", "updates")):
            rule = getattr(values, name)
            pairs = all(len(pair) == 2 and all(is_a(int, v) and v >= 1 for v in pair) for pair in rule)
            ascending = pairs and list(rule) == sorted(rule)
            require(ascending, f"{name} must be pairs of items and {what}, fewest first", rule)
        require(bool(values.steps) or not values.steps_by_items, "steps_by_items needs steps", values.steps)
        require(is_a(int, values.warm_up) and values.warm_up >= 0, "warm_up must be a whole number", values.warm_up)
        fits = values.schedule in ("cosine", "half-cosine") or not (values.warm_up or values.lowest)
        require(fits, "warm_up and lowest need schedule cosine", values.schedule)
        require(values.rate_per == "step" or not values.warm_up, "warm_up needs rate_per step", values.rate_per)
        parts, end = values.milestones, [1] if values.extra_epoch else []
        known = isinstance(parts, tuple) and all(is_a(float, v) and (0 < v < 1 or v in end) for v in parts)
        require(known, "milestones must be parts of the epochs between 0 and 1", parts)
        require(bool(parts) or values.schedule != "steps", "milestones must be given for schedule steps", parts)
        prob, beta = values.mix_prob, values.mix_beta
        require(is_a(float, prob) and 0 <= prob <= 1, "mix_prob must be in [0, 1]", prob)
        require(is_a(float, beta) and 0 < beta < math.inf, "mix_beta must be above 0", beta)
        parse_adversary(values.adversary)
        if (values.epochs is None) == (not values.steps):
            raise PotstillError("say the length once: epochs or steps")


@dataclass(frozen=True, kw_only=True)
class Teaching(Checked):
    """Labels that students learn from: the set's own, or those of teachers, and the teachers' training.

    Raises:
        PotstillError: a value out of its range.
    """

    labels: Labels = "given"
    """``given``: the set's own. ``teacher``: networks trained on the real training data label every batch after
    augmentation and mixing, and the set's own labels are used for ``hard_weight`` only.
    """
    loss: Loss = "cross-entropy"
    """On the set's own class labels: ``cross-entropy`` with their probabilities, or ``squared``: half the squared
    difference of the outputs from scores (one-hot rows less 1/k; of a set with scores these as they are), the mean over
    samples and classes. On a teacher's labels: ``kl`` between tempered softmaxes, or ``mse`` between logits.
    """
    temperature: float = 1.0
    """Temperature of ``kl``, above 0."""
    t_squared: bool = False
    """Multiply ``kl`` by the squared temperature, as Hinton et al. do (arXiv:1503.02531)."""
    hard_weight: float = 0.0
    """Weight of the cross-entropy with the set's own classes, added to a teacher's loss; they are not mixed."""
    teacher: str | None = None
    """The teacher's network. Default: the teachers that the set was made for, if its metadata name some, as they were
    trained then; else the student's network. Baselines have the set's labeller (`potstill.evaluation.teacher_labels`).
    """
    teachers: int = 1
    """Number of teachers; a committee gives the mean of its logits."""
    committee: tuple[str, ...] = ()
    """Networks of further teachers, one of each."""
    teacher_epochs: int = 200
    """Teacher training: passes over the training data."""
    teacher_lr: float = 0.1
    """Teacher training: learning rate of SGD with momentum 0.9, along a cosine to zero."""
    teacher_batch: int = 128
    """Teacher training: batch size."""
    teacher_weight_decay: float = 5e-4
    """Teacher training: weight decay."""
    teacher_augment: str = "pad-crop"
    """Teacher training: per-sample augmentation, a registered name."""
    teacher_statistics: Statistics = "running"
    """BatchNorm statistics of a labelling teacher: those of its training (evaluation mode), or those of the ``batch``
    of views that it labels (batch-specific soft labels).
    """

    @classmethod
    def check(cls, values: Any) -> None:
        super().check(values)
        check_counts(values, "teachers", "teacher_epochs", "teacher_batch")
        check_ranges(values, hard_weight=math.inf, teacher_weight_decay=math.inf)
        for name, value in (("temperature", values.temperature), ("teacher_lr", values.teacher_lr)):
            require(is_a(float, value) and 0 < value < math.inf, f"{name} must be above 0", value)
        known = _LOSSES[values.labels]
        require(values.loss in known, f"loss must be {' or '.join(known)} with labels {values.labels}", values.loss)
        members = values.committee
        named = isinstance(members, tuple) and all(isinstance(m, str) for m in members)
        require(named, "committee must be names", members)


@dataclass(frozen=True, kw_only=True)
class ModelSelection(Checked):
    """Selection of rates, lengths and epochs, and the data used for it.

    Raises:
        PotstillError: a value out of its range.
    """

    lr_of_set: bool = False
    """Use the rate that was learned with a set, if its metadata have one (``training.learned_lr``), instead of
    ``lr``."""
    select: Select = "last"
    """Epoch whose predictions count. ``best-on-test``: the best on the test data, which is optimistic."""
    test_every: int = 0
    """For ``best-on-test``: test after every so many epochs, and after the last."""
    test_at: tuple[int, ...] = ()
    """For ``best-on-test``: test after the epochs that contain these updates and after the last, instead of
    ``test_every``."""
    test_from: float = 0.0
    """For ``best-on-test``: fraction of the epochs before the first test, in [0, 1)."""
    validation: float = 0.0
    """Fraction of the *training* data held out for selection."""
    validation_students: int = 2
    validation_most: int = 1000
    """Maximum number of validation samples."""

    @classmethod
    def check(cls, values: Any) -> None:
        super().check(values)
        check_counts(values, "validation_students", "validation_most")
        check_ranges(values, validation=1.0, test_from=1.0)
        at = values.test_at
        fits = isinstance(at, tuple) and all(is_a(int, v) and v >= 1 for v in at) and list(at) == sorted(set(at))
        require(fits, "test_at must be whole numbers of at least 1 that rise", at)
        best, every = values.select == "best-on-test" and not at, values.test_every
        require(is_a(int, every) and every >= best, f"test_every must be a whole number of at least {int(best)}", every)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Everything that an evaluation fixes: students, their training, augmentation, labels and selection.

    All fields, of its parts too, are in the fingerprint: equal fingerprints mean equal measurement of a student. How
    many students were trained is ``n`` of a scorecard: ``evaluate(seeds=2)`` trains two under the fingerprint of a
    protocol of 20, and has a wider interval. Where a teacher labels, each scorecard names it (``labeller``).
    ``potstill protocols`` lists the registered ones.

    Raises:
        PotstillError: a value out of its range, or values that do not go together.

    Examples:
        >>> from potstill.core import registry
        >>> protocol = registry.resolve("protocols", "potstill")
        >>> protocol.override(epochs=5).fingerprint() == protocol.fingerprint()
        False
    """

    name: str
    """Name on scorecards."""
    version: int = 1
    """Raised by every change that could move a number."""
    paper: str
    """Publication that the details were read from."""
    summary: str
    """One sentence about it."""
    optimistic: bool = False
    """Published with a selection (best epoch, learning rate) on test data. An override of ``select`` updates it."""
    students: int = 5
    """Number of networks trained on the set, unless ``evaluate(seeds=…)`` asks for another."""
    published_runs: str = ""
    """Repeats in the publication, if they differ from ``students``."""
    network: str | None = None
    """Student for images if the user names none; default: the network that the set was made with."""
    cases: tuple[Case, ...] = ()
    """Exceptions; the first that fits applies."""
    shortened: bool = False
    """Made by `quick`: to look at a set, not to report it."""
    recipe: Recipe
    """Training recipe of students."""
    teaching: Teaching = field(default_factory=Teaching)
    """Labels that students learn from."""
    selection: ModelSelection = field(default_factory=ModelSelection)
    """Selection of rates, lengths and epochs."""

    def __post_init__(self) -> None:
        best, lr, steps = self.selection.select == "best-on-test", self.recipe.lr, self.recipe.steps
        try:
            check_counts(self, "students")
            require(self.network is None or isinstance(self.network, str), "network must be a name", self.network)
            require(self.optimistic or not best, "optimistic must be true with best-on-test", self.optimistic)
            if len(lr) * max(1, len(steps)) > 1 and self.selection.validation == 0:
                raise PotstillError("a choice needs validation data; set validation above 0")
            if self.recipe.adversary != "none" and (self.teaching.labels, self.teaching.loss) != _PLAIN:
                raise PotstillError(
                    f"adversary {self.recipe.adversary} needs the set's own labels and cross-entropy, but labels are "
                    f"{self.teaching.labels} and the loss is {self.teaching.loss}; leave it out"
                )
        except PotstillError as error:
            raise PotstillError(f"protocol {self.name}: {error}") from None

    def flat_fields(self) -> dict[str, Any]:
        """Return all fields by name, with the parts' fields in place of the parts."""
        return {name: value for owner in (self, *self._parts().values()) for name, value in _own_fields(owner).items()}

    def canonical(self) -> str:
        """Return everything that is measured as JSON: the input of the fingerprint."""
        stated = {name: value for owner in (self, *self._parts().values()) for name, value in _stated(owner).items()}
        return json.dumps(stated | {"cases": [_stated(case) for case in self.cases]}, sort_keys=True)

    def fingerprint(self) -> str:
        """Return the SHA-256 of the canonical form, 16 hex digits."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()[:16]

    def change(self, **fields: Any) -> "Protocol":
        """Return this protocol with other values of `flat_fields` and nothing else changed; see `override`.

        Args:
            **fields: values by the names of `flat_fields`.

        Returns:
            A new protocol.

        Raises:
            PotstillError: there is no such field, or a value is out of range.
        """
        known = self.flat_fields()
        for name in fields.keys() - known.keys():
            raise PotstillError(f"protocol {self.name}: {unknown_name('field', name, [*known])}")
        values: dict[str, Any] = {name: value for name, value in fields.items() if name in _own_fields(self)}
        try:
            for name, part in self._parts().items():
                mine = {n: v for n, v in fields.items() if n in _own_fields(part)}
                part.check(SimpleNamespace(**_own_fields(part) | mine))
                values[name] = dataclasses.replace(part, **mine)
        except PotstillError as error:
            raise PotstillError(f"protocol {self.name}: {error}") from None
        return dataclasses.replace(self, **values)

    def override(self, **changes: Any) -> "Protocol":
        """Return this protocol with other fields, and with another fingerprint.

        ``lr``, ``steps``, ``milestones``, ``committee`` and ``test_at`` take one value or several. ``epochs`` replaces
        ``steps`` and vice versa, ``batch`` replaces ``batch_by_ipc``, ``steps`` ``steps_by_items``, and ``test_every``
        ``test_at``; ``epochs``, ``augment`` and ``test_every`` also replace those of ``cases``. ``select`` updates
        ``optimistic``.

        Args:
            **changes: ``students``, or fields of the recipe, the teaching and the selection.

        Returns:
            A new protocol.

        Raises:
            PotstillError: there is no such field, it names the protocol, or the value is out of range.
        """
        known = ["students", *(name for part in self._parts().values() for name in _own_fields(part))]
        for name, value in changes.items():
            if name not in known:
                raise PotstillError(f"protocol {self.name}: {unknown_name('option', name, known)}")
            if name in ("lr", "steps", "milestones", "committee", "test_at"):
                changes[name] = tuple(value) if isinstance(value, list | tuple) else (value,)
        for name, rule in (("batch", "batch_by_ipc"), ("steps", "steps_by_items"), ("test_every", "test_at")):
            if name in changes:
                changes.setdefault(rule, ())
        if changes.get("steps") and "epochs" not in changes:
            changes["epochs"] = None
        elif changes.get("epochs") is not None and "steps" not in changes:
            changes |= {"steps": (), "steps_by_items": ()}
        cases = self.cases
        for name in {"epochs", "augment", "test_every"} & changes.keys():
            empty: dict[str, Any] = {name: None}
            cases = tuple(dataclasses.replace(case, **empty) for case in cases)
        if "select" in changes:
            otherwise = self.optimistic and self.selection.select == "last"  # for a reason that stays
            changes["optimistic"] = otherwise or changes["select"] == "best-on-test"
        return self.change(**changes, cases=cases)

    def quick(self) -> "Protocol":
        """Return this protocol shortened: at most ``QUICK_STUDENTS`` students, ``QUICK_EPOCHS`` epochs or
        ``QUICK_STEPS`` updates (but the whole warm-up), one student per selection, and teachers of
        ``QUICK_TEACHER_EPOCHS``.
        """
        length: dict[str, Any] = (
            {"steps": (min(*self.recipe.steps, max(QUICK_STEPS, self.recipe.warm_up)),)}
            if self.recipe.steps
            else {"epochs": min(self.recipe.epochs or 1, QUICK_EPOCHS)}
        )
        shorter = self.override(
            **length, students=min(self.students, QUICK_STUDENTS), validation_students=1,
            teacher_epochs=min(self.teaching.teacher_epochs, QUICK_TEACHER_EPOCHS),
        )  # fmt: skip
        return dataclasses.replace(shorter, shortened=True)

    def for_set_size(self, items: int, classes: int) -> "Protocol":
        """Return this protocol for a set of a size: its batch, and its length in updates.

        Args:
            items: items of the set, at least 1.
            classes: classes of the set.

        Returns:
            A new protocol, or this one where nothing depends on the size.
        """
        if rule := self.recipe.steps_by_items:
            steps = [steps for least, steps in rule if items >= least] or [rule[0][1]]
            return self.change(steps=(steps[-1],), steps_by_items=()).for_set_size(items, classes)
        reached = [batch for ipc, batch in self.recipe.batch_by_ipc if items >= ipc * classes]
        if not reached:
            return self
        return self.change(batch=min(items, reached[-1] * (2 if classes >= 100 else 1)), batch_by_ipc=())

    def resolve(self, source: str, network: str, input: InputSpec) -> "Protocol":
        """Return this protocol for the data and student: the first case that fits is applied; only images are mixed,
        and inputs of other kinds get the kind's augmentation.

        Args:
            source: name of the data.
            network: name of the student.
            input: kind and shape of an input.

        Returns:
            A new protocol without cases.
        """
        case = next((c for c in self.cases if c.fits(source, network, input.horizontal_flip)), Case())
        kind, recipe = get_kind(input), self.recipe
        image = kind.augmentable
        return self.change(
            epochs=case.epochs or recipe.epochs,
            augment=(case.augment or recipe.augment) if image else kind.augment,
            mix=recipe.mix if image else "none",
            teacher_augment=self.teaching.teacher_augment if image else kind.augment,
            test_every=case.test_every or self.selection.test_every,
            cases=(),
        )

    def _parts(self) -> dict[str, Recipe | Teaching | ModelSelection]:
        return {"recipe": self.recipe, "teaching": self.teaching, "selection": self.selection}
