from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy import stats  # type: ignore[import-untyped]
from torch import Tensor

from potstill.codecs import decode, encoded_bytes, parse_codec
from potstill.core import Splits
from potstill.data import TensorSource
from potstill.errors import PotstillError
from potstill.evaluation import candidate_trials
from potstill.evaluation.candidate_trials import (
    BATCH,
    MARGIN,
    MAX_HELD_OUT,
    STEPS,
    STUDENTS,
    Candidate,
    Length,
    choose_fewest_bits,
    held_out_indices,
    make_probe,
    narrow_network,
    paired_loss,
)
from potstill.execution import Processes
from potstill.nn import factory, flops
from potstill.rng import generator

BITS = (8, 6, 4, 2, 1)


def _source(sample: Callable[[int, Tensor], Tensor], per_class: int = 150) -> TensorSource:
    """Two classes of samples with values in [0, 1]."""
    rng = generator(3, "samples")
    samples = [sample(c, torch.rand(64, generator=rng)) for c in (0, 1) for _ in range(per_class)]
    labels = [c for c in (0, 1) for _ in range(per_class)]
    return TensorSource.make(torch.stack(samples), labels, name="contrived")


def _low_bits(c: int, noise: Tensor) -> Tensor:
    """A row: 48 columns of black and white noise, and 16 that tell the classes apart by 0.06, in the low bits only."""
    return torch.cat([(noise[:48] > 0.5).float(), 0.63 + 0.06 * c + 0.02 * noise[48:]])


