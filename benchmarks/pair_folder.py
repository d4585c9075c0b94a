"""A folder of pictures with texts, in the layout of ``--task retrieval``, as the scripts of data sets write it."""

import argparse
import csv
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

__all__ = ["PairFile", "write_from_arguments", "write_pairs"]


class PairFile(NamedTuple):
    """A picture file with its text and the name of its class."""

    picture: Path
    name: str
    """File name in the folder."""
    text: str
    label: str
    """Class of the picture, for zero-shot classification; no method sees it."""


def write_pairs(out: Path, pairs: Iterable[PairFile]) -> int:
    """Copy the pictures to ``out``, write ``metadata.csv`` beside them, and return the number of pairs."""
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for pair in pairs:
        shutil.copy(pair.picture, out / pair.name)
        rows.append({"file_name": pair.name, "text": pair.text, "class": pair.label})
    with (out / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["file_name", "text", "class"])
        writer.writeheader()
        writer.writerows(rows)
    return len(rows)


def write_from_arguments(description: str | None, source: str, read: Callable[[Path], Iterable[PairFile]]) -> None:
    """Run a script with the arguments ``SOURCE --out FOLDER``."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(source, type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    print(f"{write_pairs(args.out, read(getattr(args, source)))} pairs in {args.out}")
