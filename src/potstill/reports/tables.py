"""Tables of a page, and cells of scores."""

from collections.abc import Sequence

from potstill._util.formatting import describe_codec
from potstill._util.html import Html, escape, tag
from potstill.reports.drawings import labelled, scroll_box
from potstill.reports.figures import value
from potstill.reports.numbers import (
    Estimate,
    format_count,
    format_difference,
    format_interval,
    format_score,
    format_size,
    shorten,
    significant,
)
from potstill.tasks.metric import Metric

__all__ = [
    "TONES", "bare_table", "codec_line", "difference_cell", "estimate_cells", "estimate_head", "fold",
    "folded_text", "note", "row", "score_cells", "score_value", "select", "size_value", "table",
    "word_cell", "word_head",
]  # fmt: skip

TONES = {1: ("good", "better"), 0: ("unsure", "open"), -1: ("bad", "worse")}


def bare_table(caption: str, head: Sequence[str], body: Sequence[Html], **attributes: str) -> Html:
    """Return a table with an accessible caption; a head that is no ``th`` becomes one."""
    cells = [n if isinstance(n, Html) and n.startswith("<th") else tag("th", n, scope="col") for n in head]
    return tag("table", tag("caption", caption), tag("thead", tag("tr", *cells)), tag("tbody", *body), **attributes)


def word_head(name: str) -> Html:
    """Return the head of a column of words, which begin at the left."""
    return tag("th", tag("bdi", name), scope="col", class_="text")


def word_cell(text: str, *, is_long: bool = False) -> Html:
    """Return a cell of words; a long one is broken into lines."""
    return tag("td", tag("bdi", text), class_="text long" if is_long else "text")


def table(caption: str, head: Sequence[str], body: Sequence[Html], *, narrow: bool = False, of: str = "") -> Html:
    """Return a table that scrolls inside its own box; ``of`` says whose it is."""
    return scroll_box(bare_table(caption, head, body), labelled(caption, of), narrow=narrow)


def row(label: str, *cells: str | None, **attributes: str | None) -> Html:
    """Return a table's row with its heading; cells that are no ``td`` become one."""
    made = (cell if isinstance(cell, Html) and cell.startswith("<td") else tag("td", cell) for cell in cells)
    heading = label if isinstance(label, Html) else tag("bdi", label)
    return tag("tr", tag("th", heading, scope="row"), *made, **attributes)


def note(text: str, *more: str | None) -> Html:
    """Return a paragraph in small print."""
    return tag("p", text, *more, class_="note")


def fold(title: Html, *inner: Html | None, is_open: bool = False, **attributes: str | None) -> Html:
    """Return a part that unfolds below its title."""
    return tag("details", tag("summary", title), *inner, open="" if is_open else None, **attributes)


def folded_text(text: str, most: int = 80, class_: str | None = None) -> Html | None:
    """Return a long text folded below its first clause; ``None`` if it is no longer than ``most`` characters."""
    if len(text) <= most:
        return None
    return fold(escape(shorten(text, most)), escape(text), class_=class_)


def select(name: str, label: str, options: Sequence[str]) -> Html:
    """Return a choice among ``options``, or all of them."""
    held = [tag("option", "all", value=""), *(tag("option", text, value=text) for text in options)]
    return tag("label", tag("span", label), tag("select", *held, name=name))


def score_value(score: float | None, metric: Metric) -> Html:
    """Return a score with its exact value."""
    return value(format_score(score, metric), score)


def size_value(size: float | None) -> Html:
    """Return bytes with their exact number."""
    return value(format_size(size), size)


def estimate_head(name: str) -> tuple[str, ...]:
    """Return the heads of a name and of `estimate_cells`."""
    return name, "n", "Mean", "Std", "95% interval"


def estimate_cells(e: Estimate, metric: Metric) -> list[Html]:
    """Return cells of runs, mean, standard deviation and interval."""
    return [
        tag("td", format_count(e.n)),
        tag("td", score_value(e.mean, metric)),
        tag("td", score_value(e.std, metric)),
        tag("td", format_interval(e, metric)),
    ]


def score_cells(e: Estimate, metric: Metric) -> list[Html]:
    """Return cells of runs, mean and standard deviation: of a difference, its own interval is what counts."""
    return estimate_cells(e, metric)[:3]


def difference_cell(gap: Estimate | None, metric: Metric, *, judged: bool = True) -> Html:
    """Return a difference with its interval, coloured by its significance if ``judged``."""
    if gap is None:
        return tag("td", "—")
    said = tag(
        "span", format_difference(gap.mean, metric), class_=TONES[significant(gap, metric)][1] if judged else None
    )
    ends = f" [{format_interval(gap, metric, difference=True)}]"
    return tag("td", said, tag("span", ends, class_="soft") if gap.low is not None else None)


def codec_line(store: object, per_class: float | None = None) -> Html | None:
    """Return the codec in words, to stand below a name; ``None`` if unknown."""
    said = describe_codec(str(store), None if per_class is None else int(per_class)) if store else ""
    return tag("span", said, class_="how") if said else None
