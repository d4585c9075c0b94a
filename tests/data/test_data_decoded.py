"""A folder that was decoded once is not decoded again, unless anything about it changed or what was kept is damaged."""

import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from picture_files import encoded, noise, put

from potstill.data import decode_cache, load, pictures


@pytest.fixture
def root(tmp_path, monkeypatch):
    """80 pictures of two sizes, and a cache of their own."""
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    return made(tmp_path)


def made(tmp_path):
    for name in ("ant", "bee"):
        for i in range(40):
            put(tmp_path / "bugs" / name / f"{i}.png", encoded((3 * i, 7, len(name)), size=(12, 10 + i % 2)))
    time.sleep(0.05)  # what changed this very moment is not kept
    return tmp_path / "bugs"


@pytest.fixture
def decodings(monkeypatch):
    """How often a picture was decoded."""
    count = [0]
    plain = pictures.decode_image

    def counted(*args):
        count[0] += 1
        return plain(*args)

    monkeypatch.setattr(pictures, "decode_image", counted)
    return count


def kept(root):
    return sorted((root.parent / "cache/pictures").glob("*.safetensors"))


def same(one, two):
    return one.train.content_hash == two.train.content_hash and one.test.content_hash == two.test.content_hash


def test_the_second_time_nothing_is_decoded_and_all_is_the_same(root, decodings):
    first = load(root)
    assert decodings == [80]
    second = load(root)
    assert decodings == [80]
    assert same(first, second)
    assert second.notes == first.notes
    assert second.train.names == first.train.names
    assert torch.equal(second.train.places, first.train.places)
    assert load(root, seed=1).train.content_hash != first.train.content_hash
    assert decodings == [80]
    second.train.inputs.zero_()
    assert same(load(root), first), "what is loaded is nobody else's memory"


def test_a_folder_below_another_size_or_skipping_is_another_one(root, decodings):
    for options in ({}, {"size": 8}, {"size": 16}, {"skip_bad": True}):
        load(root, **options)
    assert decodings == [320]
    assert len(kept(root)) == 4


@pytest.mark.parametrize("change", ["content", "time", "name", "more", "fewer"])
def test_whatever_changes_is_decoded_again(root, decodings, change):
    load(root)
    path = root / "ant/3.png"
    if change == "content":
        path.write_bytes(noise((9, 9), "PNG"))
    elif change == "time":
        os.utime(path, (1, 1))
    elif change == "name":
        path.rename(root / "ant/300.png")
    elif change == "more":
        put(root / "ant/100.png", encoded((1, 2, 3)))
    else:
        path.unlink()
    time.sleep(0.05)
    s = load(root)
    assert decodings[0] >= 80 + 79
    assert len(s.train) + len(s.test) == 80 + {"more": 1, "fewer": -1}.get(change, 0)


def test_broken_pictures_are_left_out_of_the_second_loading_too(root, decodings):
    (root / "ant/3.png").write_bytes(b"no picture")
    time.sleep(0.05)
    first = load(root, skip_bad=True)
    before = decodings[0]
    second = load(root, skip_bad=True)
    assert decodings[0] == before
    assert same(first, second)
    assert any("1 damaged pictures left out" in note for note in second.notes)
    assert first.notes == second.notes


def test_contents_are_compared_when_asked(root, decodings, monkeypatch):
    good = load(root)
    (file,) = kept(root)
    monkeypatch.setattr(decode_cache, "_stamps", lambda paths: [(os.fspath(p), 1, 1, 1) for p in paths])
    load(root)
    (root / "ant/3.png").write_bytes(encoded((200, 200, 0), size=(12, 10)))
    blind = load(root)
    assert same(blind, good), "names, sizes and times are the same"
    seen = load(root, check_cache=True)
    assert not same(seen, good)
    assert any("in the cache did not match the files' contents; they were made again" in note for note in seen.notes)
    assert same(load(root), seen)
    assert file.exists()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_file_is_found_and_made_again(root, data):
    good = load(root)
    (file,) = kept(root)
    content = bytearray(file.read_bytes())
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    file.write_bytes(content)
    again = load(root)
    assert same(again, good)
    assert torch.equal(again.train.places, good.train.places)
    file.unlink()


def test_the_same_bytes_in_another_shape_are_not_taken(root):
    good = load(root)
    (file,) = kept(root)
    content, shape = file.read_bytes(), list(good.train.inputs.shape[1:])
    turned = content.replace(f"{shape[1]},{shape[2]}]".encode(), f"{shape[2]},{shape[1]}]".encode(), 1)
    if turned == content:  # a square
        turned = content.replace(b'"U8"', b'"I8"', 1)
    assert turned != content
    file.write_bytes(turned)
    assert same(load(root), good)


def test_a_truncated_and_a_zeroed_file_are_told(root):
    good = load(root)
    (file,) = kept(root)
    whole = file.read_bytes()
    for damaged in (b"", whole[:100], bytes(len(whole)), whole[:-500] + bytes(500)):
        file.write_bytes(damaged)
        again = load(root)
        assert same(again, good)
        assert any("in the cache were damaged; they were made again" in note for note in again.notes)
        assert load(root).notes == good.notes


def hash_of(root):
    return load(root).train.content_hash


def test_two_processes_may_make_the_same_file(root):
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        hashes = set(pool.map(hash_of, [root] * 4))
    assert hashes == {load(root).train.content_hash}
    assert len(list((root.parent / "cache/pictures").iterdir())) == 1


def test_the_cache_is_bounded_and_what_was_left_behind_goes(root, monkeypatch):
    folder = root.parent / "cache/pictures"
    load(root, size=16)
    (oldest,) = kept(root)
    os.utime(oldest, (1, 1))
    (folder / ".killed00.part").write_bytes(b"half")
    os.utime(folder / ".killed00.part", (1, 1))
    (folder / ".running.part").write_bytes(b"half")
    monkeypatch.setattr(decode_cache, "MAX_CACHE_BYTES", 3 * oldest.stat().st_size)
    load(root, size=(16, 17))
    assert oldest.exists()
    assert not (folder / ".killed00.part").exists()
    assert (folder / ".running.part").exists()
    monkeypatch.setattr(decode_cache, "MAX_CACHE_BYTES", 5 * oldest.stat().st_size // 2)
    load(root, size=(17, 16))
    assert not oldest.exists()
    assert len(kept(root)) == 2
    monkeypatch.setattr(decode_cache, "MAX_CACHE_BYTES", 1000)
    load(root, size=20)
    assert len(kept(root)) == 2, "what is too large is not kept"


def test_a_cache_that_cannot_be_written_stops_nothing(root, monkeypatch):
    put(root.parent / "cache", b"a file")
    assert same(load(root), load(root))
    assert (root.parent / "cache").read_bytes() == b"a file"

    def full(*args, **more):
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("POTSTILL_CACHE", str(root.parent / "other"))
    monkeypatch.setattr(decode_cache, "save_file", full)
    assert len(load(root).train) == 64
    assert not list((root.parent / "other/pictures").iterdir())


def test_few_pictures_and_what_changed_this_moment_are_not_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    for name in "ab":
        put(tmp_path / "few" / name / "1.png", encoded((1, 2, 3)))
        put(tmp_path / "few" / name / "2.png", encoded((1, 2, 3)))
    load(tmp_path / "few")
    assert not (tmp_path / "cache").exists()
    root = made(tmp_path)
    monkeypatch.setattr(decode_cache, "_TICK", 10**15)
    load(root)
    assert not (tmp_path / "cache").exists()
