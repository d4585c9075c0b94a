"""The store: bytes as forecast, the same bits for any reader, and nothing believed that a file says."""

import copy
import json
import os
import pickle
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from label_samples import CLASSES, VIEWS, Batches, N, expert, pictures, write, write_flat
from torch.utils.data import DataLoader

from potstill.augment.view_schedule import ViewSchedule
from potstill.dataset_file.memmap_safetensors import FileLayout, write_digest
from potstill.errors import PotstillError
from potstill.functional.counter_rng import random_permutation
from potstill.labels.label_file import LabelFile, hash_inputs, label_file_bytes
from potstill.labels.write import LabelTeacher, hash_network, mean_logits, resolve_pool
from potstill.rng import derive_seed

ALL = torch.arange(N)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("labels") / "labels.safetensors"
    write(made)
    return made


@pytest.mark.parametrize("top_k", [None, 1, 5, 11])
@pytest.mark.parametrize("dtype", ["float16", "uint8", "uint4"])
@pytest.mark.parametrize(
    "more", [{}, {"level": True, "temperature": 20.0}, {"batch": 7, "statistics": "batch"}], ids=["", "level", "batch"]
)
def test_bytes_are_as_forecast(tmp_path: Path, top_k: int | None, dtype: str, more: dict[str, Any]) -> None:
    asked = {"top_k": top_k, "dtype": dtype} | more
    names = tuple(f'Kläße, "{c}"' for c in range(12))
    with torch.no_grad():
        store = write_flat(
            tmp_path / "a", [expert(classes=names)], pictures(), VIEWS, classes=names, epochs=4, pool=2, **asked
        )
    assert (store.about.statistics, store.about.batch) == (("batch", 7) if "batch" in more else ("running", None))
    said = label_file_bytes(N, names, 2, top_k, dtype, level=more.get("level", False))
    tensors = safetensors.numpy.load_file(tmp_path / "a").values()
    assert store.nbytes == said == sum(t.nbytes for t in tensors)
    assert store.file_bytes == (tmp_path / "a").stat().st_size > store.nbytes
    assert os.listdir(tmp_path) == ["a"]


def test_imagenet_fits() -> None:
    """The published 28.3 GiB of ImageNet-1K, 50 per class, 300 epochs: N · E · (2 C + 27) bytes."""
    full = 50_000 * 300 * (2 * 1000 + 27)
    assert round(full / 2**30, 1) == 28.3
    assert label_file_bytes(50_000, 1000, 300, 10) / 2**30 < 0.6
    assert label_file_bytes(50_000, 1000, 30, 100, "uint8") / 2**30 < 0.45
    assert label_file_bytes(50_000, 1000, 300) < full


def test_rows_are_the_teachers_for_the_views_that_training_sees(path: Path) -> None:
    store, teacher = LabelFile(path), expert()
    for epoch, index in ((0, ALL), (2, torch.tensor([7, 3, 3]))):
        x, rows = store.batch_of(pictures(), epoch, index)
        assert torch.equal(x, VIEWS.view(pictures(), epoch, index))
        true = mean_logits([teacher], x).softmax(1)
        top = true.topk(4, dim=1).indices
        torch.testing.assert_close(rows.gather(1, top), true.gather(1, top), rtol=5e-3, atol=1e-4)
        torch.testing.assert_close(rows.sum(1), torch.ones(len(index)))


def test_a_committee_is_the_mean_of_logits(tmp_path: Path) -> None:
    both = [expert(0), expert(1)]
    store = write_flat(
        tmp_path / "a", both, pictures(), VIEWS, classes=CLASSES, epochs=1, level=True, batch=7, temperature=3.0
    )
    x = VIEWS.view(pictures(), 0, ALL)
    mean = (mean_logits([both[0]], x) + mean_logits([both[1]], x)) / 2
    torch.testing.assert_close(store.logits(0, ALL), mean, rtol=0, atol=0.02)
    assert store.about.networks == tuple(("slow-linear", hash_network(e.network)) for e in both)
    assert store.about.networks[0] != store.about.networks[1]
    assert all(e.network.training for e in both)


