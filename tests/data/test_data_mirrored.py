"""Whether a picture may be mirrored is a fact of the data: known, said, or taken to be so and noted."""

import numpy as np
import pytest
import torch
from picture_files import encoded, put

import potstill
from potstill.augment.names import named_augmentation
from potstill.cli.main import main
from potstill.data import TensorSource, load
from potstill.errors import PotstillError
from potstill.evaluation.protocol import Case
from potstill.evaluation.protocols import DSA

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
NOTE = "augmentations may mirror these pictures"


def arrays(**options):
    return load((PIXELS, np.arange(20) % 2), **options)


def test_what_is_known_what_is_said_and_what_is_noted():
    assert not load("digits").train.input.horizontal_flip
    assert not any(NOTE in note for note in load("digits").notes)
    assert load("digits", horizontal_flip=True).train.input.horizontal_flip
    unknown = arrays()
    assert unknown.train.input.horizontal_flip
    assert unknown.notes[-1].endswith("say `horizontal_flip=False`; `horizontal_flip=True` leaves this note out")
    for said in (True, False):
        s = arrays(horizontal_flip=said)
        assert s.train.input.horizontal_flip == s.test.input.horizontal_flip == said
        assert not any(NOTE in note for note in s.notes)
    assert load(TensorSource.make(PIXELS, np.arange(20) % 2)).notes == load((PIXELS, np.arange(20) % 2)).notes[:1]


def test_streamed_pictures_and_tables(tmp_path):
    for name in "ab":
        for i in range(4):
            put(tmp_path / name / f"{i}.png", encoded((i, 2, 3)))
    s = load(tmp_path, stream=True, horizontal_flip=False)
    assert not s.train.input.horizontal_flip
    assert not s.test.input.horizontal_flip
    with pytest.raises(
        PotstillError, match=r"^only images are mirrored, but arrays is a table; leave `horizontal_flip=` out$"
    ):
        load((np.zeros((8, 2)), [0, 1] * 4), horizontal_flip=False)


def test_the_augmentation_follows_and_the_card_says_it(tmp_path):
    small = {}
    for said in (True, False):
        data = arrays(horizontal_flip=said)
        assert ("noflip" in repr(DSA.resolve("usps", "convnet", data.train.input).recipe.augment)) == (not said)
        small[said] = potstill.distill(data, method="dm", ipc=1, network="convnet-d1-w4", iterations=1, augment="dsa")
        assert small[said].metadata["input"]["horizontal_flip"] == small[said].input.horizontal_flip == said
    assert small[False].metadata["config"]["augment"] == "dsa-noflip"
    assert "flip" not in named_augmentation("dsa", arrays(horizontal_flip=False).train).strategy
    small[False].save(tmp_path / "x.safetensors")
    assert not potstill.load(tmp_path / "x.safetensors").input.horizontal_flip


def test_a_case_of_what_must_not_be_mirrored_has_the_fingerprint_that_the_names_had():
    names = ("digits", "mnist", "mnist-5k", "svhn")
    by_name = [Case(sources=names, augment="dsa-noflip")]
    before = DSA.__class__(**{f: getattr(DSA, f) for f in DSA.__dataclass_fields__} | {"cases": tuple(by_name)})
    assert DSA.fingerprint() == before.fingerprint()
    other = DSA.__class__(**{f: getattr(DSA, f) for f in DSA.__dataclass_fields__} | {"cases": ()})
    assert DSA.fingerprint() != other.fingerprint()


def test_the_command_line(tmp_path, capsys):
    np.savez(tmp_path / "own.npz", x=PIXELS, y=np.arange(20) % 2)
    words = ["distill", str(tmp_path / "own.npz"), "--method", "random", "--ipc", "1"]
    assert main([*words, "--horizontal-flip", "no", "--out", str(tmp_path / "a.safetensors"), "--json"]) == 0
    out = capsys.readouterr()
    assert NOTE not in out.err
    assert main(["inspect", str(tmp_path / "a.safetensors")]) == 0
    assert "images      must not be mirrored" in capsys.readouterr().out
    assert main([*words, "--out", str(tmp_path / "b.safetensors")]) == 0
    assert NOTE in capsys.readouterr().err
    assert torch.equal(
        potstill.load(tmp_path / "a.safetensors").inputs, potstill.load(tmp_path / "b.safetensors").inputs
    )
