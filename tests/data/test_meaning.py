"""The same data in another type, order of files, container or colour mode are the same source, or it is said.

One set of bundled digits, one of photographs' pieces, one table and one series are written in every form that is read.
Each form must give the same samples in the same order, with the same identity (``content_hash``) and the same made set;
where it cannot, there must be a note or an error. Beside the fixed forms, hypothesis puts them together at random.
"""

import hashlib
import io
import itertools
import tarfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images, load_wine

from potstill import load_data
from potstill.api.distill import distill
from potstill.errors import PotstillError

DIGITS = load_digits()
CHOSEN = np.sort(np.concatenate([np.flatnonzero(DIGITS.target == c)[:15] for c in range(3)]))
CHOSEN = CHOSEN[np.argsort(DIGITS.target[CHOSEN], kind="stable")]
GREY = np.rint(DIGITS.images[CHOSEN] * 255 / 16).astype(np.uint8)
LABELS = DIGITS.target[CHOSEN]
COLOUR = np.stack([
    photo[at // 6 * 60 :, at % 6 * 90 :][:10, :8] for photo in load_sample_images().images for at in range(18)
])  # fmt: skip
PHOTO = np.repeat([0, 1], 18)
SETS = {"grey": (GREY, LABELS), "colour": (COLOUR, PHOTO)}
LOSSLESS = {"PNG": {}, "BMP": {}, "TIFF": {}, "WEBP": {"lossless": True}}


def quiet(notes):
    """Notes without those that every form has."""
    return [n for n in notes if "no test split found" not in n and "mirror" not in n and "streamed" not in n]


def identity(splits):
    """Digests of what is learned from, of what it is tested on, of the normalization; the classes."""
    found = []
    for part in (splits.train, splits.test):
        digest = hashlib.sha256(str(tuple(part.raw(torch.arange(len(part))).shape)).encode())
        digest.update(part.raw(torch.arange(len(part))).contiguous().numpy().tobytes())
        digest.update(part.labels.numpy().tobytes())
        found.append(digest.hexdigest())
    return [*found, splits.train.normalization.mean.tolist(), splits.train.normalization.std.tolist(),
            splits.train.classes]  # fmt: skip


def made(splits):
    small = distill(splits, method="herding", ipc=2, seed=3, network="mlp")
    return small.inputs.numpy().tobytes(), small.labels.tolist()


def encoded(x, mode="RGB", form="PNG"):
    image = Image.fromarray(x)
    file = io.BytesIO()
    (image if mode == image.mode else image.convert(mode)).save(file, form, **LOSSLESS[form])
    return file.getvalue()


def folder(root, x, y, form="PNG", mode=None, order=None, names=None):
    for i in range(len(x)) if order is None else order:
        place = root / (str(y[i]) if names is None else names[y[i]]) / f"{i:03d}.{form.lower()}"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(encoded(x[i], mode or Image.fromarray(x[i]).mode, form))
    return root


def shard(path, x, y, mode="w", order=None, turn=False, key="{:03d}".format):
    with tarfile.open(path, mode) as tar:
        for i in range(len(x)) if order is None else order:
            files = [
                (f"{key(i)}.png", encoded(x[i], Image.fromarray(x[i]).mode)),
                (f"{key(i)}.cls", str(y[i]).encode()),
            ]
            for name, content in files[:: -1 if turn else 1]:
                about = tarfile.TarInfo(name)
                about.size = len(content)
                tar.addfile(about, io.BytesIO(content))
    return str(path)


def npz(path, x, y, save=np.savez):
    save(path, x=x, y=y)
    return path


def parquet(path, table, **options):
    pq.write_table(table, path, **options)
    return path


def contents(x):
    return [encoded(one, Image.fromarray(one).mode) for one in x]


def hugging(x, y):
    import datasets

    about = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=sorted(set(map(str, y))))})
    return datasets.Dataset.from_dict({"image": [Image.fromarray(one) for one in x], "label": y.tolist()}, about)


def saved(path, x, y):
    hugging(x, y).save_to_disk(path)
    return path


class Pairs(torch.utils.data.Dataset):
    def __init__(self, x, y, read):
        self.x, self.y, self.read = x, y, read

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.read(self.x[i]), int(self.y[i])


def read_only(path, x):
    np.save(path, x)
    return np.load(path, mmap_mode="r")