def test_labels_by_the_statistics_of_batches_are_those_of_a_network_in_train_mode(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"statistics": "batch", "batch": 6, "top_k": None, "level": True, "temperature": 3.0}
    store, judge = write(tmp_path / "a", **settings), expert()
    before = hash_network(judge.network)
    for epoch in range(2):
        order = torch.from_numpy(random_permutation(derive_seed(VIEWS.seed, "label batches"), N, epoch))
        assert order.sort().values.tolist() == list(range(N))
        for index in order.split(6):  # the last holds two
            x = VIEWS.view(pictures(), epoch, index, N)
            with torch.no_grad():
                wanted = copy.deepcopy(judge.network).train()(x)
            torch.testing.assert_close(store.logits(epoch, index), wanted, rtol=0, atol=0.02)
            torch.testing.assert_close(mean_logits([judge], x, "batch"), wanted)
            assert not torch.allclose(mean_logits([judge], x), wanted, atol=0.1)
            torch.testing.assert_close(mean_logits([judge], x[:1], "batch"), mean_logits([judge], x[:1]))
    assert (hash_network(judge.network), judge.network.training) == (before, True)
    assert write(tmp_path / "b", **settings).path.read_bytes() == store.path.read_bytes()
    other = write(tmp_path / "c", **settings | {"batch": 7})
    assert not torch.allclose(other.logits(0, ALL), store.logits(0, ALL), atol=0.05)


def test_a_stopped_writer_goes_on_by_the_statistics_of_the_same_batches(tmp_path: Path) -> None:
    def stop(rows: int, total: int) -> None:
        if rows == 2 * N:
            raise KeyboardInterrupt

    settings: dict[str, Any] = {"statistics": "batch", "batch": 6}
    whole = write(tmp_path / "whole", **settings)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "a", progress=stop, **settings)
    with pytest.raises(PotstillError, match="of other settings"):
        write(tmp_path / "a", batch=6)
    write(tmp_path / "a", **settings)
    assert (tmp_path / "a").read_bytes() == whole.path.read_bytes()


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more than a machine with one core has
def test_all_readers_see_the_same_bits(path: Path) -> None:
    """Other batch sizes, other orders, spawned workers that live for all epochs, more epochs than are stored."""
    store = LabelFile(path)
    whole = [store.batch_of(pictures(), e, ALL, 4.0) for e in range(5)]
    rng = torch.Generator().manual_seed(1)
    for workers, size in ((0, 1), (0, 7), (2, 3)):
        asked = [(e, i.tolist()) for e in range(5) for i in torch.randperm(N, generator=rng).split(size)]
        spawned: dict[str, Any] = {"multiprocessing_context": "spawn"} if workers else {}
        loader = DataLoader(Batches(path), batch_size=None, sampler=asked, num_workers=workers, **spawned)  # type: ignore[arg-type]
        for (epoch, index), (x, rows) in zip(asked, loader, strict=True):
            assert torch.equal(x, whole[epoch][0][index])
            assert torch.equal(rows, whole[epoch][1][index])


def test_the_pool_is_gone_through_evenly(path: Path) -> None:
    store = LabelFile(path)
    turns = [[store.stored_epoch(3 * t + e) for e in range(3)] for t in range(8)]
    assert turns[0] == [0, 1, 2]
    assert all(sorted(turn) == [0, 1, 2] for turn in turns)
    assert len({tuple(turn) for turn in turns}) > 2


def test_a_store_is_plain_safetensors_and_travels(path: Path) -> None:
    plain = safetensors.numpy.load_file(path)
    assert {n: (a.dtype.name, a.shape) for n, a in plain.items()} == {
        "values": ("float16", (3, N, 5)), "index": ("uint8", (3, N, 2)),
    }  # fmt: skip
    store = pickle.loads(pickle.dumps(LabelFile(path)))
    assert torch.equal(store.decode(1, ALL), LabelFile(path).decode(1, ALL))


# Killed, stopped and resumed


