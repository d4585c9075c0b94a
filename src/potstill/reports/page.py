"""One self-contained page: what a distilled set is, how good it is beside its baselines, and where it comes from."""

import os
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from potstill.errors import PotstillError
from potstill.reports.entry import Entry, Gallery
from potstill.reports.figures import Point, dot_plot, value
from potstill.reports.markup import Html, join, tag
from potstill.reports.numbers import count, duration, estimate, interval, number, percent, points, significant, size
from potstill.reports.sections import about, difference_cell, headline, parts, sentence, table, warnings

__all__ = ["Entry", "Gallery", "render", "write"]

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""The page asks for nothing but itself, and a browser that opens it refuses anything else."""


def _document(title: str, body: Sequence[Html]) -> str:
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("link", rel="icon", href="data:,"),
        tag("title", title),
        tag("style", Html(files("potstill.reports").joinpath("style.css").read_text(encoding="utf-8"))),
    )
    return f"<!doctype html>\n{tag('html', head, tag('body', *body), lang='en')}\n"


def _label(entry: Entry) -> str:
    """A short name that tells the sets of one page apart."""
    ipc = entry.ipc
    return entry.method if ipc is None else f"{entry.method}, {ipc:,} per class"


def _group(entry: Entry) -> tuple[str, ...]:
    """What must be equal before two accuracies may be compared."""
    card = entry.scorecard or {}
    keys = ("protocol", "protocol_version", "fingerprint", "network")
    source = str(entry.part("source").get("hash") or entry.source)
    return (source, *(str(card.get(key) or "") for key in keys))


def _row(entry: Entry, anchor: str) -> Html:
    own = estimate((entry.scorecard or {}).get("accuracy"), (entry.scorecard or {}).get("n"))
    link = tag("a", tag("bdi", entry.method), href=f"#{anchor}")
    ipc = tag("td", count(entry.ipc))
    if own is None:
        return tag("tr", tag("th", link, scope="row"), ipc, tag("td", "not measured", colspan=7))
    random = entry.baselines.get("random")
    seconds = number(entry.part("cost").get("seconds"))
    flag = tag("span", " optimistic", class_="open") if entry.optimistic else None
    return tag(
        "tr",
        tag("th", link, flag, scope="row"),
        ipc,
        tag("td", value(percent(own.mean), own.mean)),
        tag("td", value(percent(own.std), own.std)),
        tag("td", interval(own)),
        tag("td", count(own.n)),
        difference_cell(own, random),
        tag("td", value(size(entry.bytes), entry.bytes)),
        tag("td", duration(seconds)),
    )


def _finding(ranked: Sequence[Entry]) -> str:
    """The group's result in one honest sentence."""
    best = ranked[0]
    own = best.accuracy
    if own is None:
        return ""
    said = f"Highest mean: {_label(best)}, {percent(own.mean)}."
    if (random := best.baselines.get("random")) is not None:
        gap = own - random
        if significant(gap) > 0:
            said += f" That is {points(gap.mean)} points against random real samples of the same bytes."
        else:
            said += " It is not shown to be better than random real samples of the same bytes."
    rivals = [e for e in ranked[1:] if e.accuracy is not None and not significant(own - e.accuracy)]
    if rivals:
        names = ", ".join(_label(e) for e in rivals[:4]) + (" and others" if len(rivals) > 4 else "")
        said += f" Not shown to differ from it: {names}."
    return said


def _leaderboard(entries: Sequence[tuple[str, Entry]]) -> list[Html]:
    """A plot and a table for each group of comparable scores, best mean first."""
    groups: dict[tuple[str, ...], list[tuple[str, Entry]]] = {}
    unmeasured = [pair for pair in entries if pair[1].accuracy is None]
    for anchor, entry in entries:
        if entry.accuracy is not None:
            groups.setdefault(_group(entry), []).append((anchor, entry))
    head = (
        "Method",
        "Per class",
        "Mean",
        "Std",
        "95% interval",
        "n",
        "Minus random, points",
        "Bytes",
        "Time to distil",
    )
    out: list[Html] = []
    for held in groups.values():
        ranked = sorted(held, key=lambda pair: -pair[1].accuracy.mean if pair[1].accuracy else 0.0)
        card = ranked[0][1].scorecard or {}
        known = {"": ranked[0][1].source, "protocol ": card.get("protocol"), "network ": card.get("network")}
        where = ", ".join(f"{what}{name}" for what, name in known.items() if name)
        dots = [Point(label=_label(e), estimate=e.accuracy, own=True) for _, e in ranked if e.accuracy is not None]
        dots += _references([e for _, e in ranked])
        out += [
            tag("h3", tag("bdi", where)) if len(groups) > 1 else tag("p", tag("bdi", where), class_="soft"),
            tag("p", _finding([e for _, e in ranked])),
            dot_plot(dots, "Test accuracy. Copper: the sets; grey: what they are measured against."),
            table(f"Leaderboard: {where}", head, [_row(e, anchor) for anchor, e in ranked]),
        ]
    if unmeasured:
        names = ", ".join(_label(e) for _, e in unmeasured)
        out.append(tag("p", f"Not measured: {names}.", class_="note"))
    if len(groups) > 1:
        out.insert(
            0, tag("p", "These sets were measured in different ways. Compare only within one table.", class_="soft")
        )
    return out


