"""The file: round trips, what is refused and how, and that nothing is lost when writing fails."""

import errno
import json
import math
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from potstill._util.card import parse_card
from potstill.core import InputSpec, Normalization, Whitening
from potstill.dataset_file import Distilled, check_writable, describe, inspect, item_bytes, load
from potstill.errors import PotstillError
from potstill.rng import generator
from tests.build_set import build_set


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
    return build_set(
        inputs, labels, method="dm", config={"lr": 1.0}, seed=3, ipc=2, classes=classes,
        input=InputSpec(kind="image" if len(shape) == 3 else "table", shape=shape),
        normalization=Normalization(torch.full((shape[0],), 0.3), torch.full((shape[0],), 0.5), w),
        training={"lr": 0.01}, source={"name": "toy", "samples": 48, "hash": "ff"},
        outcome={"kind": "finished", "message": "done", "step": 4}, cost={"seconds": 1.0, "steps": 4},
        index=torch.arange(n) * 2 if index else None,
    )  # fmt: skip


# Lone surrogates are what Python makes of file names that are not text.
letters = st.one_of(st.characters(), st.sampled_from('\ud800\udcff\x00\x1b\n"\\/'))
class_names = st.lists(st.text(letters, max_size=12), min_size=2, max_size=5, unique=True).map(tuple)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(class_names, st.booleans(), st.booleans(), st.booleans(), st.sampled_from([(1, 4, 4), (3, 2, 5), (7,)]))
def test_a_set_comes_back_as_it_was(
    tmp_path: Path, classes: tuple[str, ...], soft: bool, whitening: bool, index: bool, shape: tuple[int, ...]
) -> None:
    before = make(n=len(classes) * 2, shape=shape, classes=classes, soft=soft, whitening=whitening, index=index)
    path = tmp_path / "set.safetensors"
    before.save(path)
    after = load(path)
    assert torch.equal(after.inputs, before.inputs)
    assert torch.equal(after.labels, before.labels)
    assert after.labels.dtype == before.labels.dtype
    assert after.metadata == before.metadata
    assert after.classes == classes
    assert torch.equal(after.model_space(), before.model_space())
    assert (after.index is None) == (before.index is None)
    again = tmp_path / "again.safetensors"
    after.save(again)
    assert again.read_bytes() == path.read_bytes()


def test_the_file_reads_without_potstill(tmp_path: Path) -> None:
    path = make(soft=True).save(tmp_path / "set.safetensors")
    with safetensors.safe_open(path, "numpy") as f:
        card = parse_card(f.metadata())
        inputs, labels = f.get_tensor("inputs"), f.get_tensor("labels")
        held = sum(f.get_tensor(name).nbytes for name in f.keys())  # noqa: SIM118 (a file, not a mapping)
    for key in (
        "format", "method", "config", "seed", "ipc", "classes", "input", "normalization", "training", "source",
        "outcome", "bytes", "cost", "versions", "codec", "decoder",
    ):  # fmt: skip
        assert key in card
    assert card["format"] == "potstill/3"
    assert inputs.dtype == np.float32
    assert np.allclose(labels.sum(1), 1)
    b = card["bytes"]
    assert b["total"] == b["inputs"] + b["labels"] + b["decoder"] == inputs.nbytes + labels.nbytes == held
    assert item_bytes((1, 4, 4), 3) * 6 == b["total"]


def test_a_data_loader_yields_normalised_inputs() -> None:
    small = make()
    x, y = next(iter(DataLoader(small, batch_size=4)))
    torch.testing.assert_close(x, (small.inputs[:4] - 0.3) / 0.5)
    assert torch.equal(y, small.labels[:4])