def test_a_killed_writer_goes_on_to_the_same_bytes(tmp_path: Path, path: Path) -> None:
    made = tmp_path / "labels.safetensors"
    part, record = (tmp_path / f".labels.safetensors.{kind}" for kind in ("part", "progress"))
    script = Path(__file__).with_name("label_samples.py")
    writer = subprocess.Popen([sys.executable, str(script), str(made), "0.12"])
    try:
        while writer.poll() is None and not record.exists():
            time.sleep(0.005)
        time.sleep(0.07)  # into what is not yet on record
    finally:
        writer.send_signal(signal.SIGKILL)
        assert writer.wait() == -signal.SIGKILL
    assert not made.exists()
    assert part.stat().st_size == path.stat().st_size  # all room is reserved from the start
    done = json.loads(record.read_text())["rows"]
    assert 0 < done < 3 * N
    with pytest.raises(PotstillError, match="of other settings"):
        write(made, batch=5)
    with pytest.raises(PotstillError, match="of other settings"):
        write(made, top_k=3)
    seen: list[int] = []
    write(made, progress=lambda rows, total: seen.append(rows))
    assert seen[0] > done
    assert seen[-1] == 3 * N
    assert made.read_bytes() == path.read_bytes()
    assert os.listdir(tmp_path) == [made.name]


def test_an_interrupted_writer_keeps_what_it_made(tmp_path: Path, path: Path) -> None:
    made, calls = tmp_path / "a", []

    def stop(rows: int, total: int) -> None:
        calls.append(rows)
        if len(calls) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(made, progress=stop)
    again: list[int] = []
    write(made, progress=lambda rows, total: again.append(rows))
    assert again[0] > calls[-1]
    assert made.read_bytes() == path.read_bytes()
    # a whole file is left alone, another one is not written over
    write(made, progress=lambda rows, total: pytest.fail("made again"))
    with pytest.raises(PotstillError, match="another file is there"):
        write(made, top_k=3)
    assert made.read_bytes() == path.read_bytes()


def test_a_damaged_record_is_refused(tmp_path: Path) -> None:
    for text in ("{", '{"format": "other"}'):
        (tmp_path / ".a.progress").write_text(text)
        with pytest.raises(PotstillError, match="start again"):
            write(tmp_path / "a")


def test_a_disk_that_is_too_small_shows_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, first: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(PotstillError, match=r"No space left on device.*free space"):
        write(tmp_path / "a", progress=lambda rows, total: pytest.fail("worked in vain"))
    assert os.listdir(tmp_path) == []


# What does not belong together


def test_class_orders_that_differ_are_shown_and_refused(tmp_path: Path, path: Path) -> None:
    swapped = (CLASSES[0], CLASSES[2], CLASSES[1], *CLASSES[3:])
    with pytest.raises(PotstillError) as refused:
        write_flat(tmp_path / "a", [expert(), expert(classes=swapped)], pictures(), VIEWS, classes=CLASSES, epochs=1)
    said = str(refused.value)
    assert "differ from class 1 on" in said
    assert "class 0, class 1, class 2" in said
    assert "class 0, class 2, class 1" in said
    assert "\n" not in said
    store, digest = LabelFile(path), hash_inputs(pictures())
    store.check(CLASSES, digest)
    with pytest.raises(PotstillError, match=r"the labels and the data must .*\(class 0, class 2"):
        store.check(swapped, digest)
    with pytest.raises(PotstillError, match="differ from class 12 on"):
        store.check((*CLASSES, "one more"), digest)


def test_labels_of_other_inputs_are_refused(path: Path) -> None:
    store, x = LabelFile(path), pictures()
    with pytest.raises(PotstillError, match="label these data"):
        store.check(CLASSES, hash_inputs(x.flip(0)))
    with pytest.raises(PotstillError, match="labels of 20 items, but there are 19"):
        store.view(x[1:], 0, ALL[:3])
    assert hash_inputs(lambda i: x[i], N, chunk=3) == hash_inputs(x) != hash_inputs(x.double())


