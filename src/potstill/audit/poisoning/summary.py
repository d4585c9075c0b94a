"""Scores and thresholds of the detectors, and the sentence, tables and notes of an audit of poisoning."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from potstill.audit.poisoning.detectors import anomaly_index
from potstill.audit.result import AuditTable

__all__ = ["NAMES", "THRESHOLDS", "Detection", "detection", "notes", "result_values", "sentence", "tables"]

NAMES = {
    "inversion": "trigger inversion", "spectral": "spectral signature", "clustering": "activation clustering",
    "agreement": "label agreement", "neighbours": "nearest trusted samples",
    "influence": "influence on trusted samples",
}  # fmt: skip
"""Detectors as they are named in text."""
THRESHOLDS = {"inversion": 3.02, "spectral": 0.36, "clustering": 0.34, "agreement": 0.31, "neighbours": 0.34,
              "influence": 0.52}  # fmt: skip
"""Scores above which a detector points to a class: the largest of 36 clean sets of ``digits`` with 10 items per class,
rounded up (`benchmarks/trust/poisoning.py --calibrate`). The paper's 2 for inversion is passed by 11 of these."""
_UNITS = {
    "inversion": "pixels of the smallest mask", "spectral": "share of variance in one direction",
    "clustering": "silhouette of two clusters", "agreement": "probability of other classes",
    "neighbours": "share of other classes", "influence": "error on trusted samples that an item adds, in mean shares",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Detection:
    """Result of one detector."""

    name: str
    score: float
    by_class: Sequence[float | None]
    worst: int
    """Class that the score is of."""
    items: Sequence[int]
    """Items of that class which the detector points to, worst first."""
    success: float | None = None
    """Least share of pictures, over classes, that a mask turns into its class; inversion only."""

    @property
    def threshold(self) -> float:
        return THRESHOLDS[self.name]

    @property
    def flagged(self) -> bool:
        return self.score > self.threshold


def detection(
    name: str, by_class: Sequence[float | None], items: Callable[[int], Sequence[int]], success: float | None = None
) -> Detection:
    """Return the result of a detector from its values by class.

    The score of inversion is the anomaly index of the smallest mask; of others, the largest value less the median of
    the classes that have one.
    """
    here = [(c, value) for c, value in enumerate(by_class) if value is not None]
    values = torch.tensor([value for _, value in here], dtype=torch.float64)
    over = anomaly_index(values) if name == "inversion" else values - values.quantile(0.5)
    at = int(over.argmax())
    worst = here[at][0]
    return Detection(
        name=name, score=float(over[at]), by_class=list(by_class), worst=worst, items=list(items(worst)),
        success=success,
    )  # fmt: skip


def result_values(
    detections: Sequence[Detection], skipped: Mapping[str, str], classes: Sequence[str], items: int
) -> dict[str, Any]:
    """Return the results as JSON values."""
    flagged = [one for one in detections if one.flagged]
    return {
        "flagged": bool(flagged), "n": items,
        "classes": sorted({classes[one.worst] for one in flagged}),
        "items": sorted({item for one in flagged for item in one.items}),
        "detectors": {
            one.name: {
                "score": one.score, "threshold": one.threshold, "flagged": one.flagged, "class": classes[one.worst],
                "by_class": list(one.by_class), "items": list(one.items),
                **({} if one.success is None else {"success": one.success}),
            }
            for one in sorted(detections, key=lambda one: list(NAMES).index(one.name))
        },
        "skipped": dict(skipped),
    }  # fmt: skip


def sentence(values: Mapping[str, Any]) -> str:
    """Return the answer: which detectors are above their threshold, and at which class."""
    found = values["detectors"]
    if not found:
        return "Nothing was looked at: no detector can say anything of this set."
    above = {name: one for name, one in found.items() if one["flagged"]}
    if not above:
        of = f"All {len(found)} detectors are" if len(found) > 1 else "The one detector is"
        return (
            f"{of} below {'their' if len(found) > 1 else 'its'} threshold: nothing points to a poisoned class. That is "
            "no proof that there is none."
        )
    said = "; ".join(
        f"{NAMES[name]}, class {one['class']}: {one['score']:.2f} above {one['threshold']:g}"
        for name, one in above.items()
    )
    many = f"{len(above)} of {len(found)} detectors {'is' if len(above) == 1 else 'are'} above the threshold"
    hint = "look at these items before anything is trained on them" if values["items"] else "look at that class"
    return f"{many} ({said}): {hint}. Clean sets are flagged, too, at the rates in the guide."


def tables(values: Mapping[str, Any], classes: Sequence[str]) -> list[AuditTable]:
    """Return the scores, and the values by class behind them."""
    rows = [
        [
            NAMES[name], f"{one['score']:.2f}", f"{one['threshold']:g}", "above" if one["flagged"] else "below",
            one["class"], ", ".join(map(str, one["items"])) if one["flagged"] else "",
        ]
        for name, one in values["detectors"].items()
    ]  # fmt: skip
    by_class = [
        [name, *("" if one["by_class"][c] is None else f"{one['by_class'][c]:.2f}"
                 for one in values["detectors"].values())]
        for c, name in enumerate(classes)
    ]  # fmt: skip
    head = [NAMES[name] for name in values["detectors"]]
    return [
        AuditTable(
            caption="Detectors", rows=rows,
            head=["detector", "score", "threshold", "", "most suspicious class", "its suspicious items"],
        ),
        AuditTable(caption="By class", head=["class", *head], rows=by_class),
    ] if rows else []  # fmt: skip


def notes(values: Mapping[str, Any], selected: bool) -> list[str]:
    """Return what was left out, and limits of the numbers."""
    found = values["detectors"]
    said = [f"Left out: {NAMES[name]}, which {why}." for name, why in values["skipped"].items()]
    if found.get("inversion", {}).get("success", 1.0) < 0.9:
        said.append(
            f"Trigger inversion: for one class the mask turns only {100 * found['inversion']['success']:.0f} % of the "
            "pictures into it, so that sizes compare badly; give it more steps (inversion steps)."
        )
    if found:
        said.append("By class: " + "; ".join(f"{NAMES[name]}, {_UNITS[name]}" for name in found) + ".")
        said.append(
            "The score of trigger inversion is the anomaly index of the smallest mask; that of the others is the "
            "largest value of a class less the median class. Items are numbered from 0. Thresholds are the largest "
            "scores of clean sets of digits with 10 items per class; other data and sizes may have others."
        )
    said.append(
        "Looked for is a visible trigger or a class with foreign items. Triggers that are optimised with the set, "
        "spread over classes or put into captions can pass all of this."
    )
    if selected:
        said.append("This set is a selection of real samples: if they are of the trusted data, agreement says nothing.")
    return said
