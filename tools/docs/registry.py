"""Tables of what Potstill itself registers."""

import re
import textwrap
from pathlib import Path
from typing import Any

from potstill.api.listing import list_codecs, list_methods, list_protocols
from potstill.core.registry import resolve
from potstill.methods.engine import PublishedRun
from tools.docs.parts import paper, table

__all__ = ["FAMILIES", "MENU", "methods", "protocols", "published_runs", "traits", "with_links"]


FAMILIES = {
    "selection": "Keep real samples",
    "gradient": "Match gradients",
    "distribution": "Match distributions",
    "decoupled": "Recover pictures from a trained network",
    "trajectory": "Match trajectories of training",
    "performance": "Train through training",
    "generative": "Sample a diffusion model",
}
"""Families in the order in which a reader meets them, by what they do."""

MENU = {
    "selection": "Selection", "gradient": "Gradients", "distribution": "Distributions", "decoupled": "Decoupled",
    "trajectory": "Trajectories", "performance": "Through training", "generative": "Generators",
}  # fmt: skip
"""Entry of each family in the menu."""
PREPARES = {
    "num_experts": "experts",
    "diffusion_updates": "a diffusion model",
    "teacher_epochs": "a teacher",
    "teacher_steps": "a teacher",
    "record_epochs": "a recorded run",
    "pretrained_networks": "networks",
    "pretrain_epochs": "a network",
}
"""Text about what a method trains before its first step, by a field that only such methods have."""
NEEDLESS = {("embedders", "fresh"), ("features", "input"), ("features", "untrained")}
"""Defaults with which nothing is made before the first step."""


def traits(row: dict[str, Any]) -> dict[str, str]:
    """Return what a method's items, labels and data are, and what it makes first, in few words each."""
    defaults = {option["name"]: option["default"] for option in row["options"]}
    fields = [] if NEEDLESS & set(defaults.items()) else [*defaults]
    return {
        "items": "real" if row["is_selection"] else "new",
        "labels": "soft" if row["soft_labels"] else "hard",
        "works on": "anything" if "*" in row["kinds"] else ", ".join(row["kinds"]),
        "trains first": next((text for field, text in PREPARES.items() if field in fields), "nothing"),
    }


def methods(root: Path) -> str:
    """Return a table for each family that has methods, under its heading."""
    parts = []
    for family, does in FAMILIES.items():
        rows: list[list[object]] = [
            [
                f"[`{m['name']}`](../method/{m['name'].replace('+', 'p')}.md)", m["summary"], *traits(m).values(),
            ]
            for m in list_methods(outside=False)
            if m["family"] == family
        ]  # fmt: skip
        if rows:
            head: list[object] = ["method", "what it does", *_TRAITS]
            parts.append(f"## {does}\n\nFamily [{family}](../methods/{family}.md).\n\n{table(head, rows)}")
    return "\n\n".join(parts)


_TRAITS = ("items", "labels", "works on", "trains first")


ORDINARY = {
    "random",
    "real",
    "margin",
    "entropy",
    "forgetting",
    "moderate",
    "stratified",
    "herding",
    "dream",
    "remember",
    "dance",
}
"""Names of methods that are also words of a sentence."""


def with_links(text: str, folder: str = "") -> str:
    """Return a sentence whose options stand as code and whose methods link to their pages in a folder."""
    names = sorted((row["name"] for row in list_methods(outside=False)), key=len, reverse=True)
    known = "|".join(re.escape(name) for name in names if name not in ORDINARY)
    linked = re.sub(
        rf"(?<![\w+\[-])(?:{known})(?![\w+\]-])",
        lambda found: f"[`{found[0]}`]({folder}{found[0].replace('+', 'p')}.md)",
        text,
    )
    return re.sub(r"(?<!\w)--[a-z-]+(?: frequency)?", lambda found: f"`{found[0]}`", linked)


def published_runs(name: str, *, folded: bool = False) -> str:
    """Return the published runs of a method that has a table of them: one left to the data is that of the nearest."""
    runs = getattr(resolve("methods", name), "published", {})
    rows: list[list[object]] = [
        [classes, ipc, ", ".join(f"`{n}={v}`" for n, v in run.settings.items()), run.source]
        for (classes, ipc), run in runs.items() if isinstance(run, PublishedRun)
    ]  # fmt: skip
    if not rows:
        return ""
    body = table(["classes", "per class", "settings", "published in"], rows)
    head = (
        "*By the data* means, in every preset: the value of the run below whose classes and items per class are "
        "nearest. Start epochs that a preset's shorter experts do not reach are cut, and the run says so."
    )
    text = f"{head}\n\n{body}"
    return f'??? note "{len(rows)} published runs"\n\n' + textwrap.indent(text, "    ") if folded else text


def protocols(root: Path) -> str:
    rows: list[list[object]] = [
        [f"`{p['name']}`", p["version"], p["summary"], "yes" if p["optimistic"] else "no", paper(p["paper"])]
        for p in list_protocols(outside=False)
    ]
    return table(["protocol", "version", "what it does", "optimistic", "paper"], rows)


def stores(root: Path) -> str:
    return _settings("store", "how values are written", list_codecs(outside=False))


def _settings(what: str, said: str, parts: list[dict[str, Any]]) -> str:
    rows: list[list[object]] = []
    for p in parts:
        settings = ", ".join(f"`{o['name']}={o['default']}`" for o in p["options"])
        rows.append([f"`{p['name']}`", p["summary"], settings or "none"])
    return table([what, said, "settings"], rows)
