"""A folder of emoji with their names, in the layout of ``--task retrieval``, from an unpacked npm package.

    npm pack emoji-datasource-google@16.0.0 && tar xzf emoji-datasource-google-16.0.0.tgz
    python benchmarks/emoji.py package --out emoji

Pictures are Google's (Apache-2.0), names those of ``emoji.json`` (MIT). Only pictures without skin tones are taken.
"""

import argparse
import csv
import json
import shutil
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for emoji in json.loads((args.package / "emoji.json").read_text(encoding="utf-8")):
        picture = args.package / "img" / "google" / "64" / emoji["image"]
        if not picture.is_file() or emoji["name"] is None:
            continue
        shutil.copy(picture, args.out / emoji["image"])
        words = " ".join([emoji["name"].lower(), *emoji["short_names"]]).replace("_", " ").replace("-", " ")
        rows.append({"file_name": emoji["image"], "text": f"{words}: {emoji['subcategory'].replace('-', ' ')}"})
    with (args.out / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["file_name", "text"])
        writer.writeheader()
        writer.writerows(rows)
    print(f"{len(rows)} pairs in {args.out}")


if __name__ == "__main__":
    main()
