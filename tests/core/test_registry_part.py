"""A part's settings follow its name."""

import pytest

from potstill.core.registry import create
from potstill.errors import PotstillError
from potstill.parametrize.tiles import Tiles


def test_settings_are_read_as_their_defaults_types() -> None:
    assert create("parametrizations", "tiles") == Tiles()
    assert create("parametrizations", "tiles:factor=3,mode=bound,most=64") == Tiles(factor=3, mode="bound", most=64)


@pytest.mark.parametrize(
    ("spelled", "said"),
    [
        ("tile", "unknown parametrization 'tile'; did you mean tiles"),
        ("tiles:fctor=3", "parametrization tiles: unknown setting 'fctor'; did you mean factor"),
        ("tiles:factor=three", "parametrization tiles: factor must be int, not 'three'"),
        ("tiles:factor", "parametrization tiles: factor must be int, not ''"),
        ("tiles:mode", "parametrization tiles: write mode=VALUE, not 'mode'"),
        ("pixels:factor=3", "parametrization pixels: unknown setting 'factor'"),
    ],
)
def test_what_does_not_exist_is_said(spelled: str, said: str) -> None:
    with pytest.raises(PotstillError, match=said.replace("?", r"\?")):
        create("parametrizations", spelled)


def test_what_has_no_settings_says_so() -> None:
    with pytest.raises(PotstillError, match="augmentation dsa has no settings, but 'mode=M' was given"):
        create("augmentations", "dsa:mode=M")
