"""Page of a search: rankings beside each other, all candidates, and what they show."""

import math
from collections.abc import Mapping
from typing import Any

from potstill._util.html import Html, tag
from potstill._util.outputs import PAGE_MARK
from potstill.reports.chart import COLOURS, INK, dot, line, text_label
from potstill.reports.chart import document as svg
from potstill.reports.page import document, page_header
from potstill.reports.tables import row, table

__all__ = ["draw_search", "interval", "render_search", "score"]

_WIDTH, _HEIGHT = 720, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 24, 24, 56


def draw_search(result: Mapping[str, Any]) -> str:
    """Return the score of every candidate by the first ranking against the operations of a forward pass, as SVG.

    Successive halving is drawn by the last validation accuracy of each candidate.
    """
    main = result["rows"][0]
    scores = main.get("accuracies", main["scores"])
    sizes = [c["operations"] for c in result["candidates"]]
    low, high = min(scores), max(scores)
    small, large = min(sizes), max(sizes)

    def at(size: float) -> float:
        part = math.log(size / small) / math.log(large / small) if large > small > 0 else 0.5
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * part

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * ((value - low) / (high - low) if high > low else 0.5)

    marks = []
    for value in (low + (high - low) * k / 4 for k in range(5)):
        marks += [
            line(_LEFT, y(value), _WIDTH - _RIGHT, y(value)),
            text_label(_LEFT - 8, y(value) + 4, score(main, value), "end"),
        ]  # fmt: skip
    best = result["best"]
    for candidate, value in zip(result["candidates"], scores, strict=True):
        chosen = candidate["name"] == best
        marks.append(dot(at(candidate["operations"]), y(value), COLOURS[2 if chosen else 1], 6 if chosen else 3))
        if chosen:
            end = "end" if at(candidate["operations"]) > _WIDTH / 2 else "start"
            marks.append(text_label(at(candidate["operations"]), y(value) - 10, best, end, colour=INK))
    marks.append(text_label((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 12, "operations of a forward pass, log", "middle"))
    return svg(_WIDTH, _HEIGHT, f"Score of each candidate by {main['name']}", marks)


def render_search(result: Mapping[str, Any]) -> str:
    """Return the page."""
    lede = [tag("p", sentence, class_="lede") for sentence in result["sentences"]]
    body: list[Html] = [page_header("search", result["source"], *lede)]
    parts: list[Html] = [Html(draw_search(result)), _rankings(result), _candidates(result)]
    settings = result["settings"]
    protocol = (
        f"{len(result['candidates'])} candidates, {result['samples']:,} training samples, and "
        f"{result['validation_samples']:,} held-out ones that decide. AdamW, batches of {settings['batch']}, a cosine "
        "to zero. Operations: sample-updates times three forward passes; the seconds of making a set count at the "
        "speed of the candidates' own training. Tau: Kendall's, over all candidates, with a bootstrap interval over "
        "them."
    )
    notes = [tag("p", text, class_="note") for text in (*result["warnings"], protocol, PAGE_MARK)]
    body.append(tag("main", *parts, *notes))
    return document(f"Search on {result['source']}", body)


def score(of: Mapping[str, Any], value: float) -> str:
    """Return a score as text: accuracies in percent, others as they are."""
    return f"{value:.3g}" if of["kind"] in ("TrainingFree", "Calibrated") else f"{100 * value:.1f}%"


def interval(value: Mapping[str, Any] | None) -> str:
    """Return a correlation with its interval."""
    if value is None or value["value"] is None:
        return "–"
    ci = value["ci95"]
    return f"{value['value']:.2f}" + ("" if ci is None else f" [{ci[0]:.2f}, {ci[1]:.2f}]")


def _rankings(result: Mapping[str, Any]) -> Html:
    known = result["truth"] is not None
    head = ["ranking", "best", "updates", "operations", "seconds", "of them making"]
    head += ["tau", "top 5", "top 10", "top 20", "regret, points"] if known else []
    rows = []
    for one in result["rows"]:
        cells = [
            one["best"], f"{one['updates']:,}", f"{one['operations']:.2g}", f"{one['seconds']:.1f}",
            f"{one['making']['seconds']:.1f}",
        ]  # fmt: skip
        if known:
            top = {t["top"]: t for t in one["top"]}
            cells += [interval(one["tau"]), *(interval(top.get(k)) for k in (5, 10, 20)), f"{100 * one['regret']:.2f}"]
        rows.append(row(one["name"], *cells))
    return table("Rankings, with 95% intervals over candidates", head, rows)


def _candidates(result: Mapping[str, Any]) -> Html:
    rows, truth = result["rows"], result["truth"]
    main = rows[0]
    order = sorted(range(len(result["candidates"])), key=lambda n: -main["scores"][n])
    head = ["candidate", "operations", *(r["name"] for r in rows), *(["truth"] if truth else [])]
    body = []
    for n in order:
        scores = [score(r, r.get("accuracies", r["scores"])[n]) for r in rows]
        candidate = result["candidates"][n]
        true = [f"{100 * truth[n]:.1f}%"] if truth else []
        body.append(row(candidate["name"], f"{candidate['operations']:.2g}", *scores, *true))
    return table("Candidates, best first", head, body)
