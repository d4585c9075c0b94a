"""Self-contained report page: the distilled set, its score beside its baselines, and its provenance."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from potstill._util.atomic_write import os_error_text, write_atomic
from potstill._util.html import Html, join_html, tag
from potstill.errors import PotstillError
from potstill.reports.entry import Entry, Gallery
from potstill.reports.figures import Difference, Point, difference_plot, dot_plot
from potstill.reports.headline import headline, verdict_lede
from potstill.reports.numbers import (
    Estimate,
    format_count,
    format_difference,
    format_duration,
    format_score,
    format_size,
    significant,
    to_number,
    verdict,
)
from potstill.reports.sections import about, entry_sections, sentence, warnings
from potstill.reports.tables import (
    codec_line,
    difference_cell,
    estimate_cells,
    estimate_head,
    note,
    row,
    size_value,
    table,
)

__all__ = ["Entry", "Gallery", "document", "page_header", "render", "write"]

POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
"""Content security policy: the page loads nothing but itself."""


def _read_resource(name: str) -> str:
    return files("potstill.reports").joinpath(name).read_text(encoding="utf-8")


def document(
    title: str, body: Sequence[Html | None], *, policy: str = POLICY, style: str = "", head: Html | None = None,
    version: str | None = None,
) -> str:  # fmt: skip
    """Return a whole page.

    Args:
        policy: content security policy.
        style: style sheet beside the common one.
        head: further element of the head.
        version: version of a live page.
    """
    common = _read_resource("style.css")
    whole_head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        head,
        tag("link", rel="icon", href=f"data:image/svg+xml,{quote(_read_resource('icon.svg').strip())}"),
        tag("title", title),
        tag("style", Html(common + style)),
    )
    return f"<!doctype html>\n{tag('html', whole_head, tag('body', *body), lang='en', data_version=version)}\n"


def page_header(kicker: str, title: str, *more: Html | None) -> Html:
    """Return the top of a page."""
    heading = tag("h1", tag("bdi", title))
    return tag("header", tag("p", kicker, class_="kicker"), heading, *more, class_="top")


def _group(entry: Entry) -> tuple[str, ...]:
    """Return the key that must be equal before two scores may be ranked; the size stands last."""
    card = entry.scorecard or {}
    keys = ("protocol", "protocol_version", "fingerprint", "network")
    source = str(entry.card_section("source").get("hash") or entry.source)
    how = (entry.metric.column_title, entry.horizon_label, *(str(card.get(key) or "") for key in keys))
    return (source, *how, str(entry.ipc or ""))


def _where(entry: Entry) -> str:
    """Return how a group was measured, in words."""
    card = entry.scorecard or {}
    known = {"": entry.source, "protocol ": card.get("protocol"), "network ": card.get("network")}
    return ", ".join(
        [*(f"{what}{name}" for what, name in known.items() if name), *[entry.horizon_label] * bool(entry.horizon_label)]
    )


_EQUAL_ITEMS = (
    "Random stands here for as many real samples, at their own bytes. The fair comparison is at equal bytes, which "
    "potstill evaluate makes for each set: read the columns of bytes beside the scores."
)


def _row(entry: Entry, anchor: str, label: str) -> Html:
    own = entry.score or Estimate(mean=0.0)
    flag = tag("span", f" {entry.flags}", class_="open") if entry.flags else None
    return row(
        join_html([tag("a", tag("bdi", label), href=f"#{anchor}"), flag, codec_line(entry.codec)]),
        *estimate_cells(own, entry.metric),
        difference_cell(_gap(entry), entry.metric),
        format_count(entry.items),
        size_value(entry.bytes),
        format_duration(to_number(entry.card_section("cost").get("seconds"))),
    )


def _score_and_size(entry: Entry, score: Estimate) -> str:
    """Return a set's score and size in words."""
    size = "" if entry.bytes is None else f" · {format_size(entry.bytes)}"
    return f"{format_score(score.mean, entry.metric)}{size}"


def _gap(entry: Entry) -> Estimate | None:
    """Return this set minus random samples: in its bytes if measured, else as many."""
    return entry.gap("random") or entry.gap("random-items")


