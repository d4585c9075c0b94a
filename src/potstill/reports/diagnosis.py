"""A set's diagnostics in sentences and tables, for a terminal and for a section of its page.

They are read from a file, so that a part may be missing or of another form: what cannot be read is a dash.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from potstill._util.html import Html, tag
from potstill.reports.numbers import (
    ACCURACY,
    Estimate,
    format_difference,
    format_interval,
    format_percent,
    format_score,
    to_estimate,
    to_number,
)
from potstill.reports.tables import row, table
from potstill.tasks.metric import Metric

__all__ = ["Table", "describe_diagnosis", "diagnosis_section", "is_study"]

_SHOWN = 12
"""Maximum rows of a table of items."""


class Table(NamedTuple):
    """A table of a diagnosis; the first cell of a row names it."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[object]]


Block: TypeAlias = str | Table


def is_study(value: object) -> bool:
    """Return True for JSON that `potstill diagnose` writes."""
    return isinstance(value, dict) and str(value.get("format", "")).startswith("potstill/study/")


def diagnosis_section(study: Mapping[str, Any] | None, of: str = "") -> list[Html] | None:
    """Return every computed part as HTML; ``None`` without diagnostics. All text of data is escaped as it enters.

    Args:
        of: whose they are, on pages with several sets.
    """
    if study is None:
        return None
    return [
        tag("p", block)
        if isinstance(block, str)
        else table(
            block.caption, block.head, [row(*(tag("bdi", str(cell)) for cell in cells)) for cells in block.rows], of=of
        )
        for block in describe_diagnosis(study)
    ]


def describe_diagnosis(study: Mapping[str, Any]) -> list[Block]:
    """Return every computed part of `potstill.diagnose`'s result, in sentences and tables."""
    parts, asked, recipe = (_of(study, key) for key in ("parts", "asked", "recipe"))
    head = (
        f"Students are {study.get('network')}, {recipe.get('students')} of each training set, {recipe.get('steps')} "
        f"updates at {_plain(recipe.get('lr'))}; they are asked about {asked.get('samples')} samples of the "
        f"{asked.get('part')} part. Nothing was chosen by these numbers."
    )
    blocks = [block for name, write in _WRITERS.items() if (part := _of(parts, name)) for block in write(part)]
    return [head, *blocks, *(f"Left out: {name}, as {why}." for name, why in _of(study, "left_out").items())]


