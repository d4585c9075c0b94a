"""Zero-shot classification of a set of pairs: its texts, its classes, and scores where the answer is known."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import potstill
from potstill.cli.main import main
from potstill.core import Splits
from potstill.data.attributes import Attribute
from potstill.data.in_memory import TensorSource
from potstill.data.text_representations import Latent
from potstill.diagnostics import make_bench
from potstill.diagnostics.zero_shot import TEMPLATE, check_descriptions, class_texts, encode_prompts
from potstill.errors import PotstillError
from potstill.testing.toy import pairs_source

NAMES = tuple(f"row{n} bright" for n in range(8))
"""Classes of the toy pairs, in the words of their texts."""
DESCRIPTIONS = {name: (name, f"{name} again") for name in NAMES}
QUICK: dict[str, Any] = {"students": 2, "steps": 60, "lr": 0.1, "progress": None, "executor": "serial"}


def with_classes(n: int, *, vectors: bool = True) -> TensorSource:
    source = pairs_source(n, vectors=vectors)
    assert isinstance(source, TensorSource)
    assert source.targets is not None
    return replace(source, attribute=Attribute(source.targets % 8, NAMES))


@pytest.fixture(scope="module")
def splits() -> Splits:
    return Splits(train=with_classes(120), test=with_classes(60))


@pytest.fixture(scope="module")
def found(splits: Splits) -> Any:
    small = potstill.distill(splits, "random", items=100, codec="float32", network="towers-w8", progress=None)
    return potstill.diagnose(small, splits, parts="zero-shot", descriptions=DESCRIPTIONS, **QUICK)["parts"]["zero-shot"]


def test_texts_of_classes() -> None:
    assert class_texts(["Big cat", "dog-house"]) == (["a picture of big cat", "a picture of dog house"], *_owner(0, 1))
    described = class_texts(["a", "b"], {"a": ["round"], "b": ["flat and red", "small"]})
    assert described[0] == ["a picture of a, round", "a picture of b, flat and red", "a picture of b, small"]
    assert described[1].tolist() == [0, 1, 1]
    random = class_texts(
        ["a", "b"], {"a": ["round"], "b": ["flat and red", "small"]}, [["x", "y", "z"], ["u", "v", "w"]]
    )
    assert random[0] == ["a picture of a, x", "a picture of b, x y z", "a picture of b, u"]  # as many words


def _owner(*classes: int) -> tuple[Any]:
    class Same:
        def __eq__(self, other: object) -> bool:
            return isinstance(other, torch.Tensor) and other.tolist() == list(classes)

        __hash__ = None  # type: ignore[assignment]

    return (Same(),)


@pytest.mark.parametrize("vectors", [True, False])
def test_prompts_are_encoded_as_the_texts_of_the_data(vectors: bool) -> None:
    source = with_classes(40, vectors=vectors)
    if not vectors:  # toy words are numbered by the toy itself
        prompts = encode_prompts(source, ["one two", "three"])
        assert isinstance(prompts, dict)
        assert prompts["text/offsets"].tolist()[0] == 0
        assert len(prompts["text/offsets"]) == len(prompts["image"]) == 2
        return
    prompts = encode_prompts(source, source.texts[:3])
    real = source.fetch(torch.arange(3)).x
    assert isinstance(prompts, dict)
    assert isinstance(real, dict)
    torch.testing.assert_close(prompts["text"], real["text"])
    assert prompts["image"].shape == real["image"].shape
    assert float(prompts["image"].std()) == 0


def test_names_in_the_words_of_the_texts_classify(found: Any) -> None:
    assert found["classes"] == list(NAMES)
    assert found["pictures"] == 30  # a picture with two texts counts once
    assert found["chance"] == 1 / 8
    assert found["template"] == TEMPLATE
    assert found["set"]["names"]["mean"] > 3 / 8
    assert found["set"]["descriptions"]["mean"] > 3 / 8
    assert found["set"]["names"]["n"] == 2
    gap = found["difference"]["descriptions over random words"]["mean"]
    assert gap == pytest.approx(found["set"]["descriptions"]["mean"] - found["set"]["random words"]["mean"])


def test_classes_that_texts_do_not_name_are_chance(splits: Splits) -> None:
    small = potstill.distill(splits, "random", items=100, codec="float32", network="towers-w8", progress=None)
    assert splits.test is not None
    wrong = tuple(f"class{n}" for n in range(8))
    blind = Splits(
        train=splits.train,
        test=replace(splits.test, attribute=Attribute(splits.test.attribute.codes, wrong)),  # type: ignore[attr-defined, type-var]
    )
    found = potstill.diagnose(small, blind, parts="zero-shot", **QUICK)["parts"]["zero-shot"]
    assert found["set"]["names"]["mean"] == pytest.approx(1 / 8)  # all names are one vector: the first class
    assert set(found["difference"]) == {"set over random"}


def test_pictures_without_classes_leave_it_out(splits: Splits) -> None:
    plain = Splits(train=pairs_source(40, vectors=True), test=pairs_source(20, vectors=True))
    small = potstill.distill(plain, "random", items=8, progress=None)
    found = potstill.diagnose(small, plain, parts=["nearest", "zero-shot"], **QUICK)
    assert "name the column that has it with `attribute=`" in found["left_out"]["zero-shot"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (["round"], "an object of lists by class, but this is list"),
        ({"a": ["x"], "b": ["y"], "c": ["z"]}, "descriptions of 'c', but the classes are a, b; remove them"),
        ({"a": ["x"]}, "class 'b' needs a list of at least one description; add it"),
        ({"a": "round", "b": ["x"]}, "class 'a' needs a list"),
        ({"a": [" "], "b": ["x"]}, "class 'a' needs a list"),
    ],
)
def test_other_descriptions_are_refused(value: object, message: str) -> None:
    with pytest.raises(PotstillError, match=message):
        check_descriptions(value, ("a", "b"))


def test_a_folder_with_a_column_of_classes_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    lines = ["file_name,text,class"]
    for i in range(40):
        ink = np.zeros((8, 8, 3), np.uint8)
        ink[..., i % 2] = 155 + 2 * i
        Image.fromarray(ink).save(f"data/{i}.png")
        lines.append(f"{i}.png,a {'green' if i % 2 else 'red'} square,{'green' if i % 2 else 'red'}")
    Path("data/metadata.csv").write_text("\n".join(lines))
    Path("classes.json").write_text(json.dumps({"red": ["a red square"], "green": ["a green square"]}))
    reading = ["--task", "retrieval", "--representation", "hashed", "--attribute", "class", "--quiet"]
    assert main(["distill", "data", *reading, "--method", "random", "--items", "16", "--network", "towers-w4",
                 "--out", "p.safetensors"]) == 0  # fmt: skip
    splits = potstill.load_data("data", task="retrieval", representation="hashed", attribute="class")
    source: Any = splits.train
    assert source.attribute.values == ("green", "red")
    named = [source.attribute.values[code] for code in source.attribute.codes.tolist()]
    assert [text.split()[1] for text in source.texts] == named
    words = ["diagnose", "p.safetensors", "--data", "data", "--attribute", "class", "--parts", "zero-shot", "--quiet"]
    capsys.readouterr()
    few = ["--students", "2", "--steps", "60", "--lr", "0.1"]
    assert main([*words, *few, "--descriptions", "classes.json"]) == 0
    shown = capsys.readouterr().out
    assert "pictures of 2 classes, of which chance finds 50.0%" in shown.replace("\n", " ")
    assert "Zero-shot classification:" in shown
    assert "Random words" in shown
    assert main([*words, *few, "--descriptions", "nothing.json"]) == 1
    assert "nothing.json: needs a JSON object of lists of texts by class" in capsys.readouterr().err


def test_texts_of_other_data_are_vectors_of_the_sets_encoder(splits: Splits) -> None:
    """Else students would learn vectors of one encoder, and be asked by those of another."""
    small = potstill.distill(splits, "random", items=8, network="towers-w8", progress=None)
    other = with_classes(60)
    texts = tuple(text.replace("bright", "shining") for text in other.texts)
    encoder = Latent(size=4).fit(texts)
    assert isinstance(other.inputs, dict)
    other = replace(other, texts=texts, encoder=encoder, inputs={**other.inputs, "text": encoder.encode(texts)})
    bench = make_bench(small, Splits(train=other, test=other))
    for source in (bench.real, bench.eval_source):
        assert source.encoder == small.encoder != encoder  # type: ignore[attr-defined]
        raw = source.raw(torch.arange(3))
        assert isinstance(raw, dict)
        torch.testing.assert_close(raw["text"], small.encoder.encode(texts[:3]))  # type: ignore[union-attr]
