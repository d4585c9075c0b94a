"""IDC, NCFM and DataDAM: their training against plain loops of torch's own parts, and the best epoch on test."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from potstill.augment.idc import idc_eval
from potstill.augment.mix import CutMix
from potstill.augment.siamese import dsa, none
from potstill.core import Network, Splits
from potstill.data import TensorSource
from potstill.errors import PotstillError
from potstill.evaluation import Protocol, evaluate, student
from potstill.evaluation.protocols import DATADAM, DSA, IDC, NCFM
from potstill.evaluation.protocols import DATM_SOFT as DATM
from potstill.evaluation.protocols import NO_DISTILLATION as NODISTILL
from potstill.evaluation.student import StudentJob, fit, predict, train, train_and_predict
from potstill.execution import Serial
from potstill.nn import factory
from potstill.rng import derive_seed, generator

LOOKS: Protocol = IDC.override(epochs=7, test_every=3, lr=0.3, batch=4)
"""At so high a rate the last epoch is often not the best."""


def job(pictures: Splits, protocol: Protocol, **changes: Any) -> StudentJob:
    data = pictures.train
    batch = data.fetch(torch.arange(0, len(data), 7)[:10])
    assert isinstance(batch.x, Tensor)
    assert batch.y is not None
    fields: dict[str, Any] = {
        "make": factory("convnet-d1-w8", data.input, 4), "x": batch.x, "y": batch.y, "protocol": protocol,
        "lr": protocol.recipe.lr[0], "steps": None, "augment": none(), "seed": 7,
    }  # fmt: skip
    return StudentJob(**(fields | changes))


def naive(given: StudentJob, optimiser: Any, scheduler: Any, rates: list[float]) -> Network:
    """The loop of IDC and NCFM: augment, mix half of the batches by two losses, one scheduler step per epoch."""
    net, rng = given.make(derive_seed(given.seed, "network")).train(), generator(given.seed, "samples")
    opt = optimiser(net.parameters())
    steps = scheduler(opt)
    mix = CutMix(alpha=1.0, prob=0.5)
    assert given.protocol.recipe.epochs is not None
    for _ in range(given.protocol.recipe.epochs):
        order = torch.randperm(len(given.x), generator=rng)
        for start in range(0, len(order), given.protocol.recipe.batch):
            at = order[start : start + given.protocol.recipe.batch]
            shape = tuple(given.x.shape[1:])
            x = given.augment.apply(given.x[at], given.augment.draw(len(at), shape, rng))
            drawn = mix.draw(len(at), shape, rng)
            if drawn.box is not None:
                top, bottom, left, right = drawn.box
                x = x.clone()
                x[:, :, top:bottom, left:right] = x[drawn.partner][:, :, top:bottom, left:right]
            out, y = net(x), given.y[at]
            loss = F.cross_entropy(out, y) * drawn.share + F.cross_entropy(out, y[drawn.partner]) * (1 - drawn.share)
            opt.zero_grad()
            loss.backward()
            rates.append(opt.param_groups[0]["lr"])
            opt.step()
        steps.step()
    return net


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.01, momentum=0.9, weight_decay=5e-4)


def adamw(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=0.001)


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The rate of every update that the student trainer makes."""
    seen: list[float] = []
    original = student.make_optimizer

    def traced(p: Protocol, parameters: Any, lr: float) -> torch.optim.Optimizer:
        made = original(p, parameters, lr)
        made.register_step_pre_hook(lambda opt, *_: seen.append(opt.param_groups[0]["lr"]))
        return made

    monkeypatch.setattr(student, "make_optimizer", traced)
    return seen


