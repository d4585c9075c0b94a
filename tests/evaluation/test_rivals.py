from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import potstill
from potstill.codecs import encode_classes, encode_probabilities, encoded_bytes, parse_codec
from potstill.core import InputSpec, Splits, Whitening, registry
from potstill.data import TensorSource
from potstill.dataset_file.payload_io import compress_parts
from potstill.errors import PotstillError
from potstill.evaluation import byte_matched_baselines, real_set_space, real_sets
from potstill.evaluation.byte_matched_baselines import (
    BaselineContext,
    ProportionalOrder,
    baseline_byte_budget,
    baseline_order,
    count_exact_bytes,
    make_item_matched,
    max_items_per_class,
    pack_samples,
    trial_steps,
)
from potstill.evaluation.candidate_trials import Length
from potstill.evaluation.real_set_space import TIGHT_BYTES, candidate_codecs
from potstill.evaluation.real_sets import RealSetSearch, space_of
from potstill.execution import Processes
from potstill.functional.sampling import class_indices
from potstill.nn import factory
from potstill.rng import generator


def make_baseline(name: str, where: BaselineContext, *, draws: int, rows: Any = None) -> Any:
    """One baseline of those that `evaluate` shows, by a search of its own."""
    labels, selection = ("soft", "random") if name == "random-soft" else ("hard", name)
    full = space_of(where)
    space = replace(full, selections=(selection,), natural=full.natural[:1], labels=(labels,))
    search = RealSetSearch(where=where, space=space, rows=rows).run()
    return search.make(search.trials[0], draws)


def _bytes(source: TensorSource) -> TensorSource:
    """The pictures in 8 bits, as most data have them."""
    low, high = source.inputs.min(), source.inputs.max()
    return replace(source, inputs=((source.inputs - low) / (high - low) * 255).round().to(torch.uint8))


def _field(source: Any, room: int, network: str = "convnet-d1-w4", **changes: Any) -> BaselineContext:
    make = factory(network, source.input, len(source.classes))
    return BaselineContext(
        train=source,
        byte_budget=room,
        make=make,
        **{"seed": 0, "quick": True, "trial": Length(steps=byte_matched_baselines.TRIAL_STEPS), **changes},
    )


def _orders(source: Any, seed: int = 0) -> list[Tensor]:
    rng = generator(seed, "test")
    return [i[torch.randperm(len(i), generator=rng)] for i in class_indices(source.labels, len(source.classes))]


def _weight(source: Any, orders: list[Tensor], n: int, codec: str, soft: bool = False) -> int:
    index = torch.cat([o[:n] for o in orders])
    k = len(source.classes)
    labels = (
        encode_probabilities(torch.full((len(index), k), 1 / k), 8) if soft else encode_classes(source.labels[index], k)
    )
    parts = {"inputs": parse_codec(codec).pack(source.raw(index)), "labels": labels}
    known = torch.zeros(0) if soft else source.labels[index]
    return sum(map(encoded_bytes, compress_parts(parts, known).values()))


@pytest.mark.parametrize("codec", ["exact", "uint4", "uint1", "half:bits=4", "half:bits=1", "mosaic:kind=png"])
@pytest.mark.parametrize("soft", [False, True])
def test_as_many_fit_as_trying_every_number_says(pictures: Splits, codec: str, soft: bool) -> None:
    assert isinstance(pictures.train, TensorSource)
    source = _bytes(pictures.train)
    orders = _orders(source)
    sizes = [0] + [_weight(source, orders, n, codec, soft) for n in range(1, 19)]
    for room in (1, 90, 200, 333, 700, 1500, 4000, 10**6):
        for guess in (1, 3, 18, 500):
            found = max_items_per_class(source, orders, room, codec, soft=soft, guess=guess)
            # A stream or a picture file may shrink where a picture is added.
            assert sizes[found] <= room, (room, guess)
            assert found == 18 or sizes[found + 1] > room, (room, guess)


