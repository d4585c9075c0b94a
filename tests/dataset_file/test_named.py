"""Inputs with names, and targets that are no classes: chosen, written, read back, put together again, refused."""

import dataclasses
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader

import potstill
from potstill._util.card import parse_card
from potstill.core import Inputs, Source, Splits
from potstill.core.nested import index, named_tensors
from potstill.dataset_file import Distilled, describe, inspect, load, materialize
from potstill.errors import PotstillError
from potstill.tasks import Classification, get_targets
from potstill.testing.toy import mixed_source, pairs_source, toy_source, windows_source
from tests.build_set import build_set

SOURCES: dict[str, Callable[[], Source]] = {
    "pairs": pairs_source, "mixed": mixed_source, "windows": windows_source,
    "mixed classes": lambda: mixed_source(classes=True),
}  # fmt: skip


def held(path: Path) -> int:
    return sum(t.numel() * t.element_size() for t in safetensors.torch.load_file(path).values())


def equal(a: Inputs, b: Inputs) -> bool:
    x, y = named_tensors(a), named_tensors(b)
    return list(x) == list(y) and all(torch.equal(x[n], y[n]) and x[n].dtype == y[n].dtype for n in x)


def chosen(source: Source, method: str = "random", items: int = 6, **options: Any) -> Distilled:
    return potstill.distill(Splits(train=source, test=None), method, items=items, progress=None, **options)


@pytest.mark.parametrize("store", [None, "float32", "float16", "uint8", "uint4"])
@pytest.mark.parametrize("kind", SOURCES)
def test_a_selection_is_what_a_reader_loads(kind: str, store: str | None, tmp_path: Path) -> None:
    source = SOURCES[kind]()
    made = chosen(source, codec=store)
    path = made.save(tmp_path / "a.safetensors")
    read = load(path)
    assert made.index is not None
    assert equal(read.inputs, made.inputs)
    assert equal(read.model_space(), made.model_space())
    assert torch.equal(read.labels, made.labels)
    assert torch.equal(read.labels, get_targets(source)[made.index])
    assert read.metadata == made.metadata
    assert read.task == made.task
    assert read.input == source.input
    assert read.metadata["bytes"]["total"] == held(path)
    if store in (None, "float32"):
        assert equal(read.inputs, source.raw(made.index))
        assert equal(read.model_space(), source.fetch(made.index).x)
    assert read.save(tmp_path / "b.safetensors").read_bytes() == path.read_bytes()
    potstill.export(made, "indices", tmp_path / "i.safetensors")
    again = materialize(tmp_path / "i.safetensors", source)
    assert equal(again.inputs, made.inputs)
    assert torch.equal(again.labels, made.labels)
    assert again.metadata == made.metadata


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("method", ["k-center", "herding", "k-means"])
def test_methods_that_measure_distances_choose(kind: str, method: str) -> None:
    made = chosen(SOURCES[kind](), method)
    assert made.index is not None
    assert len(set(made.index.tolist())) == 6


def test_every_item_is_a_mapping_and_its_target() -> None:
    source = pairs_source()
    made = chosen(source)
    assert made.index is not None
    for (x, y), at in zip(made, made.index.tolist(), strict=True):
        whole = source.fetch(torch.tensor([at])).x
        assert not isinstance(whole, Tensor)
        assert torch.equal(x["image"], whole["image"][0])
        assert torch.equal(x["text"], whole["text/values"])
        assert int(y) == at // 2
    x, y = next(iter(DataLoader(chosen(mixed_source()), batch_size=4)))
    assert (x["numbers"].shape, x["codes"].dtype, y.shape) == ((4, 3), torch.int64, (4, 1))
    x, y, weight = made.with_weights()[2]
    assert (x["image"].shape, float(weight)) == ((1, 8, 8), 1.0)


def test_texts_of_samples_are_kept_and_counted(tmp_path: Path) -> None:
    said = tuple(f"a row that is brïght, {i}" for i in range(40))
    source: Any = dataclasses.replace(pairs_source(), texts=said)  # type: ignore[type-var]
    made = chosen(source)
    assert made.index is not None
    read = load(made.save(tmp_path / "a.safetensors"))
    assert read.captions == tuple(said[i] for i in made.index.tolist())
    assert read.metadata["bytes"]["captions"] > 0
    assert read.metadata["bytes"]["total"] == held(tmp_path / "a.safetensors")
    potstill.export(made, "indices", tmp_path / "i.safetensors")
    assert materialize(tmp_path / "i.safetensors", source).captions == read.captions


