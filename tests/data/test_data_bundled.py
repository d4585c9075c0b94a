"""The bundled digits are read from scikit-learn's file, and are what scikit-learn says they are."""

import numpy as np
from sklearn.datasets import load_digits

from potstill.data.bundled import read_bundled


def test_digits_are_scikit_learns() -> None:
    bunch, parts = load_digits(), read_bundled("digits")
    np.testing.assert_array_equal(parts.train.inputs[:, 0].numpy(), (bunch.images / 16).astype(np.float32))
    np.testing.assert_array_equal(parts.train.labels.numpy(), bunch.target)
