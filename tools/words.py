"""Count words that the glossary replaces, docstring openings and bare names; a count may only fall.

    python -m tools.words [--list RULE] [--update]

Words are those of the last column of ``docs/reference/glossary.md``, counted in docstrings and comments of ``src`` and
in the prose of the pages. ``tools/words.json`` has the largest count of each rule; ``--update`` lowers it to today's.
"""

import argparse
import ast
import io
import json
import re
import sys
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import Path

__all__ = ["counts", "forbidden_words", "main"]

ROOT = Path(__file__).resolve().parents[1]
BUDGET = ROOT / "tools" / "words.json"
OPENING = re.compile(r"(What|Who|Whose|How|Where|Whether|Of|From which|By which|As many|None:)\b")
"""Openings of a docstring that need its heading to be a sentence: a reader cannot search for its subject."""
BARE_NAMES = {
    "said", "says", "told", "kept", "held", "seen", "found", "made", "given", "known", "asked", "wanted", "chosen",
    "own", "whole", "left", "begun", "borne", "drawn", "taken", "put", "gone", "meant", "there", "here", "away",
    "beside", "among", "apart", "anew",
}  # fmt: skip
"""Participles and adverbs that say nothing of a value's type, as names of functions, classes, fields and parameters."""
PLAIN_WORDS = ("kept", "told", "said", "asked", "anew", "borne", "dear", "nobody", "whoever")
"""Words of a story: a technical text says stored, printed, requested, again, expensive."""
PAGES_OF_HISTORY = {"CHANGELOG.md"}
"""Pages that quote how things were called."""

MESSAGES = {
    "message: words": rf"\b({'|'.join(PLAIN_WORDS)}|card|artefact)\b",
    "message: is no": r"(?<!there )\b(?:is|are|was|were|be) no (?!longer|more|fewer|less|larger|smaller)",
    "message: passive": r"\b(?:is|are|was|were) (?:to be|asked for|asked|wanted|meant)\b",
    "message: form": r"\.$|\n",
}
"""Rules of error messages and of help: plain words, "is not a", active verbs, one line without a full stop."""
HELP_FORM = re.compile(r"^(?![A-Z`(λ-]|prune: )|(?<![.)…])$")
"""Help of an option that is not a sentence or a phrase with a full stop."""

Hits = dict[str, list[str]]


def forbidden_words() -> tuple[str, ...]:
    """Return the words of the glossary's last column, and `PLAIN_WORDS`."""
    rows = re.findall(
        r"^\|.*\| ([^|]+) \|$", (ROOT / "docs" / "reference" / "glossary.md").read_text("utf-8"), re.MULTILINE
    )
    words = [word.strip() for row in rows[1:] for word in row.split(",") if word.strip(" -")]
    return (*words, *PLAIN_WORDS)


def counts() -> Hits:
    """Return every hit as ``path:line text``, by rule."""
    words = {
        f"word {word}": re.compile(
            rf"(?<![\w`/.-]){re.escape(word)}(?![\w`/-])(?! apart)", re.I
        )  # "told apart": a verdict
        for word in forbidden_words()
    }
    hits: Hits = {"docstring openings": [], "bare names": [], **{rule: [] for rule in words}, **_message_hits()}
    for path in sorted((ROOT / "src" / "potstill").rglob("*.py")):
        text, name = path.read_text("utf-8"), path.relative_to(ROOT).as_posix()
        tree = ast.parse(text)
        for line, doc in _docstrings(tree):
            if OPENING.match(doc):
                hits["docstring openings"].append(f"{name}:{line} {doc.splitlines()[0][:80]}")
            _find(words, doc, f"{name}:{line}", hits)
        names = [(line, bare) for line, bare in _names(tree) if bare.strip("_") in BARE_NAMES]
        hits["bare names"] += [f"{name}:{line} {bare}" for line, bare in names]
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                _find(words, token.string, f"{name}:{token.start[0]}", hits)
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        if path.name in PAGES_OF_HISTORY or path.name == "glossary.md" or "adr" in path.parts:
            continue
        prose = re.sub(r"^```.*?^```", lambda m: "\n" * m[0].count("\n"), path.read_text("utf-8"), flags=re.M | re.S)
        for number, line in enumerate(prose.splitlines(), 1):
            _find(
                words, re.sub(r"`[^`]*`|\]\([^)]*\)", "", line), f"{path.relative_to(ROOT).as_posix()}:{number}", hits
            )
    return hits


def _message_hits() -> Hits:
    """Return the hits in error messages, and in the help of commands, where each is ``command option``."""
    from potstill.cli.commands import COMMANDS
    from potstill.cli.help import command_help
    from tools.docs.errors import error_messages

    texts = [(message.place, message.text) for message in error_messages(ROOT)]
    options = [(name, option) for name in COMMANDS for option in command_help(name).options]
    helps = [(f"{name} {option.flag}", option.about) for name, option in options]
    hits: Hits = {}
    for rule, pattern in MESSAGES.items():
        sources = texts if rule == "message: form" else [*texts, *helps]
        shown = [(place, text, re.sub(r"`[^`]*`|\{[^{}]*\}", "", text)) for place, text in sources]
        hits[rule] = [f"{place} {text[:120]}" for place, text, plain in shown if re.search(pattern, plain, re.I)]
    hits["help: form"] = [f"{place} {text[:120]}" for place, text in helps if HELP_FORM.search(text)]
    return hits


def _find(words: Mapping[str, re.Pattern[str]], text: str, place: str, hits: Hits) -> None:
    for rule, pattern in words.items():
        hits[rule] += [f"{place} {text[max(0, m.start() - 30) : m.end() + 30]!r}" for m in pattern.finditer(text)]


def _docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield docstrings of modules, classes, functions and fields with their lines."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if doc := ast.get_docstring(node):
            yield getattr(node, "lineno", 1), doc
        if isinstance(node, ast.Module | ast.ClassDef):
            for field, below in zip(node.body, node.body[1:], strict=False):
                match field, below:
                    case ((ast.AnnAssign() | ast.Assign()), ast.Expr(value=ast.Constant(value=str(doc)))):
                        yield below.lineno, doc
                    case _:
                        pass


def _names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield names of functions, classes, fields and parameters with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.lineno, node.target.id


def main(arguments: list[str] | None = None) -> int:
    """Print what is over its budget; return 1 if anything is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", metavar="RULE", help="print every place of one rule")
    parser.add_argument("--update", action="store_true", help="lower the budgets to today's counts")
    options = parser.parse_args(arguments)
    hits = counts()
    if options.list is not None:
        print(*hits[options.list], sep="\n")
        return 0
    budget: dict[str, int] = json.loads(BUDGET.read_text("utf-8")) if BUDGET.exists() else {}
    if options.update:
        lowered = {rule: min(len(places), budget.get(rule, len(places))) for rule, places in hits.items()}
        BUDGET.write_text(json.dumps(lowered, indent=1) + "\n", "utf-8")
        budget = lowered
    over = {rule: places for rule, places in hits.items() if len(places) > budget.get(rule, 0)}
    for rule, places in over.items():
        most = budget.get(rule, 0)
        print(f"{rule}: {len(places)}, at most {most}; python -m tools.words --list {rule!r} shows them:")
        print(*(f"  {place}" for place in places[-5:]), sep="\n")
    lower = sum(len(places) < budget.get(rule, 0) for rule, places in hits.items())
    if lower:
        print(f"{lower} counts are below their budget: python -m tools.words --update")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
