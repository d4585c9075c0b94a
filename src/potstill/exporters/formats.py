"""A distilled set in formats of other programs: images, NumPy, Parquet, CSV, WebDataset, C."""

import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from torch import Tensor

from potstill._util.outputs import check_not_input, check_output
from potstill.core import InputSpec
from potstill.core.nested import OFFSETS, VALUES, named_tensors, sample
from potstill.dataset_file.dataset import Distilled
from potstill.dataset_file.files import write_atomic
from potstill.dataset_file.folders import write_folder
from potstill.errors import PotstillError, unknown_name
from potstill.exporters.boxes import write_coco, write_yolo
from potstill.exporters.graphslim import write_graphslim
from potstill.exporters.images import encode_png, has_viewable_images, require_images, to_uint8, write_png
from potstill.exporters.integers import HEADER_MARK, write_header, write_integer_arrays
from potstill.exporters.rating_rows import rating_columns
from potstill.exporters.series_rows import series_columns
from potstill.exporters.sounds import write_wav
from potstill.exporters.text_rows import has_text_rows, text_columns, write_json_lines
from potstill.kinds import get_kind
from potstill.tasks import list_targets, split_targets, target_mask

__all__ = ["EXPORT_FORMATS", "LABEL_COLUMNS", "ExportFormat", "export", "to_arrow"]

ExportFormat = Literal[
    "png", "coco", "yolo", "npz", "parquet", "csv", "jsonl", "webdataset", "wav", "graphslim", "c-header",
    "npz-integers",
]  # fmt: skip
EXPORT_FORMATS: tuple[str, ...] = get_args(ExportFormat)
SHARD_SAMPLES, SHARD_BYTES = 10_000, 256 * 2**20
"""Maximum samples of a tar file, and about its maximum bytes."""


def export(
    distilled: Distilled, to: str, path: str | Path, *, bits: int | None = None, force: bool = False
) -> Path:  # fmt: skip
    """Write a set in another format, and return its path. Values and soft labels are exact; images are 8-bit copies.

    - ``png``: a folder ``CLASS/0000.png`` with ``sheet.png`` and ``labels.json`` (class names, rows, weights, card), of
      pictures with masks ``images/``, ``masks/`` and ``classes.txt``; or the sheet alone, at a path that ends in .png.
      Values are clamped to [0,1] and rounded to 8 bits: the one format with a loss.
    - ``npz``: ``x`` float32 in data units, ``y``, ``classes``, ``mean``, ``std``, ``card``; where there are any also
      ``index``, ``weights``, ``whitening_mean``, ``whitening_matrix`` and ``whitening_inverse``.
    - ``parquet``: columns ``input`` (float32 list; its shape is in the schema's metadata), ``label``, ``soft_label``
      where labels are rows, ``weight`` where samples have one, and for pictures ``image`` (PNG as Hugging Face stores
      it). ``label`` is a number; Hugging Face's metadata names the classes. Of a table: the columns of its source, with
      their categories, dates, class names and types, so that it is read as the source was (`source_table`).
    - ``csv``: of a table, the same columns as text; soft labels and scores become a column for each class.
      Of texts: ``text``, ``label``, and ``label=CLASS`` for each class of soft labels. Of one series: a row for each
      point in time, ``time`` and the variables. Of users: a row for each user and item, ``user``, ``item``, ``title``.
    - ``jsonl``: of texts, a JSON object on each line: ``text``, ``label``, ``probabilities`` of soft labels.
    - ``webdataset``: a folder of shards ``train-000000.tar``, or one file at a path that ends in .tar, with ``.npy``
      (float32), ``.cls``, ``.soft.json`` where labels are rows, ``.weight.json`` where samples have one, and for
      pictures ``.png``.
    - ``wav``: of sounds, a folder ``CLASS/0000.wav`` with ``labels.json``: what is heard is made of the spectrograms.
    - ``graphslim``: of nodes, a folder of ``feat_``, ``adj_`` and ``label_DATASET_RATE_SEED.pt``, for GraphSlim.
    - ``coco``: of pictures with boxes, a folder of PNG files with ``annotations.json``.
    - ``yolo``: of pictures with boxes, a folder of PNG files, a text file of boxes for each, and ``data.yaml``.
    - ``c-header``: a C99 header with inputs as integers of ``bits`` and their scales, labels as class numbers or rows
      of 8 bits, and class names, to train on without Python (`potstill.uses.edge` has a trainer in C).
    - ``npz-integers``: NumPy arrays of the same integers.

    Inputs with names: ``npz`` has ``x/NAME``, ``mean/NAME`` and ``std/NAME`` (a text ``x/NAME/values`` and
    ``x/NAME/offsets``); ``parquet`` the columns of each part, words as lists; ``webdataset`` ``.NAME.npy``; ``png`` the
    part that is a picture. Targets that are no classes are ``y``, a column ``target``, ``.target.json``. Texts of
    samples are ``texts``, a column ``text``, ``.txt``, and ``metadata.jsonl`` beside the pictures.

    Weights are those of the method, as `Distilled.weights`. Labels that are scores are exported as the probabilities
    that cross-entropy reads of them, and as they are beside these: ``scores`` in ``npz``, ``labels.json`` and a column,
    ``.scores.json``. The card says so.

    Args:
        bits: of an input value in ``c-header`` and ``npz-integers``: 8 (the default) or 4.
        force: replace a file that is there; without it one is replaced that says it is such an export (``npz``,
            ``parquet``, ``c-header``, ``npz-integers``). A folder with something in it never is.

    Raises:
        PotstillError: no such format, pictures asked of a table, bits for a format without integers, or a path that is
            taken or cannot be written.
    """
    as_integers = {"c-header": write_header, "npz-integers": write_integer_arrays}
    if bits is not None and to not in as_integers:
        raise PotstillError(f"bits are of {' and '.join(as_integers)}, but this export is to {to}; leave them out")
    writers: dict[str, Callable[[Distilled, Path], object]] = {
        "png": write_png, "coco": write_coco, "yolo": write_yolo, "npz": _npz, "parquet": _parquet,
        "csv": _csv, "jsonl": write_json_lines, "webdataset": _webdataset, "wav": write_wav,
        "graphslim": write_graphslim,
        **{name: partial(write, bits=bits or 8) for name, write in as_integers.items()},
    }  # fmt: skip
    if to not in writers:
        raise unknown_name("export format", to, writers)
    path = Path(path)
    if to in _FILES or path.suffix.lower() in (".png", ".tar"):
        check_output(path, reads=[distilled], force=force, found=_FILES.get(to))
    else:
        check_not_input(path, [distilled], folder=True)
    writers[to](distilled, path)
    return path


