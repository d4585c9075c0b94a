"""Markdown tables out of results JSON, for the README and the documentation: no number there is typed by hand."""

from collections.abc import Mapping, Sequence
from typing import Any

from potstill.reports.numbers import Estimate, count, estimate, interval, number, points, size

__all__ = ["leaderboard", "results_table"]


def _cell(value: object) -> str:
    """One line of text that cannot end its cell."""
    return " ".join(str(value).split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _markdown(head: Sequence[str], numeric: frozenset[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---:" if name in numeric else "---" for name in head]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, rule, *rows]) + "\n"


def _accuracy(e: Estimate | None) -> str:
    """``91.2 ± 0.4``: mean and standard deviation in percent, one decimal."""
    if e is None:
        return "—"
    return f"{100 * e.mean:.1f}" if e.std is None else f"{100 * e.mean:.1f} ± {100 * e.std:.1f}"


def _scorecard(row: Mapping[str, Any]) -> Mapping[str, Any]:
    nested = row.get("scorecard")
    return nested if isinstance(nested, Mapping) else row


def _own(row: Mapping[str, Any]) -> Estimate | None:
    card = _scorecard(row)
    return estimate(card.get("accuracy"), card.get("n"))


def _baseline(row: Mapping[str, Any], name: str) -> Estimate | None:
    card = _scorecard(row)
    held = card.get("baselines")
    return estimate(held.get(name), card.get("n")) if isinstance(held, Mapping) else None


def _random(row: Mapping[str, Any]) -> Estimate | None:
    """Of random samples in the same bytes where that was measured, else of as many."""
    return _baseline(row, "random") or _baseline(row, "random-items")


def _gap(row: Mapping[str, Any]) -> str:
    own, random = _own(row), _random(row)
    if own is None or random is None:
        return "—"
    gap = own - random
    return points(gap.mean) + (f" [{interval(gap, difference=True)}]" if gap.low is not None else "")


def _bytes(row: Mapping[str, Any]) -> str:
    held = _scorecard(row).get("bytes")
    return size(held.get("total")) if isinstance(held, Mapping) else "—"


def _items(row: Mapping[str, Any]) -> str:
    held = _scorecard(row).get("set")
    return count(number(held.get("items"))) if isinstance(held, Mapping) else "—"


def _flags(card: Mapping[str, Any]) -> str:
    """What must stand beside a number: that its protocol chose on test data, or was shortened."""
    return "".join(f" ({word})" for word in ("optimistic", "quick") if card.get(word) is True)


def leaderboard(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows of a ``leaderboard.json``, by items per class and then best mean first.

    Args:
        rows: ``{"method", "ipc", "scorecard": {…}}`` each; a row whose scorecard is null stands at its end with dashes.
    """
    head = ("IPC", "Method", "Accuracy, %", "n", "Random, %", "Minus random, points", "Full data, %", "Items", "Bytes")

    def order(row: Mapping[str, Any]) -> tuple[float, float]:
        own = _own(row)
        return float(row.get("ipc") or 0), -own.mean if own else 1.0

    body = []
    for row in sorted(rows, key=order):
        own, card = _own(row), _scorecard(row)
        flag = _flags(card)
        body.append(
            (
                _cell(row.get("ipc", "—")),
                _cell(row.get("method", "—")) + flag,
                _accuracy(own),
                count(own.n) if own else "—",
                _accuracy(_random(row)),
                _gap(row),
                _accuracy(estimate(card.get("full"))),
                _items(row),
                _bytes(row),
            )
        )
    return _markdown(head, frozenset(head) - {"Method"}, body)


def results_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Our numbers beside the published ones, in the order given.

    Args:
        rows: ``{"data", "network", "protocol", "method", "ipc", "accuracy": {"mean", "std", "n"},
            "published": {"mean", "std", "source"} or null}`` each, fractions; or with ``scorecard`` for ``accuracy``.
    """
    head = ("Data", "Network", "Protocol", "Method", "IPC", "Ours, %", "n", "Published, %", "Source")
    body = []
    for row in rows:
        own, card = _own(row), _scorecard(row)
        published = row.get("published")
        held = published if isinstance(published, Mapping) else {}
        protocol = row.get("protocol", card.get("protocol", "—"))
        body.append(
            (
                _cell(row.get("data", "—")),
                _cell(row.get("network", card.get("network", "—"))),
                _cell(protocol) + _flags(card),
                _cell(row.get("method", "—")),
                _cell(row.get("ipc", "—")),
                _accuracy(own),
                count(own.n) if own else "—",
                _accuracy(estimate(held)),
                _cell(held.get("source", "—")),
            )
        )
    return _markdown(head, frozenset({"IPC", "Ours, %", "n", "Published, %"}), body)
