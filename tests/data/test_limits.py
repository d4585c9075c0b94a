"""Limits of what is read: each holds, says its name, and lets through what it is raised to, wherever the reading is."""

import dataclasses
import gzip
import io
import json
import re
import tarfile
import threading
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from potstill import distill, load, load_data
from potstill._util.input_limits import Limits, changed_limits, limited, limits, parse_limits
from potstill._util.safe_yaml import read_yaml
from potstill.api.verify import verify_file
from potstill.cli.main import main
from potstill.core import InputSpec, Normalization
from potstill.data.detection import load_detection
from potstill.dataset_file.files import parse_json, read_tensors
from potstill.errors import PotstillError
from potstill.execution import Processes
from potstill.interop.import_set import import_set
from tests.build_set import build_set
from tests.sound_data import write_tones


def png(size=(8, 8), value=7):
    file = io.BytesIO()
    Image.fromarray(np.full(size, value, np.uint8)).save(file, "PNG")
    return file.getvalue()


def folder(at, size=(8, 8)):
    for i in range(8):
        place = at / "f" / "ab"[i % 2] / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(png(size, 20 * i))
    return at / "f"


def sounds(at):
    write_tones(at / "s", each=2, seconds=1.5, rate=1000)
    return at / "s"


def shard(at, name="x.tar", mode="w"):
    with tarfile.open(at / name, mode) as tar:
        for i in range(6):
            for end, content in (("png", png(value=20 * i)), ("cls", str(i % 2).encode())):
                about = tarfile.TarInfo(f"{i}.{end}")
                about.size = len(content)
                tar.addfile(about, io.BytesIO(content))
    return str(at / name)


def npz(at, side=4):
    np.savez_compressed(at / "x.npz", x=np.zeros((8, side, side), np.uint8), y=np.arange(8) % 2)
    return at / "x.npz"


def text(at, name, content):
    (at / name).write_text(content)
    return at / name


def table(at, columns=3, rows=9):
    made = {f"c{i}": np.arange(rows) for i in range(columns)}
    pq.write_table(pa.table({**made, "label": np.arange(rows) % 2}), at / "t.parquet")
    return at / "t.parquet"


def csv(at, rows=9):
    return text(at, "t.csv", "word,label\n" + "".join(f"w{i},{i % 2}\n" for i in range(rows)))


def small_set(at, side=4, **more):
    x = torch.rand(6, 1, side, side, generator=torch.Generator().manual_seed(0))
    small = build_set(
        x, torch.arange(6) % 3, method="dm", config={"lr": 1.0}, seed=3, ipc=2, classes=("a", "b", "c"),
        input=InputSpec(kind="image", shape=(1, side, side)), training={}, outcome={"kind": "finished"}, cost={},
        normalization=Normalization(torch.zeros(1), torch.ones(1)),
        source={"name": "toy", "samples": 9, "hash": "0" * 64}, **more,
    )  # fmt: skip
    small.save(at / "s.safetensors")
    return at / "s.safetensors"


def coded_set(at):
    made = distill("digits", "dm", ipc=1, steps=1, network="mlp-w2", parametrization="tiles:factor=2", progress=None)
    made.save(at / "p.safetensors")
    return at / "p.safetensors"


def imported(at):
    torch.save({"data": [[torch.rand(9, 1, 4, 4), torch.arange(9)]], "accs_all_exps": {}}, at / "i.pt")
    return at / "i.pt"


def voc(at):
    content = (
        "<annotation><filename>a.png</filename><size><width>8</width><height>8</height></size><object><name>cat</name>"
        "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>4</xmax><ymax>4</ymax></bndbox></object></annotation>"
    )
    return text(at, "v.xml", content).parent


def yaml(at):
    return text(at, "r.yaml", "a: [1, [2, [3]]]\n")


def read_plain(path):
    return read_yaml(path, "it", "write it anew")


def import_plain(path):
    return import_set(path, mean=[0.0], std=[1.0])


