"""Sections of a page about one distilled set. Each returns ``None`` if its facts are missing."""

from collections.abc import Mapping
from typing import Any

from potstill._util.html import Html, join_html, tag
from potstill.reports.audit import audit_section
from potstill.reports.diagnosis import diagnosis_section
from potstill.reports.entry import Entry
from potstill.reports.figures import bars, curves, value
from potstill.reports.gallery import gallery
from potstill.reports.headline import BASELINES
from potstill.reports.numbers import (
    ACCURACY,
    Estimate,
    format_count,
    format_difference,
    to_estimate,
    to_number,
)
from potstill.reports.provenance import commands, provenance, storage
from potstill.reports.snapshots import snapshots_section
from potstill.reports.tables import (
    codec_line,
    difference_cell,
    estimate_cells,
    estimate_head,
    fold,
    folded_text,
    note,
    row,
    score_cells,
    score_value,
    size_value,
    table,
)
from potstill.tasks.metric import Metric
from potstill.verdicts import AS_MANY, class_warnings

__all__ = ["about", "entry_sections", "sentence", "warning", "warnings"]

_SCORES = {
    "hlr": (
        "HLR · hard label recovery",
        "Full data minus this set, both with hard labels, in points. Lower is better.",
    ),
    "ior": (
        "IOR · improvement over random",
        "This set minus random real samples of the same bytes, in points. Higher is better.",
    ),
    "lrs": (
        "LRS · label-robust score",
        "HLR and IOR in one number from 0 to 1; 0.27 where the two cancel out. Higher is better.",
    ),
    "ars": (
        "ARS · augmentation-robust score",
        "Gain over random with and without augmentation, from 0 to 1; 0.27 is no gain.",
    ),
}
_DIFFERENCES = {
    "hlr": ("Short of the full data", "Full data minus this set."),
    "ior": ("Improvement over random", "This set minus random real samples of the same bytes."),
}
"""For any score; the direction is the metric's."""


_WARNINGS = {
    "optimistic": (
        "Optimistic.",
        "This protocol picks the best of many scores on the test data, as its paper did. On new data expect less, and "
        "do not compare it with numbers measured otherwise.",
    ),
    "quick": (
        "Quick.",
        "The protocol was shortened (few students, short training), to look at the set and not to report it. Measure "
        "in full for numbers to rely on.",
    ),
    "other data": (
        "Made of other data.",
        "The set was not made of the training data it was measured against. If it holds what it was tested on, the "
        "score is too high.",
    ),
}


_ASKED = ("steps reached", "time limit reached")
"""Outcomes that were asked for, before all steps were made."""


def sentence(entry: Entry) -> str:
    """Return a description of the set in one sentence."""
    noun, items, samples = entry.noun, entry.items, entry.samples
    own = f"{format_count(items)} {noun}" if items is not None else f"A small set of {noun}"
    chosen = "chosen from" if entry.gallery is not None and entry.gallery.real else "that stand for"
    real = f"the {format_count(samples)}" if samples is not None else "a larger set"
    return f"{own} {chosen} {real}{f' of {entry.source}' if entry.source else ''}."


def about(entry: Entry) -> Html:
    """Return method, budget, protocol and network as tags."""
    card = entry.scorecard or {}
    protocol = card.get("protocol")
    version = f" v{card['protocol_version']}" if card.get("protocol_version") is not None else ""
    facts = {
        "Method": entry.method,
        "Data": entry.source,
        "Per class": entry.per_class,
        "Protocol": f"{protocol}{version}" if protocol else "",
        "Network": str(card.get("network") or ""),
    }
    return tag("ul", *(tag("li", f"{k} ", tag("b", tag("bdi", v))) for k, v in facts.items() if v), class_="tags")


def warnings(entry: Entry) -> Html | None:
    """Return the warnings before any number: an optimistic or shortened protocol, an unfinished run."""
    shown = {
        "optimistic": entry.optimistic, "quick": entry.quick,
        "other data": entry.scorecard_section("data").get("made_of_train") is False,
    }  # fmt: skip
    notes = [warning(*_WARNINGS[name]) for name, is_shown in shown.items() if is_shown]
    if classes := class_warnings(entry.scorecard or {}):
        said = "; ".join(classes)
        notes.append(warning("Look at the classes.", f"{said[:1].upper()}{said[1:]}."))
    if (warned := entry.scorecard_section("labeller").get("warning")) is not None:
        notes.append(warning("Look at who labelled.", str(warned)[:1].upper() + str(warned)[1:] + "."))
    kind, message = entry.outcome
    if kind and kind != "finished":
        title = "Not all steps." if kind in _ASKED else f"Not finished: {kind}."
        said = message or "The set is what the run had made until then."
        notes.append(warning(title, said[:1].upper() + said[1:] if kind in _ASKED else said))
    return join_html(notes) if notes else None


