"""Test samples that lie in the training part, copies that a drawn split would tear apart, and claims on memory."""

import io
import os
import tarfile
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_files import encoded, put

from potstill.data import load
from potstill.data.splits import stratify
from potstill.data.train_test_overlap import first_equal, keep_copies_together
from potstill.errors import PotstillError
from potstill.functional.duplicates import near_duplicates

RNG = np.random.default_rng(2)
PIXELS = RNG.integers(0, 256, (40, 6, 6), dtype=np.uint8)
LABELS = np.arange(40) % 2
TWICE, BOTH = np.concatenate([PIXELS, PIXELS]), np.concatenate([LABELS, LABELS])


def said(splits, words):
    return [note for note in splits.notes if words in note]


def equal_across(splits):
    train = {x.numpy().tobytes() for x in splits.train.raw(torch.arange(len(splits.train)))}
    return sum(x.numpy().tobytes() in train for x in splits.test.raw(torch.arange(len(splits.test))))


def folder(root, parts=("",), n=5, colour=lambda part, name, i: (40 * i, 7, len(name))):
    for part in parts:
        for name in ("ant", "mole"):
            for i in range(n):
                put(root / part / name / f"{i}.png", encoded(colour(part, name, i)))
    return root


def test_copies_across_a_drawn_split_are_counted():
    s = load((TWICE, BOTH))
    n = equal_across(s)
    assert n > 8
    assert said(s, "exact copies") == [
        f'arrays: {n} of 16 test samples are exact copies of training samples; `duplicates="together"` keeps copies on '
        "one side of a drawn split"
    ]
    assert not said(load((PIXELS, LABELS)), "exact copies")


def test_identical_folders_and_other_classes_are_told(tmp_path):
    s = load(folder(tmp_path, ("train", "test")))
    assert said(s, "copies")[0].endswith(
        "10 of 10 test samples are exact copies of training samples; leave them out of one part, or scores on them "
        "flatter"
    )
    wrong = load((PIXELS, LABELS, PIXELS[:4], 1 - LABELS[:4]))
    assert "4 of 4 test samples are exact copies of training samples, 4 of them under another class;" in wrong.notes[0]


def test_copies_in_tables_and_frames():
    frame = pd.DataFrame({"a": [*range(10)] * 2, "c": ["x", "y"] * 10, "label": ["u", "v"] * 10})
    assert said(load(frame), "exact copies")
    assert equal_across(load(frame, duplicates="together")) == 0


def test_streamed_pictures_are_looked_at_when_asked(tmp_path):
    root = folder(tmp_path, ("train", "test"))
    assert not said(load(root, stream=True), "copies")
    assert said(load(root, stream=True, duplicates="exact"), "10 of 10 test samples are exact copies")
    once = folder(tmp_path / "own", n=10, colour=lambda part, name, i: (40 * (i // 2), 7, len(name)))
    drawn = load(once, stream=True, duplicates="together")
    assert equal_across(drawn) == 0
    assert equal_across(load(once, stream=True)) > 0


def test_copies_stay_together_and_a_split_without_copies_stays_as_it_was():
    plain = load((PIXELS, LABELS))
    same = load((PIXELS, LABELS), duplicates="together")
    assert same.train.content_hash == plain.train.content_hash
    assert same.test.content_hash == plain.test.content_hash
    s = load((TWICE, BOTH), duplicates="together")
    assert equal_across(s) == 0
    assert len(s.train) + len(s.test) == 80
    assert 8 <= len(s.test) <= 24
    assert said(s, "changed sides, so that copies lie on one")
    with pytest.raises(PotstillError, match="all samples of a class are copies of each other"):
        load((np.repeat(PIXELS[:2], 5, 0), np.repeat([0, 1], 5)), duplicates="together")
    with pytest.raises(PotstillError, match="unknown way with duplicates 'remove'"):
        load((PIXELS, LABELS), duplicates="remove")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2)), min_size=6, max_size=60), st.integers(0, 9))
def test_no_copy_is_torn_apart_and_no_class_is_left_empty(samples, seed):
    values = torch.tensor([[v] for v, _ in samples], dtype=torch.float32)
    labels = torch.tensor([y for _, y in samples])
    kept, held = stratify(labels, 0.3, seed)
    first = first_equal(values)
    try:
        a, b, notes = keep_copies_together(kept, held, first, labels, "x")
    except PotstillError:
        return
    assert sorted([*a.tolist(), *b.tolist()]) == list(range(len(samples)))
    assert not {float(v) for v in values[a]} & {float(v) for v in values[b]}
    assert set(labels[a].tolist()) == set(labels.tolist())
    if len(set(first.tolist())) == len(samples):
        assert (a.tolist(), b.tolist(), notes) == (kept.tolist(), held.tolist(), [])


