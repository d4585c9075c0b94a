"""A folder of Tux Paint's stamps with their captions, in the layout of ``--task retrieval``.

    apt-get download tuxpaint-stamps-default && dpkg -x tuxpaint-stamps-default*.deb stamps
    python benchmarks/stamps.py stamps/usr/share/tuxpaint/stamps --out stamp-pairs

Pictures are the package's PNG files (each with its licence in the package), captions the first line of the text file
beside each. Vector drawings and stamps without a caption are left out. The column ``class`` has the first folder.
"""

from collections.abc import Iterator
from pathlib import Path

from pair_folder import PairFile, write_from_arguments


def read_stamps(stamps: Path) -> Iterator[PairFile]:
    """Yield the stamps of the package's folder."""
    for picture in sorted(stamps.rglob("*.png")):
        text = picture.with_suffix(".txt")
        caption = text.read_text(encoding="utf-8").split("\n", 1)[0].strip() if text.is_file() else ""
        if not caption or picture.stem.endswith(("_mirror", "_flip", "_mirror_flip")):
            continue
        parts = picture.relative_to(stamps).parts
        yield PairFile(picture, "-".join(parts), caption, parts[0])


if __name__ == "__main__":
    write_from_arguments(__doc__, "stamps", read_stamps)
