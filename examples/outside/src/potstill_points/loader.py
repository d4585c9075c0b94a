"""Point clouds from a folder: ``CLASS/NAME.xyz``, three coordinates in a line, or ``CLASS/NAME.npy``, (points, 3).

Every cloud is centred and scaled into the unit sphere, as the published loaders do. All get as many points as the
smallest one has, at most 1,024, drawn by the file's name: the same points whatever else lies in the folder.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from potstill.core import InputSpec, Normalization, Splits
from potstill.data import TensorSource
from potstill.errors import PotstillError
from potstill.rng import generator
from potstill.tasks import Classification

_SUFFIXES = (".xyz", ".npy")
_MOST = 1024
"""Points of a cloud (published)."""
_LEAST = 8


def read_points(task: Classification, data: object, options: Any) -> Splits:
    """Return a training and a test part, each class divided for itself.

    Args:
        task: the task, which is always classification here.
        data: the folder.
        options: a `potstill.data.read_options.ReadOptions`: seed, test_fraction, device and more.
    """
    root = Path(str(data))
    files = sorted(path for path in root.glob("*/*") if path.suffix in _SUFFIXES and path.is_file())
    classes = tuple(sorted({path.parent.name for path in files}))
    if len(classes) < 2:
        raise PotstillError(
            f"{root}: at least two folders of clouds (CLASS/NAME.xyz or .npy) are needed, but there are "
            f"{len(classes)}; give a folder of such folders"
        )
    clouds = [_read_cloud(path) for path in files]
    count = min(_MOST, *(len(cloud) for cloud in clouds))
    x = torch.stack([
        fit_to_sphere(cloud)[torch.randperm(len(cloud), generator=generator(0, "points", path.name))[:count]].T
        for path, cloud in zip(files, clouds, strict=True)
    ])  # fmt: skip
    labels = torch.tensor([classes.index(path.parent.name) for path in files])
    test = torch.zeros(len(files), dtype=torch.bool)
    for c, name in enumerate(classes):
        own = torch.nonzero(labels == c).flatten()
        rng = generator(options.seed, "split", name)
        test[own[torch.randperm(len(own), generator=rng)[: round(options.test_fraction * len(own))]]] = True
    one = Normalization(mean=torch.zeros(3), std=torch.ones(3))

    def source(part: Tensor) -> TensorSource:
        spec = InputSpec(kind="points", shape=(3, count), units="of the unit sphere", horizontal_flip=False)
        made = TensorSource(
            name=root.name, input=spec, classes=classes, normalization=options.normalization or one, inputs=x[part],
            labels=labels[part],
        )  # fmt: skip
        return made.to(options.device)

    note = f"{root.name}: {int(test.sum()):,} of {len(files):,} clouds of {count:,} points are the test part"
    return Splits(train=source(~test), test=source(test) if bool(test.any()) else None, notes=(note,))


def fit_to_sphere(cloud: Tensor) -> Tensor:
    """Return a cloud (points, 3) with its mean at 0 and its farthest point at distance 1."""
    centred = cloud - cloud.mean(0)
    return centred / centred.norm(dim=1).max().clamp_min(1e-12)


def _read_cloud(path: Path) -> Tensor:
    try:
        values = np.load(path, allow_pickle=False) if path.suffix == ".npy" else np.loadtxt(path, ndmin=2)
        cloud = torch.from_numpy(np.asarray(values, dtype=np.float32))
    except (ValueError, OSError, TypeError) as error:
        line = " ".join(str(error).split())[:120]
        raise PotstillError(
            f"{path}: three numbers for each point are needed ({line}); correct or remove it"
        ) from error
    if cloud.ndim != 2 or cloud.shape[1] != 3 or len(cloud) < _LEAST or not bool(torch.isfinite(cloud).all()):
        raise PotstillError(
            f"{path}: at least {_LEAST} points with three finite coordinates are needed, but it holds "
            f"{list(cloud.shape)}; correct or remove it"
        )
    return cloud


def is_points_folder(data: object) -> bool:
    """Return True for a folder whose class folders hold ``.xyz`` files."""
    if not isinstance(data, str | Path) or not Path(data).is_dir():
        return False
    return any(Path(data).glob("*/*.xyz"))


read_points.accepts = is_points_folder  # type: ignore[attr-defined]  # read by potstill.data.load
