"""A set's diagnostics as a section of its page. All text of data is escaped as it enters."""

from collections.abc import Mapping, Sequence
from typing import Any

from potstill._util.html import Html, tag
from potstill.reports.numbers import format_interval, format_percent, format_score, to_estimate, to_number
from potstill.reports.tables import table
from potstill.tasks.metric import Metric

__all__ = ["is_study", "study_section"]

_SHOWN = 12


def is_study(value: object) -> bool:
    """Return True for JSON that `potstill diagnose` writes."""
    return isinstance(value, dict) and str(value.get("format", "")).startswith("potstill/study/")


def study_section(study: Mapping[str, Any] | None, of: str = "") -> list[Html] | None:
    """Return every computed part, with a sentence on its method; ``None`` without diagnostics.

    Args:
        of: whose they are, on pages with several sets.
    """
    if study is None:
        return None
    parts, asked, recipe = (_of(study, key) for key in ("parts", "asked", "recipe"))
    head = (
        f"Students are {study.get('network')}, {recipe.get('students')} of each training set, {recipe.get('steps')} "
        f"updates; they are asked about {asked.get('samples')} samples of the {asked.get('part')} part. Nothing was "
        "chosen by these numbers."
    )
    made = [tag("p", head, class_="soft")]
    for name, write in _WRITERS.items():
        if part := _of(parts, name):
            made += write(part, of)
    left = _of(study, "left_out")
    return [*made, *(tag("p", f"Left out: {name}, as {why}.", class_="note") for name, why in left.items())]


def _of(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = value.get(key)
    return found if isinstance(found, Mapping) else {}


def _rows(value: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = value.get(key)
    return [row for row in found if isinstance(row, Mapping)] if isinstance(found, list) else []


def _table(of: str, caption: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> Html:
    body = [
        tag("tr", tag("th", tag("bdi", str(first)), scope="row"), *(tag("td", tag("bdi", str(c))) for c in rest))
        for first, *rest in rows
    ]
    return table(caption, head, body, of=of)


def _share(value: object) -> str:
    found = to_estimate(value)
    return format_percent(None if found is None else found.mean)


def _plain(value: object) -> str:
    found = to_estimate(value)
    return "—" if found is None else f"{found.mean:.4g}"


def _nearest(part: Mapping[str, Any], of: str) -> list[Html]:
    items = sorted(_rows(part, "items"), key=lambda i: to_number(i.get("distance")) or 0.0)
    said = (
        f"Copies of training samples: {part.get('exact')} exact, {part.get('near')} nearer than half of what is usual."
    )
    said += " The set is a selection, so that copies are what it is made of." if part.get("selected") else ""
    if test := _of(part, "test"):
        said += f" Of test samples: {test.get('exact')} exact, {test.get('near')} near."
    rows = [
        [i.get("item"), i.get("class", "—"), i.get("sample"), i.get("sample_class", "—"), _plain(i.get("distance")),
         _plain(i.get("relative")), i.get("copy") or "no"]
        for i in items[:_SHOWN]
    ]  # fmt: skip
    head = ["Item", "Class", "Nearest sample", "Its class", "Distance", "Of what is usual", "Copy"]
    return [tag("p", said), _table(of, "Items nearest to real samples", head, rows)]


def _labeller(part: Mapping[str, Any], of: str) -> list[Html]:
    said = (
        f"Networks of real data take {_share(part.get('agreement'))} of the items for what they are labelled, and "
        f"{_share(part.get('real'))} of real samples."
    )
    rows = [
        [r.get("steps"), format_percent(to_number(r.get("items"))), format_percent(to_number(r.get("real")))]
        for r in _rows(part, "curve")
    ]
    return [tag("p", said), _table(of, "Who reads the items", ["After updates", "Items", "Real samples"], rows)]


def _calibration(part: Mapping[str, Any], of: str) -> list[Html]:
    rows = [
        [name, _share(_of(part, key).get("ece")), format_percent(to_number(_of(part, key).get("confidence"))),
         format_percent(to_number(_of(part, key).get("accuracy")))]
        for name, key in (("The set", "set"), ("As many real samples", "random"))
    ]  # fmt: skip
    caption = f"Calibration error over {part.get('bins')} bins of equal width"
    return [_table(of, caption, ["Students of", "Calibration error", "Confidence", "Accuracy"], rows)]


def _mixing(part: Mapping[str, Any], of: str) -> list[Html]:
    metric, rows = Metric.from_scorecard({"score": part.get("metric")}), []
    for r in _rows(part, "curve"):
        means = [to_estimate(r.get(key)) for key in ("with_set", "real_alone", "real_instead", "difference")]
        gap = means[3]
        said = (
            "—"
            if gap is None
            else f"{metric.format_difference(gap.mean)} ({format_interval(gap, metric, difference=True)})"
        )
        rows.append([r.get("k"), *(format_score(None if m is None else m.mean, metric) for m in means[:3]), said])
    head = [
        f"Real samples per {part.get('per')}", "With the set", "Alone", "With real ones in its place",
        f"Set less real, {metric.difference_unit}",
    ]  # fmt: skip
    return [_table(of, f"Mixed with real samples: {metric.column_title}", head, rows)]


def _agreement(part: Mapping[str, Any], of: str) -> list[Html]:
    peak, subset, early = (_of(part, key) for key in ("peak", "subset", "early"))
    if not peak:
        return []
    said = (
        f"Students of the set agree most, {_share(peak.get('agreement'))}, with networks of real data that were "
        f"stopped after {peak.get('steps')} updates."
    )
    if subset:
        said += (
            f" At the nearest accuracy: {_share(early.get('agreement'))} with networks stopped early, "
            f"{_share(subset.get('agreement'))} with networks of {subset.get('items')} random real samples."
        )
    rows = [
        [r.get("steps"), format_percent(to_number(r.get("accuracy"))), _share(r.get("agreement"))]
        for r in _rows(part, "curve")
    ]
    return [
        tag("p", said),
        _table(
            of, "Agreement with networks stopped early", ["Stopped after updates", "Its accuracy", "Agreement"], rows
        ),
    ]


def _curvature(part: Mapping[str, Any], of: str) -> list[Html]:
    rows = []
    for name, key in (("The set", "set"), ("As many real samples", "random")):
        for on, what in (("real", "real samples"), ("set", "the set")):
            m = _of(_of(part, key), on)
            rows.append([name, what, *(_plain(m.get(of_it)) for of_it in ("loss", "trace", "eigenvalue"))])
    head = ["Students of", "Loss on", "Loss", "Trace of its Hessian", "Largest eigenvalue"]
    return [_table(of, "Curvature of the loss where students end", head, rows)]


def _influence(part: Mapping[str, Any], of: str) -> list[Html]:
    rows = [
        [" ".join(map(str, i.get("items", [])[:6])), i.get("class", "—"), _plain(i.get("loss")),
         "yes" if i.get("told") else "no"]
        for i in _rows(part, "items")
    ]  # fmt: skip
    rows = rows if len(rows) <= _SHOWN else [*rows[: _SHOWN // 2], *rows[-_SHOWN // 2 :]]
    said = (
        f"Loss that real samples gain when an item is left out: above zero the item helps. Told from zero: "
        f"{part.get('helps')} help, {part.get('harms')} harm."
    )
    return [
        tag("p", said),
        _table(of, "Influence of items", ["Left out", "Class", "Loss without it", "Told from zero"], rows),
    ]


_WRITERS = {
    "nearest": _nearest, "labeller": _labeller, "calibration": _calibration, "mixing": _mixing,
    "agreement": _agreement, "curvature": _curvature, "influence": _influence,
}  # fmt: skip
