"""Export a set, or the selected samples as files, rows or indices; rebuild a set from its indices."""

import contextlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from PIL import Image
from torch import Tensor

from potstill import dataset_file
from potstill._util.optional import import_optional
from potstill._util.outputs import check_not_input
from potstill.core import Source, Splits
from potstill.data.hub import HubDataset, open_hub, select_splits
from potstill.data.indexing import Index, build_index, index_folder
from potstill.data.readers import FileReader, Reader
from potstill.data.sound_files import SOUND_SUFFIXES
from potstill.data.table import read_csv, read_parquet
from potstill.dataset_file import Distilled, check_source, read_indices, require_selection
from potstill.dataset_file.folders import write_folder
from potstill.dataset_file.views import views_as_set
from potstill.errors import PotstillError, unknown_name
from potstill.exporters.formats import EXPORT_FORMATS
from potstill.exporters.formats import export as write_export
from potstill.exporters.hugging_face import to_hf
from potstill.exporters.images import class_folder_names
from potstill.kinds import get_kind
from potstill.runs.load_data import as_splits, load_as_made, pick_device

__all__ = ["WITH_DATA", "Link", "export", "export_selection", "load_for", "materialize"]

Link = Literal["copy", "hard", "symbolic"]
WITH_DATA = ("files", "hf")
"""Exports that take the chosen samples from the data as they are there."""
_OTHERS = '`to="parquet"` writes the inputs as the set holds them'


def export(
    distilled: Distilled | str | Path, to: str, path: str | Path, *, data: Any = None, link: Link = "copy",
    license: str | None = None, bits: int | None = None, force: bool = False, **reading: Any,
) -> Path:  # fmt: skip
    """Write a set in another form.

    Of a set with a labeller, its views with their labels are written, but for ``indices``.

    Where samples have weights, every form has them: ``selection.json`` a list ``weights``, ``hf`` a column ``weight``.

    Args:
        distilled: a set, or the path of its file.
        to: the form:

            - ``png``, ``npz``, ``parquet``, ``csv``, ``jsonl``, ``webdataset``: inputs and labels, without data
            - ``coco``, ``yolo``: of pictures with boxes, a folder that is read again
            - ``graphslim``: of nodes, a folder of the files that GraphSlim reads
            - ``wav``: of sounds, a folder of WAV files, which are made of the spectrograms
            - ``c-header``, ``npz-integers``: inputs and labels as integers, for devices without Python
            - ``indices``: a selection without its inputs, one file that `potstill.materialize` puts together with the
              data
            - ``files``: the selected original images or sounds, a folder for each class, with ``selection.json``
            - ``hf``: a Hugging Face data set in a folder that ``datasets.load_dataset`` reads, with its dataset card;
              with ``data``, the selected rows with all columns of the data, for ``datasets.load_from_disk``

        path: the file or folder to write.
        data: for ``files`` and rows of ``hf``: the data that the selection was made of. Default: none.
        link: for ``files`` of a folder: ``copy`` the originals, or make ``hard`` or ``symbolic`` links to them.
        license: for ``hf`` without ``data``: a license identifier of the Hub for the dataset card. Default: none.
        bits: for ``c-header`` and ``npz-integers``: bits of an input value, 8 (the default) or 4.
        force: replace a file that is there, whatever it is, but never the set's own. A folder is never replaced.
        **reading: options of `potstill.load_data` that the data were read with (``size``, ``split_seed``, ``skip_bad``,
            …).

    Returns:
        The path.

    Raises:
        PotstillError: there is no such form, the set is no selection, the data are others than it was made of, or the
            path is taken.

    Examples:
        >>> small = potstill.distill("digits", "herding", ipc=1, progress=None)
        >>> path = potstill.export(small, "npz", "small.npz")
        >>> np.load(path)["x"].shape
        (10, 1, 8, 8)
    """
    path = Path(path)
    distilled = distilled if isinstance(distilled, Distilled) else dataset_file.load(distilled)
    if bits is not None and to in ("indices", *WITH_DATA):
        raise PotstillError(f"bits are of c-header and npz-integers, but this export is to {to}; leave them out")
    if to == "indices":
        dataset_file.write_indices(distilled, path, force=force)
        return path
    if distilled.labeller is not None:
        if to == "files" or data is not None:
            raise PotstillError(
                f"an export to {to} takes samples from the data, but this set has a network that labels views of them; "
                "export the views, to npz, parquet or hf without data"
            )
        distilled = views_as_set(distilled)
    if to == "hf" and data is None:
        check_not_input(path, [distilled], folder=True)
        return to_hf(distilled, path, license=license)
    if to not in WITH_DATA:
        if to not in EXPORT_FORMATS:
            raise unknown_name("export format", to, (*EXPORT_FORMATS, "indices", *WITH_DATA))
        return write_export(distilled, to, path, bits=bits, force=force)
    if data is None:
        raise PotstillError(f"an export to {to} takes the samples from the data that they were chosen from; give data")
    require_selection(distilled, f"an export to {to}")
    splits = load_for(distilled.metadata, data, **reading)
    return export_selection(
        distilled, to, path, data, splits.train, link=link, label=splits.reading.get("label"),
        skip_bad=splits.reading.get("skip_bad", False),
    )  # fmt: skip


