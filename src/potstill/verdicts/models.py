"""When a model of the same bytes is better to ship than the sets of a comparison, in one sentence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from potstill.tasks.metric import Metric
from potstill.verdicts.verdict import Gap, mapping_of, number_of

__all__ = ["format_sizes", "joined", "judge_models", "unit_name"]

_UNITS = {"ipc": "per class", "items": "items", "bytes": "bytes"}
_ONLY_SETS = "only a set trains other networks"


def unit_name(unit: str) -> str:
    """Return the unit of a size for people: ``per class``."""
    return _UNITS.get(unit, unit)


def joined(words: Sequence[str]) -> str:
    """Return ``1, 2 and 5``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def format_sizes(sizes: Sequence[tuple[str, float]]) -> str:
    """Return ``at 1, 2 and 5 per class``.

    Args:
        sizes: units and amounts.
    """
    if len({unit for unit, _ in sizes}) > 1:
        return "at " + joined([f"{amount:,.0f} {unit_name(unit)}" for unit, amount in sizes])
    return f"at {joined([f'{amount:,.0f}' for _, amount in sizes])} {unit_name(sizes[0][0])}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Comparison:
    """A model beside the sets of its size."""

    size: tuple[str, float]
    is_ahead: bool
    """It is shown to be better than every set of the size."""
    lead: float
    """Gain over the best set, in the metric's direction."""
    phrase: str


def judge_models(board: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], protocol: str) -> str | None:
    """Return the sentence; ``None`` where no model was measured under the protocol.

    A model is better at a size where it is better than every set of that size, corrected for all of them.

    Args:
        board: JSON of a comparison.
        rows: its measured rows.
    """
    models = [mapping_of(model) for model in board.get("models") or ()]
    every = [_compare_with_sets(model, rows) for model in models if str(model.get("protocol") or "") == protocol]
    found = [one for one in every if one is not None]
    if not found:
        return None
    in_items = any(each.size[0] != "bytes" for each in found)
    network = f"a quantised network of {'no more' if in_items else 'the same'} bytes"
    ahead = [each for each in found if each.is_ahead]
    others = [each.size for each in found if not each.is_ahead]
    if not ahead:
        start = network[:1].upper() + network[1:]
        return f"{start} is not shown to be better to ship {format_sizes(others)}, and {_ONLY_SETS}."
    widest = max(ahead, key=lambda each: each.lead)
    where = f" {format_sizes([widest.size])}" if len(found) > 1 else ""
    rest = f"; {format_sizes(others)} it is not shown to be" if others else ""
    return (
        f"Shipping {network} is better {format_sizes([each.size for each in ahead])} where nothing has to be "
        f"trained ({widest.phrase}{where}){rest}; {_ONLY_SETS}."
    )


def _compare_with_sets(model: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> _Comparison | None:
    """Return a model beside the rows that were tested against it; ``None`` where one of both is missing."""
    score = mapping_of(model.get("score"))
    gaps = {
        str(mapping_of(held).get("row")): gap for held in model.get("differences") or ()
        if (gap := Gap.from_json(held, corrected=True)) is not None
    }  # fmt: skip
    metric, mean = Metric.from_scorecard({"score": score}), number_of(score.get("mean"))
    sets = [row for row in rows if str(row.get("id")) in gaps]
    if mean is None or not sets:
        return None
    best = max(sets, key=lambda row: metric.sign * _mean(row))
    reached = metric.format(mean)
    reached = f"{reached} {metric.name}" if metric.unit == "fraction" else f"{metric.name} {reached}"
    return _Comparison(
        size=(str(model.get("unit") or "ipc"), number_of(model.get("amount")) or 0.0),
        is_ahead=all(gap.is_tested and gap.side(metric) < 0 for gap in gaps.values()),
        lead=metric.sign * (mean - _mean(best)),
        phrase=f"{reached} beside {metric.format(_mean(best))} of the best set, {best.get('method')}",
    )  # fmt: skip


def _mean(row: Mapping[str, Any]) -> float:
    held = mapping_of(row.get("scorecard"))
    score = row.get("score") or held.get("score") or held.get("accuracy")
    return number_of(mapping_of(score).get("mean")) or 0.0
