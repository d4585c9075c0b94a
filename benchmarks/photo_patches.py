"""Data of benchmarks that every machine can make again: crops of ten photographs, and a part of Fashion-MNIST.

`photo-patches` are 32×32 crops in colour from ten photographs that scikit-image and scikit-learn bring (``pip install
scikit-image``), 500 and 100 for each; a photograph is cut into blocks of 64×64 like a chessboard, and training crops
lie within its white blocks, test crops within its black ones, so that no pixel is on both sides.

`fashion-5k` are the first 500 training pictures of each class of Fashion-MNIST, with its own test pictures.
"""

from importlib.resources import files

import numpy as np
import torch
from PIL import Image

import potstill
from potstill.core import Splits
from potstill.data import TensorSource
from potstill.rng import generator

__all__ = ["PHOTOS", "fashion", "photo_patches"]

PHOTOS = {
    "astronaut": ("skimage.data", "astronaut.png"), "coffee": ("skimage.data", "coffee.png"),
    "cat": ("skimage.data", "chelsea.png"), "rocket": ("skimage.data", "rocket.jpg"),
    "retina": ("skimage.data", "retina.jpg"), "tissue": ("skimage.data", "ihc.png"),
    "galaxies": ("skimage.data", "hubble_deep_field.jpg"), "motorcycle": ("skimage.data", "motorcycle_left.png"),
    "pagoda": ("sklearn.datasets.images", "china.jpg"), "flower": ("sklearn.datasets.images", "flower.jpg"),
}  # fmt: skip
"""Photographs: the class, the package and the file."""
BLOCK, SIDE = 64, 32


def fashion(test: int | None = None) -> Splits:
    """The first 500 of each class to train with.

    Args:
        test: so many of each class to test with, the first ones; ``None``: all.
    """
    data = potstill.load_data("fashion-mnist")
    train, held = data.train, data.test
    assert isinstance(train, TensorSource)
    assert isinstance(held, TensorSource)
    return Splits(train=first(train, 500), test=held if test is None else first(held, test))


def first(source: TensorSource, count: int) -> TensorSource:
    """The first ``count`` samples of each class, under the same normalization."""
    rows = torch.cat([(source.labels == c).nonzero().flatten()[:count] for c in range(len(source.classes))])
    return TensorSource.make(
        source.inputs[rows].numpy(), source.labels[rows].numpy(), source.classes, name="fashion-mnist",
        normalization=source.normalization,
    )  # fmt: skip


def photo_patches(train_crops: int = 500, test_crops: int = 100) -> Splits:
    """Crops of photographs: so many of each to train and to test with, drawn with seed 0."""
    rng = generator(0, "photo-patches")
    sides: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    labels: tuple[list[int], list[int]] = ([], [])
    for c, (package, file) in enumerate(PHOTOS.values()):
        try:
            folder = files(package)
        except ModuleNotFoundError as error:
            raise SystemExit(f"photo-patches needs the package {error.name}; pip install scikit-image") from error
        with Image.open(str(folder / file)) as opened:
            photo = np.asarray(opened.convert("RGB"))
        rows, columns = photo.shape[0] // BLOCK, photo.shape[1] // BLOCK
        for side, count in enumerate((train_crops, test_crops)):
            blocks = [(i, j) for i in range(rows) for j in range(columns) if (i + j) % 2 == side]
            for _ in range(count):
                i, j = blocks[int(torch.randint(len(blocks), (1,), generator=rng))]
                y, x = torch.randint(BLOCK - SIDE + 1, (2,), generator=rng).tolist()
                top, left = i * BLOCK + y, j * BLOCK + x
                sides[side].append(photo[top : top + SIDE, left : left + SIDE])
                labels[side].append(c)
    train = TensorSource.make(np.stack(sides[0]), np.array(labels[0]), list(PHOTOS), name="photo-patches")
    test = TensorSource.make(
        np.stack(sides[1]), np.array(labels[1]), list(PHOTOS), name="photo-patches", normalization=train.normalization
    )
    return Splits(train=train, test=test)