def test_classes_of_other_sizes_give_all_they_have() -> None:
    rng = generator(0, "rows")
    labels = torch.tensor([0] * 7 + [1] * 40 + [2] * 3)
    source = TensorSource.make(torch.rand(50, 6, generator=rng), labels, name="rows")
    orders = _orders(source)
    room = 150
    n = max_items_per_class(source, orders, room, "uint4")
    assert 7 < n < 40
    made = pack_samples(source, [orders], n, "uint4")
    assert torch.bincount(made.pair_for(0)[1]).tolist() == [7, n, 3]
    assert made.bytes <= room < pack_samples(source, [orders], n + 1, "uint4").bytes
    assert max_items_per_class(source, orders, 10**6, "uint4") == 40


@pytest.mark.parametrize("name", ["random", "herding", "random-soft"])
@pytest.mark.parametrize("room", [150, 600, 2000])
@pytest.mark.parametrize("quick", [True, False])
def test_a_baseline_never_weighs_more_than_the_set_and_not_one_sample_more_would_fit(
    pictures: Splits, name: str, room: int, quick: bool
) -> None:
    assert isinstance(pictures.train, TensorSource)
    source = _bytes(pictures.train)

    def rows(x: Tensor) -> Tensor:
        return torch.full((len(x), 4), 0.25)

    made = make_baseline(name, _field(source, room, quick=quick), draws=2, rows=rows)
    assert made.bytes <= room
    assert made.codec in {c for family in candidate_codecs(source.input, quick) for c in family}
    assert len(made.pairs) == (1 if name == "herding" else 2)
    assert made.per_class is not None
    assert made.items == min(made.per_class, 18) * 4
    for x, y in made.pairs:
        assert len(x) == len(y) == made.items
        assert y.ndim == (2 if name == "random-soft" else 1)
    if made.per_class < 18 and not made.codec.startswith("mosaic"):
        orders = _orders(source)
        assert _weight(source, orders, made.per_class + 1, made.codec, name == "random-soft") > room


def test_what_is_measured_is_what_a_reader_of_the_file_gets(pictures: Splits) -> None:
    assert isinstance(pictures.train, TensorSource)
    source = _bytes(pictures.train)
    orders = _orders(source)
    index = torch.cat([o[:3] for o in orders])
    exact = pack_samples(source, [orders], 3, "exact")
    real = source.fetch(index).x
    assert isinstance(real, Tensor)
    assert torch.equal(exact.pair_for(0)[0], real)
    assert exact.pair_for(0)[1].tolist() == source.labels[index].tolist()
    coarse = pack_samples(source, [orders], 3, "uint1")
    assert all(len(torch.unique(x)) <= 2 * 12 for x in coarse.pair_for(0)[0])
    assert coarse.bytes < exact.bytes / 4


def test_trials_are_longer_where_networks_are_cheap() -> None:
    """100 updates chose 442 rows in two bits over 338 that teach 26 classes more; pictures cost too much for 400."""
    table, picture = InputSpec(kind="table", shape=(16,)), InputSpec(kind="image", shape=(1, 28, 28))
    assert trial_steps(table) == 4 * trial_steps(picture) == 4 * byte_matched_baselines.TRIAL_STEPS
    source = TensorSource.make(torch.randn(40, 16), torch.arange(40) % 2, ["a", "b"], name="rows")
    assert _field(source, 400, "mlp-w8", trial=None).trial_length.steps == trial_steps(table)
    assert _field(source, 400, "mlp-w8", trial=Length(steps=7)).trial_length.steps == 7


