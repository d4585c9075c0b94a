"""How a distilled set is measured, to the last detail, as a value with a fingerprint."""

import dataclasses
import fnmatch
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from potstill.core import InputSpec
from potstill.errors import PotstillError, unknown
from potstill.supervise.about import Statistics

__all__ = ["Case", "Labels", "Loss", "Mixing", "Optimizer", "Precision", "Protocol", "Schedule", "Selection"]

Schedule = Literal["drop", "cosine", "half-cosine", "steps"]
Optimizer = Literal["sgd", "adamw"]
Mixing = Literal["none", "cutmix", "mixup"]
Labels = Literal["given", "teacher"]
Loss = Literal["cross-entropy", "kl", "mse"]
Selection = Literal["last", "best-on-test"]
Precision = Literal["float32", "bfloat16"]
QUICK_STUDENTS, QUICK_EPOCHS, QUICK_STEPS, QUICK_TEACHER_EPOCHS = 3, 100, 60, 20
"""What `Protocol.quick` leaves of students, of epochs or steps, and of teachers' epochs, at most. Ours."""
_FIXED = ("name", "version", "paper", "summary", "optimistic", "published_runs", "network", "cases", "shortened")
"""Fields that say which protocol it is: an override cannot change them."""
_LATER = frozenset({
    "optimizer", "milestones", "mix", "mix_prob", "mix_beta", "select", "test_every", "network", "test_from", "decay",
    "rate_per", "batch_by_ipc", "labels", "loss", "temperature", "t_squared", "hard_weight", "teacher", "teachers",
    "teacher_epochs", "teacher_lr", "teacher_batch", "teacher_weight_decay", "teacher_augment", "committee", "ema",
    "lr_of_set", "precision", "teacher_statistics", "mirrored", "shortened",
})  # fmt: skip
"""Fields that came when numbers had been made already. At its default such a field is left out of the fingerprint, so
that the fingerprints of protocols that do not use it stay what they were."""


