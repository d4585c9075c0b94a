"""Words for the privacy claim in the metadata of a set, which may be a stranger's."""

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["NO_CLAIM", "describe_coverage", "describe_privacy", "privacy_claim"]

NO_CLAIM = "no formal privacy"
_LARGEST = 1e9
"""Largest ε that is read as a number."""


def privacy_claim(metadata: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return ε and δ that the metadata claim; ``None`` without valid numbers."""
    claim = metadata.get("privacy")
    if not isinstance(claim, Mapping):
        return None
    epsilon, delta = claim.get("epsilon"), claim.get("delta")
    for value in (epsilon, delta):
        if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > _LARGEST:
            return None
    return (float(epsilon), float(delta)) if 0 < epsilon < math.inf and 0 <= delta < 1 else None  # type: ignore[operator, arg-type]


def describe_privacy(metadata: Mapping[str, Any]) -> str:
    """Return the claim in words, such as ``ε = 1, δ = 1e-05 (add or remove one record; …)``."""
    claim = privacy_claim(metadata)
    if claim is None:
        return NO_CLAIM
    facts = [str(metadata["privacy"][name]) for name in ("neighbours", "mechanism") if metadata["privacy"].get(name)]
    return f"ε = {claim[0]:g}, δ = {claim[1]:g}" + (f" ({'; '.join(facts)})" if facts else "")


def describe_coverage(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Return names of what ε covers, what is public and what was not done, in words; empty without a claim."""
    if privacy_claim(metadata) is None or not isinstance(entries := metadata["privacy"].get("covers"), list):
        return {}
    names_by_way: dict[str, list[str]] = {}
    for entry in entries:
        if isinstance(entry, Mapping) and isinstance(entry.get("how"), str) and isinstance(entry.get("what"), str):
            names_by_way.setdefault(entry["how"], []).append(entry["what"])
    return {how: ", ".join(names) for how, names in names_by_way.items()}
