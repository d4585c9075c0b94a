"""Shards, bundled data and how ``load`` decides what it was given."""

import io
import tarfile

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_files import encoded

from potstill.data import load
from potstill.data.shards import expand_braces
from potstill.errors import PotstillError


def refuse(data, message, **options):
    with pytest.raises(PotstillError, match=message) as caught:
        load(data, **options)
    assert "\n" not in str(caught.value)


def shard(path, files):
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return str(path)


def samples(first, n=4, label=lambda i: str(i % 2)):
    order = sorted(range(first, first + n), reverse=True)
    return {
        name: content
        for i in order
        for name, content in ((f"d/{i:03}.png", encoded((i, 0, 1))), (f"d/{i:03}.cls", label(i).encode()))
    }


def test_shards_are_read_in_the_order_of_their_keys(tmp_path):
    for k in range(3):
        shard(tmp_path / f"train-{k:02}.tar", samples(4 * k))
    s = load(f"{tmp_path}/train-{{00..02}}.tar", test_fraction=0)
    assert s.train.name == "train"
    assert s.train.inputs[:, 0, 0, 0].tolist() == list(range(12))
    assert s.train.labels.tolist() == [i % 2 for i in range(12)]
    assert s.train.classes == ("0", "1")
    one = load(f"{tmp_path}/train-01.tar", test_fraction=0)
    assert one.train.inputs[:, 0, 0, 0].tolist() == [4, 5, 6, 7]


def test_shards_with_class_names(tmp_path):
    path = shard(tmp_path / "pets.tar", samples(0, label=lambda i: "cat\n" if i % 2 else "dog"))
    assert load(path).train.classes == ("cat", "dog")


def test_shard_errors(tmp_path):
    refuse(f"{tmp_path}/train-{{000..003}}.tar", r"train-000\.tar: no such shard \(4 of 4 that .* names are missing\)")
    path = shard(tmp_path / "a.tar", {"1.png": encoded((1, 2, 3))})
    refuse(path, r"a\.tar: sample '1' has no 1\.cls")
    refuse(shard(path, {"1.cls": b"0", "1.txt": b"x"}), r"sample '1' has no picture, only cls, txt")
    refuse(shard(path, {}), "there are no samples in 1 shards")
    refuse(
        shard(path, {"1.png": encoded(1, mode="L")[:40], "1.cls": b"0"}), r"a\.tar:1: not an image .*`skip_bad=True`"
    )
    (tmp_path / "a.tar").write_bytes(b"no tar at all")
    refuse(path, r"a\.tar: not a readable tar file")
    refuse(path, "has its own labels; leave `label=` out", label="y")


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 120), st.integers(0, 30), st.integers(1, 4))
def test_ranges_expand_with_their_zeros(first, count, width):
    last = first + count
    pattern = f"x-{{{first:0{width}}..{last:0{width}}}}.tar"
    expected = [f"x-{i:0{width}}.tar" for i in range(first, last + 1)]
    assert list(expand_braces(pattern)) == expected


def test_lists_and_several_braces_expand():
    assert list(expand_braces("{a,b}-{0..1}")) == ["a-0", "a-1", "b-0", "b-1"]
    assert list(expand_braces("plain.tar")) == ["plain.tar"]


def test_digits_are_the_real_ones_kept_exactly():
    s = load("digits")
    assert (len(s.train) + len(s.test), s.train.input.shape) == (1797, (1, 8, 8))
    assert s.train.classes == tuple("0123456789")
    x = s.train.raw(torch.arange(len(s.train))) * 16
    assert torch.equal(x, x.round())
    assert x.max() == 16
    assert s.test.labels.bincount().min() >= 34
    assert "drawn as test with seed 0" in s.notes[0]
    assert load("digits").train.content_hash == s.train.content_hash
    centres = torch.stack([s.train.fetch(torch.where(s.train.labels == c)[0]).x.mean(0) for c in range(10)])
    test = s.test.fetch(torch.arange(len(s.test)))
    nearest = torch.cdist(test.x.flatten(1), centres.flatten(1)).argmin(1)
    assert (nearest == test.y).float().mean() > 0.85, "labels belong to their pictures"


def test_mnist_5k_is_the_real_one():
    s = load("mnist-5k", size=14, seed=2)
    assert (len(s.train), len(s.test), s.train.input.shape) == (4000, 1000, (1, 14, 14))
    assert s.train.labels.bincount().tolist() == [400] * 10
    assert s.train.inputs.dtype == torch.uint8
    assert "28 × 28 resized to 14 × 14" in s.notes[0]
    full = load("mnist-5k", test_fraction=0)
    assert full.train.normalization.mean.item() == pytest.approx(0.1307, abs=0.003)
    assert full.train.normalization.std.item() == pytest.approx(0.3081, abs=0.003)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("mnits", "unknown data set 'mnits'; did you mean mnist"),
        ("zzzzzz", "unknown data set 'zzzzzz'; known: cifar10"),
        ("./digit", r"^\./digit: no such file or folder"),
        ("some/where", "^some/where: no such file or folder"),
        ("~nobody-here/x", "no such file or folder"),
        ("table.csv", r"^table\.csv: no such file or folder"),
    ],
)
def test_names_that_mean_nothing(data, message):
    refuse(data, message)


def test_files_of_other_kinds_and_labels_where_none_are_named(tmp_path):
    (tmp_path / "x.docx").write_bytes(b"")
    refuse(tmp_path / "x.docx", r"x\.docx: files ending in \.docx are not read; give one of \.npz, \.csv")
    refuse("digits", "digits has its own labels; leave `label=` out", label="y")
    refuse(str(tmp_path), "has its own labels", label="y")
