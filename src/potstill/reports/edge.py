"""Page of an edge run: a table of what a small device could hold, and what it shows."""

from collections.abc import Mapping
from typing import Any

from potstill._util.html import Html, tag
from potstill._util.outputs import PAGE_MARK
from potstill.reports.continual import percent, points
from potstill.reports.page import document, page_header
from potstill.reports.tables import row, table

__all__ = ["EDGE_HEAD", "cells_of", "describe_protocol", "render_edge"]

EDGE_HEAD = (
    "on the device", "accuracy", "set minus it", "bytes", "samples", "updates to target", "ms", "multiply-adds",
    "buffers", "how",
)  # fmt: skip
"""Columns of the table."""


def cells_of(one: Mapping[str, Any]) -> list[str]:
    """Return a row as texts, in the order of `EDGE_HEAD`."""
    if "reason" in one:
        return [one["label"], "none", "", "", "", "", "", "", "", one["reason"]]
    gap = points(one["difference"]) if "difference" in one else "–"
    items = f"{one['items']:,}" if "items" in one else "–"
    trained = ["–", "–", "–"]
    if "reached" in one:
        trained = ["not reached", "", ""]
        if "updates" in one:
            some = "" if one["reached"] == one["n"] else f" ({one['reached']} of {one['n']})"
            trained = [
                f"{one['updates']:,}{some}",
                f"{1e3 * one['seconds']:.1f}",
                f"{one['multiply_adds'] / 1e6:,.3g} M",
            ]
    buffers = f"{one['buffers']:,}" if "buffers" in one else "–"
    size = f"{one['bytes']:,}"
    return [one["label"], percent(one["accuracy"]), gap, size, items, *trained, buffers, _detail(one)]


def _detail(one: Mapping[str, Any]) -> str:
    detail = one.get("detail", {})
    parts = [str(detail[name]) for name in ("selection", "codec", "network") if detail.get(name)]
    if detail.get("labels") not in (None, "hard"):
        parts.append(f"labels {detail['labels']}")
    if "lr" in one:
        parts.append(f"{one['length']:,} updates, lr {one['lr']:g}")
    return ", ".join(parts)


def describe_protocol(result: Mapping[str, Any]) -> str:
    """Return how it was measured."""
    s = result["settings"]
    quick = " Quick: few ways to store real samples, a model trained briefly: to look, not to report."
    return (
        f"A {s['head']} head, up to {s['updates']:,} updates of {s['batch']} samples (SGD, momentum 0.9, float32), "
        f"{s['seeds']} seed{'' if s['seeds'] == 1 else 's'}, 95% intervals for new test samples and seeds. Updates, "
        f"processor time (NumPy) and multiply-adds are medians until {100 * s['target']:g} % on "
        f"{result['held_out']:,} held-out training samples; "
        "multiply-adds stand for energy, which is not measured. Learning rates, lengths, selections and codecs are "
        "chosen on the held-out samples, which the set was made of, too; accuracy is on "
        f"{result['test_samples']:,} test samples. Bytes: integers, scales, labels; without mean, std and the decoder "
        f"of coded samples. Buffers: of the trainer in C beside them.{quick if s['quick'] else ''}"
    )


def render_edge(result: Mapping[str, Any]) -> str:
    """Return the page."""
    body: list[Html] = [
        page_header(
            "on a small device", result["source"],
            *(tag("p", sentence, class_="lede") for sentence in result["sentences"]),
        )
    ]  # fmt: skip
    rows = [row(first, *cells) for first, *cells in map(cells_of, result["rows"])]
    made = table("What a small device could hold: accuracy in percent with 95% intervals", list(EDGE_HEAD), rows)
    body.append(
        tag("main", made, tag("p", describe_protocol(result), class_="note"), tag("p", PAGE_MARK, class_="note"))
    )
    return document(f"A small device on {result['source']}", body)
