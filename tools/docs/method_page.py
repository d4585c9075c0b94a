"""Pages of methods, out of their code, their pictures, the papers and the measured tables."""

import dataclasses
import inspect
import json
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert

import potstill
from potstill._util.field_docs import field_docs
from potstill._util.formatting import OPTION_NAMES
from potstill.api.listing import format_presets, list_methods, presets_of
from potstill.core.registry import get_method_class
from tools.docs.generated_page import GeneratedPage
from tools.docs.measured import measured
from tools.docs.method_pictures import OUT as PICTURES
from tools.docs.method_pictures import file_of
from tools.docs.papers import bibtex
from tools.docs.parts import paper, table
from tools.docs.registry import FAMILIES, MENU, ORDINARY, published_runs, traits, with_links
from tools.docs.site_cite import package_bibtex

__all__ = ["described", "equation", "folded", "method_page", "method_pages", "place"]

ROOT = Path(__file__).resolve().parents[2]
SCROLLS = 'style="overflow-x: auto" tabindex="0"'
"""Of an equation: on a phone it is wider than the page."""
FIRST = (
    "iterations", "outer", "features", "keep", "pool", "lr", "network", "parametrization", "labels", "init_from",
    "augment", "num_experts", "teacher_epochs", "committee", "record_epochs", "runs", "cut", "steps_per_network",
    "temperature", "batch_real",
)  # fmt: skip
"""Fields that people change, the commonest first: a page shows five of them."""
SHOWN = 5
NAMED_BOOST = 2.5
"""Weight of a method's page in a search: above pages that only mention it."""
PRESET_TITLES = {"quick": "quick (default)", "good": "good", "published": "published"}
"""Heading of each preset's column of options."""
PRESETS = (
    "A run takes the values of its `--preset`: `quick` if you name none, `published` if you name none but give "
    "`--steps` or `--recipe`. The method's class in Python has the published values."
)
"""Line above the options of a method with presets."""
BUSY = "The time is that of one core which other work shared.\n\n"
CLASSES = {
    "none": "makes all classes together",
    "deletion": "removing a sample of one class keeps the bits of the others",
    "separate": "each class can be made alone",
}
"""Text for each value of `MethodInfo.class_independence`."""


def method_pages() -> list[GeneratedPage]:
    """Return a page for each method, by family."""
    return [
        GeneratedPage(
            place(row["name"]),
            row["name"],
            ("Methods", "Every method", MENU[row["family"]]),
            search_words(row) + method_page(row),
        )
        for row in sorted(list_methods(outside=False), key=lambda row: [*FAMILIES].index(row["family"]))
    ]


def search_words(row: dict[str, Any]) -> str:
    """Return front matter with words that a search finds a method's page by; none where its name is a usual word."""
    if row["name"] in ORDINARY:
        return ""
    words = [row["name"], *(["published numbers"] if "### Published" in measured(row["name"]) else [])]
    words += ["expert trajectories", "number of experts"] if row["family"] == "trajectory" else []
    return f"---\ntags: [{', '.join(words)}]\nsearch:\n  boost: {NAMED_BOOST}\n---\n\n"


def place(name: str) -> str:
    """Where a method's page lies: a plus sign means something else in an address."""
    return f"method/{file_of(name)}.md"


def method_page(row: dict[str, Any]) -> str:
    """Return the Markdown of one method, a row of ``list_methods``."""
    kind = get_method_class(row["name"])
    return "\n\n".join([
        f"# {row['name']}",
        f"{row['summary']}",
        picture(row),
        f'!!! tip "When to use it"\n    {with_links(row["use_when"])}',
        f'!!! warning "When not"\n    {with_links(row["avoid_when"])}',
        facts(row),
        "## Run it",
        command(row),
        "## Equation",
        described(inspect.getdoc(sys.modules[kind.__module__]) or ""),
        "## Options",
        options(kind),
        published_runs(row["name"], folded=True),
        "## Published and measured",
        measured(row["name"]),
        "## Related",
        related(row),
        "## Cite",
        f"```bibtex\n{package_bibtex() if row['paper'] == 'Potstill' else bibtex(row['paper'])}\n```",
        "## Source",
        source(kind),
        "Next: [all methods](../methods/index.md) · [choose a method](../guides/choose-a-method.md) · "
        "[write your own](../extend/method.md)",
    ]).replace("\n\n\n\n", "\n\n") + "\n"  # fmt: skip


def facts(row: dict[str, Any]) -> str:
    """Return a line of the method's traits, and one of its paper."""
    found = traits(row)
    told = [
        f"Family [{MENU[row['family']]}](../methods/{row['family']}.md)", f"{found['items']} samples",
        f"{found['labels']} labels", f"works on {found['works on']}", f"trains first: {found['trains first']}",
        CLASSES[row["class_independence"]],
    ]  # fmt: skip
    own = " The authors published no code: this is our reading." if row["reimplemented"] else ""
    return f"{' · '.join(told)}.\n\nPaper: {row['title']} ({row['year']}), {paper(row['paper'])}.{own}"


