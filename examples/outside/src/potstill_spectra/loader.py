"""Spectra from a text file ``NAME.spectra``: a class and the values of the bins in each line, separated by commas."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from potstill.core import InputSpec, Splits
from potstill.data import TensorSource, fit_normalization
from potstill.errors import PotstillError
from potstill.rng import generator
from potstill.tasks import Classification


def read_spectra(task: Classification, data: object, options: Any) -> Splits:
    """Return a training and a test part, each class divided for itself.

    Args:
        task: the task, which is always classification here.
        data: the path of the file.
        options: a `potstill.data.read_options.ReadOptions`: seed, test_fraction, device and more.
    """
    path = Path(str(data))
    if not path.is_file():
        raise PotstillError(f"{path}: spectra are read from a file, and there is none; give one")
    lines = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if len({len(line) for line in lines}) != 1 or len(lines[0]) < 2:
        raise PotstillError(f"{path}: every line must have a class and as many bins as the first; correct it")
    try:
        values = torch.from_numpy(np.array([line[1:] for line in lines], dtype=np.float32)).unsqueeze(1)
    except ValueError as error:
        raise PotstillError(f"{path}: bins must be numbers ({error}); correct them") from error
    if not bool(torch.isfinite(values).all()):
        raise PotstillError(f"{path}: bins must be finite numbers; leave the lines with others out")
    classes = tuple(sorted({line[0] for line in lines}))
    labels = torch.tensor([classes.index(line[0]) for line in lines])
    rng, test = generator(options.seed, "split"), torch.zeros(len(lines), dtype=torch.bool)
    for c in range(len(classes)):
        own = torch.nonzero(labels == c).flatten()
        test[own[torch.randperm(len(own), generator=rng)[: round(options.test_fraction * len(own))]]] = True
    fitted = options.normalization or fit_normalization(values[~test])

    def source(part: torch.Tensor) -> TensorSource:
        made = TensorSource(
            name=path.name, input=InputSpec(kind="spectra", shape=(1, values.shape[2]), units="counts"),
            classes=classes, normalization=fitted, inputs=values[part], labels=labels[part],
        )  # fmt: skip
        return made.to(options.device)

    note = f"{path.name}: {int(test.sum()):,} of {len(lines):,} spectra are the test part"
    return Splits(train=source(~test), test=source(test) if bool(test.any()) else None, notes=(note,))


def is_spectra_file(data: object) -> bool:
    """Return True for a path that ends with ``.spectra``."""
    return isinstance(data, str | Path) and str(data).endswith(".spectra")


read_spectra.accepts = is_spectra_file  # type: ignore[attr-defined]  # read by potstill.data.load