def _of(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = value.get(key)
    return found if isinstance(found, Mapping) else {}


def _rows(value: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = value.get(key)
    return [entry for entry in found if isinstance(entry, Mapping)] if isinstance(found, list) else []


def _share(value: object) -> str:
    found = to_estimate(value)
    return format_percent(None if found is None else found.mean)


def _plain(value: object) -> str:
    found = to_estimate(value)
    return "—" if found is None else f"{found.mean:.4g}"


def _gap(gap: Estimate | None, metric: Metric = ACCURACY) -> str:
    if gap is None:
        return "—"
    ends = "" if gap.low is None else f" [{format_interval(gap, metric, difference=True)}]"
    return f"{format_difference(gap.mean, metric)}{ends}"


def _nearest(part: Mapping[str, Any]) -> list[Block]:
    text = (
        f"Copies of training samples: {part.get('exact')} exact, {part.get('near')} nearer than "
        f"{_plain(part.get('within'))} times the usual distance of a real sample to its nearest other "
        f"({_plain(part.get('usual'))})."
    )
    text += " The set is a selection, so that copies are what it is made of." if part.get("selected") else ""
    if test := _of(part, "test"):
        text += f" Of test samples: {test.get('exact')} exact, {test.get('near')} near."
    if (other := to_number(part.get("other_class"))) is not None:
        text += f" Nearest to a sample of another class: {other:.0f}."
    items = sorted(_rows(part, "items"), key=lambda i: (not i.get("copy"), to_number(i.get("distance")) or 0.0))
    rows = [
        [i.get("item"), i.get("class", "—"), i.get("sample"), i.get("sample_class", "—"), _plain(i.get("distance")),
         _plain(i.get("relative")), i.get("copy") or "no"]
        for i in items[:_SHOWN]
    ]  # fmt: skip
    head = ["Item", "Class", "Nearest sample", "Its class", "Distance", "Of what is usual", "Copy"]
    return [text, Table("Items nearest to real samples", head, rows)]


def _likeness(part: Mapping[str, Any]) -> list[Block]:
    words = {
        "frechet": "Fréchet distance (FID)", "kernel": "kernel distance (KID)", "precision": "precision",
        "recall": "recall", "density": "density", "coverage": "coverage",
    }  # fmt: skip
    sides = [_of(part, "set"), _of(part, "random")]
    rows = [[text, *(_plain(side.get(name)) for side in sides)] for name, text in words.items() if name in sides[0]]
    if not rows:
        return ["Likeness: it needs two items at least, and networks of real data that did not diverge."]
    gap = to_estimate(part.get("difference"))
    ends = "" if gap is None or gap.low is None or gap.high is None else f" [{gap.low:+.3g}, {gap.high:+.3g}]"
    less = "" if gap is None else f" Kernel distance of the set less that of random samples: {gap.mean:+.3g}{ends}."
    text = (
        f"Likeness of {part.get('items')} items to {part.get('real')} samples of the {part.get('part')} part, in "
        f"features of {part.get('networks')} networks of real data, beside as many random training samples: distances "
        f"depend on the number of items.{less}"
    )
    text += " The set is a selection, so that it is as like as samples can be." if part.get("selected") else ""
    caption = f"Likeness to real samples; balls reach {part.get('neighbours')} neighbours"
    return [text, Table(caption, ["Metric", "The set", "As many real samples"], rows)]


def _labeller(part: Mapping[str, Any]) -> list[Block]:
    text = (
        f"Networks of real data take {_share(part.get('agreement'))} of the items for what they are labelled, and "
        f"{_share(part.get('real'))} of real samples ({part.get('networks')} networks, {part.get('steps')} updates)."
    )
    others = [
        f"item {o.get('item')} ({o.get('class')}) for {o.get('taken_for')}" for o in _rows(part, "taken_for_another")
    ]
    if others:
        more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        text += f" Taken for another class: {', '.join(others[:_SHOWN])}{more}."
    rows = [[r.get("steps"), _share(r.get("items")), _share(r.get("real"))] for r in _rows(part, "curve")]
    return [text, Table("Items that networks of real data read", ["After updates", "Items", "Real samples"], rows)]


def _calibration(part: Mapping[str, Any]) -> list[Block]:
    rows = [
        [name, *(_share(_of(part, key).get(of)) for of in ("ece", "confidence", "accuracy"))]
        for name, key in (("The set", "set"), ("As many real samples", "random"))
    ]
    text = (
        f"Calibration error of the set less that of real samples: {_gap(to_estimate(part.get('difference')))} points."
    )
    caption = f"Calibration error over {part.get('bins')} bins of equal width"
    return [text, Table(caption, ["Students of", "Calibration error", "Confidence", "Accuracy"], rows)]


def _mixing(part: Mapping[str, Any]) -> list[Block]:
    metric, rows = Metric.from_scorecard({"score": part.get("metric")}), []
    for r in _rows(part, "curve"):
        means = [to_estimate(r.get(key)) for key in ("with_set", "real_alone", "real_instead")]
        scores = [format_score(None if m is None else m.mean, metric) for m in means]
        rows.append([r.get("k"), *scores, _gap(to_estimate(r.get("difference")), metric)])
    head = [
        f"Real samples per {part.get('per')}", "With the set", "Alone", "With real ones in its place",
        f"Set less real, {metric.difference_unit}",
    ]  # fmt: skip
    return [Table(f"Mixed with real samples: {metric.column_title}", head, rows)]


def _agreement(part: Mapping[str, Any]) -> list[Block]:
    peak, subset, early = (_of(part, key) for key in ("peak", "subset", "early"))
    if not peak:
        return ["Agreement: all students of the set diverged."]
    text = (
        f"Students of the set agree most, {_share(peak.get('agreement'))}, with networks of real data that were "
        f"stopped after {peak.get('steps')} updates. Their accuracy is {_share(part.get('accuracy'))}; among "
        f"themselves they agree in {_share(part.get('among'))}."
    )
    if subset:
        text += (
            f" At the nearest accuracy: {_share(early.get('agreement'))} with networks stopped after "
            f"{early.get('steps')} ({_share(early.get('accuracy'))}), {_share(subset.get('agreement'))} with networks "
            f"of {subset.get('items')} random real samples ({_share(subset.get('accuracy'))}); difference "
            f"{_gap(to_estimate(part.get('gap')))} points."
        )
    rows = [[r.get("steps"), _share(r.get("accuracy")), _share(r.get("agreement"))] for r in _rows(part, "curve")]
    head = ["Stopped after updates", "Its accuracy", "Agreement"]
    return [text, Table("Agreement with networks stopped early", head, rows)]


def _curvature(part: Mapping[str, Any]) -> list[Block]:
    rows = []
    for name, key in (("The set", "set"), ("As many real samples", "random")):
        for on, what in (("real", "real samples"), ("set", "the set")):
            m = _of(_of(part, key), on)
            error = f" ± {_plain(m['trace_error'])}" if m.get("trace_error") is not None else ""
            top = _plain(m.get("eigenvalue")) + (" (not settled)" if m.get("settled") is False else "")
            rows.append([name, what, _plain(m.get("loss")), _plain(m.get("trace")) + error, top])
    head = ["Students of", "Loss on", "Loss", "Trace of its Hessian", "Largest eigenvalue"]
    ratio = f" On real samples the set's trace is {_plain(part.get('ratio'))} times that of real samples."
    text = f"Curvature over {part.get('vectors')} random vectors.{'' if part.get('ratio') is None else ratio}"
    return [text, Table("Curvature of the loss where students end", head, rows)]


def _influence(part: Mapping[str, Any]) -> list[Block]:
    known = [i for i in _rows(part, "items") if i.get("loss") is not None]
    rows = [
        [" ".join(map(str, i.get("items", [])[:6])), i.get("class", "—"), _plain(i.get("loss")),
         "yes" if i.get("told") else "no", ", ".join(dict.fromkeys(str(s.get("class")) for s in _rows(i, "samples")))]
        for i in (known if len(known) <= _SHOWN else [*known[: _SHOWN // 2], *known[-_SHOWN // 2 :]])
    ]  # fmt: skip
    text = (
        f"Loss that real samples gain when an item is left out, in {part.get('groups')} trainings of "
        f"{part.get('students')} students: above zero the item helps. Loss with all {_plain(part.get('loss'))}, "
        f"deviation between students {_plain(part.get('noise'))}. Told from zero: {part.get('helps')} help, "
        f"{part.get('harms')} harm."
    )
    head = ["Left out", "Class", "Loss without it", "Told from zero", "Most for samples of"]
    return [text, Table("Influence of items", head, rows)]


def _zero_shot(part: Mapping[str, Any]) -> list[Block]:
    """Return the accuracies by kind of texts, and what descriptions gain over names and over random words."""
    kinds = [kind for kind in ("names", "descriptions", "random words") if _of(_of(part, "set"), kind)]
    rows = [[kind.capitalize(), *(_share(_of(_of(part, key), kind)) for key in ("set", "random"))] for kind in kinds]
    gaps = [f"{name} {_gap(to_estimate(gap))} points" for name, gap in _of(part, "difference").items()]
    classes = part.get("classes")
    text = (
        f"Mean of the classes' accuracies on {part.get('pictures')} pictures of "
        f"{len(classes) if isinstance(classes, list) else '?'} classes, of which chance finds "
        f"{_share(part.get('chance'))}. Differences: {'; '.join(gaps)}."
    )
    head = ["Texts of a class", "The set", "As many real pairs"]
    return [text, Table("Zero-shot classification", head, rows)]


_WRITERS: Mapping[str, Callable[[Mapping[str, Any]], list[Block]]] = {
    "nearest": _nearest, "likeness": _likeness, "labeller": _labeller, "calibration": _calibration, "mixing": _mixing,
    "agreement": _agreement, "curvature": _curvature, "influence": _influence,
    "zero-shot": _zero_shot,
}  # fmt: skip
