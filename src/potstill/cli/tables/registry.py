"""Tables of what is registered."""

from pathlib import Path

from potstill.cli.tables.parts import paper, table
from potstill.listings import list_methods, list_parametrizations, list_protocols

__all__ = ["methods", "options", "parametrizations", "protocols"]


def methods(root: Path) -> str:
    rows: list[list[object]] = []
    for m in list_methods():
        kinds = "anything" if "*" in m["kinds"] else ", ".join(m["kinds"])
        keeps = ("real samples" if m["selects"] else "new samples") + (", soft labels" if m["soft"] else "")
        rows.append([f"`{m['name']}`", m["family"], m["summary"], keeps, kinds, paper(m["paper"])])
    return table(["method", "family", "what it does", "what it keeps", "works on", "paper"], rows)


def options(root: Path) -> str:
    parts = []
    for m in list_methods():
        rows: list[list[object]] = [
            [f"`--{o['name'].replace('_', '-')}`", f"`{o['default']}`", o["help"]] for o in m["options"]
        ]
        about = f"{m['title']} ({m['year']}), {paper(m['paper'])}. {m['summary']}"
        body = table(["option", "default", "what it is"], rows) if rows else "It has no options."
        parts.append(f"### {m['name']}\n\n{about}\n\n{body}")
    return "\n\n".join(parts)


def protocols(root: Path) -> str:
    rows: list[list[object]] = [
        [f"`{p['name']}`", p["version"], p["summary"], "yes" if p["optimistic"] else "no", paper(p["paper"])]
        for p in list_protocols()
    ]
    return table(["protocol", "version", "what it does", "optimistic", "paper"], rows)


def parametrizations(root: Path) -> str:
    rows: list[list[object]] = []
    for p in list_parametrizations():
        settings = ", ".join(f"`{o['name']}={o['default']}`" for o in p["options"])
        rows.append([f"`{p['name']}`", p["summary"], settings or "none"])
    return table(["parametrization", "what is stored", "settings"], rows)