def _finding(ranked: Sequence[tuple[str, Entry, Estimate]]) -> str:
    """Return a group's result in honest sentences."""
    label, best, own = ranked[0]
    metric = best.metric
    said = f"{'Highest' if metric.direction == 'higher' else 'Lowest'} mean: {label}, {format_score(own.mean, metric)}."
    if (gap := _gap(best)) is not None:
        rival = "random real samples of the same bytes" if best.gap("random") else "as many random real samples"
        if significant(gap, metric) > 0:
            said += f" That is {format_difference(gap.mean, metric)} {metric.difference_unit} against {rival}."
        else:
            said += f" It is {verdict(gap, rival, metric)}."
    rivals = [name for name, _, e in ranked[1:] if not significant(own - e, metric)]
    if rivals:
        said += f" Not told apart from it: {', '.join(rivals[:4])}{' and others' if len(rivals) > 4 else ''}."
    return said


def _board(members: Sequence[tuple[str, Entry]]) -> list[Html]:
    """Return the finding, a plot and a table of scores that may be ranked, best mean first."""
    methods, metric = [entry.method for _, entry in members], members[0][1].metric
    named = [
        (anchor, entry.method if methods.count(entry.method) == 1 else entry.name, entry, entry.score)
        for anchor, entry in members
    ]
    rows = sorted(
        ((a, n, e, own) for a, n, e, own in named if own is not None), key=lambda of: -metric.sign * of[3].mean
    )
    dots = [Point(label=name, estimate=own, is_own=True) for _, name, _, own in rows]
    held = [e.baselines for _, _, e, _ in rows]
    random = next((b["random"] for b in held if "random" in b), None)
    random = None if "random" in methods else random  # then it has a row of its own
    full = next((e.full for _, _, e, _ in rows if e.full is not None), None)
    for label, reference in (("Random real samples", random), ("All real data", full)):
        dots += [Point(label=label, estimate=reference)] if reference is not None else []
    head = (
        *estimate_head("Method"), f"Minus random, {metric.difference_unit}", "Items", "Bytes", "Time to distil",
    )  # fmt: skip
    fair = [note(_EQUAL_ITEMS)] if any("random-items" in b for b in held) and random is None else []
    gaps = [
        Difference(label=name, below=_score_and_size(e, own), gap=gap) for _, name, e, own in rows if (gap := _gap(e))
    ]
    drawn = dot_plot(
        dots, f"Test {metric.column_title}. Copper: the sets; grey: what they are measured against.", metric
    )
    if len(gaps) > 1:
        drawn = difference_plot(gaps, "Each set minus random real samples.", metric)
    return [
        tag("p", _finding([of[1:] for of in rows])),
        *fair,
        drawn,
        table(f"Leaderboard: {_where(rows[0][2])}", head, [_row(e, anchor, name) for anchor, name, e, _ in rows]),
    ]


def _leaderboard(entries: Sequence[tuple[str, Entry]]) -> list[Html]:
    """Return one board for each way of measuring and each size, small sizes first."""
    groups: dict[tuple[str, ...], list[tuple[str, Entry]]] = {}
    for anchor, entry in sorted(entries, key=lambda pair: pair[1].ipc or 0):
        if entry.score is not None:
            groups.setdefault(_group(entry), []).append((anchor, entry))
    out: list[Html] = []
    if len({key[:-1] for key in groups}) > 1:
        text = "These sets were measured in different ways. Compare only within one table."
        out.append(tag("p", text, class_="soft"))
    for members in groups.values():
        entry = members[0][1]
        size = "per class" if entry.classes or not entry.card.get("task") else entry.noun
        title = _where(entry) if entry.ipc is None else f"{entry.per_class or format_count(entry.ipc)} {size}"
        below = [tag("p", tag("bdi", _where(entry)), class_="soft")] if entry.ipc is not None else []
        out.append(tag("section", tag("h3", tag("bdi", title)), *below, *_board(members), class_="board"))
    unmeasured = [entry.name for _, entry in entries if entry.score is None]
    if unmeasured:
        out.append(note(f"Not measured: {', '.join(unmeasured)}."))
    return out


