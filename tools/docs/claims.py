"""Draw sentences with a claim from the pages that are written by hand, to be checked against their sources.

    python -m tools.docs.claims [--draw 40] [--seed 0]

A claim has a number, a comparison, or a word such as always, never, every, only. What `tools.docs` makes, code, tables
and headings are left out. It prints a table in Markdown with two empty columns: true or not, and by which source.
"""

import argparse
import random
import re
import sys
from dataclasses import dataclass

from tools.reading import ROOT, pages

__all__ = ["Claim", "claims", "draw", "main"]

_LEFT_OUT = (
    re.compile(r"\A---\n.*?\n---\n", re.DOTALL),
    re.compile(r"<!-- ([\w-]+):begin -->.*?<!-- \1:end -->", re.DOTALL),
    re.compile(r"<!--.*?-->", re.DOTALL),
    re.compile(r"^( *)(```|~~~).*?^\1\2\s*$", re.MULTILINE | re.DOTALL),
    re.compile(r"^\s*(?:\|.*|#.*|(?:!!!|\?\?\?|===) .*|:::.*|!\[.*|</?[a-z][^>]*>.*)$", re.MULTILINE),
)
_SENTENCE = re.compile(r"(?<=[.!?])[\")*_]*\s+(?=[\"(*_A-Z`])")
_ITEM = re.compile(r"^\s*(?:[-*]|\d+\.) +", re.MULTILINE)
_NUMBERS = r"one|two|three|four|five|six|seven|eight|nine|ten|twelve|twenty|hundred|thousand|half|third|twice"
_CLAIM = re.compile(
    rf"\d|\b(?:{_NUMBERS}|always|never|every|each|only|all|none|no|any|more|less|fewer|most|least|better|best|worse|"
    r"faster|slower|larger|smaller|higher|lower|longer|shorter|above|below|cannot|must|same|equal|exactly)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Claim:
    """A sentence, and where it stands."""

    page: str
    line: int
    sentence: str


def claims(text: str, page: str) -> list[Claim]:
    """Return the sentences of a page in Markdown that claim something, with their lines."""
    for pattern in _LEFT_OUT:
        text = pattern.sub(lambda found: "\n" * found[0].count("\n"), text)
    found: list[Claim] = []
    for paragraph in re.finditer(r"(?:[^\n]*\S[^\n]*\n?)+", text):
        starts = [0, *(item.start() for item in _ITEM.finditer(paragraph[0]) if item.start())]
        for start, end in zip(starts, [*starts[1:], len(paragraph[0])], strict=True):
            part, at = paragraph[0][start:end], paragraph.start() + start
            places = [0, *(gap.end() for gap in _SENTENCE.finditer(part))]
            for first, last in zip(places, [*places[1:], len(part)], strict=True):
                sentence = " ".join(_ITEM.sub("", part[first:last]).split())
                plain = re.sub(r"`[^`]*`", "", re.sub(r"\]\([^)]*\)", "]", sentence))
                if _CLAIM.search(plain) and re.search(r"[A-Za-z]{2}", plain):
                    found.append(Claim(page, text.count("\n", 0, at + first) + 1, sentence))
    return found


def draw(count: int, seed: int) -> list[Claim]:
    """Return ``count`` claims of all pages, drawn at random without putting back, in the order of pages."""
    every = [
        claim
        for page in pages()
        for claim in claims(page.read_text(encoding="utf-8"), page.relative_to(ROOT).as_posix())
    ]
    drawn = random.Random(seed).sample(every, min(count, len(every)))
    return sorted(drawn, key=lambda claim: (claim.page, claim.line))


def main() -> int:
    """Print the drawn claims as a table to be filled in."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draw", type=int, default=40, help="number of claims")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draw")
    options = parser.parse_args()
    sys.stdout.write("| n | page | claim | true | source |\n| --- | --- | --- | --- | --- |\n")
    for n, claim in enumerate(draw(options.draw, options.seed), 1):
        sentence = claim.sentence.replace("|", "\\|")
        sys.stdout.write(f"| {n} | {claim.page}:{claim.line} | {sentence} |  |  |\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
