"""The parsers of published formats, and that a pickle can run nothing."""

import gzip
import io
import pickle
import struct

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from potstill.data.formats import read_cifar_binary, read_idx, read_mat, read_pickle
from potstill.errors import PotstillError

TYPES = {"u1": 0x08, "i1": 0x09, ">i2": 0x0B, ">i4": 0x0C, ">f4": 0x0D, ">f8": 0x0E}


def idx(x, code):
    return bytes([0, 0, TYPES[code], x.ndim]) + struct.pack(f">{x.ndim}I", *x.shape) + x.astype(code).tobytes()


arrays = st.sampled_from(list(TYPES)).flatmap(
    lambda code: st.tuples(st.just(code), hnp.arrays(np.dtype(code), hnp.array_shapes(max_dims=4, max_side=5)))
)


@settings(max_examples=60, deadline=None)
@given(arrays)
def test_idx_reads_what_was_written(case):
    code, x = case
    found = read_idx(idx(x, code), "x.idx")
    assert found.dtype == np.dtype(code).newbyteorder("=")
    np.testing.assert_array_equal(found, x)


@settings(max_examples=60, deadline=None)
@given(arrays, st.data())
def test_idx_refuses_every_other_length(case, data):
    content = idx(case[1], case[0])
    cut = data.draw(st.integers(0, len(content) - 1))
    for wrong in (content[:cut], content + b"\0"):
        with pytest.raises(PotstillError, match=r"^x\.idx: "):
            read_idx(wrong, "x.idx")


def test_idx_says_what_it_found():
    with pytest.raises(PotstillError, match="not an IDX file \\(it begins 89 50 4e 47\\)"):
        read_idx(b"\x89PNG\r\n", "x")
    with pytest.raises(PotstillError, match=r"asks for 22 bytes \(shape \(2, 5\)\), it has 21"):
        read_idx(idx(np.zeros((2, 5)), "u1")[:-1], "x")


class Command:
    def __reduce__(self):
        return (exec, ("raise SystemExit('ran')",))


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_runs_nothing(protocol):
    with pytest.raises(PotstillError, match=r"^bad: not a pickle of plain arrays \(it asks for .*exec\)"):
        read_pickle(pickle.dumps({"data": Command()}, protocol), "bad")


def test_names_beside_the_admitted_ones_are_refused():
    for thing in (np.load, np.random.default_rng, print, io.BytesIO, Command):
        with pytest.raises(PotstillError, match="it asks for"):
            read_pickle(pickle.dumps(thing), "bad")


def test_a_pickle_of_arrays_is_read():
    x = {"data": np.arange(6, dtype=np.uint8).reshape(2, 3), "labels": [1, 2], "f": np.float32([1.5])}
    found = read_pickle(pickle.dumps(x, 2), "good")
    np.testing.assert_array_equal(found["data"], x["data"])
    np.testing.assert_array_equal(found["f"], x["f"])
    assert found["labels"] == [1, 2]


@pytest.mark.parametrize(
    "content", [b"", b"junk", pickle.dumps({"a": np.zeros(9)}, 2)[:-20], gzip.compress(b"x", mtime=0)]
)
def test_a_broken_pickle_is_refused_in_one_line(content):
    with pytest.raises(PotstillError, match="not a pickle of plain arrays"):
        read_pickle(content, "bad")


def test_cifar_binary_rows():
    rows = np.random.default_rng(0).integers(0, 256, (3, 3074), dtype=np.uint8)
    x, y = read_cifar_binary(rows.tobytes(), 2, "train.bin")
    np.testing.assert_array_equal(y, rows[:, 1])
    np.testing.assert_array_equal(x[2, 1, 0], rows[2, 2 + 1024 : 2 + 1024 + 32])
    for content in (b"", rows.tobytes()[:-1]):
        with pytest.raises(PotstillError, match="not a whole number of 3074-byte rows"):
            read_cifar_binary(content, 2, "train.bin")


