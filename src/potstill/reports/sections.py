"""Sections of a page about one distilled set. Each returns ``None`` if its facts are missing."""

from collections.abc import Mapping, Sequence
from typing import Any

from potstill._util.formatting import describe_codec
from potstill._util.html import Html, join_html, tag
from potstill.reports.drawings import labelled
from potstill.reports.entry import Entry
from potstill.reports.figures import Point, bar, bars, curves, dot_plot, value
from potstill.reports.gallery import gallery
from potstill.reports.numbers import (
    ACCURACY,
    Estimate,
    format_count,
    format_difference,
    format_duration,
    format_interval,
    format_percent,
    format_score,
    format_size,
    significant,
    to_estimate,
    to_number,
    verdict,
)
from potstill.reports.snapshots import snapshots_section
from potstill.reports.study import study_section
from potstill.tasks.metric import Metric

__all__ = [
    "about", "codec_line", "difference_cell", "entry_sections", "estimate_cells", "headline", "sentence", "table",
    "warnings",
]  # fmt: skip

_BASELINES = {
    "random": "Random real samples",
    "herding": "Herding (coreset)",
    "k-center": "k-center (coreset)",
    "k-means": "k-means (coreset)",
    "random-soft": "Random real samples, soft labels",
    "random-items": "As many random real samples",
}
_AS_MANY = "random-items"
"""The one baseline that does not match the set's bytes."""
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
_TONE = {1: ("good", "better"), 0: ("unsure", "open"), -1: ("bad", "worse")}


def table(caption: str, head: Sequence[str], body: Sequence[Html], *, narrow: bool = False, of: str = "") -> Html:
    """Return a table with an accessible caption that scrolls inside its own box; ``of`` says whose it is."""
    cells = [tag("th", name, scope="col") for name in head]
    inner = tag("table", tag("caption", caption), tag("thead", tag("tr", *cells)), tag("tbody", *body))
    return tag(
        "div",
        inner,
        class_="scroll narrow" if narrow else "scroll",
        tabindex=0,
        role="region",
        aria_label=labelled(caption, of),
    )


def estimate_cells(e: Estimate, metric: Metric) -> list[Html]:
    """Return cells of runs, mean, standard deviation and interval."""
    return [
        tag("td", format_count(e.n)),
        tag("td", value(format_score(e.mean, metric), e.mean)),
        tag("td", value(format_score(e.std, metric), e.std)),
        tag("td", format_interval(e, metric)),
    ]


def difference_cell(gap: Estimate | None, metric: Metric, *, judged: bool = True) -> Html:
    """Return a difference with its interval, coloured by its significance if ``judged``."""
    if gap is None:
        return tag("td", "—")
    said = tag(
        "span", format_difference(gap.mean, metric), class_=_TONE[significant(gap, metric)][1] if judged else None
    )
    ends = f" [{format_interval(gap, metric, difference=True)}]"
    return tag("td", said, tag("span", ends, class_="soft") if gap.low is not None else None)


def sentence(entry: Entry) -> str:
    """Return a description of the set in one sentence."""
    noun, items, samples = entry.noun, entry.items, entry.samples
    own = f"{format_count(items)} {noun}" if items is not None else f"A small set of {noun}"
    chosen = "chosen from" if entry.gallery is not None and entry.gallery.real else "that stand for"
    real = f"{format_count(samples)}" if samples is not None else "a larger set"
    source = f" of {entry.source}" if entry.source else ""
    return f"{own} {chosen} the {real}{source}." if samples is not None else f"{own} {chosen} {real}{source}."


def about(entry: Entry) -> Html:
    """Return method, budget, protocol and network as tags."""
    card = entry.scorecard or {}
    protocol = card.get("protocol")
    version = f" v{card['protocol_version']}" if card.get("protocol_version") is not None else ""
    facts = {
        "Method": entry.method,
        "Data": entry.source,
        "Per class": format_count(entry.ipc) if entry.ipc is not None and entry.classes else "",
        "Protocol": f"{protocol}{version}" if protocol else "",
        "Network": str(card.get("network") or ""),
    }
    return tag("ul", *(tag("li", f"{k} ", tag("b", tag("bdi", v))) for k, v in facts.items() if v), class_="tags")