CASES = {
    "archive_bytes": (shard, load_data, 300),
    "archive_members": (shard, load_data, 5),
    "braces": (lambda at: "{1..2}{1..2}.tar", load_data, 1),
    "brace_digits": (lambda at: "x-{100..200}.tar", load_data, 2),
    "card_bytes": (small_set, load, 100),
    "categories": (csv, load_data, 5),
    "cell_bytes": (
        lambda at: pa.table({"image": [png(value=20 * i) for i in range(8)], "label": np.arange(8) % 2}), load_data, 30
    ),
    "cells": (table, load_data, 20),
    "classes": (imported, import_plain, 5),
    "columns": (table, load_data, 2),
    "decoder_setting": (coded_set, load, 1),
    "dimensions": (small_set, load, 2),
    "header_bytes": (small_set, load, 100),
    "json_bytes": (lambda at: text(at, "r.json", json.dumps({"rows": [], "methods": []})), verify_file, 5),
    "json_depth": (lambda at: "[[[1]]]", parse_json, 2),
    "json_digits": (lambda at: "[12345]", parse_json, 3),
    "line_bytes": (lambda at: text(at, "t.csv", "a,label\n" + "1,0\n" * 5 + "0." + "1" * 80 + ",1\n"), load_data, 50),
    "pixels": (folder, load_data, 60),
    "rows": (table, load_data, 5),
    "set_bytes": (small_set, load, 900),
    "shards": (lambda at: shard(at) and str(at / "{x,x,x}.tar"), load_data, 2),
    "sound_seconds": (sounds, load_data, 1),
    "xml_bytes": (voc, load_detection, 100),
    "yaml_bytes": (yaml, read_plain, 10),
    "yaml_depth": (yaml, read_plain, 2),
}  # fmt: skip


def refused(read, data):
    """What reading says; a verdict of `verify` counts, too."""
    try:
        said = getattr(read(data), "problem", "")
    except (PotstillError, ValueError) as error:
        said = str(error)
    assert said
    assert "\n" not in said
    return said


@pytest.mark.parametrize("name", CASES)
def test_each_limit_holds_and_says_how_it_is_raised(name, tmp_path):
    make, read, least = CASES[name]
    data = make(tmp_path)
    with limited(**{name: least}):
        said = refused(read, data)
    if name != "dimensions":  # one of many contradictions of a header
        assert re.search(rf"limit {name} is {least:,}, `potstill.limited\({name}=N\)` raises it", said)
    if not name.startswith("brace"):  # whose shards are not there
        read(data)


def test_every_limit_is_tried():
    beside = {"archive_ratio"}  # a gibibyte is free, below
    assert {f.name for f in dataclasses.fields(Limits)} == CASES.keys() | beside


@pytest.mark.parametrize("form", ["zip", "tar.gz", "sparse"])
def test_an_archive_that_unpacks_to_far_more_is_refused_before_it_is_unpacked(form, tmp_path):
    path = tmp_path / ("x.npz" if form == "zip" else f"x.{form}" if form == "tar.gz" else "x.tar")
    many = 3 * 2**30
    if form == "zip":
        with (
            zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
            archive.open("x.npy", "w", force_zip64=True) as f,
        ):
            np.lib.format.write_array_header_1_0(f, {"descr": "|u1", "fortran_order": False, "shape": (many,)})
        content = path.read_bytes()
        size = zipfile.ZipFile(path).infolist()[0].file_size
        at = content.rindex(b"PK\x01\x02") + 24  # the size in the directory, which is all that is believed at first
        path.write_bytes(content[:at] + (2**31).to_bytes(4, "little") + content[at + 4 :])
        assert size < 1000
    elif form == "tar.gz":
        about = tarfile.TarInfo("0.png")
        about.size = many
        path.write_bytes(gzip.compress(about.tobuf() + bytes(2**20)))
    else:
        about = tarfile.TarInfo("0.png")
        about.size, about.type = many, tarfile.GNUTYPE_SPARSE
        head = bytearray(about.tobuf(tarfile.GNU_FORMAT))
        head[124:136], head[483:495] = b"%011o\0" % 0, b"%011o\0" % many
        head[148:156] = b"        "
        head[148:156] = b"%06o\0 " % sum(head)
        path.write_bytes(bytes(head) + bytes(1024))
    with pytest.raises(PotstillError, match=r"limit archive_ratio is 500, `potstill\.limited\("):
        load_data(str(path))


def test_a_table_of_a_few_bytes_does_not_become_billions_of_rows(tmp_path):
    """Parquet says how often a value is repeated."""
    pq.write_table(
        pa.table({"a": np.zeros(10**6, np.int64), "label": np.zeros(10**6, np.int64)}), tmp_path / "t.parquet"
    )
    assert (tmp_path / "t.parquet").stat().st_size < 10_000
    with limited(rows=10**5), pytest.raises(PotstillError, match="1,000,000 rows of a table; limit rows is 100,000"):
        load_data(tmp_path / "t.parquet")


