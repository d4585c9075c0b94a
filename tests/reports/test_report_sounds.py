"""The page of a set of sounds shows spectrograms and plays what they stand for."""

import base64
import io
import re
import wave
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser

import potstill
from potstill._util.mel import MelScale
from potstill.reports.gallery import gallery
from potstill.reports.page import Entry, Gallery, render
from potstill.reports.sounds import sound_players
from tests.sound_data import write_tones

UNITS = "log-mel:rate=8000,mels=32"


def spectrograms(n: int, frames: int = 8) -> np.ndarray:
    return np.random.default_rng(0).random((n, 1, 32, frames)).astype(np.float32)


def of_sounds(n: int = 4, frames: int = 8, units: str = UNITS, names: tuple[str, ...] = ("a", "<b>")) -> Gallery:
    labels = np.arange(n) * len(names) // n
    return Gallery(inputs=spectrograms(n, frames), labels=labels, classes=names, kind="sound", units=units)


def test_a_player_holds_the_sound_of_its_spectrogram() -> None:
    g = of_sounds()
    page = str(gallery(g))
    uris = re.findall(r'<audio controls="" preload="none" src="data:audio/wav;base64,([^"]+)"', page)
    assert len(uris) == 4
    with wave.open(io.BytesIO(base64.b64decode(uris[1]))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (8000, 1, 2)
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    want = MelScale(rate=8000, mels=32).to_wave(g.inputs[1])
    assert np.array_equal(samples, np.rint(want * 32767).astype("<i2"))
    assert "it is no recording" in page
    assert "2 sounds" in page
    assert "picture" not in page


def test_class_names_are_escaped_in_players() -> None:
    page = str(gallery(of_sounds(names=("a", '"><script>'))))
    assert "<script>" not in page
    assert "Sound of &quot;&gt;&lt;script&gt;" in page


def test_players_are_few_and_small_one_of_each_class_first() -> None:
    names = tuple(f"c{n}" for n in range(8))
    players = sound_players(of_sounds(40, names=names))
    assert sorted(players) == sorted([0, 5, 10, 15, 20, 25, 30, 35, 1, 6, 11, 16])
    assert len(sound_players(of_sounds(10, 500))) == 3  # 32,000 samples of two bytes, in base64, each
    assert not sound_players(of_sounds(2, 5000))


@pytest.mark.parametrize("units", ["", "pixels in [0,1]", "log-mel:rate=8000,mels=16", "log-mel:rate=999999,mels=32"])
def test_sounds_of_unknown_scale_are_shown_without_players(units: str) -> None:
    page = str(gallery(of_sounds(units=units)))
    assert "<audio" not in page
    assert page.count("<img") == 4


def test_pictures_have_no_players() -> None:
    page = str(gallery(Gallery(inputs=spectrograms(2), labels=np.arange(2), classes=("a", "b"), units=UNITS)))
    assert "<audio" not in page
    assert "recording" not in page


def test_a_browser_can_play_a_saved_set(tmp_path: Path, browser: Browser) -> None:
    small = potstill.distill(write_tones(tmp_path / "tones"), "herding", ipc=1, progress=None)
    path = small.save(tmp_path / "small.safetensors")
    potstill.report(path, out=tmp_path / "page.html")
    page = browser.new_page()
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    page.goto((tmp_path / "page.html").as_uri())
    lengths = page.evaluate(
        """() => Promise.all([...document.querySelectorAll("audio")].map(a => new Promise((done, failed) => {
            a.onloadedmetadata = () => done(a.duration); a.onerror = () => failed("no sound"); a.load(); })))"""
    )
    page.close()
    assert lengths == pytest.approx([24 * 128 / 8000] * 3)
    assert refused == []


def test_the_policy_lets_a_page_play_its_own_sounds_alone() -> None:
    page = render(
        [Entry(name="s", card={"source": {"name": "s"}}, gallery=of_sounds())], title="s", command="potstill report"
    )
    assert "img-src data:; media-src data:; style-src" in page
