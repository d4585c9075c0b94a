"""Check how the pages read: words of a page, its median sentence, history told outside the changelog.

    python -m tools.reading [--all]

Prose is what is left of a page without front matter, code, tables, HTML and blocks that `tools.docs` makes; what is
folded counts. A page has at most 1,200 words of it, and its median sentence has at most 18. ``--all`` prints all.
"""

import argparse
import re
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Reading", "main", "prose", "read", "sentences"]

ROOT = Path(__file__).resolve().parents[1]
MOST_WORDS = 1_200
MOST_WORDS_OF_A_SENTENCE = 18
NOT_READ = ("adr",)
"""Folders of decisions: they are dated and stay as they were written."""
HISTORY = re.compile(r"\b(used to be|no longer|was changed|were mended|was mended|since a short while|until lately)\b")


@dataclass(frozen=True)
class Reading:
    """Figures of a page: words, and the median length of its sentences in words."""

    words: int
    median: float
    history: tuple[str, ...]

    @property
    def problems(self) -> list[str]:
        """What the page has to change, one line each."""
        found = []
        if self.words > MOST_WORDS:
            found.append(f"{self.words} words, at most {MOST_WORDS}: move a part to a page of its own")
        if self.median > MOST_WORDS_OF_A_SENTENCE:
            found.append(
                f"median sentence of {self.median:g} words, at most {MOST_WORDS_OF_A_SENTENCE}: split sentences"
            )
        found += [f"tells history, which belongs to CHANGELOG.md: {said!r}" for said in self.history]
        return found


def prose(text: str) -> str:
    """Return the paragraphs and items of a page in Markdown, one per line."""
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    text = re.sub(r"<!-- ([\w-]+):begin -->.*?<!-- \1:end -->", "", text, flags=re.DOTALL)
    text = re.sub(r"^( *)(```|~~~).*?^\1\2\s*$", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^\s*(?:\|.*|#.*|(?:!!!|\?\?\?|===) .*|:::.*|!\[.*)$", "", text, flags=re.MULTILINE)
    text = re.sub(r"<[^>]+>|\{[^}\n]*\}", "", text)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"`[^`\n]*`", "Code", text)
    items = re.sub(r"^ *(?:[-*]|\d+\.) +", "\n", text, flags=re.MULTILINE)
    return "\n".join(" ".join(part.split()) for part in re.split(r"\n\s*\n", items) if part.strip())


def sentences(text: str) -> list[str]:
    """Return the sentences of prose, by full stops, question marks, colons at a line's end and paragraphs."""
    found = [
        one.strip() for line in text.splitlines() for one in re.split(r"(?<=[.!?])[\")*_]*\s+(?=[\"(*_A-Z])", line)
    ]
    return [one for one in found if re.search(r"[A-Za-z]{2}", one)]


def read(text: str) -> Reading:
    """Return the figures of a page in Markdown."""
    said = prose(text)
    lengths = [len(one.split()) for one in sentences(said)]
    return Reading(
        words=len(said.split()),
        median=statistics.median(lengths) if lengths else 0,
        history=tuple(m[0] for m in HISTORY.finditer(said)),
    )


def pages(root: Path = ROOT) -> list[Path]:
    """Return the pages that are held to this."""
    found = sorted((root / "docs").rglob("*.md"))
    return [root / "README.md", *(page for page in found if page.relative_to(root / "docs").parts[0] not in NOT_READ)]


def main(arguments: list[str] | None = None) -> int:
    """Print pages that read badly; return 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="print every page's figures")
    options = parser.parse_args(arguments)
    status = 0
    for page in pages():
        reading, name = read(page.read_text("utf-8")), page.relative_to(ROOT).as_posix()
        if options.all:
            print(f"{reading.words:6,} words, median sentence {reading.median:4g}  {name}")
        for problem in reading.problems:
            status = 1
            print(f"{name}: {problem}")
    return status


if __name__ == "__main__":
    sys.exit(main())