def warning(title: str, text: str) -> Html:
    """Return a box that stands before any number; a long text unfolds from its first clause."""
    return tag("div", tag("strong", title), " ", folded_text(text, 260) or tag("p", text), class_="warn", role="note")


def _scorecard(entry: Entry) -> list[Html] | None:
    own, metric = entry.score, entry.metric
    if own is None:
        return None
    held = {"items": entry.items, "bytes": entry.bytes, "codec": entry.codec}
    rows: list[tuple[str, Estimate, Mapping[str, Any], Estimate | None]] = [("This set", own, held, None)]
    written = entry.scorecard_section("baselines")
    for name, e in sorted(entry.baselines.items(), key=lambda i: (i[0] == AS_MANY, -metric.sign * i[1].mean)):
        said = written[name] if isinstance(written[name], Mapping) else {}
        rows.append((BASELINES.get(name, name), e, said, entry.gap(name)))
    if entry.full is not None:
        whole = entry.scorecard_section("full")
        rows.append(("All real data", entry.full, {**whole, "items": entry.samples}, own - entry.full))
    body = [
        row(
            join_html([label, codec_line(said.get("codec"), to_number(said.get("per_class")))]),
            *score_cells(e, metric),
            difference_cell(gap, metric, judged=label != "All real data"),
            format_count(to_number(said.get("items"))),
            size_value(to_number(said.get("bytes"))),
            class_="own" if k == 0 else None,
        )
        for k, (label, e, said, gap) in enumerate(rows)
    ]
    difference = f"This set minus it, {metric.difference_unit} [95% interval]"
    head = ("Trained on", "n", "Mean", "Std", difference, "Items", "Bytes")
    return [
        table(f"Test {metric.column_title} of this set and its baselines", head, body, of=entry.name),
        *map(note, _fair(entry)),
        *_left_out(entry),
    ]


def _fair(entry: Entry) -> list[str]:
    """Return sentences about which comparisons are fair, and what was left out."""
    held = {n: b for n, b in entry.scorecard_section("baselines").items() if isinstance(b, Mapping) and b.get("codec")}
    lines = []
    if any(name != AS_MANY for name in held):
        lines.append(
            "The fair comparison is at equal bytes: each of these baselines takes no more bytes than this set, stored "
            "in the way that did best on held-out training data."
        )
    if AS_MANY in held:
        lines.append(
            f"“{BASELINES[AS_MANY]}” is what papers compare with: as many samples as this set has, whatever they weigh."
        )
    return lines


def _left_out(entry: Entry) -> list[Html]:
    """Return a paragraph for each baseline that was left out; a long reason is folded."""
    said = []
    for name, why in entry.scorecard_section("left_out").items():
        text = f"{BASELINES.get(name, name)}: left out, since {why}."
        said.append(folded_text(text, 160, class_="note") or note(text))
    return said


def _forecasts(entry: Entry) -> list[Html] | None:
    """Return a table of the errors of a forecast in each metric, beside those of forecasts that train on no set."""
    metrics = {
        name: Metric(name=name, direction="lower", unit=str(said.get("unit", "")))
        for name, said in entry.scorecard_section("metrics").items() if isinstance(said, Mapping) and name != "score"
    }  # fmt: skip
    others = {
        name: (said, how)
        for how, key in (("learns nothing", "naive"), ("fitted to the whole series", "yardsticks"))
        for name, said in entry.scorecard_section(key).items() if isinstance(said, Mapping)
    }  # fmt: skip
    if entry.score is None or not metrics or not others or entry.card.get("task", {}).get("name") != "forecast":
        return None
    baselines = {"This set": entry.scorecard or {}} | {
        BASELINES.get(name, name): said for name, said in entry.scorecard_section("baselines").items()
        if isinstance(said, Mapping)
    }  # fmt: skip
    body = [
        row(label, score_value(to_number((said.get("score") or {}).get("mean")), entry.metric), *(
            score_value(to_number(((said.get("metrics") or {}).get(name) or {}).get("mean")), m)
            for name, m in metrics.items()
        ), "", class_="own" if label == "This set" else None)
        for label, said in baselines.items()
    ] + [
        row(name, score_value(to_number(said.get("score")), entry.metric), *(
            score_value(to_number(said.get(key)), m) for key, m in metrics.items()
        ), "; ".join([how, *dict.fromkeys(map(str, said.get("models", ())))]))
        for name, (said, how) in others.items()
    ]  # fmt: skip
    head = ["Trained on", *(f"{m.name.upper()}, {m.unit}" for m in (entry.metric, *metrics.values())), "How"]
    text = "A MASE below 1 is a smaller error than that of repeating the last season, or the last value, in training."
    shown = [table("Errors of forecasts", head, body, of=entry.name), note(text)]
    if not entry.made_for_label:
        return shown
    text = f"All rows are of {entry.horizon_label}. The set was made for {entry.made_for_label}."
    return [tag("p", text, class_="soft"), *shown]