_NOT_MIRRORED = ("digits", "mnist", "mnist-5k", "svhn")
"""What fingerprints say for ``Case(mirrored=False)``."""


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


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Every field is part of the fingerprint: two scorecards with the same one were measured alike. Where a teacher
    labels, each scorecard says which one did (``labeller``).

    Raises:
        PotstillError: a value out of its range, or both or neither of ``epochs`` and ``steps``.
    """

    name: str
    version: int
    paper: str
    """Who published it, and where the details were read."""
    summary: str
    optimistic: bool = False
    """Published with a choice (best epoch, learning rate) made on test data. It follows an override of ``select``."""
    students: int = 5
    """Networks trained on the set."""
    published_runs: str = ""
    """Repeats of the publication, where they differ from ``students``."""
    lr: tuple[float, ...] = (0.01,)
    """Learning rate; of several, one is chosen on validation data."""
    lr_of_set: bool = False
    """Take the rate that was learned with a set, where its card has one (``training.learned_lr``), not ``lr``."""
    optimizer: Optimizer = "sgd"
    """``adamw`` has torch's betas (0.9, 0.999) and eps (1e-8), and decays weights apart from the gradient."""
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
    least_epochs: int = 0
    """With ``steps``: train at least so many passes, however large the set is."""
    schedule: Schedule = "cosine"
    """``drop``: after epoch number E//2+1 the rate is times ``drop_factor``. ``cosine``: to zero over all steps.
    ``half-cosine``: (1 + cos(πt/2T))/2, which ends at half the rate. ``steps``: times ``drop_factor`` at each of the
    ``milestones``."""
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
    mix: Mixing = "none"
    """``cutmix``, ``mixup``: batches of augmented pictures are mixed, and their labels with them."""
    mix_prob: float = 0.5
    """The probability that a batch is mixed, in [0, 1]."""
    mix_beta: float = 1.0
    """The share that is kept is drawn from Beta(this, this); above 0, 1 is even."""
    select: Selection = "last"
    """Whose predictions count. ``best-on-test``: the epoch that does best on the test data, which is optimistic."""
    test_every: int = 0
    """For ``best-on-test``: look at the test data after every so many epochs, and after the last."""
    test_from: float = 0.0
    """For ``best-on-test``: look at nothing before this part of the epochs, in [0, 1)."""
    labels: Labels = "given"
    """``given``: the set's own. ``teacher``: every batch, augmented and mixed, is labelled by networks that were
    trained on the real training data, and the set's own labels count for nothing but ``hard_weight``."""
    loss: Loss = "cross-entropy"
    """On a teacher's labels: ``kl`` between tempered softmaxes, or ``mse`` between logits."""
    temperature: float = 1.0
    """Of ``kl``, above 0."""
    t_squared: bool = False
    """Whether ``kl`` is multiplied with the temperature's square, as Hinton et al. do (arXiv:1503.02531)."""
    hard_weight: float = 0.0
    """How much of the cross-entropy with the set's own classes joins a teacher's loss; they are not mixed."""
    teacher: str | None = None
    """The teacher's network; by default the teachers that the set was made for, where its card names some, as they were
    trained then; else the student's network. Baselines have the set's labeller (`potstill.evaluation.labeller`)."""
    teachers: int = 1
    """A committee gives the mean of its logits."""
    precision: Precision = "float32"
    """In which students' products are computed; weights, norms, losses and gradients' sums stay float32 in both.
    ``bfloat16`` (torch's autocast) is for hardware that is faster with it."""
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
    network: str | None = None
    """The student for pictures where the user names none; else it is the network that the set was made with."""
    cases: tuple[Case, ...] = ()
    """Exceptions; the first that fits counts."""
    validation: float = 0.0
    """Part of the *training* data that choices are made on."""
    validation_students: int = 2
    validation_most: int = 1000
    """At most so many validation samples."""

    shortened: bool = False
    """Made by `quick`: to look at a set, not to report it."""

    def __post_init__(self) -> None:
        _check({f.name: getattr(self, f.name) for f in dataclasses.fields(self)})

    def fingerprint(self) -> str:
        """SHA-256 of all fields, 16 hex digits."""
        text = json.dumps(_said(self) | {"cases": [_said(case) for case in self.cases]}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def override(self, **changes: Any) -> "Protocol":
        """This protocol with other fields; its fingerprint then differs.

        ``lr``, ``steps``, ``milestones`` and ``committee`` take one value or several. ``epochs`` takes the place of
        ``steps`` and the other way round, ``batch`` that of ``batch_by_ipc``; ``epochs``, ``augment`` and
        ``test_every`` also hold for the data and networks that the publication treats on their own. ``select`` says
        anew whether the result is optimistic.

        Raises:
            PotstillError: there is no such field, it names the protocol, or the value is out of range.
        """
        known = [f.name for f in dataclasses.fields(self) if f.name not in _FIXED]
        for name, value in changes.items():
            if name not in known:
                raise PotstillError(f"protocol {self.name}: {unknown('option', name, known)}")
            if name in ("lr", "steps", "milestones", "committee"):
                changes[name] = tuple(value) if isinstance(value, list | tuple) else (value,)
        if "batch" in changes:
            changes.setdefault("batch_by_ipc", ())
        if changes.get("steps") and "epochs" not in changes:
            changes["epochs"] = None
        elif changes.get("epochs") is not None and "steps" not in changes:
            changes["steps"] = ()
        cases = self.cases
        for name in {"epochs", "augment", "test_every"} & changes.keys():
            empty: dict[str, Any] = {name: None}
            cases = tuple(dataclasses.replace(case, **empty) for case in cases)
        if "select" in changes:
            otherwise = self.optimistic and self.select == "last"  # for a reason that stays
            changes["optimistic"] = otherwise or changes["select"] == "best-on-test"
        merged = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)} | changes | {"cases": cases}
        _check(merged)  # before a value is made: what a person typed may be of any type
        return dataclasses.replace(self, **merged)

    def quick(self) -> "Protocol":
        """This protocol shortened, with another fingerprint: ``QUICK_STUDENTS`` students, at most ``QUICK_EPOCHS``
        epochs or ``QUICK_STEPS`` updates, one student for each choice, and teachers of ``QUICK_TEACHER_EPOCHS``."""
        length: dict[str, Any] = (
            {"steps": (min(*self.steps, QUICK_STEPS),)}
            if self.steps
            else {"epochs": min(self.epochs or 1, QUICK_EPOCHS)}
        )
        shorter = self.override(
            **length, students=min(self.students, QUICK_STUDENTS), validation_students=1,
            teacher_epochs=min(self.teacher_epochs, QUICK_TEACHER_EPOCHS),
        )  # fmt: skip
        return dataclasses.replace(shorter, shortened=True)

    def sized(self, items: int, classes: int) -> "Protocol":
        """What it says for a set of so many items of so many classes: its batch."""
        reached = [batch for ipc, batch in self.batch_by_ipc if items >= ipc * classes]
        if not reached:
            return self
        return dataclasses.replace(self, batch=min(items, reached[-1] * (2 if classes >= 100 else 1)), batch_by_ipc=())

    def resolve(self, source: str, network: str, input: InputSpec) -> "Protocol":
        """What it says for this data and this student: the case that fits is filled in; only pictures are augmented
        and mixed."""
        case = next((c for c in self.cases if c.fits(source, network, input.mirrored)), Case())
        image = input.kind == "image"
        return dataclasses.replace(
            self,
            epochs=case.epochs or self.epochs,
            augment=(case.augment or self.augment) if image else "none",
            mix=self.mix if image else "none",
            teacher_augment=self.teacher_augment if image else "none",
            test_every=case.test_every or self.test_every,
            cases=(),
        )


