"""Vectors that decode to the nearest real text: by hand, and with a gradient that goes straight through."""

import pytest
import torch

import potstill
from potstill.core import DecodeContext
from potstill.errors import PotstillError
from potstill.parametrize.nearest_text import NearestText
from tests.text_data import corpus


def test_each_vector_decodes_to_the_nearest_text_of_its_class():
    train = potstill.load_data(corpus(10), test_fraction=0).train
    decoder = NearestText().bind(train)
    real = train.fetch(torch.arange(len(train))).x
    torch.manual_seed(0)
    x = torch.randn(6, real.shape[1], requires_grad=True)
    payload = {"inputs": x, "classes": torch.tensor([0, 0, 1, 1, 2, 2])}
    found = decoder.nearest(payload)
    for row, c, at in zip(x.detach(), payload["classes"], found, strict=True):
        own = [i for i in range(len(train)) if train.labels[i] == c]
        assert at == min(own, key=lambda i: float((real[i] - row).norm()))
    decoded = decoder.decode(payload, DecodeContext(input=train.input))
    torch.testing.assert_close(decoded, real[found])
    weight = torch.randn_like(decoded)
    (decoded * weight).sum().backward()
    torch.testing.assert_close(x.grad, weight)


def test_it_works_on_texts_in_a_run_alone():
    with pytest.raises(PotstillError, match="has none"):
        NearestText().bind(potstill.load_data("digits").train)
    with pytest.raises(PotstillError, match="in a run alone"):
        NearestText().nearest({"inputs": torch.zeros(1, 2), "classes": torch.zeros(1, dtype=torch.int64)})