def test_a_set_without_a_task_has_classes() -> None:
    made = chosen(toy_source(), items=8)
    assert made.metadata["task"] == {"name": "classification", "k": 4}
    del made.metadata["task"]
    assert made.task == Classification(k=4)
    assert made.is_classification


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("store", [None, "uint4"])
def test_a_budget_in_bytes_is_kept_and_used(kind: str, store: str | None) -> None:
    source = SOURCES[kind]()
    most = 700 if kind in ("pairs", "windows") else 120 if store else 300
    made = potstill.distill(Splits(train=source, test=None), "random", bytes=most, codec=store, progress=None)
    assert most / 3 < made.metadata["bytes"]["total"] <= most


def test_items_per_class_need_classes() -> None:
    with pytest.raises(PotstillError, match=r"no classes.*`items=3`"):
        potstill.distill(Splits(train=pairs_source(), test=None), "random", ipc=3, progress=None)


def test_a_method_that_does_not_do_a_task_says_so() -> None:
    with pytest.raises(PotstillError, match="does classification, but toy-windows is forecast"):
        chosen(windows_source(), "dsdm")
    with pytest.raises(PotstillError, match="takes inputs of one tensor, but those of toy-mixed have names"):
        chosen(mixed_source(classes=True), "el2n")
    with pytest.raises(PotstillError, match="keep medoid"):
        chosen(windows_source(), "k-means", keep="centroid")


def test_a_store_that_is_tried_on_classifiers_is_refused() -> None:
    with pytest.raises(PotstillError, match="name a store"):
        chosen(mixed_source(), codec="auto")
    with pytest.raises(PotstillError, match="half needs pictures"):
        chosen(mixed_source(), codec="half")


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("store", [None, "uint4"])
def test_a_plan_counts_what_the_file_takes(kind: str, store: str | None) -> None:
    data = Splits(train=SOURCES[kind](), test=None)
    made = potstill.distill(data, "random", items=6, codec=store, progress=None)
    seen = potstill.plan(data, "random", items=6, codec=store, profile_steps=0)
    assert dict(seen.bytes) == made.metadata["bytes"]


def test_a_budget_in_bytes_of_a_table_is_used() -> None:
    made = potstill.distill(Splits(train=toy_source("table"), test=None), "random", bytes=600, progress=None)
    assert 500 < made.metadata["bytes"]["total"] <= 600


def test_people_read_what_it_is() -> None:
    said = describe(inspect(chosen(pairs_source())))
    assert "6 inputs of image 1×8×8 and text (pair)" in said
    assert "task        retrieval" in said
    assert "labels      1 whole number each" in said
    assert "(retrieval)" in chosen(pairs_source())._repr_html_()


def test_numpy_gets_every_part(tmp_path: Path) -> None:
    made = chosen(pairs_source())
    with np.load(potstill.export(made, "npz", tmp_path / "a.npz")) as file:
        assert np.array_equal(file["x/image"], made.inputs["image"])
        assert np.array_equal(file["x/text/offsets"], made.inputs["text/offsets"])
        assert np.array_equal(file["y"], made.labels)
        assert tuple(file["texts"]) == made.captions


def test_parquet_has_a_column_for_each_value_and_a_list_of_words(tmp_path: Path) -> None:
    made = chosen(mixed_source())
    rows = pq.read_table(potstill.export(made, "parquet", tmp_path / "a.parquet")).to_pandas()
    assert list(rows) == ["a", "b", "c", "d", "e", "target"]
    assert np.array_equal(rows["e"], made.inputs["codes"][:, 1])
    assert np.array_equal(rows["target"], made.labels[:, 0])
    pairs = chosen(pairs_source())
    table = pq.read_table(potstill.export(pairs, "parquet", tmp_path / "b.parquet"))
    assert table.column_names == ["image_values", "text_values", "image", "target", "text"]
    assert [len(v) for v in table["text_values"].to_pylist()] == [len(t.split()) for t in pairs.captions]


def test_pictures_of_pairs_are_data_again(tmp_path: Path) -> None:
    made = chosen(pairs_source(), items=10)
    potstill.export(made, "png", tmp_path / "a")
    lines = [json.loads(line) for line in (tmp_path / "a" / "metadata.jsonl").read_text().splitlines()]
    assert [line["text"] for line in lines] == list(made.captions)
    again = potstill.load_data(tmp_path / "a", task="retrieval", duplicates=None)
    texts = {*again.train.texts, *(again.test.texts if again.test else ())}  # type: ignore[attr-defined]
    assert texts == set(made.captions)


