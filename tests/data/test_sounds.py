"""Folders of sound files are read as spectrograms of one rate and one length."""

import builtins
import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import potstill
from potstill._util.mel import MelScale
from potstill.core import Splits
from potstill.errors import PotstillError
from potstill.functional.mel import log_mel, mel_power
from tests.sound_data import tone, write_tones, write_wav


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tones(tmp_path_factory.mktemp("sounds") / "tones")


def raw(splits: Splits) -> torch.Tensor:
    return splits.train.raw(torch.arange(len(splits.train)))


def has_note(splits: Splits, text: str) -> bool:
    return any(text in note for note in splits.notes)


def test_a_folder_of_wav_files_is_read_as_spectrograms(folder: Path) -> None:
    splits = potstill.load_data(folder)
    spec = splits.train.input
    assert (spec.kind, spec.shape, spec.units) == ("sound", (1, 32, 24), "log-mel:rate=8000,mels=32")
    assert not spec.horizontal_flip
    assert splits.train.classes == ("high", "low", "middle")
    assert splits.train.inputs.dtype == torch.uint8
    assert torch.equal(raw(potstill.load_data(folder, kind="sound")), raw(splits))
    x = raw(splits)
    loudest = x[:, 0].sum(2).argmax(1)  # row of each, the highest band first
    rows = [loudest[splits.train.labels == c].float().mean() for c in range(3)]
    assert rows[0] < rows[2] < rows[1]
    assert has_note(splits, "of one speaker or recording")


