"""The verdict on a leaderboard: at each size the best distilled set beside the best real samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from potstill.tasks.metric import Metric
from potstill.verdicts.classes import LARGEST
from potstill.verdicts.models import format_sizes, joined, judge_models, unit_name
from potstill.verdicts.scorecard import best_naive_forecast
from potstill.verdicts.verdict import Gap, Kind, Verdict, mapping_of, number_of

__all__ = ["BoardVerdict", "SizeVerdict", "judge_leaderboard"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeVerdict:
    """The result at one size under one protocol.

    Attributes:
        distilled: name of the best distilled set's method, ``None`` if none was measured.
        real: the same of real samples.
        difference: distilled minus real.
    """

    protocol: str
    unit: str
    amount: float
    kind: Kind
    metric: Metric
    distilled: str | None = None
    real: str | None = None
    difference: Gap | None = None

    @property
    def size(self) -> str:
        """``5 per class``."""
        return f"{self.amount:,.0f} {unit_name(self.unit)}"

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "protocol": self.protocol, "unit": self.unit, "amount": self.amount, "kind": self.kind,
            "distilled": self.distilled, "real": self.real,
            "difference": None if self.difference is None else self.difference.to_dict(),
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardVerdict:
    """The verdict on a leaderboard as a whole, and at each size."""

    overall: Verdict
    sizes: Sequence[SizeVerdict]
    warning: str | None = None
    """Best rows that are not told apart from answers that learn nothing, and rows that take more than a size with their
    decoder, in sentences; ``None``: there are neither."""
    model: str | None = None
    """When a model of the same bytes is better to ship, as a sentence; ``None``: none was measured."""

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        more = {name: text for name in ("warning", "model") if (text := getattr(self, name)) is not None}
        return {**self.overall.to_dict(), **more, "sizes": [size.to_dict() for size in self.sizes]}


def judge_leaderboard(board: Mapping[str, Any], selections: Mapping[str, bool] | None = None) -> BoardVerdict:
    """Return the verdict on the JSON of a comparison.

    Real samples are the rows of methods that select. The best distilled set is better where it is better than every one
    of them. A difference is that of the pair's test, which is corrected for all pairs at one size. A set that is above
    its size in bytes with a decoder that its file lacks decides nothing there.

    Args:
        selections: by the id of a row, if it holds real samples, where the rows do not say so.
    """
    measured = [row for row in map(mapping_of, board.get("rows") or ()) if _mean(row) is not None]
    rows = [row for row in measured if not _is_too_large(row)]
    large = _size_warning([row for row in measured if _is_too_large(row)])
    tests = [mapping_of(test) for test in board.get("tests") or ()]
    groups: dict[tuple[str, str, float], list[Mapping[str, Any]]] = {}
    for row in rows:
        key = str(row.get("protocol") or ""), str(row.get("unit") or "ipc"), number_of(row.get("amount")) or 0.0
        groups.setdefault(key, []).append(row)
    sizes = [_judge_size(key, members, tests, selections or {}) for key, members in groups.items()]
    source = str(board.get("source") or "")
    if not sizes:
        state = "no set keeps to its size" if large else "nothing is measured yet"
        advice = large or "Wait for its first cell."
        overall = Verdict(kind="unmeasured", text=f"{source or 'Comparison'}: {state}", advice=advice)
        return BoardVerdict(overall=overall, sizes=[], warning=large)
    first = [size for size in sizes if size.protocol == sizes[0].protocol]
    overall = _judge_overall(source, first, as_many=any(size.unit != "bytes" for size in first))
    texts = _warning(list(groups.values())), large
    warning, model = " ".join(filter(None, texts)) or None, judge_models(board, rows, sizes[0].protocol)
    for text in (warning, model):
        overall = overall if text is None else replace(overall, advice=f"{overall.advice} {text}")
    return BoardVerdict(overall=overall, sizes=sizes, warning=warning, model=model)


def _warning(sizes: Sequence[Sequence[Mapping[str, Any]]]) -> str | None:
    """Return which best rows of a size are not shown to be better than the best answer that learns nothing."""
    caught, answer = list[str](), ""
    for rows in sizes:
        scorecard = mapping_of(rows[0].get("scorecard"))
        metric = Metric.from_scorecard(scorecard)
        best, naive = (
            max(rows, key=lambda row: metric.sign * (_mean(row) or 0.0)),
            best_naive_forecast(scorecard, metric),
        )
        mean, ends = _mean(best), mapping_of(best.get("score")).get("ci95")
        if naive is None or mean is None:
            continue
        worst = min(metric.sign * float(end) for end in ends) if isinstance(ends, list) else metric.sign * mean
        if worst <= metric.sign * naive[1]:
            caught.append(f"{_name(best)} ({metric.format(mean)})")
            answer = f"{naive[0]}, which has {metric.format(naive[1])}"
    if not caught:
        return None
    classes = " Look at the accuracy of each class first." if LARGEST in answer else ""
    named = joined(list(dict.fromkeys(caught)))
    return f"Best rows not shown to be better than an answer that learns nothing ({answer}): {named}.{classes}"


def _is_too_large(row: Mapping[str, Any]) -> bool:
    """Return whether a set takes more bytes than its size because its decoder is counted."""
    if row.get("unit") != "bytes" or not mapping_of(mapping_of(row.get("scorecard")).get("shared_decoder")):
        return False
    return (number_of(row.get("bytes")) or 0.0) > (number_of(row.get("amount")) or 0.0)


def _size_warning(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """Return which rows take more than their size with their decoder; these are the rows given."""
    if not rows:
        return None
    named = joined([
        f"{_name(row)} takes {number_of(row.get('bytes')) or 0:,.0f} bytes at {number_of(row.get('amount')) or 0:,.0f}"
        for row in rows
    ])  # fmt: skip
    return f"Not at equal bytes, and so left out of the verdict: {named}, with the decoder that its file lacks."


def _mean(row: Mapping[str, Any]) -> float | None:
    held = mapping_of(row.get("scorecard"))
    score = row.get("score") or held.get("score") or held.get("accuracy")
    return number_of(mapping_of(score).get("mean"))


def _is_real(row: Mapping[str, Any], selections: Mapping[str, bool]) -> bool:
    known = mapping_of(mapping_of(row.get("scorecard")).get("set")).get("selection")
    found = selections.get(str(row.get("id")), known)
    return row.get("method") == "random" if found is None else found is True


def _name(row: Mapping[str, Any]) -> str:
    parts = (row.get("method"), row.get("parametrization"), row.get("requested_codec"))
    return " ".join(str(part) for part in parts if part is not None)


def _judge_size(
    key: tuple[str, str, float], rows: Sequence[Mapping[str, Any]], tests: Sequence[Mapping[str, Any]],
    selections: Mapping[str, bool],
) -> SizeVerdict:  # fmt: skip
    protocol, unit, amount = key
    metric = Metric.from_scorecard(mapping_of(rows[0].get("scorecard")))
    ranked = sorted(rows, key=lambda row: -metric.sign * (_mean(row) or 0.0))
    distilled_row = next((row for row in ranked if not _is_real(row, selections)), None)
    reals = [row for row in ranked if _is_real(row, selections)]
    real, gap = next(iter(reals), None), None
    kind: Kind
    if distilled_row is None:
        kind = "reference"
    elif real is None:
        kind = "no baselines"
    else:
        kind, real, gap = _decide([(row, _gap(distilled_row, row, tests)) for row in reals], metric)
    return SizeVerdict(
        protocol=protocol, unit=unit, amount=amount, kind=kind, metric=metric, difference=gap,
        distilled=None if distilled_row is None else _name(distilled_row), real=None if real is None else _name(real),
    )  # fmt: skip


def _decide(pairs: Sequence[tuple[Mapping[str, Any], Gap]], metric: Metric) -> tuple[Kind, Mapping[str, Any], Gap]:
    """Return the result against real rows, the best first, with the row and the difference that decide: better than
    all of them, worse than the best, or not told apart from one."""
    best, gap = pairs[0]
    if not gap.is_tested:
        return "untested", best, gap
    if gap.side(metric) < 0:
        return "worse", best, gap
    for row, other in pairs:
        if other.is_tested and other.side(metric) <= 0:
            return "not told apart", row, other
    return "better", best, gap


def _gap(distilled_row: Mapping[str, Any], real_row: Mapping[str, Any], tests: Sequence[Mapping[str, Any]]) -> Gap:
    """The difference of a distilled row from a real one: as tested, else as the row has it, else of the means."""
    pair = distilled_row.get("id"), real_row.get("id")
    for test in tests:
        ends = test.get("a"), test.get("b")
        if ends in (pair, pair[::-1]) and (gap := Gap.from_json(test, corrected=True)) is not None:
            return gap if ends == pair else gap.reverse()
    own = distilled_row.get("difference") if real_row.get("method") == "random" else None
    return Gap.from_json(own, corrected=True) or Gap(mean=(_mean(distilled_row) or 0.0) - (_mean(real_row) or 0.0))


def _at(sizes: Sequence[SizeVerdict]) -> str:
    """``at 1, 2 and 5 per class``."""
    return format_sizes([(size.unit, size.amount) for size in sizes])


def _judge_overall(source: str, sizes: Sequence[SizeVerdict], *, as_many: bool) -> Verdict:
    """The verdict on all sizes of one protocol."""
    head = f"{source or 'Comparison'}: "
    by_kind: dict[str, list[SizeVerdict]] = {}
    for size in sizes:
        by_kind.setdefault(size.kind, []).append(size)
    kind: Kind = sizes[0].kind if len(by_kind) == 1 else "mixed"
    largest = max(sizes, key=_strength)
    return Verdict(
        kind=kind,
        text=head + (_one(sizes[0]) if len(sizes) == 1 else _several(by_kind)),
        reason=_reason(largest), advice=_advice(kind, as_many), against=largest.real, difference=largest.difference,
    )  # fmt: skip


def _strength(size: SizeVerdict) -> float:
    return -1.0 if size.difference is None else abs(size.difference.mean)


def _reason(size: SizeVerdict) -> str:
    if size.difference is None:
        return ""
    less = "; less is better" if size.metric.direction == "lower" else ""
    said = f"{size.distilled} minus {size.real}: {size.difference.interval(size.metric)}{less}"
    return f"Largest difference, at {size.size}: {said}."


def _one(size: SizeVerdict) -> str:
    """The result at the only size."""
    where, gap = _at([size]), size.difference
    if gap is None:
        return {
            "reference": f"{where} {size.real} is the best of the real samples, and no distilled set was measured",
        }.get(size.kind, f"{where} {size.distilled} is the best distilled set, and no real samples were measured")
    if size.kind == "better":
        return f"{where} {size.distilled} trains {gap.better_by(size.metric)} than {_real(size)}"
    if size.kind == "worse":
        return f"{where} keep {_real(size)}: distilling {gap.loss(size.metric)}"
    if size.kind == "untested":
        return f"{where} one student cannot tell {size.distilled} from {_real(size)}"
    return f"{where} {size.distilled} is not told apart from {_real(size)}"


def _real(size: SizeVerdict) -> str:
    return "random real samples" if size.real == "random" else f"real samples ({size.real})"


_PARTS = {
    "better": "distilling wins {}",
    "worse": "real samples win {}",
    "not told apart": "distilled sets are not told apart from real samples {}",
    "untested": "one student tells nothing {}",
    "reference": "only real samples were measured {}",
    "no baselines": "no real samples were measured {}",
}


def _several(by_kind: Mapping[str, Sequence[SizeVerdict]]) -> str:
    """The results of several sizes, in one sentence."""
    said = []
    for kind, words in _PARTS.items():
        if (sizes := by_kind.get(kind)) is None:
            continue
        names = list(dict.fromkeys(str(size.distilled if kind == "better" else size.real) for size in sizes))
        who = f" ({joined(names)})" if kind in ("better", "worse") and len(names) <= 3 else ""
        said.append(words.format(_at(sizes)) + who)
    return "; ".join(said)


def _advice(kind: Kind, as_many: bool) -> str:
    fair = " Real samples are as many items here: `potstill evaluate` compares at the same bytes." if as_many else ""
    return {
        "better": "Take the best distilled set.",
        "worse": "Keep real samples, or give distilling more steps.",
        "not told apart": "Keep real samples until a gain is shown; more sets (`repeats`) tell smaller differences.",
        "untested": "Ask for more students (`seeds` 5) or more sets (`repeats` 3).",
        "reference": "Add a method that distils.",
        "no baselines": "Add random and k-means to the methods: only they say if distilling is worth it.",
    }.get(kind, "Take the distilled set where it wins, and real samples elsewhere.") + fair
