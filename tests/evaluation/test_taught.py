"""Students that a teacher labels: against a plain loop of torch's parts, and what evaluation makes of it."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from potstill.augment.crop import patches
from potstill.augment.mix import CutMix, MixUp
from potstill.augment.names import named_augmentation
from potstill.augment.siamese import none
from potstill.core import NetworkWeights, Splits
from potstill.errors import PotstillError
from potstill.evaluation import Protocol, evaluate, student
from potstill.evaluation.distilled_training import Teachers, teacher_loss, train_teachers
from potstill.evaluation.protocols import CDA, EDC, RDED, SRE2L, SRE2L_CIFAR
from potstill.evaluation.student import StudentJob, fit, train
from potstill.execution import Serial
from potstill.functional.train import copy_parameters
from potstill.nn import factory
from potstill.rng import derive_seed, generator

NETWORK = "convnet-d1-w8-batch"


def committee(pictures: Splits, *seeds: int) -> Teachers:
    make = factory(NETWORK, pictures.train.input, 4)
    trained = []
    for seed in seeds:
        net = make(seed)
        with torch.no_grad():
            for p in net.parameters():
                p.mul_(2)  # not what the seed makes
        trained.append(
            NetworkWeights(
                seed=seed, parameters=copy_parameters(net), buffers={n: b.clone() for n, b in net.named_buffers()}
            )
        )
    return Teachers(make=make, trained=tuple(trained))


def job(pictures: Splits, protocol: Protocol, teachers: Teachers | None, **changes: Any) -> StudentJob:
    batch = pictures.train.fetch(torch.arange(0, len(pictures.train), 7)[:10])
    assert isinstance(batch.x, Tensor)
    assert batch.y is not None
    fields: dict[str, Any] = {
        "make": factory(NETWORK, pictures.train.input, 4), "x": batch.x, "y": batch.y, "protocol": protocol,
        "lr": protocol.recipe.lr[0], "steps": None, "augment": none(), "seed": 7, "teachers": teachers,
    }  # fmt: skip
    return StudentJob(**(fields | changes))


@pytest.mark.parametrize(
    ("protocol", "temperature", "mix", "rate", "decays"),
    [
        (SRE2L, 20.0, CutMix(alpha=1.0, prob=1.0), lambda e, E: (1 + _cos(e / E)) / 2, False),
        (RDED, 20.0, CutMix(alpha=1.0, prob=1.0), lambda e, E: (1 + _cos(e / E / 2)) / 2, False),
        (SRE2L_CIFAR, 30.0, MixUp(alpha=0.8, prob=1.0), lambda e, E: (1 + _cos(e / E)) / 2, True),
    ],
)
def test_students_equal_a_plain_loop(
    pictures: Splits,
    double: Any,
    adam_rounding: float,
    protocol: Protocol,
    temperature: float,
    mix: CutMix | MixUp,
    rate: Any,
    decays: bool,
) -> None:
    teachers, epochs = committee(pictures, 1, 2), 5
    short = protocol.override(epochs=epochs, select="last", lr=0.01).for_set_size(10, 4)
    # in float64: Adam blows up what rounding leaves of gradients that are zero
    teachers = replace(
        teachers, make=double(teachers.make), trained=tuple(_wide(t) for t in teachers.trained)
    )  # fmt: skip
    given = job(pictures, short.change(batch=4), teachers, make=double(factory(NETWORK, pictures.train.input, 4)))
    given = replace(given, x=given.x.double())
    mine = train(given)
    net, rng = given.make(derive_seed(7, "network")).train(), generator(7, "samples")
    judges = [given.make(t.seed).eval() for t in teachers.trained]
    for judge, t in zip(judges, teachers.trained, strict=True):
        judge.load_state_dict({**t.parameters, **t.buffers})
        judge.train(protocol is SRE2L_CIFAR)  # which is never put into evaluation mode, as published
    matrices = [p for p in net.parameters() if p.ndim > 1]
    vectors = [p for p in net.parameters() if p.ndim < 2]
    groups = [{"params": matrices}, {"params": vectors, "weight_decay": 0.01 if decays else 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=0.01, weight_decay=0.01)
    for epoch in range(epochs):
        for group in optimiser.param_groups:
            group["lr"] = 0.01 * float(rate(epoch, epochs))
        for at in torch.randperm(10, generator=rng).split(4):
            x, _ = mix.apply(given.x[at], given.y[at], mix.draw(len(at), tuple(given.x.shape[1:]), rng), 4)
            with torch.no_grad():
                said = sum(judge(x) for judge in judges) / 2
            p, q = (said / temperature).softmax(1), (net(x) / temperature).softmax(1)
            loss = (p * (p.log() - q.log())).sum() / len(at)  # no T²
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    for a, b in zip(mine.parameters(), net.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=adam_rounding)


def test_students_of_edc_equal_a_plain_loop_and_are_tested_as_their_average(
    pictures: Splits, double: Any, adam_rounding: float
) -> None:
    teachers, epochs = committee(pictures, 1, 2), 4
    short = EDC.override(epochs=epochs, select="last", lr=0.01, ema=0.8, hard_weight=0.5)
    teachers = replace(
        teachers, make=double(teachers.make), trained=tuple(_wide(t) for t in teachers.trained[:1]),
        others=(replace(teachers, make=double(teachers.make), trained=tuple(_wide(t) for t in teachers.trained[1:])),),
    )  # fmt: skip
    given = job(pictures, short.change(batch=4), teachers, make=double(factory(NETWORK, pictures.train.input, 4)))
    given = replace(given, x=given.x.double(), augment=patches())
    mine = train(given)
    net, rng = given.make(derive_seed(7, "network")).train(), generator(7, "samples")
    average = torch.optim.swa_utils.AveragedModel(
        net, avg_fn=lambda old, new, _: 0.8 * old + 0.2 * new, use_buffers=True
    )
    average.n_averaged.fill_(1)  # it begins as the network does, not as its first step
    judges = [given.make(1).eval() for _ in range(2)]
    for judge, t in zip(judges, (teachers.trained[0], teachers.others[0].trained[0]), strict=True):
        judge.load_state_dict({**t.parameters, **t.buffers})
    groups = [
        {"params": [p for p in net.parameters() if p.ndim > 1]},
        {"params": [p for p in net.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimiser, mix, shape = torch.optim.AdamW(groups, lr=0.01, weight_decay=0.01), CutMix(prob=1.0), (1, 8, 8)
    for epoch in range(epochs):
        for group in optimiser.param_groups:
            group["lr"] = 0.01 * (1 + _cos(epoch / epochs / 2)) / 2
        for at in torch.randperm(10, generator=rng).split(4):
            x = given.augment.apply(given.x[at], given.augment.draw(len(at), shape, rng))
            x, _ = mix.apply(x, given.y[at], mix.draw(len(at), shape, rng), 4)
            with torch.no_grad():
                said = (judges[0](x) + judges[1](x)) / 2
            out = net(x)
            loss = ((out - said) ** 2).mean() + 0.5 * F.cross_entropy(out, given.y[at])  # classes are not mixed
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            average.update_parameters(net)
    wanted = average.module.state_dict()
    for name, value in mine.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, wanted[name], rtol=1e-9, atol=adam_rounding)
    assert not torch.allclose(next(mine.parameters()), next(net.parameters()))


def test_every_look_sees_the_average_and_training_goes_on_from_the_weights(pictures: Splits) -> None:
    protocol = EDC.override(epochs=6, test_every=2, ema=0.9, lr=0.05)
    net, given = _fresh(pictures, protocol)
    seen: list[list[Tensor]] = []
    fit(net, given, lambda: seen.append([t.clone() for t in net.state_dict().values()]))
    assert len(seen) == 3
    assert all(torch.equal(a, b) for a, b in zip(seen[-1], net.state_dict().values(), strict=True))
    quiet, _ = _fresh(pictures, protocol)
    fit(quiet, given)  # nobody looks: the same weights
    assert all(torch.equal(a, b) for a, b in zip(quiet.state_dict().values(), net.state_dict().values(), strict=True))
    plain, _ = _fresh(pictures, protocol)
    fit(plain, replace(given, protocol=protocol.change(ema=0.0)))
    assert not torch.equal(next(plain.parameters()), next(net.parameters()))
    still, _ = _fresh(pictures, protocol)
    fit(still, replace(given, protocol=protocol.change(ema=1e-12)))  # an average that forgets at once
    for a, b in zip(still.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_half_a_cosine_ends_at_half_of_the_rate(pictures: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    original = torch.optim.AdamW.step

    def step(self: Any, *rest: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return original(self, *rest)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    for protocol, middle, end in ((EDC, (1 + _cos(0.25)) / 2, 0.5), (CDA, 0.5, 0.0)):
        rates.clear()
        fit(*_fresh(pictures, protocol.override(epochs=400, select="last", ema=0.0)))
        assert rates[0] == pytest.approx(1e-3)
        assert rates[200] == pytest.approx(1e-3 * middle)
        assert rates[-1] == pytest.approx(1e-3 * end, abs=6e-6)  # epoch 399 of 400


def test_a_committee_is_of_several_architectures(pictures: Splits, make_set: Any) -> None:
    protocol = EDC.override(
        epochs=2, teacher_epochs=1, students=1, teacher=None, committee=["convnet-d1-w4-batch", "mlp"]
    )
    made = train_teachers(
        protocol, pictures.train, factory(NETWORK, pictures.train.input, 4),
        lambda name: named_augmentation(name, pictures.train),
    )  # fmt: skip
    assert [len(one.trained) for one in (made, *made.others)] == [1, 1, 1]
    assert [one.make.name for one in made.others] == ["convnet-d1-w4-batch-avg", "mlp-w128"]
    x = pictures.train.fetch(torch.arange(5)).x
    assert isinstance(x, Tensor)
    each = [network(x) for network in made.networks()]
    assert len(each) == 3
    torch.testing.assert_close(made.logits_function()(x), sum(each) / 3)
    label, by_batch = made.logits_function("batch"), [network.train()(x) for network in made.networks()]
    torch.testing.assert_close(label(x), sum(by_batch) / 3)
    assert torch.equal(label(x), label(x))  # nothing is remembered
    assert not torch.allclose(label(x), sum(each) / 3, atol=1e-2)
    assert made.bytes == sum(replace(one, others=()).bytes for one in (made, *made.others))
    names = [expert.name for expert in made.experts(pictures.train.classes)]
    assert names == [made.make.name, "convnet-d1-w4-batch-avg", "mlp-w128"]
    score = evaluate(
        make_set(pictures), pictures, protocol=protocol, networks=[NETWORK], executor=Serial(), robust_scores=False,
        full=False,
    ).to_dict()  # fmt: skip
    assert score["bytes"]["teachers"] == made.bytes


def _wide(t: NetworkWeights) -> NetworkWeights:
    parameters, buffers = (
        {n: v.double() if v.is_floating_point() else v for n, v in p.items()} for p in (t.parameters, t.buffers)
    )
    return replace(t, parameters=parameters, buffers=buffers)


def _cos(part: float) -> float:
    return float(torch.cos(torch.tensor(torch.pi * part, dtype=torch.float64)))


def test_the_losses_of_a_teacher() -> None:
    rng = generator(3)
    z, t = torch.randn(5, 3, generator=rng), torch.randn(5, 3, generator=rng)
    y = torch.tensor([0, 1, 2, 1, 0])
    kl = SRE2L.change(temperature=2.0, t_squared=True)
    p, q = (t / 2).softmax(1), (z / 2).softmax(1)
    assert float(teacher_loss(kl, t, y, None, z)) == pytest.approx(float((p * (p / q).log()).sum() / 5 * 4), rel=1e-5)
    mse = SRE2L.change(loss="mse", hard_weight=0.25)
    want = ((z - t) ** 2).mean() + 0.25 * F.cross_entropy(z, y)
    assert float(teacher_loss(mse, t, y, None, z)) == pytest.approx(float(want), rel=1e-6)
    rows = F.one_hot(y, 3) * 0.5 + 0.5 / 3  # of rows their class counts
    assert float(teacher_loss(mse, t, rows, None, z)) == pytest.approx(float(want), rel=1e-6)


def test_the_batch_goes_by_the_items_of_a_class() -> None:
    found = [
        RDED.for_set_size(items, classes).recipe.batch for items, classes in ((10, 10), (99, 10), (100, 10), (500, 10))
    ]
    assert found == [10, 10, 50, 100]
    assert RDED.for_set_size(1000, 100).recipe.batch == 100  # 10 per class: twice 50
    assert RDED.for_set_size(4, 4).recipe.batch == 4  # never more than there is
    assert SRE2L.for_set_size(4, 4) == SRE2L
    assert RDED.override(batch=7).for_set_size(500, 10).recipe.batch == 7  # who says a batch gets it


def test_looks_at_the_test_data_come_late(pictures: Splits) -> None:
    looks: list[int] = []
    protocol = RDED.override(epochs=20, test_every=5)
    fit(*_fresh(pictures, protocol), lambda: looks.append(1))
    assert len(looks) == 1 + 0  # of epochs 5, 10, 15 and 20 only the last is not before 16
    fit(*_fresh(pictures, protocol.change(test_from=0.0)), lambda: looks.append(1))
    assert len(looks) == 1 + 4


def _fresh(pictures: Splits, protocol: Protocol) -> tuple[Any, StudentJob]:
    given = job(pictures, protocol, committee(pictures, 1))
    return given.make(0), given


def test_teachers_and_a_protocol_that_wants_them_go_together(pictures: Splits) -> None:
    with pytest.raises(ValueError, match="labels 'teacher'"):
        train(job(pictures, RDED.override(epochs=1), None))
    with pytest.raises(PotstillError, match="loss must be kl or mse with labels teacher"):
        RDED.override(loss="cross-entropy")


def test_an_evaluation_with_a_teacher(pictures: Splits, make_set: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    protocol = SRE2L_CIFAR.override(epochs=3, teacher_epochs=2, teacher_lr=0.05, students=2)
    small = make_set(pictures)
    seen: list[StudentJob] = []
    original = student.train

    def traced(given: StudentJob) -> Any:
        seen.append(given)
        return original(given)

    monkeypatch.setattr(student, "train", traced)
    score = evaluate(small, pictures, protocol=protocol, networks=[NETWORK, "mlp"], executor=Serial()).to_dict()
    assert set(score["baselines"]) == {
        "random",
        "herding",
        "random-items",
        "real",
    }  # with a teacher's labels random is random-soft
    taught = [given for given in seen if given.teachers is not None]
    plain = [given for given in seen if given.teachers is None]
    first = taught[0].teachers
    assert first is not None
    assert all(given.teachers is first for given in taught)  # one committee for all sets and all students
    assert first.make.name.startswith(NETWORK)
    assert score["bytes"]["teachers"] == first.bytes > 0
    # HLR is about hard labels: those students had no teacher
    assert plain
    assert {given.protocol.teaching.loss for given in plain} == {"cross-entropy"}
    assert score["scores"]["hlr"] is not None
    again = evaluate(small, pictures, protocol=protocol, networks=[NETWORK, "mlp"], executor=Serial()).to_dict()
    assert {n: v for n, v in again.items() if n != "cost"} == {n: v for n, v in score.items() if n != "cost"}


def test_a_teacher_brings_the_order_of_classes_that_it_was_trained_on(pictures: Splits) -> None:
    teachers = committee(pictures, 3, 4)
    turned = tuple(reversed(pictures.train.classes))
    teachers = replace(teachers, trained=(teachers.trained[0], replace(teachers.trained[1], classes=turned)))
    assert [e.classes for e in teachers.experts(pictures.train.classes)] == [pictures.train.classes, turned]
