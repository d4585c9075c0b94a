"""Readers of sets that other programs released, in the units of their files.

| form | files | images | labels |
|---|---|---|---|
| ``dc`` (DC, DSA, DM) | ``res_*.pt``: ``{"data": [[images, labels], …], "accs_all_exps": …}`` | normalised | classes |
| ``mtt`` (MTT, FTD, TESLA) | ``images_best.pt`` and ``labels_best.pt`` | normalised or whitened | classes |
| ``datm`` (DATM) | these and ``lr_best.pt`` | normalised or whitened | logits of a soft label |
| ``idc`` (IDC, DREAM) | ``data.pt``: ``[images, labels]`` | in [0,1], f × f pictures in each | classes |
| ``ncfm`` (NCFM) | ``data_N.pt``, of iteration N: ``[images, labels]`` | as ``idc`` |
| ``folder`` (SRe2L, RDED, EDC) | a folder of pictures for each class | pictures | the folders, sorted |
| ``dilm`` (DiLM) | ``dataset_N.json``: texts, see `potstill.interop.texts` | none | classes |
| ``graphslim`` (GraphSlim) | ``feat_*.pt`` and others, see `potstill.interop.graphslim` | none | classes |
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from potstill._util.input_limits import limits
from potstill.dataset_file.safe_unpickle import load_torch_file
from potstill.errors import PotstillError, unknown_name
from potstill.interop.graphslim import find_graphs
from potstill.interop.texts import find_text_sets
from potstill.runs.load_data import load_data

__all__ = ["RELEASED_FORMATS", "ReleasedFormat", "ReleasedSet", "detect_format", "read_released_set"]

ReleasedFormat = Literal["dc", "mtt", "datm", "idc", "ncfm", "folder", "dilm", "graphslim"]
RELEASED_FORMATS: tuple[str, ...] = get_args(ReleasedFormat)


@dataclass(frozen=True, eq=False)
class ReleasedSet:
    """Contents of the files of a released set."""

    images: Tensor
    """float32 (n, c, h, w), as stored."""
    labels: Tensor
    """int64 (n,), or float32 rows (n, k) of probabilities."""
    in_data_units: bool
    """True where images are in data units."""
    method: str
    """Method in the names of the files; else the first of the format."""
    lr: float | None = None
    """Learned learning rate of students."""
    folders: tuple[str, ...] = ()
    """Folder names of the classes."""
    files: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of each file by name."""
    factor: int | None = None
    """f of the formats ``idc`` and ``ncfm``, where the path has it."""


def detect_format(path: Path) -> ReleasedFormat:
    """Return the format of a file or folder.

    Raises:
        PotstillError: it has none of these formats.
    """
    if path.is_dir():
        if (path / "images_best.pt").is_file():
            return "datm" if (path / "lr_best.pt").is_file() else "mtt"
        if (path / "data.pt").is_file():
            return "idc"
        if _iterations(path):
            return "ncfm"
        if find_text_sets(path):
            return "dilm"
        if find_graphs(path):
            return "graphslim"
        if any(p.is_dir() for p in path.iterdir()):
            return "folder"
    elif path.name == "data.pt":
        return "idc"
    elif _ITERATION.fullmatch(path.name):
        return "ncfm"
    elif re.match(r"images_\w+\.pt$", path.name):
        return "datm" if _sibling(path, "lr").is_file() else "mtt"
    elif re.fullmatch(r"dataset_\d+\.json", path.name) or path.suffix in (".jsonl", ".ndjson"):
        return "dilm"
    elif find_graphs(path):
        return "graphslim"
    elif path.suffix in (".pt", ".pth"):
        return "dc"
    raise PotstillError(
        f"{path}: no released set that is known by its files; give a res_*.pt, images_best.pt beside labels_best.pt, "
        "data.pt, data_N.pt, dataset_N.json, texts.jsonl, feat_*.pt beside label_*.pt, or a folder of pictures for "
        "each class"
    )


def read_released_set(
    path: Path, form: str, *, run: int = -1, size: int | tuple[int, int] | None = None
) -> ReleasedSet:
    """Read the files of a released set.

    Args:
        path: the file, or the folder that it lies in.
        form: one of ``RELEASED`` that has images.
        run: of the form ``dc``, which of its experiments; the last one by default.
        size: resize pictures of the form ``folder``.

    Raises:
        PotstillError: no such form, or the files are missing, unsafe, or of another form: one line.
    """
    if form not in RELEASED_FORMATS:
        raise unknown_name("form of a released set", form, RELEASED_FORMATS)
    if form == "folder":
        return _folder(path, size)
    if form == "dc":
        return _dc(path, run)
    if form in ("idc", "ncfm"):
        file = path
        if path.is_dir():
            file = (_iterations(path) or [path / "data_N.pt"])[-1] if form == "ncfm" else path / "data.pt"
        images, labels = _pair(_load(file), file)
        found = re.search(r"factor(\d)", path.resolve().as_posix())
        return ReleasedSet(
            images, labels, True, form, files=_hashes(file), factor=None if found is None else int(found[1])
        )
    return _trajectory(path, form)