CONTAINERS = {
    "folder": lambda at, x, y: folder(at / "f", x, y),
    "folder written backwards": lambda at, x, y: folder(at / "f", x, y, order=range(len(x))[::-1]),
    "folder of BMP": lambda at, x, y: folder(at / "f", x, y, form="BMP"),
    "folder of TIFF": lambda at, x, y: folder(at / "f", x, y, form="TIFF"),
    "folder of WEBP": lambda at, x, y: folder(at / "f", x, y, form="WEBP"),
    "folder in RGB": lambda at, x, y: folder(at / "f", x, y, mode="RGB"),
    "folder in RGBA": lambda at, x, y: folder(at / "f", x, y, mode="RGBA"),
    "npz": lambda at, x, y: npz(at / "x.npz", x, y),
    "npz, packed": lambda at, x, y: npz(at / "x.npz", x, y, np.savez_compressed),
    "shard": lambda at, x, y: shard(at / "x.tar", x, y),
    "shard written backwards": lambda at, x, y: shard(at / "x.tar", x, y, order=range(len(x))[::-1], turn=True),
    "shard, packed": lambda at, x, y: shard(at / "x.tar.gz", x, y, "w:gz"),
    "parquet": lambda at, x, y: parquet(at / "x.parquet", pa.table({"image": contents(x), "label": y})),
    "parquet in small groups": lambda at, x, y: parquet(
        at / "x.parquet", pa.table({"label": y.astype(str), "image": contents(x)}), row_group_size=7, compression="gzip"
    ),
    "parquet, dictionary": lambda at, x, y: parquet(
        at / "x.parquet", pa.table({"image": contents(x), "label": pa.array(y.astype(str)).dictionary_encode()})
    ),
    "Arrow in memory": lambda at, x, y: pa.table({"image": contents(x), "label": y}),
    "Hugging Face": lambda at, x, y: hugging(x, y),
    "Hugging Face on disk": lambda at, x, y: saved(at / "hf", x, y),
    "pairs of Pillow": lambda at, x, y: Pairs(x, y, Image.fromarray),
    "pairs of tensors": lambda at, x, y: Pairs(
        x, y, lambda one: torch.from_numpy(np.ascontiguousarray(np.atleast_3d(one).transpose(2, 0, 1))).float() / 255
    ),
    "mapping": lambda at, x, y: {"x": x, "y": y},
    "lists": lambda at, x, y: (x.tolist(), y.tolist()),
    "tensors": lambda at, x, y: (torch.from_numpy(x), torch.from_numpy(y)),
    "mapped": lambda at, x, y: (read_only(at / "x.npy", x), y),
}  # fmt: skip


@pytest.fixture(scope="module", params=SETS)
def plain(request):
    x, y = SETS[request.param]
    splits = load_data((x, y))
    return x, y, identity(splits), splits.train.content_hash, made(splits)


@pytest.mark.parametrize("form", CONTAINERS)
def test_containers_hold_the_same_set(plain, form, tmp_path):
    x, y, same, known, small = plain
    splits = load_data(CONTAINERS[form](tmp_path, x, y))
    assert identity(splits) == same
    assert splits.train.content_hash == known
    assert made(splits) == small
    assert [n for n in quiet(splits.notes) if "read as (n, h, w, c)" not in n] == []


@pytest.mark.parametrize("form", ["folder", "shard", "parquet", "Hugging Face on disk"])
def test_streamed_they_are_the_same_too(plain, form, tmp_path):
    x, y, same, _, small = plain
    splits = load_data(CONTAINERS[form](tmp_path, x, y), stream=True)
    assert identity(splits)[:2] == same[:2]
    np.testing.assert_allclose(identity(splits)[2:4], same[2:4], rtol=1e-6)  # by counts of values, rounded otherwise
    assert made(splits) == small


def of_type(x, kind):
    return (x / 255).astype(kind[:-1]) if kind.endswith("/") else x.astype(kind)


