"""Students of weighted sets: a weight counts as so many copies of its sample, however it is labelled and mixed."""

import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import potstill
from potstill.augment.mix import CutMix, MixUp
from potstill.augment.siamese import none
from potstill.core import NetworkWeights, Splits
from potstill.dataset_file import Distilled
from potstill.errors import PotstillWarning
from potstill.evaluation import Protocol, evaluate
from potstill.evaluation.distilled_training import Teachers, stored_label_loss
from potstill.evaluation.protocols import EDC, IDC, POTSTILL, SRE2L
from potstill.evaluation.student import StudentJob, train
from potstill.evaluation.vmap_students import fit_stacked, group_jobs
from potstill.functional.train import copy_parameters
from potstill.labels.losses import kl
from potstill.nn import factory
from potstill.rng import generator
from potstill.testing.protocol import _Double

WEIGHTS = torch.tensor([3.0, 1.0, 0.0, 2.0, 1.0, 1.0])
PLAIN: dict[str, Any] = {"augment": "none", "mix": "none", "ema": 0.0}


def job(pictures: Splits, protocol: Protocol, weights: Tensor | None, **changes: Any) -> StudentJob:
    """Six pictures, in float64 so that sums in another order agree."""
    batch = pictures.train.fetch(torch.arange(0, len(pictures.train), 7)[:6])
    assert isinstance(batch.x, Tensor)
    assert batch.y is not None
    make = _Double(factory("convnet-d1-w8", pictures.train.input, 4))
    teachers = None
    if protocol.teaching.labels == "teacher":
        net = make(5)
        teachers = Teachers(make=make, trained=(NetworkWeights(seed=5, parameters=copy_parameters(net), buffers={}),))
    fields: dict[str, Any] = {
        "make": make, "x": batch.x.double(), "y": batch.y, "weights": weights, "protocol": protocol, "lr": 0.05,
        "steps": None, "augment": none(), "seed": 7, "teachers": teachers,
    }  # fmt: skip
    return StudentJob(**(fields | changes))


def repeated(one: StudentJob) -> StudentJob:
    """The same set with each sample as often as its weight says, and no weights."""
    assert one.weights is not None
    times = one.weights.long()
    return replace(one, x=one.x.repeat_interleave(times, 0), y=one.y.repeat_interleave(times, 0), weights=None)


PROTOCOLS = {
    "given": POTSTILL.override(epochs=3, batch=8, lr=0.05, **PLAIN),
    "kl": SRE2L.override(epochs=3, batch=8, lr=0.05, select="last", **PLAIN),
    "squares and classes": EDC.override(epochs=3, batch=8, lr=0.05, select="last", **PLAIN),
}


@pytest.mark.parametrize("soft", [False, True], ids=["classes", "rows"])
@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_weight_counts_as_so_many_copies(pictures: Splits, name: str, soft: bool) -> None:
    one = job(pictures, PROTOCOLS[name], WEIGHTS / WEIGHTS.mean())
    if soft:
        one = replace(one, y=torch.rand(6, 4, generator=generator(1), dtype=torch.float64).softmax(1))
    copies = repeated(replace(one, weights=WEIGHTS))
    mine, theirs, alike = (train(j).state_dict() for j in (one, copies, replace(one, weights=None)))
    for parameter, value in mine.items():  # Adam magnifies what rounding leaves of gradients that are zero
        torch.testing.assert_close(value, theirs[parameter], rtol=1e-6, atol=1e-7)
    assert any(not torch.allclose(value, alike[parameter]) for parameter, value in mine.items())


@pytest.mark.parametrize("name", PROTOCOLS)
def test_equal_weights_train_as_none(pictures: Splits, name: str) -> None:
    protocol = PROTOCOLS[name].override(batch=4)
    some, none_ = (train(job(pictures, protocol, w)).state_dict() for w in (torch.ones(6), None))
    for parameter, value in some.items():
        torch.testing.assert_close(value, none_[parameter], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("mix", [MixUp(alpha=0.7), CutMix(prob=1.0)], ids=["mixup", "cutmix"])
def test_a_mix_has_the_weights_of_its_samples_in_their_shares(pictures: Splits, mix: Any) -> None:
    name = "mixup" if isinstance(mix, MixUp) else "cutmix"
    recipe = {"epochs": 1, "batch": 6, "mix": name, "mix_beta": mix.alpha, "mix_prob": 1.0, "augment": "none"}
    weights = WEIGHTS.double() / WEIGHTS.double().mean()
    for base in (IDC, SRE2L, EDC):
        protocol = base.override(**recipe, select="last") if base is not IDC else base.override(**recipe)
        one = job(pictures, protocol, weights)
        net = one.make(0).train()
        rng = generator(7, "samples")
        order = torch.randperm(6, generator=rng)
        one.augment.draw(6, tuple(one.x.shape[1:]), rng)
        drawn = mix.draw(6, tuple(one.x.shape[1:]), rng)
        x, rows = mix.apply(one.x[order], one.y[order], drawn, 4)
        w, share = weights[order], drawn.share
        own, other = F.one_hot(one.y[order], 4).double(), F.one_hot(one.y[order][drawn.partner], 4).double()
        log_p = net(x).log_softmax(1)
        if one.teachers is None:  # each sample's own loss, times its own weight
            said = -share * w * (own * log_p).sum(1) - (1 - share) * w[drawn.partner] * (other * log_p).sum(1)
        else:
            w = share * w + (1 - share) * w[drawn.partner]
            teacher = one.teachers.networks()[0](x)
            if protocol.teaching.loss == "kl":
                T = protocol.teaching.temperature
                p, q = (teacher / T).softmax(1), (net(x) / T).log_softmax(1)
                said = w * (p * (p.log() - q)).sum(1) * (T * T if protocol.teaching.t_squared else 1)
            else:
                said = w * (net(x) - teacher).square().mean(1)
            said = said - protocol.teaching.hard_weight * w * (own * log_p).sum(1)
        assert rows.shape == (6, 4)
        wanted = torch.autograd.grad(said.mean(), list(net.parameters()))
        seen: list[Any] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "potstill.evaluation.student.assign_gradients", lambda _, gradients, seen=seen: seen.append(gradients)
            )
            patch.setattr("torch.optim.SGD.step", lambda *_: None)
            patch.setattr("torch.optim.AdamW.step", lambda *_: None)
            train(replace(one, make=_Same(net)))
        for found, expected in zip(seen[0], wanted, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-10)