def test_a_codec_that_holds_the_classes_is_chosen_over_one_that_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Classes that differ in the low bits alone: more samples of one bit are worth nothing."""
    monkeypatch.setattr(byte_matched_baselines, "TRIAL_STEPS", 60)
    monkeypatch.setattr(real_set_space, "ROUNDS", (2, 4))
    rng = generator(1, "waves")
    labels = torch.arange(200) % 2
    noise = (torch.rand(200, 8, generator=rng) > 0.5).float()
    low_bits = (0.59 + 0.1 * labels[:, None] + 0.02 * torch.rand(200, 40, generator=rng)) * 255
    waves = torch.cat([noise * 255, low_bits], 1).round().to(torch.uint8).view(200, 1, 48)
    source = TensorSource.make(waves, labels, kind="waves", name="low bits")  # nothing is augmented
    field = _field(source, 450, "mlp-w32", quick=False)
    made = make_baseline("random", field, draws=1)
    tried = {t["codec"]: t for t in made.trials}
    assert tried["uint2"]["per_class"] > 2 * tried["exact"]["per_class"]
    assert tried["uint4"]["accuracy"] > 0.8
    assert tried["uint2"]["accuracy"] < 0.7
    assert made.codec != "uint2"
    # what is black and white loses nothing: more of them fit as they are
    binary = replace(source, inputs=((source.inputs > 170).to(torch.uint8) * 255))
    assert make_baseline("random", _field(binary, 60, "mlp-w32", quick=False), draws=1).codec == "exact"


def test_nothing_of_the_held_part_is_trained_on(pictures: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(pictures.train, TensorSource)
    source = pictures.train
    field = _field(source, 600)
    fit, held = field.parts()
    learned: set[bytes] = set()
    plain = real_sets.pack_samples

    def spy(train: Any, draws: Any, per_class: int, codec: str, rows: Any = None, **more: Any) -> Any:
        for order in draws if train is not source else ():
            index = torch.cat([o[:per_class] for o in order])
            learned.update(x.numpy().tobytes() for x in train.raw(index))
        return plain(train, draws, per_class, codec, rows, **more)

    monkeypatch.setattr(real_sets, "pack_samples", spy)
    whole = {x.numpy().tobytes() for x in held.raw(torch.arange(len(held)))}
    kept = fit.raw(torch.arange(len(fit)))
    assert isinstance(kept, Tensor)
    assert len(fit) + len(held) == len(source)
    assert not whole & {x.numpy().tobytes() for x in kept}
    made = make_baseline("random", field, draws=1)
    assert len(made.trials) > 1
    assert learned
    assert not learned & whole


def test_draws_are_fresh_and_repeated_by_the_seed_wherever_students_are_trained(pictures: Splits) -> None:
    field = _field(pictures.train, 900)
    one, again = (make_baseline("random", field, draws=3) for _ in range(2))
    assert one.trials == again.trials
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(one.pairs, again.pairs, strict=True))
    assert len({x.numpy().tobytes() for x, _ in one.pairs}) == 3
    with Processes(1) as pool:
        assert make_baseline("random", replace(field, executor=pool), draws=3).trials == one.trials
    other = make_baseline("random", replace(field, seed=1), draws=3)
    assert not torch.equal(one.pairs[0][0], other.pairs[0][0])
    # as many draws as are asked for are the first of more
    assert torch.equal(make_baseline("random", field, draws=1).pairs[0][0], one.pairs[0][0])


def test_herding_is_one_choice_that_meets_the_class_means(pictures: Splits) -> None:
    train = pictures.train
    field = _field(train, 3000)
    herded, plain = make_baseline("herding", field, draws=4), make_baseline("random", field, draws=8)
    assert len(herded.pairs) == 1
    assert herded.pair_for(0) is herded.pair_for(3)
    every = train.fetch(torch.arange(len(train))).x
    assert isinstance(every, Tensor)

    def gap(pair: tuple[Tensor, Tensor]) -> float:
        x, y = pair
        means = [(x[y == c].mean(0) - every[train.labels == c].mean(0)).norm() for c in range(4)]
        return float(torch.stack(means).norm())

    exact = pack_samples(train, [baseline_order(train, "herding", 0, "0", 5)], 5, "exact")
    others = pack_samples(train, [_orders(train, n) for n in range(8)], 5, "exact")
    assert gap(exact.pair_for(0)) < min(map(gap, others.pairs))
    assert plain.items >= 4


def test_a_table_is_stored_by_its_columns(table: Splits) -> None:
    source = table.train
    made = make_baseline("random", _field(source, 300, "mlp-w8", quick=False), draws=2)
    assert made.bytes <= 300
    assert made.codec in candidate_codecs(source.input)[0]
    assert not any("half" in c or "mosaic" in c for family in candidate_codecs(source.input) for c in family)
    # columns of scales that differ by a thousand are rounded each in its own
    assert isinstance(source, TensorSource)
    scaled = source.inputs * torch.tensor([1000.0, 1, 1, 1, 1, 0.001])
    wide = TensorSource.make(scaled, source.labels, classes=source.classes, name="wide")
    orders = _orders(wide)
    coarse = pack_samples(wide, [orders], 8, "uint4").pair_for(0)[0]
    exact = pack_samples(wide, [orders], 8, "exact").pair_for(0)[0]
    assert float((coarse - exact).abs().max()) < 0.5  # in standard deviations, of every column


@pytest.mark.parametrize("room", [300, 2000])
def test_values_beyond_float16_leave_out_float16_and_not_the_baseline(
    room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = generator(0, "incomes")
    rows = torch.rand(200, 5, generator=rng) * 50
    rows[:, 1] = 30_000 + 1_000 * torch.randn(200, generator=rng)
    rows[::40, 1] = 67_617.0  # five rows: most draws hold none, and some do
    source = TensorSource.make(rows, torch.arange(200) % 2, name="incomes")
    # float16 would win the trials, if it were tried
    monkeypatch.setattr(real_set_space, "candidate_codecs", lambda *_: (("float16", "exact", "uint8"),))
    for name in ("random", "herding"):
        made = make_baseline(name, _field(source, room, "linear", quick=False, trial=Length(steps=5)), draws=4)
        assert made.codec in ("exact", "uint8")
        assert "float16" not in [tried["codec"] for tried in made.trials]
        assert 0 < made.bytes <= room


def test_soft_labels_are_charged_and_read_back_in_8_bits(pictures: Splits) -> None:
    asked: list[Tensor] = []

    def rows(x: Tensor) -> Tensor:
        asked.append(x)
        return torch.softmax(x.flatten(1)[:, :4], 1)

    orders = _orders(pictures.train)
    made = pack_samples(pictures.train, [orders], 3, "uint4", rows)
    hard = pack_samples(pictures.train, [orders], 3, "uint4")
    assert 40 <= made.bytes - hard.bytes <= 12 * 4 + 8  # 12 rows of four bytes, coded, in place of 12 classes
    index = torch.cat([o[:3] for o in orders])
    real = pictures.train.fetch(index).x
    assert isinstance(real, Tensor)
    assert torch.equal(asked[0], real)
    y = made.pair_for(0)[1]
    assert torch.allclose(y.sum(1), torch.ones(12))
    assert 0 < float((y - rows(asked[0])).abs().max()) < 0.01


def test_a_set_too_small_for_one_sample_of_each_class_says_so(pictures: Splits) -> None:
    with pytest.raises(PotstillError, match=r"at least \d+ bytes, but the set takes 12; give more bytes"):
        make_baseline("random", _field(pictures.train, 12), draws=1)


def test_everything_fits_as_it_is_where_there_is_room(pictures: Splits) -> None:
    assert isinstance(pictures.train, TensorSource)
    source = _bytes(pictures.train)
    made = make_baseline("random", _field(source, 10**6, quick=False), draws=1)
    assert (made.codec, made.items) == ("exact", len(source))
    assert made.trials == ({"codec": "exact", "per_class": 15},) or len(made.trials) == 1


def test_as_many_items_as_the_set_weigh_what_they_weigh(pictures: Splits) -> None:
    assert isinstance(pictures.train, TensorSource)
    source = _bytes(pictures.train)
    made = make_item_matched(_field(source, 1), [3, 0, 2, 5], 2)
    assert torch.bincount(made.pair_for(0)[1], minlength=4).tolist() == [3, 0, 2, 5]
    assert (made.items, made.codec, len(made.pairs)) == (10, "exact", 2)
    assert 500 < made.bytes <= 10 * 64 + 3  # as coded


def test_the_whitening_is_charged_to_nobody() -> None:
    sizes = {"inputs": 100, "labels": 10, "decoder": 5, "weights": 4, "whitening": 9000, "total": 9119}
    assert baseline_byte_budget(sizes) == 119
    assert baseline_byte_budget({"inputs": 100, "labels": 10, "decoder": 0, "total": 110}) == 110


def test_bytes_of_all_data_are_those_at_their_own_precision(pictures: Splits, table: Splits) -> None:
    assert isinstance(pictures.train, TensorSource)
    source = _bytes(pictures.train)
    n = len(source)
    assert count_exact_bytes(source) == n * 64 + 4
    assert count_exact_bytes(source, most=64 * 10) == n * 64 + 4
    assert count_exact_bytes(table.train) == len(table.train) * 6 * 4 + 4


def test_a_whitened_sets_room_is_its_bytes_without_the_whitening(pictures: Splits, make_set: Any) -> None:
    d = 64
    white = Whitening(torch.zeros(d), torch.eye(d), torch.eye(d))
    normalization = replace(pictures.train.normalization, whitening=white)
    sizes = make_set(pictures, ipc=4, codec=parse_codec("uint4"), normalization=normalization).metadata["bytes"]
    assert baseline_byte_budget(sizes) == sizes["total"] - sizes["whitening"]


def test_small_sets_are_held_against_pictures_of_a_quarter_of_the_size() -> None:
    from potstill.core import InputSpec

    spec = InputSpec(kind="image", shape=(1, 28, 28))
    quarter = "half:bits=2,factor=4"
    assert any(quarter in family for family in candidate_codecs(spec, byte_budget=TIGHT_BYTES))
    assert not any(quarter in family for family in candidate_codecs(spec, byte_budget=TIGHT_BYTES + 1))
    assert not any(
        quarter in family
        for family in candidate_codecs(InputSpec(kind="image", shape=(1, 8, 8)), byte_budget=TIGHT_BYTES)
    )


def test_rivals_of_a_set_in_natural_proportions_are_in_such_too() -> None:
    labels = torch.arange(3).repeat_interleave(torch.tensor([60, 30, 6]))
    x = torch.randn(96, 5, generator=torch.Generator().manual_seed(0)) + 3 * labels[:, None]
    source = TensorSource.make(x, labels, classes=("a", "b", "c"), name="uneven", kind="table")
    splits = Splits(train=source, test=source)
    protocol = registry.resolve("protocols", "potstill").override(steps=2, lr=0.01, least_epochs=0)

    def rival_of(balance: str) -> tuple[dict[str, Any], str]:
        small = potstill.distill(splits, "random", items=18, balance=balance, progress=None)
        made = potstill.evaluate(
            small, splits, protocol=protocol, networks="mlp-w8", seeds=1, full=False, progress=None
        )
        return made.to_dict()["baselines"]["random"], str(made)

    natural, said = rival_of("natural")
    assert (natural["balance"], natural["per_class"]) == ("natural", None)
    assert "stored as did best on held-out training data, classes in proportion to their samples" in said
    equal, said = rival_of("equal")
    assert "balance" not in equal
    assert equal["per_class"] >= 1
    assert "in proportion" not in said
    order = ProportionalOrder([torch.arange(60), torch.arange(60, 90), torch.arange(90, 96)], (60, 30, 6))
    assert [order.counts(n) for n in (1, 2, 10, 60)] == [[1, 1, 1], [2, 1, 1], [10, 5, 1], [60, 30, 6]]