def _binary(c: int, noise: Tensor) -> Tensor:
    """Black and white values: which half is mostly white tells the class."""
    half = (torch.arange(64) // 32 == c).float()
    return (noise < 0.2 + 0.6 * half).float()


def _candidates(x: Tensor, y: Tensor, source: TensorSource, bits: tuple[int, ...] = BITS) -> list[Candidate]:
    def candidate(name: str) -> Candidate:
        stored = parse_codec(name).pack(x)
        return Candidate(
            name=name, load=lambda: ((source.normalization.apply(decode(stored)), y), encoded_bytes(stored))
        )

    return [candidate(f"uint{b}") for b in bits]


def _asked(source: TensorSource, per_class: int = 10, network: str = "mlp-w32", **changes: Any) -> Any:
    index = torch.cat([torch.where(source.labels == c)[0][:per_class] for c in range(len(source.classes))])
    x, y = source.raw(index), source.labels[index]
    make = factory(network, source.input, len(source.classes))
    arguments: dict[str, Any] = {"seed": 0, "made_of": index, **changes}
    full = (source.normalization.apply(x), y)
    return choose_fewest_bits(full, _candidates(x, y, source), source, make, **arguments)


def test_bits_that_hold_the_classes_are_kept() -> None:
    source = _source(_low_bits)
    chosen, record = _asked(source)
    assert record["accuracy"]["mean"] > 0.9
    assert chosen is not None
    tried = {t["name"]: t for t in record["tried"]}
    assert int(chosen.name.removeprefix("uint")) > 2
    assert not any(tried[name]["passed"] for name in ("uint1", "uint2") if name in tried)
    # asked for few bits alone, it says that nothing will do
    index = torch.cat([torch.where(source.labels == c)[0][:10] for c in range(2)])
    x, y = source.raw(index), source.labels[index]
    make = factory("mlp-w32", source.input, 2)
    few = _candidates(x, y, source, (1,))
    none, record = choose_fewest_bits((source.normalization.apply(x), y), few, source, make, seed=0, made_of=index)
    assert none is None
    assert record["chosen"] is None
    assert record["tried"][0]["loss"]["low"] > 0.1


def test_black_and_white_pictures_take_one_bit() -> None:
    chosen, record = _asked(_source(_binary))
    assert chosen is not None
    assert chosen.name == "uint1"
    assert [t["name"] for t in record["tried"]] == ["uint4", "uint2", "uint1"]
    assert all(t["passed"] and t["loss"]["high"] <= MARGIN for t in record["tried"])
    assert record["tried"][-1]["bytes"] == chosen.load()[1]


@pytest.mark.slow
def test_the_choice_is_repeated_to_the_last_number_wherever_students_are_trained() -> None:
    source = _source(_low_bits, per_class=60)
    one, other = _asked(source), _asked(source)
    assert one[1] == other[1]
    assert _asked(source, executor=Processes(1))[1] == one[1]
    assert _asked(source, seed=1)[1] != one[1]


def test_what_costs_too_much_is_not_tried_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(candidate_trials, "MAX_OPERATIONS", 1e6)
        chosen, record = _asked(_source(_binary))
    assert chosen.name == "uint8"
    assert record["probed"] is False
    assert "operations, more than" in record["why"]
    # paid for a part of it: what was tried so far counts
    source = _source(_binary)
    _, whole = _asked(source)
    spent = whole["operations"]
    monkeypatch.setattr(candidate_trials, "MAX_OPERATIONS", 0.7 * spent)
    _, part = _asked(source)
    assert part["operations"] <= 0.7 * spent
    assert part["students"] < whole["students"]


def test_operations_are_counted_as_they_are_made() -> None:
    source = _source(_binary, per_class=40)
    make = factory("mlp-w32", source.input, 2)
    probe = make_probe(make, source, source.subset(held_out_indices(source, 0)), students=3, seed=0)
    one = flops(make(0), (64,))
    assert probe.operations(10) == one * (3 * STEPS * 10 + 80)
    assert probe.operations(10**6) == one * (3 * STEPS * BATCH + 80)
    assert narrow_network(make, source) is make


def test_too_few_samples_do_not_choose_few_bits() -> None:
    """Of four samples a loss of half a point cannot be ruled out: then the most bits are kept, not the fewest."""
    source = _source(_low_bits, per_class=12)
    chosen, record = _asked(source, per_class=10)
    assert record["samples"] == 4
    assert all(t["passed"] is (t["loss"]["high"] <= MARGIN) for t in record["tried"])
    assert chosen is None or chosen.name != "uint1"


def test_all_real_samples_in_the_set_leaves_nobody_to_ask() -> None:
    source = _source(_binary, per_class=10)
    chosen, record = _asked(source, per_class=10)
    assert chosen.name == "uint8"
    assert record == {"chosen": "uint8", "probed": False, "why": "there are no samples to ask about"}


def test_held_samples_are_others_than_those_of_the_set_and_in_the_shares_of_classes() -> None:
    labels = torch.tensor([0] * 6000 + [1] * 600)
    source = TensorSource.make(torch.rand(6600, 2), labels, name="rows")
    held = held_out_indices(source, 0, without=torch.arange(100))
    assert int(held.min()) >= 100
    assert abs(len(held) - MAX_HELD_OUT) <= 1
    assert int((source.labels[held] == 1).sum()) == round(600 * MAX_HELD_OUT / 6500)
    assert len(held_out_indices(source, 0, without=torch.arange(100, 6600))) == 100
    assert not torch.equal(held, held_out_indices(source, 1, without=torch.arange(100)))


def test_a_wide_convnet_is_probed_by_a_narrow_one_of_the_same_kind(pictures: Splits) -> None:
    train = pictures.train

    def name(wide: str) -> str:
        return narrow_network(factory(wide, train.input, 4), train).name

    assert name("convnet-d1-w128-batch-max") == "convnet-d1-w32-batch-max"
    assert name("convnet-d1-w8") == "convnet-d1-w8-instance-avg"
    assert name("mlp") == "mlp-w128"


@pytest.mark.slow
def test_soft_labels_and_tables_are_probed(table: Splits) -> None:
    train = table.train
    assert isinstance(train, TensorSource)
    index = torch.cat([torch.where(train.labels == c)[0][:4] for c in range(4)])
    rows = torch.nn.functional.one_hot(train.labels[index], 4).float() * 0.9 + 0.025
    make = factory("mlp-w16", train.input, 4)
    x = train.fetch(index).x
    assert isinstance(x, Tensor)
    chosen, record = choose_fewest_bits(
        (x, rows), _candidates(train.raw(index), rows, train), train, make, seed=0, made_of=index
    )
    assert record["probed"] is True
    assert record["samples"] == len(train) - 16
    assert chosen is None or chosen.name in {f"uint{b}" for b in BITS}


def test_no_candidate_is_refused(pictures: Splits) -> None:
    make = factory("convnet-d1-w8", pictures.train.input, 4)
    with pytest.raises(PotstillError, match="give one at least"):
        choose_fewest_bits((torch.zeros(1), torch.zeros(1)), [], pictures.train, make, seed=0)


def test_a_loss_is_that_of_pairs_over_students_and_samples() -> None:
    full = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]], dtype=torch.bool)
    same = paired_loss(full, full)
    assert (same.mean, same.low, same.high) == (0, 0, 0)
    fewer = torch.tensor([[1, 0, 1, 0], [1, 0, 0, 1]], dtype=torch.bool)
    found = paired_loss(full, fewer)
    assert found.mean == pytest.approx(1 / 8)
    assert found.low < found.mean < found.high
    # with one student only samples are drawn: the usual t interval of paired differences
    one = paired_loss(full[:1], fewer[:1])
    d = (full[0].double() - fewer[0].double()).numpy()
    assert one.high == pytest.approx(d.mean() + stats.t.ppf(0.95, 3) * d.std(ddof=1) / 2)
    surer = paired_loss(full[:1], fewer[:1], 0.99)
    assert surer.high > one.high