def picture(row: dict[str, Any]) -> str:
    """Return what it makes of the digits, where `tools.docs.method_pictures` has drawn it."""
    name = row["name"]
    if name not in _made():
        return ""
    what = "chooses from" if row["is_selection"] else "makes of"
    alt = f"Three small pictures of each digit that {name} {what} the training data, digits 0 to 9 from left to right"
    return (
        f"![{alt}](../img/methods/{file_of(name)}.png)\n\n"
        f"Three a class that it {what} the bundled digits (8×8), by the command below. To look at, not to measure by."
    )


def command(row: dict[str, Any]) -> str:
    """Return the command that made the picture with what it printed, and how long each preset is."""
    made = _made().get(row["name"])
    lengths = "\n".join(f"- {said}" for said in format_presets(row["presets"]))
    known = "" if made is None else f"```bash\n{made['command']}\n```\n\n```text\n{made['printed']}\n```\n\n{BUSY}"
    return f"{known}How much each `--preset` does:\n\n{lengths}"


def _made() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((PICTURES / "made.json").read_text(encoding="utf-8"))
    return found


def described(text: str) -> str:
    """Return a module's docstring: equations as MathML, which browsers show without a script, the rest as it stands."""
    parts = re.split(r"^\.\. math::((?:[ ]+\S.*)?\n(?:^(?:[ ]+.*)?\n)*)", text + "\n", flags=re.MULTILINE)
    shown = [
        textwrap.dedent(part).strip() if n % 2 == 0 else f"<div {SCROLLS}>{equation(part)}</div>"
        for n, part in enumerate(parts)
    ]
    prose = "\n\n".join(re.sub(r"``(.+?)``", r"`\1`", part) for part in shown if part)
    return re.sub(r":math:`(.+?)`", lambda found: f"<span>{equation(found[1], display='inline')}</span>", prose)


def equation(latex: str, display: str = "block") -> str:
    """Return MathML; the converter takes signs of a size for signs of another kind, so sizes are left out."""
    plain_sizes = re.sub(r"\\[Bb]igg?[lr]?(?![a-z])", "", latex.replace(r"\tfrac", r"\frac"))
    bars = str(convert(plain_sizes, display=display))
    return bars.replace(
        "<mo>&#x02016;</mo>", '<mo stretchy="false">&#x02016;</mo>'
    )  # else the first alone is stretched


def options(kind: Any) -> str:
    """Return the five options that people change, then all, folded."""
    fields = [f.name for f in dataclasses.fields(kind)]
    if not fields:
        return "It has none of its own. `potstill distill --help` shows those of every method."
    return f"{PRESETS}\n\n{_tables(kind, fields)}" if presets_of(kind) else _tables(kind, fields)


def _tables(kind: Any, fields: list[str]) -> str:
    first = [name for name in FIRST if name in fields][:SHOWN]
    if len(fields) <= SHOWN + 1:
        return _option_table(kind, fields)
    return f"{_option_table(kind, first)}\n\n{folded(f'All {len(fields)} options', _option_table(kind, fields))}"


def _option_table(kind: Any, names: list[str]) -> str:
    docs, by_name = field_docs(kind), {f.name: f for f in dataclasses.fields(kind)}
    presets = presets_of(kind)
    columns = {PRESET_TITLES[name]: values for name, values in presets.items()} or {"default": {}}
    rows: list[list[object]] = []
    for name in names:
        default = by_name[name].default
        spelled = f"`--{'no-' if default is True else ''}{OPTION_NAMES.get(name, name).replace('_', '-')}`"
        values = [plain(fields.get(name, default)) for fields in columns.values()]
        rows.append([spelled, *values, docs.get(name, "").replace("``", "`")])
    return table(["option", *columns, "what it is"], rows)


def folded(title: str, content: str) -> str:
    """Return content that opens when its title is clicked."""
    return f'??? note "{title}"\n\n' + textwrap.indent(content, "    ")


def plain(value: Any) -> str:
    """Return a value as code; words for a field that the method fills in."""
    return "by the data" if value is None else f"`{value}`" if str(value) else '`""`'


def related(row: dict[str, Any]) -> str:
    """Return links to the methods that are near, each with its summary."""
    summaries = {other["name"]: other["summary"] for other in list_methods(outside=False)}
    return "\n".join(f"- [{name}]({file_of(name)}.md): {summaries[name]}" for name in row["related"])


def source(kind: Any) -> str:
    """Return the listing of a method's file, folded."""
    path = Path(inspect.getsourcefile(kind) or "")
    text = path.read_text(encoding="utf-8").rstrip()
    inside = path.relative_to(Path(potstill.__file__).parents[1]).as_posix()
    title = f"src/{inside}, {len(text.splitlines())} lines"
    return folded(title, f"````python\n{text}\n````")