def test_what_is_not_there_is_refused(path: Path) -> None:
    store = LabelFile(path)
    for epoch, index, said in (
        (3, [0], "epochs 0…2"),
        (-1, [0], "epochs 0…2"),
        (0, [20], "items 0…19"),
        (0, [-1], "items 0"),
    ):
        with pytest.raises(PotstillError, match=said):
            store.decode(epoch, torch.tensor(index))
        with pytest.raises(PotstillError, match=said):
            store.view(pictures(), epoch, torch.tensor(index))
    with pytest.raises(PotstillError, match="from 0"):
        store.stored_epoch(-1)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"pool": 4}, "pool must hold 1…3"),
        ({"top_k": 13}, "top_k must be"),
        ({"batch": 0}, "at least 1 view"),
        ({"classes": (*CLASSES[:-1], "class 0")}, "same classes"),
    ],
)
def test_bad_settings_are_refused_before_the_work(tmp_path: Path, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(PotstillError, match=said):
        write(tmp_path / "a", **wrong)
    assert os.listdir(tmp_path) == []


def test_a_teacher_that_breaks_is_named(tmp_path: Path) -> None:
    broken = expert()
    with torch.no_grad():
        broken.network.weight[0, 3] = float("nan")  # type: ignore[index, union-attr]
    with pytest.raises(PotstillError, match="item 0 in epoch 0"):
        write_flat(tmp_path / "a", [broken], pictures(), VIEWS, classes=CLASSES, epochs=1)
    narrow = LabelTeacher(name="narrow", network=expert(classes=CLASSES[:5]).network, classes=CLASSES)
    with pytest.raises(PotstillError, match="teachers of 12 classes are required, but these give 5"):
        write_flat(tmp_path / "b", [narrow], pictures(), VIEWS, classes=CLASSES, epochs=1)
    with pytest.raises(PotstillError, match="at least one teacher"):
        write_flat(tmp_path / "c", [], pictures(), VIEWS, classes=CLASSES, epochs=1)


# Hostile files

RECORDED = {"kind": "recorded", "picture": [7, 6], "size": [7, 6], "mix": "none"}


def opened(content: bytes, path: Path) -> None:
    """A file is refused in one line, or every label of it is a row."""
    path.write_bytes(content)
    try:
        store = LabelFile(path)
        for epoch in range(min(store.about.epochs, 3)):
            rows = store.decode(epoch, torch.arange(len(store)), 4.0)
            torch.testing.assert_close(rows.sum(1), torch.ones(len(store)), rtol=0, atol=1e-4)
    except PotstillError as refused:
        if "\n" in str(refused):
            pytest.fail(f"not one line: {refused}")


FUZZ = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(st.data())
@FUZZ
def test_cut_and_changed_files_are_refused_or_read(path: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(changed(path))
    header = 8 + struct.unpack("<Q", content[:8])[0]
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, header + 40))
        content[at] = data.draw(st.one_of(st.sampled_from(b'0123456789-.,:[]{}"e \\'), st.integers(0, 255)))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    opened(bytes(content), tmp_path / "changed")


