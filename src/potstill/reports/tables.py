"""Tables of a page, and cells of scores."""

from collections.abc import Sequence

from potstill._util.formatting import describe_codec
from potstill._util.html import Html, tag
from potstill.reports.drawings import labelled, scroll_box
from potstill.reports.figures import value
from potstill.reports.numbers import (
    Estimate,
    format_count,
    format_difference,
    format_interval,
    format_score,
    significant,
)
from potstill.tasks.metric import Metric

__all__ = ["TONES", "bare_table", "codec_line", "difference_cell", "estimate_cells", "table"]

TONES = {1: ("good", "better"), 0: ("unsure", "open"), -1: ("bad", "worse")}


def bare_table(caption: str, head: Sequence[str], body: Sequence[Html], **attributes: str) -> Html:
    """Return a table with an accessible caption."""
    cells = [tag("th", name, scope="col") for name in head]
    return tag("table", tag("caption", caption), tag("thead", tag("tr", *cells)), tag("tbody", *body), **attributes)


def table(caption: str, head: Sequence[str], body: Sequence[Html], *, narrow: bool = False, of: str = "") -> Html:
    """Return a table that scrolls inside its own box; ``of`` says whose it is."""
    return scroll_box(bare_table(caption, head, body), labelled(caption, of), narrow=narrow)


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
        "span", format_difference(gap.mean, metric), class_=TONES[significant(gap, metric)][1] if judged else None
    )
    ends = f" [{format_interval(gap, metric, difference=True)}]"
    return tag("td", said, tag("span", ends, class_="soft") if gap.low is not None else None)


def codec_line(store: object, per_class: float | None = None) -> Html | None:
    """Return the codec in words, to stand below a name; ``None`` if unknown."""
    said = describe_codec(str(store), None if per_class is None else int(per_class)) if store else ""
    return tag("span", said, class_="how") if said else None
