"""The search for the best real samples: what it tries, what it drops, and what it keeps."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import features

import potstill
from potstill.codecs import mosaic
from potstill.core import InputSpec, Splits
from potstill.data import TensorSource
from potstill.data.selection_order import order_samples
from potstill.evaluation import real_set_space
from potstill.evaluation.byte_matched_baselines import BaselineContext, SoftLabels
from potstill.evaluation.candidate_trials import Length
from potstill.evaluation.real_set_space import AVIF_BYTES, RealSetSpace, RealWay, candidate_codecs, short_codecs
from potstill.evaluation.real_sets import RealSetSearch, Trial, space_of
from potstill.functional.coreset import herding
from potstill.functional.label_simplex import keep_largest
from potstill.nn import factory
from potstill.rng import derive_seed, generator


def _in_bytes(source: TensorSource) -> TensorSource:
    low, high = source.inputs.min(), source.inputs.max()
    return replace(source, inputs=((source.inputs - low) / (high - low) * 255).round().to(torch.uint8))


def _context(source: Any, room: int, **changes: Any) -> BaselineContext:
    make = factory("convnet-d1-w4", source.input, len(source.classes))
    return BaselineContext(
        train=source, byte_budget=room, make=make, **{"seed": 0, "trial": Length(steps=4), **changes}
    )


@pytest.fixture
def source(pictures: Splits) -> TensorSource:
    assert isinstance(pictures.train, TensorSource)
    return _in_bytes(pictures.train)


def test_a_quick_search_tries_few_bits_and_jpeg_of_colour() -> None:
    for channels in (1, 3):
        spec = InputSpec(kind="image", shape=(channels, 28, 28))
        quick = [codec for family in candidate_codecs(spec, quick=True) for codec in family]
        assert {"uint1", "uint2", "half:bits=1", "half:bits=2"} <= set(quick)
        assert any("jpeg" in codec for codec in quick) == (channels == 3)
        full = [codec for family in candidate_codecs(spec) for codec in family]
        assert set(quick) - {"mosaic:kind=jpeg,quality=50"} < set(full)
        assert len({c for c in full if "kind=jpeg" in c}) == 4


def test_avif_takes_the_place_of_webp_in_few_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes fewer bytes for more precise pixels, and longer to write."""

    def kinds(byte_budget: int) -> set[str]:
        spec = InputSpec(kind="image", shape=(3, 32, 32))
        codecs = [c for family in candidate_codecs(spec, byte_budget=byte_budget) for c in family]
        return {c.partition("kind=")[2].partition(",")[0] for c in codecs if c.startswith("mosaic")}

    check, missing = features.check, set[str]()
    monkeypatch.setattr(mosaic.features, "check", lambda name: name not in missing and check(name))
    newer = "avif" if check("avif") else "webp"
    assert kinds(AVIF_BYTES) == {"png", "jpeg", newer}
    assert kinds(AVIF_BYTES + 1) == {"png", "jpeg", "webp"}
    missing.add("avif")
    assert kinds(AVIF_BYTES) == {"png", "jpeg", "webp"}
    missing.add("webp")
    assert kinds(AVIF_BYTES) == {"png", "jpeg"}


def test_a_search_stays_within_the_students_that_it_announces(source: TensorSource) -> None:
    for labels in (("hard",), ("hard", "top3")):
        for quick in (True, False):
            where = _context(source, 600, quick=quick)
            search = RealSetSearch(where=where, space=space_of(where, labels=labels)).run()
            assert 0 < search.trained <= search.space.count_students()
            assert sum(len(t.rows) for t in search.trials) == search.trained
            assert all(t.bytes <= 600 for t in search.trials if len(t.rows))
            groups = {t.way.group for t in search.trials}
            assert groups >= {search.space.first_group, *search.space.other_groups()[:2]}


def test_a_search_is_repeated_by_its_seed_and_makes_what_it_chose(source: TensorSource) -> None:
    where = _context(source, 600)
    one, again = (RealSetSearch(where=where, space=space_of(where)).run() for _ in range(2))
    assert one.table() == again.table()
    assert one.chosen().way == again.chosen().way
    made = one.make(one.chosen(), 2)
    assert made.bytes <= 600
    assert made.codec == made.way["codec"] == one.chosen().way.codec
    assert len(made.pairs) == (1 if made.way["selection"] == "herding" else 2)


