"""Learned texts of pairs for people: the nearest real captions, what they cost in score, and where they are shown."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import potstill
from potstill.core import Splits
from potstill.dataset_file.text_io import nearest_texts
from potstill.methods.trajectory.vl_distill import VLDistill
from potstill.testing.toy import pairs_source

METHOD = VLDistill(
    student_steps=2, expert_epochs=1, max_start_epoch=1, train_epochs=1, num_experts=1, iterations=2, lr=5.0,
    lr_lr=1e-3, batch=0, expert_batch=16,
)  # fmt: skip


@pytest.fixture(scope="module")
def splits() -> Splits:
    return Splits(train=pairs_source(vectors=True), test=pairs_source(20, vectors=True))


@pytest.fixture(scope="module")
def learned(splits: Splits) -> Any:
    return potstill.distill(splits, METHOD, items=8, progress=None)


def test_the_nearest_text_is_that_of_a_loop(splits: Splits) -> None:
    real = splits.train.raw(torch.arange(40))["text"]
    vectors = real[[3, 17, 30]] + 0.01
    by_hand = [min(range(40), key=lambda j: (float((v - real[j]).square().sum()), j)) for v in vectors]
    assert nearest_texts(splits.train, vectors).tolist() == by_hand


def test_a_run_notes_the_nearest_captions_beside_its_file(splits: Splits, learned: Any, tmp_path: Path) -> None:
    learned.save(tmp_path / "pairs.safetensors")
    again = potstill.load(tmp_path / "pairs.safetensors")
    index = nearest_texts(splits.train, learned.inputs["text"])
    texts = splits.train.texts  # type: ignore[attr-defined]
    assert again.nearest_texts == tuple(texts[i] for i in index.tolist())
    assert "captions" not in again.metadata["bytes"]
    (tmp_path / "pairs.history.json").unlink()
    assert potstill.load(tmp_path / "pairs.safetensors").nearest_texts == ()


def test_real_pairs_have_captions_and_no_nearest_ones(splits: Splits) -> None:
    small = potstill.distill(splits, "random", items=4, progress=None)
    assert small.captions
    assert not small.nearest_texts
    card = potstill.evaluate(small, splits, seeds=2, steps=5, full=False, robust_scores=False, progress=None)
    assert "nearest_captions" not in card.to_dict()


def test_an_evaluation_says_what_captions_cost(splits: Splits, learned: Any) -> None:
    card = potstill.evaluate(learned, splits, seeds=2, steps=20, full=False, robust_scores=False, progress=None)
    entry = card.to_dict()["nearest_captions"]
    assert tuple(entry["captions"]) == learned.nearest_texts
    assert entry["n"] == 2
    gap = entry["difference"]["mean"]
    assert gap == pytest.approx(card.score - entry["mean"])
    (line,) = [line for line in str(card).splitlines() if "nearest real captions" in line]
    assert f"{100 * entry['mean']:.1f}%" in line
    assert f"{-100 * gap:+.1f} points".replace("-0.0", "+0.0") in line
    assert any(line.startswith("pictures found by texts (IR): ") for line in str(card).splitlines())
    assert any(line.startswith("texts found by pictures (TR): ") for line in str(card).splitlines())


def test_texts_that_are_real_vectors_cost_nothing(splits: Splits) -> None:
    small = potstill.distill(splits, replace(METHOD, lr=0.0), items=8, codec="float32", progress=None)
    card = potstill.evaluate(small, splits, seeds=2, steps=20, full=False, robust_scores=False, progress=None).to_dict()
    assert card["nearest_captions"]["values"] == card["score"]["values"]


def test_a_page_marks_the_nearest_captions_and_escapes_them(learned: Any, tmp_path: Path) -> None:
    learned.record = {**learned.record, "nearest_texts": ["<b>row4</b> bright", *learned.nearest_texts[1:]]}
    learned.save(tmp_path / "pairs.safetensors", force=True)
    page = potstill.report(tmp_path, tmp_path / "report.html").read_text()
    assert "≈ <bdi>&lt;b&gt;row4&lt;/b&gt; bright</bdi>" in page
    assert "<b>row4</b>" not in page
    assert "their texts are learned vectors" in page


def test_a_page_shows_real_captions_without_a_mark(splits: Splits, tmp_path: Path) -> None:
    small = potstill.distill(splits, "random", items=4, progress=None)
    small.save(tmp_path / "real.safetensors")
    page = potstill.report(tmp_path, tmp_path / "report.html").read_text()
    assert f"<figcaption><bdi>{small.captions[0]}</bdi></figcaption>" in page
    assert "≈" not in page
