"""The formula of memory, by hand."""

import dataclasses

import pytest

from potstill.execution.peak import FETCHED, MADE, SORTED, SPARE, WRITTEN, MemoryInputs, PartMemory, predict_memory

REAL = PartMemory(name="real samples", each=10, fixed=7, at_once=4, result_bytes=40, joined=True, fetched=100)
SYNTHETIC = PartMemory(name="synthetic samples", each=1000, fixed=50, at_once=3, when="descent")
TRAINING = PartMemory(name="training", each=2000, fixed=0, at_once=1, when="after")
COUNTS = MemoryInputs(
    resident=100_000, loading=90_000, samples=25, networks=600, state=300, moving=128, moments=130, decoded=512,
    graph=700, stored=520, parts=(REAL, SYNTHETIC, TRAINING),
)  # fmt: skip


def test_every_term_is_that_of_the_text():
    memory = predict_memory(COUNTS)
    assert {t.name: t.bytes for t in memory.always} == {
        "process": 100_000, "index of the real samples": 200, "trained networks": 600, "state": 300,
        "results of real samples": 40,
    }  # fmt: skip
    assert {t.name: t.bytes for t in memory.moments} == {
        "sorting by class": SORTED * 25,
        "fetching real samples": FETCHED * 100,
        "joining results of real samples": 40,
        "real samples": 4 * 10 + 7,
        "synthetic samples": 3 * 1000 + 50 + 700,
        "training": 2000 + 128 + 130,
        "move": 700 + 512 + 3 * 128 + 130,
        "checkpoint": WRITTEN * 300,
        "result": MADE * 512,
        "writing": 2 * 512 + WRITTEN * 520 - 300,
    }
    assert memory.largest.name == "synthetic samples"
    assert memory.spare.bytes == round(SPARE * 3750)
    assert memory.peak == 101_140 + 3750 + round(SPARE * 3750)


def test_loading_decides_where_it_took_more():
    assert predict_memory(dataclasses.replace(COUNTS, loading=10**6)).peak == 10**6


@pytest.mark.parametrize("samples", [10**4, 10**6])
def test_nothing_but_the_index_grows_with_the_real_samples(samples):
    few, many = predict_memory(COUNTS), predict_memory(dataclasses.replace(COUNTS, samples=samples))
    grown = [(b.name, b.bytes) for a, b in zip(few.always, many.always, strict=True) if a != b]
    assert grown == [("index of the real samples", 8 * samples)]
    assert [b.name for a, b in zip(few.moments, many.moments, strict=True) if a != b] == ["sorting by class"]


def test_a_selection_moves_nothing():
    memory = predict_memory(dataclasses.replace(COUNTS, moving=0, moments=0, graph=0, parts=()))
    assert [t.name for t in memory.moments] == ["sorting by class", "checkpoint", "result", "writing"]


def test_a_term_says_how_it_comes_about():
    memory = predict_memory(COUNTS)
    how = {t.name: t.explanation for t in memory.moments}
    assert how["real samples"] == "4 × 10 + 7"
    assert how["synthetic samples"] == "3 × 1,000 + 50 + decoding 700"
    assert how["training"] == "1 × 2,000 + what has moved 258"
