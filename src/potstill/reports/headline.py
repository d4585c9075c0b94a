"""The top of a page about one set: a figure of the set and its differences from real samples, and the key numbers."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from potstill._util.formatting import describe_codec
from potstill._util.html import Html, tag
from potstill.reports.drawings import draw_window, image_strip
from potstill.reports.entry import Entry
from potstill.reports.figures import Difference, difference_plot
from potstill.reports.numbers import (
    Estimate,
    format_count,
    format_duration,
    format_interval,
    format_score,
    format_size,
    to_number,
)
from potstill.reports.tables import score_value, size_value
from potstill.tasks.metric import Metric
from potstill.verdicts import (
    AS_MANY,
    LARGEST,
    MODEL,
    REAL,
    Verdict,
    best_naive_forecast,
    class_scores,
    class_spread,
    largest_class,
    largest_class_line,
)

__all__ = ["BASELINES", "headline", "verdict_lede"]

BASELINES = {
    "random": "Random real samples",
    "herding": "Herding (coreset)",
    "k-center": "k-center (coreset)",
    "k-means": "k-means (coreset)",
    "prototypes": "Prototypes of pairs (coreset)",
    "random-soft": "Random real samples, soft labels",
    MODEL: "A network of the same bytes",
    REAL: "Best real samples",
    AS_MANY: "As many random real samples",
}
_PER_ROW, _WINDOWS = 5, 4
_HYPHEN = re.compile(r"(?<![\w.])-(?=\d)")
"""A hyphen that stands for a minus sign."""


def verdict_lede(verdict: Verdict) -> Html:
    """Return the difference that decided, and what to do."""
    text = f"{verdict.reason} {verdict.advice}".strip().replace("`", "")
    return tag("p", _HYPHEN.sub("−", text), class_="lede")


def headline(entry: Entry) -> Html:
    """Return the figure and the key numbers of one set, what there is of them."""
    plot, pictures = _differences(entry), _sample_items(entry)
    parts = [part for part in (pictures, plot) if part is not None]
    figure = tag("div", *parts, class_="card hero" if len(parts) > 1 else "card hero one") if parts else None
    return tag("section", figure, _key_numbers(entry), class_="head", aria_label=f"Result of {entry.name}")


def _differences(entry: Entry) -> Html | None:
    """Return the plot of the set minus each baseline, those of the same bytes first."""
    own, metric = entry.score, entry.metric
    if own is None:
        return None
    written = entry.scorecard_section("baselines")
    rows = []
    for name, e in sorted(entry.baselines.items(), key=lambda of: (of[0] == AS_MANY, -metric.sign * of[1].mean)):
        if (gap := entry.gap(name)) is None:
            continue
        held = written[name] if isinstance(written.get(name), Mapping) else {}
        rows.append(Difference(label=BASELINES.get(name, name), below=_amount(held, name, e, metric), gap=gap))
    rows += _naive_rows(entry, own)
    if not rows:
        return None
    fair = " The last takes other bytes." if rows and any(row.label == BASELINES[AS_MANY] for row in rows) else ""
    if any(row.label == BASELINES[MODEL] for row in rows):
        fair += " The network is trained on all real data and shipped in place of a set."
    alike = "trained and tested alike"
    if _labeller_bytes(entry):
        alike = "tested alike; its students learn views that its network labels, without further augmentation"
    caption = f"This set minus real samples of the same bytes, {alike}.{fair}"
    return difference_plot(rows, caption, metric)


def _amount(baseline: Mapping[str, Any], name: str, e: Estimate, metric: Metric) -> str:
    """Return a baseline's score, size and codec in words."""
    items, size, codec = to_number(baseline.get("items")), to_number(baseline.get("bytes")), baseline.get("codec")
    parts = [format_score(e.mean, metric)]
    parts += [f"{format_count(items)} items"] if items is not None else []
    parts += [format_size(size)] if name == AS_MANY and size is not None else []
    parts += [str(baseline["network"])] if name == MODEL and baseline.get("network") else []
    parts += [describe_codec(str(codec))] if codec and name != AS_MANY else []
    return " · ".join(parts)


def _naive_rows(entry: Entry, score: Estimate) -> list[Difference]:
    """Return the difference from the best answer that learns nothing: a forecast, or the largest of unequal classes."""
    metric, scorecard = entry.metric, entry.scorecard or {}
    if (best := best_naive_forecast(scorecard, metric)) is None:
        return []
    name, naive = best
    label = f"Forecast: {name}"
    if name == LARGEST:
        if not largest_class_line(scorecard):
            return []
        label = f"Always the largest class ({(largest_class(scorecard) or ('',))[0]})"
    gap = Estimate(mean=score.mean - naive)
    below = f"{format_score(naive, metric)} · learns nothing"
    return [Difference(label=label, below=below, gap=gap, is_judged=False)]


