"""Bytes of a decoder that a set's file lacks: on every page, in plans and budgets, and in what real samples get."""

import copy
from pathlib import Path
from typing import Any

import pytest
from reports.report_samples import card, scorecard

import potstill
from potstill._util.card import shared_decoder_bytes
from potstill.cli.commands.plan import plan_blocks
from potstill.core import Splits
from potstill.dataset_file.inspect import describe
from potstill.errors import PotstillError
from potstill.exporters.hugging_face import to_hf
from potstill.planning.plan import plan
from potstill.reports.entry import Entry
from potstill.reports.provenance import storage
from potstill.testing import toy_source

DATA = Splits(train=toy_source("image", per_class=200), test=toy_source("image", per_class=10))
SMALL: dict[str, Any] = {"parametrization": "latents:dim=2,width=8,epochs=1", "network": "mlp-w8", "codec": "uint8"}
DECODER = 4 * (64 * (2 + 1) + 8 * (16 * 9 + 1) + 8 * 9 + 1 + 2)
"""Float32 values of layers 2 → 64, 16 → 8 and 8 → 1 channels with their biases, and the range."""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))


def made(**more: Any) -> potstill.Distilled:
    return potstill.distill(DATA, "dm", **{**SMALL, "ipc": 1, "steps": 1, "progress": None, **more})


def measured(small: potstill.Distilled, **more: Any) -> dict[str, Any]:
    score = potstill.evaluate(
        small, DATA, networks="linear-model", quick=True, seeds=2, full=False, progress=None, **more
    )
    return {**score.to_dict(), "text": str(score)}


def test_real_samples_get_the_bytes_of_a_decoder_unless_readers_have_it() -> None:
    small = made()
    own = small.metadata["bytes"]["total"]
    assert shared_decoder_bytes(small.metadata) == DECODER
    counted, shared = measured(small), measured(small, decoder="shared")
    assert counted["shared_decoder"] == {"bytes": DECODER, "counted": True}
    assert shared["shared_decoder"] == {"bytes": DECODER, "counted": False}
    assert (counted["bytes"]["total"], shared["bytes"]["total"]) == (own + DECODER, own)
    assert counted["bytes"]["shared_decoder"] == DECODER
    assert own < counted["baselines"]["random"]["bytes"] <= own + DECODER
    assert shared["baselines"]["random"]["bytes"] <= own
    assert counted["baselines"]["random"]["items"] > shared["baselines"]["random"]["items"]
    assert f"bytes are with the {DECODER:,} of what the set decodes by" in counted["text"]
    assert f"bytes are without the {DECODER:,} of what the set decodes by" in shared["text"]
    plain = measured(made(parametrization="pixels"))
    assert "shared_decoder" not in plain
    assert "decodes by" not in plain["text"]
    with pytest.raises(PotstillError, match="`decoder=` must be counted or shared, not 'theirs'"):
        measured(small, decoder="theirs")


def test_a_plan_a_look_inside_and_a_card_print_both_totals(tmp_path: Path) -> None:
    said, small = plan(DATA, "dm", ipc=1, profile_steps=0, **SMALL), made()
    assert (said.shared_decoder_bytes, said.to_dict()["shared_decoder_bytes"]) == (DECODER, DECODER)
    text = "\n".join(map(str, plan_blocks(said, None)))
    total = said.bytes["total"]
    assert f"; {DECODER:,} more of what it decodes by, in a file of its own: {total + DECODER:,} in all" in text
    summary = potstill.inspect(small)
    assert summary["shared_decoder_bytes"] == DECODER
    total = small.metadata["bytes"]["total"]
    assert f"{DECODER:,} bytes more of what it decodes by, which other sets may share: {total + DECODER:,} in all" in (
        describe(summary)
    )
    assert plan(DATA, "dm", ipc=1, profile_steps=0).shared_decoder_bytes == 0
    page = (to_hf(small, tmp_path / "hub") / "README.md").read_text()
    assert f"{DECODER:,} bytes more, in a file of its own that other sets may share" in page


def test_a_budget_counts_it_where_told_to() -> None:
    small, plain = made(ipc=None, bytes=6000, count_decoder=True), made(ipc=None, bytes=6000)
    assert small.metadata["bytes"]["total"] + DECODER <= 6000 < plain.metadata["bytes"]["total"] + DECODER
    assert small.metadata["decoder"]["counted"] is True
    words = f"the budget is {DECODER:,} bytes, but what the set decodes by takes {DECODER:,} of them"
    with pytest.raises(PotstillError, match=words):
        made(ipc=None, bytes=DECODER, count_decoder=True)
    with pytest.raises(PotstillError, match="count_decoder goes with a budget in bytes"):
        made(count_decoder=True)


def test_an_asset_of_several_parts_counts_once_and_odd_metadata_count_nothing() -> None:
    part = {"assets": [{"name": "generator", "hash": "0" * 64}], "bytes": 10}
    other = {"assets": [{"name": "generator", "hash": "1" * 64}], "bytes": 5}
    assert shared_decoder_bytes({"decoder": {"parts": [part, copy.deepcopy(part), other]}, "codec": part}) == 15
    for odd in (None, 3, [], {"bytes": 7}, {"assets": [], "bytes": 7}, {"assets": [1], "bytes": "7"}, {"parts": 3}):
        assert shared_decoder_bytes({"decoder": odd, "codec": odd}) == 0


@pytest.mark.parametrize(
    ("compared", "words"),
    [
        (None, "a reader who lacks it needs 1.0 kB more"),
        (True, "were given the 1.0 kB of what it decodes by, too"),
        (False, "were given those of the set alone: readers are said to have the 1.0 kB"),
    ],
)  # fmt: skip
def test_a_page_shows_both_totals_and_which_one_was_compared(compared: bool | None, words: str) -> None:
    decoder = {"parametrization": "latents", "assets": [{"name": "generator", "hash": "0" * 64}], "bytes": 1000}
    said = {} if compared is None else {"shared_decoder": {"bytes": 1000, "counted": compared}}
    entry = Entry(name="small", card=card(decoder=decoder), scorecard=scorecard(**said))
    shown = "".join(map(str, storage(entry) or []))
    assert words in shown
    assert "Total with what it decodes by" in shown
    assert entry.bytes == 39250 + 1000 * (compared is True)
    assert "decodes by" not in "".join(map(str, storage(Entry(name="plain", card=card(), scorecard=scorecard())) or []))
