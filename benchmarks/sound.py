"""Distilled sounds beside real ones in the same bytes: vowels and letters of unseen speakers, and voices.

    apt-get install klettres-data asterisk-core-sounds-{en,es,fr,it,ru}-wav
    python benchmarks/sound.py [--seeds 2]
    python benchmarks/sound.py --show

Links to the packages' recordings are made below ``--folder``; none is stored. ``vowels``: syllables of a consonant and
a vowel, read aloud in ten languages, one speaker a language; the class is the vowel. ``letters``: the names of ten
letters in fifteen languages or accents. Speakers of the test part are not in the training part. ``voices``: prompts of
telephones in five languages by four voices, drawn at random into both parts: whoever tells the voices apart has the
class, but for English and Spanish, which the package says one voice speaks.

Every cell is a file under ``--folder``, from which an interrupted run goes on; the summary goes to
``results/sound.json``. Learned sets have the same items per class, 8 bits a value; real rows have no more bytes than
the smallest of the learned ones, as it is stored. Nothing is chosen on the test part: methods have their presets
(``dm`` and ``frepo`` 200 steps through a small network), learners their defaults, networks as students one recipe, and
``real`` searches on held-out training sounds.
"""

import argparse
import json
import re
import sys
import time
import wave
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from machine import machine

import potstill
from potstill._util.mel import MelScale
from potstill.core import Splits
from potstill.dataset_file.text_io import charged_bytes
from potstill.evaluation.sound_learners import BandStatistics
from potstill.evaluation.statistics import paired_difference, summary
from potstill.functional.mel import log_mel, mel_power
from potstill.tasks import get_task

SETS: dict[str, tuple[int, ...]] = {"vowels": (1, 5, 10), "letters": (5,), "voices": (5,)}
"""Sets, and items per class of the learned sets; letters have nine to eleven training sounds."""
SMALL = {"network": "convnet-d3-w32", "steps": 200}
ROWS: dict[str, dict[str, Any]] = {
    "kip": {},
    "frepo": SMALL,
    "dm": SMALL,
    "best real sounds": {"method": "real"},
    "herding": {"codec": "uint4"},
    "random": {"codec": "uint4"},
}
"""Rows: how the set is made, beside its bytes."""
LEARNED = ("kip", "frepo", "dm")
LEARNERS = {"convnet-d3-w32": True, "mlp": True, "band-statistics": False}
"""Learners, and whether they draw."""
RECIPE: dict[str, Any] = {"lr": 0.01, "steps": 120}
"""Settings of networks as students: the same for all, as to choose them for each takes six times as long."""
FORM = "log-mel:seconds=0.5"
VOWELS = ("cs", "da", "de", "es", "fr", "hu", "it", "lt", "nl", "pt_BR")
LETTERS = "bdfklmnpst"
"""Letters whose names sound alike in most of the languages."""
PROMPTS = 140
"""Prompts of each voice, every third or fourth in the order of their names."""
VOICES = ("en_US_f_Allison", "es_MX_f_Allison", "fr_CA_f_June", "it_IT_m_Carlo", "ru_RU_f_IvrvoiceRU")