def _sample_items(entry: Entry) -> Html | None:
    """Return a few items of the set as a figure; ``None`` if they cannot be drawn small."""
    g = entry.gallery
    if g is None or not len(g.inputs) or g.inputs.ndim not in (3, 4) or g.kind == "graph":
        return None
    if g.inputs.ndim == 3:
        windows = []
        names = g.columns if len(g.columns) == g.inputs.shape[1] else tuple(map(str, range(g.inputs.shape[1])))
        if g.classes:
            order = [i for row in _by_class(np.asarray(g.hard_labels).astype(np.int64).tolist()) for i in row]
            windows = [
                draw_window(
                    g.inputs[i], None, names, f"Sample of class {(name := g.classes[int(g.hard_labels[i])])}", name
                )
                for i in order[:_WINDOWS]
            ]
            many = f"{len(windows)} of the {format_count(entry.items)} {entry.noun}, with their classes."
            return tag("figure", tag("ul", *windows, class_="items windows"), tag("figcaption", many), class_="sheet")
        for i in range(min(_WINDOWS, len(g.inputs))):
            past, ahead = g.inputs[i], None
            if g.targets is not None and g.targets[i].size and g.targets[i].size % len(past) == 0:
                ahead = g.targets[i].reshape(len(past), -1)
            windows.append(draw_window(past, ahead, names, f"Sample window {i + 1}", ""))
        many = f"{len(windows)} of {format_count(entry.items)} windows; dashed is what follows."
        return tag("figure", tag("ul", *windows, class_="items windows"), tag("figcaption", many), class_="sheet")
    rows = _by_class(np.asarray(g.hard_labels).astype(np.int64).tolist() if g.classes else [0] * len(g.inputs))
    alt = f"{sum(map(len, rows))} of the set's {entry.noun}"
    strips = [image_strip(g.inputs[row], f"{alt}, row {k + 1}", is_lazy=False) for k, row in enumerate(rows)]
    what = "real" if g.real else "drawn" if entry.draw else "distilled"
    caption = f"{sum(map(len, rows))} of the {format_count(entry.items)} {what} {entry.noun}."
    return tag("figure", tag("div", *strips, class_="strips"), tag("figcaption", caption), class_="sheet")


def _by_class(labels: list[int]) -> list[list[int]]:
    """Return the indices of at most ten items in rows of five: of each class in turn, a class in one row if few."""
    by: dict[int, list[int]] = {}
    for i, label in enumerate(labels):
        by.setdefault(label, []).append(i)
    classes = sorted(by)
    if len(classes) <= 3:
        return [by[c][:_PER_ROW] for c in classes]
    first = [by[c][k] for k in range(2) for c in classes if k < len(by[c])][: 2 * _PER_ROW]
    return [first[:_PER_ROW], *([first[_PER_ROW:]] if len(first) > _PER_ROW else [])]


def _key_numbers(entry: Entry) -> Html | None:
    """Return the score, what all real data reach, the size and the cost."""
    tiles = [_score_tile(entry), _spread_tile(entry), _full_tile(entry), _size_tile(entry), _cost_tile(entry)]
    shown = [tile for tile in tiles if tile is not None]
    return tag("dl", *shown, class_="keys-row") if shown else None


def _tile(title: str, number: Html | str, below: str, *, class_: str = "number") -> Html:
    return tag("div", tag("dt", title), tag("dd", number, class_=class_), tag("dd", below, class_="sub"))


def _score_tile(entry: Entry) -> Html | None:
    own, metric = entry.score, entry.metric
    if own is None:
        return None
    many = own.n is not None and own.n > 1
    runs = f"{own.n:,} independent trainings" if many else "one training"
    if own.low is None:
        below = f"From {runs}." if many else f"From {runs}: no interval can be given."
    else:
        card = entry.scorecard or {}
        new = "ci95_same_test" in (card.get("score") or card.get("accuracy") or {})
        whose = "new test samples and students" if new else "other students on these test samples"
        whose = whose if many else "new test samples"
        below = f"95% interval {format_interval(own, metric)}, for {whose}, from {runs}."
    unit = "" if metric.unit in ("fraction", metric.name) else f"{metric.unit}, "
    less = f"{unit}less is better. " if metric.direction == "lower" else f"{unit[:-2]}. " if unit else ""
    below = f"{less[:1].upper()}{less[1:]}{below}"
    return _tile(
        f"{metric.name[:1].upper()}{metric.name[1:]} on real test data",
        score_value(own.mean, metric),
        below,
        class_="big",
    )


def _spread_tile(entry: Entry) -> Html | None:
    """Return the accuracies of the classes where they differ much."""
    if not (spread := class_spread(entry.scorecard or {})):
        return None
    means = [mean for _, mean, _ in class_scores(entry.scorecard or {})]
    ends = f"{format_score(min(means), entry.metric)} to {format_score(max(means), entry.metric)}"
    return _tile("Class by class", ends, f"{spread[:1].upper()}{spread[1:]}.", class_="number ends")


def _full_tile(entry: Entry) -> Html | None:
    own, full, metric = entry.score, entry.full, entry.metric
    if own is None or full is None:
        return None
    share = f"{100 * own.mean / full.mean:.0f}% of it is kept" if full.mean > 0 else ""
    if metric.direction == "lower":
        share = f"the set's is {own.mean / full.mean:.3g} times that," if full.mean > 0 else ""
    part = f"with {100 * entry.items / entry.samples:.2g}% of the samples" if entry.items and entry.samples else ""
    return _tile("All real data", score_value(full.mean, metric), " ".join(x for x in (share, part) if x))


def _size_tile(entry: Entry) -> Html | None:
    if entry.bytes is None:
        return None
    items = "" if entry.items is None else f"{format_count(entry.items)} {entry.noun}"
    codec = describe_codec(entry.codec) if entry.codec else ""
    network = _labeller_bytes(entry)
    labeller = f"a network of {format_count(network)} bytes that labels them" if network else ""
    return _tile("Size", size_value(entry.bytes), ", ".join(x for x in (items, codec, labeller) if x))


def _labeller_bytes(entry: Entry) -> int:
    """Return the bytes of the network in the file that labels views of the inputs; 0: there is none."""
    return int(to_number(entry.card_section("bytes").get("labeller")) or 0)


def _cost_tile(entry: Entry) -> Html | None:
    seconds = to_number(entry.card_section("cost").get("seconds"))
    if seconds is None:
        return None
    device = str(entry.card_section("cost").get("device") or "")
    return _tile("Time to make", format_duration(seconds), f"{entry.method}{f' on {device}' if device else ''}")
