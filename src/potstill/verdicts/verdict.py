"""A verdict as a value, a difference with its interval, and the words that verdicts share."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from potstill._util.formatting import describe_codec
from potstill.tasks.metric import Metric

__all__ = ["Gap", "Kind", "Verdict", "count_noun", "mapping_of", "noun_of_kind", "number_of", "stored_as"]

Kind = Literal[
    "better", "worse", "not told apart", "untested", "no baselines", "reference", "naive", "unmeasured", "mixed"
]
_NOUNS = {
    "image": "pictures", "table": "rows", "pair": "pairs", "series": "windows", "signal": "series", "text": "texts",
    "node": "nodes", "graph": "graphs", "ratings": "users", "sound": "sounds",
}  # fmt: skip


def noun_of_kind(kind: object) -> str:
    """Return the plural noun for samples of a kind of data."""
    return _NOUNS.get(str(kind), "samples")


def count_noun(number: int, noun: str) -> str:
    """Return a number with its plural noun, which loses its s after 1."""
    return f"{number:,} {noun.removesuffix('s') if number == 1 and noun != 'series' else noun}"


def number_of(value: object) -> float | None:
    """Return a JSON number, ``None`` for anything else."""
    return None if isinstance(value, bool) or not isinstance(value, int | float) else float(value)


def mapping_of(value: object) -> Mapping[str, Any]:
    """Return a JSON object, an empty one for anything else."""
    return value if isinstance(value, Mapping) else {}


def stored_as(codec: object) -> str:
    """Return a codec as the end of a phrase: ``as JPEG``, ``at 4 bits``; empty if it is unknown."""
    if not isinstance(codec, str):
        return ""
    said = describe_codec(codec)
    if codec == "exact":
        return said
    if said.startswith("one "):
        return f"as {said.removeprefix('one ').removesuffix(' of all')}"
    return f"at {said}" if "bit" in said else f"as {said}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A difference with its 95 % interval; without one (``low`` is ``None``) it was not tested."""

    mean: float
    low: float | None = None
    high: float | None = None
    p: float | None = None
    """p, where a decision rests on it and not on the interval: corrected for several comparisons."""

    LEVEL = 0.05

    @classmethod
    def from_json(cls, value: object, *, corrected: bool = False) -> "Gap | None":
        """Return the gap of ``{"mean", "ci95"}``, ``None`` where there is none.

        Args:
            corrected: decide by ``p_holm``, where it is given.
        """
        held = mapping_of(value)
        if (mean := number_of(held.get("mean"))) is None:
            return None
        ends = held.get("ci95")
        low, high = map(number_of, ends) if isinstance(ends, list | tuple) and len(ends) == 2 else (None, None)
        if low is None or high is None or low == high:
            low = high = None  # no spread is no certainty
        return cls(mean=mean, low=low, high=high, p=number_of(held.get("p_holm")) if corrected else None)

    def reverse(self) -> "Gap":
        """Return the difference the other way round."""
        low, high = (None, None) if self.low is None or self.high is None else (-self.high, -self.low)
        return Gap(mean=-self.mean, low=low, high=high, p=self.p)

    @property
    def is_tested(self) -> bool:
        return self.low is not None or self.p is not None

    def side(self, metric: Metric) -> int:
        """Return 1 if the difference is better than zero, −1 if worse, 0 if not told apart from it."""
        if self.p is not None:
            return 0 if self.p > self.LEVEL else 1 if metric.better(self.mean, 0.0) else -1
        if self.low is None or self.high is None:
            return 0
        return metric.sign * ((self.low > 0) - (self.high < 0))

    def amount(self, metric: Metric) -> str:
        """Return its size without a sign: ``2.7 points``, ``26.5 (price)``."""
        if metric.unit == "fraction":
            said = f"{100 * abs(self.mean):.1f}"
            return f"{said} point{'' if said == '1.0' else 's'}"
        said = f"{abs(self.mean):.3g}"
        return said if metric.unit in ("", metric.name) else f"{said} ({metric.unit})"

    def better_by(self, metric: Metric) -> str:
        """Return how much better or worse a training is, up to ``than``: ``2.7 points better``."""
        if metric.unit == "fraction":
            return f"{self.amount(metric)} {'better' if metric.better(self.mean, 0.0) else 'worse'}"
        return f"to {metric.name} {'higher' if self.mean > 0 else 'lower'} by {self.amount(metric)}"

    def loss(self, metric: Metric, *, plural: bool = False) -> str:
        """Return what a worse training costs: ``loses 3.1 points``, ``raises the rmse by 26.5 (price)``."""
        s = "" if plural else "s"
        if metric.unit == "fraction":
            return f"lose{s} {self.amount(metric)}"
        return f"{'raise' if self.mean > 0 else 'lower'}{s} the {metric.name} by {self.amount(metric)}"

    def interval(self, metric: Metric) -> str:
        """Return the signed difference with its interval: ``+2.7 points, 95% interval +1.4 to +4.0``."""
        said = f"{metric.format_difference(self.mean)} {metric.difference_unit}".strip()
        if self.low is None or self.high is None:
            return f"{said}, without an interval"
        ends = " to ".join(map(metric.format_difference, (self.low, self.high)))
        p = "" if self.p is None else f", p {'< 0.001' if self.p < 0.001 else f'= {self.p:.2g}'} after correction"
        return f"{said}, 95% interval {ends}{p}"

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        ends = None if self.low is None else [self.low, self.high]
        return {"mean": self.mean, "ci95": ends} | ({} if self.p is None else {"p_holm": self.p})


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The result of a comparison with real samples.

    Attributes:
        kind: the result in one word, for programs.
        text: one sentence with data, size and result, without a full stop.
        reason: the difference that decided, with its interval; may be empty.
        advice: what to do, as a sentence.
        against: the baseline that decided.
        difference: this set minus it.
    """

    kind: Kind
    text: str
    advice: str
    reason: str = ""
    against: str | None = None
    difference: Gap | None = None

    @classmethod
    def from_json(cls, value: object) -> "Verdict | None":
        """Return the verdict of `to_dict`, ``None`` where there is none."""
        held = mapping_of(value)
        kind, text, advice = held.get("kind"), held.get("text"), held.get("advice")
        if kind not in get_args(Kind) or not isinstance(text, str) or not isinstance(advice, str):
            return None
        return cls(
            kind=cast("Kind", kind), text=text, advice=advice, reason=str(held.get("reason") or ""),
            against=None if held.get("against") is None else str(held["against"]),
            difference=Gap.from_json(held.get("difference"), corrected=True),
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "kind": self.kind, "text": self.text, "reason": self.reason, "advice": self.advice,
            "against": self.against, "difference": None if self.difference is None else self.difference.to_dict(),
        }  # fmt: skip

    def lines(self) -> list[str]:
        """Return the lines that a terminal shows."""
        return [f"Verdict: {self.text}.", *([f"  {self.reason}"] if self.reason else []), f"  {self.advice}"]