def warnings(entry: Entry) -> Html | None:
    """Return the warnings before any number: an optimistic or shortened protocol, an unfinished run."""
    notes = []
    if entry.optimistic:
        notes.append(
            (
                "Optimistic.",
                "This protocol picks the best of many scores on the test data, as its paper did. On new data expect "
                "less, and do not compare it with numbers measured otherwise.",
            )
        )
    if entry.quick:
        notes.append(
            (
                "Quick.",
                "The protocol was shortened (few students, short training), to look at the set and not to report it. "
                "Measure in full for numbers to rely on.",
            )
        )
    if entry.scorecard_section("data").get("made_of_train") is False:
        notes.append(
            (
                "Made of other data.",
                "The set was not made of the training data it was measured against. If it holds what it was tested on, "
                "the score is too high.",
            )
        )
    if (warned := entry.scorecard_section("labeller").get("warning")) is not None:
        notes.append(("Look at who labelled.", str(warned)[:1].upper() + str(warned)[1:] + "."))
    kind, message = entry.outcome
    if kind and kind != "finished":
        notes.append((f"Not finished: {kind}.", message or "The set is what the run had made until then."))
    return (
        join_html(tag("div", tag("strong", title), tag("p", body), class_="warn", role="note") for title, body in notes)
        if notes
        else None
    )


def _comparison(title: str, gap: Estimate, other: Estimate, name: str, metric: Metric) -> Html:
    tone, word = _TONE[significant(gap, metric)]
    detail = f"{format_difference(gap.mean, metric)} {metric.difference_unit}"
    detail += f", 95% interval {format_interval(gap, metric, difference=True)}" if gap.low is not None else ""
    detail += "; less is better" if metric.direction == "lower" else ""
    if gap.low is not None and not significant(gap, metric):
        detail += " (includes zero)"
    return tag(
        "div",
        tag("dt", title, " ", value(format_score(other.mean, metric), other.mean)),
        tag("dd", tag("span", verdict(gap, name, metric).capitalize(), class_=word)),
        tag("dd", detail, class_="sub"),
        class_=tone,
    )


def headline(entry: Entry) -> Html | None:
    """Return the score with its interval, against random samples of the same bytes and against the full data."""
    own, metric = entry.score, entry.metric
    if own is None:
        return None
    card, facts, said = entry.scorecard or {}, [], []
    random, gap = entry.baselines.get("random"), entry.gap("random")
    if random is not None and gap is not None:
        facts.append(_comparison("Random real samples, same bytes:", gap, random, "random", metric))
    elif entry.method == "random":
        said.append("These are random real samples: what every distilled set has to beat.")
    elif _AS_MANY in entry.baselines:
        said.append("Random real samples in the same bytes, the fair comparison, were not measured here.")
    else:
        said.append("Random real samples were not measured, so nothing here shows that distilling helped.")
    items, more = entry.baselines.get(_AS_MANY), entry.gap(_AS_MANY)
    if random is None and items is not None and more is not None:
        facts.append(_comparison("As many random real samples, at their own bytes:", more, items, "random", metric))
    others = {n: e for n, e in entry.baselines.items() if n not in ("random", _AS_MANY)}
    if others:
        name = max(others, key=lambda n: metric.sign * others[n].mean)
        label, other = _BASELINES.get(name, name).lower(), others[name]
        facts.append(_comparison("Best other baseline:", entry.gap(name) or own - other, other, label, metric))
    if (full := entry.full) is not None:
        share = f"{100 * own.mean / full.mean:.0f}% of it is kept" if full.mean > 0 else ""
        if metric.direction == "lower":
            share = f"{own.mean / full.mean:.3g} times that is left; less is better" if full.mean > 0 else ""
        what = (
            f", with {100 * entry.items / entry.samples:.2g}% of the samples" if entry.items and entry.samples else ""
        )
        facts.append(
            tag(
                "div",
                tag("dt", "All real data: ", value(format_score(full.mean, metric), full.mean)),
                tag("dd", share),
                tag("dd", what.lstrip(", "), class_="sub"),
            )
        )
    many = own.n is not None and own.n > 1
    runs = f"{own.n:,} independent trainings" if many else "one training"
    if own.low is None:
        kept = f"From {runs}." if many else f"From {runs}: no interval can be given."
    else:
        new = "ci95_same_test" in (card.get("score") or card.get("accuracy") or {})
        whose = "new test samples and students" if new else "other students on these test samples"
        kept = f"95% interval {format_interval(own, metric)}, for {whose if many else 'new test samples'}, from {runs}."
    network = str(card.get("network") or "a network")
    return tag(
        "div",
        tag(
            "div",
            tag("p", f"{_title(metric)} on the real test data", class_="what"),
            tag("div", value(format_score(own.mean, metric), own.mean), class_="big"),
            tag("p", kept, class_="sub"),
            tag("p", "Trained on nothing but this set: ", tag("bdi", network), ".", class_="sub"),
        ),
        tag("dl", *facts, class_="facts") if facts else None,
        *(tag("p", line, class_="says") for line in said),
        class_="card head",
    )