def _networks(entry: Entry) -> list[Html] | None:
    card, metric = entry.scorecard or {}, entry.metric
    found = [
        (str(name), held, to_estimate(held, card.get("n")))
        for name, held in entry.scorecard_section("networks").items()
    ]
    measured = [(name, held, e) for name, held, e in found if e is not None and name != card.get("network")]
    if not measured:
        return None
    randoms = {
        name: to_estimate(held["baselines"].get("random"), card.get("n"))
        for name, held, _ in measured
        if isinstance(held, Mapping) and isinstance(held.get("baselines"), Mapping)
    }
    body = []
    for name, _, e in measured:
        random = randoms.get(name)
        gap = None if random is None else e - random
        extra = [score_value(random.mean, metric) if random else "—", difference_cell(gap, metric)] if randoms else []
        body.append(row(name, *estimate_cells(e, metric), *extra))
    against = ["Random", f"Minus random, {metric.difference_unit}"] if randoms else []
    head = [*estimate_head("Network"), *against]
    text = "The same set, other networks trained on it: how far it carries beyond the one it was made with."
    return [tag("p", text, class_="soft"), table(f"Test {metric.column_title} by network", head, body, of=entry.name)]


def _per_class(entry: Entry) -> list[Html] | None:
    values = (entry.scorecard or {}).get("per_class")
    if isinstance(values, Mapping):
        pairs = [(str(name), to_estimate(v)) for name, v in values.items()]
    elif isinstance(values, list | tuple) and values:
        names = entry.classes if len(entry.classes) == len(values) else tuple(f"class {c}" for c in range(len(values)))
        pairs = [(name, to_estimate(v)) for name, v in zip(names, values, strict=True)]
    else:
        return None
    rows = [(name, e.mean) for name, e in pairs if e is not None]
    if not rows:
        return None
    drawn = bars(rows)
    if len(rows) <= 40:
        return [drawn]
    ranked = sorted(rows, key=lambda row: row[1])
    return [
        tag("p", f"The ten classes with the lowest accuracy, of {len(rows):,}.", class_="soft"),
        bars(ranked[:10]),
        fold(Html(f"All {len(rows):,} classes"), drawn),
    ]


def _scores(entry: Entry) -> list[Html] | None:
    scores, metric = entry.scorecard_section("scores"), entry.metric
    cards = []
    for key, (title, meaning) in (_SCORES if metric == ACCURACY else _DIFFERENCES).items():
        if (e := to_estimate(scores.get(key))) is not None:
            said = format_difference(e.mean, metric) if key in _DIFFERENCES else f"{e.mean:.3f}".replace("-", "−")
            less = (metric.direction == "lower") != (key == "hlr")
            meaning = meaning if metric == ACCURACY else f"{meaning} {'Lower' if less else 'Higher'} is better."
            shown = tag("dd", value(said, e.mean), class_="value")
            cards.append(tag("div", tag("dt", title), shown, tag("dd", meaning, class_="note")))
    return [tag("dl", *cards, class_="scores")] if cards else None


def _curve(entry: Entry) -> list[Html] | None:
    drawn = curves(entry.history)
    return [drawn] if drawn is not None else None


def _inputs(entry: Entry) -> list[Html] | None:
    held = entry.gallery
    if held is None or not len(held.inputs):
        return None
    shown = gallery(held, entry.name)
    if not entry.draw:
        return [shown]
    each = f"{format_count(to_number(entry.draw.get('per_class')))} of each class"
    text = f"The {entry.noun} are drawn from a generator that the file holds, {each}; "
    return [note(text, tag("code", "potstill resample"), " draws others, more or fewer."), shown]


def entry_sections(entry: Entry, level: int, key: str = "set") -> list[Html]:
    """Return every non-empty section about ``entry``, with headings of ``level``; ``key`` makes ids unique."""
    heading = f"h{level}"
    pictures = f"The {entry.noun}"
    made = {
        pictures: _inputs(entry),
        "How they came to be": None if entry.snapshots is None else snapshots_section(entry.snapshots, key, entry.name),
        "How good is it?": _scorecard(entry),
        "Forecasts": _forecasts(entry),
        "On other networks": _networks(entry),
        "Class by class": _per_class(entry),
        "Robust scores": _scores(entry),
        "Report card": diagnosis_section(entry.study, entry.name),
        "Trust": audit_section(entry.audit, entry.file_stem or entry.name, entry.card or None),
        "While it was distilled": _curve(entry),
        "Storage and cost": storage(entry),
        "Where it comes from": provenance(entry),
        "How it was made and measured": commands(entry),
    }
    return [tag("section", tag(heading, title), *body, class_="part") for title, body in made.items() if body]
