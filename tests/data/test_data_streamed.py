"""Sources that hold no picture: the same samples as in memory, each read once, and what happens to broken ones."""

import io
import pickle
import tarfile
import threading
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from picture_files import encoded, noise, put
from PIL import Image

from potstill.core import Source
from potstill.data import StreamSource, indexing, load, readers, streamed, streaming
from potstill.data.iterate import iterate_samples, pass_batch_size, prefetch, shuffle_indices
from potstill.data.pictures import silence_pillow
from potstill.errors import PotstillError
from potstill.rng import generator
from potstill.testing import check_source


@pytest.fixture(autouse=True)
def threads(monkeypatch):
    monkeypatch.setenv("POTSTILL_WORKERS", "3")


def pictures(n, seed=0, size=(12, 10)):
    return [noise(size, "PNG" if i % 2 else "JPEG", seed * 1000 + i) for i in range(n)]


def folder(root, n=6, classes=("ant", "bee", "cow"), size=(12, 10)):
    for k, name in enumerate(classes):
        for i, content in enumerate(pictures(n + k, k, size)):
            put(root / name / f"{i}.{'png' if i % 2 else 'jpg'}", content)
    return root


def shard(path, samples):
    """A tar of (member name, bytes)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in samples:
            about = tarfile.TarInfo(name)
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    return path


def shards(root, count=3, n=5, order=list):
    """Shards of ``n`` samples whose classes are mixed."""
    for s in range(count):
        samples = []
        for i, content in enumerate(pictures(n, s)):
            samples += [(f"{i:03}.jpg", content), (f"{i:03}.cls", str((s + i) % 2).encode())]
        shard(root / f"x-{s}.tar", order(samples))
    return str(root / f"x-{{0..{count - 1}}}.tar")


def table(path, n=9, group=4):
    rows = [{"image": {"bytes": b, "path": None}, "label": i % 2} for i, b in enumerate(pictures(n))]
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path, row_group_size=group)
    return path


def equal(a: Source, b: Source) -> None:
    """Every sample of both, in batches that are not in order and hold some twice."""
    assert a.classes == b.classes
    assert a.input == b.input
    assert torch.equal(a.labels, b.labels)
    assert torch.equal(a.normalization.mean, b.normalization.mean)
    assert torch.equal(a.normalization.std, b.normalization.std)
    n = len(a)
    for index in (torch.arange(n), torch.arange(n).flip(0), torch.tensor([n - 1, 0, n - 1]), torch.arange(0)):
        x, y = a.fetch(index), b.fetch(index)
        assert torch.equal(x.x, y.x)
        assert torch.equal(x.y, y.y)
        assert torch.equal(a.raw(index), b.raw(index))


def both(data, **options):
    held, read = load(data, stream=False, **options), load(data, stream=True, **options)
    for a, b in ((held.train, read.train), (held.test, read.test)):
        if a is None:
            assert b is None
            continue
        assert isinstance(b, StreamSource)
        equal(a, b)
        check_source(b)
    assert read.train.names == held.train.names
    # Broken ones are listed as they lie, in memory as they were found.
    said, kept = ([n.partition(" left out (")[0] for n in s.notes if "streamed" not in n] for s in (held, read))
    assert sorted(said) == sorted(kept)
    return held, read


class Counting(readers.Reader):
    """A reader that counts what is read, and how often the next picture lies before the last."""

    def __init__(self, reader):
        self.reader, self.together, self.window = reader, reader.together, reader.window
        self.counts = np.zeros(len(reader), dtype=int)
        self.last, self.back, self.lock = -1, 0, threading.Lock()

    def __len__(self):
        return len(self.reader)

    def where(self, place):
        return self.reader.where(place)

    def opened(self, place):
        return self.reader.opened(place)

    def read_one(self, place):
        return self.read([place])[0]

    def read(self, places):
        with self.lock:
            for place in places:
                self.counts[place] += 1
                self.back += place < self.last
                self.last = place
        return self.reader.read(places)


# --- the same as in memory --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", ["1", "3"])
@pytest.mark.parametrize("size", [None, (7, 5)])
def test_a_folder(tmp_path, monkeypatch, size, workers):
    monkeypatch.setenv("POTSTILL_WORKERS", workers)
    both(folder(tmp_path), size=size, seed=3)
    put(tmp_path / "ant/deep/er/9.png", encoded((255, 0, 0), (40, 30)))
    both(tmp_path, size=size, test_fraction=0)


def test_a_folder_with_a_test_part_whose_classes_are_fewer(tmp_path):
    folder(tmp_path / "train")
    folder(tmp_path / "test", 2, ("bee",))
    put(tmp_path / "notes/x.png", encoded((0, 0, 0)))
    put(tmp_path / "train/ant/readme.txt", b"")
    both(tmp_path, duplicates="exact")


@pytest.mark.parametrize("order", [list, lambda samples: samples[::-1]])
def test_shards_of_mixed_classes(tmp_path, order):
    both(shards(tmp_path, order=order), test_fraction=0)
    both(tmp_path / "x-1.tar")


def test_shards_with_text_labels_folders_and_long_names(tmp_path):
    samples = []
    for i, content in enumerate(pictures(6)):
        key = f"{'deep/' * (i % 3)}{'n' * 150}{i}"
        samples += [(f"{key}.seg.txt", b"no picture"), (f"{key}.PNG", content), (f"{key}.cls", [b"ox", b"elk"][i % 2])]
    shard(tmp_path / "a.tar", samples)
    held, _ = both(str(tmp_path / "a.tar"), test_fraction=0)
    assert held.train.classes == ("elk", "ox")


def test_parquet_and_hugging_face(tmp_path):
    import datasets

    _, read = both(str(table(tmp_path / "t.parquet")), test_fraction=0)
    assert read.train.reader.together == 3
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=["no", "yes"])})
    rows = [{"img": Image.open(io.BytesIO(b)), "label": i % 2} for i, b in enumerate(pictures(8))]
    train, test = (datasets.Dataset.from_list(part, features=features) for part in (rows[:6], rows[6:]))
    both(train.select([5, 1, 2, 0]), test_fraction=0)
    several = datasets.DatasetDict({"train": train, "test": test})
    _, read = both(several)
    assert read.train.classes == ("no", "yes")
    several.save_to_disk(str(tmp_path / "saved"))
    both(tmp_path / "saved")


@pytest.mark.parametrize(
    ("contents", "channels"),
    [
        ([encoded(k, mode="L") for k in (0, 99)], 1),
        ([encoded((k, k, k)) for k in (0, 99)], 1),  # grey in a file of colours
        ([encoded(k, mode="L") for k in (0, 99)] + [encoded((1, 2, 3))], 3),
        (
            [encoded((9, 9, 9, 40), mode="RGBA"), encoded((3, 80), mode="LA")],
            1,
        ),
    ],
)
@pytest.mark.parametrize("size", [None, (4, 4)])
def test_grey_is_one_channel_as_in_memory(tmp_path, contents, channels, size):
    for k in range(2):
        for i, content in enumerate(contents):
            put(tmp_path / str(k) / f"{i}.png", content)
    held, read = both(tmp_path, test_fraction=0, size=size)
    assert read.train.input.shape[0] == held.train.input.shape[0] == channels
    both(tmp_path, test_fraction=0, size=size, skip_bad=True)


def outcome(root, stream, size, fraction):
    """The splits, or what the error says."""
    try:
        return load(root, stream=stream, size=size, test_fraction=fraction, seed=1)
    except PotstillError as refused:
        return str(refused)


def test_streamed_and_held_normalization_have_the_same_bits(tmp_path):
    for k, i, mode, seed in ((0, 0, "RGB", 0), (0, 1, "P", 1), (1, 0, "L", 0)):
        rng, file = np.random.default_rng(seed), io.BytesIO()
        made = Image.fromarray(rng.integers(0, 256, (1, 33, 4), dtype=np.uint8))
        made.convert("RGB").convert(mode).save(file, "PNG")
        put(tmp_path / f"c{k}" / f"{i}.png", file.getvalue())
    both(tmp_path, size=(8, 3), test_fraction=0.5, seed=1)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_streamed_and_held_sources_give_identical_batches(tmp_path_factory, data):
    root = tmp_path_factory.mktemp("some")
    classes = data.draw(st.integers(2, 3))
    sides = st.tuples(st.integers(1, 40), st.integers(1, 40))
    same = data.draw(st.none() | sides)
    for k in range(classes):
        for i in range(data.draw(st.integers(1, 4))):
            mode = data.draw(st.sampled_from(["RGB", "L", "P", "RGBA", "1"]))
            form = data.draw(st.sampled_from(["PNG", "JPEG"] if mode in ("RGB", "L") else ["PNG"]))
            w, h = same or data.draw(sides)
            rng = np.random.default_rng(data.draw(st.integers(0, 9)))
            made = Image.fromarray(rng.integers(0, 256, (h, w, 4), dtype=np.uint8))
            file = io.BytesIO()
            made.convert(mode if mode == "RGBA" else "RGB").convert(mode).save(file, form)
            put(root / f"c{k}" / f"{i}.{form.lower()}", file.getvalue())
    size = data.draw(st.none() | st.tuples(st.integers(1, 20), st.integers(1, 20)))
    fraction = data.draw(st.sampled_from([0, 0.5]))
    held, read = (outcome(root, stream, size, fraction) for stream in (False, True))
    if isinstance(held, str):
        assert held == read
        return
    assert not isinstance(read, str)
    equal(held.train, read.train)
    index = torch.tensor(data.draw(st.lists(st.integers(0, len(held.train) - 1), max_size=9)), dtype=torch.int64)
    assert torch.equal(held.train.fetch(index).x, read.train.fetch(index).x)


# --- what it keeps ----------------------------------------------------------------------------------------------------


def test_the_hash_is_of_the_encoded_bytes_and_says_so(tmp_path):
    one = load(folder(tmp_path / "a" / "same"), stream=True, test_fraction=0).train
    two = load(folder(tmp_path / "b" / "same"), stream=True, test_fraction=0).train
    assert one.content_hash == two.content_hash
    assert one.content_hash.startswith("encoded:")
    assert len(one.content_hash) == len("encoded:") + 64
    assert load(tmp_path / "a/same", stream=False, test_fraction=0).train.content_hash != one.content_hash
    other = [
        one.subset(torch.arange(5)),
        one.subset(torch.arange(len(one)).flip(0)),
        replace(one, classes=("a", "b", "c"), hash_cache={}),
        replace(one, labels=one.labels.flip(0), hash_cache={}),
        load(tmp_path / "a/same", stream=True, test_fraction=0, size=8).train,
    ]
    put(tmp_path / "b/same/ant/0.jpg", noise((12, 10), seed=77))
    other.append(load(tmp_path / "b/same", stream=True, test_fraction=0).train)
    assert len({s.content_hash for s in [one, *other]}) == 7


def test_the_hash_is_computed_once_and_reads_without_decoding(tmp_path, monkeypatch):
    source = load(folder(tmp_path), stream=True, test_fraction=0).train
    reader = Counting(source.reader)
    monkeypatch.setattr(streamed, "decode_image", None)
    source = replace(source, reader=reader, hash_cache={})
    assert source.content_hash == source.to("cpu").content_hash
    assert reader.counts.tolist() == [1] * len(source)


def test_it_travels_to_another_process(tmp_path):
    for data in (folder(tmp_path / "f"), shards(tmp_path), str(table(tmp_path / "t.parquet"))):
        source = load(data, stream=True, test_fraction=0).train
        source.fetch(torch.arange(3))  # opens shards, reads row groups
        again = pickle.loads(pickle.dumps(source))
        equal(source, again)
        assert again.content_hash == source.content_hash
    assert len(pickle.dumps(load(tmp_path / "f", stream=True, test_fraction=0).train.reader)) < 2000


def test_a_fetch_reads_each_picture_once_and_as_they_lie(tmp_path):
    source = load(shards(tmp_path), stream=True, test_fraction=0).train
    reader = Counting(source.reader)
    source = replace(source, reader=reader)
    source.fetch(torch.tensor([14, 3, 3, 0, 7, 14]))
    assert reader.counts.sum() == 4
    assert reader.counts.max() == 1


def test_normalization_is_measured_on_a_seeded_sample_and_says_of_how_many(tmp_path, monkeypatch):
    folder(tmp_path, 20)
    whole = load(tmp_path, stream=True, horizontal_flip=True)
    assert whole.notes[-1] == f"{tmp_path.name}: streamed; normalised by 51 of 51 training pictures"
    monkeypatch.setattr(streaming, "NORMALIZATION_SAMPLES", 10)
    part, again = (load(tmp_path, stream=True, horizontal_flip=True) for _ in range(2))
    assert part.notes[-1] == f"{tmp_path.name}: streamed; normalised by 10 of 51 training pictures"
    assert torch.equal(part.train.normalization.mean, again.train.normalization.mean)
    assert not torch.equal(part.train.normalization.mean, whole.train.normalization.mean)
    torch.testing.assert_close(part.train.normalization.mean, whole.train.normalization.mean, atol=0.05, rtol=0)
    assert part.test.normalization.mean is not whole.test.normalization.mean


# --- passes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("held", [True, False])
def test_a_pass_meets_every_sample_once(tmp_path, held):
    source = load(shards(tmp_path, order=lambda s: s[::-1]), stream=not held, test_fraction=0).train
    index = torch.tensor([14, 2, 9, 0, 5, 11, 7])
    reader = None if held else Counting(source.reader)
    if reader:
        source = replace(source, reader=reader)
    seen = torch.zeros(len(index), dtype=torch.int64)
    for positions, batch in iterate_samples(source, index, 3):
        assert len(positions) <= 3
        seen[positions] += 1
        assert torch.equal(batch.x, replace(source).fetch(index[positions]).x)
        assert torch.equal(batch.y, source.labels[index[positions]])
    assert seen.tolist() == [1] * len(index)
    assert list(iterate_samples(source, index[:0], 3)) == []
    if reader:
        assert reader.counts.sum() == 2 * len(index), "once by the pass, once by the test itself"


def test_a_pass_reads_in_the_order_of_the_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("POTSTILL_WORKERS", "1")
    source = load(shards(tmp_path), stream=True, test_fraction=0).train
    reader = Counting(source.reader)
    source = replace(source, reader=reader)
    for _ in iterate_samples(source, torch.randperm(15, generator=generator(0)), 4):
        pass
    assert reader.counts.tolist() == [1] * 15
    assert reader.back == 0


def test_a_pass_over_data_in_memory_is_plain_fetches_in_the_order_asked_for(tmp_path):
    source = load(folder(tmp_path), stream=False, test_fraction=0).train
    index = torch.tensor([3, 1, 2, 8, 0])
    assert [p.tolist() for p, _ in iterate_samples(source, index, 2)] == [[0, 1], [2, 3], [4]]
    parts = list(torch.split(index, 2))
    for batch, part in zip(prefetch(source, parts), parts, strict=True):
        assert torch.equal(batch.x, source.fetch(part).x)


def test_no_more_is_decoded_ahead_than_two_batches(tmp_path, monkeypatch):
    monkeypatch.setenv("POTSTILL_WORKERS", "2")
    source = load(folder(tmp_path, 20), stream=True, test_fraction=0).train
    reader = Counting(source.reader)
    batches = iterate_samples(replace(source, reader=reader), torch.arange(60), 5)
    next(batches)
    batches.close()
    assert 5 <= reader.counts.sum() <= 15


def test_a_batch_of_streamed_pictures_is_bounded_in_bytes(tmp_path):
    folder(tmp_path, 2, size=(8, 8))
    big, small = load(tmp_path, stream=True, size=2048).train, load(tmp_path, stream=True).train
    assert pass_batch_size(big, 1024) == 1
    assert pass_batch_size(small, 1024) == 1024
    assert pass_batch_size(load(tmp_path, stream=False).train, 5) == 5


def test_the_order_of_an_epoch(tmp_path, monkeypatch):
    index = torch.arange(18).flip(0)
    held = load(folder(tmp_path / "f"), stream=False, test_fraction=0).train
    files = load(tmp_path / "f", stream=True, test_fraction=0).train
    plain = index[torch.randperm(18, generator=generator(5))]
    assert torch.equal(shuffle_indices(held, index, generator(5)), plain)
    assert torch.equal(shuffle_indices(files, index, generator(5)), plain)
    several = load(shards(tmp_path / "s", 8, 8), stream=True, test_fraction=0).train
    monkeypatch.setattr(readers.TarReader, "together", 4)
    monkeypatch.setattr(readers.TarReader, "window", 16)
    order, again = (shuffle_indices(several, torch.arange(64), generator(5)) for _ in range(2))
    assert torch.equal(order, again)
    assert order.sort().values.tolist() == list(range(64))
    for window in torch.split(order, 16):
        assert len({i // 4 for i in window.tolist()}) == 4, "a window holds whole runs of neighbours"
    assert not torch.equal(order, shuffle_indices(several, torch.arange(64), generator(6)))


# --- what is broken ---------------------------------------------------------------------------------------------------


def test_a_class_without_pictures(tmp_path):
    folder(tmp_path)
    put(tmp_path / "eel/readme.txt", b"")
    with pytest.raises(PotstillError, match="eel: this class folder has no pictures; add some or remove the folder"):
        load(tmp_path, stream=True)
    put(tmp_path / "eel/0.png", b"junk")
    with pytest.raises(PotstillError, match="class 'eel' has no samples in the training split"):
        load(tmp_path, stream=True, skip_bad=True)


@pytest.mark.parametrize("size", [None, (8, 8)])
def test_a_broken_file_is_named_or_left_out(tmp_path, monkeypatch, size):
    folder(tmp_path / "photos")
    put(tmp_path / "photos/bee/3.jpg", noise((90, 60))[:2113])
    message = r"photos/bee/3\.jpg: not an image \(truncated after 2,113 bytes\); `skip_bad=True` leaves such files out$"
    with pytest.raises(PotstillError, match=message):  # the normalization needs it
        load(tmp_path / "photos", stream=True, size=size, test_fraction=0)
    monkeypatch.setattr(streaming, "NORMALIZATION_SAMPLES", 1)
    source = load(tmp_path / "photos", stream=True, size=size, test_fraction=0).train
    with pytest.raises(PotstillError, match=message):
        source.fetch(torch.arange(len(source)))
    monkeypatch.setattr(streaming, "NORMALIZATION_SAMPLES", 100)
    _, read = both(tmp_path / "photos", size=size, skip_bad=True, test_fraction=0)
    assert len(read.train) == 21
    assert any(note.startswith("photos: 1 damaged pictures left out (") for note in read.notes)
    put(tmp_path / "photos/bee/5.jpg", b"this is no picture")
    both(tmp_path / "photos", size=size, skip_bad=True, test_fraction=0)
    if size is None:
        with pytest.raises(PotstillError, match=r"bee/5\.jpg: not an image \(none of its 18 bytes make a known format"):
            load(tmp_path / "photos", stream=True)


def test_a_broken_picture_in_a_shard_is_named_with_its_member(tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "NORMALIZATION_SAMPLES", 1)
    pattern = shards(tmp_path, 18, 2)
    bad = [("a.jpg", noise()[:700]), ("a.cls", b"0"), ("b.jpg", noise()), ("b.cls", b"1")]
    shard(tmp_path / "x-17.tar", bad)
    source = load(pattern, stream=True, size=8, test_fraction=0).train
    with pytest.raises(
        PotstillError, match=r"x-17\.tar:a\.jpg: not an image \(truncated after 700 bytes\); `skip_bad=True`"
    ):
        source.fetch(torch.arange(len(source)))
    read = load(pattern, stream=True, size=8, test_fraction=0, skip_bad=True)
    assert len(read.train) == 35
    assert any("x-{0..17}".partition("-")[0] in note and "1 damaged pictures left out" in note for note in read.notes)


def test_all_broken_is_an_error_even_when_skipping(tmp_path):
    for k in "ab":
        put(tmp_path / k / "0.png", b"junk")
    for size in (None, 8):
        with pytest.raises(PotstillError, match="none of 2 pictures can be read, the first is"):
            load(tmp_path, stream=True, skip_bad=True, size=size)


def whole_shard():
    content = pictures(3, size=(60, 50))
    return [(f"{i}.{e}", c) for i in range(3) for e, c in (("cls", str(i % 2).encode()), ("jpg", content[i]))]


def test_a_truncated_shard(tmp_path):
    path = shard(tmp_path / "cut.tar", whole_shard())
    content = path.read_bytes()
    with tarfile.open(path) as tar:
        last = tar.getmember("2.jpg")
    for end, message in (
        (
            last.offset_data + 10,
            rf"cut\.tar: truncated: {last.size - 10:,} of the {last.size:,} bytes of 2\.jpg are missing",
        ),
        (last.offset + 100, r"cut\.tar: truncated after 2\.cls"),
    ):
        path.write_bytes(content[:end])
        with pytest.raises(PotstillError, match=message + ".*; make the shard again, or `skip_bad=True` takes what is"):
            load(path, stream=True, test_fraction=0)
        read = load(path, stream=True, skip_bad=True, test_fraction=0)
        assert len(read.train) == 2
        assert any("only what comes before was taken" in note for note in read.notes)
    path.write_bytes(content[: last.offset])  # without the blocks that mark the end, but whole
    with pytest.raises(PotstillError, match="sample '2' has no picture"):
        load(path, stream=True)


def test_a_broken_header_inside_a_shard_is_not_taken_for_its_end(tmp_path):
    path = shard(tmp_path / "rot.tar", whole_shard())
    with tarfile.open(path) as tar:
        at = tar.getmember("2.cls").offset
    content = bytearray(path.read_bytes())
    content[at : at + 200] = b"\xff" * 200
    path.write_bytes(content)
    with pytest.raises(PotstillError, match=r"rot\.tar: a broken header after 1\.jpg; make the shard again, or `skip"):
        load(path, stream=True)
    assert len(load(path, stream=True, skip_bad=True, test_fraction=0).train) == 2


def test_what_cannot_be_streamed_says_so(tmp_path):
    for data in ("digits", (np.zeros((4, 2)), np.arange(4) % 2)):
        with pytest.raises(PotstillError, match="only pictures on a disk can be streamed"):
            load(data, stream=True)
    packed = tmp_path / "a.tar.gz"
    with tarfile.open(packed, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("x"))
    with pytest.raises(PotstillError, match="is compressed, so no member can be read by its place; decompress it"):
        load(str(packed), stream=True)
    put(tmp_path / "junk.tar", b"junk" * 400)
    with pytest.raises(PotstillError, match="not a readable tar file"):
        load(str(tmp_path / "junk.tar"), stream=True)
    with pytest.raises(PotstillError, match="nowhere: no such file or folder"):
        load(tmp_path / "nowhere", stream=None)
    pyarrow.parquet.write_table(pa.table({"x": [1.0, 2.0], "label": [0, 1]}), tmp_path / "t.parquet")
    with pytest.raises(PotstillError, match="only pictures on a disk can be streamed"):
        load(tmp_path / "t.parquet", stream=True)
    with pytest.raises(PotstillError, match="has its own labels; leave `label=` out"):
        load(folder(tmp_path / "f"), stream=True, label="x")


def test_a_picture_that_goes_away_while_it_is_used(tmp_path):
    source = load(folder(tmp_path / "f"), stream=True, test_fraction=0).train
    (tmp_path / "f/ant/1.png").unlink()
    with pytest.raises(PotstillError, match=r"ant/1\.png: can no longer be read \(No such file or directory\); load"):
        source.fetch(torch.arange(3))
    pattern = shards(tmp_path)
    source = load(pattern, stream=True, test_fraction=0).train
    path = tmp_path / "x-2.tar"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(PotstillError, match=r"x-2\.tar:00\d\.jpg: the shard ends after [\d,]+ of its [\d,]+ bytes;"):
        source.fetch(torch.arange(15))


def test_the_number_of_workers_is_checked(tmp_path, monkeypatch):
    source = load(folder(tmp_path), stream=True, test_fraction=0).train
    monkeypatch.setenv("POTSTILL_WORKERS", "none")
    with pytest.raises(PotstillError, match="POTSTILL_WORKERS must be a whole number above 0, not 'none'"):
        source.fetch(torch.arange(3))


# --- which are streamed -----------------------------------------------------------------------------------------------


def test_data_larger_than_half_of_the_memory_are_streamed_by_themselves(tmp_path, monkeypatch):
    folder(tmp_path / "f")
    pattern, rows = shards(tmp_path / "s"), str(table(tmp_path / "t.parquet"))
    for data, n in ((tmp_path / "f", 21), (pattern, 15), (rows, 9)):
        needed = n * 3 * 12 * 10
        monkeypatch.setattr(streaming, "machine_memory", lambda: 2 * needed)  # noqa: B023
        assert not isinstance(load(data, test_fraction=0).train, StreamSource)
        monkeypatch.setattr(streaming, "machine_memory", lambda: 2 * needed - 2)  # noqa: B023
        splits = load(data, test_fraction=0)
        assert isinstance(splits.train, StreamSource)
        assert any("GiB of pixels are more than half of this machine's memory" in note for note in splits.notes)
        assert not isinstance(load(data, test_fraction=0, size=5).train, StreamSource)
        assert not isinstance(load(data, test_fraction=0, stream=False).train, StreamSource)
        equal(splits.train, load(data, test_fraction=0, stream=False).train)


def test_the_memory_of_the_machine_is_that_of_the_system_or_less():
    assert 2**20 < streaming.machine_memory() <= 2**60


def test_an_index_is_small(tmp_path):
    names = readers.PackedStrings(f"n{i:08}_{i}.jpg" for i in range(1000))
    assert names[17] == "n00000017_17.jpg"
    assert names[3:5] == ["n00000003_3.jpg", "n00000004_4.jpg"]
    assert len(pickle.dumps(names)) < 30_000
    assert indexing.index_folder(folder(tmp_path)).reader.where(0) == str(tmp_path / "ant/0.jpg")


def test_warnings_are_silenced_from_the_first_thread_to_the_last():
    before = list(warnings.filters)
    entered, leave = threading.Event(), threading.Event()

    def long() -> None:
        with silence_pillow():
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=long)
    with silence_pillow():
        thread.start()
        assert entered.wait(10)
    warnings.warn("nobody hears this", stacklevel=1)
    leave.set()
    thread.join()
    assert list(warnings.filters) == before
    with pytest.raises(UserWarning, match="heard"):
        warnings.warn("heard", stacklevel=1)


def test_paths_are_types(tmp_path):
    assert isinstance(load(Path(folder(tmp_path)), stream=True).train, Source)
