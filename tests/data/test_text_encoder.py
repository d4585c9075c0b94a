"""Vectors of texts beside a naive reference, and encoders that come back from tensors."""

import math
import re
from collections import Counter

import numpy as np
import pytest
import torch

from potstill.data.text_encoder import HashedEncoder, WordEncoder, text_normalization
from potstill.data.text_representations import (
    Hashed,
    Latent,
    OwnRepresentation,
    Tokens,
    encoder_from_tensors,
    parse_representation,
)
from potstill.errors import PotstillError
from tests.text_data import corpus


def naive_vector(text: str, encoder: WordEncoder) -> list[float]:
    """(1 + ln count) · idf, length 1, times the directions, length 1: by lists and loops."""
    counts = Counter(w for w in re.findall(r"\b\w\w+\b", text.lower()) if w in encoder.words)
    weights = {w: (1 + math.log(n)) * float(encoder.idf[encoder.words.index(w)]) for w, n in counts.items()}
    length = math.sqrt(sum(v * v for v in weights.values()))
    x = [
        sum(
            v / length * int(encoder.components[encoder.words.index(w), j]) * float(encoder.scale[j])
            for w, v in weights.items()
        )
        for j in range(encoder.size)
    ]
    norm = math.sqrt(sum(v * v for v in x))
    return [v / norm for v in x]


def test_a_latent_vector_is_what_a_naive_program_computes():
    texts, _ = corpus()
    encoder = Latent(size=6).fit(texts)
    asked = ["soup soup soup and a stew", texts[3], texts[40].upper() + "!"]
    found = encoder.encode(asked)
    for row, text in zip(found, asked, strict=True):
        np.testing.assert_allclose(row.numpy(), naive_vector(text, encoder), atol=1e-6)
    assert found.dtype == torch.float32
    assert torch.equal(encoder.encode(asked[1:2])[0], found[1])  # no text depends on its neighbours


def test_idf_is_that_of_documents_and_words_of_one_text_are_left_out():
    encoder = Latent(size=2).fit(["red apple", "red pear", "green apple", "blue sky"])
    assert encoder.words == ("apple", "red")
    assert encoder.idf.tolist() == pytest.approx([math.log(5 / 3) + 1] * 2)
    assert encoder.size == 1  # two words have one direction beside their mean
    assert encoder.encode(["unknown words", ""]).abs().sum() == 0


def test_first_direction_of_a_known_matrix():
    encoder = Latent(size=64).fit(["aa bb", "aa bb", "aa bb", "cc dd", "cc dd"])
    x = encoder.encode(["aa bb", "aa", "cc dd"])
    assert x.shape == (3, 3)
    assert float(x[0] @ x[1]) == pytest.approx(1, abs=0.02)  # one direction of the two words
    assert float(x[0] @ x[2]) == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("form", [Latent(size=5, words=30), Tokens(size=5, words=30, updates=2), Hashed(size=16)])
def test_an_encoder_comes_back_from_its_tensors(form):
    texts, _ = corpus()
    encoder = form.fit(texts)
    again = encoder_from_tensors(encoder.name, encoder.size, encoder.tensors())
    assert again == encoder
    assert hash(again) == hash(encoder)
    assert torch.equal(again.encode(texts), encoder.encode(texts))
    assert repr(encoder) == f"{type(encoder).__name__}({form.name!r}, {encoder.size} numbers)"


def test_hashed_words_have_no_state():
    x = Hashed(size=16).fit(()).encode(["soup soup bread", "bread soup soup", ""])
    assert torch.equal(x[0], x[1])
    assert x.norm(dim=1).tolist() == pytest.approx([1, 1, 0])
    assert Hashed(size=16).fit(()).encode([]).shape == (0, 16)
    assert isinstance(parse_representation("hashed:size=16").fit(()), HashedEncoder)


@pytest.mark.parametrize("part", ["words", "idf", "components", "scale"])
def test_a_damaged_encoder_is_refused(part):
    encoder = Latent(size=4).fit(corpus()[0])
    tensors = dict(encoder.tensors())
    lacking = {name: tensor for name, tensor in tensors.items() if name != part}
    cut = tensors | {part: tensors[part][:-1]}
    other = tensors | {part: tensors[part].double()}
    for broken in (lacking, cut, other):
        with pytest.raises(PotstillError, match="text encoder is damaged"):
            encoder_from_tensors(encoder.name, encoder.size, broken)
    for name, size in (("latent:size=4,words=x", 4), ("pickle", 4), (None, 4), (encoder.name, 5)):
        with pytest.raises(PotstillError):
            encoder_from_tensors(name, size, tensors)


def test_a_scale_that_is_not_finite_is_refused():
    encoder = Latent(size=4).fit(corpus()[0])
    broken = dict(encoder.tensors()) | {"scale": torch.full((4,), math.nan)}
    with pytest.raises(PotstillError, match="damaged"):
        encoder_from_tensors(encoder.name, 4, broken)


@pytest.mark.parametrize(
    ("spelled", "message"),
    [
        ("lsa", "unknown representation 'lsa'"),
        ("latent:size=x", "whole numbers for size and words"),
        ("tokens:size=x", "whole numbers for size, updates and words"),
        ("tokens:updates=1", "updates must be from 2"),
        ("latent:depth=3", "not 'depth=3'"),
        ("latent:size=1", "size must be from 2"),
        ("hashed:words=3", "whole numbers for size"),
    ],
)
def test_bad_representations_are_refused_in_a_line(spelled, message):
    with pytest.raises(PotstillError, match=message) as caught:
        parse_representation(spelled)
    assert "\n" not in str(caught.value)


def test_texts_without_words_are_refused():
    with pytest.raises(PotstillError, match="words of two letters or more"):
        Latent().fit(["1", "?", "!"])


def test_a_users_own_function():
    form = OwnRepresentation(function=lambda texts: np.array([[len(t), t.count("a")] for t in texts], np.float64))
    encoder = form.fit(["a", "bb"])
    assert not encoder.is_stored
    assert encoder.encode(["aab", ""]).tolist() == [[3, 2], [0, 0]]
    for wrong in (lambda t: [1], lambda t: np.zeros((len(t), 3)) * math.nan, lambda t: np.zeros((9, 3))):
        with pytest.raises(PotstillError, match="encode "):
            OwnRepresentation(function=wrong).fit(["a", "b"]).encode(["a", "b"])


def test_one_factor_for_all_numbers():
    x = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
    made = text_normalization(x)
    assert made.std.tolist() == pytest.approx([math.sqrt(2.5)] * 2)
    assert made.mean.tolist() == [0, 0]
