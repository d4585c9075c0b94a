"""A small set, a small teacher, and a dataset that reads its labels: shared by the tests of the store."""

import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from potstill.augment.view_schedule import ViewSchedule
from potstill.labels.fkd import import_fkd
from potstill.labels.label_file import LabelFile
from potstill.labels.teacher_file import TeacherFile, write_teacher
from potstill.labels.write import LabelTeacher, RowSettings, WriteSettings, write_labels
from potstill.rng import generator

N, SHAPE, CLASSES = 20, (2, 7, 6), tuple(f"class {c}" for c in range(12))
VIEWS = ViewSchedule(seed=5, mix_prob=0.7)


def pictures() -> Tensor:
    return torch.randn(N, *SHAPE, generator=generator(0, "pictures"))


class Slow(nn.Module):
    """A linear teacher that takes its time, so that it can be killed at work."""

    def __init__(self, seed: int = 0, seconds: float = 0.0, classes: int = len(CLASSES)) -> None:
        super().__init__()
        rng = generator(seed, "teacher")
        self.weight = nn.Parameter(torch.randn(84, classes, generator=rng) * 0.3)
        self.norm = nn.BatchNorm1d(classes)
        self.seconds = seconds

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(self.seconds)
        return self.norm(x.flatten(1) @ self.weight)


def expert(seed: int = 0, seconds: float = 0.0, classes: tuple[str, ...] = CLASSES) -> LabelTeacher:
    return LabelTeacher(name="slow-linear", network=Slow(seed, seconds, len(classes)), classes=classes)


def values_of(settings: dict[str, Any], **rows: Any) -> dict[str, Any]:
    """Arguments of `write_labels` and its like from settings in a row; ``rows`` are defaults."""
    settings = dict(settings)
    rows |= {f.name: settings.pop(f.name) for f in fields(RowSettings) if f.name in settings}
    writing = {f.name: settings.pop(f.name) for f in fields(WriteSettings) if f.name in settings}
    return settings | {"rows": RowSettings(**rows), "settings": WriteSettings(**writing)}


def write_flat(*args: Any, **settings: Any) -> LabelFile:
    return write_labels(*args, **values_of(settings))


def import_flat(*args: Any, **settings: Any) -> LabelFile:
    return import_fkd(*args, **values_of(settings, temperature=20.0, level=True))


def write_teacher_flat(*args: Any, dtype: str = "uint8", **settings: Any) -> TeacherFile:
    values = values_of(settings)
    del values["rows"]
    return write_teacher(*args, dtype=dtype, **values)


def write(path: Path, seconds: float = 0.0, **settings: Any) -> LabelFile:
    given: dict[str, Any] = {"classes": CLASSES, "epochs": 3, "top_k": 4, "batch": 6} | settings
    return write_flat(path, [expert(seconds=seconds)], pictures(), VIEWS, **given)


class Batches(Dataset[tuple[Tensor, Tensor]]):
    """Batches by (epoch, items): what a loader with a batch sampler of its own asks for."""

    def __init__(self, path: Path) -> None:
        self.store, self.x = LabelFile(path), pictures()

    def __getitem__(self, asked: tuple[int, list[int]]) -> tuple[Tensor, Tensor]:
        epoch, index = asked
        return self.store.batch_of(self.x, epoch, torch.tensor(index), 4.0)


if __name__ == "__main__":
    import sys

    write(Path(sys.argv[1]), seconds=0.05, record_every=float(sys.argv[2]))
