"""Sets of sounds are written as WAV files, and selections as copies of the files that were chosen."""

import json
import wave
from pathlib import Path

import numpy as np
import pytest
import torch

import potstill
from potstill._util.mel import MelScale
from potstill.errors import PotstillError
from potstill.functional.mel import log_mel, mel_power
from tests.sound_data import write_tones


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tones(tmp_path_factory.mktemp("sounds") / "tones")


@pytest.fixture(scope="module")
def chosen(folder: Path) -> potstill.Distilled:
    return potstill.distill(folder, "herding", ipc=2, progress=None)


def test_wav_files_sound_like_the_spectrograms(chosen: potstill.Distilled, tmp_path: Path) -> None:
    path = potstill.export(chosen, "wav", tmp_path / "wav")
    told = json.loads((path / "labels.json").read_text())
    assert told["files"] == [f"{name}/000{n}.wav" for name in ("high", "low", "middle") for n in (0, 1)]
    assert told["labels"] == [0, 0, 1, 1, 2, 2]
    assert (told["rate"], told["classes"]) == (8000, ["high", "low", "middle"])
    assert "None is a recording" in told["what"]
    scale = MelScale(rate=8000, mels=32)
    for n, name in enumerate(told["files"]):
        with wave.open(str(path / name)) as file:
            sound = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
        again = log_mel(mel_power(torch.from_numpy(sound).float(), scale))
        assert again.shape == chosen.inputs.shape[2:]
        loudest = chosen.inputs[n, 0].sum(1).argmax()
        assert int(again.sum(1).argmax()) == int(loudest)


def test_chosen_files_are_copied(chosen: potstill.Distilled, folder: Path, tmp_path: Path) -> None:
    path = potstill.export(chosen, "files", tmp_path / "files", data=folder)
    told = json.loads((path / "selection.json").read_text())
    names = potstill.load_data(folder).train.names
    assert told["files"] == [names[i] for i in told["index"]]
    for name in told["files"]:
        assert (path / name).read_bytes() == (folder / name).read_bytes()
    with pytest.raises(PotstillError, match="sounds are files"):
        potstill.export(chosen, "hf", tmp_path / "hf", data=folder)


def test_other_forms_hold_spectrograms(chosen: potstill.Distilled, tmp_path: Path) -> None:
    path = potstill.export(chosen, "npz", tmp_path / "small.npz")
    assert np.load(path)["x"].shape == (6, 1, 32, 24)
    assert (potstill.export(chosen, "png", tmp_path / "png") / "sheet.png").is_file()


def test_what_is_no_sound_cannot_be_heard(tmp_path: Path) -> None:
    digits = potstill.distill("digits", "random", ipc=1, progress=None)
    with pytest.raises(PotstillError, match="wav needs sounds, but this set holds image data"):
        potstill.export(digits, "wav", tmp_path / "wav")
