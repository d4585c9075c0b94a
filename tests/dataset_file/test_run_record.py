"""The file on disk weighs little more than its metadata say, and the record of its run lies beside it."""

import base64
import hashlib
import json
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import safetensors

import potstill
from potstill._util.card import card_to_header, parse_card
from potstill._util.card_words import card_words
from potstill._util.input_limits import limited
from potstill._util.run_record import history_path, join_record, read_record, split_record
from potstill.cli.main import main
from potstill.core import Splits
from potstill.dataset_file import Distilled, load
from potstill.errors import PotstillError, PotstillWarning
from potstill.testing import toy_source
from potstill.testing.toy import mixed_source, pairs_source, windows_source


def splits(source: Any) -> Splits:
    return Splits(train=source, test=source)


def rows(tmp_path: Path) -> Splits:
    draw = np.random.default_rng(0)
    table = pd.DataFrame({f"x{i}": draw.normal(i, 1 + i, 300) for i in range(4)})
    table["town"] = draw.choice(["Bern", "Graz", "Ulm"], 300)
    table["kind"] = np.where(table.x1 > 1, "high", "low")
    table.to_csv(tmp_path / "rows.csv", index=False)
    return potstill.load_data(tmp_path / "rows.csv", label="kind")


QUIET: dict[str, Any] = {"progress": None, "device": "cpu"}
SETS: dict[str, Callable[[Path], Distilled]] = {
    "pictures, random": lambda _: potstill.distill("digits", "random", ipc=2, **QUIET),
    "pictures, made": lambda _: potstill.distill("digits", "dm", ipc=1, steps=9, codec="uint4", **QUIET),
    "pictures, one byte each": lambda _: potstill.distill("digits", "random", ipc=1, codec="uint1", **QUIET),
    "table, random": lambda at: potstill.distill(rows(at), "random", ipc=8, **QUIET),
    "table, made": lambda at: potstill.distill(rows(at), "dm", ipc=12, steps=5, codec="uint8", **QUIET),
    "series": lambda _: potstill.distill(splits(windows_source()), "random", items=6, **QUIET),
    "series, made": lambda _: potstill.distill(
        splits(windows_source()), "dm", items=6, steps=3, codec="uint8", **QUIET
    ),
    "text and classes": lambda _: potstill.distill(splits(mixed_source(classes=True)), "random", ipc=4, **QUIET),
    "pairs": lambda _: potstill.distill(splits(pairs_source(100)), "random", items=64, **QUIET),
    "generator": lambda _: potstill.distill(
        splits(toy_source("image", side=10)),
        "dm",
        ipc=16,
        network="convnet-d1-w4",
        codec="uint8",
        steps=3,
        parametrization="generator:samples=3,dim=4,width=16,epochs=1",
        **QUIET,
    ),
}