def _other_npz(path: Path) -> str:
    """Return what is there instead of an export."""
    try:
        with zipfile.ZipFile(path) as held:
            if "card.npy" in held.namelist():
                return ""
    except (OSError, zipfile.BadZipFile, NotImplementedError):
        pass
    return _OTHER


def _other_parquet(path: Path) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        said = json.loads((pq.read_schema(path).metadata or {}).get(b"potstill", b"null"))
    except (pa.ArrowException, OSError, ValueError):
        said = None
    return "" if isinstance(said, dict) and "card" in said else _OTHER


def _other_header(path: Path) -> str:
    try:
        with path.open("rb") as held:
            return "" if HEADER_MARK.encode() in held.readline(200) else _OTHER
    except OSError:
        return _OTHER


_OTHER = "is there already, and is no exported set"
_FILES = {"npz": _other_npz, "parquet": _other_parquet, "c-header": _other_header, "npz-integers": _other_npz}
"""Formats of one file, with the check of a file that is there."""


def _npz(distilled: Distilled, path: Path) -> None:
    normalization = distilled.normalization
    arrays = {f"x/{n}" if n else "x": t.numpy() for n, t in named_tensors(distilled.inputs).items()}
    arrays |= {
        **_target_arrays(distilled),
        "classes": np.array(distilled.classes, dtype=None if distilled.classes else str),
        "mean": normalization.mean.numpy(),
        "std": normalization.std.numpy(),
        "card": np.array(json.dumps(distilled.to_dict())),
    }
    if distilled.scores is not None:
        arrays["scores"] = distilled.scores.numpy()
    for name, part in normalization.parts.items():
        arrays |= {f"mean/{name}": part.mean.numpy(), f"std/{name}": part.std.numpy()}
    if distilled.captions:
        arrays["texts"] = np.array(distilled.captions)
    if distilled.index is not None:
        arrays["index"] = distilled.index.numpy()
    if distilled.weights is not None:
        arrays["weights"] = distilled.weights.numpy()
    if (w := normalization.whitening) is not None:
        arrays |= {f"whitening_{n}": getattr(w, n).numpy() for n in ("mean", "matrix", "inverse")}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_atomic(path, buffer.getvalue())


LABEL_COLUMNS = {"label", "soft_label", "scores", "weight", "text", "target"}
"""Columns that are no values of inputs."""


def _unique_column_names(names_in_metadata: tuple[str, ...], count: int) -> list[str]:
    """Return a table's column names, or x0, x1, …; never those of labels."""
    known = len(names_in_metadata) == len(set(names_in_metadata)) == count
    names = list(names_in_metadata) if known else [f"x{n}" for n in range(count)]
    while taken := LABEL_COLUMNS & set(names):
        names = [f"{n}_value" if n in taken else n for n in names]
        names = names if len(set(names)) == count else [f"x{n}" for n in range(count)]
    return names


