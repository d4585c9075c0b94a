"""BibTeX of the papers that methods and protocols are from: `docs/papers.bib`, found by number, DOI, address or key."""

import functools
import re
from pathlib import Path

from pybtex.database import BibliographyData, Entry, parse_file

__all__ = ["bibtex", "keys_of", "papers"]

FILE = Path(__file__).resolve().parents[2] / "docs/papers.bib"
KEYS = {
    "ICML 2009": "welling2009herding",
    "Lloyd, IEEE Trans. Inf. Theory 28(2), 1982": "lloyd1982",
    "Neyman, J. R. Stat. Soc. 97(4), 1934": "neyman1934",
    "Kaufman and Rousseeuw 1987": "kaufman1987medoids",
    "Weiszfeld 1937": "weiszfeld1937",
    "ICML 2015 (Wei, Iyer and Bilmes)": "wei2015submodularity",
    "SIGIR 1994": "lewis1994sequential",
    "Settles 2009": "settles2009survey",
    "IDA 2001": "scheffer2001active",
    "Psychometrika 46, 1981": "bock1981",
    "glicko.net/glicko/glicko2.pdf": "glickman2012",
    "ICLR 2023 (openreview 7D5EECbOaf9)": "xia2023moderate",
    "ECCV 2026": "shang2026cim",
    "github.com/LINs-lab/CIM": "shang2026cim",
    "https://github.com/GH209515338/AT-BPTT": "li2025atbptt",
}
"""Keys of papers that are named by something else than an arXiv number or a DOI in ``MethodInfo.paper``."""


@functools.cache
def papers() -> BibliographyData:
    """Return every entry of the file."""
    return parse_file(str(FILE), bib_format="bibtex")


def keys_of(named: str) -> list[str]:
    """Return the keys of the papers in ``MethodInfo.paper``, which separates them by semicolons.

    Raises:
        KeyError: a paper has no entry.
    """
    entries = papers().entries
    by_number = {e.fields["eprint"]: key for key, e in entries.items() if "eprint" in e.fields}
    by_doi = {e.fields["doi"]: key for key, e in entries.items() if "doi" in e.fields}
    found = []
    for part in (part.strip() for part in named.split(";")):
        number = re.match(r"arXiv:(\d{4}\.\d{4,5})", part)
        found.append(
            by_number[number[1]] if number else by_doi[part[4:]] if part.startswith("doi:") else KEYS[part]
        )  # fmt: skip
    return list(dict.fromkeys(found))


def bibtex(named: str) -> str:
    """Return the BibTeX of the papers in ``MethodInfo.paper``."""
    return "\n\n".join(_written(key, papers().entries[key]) for key in keys_of(named))


def _written(key: str, entry: Entry) -> str:
    """Return one entry as it stands in the file: authors after the title."""
    people = {role: " and ".join(map(str, persons)) for role, persons in entry.persons.items()}
    title, *others = entry.fields.items()
    fields = [title, *people.items(), *others]
    return "\n".join([f"@{entry.type}{{{key},", *(f"  {name} = {{{value}}}," for name, value in fields), "}"])
