"""A distilled set in formats that other programs read: pictures, numpy, parquet, WebDataset."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from potstill.errors import unknown
from potstill.storage.artefact import Distilled
from potstill.storage.files import write_atomic
from potstill.storage.folders import write_folder
from potstill.storage.pictures import as_pictures, can_be_pictures, png_bytes, write_png

__all__ = ["FORMATS", "ExportFormat", "export"]

ExportFormat = Literal["png", "npz", "parquet", "webdataset"]
FORMATS: tuple[str, ...] = get_args(ExportFormat)
SHARD_SAMPLES, SHARD_BYTES = 10_000, 256 * 2**20
"""A tar file holds at most so many samples, and about so many bytes of them."""


def export(distilled: Distilled, to: str, path: str | Path) -> Path:
    """Write a set in another format. Numbers and soft labels are kept exactly; pictures are 8-bit views of them.

    - ``png``: a folder ``CLASS/0000.png`` with ``sheet.png`` and ``labels.json`` (class names, rows, weights, card); or
      the sheet alone, at a path that ends in .png. Values are clamped to [0,1] and rounded to 8 bits: the one format
      with a loss.
    - ``npz``: ``x`` float32 in data units, ``y``, ``classes``, ``mean``, ``std``, ``card``; where there are any also
      ``index``, ``weights``, ``whitening_mean``, ``whitening_matrix`` and ``whitening_inverse``.
    - ``parquet``: columns ``input`` (float32 list; its shape is in the schema's metadata), ``label``, ``soft_label``
      where labels are rows, ``weight`` where samples have one, and for pictures ``image`` (PNG as Hugging Face stores
      it). A table gets one column for
      each value in place of ``input``. ``label`` is a number; Hugging Face's metadata names the classes.
    - ``webdataset``: a folder of shards ``train-000000.tar``, or one file at a path that ends in .tar, with ``.npy``
      (float32), ``.cls``, ``.soft.json`` where labels are rows, ``.weight.json`` where samples have one, and for
      pictures ``.png``.

    Weights are those of the method, as `Distilled.weights`.

    A file is replaced; a folder with something in it never is.

    Raises:
        PotstillError: no such format, pictures asked of a table, or a path that is taken or cannot be written.
    """
    writers: dict[str, Callable[[Distilled, Path], None]] = {
        "png": write_png, "npz": _npz, "parquet": _parquet, "webdataset": _webdataset,
    }  # fmt: skip
    if to not in writers:
        raise unknown("export format", to, writers)
    path = Path(path)
    writers[to](distilled, path)
    return path


def _npz(distilled: Distilled, path: Path) -> None:
    normalization = distilled.normalization
    arrays = {
        "x": distilled.inputs.numpy(),
        "y": distilled.labels.numpy(),
        "classes": np.array(distilled.classes),
        "mean": normalization.mean.numpy(),
        "std": normalization.std.numpy(),
        "card": np.array(json.dumps(distilled.card)),
    }
    if distilled.index is not None:
        arrays["index"] = distilled.index.numpy()
    if distilled.weights is not None:
        arrays["weights"] = distilled.weights.numpy()
    if (w := normalization.whitening) is not None:
        arrays |= {f"whitening_{n}": getattr(w, n).numpy() for n in ("mean", "matrix", "inverse")}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_atomic(path, buffer.getvalue())


def _column_names(distilled: Distilled, count: int) -> list[str]:
    """A table's column names where the card has them, else x0, x1, …; never those that the labels take."""
    said = distilled.card["input"].get("columns")
    known = isinstance(said, list) and len(said) == len(set(map(str, said))) == count
    names = [str(n) for n in said] if known else [f"x{n}" for n in range(count)]
    while taken := {"label", "soft_label", "weight"} & set(names):
        names = [f"{n}_value" if n in taken else n for n in names]
        names = names if len(set(names)) == count else [f"x{n}" for n in range(count)]
    return names


def _parquet(distilled: Distilled, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    flat = distilled.inputs.flatten(1).numpy()
    floats = {"dtype": "float32", "_type": "Value"}
    columns: dict[str, object] = {}
    features: dict[str, object] = {}
    table = distilled.input.kind != "image" and distilled.inputs.ndim == 2
    if table:
        for n, name in enumerate(_column_names(distilled, flat.shape[1])):
            columns[name], features[name] = pa.array(flat[:, n]), floats
    else:
        columns["input"] = pa.array(list(flat), type=pa.list_(pa.float32()))
        features["input"] = {"feature": floats, "_type": "Sequence"}
    if can_be_pictures(distilled):
        encoded = [{"bytes": png_bytes(p), "path": None} for p in as_pictures(distilled.inputs)]
        columns["image"] = pa.array(encoded, type=pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
        features["image"] = {"_type": "Image"}
    columns["label"] = pa.array(distilled.hard_labels.numpy())
    features["label"] = {"names": list(distilled.classes), "_type": "ClassLabel"}
    if distilled.labels.ndim == 2:
        columns["soft_label"] = pa.array(list(distilled.labels.numpy()), type=pa.list_(pa.float32()))
        features["soft_label"] = {"feature": floats, "_type": "Sequence"}
    if distilled.weights is not None:
        columns["weight"], features["weight"] = pa.array(distilled.weights.numpy()), floats
    metadata = {
        "huggingface": json.dumps({"info": {"features": features}}),
        "potstill": json.dumps({"shape": list(distilled.inputs.shape[1:]), "card": distilled.card}),
    }
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), buffer)
    write_atomic(path, buffer.getvalue())


def _webdataset(distilled: Distilled, path: Path) -> None:
    n = len(distilled)
    if path.suffix == ".tar":
        buffer = io.BytesIO()
        _tar(distilled, range(n), buffer)
        write_atomic(path, buffer.getvalue())
        return
    each = max(1, min(SHARD_SAMPLES, SHARD_BYTES // max(1, 4 * distilled.inputs[0].numel())))

    def fill(folder: Path) -> None:
        said = {"classes": list(distilled.classes), "card": distilled.card}
        (folder / "classes.json").write_text(json.dumps(said), encoding="ascii")
        for shard, first in enumerate(range(0, n, each)):
            with (folder / f"train-{shard:06}.tar").open("wb") as file:
                _tar(distilled, range(first, min(first + each, n)), file)

    write_folder(path, fill)


def _tar(distilled: Distilled, samples: range, out: io.BufferedIOBase) -> None:
    hard = distilled.hard_labels
    with tarfile.open(fileobj=out, mode="w") as tar:
        for i in samples:
            array = io.BytesIO()
            np.save(array, distilled.inputs[i].numpy(), allow_pickle=False)
            files = {"cls": str(int(hard[i])).encode(), "npy": array.getvalue()}
            if distilled.labels.ndim == 2:
                files["soft.json"] = json.dumps(distilled.labels[i].tolist()).encode()
            if distilled.weights is not None:
                files["weight.json"] = json.dumps(float(distilled.weights[i])).encode()
            if can_be_pictures(distilled):
                files["png"] = png_bytes(as_pictures(distilled.inputs[i : i + 1])[0])
            for ending, content in sorted(files.items()):
                info = tarfile.TarInfo(f"{i:08}.{ending}")  # modification time 0: equal sets, equal bytes
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
