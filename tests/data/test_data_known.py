"""Known names from standard files that the tests write."""

import gzip
import io
import pickle
import tarfile

import datasets
import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image

from potstill.data import KNOWN, load, standard_datasets
from potstill.errors import PotstillError

RNG = np.random.default_rng(0)
CODES = {3: b"\0\0\x08\x03", 1: b"\0\0\x08\x01"}
STEMS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    """No system folder, no installed data, no network: only what the test writes."""
    monkeypatch.setattr(standard_datasets, "SYSTEM", (str(tmp_path / "prefix"),))
    monkeypatch.setattr(standard_datasets, "PACKAGE", "no-such-package")
    monkeypatch.delenv("POTSTILL_DATA", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def idx(x):
    return CODES[x.ndim] + b"".join(n.to_bytes(4, "big") for n in x.shape) + x.astype(np.uint8).tobytes()


def four(side=28, channels=None, classes=10, n=20):
    shape = (side, side) if channels is None else (channels, side, side)
    return [v for m in (n, n // 2) for v in (RNG.integers(0, 256, (m, *shape), dtype=np.uint8), np.arange(m) % classes)]


def write_idx(folder, arrays, compress=False, dots=False):
    folder.mkdir(parents=True, exist_ok=True)
    for stem, x in zip(STEMS, arrays, strict=True):
        name = stem.replace("-idx", ".idx") if dots else stem
        if compress:
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx(x)))
        else:
            (folder / name).write_bytes(idx(x))


@pytest.mark.parametrize("place", ["mnist", "MNIST/raw", "."])
@pytest.mark.parametrize(("compress", "dots"), [(False, False), (True, False), (False, True)])
def test_idx_files(tmp_path, place, compress, dots):
    root = tmp_path / "mnist" if place == "." else tmp_path
    arrays = four()
    write_idx(root / place, arrays, compress, dots)
    s = load("mnist", root=root)
    assert torch.equal(s.train.inputs, torch.from_numpy(arrays[0][:, None]))
    assert torch.equal(s.test.inputs, torch.from_numpy(arrays[2][:, None]))
    assert s.train.labels.tolist() == arrays[1].tolist()
    assert s.train.classes == tuple("0123456789")
    assert s.train.normalization.mean.tolist() == pytest.approx([0.1307])
    assert s.train.normalization.std.tolist() == pytest.approx([0.3081])
    assert s.notes[1] == "mnist: 20 + 10 samples here, 60,000 + 10,000 in the published set"


def test_the_environment_and_the_system_are_searched(tmp_path, monkeypatch):
    write_idx(tmp_path / "prefix/share/datasets/fashion-mnist", four(), compress=True)
    s = load("fashion-mnist")
    assert (s.train.classes[0], s.train.classes[9]) == ("T-shirt/top", "Ankle boot")
    assert s.train.normalization.mean.item() == pytest.approx(0.2861)
    assert "prefix/share/datasets/fashion-mnist" in s.notes[0]
    write_idx(tmp_path / "env/FashionMNIST/raw", four())
    monkeypatch.setenv("POTSTILL_DATA", str(tmp_path / "env"))
    assert "env/FashionMNIST/raw" in load("fashion-mnist").notes[0]


def test_mnist_is_not_taken_for_fashion_mnist(tmp_path):
    write_idx(tmp_path / "mnist", four())
    with pytest.raises(PotstillError, match="fashion-mnist: no files found"):
        load("fashion-mnist", root=tmp_path / "mnist")


def write_cifar(folder, names, arrays, key, binary=False):
    folder.mkdir(parents=True)
    x, y, x_test, y_test = arrays
    for i, name in enumerate(names):
        last = i == len(names) - 1
        part, labels = (x_test, y_test) if last else (x[i :: len(names) - 1], y[i :: len(names) - 1])
        if binary:
            zeros = [] if key == "labels" else [np.zeros((len(part), 1), np.uint8)]
            rows = np.hstack([*zeros, labels[:, None].astype(np.uint8), part.reshape(len(part), -1)])
            (folder / f"{name}.bin").write_bytes(rows.tobytes())
        else:
            batch = {"data": part.reshape(len(part), -1), key: labels.tolist(), "batch_label": "x"}
            (folder / name).write_bytes(pickle.dumps(batch, 2))
    return [np.concatenate([v[i :: len(names) - 1] for i in range(len(names) - 1)]) for v in (x, y)]


BATCHES = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("place", ["", "cifar10"])
def test_cifar10(tmp_path, binary, place):
    arrays = four(32, 3)
    folder = tmp_path / place / ("cifar-10-batches-bin" if binary else "cifar-10-batches-py")
    x, y = write_cifar(folder, BATCHES, arrays, "labels", binary)
    s = load("cifar10", root=tmp_path)
    assert torch.equal(s.train.inputs, torch.from_numpy(x))
    assert s.train.labels.tolist() == y.tolist()
    assert torch.equal(s.test.inputs, torch.from_numpy(arrays[2]))
    assert s.train.classes[3] == "cat"
    assert s.train.normalization.std.tolist() == pytest.approx([0.2023, 0.1994, 0.2010])


@pytest.mark.parametrize("binary", [False, True])
def test_cifar100_uses_fine_labels(tmp_path, binary):
    arrays = four(32, 3, classes=100, n=200)
    folder = tmp_path / ("cifar-100-binary" if binary else "cifar-100-python")
    write_cifar(folder, ["train", "test"], arrays, "fine_labels", binary)
    s = load("cifar100", root=tmp_path)
    assert len(s.train.classes) == len(set(s.train.classes)) == 100
    assert s.train.classes == tuple(sorted(s.train.classes))
    assert s.train.labels.tolist() == arrays[1].tolist()
    assert torch.equal(s.train.inputs, torch.from_numpy(arrays[0]))
    assert s.train.normalization.mean.tolist() == pytest.approx([0.5071, 0.4866, 0.4409])


def test_the_published_archive_need_not_be_unpacked(tmp_path):
    arrays = four(32, 3)
    write_cifar(tmp_path / "made/cifar-10-batches-py", BATCHES, arrays, "labels")
    root = tmp_path / "root"
    root.mkdir()
    with tarfile.open(root / "cifar-10-python.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "made/cifar-10-batches-py", "cifar-10-batches-py")
    assert torch.equal(load("cifar10", root=root).test.inputs, torch.from_numpy(arrays[2]))


def test_svhn(tmp_path):
    x, y, x_test, y_test = four(32, 3)
    for name, a, b in (("train", x, y), ("test", x_test, y_test)):
        tens = np.where(b == 0, 10, b)[:, None].astype(np.uint8)
        scipy.io.savemat(tmp_path / f"{name}_32x32.mat", {"X": a.transpose(2, 3, 1, 0), "y": tens})
    s = load("svhn", root=tmp_path)
    assert torch.equal(s.train.inputs, torch.from_numpy(x))
    assert s.train.labels.tolist() == y.tolist()
    assert s.test.normalization.mean.tolist() == pytest.approx([0.4377, 0.4438, 0.4728])


def test_missing_everywhere_says_what_to_put_where(tmp_path):
    for name in ("mnist", "fashion-mnist", "cifar10", "cifar100", "svhn"):
        (tmp_path / "data").mkdir(exist_ok=True)
        with pytest.raises(PotstillError, match=f"^{name}: no files found, .* into .*/data/{name}$"):
            load(name, root=tmp_path / "data")
        with pytest.raises(PotstillError, match=f"into DIR/{name} and give DIR as `data_root=` or .POTSTILL_DATA$"):
            load(name)


def test_a_missing_root_is_named(tmp_path):
    with pytest.raises(PotstillError, match="nowhere: no such folder"):
        load("mnist", root=tmp_path / "nowhere")


def test_incomplete_and_broken_files_are_named(tmp_path):
    folder = tmp_path / "mnist"
    write_idx(folder, four())
    (folder / STEMS[1]).unlink()
    with pytest.raises(PotstillError, match=r"mnist/train-labels-idx1-ubyte is missing beside train-images-idx3-ubyte"):
        load("mnist", root=tmp_path)
    (folder / STEMS[1]).write_bytes(idx(np.arange(20))[:-3])
    with pytest.raises(PotstillError, match=r"mnist/train-labels-idx1-ubyte: its header asks for 28 bytes"):
        load("mnist", root=tmp_path)
    (folder / STEMS[1]).unlink()
    (folder / f"{STEMS[1]}.gz").write_bytes(gzip.compress(idx(np.arange(20)))[:-9])
    with pytest.raises(PotstillError, match=r"train-labels-idx1-ubyte\.gz: broken gzip"):
        load("mnist", root=tmp_path)
    (folder / f"{STEMS[1]}.gz").write_bytes(gzip.compress(idx(np.zeros((2, 2, 2)))))
    with pytest.raises(PotstillError, match="holds uint8 of shape"):
        load("mnist", root=tmp_path)


def test_labels_beyond_the_classes_and_lengths_that_differ(tmp_path):
    arrays = four()
    write_idx(tmp_path / "mnist", [arrays[0], arrays[1] + 1, arrays[2], arrays[3]])
    with pytest.raises(PotstillError, match="labels go up to 10, but mnist has 10 classes"):
        load("mnist", root=tmp_path)
    write_idx(tmp_path / "mnist", [arrays[0], arrays[1][:-1], arrays[2], arrays[3]])
    with pytest.raises(PotstillError, match="mnist: training part: 20 inputs but 19 labels"):
        load("mnist", root=tmp_path)


def test_cifar_files_that_are_not_what_they_say(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    write_cifar(folder, BATCHES, four(32, 3), "labels")
    (folder / "data_batch_4").write_bytes(pickle.dumps({"data": np.zeros((2, 9), np.uint8), "labels": [0, 1]}, 2))
    with pytest.raises(PotstillError, match="data_batch_4: not a CIFAR batch"):
        load("cifar10", root=tmp_path)
    (folder / "data_batch_4").write_bytes(pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "y": [0, 1]}, 2))
    with pytest.raises(PotstillError, match="data_batch_4: not a CIFAR batch with data and labels"):
        load("cifar10", root=tmp_path)
    (folder / "data_batch_4").unlink()
    with pytest.raises(PotstillError, match="data_batch_4 is missing beside data_batch_1"):
        load("cifar10", root=tmp_path)
    (tmp_path / "cifar-100-python.tar.gz").write_bytes(b"junk")
    with pytest.raises(PotstillError, match=r"cifar-100-python\.tar\.gz: not a readable archive"):
        load("cifar100", root=tmp_path)


def test_mnist_from_an_installed_package(tmp_path, monkeypatch):
    site = tmp_path / "site"
    info = site / "tiny_mnist-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-mnist\nVersion: 1.0\n")
    (info / "RECORD").write_text("mnist/data/mnist.pkl.gz,,\n")
    x = RNG.integers(0, 256, (60, 784), dtype=np.uint8)
    y = np.arange(60) % 10
    parts = tuple((x[i : i + 20].astype(np.float32) / 256, y[i : i + 20]) for i in (0, 20, 40))
    (site / "mnist/data").mkdir(parents=True)
    (site / "mnist/data/mnist.pkl.gz").write_bytes(gzip.compress(pickle.dumps(parts, 2)))
    monkeypatch.syspath_prepend(site)
    monkeypatch.setattr(standard_datasets, "PACKAGE", "tiny-mnist")
    s = load("mnist")
    assert torch.equal(s.train.inputs, torch.from_numpy(x[:40].reshape(-1, 1, 28, 28)))
    assert torch.equal(s.test.inputs, torch.from_numpy(x[40:].reshape(-1, 1, 28, 28)))
    assert s.notes[0] == "mnist: read from the installed package tiny-mnist"


def test_the_hub_is_asked_last(monkeypatch):
    """The reply is a real data set made here: no network in tests."""

    def picture(value):
        file = io.BytesIO()
        Image.new("RGB", (32, 32), value).save(file, "PNG")
        return {"bytes": file.getvalue(), "path": None}

    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(num_classes=10)})
    rows = {"img": [picture((i, 9, 9)) for i in range(10)], "label": list(range(10))}
    made = datasets.Dataset.from_dict(rows, features=features)
    asked = []

    def reply(name, config):
        asked.append((name, config))
        return datasets.DatasetDict(train=made, test=made)

    monkeypatch.setattr(standard_datasets, "fetch_hub", reply)
    s = load("cifar10")
    assert asked == [("uoft-cs/cifar10", None)]
    assert s.train.inputs[:, 0, 0, 0].tolist() == list(range(10))
    assert s.train.classes[9] == "truck"
    assert s.train.normalization.mean[0].item() == pytest.approx(0.4914)


def test_every_known_name_has_one_line():
    assert list(KNOWN)[:2] == ["digits", "mnist-5k"]
    assert all(text and "\n" not in text for text in KNOWN.values())
