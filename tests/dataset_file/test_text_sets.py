"""Sets of texts: what they hold, what they weigh, and that every form of them comes back."""

import csv
import json

import numpy as np
import pytest
import torch

import potstill
from potstill.codecs import encoded_bytes
from potstill.dataset_file.payload_io import compress_parts
from potstill.dataset_file.text_io import encode_texts
from potstill.errors import PotstillError
from tests.text_data import corpus


@pytest.fixture(scope="module")
def data():
    return potstill.load_data(corpus())


def make(data, method="random", **options):
    options = {"ipc": 2, "progress": None, "seed": 0} | options
    return potstill.distill(data, method, **options)


@pytest.mark.parametrize("method", ["random", "k-center", "herding", "k-median"])
def test_a_selection_holds_real_texts_and_comes_back(data, method, tmp_path):
    small = make(data, method)
    assert small.metadata["codec"]["name"] == "texts"
    assert [data.train.texts[i] for i in small.index] == list(small.captions)
    read = potstill.load(small.save(tmp_path / "s.safetensors"))
    assert read.captions == small.captions
    assert read.encoder == data.train.encoder
    assert torch.equal(read.inputs, data.train.inputs[small.index])
    assert torch.equal(read.inputs, read.encoder.encode(read.captions))


def test_bytes_are_those_of_the_coded_texts(data):
    small = make(data)
    sizes = small.metadata["bytes"]
    coded = compress_parts(encode_texts(small.captions), small.labels)
    assert sizes["captions"] == sum(map(encoded_bytes, coded.values()))
    assert sizes["inputs"] == 0
    assert sizes["captions"] < sum(len(t.encode()) for t in small.captions)
    encoder = sum(t.numel() * t.element_size() for t in data.train.encoder.tensors().values())
    assert sizes["encoder"] == encoder
    hashed = potstill.load_data(corpus(), representation="hashed:size=32")
    assert "encoder" not in make(hashed).metadata["bytes"]


@pytest.mark.parametrize("budget", [200, 400, 900])
def test_a_budget_of_bytes_holds_texts_without_their_encoder(data, budget):
    small = make(data, ipc=None, bytes=budget)
    sizes = small.metadata["bytes"]
    size = sum(v for name, v in sizes.items() if name not in ("total", "encoder"))
    assert 0.75 * budget <= size <= budget
    assert len(small.captions) == len(small) >= 3


def test_a_selection_in_numbers_has_no_texts(data, tmp_path):
    small = make(data, codec="uint8")
    assert small.captions == ()
    assert potstill.load(small.save(tmp_path / "s.safetensors")).inputs.shape == (6, data.train.inputs.shape[1])
    with pytest.raises(PotstillError, match="jsonl holds texts, but this set has vectors"):
        potstill.export(small, "jsonl", tmp_path / "s.jsonl")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "dm", "steps": 1, "codec": "texts"}, "codec texts writes real texts, but these inputs are numbers"),
        ({"method": "dm", "steps": 1, "parametrization": "nearest-text", "codec": "uint4"}, "keeps real texts"),
    ],
)
def test_codecs_that_do_not_fit_are_refused_before_the_work(data, options, message):
    with pytest.raises(PotstillError, match=message) as caught:
        make(data, **options)
    assert "\n" not in str(caught.value)


def test_texts_are_asked_of_texts_alone():
    with pytest.raises(PotstillError, match="codec texts"):
        potstill.distill("digits", "random", ipc=1, codec="texts", progress=None)
    with pytest.raises(PotstillError, match="nearest-text"):
        potstill.distill("digits", "dm", ipc=1, steps=1, parametrization="nearest-text", progress=None)


def test_kip_learns_labels_of_real_texts(data, tmp_path):
    small = make(data, "kip", steps=5, parametrization="nearest-text", labels="scores")
    assert len(small.captions) == 6
    assert set(small.captions) <= set(data.train.texts)
    read = potstill.load(small.save(tmp_path / "s.safetensors"))
    assert torch.equal(read.inputs, read.encoder.encode(read.captions))
    assert read.scores.shape == (6, 3)
    places = [data.train.texts.index(t) for t in read.captions]
    assert data.train.labels[places].tolist() == [0, 0, 1, 1, 2, 2]  # each of its own class


def test_vectors_keep_the_encoder(data, tmp_path):
    small = make(data, "dm", steps=3, codec="uint8")
    read = potstill.load(small.save(tmp_path / "s.safetensors"))
    assert read.encoder == data.train.encoder
    assert read.captions == ()