def _said(value: Protocol | Case) -> dict[str, Any]:
    """The fields that a fingerprint is made of."""
    if isinstance(value, Case) and value.mirrored is False and not value.sources:
        # Once a list of names, which stands in every fingerprint that was published.
        value = dataclasses.replace(value, mirrored=None, sources=_NOT_MIRRORED)
    defaults = {f.name: f.default for f in dataclasses.fields(value)}
    return {n: v for n, v in dataclasses.asdict(value).items() if n not in _LATER or v != defaults[n]}


_CHOICES: Mapping[str, tuple[str, ...]] = {
    "schedule": get_args(Schedule), "optimizer": get_args(Optimizer), "mix": get_args(Mixing),
    "select": get_args(Selection), "labels": get_args(Labels), "loss": get_args(Loss), "decay": ("all", "matrices"),
    "rate_per": ("step", "epoch"), "precision": get_args(Precision), "teacher_statistics": get_args(Statistics),
}  # fmt: skip


def _check(values: Mapping[str, Any]) -> None:
    def need(kept: bool, what: str, found: object) -> None:
        if not kept:
            raise PotstillError(f"protocol {values['name']}: {what}, but it is {found!r}; change it")

    for name in (
        "students", "batch", "validation_students", "validation_most", "teachers", "teacher_epochs", "teacher_batch"
    ):  # fmt: skip
        need(_is(int, values[name]) and values[name] >= 1, f"{name} must be a whole number of at least 1", values[name])
    epochs, steps, lr = values["epochs"], values["steps"], values["lr"]
    for name, given in (("epochs", () if epochs is None else (epochs,)), ("steps", steps)):
        need(all(_is(int, v) and v >= 1 for v in given), f"{name} must be whole numbers of at least 1", given)
    need(bool(lr) and all(_is(float, v) and 0 < v < math.inf for v in lr), "lr must be above 0", lr)
    for name, below in (
        ("momentum", 1.0), ("weight_decay", math.inf), ("drop_factor", math.inf), ("validation", 1.0),
        ("hard_weight", math.inf), ("teacher_weight_decay", math.inf), ("test_from", 1.0), ("ema", 1.0),
    ):  # fmt: skip
        need(_is(float, values[name]) and 0 <= values[name] < below, f"{name} must be in [0, {below:g})", values[name])
    need(_is(int, values["least_epochs"]), "least_epochs must be a whole number", values["least_epochs"])
    for name in ("temperature", "teacher_lr"):
        need(_is(float, values[name]) and 0 < values[name] < math.inf, f"{name} must be above 0", values[name])
    for name in ("extra_epoch", "reset_momentum", "t_squared", "lr_of_set"):
        need(isinstance(values[name], bool), f"{name} must be true or false", values[name])
    for name in ("augment", "teacher_augment"):
        need(isinstance(values[name], str), f"{name} must be a name", values[name])
    rule = values["batch_by_ipc"]
    pairs = all(len(pair) == 2 and all(_is(int, v) and v >= 1 for v in pair) for pair in rule)
    need(pairs and list(rule) == sorted(rule), "batch_by_ipc must be pairs of items and batch, fewest first", rule)
    taught = values["labels"] == "teacher"
    need(taught == (values["loss"] != "cross-entropy"), "loss must be kl or mse with labels teacher", values["loss"])
    for name, known in _CHOICES.items():
        need(values[name] in known, f"{name} must be {' or '.join(known)}", values[name])
    milestones = values["milestones"]
    end = [1] if values["extra_epoch"] else []
    parts = isinstance(milestones, tuple) and all(_is(float, v) and (0 < v < 1 or v in end) for v in milestones)
    need(parts, "milestones must be parts of the epochs between 0 and 1", milestones)
    need(bool(milestones) or values["schedule"] != "steps", "milestones must be given for schedule steps", milestones)
    prob, beta = values["mix_prob"], values["mix_beta"]
    need(_is(float, prob) and 0 <= prob <= 1, "mix_prob must be in [0, 1]", prob)
    need(_is(float, beta) and 0 < beta < math.inf, "mix_beta must be above 0", beta)
    for name in ("network", "teacher"):
        need(values[name] is None or isinstance(values[name], str), f"{name} must be a name", values[name])
    members = values["committee"]
    need(isinstance(members, tuple) and all(isinstance(m, str) for m in members), "committee must be names", members)
    best, every = values["select"] == "best-on-test", values["test_every"]
    need(_is(int, every) and every >= best, f"test_every must be a whole number of at least {int(best)}", every)
    need(values["optimistic"] or not best, "optimistic must be true with best-on-test", values["optimistic"])
    if (epochs is None) == (not steps):
        raise PotstillError(f"protocol {values['name']}: say the length once: epochs or steps")
    if len(lr) * max(1, len(steps)) > 1 and values["validation"] == 0:
        raise PotstillError(f"protocol {values['name']}: a choice needs validation data; set validation above 0")


def _is(kind: type, value: object) -> bool:
    """Whether ``value`` is a number of that kind; an int is a float, a bool is neither."""
    return isinstance(value, (int, float) if kind is float else kind) and not isinstance(value, bool)
