"""Selection of the networks that label a set and its baselines, under a protocol in which a teacher does.

Unless the protocol names others, the networks that the set was made for label it: its inputs may be a code that no
other network reads. The set's metadata give their architecture, recipe and a hash of the parameters. They come from the
cache, or are retrained from their recipe; the hash then tells whether they are the same. Other sets are labelled by a
network of the student's architecture.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from potstill._util.progress import Callback
from potstill.core import Augmentation, NetworkFactory, Source
from potstill.data.iterate import map_samples
from potstill.data.real_data import RealData
from potstill.dataset_file import Distilled
from potstill.errors import PotstillError
from potstill.evaluation.distilled_training import Teachers, train_teachers
from potstill.evaluation.protocol import Protocol
from potstill.execution import Executor
from potstill.labels.teacher_file import Labels
from potstill.labels.write import hash_network
from potstill.nn import factory_for, is_public_name
from potstill.pretraining import TrainedNetworks, build_assets
from potstill.rng import generator

__all__ = ["MIN_AGREEMENT", "Labeller", "is_self_labelled", "labeller_names", "resolve_labeller", "stored_labeller"]

MIN_AGREEMENT = 0.5
"""Warn if agreement on the set's inputs is below this fraction of that on real samples. Ours."""
REAL, CHUNK, MOST = 1000, 250, 64
"""Maximum number of real samples tested, inputs per pass, and teachers in metadata."""

Chosen = Literal["set", "protocol", "student", "file"]
_KNOWN = {
    "epochs", "batch", "lr", "momentum", "weight_decay", "augment", "schedule", "cutmix", "holdout", "network",
}  # fmt: skip
_NEEDED = ("epochs", "batch", "lr", "momentum", "weight_decay")


@dataclass(frozen=True, kw_only=True)
class Labeller:
    """The networks that label, and their agreement with the intended classes."""

    source: Chosen
    """Origin: the set's metadata, the protocol, the student (its architecture), or a file of stored labels."""
    networks: tuple[tuple[str, str], ...]
    """Name and hash of each."""
    is_own: bool | None
    """True if exactly these networks made the set; ``None`` if its metadata name none that label."""
    retrained: bool = False
    """They were retrained from the recipe in the set's metadata, with different parameters as result."""
    why: str = ""
    """Reason why the set's own networks do not label."""
    teachers: Teachers | None = None
    """``None`` if all labels are read from a file."""
    agreement: float | None = None
    """Fraction of the set's inputs classified as intended."""
    agreement_real: float | None = None
    """The same for random real training samples, equally many of each class."""

    @property
    def name(self) -> str:
        return " + ".join(name for name, _ in self.networks)

    @property
    def warning(self) -> str | None:
        """One line if the labels say little of the set's classes or come from other networks than expected."""
        if self.retrained:
            return (
                "the set's own teacher was trained again from the recipe on its card and came out with other "
                "parameters, by other data or on another machine"
            )
        if (
            self.agreement is None
            or self.agreement_real is None
            or self.agreement >= MIN_AGREEMENT * self.agreement_real
        ):
            return None
        other = "" if self.is_own else "; let the set's own teacher label, or one that reads such inputs"
        return (
            f"the labeller takes only {100 * self.agreement:.0f}% of this set's inputs for what they stand for "
            f"({100 * self.agreement_real:.0f}% of real ones), so its labels say little of their classes{other}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values for a scorecard."""
        return {
            "name": self.name,
            "hash": self.networks[0][1] if len(self.networks) == 1 else [h for _, h in self.networks],
            "own": self.is_own,
            "chosen": self.source,
            "agreement": self.agreement,
            "agreement_real": self.agreement_real,
            "why": self.why or None,
            "warning": self.warning,
        }


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """Networks of one architecture and recipe in a set's metadata."""

    network: str
    recipe: Mapping[str, float | int | str]
    hashes: tuple[str, ...]


def resolve_labeller(
    protocol: Protocol,
    distilled: Distilled,
    train: Source,
    make: NetworkFactory,
    augmentation: Callable[[str], Augmentation],
    progress: Callback | None = None,
    executor: Executor | None = None,
) -> Labeller:
    """Return the labeller of ``distilled`` and its baselines: the protocol's, else the set's own, else the student's.

    Args:
        protocol: resolved for the data, one in which a teacher labels.
        train: the training data, with the set's normalization.
        make: the student's architecture.
        augmentation: returns an augmentation by name.
        progress, executor: as for `potstill.pretraining.build`.

    Raises:
        PotstillError: the metadata's teachers cannot be read, or a network cannot be made or trained.
    """
    entries = _entries(distilled.metadata)
    chosen, why = _choice(protocol, entries, make)
    if chosen == "set":
        teachers = _from_card(entries, train, make, augmentation, progress, executor)
    else:
        teachers = train_teachers(protocol, train, _first(protocol, train, make), augmentation, progress, executor)
    label = teachers.logits_function(protocol.teaching.teacher_statistics)
    networks = _networks(teachers)
    made_by = sorted(h for e in entries for h in e.hashes)
    own = sorted(h for _, h in networks) == made_by if entries else None
    y = distilled.hard_labels.to(train.device)
    return Labeller(
        source=chosen, networks=networks, is_own=own, retrained=chosen == "set" and not own, why="" if own else why,
        teachers=teachers, agreement=_agreement(label, distilled.model_space().to(train.device), y),
        agreement_real=_agreement_real(label, train),
    )  # fmt: skip


def labeller_names(protocol: Protocol, distilled: Distilled, train: Source, make: NetworkFactory) -> list[str]:
    """The networks that `resolve_labeller` would give, by name, without training any. Arguments as there."""
    entries = _entries(distilled.metadata)
    if _choice(protocol, entries, make)[0] == "set":
        return [e.network for e in entries for _ in e.hashes]
    others = [factory_for(name, train).name for name in protocol.teaching.committee]
    return [*[_first(protocol, train, make).name] * protocol.teaching.teachers, *others]


def is_self_labelled(protocol: Protocol, distilled: Distilled) -> bool:
    """Return True if the set's own teachers label it; it is then not compared with samples that others label."""
    asked = protocol.teaching.labels == "teacher" and not protocol.teaching.teacher and not protocol.teaching.committee
    return asked and bool(_entries(distilled.metadata))


def _choice(protocol: Protocol, entries: Sequence[_Entry], make: NetworkFactory) -> tuple[Chosen, str]:
    """Return the labeller's source, and why it is not the set where the set has teachers."""
    if protocol.teaching.teacher or protocol.teaching.committee:
        return "protocol", "the protocol names another" if entries else ""
    if strange := next((e.network for e in entries if not is_public_name(e.network) and e.network != make.name), None):
        return "student", f"its teacher is a network of its maker's own, {strange}, and was not given"
    return ("set" if entries else "student"), ""


def _first(protocol: Protocol, train: Source, make: NetworkFactory) -> NetworkFactory:
    return factory_for(protocol.teaching.teacher, train) if protocol.teaching.teacher else make


def stored_labeller(baseline_labeller: Labeller | None, distilled: Distilled, store: Labels) -> Labeller:
    """Return the labeller of the labels in ``store``, for the scorecard.

    Args:
        asked: the baselines' labeller, if any; if it wrote the file too, its agreement holds.
    """
    made_by = sorted(h for e in _entries(distilled.metadata) for h in e.hashes)
    hashes = sorted(h for _, h in store.about.networks)
    own = hashes == made_by if made_by else None
    if baseline_labeller is not None and sorted(h for _, h in baseline_labeller.networks) == hashes:
        return replace(baseline_labeller, source="file", networks=store.about.networks, is_own=own, retrained=False)
    why = "" if baseline_labeller is None else f"baselines are labelled by another, {baseline_labeller.name}"
    teachers = None if baseline_labeller is None else baseline_labeller.teachers
    return Labeller(source="file", networks=store.about.networks, is_own=own, why=why, teachers=teachers)


def _entries(card: Mapping[str, Any]) -> list[_Entry]:
    """Read the labelling networks from untrusted metadata."""
    found = card.get("teachers")
    if found is None:
        return []
    try:
        entries = [_entry(e) for e in found if e["labels"] is True]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PotstillError(
            f"the set's metadata must say its teachers by network, recipe and hash, but it has {str(found)[:80]!r}; "
            'name a teacher, as in `teacher="convnet-batch"`, or get the file again'
        ) from error
    if sum(len(e.hashes) for e in entries) > MOST:
        raise PotstillError(f"the set's metadata names more than {MOST} teachers that label; name one in their place")
    return entries


def _entry(value: Mapping[str, Any]) -> _Entry:
    recipe, hashes = dict(value["recipe"]), tuple(str(n["hash"]) for n in value["networks"])
    numbers = [recipe[name] for name in _NEEDED]
    numbers += [v for n, v in recipe.items() if n not in _NEEDED and not isinstance(v, str)]
    fine = all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) and v >= 0 for v in numbers)
    if not fine or recipe.keys() - _KNOWN or recipe["batch"] < 1 or not hashes:
        raise ValueError("no recipe")
    recipe.pop("network", None)
    return _Entry(network=str(value["network"]), recipe=recipe, hashes=hashes)