class _Same:
    """A factory whose networks have the parameters of one."""

    def __init__(self, net: Any) -> None:
        self.net, self.name, self.device = net, "same", torch.device("cpu")

    def __call__(self, seed: int, /) -> Any:
        import copy

        return copy.deepcopy(self.net)


def test_side_by_side_they_learn_what_they_learn_alone(pictures: Splits) -> None:
    protocol = PROTOCOLS["given"].override(batch=4)
    one = job(pictures, protocol, WEIGHTS / WEIGHTS.mean())
    others = [replace(one, seed=8), replace(one, weights=torch.flip(one.weights, (0,))), one]  # type: ignore[arg-type]
    stack = fit_stacked(others)
    for place, other in enumerate(others):
        for name, value in train(other).state_dict().items():
            torch.testing.assert_close(stack.state[name][place], value, rtol=1e-6, atol=1e-9)
    assert [len(group) for group in group_jobs([one, one, replace(one, weights=None)], 9)] == [2, 1]


def test_stored_labels_are_weighted_too(pictures: Splits, make_set: Any, tmp_path: Any) -> None:
    short: dict[str, Any] = {"epochs": 2, "teacher_epochs": 1, "teacher_lr": 0.05, "batch": 3, "lr": 0.01}
    made = make_set(pictures)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PotstillWarning)  # a teacher of one epoch knows little of them
        store = potstill.label(
            made, pictures, tmp_path / "x.labels", protocol="sre2l", network="convnet-d1-w8", **short
        )  # fmt: skip
    protocol = SRE2L.override(**short, select="last")
    x, index = made.model_space(), torch.tensor([2, 0, 1])
    w = torch.rand(len(x), generator=generator(3))
    net = factory("convnet-d1-w8", pictures.train.input, 4)(0)
    found = stored_label_loss(protocol, net, store, x, made.labels, 1, index, w)
    stored = store.stored_epoch(1)
    mixes = store.about.views.mixes(stored, index, len(x), tuple(x.shape[1:]))  # type: ignore[union-attr]
    assert mixes is not None
    T, view = protocol.teaching.temperature, store.view(x, stored, index)
    p, q = store.decode(stored, index, T), (net(view) / T).log_softmax(1)
    each = (p * (p.log() - q)).sum(1)
    weight = mixes.share * w[index] + (1 - mixes.share) * w[mixes.partner]
    assert float(weight.std()) > 0
    torch.testing.assert_close(found, (weight * each).mean() * (T * T if protocol.teaching.t_squared else 1))
    plain = stored_label_loss(protocol, net, store, x, made.labels, 1, index)
    torch.testing.assert_close(
        stored_label_loss(protocol, net, store, x, made.labels, 1, index, torch.ones(len(x))), plain
    )
    assert torch.equal(plain, kl(net(view), p, temperature=T, t_squared=protocol.teaching.t_squared))


def weighing(made: Distilled, weights: Tensor | None) -> Distilled:
    made._contents = replace(made._contents, weights=weights)
    return made


def test_evaluation_trains_with_them_and_can_leave_them_out(pictures: Splits, make_set: Any) -> None:
    quick = POTSTILL.override(epochs=4, lr=0.05, batch=4)
    some: dict[str, Any] = {
        "protocol": quick, "networks": ["convnet-d1-w8"], "seeds": 2, "baselines": False, "full": False,
        "robust_scores": False,
    }  # fmt: skip
    one_class = torch.zeros(len(make_set(pictures)))
    plain = make_set(pictures)
    one_class[plain.labels == 2] = 1.0  # then a student knows that class alone
    told = evaluate(weighing(make_set(pictures), one_class), pictures, **some)
    assert [row["mean"] for row in told.to_dict()["per_class"]] == [0.0, 0.0, 1.0, 0.0]
    assert told.to_dict()["set"]["weighted"] is True
    left = evaluate(weighing(make_set(pictures), one_class), pictures, weights=False, **some)
    without = evaluate(plain, pictures, **some)
    assert left.to_dict()["set"]["weighted"] is False
    assert "weighted" not in without.to_dict()["set"]
    assert left.to_dict()["accuracy"] == without.to_dict()["accuracy"]
    assert left.to_dict()["per_class"] == without.to_dict()["per_class"]
