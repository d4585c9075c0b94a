"""The result of all networks: a row for each way, paired intervals over networks, and what they show."""

from collections.abc import Mapping
from typing import Any

from potstill.evaluation.statistics import paired_difference, summary
from potstill.uses.gaps import gap_in_points, side_of

__all__ = ["WAYS", "conclude"]

WAYS = ("none", "raw", "weights", "adapted", "both parts", "both parts, raw")
"""No augmentation; as it is; with weights alone; with weights and labels; trained on both parts without and with it."""
PAIRS = {
    "augmentation": ("raw", "none"), "adapting": ("adapted", "raw"), "adapted": ("adapted", "none"),
    "both parts": ("both parts", "adapted"), "both parts, raw": ("both parts, raw", "adapted"),
}  # fmt: skip
"""Differences that the sentences state: the first way minus the second."""


def conclude(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``rows``, ``differences``, ``zero``, a ``verdict`` and ``sentences`` of a result."""
    cells = result["cells"]
    values = {way: [float(c["accuracy"]) for c in cells if c["way"] == way] for way in WAYS}
    tested = result["test_samples"]
    rows = [
        {
            "way": way, "accuracy": summary(values[way], tested),
            **({} if way == "none" else {"difference": paired_difference(values[way], values["none"])}),
        }
        for way in WAYS
    ]  # fmt: skip
    gaps = {name: paired_difference(values[a], values[b]) for name, (a, b) in PAIRS.items()}
    zero = [float(c["zero"]) for c in cells if c["zero"] is not None]
    verdict = {name: side_of(gap) for name, gap in gaps.items()}
    return {
        "rows": rows, "differences": gaps, "zero": sum(zero) / len(zero), "verdict": verdict,
        "sentences": _sentences(result, gaps, verdict),
    }  # fmt: skip


def _sentences(
    result: Mapping[str, Any], gaps: Mapping[str, Mapping[str, Any]], sides: Mapping[str, str]
) -> list[str]:  # fmt: skip
    """Return whether the augmentation helps, whether adapting does, and what the validation samples are worth."""
    unclear = "not told apart"
    helps = {"above": "it helps", "below": "it does harm"}
    adapting = {"above": "adapting improves it", "below": "adapting makes it worse"}
    advice = {"above": "train on both where you may", "below": "adapt instead"}
    for texts in (helps, adapting, advice):
        texts["untested"] = "two networks or more would tell"
    return [
        f"The augmentation {result['augmentation']} changes accuracy by {gap_in_points(gaps['augmentation'])}: "
        f"{helps.get(sides['augmentation'], unclear)}.",
        f"Adapting its weights and labels by validation data changes that by {gap_in_points(gaps['adapting'])}: "
        f"{adapting.get(sides['adapting'], unclear)}. Beside no augmentation it is {gap_in_points(gaps['adapted'])}.",
        "Training on training and validation data, without the augmentation, is "
        f"{gap_in_points(gaps['both parts'])} beside adapting, and with it as it is "
        f"{gap_in_points(gaps['both parts, raw'])}: {advice.get(_best(sides), unclear)}.",
    ]


def _best(sides: Mapping[str, str]) -> str:
    """Return on which side of adapting the better way to train on both parts is."""
    pair = sides["both parts"], sides["both parts, raw"]
    return next((side for side in ("above", "untested", "not told apart") if side in pair), "below")
