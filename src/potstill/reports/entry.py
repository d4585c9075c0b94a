"""Contents of a page: a distilled set's metadata, scorecard, images and history."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Num

from potstill._util.card import shared_decoder_bytes, size_without_encoder
from potstill.reports.numbers import Estimate, to_estimate, to_number
from potstill.reports.snapshots import Snapshots
from potstill.tasks.metric import Metric
from potstill.verdicts import Verdict, judge_scorecard, noun_of_kind, shown_baselines

__all__ = ["Entry", "Gallery"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """Displayed inputs in data units: images (n, c, h, w) with values in [0,1], windows (n, v, t), or rows (n, d).

    ``labels`` are classes (n,) or rows of probabilities (n, k). ``counts`` are the items of each class in the whole set
    where ``inputs`` holds only some of them. ``columns`` are a table's column names. ``real``: they are real samples.
    ``weights``: of each input, divided by the mean of the whole set. ``scores``: range of labels that are scores;
    ``labels`` are then the probabilities that cross-entropy reads from them. ``kind``: name of the kind of input.

    Without classes ``labels`` are 0, ``targets`` (n, …) are the targets, ``target_names`` their names, and ``captions``
    the text of each input, if it has one.
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
    nearest: tuple[str, ...] = ()
    """Real caption nearest to each learned text."""
    scores: tuple[float, float] | None = None
    masks: Num[np.ndarray, "n h w"] | None = None
    """Class of each pixel of each picture; ``target_names`` are the classes'."""
    boxes: Float[np.ndarray, "n most 5"] | None = None
    """Boxes of each picture, padded: left, top, right, bottom and class; ``target_names`` are the classes'."""
    series: Float[np.ndarray, "count length v"] | None = None
    """Points of which the windows are parts."""
    kind: str = ""
    units: str = ""
    """Units of the inputs, which say the scale of sounds."""
    titles: tuple[str, ...] = ()
    """Titles of the items that users met."""
    cells: tuple[tuple[str, ...], ...] = ()
    """Cells of each row of a table, as they stand in its source: categories and dates; ``cell_columns`` names them."""
    cell_columns: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    """Columns of these that hold no numbers."""
    frames: tuple[int, ...] = ()
    """Rows and columns of the frames that pictures of clips are made of."""

    @property
    def hard_labels(self) -> Num[np.ndarray, " n"]:
        """Class of each input; for a soft label, the most probable one."""
        return self.labels if self.labels.ndim == 1 else self.labels.argmax(1)

    @property
    def class_by_class(self) -> list[int]:
        """Positions of the inputs: the first of every class, then the second ones, …"""
        of_class = [np.flatnonzero(self.hard_labels == c).tolist() for c in range(len(self.classes))]
        return [index[n] for n in range(max(map(len, of_class), default=0)) for index in of_class if n < len(index)]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Items of each class in the whole set."""
        if self.counts is not None:
            return self.counts
        return tuple(int(size) for size in np.bincount(self.hard_labels.astype(np.int64), minlength=len(self.classes)))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _horizon_words(entry: Mapping[str, Any]) -> str:
    window, horizon = (to_number(entry.get(key)) for key in ("window", "horizon"))
    return "" if window is None or horizon is None else f"{int(horizon)} to come from windows of {int(window)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One distilled set on the page. Keys are those of the metadata and the scorecard; missing ones are not shown."""

    name: str
    card: Mapping[str, Any]
    scorecard: Mapping[str, Any] | None = None
    gallery: Gallery | None = None
    study: Mapping[str, Any] | None = None
    """Its diagnostics, as `potstill diagnose` writes them."""
    audit: Mapping[str, Any] | None = None
    """Its audits, as `potstill audit` writes them."""
    snapshots: Snapshots | None = None
    """Inputs at a few steps."""
    file_bytes: int | None = None
    """Bytes of its file, with metadata; ``None``: there is no file."""
    file_stem: str = ""
    """Name of its file without the ending; empty: the entry's name."""

    def card_section(self, key: str) -> Mapping[str, Any]:
        """Return a mapping of the metadata, empty if missing."""
        return _mapping(self.card.get(key))

    def scorecard_section(self, key: str) -> Mapping[str, Any]:
        """Return a mapping of the scorecard, empty if missing."""
        return _mapping((self.scorecard or {}).get(key))

    @property
    def draw(self) -> Mapping[str, Any]:
        """The draw of inputs that a generator in the file makes, by its metadata; empty where inputs are stored."""
        return _mapping(self.card_section("decoder").get("drawn"))

    @property
    def method(self) -> str:
        return str(self.card.get("method") or (self.scorecard or {}).get("method") or self.name)

    @property
    def source(self) -> str:
        return str(self.card_section("source").get("name") or "")

    @property
    def samples(self) -> int | None:
        """Number of real samples that the set was made from."""
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
        """Number of inputs that a student trains on."""
        windows = to_number(self.scorecard_section("set").get("items")) if self.made_for_label else None
        if windows is not None:
            return int(windows)
        if self.gallery is not None:
            return sum(self.gallery.sizes)
        ipc = to_number(self.card.get("ipc"))
        return int(ipc) * len(self.classes) if ipc is not None and self.classes else None

    @property
    def horizon_label(self) -> str:
        """Horizon and window of the forecasts that were measured, in words; empty for others."""
        return _horizon_words(self.scorecard_section("forecast"))

    @property
    def made_for_label(self) -> str:
        """Horizon and window that the set was made for, in words, where others were measured; else empty."""
        return _horizon_words(_mapping(self.scorecard_section("forecast").get("made_for")))

    @property
    def ipc(self) -> int | None:
        value = to_number(self.card.get("ipc"))
        return None if value is None else int(value)

    @property
    def per_class(self) -> str:
        """Items of each class: ``10``, or ``1 to 9`` where classes differ; empty without classes or if unknown."""
        if not self.classes or (self.gallery is None and self.ipc is None):
            return ""
        sizes = self.gallery.sizes if self.gallery is not None and self.gallery.classes else (self.ipc or 0,)
        least, most = min(sizes), max(sizes)
        return f"{most:,}" if least == most else f"{least:,} to {most:,}"

    @property
    def noun(self) -> str:
        """Plural noun of its inputs."""
        return noun_of_kind(self.card_section("input").get("kind", "image"))

    @property
    def verdict(self) -> Verdict:
        """Verdict on the set, from its scorecard, its metadata and its inputs."""
        held = {} if self.gallery is None else {"selection": self.gallery.real}
        items = {} if self.items is None else {"items": self.items}
        return judge_scorecard(self.scorecard, {**self.card, **items, **held})

    @property
    def history(self) -> Sequence[Mapping[str, Any]]:
        """Records of the run, ``{"step", "seconds", metric…}``; may be empty."""
        records = self.card.get("history")
        return [r for r in records if isinstance(r, Mapping)] if isinstance(records, Sequence) else []

    @property
    def metric(self) -> Metric:
        """Metric of its scores."""
        return Metric.from_scorecard(self.scorecard)

    @property
    def score(self) -> Estimate | None:
        """Score on the test split, in the metric's unit."""
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
        found = {name: to_estimate(value, n) for name, value in shown_baselines(self.scorecard or {}).items()}
        return {name: value for name, value in found.items() if value is not None}

    def gap(self, name: str) -> Estimate | None:
        """Return this set's score minus that of the baseline ``name``: as measured if available, else from both."""
        own, other = self.score, self.baselines.get(name)
        if own is None or other is None:
            return None
        held = self.scorecard_section("baselines")[name]
        measured = to_estimate(held.get("difference")) if isinstance(held, Mapping) else None
        return measured or own - other

    @property
    def bytes(self) -> float | None:
        """Total stored bytes that training on the set needs, without an encoder of texts."""
        sizes = self.card_section("bytes"), self.scorecard_section("bytes")
        own = to_number(size_without_encoder(sizes[0])) or to_number(size_without_encoder(sizes[1]))
        return own if own is None or not self.counts_decoder else own + shared_decoder_bytes(self.card)

    @property
    def counts_decoder(self) -> bool:
        """True where the baselines' bytes have those of what the set decodes by, too."""
        return self.scorecard_section("shared_decoder").get("counted") is True

    @property
    def codec(self) -> str | None:
        """Codec of its values."""
        found = self.card_section("codec").get("name") or self.scorecard_section("set").get("codec")
        return None if found is None else str(found)

    @property
    def optimistic(self) -> bool:
        return (self.scorecard or {}).get("optimistic") is True

    @property
    def quick(self) -> bool:
        """True if the protocol was shortened: numbers to look at, not to report."""
        return (self.scorecard or {}).get("quick") is True

    @property
    def flags(self) -> str:
        """Words that must be shown with each of its numbers; may be empty."""
        return " ".join(word for word, said in (("optimistic", self.optimistic), ("quick", self.quick)) if said)

    @property
    def outcome(self) -> tuple[str, str]:
        """Outcome of the run in one word, and its reason (may be empty)."""
        value = self.card.get("outcome")
        if isinstance(value, Mapping):
            return str(value.get("kind") or ""), str(value.get("message") or "")
        return str(value or ""), ""
