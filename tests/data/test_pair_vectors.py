"""Pairs whose texts are vectors of an encoder: how they are read, written, read again, joined and compared."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import potstill
from potstill.core import Splits
from potstill.data import load as load_splits
from potstill.dataset_file.selection import materialize
from potstill.errors import PotstillError
from potstill.evaluation.byte_matched_baselines import pack_samples, take
from potstill.evaluation.real_set_space import candidate_codecs
from potstill.nn import factory
from potstill.testing.toy import pairs_source

NAMES = ("red apple", "green pear", "yellow banana", "blue plum", "red cherry", "green lime")


def folder_of(root: Path, n: int = 18, per_picture: int = 1, mode: str = "RGB") -> Path:
    rng = np.random.default_rng(0)
    lines = ["file_name,text"]
    for i in range(n):
        pixels = rng.integers(0, 255, (10, 12, 4 if mode == "RGBA" else 3), dtype=np.uint8)
        Image.fromarray(pixels, mode).save(root / f"{i}.png")
        lines += [f"{i}.png,a {NAMES[i % 6]} number{j}" for j in range(per_picture)]
    (root / "metadata.csv").write_text("\n".join(lines) + "\n")
    return root


def test_texts_become_vectors_fitted_on_the_training_part(tmp_path: Path) -> None:
    splits = potstill.load_data(folder_of(tmp_path), task="retrieval", size=(8, 8), representation="latent:size=5")
    train, test = splits.train, splits.test
    assert test is not None
    assert train.input.kind == "pair"
    parts = dict(train.input.parts)
    assert parts["text"].kind == "text"
    assert parts["text"].shape == (5,)
    assert parts["image"].shape == (3, 8, 8)
    encoder: Any = train.encoder  # type: ignore[attr-defined]
    texts = train.texts  # type: ignore[attr-defined]
    assert torch.equal(train.raw(torch.arange(len(train)))["text"], encoder.encode(texts))
    assert torch.equal(test.raw(torch.arange(2))["text"], encoder.encode(test.texts[:2]))  # type: ignore[attr-defined]
    x = train.fetch(torch.arange(len(train))).x["text"]  # type: ignore[index]
    assert float(x.square().mean()) == pytest.approx(1, abs=1e-5)  # one factor for all, so that angles stay
    words = potstill.load_data(tmp_path, task="retrieval", size=(8, 8))
    assert words.train.content_hash != train.content_hash
    assert dict(words.train.input.parts)["text"].kind == "words"


def test_a_function_of_ones_own_makes_vectors(tmp_path: Path) -> None:
    def lengths(texts: list[str]) -> Any:
        return np.array([[len(t), t.count("e")] for t in texts], dtype=np.float32)

    train = potstill.load_data(folder_of(tmp_path), task="retrieval", encode=lengths).train
    assert dict(train.input.parts)["text"].shape == (2,)
    small = potstill.distill(train, "random", items=4, progress=None)
    assert "inputs/text" in small.tensors  # no file holds the function, so vectors are written


def test_texts_of_one_picture_lie_on_one_side_of_the_split(tmp_path: Path) -> None:
    splits = potstill.load_data(folder_of(tmp_path, 12, per_picture=5), task="retrieval", representation="latent")
    sides = [set(part.names) for part in (splits.train, splits.test)]  # type: ignore[union-attr]
    assert not sides[0] & sides[1]
    assert len(splits.train) % 5 == 0
    for part in (splits.train, splits.test):
        assert part is not None
        numbers = part.targets  # type: ignore[attr-defined]
        assert int(numbers.unique(return_counts=True)[1].min()) == 5


def test_pictures_with_transparency_are_put_on_white(tmp_path: Path) -> None:
    splits = potstill.load_data(folder_of(tmp_path, mode="RGBA"), task="retrieval", representation="latent")
    assert dict(splits.train.input.parts)["image"].shape[0] == 3
    assert any("transparency" in note for note in splits.notes)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("gone.png,a lost kite", "gone.png"),
        ("0.png,", "row 19 .0.png. is empty in column 'text'; fill it or remove the row"),
        ("0.png,   ", "row 19 .0.png. is empty in column 'text'"),
    ],
)
def test_a_missing_picture_and_an_empty_caption_are_one_line(tmp_path: Path, change: str, said: str) -> None:
    folder = folder_of(tmp_path)
    with (folder / "metadata.csv").open("a") as file:
        file.write(change + "\n")
    with pytest.raises(PotstillError, match=said) as refused:
        potstill.load_data(folder, task="retrieval", representation="latent")
    assert "\n" not in str(refused.value)


def test_copied_texts_are_no_copied_pairs(tmp_path: Path) -> None:
    lines = (folder_of(tmp_path) / "metadata.csv").read_text().splitlines()
    (tmp_path / "metadata.csv").write_text(
        "\n".join([lines[0], *(f"{i}.png,the very same {NAMES[i % 2]}" for i in range(18))])
    )
    notes = potstill.load_data(tmp_path, task="retrieval", representation="latent").notes
    assert not any("exact copies" in note for note in notes)


def test_arrays_are_not_resized(tmp_path: Path) -> None:
    pictures = np.zeros((6, 8, 8, 3), dtype=np.uint8)
    with pytest.raises(PotstillError, match="arrays of pictures are not resized"):
        load_splits((pictures, list(NAMES)), task="retrieval", size=(4, 4))


@pytest.mark.parametrize("codec", ["exact", "uint4", "cosine:positions=4", "half:bits=4"])
def test_real_pairs_are_written_with_their_texts_alone(tmp_path: Path, codec: str) -> None:
    source = pairs_source(vectors=True)
    small = potstill.distill(source, "random", items=6, codec=codec, progress=None)
    small.save(tmp_path / "pairs.safetensors")
    again = potstill.load(tmp_path / "pairs.safetensors")
    assert "inputs/text" not in again.tensors
    assert again.captions == small.captions
    assert again.index is not None
    assert again.encoder == source.encoder  # type: ignore[attr-defined]
    part = potstill.load_data(source).train
    assert torch.equal(again.inputs["text"], part.raw(again.index)["text"])
    assert again.captions == tuple(part.texts[i] for i in again.index.tolist())  # type: ignore[attr-defined]
    weight = (tmp_path / "pairs.safetensors").stat().st_size
    assert weight > again.metadata["bytes"]["total"] >= again.metadata["bytes"]["captions"] > 0


def test_indices_alone_give_the_same_set(tmp_path: Path) -> None:
    source = pairs_source(vectors=True)
    splits = Splits(train=source, test=None)
    for codec in ("exact", "uint4"):
        small = potstill.distill(splits, "random", items=6, codec=codec, progress=None)
        potstill.export(small, "indices", tmp_path / "index.safetensors", force=True)
        again = materialize(tmp_path / "index.safetensors", source)
        assert torch.equal(again.inputs["text"], small.inputs["text"])
        assert torch.equal(again.inputs["image"], small.inputs["image"])
        assert again.metadata["bytes"]["total"] == small.metadata["bytes"]["total"]


@pytest.mark.parametrize("codec", ["float32", "uint8", "uint4", "cosine:positions=16"])
def test_learned_vectors_are_written_in_their_bits(tmp_path: Path, codec: str) -> None:
    source = pairs_source(vectors=True)
    small = potstill.distill(source, "dm", items=6, iterations=2, codec=codec, progress=None)
    small.save(tmp_path / "pairs.safetensors")
    again = potstill.load(tmp_path / "pairs.safetensors")
    assert not again.captions
    assert torch.equal(again.inputs["text"], small.inputs["text"])
    bits = again.metadata["codec"]["tensors"]["inputs/text"].get("bits", 32)
    assert bits == {"float32": 32, "uint8": 8, "uint4": 4}.get(codec, 4)


def test_sets_of_real_and_of_learned_pairs_join() -> None:
    splits = Splits(train=pairs_source(vectors=True), test=None)
    real = potstill.distill(splits, "random", items=4, codec="float32", progress=None)
    made = potstill.distill(splits, "dm", items=4, iterations=2, codec="float32", progress=None)
    both = potstill.concat([real, made])
    torch.testing.assert_close(both.inputs["text"], torch.cat([real.inputs["text"], made.inputs["text"]]))
    assert both.labels.tolist()[:4] == real.labels.tolist()


def test_the_rival_of_equal_bytes_is_charged_texts_and_tries_codecs_of_pictures() -> None:
    source = pairs_source(vectors=True)
    order = [torch.arange(len(source))]
    packed = pack_samples(source, [order], 10, "uint4")
    x, _ = packed.pairs[0]
    assert torch.equal(x["text"], source.fetch(take(order, 10)).x["text"])  # type: ignore[index]
    longer = pack_samples(pairs_source(vectors=True, n=40), [order], 20, "uint4")
    assert longer.bytes < 2 * packed.bytes
    assert packed.bytes < 10 * (8 * 8 / 2 + 4 * 4)  # less than its pixels and vectors: a text compresses better
    assert ("exact", "uint4", "uint2", "uint1") in candidate_codecs(source.input)
    assert candidate_codecs(pairs_source().input)[0][0] == "exact"


def test_towers_take_vectors() -> None:
    source = pairs_source(vectors=True)
    net = factory("towers-w4", source.input, 16)(0)
    x = source.fetch(torch.arange(3)).x
    assert net(x).shape == (3, 16)
    assert torch.equal(net(x), torch.cat([net({n: t[i : i + 1] for n, t in x.items()}) for i in range(3)])) or (
        torch.allclose(net(x), torch.cat([net({n: t[i : i + 1] for n, t in x.items()}) for i in range(3)]), atol=1e-5)
    )
