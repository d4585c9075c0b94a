"""The file: round trips, what is refused and how, and that nothing is lost when writing fails."""

import errno
import json
import math
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from potstill.core import InputSpec, Normalization, Whitening
from potstill.errors import PotstillError
from potstill.rng import generator
from potstill.storage import Distilled, item_bytes, load, save


def make(
    *, n: int = 6, shape: tuple[int, ...] = (1, 4, 4), classes: tuple[str, ...] = ("a", "b", "c"), soft: bool = False,
    whitening: bool = False, low: float = 0.0, index: bool = False,
) -> Distilled:  # fmt: skip
    rng = generator(1, "set")
    inputs = torch.rand(n, *shape, generator=rng) * (1 - low) + low
    k, d = len(classes), math.prod(shape)
    labels = torch.rand(n, k, generator=rng).softmax(1) if soft else torch.arange(n) % k
    w = None
    if whitening:
        q = torch.linalg.qr(torch.randn(d, d, generator=rng)).Q
        w = Whitening(torch.rand(d, generator=rng), q, q.T.contiguous())
    return Distilled.build(
        inputs, labels, method="dm", config={"lr": 1.0}, seed=3, ipc=2, classes=classes,
        input=InputSpec(kind="image" if len(shape) == 3 else "table", shape=shape),
        normalization=Normalization(torch.full((shape[0],), 0.3), torch.full((shape[0],), 0.5), w),
        training={"lr": 0.01}, source={"name": "toy", "samples": 48, "hash": "ff"},
        outcome={"kind": "finished", "message": "done", "step": 4}, cost={"seconds": 1.0, "steps": 4},
        index=torch.arange(n) * 2 if index else None,
    )  # fmt: skip


names = st.lists(st.text(min_size=1, max_size=12), min_size=2, max_size=5, unique=True).map(tuple)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names, st.booleans(), st.booleans(), st.booleans(), st.sampled_from([(1, 4, 4), (3, 2, 5), (7,)]))
def test_a_set_comes_back_as_it_was(
    tmp_path: Path, classes: tuple[str, ...], soft: bool, whitening: bool, index: bool, shape: tuple[int, ...]
) -> None:
    if any(0xD800 <= ord(c) < 0xE000 for name in classes for c in name):
        classes = ("a", "b")  # lone surrogates are not text that UTF-8 can hold
    before = make(n=len(classes) * 2, shape=shape, classes=classes, soft=soft, whitening=whitening, index=index)
    path = tmp_path / "set.safetensors"
    before.save(path)
    after = load(path)
    assert torch.equal(after.inputs, before.inputs)
    assert torch.equal(after.labels, before.labels)
    assert after.labels.dtype == before.labels.dtype
    assert after.card == before.card
    assert after.classes == classes
    assert torch.equal(after.model_space(), before.model_space())
    assert (after.index is None) == (before.index is None)
    again = tmp_path / "again.safetensors"
    after.save(again)
    assert again.read_bytes() == path.read_bytes()


def test_the_file_reads_without_potstill(tmp_path: Path) -> None:
    path = make(soft=True).save(tmp_path / "set.safetensors")
    with safetensors.safe_open(path, "numpy") as f:
        card = json.loads(f.metadata()["card"])
        inputs, labels = f.get_tensor("inputs"), f.get_tensor("labels")
    for key in (
        "format", "method", "config", "seed", "ipc", "classes", "input", "normalization", "training", "source",
        "outcome", "bytes", "cost", "versions",
    ):  # fmt: skip
        assert key in card
    assert card["format"] == "potstill/1"
    assert inputs.dtype == np.float32
    assert np.allclose(labels.sum(1), 1)
    b = card["bytes"]
    assert b["total"] == b["inputs"] + b["labels"] + b["decoder"] == inputs.nbytes + labels.nbytes
    assert item_bytes((1, 4, 4), 3) * 6 == b["total"]


def test_a_data_loader_yields_normalised_inputs() -> None:
    small = make()
    x, y = next(iter(DataLoader(small, batch_size=4)))
    torch.testing.assert_close(x, (small.inputs[:4] - 0.3) / 0.5)
    assert torch.equal(y, small.labels[:4])


def test_pixels_outside_the_unit_range_are_kept_and_said() -> None:
    assert make().card["space"] == "pixels"
    wide = make(low=-0.5)
    assert wide.card["space"] == "unclamped"
    assert float(wide.inputs.min()) < 0


@pytest.mark.parametrize(
    ("inputs", "labels", "message"),
    [
        (torch.full((2, 1, 2, 2), math.nan), torch.tensor([0, 1]), "must be finite"),
        (torch.zeros(2, 1, 2, 2), torch.tensor([0, 1, 1]), "2 inputs need as many labels"),
        (torch.zeros(2, 1, 2, 2), torch.tensor([0, 5]), r"labels must be in 0…1"),
        (torch.zeros(2, 1, 2, 2), torch.tensor([[0.5, 0.4], [1.0, 0.0]]), "sum to 1"),
    ],
)
def test_a_set_that_breaks_the_format_is_not_built(inputs: torch.Tensor, labels: torch.Tensor, message: str) -> None:
    with pytest.raises(PotstillError, match=message):
        Distilled.build(
            inputs, labels, method="m", config={}, seed=0, ipc=1, classes=("a", "b"),
            input=InputSpec(kind="image", shape=(1, 2, 2)), normalization=Normalization(torch.zeros(1), torch.ones(1)),
            training={}, source={}, outcome={}, cost={},
        )  # fmt: skip


