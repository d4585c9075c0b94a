"""The format ``potstill/3``: bytes on the card are those of the file, what is read is what was measured.

Files of the first format are read as they were.
"""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from covering import covering

import potstill
from potstill._util.card import parse_card
from potstill.core import Splits, registry
from potstill.data.in_memory import fit_normalization
from potstill.dataset_file import Distilled, is_index_file, load, materialize
from potstill.errors import PotstillError
from potstill.methods.distribution.dm import DM
from potstill.testing.toy import toy_source
from tests.build_set import build_set

QUICK: dict[str, Any] = {"network": "convnet-d2-w8", "progress": None}
STORES = (
    "float32", "float16", "exact", "uint8", "uint4", "uint3", "uint2", "uint1", "uint4:labels=4", "uint2:aware=false",
    "uint2:learned=true,aware=true", "uint4:aware=true",
)  # fmt: skip


OF_DATA = {"learned-graph", "multi-hot", "nearest-text", "rows", "series", "shapelets"}
SPELLED = {"motion": "motion:frames=4"}
PARAMETRIZATIONS = [SPELLED.get(name, name) for name in registry.names("parametrizations") if name not in OF_DATA]
"""All but those of nodes, users, texts, tables and series, which tests of their own have."""


def held(path: Path) -> int:
    """Bytes of the tensors, by safetensors' own reader."""
    return sum(t.numel() * t.element_size() for t in safetensors.torch.load_file(path).values())


def same(a: Distilled, b: Distilled) -> bool:
    parts = zip((a.inputs, a.labels), (b.inputs, b.labels), strict=True)
    return (
        a.metadata == b.metadata
        and all(torch.equal(x, y) for x, y in parts)
        and torch.equal(a.model_space(), b.model_space())
    )


def toy(kind: str = "image") -> Splits:
    return Splits(train=toy_source(kind), test=None)


@pytest.mark.parametrize(
    ("parametrization", "store"),
    [*itertools.product(PARAMETRIZATIONS, ("uint8", "uint2")), *(("pixels", s) for s in STORES)],
)
def test_a_set_is_what_a_reader_loads_and_weighs_what_its_card_says(
    parametrization: str, store: str, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"parametrization": parametrization, "codec": store, "ipc": 8, **QUICK}
    made = potstill.distill(toy(), DM(iterations=2), labels="learned", **settings)
    path = made.save(tmp_path / "a.safetensors")
    read = load(path)
    assert same(read, made)
    assert made.metadata["bytes"]["total"] == held(path)
    assert made.metadata["bytes"]["total"] == sum(v for n, v in made.metadata["bytes"].items() if n != "total")
    assert made.metadata["format"] == "potstill/3"
    if parametrization == "pixels":
        assert "inputs" in made.tensors or made.metadata["decoder"]["parametrization"] == "pixels"
    assert "decoded" not in made.tensors
    again = read.save(tmp_path / "b.safetensors")
    assert again.read_bytes() == path.read_bytes()
    assert potstill.plan(toy(), DM(iterations=2), labels="learned", profile_steps=0, **{
        n: v for n, v in settings.items() if n != "progress"
    }).bytes["total"] >= held(path)  # fmt: skip


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("kind", ["image", "table"])
def test_a_selection_takes_every_store(kind: str, store: str, tmp_path: Path) -> None:
    data = toy(kind)
    made = potstill.distill(data, "herding", ipc=3, codec=store, progress=None)
    path = made.save(tmp_path / "a.safetensors")
    assert same(load(path), made)
    assert made.metadata["bytes"]["total"] == held(path)
    potstill.export(made, "indices", tmp_path / "i.safetensors")
    assert is_index_file(tmp_path / "i.safetensors")
    assert same(materialize(tmp_path / "i.safetensors", data.train), made)