def link(target: Path, to: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        target.symlink_to(to)


def is_long(path: Path) -> bool:
    """Return True for prompts of at least half a second."""
    with wave.open(str(path)) as file:
        return file.getnframes() >= 0.5 * file.getframerate()


def build(root: Path, klettres: Path, asterisk: Path) -> None:
    """Make the folders of links."""
    for listing in sorted(klettres.glob("*/sounds.xml")):
        language = listing.parent.name
        for sound in ET.parse(listing).getroot().iter("sound"):
            name, path = str(sound.get("name")).lower(), klettres / str(sound.get("file"))
            if not path.exists():
                continue
            syllable = re.fullmatch("[bcdfghjklmnpqrstvwxz]{1,3}([aeiou])", name)
            if syllable and "syllab" in path.parts and language in VOWELS:
                link(root / "vowels" / syllable[1] / f"{language}-{name}.ogg", path)
            if len(name) == 1 and name in LETTERS and "alpha" in path.parts:
                link(root / "letters" / name / f"{language}-{path.stem}.ogg", path)
    for voice in VOICES:
        paths = [p for p in sorted((asterisk / voice).rglob("*.wav")) if "silence" not in p.parts and is_long(p)]
        for n in range(PROMPTS):
            path = paths[n * len(paths) // PROMPTS]
            link(root / "voices" / voice / "-".join(path.relative_to(asterisk / voice).parts), path)


def read(root: Path, name: str) -> Splits:
    """Return a set, with other speakers in the test part but for voices."""
    group = None if name == "voices" else "([a-zA-Z_]+)-"
    return potstill.load_data(root / name, representation=FORM, group=group, test_fraction=0.25)


def make(row: str, splits: Splits, items: int, seed: int, bytes_: int | None) -> potstill.Distilled:
    """Return the set of a row."""
    settings: dict[str, Any] = dict(ROWS[row])
    size: dict[str, Any] = {"ipc": items} if bytes_ is None else {"bytes": bytes_}
    if settings.get("method") != "real":
        settings.setdefault("codec", "uint8")
    return potstill.distill(
        splits, settings.pop("method", row), seed=seed, progress=None, device="cpu", executor="serial",
        **size, **settings,
    )  # fmt: skip


def card_of(small: potstill.Distilled, splits: Splits, learner: str, seed: int, full: bool) -> dict[str, Any]:
    recipe = RECIPE if LEARNERS[learner] else {}
    card = potstill.evaluate(
        small, splits, networks=learner, seeds=1, seed=seed, baselines=False, full=full, progress=None,
        executor="serial", robust_scores=False, device="cpu", **recipe,
    )  # fmt: skip
    return card.to_dict()


def cell_path(folder: Path, name: str, items: int, seed: int, row: str) -> Path:
    return folder / f"{name}-{items}-{seed}-{row.replace(' ', '_')}.json"


def cell(
    name: str, items: int, row: str, splits: Splits, seed: int, folder: Path, bytes_: int | None
) -> dict[str, Any]:
    """Return one row of one seed, from its file or measured anew; ``reason`` where there is no such set."""
    path = cell_path(folder, name, items, seed, row)
    if path.exists():
        return dict(json.loads(path.read_text()))
    started = time.monotonic()
    try:
        small = make(row, splits, items, seed, bytes_)
    except potstill.PotstillError as error:
        result: dict[str, Any] = {"reason": str(error)}
    else:
        seconds = time.monotonic() - started
        result = {
            "bytes": charged_bytes(small.metadata["bytes"]), "items": len(small),
            "scores": {n: card_of(small, splits, n, seed, False)["score"]["mean"] for n in LEARNERS},
            "codec": small.metadata["codec"]["name"], "seconds": round(seconds, 1),
        }  # fmt: skip
    path.write_text(json.dumps(result))
    print(name, items, seed, row, result, flush=True)
    return result


def full(name: str, splits: Splits, folder: Path) -> dict[str, float]:
    """Return the accuracy of each learner on all training sounds."""
    path = folder / f"{name}-full.json"
    if not path.exists():
        small = potstill.distill(splits, "random", ipc=1, seed=0, progress=None)
        scores = {n: card_of(small, splits, n, 0, True)["full"]["mean"] for n in LEARNERS}
        path.write_text(json.dumps(scores))
    return dict(json.loads(path.read_text()))


def heard(splits: Splits, folder: Path) -> dict[str, float]:
    """Return how far a test sound's spectrogram is from that of the sound which is made of it, in decibels, and the
    accuracy of a learner of all training sounds on the one and on the other."""
    path = folder / "heard.json"
    if not path.exists():
        train, test = splits.train, splits.test
        assert test is not None
        scale = MelScale.from_units(train.input.units)
        x = test.raw(torch.arange(len(test)))
        again = torch.stack([log_mel(mel_power(torch.from_numpy(scale.to_wave(v.numpy())), scale))[None] for v in x])
        gaps = []
        for one, other in zip(x, again, strict=True):
            loud = one >= one.max() - 0.375  # the loudest 30 dB
            gap = 80 * (other - one)[loud]
            gaps.append(float((gap - gap.median()).abs().mean()))
        whole = train.fetch(torch.arange(len(train)))
        predict = BandStatistics().fit(whole.x, train.labels, None, get_task(train), 0)
        right = [float((predict(train.normalization.apply(v)) == test.labels).float().mean()) for v in (x, again)]
        values = {"decibels": sum(gaps) / len(gaps), "n": len(test), "original": right[0], "again": right[1]}
        path.write_text(json.dumps(values))
    return dict(json.loads(path.read_text()))


def show(result: Mapping[str, Any]) -> None:
    """Print the tables."""
    for part in result["parts"]:
        shape = "×".join(map(str, part["shape"]))
        print(
            f"\n{part['name']}: {part['train']} sounds of {shape}, {part['classes']} classes; {part['items']} per class"
        )
        print(f"{'':20}{'bytes':>8}{'items':>7}" + "".join(f"{n:>26}" for n in LEARNERS))
        for row in part["rows"]:
            if "reason" in row:
                print(f"{row['row']:20}{row['reason'][:100]}")
                continue
            cells = []
            for v in row["scores"].values():
                ends = "" if v["ci95"] is None else " [{:.1f}, {:.1f}]".format(*(100 * e for e in v["ci95"]))
                cells.append(f"{100 * v['mean']:.1f}{ends}")
            print(f"{row['row']:20}{row['bytes']:8,.0f}{row['items']:7}" + "".join(f"{c:>26}" for c in cells))
        print(f"{'all sounds':35}" + "".join(f"{100 * part['full'][n]:26.1f}" for n in LEARNERS))
        for pair in part["pairs"]:
            gap = pair["difference"]
            print(f"  {pair['learner']}: {pair['row']} minus best real sounds {100 * gap['mean']:+.1f}", gap["ci95"])
    print("\nvowels of the test part, made of their spectrograms:", result["heard"])


def summarize(cells: Mapping[str, list[dict[str, Any]]], test: int) -> dict[str, Any]:
    """Return rows, and what each learned set has over the best real sounds, on ``test`` samples."""
    rows: list[dict[str, Any]] = []
    for row, several in cells.items():
        reason = next((c["reason"] for c in several if "reason" in c), None)
        rows.append(
            {"row": row, "reason": reason} if reason else {
                "row": row, "bytes": sum(c["bytes"] for c in several) / len(several),
                "items": max(c["items"] for c in several), "codecs": sorted({c["codec"] for c in several}),
                "seconds": sum(c["seconds"] for c in several) / len(several),
                "scores": {n: summary([c["scores"][n] for c in several], test) for n in LEARNERS},
            }
        )  # fmt: skip
    real = cells["best real sounds"]
    pairs = [
        {
            "row": row, "learner": n,
            "difference": paired_difference([c["scores"][n] for c in cells[row]], [c["scores"][n] for c in real]),
        }
        for row in LEARNED for n in LEARNERS
        if not any("reason" in c for c in (*cells[row], *real))
    ]  # fmt: skip
    return {"rows": rows, "pairs": pairs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--klettres", type=Path, default=Path("/usr/share/klettres"))
    parser.add_argument("--asterisk", type=Path, default=Path("/usr/share/asterisk/sounds"))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("runs/sound"))
    parser.add_argument("--out", type=Path, default=Path("results/sound.json"))
    parser.add_argument("--summarize", action="store_true", help="of each set, the seeds that have been measured")
    parser.add_argument("--show", action="store_true", help="print the stored result")
    args = parser.parse_args()
    if args.show:
        show(json.loads(args.out.read_text()))
        return
    torch.set_num_threads(1)
    args.folder.mkdir(parents=True, exist_ok=True)
    build(args.folder / "sets", args.klettres, args.asterisk)
    sets = {name: read(args.folder / "sets", name) for name in SETS}
    every = {name: full(name, splits, args.folder) for name, splits in sets.items()}
    cells: dict[tuple[str, int], dict[str, list[dict[str, Any]]]] = {
        (name, items): {row: [] for row in ROWS} for name, several in SETS.items() for items in several
    }
    for seed in range(args.seeds):
        for (name, items), rows in cells.items():
            if args.summarize and not all(cell_path(args.folder, name, items, seed, row).exists() for row in ROWS):
                continue
            bytes_ = None
            for row in ROWS:
                rows[row].append(cell(name, items, row, sets[name], seed, args.folder, bytes_))
                if row == LEARNED[-1]:
                    bytes_ = min(rows[learned][-1]["bytes"] for learned in LEARNED)
    parts = []
    for (name, items), rows in cells.items():
        if not rows[LEARNED[0]]:
            continue
        train, test = sets[name].train, sets[name].test
        assert test is not None
        parts.append({
            "name": name, "items": items, "shape": list(train.input.shape), "train": len(train), "test": len(test),
            "classes": len(train.classes), "full": every[name], "seeds": len(rows[LEARNED[0]]),
            **summarize(rows, len(test)),
        })  # fmt: skip
    result = {
        "parts": parts,
        "heard": heard(sets["vowels"], args.folder),
        "students": 1,
        "machine": machine(),
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    show(result)


if __name__ == "__main__":
    main()