TYPES = ["u1", "u2", ">u2", "i2", ">i2", "i4", "u4", "i8", ">i8", "u8", "f2", "f4", "f8", ">f4", "f4/", "f8/", ">f8/"]
LAYOUTS = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "with gaps": lambda x: np.repeat(x, 3, 0)[::3],
    "backwards": lambda x: x[::-1].copy()[::-1],
    "read only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
    "channels first": lambda x: np.ascontiguousarray(x[:, None] if x.ndim == 3 else np.moveaxis(x, -1, 1)),
    "channels first, a view": lambda x: x[:, None] if x.ndim == 3 else np.moveaxis(x, -1, 1),
    "channels last": lambda x: x[..., None] if x.ndim == 3 else x,
}
NAMES = {
    "i8": lambda y: y, "u1": lambda y: y.astype("u1"), ">i4": lambda y: y.astype(">i4"), "f8": lambda y: y.astype("f8"),
    "texts": lambda y: y.astype(str), "bytes": lambda y: y.astype("S"), "column": lambda y: y[:, None],
    "one-hot": lambda y: np.eye(y.max() + 1)[y], "list": lambda y: y.tolist(),
}  # fmt: skip


@settings(max_examples=150, deadline=None, derandomize=True, database=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(st.sampled_from(TYPES), st.sampled_from(list(LAYOUTS)), st.sampled_from(list(NAMES)), st.booleans())
def test_arrays_of_every_type_and_layout_hold_the_same_set(plain, tmp_path, kind, layout, names, filed):
    x, y, same, known, _ = plain
    pair = LAYOUTS[layout](of_type(x, kind)), NAMES[names](y)
    splits = load_data(npz(tmp_path / "x.npz", *pair) if filed else pair)
    assert identity(splits) == same
    assert splits.train.content_hash == known
    assert all("read as" in n for n in quiet(splits.notes))  # what floats and axes were taken for


MODES = {
    "L": lambda x: Image.fromarray(x),
    "LA": lambda x: Image.fromarray(x).convert("LA"),
    "P": lambda x: Image.fromarray(x).convert("P"),
    "RGB": lambda x: Image.fromarray(x).convert("RGB"),
    "RGBA": lambda x: Image.fromarray(x).convert("RGBA"),
    "I;16": lambda x: Image.fromarray(x.astype(np.uint16) * 257),
    "I": lambda x: Image.fromarray(x.astype(np.int32) * 257),
    "F": lambda x: Image.fromarray((x / 255).astype(np.float32)),
}


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(st.lists(st.sampled_from(list(MODES)), min_size=len(GREY), max_size=len(GREY)))
def test_grey_is_the_same_in_every_mode_and_in_any_mixture(modes):
    data = Pairs(np.arange(len(GREY)), LABELS, lambda i: MODES[modes[i]](GREY[i]))
    splits = load_data(data)
    assert identity(splits) == identity(load_data((GREY, LABELS)))
    assert quiet(splits.notes) == []


@pytest.mark.parametrize("mode", ["P", "1"])
def test_black_and_white_is_the_same(mode, tmp_path):
    two = np.where(GREY > 127, 255, 0).astype(np.uint8)
    same = identity(load_data((two, LABELS)))
    assert identity(load_data(folder(tmp_path / "f", two, LABELS, mode=mode))) == same
    for kind in ("bool", "u1", "i8", "f4", ">f8"):
        assert identity(load_data(((two > 0).astype(kind), LABELS))) == same


@pytest.mark.parametrize("size", [6, (5, 7), 16])
@pytest.mark.parametrize("name", SETS)
def test_another_size_is_the_same_from_arrays_and_from_files(name, size, tmp_path):
    x, y = SETS[name]
    whole = load_data((x, y), size=size)
    assert identity(load_data(folder(tmp_path / "f", x, y), size=size)) == identity(whole)
    assert identity(load_data((x / 255, y), size=size)) == identity(whole)


def test_floats_that_are_no_pixels_of_files_are_resized_otherwise_and_it_is_said():
    splits = load_data((np.sqrt(GREY / 255), LABELS), size=6)
    assert any("bilinearly" in n for n in splits.notes)


# What differs, and must be said.


def refused(data, words, **options):
    with pytest.raises(PotstillError, match=words) as caught:
        load_data(data, **options)
    assert "\n" not in str(caught.value)


def said(data, words, **options):
    notes = load_data(data, **options).notes
    assert any(words in n for n in notes), notes


@pytest.mark.parametrize("stream", [None, True])
def test_8_bit_pixels_in_a_16_bit_file_are_not_taken_for_black(stream, tmp_path):
    refused(folder(tmp_path / "f", GREY.astype(np.uint16), LABELS), "nearly black, or 8-bit", stream=stream)
    (tmp_path / "f/0/bright.png").write_bytes(encoded(np.full((8, 8), 60_000, np.uint16), "I;16"))
    load_data(tmp_path / "f", stream=stream)  # one bright picture says which scale it is


@pytest.mark.parametrize("stream", [None, True])
def test_bits_that_are_rounded_away_are_said(stream, tmp_path):
    said(folder(tmp_path / "f", GREY.astype(np.uint16) * 256 + 77, LABELS), "were rounded to 8", stream=stream)


def test_colours_of_16_bits_too(tmp_path):
    """Pillow drops their lower bytes without a word."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(range(48)) for _ in range(8))
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0))
    folder(tmp_path / "f", GREY, LABELS)
    (tmp_path / "f/0/deep.png").write_bytes(png + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    said(tmp_path / "f", "1 pictures of more than 8 bits")


def test_further_pictures_in_a_file_are_said(tmp_path):
    root, several = folder(tmp_path / "f", GREY, LABELS), [Image.fromarray(x) for x in GREY[:3]]
    several[0].save(root / "0/more.tiff", save_all=True, append_images=several[1:])
    said(root, "1 files hold several pictures")


def test_channels_that_files_would_not_have_are_said():
    said((np.stack([GREY] * 3, -1), LABELS), "3 equal channels")
    said((np.stack([GREY] * 4, 1), LABELS), "4 channels, kept as they are")
    said((COLOUR[:, :3], PHOTO), "read as (n, c, h, w)")


def test_half_floats_are_said():
    said(((GREY / 255).astype(np.float16), LABELS), "floats of 16 bits")


@pytest.mark.parametrize("stream", [None, True])
def test_a_sample_that_a_shard_holds_twice_is_refused(stream, tmp_path):
    """The second was taken, and the first was lost without a word."""
    path = shard(tmp_path / "x.tar", GREY, LABELS, order=[*range(len(GREY)), 3])
    refused(path, "are the png of one sample", stream=stream)


def test_keys_are_texts_and_only_the_order_follows_them(tmp_path):
    splits = load_data(shard(tmp_path / "x.tar", GREY, LABELS, key=str), test_fraction=0)
    raw = splits.train.raw(torch.arange(len(GREY)))[:, 0]
    order = sorted(range(len(GREY)), key=str)
    assert torch.equal(raw, torch.from_numpy(GREY[order]).float() / 255)
    assert splits.train.labels.tolist() == LABELS[order].tolist()


CLASSES = [
    ("1", "2", "10"),
    ("00", "01", "10"),
    ("b", "b10", "b9"),
    ("B", "a", "ä"),
    ("7", "007", "x"),
    ("1", "01", "3"),
]


@pytest.mark.parametrize("names", CLASSES, ids="-".join)
def test_classes_stand_in_one_order_in_every_container(names, tmp_path):
    """In numbers' order, where all of them are numbers, whatever they are stored as."""
    y = np.array(names)[LABELS]
    found = {
        "folder": folder(tmp_path / "f", GREY, y),
        "npz": npz(tmp_path / "x.npz", GREY, y),
        "shard": shard(tmp_path / "x.tar", GREY, y),
        "parquet": parquet(tmp_path / "x.parquet", pa.table({"image": contents(GREY), "label": y})),
        "pairs": (GREY, y.tolist()),
    }
    read = {form: load_data(data, test_fraction=0).train for form, data in found.items()}
    of_class = {
        form: {name: sorted(part.raw(torch.where(part.labels == i)[0]).flatten(1).sum(1).tolist())
               for i, name in enumerate(part.classes)}
        for form, part in read.items()
    }  # fmt: skip
    for form, part in read.items():
        assert part.classes == read["folder"].classes, form
        assert of_class[form] == of_class["folder"], form


# Tables and series.

WINE = load_wine()
COLUMNS = [name.replace("/", " ") for name in WINE.feature_names]
TABLE = pa.table({**{c: WINE.data[:, i] for i, c in enumerate(COLUMNS)}, "label": WINE.target})


def text(path, table, delimiter=",", end="\n"):
    pyarrow.csv.write_csv(table, path, pyarrow.csv.WriteOptions(delimiter=delimiter))
    path.write_bytes(path.read_bytes().replace(b"\n", end.encode()))
    return path


def as_type(table, kind):
    return table.set_column(0, COLUMNS[0], table[0].cast(kind))


TABLES = {
    "csv": lambda at: text(at / "t.csv", TABLE),
    "semicolons": lambda at: text(at / "t.csv", TABLE, ";"),
    "tabs": lambda at: text(at / "t.tsv", TABLE, "\t"),
    "CRLF": lambda at: text(at / "t.csv", TABLE, end="\r\n"),
    "BOM": lambda at: put_bom(text(at / "t.csv", TABLE)),
    "parquet": lambda at: parquet(at / "t.parquet", TABLE),
    "small groups": lambda at: parquet(at / "t.parquet", TABLE, row_group_size=10, compression="zstd"),
    "float32": lambda at: parquet(at / "t.parquet", as_type(TABLE, pa.float32())),
    "decimal": lambda at: parquet(at / "t.parquet", as_type(TABLE, pa.decimal128(12, 4))),
    "label first": lambda at: text(at / "t.csv", TABLE.select(["label", *COLUMNS])),
    "Arrow": lambda at: TABLE,
    "pandas": lambda at: TABLE.to_pandas(),
    "pandas, nullable": lambda at: TABLE.to_pandas().convert_dtypes(),
    "pandas and labels": lambda at: (TABLE.drop_columns(["label"]).to_pandas(), WINE.target),
    "npz": lambda at: npz(at / "t.npz", WINE.data, WINE.target),
    "npz, Fortran, float32": lambda at: npz(at / "t.npz", np.asfortranarray(WINE.data.astype("f4")), WINE.target),
    "npz, big-endian": lambda at: npz(at / "t.npz", WINE.data.astype(">f8"), WINE.target.astype(">i2")),
    "lists": lambda at: (WINE.data.tolist(), WINE.target.tolist()),
}


def put_bom(path):
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    return path


@pytest.fixture(scope="module")
def wine():
    splits = load_data((WINE.data, WINE.target))
    return identity(splits), splits.train.content_hash, made(splits)


@pytest.mark.parametrize("form", TABLES)
def test_tables_hold_the_same_set(wine, form, tmp_path):
    splits = load_data(TABLES[form](tmp_path))
    assert (identity(splits), splits.train.content_hash, made(splits)) == wine
    assert quiet(splits.notes) == []


def mixed(kind):
    n = np.arange(60)
    words = pa.array([("x", "yy", "z")[i % 3] for i in n])
    days = pa.array(n).cast(pa.int32()).cast(pa.date32())
    table = pa.table({"a": n % 7, "word": words, "flag": n % 2 == 1, "day": days, "label": n % 2})
    if kind == "dictionary":
        return table.set_column(1, "word", words.dictionary_encode())
    if kind == "large texts":
        return table.set_column(1, "word", words.cast(pa.large_string()))
    if kind == "numbers as flags":
        return table.set_column(2, "flag", pa.array(n % 2))
    if kind in ("ns", "s"):
        return table.set_column(3, "day", days.cast(pa.timestamp(kind)))
    if kind == "pandas":
        return table.to_pandas()
    if kind == "categories of pandas":
        return table.to_pandas().assign(word=lambda f: pd.Categorical(f.word, categories=["z", "w", "yy", "x"]))
    return table


@pytest.mark.parametrize(
    "kind", ["csv", "dictionary", "large texts", "numbers as flags", "ns", "s", "pandas", "categories of pandas"]
)
def test_columns_of_every_kind_hold_the_same(kind, tmp_path):
    same = load_data(mixed(""))
    splits = load_data(text(tmp_path / "t.csv", mixed("")) if kind == "csv" else mixed(kind))
    assert identity(splits) == identity(same)
    assert splits.train.content_hash == same.train.content_hash
    assert [n.split(": ", 1)[1] for n in quiet(splits.notes)] == [n.split(": ", 1)[1] for n in quiet(same.notes)]


def test_zeros_before_a_number_are_said(tmp_path):
    """In Parquet such a column is one of texts, and becomes others."""
    codes = pa.table({"code": [f"{i % 5:03d}" for i in range(60)], "a": np.arange(60), "label": np.arange(60) % 2})
    path = tmp_path / "t.csv"
    said(text(path, codes), "'code': numbers that begin with a zero")
    path.write_text("code;a;label\n" + "".join(f"{i % 5:03d};0.{i};{i % 2}\n" for i in range(60)))
    said(path, "'code': numbers that begin with a zero")
    said(codes, "'code' became 5 columns")
    assert quiet(load_data(TABLES["csv"](tmp_path)).notes) == []


@pytest.mark.parametrize("form", ["array", "frame"])
def test_digits_that_32_bits_do_not_hold_are_said(form):
    x = 1.7e9 + np.arange(60.0)
    data = (x[:, None], np.arange(60) % 2) if form == "array" else pa.table({"time": x, "label": np.arange(60) % 2})
    said(data, "60 values become" if form == "array" else "'time' is taken less 1,700,000,0")


STEPS = np.cumsum(np.random.default_rng(0).normal(size=(90, 2)), 0)
DAYS = pa.array(np.arange(90)).cast(pa.int32()).cast(pa.date32())
SERIES = pa.table({"variable 1": STEPS[:, 0], "day": DAYS, "variable 2": STEPS[:, 1]})
TASK = "forecast:window=8,horizon=2"
ALONG = {
    "csv": lambda at: text(at / "s.csv", SERIES),
    "parquet": lambda at: parquet(at / "s.parquet", SERIES),
    "pandas": lambda at: SERIES.to_pandas(),
    "indexed by time": lambda at: SERIES.to_pandas().assign(day=lambda f: pd.to_datetime(f.day)).set_index("day"),
    "npz": lambda at: npz(at / "s.npz", STEPS, 0),
    "float32": lambda at: STEPS.astype("f4"),
    "Fortran, big-endian": lambda at: np.asfortranarray(STEPS.astype(">f8")),
    "tensor": lambda at: torch.from_numpy(STEPS),
    "float32 in Parquet": lambda at: SERIES.set_column(0, "variable 1", SERIES[0].cast(pa.float32())),
}


@pytest.mark.parametrize("form", ALONG)
def test_series_hold_the_same(form, tmp_path):
    same, splits = load_data(STEPS, task=TASK), load_data(ALONG[form](tmp_path), task=TASK)
    assert identity(splits) == identity(same)
    assert splits.train.content_hash == same.train.content_hash
    assert torch.equal(splits.train.targets, same.train.targets)


@pytest.mark.parametrize("form", ["csv", "pandas", "indexed by time"])
def test_a_series_that_runs_backwards_is_turned(form, tmp_path):
    """Its first rows are the last in time, and were learned from to forecast what was before them."""
    turned = SERIES.take(np.arange(90)[::-1])
    forms = {
        "csv": lambda: text(tmp_path / "s.csv", turned), "pandas": turned.to_pandas,
        "indexed by time": lambda: ALONG["indexed by time"](tmp_path).iloc[::-1],
    }  # fmt: skip
    data = forms[form]()
    said(data, "the earliest first", task=TASK)
    same = load_data(SERIES.drop(["day"]), task=TASK)
    assert load_data(data, task=TASK).train.content_hash == same.train.content_hash


def test_a_clock_that_is_set_back_once_is_said():
    long = np.arange(300.0)
    hours = np.arange(300) - np.where(np.arange(300) > 150, 2, 0)
    table = pa.table({"x": long, "time": pa.array(hours * 3_600_000_000).cast(pa.timestamp("us"))})
    said(table, "the time goes back after 1 of 300", task=TASK)


def test_forms_are_many():
    """So that nothing is left out above without being missed."""
    assert len(list(itertools.product(TYPES, LAYOUTS, NAMES))) > 1000
    assert len(CONTAINERS) + len(MODES) + len(TABLES) + len(ALONG) > 50


@pytest.mark.parametrize("kind", ["series", "table"])
def test_a_date_far_beyond_all_others_is_no_traceback(kind, tmp_path):
    """Found by fuzzing: days of year 9,745,200 do not fit 64 bits of microseconds."""
    days = pa.array([*range(29), 2**31 - 1], pa.int32()).cast(pa.date32())
    table = pa.table({"day": days, "x": np.arange(30.0), "label": np.arange(30) % 2})
    if kind == "series":
        assert len(load_data(table.select(["day", "x"]), task="forecast:window=3,horizon=1").train)
    else:
        refused(table, "row 30, column 'day' is a date beyond the years")


def test_a_series_of_numbers_beyond_floats_and_of_columns_without_names(tmp_path):
    """Found by fuzzing, too."""
    rows = "".join(f"2024-01-{i + 1:02d},2024-01-{i + 1:02d},{3074457345618258601 + i}\n" for i in range(28))
    splits = load_data(write(tmp_path / "s.csv", f",,b\n{rows}"), task="forecast:window=3,horizon=1")
    assert splits.train.input.columns == ("b",)
    twice = pa.Table.from_arrays([DAYS, DAYS], names=["x", "x"])
    refused(twice, "2 columns are called 'x'", task=TASK)


def write(path, content):
    path.write_text(content)
    return path