def test_what_is_chosen_keeps_its_precision_and_what_is_made_gets_few_bits() -> None:
    chosen = potstill.distill("digits", "random", ipc=2, progress=None)
    assert chosen.metadata["codec"]["name"] == "exact"
    assert chosen.metadata["codec"]["tensors"]["inputs"]["bits"] == 5  # pixels from 0 to 16
    assert torch.equal(chosen.inputs, potstill.load_data("digits").train.raw(chosen.index))
    made = potstill.distill("digits", DM(iterations=2), ipc=2, **QUICK)
    assert made.metadata["codec"]["name"] == "uint8"
    assert made.record["codec"]["auto"]["tried"] == []
    assert "shorter than the trial" in made.record["codec"]["auto"]["why"]
    whole = potstill.distill("digits", DM(iterations=2), ipc=2, codec="float32", **QUICK)
    assert float((whole.inputs - made.inputs).abs().max()) < 0.01
    assert made.metadata["bytes"]["inputs"] < whole.metadata["bytes"]["inputs"] / 3.9


def test_a_table_is_rounded_in_units_of_its_columns() -> None:
    train = toy_source("table")
    scale = torch.tensor([1e-4, 1.0, 1e6])[: train.input.shape[0]]
    scale = torch.cat([scale, torch.ones(train.input.shape[0] - len(scale))])
    big = replace(train, inputs=train.inputs * scale, normalization=fit_normalization(train.inputs * scale))
    made = potstill.distill(Splits(train=big, test=None), "random", ipc=4, codec="uint8", progress=None)
    real = big.raw(made.index)
    assert float(((made.inputs - real) / big.normalization.std).abs().max()) < 0.02


def test_decoded_inputs_are_written_on_request_and_count(tmp_path: Path) -> None:
    made = potstill.distill(toy(), DM(iterations=2), ipc=4, parametrization="tiles", codec="uint8", **QUICK)
    card = made.metadata
    parts: dict[str, Any] = {
        n: card[n] for n in ("method", "config", "seed", "ipc", "training", "source", "outcome", "cost", "decoder")
    }
    train = toy().train
    beside = build_set(
        made.inputs, made.labels, classes=made.classes, input=made.input, normalization=train.normalization,
        payload=made.payload, include_decoded=True, **parts,
    )  # fmt: skip
    path = beside.save(tmp_path / "a.safetensors")
    assert torch.equal(safetensors.torch.load_file(path)["decoded"], made.inputs)
    assert beside.metadata["bytes"]["decoded"] == made.inputs.numel() * 4
    assert beside.metadata["bytes"]["total"] == held(path)
    assert same(load(path), beside)


def edited(path: Path, change: Any) -> Path:
    tensors = safetensors.torch.load_file(path)
    with safetensors.safe_open(path, "pt") as file:
        card = parse_card(file.metadata())
    change(card, tensors)
    safetensors.torch.save_file(tensors, path, metadata={"card": json.dumps(card)})
    return path


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c, t: c["decoder"].update(parametrization="tiles:factor=3"), "decodes to"),
        (lambda c, t: c["decoder"].update(parametrization="tiles:factor=70000"), "limit decoder_setting is 65,536"),
        (lambda c, t: c["decoder"].update(parametrization="nowhere"), "nowhere"),
        (lambda c, t: c["decoder"].update(parametrization="memory"), "does not fit its decoder 'memory'"),
        (lambda c, t: c["decoder"].update(space="other"), "decoder.space"),
        (lambda c, t: c.update(decoder=None), "name no decoder"),
        (lambda c, t: c.update(codec=None), "codec.tensors"),
        (lambda c, t: c["input"].update(frames=[3, 1]), "input.frames"),
        (lambda c, t: c["input"].update(frames=[0, 1]), "input.frames"),
        (lambda c, t: c["input"].update(frames=[1]), "input.frames"),
        (lambda c, t: c["input"].update(frames="2x2"), "input.frames"),
        (lambda c, t: c["codec"]["tensors"].pop("labels"), "no tensor 'labels'"),
        (lambda c, t: c["codec"]["tensors"].update(other={"codec": "float"}), "no tensor 'other'"),
        (lambda c, t: t.pop("payload/inputs/0"), "its stream must name the layouts"),
        (lambda c, t: t.update(inputs=torch.zeros(2, 2)), "not of format potstill/3"),
    ],
)  # fmt: skip
def test_a_file_that_contradicts_itself_is_refused_in_one_line(change: Any, said: str, tmp_path: Path) -> None:
    made = potstill.distill(toy(), DM(iterations=2), ipc=4, parametrization="tiles", codec="uint8", **QUICK)
    path = edited(made.save(tmp_path / "a.safetensors"), change)
    with pytest.raises(PotstillError, match=said) as refused:
        load(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("method", "store"),
    covering(itertools.product(["random", "dm", "random-soft"], [None, "uint4", "float32", "uint8"])),
)
def test_a_budget_in_bytes_is_kept_and_used(method: str, store: str | None) -> None:
    most = 5000
    made = potstill.distill("digits", method, bytes=most, codec=store, steps=40 if method == "dm" else None, **QUICK)
    total = made.metadata["bytes"]["total"]
    one = made.metadata["bytes"]["total"] / len(made)
    # What is made is planned by the codes before they are coded, as what coding saves is not known beforehand.
    assert (most / 2 if method == "dm" else most - 11 * one) < total <= most