def test_exports_for_people(data, tmp_path):
    small = make(data, "kip", steps=3, parametrization="nearest-text", labels="scores")
    potstill.export(small, "csv", tmp_path / "s.csv")
    with (tmp_path / "s.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [line["text"] for line in lines] == list(small.captions)
    assert list(lines[0]) == ["text", "label", *(f"label={c}" for c in small.classes)]
    potstill.export(small, "jsonl", tmp_path / "s.jsonl")
    objects = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [o["text"] for o in objects] == list(small.captions)
    assert list(objects[0]["probabilities"]) == list(small.classes)
    assert sum(objects[0]["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    potstill.export(make(data), "npz", tmp_path / "s.npz")
    assert list(np.load(tmp_path / "s.npz")["texts"]) == list(make(data).captions)
    with pytest.raises(PotstillError, match="jsonl holds texts, but this set has none"):
        potstill.export(potstill.distill("digits", "random", ipc=1, progress=None), "jsonl", tmp_path / "d.jsonl")


def test_indices_and_data_make_the_same_set(data, tmp_path):
    small = make(data)
    potstill.export(small, "indices", tmp_path / "i.safetensors")
    assert potstill.materialize(tmp_path / "i.safetensors", data).tensors.keys() == small.tensors.keys()
    again = potstill.materialize(tmp_path / "i.safetensors", data)
    assert all(torch.equal(again.tensors[n], t) for n, t in small.tensors.items())


def test_sets_join(data):
    a, b = make(data), make(data, seed=1)
    joined = potstill.concat([a, b])
    assert joined.captions == (*a.captions, *b.captions)
    assert torch.equal(joined.inputs, torch.cat([a.inputs, b.inputs]))
    with pytest.raises(PotstillError, match="one of vectors cannot be joined"):
        potstill.concat([a, make(data, "dm", steps=1, codec="uint8")])
    other = potstill.load_data(corpus(), split_seed=1)
    with pytest.raises(PotstillError, match="different encoders"):
        potstill.concat([a, make(other)])


def test_another_split_is_encoded_as_the_set_was(data):
    other = potstill.load_data(corpus(), split_seed=1)
    small = make(data, "k-center", ipc=4)
    with pytest.warns(potstill.PotstillWarning, match="not made of this training data"):
        score = potstill.evaluate(
            small, other, networks="linear-model", seeds=1, baselines=False, full=False, progress=None
        )
    encoded = other.test.encoded_by(small.encoder)
    assert not torch.equal(encoded.inputs[:, :3], other.test.inputs[:, :3])
    assert score.accuracy > 0.6


def test_a_damaged_file_is_refused(data):
    from potstill.dataset_file.payload_io import decode_contents

    small = make(data)
    for name in ("encoder/words", "captions/values"):
        tensors = {n: t for n, t in small.tensors.items() if n != name}
        with pytest.raises(PotstillError):
            decode_contents(tensors, small.metadata, small.normalization, 2**30)
    stray = {**small.metadata, "encoder": None}
    with pytest.raises(PotstillError, match="text encoder"):
        decode_contents(dict(small.tensors), stray, small.normalization, 2**30)


def test_a_page_shows_texts_and_no_markup_of_theirs(tmp_path):
    from potstill.comparison.image_arrays import load_arrays
    from potstill.reports.collect import read_set
    from potstill.reports.gallery import gallery

    texts, labels = corpus(6)
    texts = [f"<script>alert({i})</script> {t}" for i, t in enumerate(texts)]
    small = make(potstill.load_data((texts, labels)), "kip", steps=2, parametrization="nearest-text", labels="scores")
    path = small.save(tmp_path / "s.safetensors")
    _, shown = read_set(path, load_arrays)
    assert shown.captions
    page = str(gallery(shown))
    assert "<script>" not in page
    assert "&lt;script&gt;alert(" in page
    assert "%" in page  # the largest probabilities


def test_a_learner_of_texts_is_measured_beside_real_texts_of_the_same_bytes(data):
    small = make(data, "k-center", ipc=3)
    score = potstill.evaluate(small, data, networks=["tfidf", "linear-model"], seeds=1, progress=None)
    content = score.to_dict()
    assert content["baselines"]["random"]["codec"] == "texts"
    charged = small.metadata["bytes"]["total"] - small.metadata["bytes"]["encoder"]
    assert content["baselines"]["random"]["bytes"] <= charged
    assert content["full"]["mean"] > 0.9
    assert f"{charged:,}" in str(score)
    with pytest.raises(PotstillError, match="tfidf learns from real texts, but these inputs are numbers alone"):
        potstill.evaluate(make(data, "dm", steps=1, codec="uint8"), data, networks="tfidf", seeds=1, progress=None)


def test_a_plan_says_the_bytes_of_the_set(data):
    for options in ({"method": "k-center"}, {"method": "kip", "parametrization": "nearest-text", "steps": 2}):
        options = {"ipc": 2, **options}
        plan = potstill.plan(data, **options)
        assert plan.bytes["captions"] > 0
        assert plan.bytes["encoder"] == make(data).metadata["bytes"]["encoder"]
        assert plan.bytes["inputs"] == 0


def test_vectors_of_ones_own_are_stored_and_their_reader_is_asked_for_the_function(tmp_path):
    def own(texts):
        return np.array([[t.count(c) for c in "aeiou"] for t in texts], np.float32)

    data = potstill.load_data(corpus(), encode=own)
    small = potstill.load(make(data).save(tmp_path / "s.safetensors"))
    assert small.encoder is None
    assert len(small.captions) == 6
    score = potstill.evaluate(small, data, networks="linear-model", seeds=1, baselines=False, full=False, progress=None)
    assert score.accuracy > 0.3
    with (
        pytest.raises(PotstillError, match="vectors of own:own, which no file holds"),
        pytest.warns(potstill.PotstillWarning, match="not made of this"),
    ):
        potstill.evaluate(small, potstill.load_data(corpus()), seeds=1, progress=None)
