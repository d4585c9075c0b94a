"""The whole comparison page, in one file."""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files

from potstill._util.html import Html, join_html, tag
from potstill.reports.comparison_page.board import Board, Row
from potstill.reports.comparison_page.confusions import confusions
from potstill.reports.comparison_page.costs import classes, origin, sets, storage
from potstill.reports.comparison_page.image_wall import NearestReal, image_walls
from potstill.reports.comparison_page.leaderboard import leaderboard
from potstill.reports.comparison_page.pareto import assign_marks, draw_pareto, legend
from potstill.reports.comparison_page.pca_map import PcaMap, draw_pca_maps
from potstill.reports.comparison_page.summary import summary_table, verdict_figure
from potstill.reports.headline import verdict_lede
from potstill.reports.numbers import format_count, format_duration
from potstill.reports.page import document, page_header
from potstill.reports.snapshots import Snapshots, snapshots_section
from potstill.reports.tables import fold, note

__all__ = ["content_policy", "render_board", "render_waiting"]


_KICKER = "Potstill comparison"
_THEME_BUTTON = Html('<button type="button" id="theme" hidden>Colours: as the system</button>')
_HEAD = re.compile(r"^At [\d,]+ [a-z ]{1,30} under [^:]{1,60}: ")
"""Prefix of a verdict; its size and protocol stand before it on the page."""


def _read_resource(name: str) -> str:
    return files("potstill.reports.comparison_page").joinpath(name).read_text(encoding="utf-8")


def content_policy(live: bool = False) -> str:
    """Return the content security policy: the page may run our one script, known by its hash."""
    digest = base64.b64encode(hashlib.sha256(_read_resource("question.js").encode()).digest()).decode()
    rules = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return rules + ("; connect-src 'self'" if live else "")


def _document(title: str, body: Sequence[Html | None], version: str | None) -> str:
    again = tag("noscript", Html('<meta http-equiv="refresh" content="10">')) if version is not None else None
    script = tag("script", Html(_read_resource("question.js")))
    return document(
        title, [*body, script], policy=content_policy(version is not None), style=_read_resource("question.css"),
        head=again, version=version,
    )  # fmt: skip


def _part(title: str, key: str, inner: Sequence[Html | None]) -> Html | None:
    held = [x for x in inner if x is not None]
    return tag("section", tag("h2", title), *held, class_="part", id=key) if held else None


def _findings(board: Board) -> list[Html | None]:
    sizes = {row.group: row.size for row in board.rows}
    several = len({group[0] for group, _ in board.findings}) > 1
    lines = []
    for group, said in board.findings:
        where = sizes.get(group, f"{group[2]:g}") + (f", {group[0]}" if several else "")
        lines.append(tag("li", tag("b", tag("bdi", where)), ": ", tag("bdi", _HEAD.sub("", said))))
    told = [tag("ul", *lines, class_="says-list")] if lines else []
    told += [note(board.test.rstrip(".") + ".")] if lines and board.test else []
    return [verdict_figure(board), *summary_table(board), *told]


def _frontiers(board: Board) -> list[Html]:
    of = assign_marks(board.rows)
    out: list[Html] = []
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in board.measured:
        groups.setdefault((row.protocol, row.metric.column_title), []).append(row)
    for k, ((protocol, _), rows) in enumerate(groups.items()):
        drawn = [f for what in ("bytes", "time") if (f := draw_pareto(rows, of, what, f"front-{k}-{what}")) is not None]
        if drawn:
            named = [tag("p", "Protocol ", tag("b", tag("bdi", protocol)))] if len(groups) > 1 else []
            out += [*named, tag("div", *drawn, class_="fronts")]
    return [legend(of), *out] if out else []


def _snapshots_sections(board: Board, snapshots: Mapping[str, Snapshots | str]) -> list[Html]:
    """Return the snapshots of each set, or why there are none, folded but the first."""
    titles: dict[str, str] = {}
    for row in board.by_size:
        titles.setdefault(row.file, f"{row.label}, {row.size}")
    making = {name: f"{name}, being made" for name in snapshots if not name.endswith(".safetensors")}
    out: list[Html] = []
    for n, (name, title) in enumerate({**making, **titles}.items()):
        if (film := snapshots.get(name)) is None:
            continue
        said = [note(film)] if isinstance(film, str) else snapshots_section(film, str(n), title, name in titles)
        out.append(fold(tag("h3", tag("bdi", title)), *said, is_open=not out, class_="one"))
    return [join_html(out)] if out else []