def _title(metric: Metric) -> str:
    """Return the metric's name, capitalised, with its direction unless higher is better."""
    return metric.column_title[:1].upper() + metric.column_title[1:]


def _scorecard(entry: Entry) -> list[Html] | None:
    own, metric = entry.score, entry.metric
    if own is None:
        return None
    held = {"items": entry.items, "bytes": entry.bytes, "codec": entry.codec}
    rows: list[tuple[str, Estimate, Mapping[str, Any], Estimate | None]] = [("This set", own, held, None)]
    written = entry.scorecard_section("baselines")
    for name, e in sorted(entry.baselines.items(), key=lambda i: (i[0] == _AS_MANY, -metric.sign * i[1].mean)):
        said = written[name] if isinstance(written[name], Mapping) else {}
        rows.append((_BASELINES.get(name, name), e, said, entry.gap(name)))
    if entry.full is not None:
        whole = entry.scorecard_section("full")
        rows.append(("All real data", entry.full, {**whole, "items": entry.samples}, own - entry.full))
    dots = [Point(label=label, estimate=e, own=k == 0) for k, (label, e, _, _) in enumerate(rows)]
    body = [
        tag(
            "tr",
            tag("th", label, codec_line(said.get("codec"), to_number(said.get("per_class"))), scope="row"),
            *estimate_cells(e, metric),
            difference_cell(gap, metric, judged=label != "All real data"),
            tag("td", format_count(to_number(said.get("items")))),
            tag("td", value(format_size(to_number(said.get("bytes"))), to_number(said.get("bytes")))),
            class_="own" if k == 0 else None,
        )
        for k, (label, e, said, gap) in enumerate(rows)
    ]
    head = (
        "Trained on",
        "n",
        "Mean",
        "Std",
        "95% interval",
        f"This set minus it, {metric.difference_unit}",
        "Items",
        "Bytes",
    )
    return [
        dot_plot(dots, f"Test {metric.name} under the same protocol.", metric, reference=own.mean),
        table(f"Test {metric.column_title} of this set and its baselines", head, body, of=entry.name),
        *(tag("p", line, class_="note") for line in _fair(entry)),
    ]


def codec_line(store: object, per_class: float | None = None) -> Html | None:
    """Return the codec in words, to stand below a name; ``None`` if unknown."""
    said = describe_codec(str(store), None if per_class is None else int(per_class)) if store else ""
    return tag("span", said, class_="how") if said else None


def _fair(entry: Entry) -> list[str]:
    """Return sentences about which comparisons are fair, and what was left out."""
    held = {n: b for n, b in entry.scorecard_section("baselines").items() if isinstance(b, Mapping) and b.get("codec")}
    lines = []
    if any(name != _AS_MANY for name in held):
        lines.append(
            "The fair comparison is at equal bytes: each of these baselines takes no more bytes than this set, stored "
            "in the way that did best on held-out training data."
        )
    if _AS_MANY in held:
        lines.append(
            f"“{_BASELINES[_AS_MANY]}” is what papers compare with: as many samples as this set has, whatever they "
            "weigh."
        )
    left_out = entry.scorecard_section("left_out")
    return lines + [f"{_BASELINES.get(name, name)}: left out, since {why}." for name, why in left_out.items()]


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
        extra = (
            [
                tag("td", value(format_score(random.mean, metric), random.mean) if random else "—"),
                difference_cell(None if random is None else e - random, metric),
            ]
            if randoms
            else []
        )
        body.append(tag("tr", tag("th", tag("bdi", name), scope="row"), *estimate_cells(e, metric), *extra))
    against = ["Random", f"Minus random, {metric.difference_unit}"] if randoms else []
    head = ["Network", "n", "Mean", "Std", "95% interval", *against]
    return [
        tag(
            "p",
            "The same set, other networks trained on it: how far it carries beyond the one it was made with.",
            class_="soft",
        ),
        table(f"Test {metric.column_title} by network", head, body, of=entry.name),
    ]


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
        tag("details", tag("summary", f"All {len(rows):,} classes"), drawn),
    ]


