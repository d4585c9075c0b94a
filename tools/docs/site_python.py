"""Pages of the public Python names: one for each name in `potstill.__all__`, and an index."""

import inspect
import textwrap
from typing import Any

import potstill
from potstill.cli.commands import COMMANDS as CLI
from tools.docs.generated_page import GeneratedPage

__all__ = ["COMMANDS", "GROUPS", "RELATED", "python_pages"]

GROUPS: dict[str, tuple[str, ...]] = {
    "Make a set": ("distill", "run", "plan", "label", "import_set", "concat"),
    "Measure": ("evaluate", "compare", "scaling", "score", "diagnose"),
    "Look and share": ("load", "inspect", "verify", "sign", "report", "export", "materialize", "resample"),
    "Data": ("load_data", "holdout", "limited", "Splits", "TensorSource"),
    "Values": (
        "Distilled",
        "Scorecard",
        "Scores",
        "Plan",
        "Protocol",
        "Budget",
        "RunSpec",
        "RunLimits",
        "RunIO",
        "Progress",
    ),
    "Errors": ("PotstillError", "PotstillWarning", "Interrupted"),
}
"""Public names by purpose, in the order of the menu."""
RELATED: dict[str, tuple[str, ...]] = {
    "distill": ("run", "plan", "load_data", "evaluate"),
    "run": ("distill", "RunSpec", "RunLimits", "RunIO"),
    "plan": ("distill", "compare"),
    "label": ("distill", "evaluate"),
    "import_set": ("load", "evaluate", "concat"),
    "concat": ("load", "Distilled"),
    "evaluate": ("Scorecard", "Protocol", "compare", "diagnose"),
    "compare": ("evaluate", "report", "distill"),
    "scaling": ("evaluate", "label"),
    "score": ("distill", "materialize"),
    "diagnose": ("evaluate", "report"),
    "load": ("Distilled", "inspect", "evaluate"),
    "inspect": ("load", "verify", "report"),
    "verify": ("inspect", "load", "sign"),
    "sign": ("verify", "load"),
    "report": ("compare", "evaluate", "inspect"),
    "export": ("materialize", "load"),
    "materialize": ("export", "score"),
    "resample": ("distill", "load"),
    "load_data": ("Splits", "TensorSource", "distill"),
    "Splits": ("load_data", "TensorSource", "holdout"),
    "holdout": ("load_data", "Splits"),
    "limited": ("load_data", "load"),
    "Plan": ("plan", "distill"),
    "Scores": ("score", "distill"),
    "TensorSource": ("load_data", "Splits"),
    "Distilled": ("load", "distill", "export"),
    "Scorecard": ("evaluate", "Protocol"),
    "Protocol": ("evaluate", "Scorecard"),
    "Budget": ("distill", "RunSpec"),
    "RunSpec": ("run", "RunLimits", "RunIO"),
    "RunLimits": ("run", "RunSpec", "RunIO"),
    "RunIO": ("run", "Progress", "Interrupted"),
    "Progress": ("distill", "RunIO"),
    "PotstillError": ("Interrupted",),
    "PotstillWarning": ("PotstillError", "evaluate"),
    "Interrupted": ("PotstillError", "distill", "RunIO"),
}
"""Names that a reader of a name's page reads next."""
COMMANDS = {"import_set": "import"}
"""Commands that are named otherwise than their function."""


def python_pages() -> list[GeneratedPage]:
    """Return the index of the public names, and a page for each."""
    index = GeneratedPage("reference/python/index.md", "Python", ("Reference", "Python"), _index())
    return [
        index,
        *(
            GeneratedPage(f"reference/python/{name}.md", name, ("Reference", "Python", group), _page(name))
            for group, names in GROUPS.items()
            for name in names
        ),
    ]


def _index() -> str:
    lines = [
        "# Python",
        "Public names of `import potstill`. Arguments after `*` are keyword-only. Every name has its page: arguments "
        "with their defaults, what is returned, which errors are raised, and an example that the tests run.",
    ]
    for group, names in GROUPS.items():
        rows = [f"| [`{name}`]({name}.md) | {summary(getattr(potstill, name))} |" for name in names]
        lines.append("\n".join([f"## {group}\n", "| name | what it does |", "| --- | --- |", *rows]))
    return "\n\n".join(lines) + "\n"


def summary(value: object) -> str:
    """Return the first sentence of a docstring, as Markdown."""
    first = " ".join((inspect.getdoc(value) or "").partition("\n\n")[0].split())
    return first.replace("``", "`").replace("|", "\\|")


def _page(name: str) -> str:
    command = COMMANDS.get(name, name)
    related = [f"[`potstill.{other}`]({other}.md)" for other in RELATED[name]]
    if command in CLI:
        related.append(f"On the command line: [`potstill {command}`](../commands/{command}.md)")
    links = "\n".join(f"- {link}" for link in related)
    value = getattr(potstill, name)
    call, shows = (_call(name, value), "false") if inspect.isfunction(value) else ("", "true")
    described = f"::: potstill.{name}\n    options:\n      show_root_heading: false\n      show_signature: {shows}"
    return f"# potstill.{name}\n\n{call}{described}\n\n## See also\n\n{links}\n"


def _call(name: str, function: Any) -> str:
    """Return the call of a function with the defaults of its arguments, as a block of code."""
    words: list[str] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in words:
            words.append("*")
        words.append(str(parameter.replace(annotation=parameter.empty)))
    lines = textwrap.wrap(", ".join(words), 84, initial_indent="    ", subsequent_indent="    ")
    inside = "\n".join(lines)
    return f"```python\npotstill.{name}(\n{inside}\n)\n```\n\n"
