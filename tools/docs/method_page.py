"""Pages of methods, out of their code, their pictures and the measured tables."""

import dataclasses
import inspect
import json
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert

from potstill._util.field_docs import field_docs
from potstill._util.formatting import OPTION_NAMES
from potstill.api.listing import format_presets, list_methods
from potstill.core.registry import get_method_class
from tools.docs.generated_page import GeneratedPage
from tools.docs.method_pictures import OUT as PICTURES
from tools.docs.method_pictures import file_of
from tools.docs.parts import paper

__all__ = ["described", "equation", "method_page", "method_pages", "numbers", "place"]

ROOT = Path(__file__).resolve().parents[2]
MEASURED = {
    "benchmarks/published.md": "Beside what was published",
    "benchmarks/strong.md": "Strong small sets",
    "benchmarks/recipes.md": "Recipes",
}
"""Pages whose tables are made by scripts, and have rows of methods."""
SCROLLS = 'style="overflow-x: auto" tabindex="0"'
"""Of an equation: on a phone it is wider than the page."""


def method_pages() -> list[GeneratedPage]:
    """Return a page for each method, by family."""
    return [
        GeneratedPage(
            place(row["name"]), row["name"], ("Methods", "Every method", row["family"].capitalize()), method_page(row)
        )
        for row in list_methods(outside=False)
    ]


def place(name: str) -> str:
    """Where a method's page lies: a plus sign means something else in an address."""
    return f"method/{file_of(name)}.md"


def method_page(row: dict[str, Any]) -> str:
    """Markdown of one method, a row of ``list_methods``."""
    kind = get_method_class(row["name"])
    told = [row["family"], "keeps real samples" if row["is_selection"] else "makes new samples"]
    told += [
        "soft labels" if row["soft_labels"] else "hard labels",
        "works on " + ("anything" if "*" in row["kinds"] else ", ".join(row["kinds"])),
    ]
    lines = [
        f"# {row['name']}",
        f"{row['title']} ({row['year']}), {paper(row['paper'])}. {row['summary']}",
        f"Family {'; '.join(told)}. All of the family, side by side: [{row['family']}](../methods/{row['family']}.md).",
        f"```bash\npotstill distill photos/ --method {row['name']} --ipc 10 --out small.safetensors\n```",
        "## What it does",
        described(inspect.getdoc(sys.modules[kind.__module__]) or ""),
        *picture(row),
        "## How long",
        "\n".join(f"- {said}" for said in format_presets(row["presets"])) or "It has one length.",
        "## Options",
        options(kind),
    ]
    if found := numbers(row["name"]):
        lines += ["## Measured", found]
    return "\n\n".join(lines) + "\n"


def picture(row: dict[str, Any]) -> list[str]:
    """What it makes of the digits, where `tools.docs.method_pictures` has drawn it."""
    name = row["name"]
    made = json.loads((PICTURES / "made.json").read_text(encoding="utf-8")).get(name)
    if made is None:
        return []
    what = "chooses from" if row["is_selection"] else "makes of"
    alt = f"Three small pictures of each digit that {name} {what} the training data, digits 0 to 9 from left to right"
    how = "" if row["is_selection"] else f", {made['steps']:,} steps on `{made['network']}`"
    return [
        "## What it makes",
        f"![{alt}](../img/methods/{file_of(name)}.png)",
        f"Three a class that it {what} the bundled digits (8×8): `--preset quick`, seed 0{how}. To look at, not to "
        "measure by; `python -m tools.docs.method_pictures` makes it again.",
    ]


def described(text: str) -> str:
    """A module's docstring: equations as MathML, which browsers show without a script, the rest as it stands."""
    parts = re.split(r"^\.\. math::((?:[ ]+\S.*)?\n(?:^(?:[ ]+.*)?\n)*)", text + "\n", flags=re.MULTILINE)
    shown = [
        textwrap.dedent(part).strip() if n % 2 == 0 else f"<div {SCROLLS}>{equation(part)}</div>"
        for n, part in enumerate(parts)
    ]
    return "\n\n".join(re.sub(r"``(.+?)``", r"`\1`", part) for part in shown if part)


def equation(latex: str) -> str:
    """As MathML; the converter takes signs of a size for signs of another kind, so sizes are left out."""
    return str(convert(re.sub(r"\\[Bb]igg?[lr]?(?![a-z])", "", latex.replace(r"\tfrac", r"\frac")), display="block"))


def options(kind: Any) -> str:
    """Every option with its default, and what it is, which says where the default comes from."""
    docs = field_docs(kind)
    rows = [
        f"| `--{'no-' if f.default is True else ''}{OPTION_NAMES.get(f.name, f.name).replace('_', '-')}` "
        f"| `{plain(f.default)}` | {docs.get(f.name, '').replace('``', '`').replace('|', chr(92) + '|')} |"
        for f in dataclasses.fields(kind)
    ]
    return "\n".join(["| option | default | what it is |", "| --- | --- | --- |", *rows]) if rows else "It has none."


def plain(value: Any) -> str:
    return (str(value) or '""').replace("|", "\\|")


def numbers(name: str) -> str:
    """Rows of the measured tables that are of a method, under the link to the page that says how they were made."""
    named = re.compile(rf"`(?:recipes/)?{re.escape(name)}(?:-frequency|-tiles|\.yaml)?`(?:,|$)")
    found = []
    for page, about in MEASURED.items():
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
            head, rule, *rows = table.splitlines()
            titles = [cell.strip().partition(",")[0] for cell in head.split("|")]
            at = next((titles.index(title) for title in ("method", "arm", "recipe") if title in titles), 0)
            if kept := [row for row in rows if named.match(row.split("|")[at].strip())]:
                found.append("\n".join([f"From [{about}](../{page}), where it is said how:\n", head, rule, *kept]))
    return "\n\n".join(found)
