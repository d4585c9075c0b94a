"""Targets of `tests/fuzz/targets.py`: files that Potstill writes for itself, and foreign formats that it imports.

Label stores, teachers' files, films, trained networks, expert trajectories, trainings under way, decoded pictures,
selections, scorecards; published replay buffers and FKD labels; IDX, MAT, CIFAR and VOC.
"""

import io
import json
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

Read = Callable[[Path], Any]
Seeds = Callable[[Path], list[bytes]]
SIDE, CLASSES, ITEMS = 4, ("a", "b", "c"), 6


@contextmanager
def cached_in(folder: Path) -> Iterator[None]:
    """With ``folder`` for what is kept."""
    before = os.environ.get("POTSTILL_CACHE")
    os.environ["POTSTILL_CACHE"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["POTSTILL_CACHE"]
        else:
            os.environ["POTSTILL_CACHE"] = before


@cache
def _source() -> Any:
    import torch

    from potstill.data.in_memory import TensorSource

    x = torch.rand(ITEMS, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    return TensorSource.make(x, torch.arange(ITEMS) % 3, classes=CLASSES, name="toy")


@cache
def _make() -> Any:
    from potstill.nn import factory

    return factory("mlp-w2", _source().input, 3)


def labels(folder: Path) -> list[bytes]:
    from potstill.augment.view_schedule import ViewSchedule
    from potstill.labels.write import LabelTeacher, RowSettings, write_labels

    found = []
    for number, more in enumerate((dict[str, Any](), {"top_k": 2, "dtype": "uint8", "level": True})):
        path = folder / f"l{number}.safetensors"
        write_labels(
            path, [LabelTeacher(name="t", network=_make()(0), classes=CLASSES)], _source().raw(_all()),
            ViewSchedule(seed=5),
            classes=CLASSES, epochs=2, rows=RowSettings(**more),
        )  # fmt: skip
        found.append(path.read_bytes())
    return found


def _all() -> Any:
    import torch

    return torch.arange(ITEMS)


def read_labels(path: Path) -> Any:
    import torch

    from potstill.labels.teacher_file import open_labels

    store = open_labels(path)
    store.check(store.about.classes, store.about.content_hash)
    if hasattr(store, "logits"):
        items = range(min(ITEMS, store.about.items))
        return [store.decode(epoch, torch.tensor(items)) for epoch in range(min(2, store.about.epochs))]
    return repr(store)


def film(folder: Path) -> list[bytes]:
    import torch

    from potstill.dataset_file import write_tensors

    path = folder / "f.safetensors.film"
    stages = {f"stage/{n}": torch.full((3, 1, 4, 4), n, dtype=torch.uint8) for n in range(3)}
    said = {"format": "potstill-film/1", "steps": [0, 1, 2], "classes": list(CLASSES), "key": "0"}
    write_tensors(path, {**stages, "labels": torch.arange(3)}, {"film": json.dumps(said)})
    return [path.read_bytes()]


def read_film(path: Path) -> Any:
    from potstill.reports.snapshots import load_snapshots, snapshots_section

    found = load_snapshots(path.with_suffix(""))
    return None if found is None else snapshots_section(found, "k")


def experts(folder: Path) -> list[bytes]:
    return _kept(folder, "trajectories", "*.safetensors")


@cache
def _ground() -> Any:
    from potstill.augment.names import named_augmentation
    from potstill.core import AssetContext

    return AssetContext(train=_source(), network=_make(), augmentation=lambda name: named_augmentation(name, _source()))


def _jobs(kind: str) -> Any:
    from potstill.pretraining import ExpertTrajectories, TrainedNetworks

    recipe: dict[str, Any] = {"epochs": 2, "batch": 4, "lr": 0.05}
    if kind == "trajectories":
        return ExpertTrajectories(count=1, recipe=recipe).jobs(_ground())[0]
    recipe |= {"momentum": 0.9, "weight_decay": 0.0}
    return TrainedNetworks(name="networks", count=1, recipe=recipe).jobs(_ground())[0]


def _kept(folder: Path, kind: str, names: str) -> list[bytes]:
    with cached_in(folder / "cache"):
        _jobs(kind).build()
    return [path.read_bytes() for path in sorted((folder / "cache").rglob(names))[:2]]


def read_experts(path: Path) -> Any:
    from potstill.pretraining.trajectory import open_expert

    found = open_expert(path, _make(), _source())
    return [found.at(epoch) for epoch in range(min(found.epochs, 9))]


def networks(folder: Path) -> list[bytes]:
    return _kept(folder, "networks", "*.safetensors")


def read_network(path: Path) -> Any:
    return _given()(path, _jobs("networks"), _source())()


def _given() -> Any:
    from potstill.pretraining.networks import _read_network as given

    return given


def under_way(folder: Path) -> list[bytes]:
    import torch

    from potstill.labels.teacher import fresh_teacher
    from potstill.pretraining.epoch_checkpoint import EpochCheckpoint, write_checkpoint

    path = folder / "p.progress"
    state = EpochCheckpoint(epoch=1, teacher=fresh_teacher(_make()(0)), rng=torch.Generator().get_state(), seconds=1.0)
    write_checkpoint(path, state)
    return [path.read_bytes()]


def read_under_way(path: Path) -> Any:
    from potstill.pretraining.epoch_checkpoint import read_checkpoint

    return read_checkpoint(path, _jobs("networks").first())


def decoded(folder: Path) -> list[bytes]:
    import torch

    from potstill.data import decode_cache as module
    from potstill.data.pictures import DecodedImages

    path = folder / "d.safetensors"
    pixels = torch.arange(64, dtype=torch.uint8).reshape(4, 1, 4, 4)
    module._write(path, DecodedImages(pixels, [0, 1, 2, 3], ("a note",)), "0" * 64)
    return [path.read_bytes()]


def read_decoded(path: Path) -> Any:
    """Of whatever is adopted, all must be as it was written: it has its check sum."""
    from potstill.data import decode_cache as module

    found, _ = module._read(path)
    if found is not None and (found[0].pixels.shape[1:] != (1, 4, 4) or found[0].positions != [0, 1, 2, 3]):
        raise RuntimeError("decoded pictures that were never written are adopted")
    return found


def selection(folder: Path) -> list[bytes]:
    from potstill import load_data
    from potstill.api.distill import distill
    from potstill.dataset_file.selection import write_indices

    small = distill(load_data("digits"), method="random", ipc=1, seed=0)
    write_indices(small, folder / "s.safetensors")
    return [(folder / "s.safetensors").read_bytes()]


def read_selection(path: Path) -> Any:
    from potstill.dataset_file.selection import read_indices

    return read_indices(path)


def scorecard(folder: Path) -> list[bytes]:
    from potstill import load_data
    from potstill.api.distill import distill
    from potstill.api.evaluate import evaluate

    data = load_data("digits")
    card = evaluate(distill(data, method="random", ipc=1, seed=0), data, networks="mlp-w2", students=2, epochs=1)
    card.save(folder / "c.json")
    board = {"methods": ["dm"], "rows": [{"method": "dm", "ipc": 1, "accuracy": [0.5, 0.6]}]}
    return [(folder / "c.json").read_bytes(), json.dumps(board).encode()]


def read_json_page(path: Path) -> Any:
    from potstill.api.report import report
    from potstill.api.verify import verify_file

    verify_file(path)
    return report([path], path.with_suffix(".html"))


def buffer(folder: Path) -> list[bytes]:
    import torch

    net, made = _make()(0), []
    for old in (False, True):
        file = io.BytesIO()
        snapshots = [[p.detach().clone() + n for p in net.parameters()] for n in range(3)]
        torch.save([snapshots], file, _use_new_zipfile_serialization=not old)
        made.append(file.getvalue())
    return made


def read_buffer(path: Path) -> Any:
    from potstill.pretraining.mtt_buffers import read_replay_buffer

    return [found.read(0) for found in read_replay_buffer(path, _make())]


def fkd(folder: Path) -> list[bytes]:
    import torch

    file, m = io.BytesIO(), 2
    box = torch.tensor([[0.0, 0.0, 0.5, 0.5]] * m)
    torch.save([box, torch.zeros(m), torch.tensor([1, 0]), 0.5, (0, 0, 2, 2), torch.rand(m, 3)], file)
    return [file.getvalue()]


def read_fkd(path: Path) -> Any:
    from potstill.labels.fkd_files import read_batch

    return read_batch(path, (SIDE, SIDE), 3)


def idx(folder: Path) -> list[bytes]:
    return [b"\0\0" + bytes([kind, 3]) + struct.pack(">III", 2, 2, 2) + bytes(8 * size)
            for kind, size in ((8, 1), (0x0B, 2), (0x0D, 4))]  # fmt: skip


def read_idx(path: Path) -> Any:
    from potstill.data.formats import read_idx as read

    return read(path.read_bytes(), "x")


def cifar(folder: Path) -> list[bytes]:
    import pickle

    import numpy as np

    return [pickle.dumps({"data": np.zeros((2, 12), np.uint8), "labels": [0, 1]}, protocol) for protocol in (2, 4)]


def read_cifar(path: Path) -> Any:
    from potstill.data.formats import read_cifar_binary, read_pickle

    content = path.read_bytes()
    if len(content) % 3073 == 0:
        return read_cifar_binary(content, 1, "x")
    return repr(read_pickle(content, "x"))[:100]


def mat(folder: Path) -> list[bytes]:
    import numpy as np
    from scipy.io import savemat

    made = []
    for packed in (False, True):
        file = io.BytesIO()
        savemat(
            file, {"X": np.zeros((32, 32, 3, 2), np.uint8)[:2, :2], "y": np.array([[1], [10]])}, do_compression=packed
        )
        made.append(file.getvalue())
    return made


def read_mat(path: Path) -> Any:
    from potstill.data.formats import read_mat as read

    return read(path.read_bytes(), "x")


def voc(folder: Path) -> list[bytes]:
    return [
        b"<annotation><filename>a.png</filename><size><width>8</width><height>8</height></size><object><name>cat</name>"
        b"<difficult>0</difficult><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>4</xmax><ymax>4</ymax></bndbox></object>"
        b"</annotation>"
    ]


def read_voc(path: Path) -> Any:
    from potstill.data.detection import load_detection

    return load_detection(path.parent)


def series(folder: Path) -> list[bytes]:
    rows = "".join(f"2024-01-{i + 1:02d},{i / 2},{i}\n" for i in range(28))
    return [f"day,a,b\n{rows}".encode()]


def read_series(path: Path) -> Any:
    from potstill import load_data

    return load_data(path, task="forecast:window=3,horizon=1").train.content_hash


KEPT: dict[str, tuple[str, Read, Seeds, bool]] = {
    "labels": ("l.safetensors", read_labels, labels, True),
    "film": ("f.safetensors.film", read_film, film, True),
    "experts": ("e.safetensors", read_experts, experts, True),
    "network": ("n.safetensors", read_network, networks, True),
    "under-way": ("p.progress", read_under_way, under_way, True),
    "decoded": ("d.safetensors", read_decoded, decoded, True),
    "selection": ("s.safetensors", read_selection, selection, True),
    "scorecard": ("c.json", read_json_page, scorecard, False),
    "buffer": ("b.pt", read_buffer, buffer, False),
    "fkd": ("k.pt", read_fkd, fkd, False),
    "idx": ("i.idx", read_idx, idx, False),
    "cifar": ("c.pickle", read_cifar, cifar, False),
    "mat": ("m.mat", read_mat, mat, False),
    "voc": ("v.xml", read_voc, voc, False),
    "series": ("s.csv", read_series, series, False),
}
"""Target → what the file is called, what reads it, what it is tried with first, whether it begins with the length of a
header."""
