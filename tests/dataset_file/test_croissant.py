"""What is said of a published set to machines, as mlcroissant validates and reads it."""

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from test_artefact import make

from potstill.core import InputSpec, Normalization
from potstill.exporters import to_hf
from tests.build_set import build_set


def opened(folder: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what mlcroissant stands on
        import mlcroissant

        return mlcroissant.Dataset(jsonld=str(folder / "croissant.json"))


def rows(folder: Path, name: str = "train") -> list[dict[str, Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(opened(folder).records(name))


@pytest.mark.parametrize(("shape", "soft", "index"), [((1, 4, 4), False, True), ((3, 2, 5), True, False)])
def test_it_validates_and_its_rows_are_the_set(tmp_path: Path, shape: tuple[int, ...], soft: bool, index: bool) -> None:
    small = make(n=6, shape=shape, soft=soft, index=index, low=-0.5)
    folder = to_hf(small, tmp_path / "hf", license="cc-by-4.0")
    metadata = opened(folder).metadata
    assert not metadata.issues.errors
    assert {w.rpartition("/")[2].split('"')[0] for w in metadata.issues.warnings} == {"citeAs", "datePublished"}
    found = rows(folder)
    assert torch.equal(torch.tensor([r["train/input"] for r in found]).reshape(small.inputs.shape), small.inputs)
    assert [r["train/label"] for r in found] == small.hard_labels.tolist()
    assert ("train/soft_label" in found[0]) == soft
    assert found[0]["train/image"].size == (shape[2], shape[1])
    assert [r["classes/name"].decode() if isinstance(r["classes/name"], bytes) else r["classes/name"]
            for r in rows(folder, "classes")] == list(small.classes)  # fmt: skip


def test_a_table_with_names_from_strangers_validates(tmp_path: Path) -> None:
    columns = ("a b", "c/d", 'e"<f>', "label", "\u202eg")
    x = torch.arange(20.0).reshape(4, 5)
    small = build_set(
        x, torch.tensor([0, 1, 0, 1]), method="random", config={}, seed=0, ipc=2, classes=("<b>", "x\ny"),
        input=InputSpec(kind="table", shape=(5,), columns=columns),
        normalization=Normalization(x.mean(0), x.std(0)), training={}, source={"name": "t", "samples": 9, "hash": "ff"},
        outcome={"kind": "finished", "message": "done", "step": 0}, cost={}, weights=torch.ones(4),
    )  # fmt: skip
    folder = to_hf(small, tmp_path / "hf")
    assert not opened(folder).metadata.issues.errors
    found = rows(folder)
    assert [r["train/1_c_d"] for r in found] == x[:, 1].tolist()
    assert [r["train/weight"] for r in found] == [1.0] * 4


def test_it_says_where_the_set_is_from_and_the_hashes_of_its_files(tmp_path: Path) -> None:
    folder = to_hf(make(), tmp_path / "hf")
    said = json.loads((folder / "croissant.json").read_text())
    assert "http://mlcommons.org/croissant/1.1" in said["conformsTo"]
    assert said["prov:wasDerivedFrom"]["prov:label"] == "toy"
    assert said["prov:wasGeneratedBy"]["prov:label"] == "dm, seed 3"
    assert "none was observed" in said["rai:dataCollection"]
    assert "license" not in said
    for file in said["distribution"]:
        assert file["sha256"] == hashlib.sha256((folder / file["contentUrl"]).read_bytes()).hexdigest()
    real = json.loads((to_hf(make(index=True), tmp_path / "real") / "croissant.json").read_text())
    assert "chosen by dm" in real["rai:dataCollection"]
