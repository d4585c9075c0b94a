"""What a page is made of: one distilled set's card, its scorecard, its pictures and its history."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Num

from potstill.reports.numbers import Estimate, to_estimate, to_number
from potstill.reports.snapshots import Snapshots
from potstill.tasks.metric import Metric

__all__ = ["Entry", "Gallery"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """Inputs to show, in data units: pictures (n, c, h, w) with values in [0,1], windows (n, v, t), or rows (n, d).

    ``labels`` are classes (n,) or rows of probabilities (n, k). ``counts`` are the items of each class in the whole set
    where ``inputs`` holds only some of them. ``columns`` are a table's column names. ``real``: they are real samples.
    ``weights``: how much each input counts, over the mean of the whole set. ``scores``: the least and the greatest of
    labels that are scores; ``labels`` are then the probabilities that cross-entropy reads of them.

    Without classes ``labels`` are 0, ``targets`` (n, …) what is to be learned, ``target_names`` what each is called,
    and ``captions`` the text of each input, where it has one.
    """

    inputs: Float[np.ndarray, "n ..."]
    labels: Num[np.ndarray, "n ..."]
    classes: tuple[str, ...]
    counts: tuple[int, ...] | None = None
    columns: tuple[str, ...] = ()
    real: bool = False
    weights: Float[np.ndarray, " n"] | None = None
    targets: Num[np.ndarray, "n ..."] | None = None
    target_names: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    scores: tuple[float, float] | None = None

    @property
    def hard_labels(self) -> Num[np.ndarray, " n"]:
        """The class of each input; of a soft label, the most probable one."""
        return self.labels if self.labels.ndim == 1 else self.labels.argmax(1)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Items of each class in the whole set."""
        if self.counts is not None:
            return self.counts
        return tuple(int(size) for size in np.bincount(self.hard_labels.astype(np.int64), minlength=len(self.classes)))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One distilled set on the page. Keys are those of the card and the scorecard; whatever is missing is not shown.

    ``curve`` is the history of the run, ``{"step", "seconds", metric…}`` per record; ``None`` takes the card's own.
    """

    name: str
    card: Mapping[str, Any]
    scorecard: Mapping[str, Any] | None = None
    gallery: Gallery | None = None
    curve: Sequence[Mapping[str, Any]] | None = None
    study: Mapping[str, Any] | None = None
    """Its report card, as `potstill diagnose` writes it."""
    snapshots: Snapshots | None = None
    """Its pictures at a few steps."""

    def card_section(self, key: str) -> Mapping[str, Any]:
        """A mapping of the card, empty where the card has none."""
        return _mapping(self.card.get(key))

    def scorecard_section(self, key: str) -> Mapping[str, Any]:
        """A mapping of the scorecard, empty where there is none."""
        return _mapping((self.scorecard or {}).get(key))

    @property
    def method(self) -> str:
        return str(self.card.get("method") or (self.scorecard or {}).get("method") or self.name)

    @property
    def source(self) -> str:
        return str(self.card_section("source").get("name") or "")

    @property
    def samples(self) -> int | None:
        """Real samples that the set was made from."""
        value = to_number(self.card_section("source").get("samples"))
        return None if value is None else int(value)

    @property
    def classes(self) -> tuple[str, ...]:
        names = self.card.get("classes")
        if isinstance(names, list | tuple):
            return tuple(map(str, names))
        return self.gallery.classes if self.gallery else ()

    @property
    def items(self) -> int | None:
        """Inputs that a learner trains on."""
        if self.gallery is not None:
            return sum(self.gallery.sizes)
        ipc = to_number(self.card.get("ipc"))
        return int(ipc) * len(self.classes) if ipc is not None and self.classes else None

    @property
    def ipc(self) -> int | None:
        value = to_number(self.card.get("ipc"))
        return None if value is None else int(value)

    @property
    def noun(self) -> str:
        """What one input is called, in the plural."""
        nouns = {"image": "pictures", "table": "rows", "pair": "pairs", "series": "windows"}
        return nouns.get(str(self.card_section("input").get("kind", "image")), "samples")

    @property
    def history(self) -> Sequence[Mapping[str, Any]]:
        """The records of the run, empty where there are none."""
        records = self.curve if self.curve is not None else self.card.get("history")
        return [r for r in records if isinstance(r, Mapping)] if isinstance(records, Sequence) else []

    @property
    def metric(self) -> Metric:
        """What its scores are, and which way is better."""
        return Metric.from_scorecard(self.scorecard)

    @property
    def score(self) -> Estimate | None:
        """On the test split: in the metric's unit; of a scorecard of before there were others, its accuracy."""
        card = self.scorecard or {}
        return to_estimate(card.get("score") or card.get("accuracy"), card.get("n"))

    @property
    def full(self) -> Estimate | None:
        """Score after training on all real data."""
        return to_estimate((self.scorecard or {}).get("full"))

    @property
    def baselines(self) -> Mapping[str, Estimate]:
        """Score of each baseline, in the scorecard's order."""
        n = (self.scorecard or {}).get("n")
        found = {str(name): to_estimate(value, n) for name, value in self.scorecard_section("baselines").items()}
        return {name: value for name, value in found.items() if value is not None}

    def gap(self, name: str) -> Estimate | None:
        """This set's score minus that of the baseline ``name``: as measured if it says, else from both."""
        own, other = self.score, self.baselines.get(name)
        if own is None or other is None:
            return None
        held = self.scorecard_section("baselines")[name]
        measured = to_estimate(held.get("difference")) if isinstance(held, Mapping) else None
        return measured or own - other

    @property
    def bytes(self) -> float | None:
        """Everything that training on the set needs, as stored."""
        return to_number(self.card_section("bytes").get("total")) or to_number(
            self.scorecard_section("bytes").get("total")
        )

    @property
    def codec(self) -> str | None:
        """How its values are written."""
        found = self.card_section("store").get("name") or self.scorecard_section("set").get("codec")
        return None if found is None else str(found)

    @property
    def optimistic(self) -> bool:
        return (self.scorecard or {}).get("optimistic") is True

    @property
    def quick(self) -> bool:
        """Whether the protocol was shortened, so that its numbers are to look at and not to report."""
        return (self.scorecard or {}).get("quick") is True

    @property
    def flags(self) -> str:
        """What must stand beside each of its numbers, in words; empty where nothing must."""
        return " ".join(word for word, said in (("optimistic", self.optimistic), ("quick", self.quick)) if said)

    @property
    def outcome(self) -> tuple[str, str]:
        """How the run ended: one word, and the sentence that says why (empty where there is none)."""
        value = self.card.get("outcome")
        if isinstance(value, Mapping):
            return str(value.get("kind") or ""), str(value.get("message") or "")
        return str(value or ""), ""