def test_what_is_read_cannot_be_set_beside_the_file() -> None:
    made = potstill.distill("digits", "herding", ipc=1, progress=None)
    for name in ("inputs", "labels", "index", "weights"):
        with pytest.raises(AttributeError):
            setattr(made, name, None)


@pytest.mark.parametrize("settings", [{"codec": "uint2"}, {"codec": "uint4", "parametrization": "tiles"}])
def test_a_score_is_that_of_the_set_that_a_reader_loads_to_the_last_student(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    data = potstill.load_data("digits")
    made = potstill.distill(data, DM(iterations=2), ipc=2, labels="learned", **settings, **QUICK)
    path = made.save(tmp_path / "a.safetensors")
    cheap: dict[str, Any] = {
        "networks": "convnet-d2-w8", "seeds": 2, "epochs": 3, "lr": (0.01,), "baselines": False, "full": False,
        "robust_scores": False, "progress": None,
    }  # fmt: skip
    here, there = (potstill.evaluate(x, data, **cheap).to_dict() for x in (made, path))
    assert here["accuracy"]["values"] == there["accuracy"]["values"]
    assert here["per_class"] == there["per_class"]
    assert here["bytes"] == there["bytes"]
    assert here["bytes"]["total"] == held(path)


def test_a_store_that_cannot_hold_what_was_made_loses_no_work(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Optimised pixels leave [0, 1], which a picture file cannot: that shows when all steps are made."""
    settings: dict[str, Any] = {"ipc": 2, "network": "convnet-d2-w8", "progress": None}
    made = potstill.distill(toy(), DM(iterations=3, lr=50.0), codec="mosaic", **settings)
    assert made.metadata["codec"]["name"] == "float32"
    assert made.metadata["codec"]["instead_of"] == "mosaic"
    assert "mosaic needs values in [0, 1]" in made.metadata["codec"]["why"]
    assert "WARNING: the set is written as float32, because mosaic cannot hold it" in capsys.readouterr().err
    same_steps = potstill.distill(toy(), DM(iterations=3, lr=50.0), codec="float32", **settings)
    assert torch.equal(made.inputs, same_steps.inputs)
    assert same(load(made.save(tmp_path / "a.safetensors")), made)


@pytest.mark.parametrize("method", ["dm", "random"])
def test_a_store_of_pictures_refuses_a_table_before_the_work(method: str) -> None:
    def never(*arguments: object) -> None:
        raise AssertionError("a step was made")

    with pytest.raises(PotstillError, match="half"):
        potstill.distill(toy("table"), method, ipc=2, codec="half", progress=never)


def test_a_store_that_is_none_names_those_that_are() -> None:
    with pytest.raises(PotstillError, match=r"unknown codec 'uin4'.*uint4"):
        potstill.distill(toy(), "random", ipc=2, codec="uin4")