def test_shards_hold_every_part(tmp_path: Path) -> None:
    made = chosen(pairs_source())
    with tarfile.open(potstill.export(made, "webdataset", tmp_path / "a.tar")) as tar:
        names = {name.partition(".")[2] for name in tar.getnames()}
    assert names == {"image.npy", "text.npy", "target.json", "txt", "png"}


def test_png_of_what_has_no_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PotstillError, match="png needs images"):
        potstill.export(chosen(mixed_source()), "png", tmp_path / "a")


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("pairs", {}),
        ("pairs", {"parametrization": "image=small"}),
        ("pairs", {"parametrization": "tiles", "codec": "uint4"}),
        ("pairs", {"codec": "uint1"}),
        ("windows", {"codec": "float32"}),
    ],
)
def test_a_set_that_is_made_is_what_a_reader_loads_and_a_plan_says(
    kind: str, settings: dict[str, str], tmp_path: Path
) -> None:
    data = Splits(train=SOURCES[kind](), test=None)
    made = potstill.distill(data, "dm", items=8, steps=1, progress=None, **settings)  # type: ignore[arg-type]
    path = made.save(tmp_path / "a.safetensors")
    read = load(path)
    assert equal(read.inputs, made.inputs)
    assert read.metadata == made.metadata
    assert len(read) == (32 if "parametrization" in settings else 8)
    assert made.metadata["bytes"]["total"] == held(path)
    seen = potstill.plan(data, "dm", items=8, steps=1, profile_steps=0, **settings)  # type: ignore[arg-type]
    assert seen.bytes["total"] >= held(path)


def test_a_budget_in_bytes_holds_words_too() -> None:
    data = Splits(train=pairs_source(), test=None)
    for spelled in ("pixels", "image=small"):
        made = potstill.distill(data, "dm", bytes=900, steps=0, parametrization=spelled, progress=None)
        assert 450 < made.metadata["bytes"]["total"] <= 900


def test_a_part_that_cannot_be_parametrized_is_named() -> None:
    data = Splits(train=pairs_source(), test=None)
    with pytest.raises(PotstillError, match="image, but not 'text'"):
        potstill.distill(data, "dm", items=4, parametrization="text=tiles", progress=None)


def test_asking_for_more_than_there_is_says_so() -> None:
    with pytest.raises(PotstillError, match="there are 40; ask for fewer"):
        potstill.distill(Splits(train=pairs_source(), test=None), "dm", items=60, progress=None)


# --- what strangers' files may say -------------------------------------------------------------------------------


def edited(path: Path, change: Any) -> Path:
    held = safetensors.torch.load_file(path)
    with safetensors.safe_open(path, "pt") as file:
        card = parse_card(file.metadata())
    change(card, held)
    safetensors.torch.save_file(held, path, metadata={"card": json.dumps(card)})
    return path


