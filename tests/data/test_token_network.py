"""Word vectors that a small network learns of training texts."""

import math
from pathlib import Path

import pytest
import torch

import potstill
from potstill.api.cache import verify_cache
from potstill.data import token_network
from potstill.data.text_representations import Tokens
from potstill.data.token_network import SHARPNESS, token_loss
from potstill.errors import PotstillError
from tests.text_data import corpus

SMALL = Tokens(size=8, words=40, updates=60)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def naive_loss(vectors, layer, bias, idf, words, input_words) -> float:
    """Return the mean over texts of the cross entropy, by lists and loops."""
    total = 0.0
    for present, seen in zip(words.tolist(), input_words.tolist(), strict=True):
        x = [sum(float(idf[w] * vectors[w, j]) for w in range(len(idf)) if seen[w]) for j in range(vectors.shape[1])]
        length = math.sqrt(sum(v * v for v in x))
        logits = [
            SHARPNESS * sum(v / length * float(c) for v, c in zip(x, row, strict=True)) + float(b)
            for row, b in zip(layer, bias, strict=True)
        ]
        norm = math.log(sum(math.exp(v) for v in logits))
        own = [norm - logit for logit, there in zip(logits, present, strict=True) if there]
        total += sum(own) / len(own)
    return total / len(words)


def test_the_loss_is_what_a_naive_program_computes_and_its_slope_is_right() -> None:
    rng = torch.Generator().manual_seed(0)
    vectors, layer = torch.randn(2, 6, 3, generator=rng, dtype=torch.float64).unbind()
    bias, idf = torch.randn(6, generator=rng, dtype=torch.float64), 1 + torch.rand(6, generator=rng).double()
    words = torch.tensor([[1, 1, 1, 0, 0, 0], [0, 1, 0, 1, 1, 1]], dtype=torch.bool)
    input_words = torch.tensor([[1, 0, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0]], dtype=torch.bool)
    found = token_loss(vectors, layer, bias, idf, words, input_words)
    assert float(found) == pytest.approx(naive_loss(vectors, layer, bias, idf, words, input_words), rel=1e-12)
    leaves = [t.clone().requires_grad_() for t in (vectors, layer, bias)]
    assert torch.autograd.gradcheck(lambda *p: token_loss(*p, idf, words, input_words), leaves)
    nothing = token_loss(vectors, layer, bias, idf, words, torch.zeros_like(input_words))
    assert float(nothing) == pytest.approx(
        float((torch.logsumexp(bias, 0) - torch.stack([bias[:3].mean(), bias[[1, 3, 4, 5]].mean()])).mean())
    )


def test_the_same_texts_give_the_same_bits_and_are_learned_once(cache, monkeypatch) -> None:
    texts, _ = corpus()
    seen = list[tuple[str, int, int]]()
    first = SMALL.fit(texts, lambda *step: seen.append(step))
    assert seen[-1] == ("word vectors", 60, 60)
    again = SMALL.fit(texts, lambda *step: seen.append(step))
    assert again == first
    assert len(seen) == 2  # nothing more: it was in the cache
    [file] = cache.glob("encoders/*.safetensors")
    [verdict] = verify_cache()
    assert (verdict.kind, verdict.problem) == ("word vectors", "")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert "damaged" in verify_cache()[0].problem
    assert SMALL.fit(texts) == first  # a damaged file is no reason to fail: it is learned anew
    monkeypatch.setenv("POTSTILL_CACHE", str(cache / "other"))
    torch.manual_seed(7)
    assert SMALL.fit(texts) == first
    assert SMALL.fit(texts[:60]) != first


def test_words_that_stand_together_come_near_each_other(cache) -> None:
    texts, labels = corpus()
    encoder = Tokens(size=8, words=60, updates=200).fit(texts)
    x = encoder.encode(texts)
    assert x.norm(dim=1).tolist() == pytest.approx([1] * len(texts), abs=1e-5)
    near = (x @ x.T - 2 * torch.eye(len(x))).argmax(1)
    right = sum(labels[i] == labels[j] for i, j in enumerate(near.tolist())) / len(texts)
    assert right > 0.8  # chance: 1/3
    assert encoder.encode(["", "unheard of"]).abs().sum() == 0


def test_too_much_work_is_refused_before_it_is_done(monkeypatch) -> None:
    monkeypatch.setattr(token_network, "MOST_WORK", 1000)
    with pytest.raises(PotstillError, match=r"40 words in 8 numbers for 60 updates are 19\.2 times the work") as caught:
        SMALL.fit(corpus()[0])
    assert "\n" not in str(caught.value)


def test_a_set_holds_its_encoder(tmp_path, cache) -> None:
    texts, labels = corpus()
    splits = potstill.load_data((texts, labels), representation=SMALL.name)
    small = potstill.distill(splits, "kip", ipc=1, iterations=2, progress=None)
    small.save(tmp_path / "small.safetensors")
    again = potstill.load(tmp_path / "small.safetensors")
    assert again.encoder == splits.train.encoder
    assert again.metadata["bytes"]["encoder"] == sum(
        t.numel() * t.element_size() for t in again.encoder.tensors().values()
    )
    card = potstill.evaluate(
        again, (texts, labels), networks="linear-model", seeds=1, baselines=False, full=False, progress=None
    )
    assert card.accuracy == pytest.approx(
        potstill.evaluate(
            again, splits, networks="linear-model", seeds=1, baselines=False, full=False, progress=None
        ).accuracy
    )
