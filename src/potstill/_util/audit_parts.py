"""The parts of an audit: their order, the command of each, and what metadata say of where one applies."""

import shlex
from collections.abc import Mapping
from typing import Any

__all__ = ["PARTS", "audit_command", "part_obstacle"]

PARTS: Mapping[str, str] = {
    "privacy": "potstill audit privacy {file} --data DATA --out {out}",
    "fairness": "potstill audit fairness {file} --data DATA --attribute COLUMN --out {out}",
    "screening": "potstill audit screening {file} --data DATA --positive CLASS --out {out}",
    "robustness": "potstill audit robustness {file} --data DATA --out {out}",
    "poisoning": "potstill audit poisoning {file} --out {out}",
    "provenance": "potstill audit provenance {file} --key KEY --out {out}",
}
"""Command line of each part by its name, in the order of a page."""
_ALL = "potstill audit {file} --data DATA --out {out}"


def audit_command(part: str, file: str) -> str:
    """Return the command line that audits a set and writes the result beside it; of all parts for an empty ``part``."""
    out = f"{file.removesuffix('.safetensors')}.audit.json"
    return PARTS.get(part, _ALL).format(file=shlex.quote(file), out=shlex.quote(out))


def part_obstacle(part: str, metadata: Mapping[str, Any]) -> str | None:
    """Return why a part does not apply to the set with these metadata; ``None``: it may."""
    held = metadata.get("input")
    spec: Mapping[str, Any] = held if isinstance(held, Mapping) else {}
    if part in ("privacy", "fairness", "screening", "robustness", "poisoning") and not metadata.get("classes"):
        return "the set has no classes"
    if part in ("robustness", "poisoning") and spec.get("kind") != "image":
        return "its inputs are no pictures"
    return None