def test_pixels_outside_the_unit_range_are_kept_and_said() -> None:
    assert make().metadata["space"] == "pixels"
    wide = make(low=-0.5)
    assert wide.metadata["space"] == "unclamped"
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
        build_set(
            inputs, labels, method="m", config={}, seed=0, ipc=1, classes=("a", "b"),
            input=InputSpec(kind="image", shape=(1, 2, 2)), normalization=Normalization(torch.zeros(1), torch.ones(1)),
            training={}, source={}, outcome={}, cost={},
        )  # fmt: skip


def header(path: Path, change: object) -> None:
    """Rewrite the JSON header of a file, as somebody who knows the format would: ``change`` takes the parsed header and
    edits it, and the hash of the file, which need not be there, goes."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    parsed = json.loads(raw[8 : 8 + length])
    parsed.get("__metadata__", {}).pop("sha256", None)
    change(parsed)  # type: ignore[operator]
    text = json.dumps(parsed).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])


def card(path: Path, **changes: object) -> None:
    def edit(parsed: dict) -> None:  # type: ignore[type-arg]
        content = parse_card(parsed["__metadata__"])
        for key, value in changes.items():
            if value is ...:
                del content[key]
            else:
                content[key] = value
        parsed["__metadata__"] = {"card": json.dumps(content)}

    header(path, edit)


def huge(parsed: dict) -> None:  # type: ignore[type-arg]
    parsed["inputs"] = {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 2**62]}


def empty(shape: list[int]) -> dict[str, object]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}


def nested(depth: int) -> object:
    return [nested(depth - 1)] if depth else 0


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.unlink(), "no such file"),
        (lambda p: (p.unlink(), p.mkdir()), "is a folder"),
        (lambda p: p.write_bytes(b""), "not a safetensors file"),
        (lambda p: p.write_bytes(p.read_bytes()[:-40]), "cut off or damaged"),
        (lambda p: p.write_bytes(p.read_bytes()[:60]), "incomplete safetensors file"),
        (lambda p: p.write_bytes(pickle.dumps({"x": 1}) * 20), "pickles are never loaded"),
        (lambda p: p.write_bytes(b"PK\x03\x04" + bytes(99)), "pickles are never loaded"),
        (lambda p: p.write_bytes(struct.pack("<Q", 2**60) + b"{" + bytes(99)), "header claims"),
        (lambda p: p.write_bytes(struct.pack("<Q", 20) + b"{" * 20), "not JSON"),
        (lambda p: p.write_bytes(b"GIF89a" + bytes(300)), "not a safetensors file"),
        (lambda p: header(p, huge), "no valid type, shape and place"),
        (lambda p: header(p, lambda h: h.pop("__metadata__")), "no metadata key card"),
        (lambda p: card(p, cost={"seconds": 10**310, "steps": 4}), "metadata are not JSON"),
        (lambda p: header(p, lambda h: h["__metadata__"].update(card="[" * 5000)), "metadata are not JSON"),
        (lambda p: header(p, lambda h: h["__metadata__"].update(card="[1]")), "must be a JSON object"),
        (lambda p: card(p, format="potstill/4"), "read it with the version that wrote it"),
        (lambda p: card(p, format="other"), "only files that potstill saved"),
        (lambda p: card(p, method=...), "lack a valid 'method'"),
        (lambda p: card(p, seed="x"), "lack a valid 'seed'"),
        (lambda p: card(p, classes=[1, 2, 3]), "classes must be names"),
        (lambda p: card(p, classes=["a"]), "labels must be in 0…0"),
        (lambda p: card(p, input={"kind": "image", "shape": [9, 9]}), "metadata say inputs of shape"),
        (lambda p: card(p, normalization={"mean": [0.0], "std": [0.0]}), "positive std"),
        (lambda p: card(p, normalization={"mean": ["x"], "std": [1.0]}), "positive std"),
        (
            lambda p: card(p, normalization={"mean": [0.0], "std": [1.0], "whitening": {"mean": "m"}}),
            "whitening tensors",
        ),
        (lambda p: card(p, normalization={"mean": [10**200], "std": [1.0]}), "positive std"),
        (lambda p: card(p, normalization={"mean": [1e300], "std": [1.0]}), "positive std"),
        (lambda p: card(p, normalization={"mean": [0.0], "std": [1e-300]}), "positive std"),
        (lambda p: card(p, normalization={"mean": [0.0, 0.0], "std": [1.0, 1.0]}), "positive std"),
        (lambda p: card(p, normalization={"mean": [0.0], "std": [1e-39]}), "beyond what float32 holds"),
        (lambda p: card(p, bytes={"total": "x"}), r"lack a valid 'bytes\.inputs'"),
        (
            lambda p: card(p, bytes={"inputs": 1, "labels": 1, "decoder": 0, "total": 2}),
            "its metadata say 2 bytes, but its tensors take 386",
        ),
        (lambda p: card(p, cost={"seconds": math.nan}), "metadata are not JSON"),
        (lambda p: card(p, source={"name": ["x"]}), r"lack a valid 'source\.name'"),
        (lambda p: card(p, seed=True), "lack a valid 'seed'"),
        (lambda p: card(p, input={"kind": "image", "shape": [1.0, 4, 4]}), r"lack a valid 'input\.shape'"),
        (lambda p: card(p, classes=["a", "a", "c"]), "two of its classes have one name"),
        (lambda p: card(p, extra=nested(70)), "metadata are not JSON"),
        (lambda p: header(p, lambda h: h["__metadata__"].update(card="1" * 5000)), "metadata are not JSON"),
        (
            lambda p: header(p, lambda h: h["__metadata__"].update(card=" " * (16 * 2**20 + 1))),
            "limit card_bytes is 16,777,216",
        ),
        (lambda p: header(p, lambda h: h.update(__metadata__=[])), "metadata must be text"),
        (lambda p: header(p, lambda h: h.update(other=h.pop("inputs"))), "no tensor 'inputs'"),
        (lambda p: header(p, lambda h: h.update(other=empty([0]))), "tensor 'other' is not of format"),
        (lambda p: header(p, lambda h: h.update({"payload/x": empty([0, 2**62])})), "no valid type, shape and place"),
        (lambda p: header(p, lambda h: h.update({"payload/x": empty([0] * 99)})), "no valid type, shape and place"),
        (lambda p: header(p, lambda h: h["inputs"].update(dtype="F4")), "no valid type, shape and place"),
        (lambda p: header(p, lambda h: h["inputs"].update(shape=[-6, 1, 4, -4])), "no valid type, shape and place"),
        (lambda p: header(p, lambda h: h["inputs"].update(data_offsets=[2, 386])), "starts at byte 2 of the data"),
        (lambda p: header(p, lambda h: h["inputs"].update(data_offsets=[49, 433])), "starts at byte 49 of the data"),
        (lambda p: p.write_bytes(p.read_bytes() + b"x"), "need 386 bytes, the file has 387"),
        (lambda p: p.write_bytes(p.read_bytes().replace(b'"labels"', b'"inputs"')), "header is not JSON"),
        (lambda p: (p.unlink(), os.mkfifo(p)), "device or pipe"),
    ],
)
def test_what_is_not_a_set_is_refused_in_one_line(tmp_path: Path, damage: object, message: str) -> None:
    path = make().save(tmp_path / "set.safetensors", force=True)
    damage(path)  # type: ignore[operator]
    with pytest.raises(PotstillError, match=message) as refused:
        load(path)
    assert "\n" not in str(refused.value)
    assert str(path) in str(refused.value)


def test_tensors_of_the_wrong_type_or_missing_are_refused(tmp_path: Path) -> None:
    good = make()
    meta = {"card": json.dumps(good.metadata)}
    x, y = good.tensors["inputs"], good.tensors["labels"]
    for tensors, message in (
        ({"labels": y}, "no tensor 'inputs'"),
        ({"inputs": x}, "no tensor 'labels'"),
        ({"inputs": x.double(), "labels": y}, "'inputs': its values tensor is torch.float64"),
        ({"inputs": x, "labels": y.long()}, "'labels': its values tensor is torch.int64"),
        ({"inputs": x * math.inf, "labels": y}, "must be finite"),
        ({"inputs": x, "labels": y, "index": torch.arange(6)}, "not of format"),
        ({"inputs": x, "labels": y, "whitening/mean": torch.zeros(16)}, "not of format"),
        ({"inputs": x, "labels": y, "decoded": x.clone()}, "another besides it"),
    ):
        path = tmp_path / "bad.safetensors"
        safetensors.torch.save_file(tensors, path, metadata=meta)
        with pytest.raises(PotstillError, match=message):
            load(path)


def test_whitening_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    good = make(whitening=True)
    stored = safetensors.torch.load_file(good.save(tmp_path / "good.safetensors"))
    meta = {"card": json.dumps(good.metadata)}
    for name, tensor, message in (
        ("matrix", torch.eye(15), "not for 16 values"),
        ("mean", torch.zeros(16, dtype=torch.float64), "not for 16 values"),
        ("inverse", torch.full((16, 16), math.nan), "not finite float32"),
        ("matrix", torch.eye(16) * 1e38, "beyond what float32 holds"),
    ):
        path = tmp_path / "bad.safetensors"
        scaled = {"inputs": stored["inputs"] * 100} if "beyond" in message else {}
        safetensors.torch.save_file({**stored, **scaled, f"whitening/{name}": tensor}, path, metadata=meta)
        with pytest.raises(PotstillError, match=message):
            load(path)


def test_an_oversized_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = make().save(tmp_path / "set.safetensors", force=True)
    with pytest.raises(PotstillError, match="more than the 100 allowed"):
        load(path, max_bytes=100)


def test_paths_that_no_system_takes_are_refused_in_one_line(tmp_path: Path) -> None:
    for name in ("x" * 300, "a\0b"):
        with pytest.raises(PotstillError, match="cannot be read"):
            load(tmp_path / name)
        with pytest.raises(PotstillError, match="cannot be written"):
            make().save(tmp_path / name)
    longest = tmp_path / ("x" * 255)
    assert len(load(make().save(longest))) == 6


def test_a_loaded_set_does_not_hang_on_its_file(tmp_path: Path) -> None:
    path = make().save(tmp_path / "set.safetensors", force=True)
    small = load(path)
    path.write_bytes(bytes(path.stat().st_size))
    assert torch.equal(small.inputs, make().inputs)
    path.write_bytes(b"")
    assert torch.equal(small.inputs, make().inputs)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_damage_gives_a_set_or_one_line(tmp_path: Path, data: st.DataObject) -> None:
    path = make(soft=data.draw(st.booleans())).save(tmp_path / "set.safetensors", force=True)
    header(path, lambda parsed: None)  # without the hash, by which all damage would be seen before anything is parsed
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw)
    one_line_or_usable(path)


def one_line_or_usable(path: Path) -> None:
    """A file is refused in one line, or all that is done with a set works and agrees with safetensors' own reader."""
    refused = ""
    try:
        small = load(path)
    except PotstillError as error:
        refused = str(error)
    if refused:
        assert "\n" not in refused
        return
    assert torch.equal(small.inputs, safetensors.torch.load_file(path)["inputs"])
    assert torch.isfinite(small.model_space()).all()
    assert len(describe(inspect(small))) > 100
    assert json.loads(json.dumps(small.to_dict())) == small.metadata
    assert isinstance(small.input, InputSpec)
    assert len(list(DataLoader(small, batch_size=4))) == 2


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_card_gives_a_set_or_one_line(tmp_path: Path, data: st.DataObject) -> None:
    small = make(whitening=data.draw(st.booleans()))
    path = small.save(tmp_path / "set.safetensors", force=True)
    key = data.draw(st.sampled_from(sorted(small.metadata)))
    value = data.draw(values)
    if isinstance(small.metadata[key], dict) and data.draw(st.booleans()):
        value = {**small.metadata[key], data.draw(st.sampled_from(sorted(small.metadata[key]) or ["x"])): value}
    card(path, **{key: value})
    one_line_or_usable(path)


