"""A folder of emoji with their names, in the layout of ``--task retrieval``, from an unpacked npm package.

    npm pack emoji-datasource-google@16.0.0 && tar xzf emoji-datasource-google-16.0.0.tgz
    python benchmarks/emoji.py package --out emoji

Pictures are Google's (Apache-2.0), names and categories those of ``emoji.json`` (MIT). Only pictures without skin tones
are taken. The column ``class`` has the category.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from pair_folder import PairFile, write_from_arguments


def read_emoji(package: Path) -> Iterator[PairFile]:
    """Yield the emoji of an unpacked package."""
    for emoji in json.loads((package / "emoji.json").read_text(encoding="utf-8")):
        picture = package / "img" / "google" / "64" / emoji["image"]
        if not picture.is_file() or emoji["name"] is None:
            continue
        words = " ".join([emoji["name"].lower(), *emoji["short_names"]]).replace("_", " ").replace("-", " ")
        text = f"{words}: {emoji['subcategory'].replace('-', ' ')}"
        yield PairFile(picture, emoji["image"], text, emoji["category"])


if __name__ == "__main__":
    write_from_arguments(__doc__, "package", read_emoji)
