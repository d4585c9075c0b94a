"""Distilled sounds beside real ones in the same bytes: benchmarks/sound.py."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.docs.parts import table
from tools.docs.series_classes import learner_table

__all__ = ["sound", "sound_findings", "sound_heard"]

_ABOUT = {
    "vowels": "spoken syllables, the class is the vowel; speakers of the test part are in no other",
    "letters": "names of ten letters; speakers of the test part are in no other",
    "voices": "prompts in five languages by four voices, which are in both parts: mostly, to know the speaker",
}


def _result(root: Path) -> Any:
    path = root / "results" / "sound.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def sound(root: Path) -> str:
    """A table for each set and number of items, with all sounds, and how it was measured."""
    held = _result(root)
    if held is None:
        return "Nothing has been measured yet."
    parts = [_part(part) for part in held["parts"]]
    parts.append(
        "Accuracy in per cent on test sounds: means over sets with 95 % intervals, one student each. "
        "Real sounds have no more bytes than the smallest learned set. "
        f"{held['machine']['processor']}, one thread. `benchmarks/sound.py`"
    )
    return "\n\n".join(parts)


def _part(part: Mapping[str, Any]) -> str:
    heading = (
        f"**{part['name']}**: {part['train']:,} training sounds of {'×'.join(map(str, part['shape']))} in "
        f"{part['classes']} classes, {_ABOUT[part['name']]}; {part['items']} of each class learned, {part['test']:,} "
        f"test sounds, {part['seeds']} {'set' if part['seeds'] == 1 else 'sets'} a row."
    )
    return "\n\n".join([heading, learner_table(part, "sounds")])


def sound_findings(root: Path) -> str:
    """How often each learned row is above or below the best real sounds: by its mean, and beyond its interval."""
    held = _result(root)
    if held is None:
        return "Nothing has been measured yet."
    counts: dict[str, list[int]] = {}
    for pair in (pair for part in held["parts"] for pair in part["pairs"]):
        gap = pair["difference"]
        low, high = gap["ci95"] or (-1.0, 1.0)
        found = counts.setdefault(pair["row"], [0, 0, 0, 0, 0])
        found[0 if gap["mean"] > 0 else 1 if gap["mean"] < 0 else 2] += 1
        found[3] += low > 0
        found[4] += high < 0
    rows: list[list[object]] = [[name, *found] for name, found in counts.items()]
    head = ("mean higher", "mean lower", "equal", "interval above 0", "interval below 0")
    return table(["minus the best real sounds", *head], rows)


def sound_heard(root: Path) -> str:
    """How near made sounds come to their spectrograms."""
    held = _result(root)
    if held is None:
        return "Nothing has been measured yet."
    heard = held["heard"]
    return (
        f"The spectrograms of {heard['n']} spoken vowels were made to sounds and read again: loud values are "
        f"{heard['decibels']:.1f} dB away, and a learner of all training sounds knows "
        f"{100 * heard['again']:.1f} % of them, where it knows {100 * heard['original']:.1f} % of the originals."
    )