def load_for(card: Mapping[str, Any], data: Any, **reading: Any) -> Splits:
    """The data read as they were read for the selection of this card: streamed, or into memory."""
    given = {name: value for name, value in reading.items() if value is not None}
    if card["input"]["kind"] == "image" and card["task"]["name"] == "classification":  # no other data are streamed
        given = {"stream": str(card["source"].get("hash")).startswith("encoded:"), **given}
    return load_as_made(card, data, **given)


def materialize(path: str | Path, data: Any, **reading: Any) -> Distilled:
    """Put a file of indices together with its data: the set has the same bits as before its export to ``indices``.

    Args:
        path: a file that ``potstill.export(small, "indices", path)`` wrote.
        data: the data that the selection was made of: anything `potstill.load_data` takes or returns.
        **reading: options of `potstill.load_data`, as they were. Default: those in the file.

    Returns:
        The distilled set.

    Raises:
        PotstillError: the file holds no indices, or the data are others; both hashes are shown.

    Examples:
        >>> small = potstill.distill("digits", "herding", ipc=1, progress=None)
        >>> path = potstill.export(small, "indices", "selection.safetensors")
        >>> again = potstill.materialize(path, "digits")
        >>> bool((again.inputs == small.inputs).all())
        True
    """
    card = read_indices(Path(path))[1]
    return dataset_file.materialize(Path(path), as_splits(load_for(card, data, **reading), pick_device("cpu")).train)


def export_selection(
    distilled: Distilled, to: str, path: str | Path, data: Any, train: Source, *, link: Link = "copy",
    label: str | None = None, skip_bad: bool = False,
) -> Path:  # fmt: skip
    """``files`` or ``hf`` of a selection whose source has been read. Arguments and errors as for `export`."""
    if link not in get_args(Link):
        raise unknown_name("link", link, get_args(Link))
    index = require_selection(distilled, f"an export to {to}")
    kind = distilled.input.kind
    if to == "files" and kind not in ("image", "sound"):
        raise PotstillError(
            f"files of their own are pictures and sounds, but this set holds {get_kind(kind).noun}; {_OTHERS}"
        )
    if to == "hf" and kind not in ("image", "sound", "table", "text"):
        raise PotstillError(f"rows of the data are rows of tables, but this set holds {get_kind(kind).noun}; {_OTHERS}")
    check_source(distilled.metadata, train)
    known = getattr(train, "places", None)
    if known is None:
        raise PotstillError(f"{train.name}: where its samples were read from is not known; {_OTHERS}")
    path = Path(path)
    assert isinstance(known, Tensor)
    places = known[index]
    check_not_input(path, [distilled, data], folder=True)
    if to == "files":
        names = getattr(train, "names", ())
        sample_names = [names[i] for i in index.tolist()] if names else None
        _files(distilled, path, data, places, link, label, skip_bad, sample_names)
    else:
        _rows(distilled, path, data, places, label, skip_bad)
    return path


def _index_of(data: Any, label: str | None, skip_bad: bool, kind: str = "image") -> Index:
    if kind == "sound":
        return index_folder(Path(data).expanduser(), suffixes=SOUND_SUFFIXES, noun="sounds")
    found = build_index(open_hub(data) or data, label, skip_bad)
    if found is None:
        what = data if isinstance(data, str | Path) else "the data"
        raise PotstillError(f"{what}: holds no encoded pictures to take; {_OTHERS}")
    return found


def _ending(content: bytes) -> str:
    """The suffix that a picture's bytes deserve; they were decoded before, so the format is known."""
    with Image.open(io.BytesIO(content)) as picture:
        return {"JPEG": "jpg", "TIFF": "tif"}.get(picture.format or "", (picture.format or "bin").lower())