def test_a_set_of_a_task_that_is_not_known_here_is_looked_at_all_the_same(tmp_path: Path) -> None:
    path = make().save(tmp_path / "set.safetensors", force=True)
    card(path, task={**load(path).metadata["task"], "name": ""})
    one_line_or_usable(path)
    found = inspect(path)
    assert (found["per_class"], len(found["metadata"]["classes"])) == ({}, 3)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_header_gives_a_set_or_one_line(tmp_path: Path, data: st.DataObject) -> None:
    path = make(index=True).save(tmp_path / "set.safetensors", force=True)

    def edit(parsed: dict) -> None:  # type: ignore[type-arg]
        name = data.draw(st.sampled_from(["inputs", "labels", "index"]))
        what = data.draw(st.sampled_from(["dtype", "shape", "data_offsets"]))
        near = st.lists(st.sampled_from([-1, 0, 1, 4, 6, 48, 96, 432, 480, 2**31, 2**63, 2**64]), max_size=5)
        parsed[name][what] = data.draw(near | st.sampled_from(["F32", "F64", "I64", "BOOL", "BF16", "F4"]) | values)

    header(path, edit)
    one_line_or_usable(path)


def test_a_failed_write_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make().save(tmp_path / "set.safetensors", force=True)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PotstillError, match=r"could not be written \(No space left on device\).*nothing was changed"):
        make(soft=True).save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["set.safetensors"]


