"""A page about citing: the package, out of CITATION.cff, and the methods."""

from pathlib import Path
from typing import Any

import yaml

from tools.docs.generated_page import GeneratedPage

__all__ = ["cite_pages", "package_bibtex"]

ROOT = Path(__file__).resolve().parents[2]
HEAD = """\
---
title: Cite and licence
tags: [cite, citation, citing, cite potstill, how to cite, bibtex, reference, acknowledge, paper, CITATION.cff, licence, license, apache, copyright]
search:
  boost: 6
---
"""  # noqa: E501


def cite_pages() -> list[GeneratedPage]:
    """Return the page."""
    return [GeneratedPage("reference/cite.md", "Cite and licence", ("Reference",), _page())]


def _citation() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    return found


def package_bibtex() -> str:
    """Return the package's entry, with what CITATION.cff knows."""
    known = _citation()
    names = (author.get("name") or f"{author['family-names']}, {author['given-names']}" for author in known["authors"])
    fields = {
        "title": known["title"], "author": " and ".join(f"{{{name}}}" for name in names),
        "version": known["version"], "url": known.get("repository-code") or known.get("url"),
        "note": f"Python package, {known['license']}",
    }  # fmt: skip
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join(["@software{potstill,", *lines, "}"])


def _page() -> str:
    return HEAD + "\n\n".join([
        "# Cite and licence",
        "## Cite Potstill",
        f"```bibtex\n{package_bibtex()}\n```",
        "The entry is made of `CITATION.cff`, which lies in the repository.",
        "## Cite a method",
        "Cite the paper of the method that made your set, too. Each [method's page](../methods/index.md) ends with its "
        "BibTeX, and each [protocol](protocols.md) shows its own. [papers.bib](../papers.bib) has all of them. In a "
        "terminal, `potstill methods dm` names the paper of `dm`; `potstill inspect FILE` names the method of a set.",
        "## Say how you measured",
        "With a number give the protocol, its fingerprint, the network, `n`, the interval and the bytes. "
        "`potstill evaluate --out FILE` writes all of them. "
        "[Reproduce a published number](../explanation/accuracy.md#reproduce-a-published-number) has the steps.",
        "## Licence of the package",
        f"Potstill is under {_citation()['license']}: you may use, change and sell it, with its notice. The sets that "
        "you make are no part of it.",
        "## Licence of a set",
        "A distilled set is made of somebody's data, so their licence decides. Potstill does not know it: look at the "
        "source of your data before you publish. `potstill export FILE --to hf --out FOLDER --license ID` writes "
        "it on the data set's card, and warns where you give none. "
        "[Export and share](../guides/share.md) has the steps.",
    ]) + "\n"  # fmt: skip