def codec(card: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = card["codec"]["tensors"][name]
    return found


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("pairs", lambda c, t: t.pop("inputs/image"), "no tensor 'inputs/image'"),
        ("pairs", lambda c, t: (t.pop("inputs/image"), c["codec"]["tensors"].pop("inputs/image")), "the same names"),
        ("pairs", lambda c, t: codec(c, "inputs/text/values").update(least=5), "part 'text' is not words"),
        ("pairs", lambda c, t: codec(c, "inputs/text/values").update(least=-1), "part 'text' is not words"),
        ("pairs", lambda c, t: codec(c, "inputs/text/offsets").update(least=1), "part 'text' is not words"),
        ("pairs", lambda c, t: c["input"]["parts"][1].update(levels=[2]), "part 'text' is not words"),
        ("pairs", lambda c, t: c["input"]["parts"][0].update(shape=[1, 4, 16]), "part 'image' is not image"),
        ("pairs", lambda c, t: c["input"]["parts"][0].update(name="text"), "valid 'input.parts'"),
        ("pairs", lambda c, t: c["input"]["parts"][0].update(name="../image"), "valid 'input.parts'"),
        ("pairs", lambda c, t: c["input"].update(parts=[]), "parts that its input lacks"),
        ("pairs", lambda c, t: c["input"].update(parts=3), "valid 'input.parts'"),
        ("pairs", lambda c, t: c["normalization"]["parts"].update(sound={"mean": [0], "std": [1]}), "parts that its"),
        ("pairs", lambda c, t: c["normalization"]["parts"].update(text={"mean": [0], "std": [1]}), "without values"),
        ("pairs", lambda c, t: c["normalization"]["parts"]["image"].update(std=[0]), "positive std"),
        ("pairs", lambda c, t: c["task"].update(width="wide"), "no valid 'width'"),
        ("pairs", lambda c, t: c["task"].update(views=["image"]), "no valid 'views'"),
        ("pairs", lambda c, t: c["task"].update(k=True), "no valid 'k'"),
        ("pairs", lambda c, t: c["task"].update(name=3), "valid 'task'"),
        ("pairs", lambda c, t: c["task"].update(name="classification"), "classes must be names"),
        ("pairs", lambda c, t: c.pop("task"), "classes must be names"),
        ("mixed", lambda c, t: c["input"]["parts"][1].update(levels=[1, 5]), "part 'codes' is not categories"),
        ("mixed", lambda c, t: c["input"]["parts"][1].update(levels=[2]), "part 'codes' is not categories"),
        ("mixed", lambda c, t: c["input"]["parts"][1].update(kind="table"), "part 'codes' is not table"),
        ("mixed", lambda c, t: c["task"].update(mean=[1.0, 2.0]), "cannot score targets"),
        ("mixed", lambda c, t: c["task"].update(mean=["a"]), "no valid 'mean'"),
        ("mixed", lambda c, t: codec(c, "labels").update(shape=[3, 2]), "which its codec does not write"),
        ("windows", lambda c, t: c["task"].update(horizon=4), "cannot score targets"),
        ("windows", lambda c, t: c["task"].update(std=[0.0, 0.0]), "cannot score targets"),
        ("windows", lambda c, t: t.update(labels=t["labels"] * torch.nan), "targets must be finite"),
    ],
)  # fmt: skip
def test_a_file_that_contradicts_itself_is_refused_in_one_line(
    kind: str, change: Any, said: str, tmp_path: Path
) -> None:
    path = edited(chosen(SOURCES[kind]()).save(tmp_path / "a.safetensors", force=True), change)
    with pytest.raises(PotstillError, match=said) as refused:
        load(path)
    assert "\n" not in str(refused.value)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 70_000), st.floats(allow_nan=False), st.text(max_size=4)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=6,
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(SOURCES)), st.data())
def test_any_card_gives_a_set_or_one_line(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    def change(card: dict[str, Any], held: dict[str, Tensor]) -> None:
        node: Any = card[data.draw(st.sampled_from(["input", "task", "normalization", "codec"]))]
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                return
            key = data.draw(st.sampled_from(keys))
            if isinstance(node[key], dict | list) and data.draw(st.booleans()):
                node = node[key]
                continue
            node[key] = data.draw(json_values)
            return

    path = edited(chosen(SOURCES[kind]()).save(tmp_path / "a.safetensors", force=True), change)
    try:
        small = load(path)
    except PotstillError as error:
        said = str(error)
    else:
        said = ""
        assert len(list(small)) == len(small)
        assert small.input is not None
        small.save(path, force=True)
    assert "\n" not in said


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.lists(st.integers(-1, 9), min_size=6, max_size=6))
def test_offsets_are_believed_only_where_they_are_such(tmp_path: Path, lengths: list[int], said: list[int]) -> None:
    made = chosen(pairs_source())
    few = index(made.inputs, torch.arange(min(6, len(lengths))))
    offsets = torch.tensor(said[: len(lengths)])
    parts = {
        n: made.metadata[n] for n in ("method", "config", "seed", "ipc", "training", "source", "outcome", "cost")
    }  # fmt: skip

    def build(inputs: Inputs) -> Distilled:
        return build_set(
            inputs, made.labels[: len(lengths)], classes=(), task=made.task, input=made.input,
            normalization=made.normalization, **parts,
        )  # fmt: skip

    right = offsets[0] == 0 and bool((offsets.diff() >= 0).all()) and int(offsets[-1]) <= len(few["text/values"])
    wrong = {**few, "text/offsets": offsets}
    if right:
        assert torch.equal(load(build(wrong).save(tmp_path / "a")).inputs["text/offsets"], offsets)
    else:
        with pytest.raises(PotstillError, match="not words"):
            build(wrong)