def test_a_path_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PotstillError, match="does not exist"):
        make().save(tmp_path / "none" / "set.safetensors")
    with pytest.raises(PotstillError, match="it is a folder"):
        make().save(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(PotstillError, match="cannot be written"):
        make().save(tmp_path / "file" / "set.safetensors")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PotstillError, match="device or pipe"):
        make().save(tmp_path / "pipe")
    for circle, other in (("p", "q"), ("q", "p")):
        (tmp_path / circle).symlink_to(tmp_path / other)
    with pytest.raises(PotstillError, match="cannot be written"):
        make().save(tmp_path / "p")
    with pytest.raises(PotstillError, match="cannot be written"):
        check_writable(tmp_path / ("x" * 300))
    with monkeypatch.context() as patched:
        patched.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
        with pytest.raises(PotstillError, match="write-protected"):
            make().save(tmp_path / "file")
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", denied)
        with pytest.raises(PotstillError, match="Permission denied"):
            check_writable(tmp_path / "new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "p", "pipe", "q"]


def denied(path: object, *arguments: object) -> int:
    raise PermissionError(errno.EACCES, "Permission denied")


def test_a_link_keeps_pointing_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "set.safetensors")
    make().save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert torch.equal(load(tmp_path / "set.safetensors").inputs, make().inputs)