def test_svhn_counts_its_zeros_as_ten():
    x = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 4), dtype=np.uint8)
    file = io.BytesIO()
    scipy.io.savemat(file, {"X": x, "y": np.array([[1], [10], [9], [10]], dtype=np.uint8)})
    pictures, labels = read_mat(file.getvalue(), "train")
    assert labels.tolist() == [1, 0, 9, 0]
    np.testing.assert_array_equal(pictures[3, 2], x[:, :, 2, 3])


def test_other_mat_files_are_refused():
    file = io.BytesIO()
    scipy.io.savemat(file, {"X": np.zeros((2, 2))})
    for content in (file.getvalue(), b"junk", b"", file.getvalue()[:150]):
        with pytest.raises(PotstillError, match="not SVHN's cropped digits"):
            read_mat(content, "train")


def test_a_pickle_reserves_no_memory_for_what_it_does_not_hold():
    """A place beyond the file took minutes and tens of gigabytes; a shape took as much as it claimed."""
    with pytest.raises(PotstillError, match="asks for place 2,147,483,647 in a file of"):
        read_pickle(b"\x80\x02]r\xff\xff\xff\x7f.", "x")
    whole = pickle.dumps(np.zeros(3, np.uint8), 2)
    for damaged in (
        whole.replace(b"_reconstruct", b"ndarray_____"),
        whole.replace(b"u1", b"O8"),
        whole.replace(b"u1", b"u9"),
        whole.replace(b"K\x03\x85", b"K\x09\x85"),
    ):
        assert damaged != whole
        with pytest.raises(PotstillError, match="not a pickle of plain arrays"):
            read_pickle(damaged, "x")
    claimed = whole.replace(b"K\x00\x85", b"J\xff\xff\xff\x7f\x85", 1)
    assert claimed != whole
    assert read_pickle(claimed, "x").tolist() == [0, 0, 0]


class Described:
    """A type of numbers that describes itself: NumPy's own takes such a state and answers with a SystemError."""

    def __init__(self, state):
        self.state = state

    def __reduce__(self):
        return np.dtype, ("u1", False, True), self.state


@pytest.mark.parametrize("state", [(3, 5, None), (3, "?", None), (3,), "words"])
def test_a_type_of_numbers_is_its_name_and_order_alone(state):
    """Found by fuzzing: a damaged state of a type, the last of these, was a SystemError of NumPy's."""
    with pytest.raises(PotstillError, match=r"\Ax: not a pickle of plain arrays \(.*\)[^\n]*\Z"):
        read_pickle(pickle.dumps({"data": Described(state)}, 2), "x")


@pytest.mark.parametrize("kind", ["u1", "<i4", ">i4", "f8", "bool"])
@pytest.mark.parametrize("protocol", [2, 4])
def test_arrays_of_every_kind_come_back_from_a_pickle(kind, protocol):
    x = np.asfortranarray(np.arange(6).reshape(2, 3).astype(kind))
    found = read_pickle(pickle.dumps({"x": (x, [x.T])}, protocol), "x")
    assert np.array_equal(found["x"][0], x)
    assert np.array_equal(found["x"][1][0], x.T)
    assert found["x"][0].dtype == x.dtype.newbyteorder("=")


def test_a_damaged_packed_mat_file_is_refused_in_one_line():
    file = io.BytesIO()
    scipy.io.savemat(file, {"X": np.zeros((2, 2, 3, 2), np.uint8), "y": np.array([[1], [10]])}, do_compression=True)
    content = bytearray(file.getvalue())
    content[-40] ^= 255
    with pytest.raises(PotstillError, match="not SVHN's cropped digits"):
        read_mat(bytes(content), "x")


@pytest.mark.parametrize("sides", [(0, 2**32 - 1, 2**32 - 1, 2**32 - 1), (1,) * 70])
def test_an_idx_file_of_no_values_in_a_shape_that_no_array_has(sides):
    content = bytes([0, 0, 8, len(sides)]) + struct.pack(f">{len(sides)}I", *sides) + bytes(all(sides))
    with pytest.raises(PotstillError, match="no array has the shape"):
        read_idx(content, "x")