def _progress(board: Board, live: bool) -> Html | None:
    if not live and not board.making and board.done == board.total:
        return None
    said = f"{format_count(board.done)} of {format_count(board.total)} cells are done" if board.total else ""
    now = f"being made: {', '.join(board.making)}" if board.making else ""
    words = "; ".join(x for x in (said, now) if x) or "nothing is being made"
    return tag("p", tag("b", "Live. " if live else "Not finished. "), tag("bdi", words), ".", class_="live", id="live")


def render_board(
    board: Board,
    *,
    title: str,
    command: str,
    nearest: Mapping[str, NearestReal] | None = None,
    pca_map: PcaMap | None = None,
    snapshots: Mapping[str, Snapshots | str] | None = None,
    version: str | None = None,
) -> str:
    """Return the page of ``board`` as one HTML document that loads nothing. Its one script is ours and never holds
    data.

    Args:
        title: the page's name.
        command: the shell command that makes the page again.
        nearest: the nearest real images of a row, by the row's id; ``None``: no training data available.
        pca_map: positions of the sets among real samples.
        snapshots: inputs at a few steps, by the name of the set's file, or why there are none.
        version: of a live page: it reloads when the server has another.
    """
    anchors = {row.id: f"set-{k}" for k, row in enumerate(board.rows, 1) if row.entry is not None}
    sections = [
        _part("What was found", "found", _findings(board)),
        _part("What it costs", "cost", _frontiers(board)),
        _part("Leaderboard", "leaderboard", leaderboard(board, anchors)),
        _part(
            "Side by side",
            "gallery",
            [*image_walls(board, nearest or {}, nearest is not None), *draw_pca_maps(board, pca_map)],
        ),
        _part("How they came to be", "film", _snapshots_sections(board, snapshots or {})),
        _part("Classes", "classes", [*classes(board), *confusions(board)]),
        _part("What is stored", "storage", storage(board)),
        _part("Each set", "sets", sets(board, anchors)),
        _part("Where it came from", "origin", [origin(board), tag("pre", tag("code", command), tabindex=0)]),
    ]
    methods, sizes = {row.label for row in board.rows}, {row.size for row in board.rows}
    made = sum(row.spent or row.seconds or 0 for row in board.rows)
    measured = sum(row.measuring or 0 for row in board.rows)
    lede = f"{_n(len(methods), 'method')} at {_n(len(sizes), 'size')}, {_n(len(board.measured), 'score')}"
    spent = f", made in {format_duration(made)}" if made else ""
    spent += f" and measured in {format_duration(measured)}" if made and measured else ""
    links = [(name, key) for name, key in _LINKS if any(s is not None and f' id="{key}"' in s[:60] for s in sections)]
    jumps = tag("ul", *(tag("li", tag("a", n, href=f"#{k}")) for n, k in links), class_="jump")
    verdict = board.verdict.overall
    top = page_header(
        f"{_KICKER} · {title}", f"{verdict.text}.", verdict_lede(verdict),
        tag("p", lede, " on ", tag("bdi", board.source), f"{spent}.", class_="soft"),
        _progress(board, version is not None), tag("nav", jumps, _THEME_BUTTON, aria_label="Parts of this page"),
    )  # fmt: skip
    said = "This file holds all it shows. It needs no network; its one script sorts, filters and changes colours."
    foot = tag("footer", tag("p", f"Made by Potstill. {said}"), class_="foot")
    skip = tag("a", "Skip to the findings", href="#found", class_="skip")
    return _document(
        f"{verdict.text} · {title}", [skip, top, tag("main", *(s for s in sections if s is not None)), foot], version
    )


_LINKS = (
    ("Findings", "found"),
    ("Cost", "cost"),
    ("Leaderboard", "leaderboard"),
    ("Side by side", "gallery"),
    ("How they came to be", "film"),
    ("Classes", "classes"),
    ("Storage", "storage"),
    ("Each set", "sets"),
    ("Origin", "origin"),
)


def _n(k: int, noun: str) -> str:
    return f"{k:,} {noun}{'' if k == 1 else 's'}"


def render_waiting(title: str, why: str, version: str) -> str:
    """Return a live page while there is nothing to show; it reloads when there is."""
    top = page_header(_KICKER, title, _THEME_BUTTON)
    said = tag("p", tag("b", "Live. "), "Nothing to show yet: ", tag("bdi", why), class_="live", id="live")
    return _document(title, [top, tag("main", said)], version)