TOO_LONG = {
    "table, made": "174 bytes; statistics and names of 7 columns make the header 55 bytes too long",
    "pairs": "seven coded tensors, each of which takes about 60 bytes of the header: 62 bytes too long",
}
"""Sets that miss the goal, and why."""


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(name, marks=pytest.mark.xfail(reason=TOO_LONG[name], strict=True)) if name in TOO_LONG else name
        for name in SETS
    ],
)
def test_the_file_is_within_5_percent_and_1_kb_of_what_the_card_says(kind: str, tmp_path: Path) -> None:
    small = SETS[kind](tmp_path)
    path = small.save(tmp_path / "small.safetensors")
    stated = small.metadata["bytes"]["total"]
    assert path.stat().st_size <= 1.05 * stated + 1024
    history_path(path).unlink(missing_ok=True)
    alone = load(path)
    assert alone.metadata == small.metadata
    assert alone.history == ()
    assert alone.save(tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


@pytest.fixture(scope="module")
def made() -> Distilled:
    small = potstill.distill("digits", "dm", ipc=1, steps=5, codec="uint4", **QUIET)
    small.record["choice"] = {"answer": "made", "text": "So."}
    return small


def saved(made: Distilled, folder: Path, name: str = "small") -> Path:
    return made.save(folder / f"{name}.safetensors")


def test_the_record_follows_the_set(made: Distilled, tmp_path: Path) -> None:
    path = saved(made, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["small.history.json", "small.safetensors"]
    small = load(path)
    assert small.history == made.history
    assert [h["step"] for h in small.history][-1] == 5
    assert small.choice == {"answer": "made", "text": "So."}
    assert small.notes == made.notes
    assert small.to_dict() == made.to_dict()
    assert "history" not in small.metadata
    assert potstill.inspect(path)["metadata"]["history"] == list(made.history)
    again = load(small.save(tmp_path / "copy.safetensors"))
    assert again.record == made.record
    joined = potstill.concat([small, again])
    assert joined.notes == made.notes
    assert load(joined.save(tmp_path / "joined.safetensors")).record["records"] == [made.record, made.record]
    kinds = {Path(v.path).name: (v.kind, v.problem) for v in potstill.verify(tmp_path)}
    assert kinds["small.history.json"] == ("history", "")
    npz = potstill.export(path, "npz", tmp_path / "small.npz")
    assert json.loads(str(np.load(npz)["card"]))["history"] == list(made.history)
    folder = potstill.export(path, "hf", tmp_path / "hub")
    assert load(folder / "distilled.safetensors").history == made.history


def test_indices_alone_keep_their_record(tmp_path: Path) -> None:
    small = potstill.distill("digits", "herding", ipc=1, **QUIET)
    assert small.notes
    path = potstill.export(small, "indices", tmp_path / "indices.safetensors")
    assert potstill.materialize(path, "digits").record == small.record


def test_the_record_of_another_set_is_ignored_with_one_line(made: Distilled, tmp_path: Path) -> None:
    path = saved(made, tmp_path)
    other = potstill.distill("digits", "random", ipc=1, seed=3, **QUIET).save(tmp_path / "other.safetensors")
    shutil.copy(history_path(path), history_path(other))
    with pytest.warns(PotstillWarning, match=r"other\.history\.json: is of another set than other\.safetensors"):
        assert load(other).history == ()


def test_a_file_that_is_no_record_is_replaced_by_force_alone(made: Distilled, tmp_path: Path) -> None:
    beside = tmp_path / "small.history.json"
    beside.write_text("{}")
    with pytest.raises(PotstillError, match=r"is no history that Potstill wrote"):
        saved(made, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["small.history.json"]
    made.save(tmp_path / "small.safetensors", force=True)
    assert load(tmp_path / "small.safetensors").history == made.history


def test_a_set_without_a_record_takes_the_old_one_away(made: Distilled, tmp_path: Path) -> None:
    path = saved(made, tmp_path)
    bare = load(path)
    bare.record = {}
    bare.save(path, force=True)
    assert not history_path(path).exists()


def test_nothing_is_written_over_the_record_of_an_input(made: Distilled, tmp_path: Path) -> None:
    path = saved(made, tmp_path)
    line = ["evaluate", str(path), "--data", "digits", "--out", str(history_path(path)), "--force", "--quiet"]
    assert main(line) in (1, 2)
    assert load(path).history == made.history


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: b"{", "not JSON that is whole"),
        (lambda c: b"[1]", "no record of a run"),
        (lambda c: json.dumps({**c, "format": "potstill-history/9"}).encode(), "no record of a run"),
        (lambda c: json.dumps({**c, "record": []}).encode(), "lacks a valid 'record'"),
        (lambda c: json.dumps({**c, "record": {"history": [1]}}).encode(), "no valid 'history'"),
        (lambda c: json.dumps({**c, "record": {"evil": [1]}}).encode(), "no valid 'evil'"),
        (lambda c: json.dumps({**c, "record": {"source": {"hash": "x"}}}).encode(), "no valid 'source'"),
        (lambda c: json.dumps({**c, "record": {"source": {"notes": [1]}}}).encode(), "no valid 'source.notes'"),
        (lambda c: json.dumps({**c, "record": {"history": [{"loss": 0}]}}).encode(), "damaged"),
        (lambda c: b'{"a":' * 70 + b"1" + b"}" * 70, "nested"),
        (lambda c: b'{"a": NaN}', "NaN"),
    ],
)
def test_damaged_records_are_refused_with_one_line(
    damage: Callable[[Any], bytes], message: str, made: Distilled, tmp_path: Path
) -> None:
    path = saved(made, tmp_path)
    beside = history_path(path)
    beside.write_bytes(damage(json.loads(beside.read_bytes())))
    small = load(path)
    with pytest.raises(PotstillError, match=message) as caught:
        _ = small.history
    assert "\n" not in str(caught.value)


