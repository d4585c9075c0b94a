"""How a distilled set is measured, to the last detail, as a value with a fingerprint."""

import dataclasses
import fnmatch
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from potstill.errors import PotstillError, unknown

__all__ = ["Case", "Protocol", "Schedule"]

Schedule = Literal["drop", "cosine"]
_FIXED = ("name", "version", "paper", "summary", "optimistic", "published_runs", "cases")
"""Fields that say which protocol it is: an override cannot change them."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """Where a publication departs from its own rule: for some data, or for some networks."""

    sources: tuple[str, ...] = ()
    """Names of the data; empty for any."""
    networks: str = "*"
    """Pattern of the student's full name, as in a shell."""
    epochs: int | None = None
    """In place of the protocol's epochs."""
    augment: str | None = None
    """In place of the protocol's augmentation."""

    def fits(self, source: str, network: str) -> bool:
        """Whether this is the case for that data and that network."""
        return (not self.sources or source in self.sources) and fnmatch.fnmatchcase(network, self.networks)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Every field is part of the fingerprint: two scorecards with the same one were measured alike.

    Raises:
        PotstillError: a value out of its range, or both or neither of ``epochs`` and ``steps``.
    """

    name: str
    version: int
    paper: str
    """Who published it, and where the details were read."""
    summary: str
    optimistic: bool = False
    """Published with a choice (best epoch, learning rate) made on test data."""
    students: int = 5
    """Networks trained on the set."""
    published_runs: str = ""
    """Repeats of the publication, where they differ from ``students``."""
    lr: tuple[float, ...] = (0.01,)
    """Learning rate; of several, one is chosen on validation data."""
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch: int = 256
    epochs: int | None = None
    """Passes over the set; or ``steps``."""
    extra_epoch: bool = False
    """Train one epoch more than said, as ``for ep in range(Epoch+1)`` does."""
    steps: tuple[int, ...] = ()
    """Updates; of several, one is chosen on validation data."""
    least_epochs: int = 0
    """With ``steps``: train at least so many passes, however large the set is."""
    schedule: Schedule = "cosine"
    """``drop``: after epoch number E//2+1 the rate is times ``drop_factor``. ``cosine``: to zero over all steps."""
    drop_factor: float = 0.1
    reset_momentum: bool = True
    """At the drop the optimiser is made anew, so its momentum starts from zero."""
    augment: str = "none"
    """Per-sample augmentation of pictures: a registered name, ``dc`` or ``dc-batch-norm``."""
    cases: tuple[Case, ...] = ()
    """Exceptions; the first that fits counts."""
    validation: float = 0.0
    """Part of the *training* data that choices are made on."""
    validation_students: int = 2
    validation_most: int = 1000
    """At most so many validation samples."""

    def __post_init__(self) -> None:
        _check({f.name: getattr(self, f.name) for f in dataclasses.fields(self)})

    def fingerprint(self) -> str:
        """SHA-256 of all fields, 16 hex digits."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def override(self, **changes: Any) -> "Protocol":
        """This protocol with other fields; its fingerprint then differs.

        ``lr`` and ``steps`` take one value or several. ``epochs`` takes the place of ``steps`` and the other way
        round; ``epochs`` and ``augment`` also hold for the data and networks that the publication treats on their own.

        Raises:
            PotstillError: there is no such field, it names the protocol, or the value is out of range.
        """
        known = [f.name for f in dataclasses.fields(self) if f.name not in _FIXED]
        for name, value in changes.items():
            if name not in known:
                raise PotstillError(f"protocol {self.name}: {unknown('option', name, known)}")
            if name in ("lr", "steps"):
                changes[name] = tuple(value) if isinstance(value, list | tuple) else (value,)
        if changes.get("steps") and "epochs" not in changes:
            changes["epochs"] = None
        elif changes.get("epochs") is not None and "steps" not in changes:
            changes["steps"] = ()
        cases = self.cases
        if "epochs" in changes:
            cases = tuple(dataclasses.replace(case, epochs=None) for case in cases)
        if "augment" in changes:
            cases = tuple(dataclasses.replace(case, augment=None) for case in cases)
        merged = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)} | changes | {"cases": cases}
        _check(merged)  # before a value is made: what a person typed may be of any type
        return Protocol(**merged)

    def resolve(self, source: str, network: str, kind: str) -> "Protocol":
        """What it says for this data and this student: the case that fits is filled in; only pictures are augmented."""
        case = next((c for c in self.cases if c.fits(source, network)), Case())
        augment = (case.augment or self.augment) if kind == "image" else "none"
        return dataclasses.replace(self, epochs=case.epochs or self.epochs, augment=augment, cases=())


def _check(values: Mapping[str, Any]) -> None:
    def need(kept: bool, what: str, found: object) -> None:
        if not kept:
            raise PotstillError(f"protocol {values['name']}: {what}, but it is {found!r}; change it")

    for name in ("students", "batch", "validation_students", "validation_most"):
        need(_is(int, values[name]) and values[name] >= 1, f"{name} must be a whole number of at least 1", values[name])
    epochs, steps, lr = values["epochs"], values["steps"], values["lr"]
    for name, given in (("epochs", () if epochs is None else (epochs,)), ("steps", steps)):
        need(all(_is(int, v) and v >= 1 for v in given), f"{name} must be whole numbers of at least 1", given)
    need(bool(lr) and all(_is(float, v) and 0 < v < math.inf for v in lr), "lr must be above 0", lr)
    for name, below in (("momentum", 1.0), ("weight_decay", math.inf), ("drop_factor", math.inf), ("validation", 1.0)):
        need(_is(float, values[name]) and 0 <= values[name] < below, f"{name} must be in [0, {below:g})", values[name])
    need(_is(int, values["least_epochs"]), "least_epochs must be a whole number", values["least_epochs"])
    for name in ("extra_epoch", "reset_momentum"):
        need(isinstance(values[name], bool), f"{name} must be true or false", values[name])
    need(isinstance(values["augment"], str), "augment must be a name", values["augment"])
    schedules = get_args(Schedule)
    need(values["schedule"] in schedules, f"schedule must be {' or '.join(schedules)}", values["schedule"])
    if (epochs is None) == (not steps):
        raise PotstillError(f"protocol {values['name']}: say the length once: epochs or steps")
    if len(lr) * max(1, len(steps)) > 1 and values["validation"] == 0:
        raise PotstillError(f"protocol {values['name']}: a choice needs validation data; set validation above 0")


def _is(kind: type, value: object) -> bool:
    """Whether ``value`` is a number of that kind; an int is a float, a bool is neither."""
    return isinstance(value, (int, float) if kind is float else kind) and not isinstance(value, bool)