def _from_card(
    entries: Sequence[_Entry], train: Source, make: NetworkFactory, augmentation: Callable[[str], Augmentation],
    progress: Callback | None, executor: Executor | None,
) -> Teachers:  # fmt: skip
    """Return the networks, from the cache or retrained."""
    makes = [make if e.network == make.name else factory_for(e.network, train) for e in entries]
    parts: list[Teachers] = []
    for n, (entry, one) in enumerate(zip(entries, makes, strict=True)):
        spec = TrainedNetworks(name=f"teachers/{n}", count=len(entry.hashes), recipe=entry.recipe)
        made, _ = build_assets([spec], train, one, augmentation, executor=executor, progress=progress)
        parts.append(Teachers(make=one, trained=tuple(made[spec.name])))
    return replace(parts[0], others=tuple(parts[1:]))


def _networks(teachers: Teachers) -> tuple[tuple[str, str], ...]:
    names = [teachers.make.name] * len(teachers.trained)
    own = [hash_network(network) for network in replace(teachers, others=()).networks()]
    return (*zip(names, own, strict=True), *(pair for other in teachers.others for pair in _networks(other)))


def _agreement(label: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> float:
    """Return the fraction of inputs whose likeliest class is the intended one.

    Classes share a pass in random order: a teacher may use the statistics of the batch.
    """
    order = torch.randperm(len(x), generator=generator(0, "agreement"))
    right = sum(int((label(x[i]).argmax(1) == y[i]).sum()) for i in torch.split(order, CHUNK))
    return right / len(x)


def _agreement_real(label: Callable[[Tensor], Tensor], train: Source) -> float:
    most = max(1, REAL // len(train.classes))
    drawn = torch.cat(RealData.of_source(train).draw(most, generator(0, "agreement", "real")))
    drawn = drawn[torch.randperm(len(drawn), generator=generator(0, "agreement"))]

    def classify(batch: Any) -> Tensor:
        return label(batch.x).argmax(1)

    found = map_samples(train, drawn, CHUNK, classify)
    return float((found.cpu() == train.labels[drawn].cpu()).double().mean())
