"""Page of a control run: returns by row and policy, and what they show."""

from collections.abc import Mapping, Sequence
from typing import Any

from potstill._util.html import Html, tag
from potstill._util.outputs import PAGE_MARK
from potstill.reports.page import document, page_header
from potstill.reports.tables import row, table

__all__ = ["cells_of", "describe_control", "head_of", "render_control"]


def head_of(result: Mapping[str, Any]) -> list[str]:
    """Return the columns of the table: returns by policy, and what each row took."""
    return ["what is sent", *result["settings"]["policies"], "set minus it", "pairs", "bytes", "simulator steps"]


def cells_of(one: Mapping[str, Any], result: Mapping[str, Any]) -> list[str]:
    """Return a row as texts, in the order of `head_of`."""
    policies = result["settings"]["policies"]
    known = {name: _mean(value) for name, value in one["returns"].items()}
    alone = next(iter(known.values())) if not set(known) & set(policies) else None
    returns = [known.get(name, "") for name in policies]
    if alone is not None:
        returns[0] = alone
    gap = _gap(one["difference"]) if "difference" in one else "–"
    items = f"{one['items']:,}" if "items" in one else "–"
    return [one["label"], *returns, gap, items, f"{one['bytes']:,}", f"{one.get('steps', 0):,}"]


def _mean(value: Mapping[str, Any]) -> str:
    ci: Sequence[float] | None = value["ci95"]
    return f"{value['mean']:.1f}" + ("" if ci is None else f" [{ci[0]:.1f}, {ci[1]:.1f}]")


def _gap(value: Mapping[str, Any]) -> str:
    ci: Sequence[float] | None = value["ci95"]
    return f"{value['mean']:+.1f}" + ("" if ci is None else f" [{ci[0]:+.1f}, {ci[1]:+.1f}]")


def describe_control(result: Mapping[str, Any]) -> str:
    """Return how it was measured."""
    s = result["settings"]
    over = f"{s['sets']} sets" if s["sets"] > 1 else f"{s['students']} policies, each from new weights"
    log = result.get("log")
    scored = (
        f"{s['evolution']['episodes']} episodes each; what is stored is chosen on other episodes than these"
        if log is None
        else f"{s['evolution']['episodes']} policies each, scored on logged steps; no choice sees the simulator"
    )
    bytes_of = (
        "Weights of policies count a byte each."
        if log is None
        else f"Policies clone {log['most_cloned']:,} steps at most, drawn evenly; logged steps count 4 bytes a number."
    )
    return (
        f"Returns in {result['environment']}, up to {result['most_steps']:,} steps an episode; 95% intervals over "
        f"{over}; {s['students']} policies of a kind and {s['episodes']} episodes each for a set. Imitation: "
        f"{s['cloning']['updates']} updates of all pairs (Adam, {s['cloning']['lr']:g}). Evolution: "
        f"{s['evolution']['generations']} generations of {s['evolution']['population']} candidates, "
        f"{scored}. Set minus it: in returns of {s['policies'][0]}. {bytes_of}"
    )


def render_control(result: Mapping[str, Any]) -> str:
    """Return the page."""
    lede = (tag("p", sentence, class_="lede") for sentence in result["sentences"])
    body: list[Html] = [page_header("control", result["environment"], *lede)]
    rows = [row(first, *cells) for first, *cells in (cells_of(one, result) for one in result["rows"])]
    made = table("Mean returns with 95% intervals", head_of(result), rows)
    note = tag("p", describe_control(result), class_="note")
    body.append(tag("main", made, note, tag("p", PAGE_MARK, class_="note")))
    return document(f"Control of {result['environment']}", body)
