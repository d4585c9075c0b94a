"""Import of sets that other programs released, back in data units."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from potstill._util.input_limits import limit_hint, limits
from potstill.augment.zca import fit_normalization
from potstill.core import DecodeContext, InputSpec, Normalization, Source, Splits, registry
from potstill.data.standard_datasets import STANDARD
from potstill.dataset_file import Contents, Distilled, Encoding, Provenance, Schema, build
from potstill.errors import PotstillError, unknown_name
from potstill.interop.graphslim import import_graphslim
from potstill.interop.released_sets import RELEASED_FORMATS, ReleasedSet, detect_format, read_released_set
from potstill.interop.texts import import_texts
from potstill.parametrize.tiles import Tiles
from potstill.runs.load_data import as_splits, load_data, pick_device

__all__ = ["RELEASED_FORMATS", "import_set"]

_OF_CIFAR10 = ("mtt", "datm", "idc", "ncfm")
"""Programs that normalise CIFAR-100 with the constants of CIFAR-10."""


def import_set(
    path: str | Path,
    form: str | None = None,
    *,
    known: str | None = None,
    data: Any = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    zca: str | None = None,
    factor: int | None = None,
    run: int = -1,
    lr: float | None = None,
    method: str | None = None,
    **reading: Any,
) -> Distilled:
    """Read a set that another program released; no code in its files is run.

    Normalised or whitened images are converted to data units. The normalization comes from ``mean`` and ``std``, the
    ``known`` name of the data, or the ``data``; a whitening is fitted on the ``data``.

    Args:
        path: the file, or the folder that it lies in; see `potstill.interop.released_sets`.
        form: ``dc``, ``mtt``, ``datm``, ``idc``, ``ncfm``, ``folder``, for texts ``dilm``, for graphs ``graphslim``.
            Default: by the names of the files.
        known: a name with published constants and class names (``cifar10``); no data are read for it. Default: none.
        data: the real data of the set, anything `potstill.load_data` takes or returns: class names, hash, constants,
            whitening; the encoder of texts, without which a set of texts cannot be measured; the
            original graph. Default: none.
        mean: mean of each channel by which the images were normalised, c numbers; 0 where they were not. Give ``std``,
            too. Default: by ``known`` or ``data``.
        std: standard deviation of each channel, c numbers above 0; 1 where the images were not normalised. Default: by
            ``known`` or ``data``.
        zca: ``mtt``, ``frepo`` or ``kip``: the images are whitened as in these papers. Default: they are not whitened.
        factor: for ``idc`` and ``ncfm``: images along a side of each stored one; 1: none. Default: as the path says.
        run: for ``dc``: number of the experiment in the file; for ``dilm``: number of the file in the folder. -1: the
            last.
        lr: learning rate that was learned with the set, where no file has it. Default: the file's.
        method: method that made the set. Default: as the files or the form are called.
        **reading: options of `potstill.load_data`; ``size`` also resizes the images of a ``folder``.

    Returns:
        The distilled set, in data units.

    Raises:
        PotstillError: files are missing, unsafe or of another form, or the normalization is unknown.

    Examples:
        >>> images, labels = torch.rand(10, 1, 8, 8), torch.arange(10)
        >>> torch.save({"data": [[images, labels]], "accs_all_exps": {}}, "res_DC_MNIST_ConvNet_1ipc.pt")
        >>> small = potstill.import_set("res_DC_MNIST_ConvNet_1ipc.pt", "dc", mean=[0.5], std=[0.25])
        >>> len(small), small.metadata["method"]
        (10, 'dc')
    """
    path = Path(path).expanduser()
    chosen = form or detect_format(path)
    if chosen in ("dilm", "graphslim"):
        given = {"known": known, "mean": mean, "std": std, "zca": zca, "factor": factor, "lr": lr}
        if said := next((name for name, value in given.items() if value is not None), None):
            held = "texts" if chosen == "dilm" else "nodes"
            raise PotstillError(f"{said} belongs to pictures, but {chosen} is a set of {held}; leave it out")
        if chosen == "graphslim":
            return import_graphslim(path, method=method, train=_source(data, reading))
        return import_texts(path, run=run, method=method, train=_source(data, reading))
    if known is not None and known not in STANDARD:
        raise unknown_name("standard set", known, STANDARD)
    if (mean is None) != (std is None):
        raise PotstillError("both mean and std are required, or neither; give the other one, too")
    found = read_released_set(path, chosen, run=run, size=reading.get("size"))
    of = _Origin(found, chosen, known, _source(data, reading))
    normalization = _normalization(of, mean, std, zca)
    inputs = found.images if found.in_data_units else normalization.invert(found.images)
    labels, classes = _labels(of)
    name = method or found.method
    is_registered = name in registry.names("methods")
    rate = found.lr if lr is None else lr
    payload: dict[str, Tensor] = {}
    decoder: dict[str, Any] | None = None
    if (f := _factor(of, factor)) > 1:
        inputs, labels, payload = _tiled(inputs, labels, f)
        decoder = {"parametrization": f"tiles:factor={f}", "space": "data"}
    said = ", ".join(found.files)
    learned = {} if rate is None else {"student/lr": torch.tensor(rate)}
    return build(
        Contents(inputs=inputs, labels=labels, payload=payload, learned=learned),
        Schema(classes=classes, input=_spec(of, inputs), normalization=normalization),
        Provenance(
            method=name, config={"imported": chosen}, ipc=max(Counter(_hard(labels).tolist()).values()),
            training=dict(registry.resolve("methods", name).info.training) if is_registered else {},
            source=_source_metadata(of, said),
            outcome={"kind": "imported", "message": f"released set, read from {said}", "step": 0},
            extra={"imported": {"form": chosen, "sha256": dict(found.files)}},
        ),
        Encoding(decoder=decoder),
    )  # fmt: skip


@dataclass(frozen=True)
class _Origin:
    """A released set and its known origin."""

    found: ReleasedSet
    form: str
    known: str | None
    train: Source | None


def _source(data: Any, reading: dict[str, Any]) -> Source | None:
    if data is None:
        return None
    return as_splits(data if isinstance(data, Splits) else load_data(data, **reading), pick_device("cpu")).train


def _normalization(
    of: _Origin, mean: Sequence[float] | None, std: Sequence[float] | None, zca: str | None
) -> Normalization:
    channels = of.found.images.shape[1]
    if zca is not None:
        if of.train is None:
            raise PotstillError(
                f"images whitened as {zca} need the data that the whitening is fitted on, as no file has it; give data"
            )
        if mean is not None:
            raise PotstillError("a whitening brings its own mean and std; leave them out, or zca")
        made = fit_normalization(_all_inputs(of.train), zca)
        if made.whitening is not None and made.whitening.unit_norm:
            raise PotstillError(
                'images whitened as kip cannot be led back to pixels: their length is lost; use `zca="mtt"` or '
                '`zca="frepo"`'
            )
    elif mean is not None and std is not None:
        if not len(mean) == len(std) == channels or min(std) <= 0:
            raise PotstillError(
                f"mean and std need {channels} numbers each, std above 0, for images of {channels} channels, but they "
                f"are {list(mean)} and {list(std)}"
            )
        made = Normalization(torch.tensor(list(mean)), torch.tensor(list(std)))
    elif of.known is not None:
        about = STANDARD["cifar10" if of.known == "cifar100" and of.form in _OF_CIFAR10 else of.known]
        made = Normalization(torch.tensor(about.mean), torch.tensor(about.std))
    elif of.train is not None:
        made = of.train.normalization
    else:
        raise PotstillError(
            "what the images were normalised by is in no file; give mean and std, the known name of the data, such as "
            "cifar10, or the data"
        )
    if len(made.mean) != channels:
        raise PotstillError(f"images of {channels} channels, but their data have {len(made.mean)}; give the set's own")
    return made


def _all_inputs(train: Source) -> Tensor:
    x = train.raw(torch.arange(len(train)))
    if not isinstance(x, Tensor):
        raise PotstillError(f"{train.name}: a whitening needs inputs of one tensor; leave zca out")
    return x


def _labels(of: _Origin) -> tuple[Tensor, tuple[str, ...]]:
    """Return labels by the classes of the data, and the names of the classes."""
    labels, folders = of.found.labels, of.found.folders
    names = STANDARD[of.known].classes if of.known is not None else () if of.train is None else of.train.classes
    k = len(folders) or (labels.shape[1] if labels.ndim == 2 else int(labels.max()) + 1)
    if k > limits().classes:  # a label of eight bytes can ask for the names of more than memory holds
        raise PotstillError(
            f"its labels count up to {k - 1:,}, so there are as many classes or a damaged label; "
            f"{limit_hint('classes')}"
        )
    if not names:
        return labels, folders or tuple(map(str, range(k)))
    # Classes after the last that has an item leave no trace in hard labels.
    if k > len(names) or (k < len(names) and (folders or labels.ndim == 2)):
        raise PotstillError(f"the set has {k} classes, but its data {len(names)}; give the data that it was made of")
    if folders and set(folders) == set(names):
        labels = torch.tensor([names.index(folder) for folder in folders])[labels]
    return labels, names


def _hard(labels: Tensor) -> Tensor:
    return labels.argmax(1) if labels.ndim == 2 else labels


def _factor(of: _Origin, factor: int | None) -> int:
    if of.form not in ("idc", "ncfm"):
        if factor is not None:
            raise PotstillError(f"factor belongs to the forms idc and ncfm, not to {of.form}; leave it out")
        return 1
    known = of.found.factor if factor is None else factor
    if known is None:
        raise PotstillError(
            "how many pictures each stored one holds is not in the file; give the factor that it was made with (2; 3 "
            "for 224 pixels; 1 for IDC-I)"
        )
    return Tiles(factor=known).factor


def _tiled(stored: Tensor, labels: Tensor, factor: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Return decoded images with their labels, and the stored ones as a payload; classes one after another."""
    order = _hard(labels).argsort(stable=True)
    counts = torch.bincount(_hard(labels))
    if labels.ndim != 1 or int(counts.min()) != int(counts.max()):
        raise PotstillError("tiles need classes, each of as many stored pictures; get the file again, or give factor 1")
    payload = {"inputs/0": stored[order].reshape(len(counts), int(counts[0]), *stored.shape[1:])}
    tiles = Tiles(factor=factor)
    tiles.sizes((int(counts[0]) * stored[0].numel(),), tuple(stored.shape[1:]))  # cells that hold a pixel
    decoded = tiles.decode(payload, DecodeContext(input=InputSpec(kind="image", shape=tuple(stored.shape[1:]))))
    return decoded, torch.arange(len(counts)).repeat_interleave(len(decoded) // len(counts)), payload


def _spec(of: _Origin, inputs: Tensor) -> InputSpec:
    mirrored = STANDARD[of.known].mirrored if of.known is not None else True
    shape = tuple(inputs.shape[1:])
    if of.train is None:
        return InputSpec(kind="image", shape=shape, horizontal_flip=mirrored)
    if of.train.input.shape != shape:
        made, real = ("×".join(map(str, sides)) for sides in (shape, of.train.input.shape))
        raise PotstillError(
            f"images of shape {made}, but their data have {real}; give the size that the set has, or its own data"
        )
    return of.train.input


def _source_metadata(of: _Origin, files: str) -> dict[str, Any]:
    notes = [f"made by another program and imported from {files}: that it saw the training part alone is its word"]
    if of.train is not None:
        said = {"name": of.train.name, "samples": len(of.train), "hash": of.train.content_hash}
    elif of.known is not None:
        said = {"name": of.known, "samples": STANDARD[of.known].sizes[0]}
    else:
        said = {"name": "unknown"}
    return {**said, "notes": notes}