def _scores(entry: Entry) -> list[Html] | None:
    scores, metric = entry.scorecard_section("scores"), entry.metric
    cards = []
    for key, (title, meaning) in (_SCORES if metric == ACCURACY else _DIFFERENCES).items():
        if (e := to_estimate(scores.get(key))) is not None:
            said = format_difference(e.mean, metric) if key in _DIFFERENCES else f"{e.mean:.3f}".replace("-", "−")
            less = (metric.direction == "lower") != (key == "hlr")
            meaning = meaning if metric == ACCURACY else f"{meaning} {'Lower' if less else 'Higher'} is better."
            cards.append(
                tag(
                    "div",
                    tag("dt", title),
                    tag("dd", value(said, e.mean), class_="value"),
                    tag("dd", meaning, class_="note"),
                )
            )
    return [tag("dl", *cards, class_="scores")] if cards else None


def _curve(entry: Entry) -> list[Html] | None:
    drawn = curves(entry.history)
    return [drawn] if drawn is not None else None


def _storage(entry: Entry) -> list[Html] | None:
    held = entry.card_section("bytes") or entry.scorecard_section("bytes")
    cost = entry.card_section("cost")
    total = to_number(held.get("total"))
    out: list[Html] = []
    if total is not None:
        rows = [(key.capitalize(), to_number(held.get(key))) for key in ("inputs", "labels", "decoder")]
        body = [
            tag("tr", tag("th", name, scope="row"), tag("td", value(format_size(b), b)))
            for name, b in rows
            if b is not None
        ]
        body.append(
            tag("tr", tag("th", "Total", scope="row"), tag("td", value(format_size(total), total)), class_="own")
        )
        coded = to_number(held.get("coded")) or to_number(entry.scorecard_section("bytes").get("coded"))
        if coded is not None:
            body.append(
                tag("tr", tag("th", "Total, entropy-coded", scope="row"), tag("td", value(format_size(coded), coded)))
            )
        real, basis = _source_bytes(entry)
        if real is not None:
            body.append(
                tag("tr", tag("th", f"All real data ({basis})", scope="row"), tag("td", value(format_size(real), real)))
            )
            smaller = f"The set takes {100 * total / real:.3g}% of the bytes of the real data ({basis})."
            out += [
                tag("div", bar(total / real, own=True, height=12), class_="stack"),
                tag("p", smaller, class_="note"),
            ]
        out.insert(0, tag("p", "Everything that training on the set needs, as stored.", class_="soft"))
        out.append(table("Stored bytes", ("Part", "Bytes"), body, narrow=True, of=entry.name))
    facts = {
        "Time": format_duration(to_number(cost.get("seconds"))) if cost.get("seconds") is not None else "",
        "Steps": format_count(to_number(cost.get("steps"))) if cost.get("steps") is not None else "",
        "Peak memory": format_size(to_number(cost.get("peak_memory"))) if cost.get("peak_memory") is not None else "",
        "Device": str(cost.get("device") or ""),
        "Measuring took": format_duration(to_number(entry.scorecard_section("cost").get("seconds")))
        if entry.scorecard_section("cost").get("seconds")
        else "",
    }
    if listing := _list(facts):
        out.append(listing)
    return out or None


def _source_bytes(entry: Entry) -> tuple[float | None, str]:
    """Return bytes of the real data and their basis: as measured, or from the metadata, else images at 8 bits a
    value."""
    measured = entry.scorecard_section("full")
    if measured.get("bytes") and "codec" in measured:
        return to_number(measured["bytes"]), "as they are"
    if stored := to_number(entry.card_section("source").get("bytes")):
        return stored, "as stored"
    shape = entry.card_section("input").get("shape")
    if entry.noun != "pictures" or entry.samples is None or not isinstance(shape, list | tuple):
        return None, ""
    values = entry.samples
    for side in shape:
        values *= int(to_number(side) or 0)
    return (to_number(values), "8 bits a value") if values > 0 else (None, "")


