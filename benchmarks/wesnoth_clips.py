"""Clips of actions from a package: unit animations of the game Battle for Wesnoth, in folders by action.

    apt-get download wesnoth-1.16-data && dpkg -x wesnoth-1.16-data_*.deb PACKAGE
    python benchmarks/wesnoth_clips.py PACKAGE FOLDER

Sequences of at least three numbered pictures (72 × 72) whose names tell one action: melee, ranged, die, idle, move. The
pictures are made grey on white, as colour tells a unit's people and not what it does. Every third unit, in the order of
their names, is for testing with all its sequences, so that no unit stands on both sides; names of clips begin with the
unit, by which training data can be split, too. Copyright by the artists of Wesnoth, GNU GPL 2 or later: nothing of the
package is in this repository.
"""

import argparse
import re
from collections import defaultdict
from pathlib import Path

from PIL import Image

WORDS = {
    "melee": "melee sword blade axe hammer spear pierce slash claws bite pincer kick mace club dagger fist saber",
    "ranged": "bow ranged fire magic throw staff crossbow sling magicmissile inhale",
    "die": "die death dying",
    "idle": "idle bob stand standing hover",
    "move": "run fly flying moving walk running takeoff",
}
"""Words in the name of a sequence, after that of its unit, by action."""
LEAST = 3
"""Pictures of a sequence."""
UNIT = r"^(.+?)--"
"""Pattern of the unit in the name of a clip."""


def list_sequences(package: Path) -> list[tuple[str, str, str, list[Path]]]:
    """Return (action, unit, name, pictures in order) of every sequence that tells its action, sorted."""
    numbered: dict[tuple[Path, str], dict[int, Path]] = defaultdict(dict)
    for path in package.rglob("*.png"):
        match = re.fullmatch(r"(.*?)-?(\d+)", path.stem)
        if match and "/images/units/" in path.as_posix():
            numbered[path.parent, match[1]][int(match[2])] = path
    sequences = []
    for (folder, name), pictures in numbered.items():
        unit, *words = re.split(r"[-+_]", name)
        actions = [action for action, known in WORDS.items() if set(words) & set(known.split())]
        if len(pictures) < LEAST or len(actions) != 1:
            continue
        below = folder.parts[folder.parts.index("units") + 1 :]
        unit = "-".join((below[0], below[-1] if len(below) > 1 else unit))
        sequences.append((actions[0], unit, name, [pictures[n] for n in sorted(pictures)]))
    return sorted(sequences)


def write_folder(package: Path, folder: Path) -> None:
    """Write ``train|test/ACTION/UNIT--NAME/0001.png``."""
    sequences = list_sequences(package)
    if not sequences:
        raise SystemExit(f"{package}: no unit animations below it; unpack wesnoth-1.16-data there")
    for_testing = set(sorted({unit for _, unit, _, _ in sequences})[2::3])
    for action, unit, name, pictures in sequences:
        clip = folder / ("test" if unit in for_testing else "train") / action / f"{unit}--{name}"
        clip.mkdir(parents=True, exist_ok=True)
        for t, path in enumerate(pictures):
            with Image.open(path) as image:
                sprite = image.convert("RGBA")
            Image.alpha_composite(Image.new("RGBA", sprite.size, "white"), sprite).convert("L").save(
                clip / f"{t:04}.png"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="where wesnoth-1.16-data was unpacked")
    parser.add_argument("folder", type=Path, help="folder to write")
    args = parser.parse_args()
    write_folder(args.package, args.folder)


if __name__ == "__main__":
    main()
