"""Ways to keep real samples: selection, proportions, codec and labels, and the ways that a search tries."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from potstill.codecs import parse_codec
from potstill.codecs.mosaic import can_write
from potstill.core import InputSpec, Source
from potstill.data.selection_order import PAIR_SELECTIONS, SELECTIONS, SERIES_SELECTIONS, selection_operations
from potstill.data.series import SeriesSource
from potstill.dataset_file.text_io import has_texts
from potstill.kinds import get_kind
from potstill.tasks import Classification, Regression, Retrieval, get_task

__all__ = [
    "AVIF_BYTES", "ROUNDS", "TIGHT_BYTES", "RealSetSpace", "RealWay", "candidate_codecs", "has_label_bits",
    "short_codecs",
]  # fmt: skip

TIGHT_BYTES = 4096
"""Budget up to which images of a quarter of the size are tried too, if at least four pixels a side are left."""
ROUNDS, QUICK_ROUNDS, SHARED_CODECS = (1, 2, 4), (1, 2), 3
"""Students of each way still in after each round, also of a quick search, and codecs that other ways try."""
SCREENED, QUICK_SCREENED = 6, 3
"""Ways of keeping pictures that students try, also in a quick search: the best in closed form."""
UNEVEN = 1.25
"""Ratio of class sizes from which other proportions are tried, too."""
MAX_SELECTION_OPERATIONS = 2e11
"""Operations up to which a selection other than random is tried: about a minute of a core."""
LEAST_COSINE_SIDE = 16
"""Pixels of a side from which pictures are tried as cosine coefficients."""
COSINE_POSITIONS = (256, 144, 64, 36, 16)
"""Coefficients of a channel that are tried, a quarter of the pixels at most."""
COLUMN_BITS = (8, 6, 4, 3, 2)
"""Bits of the typed columns of a table that are tried."""
_QUALITIES = (5, 30, 60, 85)
"""Qualities of lossy picture files."""
AVIF_BYTES = 1 << 16
"""Budget up to which pictures are tried as AVIF, which takes 2 to 10 µs a pixel to write; beyond, WebP is."""


@dataclass(frozen=True, kw_only=True)
class RealWay:
    """One way to keep real samples."""

    codec: str
    selection: str = "random"
    """One of `potstill.data.selection_order.SELECTIONS`, of ``SERIES_SELECTIONS``, or of ``PAIR_SELECTIONS``."""
    natural: bool = False
    """Classes in proportion to their sizes; else equally many of each."""
    labels: str = "hard"
    """``hard``, or one of `potstill.evaluation.byte_matched_baselines.LABEL_FORMS`."""

    @property
    def group(self) -> tuple[str, bool, str]:
        """Everything but the codec."""
        return self.selection, self.natural, self.labels

    def describe(self) -> str:
        """Return it in words: ``herding, natural proportions, in half:bits=1, labels top3``."""
        parts = [self.selection, *(["natural proportions"] if self.natural else []), f"in {self.codec}"]
        return ", ".join([*parts, *([] if self.labels == "hard" else [f"labels {self.labels}"])])

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        balance = "natural" if self.natural else "equal"
        return {"codec": self.codec, "selection": self.selection, "balance": balance, "labels": self.labels}


@dataclass(frozen=True, kw_only=True)
class RealSetSpace:
    """Ways that a search of real sets tries: the first selection with every codec, then others with its best codecs."""

    codecs: tuple[tuple[str, ...], ...]
    """Families of codecs, each from the finest to the coarsest."""
    selections: tuple[str, ...] = ("random",)
    natural: tuple[bool, ...] = (False,)
    labels: tuple[str, ...] = ("hard",)
    rounds: tuple[int, ...] = field(default_factory=lambda: ROUNDS)
    """Students of each way still in, after each round. A round drops the worse half, and who is shown to be behind."""
    shared: int = field(default_factory=lambda: SHARED_CODECS)
    """Number of codecs, the best for the first selection, that other ways try."""
    finalists: int = 2
    """Ways that no round drops for their number alone."""
    screened: int | None = None
    """Ways that students try, the best in closed form (`potstill.evaluation.closed_form_screen`); ``None``: all."""

    @classmethod
    def of(
        cls, train: Source, byte_budget: int, *, quick: bool = False, natural: bool = False,
        labels: Sequence[str] = ("hard",), expected: int = 1,
    ) -> "RealSetSpace":  # fmt: skip
        """Return the ways that are tried for such data and bytes.

        Args:
            quick: fewer: no qualities of picture files, no other proportions, one codec for other selections.
            natural: the proportions that come first where classes differ in size.
            labels: ``hard`` first, and soft ones to try, too.
            expected: about how many samples of each class will fit, for the cost of selections.
        """
        codecs = candidate_codecs(train.input, quick, byte_budget)
        if has_texts(train):  # their vectors take fewer bytes where texts are long
            codecs = (("texts",), *codecs[:1])
        classes, is_classification = len(train.classes), isinstance(get_task(train), Classification)
        sizes = train.labels.bincount(minlength=max(1, classes))
        uneven = classes > 1 and int(sizes.max()) > UNEVEN * int(sizes.min())
        both = (natural, not natural) if uneven else (natural and len(set(sizes.tolist())) > 1,)
        if train.input.parts or not is_classification:
            return cls(codecs=codecs, natural=both[:1], selections=_other_selections(train, expected))
        cost = selection_operations(train, "k-means", [expected] * max(1, classes))
        cheap = [s for s in SELECTIONS if s != "k-means" or cost <= MAX_SELECTION_OPERATIONS]
        kept = tuple(form for form in labels if form != "top3" or classes > 3)
        picture = get_kind(train.input).augmentable
        if quick:
            return cls(
                codecs=codecs, selections=tuple(cheap), natural=both[:1], labels=kept, rounds=QUICK_ROUNDS, shared=1,
                finalists=1, screened=QUICK_SCREENED if picture else None,
            )  # fmt: skip
        screened = SCREENED if picture else None
        return cls(codecs=codecs, selections=tuple(cheap), natural=both, labels=kept, screened=screened)

    @property
    def first_group(self) -> tuple[str, bool, str]:
        """The group that every codec is tried with."""
        return self.selections[0], self.natural[0], self.labels[0]

    def other_groups(self) -> list[tuple[str, bool, str]]:
        """Return the groups that differ from the first in one respect."""
        selection, natural, labels = self.first_group
        return [
            *((s, natural, labels) for s in self.selections[1:]),
            *((selection, n, labels) for n in self.natural[1:]),
            *((selection, natural, one) for one in self.labels[1:]),
        ]

    def count_codecs(self) -> int:
        return sum(len(family) for family in self.codecs)

    def count_ways(self) -> int:
        """Return the maximum number of ways, but for those that are put together at the end."""
        return self.count_codecs() + len(self.other_groups()) * self.shared

    def screens(self) -> bool:
        """Return whether there are more ways than students try."""
        return self.screened is not None and self.count_codecs() > self.screened

    def count_students(self) -> int:
        """Return the maximum number of trial students."""
        codecs, others = self.count_codecs(), len(self.other_groups()) * self.shared
        if self.screens():
            codecs, others = self.screened or 0, 0
        total, ways = 0, codecs
        for n, (before, students) in enumerate(zip((0, *self.rounds), self.rounds, strict=False)):
            total += ways * (students - before)
            ways = max(self.finalists, -(-ways // 2))
            if n == 0:
                ways += others
                total += others * students
        return total + self.rounds[-1]


def _other_selections(train: Source, expected: int) -> tuple[str, ...]:
    """Return the selections that are tried where there are no classes."""
    if isinstance(train, SeriesSource):
        return SERIES_SELECTIONS
    if isinstance(get_task(train), Regression) and not train.input.parts:
        cheap = selection_operations(train, "k-means", [expected]) <= MAX_SELECTION_OPERATIONS
        return ("random", "k-means") if cheap else ("random",)
    if not isinstance(get_task(train), Retrieval):
        return PAIR_SELECTIONS[:1]
    affordable = selection_operations(train, "prototypes", [expected]) <= MAX_SELECTION_OPERATIONS
    return PAIR_SELECTIONS if affordable else PAIR_SELECTIONS[:1]


def candidate_codecs(
    spec: InputSpec, quick: bool = False, byte_budget: int = TIGHT_BYTES + 1
) -> tuple[tuple[str, ...], ...]:
    """Return the codecs tried for ``byte_budget``: families, each from the finest to the coarsest."""
    if spec.parts:
        values = [p for _, p in spec.parts if not p.ragged and p.kind not in ("categories", "text")]
        pictures = len(values) == 1 and get_kind(values[0]).value_range is not None
        return candidate_codecs(values[0], quick, byte_budget) if pictures else (("exact",),)
    picture = get_kind(spec).value_range is not None and len(spec.shape) == 3 and min(spec.shape[1:]) >= 4
    if not picture:
        typed = (
            tuple(f"columns:bits={bits}" for bits in ((4,) if quick else COLUMN_BITS)) if len(spec.shape) == 1 else ()
        )
        plain = ("exact", "uint4") if quick else ("exact", "float16", "uint8", "uint4", "uint2", "uint1")
        return (plain, typed) if typed else (plain,)
    coloured = spec.shape[0] == 3
    whole, half = ("exact", "uint4", "uint2", "uint1"), ("half:bits=8", "half:bits=4", "half:bits=2", "half:bits=1")
    if quick:
        return (
            whole,
            half[1:],
            *_cosines(spec.shape)[-1:],
            *((("mosaic:kind=jpeg,quality=50", "mosaic:kind=jpeg,quality=5"),) if coloured else ()),
        )
    quarter = ("half:bits=4,factor=4", "half:bits=2,factor=4", "half:bits=1,factor=4")
    small = (quarter,) if byte_budget <= TIGHT_BYTES and min(spec.shape[1:]) >= 16 else ()
    return whole, half, *small, *_cosines(spec.shape), *_file_codecs(spec.shape, byte_budget)


def _cosines(shape: Sequence[int]) -> tuple[tuple[str, ...], ...]:
    """Return families of few cosine coefficients, those of the coarser step last; none where there are few pixels."""
    if len(shape) != 3 or min(shape[1:]) < LEAST_COSINE_SIDE:
        return ()
    positions = [n for n in COSINE_POSITIONS if n <= shape[1] * shape[2] // 4]
    fine = [f"cosine:positions={n},width=0.25" for n in positions[:-2]]
    return tuple(family for family in (tuple(fine), tuple(f"cosine:positions={n}" for n in positions)) if family)


def short_codecs(spec: InputSpec, codecs: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    """Return the codecs that a search without time tries, the most promising first, each a family of its own: the two
    coarsest of each family, taken in turn."""
    families = [family[-2:] for family in codecs]
    if not _cosines(spec.shape) or len(families) < 2:
        return tuple((codec,) for family in families for codec in family)
    order = [*families[1:], families[0]]  # small pictures and cosines before whole pictures
    return tuple((family[at],) for at in range(2) for family in order if at < len(family))


def _file_codecs(shape: Sequence[int], byte_budget: int) -> tuple[tuple[str, ...], ...]:
    """Return picture files that Pillow writes here, lossless ones first."""
    if shape[0] not in (1, 3):
        return ()
    newer = [kind for kind in ("avif", "webp") if can_write(kind) and (kind != "avif" or byte_budget <= AVIF_BYTES)]
    qualities = sorted(_QUALITIES, reverse=True)
    kinds = ("jpeg", *newer[:1])
    lossy = tuple(tuple(f"mosaic:kind={kind},quality={quality}" for quality in qualities) for kind in kinds)
    return ("mosaic:kind=png",), *lossy


def has_label_bits(codec: str) -> bool:
    """Return whether a codec has a setting for the bits of soft labels."""
    return any(f.name == "labels" for f in fields(parse_codec(codec)))  # type: ignore[arg-type]
