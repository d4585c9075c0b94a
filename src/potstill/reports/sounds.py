"""Players of the sounds that spectrograms stand for, inside a page."""

from potstill._util.html import Html, tag
from potstill._util.mel import MelScale, sound_uri
from potstill.errors import PotstillError
from potstill.reports.entry import Gallery

__all__ = ["HEARD", "SOUND_KIND", "sound_players"]

SOUND_KIND = "sound"
"""Kind of sounds."""
HEARD = (
    "Rows are bands, low ones at the bottom; columns are time. What is heard is made of the spectrogram (magnitudes by "
    "least squares, phases by Griffin-Lim): it is no recording, also where the samples are real."
)
_MOST, _BYTES, _FRAMES = 12, 600_000, 4_000
"""Players on a page, characters of their sounds together, and frames of a sound, at most."""


def sound_players(g: Gallery) -> dict[int, Html]:
    """Return players by position among the shown inputs: the first sound of every class, then the second ones, …

    Sounds that would make the page too large, and sets whose metadata do not say what is in their rows, have none.
    """
    try:
        scale = MelScale.from_units(g.units)
    except PotstillError:
        return {}
    if g.inputs.ndim != 4 or g.inputs.shape[1:3] != (1, scale.mels) or g.inputs.shape[3] > _FRAMES:
        return {}
    players: dict[int, Html] = {}
    left = _BYTES
    for i in g.class_by_class[:_MOST]:
        uri = sound_uri(scale.to_wave(g.inputs[i]), scale.rate)
        if (left := left - len(uri)) < 0:
            break
        label = f"Sound of {g.classes[int(g.hard_labels[i])]}"
        players[i] = tag("audio", controls="", preload="none", src=uri, aria_label=label)
    return players