def test_limits_are_of_a_context_and_leak_nowhere():
    seen = []
    with limited(pixels=5) as now:
        assert limits() is now
        with limited(shards=6):
            assert (limits().pixels, limits().shards) == (5, 6)
            assert changed_limits() == {"pixels": 5, "shards": 6}
        thread = threading.Thread(target=lambda: seen.append(limits()))
        thread.start()
        thread.join()
    assert limits() == seen[0] == Limits()
    with pytest.raises(RuntimeError), limited(rows=3):
        raise RuntimeError
    assert limits() == Limits()


@pytest.mark.parametrize("workers", ["1", "3"])
def test_threads_that_decode_see_them(workers, tmp_path, monkeypatch):
    monkeypatch.setenv("POTSTILL_WORKERS", workers)
    root = folder(tmp_path, (12, 10))
    with limited(pixels=110), pytest.raises(PotstillError, match="limit pixels is 110"):
        load_data(root, stream=True)
    with limited(pixels=120):
        source = load_data(root, stream=True).train
        source.fetch(torch.arange(len(source)))
    with limited(pixels=110), pytest.raises(PotstillError, match="limit pixels is 110"):
        source.fetch(torch.arange(len(source)))


def test_a_set_of_others_is_held_against_the_size_of_a_set(tmp_path):
    path = imported(tmp_path)
    with limited(set_bytes=500):
        assert "limit set_bytes is 500, `potstill.limited(set_bytes=N)` raises it" in refused(import_plain, path)


def of_pixels(job):
    return limits().pixels + job


def test_workers_in_other_processes_see_them():
    with Processes(workers=2) as executor:
        with limited(pixels=1000):
            assert list(executor.map(of_pixels, [1, 2, 3])) == [1001, 1002, 1003]
        assert list(executor.map(of_pixels, [0])) == [Limits().pixels]


def test_pillow_takes_more_where_more_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    with limited(pixels=64):
        load_data(folder(tmp_path))
    assert Image.MAX_IMAGE_PIXELS == 50


@pytest.mark.parametrize(
    ("entry", "found"),
    [("pixels=5", 5), ("archive-bytes=2GiB", 2**31), ("rows=1_000", 1000), ("set_bytes=5kB", 5000)],
)
def test_entries(entry, found):
    assert list(parse_limits([entry]).values()) == [found]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("pixls=5", "did you mean pixels"), ("pixels", "write NAME=VALUE"), ("pixels=many", "must be a whole number"),
        ("rows=0", "at least 1"), ("set_bytes=-5", "at least 1"), ("rows=" + "9" * 5000, "whole number"),
    ],
)  # fmt: skip
def test_entries_that_mean_nothing_are_misuse(entry, message, capsys):
    assert main(["inspect", "x.safetensors", "--limit", entry]) == 2
    assert message in (said := capsys.readouterr().err)
    assert said.count("\n") == 1


def test_the_command_line_takes_them_and_passes_them_on(tmp_path, capsys):
    path = small_set(tmp_path)
    assert main(["inspect", str(path), "--limit", "card_bytes=100"]) == 1
    assert "limit card_bytes is 100, --limit card_bytes=N raises it" in capsys.readouterr().err
    assert main(["verify", str(path), "--limit=card_bytes=100"]) == 1
    assert "limit card_bytes is 100" in "".join(capsys.readouterr())
    assert main(["verify", str(path), "--limit", "card_bytes=100", "--limit", "card_bytes=1MB"]) == 0
    root = folder(tmp_path)
    made = tmp_path / "m.safetensors"
    words = ["distill", str(root), "--method", "random", "--ipc", "1", "--out", str(made)]
    assert main([*words, "--limit", "pixels=60"]) == 1
    assert main([*words, "--limit", "pixels=64"]) == 0
    assert "--limit pixels=64" in capsys.readouterr().out  # the line that measures it reads the same data
    assert limits() == Limits()


def test_a_recipe_is_read_under_them(tmp_path, capsys):
    recipe = text(tmp_path, "r.yaml", "method: random\nipc: 1\n")
    words = ["distill", "digits", "--recipe", str(recipe), "--out", str(tmp_path / "x.safetensors")]
    assert main([*words, "--limit", "yaml_bytes=5"]) == 1
    assert "limit yaml_bytes is 5" in capsys.readouterr().err
    assert main([*words, "--limit", "yaml_bytes=50"]) == 0


def test_what_is_written_can_be_read(tmp_path):
    with limited(header_bytes=200), pytest.raises(PotstillError, match="limit header_bytes is 200"):
        small_set(tmp_path)
    assert read_tensors(small_set(tmp_path), 2**20)