@given(st.data())
@FUZZ
def test_a_bit_that_fell_over_is_noticed(path: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (tmp_path / "flipped").write_bytes(content)
    with pytest.raises(PotstillError):
        LabelFile(tmp_path / "flipped")


def test_a_writer_that_was_stopped_after_the_hash_goes_on(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sealed(file: BinaryIO, planned: FileLayout) -> None:
        write_digest(file, planned)
        raise OSError("the power went")

    with monkeypatch.context() as patch:
        patch.setattr("potstill.dataset_file.memmap_safetensors.write_digest", sealed)
        with pytest.raises(PotstillError, match="the power went"):
            write(tmp_path / "mine", record_every=0.0)
    calls: list[tuple[int, int]] = []
    write(tmp_path / "mine", record_every=0.0, progress=lambda *rows: calls.append(rows))
    assert not calls, "all labels were there"
    assert (tmp_path / "mine").read_bytes() == path.read_bytes()


def changed(path: Path, **said: Any) -> bytes:
    """The file with other entries in its description, its header made to fit, and without its hash, as a stranger may
    leave it out: what follows must hold without one."""
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    about = json.loads(header["__metadata__"]["labels"]) | said
    header["__metadata__"] = {"labels": json.dumps(about)}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


@pytest.mark.parametrize(
    "said",
    [
        {"items": 10**9}, {"items": 21}, {"items": 0}, {"items": True}, {"items": 2.0}, {"epochs": 2**40},
        {"epochs": -3}, {"top_k": 3}, {"top_k": 500}, {"dtype": "uint8"}, {"dtype": 8}, {"classes": list(CLASSES[:4])},
        {"level": True}, {"classes": ["same"] * 12}, {"classes": [1] * 12}, {"classes": "twelve classes"},
        {"views": {}}, {"views": {"kind": "other"}}, {"views": RECORDED}, {"views": RECORDED | {"picture": [7]}},
        {"views": RECORDED | {"mix": "mosaic"}}, {"views": RECORDED | {"size": [7, 2**20]}}, {"temperature": "1"},
        {"temperature": -1.0}, {"networks": [1]}, {"networks": [{"name": "a"}]}, {"format": "potstill-labels/1"},
        {"format": "potstill-labels/3"}, {"format": 3}, {"statistics": "batch"}, {"statistics": "batch", "batch": 0},
        {"statistics": "none"}, {"batch": 6}, {"version": 1}, {"content_hash": None},
    ],
)  # fmt: skip
def test_descriptions_that_contradict_the_file_are_refused(path: Path, tmp_path: Path, said: dict[str, Any]) -> None:
    (tmp_path / "changed").write_bytes(changed(path, **said))
    with pytest.raises(PotstillError) as refused:
        LabelFile(tmp_path / "changed")
    assert "\n" not in str(refused.value)


def test_claims_of_great_size_and_other_kinds_are_refused(path: Path, tmp_path: Path) -> None:
    huge = {"values": {"dtype": "F16", "shape": [2**20, 2**20, 5], "data_offsets": [0, 2**41 * 5]}}
    text = json.dumps(huge).encode()
    for content in (
        b"", b"{}", struct.pack("<Q", 2**60) + b"{", struct.pack("<Q", len(text)) + text, b"PK\x03\x04" + bytes(99),
        struct.pack("<Q", 2) + b"{}",
    ):  # fmt: skip
        (tmp_path / "odd").write_bytes(content)
        with pytest.raises(PotstillError):
            LabelFile(tmp_path / "odd")
    for place in (tmp_path, tmp_path / "missing", Path("/dev/null")):
        with pytest.raises(PotstillError):
            LabelFile(place)
    np.save(tmp_path / "array.npy", np.zeros(9))
    with pytest.raises(PotstillError, match="safetensors"):
        LabelFile(tmp_path / "array.npy")


def test_the_mass_of_the_kept_classes_is_said(path: Path) -> None:
    x = VIEWS.view(pictures(), 0, ALL)
    true = mean_logits([expert()], x).softmax(1).topk(4, 1).values.sum(1).mean()
    assert LabelFile(path).kept_mass() == pytest.approx(float(true), rel=1e-2)


def test_a_file_that_changes_between_processes_is_noticed(path: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_bytes(path.read_bytes())
    sent = pickle.dumps(LabelFile(mine))
    mine.write_bytes(changed(path, content_hash="0" * 64))
    with pytest.raises(PotstillError, match="became another file"):
        pickle.loads(sent)


def test_tables_have_labels_too(tmp_path: Path) -> None:
    rows = pictures().flatten(1)
    views = ViewSchedule(scale=None, flip=0.0, mix="mixup")
    store = write_flat(tmp_path / "a", [expert()], rows, views, classes=CLASSES, epochs=2)
    x, labels = store.batch_of(rows, 1, ALL[:5])
    torch.testing.assert_close(labels, mean_logits([expert()], x).softmax(1), rtol=1e-2, atol=1e-3)


def test_training_of_less_than_an_epoch_has_no_labels_to_store() -> None:
    with pytest.raises(PotstillError, match="less than one; train for more steps or epochs"):
        resolve_pool(0, None)
    assert resolve_pool(3, None) == 3
