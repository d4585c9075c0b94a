"""How a distilled set is measured, to the last detail, as a value with a fingerprint."""

import dataclasses
import fnmatch
import hashlib
import json
import math
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from potstill.core import InputSpec
from potstill.errors import PotstillError, unknown_name
from potstill.labels.metadata import Statistics

__all__ = [
    "Case",
    "Labels",
    "Loss",
    "MixName",
    "ModelSelection",
    "Optimizer",
    "Precision",
    "Protocol",
    "Recipe",
    "Schedule",
    "Select",
    "Teaching",
]  # fmt: skip

Schedule = Literal["drop", "cosine", "half-cosine", "steps", "constant"]
Optimizer = Literal["sgd", "adamw", "adam"]
MixName = Literal["none", "cutmix", "mixup"]
Labels = Literal["given", "teacher"]
Loss = Literal["cross-entropy", "squared", "kl", "mse"]
_LOSSES: dict[str, tuple[str, ...]] = {"given": ("cross-entropy", "squared"), "teacher": ("kl", "mse")}
Select = Literal["last", "best-on-test"]
Precision = Literal["float32", "bfloat16"]
QUICK_STUDENTS, QUICK_EPOCHS, QUICK_STEPS, QUICK_TEACHER_EPOCHS = 3, 100, 60, 20
"""What `Protocol.quick` leaves of students, of epochs or steps, and of teachers' epochs, at most. Ours."""
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
    """Where a publication departs from its own rule: for some data, or for some networks."""

    sources: tuple[str, ...] = ()
    """Names of the data; empty for any."""
    networks: str = "*"
    """Pattern of the student's full name, as in a shell."""
    mirrored: bool | None = None
    """Whether a mirrored picture is still of its class (``InputSpec.mirrored``); ``None``: either."""
    epochs: int | None = None
    """In place of the protocol's epochs."""
    augment: str | None = None
    """In place of the protocol's augmentation."""
    test_every: int | None = None
    """In place of the protocol's ``test_every``."""

    def fits(self, source: str, network: str, mirrored: bool) -> bool:
        """Whether this is the case for data of that name, which may be mirrored or not, and that network."""
        named = not self.sources or source in self.sources
        return named and self.mirrored in (None, mirrored) and fnmatch.fnmatchcase(network, self.networks)


def _own_fields(value: Any) -> dict[str, Any]:
    """The fields that a value says itself, without those of its parts."""
    found = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    return {name: held for name, held in found.items() if not dataclasses.is_dataclass(held)}


def _stated(value: Any) -> dict[str, Any]:
    """Return the fields of a value, without its parts, that the canonical form states."""
    if isinstance(value, Case) and value.mirrored is False and not value.sources:
        value = dataclasses.replace(value, mirrored=None, sources=_NOT_MIRRORED)
    defaults = {f.name: f.default for f in dataclasses.fields(value)}
    return {n: v for n, v in _own_fields(value).items() if n in _ALWAYS_STATED or v != defaults[n]}


def _need(kept: bool, what: str, found: object) -> None:
    if not kept:
        raise PotstillError(f"{what}, but it is {found!r}; change it")


def _is(kind: type, value: object) -> bool:
    """Whether ``value`` is a number of that kind; an int is a float, a bool is neither."""
    return isinstance(value, (int, float) if kind is float else kind) and not isinstance(value, bool)


def _check_kinds(kind: type, said: Any) -> None:
    """Choices, switches and names are what their annotation says."""
    for name, hint in get_type_hints(kind).items():
        value = getattr(said, name)
        if get_origin(hint) is Literal:
            _need(value in get_args(hint), f"{name} must be {' or '.join(get_args(hint))}", value)
        elif hint is bool:
            _need(isinstance(value, bool), f"{name} must be true or false", value)
        elif hint is str or hint == str | None:
            _need(isinstance(value, str) or (value is None and hint is not str), f"{name} must be a name", value)