_Columns: TypeAlias = dict[str, tuple[Any, Any]]
"""Arrow arrays with their Hugging Face features, by name."""


def _lists(rows: Iterable[Any], kind: str) -> tuple[Any, Any]:
    import pyarrow as pa

    value = {"dtype": kind, "_type": "Value"}
    return pa.array(list(rows), type=pa.list_(getattr(pa, kind)())), {"feature": value, "_type": "Sequence"}


def _array(x: np.ndarray, kind: str) -> tuple[Any, Any]:
    """Return arrays (n, …) of two to five axes as nested lists with a Hugging Face array feature."""
    import pyarrow as pa

    made = pa.array(x.reshape(-1))
    for size in x.shape[:0:-1]:
        made = pa.ListArray.from_arrays(pa.array(np.arange(0, len(made) + 1, size, dtype=np.int32)), made)
    return made, {"shape": list(x.shape[1:]), "dtype": kind, "_type": f"Array{x.ndim - 1}D"}


def _input_columns(name: str, spec: InputSpec, x: Tensor, offsets: Tensor | None, shaped: bool) -> _Columns:
    """Return the columns of an input or a part: one for each value of a table, else one."""
    import pyarrow as pa

    kind = "float32" if x.is_floating_point() else "int64"
    if offsets is not None:
        return {name: _lists(np.split(x.numpy(), offsets[1:].numpy()), kind)}
    if shaped and 3 <= x.ndim <= 6:
        return {name: _array(x.numpy(), kind)}
    if get_kind(spec).augmentable or x.ndim != 2:
        return {name: _lists(x.flatten(1).numpy(), kind)}
    named = _unique_column_names(spec.columns, x.shape[1])
    value = {"dtype": kind, "_type": "Value"}
    return {column: (pa.array(x[:, n].numpy()), value) for n, column in enumerate(named)}


def _targets(distilled: Distilled) -> np.ndarray:
    """Return labels or targets; with the task's offset added again, in float64, where it has one."""
    y: np.ndarray = distilled.labels.numpy()
    offset = (distilled.metadata.get("task") or {}).get("offset")
    if not offset:
        return y
    return y.astype(np.float64) + np.repeat(np.array(offset, dtype=np.float64), y.shape[1] // len(offset))


def _target_arrays(distilled: Distilled) -> dict[str, np.ndarray]:
    if not distilled.has_ragged_targets:
        return {"y": _targets(distilled)}
    return {f"y{n}": t.numpy() for n, t in zip((VALUES, OFFSETS), split_targets(distilled.labels), strict=True)}


def _target_columns(distilled: Distilled) -> _Columns:
    import pyarrow as pa

    labels, hard = distilled.labels, pa.array(distilled.hard_labels.numpy())
    if distilled.has_ragged_targets:
        return {"target": _lists((t.flatten().numpy() for t in list_targets(labels)), str(labels.numpy().dtype))}
    if not distilled.is_classification:
        y = _targets(distilled)
        kind = str(y.dtype)
        if y[:1].size > 1:
            return {"target": _lists(y.reshape(len(y), -1), kind)}
        return {"target": (pa.array(y.reshape(-1)), {"dtype": kind, "_type": "Value"})}
    columns: _Columns = {"label": (hard, {"names": list(distilled.classes), "_type": "ClassLabel"})}
    columns |= {"soft_label": _lists(labels.numpy(), "float32")} if distilled.has_soft_labels else {}
    return columns | ({} if distilled.scores is None else {"scores": _lists(distilled.scores.numpy(), "float32")})


def to_arrow(distilled: Distilled, *, shaped: bool = False) -> Any:
    """Return the set as an Arrow table, a row for each input, with Hugging Face features in its metadata.

    Args:
        shaped: keep inputs of two to five axes as arrays, not flat lists.
    """
    import pyarrow as pa

    spec, columns = distilled.input, _Columns()
    for name, part in spec.parts or (("input", spec),):
        held = named_tensors(distilled.inputs)
        x = held.get(name + VALUES, held.get(name)) if spec.parts else distilled.inputs
        assert x is not None
        made = _input_columns(name, part, x, held.get(name + OFFSETS), shaped)
        taken = {*columns, *LABEL_COLUMNS, "image"} if spec.parts else set()
        columns |= {f"{n}_values" if n in taken else n: c for n, c in made.items()}
    if has_viewable_images(distilled):
        encoded = [{"bytes": encode_png(p), "path": None} for p in to_uint8(require_images(distilled))]
        struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        columns["image"] = pa.array(encoded, type=struct), {"_type": "Image"}
    columns |= _target_columns(distilled)
    if distilled.captions:
        columns["text"] = pa.array(distilled.captions, pa.string()), {"dtype": "string", "_type": "Value"}
    if distilled.weights is not None:
        columns["weight"] = pa.array(distilled.weights.numpy()), {"dtype": "float32", "_type": "Value"}
    features = {name: feature for name, (_, feature) in columns.items()}
    metadata = {
        "huggingface": json.dumps({"info": {"features": features}}),
        "potstill": json.dumps({"shape": list(distilled.input.shape), "card": distilled.to_dict()}),
    }
    table = pa.table({name: column for name, (column, _) in columns.items()})
    return table.replace_schema_metadata(metadata)


def _parquet(distilled: Distilled, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from potstill.exporters.table_rows import source_table  # which imports Arrow

    rows = distilled.input.kind == "table" and not distilled.input.parts
    table = source_table(distilled) if rows else to_arrow(distilled)
    said = table.schema.metadata
    for at, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type) and not pa.types.is_string(field.type.value_type):
            # Parquet keeps categories of texts alone: others would come back as numbers to count with.
            table = table.set_column(at, field.name, table[at].cast(field.type.value_type).cast(pa.string()))
            table = table.set_column(at, field.name, table[at].dictionary_encode())
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(said), buffer)
    write_atomic(path, buffer.getvalue())