def test_values_are_those_of_the_functional(tmp_path: Path) -> None:
    sound = tone(500, 0.25, 8000)
    for name in ("a", "b"):
        write_wav(tmp_path / name / "1.wav", sound, 8000)
        write_wav(tmp_path / name / "2.wav", sound[::-1], 8000)
    splits = potstill.load_data(tmp_path, representation="log-mel:seconds=0.25,trim=0", test_fraction=0)
    written = np.rint(sound * 32767) / 32768
    want = log_mel(mel_power(torch.from_numpy((written / abs(written).max()).astype(np.float32)), MelScale(rate=8000)))
    assert splits.train.input.shape == (1, 32, 16)
    assert float((raw(splits)[0, 0] - want[:, :16]).abs().max()) <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_wav_files_of_all_widths_and_channels_are_read_without_soundfile(
    tmp_path: Path, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    sound = tone(500, 0.25, 8000)
    write_wav(tmp_path / "a" / "1.wav", sound, 8000, width)
    write_wav(tmp_path / "b" / "1.wav", np.stack([1.5 * sound, 0.5 * sound], 1), 8000, width)
    splits = potstill.load_data(tmp_path, test_fraction=0)
    first, second = raw(splits)
    loud = first > 0.6
    assert float((first - second)[loud].abs().max()) < (0.06 if width == 1 else 0.02)
    assert has_note(splits, "the channels of 1 sounds are mixed to one")


def test_two_rates_come_to_the_lowest_and_sound_alike(tmp_path: Path) -> None:
    for name, pitch in (("a", 400), ("b", 900)):
        for rate in (8000, 22050):
            at = np.arange(rate // 4) / rate
            write_wav(tmp_path / name / f"{rate}.wav", 0.5 * np.sin(2 * np.pi * pitch * at), rate)
    splits = potstill.load_data(tmp_path, test_fraction=0)
    assert splits.train.input.units == "log-mel:rate=8000,mels=32"
    assert has_note(splits, "resampled to 8,000 Hz (2 of")
    x = raw(splits)
    inner = slice(2, 14)
    assert float((x[0] - x[1])[:, :, inner][x[0][:, :, inner] > 0.5].abs().max()) < 0.03
    high = potstill.load_data(tmp_path, test_fraction=0, representation="log-mel:rate=16000,mels=40")
    assert high.train.input.shape[1] == 40
    assert high.train.input.units == "log-mel:rate=16000,mels=40"


def test_silence_is_cut_clips_are_cut_and_filled(tmp_path: Path) -> None:
    sound, quiet = tone(500, 0.5, 8000), np.zeros(4000)
    write_wav(tmp_path / "a" / "long.wav", np.concatenate([quiet, sound, quiet]), 8000)
    write_wav(tmp_path / "b" / "short.wav", sound[:1600], 8000)
    write_wav(tmp_path / "b" / "tiny.wav", sound[100:150], 8000)
    write_wav(tmp_path / "b" / "silent.wav", quiet, 8000)
    splits = potstill.load_data(tmp_path, test_fraction=0, representation="log-mel:seconds=0.4")
    assert splits.train.input.shape == (1, 32, 24)
    x = raw(splits)[:, 0]
    assert float(x[0].amax(0)[0]) > 0.7  # starts with the sound
    assert float(x[1].amax(0)[16:].max()) == 0
    assert float(x[1].amax(0)[:11].min()) > 0.5
    assert float(x[2].max()) == 0
    assert has_note(splits, "2 longer ones are cut at the end, 2 shorter ones filled")
    assert has_note(splits, "1 sounds are silent, the first is")
    assert has_note(splits, "1 sounds are shorter than one window of 32 ms")
    whole = potstill.load_data(tmp_path, test_fraction=0, representation="log-mel:seconds=0.4,trim=0")
    assert float(raw(whole)[0].max()) < 0.1


def test_loudness_stays_where_it_is_wanted(tmp_path: Path) -> None:
    sound = tone(500, 0.25, 8000)
    for name, level in (("a", 1.0), ("b", 0.1)):
        write_wav(tmp_path / name / "1.wav", level * sound, 8000)
    peak, file = (
        raw(potstill.load_data(tmp_path, test_fraction=0, representation=f"log-mel:level={level}")).flatten(1).amax(1)
        for level in ("peak", "file")
    )
    assert float((peak[0] - peak[1]).abs()) < 0.01
    assert float(file[0] - file[1]) == pytest.approx(20 / 80, abs=0.01)


def test_duplicates_across_the_split_are_told(tmp_path: Path) -> None:
    write_tones(tmp_path / "train", each=2)
    write_tones(tmp_path / "test", each=1)
    splits = potstill.load_data(tmp_path)
    assert splits.test is not None
    assert len(splits.test) == 3
    assert has_note(splits, "copies")


def test_speakers_are_kept_together_by_file_names(folder: Path) -> None:
    splits = potstill.load_data(folder, group=r"voice(\d)", test_fraction=0.34)
    assert splits.test is not None
    voices = [{n.rpartition("/")[2][:6] for n in part.names} for part in (splits.train, splits.test)]
    assert not voices[0] & voices[1]
    assert not has_note(splits, "of one speaker or recording")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not a WAV file (it ends in its header)"), (b"RIFFnothing of use here", "not a WAV file ("),
        ("cut", "it ends after"), ("empty", "it holds no samples"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_one_line_that_names_it(tmp_path: Path, content: Any, said: str) -> None:
    write_tones(tmp_path, each=3)
    path = tmp_path / "low" / "bad.wav"
    if content == "cut":
        content = write_wav(path, tone(500, 0.25, 8000), 8000).read_bytes()[:-801]
    elif content == "empty":
        content = write_wav(path, np.zeros(0), 8000).read_bytes()
    path.write_bytes(content)
    with pytest.raises(PotstillError) as error:
        potstill.load_data(tmp_path)
    assert str(path) in str(error.value)
    assert said in str(error.value)
    assert "skip_bad=True" in str(error.value)
    assert "\n" not in str(error.value)
    splits = potstill.load_data(tmp_path, skip_bad=True, test_fraction=0)
    assert len(splits.train) == 9
    assert has_note(splits, "1 damaged sounds left out")
    assert "low/bad.wav" not in splits.train.names


def test_files_that_are_all_damaged_are_refused(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.wav").write_bytes(b"nothing")
    with pytest.raises(PotstillError, match="none of 2 sounds can be read, the first is"):
        potstill.load_data(tmp_path, skip_bad=True)


def test_a_sound_longer_than_the_limit_is_refused(tmp_path: Path) -> None:
    write_wav(tmp_path / "a" / "1.wav", np.zeros(3000), 1000)
    write_wav(tmp_path / "b" / "1.wav", np.zeros(3000), 1000)
    with potstill.limited(sound_seconds=2), pytest.raises(PotstillError, match="sound_seconds"):
        potstill.load_data(tmp_path)


@pytest.mark.parametrize("suffix", ["flac", "ogg"])
def test_other_formats_are_read_by_soundfile(tmp_path: Path, suffix: str) -> None:
    soundfile = pytest.importorskip("soundfile")
    for name, pitch in (("a", 400.0), ("b", 900.0)):
        (tmp_path / name).mkdir()
        sound = tone(pitch, 0.5, 8000)
        soundfile.write(tmp_path / name / f"1.{suffix}", sound, 8000)
        write_wav(tmp_path / name / "2.wav", sound, 8000)
    x = raw(potstill.load_data(tmp_path, test_fraction=0))
    loud = x[0] > 0.7
    assert float((x[0] - x[1])[loud].abs().mean()) < 0.02
    (tmp_path / "a" / f"1.{suffix}").write_bytes(b"nothing")
    with pytest.raises(PotstillError, match=rf"1\.{suffix}: not a sound"):
        potstill.load_data(tmp_path)


def test_a_wav_file_of_fractions_is_read_by_soundfile(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    for name in "ab":
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / "1.wav", tone(400, 0.25, 8000), 8000, subtype="FLOAT")
    assert len(potstill.load_data(tmp_path, test_fraction=0).train) == 2
    soundfile.write(tmp_path / "a" / "1.wav", np.full(800, np.nan), 8000, subtype="FLOAT")
    with pytest.raises(PotstillError, match="it holds values that are not finite"):
        potstill.load_data(tmp_path, test_fraction=0)


def test_a_missing_package_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.flac").write_bytes(b"fLaC")
    monkeypatch.delitem(sys.modules, "soundfile", raising=False)
    real = importlib.import_module

    def missing(name: str, *more: Any) -> Any:
        if name == "soundfile":
            raise ModuleNotFoundError("No module named 'soundfile'", name="soundfile")
        return real(name, *more)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(PotstillError, match=r"1\.flac: sounds other than WAV.*pip install 'potstill\[sound\]'"):
        potstill.load_data(tmp_path)
    assert builtins.__import__ is not missing


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": 32}, "without `size=`"), ({"label": "a"}, "without `label=`"),
        ({"representation": "mfcc"}, "representation of sounds"),
        ({"representation": "log-mel:level=loud"}, "level of sounds"),
        ({"representation": "log-mel:rate=10"}, "from 1,000 to 48,000 Hz"),
        ({"representation": "log-mel:seconds=100"}, "from 0 to 60 s"),
        ({"representation": "log-mel:trim=-1"}, "from 0 to 100 dB"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_are_refused(folder: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(PotstillError, match=said):
        potstill.load_data(folder, **options)


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PotstillError, match="no such folder"):
        potstill.load_data(tmp_path / "none", kind="sound")
    with pytest.raises(PotstillError, match="a tuple was given"):
        potstill.load_data((np.zeros((2, 9)), [0, 1]), kind="sound")
