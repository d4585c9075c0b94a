"""Labels that are scores: a file that is read as what it says, by students of cross-entropy and by others."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

import potstill
from potstill.codecs import Float, Uniform, label_bytes
from potstill.core import InputSpec, Normalization
from potstill.dataset_file import Distilled, describe, inspect, load
from potstill.errors import PotstillError
from potstill.functional.label_simplex import to_probabilities
from potstill.rng import generator
from tests.build_set import build_set

N, K = 12, 3


def scores() -> Tensor:
    rows = torch.eye(K).repeat(N // K, 1) - 1 / K
    return rows * 1.4 + 0.2 * torch.randn(N, K, generator=generator(1, "scores"))


def make(labels: Tensor | None = None, store: object = None, *, as_scores: bool = True) -> Distilled:
    return build_set(
        torch.rand(N, 1, 4, 4, generator=generator(1, "set")), scores() if labels is None else labels,
        method="frepo", config={"lr": 1.0}, seed=3, ipc=4, classes=("a", "b", "c"),
        input=InputSpec(kind="image", shape=(1, 4, 4)),
        normalization=Normalization(torch.full((1,), 0.3), torch.full((1,), 0.5)), training={},
        source={"name": "toy", "samples": 48, "hash": "ff"},
        outcome={"kind": "finished", "message": "done", "step": 4}, cost={"seconds": 1.0, "steps": 4},
        codec=store, scores=as_scores,  # type: ignore[arg-type]
    )  # fmt: skip


def test_scores_come_back_as_they_were_and_are_read_as_probabilities(tmp_path: Path) -> None:
    before = make(store=Float())
    after = load(before.save(tmp_path / "set.safetensors"))
    for small in (before, after):
        assert small.scores is not None
        assert torch.equal(small.scores, scores())
        assert torch.equal(small.labels, to_probabilities(scores()))
        assert torch.equal(small.hard_labels, scores().argmax(1))
        assert torch.equal(small[3][1], small.labels[3])
    assert after.metadata == before.metadata
    assert after.has_soft_labels
    assert make(to_probabilities(scores()), as_scores=False).scores is None


def test_the_card_says_what_they_are_and_no_tensor_is_called_labels(tmp_path: Path) -> None:
    small = make()
    assert small.metadata["labels"]["kind"] == "scores"
    assert small.metadata["labels"]["hard_label"] == {"own": pytest.approx(2 / 3), "other": pytest.approx(-1 / 3)}
    held = safetensors.torch.load_file(small.save(tmp_path / "set.safetensors"))
    assert "scores" in held
    assert "labels" not in held
    assert "labels      scores (real rows; a hard label is one-hot − 1/k)" in describe(inspect(small))
    assert "labels" not in make(torch.arange(N) % K, as_scores=False).metadata


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_a_store_writes_them_in_its_bits_and_the_card_counts_them(bits: int) -> None:
    small = make(store=Uniform(bits=8, labels=bits))
    assert small.scores is not None
    step = float(scores().max() - scores().min()) / (2**bits - 1)
    assert float((small.scores - scores()).abs().max()) <= 0.51 * step + 1e-3
    assert small.metadata["bytes"]["labels"] == label_bytes(N, K, bits, scores=True)
    assert make(store=Float()).metadata["bytes"]["labels"] == label_bytes(N, K, 32, scores=True) == 4 * N * K


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (scores()[:, :2], r"rows of 3 numbers, one for each class, but they are float32 \[12, 2\]"),
        (scores()[:5], r"float32 \[5, 3\]; give each of 12"),
        (torch.arange(N) % K, "int64"),
        (scores().index_fill(0, torch.tensor([4]), float("nan")), "scores must be finite"),
        (scores() * float("inf"), "scores must be finite"),
    ],
)
def test_what_are_no_scores_is_refused_in_one_line(bad: Tensor, words: str) -> None:
    with pytest.raises(PotstillError, match=words) as refused:
        make(bad)
    assert "\n" not in str(refused.value)


def test_a_file_that_contradicts_its_card_is_refused(tmp_path: Path) -> None:
    small = make(store=Float())
    held, path = dict(small.tensors), tmp_path / "bad.safetensors"

    def refused(tensors: dict[str, Tensor], **said: object) -> str:
        card = {n: v for n, v in {**small.metadata, **said}.items() if v is not None}
        safetensors.torch.save_file(tensors, path, metadata={"card": json.dumps(card)})
        with pytest.raises(PotstillError) as error:
            load(path)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "do not agree on whether labels are scores" in refused(held, labels=None)
    assert "'labels'" in refused(held, labels="scores")
    assert "'labels'" in refused(held, labels={"kind": 3})
    assert "'wishes', but this version reads" in refused(held, labels={"kind": "wishes"})
    assert "must be finite" in refused({**held, "scores": held["scores"] / 0})
    narrow = dict(small.metadata["codec"]["tensors"])
    narrow["scores"] = {**narrow["scores"], "shape": [N, 2]}
    said = refused(
        {**held, "scores": held["scores"][:, :2].contiguous()}, codec={**small.metadata["codec"], "tensors": narrow}
    )
    assert "rows of 3 numbers" in said


def test_exports_hold_both_readings_by_name(tmp_path: Path) -> None:
    small = make(store=Float())
    with np.load(potstill.export(small, "npz", tmp_path / "set.npz"), allow_pickle=False) as found:
        np.testing.assert_array_equal(found["y"], to_probabilities(scores()).numpy())
        np.testing.assert_array_equal(found["scores"], scores().numpy())
    folder = potstill.export(small, "png", tmp_path / "png")
    said = json.loads((folder / "labels.json").read_text())
    assert np.allclose(said["scores"], scores())
    assert np.allclose(np.sum(said["labels"], 1), 1)
    with tarfile.open(potstill.export(small, "webdataset", tmp_path / "set.tar")) as tar:
        names = tar.getnames()
    assert "00000000.scores.json" in names
    assert "00000000.soft.json" in names
    pq = pytest.importorskip("pyarrow.parquet")
    table = pq.read_table(potstill.export(small, "parquet", tmp_path / "set.parquet"))
    np.testing.assert_array_equal(np.stack(table["scores"].to_pylist()), scores().numpy().astype(float))


def test_a_page_says_that_labels_are_scores(tmp_path: Path) -> None:
    path = make().save(tmp_path / "set.safetensors")
    page = potstill.report(path, tmp_path / "page.html").read_text()
    assert "Labels are scores, from −" in page
    assert "Labels are rows of probabilities" not in page