def _repeat(command: str, level: int) -> Html:
    return tag(
        "section",
        tag(f"h{level}", "Repeat it"),
        tag("p", "This command makes this page again; a click selects it.", class_="soft"),
        tag("pre", tag("code", command), tabindex=0, id="command"),
        class_="part",
    )


def _one(entry: Entry, kicker: str, command: str) -> list[Html]:
    said = tag("p", sentence(entry), class_="soft")
    sections = (warnings(entry), headline(entry), said, about(entry), *entry_sections(entry, 2), _repeat(command, 2))
    verdict = entry.verdict
    top = page_header(kicker, f"{verdict.text}.", verdict_lede(verdict))
    return [top, tag("main", *(section for section in sections if section is not None))]


def _lede(text: str) -> Html:
    return tag("p", text, class_="lede")


_COUNTED = {
    "better": "better than real samples",
    "worse": "worse",
    "not told apart": "not told apart from them",
    "naive": "not above an answer that learns nothing",
}


def _title_of_several(entries: Sequence[Entry]) -> str:
    """Return the verdicts on several sets in one sentence."""
    sources = dict.fromkeys(e.source for e in entries if e.source)
    of = f" of {next(iter(sources))}" if len(sources) == 1 else ""
    kinds = [entry.verdict.kind for entry in entries]
    counts = [f"{kinds.count(kind)} {words}" for kind, words in _COUNTED.items() if kind in kinds]
    said = f": {', '.join(counts)}" if counts else ", side by side"
    return f"{len(entries)} sets{of}{said}."


def _many(entries: Sequence[Entry], kicker: str, command: str) -> list[Html]:
    anchored = [(f"set-{k}", entry) for k, entry in enumerate(entries, 1)]
    top = page_header(kicker, _title_of_several(entries))
    links = [tag("li", tag("a", tag("bdi", e.name), href=f"#{anchor}")) for anchor, e in anchored]
    nav = tag("nav", tag("ul", *links, class_="jump"), aria_label="The sets")
    heading = tag("h2", "Leaderboard")
    board = tag("section", heading, *_leaderboard(anchored), nav, class_="part", id="leaderboard")
    back = tag("p", tag("a", "Back to the leaderboard", href="#leaderboard"), class_="back")
    sets = [
        tag(
            "section", tag("h2", tag("bdi", e.name)), _lede(f"{e.verdict.text}."), verdict_lede(e.verdict),
            warnings(e), headline(e), tag("p", sentence(e), class_="soft"), about(e), *entry_sections(e, 3, anchor),
            back, class_="set", id=anchor,
        )
        for anchor, e in anchored
    ]  # fmt: skip
    return [top, tag("main", board, *sets, _repeat(command, 2))]


def render(entries: Sequence[Entry], *, title: str, command: str) -> str:
    """Return the page about ``entries`` as one HTML document without scripts or anything to load.

    Args:
        entries: one set, or several to compare: then a leaderboard stands first. At least one.
        title: the page's name; the verdict stands before it.
        command: the shell command that makes the page again; shown verbatim.

    Raises:
        PotstillError: there is nothing to show.
    """
    if not entries:
        raise PotstillError("a report needs at least one scorecard, leaderboard or distilled set, but none was given")
    kicker = f"Potstill report · {title}"
    body = _one(entries[0], kicker, command) if len(entries) == 1 else _many(entries, kicker, command)
    said = entries[0].verdict.text if len(entries) == 1 else _title_of_several(entries).rstrip(".")
    versions = [v for e in entries if isinstance(v := e.card.get("versions"), Mapping)]
    version = f" {versions[0]['potstill']}" if versions and versions[0].get("potstill") else ""
    made = f"Made by Potstill{version}. This file holds all it shows: it needs no network and runs no script."
    return document(f"{said} · {title}", [*body, tag("footer", made, class_="foot")])


def write(html: str, path: Path) -> None:
    """Write ``html`` to ``path`` (UTF-8) atomically; its folder is created if missing.

    Raises:
        PotstillError: the file cannot be written.
    """
    if not path.name:
        raise PotstillError(f"{path}: the page needs a file name, but this is a folder; choose another `out=`")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PotstillError(f"{path}: cannot be written ({os_error_text(error)}); choose another `out=`") from error
    write_atomic(path, html.encode())