def _list(facts: Mapping[str, str | Html]) -> Html | None:
    pairs = [join_html([tag("dt", key), tag("dd", shown)]) for key, shown in facts.items() if shown]
    return tag("dl", *pairs, class_="list") if pairs else None


def _inline(values: Mapping[str, Any]) -> Html:
    return tag("code", ", ".join(f"{key} = {held}" for key, held in values.items()))


def _labeller(entry: Entry) -> str | Html:
    """Return who labelled the set and its baselines, if a teacher did."""
    held = entry.scorecard_section("labeller")
    if not held.get("name"):
        return ""
    whose = {True: ", the set's own teacher", False: ", not the set's own teacher"}.get(held.get("own"), "")  # type: ignore[arg-type]
    known = [(to_number(held.get(key)), what) for key, what in (("agreement", "the set's"), ("agreement_real", "real"))]
    said = " and ".join(f"{format_percent(part)} of {what} inputs" for part, what in known if part is not None)
    hashes = held.get("hash")
    shown = " ".join(str(h)[:12] for h in (hashes if isinstance(hashes, list | tuple) else [hashes]) if h)
    takes = f"; it takes {said} for their classes" if said else ""
    return join_html([tag("bdi", str(held["name"])), " ", tag("code", shown), f"{whose}{takes}"])


def _provenance(entry: Entry) -> list[Html] | None:
    card, source, score = entry.card, entry.card_section("source"), entry.scorecard or {}
    kind, message = entry.outcome
    notes = source.get("notes")
    facts: dict[str, str | Html] = {
        "Real data": tag("bdi", entry.source) if entry.source else "",
        "Real samples": format_count(entry.samples) if entry.samples is not None else "",
        "Hash of the real data": tag("code", str(source["hash"])) if source.get("hash") else "",
        "Notes of the loader": " ".join(map(str, notes)) if isinstance(notes, list | tuple) else "",
        "Method": tag("bdi", entry.method) if card.get("method") else "",
        "Options": _inline(entry.card_section("config")) if entry.card_section("config") else "",
        "Distilled with": tag("bdi", str(card.get("network") or "")) if card.get("network") else "",
        "Trained as": _inline(entry.card_section("training")) if entry.card_section("training") else "",
        "Seed": str(card["seed"]) if card.get("seed") is not None else "",
        "Outcome": f"{kind}: {message}" if message else kind,
        "Protocol": f"{score['protocol']} (version {score.get('protocol_version', '—')})"
        if score.get("protocol")
        else "",
        "Labels by": _labeller(entry),
        "Protocol fingerprint": tag("code", str(score["fingerprint"])) if score.get("fingerprint") else "",
        "Chosen for the students": _inline(score["chosen"]) if isinstance(score.get("chosen"), Mapping) else "",
        "Versions": ", ".join(f"{k} {v}" for k, v in entry.card_section("versions").items()),
        "File format": str(card.get("format") or ""),
    }
    listing = _list(facts)
    return [listing] if listing is not None else None


def _command(entry: Entry) -> list[Html] | None:
    commands = [entry.card.get("command"), (entry.scorecard or {}).get("command")]
    return [tag("pre", tag("code", str(command)), tabindex=0) for command in commands if command] or None


def _inputs(entry: Entry) -> list[Html] | None:
    held = entry.gallery
    return [gallery(held, entry.name)] if held is not None and len(held.inputs) else None


def entry_sections(entry: Entry, level: int, key: str = "set") -> list[Html]:
    """Return every non-empty section about ``entry``, with headings of ``level``; ``key`` makes ids unique."""
    heading = f"h{level}"
    pictures = f"The {entry.noun}"
    made = {
        pictures: _inputs(entry),
        "How they came to be": None if entry.snapshots is None else snapshots_section(entry.snapshots, key, entry.name),
        "How good is it?": _scorecard(entry),
        "On other networks": _networks(entry),
        "Class by class": _per_class(entry),
        "Robust scores": _scores(entry),
        "Report card": study_section(entry.study, entry.name),
        "While it was distilled": _curve(entry),
        "Storage and cost": _storage(entry),
        "Where it comes from": _provenance(entry),
        "How it was made and measured": _command(entry),
    }
    return [tag("section", tag(heading, title), *body, class_="part") for title, body in made.items() if body]