def _csv(distilled: Distilled, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.csv

    from potstill.exporters.table_rows import source_table

    columns = text_columns(distilled) if has_text_rows(distilled) else rating_columns(distilled)
    columns = series_columns(distilled) if columns is None else columns
    if columns is not None:
        buffer = io.BytesIO()
        pyarrow.csv.write_csv(pa.table(columns), buffer)
        write_atomic(path, buffer.getvalue())
        return
    plain: dict[str, Any] = {}
    for name, values in zip((table := source_table(distilled)).column_names, table.columns, strict=True):
        if pa.types.is_list(values.type):
            rows = np.asarray(values.to_pylist())
            plain |= {f"{name}={c}": pa.array(rows[:, n]) for n, c in enumerate(distilled.classes)}
        else:
            plain[name] = values.cast(values.type.value_type) if pa.types.is_dictionary(values.type) else values
    for name, values in plain.items():
        if broken := [v for v in values.to_pylist() if isinstance(v, str) and ("\n" in v or "\r" in v)]:
            raise PotstillError(
                f"column {name!r} holds a line break in {broken[0]!r:.80}, which CSV files are not read with; export "
                'with `to="parquet"`'
            )
    buffer = io.BytesIO()
    pyarrow.csv.write_csv(pa.table(plain), buffer)
    write_atomic(path, buffer.getvalue())


def _webdataset(distilled: Distilled, path: Path) -> None:
    n = len(distilled)
    if path.suffix == ".tar":
        buffer = io.BytesIO()
        _tar(distilled, range(n), buffer)
        write_atomic(path, buffer.getvalue())
        return
    each = max(1, min(SHARD_SAMPLES, SHARD_BYTES // max(1, 4 * distilled.input.num_values)))

    def fill(folder: Path) -> None:
        said = {"classes": list(distilled.classes), "card": distilled.to_dict()}
        (folder / "classes.json").write_text(json.dumps(said), encoding="ascii")
        for shard, first in enumerate(range(0, n, each)):
            with (folder / f"train-{shard:06}.tar").open("wb") as file:
                _tar(distilled, range(first, min(first + each, n)), file)

    write_folder(path, fill)


def _tar(distilled: Distilled, samples: range, out: io.BufferedIOBase) -> None:
    hard = distilled.hard_labels
    with tarfile.open(fileobj=out, mode="w") as tar:
        for i in samples:
            held = {name: _npy(x) for name, x in named_tensors(sample(distilled.inputs, i)).items()}
            files = {f"{name}.npy" if name else "npy": content for name, content in held.items()}
            if distilled.is_classification:
                files["cls"] = str(int(hard[i])).encode()
            if distilled.has_soft_labels or not distilled.is_classification:
                named = "soft.json" if distilled.has_soft_labels else "target.json"
                own = distilled.labels[i]
                own = own[target_mask(own[None])[0]] if distilled.has_ragged_targets else own
                files[named] = json.dumps(own.tolist()).encode()
            if distilled.scores is not None:
                files["scores.json"] = json.dumps(distilled.scores[i].tolist()).encode()
            if distilled.captions:
                files["txt"] = distilled.captions[i].encode("utf-8", "replace")
            if distilled.weights is not None:
                files["weight.json"] = json.dumps(float(distilled.weights[i])).encode()
            if has_viewable_images(distilled):
                files["png"] = encode_png(to_uint8(require_images(distilled)[i : i + 1])[0])
            for ending, content in sorted(files.items()):
                info = tarfile.TarInfo(f"{i:08}.{ending}")  # modification time 0: equal sets, equal bytes
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def _npy(x: Tensor) -> bytes:
    array = io.BytesIO()
    np.save(array, x.numpy(), allow_pickle=False)
    return array.getvalue()