_ITERATION = re.compile(r"data_(init|\d+)\.pt")


def _iterations(folder: Path) -> list[Path]:
    """Return NCFM's files of a run's folder, by iteration."""
    inner = folder / "distilled_data"
    found = {p: m[1] for p in (inner if inner.is_dir() else folder).iterdir() if (m := _ITERATION.fullmatch(p.name))}
    return sorted(found, key=lambda p: -1 if found[p] == "init" else int(found[p]))


def _hashes(*files: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def _sibling(images: Path, what: str) -> Path:
    return images.with_name(images.name.replace("images", what, 1))


def _load(file: Path) -> Any:
    return load_torch_file(file, limits().set_bytes)


def _dc(path: Path, run: int) -> ReleasedSet:
    content = _load(path)
    runs = content.get("data") if isinstance(content, dict) else None
    if not isinstance(runs, list) or not runs:
        raise PotstillError(
            f"{path}: {{'data': [[images, labels], …]}} is required, but this is {_describe(content)}; give a res_*.pt "
            "of DC, DSA or DM, or another `format=`"
        )
    if not -len(runs) <= run < len(runs):
        raise PotstillError(f"{path}: run {run} is requested, but it holds {len(runs)}; count from 0")
    images, labels = _pair(runs[run], path)
    named = re.match(r"res_([A-Za-z]+)_", path.name)
    return ReleasedSet(images, labels, False, named[1].lower() if named else "dc", files=_hashes(path))


def _trajectory(path: Path, form: str) -> ReleasedSet:
    file = path / "images_best.pt" if path.is_dir() else path
    if "images" not in file.name:
        raise PotstillError(f"{file}: the file of images, or its folder, is required; give images_best.pt")
    images, labels = _load(file), _load(_sibling(file, "labels"))
    files = [file, _sibling(file, "labels")]
    lr = None
    if form == "datm" and _sibling(file, "lr").is_file():
        said = _load(_sibling(file, "lr"))
        files.append(_sibling(file, "lr"))
        lr = float(said) if isinstance(said, int | float) or (isinstance(said, Tensor) and said.numel() == 1) else -1.0
        if not 0 < lr < float("inf"):
            raise PotstillError(f"{files[-1]}: one learning rate above 0 is required; leave the file out to go without")
    # images_zca_*.pt are converted back to pixels by the program.
    pixels = file.name.startswith("images_zca")
    if form == "datm":
        if not (isinstance(labels, Tensor) and labels.ndim == 2 and labels.is_floating_point()):
            raise PotstillError(f'{files[1]}: rows of logits are required; for classes give `format="mtt"`')
        labels = labels.detach().float().softmax(1)
    images, labels = _pair([images, labels], file)
    return ReleasedSet(images, labels, pixels, form, lr, files=_hashes(*files))


def _folder(path: Path, size: int | tuple[int, int] | None) -> ReleasedSet:
    train = load_data(path, test_fraction=0, size=size).train
    pixels = train.raw(torch.arange(len(train)))
    assert isinstance(pixels, Tensor)
    said = {"content": train.content_hash}
    return ReleasedSet(pixels.float().cpu(), train.labels.cpu(), True, "folder", folders=train.classes, files=said)


def _describe(value: Any) -> str:
    if isinstance(value, dict):
        return f"a mapping of {', '.join(map(repr, list(value)[:4]))}"[:100]
    return f"{type(value).__name__} {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _pair(content: Any, path: Path) -> tuple[Tensor, Tensor]:
    """Return validated images as float32, and labels as int64 or float32."""
    pair = list(content) if isinstance(content, list | tuple) and len(content) == 2 else []
    if not pair or not all(isinstance(t, Tensor) for t in pair):
        raise PotstillError(f"{path}: [images, labels] are required, but this is {_describe(content)}; check `format=`")
    images, labels = (t.detach() for t in pair)
    soft = labels.ndim == 2 and labels.is_floating_point()
    if images.ndim != 4 or not images.is_floating_point() or len(images) == 0:
        raise PotstillError(
            f"{path}: images (n, c, h, w) of floats are required, not {_describe(images)}; check `format=`"
        )
    if not (soft or (labels.ndim == 1 and labels.dtype == torch.int64)) or len(labels) != len(images):
        raise PotstillError(
            f"{path}: {len(images)} classes (int64), or rows, are required as labels, not {_describe(labels)} of "
            f"{labels.dtype}; check `format=`"
        )
    if not bool(images.isfinite().all()) or (not soft and int(labels.min()) < 0):
        raise PotstillError(f"{path}: images must be finite and classes at least 0; get the file again")
    return images.float().contiguous(), (labels.float() if soft else labels).contiguous()
