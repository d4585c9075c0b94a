"""TensorSource and arrays: what is stored, what is fetched, what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from potstill.core import InputSpec, Normalization, Source, Whitening
from potstill.data import TensorSource, fit_normalization, load
from potstill.data.in_memory import split_chunks
from potstill.errors import PotstillError

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (30, 3, 6, 5), dtype=np.uint8)
LABELS = np.arange(30) % 3


def make(**changes):
    return TensorSource.make(**({"inputs": PIXELS, "labels": LABELS} | changes))


def test_a_source_keeps_the_contract():
    source = make(classes=["a", "b", "c"], name="dots")
    assert isinstance(source, Source)
    assert (source.name, source.classes, len(source)) == ("dots", ("a", "b", "c"), 30)
    assert source.input == InputSpec(kind="image", shape=(3, 6, 5), units="pixels in [0,1]")
    assert source.labels.dtype == torch.int64
    assert source.labels.tolist() == LABELS.tolist()
    index = torch.tensor([7, 0, 7])
    raw, batch = source.raw(index), source.fetch(index)
    assert raw.dtype == torch.float32
    assert torch.equal(raw, torch.from_numpy(PIXELS[[7, 0, 7]]).float() / 255)
    assert torch.equal(batch.x, source.normalization.apply(raw))
    assert torch.equal(batch.y, source.labels[index])
    assert torch.allclose(source.normalization.invert(batch.x), raw, atol=1e-6)


def test_fetching_changes_nothing_that_is_stored():
    floats = RNG.random((4, 2, 3)).astype(np.float32)
    source = make(inputs=floats, labels=[0, 1, 0, 1])
    before = source.inputs.clone()
    source.fetch(torch.arange(4)).x.zero_()
    source.raw(torch.arange(4)).zero_()
    assert torch.equal(source.inputs, before)
    floats[:] = 0
    assert torch.equal(source.inputs, before), "the source holds its own copy"


def test_normalization_is_the_mean_and_population_std_of_each_channel():
    source = make()
    z = source.fetch(torch.arange(30)).x.double()
    assert torch.allclose(z.mean((0, 2, 3)), torch.zeros(3, dtype=torch.float64), atol=1e-5)
    assert torch.allclose(z.std((0, 2, 3), unbiased=False), torch.ones(3, dtype=torch.float64), atol=1e-5)


def test_constant_columns_become_zero_and_large_offsets_do_not_cancel():
    x = np.stack([np.full(100, 7.0), 1e6 + np.arange(100) % 2], 1)
    source = make(inputs=x, labels=np.arange(100) % 2)
    z = source.fetch(torch.arange(100)).x
    assert source.input.kind == "table"
    assert torch.equal(z[:, 0], torch.zeros(100))
    assert source.normalization.std[0] == 1
    assert source.normalization.std[1] == pytest.approx(0.5)


def test_the_fit_does_not_depend_on_how_many_chunks_it_takes():
    x = torch.from_numpy(RNG.integers(0, 256, (9000, 1, 2, 2), dtype=np.uint8))
    whole = x.double() / 255
    fitted = fit_normalization(x)
    assert fitted.mean.item() == pytest.approx(whole.mean().item(), abs=1e-7)
    assert fitted.std.item() == pytest.approx(whole.std(unbiased=False).item(), abs=1e-7)


def test_equal_data_equal_hash_and_every_change_shows():
    first = make()
    assert first.content_hash == make().content_hash
    assert first.content_hash == make(name="other").content_hash
    pixels = PIXELS.copy()
    pixels[29, 2, 5, 4] ^= 1
    swapped = LABELS.copy()
    swapped[[0, 1]] = swapped[[1, 0]]
    others = [make(inputs=pixels), make(labels=swapped), make(classes=["x", "y", "z"]), first.subset(torch.arange(29))]
    others.append(make(inputs=np.ascontiguousarray(PIXELS.reshape(30, 3, 5, 6))))
    assert len({s.content_hash for s in [first, *others]}) == 6
    assert len(first.content_hash) == 64


def test_large_data_are_converted_and_hashed_in_parts_that_change_nothing(monkeypatch):
    whole = make()
    monkeypatch.setattr("potstill.data.in_memory._VALUES", 200)  # two pictures of 90 values
    parts = make()
    assert [len(p) for p in split_chunks(parts.inputs)] == [2] * 15
    assert parts.content_hash == whole.content_hash
    assert torch.allclose(parts.normalization.mean, whole.normalization.mean, rtol=1e-6)
    assert torch.allclose(parts.normalization.std, whole.normalization.std, rtol=1e-6)
    assert len(list(split_chunks(torch.zeros(3, 1000)))) == 3


def test_subset_keeps_classes_and_normalization():
    source = make()
    part = source.subset(torch.tensor([4, 2]))
    assert part.labels.tolist() == [1, 2]
    assert part.classes == source.classes
    assert part.normalization is source.normalization
    assert torch.equal(part.raw(torch.arange(2)), source.raw(torch.tensor([4, 2])))


def test_to_moves_inputs_and_whitening_but_not_labels():
    eye = torch.eye(90)
    white = Normalization(torch.zeros(3), torch.ones(3), Whitening(torch.zeros(90), eye, eye))
    moved = make(normalization=white).to("meta")
    assert moved.device.type == "meta"
    assert moved.normalization.mean.device.type == "meta"
    assert moved.normalization.whitening.matrix.device.type == "meta"
    assert moved.labels.device.type == "cpu"
    batch = moved.fetch(torch.arange(5))
    assert (batch.x.shape, batch.x.device.type, batch.y.device.type) == ((5, 3, 6, 5), "meta", "meta")
    assert make().to("cpu").content_hash == make().content_hash


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((4, 9, 7), (1, 9, 7)),
        ((4, 9, 7, 3), (3, 9, 7)),
        ((4, 3, 9, 7), (3, 9, 7)),
        ((4, 1, 9, 7), (1, 9, 7)),
        ((4, 9, 7, 1), (1, 9, 7)),
        ((4, 3, 9, 3), (3, 9, 3)),
        ((4, 12), (12,)),
    ],
)
def test_shapes(shape, expected):
    x = RNG.integers(0, 256, shape, dtype=np.uint8)
    source = make(inputs=x, labels=[0, 1, 0, 1])
    assert source.input.shape == expected
    if len(shape) == 4 and shape[3] < shape[1]:
        assert torch.equal(source.inputs, torch.from_numpy(x).permute(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("x", "dtype", "units", "top"),
    [
        (np.array([0, 255]), torch.uint8, "pixels in [0,1]", 1.0),
        (np.array([0.0, 254.0]), torch.uint8, "pixels in [0,1]", 254 / 255),
        (np.array([0, 1]), torch.uint8, "pixels in [0,1]", 1.0),
        (np.array([False, True]), torch.uint8, "pixels in [0,1]", 1.0),
        (np.array([0.0, 0.5]), torch.float32, "pixels in [0,1]", 0.5),
        (np.array([0.0, 51 / 255]), torch.uint8, "pixels in [0,1]", 0.2),
        (np.array([0, 65535], dtype=np.uint16), torch.uint8, "pixels in [0,1]", 1.0),
        (np.array([0, 65534], dtype=np.uint16), torch.float32, "pixels in [0,1]", 65534 / 65535),
        (np.array([-1.0, 2.5]), torch.float32, "as given", 2.5),
        (np.array([0, 1000]), torch.float32, "as given", 1000.0),
    ],
)
def test_value_ranges_of_pictures(x, dtype, units, top):
    source = make(inputs=np.broadcast_to(x[:, None, None], (2, 4, 4)), labels=[0, 1])
    assert source.inputs.dtype == dtype
    assert source.input.units == units
    assert source.raw(torch.arange(2)).max().item() == pytest.approx(top)


def test_another_kind_keeps_its_shape():
    source = make(inputs=RNG.standard_normal((6, 2, 40)), labels=[0, 1] * 3, kind="series")
    assert source.input == InputSpec(kind="series", shape=(2, 40), units="as given")
    assert source.normalization.mean.shape == (2,)


@pytest.mark.parametrize(
    ("labels", "classes", "numbers"),
    [
        (["cat", "ant", "cat"], ("ant", "cat"), [1, 0, 1]),
        ([3, 10, 3], ("3", "10"), [0, 1, 0]),
        ([1.0, 0.0, 1.0], ("0", "1"), [1, 0, 1]),
        ([True, False, True], ("False", "True"), [1, 0, 1]),
        ([[0, 1], [1, 0], [0, 1]], ("0", "1"), [1, 0, 1]),
        ([[1], [0], [1]], ("0", "1"), [1, 0, 1]),
        (np.array([b"x", b"y", b"x"]), ("x", "y"), [0, 1, 0]),
        (np.array(["x", "y", "x"], dtype=object), ("x", "y"), [0, 1, 0]),
        (torch.tensor([1, 0, 1], dtype=torch.int32), ("0", "1"), [1, 0, 1]),
    ],
)
def test_labels(labels, classes, numbers):
    source = make(inputs=PIXELS[:3], labels=labels)
    assert source.classes == classes
    assert source.labels.tolist() == numbers


def test_given_class_names_are_looked_up():
    source = make(inputs=PIXELS[:3], labels=["b", "c", "b"], classes=["c", "b", "a"])
    assert source.labels.tolist() == [1, 0, 1]
    assert source.classes == ("c", "b", "a")


def nan_at(*index):
    x = RNG.random((30, 3, 6, 5))
    x[index] = np.nan
    return x


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": nan_at(17, 2, 5, 1)}, r"arrays\[17, 2, 5, 1\] is nan \(1 such values"),
        ({"inputs": np.full((30, 4), np.inf)}, r"arrays\[0, 0\] is infinite \(120 such values"),
        ({"inputs": np.full((30, 4), 1e300)}, r"arrays \(as float32\)\[0, 0\] is infinite"),
        ({"labels": LABELS[:-1]}, "30 inputs but 29 labels"),
        ({"labels": [0.5] * 30}, "label 0 is 0.5, a real number; labels must be classes"),
        ({"labels": [[1, 1]] * 30}, "not one-hot rows"),
        ({"labels": [[["a"]]] * 30}, "give one class per sample"),
        ({"labels": [None] * 30}, r"label 0 is missing \(None\); fill it or leave the sample out"),
        ({"classes": ["a", "b"]}, "label 2 is not in 0 … 1, as the 2 class names require"),
        ({"labels": ["a"] * 29 + ["q"], "classes": ["a", "b"]}, "label 'q' is not among the class names"),
        ({"inputs": np.full((30, 2), "x")}, "inputs must be numbers"),
        ({"inputs": np.zeros(30)}, r"inputs of shape \(30,\) are not understood"),
        ({"inputs": np.zeros((30, 2, 2, 2, 2))}, "are not understood"),
        ({"inputs": np.zeros((30, 0))}, "are not understood"),
        ({"inputs": [[1, 2], [3]]}, "not an array"),
        ({"inputs": np.zeros((0, 4)), "labels": []}, "there are no labels"),
    ],
)
def test_what_is_refused_in_one_line(changes, message):
    with pytest.raises(PotstillError, match=message) as caught:
        make(**changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": torch.zeros(30, dtype=torch.int32)}, "labels must be int64"),
        ({"labels": torch.full((30,), 3)}, "labels go from 3 to 3, but there are 3 classes"),
        ({"labels": torch.zeros(4, dtype=torch.int64)}, "30 inputs but 4 labels"),
        ({"inputs": torch.zeros(30, 3, 6, 5, dtype=torch.float64)}, "stored as uint8 or float32"),
        ({"input": InputSpec(kind="image", shape=(1, 2, 2))}, r"inputs have shape \(3, 6, 5\), the spec says"),
    ],
)
def test_a_source_that_contradicts_itself_is_refused(changes, message):
    with pytest.raises(PotstillError, match=message):
        replace(make(), **changes)


def test_load_arrays_with_and_without_a_test_part():
    split = load((PIXELS, LABELS), seed=3, horizontal_flip=True)
    assert (len(split.train), len(split.test)) == (24, 6)
    assert "6 of 30 samples (20% of each class) were drawn as test with seed 3" in split.notes[-1]
    given = load((PIXELS[:20], LABELS[:20], PIXELS[20:], LABELS[20:]), horizontal_flip=True)
    keras = load(((PIXELS[:20], LABELS[:20]), (PIXELS[20:], LABELS[20:])), horizontal_flip=True)
    four = {"x_train": PIXELS[:20], "y_train": LABELS[:20], "x_test": PIXELS[20:], "y_test": LABELS[20:]}
    named = load(four, horizontal_flip=True)
    for s in (given, keras, named):
        assert (len(s.train), len(s.test), s.notes) == (20, 10, ())
        assert s.test.content_hash == given.test.content_hash
        assert s.test.normalization is s.train.normalization
    assert torch.equal(given.train.normalization.mean, fit_normalization(torch.from_numpy(PIXELS[:20])).mean)


def test_the_test_part_follows_what_was_decided_for_both():
    train, test = np.array([0.0, 7.0]), np.array([0.25, 2.5])
    s = load(
        (
            *[
                np.broadcast_to(v[:, None, None], (2, 3, 3)) if i % 2 == 0 else [0, 1]
                for i, v in enumerate((train, train, test, test))
            ],
        )
    )
    assert s.train.inputs.dtype == s.test.inputs.dtype == torch.float32
    assert s.train.input == s.test.input


def test_no_test_split_when_none_is_wanted():
    s = load((PIXELS, LABELS), test_fraction=0)
    assert s.test is None
    assert len(s.train) == 30


def test_splits_and_sources_pass_through():
    s = load((PIXELS, LABELS))
    assert load(s) is s
    published = Normalization(torch.full((3,), 0.5), torch.full((3,), 0.25))
    kept = load(make(normalization=published))
    assert torch.equal(kept.train.normalization.mean, published.mean)
    fitted = load(make())
    assert torch.equal(fitted.train.normalization.mean, fit_normalization(fitted.train.inputs).mean)
    assert not torch.equal(fitted.train.normalization.mean, make().normalization.mean)


def test_size_resizes_arrays_and_says_so():
    flat = np.full((4, 1, 8, 8), 100, dtype=np.uint8)
    flat[:, :, :, 4:] = 200
    s = load((flat, [0, 1, 0, 1]), size=4, test_fraction=0.5)
    assert s.train.input.shape == (1, 4, 4)
    assert s.train.inputs.dtype == torch.uint8
    assert s.train.inputs[0, 0, 0, [0, 3]].tolist() == pytest.approx([100, 200], abs=3)  # bicubic, as files are
    assert "8 × 8 resized to 4 × 4" in s.notes[0]
    wide = load((RNG.random((4, 10, 20)), [0, 1, 0, 1]), size=(5, 5))
    assert wide.train.input.shape == (1, 5, 5)
    with pytest.raises(PotstillError, match="the inputs are not pictures"):
        load((np.zeros((4, 3)), [0, 1, 0, 1]), size=4)
    with pytest.raises(PotstillError, match="at least 1 × 1"):
        load((flat, [0, 1, 0, 1]), size=0)


class Pairs(Dataset):
    classes = ("night", "day", "dusk")

    def __init__(self, samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, i):
        return self.samples[i]


class Endless(IterableDataset):
    def __iter__(self):
        yield torch.zeros(2), 0


def test_torch_datasets():
    tensors = load(TensorDataset(torch.from_numpy(PIXELS), torch.from_numpy(LABELS)))
    assert tensors.train.content_hash == load((PIXELS, LABELS)).train.content_hash
    named = load(Pairs([(torch.rand(1, 4, 4), i % 3) for i in range(9)]))
    assert named.train.classes == Pairs.classes
    mixed = load(Pairs([(Image.new("RGB", (10 + i, 12), (i, 0, 0)), i % 3) for i in range(4)]), test_fraction=0)
    assert mixed.train.input.shape == (3, 8, 8)
    assert mixed.train.inputs[:, 0, 4, 4].tolist() == [0, 1, 2, 3]
    strings = load(Pairs([(np.zeros(2), "ab"[i % 2]) for i in range(4)]))
    assert strings.train.classes == ("a", "b")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Pairs([(torch.zeros(2), 0), (torch.zeros(3), 1)]), r"input 0 has shape \(2,\), input 1 has \(3,\)"),
        (Pairs([torch.zeros(2)]), "sample 0 is a Tensor; each must be a pair"),
        (Pairs([]), "there are no samples"),
        (Endless(), "Endless: is iterable only"),
        ((PIXELS,), r"give \(x, y\) or \(x_train"),
        (PIXELS, "an array without labels is not a data set"),
        (7, "a int is not a data set"),
        ({"a": PIXELS}, "needs the arrays x_train"),
        ((PIXELS, LABELS[:3]), "30 inputs but 3 labels"),
        ((PIXELS, np.zeros(30, int)), "there is one class, '0'; at least two are needed"),
        ((PIXELS, LABELS, PIXELS, LABELS + 1), "label 3 is not a class of the training data"),
        ((PIXELS, LABELS, PIXELS[:, :2], LABELS), "make them the same"),
        ((PIXELS, LABELS, PIXELS, LABELS.astype(str)), "give both the same way"),
        ({"x": PIXELS, "y": LABELS, "classes": list("abcd")}, "class 'd' has no samples in the training split"),
        ({"x": PIXELS, "y": LABELS, "classes": list("aab")}, "the class name 'a' stands there twice"),
        ((PIXELS[:3], LABELS[:3]), "every class has a single sample, so no test split"),
    ],
)
def test_load_refuses_in_one_line(data, message):
    with pytest.raises(PotstillError, match=message) as caught:
        load(data)
    assert "\n" not in str(caught.value)


def test_a_fraction_must_leave_something():
    for fraction in (1.0, -0.1):
        with pytest.raises(PotstillError, match="test fraction must be at least 0 and below 1"):
            load((PIXELS, LABELS), test_fraction=fraction)
