"""A folder of Tux Paint's stamps with their captions, in the layout of ``--task retrieval``.

    apt-get download tuxpaint-stamps-default && dpkg -x tuxpaint-stamps-default*.deb stamps
    python benchmarks/stamps.py stamps/usr/share/tuxpaint/stamps --out stamp-pairs

Pictures are the package's PNG files (each with its licence in the package), captions the first line of the text file
beside each. Vector drawings and stamps without a caption are left out.
"""

import argparse
import csv
import shutil
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stamps", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for picture in sorted(args.stamps.rglob("*.png")):
        text = picture.with_suffix(".txt")
        caption = text.read_text(encoding="utf-8").split("\n", 1)[0].strip() if text.is_file() else ""
        if not caption or picture.stem.endswith(("_mirror", "_flip", "_mirror_flip")):
            continue
        name = "-".join(picture.relative_to(args.stamps).parts)
        shutil.copy(picture, args.out / name)
        rows.append({"file_name": name, "text": caption})
    with (args.out / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["file_name", "text"])
        writer.writeheader()
        writer.writerows(rows)
    print(f"{len(rows)} pairs in {args.out}")


if __name__ == "__main__":
    main()