def test_near_copies_are_counted_on_request():
    near = np.clip(PIXELS.astype(int) + RNG.integers(-2, 3, PIXELS.shape), 0, 255).astype(np.uint8)
    other = RNG.integers(0, 256, (20, 6, 6), dtype=np.uint8)
    test = np.concatenate([near[:7], other])
    s = load((PIXELS, LABELS, test, np.arange(27) % 2), duplicates="near")
    assert said(s, "7 of 27 test samples are nearly equal to a training sample (within 5% of the typical distance")
    assert not said(load((PIXELS, LABELS, test, np.arange(27) % 2)), "nearly equal")


@pytest.mark.parametrize("n", [300, 3000])
def test_near_rows_across_two_parts(n):
    x = torch.randn(n, 8, generator=torch.Generator().manual_seed(1))
    x[-2:] = x[:2] + 1e-4
    x[3] = x[4] + 1e-4
    across = torch.arange(n) >= n - 10
    found = near_duplicates(x, across=across).nonzero().flatten().tolist()
    assert found == [0, 1, n - 2, n - 1]
    assert near_duplicates(torch.ones(4, 2), across=torch.tensor([True, False, False, False])).all()
    assert not near_duplicates(torch.ones(4, 2), across=torch.ones(4, dtype=torch.bool)).any()


def refuse(data, message, **options):
    with pytest.raises(PotstillError, match=message) as caught:
        load(data, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_pattern_of_very_many_shards_is_refused_before_it_is_spelled_out():
    refuse("x-{0..99999999}.tar", r"^x-\{0\.\.99999999\}\.tar: names more than 100,000 shards; limit shards is 100,000")
    refuse("{a,b}-{0..9999999}-{0..9}.tar", "names more than 100,000 shards")


@pytest.mark.parametrize("stream", [None, True])
def test_a_size_of_very_many_pixels_is_refused(tmp_path, stream):
    root = folder(tmp_path)
    refuse(
        root, "the picture size 100,000 × 100,000: 10,000,000,000 pixels .*limit pixels is", size=100_000, stream=stream
    )
    refuse((PIXELS, LABELS), "limit pixels is 89,478,485", size=(100_000, 100_000))


def test_more_pixels_than_memory_are_refused(tmp_path, monkeypatch):
    from potstill.data import limits

    monkeypatch.setattr(limits, "machine_memory", lambda: 2**20)
    root = folder(tmp_path)
    refuse(root, "10 pictures of 200 × 200 would take 0.0 GiB, but this machine has 0.0 GiB of memory; give a smaller",
           size=200, stream=False)  # fmt: skip
    refuse((PIXELS, LABELS), "40 pictures of 200 × 200 would take", size=200)


def with_header(path, text):
    """An .npz whose x says something else of itself than it holds."""
    np.savez(path, x=np.zeros((4, 4)), y=[0, 1, 0, 1])
    with zipfile.ZipFile(path) as old:
        files = {name: old.read(name) for name in old.namelist()}
    start = b"\x93NUMPY\x01\x00"
    header = text.encode().ljust(117) + b"\n"
    files["x.npy"] = start + len(header).to_bytes(2, "little") + header + files["x.npy"][-128:]
    with zipfile.ZipFile(path, "w") as new:
        for name, content in files.items():
            new.writestr(name, content)
    return path


def test_an_npz_that_claims_more_than_it_holds_is_refused(tmp_path):
    many = "{'descr': '<f8', 'fortran_order': False, 'shape': (500000000000, 1), }"
    refuse(
        with_header(tmp_path / "x.npz", many), r"x\.npy claims 4,000,000,000,000 bytes \(shape .*\), but has 128; save"
    )
    refuse(with_header(tmp_path / "x.npz", "{'descr': '<f8', 'shape': 7"), "not an .npz file of plain arrays")


def test_an_npz_larger_than_memory_is_refused(tmp_path, monkeypatch):
    from potstill.data import limits

    np.savez_compressed(tmp_path / "x.npz", x=np.zeros((2000, 100)), y=np.arange(2000) % 2)
    monkeypatch.setattr(limits, "machine_memory", lambda: 2**20)
    refuse(tmp_path / "x.npz", r"x\.npz: its arrays would take 0\.0 GiB, but this machine has")


def test_an_archive_that_is_no_npz_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as file:
        file.writestr("x.txt", "no array")
    refuse(tmp_path / "x.npz", "not an .npz file of plain arrays")
    with tarfile.open(tmp_path / "y.npz", "w") as tar:
        tar.addfile(tarfile.TarInfo("x.npy"), io.BytesIO())
    refuse(tmp_path / "y.npz", "not an .npz file of plain arrays")
    assert os.listdir(tmp_path)