def header(path: Path, change: object) -> None:
    """Rewrite the JSON header of a file; ``change`` takes the parsed header and edits it."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    parsed = json.loads(raw[8 : 8 + length])
    change(parsed)  # type: ignore[operator]
    text = json.dumps(parsed).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])


def card(path: Path, **changes: object) -> None:
    def edit(parsed: dict) -> None:  # type: ignore[type-arg]
        content = json.loads(parsed["__metadata__"]["card"])
        for key, value in changes.items():
            if value is ...:
                del content[key]
            else:
                content[key] = value
        parsed["__metadata__"]["card"] = json.dumps(content)

    header(path, edit)


def huge(parsed: dict) -> None:  # type: ignore[type-arg]
    parsed["inputs"] = {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 2**62]}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.unlink(), "no such file"),
        (lambda p: (p.unlink(), p.mkdir()), "is a folder"),
        (lambda p: p.write_bytes(b""), "not a safetensors file"),
        (lambda p: p.write_bytes(p.read_bytes()[:-40]), "cut off or damaged"),
        (lambda p: p.write_bytes(p.read_bytes()[:60]), "not a whole safetensors file"),
        (lambda p: p.write_bytes(pickle.dumps({"x": 1}) * 20), "pickles are never loaded"),
        (lambda p: p.write_bytes(b"PK\x03\x04" + bytes(99)), "pickles are never loaded"),
        (lambda p: p.write_bytes(struct.pack("<Q", 2**60) + b"{" + bytes(99)), "header claims"),
        (lambda p: p.write_bytes(struct.pack("<Q", 20) + b"{" * 20), "not JSON"),
        (lambda p: p.write_bytes(b"GIF89a" + bytes(300)), "not a safetensors file"),
        (lambda p: header(p, huge), "no valid type, shape and place"),
        (lambda p: header(p, lambda h: h.pop("__metadata__")), "without a card"),
        (lambda p: header(p, lambda h: h["__metadata__"].update(card="[" * 5000)), "card is not JSON"),
        (lambda p: header(p, lambda h: h["__metadata__"].update(card="[1]")), "must be a JSON object"),
        (lambda p: card(p, format="potstill/2"), "upgrade potstill"),
        (lambda p: card(p, format="other"), "only files that potstill saved"),
        (lambda p: card(p, method=...), "lacks a valid 'method'"),
        (lambda p: card(p, seed="x"), "lacks a valid 'seed'"),
        (lambda p: card(p, classes=[1, 2, 3]), "classes must be names"),
        (lambda p: card(p, classes=["a"]), "labels must be in 0…0"),
        (lambda p: card(p, input={"kind": "image", "shape": [9, 9]}), "the card says inputs of shape"),
        (lambda p: card(p, normalization={"mean": [0.0], "std": [0.0]}), "positive std"),
        (lambda p: card(p, normalization={"mean": ["x"], "std": [1.0]}), "positive std"),
        (
            lambda p: card(p, normalization={"mean": [0.0], "std": [1.0], "whitening": {"mean": "m"}}),
            "whitening tensors",
        ),
    ],
)
def test_what_is_not_a_set_is_refused_in_one_line(tmp_path: Path, damage: object, message: str) -> None:
    path = make().save(tmp_path / "set.safetensors")
    damage(path)  # type: ignore[operator]
    with pytest.raises(PotstillError, match=message) as refused:
        load(path)
    assert "\n" not in str(refused.value)
    assert str(path) in str(refused.value)


def test_tensors_of_the_wrong_type_or_missing_are_refused(tmp_path: Path) -> None:
    good = make()
    meta = {"card": json.dumps(good.card)}
    for tensors, message in (
        ({"labels": good.labels}, "no tensor 'inputs'"),
        ({"inputs": good.inputs.double(), "labels": good.labels}, "must be float32"),
        ({"inputs": good.inputs, "labels": good.labels.int()}, "labels int64 or float32"),
        ({"inputs": good.inputs * math.inf, "labels": good.labels}, "must be finite"),
        ({"inputs": good.inputs, "labels": good.labels, "index": torch.arange(2)}, "index must be"),
    ):
        path = tmp_path / "bad.safetensors"
        safetensors.torch.save_file(tensors, path, metadata=meta)
        with pytest.raises(PotstillError, match=message):
            load(path)


def test_an_oversized_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = make().save(tmp_path / "set.safetensors")
    with pytest.raises(PotstillError, match="more than the 100 allowed"):
        load(path, max_bytes=100)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_damage_gives_a_set_or_one_line(tmp_path: Path, data: st.DataObject) -> None:
    path = make(soft=data.draw(st.booleans())).save(tmp_path / "set.safetensors")
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw)
    try:
        load(path)
    except PotstillError as error:
        refused = str(error)
    else:
        refused = ""
    assert "\n" not in refused


def test_a_failed_write_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make().save(tmp_path / "set.safetensors")
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PotstillError, match=r"could not be written \(No space left on device\).*nothing was changed"):
        make(soft=True).save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["set.safetensors"]


def test_a_path_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(PotstillError, match="does not exist"):
        make().save(tmp_path / "none" / "set.safetensors")
    with pytest.raises(PotstillError, match="it is a folder"):
        save(make(), tmp_path)
