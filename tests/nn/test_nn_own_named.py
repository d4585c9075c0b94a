"""A network of the user's own takes inputs of several tensors by name, and ragged ones."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import potstill
from potstill.core.nested import padded, random_inputs
from potstill.errors import PotstillError
from potstill.nn import CustomNetwork, factory
from potstill.rng import generator
from potstill.testing import check_network
from potstill.testing.toy import mixed_source, pairs_source


class Columns(nn.Module):
    """Numbers as they are, and a vector for each code of each column."""

    def __init__(self, spec: Any, classes: int) -> None:
        super().__init__()
        parts = dict(spec.parts)
        self.vectors = nn.ModuleList(nn.Embedding(levels, 4) for levels in parts["codes"].levels)
        self.body = nn.Sequential(nn.Linear(parts["numbers"].shape[0] + 4 * len(self.vectors), 16), nn.Tanh())
        self.last = nn.Linear(16, classes)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        codes = [vector(x["codes"][:, i]) for i, vector in enumerate(self.vectors)]
        return self.last(self.body(torch.cat([x["numbers"], *codes], 1)))


class Texts(nn.Module):
    """Mean of the words under a mask, beside the mean of the picture's channels."""

    def __init__(self, spec: Any, classes: int) -> None:
        super().__init__()
        self.words = nn.Embedding(dict(spec.parts)["text"].levels[0], 8)
        self.last = nn.Linear(8 + 1, classes)

    def embed(self, x: dict[str, Tensor]) -> Tensor:
        words, mask = padded(x, "text")
        seen = self.words(words) * mask.unsqueeze(2)
        return torch.cat([seen.sum(1) / mask.sum(1, keepdim=True).clamp_min(1), x["image"].mean((2, 3))[:, :1]], 1)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        return self.last(self.embed(x))


def test_words_are_padded_with_a_mask() -> None:
    x = {"text/values": torch.tensor([5, 6, 7, 8]), "text/offsets": torch.tensor([0, 3, 3])}
    words, mask = padded(x, "text")
    assert words.tolist() == [[5, 6, 7], [0, 0, 0], [8, 0, 0]]
    assert mask.tolist() == [[True] * 3, [False] * 3, [True, False, False]]


@pytest.mark.parametrize(("net", "source", "k"), [(Columns, mixed_source(classes=True), 2), (Texts, pairs_source(), 6)])
def test_it_keeps_the_contract(net: Any, source: Any, k: int) -> None:
    make = factory(CustomNetwork(net), source.input, k)
    check_network(make, source.input, k)
    x = random_inputs(source.input, 5, generator(0))
    a, b = make(3).eval(), make(3).eval()
    assert torch.equal(a(x), b(x))
    torch.testing.assert_close(a.classifier(a.embed(x)), a(x))


def test_sets_of_named_inputs_are_selected_and_measured_with_it() -> None:
    data = potstill.Splits(train=mixed_source(classes=True), test=mixed_source(classes=True))
    small = potstill.distill(data, "herding", ipc=6, network=Columns, progress=None)
    assert "Columns@" in small.metadata["network"]
    card = potstill.evaluate(
        small, data, networks=[Columns], protocol="dc", epochs=60, seeds=2, baselines=False, full=False
    )
    assert card.score > 0.6


def test_one_that_takes_a_single_tensor_is_refused_by_the_names() -> None:
    class Flat(nn.Module):
        def __init__(self, classes: int) -> None:
            super().__init__()
            self.last = nn.Linear(5, classes)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(x.flatten(1))

    with pytest.raises(PotstillError, match=r"several tensors by name \(numbers, codes\)"):
        factory(CustomNetwork(Flat), mixed_source(classes=True).input, 2)


def test_draws_of_training_are_seeded_by_every_tensor() -> None:
    class Dropped(Columns):
        def forward(self, x: dict[str, Tensor]) -> Tensor:
            return nn.functional.dropout(super().forward(x), 0.5, self.training)

    source = mixed_source(classes=True)
    net, x = factory(CustomNetwork(Dropped), source.input, 2)(0).train(), random_inputs(source.input, 8, generator(0))
    assert torch.equal(net(x), net(x))
    other = {**x, "codes": (x["codes"] + 1) % torch.tensor([2, 5])}
    assert not torch.equal(net(x) == 0, net(other) == 0)
    assert dataclasses.asdict(source.input)["parts"]