def _check_counts(said: Any, *names: str) -> None:
    for name in names:
        value = getattr(said, name)
        _need(_is(int, value) and value >= 1, f"{name} must be a whole number of at least 1", value)


def _check_ranges(said: Any, **below: float) -> None:
    """Each named field is a number from 0 to below its bound."""
    for name, bound in below.items():
        value = getattr(said, name)
        _need(_is(float, value) and 0 <= value < bound, f"{name} must be in [0, {bound:g})", value)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a student is trained.

    Raises:
        PotstillError: a value out of its range, or both or neither of ``epochs`` and ``steps``.
    """

    lr: tuple[float, ...] = (0.01,)
    """Learning rate; of several, one is chosen on validation data."""
    optimizer: Optimizer = "sgd"
    """``adamw`` and ``adam`` have torch's betas (0.9, 0.999) and eps (1e-8). ``adamw`` decays weights apart from the
    gradient, ``adam`` in it."""
    momentum: float = 0.9
    """Of ``sgd``."""
    weight_decay: float = 5e-4
    decay: Literal["all", "matrices"] = "all"
    """Which parameters decay: all, or those with more than one axis (no biases, no norms)."""
    batch: int = 256
    batch_by_ipc: tuple[tuple[int, int], ...] = ()
    """(items per class, batch) pairs, fewest items first: a set takes the batch of the last pair that it reaches, in
    place of ``batch``; twice that from 100 classes on, and never more than it has items."""
    epochs: int | None = None
    """Passes over the set; or ``steps``."""
    extra_epoch: bool = False
    """Train one epoch more than said, as ``for ep in range(Epoch+1)`` does."""
    steps: tuple[int, ...] = ()
    """Updates; of several, one is chosen on validation data."""
    steps_by_items: tuple[tuple[int, int], ...] = ()
    """(items, updates) pairs, fewest items first: a set takes the updates of the last pair that it reaches, and of the
    first where it reaches none, in place of ``steps``."""
    least_epochs: int = 0
    """With ``steps``: train at least so many passes, however large the set is."""
    schedule: Schedule = "cosine"
    """``drop``: after epoch number E//2+1 the rate is times ``drop_factor``. ``cosine``: to zero over all steps.
    ``half-cosine``: (1 + cos(πt/2T))/2, which ends at half the rate. ``steps``: times ``drop_factor`` at each of the
    ``milestones``. ``constant``: as it is."""
    warm_up: int = 0
    """Of a cosine by the step: so many updates first, but at most half of all, in which the rate rises from 0 in equal
    steps. The cosine then takes the others."""
    lowest: float = 0.0
    """Of a cosine: it ends at this part of the rate (``half-cosine``: begins to fall towards it), in [0, 1)."""
    rate_per: Literal["step", "epoch"] = "step"
    """How often the rate of a cosine is set."""
    milestones: tuple[float, ...] = ()
    """For ``steps``: parts of the epochs, each in (0, 1), rounded down to whole epochs; 1 is the ``extra_epoch``."""
    drop_factor: float = 0.1
    reset_momentum: bool = True
    """At a drop the optimiser is made anew, so its momentum starts from zero."""
    ema: float = 0.0
    """What a moving average of the weights, and of BatchNorm's statistics with them, keeps at each update, in [0, 1):
    the average is what is tested. 0: there is none."""
    augment: str = "none"
    """Per-sample augmentation of pictures: a registered name, ``dc`` or ``dc-batch-norm``."""
    mix: MixName = "none"
    """``cutmix``, ``mixup``: batches of augmented pictures are mixed, and their labels with them."""
    mix_prob: float = 0.5
    """The probability that a batch is mixed, in [0, 1]."""
    mix_beta: float = 1.0
    """The share that is kept is drawn from Beta(this, this); above 0, 1 is even."""
    precision: Precision = "float32"
    """In which students' products are computed; weights, norms, losses and gradients' sums stay float32 in both.
    ``bfloat16`` (torch's autocast) is for hardware that is faster with it."""

    def __post_init__(self) -> None:
        self.check(self)

    @classmethod
    def check(cls, said: Any) -> None:
        """Refuse fields out of their range. ``said`` may be no value of this class yet: a person may type anything."""
        _check_kinds(cls, said)
        _check_counts(said, "batch")
        _need(_is(int, said.least_epochs), "least_epochs must be a whole number", said.least_epochs)
        for name, given in (("epochs", () if said.epochs is None else (said.epochs,)), ("steps", said.steps)):
            _need(all(_is(int, v) and v >= 1 for v in given), f"{name} must be whole numbers of at least 1", given)
        _need(bool(said.lr) and all(_is(float, v) and 0 < v < math.inf for v in said.lr), "lr must be above 0", said.lr)
        _check_ranges(said, momentum=1.0, weight_decay=math.inf, drop_factor=math.inf, ema=1.0, lowest=1.0)
        for name, what in (("batch_by_ipc", "batch"), ("steps_by_items", "updates")):
            rule = getattr(said, name)
            pairs = all(len(pair) == 2 and all(_is(int, v) and v >= 1 for v in pair) for pair in rule)
            _need(pairs and list(rule) == sorted(rule), f"{name} must be pairs of items and {what}, fewest first", rule)
        _need(bool(said.steps) or not said.steps_by_items, "steps_by_items needs steps", said.steps)
        _need(_is(int, said.warm_up) and said.warm_up >= 0, "warm_up must be a whole number", said.warm_up)
        cosine = said.schedule in ("cosine", "half-cosine")
        _need(cosine or not (said.warm_up or said.lowest), "warm_up and lowest need schedule cosine", said.schedule)
        _need(said.rate_per == "step" or not said.warm_up, "warm_up needs rate_per step", said.rate_per)
        parts, end = said.milestones, [1] if said.extra_epoch else []
        known = isinstance(parts, tuple) and all(_is(float, v) and (0 < v < 1 or v in end) for v in parts)
        _need(known, "milestones must be parts of the epochs between 0 and 1", parts)
        _need(bool(parts) or said.schedule != "steps", "milestones must be given for schedule steps", parts)
        prob, beta = said.mix_prob, said.mix_beta
        _need(_is(float, prob) and 0 <= prob <= 1, "mix_prob must be in [0, 1]", prob)
        _need(_is(float, beta) and 0 < beta < math.inf, "mix_beta must be above 0", beta)
        if (said.epochs is None) == (not said.steps):
            raise PotstillError("say the length once: epochs or steps")


@dataclass(frozen=True, kw_only=True)
class Teaching:
    """What a student learns from: the set's own labels, or those of teachers, and how these are trained.

    Raises:
        PotstillError: a value out of its range.
    """

    labels: Labels = "given"
    """``given``: the set's own. ``teacher``: every batch, augmented and mixed, is labelled by networks that were
    trained on the real training data, and the set's own labels count for nothing but ``hard_weight``."""
    loss: Loss = "cross-entropy"
    """On the set's own labels of classes: ``cross-entropy`` with their probabilities, or ``squared``: half the squared
    difference of the outputs from scores (one-hot rows less 1/k, of a set with scores these as they are), the mean over
    samples and classes. On a teacher's labels: ``kl`` between tempered softmaxes, or ``mse`` between logits."""
    temperature: float = 1.0
    """Of ``kl``, above 0."""
    t_squared: bool = False
    """Whether ``kl`` is multiplied with the temperature's square, as Hinton et al. do (arXiv:1503.02531)."""
    hard_weight: float = 0.0
    """How much of the cross-entropy with the set's own classes joins a teacher's loss; they are not mixed."""
    teacher: str | None = None
    """The teacher's network; by default the teachers that the set was made for, where its card names some, as they were
    trained then; else the student's network. Baselines have the set's labeller
    (`potstill.evaluation.teacher_labels`)."""
    teachers: int = 1
    """A committee gives the mean of its logits."""
    committee: tuple[str, ...] = ()
    """Networks of further teachers, one of each."""
    teacher_epochs: int = 200
    """Passes of a teacher over the training data."""
    teacher_lr: float = 0.1
    """Of SGD with momentum 0.9, along a cosine to zero."""
    teacher_batch: int = 128
    """Samples in a teacher's batch."""
    teacher_weight_decay: float = 5e-4
    """Of a teacher's training."""
    teacher_augment: str = "pad-crop"
    """Per-sample augmentation of a teacher's training: a registered name."""
    teacher_statistics: Statistics = "running"
    """What a teacher's BatchNorms go by as it labels: the statistics of its training (evaluation mode), or those of the
    ``batch`` of views that it labels (batch-specific soft labels)."""

    def __post_init__(self) -> None:
        self.check(self)

    @classmethod
    def check(cls, said: Any) -> None:
        """Refuse fields out of their range. ``said`` may be no value of this class yet: a person may type anything."""
        _check_kinds(cls, said)
        _check_counts(said, "teachers", "teacher_epochs", "teacher_batch")
        _check_ranges(said, hard_weight=math.inf, teacher_weight_decay=math.inf)
        for name, value in (("temperature", said.temperature), ("teacher_lr", said.teacher_lr)):
            _need(_is(float, value) and 0 < value < math.inf, f"{name} must be above 0", value)
        known = _LOSSES[said.labels]
        _need(said.loss in known, f"loss must be {' or '.join(known)} with labels {said.labels}", said.loss)
        members = said.committee
        named = isinstance(members, tuple) and all(isinstance(m, str) for m in members)
        _need(named, "committee must be names", members)


@dataclass(frozen=True, kw_only=True)
class ModelSelection:
    """What is chosen, of rates, lengths and epochs, and on which data.

    Raises:
        PotstillError: a value out of its range.
    """

    lr_of_set: bool = False
    """Take the rate that was learned with a set, where its card has one (``training.learned_lr``), not ``lr``."""
    select: Select = "last"
    """Whose predictions count. ``best-on-test``: the epoch that does best on the test data, which is optimistic."""
    test_every: int = 0
    """For ``best-on-test``: look at the test data after every so many epochs, and after the last."""
    test_at: tuple[int, ...] = ()
    """For ``best-on-test``: look at the test data after the epochs in which these updates lie and after the last, in
    place of every so many epochs."""
    test_from: float = 0.0
    """For ``best-on-test``: look at nothing before this part of the epochs, in [0, 1)."""
    validation: float = 0.0
    """Part of the *training* data that choices are made on."""
    validation_students: int = 2
    validation_most: int = 1000
    """At most so many validation samples."""

    def __post_init__(self) -> None:
        self.check(self)

    @classmethod
    def check(cls, said: Any) -> None:
        """Refuse fields out of their range. ``said`` may be no value of this class yet: a person may type anything."""
        _check_kinds(cls, said)
        _check_counts(said, "validation_students", "validation_most")
        _check_ranges(said, validation=1.0, test_from=1.0)
        at = said.test_at
        fits = isinstance(at, tuple) and all(_is(int, v) and v >= 1 for v in at) and list(at) == sorted(set(at))
        _need(fits, "test_at must be whole numbers of at least 1 that rise", at)
        best, every = said.select == "best-on-test" and not at, said.test_every
        _need(_is(int, every) and every >= best, f"test_every must be a whole number of at least {int(best)}", every)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Every field, of its parts too, is part of the fingerprint: two scorecards with the same one were measured alike.
    Where a teacher labels, each scorecard says which one did (``labeller``).

    Raises:
        PotstillError: a value out of its range, or values that do not go together.
    """

    name: str
    version: int = 1
    paper: str
    """Who published it, and where the details were read."""
    summary: str
    optimistic: bool = False
    """Published with a choice (best epoch, learning rate) made on test data. It follows an override of ``select``."""
    students: int = 5
    """Networks trained on the set."""
    published_runs: str = ""
    """Repeats of the publication, where they differ from ``students``."""
    network: str | None = None
    """The student for pictures where the user names none; else it is the network that the set was made with."""
    cases: tuple[Case, ...] = ()
    """Exceptions; the first that fits counts."""
    shortened: bool = False
    """Made by `quick`: to look at a set, not to report it."""
    recipe: Recipe
    """How a student is trained."""
    teaching: Teaching = field(default_factory=Teaching)
    """What a student learns from."""
    selection: ModelSelection = field(default_factory=ModelSelection)
    """What is chosen, and on which data."""

    def __post_init__(self) -> None:
        best, lr, steps = self.selection.select == "best-on-test", self.recipe.lr, self.recipe.steps
        try:
            _check_counts(self, "students")
            _need(self.network is None or isinstance(self.network, str), "network must be a name", self.network)
            _need(self.optimistic or not best, "optimistic must be true with best-on-test", self.optimistic)
            if len(lr) * max(1, len(steps)) > 1 and self.selection.validation == 0:
                raise PotstillError("a choice needs validation data; set validation above 0")
        except PotstillError as error:
            raise PotstillError(f"protocol {self.name}: {error}") from None

    def flat_fields(self) -> dict[str, Any]:
        """Its fields, those of its parts in place of the parts, by name: no name stands twice."""
        return {name: value for owner in (self, *self._parts().values()) for name, value in _own_fields(owner).items()}

    def canonical(self) -> str:
        """All that is measured, as JSON: what the fingerprint is made of."""
        said = {name: value for owner in (self, *self._parts().values()) for name, value in _stated(owner).items()}
        return json.dumps(said | {"cases": [_stated(case) for case in self.cases]}, sort_keys=True)

    def fingerprint(self) -> str:
        """SHA-256 of its canonical form, 16 hex digits."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()[:16]

    def change(self, **fields: Any) -> "Protocol":
        """This protocol with other values of `flat` fields, and nothing else; `override` sees to what goes with them.

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
        """This protocol with other fields; its fingerprint then differs.

        ``lr``, ``steps``, ``milestones``, ``committee`` and ``test_at`` take one value or several. ``epochs`` takes
        the place of ``steps`` and the other way round, ``batch`` that of ``batch_by_ipc``, ``steps`` that of
        ``steps_by_items``, ``test_every`` that of ``test_at``; ``epochs``, ``augment`` and ``test_every`` also hold for
        the data and networks that the publication treats on their own. ``select`` says anew whether the result is
        optimistic.

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
        """This protocol shortened, with another fingerprint: ``QUICK_STUDENTS`` students, at most ``QUICK_EPOCHS``
        epochs or ``QUICK_STEPS`` updates (as many as warm it up, where these are more), one student for each choice,
        and teachers of ``QUICK_TEACHER_EPOCHS``."""
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
        """What it says for a set of so many items of so many classes: its batch, and its length in updates."""
        if rule := self.recipe.steps_by_items:
            steps = [steps for least, steps in rule if items >= least] or [rule[0][1]]
            return self.change(steps=(steps[-1],), steps_by_items=()).for_set_size(items, classes)
        reached = [batch for ipc, batch in self.recipe.batch_by_ipc if items >= ipc * classes]
        if not reached:
            return self
        return self.change(batch=min(items, reached[-1] * (2 if classes >= 100 else 1)), batch_by_ipc=())

    def resolve(self, source: str, network: str, input: InputSpec) -> "Protocol":
        """What it says for this data and this student: the case that fits is filled in; only pictures are augmented
        and mixed."""
        case = next((c for c in self.cases if c.fits(source, network, input.horizontal_flip)), Case())
        image, recipe = input.kind == "image", self.recipe
        return self.change(
            epochs=case.epochs or recipe.epochs,
            augment=(case.augment or recipe.augment) if image else "none",
            mix=recipe.mix if image else "none",
            teacher_augment=self.teaching.teacher_augment if image else "none",
            test_every=case.test_every or self.selection.test_every,
            cases=(),
        )

    def _parts(self) -> dict[str, Recipe | Teaching | ModelSelection]:
        return {"recipe": self.recipe, "teaching": self.teaching, "selection": self.selection}