def test_a_record_that_is_too_large_is_not_read(made: Distilled, tmp_path: Path) -> None:
    small = load(saved(made, tmp_path))
    with limited(json_bytes=100), pytest.raises(PotstillError, match="limit json_bytes is 100"):
        _ = small.history


# --- the header ----------------------------------------------------------------------------------------------------


def test_the_dictionary_is_frozen() -> None:
    """With other bytes, files that exist cannot be read: a new dictionary needs a new key in the header."""
    digest = hashlib.sha256(card_words()).hexdigest()
    assert digest == "18c5137b449f556891b4b71254c2dc1892754621b496761727bf5dca191071ed"


def test_card_and_details_are_the_whole_metadata(made: Distilled, tmp_path: Path) -> None:
    path = saved(made, tmp_path)
    with safetensors.safe_open(path, "numpy") as file:
        header = file.metadata()
    readable = json.loads(header["card"])
    assert readable["format"] == "potstill/3"
    assert readable["method"] == "dm"
    assert readable["input"] == {"kind": "image", "shape": [1, 8, 8]}
    assert readable["source"] == {"name": "digits"}
    inflate = zlib.decompressobj(-15, zdict=card_words())
    rest = json.loads(inflate.decompress(base64.b85decode(header["details"])))
    assert rest["config"]["iterations"] == made.metadata["config"]["iterations"]
    assert parse_card(header) == made.metadata


def test_many_classes_are_compressed() -> None:
    metadata = {"format": "potstill/3", "classes": [f"class {i}" for i in range(1000)], "bytes": {"total": 4000}}
    header = card_to_header(metadata)
    assert "classes" not in json.loads(header["card"])
    assert len(header["details"]) < 5000
    assert parse_card(header) == metadata


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"card": "{}", "details": "~~~ ~"}, "base85"),
        ({"card": "{}", "details": "00000"}, "cannot be decompressed|cut off"),
        ({"card": '{"method":"a"}', "details": "00"}, "cut off"),
    ],
)
def test_damaged_details_are_refused(header: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_card(header)


def packed(content: bytes) -> str:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=card_words())
    return base64.b85encode(deflate.compress(content) + deflate.flush()).decode()


def test_details_unpack_to_no_more_than_the_limit() -> None:
    with limited(card_bytes=2**16), pytest.raises(PotstillError, match="limit card_bytes is 65,536"):
        parse_card({"card": "{}", "details": packed(b" " * 2**22)})
    with pytest.raises(ValueError, match="'seed' must be in card or in details"):
        parse_card({"card": '{"seed":1}', "details": packed(b'{"seed":2}')})
    with pytest.raises(ValueError, match="cut off"):
        parse_card({"card": "{}", "details": packed(b'{"seed":2}' + b" " * 500)[:-5]})


def test_a_record_is_split_off_and_joined_again() -> None:
    whole = {
        "history": [{"loss": 1.0}], "codec": {"name": "uint4", "auto": {"why": ""}}, "choice": {"answer": "real"},
        "source": {"name": "a", "notes": ["b"]}, "seed": 1,
    }  # fmt: skip
    metadata, record = split_record(whole)
    assert metadata == {"codec": {"name": "uint4"}, "source": {"name": "a"}, "seed": 1}
    assert join_record(metadata, record) == whole
    assert read_record(Path("nowhere.safetensors"), None) == {}


def test_files_with_the_record_inside_are_read(made: Distilled, tmp_path: Path) -> None:
    from potstill.dataset_file import write_tensors

    path = tmp_path / "old.safetensors"
    write_tensors(path, made.tensors, {"card": json.dumps(made.to_dict())})
    old = load(path)
    assert old.metadata == made.metadata
    assert old.record == made.record