def test_the_interval_of_a_loss_holds_the_truth_as_often_as_it_says() -> None:
    """Students and samples both differ in what rounding does to them; the upper end must cover the true loss."""
    rng = torch.Generator().manual_seed(0)
    covered = 0
    trials = 400
    for _ in range(trials):
        student = 0.01 * torch.randn(6, 1, generator=rng)
        sample = 0.05 * torch.randn(1, 200, generator=rng)
        p = (0.1 + student + sample).clamp(0, 1)  # lost with this probability; the mean over all is about 0.1
        lost = torch.rand(6, 200, generator=rng) < p
        full = torch.ones(6, 200, dtype=torch.bool)
        covered += paired_loss(full, ~lost).high >= 0.1
    assert covered / trials > 0.92


def test_the_fewest_students_are_enough_for_two_looks() -> None:
    assert STUDENTS[0] >= 3
    assert STUDENTS[1] >= 2 * STUDENTS[0]


def test_students_of_large_sets_see_every_sample_several_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of updates rises with the set, from `steps` to `most`; without passes it is the same for every set."""
    length = Length(steps=100, passes=10, most=2500)
    assert [length.updates(n) for n in (10, 320, 321, 680, 7320, 50_000)] == [100, 100, 110, 220, 2290, 2500]
    assert Length(steps=100).updates(50_000) == 100
    assert Length(steps=3000, passes=10, most=2500).updates(50_000) == 3000
    trained: list[int] = []

    def predict_all(source: Any, jobs: Any, *_: Any) -> list[None]:
        trained.extend(job.steps for job in jobs)
        return [None] * len(jobs)

    monkeypatch.setattr(candidate_trials, "predict_all", predict_all)
    source = _source(lambda c, r: r + c)
    probe = make_probe(factory("linear", source.input, 2), source, source, students=1, seed=0, steps=length)
    for n in (32, 650):
        probe.predict([[(torch.zeros(n, 64), torch.zeros(n, dtype=torch.long))]])
    assert trained == [100, 210]
    assert probe.operations(650) > 2 * probe.operations(32) - probe.operations(0)