@pytest.mark.parametrize(
    ("protocol", "optimiser", "parts", "gamma"),
    [
        (IDC, sgd, lambda e: [2 * e // 3, 5 * e // 6], 0.2),
        (NCFM, adamw, lambda e: [k * e // 5 for k in (1, 2, 3, 4)], 0.5),
    ],
)
@pytest.mark.parametrize("epochs", [12, 2])
def test_students_equal_a_plain_loop_of_torchs_parts(
    pictures: Splits,
    double: Any,
    adam_rounding: float,
    rates: list[float],
    protocol: Protocol,
    optimiser: Any,
    parts: Any,
    gamma: float,
    epochs: int,
) -> None:  # fmt: skip
    given = job(pictures, protocol.override(epochs=epochs, batch=4), augment=idc_eval())
    given = replace(given, make=double(given.make), x=given.x.double())
    theirs: list[float] = []
    plain = naive(
        given, optimiser, lambda o: torch.optim.lr_scheduler.MultiStepLR(o, parts(epochs), gamma=gamma), theirs
    )
    mine = train(given)
    assert rates == pytest.approx(theirs, rel=1e-12)
    assert len(rates) == 3 * epochs
    assert epochs < 6 or len(set(rates)) == len(parts(epochs)) + 1
    for a, b in zip(mine.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=adam_rounding)


def test_datadam_equals_a_plain_loop_with_batch_norm(pictures: Splits) -> None:
    make = factory("convnet-d1-w8-batch", pictures.train.input, 4)
    given = job(pictures, DATADAM.override(epochs=6, batch=4), augment=dsa(), make=make)
    net, rng, lr = make(derive_seed(7, "network")).train(), generator(7, "samples"), 0.01
    opt = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9, weight_decay=0.0005)
    for epoch in range(6 + 1):
        for at in torch.split(torch.randperm(len(given.x), generator=rng), 4):
            x = given.augment.apply(given.x[at], given.augment.draw(len(at), tuple(given.x.shape[1:]), rng))
            loss = F.cross_entropy(net(x), given.y[at])
            opt.zero_grad()
            loss.backward()
            opt.step()
        if epoch == 6 // 2 + 1:
            lr *= 0.1
            opt = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9, weight_decay=0.0005)
    mine = train(given).state_dict()
    for name, value in net.state_dict().items():
        assert torch.allclose(mine[name].double(), value.double(), atol=1e-5), name


class Watch:
    """A mix that writes down what it was given and what it made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.batches: list[tuple[Tensor, Tensor, Any]] = []
        self.made: list[tuple[Tensor, Tensor]] = []
        self.probabilities: set[tuple[float, float]] = set()
        original = CutMix.apply

        def apply(mix: CutMix, x: Tensor, y: Tensor, params: Any, k: int, /) -> tuple[Tensor, Tensor]:
            self.batches.append((x, y, params))
            self.probabilities.add((mix.prob, mix.alpha))
            assert k == 4
            self.made.append(original(mix, x, y, params, k))
            return self.made[-1]

        monkeypatch.setattr(CutMix, "apply", apply)


def test_half_of_the_augmented_batches_are_mixed_and_their_labels_with_them(
    pictures: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(monkeypatch)
    # labels of two classes only: the rows still have the student's four
    given = job(pictures, IDC.override(epochs=150, batch=4, select="last"), augment=idc_eval())
    train(replace(given, y=given.y % 2))
    assert watch.probabilities == {(0.5, 1.0)}
    assert len(watch.batches) == 450
    mixed = [params.box is not None for _, _, params in watch.batches]
    assert abs(sum(mixed) - 225) < 64  # binomial(450, 1/2): six standard deviations
    pixels = {tuple(x.flatten().tolist()) for x in given.x}
    for (x, y, params), (new, rows), was_mixed in zip(watch.batches[:30], watch.made, mixed, strict=False):
        assert not any(tuple(one.flatten().tolist()) in pixels for one in x)  # every batch was augmented before
        assert rows.shape == (len(x), 4)
        assert torch.allclose(rows.sum(1), torch.ones(len(x)))
        own = F.one_hot(y, 4).float()
        assert torch.allclose(rows, params.share * own + (1 - params.share) * own[params.partner])
        assert was_mixed or (torch.equal(new, x) and torch.equal(rows, own))


def test_rows_are_mixed_like_classes(pictures: Splits) -> None:
    hard = job(pictures, IDC.override(epochs=6, batch=4), augment=idc_eval())
    soft = replace(hard, y=F.one_hot(hard.y, 4).float())
    for a, b in zip(train(hard).parameters(), train(soft).parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def right(source: Any, predicted: Tensor) -> float:
    return float((predicted == source.labels).double().mean())


def test_the_best_epoch_on_test_counts_and_looking_changes_no_weights(pictures: Splits) -> None:
    test = pictures.test
    assert test is not None
    better = 0
    for seed in range(6):
        given = job(pictures, LOOKS, seed=seed, augment=idc_eval())
        looked: list[Tensor] = []
        network = given.make(derive_seed(seed, "network"))

        def look(network: Any = network, looked: Any = looked) -> None:
            looked.append(predict(network, test))
            network.train()

        fit(network, given, look)
        assert len(looked) == 3  # after epochs 3, 6 and the last
        unseen = train(given).state_dict()
        assert all(torch.equal(t, unseen[n]) for n, t in network.state_dict().items())
        found = train_and_predict(test, given)
        assert found is not None
        scores = [right(test, p) for p in looked]
        assert right(test, found) == max(scores)
        assert torch.equal(found, looked[scores.index(max(scores))])
        last = train_and_predict(test, replace(given, protocol=LOOKS.override(select="last")))
        assert last is not None
        assert torch.equal(last, looked[-1])
        better += max(scores) > scores[-1]
    assert better  # else nothing was shown


def test_epochs_before_a_student_diverged_still_count_as_published(pictures: Splits) -> None:
    test = pictures.test
    assert test is not None
    given = job(pictures, LOOKS)
    calls = 0

    def break_later(network: Any) -> bool:
        nonlocal calls
        calls += 1
        return calls == 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(student, "_finite", break_later)
        found = train_and_predict(test, given)
    assert found is not None
    assert calls == 3
    assert train_and_predict(test, job(pictures, LOOKS.override(lr=1e30))) is None


def measured(pictures: Splits, make_set: Any, **changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "protocol": LOOKS, "seeds": 2, "baselines": False, "full": False, "robust_scores": False, "executor": Serial(),
    }  # fmt: skip
    return evaluate(make_set(pictures, ipc=3), pictures, **(fields | changes)).to_dict()


def test_the_scorecard_says_that_it_is_optimistic_and_is_not_below_the_last_epoch(
    pictures: Splits, make_set: Any
) -> None:
    best = measured(pictures, make_set)
    last = measured(pictures, make_set, protocol=LOOKS.override(select="last"))
    assert (best["optimistic"], last["optimistic"]) == (True, False)
    assert best["fingerprint"] != last["fingerprint"]
    pairs = zip(best["accuracy"]["values"], last["accuracy"]["values"], strict=True)
    assert all(a >= b for a, b in pairs)
    assert sum(row["mean"] for row in best["per_class"]) / 4 == pytest.approx(best["accuracy"]["mean"])


@pytest.mark.parametrize(
    "protocol", [DATADAM.override(epochs=3), IDC.override(epochs=3, select="last"), DSA.override(epochs=3)]
)
def test_protocols_of_the_last_epoch_read_test_data_only_when_training_is_over(
    pictures: Splits, make_set: Any, protocol: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[str] = []
    original = student.fit

    def fitted(*args: Any) -> None:
        original(*args)
        log.append("trained")

    monkeypatch.setattr(student, "fit", fitted)
    fetch = TensorSource.fetch

    def read(source: TensorSource, index: Tensor, /) -> Any:
        log.append("read")
        return fetch(source, index)

    monkeypatch.setattr(TensorSource, "fetch", read)
    measured(pictures, make_set, protocol=protocol, networks=["convnet-d1-w8"])
    assert log == ["trained", "read"] * 2


def test_the_protocols_network_is_the_default_for_pictures_only(pictures: Splits, table: Splits, make_set: Any) -> None:
    short: dict[str, Any] = {"protocol": DATADAM.override(epochs=1), "seeds": 1}
    assert measured(pictures, make_set, **short)["network"] == "convnet-d2-w128-batch-avg"
    assert measured(pictures, make_set, **short, networks=["mlp"])["network"] == "mlp-w128"
    assert measured(table, make_set, **short)["network"] == "mlp-w128"
    assert measured(pictures, make_set, seeds=1)["network"] == "convnet-d1-w8-instance-avg"


@pytest.mark.slow
def test_without_augmentation_means_without_mixes(
    pictures: Splits, make_set: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixes: list[tuple[str, str]] = []
    original = student.fit

    def fitted(network: Any, given: StudentJob, *args: Any) -> None:
        if given.protocol.name == IDC.name:  # not those that try codecs for real samples
            mixes.append((given.protocol.recipe.mix, str(bool(given.augment == none()))))
        original(network, given, *args)

    monkeypatch.setattr(student, "fit", fitted)
    card = measured(pictures, make_set, seeds=1, baselines=True, robust_scores=True)
    assert set(mixes) == {("cutmix", "False"), ("none", "True")}
    assert 0 <= card["scores"]["ars"] <= 1
    assert card["chosen"]["augment"] == "idc-eval"


def test_no_distillation_drops_to_three_tenths_at_every_quarter(pictures: Splits, rates: list[float]) -> None:
    given = job(pictures, NODISTILL.override(epochs=8, select="last", batch=10))
    train(given)
    assert rates == pytest.approx([0.01 * 0.3 ** (epoch // 2) for epoch in range(9)])
    assert train_and_predict(pictures.test, job(pictures, NODISTILL.override(epochs=8, test_every=3))) is not None


def test_soft_rows_are_trained_on_as_they_are(pictures: Splits) -> None:
    rows = torch.rand(10, 4, generator=generator(3)).softmax(1)
    for protocol in (NODISTILL.override(epochs=3, select="last"), DATM.override(epochs=3)):
        given = job(pictures, protocol, y=rows)
        mine = train(given)
        net, rng = given.make(derive_seed(7, "network")).train(), generator(7, "samples")
        opt = sgd(net.parameters())
        for epoch in range(4):
            if (
                protocol.recipe.schedule == "steps"
            ):  # 0.25, 0.5, 0.75 of three epochs are 0, 1 and 2; the extra one is 3
                opt.param_groups[0]["lr"] = 0.01 * 0.3 ** (epoch + 1)
            elif epoch == 3:
                opt = torch.optim.SGD(net.parameters(), lr=0.001, momentum=0.9, weight_decay=5e-4)
            at = torch.randperm(10, generator=rng)
            loss = -(rows[at] * net(given.x[at]).log_softmax(1)).sum(1).mean()
            opt.zero_grad()
            loss.backward()
            opt.step()
        for a, b in zip(mine.parameters(), net.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_datm_trains_a_set_at_the_rate_that_its_card_has_and_all_else_at_its_own(
    pictures: Splits, make_set: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, float]] = []
    original = student.train

    def traced(given: StudentJob) -> Network:
        if given.protocol.name != "potstill":  # what tries codecs for real samples
            seen.append((len(given.x), given.lr))
        return original(given)

    monkeypatch.setattr(student, "train", traced)
    protocol = DATM.override(epochs=1, students=2)

    def measured(protocol: Protocol, **training: Any) -> dict[str, Any]:
        seen.clear()
        return evaluate(
            make_set(pictures, training=training), pictures, protocol=protocol, networks=["convnet-d1-w8"],
            executor=Serial(), full=False, robust_scores=False,
        ).to_dict()  # fmt: skip

    score = measured(protocol, learned_lr=0.037)
    assert [lr for _, lr in seen] == [0.037] * 2 + [0.01] * (len(seen) - 2)
    assert len(seen) >= 2 + 3 * 2
    assert score["chosen"]["lr"] == 0.037
    assert score["baselines"]["random"]["chosen"]["lr"] == 0.01
    assert measured(protocol)["chosen"]["lr"] == 0.01
    assert measured(DSA.override(epochs=1, students=1), learned_lr=0.037)["chosen"]["lr"] == 0.01
    for wrong in (0, -1.0, True, "fast"):
        with pytest.raises(PotstillError, match=r"training\.learned_lr is .*; it must be a number above 0"):
            measured(protocol, learned_lr=wrong)
