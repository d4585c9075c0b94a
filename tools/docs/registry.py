"""Tables of what Potstill itself registers."""

import re
from pathlib import Path
from typing import Any

from potstill._util.formatting import OPTION_NAMES
from potstill.api.listing import list_codecs, list_methods, list_parametrizations, list_protocols
from potstill.core.registry import resolve
from potstill.methods.engine import PublishedRun
from tools.docs.parts import paper, table

__all__ = ["FAMILIES", "methods", "options", "parametrizations", "protocols"]


FAMILIES = {
    "selection": "Keep real samples",
    "gradient": "Match gradients",
    "distribution": "Match distributions",
    "decoupled": "Recover pictures from a trained network",
    "trajectory": "Match trajectories of training",
    "performance": "Train through training",
    "generative": "Optimise a generator",
}
"""Families in the order in which a reader meets them, by what they do."""


INDEPENDENT = {"none": "together", "deletion": "keep their bits", "separate": "can run apart"}
"""Text in a table for each value of `MethodInfo.class_independence`."""


def _of(family: str) -> list[dict[str, Any]]:
    return [m for m in list_methods(outside=False) if m["family"] == family]


def _heading(method: dict[str, Any]) -> str:
    """With the year, because anchors drop the signs in which two names may differ alone (sre2l, sre2l++)."""
    return f"{method['name']} ({method['year']})"


def _anchor(heading: str) -> str:
    """As GitHub and mkdocs both spell it."""
    return re.sub(r"[^\w\s-]", "", heading).replace(" ", "-").lower()


def methods(root: Path) -> str:
    """A table for each family that has methods, under its heading."""
    parts = []
    for family, does in FAMILIES.items():
        rows: list[list[object]] = []
        for m in _of(family):
            kinds = "anything" if "*" in m["kinds"] else ", ".join(m["kinds"])
            name = f"[`{m['name']}`](../methods/{family}.md#{_anchor(_heading(m))})"
            rows.append(
                [
                    name,
                    m["summary"],
                    "soft" if m["soft_labels"] else "hard",
                    kinds,
                    INDEPENDENT[m["class_independence"]],
                    paper(m["paper"]),
                ]
            )
        if rows:
            body = table(["method", "what it does", "labels", "works on", "classes", "paper"], rows)
            parts.append(f"## {does}\n\nFamily `{family}`. Every option: [{family}](../methods/{family}.md).\n\n{body}")
    return "\n\n".join(parts)


def options(root: Path, family: str) -> str:
    """Every option of a family's methods."""
    parts = []
    for m in _of(family):
        rows: list[list[object]] = [
            [f"`--{OPTION_NAMES.get(o['name'], o['name']).replace('_', '-')}`", f"`{o['default']}`", o["help"]]
            for o in m["options"]
        ]
        about = f"{m['title']} ({m['year']}), {paper(m['paper'])}. {m['summary']}"
        body = table(["option", "default", "what it is"], rows) if rows else "It has no options."
        parts.append(f"## {_heading(m)}\n\n{about}\n\n{body}{_published(m['name'])}")
    return "\n\n".join(parts)


def _published(name: str) -> str:
    """The published runs of a method that has a table of them: what is `None` above is that of the nearest."""
    runs = getattr(resolve("methods", name), "published", {})
    rows: list[list[object]] = [
        [classes, ipc, ", ".join(f"`{n}={v}`" for n, v in run.settings.items()), run.source]
        for (classes, ipc), run in runs.items() if isinstance(run, PublishedRun)
    ]  # fmt: skip
    if not rows:
        return ""
    body = table(["classes", "per class", "settings", "published in"], rows)
    head = "What is `None` above is that of the published run whose classes and items per class are nearest:"
    return f"\n\n{head}\n\n{body}"


def protocols(root: Path) -> str:
    rows: list[list[object]] = [
        [f"`{p['name']}`", p["version"], p["summary"], "yes" if p["optimistic"] else "no", paper(p["paper"])]
        for p in list_protocols(outside=False)
    ]
    return table(["protocol", "version", "what it does", "optimistic", "paper"], rows)


def parametrizations(root: Path) -> str:
    return _settings("parametrization", "what is stored", list_parametrizations(outside=False))


def stores(root: Path) -> str:
    return _settings("store", "how values are written", list_codecs(outside=False))


def _settings(what: str, said: str, parts: list[dict[str, Any]]) -> str:
    rows: list[list[object]] = []
    for p in parts:
        settings = ", ".join(f"`{o['name']}={o['default']}`" for o in p["options"])
        rows.append([f"`{p['name']}`", p["summary"], settings or "none"])
    return table([what, said, "settings"], rows)