def test_the_hopeless_are_dropped_and_get_no_more_students(
    source: TensorSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Students say that the fewer the samples, the worse: more students go to the ways with many."""
    monkeypatch.setattr(real_set_space, "ROUNDS", (1, 2, 4))
    where = _context(source, 600)
    search = RealSetSearch(where=where, space=replace(space_of(where), selections=("random",), screened=None))

    class Students:
        def student_scores(self, pairs: Any, students: Any, texts: Any = ()) -> torch.Tensor:
            return torch.full((len(students), 50), len(pairs[0][0]) / 100) + torch.arange(50) / 1e6

    search.__dict__["probe"] = Students()
    search.run()
    counts = [len(t.rows) for t in search.trials]
    assert counts[0] == 4
    assert min(counts) == 1
    assert search.trials[0].items == max(t.items for t in search.trials)
    assert search.trained < 4 * len(counts) / 2


def test_the_simplest_of_equal_ways_is_chosen(source: TensorSource) -> None:
    where = _context(source, 600)
    search = RealSetSearch(where=where, space=space_of(where)).run()
    ways = {s: RealWay(codec="uint2", selection=s) for s in ("random", "herding")}
    rows = torch.full((4, 100), 0.5, dtype=torch.float64)
    plain, other = (Trial(way=ways[s], per_class=1, rows=rows, rounds=4) for s in ("random", "herding"))
    search.trials = [other, plain]
    assert search.chosen() is plain
    other.rows = rows + 0.02
    assert search.chosen() is other


def test_orders_are_nested_and_those_of_their_names(source: TensorSource) -> None:
    for selection in ("random", "herding", "k-means"):
        orders = order_samples(source, selection, [5] * 4, 3)
        assert all(len(set(o.tolist())) == 5 for o in orders)
        assert all((source.labels[o] == c).all() for c, o in enumerate(orders))
        if selection != "k-means":
            assert all(
                torch.equal(a[:3], b) for a, b in zip(orders, order_samples(source, selection, [3] * 4, 3), strict=True)
            )
    (index,) = torch.where(source.labels == 1)
    rows = source.fetch(index).x
    assert isinstance(rows, torch.Tensor)
    found = order_samples(source, "herding", [5] * 4, 0)[1]
    assert torch.equal(found, index[herding(rows.flatten(1), 5)])
    with pytest.raises(potstill.PotstillError, match="selection of real samples"):
        order_samples(source, "best", [1] * 4, 0)


def test_centres_of_k_means_fill_the_bytes_that_drawn_samples_would() -> None:
    """They are coded in fewer bits, so that as many as drawn ones leave bytes."""
    train = potstill.load_data("digits").train
    search = RealSetSearch(where=_context(train, 2000), space=RealSetSpace(codecs=(("uint4",),)))
    drawn = search.make(Trial(way=RealWay(codec="uint4"), per_class=9), 1)
    centres = search.make(Trial(way=RealWay(codec="uint4", selection="k-means"), per_class=4), 1)
    assert 0.93 * 2000 < drawn.bytes <= 2000
    assert 0.93 * 2000 < centres.bytes <= 2000
    order = order_samples(train, "k-means", [centres.per_class] * 10, derive_seed(0, "baseline", "0"))
    pair = train.normalization.apply(train.raw(order[0][: centres.per_class]))
    assert torch.allclose(centres.pairs[0][0][: centres.per_class], pair, atol=0.2), "as many centres as fit"


def test_the_three_largest_probabilities_are_kept_in_few_bits(source: TensorSource) -> None:
    rows = torch.softmax(torch.randn(6, 7, generator=generator(0)), 1)
    kept = keep_largest(rows, 3)
    assert torch.allclose(kept.sum(1), torch.ones(6))
    assert ((kept > 0).sum(1) == 3).all()
    assert torch.equal(kept.argmax(1), rows.argmax(1))
    assert torch.equal(keep_largest(rows, 7), rows)
    calls: list[int] = []

    def teacher(x: torch.Tensor) -> torch.Tensor:
        calls.append(len(x))
        return torch.softmax(x.flatten(1)[:, :4], 1)

    soft = SoftLabels(source, teacher, "top3")
    first, again = soft.encode(torch.tensor([3, 1])), soft.encode(torch.tensor([1, 3, 5]))
    assert calls == [2, 1], "each sample is labelled once"
    assert first.metadata["bits"] == again.metadata["bits"] == 4


def test_uneven_classes_are_tried_in_both_proportions() -> None:
    labels = torch.arange(3).repeat_interleave(torch.tensor([60, 30, 6]))
    x = torch.randn(96, 5, generator=generator(0)) + 3 * labels[:, None]
    table = TensorSource.make(x, labels, classes=("a", "b", "c"), name="uneven", kind="table")
    space = RealSetSpace.of(table, 500, natural=True)
    assert space.natural == (True, False)
    assert ("random", False, "hard") in space.other_groups()
    even = TensorSource.make(x, torch.arange(96) % 3, classes=("a", "b", "c"), name="even", kind="table")
    assert RealSetSpace.of(even, 500, natural=True).natural == (False,)


def test_a_search_ends_with_its_time_and_says_so(source: TensorSource, monkeypatch: pytest.MonkeyPatch) -> None:
    where = _context(source, 600)
    clock = iter(range(0, 10_000, 10))
    monkeypatch.setattr("potstill.evaluation.real_sets.time.monotonic", lambda: float(next(clock)))
    space = replace(space_of(where), screened=None)
    search = RealSetSearch(where=where, space=space, seconds=25.0).run()
    assert search.is_late
    assert search.trained == 2
    tried = [t for t in search.trials if len(t.rows)]
    assert len(tried) == 2
    assert search.chosen() in tried
    whole = RealSetSearch(where=where, space=space_of(where)).run()
    assert not whole.is_late
    assert whole.trained > 2


def test_a_late_search_chooses_by_what_it_scored_in_closed_form(
    source: TensorSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = _context(source, 600)
    clock = iter(range(0, 10_000, 10))
    monkeypatch.setattr("potstill.evaluation.real_sets.time.monotonic", lambda: float(next(clock)))
    search = RealSetSearch(where=where, space=replace(space_of(where), screened=1), seconds=35.0).run()
    assert search.is_late
    assert search.trained == 0
    scores = [t.screened for t in search.trials if t.screened is not None]
    assert 2 <= len(scores) < len(search.trials)
    assert search.chosen().screened == max(scores)


def test_students_try_the_ways_that_score_best_in_closed_form(source: TensorSource) -> None:
    """Of pictures every way is scored, and two of them are learned."""
    where = _context(source, 600)
    space = replace(space_of(where, labels=("hard", "top3")), screened=2)
    search = RealSetSearch(where=where, space=space).run()
    scored = sorted((t.screened for t in search.trials if t.screened is not None), reverse=True)
    learned = [t for t in search.trials if len(t.rows)]
    put_together = [t for t in learned if t.screened is None]
    assert len(scored) > 8
    assert len(learned) - len(put_together) == 2
    assert len(put_together) <= 1
    assert {t.screened for t in learned if t.screened is not None} == set(scored[:2])
    assert search.trained <= space.count_students() <= 2 * 2 + space.rounds[-1]
    assert search.chosen() in learned
    rows = search.table()
    assert sum("closed_form" in row for row in rows) == len(scored)
    assert sum("accuracy" in row for row in rows) == len(learned)
    table = replace(space, screened=None)
    assert table.count_students() > space.count_students()


def test_pictures_of_16_pixels_are_tried_as_cosines() -> None:
    def cosines(side: int, quick: bool = False) -> list[str]:
        spec = InputSpec(kind="image", shape=(3, side, side))
        return [c for family in candidate_codecs(spec, quick) for c in family if c.startswith("cosine")]

    assert not cosines(15)
    assert cosines(16, True) == ["cosine:positions=64", "cosine:positions=36", "cosine:positions=16"]
    assert cosines(32)[0] == "cosine:positions=256,width=0.25"
    assert set(cosines(32, True)) < set(cosines(32))


def test_a_search_without_time_begins_with_coarse_codecs_of_each_family() -> None:
    spec = InputSpec(kind="image", shape=(3, 32, 32))
    quick = candidate_codecs(spec, True)
    short = [codec for (codec,) in short_codecs(spec, quick)]
    assert short[:2] == ["half:bits=2", "cosine:positions=36"]
    assert set(short) <= {codec for family in quick for codec in family}
    table = InputSpec(kind="table", shape=(4,))
    assert short_codecs(table, (("exact", "uint4"),)) == (("exact",), ("uint4",))