def _references(entries: Sequence[Entry]) -> list[Point]:
    """Random at each size, from the first entry that has it, and the full data."""
    out: dict[str, Point] = {}
    for entry in entries:
        if (random := entry.baselines.get("random")) is not None:
            label = "Random real samples" + (f", {entry.ipc:,} per class" if entry.ipc is not None else "")
            out.setdefault(label, Point(label=label, estimate=random))
    full = next((e.full for e in entries if e.full is not None), None)
    return [
        *sorted(out.values(), key=lambda p: -p.estimate.mean),
        *([Point(label="All real data", estimate=full)] if full else []),
    ]


def _repeat(command: str, level: int) -> Html:
    return tag(
        "section",
        tag(f"h{level}", "Repeat it"),
        tag("p", "This command makes this page again; a click selects it.", class_="soft"),
        tag("pre", tag("code", command), tabindex=0, id="command"),
        class_="part",
    )


def _one(entry: Entry, title: str, command: str) -> list[Html]:
    top = tag(
        "header",
        tag("p", "Potstill report", class_="kicker"),
        tag("h1", tag("bdi", title)),
        tag("p", sentence(entry), class_="lede"),
        about(entry),
        class_="top",
    )
    return [top, tag("main", warnings(entry), headline(entry) or _unmeasured(), *parts(entry, 2), _repeat(command, 2))]


def _unmeasured() -> Html:
    return tag(
        "div",
        tag("strong", "Not measured yet."),
        tag(
            "p",
            "There is no scorecard beside this set, so nothing is known of how well it trains a model; "
            "potstill evaluate makes one.",
        ),
        class_="warn",
        role="note",
    )


def _many(entries: Sequence[Entry], title: str, command: str) -> list[Html]:
    anchored = [(f"set-{k}", entry) for k, entry in enumerate(entries, 1)]
    sources = dict.fromkeys(e.source for e in entries if e.source)
    of = f" of {next(iter(sources))}" if len(sources) == 1 else ""
    top = tag(
        "header",
        tag("p", "Potstill report", class_="kicker"),
        tag("h1", tag("bdi", title)),
        tag("p", f"{len(entries)} small training sets{of}, side by side.", class_="lede"),
        class_="top",
    )
    links = [tag("li", tag("a", tag("bdi", e.name), href=f"#{anchor}")) for anchor, e in anchored]
    board = tag(
        "section",
        tag("h2", "Leaderboard"),
        *_leaderboard(anchored),
        tag("nav", tag("ul", *links, class_="jump"), aria_label="The sets"),
        class_="part",
        id="leaderboard",
    )
    sets = [
        tag(
            "section",
            tag("h2", tag("bdi", entry.name)),
            tag("p", sentence(entry), class_="lede"),
            about(entry),
            warnings(entry),
            headline(entry) or _unmeasured(),
            *parts(entry, 3),
            tag("p", tag("a", "Back to the leaderboard", href="#leaderboard"), class_="back"),
            class_="set",
            id=anchor,
        )
        for anchor, entry in anchored
    ]
    return [top, tag("main", board, *sets, _repeat(command, 2))]


def render(entries: Sequence[Entry], *, title: str, command: str) -> str:
    """The page about ``entries`` as one HTML document without scripts or anything to load.

    Args:
        entries: one set, or several to compare: then a leaderboard stands first. At least one.
        title: the page's name.
        command: what a person types to make the page again; shown as it is.

    Raises:
        PotstillError: there is nothing to show.
    """
    if not entries:
        raise PotstillError("a report needs at least one scorecard, leaderboard or distilled set, but none was given")
    body = _one(entries[0], title, command) if len(entries) == 1 else _many(entries, title, command)
    versions = [v for e in entries if isinstance(v := e.card.get("versions"), Mapping)]
    made = (
        f"Made by Potstill {versions[0]['potstill']}."
        if versions and versions[0].get("potstill")
        else "Made by Potstill."
    )
    foot = tag(
        "footer", join([made, " This file holds all it shows: it needs no network and runs no script."]), class_="foot"
    )
    return _document(title, [*body, foot])


def write(html: str, path: Path) -> None:
    """Write ``html`` to ``path`` (UTF-8), whole or not at all; its folder is made where it is missing.

    Raises:
        PotstillError: the file cannot be written.
    """
    if not path.name:
        raise PotstillError(f"{path}: the page needs a file name, but this is a folder; choose another --out")
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_text(html, encoding="utf-8")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise PotstillError(
            f"{path}: cannot write the page ({error.strerror or error}); choose another --out"
        ) from error