def test_an_interrupt_while_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make().save(tmp_path / "set.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_as_readable_as_others(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    path = make().save(tmp_path / "set.safetensors", force=True)
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def build(inputs: torch.Tensor, **changes: Any) -> Distilled:
    parts: dict[str, Any] = {
        "labels": torch.arange(len(inputs)) % 2, "method": "m", "config": {}, "seed": 0, "ipc": 1,
        "classes": ("a", "b"), "input": InputSpec(kind="image", shape=tuple(inputs.shape[1:])),
        "normalization": Normalization(torch.zeros(inputs.shape[1]), torch.ones(inputs.shape[1])),
        "training": {}, "source": {}, "outcome": {}, "cost": {},
    }  # fmt: skip
    return build_set(inputs, **{**parts, **changes})


def test_what_is_built_can_be_loaded(tmp_path: Path) -> None:
    # Doubles, views, gradients, mixed memory orders, non-finite numbers on the card: what a method may hand over.
    flat = torch.rand(3, 5, 4, 2, dtype=torch.float64, requires_grad=True)
    q = torch.linalg.qr(torch.rand(40, 40, dtype=torch.float64)).Q
    small = build(
        flat.permute(3, 0, 1, 2),
        normalization=Normalization(
            torch.full((3,), 1 / 3, dtype=torch.float64), torch.ones(3, dtype=torch.float64) / 7
        ),
        payload={"coefficients": q.T, "decoder/basis": torch.rand(2, 2).T, "flags": torch.tensor([True, False])},
        index=torch.tensor([4, 1], dtype=torch.int32),
        config={"a": (1, 2.5, None), "b": math.inf},
        extra={"history": [{"loss": math.nan}]},
    )
    assert small.metadata["config"] == {"a": [1, 2.5, None], "b": None}
    again = load(small.save(tmp_path / "s"))
    assert again.metadata == small.metadata
    assert again.payload.keys() == small.payload.keys()
    assert all(torch.equal(t, small.payload[n]) and t.dtype == small.payload[n].dtype for n, t in again.payload.items())
    assert torch.equal(again.model_space(), small.model_space())
    assert again.index is not None
    assert again.index.tolist() == [4, 1]
    assert not again.inputs.requires_grad


def of_tensors(small: Distilled) -> dict[str, int]:
    """The bytes on the card."""
    return dict(small.metadata["bytes"])


def test_bytes_count_what_training_needs_once() -> None:
    x = torch.rand(2, 1, 4, 4)
    assert of_tensors(build(x, index=torch.tensor([1, 2]))) == {
        "inputs": 128, "labels": 1, "decoder": 0, "index": 1, "total": 130,
    }  # fmt: skip
    payload = {"tiles": torch.rand(2, 1, 2, 2), "decoder/basis": torch.rand(3)}
    # Nothing decodes these tiles, so the inputs lie beside them, and count.
    assert of_tensors(build(x, payload=payload)) == {
        "inputs": 32, "labels": 1, "decoder": 12, "decoded": 128, "total": 173,
    }  # fmt: skip
    plain, whitened = of_tensors(make()), of_tensors(make(whitening=True))
    size = 4 * (16 + 2 * 16 * 16)
    assert whitened == {**plain, "whitening": size, "total": plain["total"] + size}
    assert item_bytes((1, 2, 2), per_item=4) == 16 + 4 * 8
    assert item_bytes((1, 2, 2), 10, per_item=2) == 16 + 2 * 40


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input": InputSpec(kind="image", shape=(1, 5, 5))}, "metadata say inputs of shape"),
        ({"index": torch.tensor([1])}, "index must be one int64"),
        ({"index": torch.tensor([1, -1])}, "index must be one int64"),
        ({"payload": {"x": torch.tensor([math.inf])}}, "payload 'x' must be finite"),
        ({"normalization": Normalization(torch.zeros(1), torch.zeros(1))}, "positive std"),
        ({"classes": ("a", "a")}, "have the same name"),
    ],
)
def test_what_could_not_be_loaded_is_not_built(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PotstillError, match=message):
        build(torch.rand(2, 1, 4, 4), **changes)


def test_a_card_that_is_too_long_is_not_written(tmp_path: Path) -> None:
    small = build(torch.rand(2, 1, 4, 4), extra={"notes": "x" * (16 * 2**20)})
    with pytest.raises(PotstillError, match="limit card_bytes is 16,777,216"):
        small.save(tmp_path / "s")
    assert list(tmp_path.iterdir()) == []


def test_a_data_loader_with_workers_works() -> None:
    small = make()
    batches = [x for x, _ in DataLoader(small, batch_size=4, num_workers=1)]
    assert torch.equal(torch.cat(batches), small.model_space())
    assert len(list(small)) == 6  # type: ignore[call-overload]
    with pytest.raises(IndexError):
        small[6]