def _files(
    distilled: Distilled, path: Path, data: Any, places: Tensor, link: Link, label: str | None, skip_bad: bool,
    sample_names: list[str] | None,
) -> None:  # fmt: skip
    index = _index_of(data, label, skip_bad, distilled.input.kind)
    _check_names(index.reader, places, data, sample_names)
    reader, classes = index.reader, distilled.classes
    if link != "copy" and not isinstance(reader, FileReader):
        raise PotstillError(f"{data}: its pictures are not files of their own, so none can be linked; copy them")
    names = classes if isinstance(reader, FileReader) else class_folder_names(classes)
    y = index.labels[places].tolist()
    result: dict[int, str] = {}

    def fill(folder: Path) -> None:
        for place, c in zip(places.tolist(), y, strict=True):
            if place in result:
                continue
            if isinstance(reader, FileReader):
                source = Path(reader.where(place))
                inner = _within_class(source.relative_to(Path(data).expanduser()), names[c])
                target = Path(folder, names[c], inner)
                target.parent.mkdir(parents=True, exist_ok=True)
                _linked(source, target, link)
            else:
                content = reader.read([place])[0]
                target = Path(folder, names[c], f"{place:08}.{_ending(content)}")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
            result[place] = target.relative_to(folder).as_posix()
        metadata: dict[str, Any] = {
            "files": [result[p] for p in places.tolist()],
            "index": distilled.index.tolist() if distilled.index is not None else [],
            "labels": distilled.labels.tolist(),
            "classes": list(classes),
            "card": distilled.to_dict(),
        }
        if distilled.weights is not None:
            metadata["weights"] = distilled.weights.tolist()
        (folder / "selection.json").write_text(json.dumps(metadata), encoding="ascii")

    write_folder(path, fill)


def _check_names(reader: Reader, places: Tensor, data: Any, sample_names: list[str] | None) -> None:
    """Check that the files at ``places`` are those of the samples: a sample may be a folder of frames.

    Raises:
        PotstillError: one is another file.
    """
    if sample_names is None or not isinstance(reader, FileReader):
        return
    root = Path(data).expanduser()
    for place, name in zip(places.tolist(), sample_names, strict=True):
        known = place < len(reader)
        found = Path(reader.where(place)).relative_to(root).as_posix() if known else "no file"
        if found != name:
            raise PotstillError(f"{data}: a sample of this set is {name}, which is not one picture file; {_OTHERS}")


def _within_class(relative: Path, name: str) -> Path:
    """A picture's path below its class folder: CLASS/… or train/CLASS/…."""
    parts = relative.parts
    return Path(*parts[1:]) if parts[0] == name else Path(*parts[2:])


def _linked(source: Path, target: Path, link: Link) -> None:
    if link == "copy":
        shutil.copy2(source, target)
    elif link == "symbolic":
        target.symlink_to(os.path.abspath(source))
    else:
        try:
            os.link(os.path.realpath(source), target)
        except OSError as error:
            raise PotstillError(
                f"{source}: cannot be hard-linked to {target.parent} ({error.strerror}); use "
                '`link="copy"` or `link="symbolic"`'
            ) from None


def _rows(distilled: Distilled, path: Path, data: Any, places: Tensor, label: str | None, skip_bad: bool) -> None:
    if distilled.input.kind == "sound":
        raise PotstillError(f'{data}: sounds are files; `to="files"` takes those that were chosen')
    datasets = import_optional("datasets", "export to hf", "hub")
    chosen = _selected_source(datasets, data, places.tolist(), label, skip_bad)
    further = {
        "soft_label": distilled.labels if distilled.labels.is_floating_point() else None,
        "weight": distilled.weights,
    }
    for name, values in further.items():
        if values is None:
            continue
        if name in chosen.column_names:
            raise PotstillError(f'the data have a column {name} already; rename it, or export with `to="parquet"`')
        chosen = chosen.add_column(name, values.tolist())

    def fill(folder: Path) -> None:
        with _quiet(datasets):
            chosen.save_to_disk(str(folder))

    write_folder(path, fill)


@contextlib.contextmanager
def _quiet(datasets: Any) -> Iterator[None]:
    """Show no progress bars of Hugging Face's."""
    is_shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if is_shown:
            datasets.enable_progress_bars()


def _selected_source(datasets: Any, data: Any, places: list[int], label: str | None, skip_bad: bool) -> Any:
    """The chosen rows as a ``datasets.Dataset``, with all the columns that they have in the data."""
    hub: HubDataset | None = open_hub(data)
    if hub is not None:
        return select_splits(hub.data, hub.name)[0].select(places)
    suffix = Path(data).suffix.lower() if isinstance(data, str | Path) else ""
    tables: dict[str, Callable[[Path], Any]] = {
        ".csv": read_csv, ".tsv": read_csv, ".parquet": read_parquet, ".pq": read_parquet,
    }  # fmt: skip
    if suffix in tables and Path(data).expanduser().is_file():
        return datasets.Dataset(tables[suffix](Path(data).expanduser()).take(places))
    index = _index_of(data, label, skip_bad)
    order = sorted(set(places))
    content = dict(zip(order, index.reader.read(order), strict=True))
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(index.classes))})
    rows = {
        "image": [{"bytes": content[p], "path": Path(index.reader.where(p)).name} for p in places],
        "label": index.labels[torch.tensor(places)].tolist(),
    }
    return datasets.Dataset.from_dict(rows, features=features)
