"""MTT, DATM, FRePo, RaT-BPTT and KIP: their training against plain loops, and what a set of scores is read as."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from test_published_recipes import job
from torch import Tensor

from potstill.augment.frepo import frepo, frepo_noflip
from potstill.core import InputSpec, Splits
from potstill.dataset_file import Distilled, load
from potstill.errors import PotstillError
from potstill.evaluation import Protocol, evaluate, student
from potstill.evaluation.estimators import make_learner
from potstill.evaluation.protocols import DATM, DSA, FREPO, KIP, MTT, POTSTILL, REMEMBER
from potstill.evaluation.protocols import DATM_SOFT as SOFT
from potstill.evaluation.protocols import RAT_BPTT as RAT
from potstill.evaluation.student import StudentJob, iterate_epochs, predict, train, train_and_predict
from potstill.evaluation.vmap_students import fit_stacked, group_jobs
from potstill.execution import Serial
from potstill.functional.kernels import FullyConnected
from potstill.functional.label_simplex import to_probabilities, to_scores
from potstill.nn import factory
from potstill.rng import derive_seed, generator

NETWORK = "convnet-d1-w8-nonorm"


def scores(n: int, k: int = 4) -> Tensor:
    return to_scores(torch.eye(k).repeat_interleave(n // k, 0)) * 1.3 + 0.2 * torch.randn(n, k, generator=generator(5))


def scored_job(pictures: Splits, protocol: Protocol, double: Any, **changes: Any) -> StudentJob:
    given = job(pictures, protocol, y=scores(12)[:10].double(), make=factory(NETWORK, pictures.train.input, 4))
    return replace(given, make=double(given.make), x=given.x.double(), **changes)


def plain(given: StudentJob, optimiser: Any, rates: list[float], loss: Any) -> list[Tensor]:
    """As many updates as there are rates, over passes in a new random order each."""
    net, rng = given.make(derive_seed(given.seed, "network")).train(), generator(given.seed, "samples")
    opt = optimiser(net.parameters())
    done = 0
    while done < len(rates):
        for at in torch.randperm(len(given.x), generator=rng).split(given.protocol.recipe.batch):
            if done == len(rates):
                break
            x = given.augment.apply(given.x[at], given.augment.draw(len(at), tuple(given.x.shape[1:]), rng))
            opt.param_groups[0]["lr"] = rates[done]
            opt.zero_grad()
            loss(net(x), given.y[at]).backward()
            opt.step()
            done += 1
    return list(net.parameters())


def half_squares(outputs: Tensor, y: Tensor) -> Tensor:
    return 0.5 * torch.nn.functional.mse_loss(outputs, y)


def assert_same(given: StudentJob, theirs: list[Tensor], atol: float) -> None:
    for a, b in zip(train(given).parameters(), theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=atol)


def test_frepo_is_adam_on_squares_with_a_warm_up_and_a_cosine_to_a_hundredth(
    pictures: Splits, double: Any, adam_rounding: float
) -> None:
    short = FREPO.override(steps=23, warm_up=7, batch=4)
    given = scored_job(pictures, short, double, augment=frepo(), lr=3e-4, steps=23)
    rates = [3e-4 * t / 7 for t in range(7)]
    rates += [3e-4 * (0.99 * 0.5 * (1 + math.cos(math.pi * t / 16)) + 0.01) for t in range(16)]
    assert [r for epoch in iterate_epochs(given) for r in epoch.lrs] == pytest.approx(rates, rel=1e-12)
    theirs = plain(given, lambda p: torch.optim.Adam(p, lr=1.0), rates, half_squares)
    assert_same(given, theirs, adam_rounding)


def test_a_warm_up_never_takes_more_than_half(pictures: Splits, double: Any) -> None:
    assert FREPO.quick().recipe.steps == (500,)  # fewer would hardly leave the warm-up
    given = scored_job(pictures, FREPO.override(steps=60), double, lr=1.0, steps=60)
    rates = [r for epoch in iterate_epochs(given) for r in epoch.lrs]
    assert rates[:3] == pytest.approx([0, 1 / 30, 2 / 30])
    assert rates[30] == 1.0
    assert rates[59] == pytest.approx(0.01, abs=0.01)


def test_frepo_takes_updates_by_the_number_of_items_and_batches_of_500() -> None:
    lengths = {n: FREPO.for_set_size(n, 10).recipe.steps for n in (3, 10, 99, 100, 250, 500, 600, 1500, 9000)}
    assert lengths == {
        3: (1000,), 10: (1000,), 99: (1000,), 100: (2000,), 250: (20_000,), 500: (5000,), 600: (5000,),
        1500: (10_000,), 9000: (40_000,),
    }  # fmt: skip
    assert FREPO.for_set_size(10, 10).recipe.batch == 500
    assert FREPO.override(steps=9).for_set_size(5000, 10).recipe.steps == (9,)
    assert FREPO.override(epochs=9).for_set_size(5000, 10).recipe.steps == ()
    assert not FREPO.optimistic
    spec = InputSpec(kind="image", shape=(1, 8, 8))
    for source, mirrored, name in (
        ("cifar10", True, "frepo"), ("fashion-mnist", True, "frepo-noflip"), ("mnist", False, "frepo-noflip"),
    ):  # fmt: skip
        assert FREPO.resolve(source, "mlp", replace(spec, horizontal_flip=mirrored)).recipe.augment == name


def test_kip_trains_networks_by_momentum_on_squares_along_a_cosine(pictures: Splits, double: Any) -> None:
    given = scored_job(pictures, KIP.override(steps=11, batch=4), double, lr=0.1, steps=11)
    rates = [0.1 * 0.5 * (1 + math.cos(math.pi * t / 11)) for t in range(11)]
    theirs = plain(given, lambda p: torch.optim.SGD(p, lr=1.0, momentum=0.9, weight_decay=0.001), rates, half_squares)
    assert_same(given, theirs, 1e-12)


def test_remember_is_momentum_at_one_rate_without_decay_or_augmentation(pictures: Splits, double: Any) -> None:
    """tools/trainer.py: SGD at 0.01 with momentum 0.9, batches of 640, 300 epochs, 10 networks, the last epoch."""
    recipe = REMEMBER.recipe
    assert (recipe.lr, recipe.momentum, recipe.weight_decay, recipe.batch) == ((0.01,), 0.9, 0.0, 640)
    assert (recipe.epochs, recipe.schedule, recipe.augment, recipe.mix) == (300, "constant", "none", "none")
    assert not recipe.extra_epoch
    assert (REMEMBER.students, REMEMBER.optimistic, REMEMBER.selection.select) == (10, False, "last")
    rows = scores(12)[:10].softmax(1).double()
    given = replace(scored_job(pictures, REMEMBER.override(epochs=3, batch=4), double), y=rows, lr=0.01)
    theirs = plain(
        given, lambda p: torch.optim.SGD(p, lr=1.0, momentum=0.9), [0.01] * 9, torch.nn.functional.cross_entropy
    )  # fmt: skip
    assert_same(given, theirs, 1e-12)


def test_rat_bptt_is_adam_at_one_rate_and_counts_the_best_of_its_looks(
    pictures: Splits, double: Any, adam_rounding: float
) -> None:
    rows = scores(12)[:10].softmax(1).double()
    short = RAT.override(steps=9, test_at=(2, 5), batch=4)
    given = replace(scored_job(pictures, short, double), y=rows, lr=0.001, steps=9)
    soft = torch.nn.functional.cross_entropy
    theirs = plain(given, lambda p: torch.optim.Adam(p), [0.001] * 9, soft)
    assert_same(given, theirs, adam_rounding)
    # three updates in a pass: 2 lies in the first, 5 in the second, 9 in the last
    assert [epoch.evaluate_after for epoch in iterate_epochs(given)] == [True, True, True]
    whole = replace(given, protocol=RAT.override(batch=10), steps=3000)
    looked = [n + 1 for n, epoch in enumerate(iterate_epochs(whole)) if epoch.evaluate_after]
    assert looked == [300, 600, 1000, 3000]
    assert RAT.optimistic
    assert not RAT.override(select="last").optimistic
    assert (RAT.recipe.lr, RAT.students) == ((0.001,), 8)


def test_rat_bptt_reports_the_best_length(pictures: Splits) -> None:
    assert pictures.test is not None
    protocol = RAT.override(steps=12, test_at=(1, 4), batch=10, lr=0.5)
    given = job(pictures, protocol, lr=0.5, steps=12)
    found = train_and_predict(pictures.test, given)
    assert found is not None
    right = []
    for steps in (1, 4, 12):
        said = predict(train(replace(given, protocol=protocol.override(select="last"), steps=steps)), pictures.test)
        right.append(float((said == pictures.test.labels).double().mean()))
    assert float((found == pictures.test.labels).double().mean()) == max(right)


def test_mtt_is_dsa_at_the_learned_rate_and_datm_is_datm_soft_on_one_network() -> None:
    kept = {n: v for n, v in MTT.flat_fields().items() if v != DSA.flat_fields()[n]}
    assert kept.keys() == {"name", "paper", "summary", "students", "published_runs", "lr_of_set"}
    assert (MTT.selection.lr_of_set, MTT.students, MTT.optimistic) == (True, 5, False)
    kept = {n: v for n, v in DATM.flat_fields().items() if v != SOFT.flat_fields()[n]}
    assert kept == {"name": "datm", "summary": DATM.summary, "students": 1}


@pytest.fixture
def scored_set(pictures: Splits, make_set: Any) -> Distilled:
    return make_set(pictures, ipc=3, labels=scores(12), scores=True)


def watched(monkeypatch: pytest.MonkeyPatch) -> list[StudentJob]:
    seen: list[StudentJob] = []
    original = student.fit

    def fitted(network: Any, given: StudentJob, *args: Any) -> None:
        seen.append(given)
        original(network, given, *args)

    monkeypatch.setattr(student, "fit", fitted)
    return seen


def measured(small: Distilled, splits: Splits, protocol: Protocol, **changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "protocol": protocol, "seeds": 1, "baselines": False, "full": False, "robust_scores": False,
        "executor": Serial(), "networks": [NETWORK],
    }  # fmt: skip
    return evaluate(small, splits, **(fields | changes)).to_dict()


def test_cross_entropy_reads_probabilities_and_a_squared_error_the_scores(
    pictures: Splits, scored_set: Distilled, make_set: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert scored_set.scores is not None
    seen = watched(monkeypatch)
    measured(scored_set, pictures, DSA.override(epochs=1))
    measured(scored_set, pictures, FREPO.override(steps=2))
    assert torch.equal(seen[0].y, to_probabilities(scored_set.scores))
    assert torch.equal(seen[1].y, scored_set.scores)
    # of other sets a squared error sees their rows, or their classes, less 1/k
    soft = scores(12).softmax(1)
    for labels, expected in ((soft, None), (None, to_scores(torch.eye(4).repeat_interleave(3, 0)))):
        small = make_set(pictures, ipc=3, labels=labels)
        measured(small, pictures, FREPO.override(steps=2))
        want = to_scores(small.labels) if expected is None else expected
        torch.testing.assert_close(seen[-1].y, want)


def test_baselines_and_hard_labels_are_scored_in_the_same_way(
    pictures: Splits, scored_set: Distilled, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = watched(monkeypatch)
    card = measured(
        scored_set, pictures, FREPO.override(steps=2), baselines=True, full=True, robust_scores=True, seeds=1
    )
    mine = [given for given in seen if given.protocol.name == "frepo"]
    assert {given.y.dtype for given in mine} == {torch.float32}
    assert all(float(given.y.min()) < 0 for given in mine)
    sums = {round(float(given.y.sum(1).abs().max()), 3) for given in mine}
    assert 0.0 in sums  # the baselines' rows; those of the set do not sum to 0
    assert len(sums) > 1
    hard = to_scores(torch.nn.functional.one_hot(scored_set.hard_labels, 4).float())
    assert any(given.y.shape == hard.shape and torch.equal(given.y, hard) for given in mine)
    assert card["baselines"].keys() == {"random", "herding", "random-soft", "random-items", "real"}
    assert card["scores"]["hlr"] is not None
    assert card["optimistic"] is False


def test_weights_multiply_squares(pictures: Splits, double: Any) -> None:
    weights = torch.tensor([3.0, 1, 1, 1, 0, 0, 1, 1, 1, 1], dtype=torch.float64)
    given = scored_job(pictures, KIP.override(steps=5, batch=10), double, lr=0.1, steps=5)
    net = given.make(derive_seed(given.seed, "network")).train()
    opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.001)
    for t in range(5):
        opt.param_groups[0]["lr"] = 0.1 * 0.5 * (1 + math.cos(math.pi * t / 5))
        opt.zero_grad()
        (weights[:, None] * 0.5 * (net(given.x) - given.y).square()).mean().backward()
        opt.step()
    found = train(replace(given, weights=weights))
    for a, b in zip(found.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    several = [replace(given, weights=weights, seed=s) for s in (1, 2)]
    assert [len(group) for group in group_jobs(several, 8)] == [1, 1]  # together weights are in the labels


def test_students_side_by_side_learn_squares_as_alone(pictures: Splits, double: Any, adam_rounding: float) -> None:
    given = scored_job(pictures, FREPO.override(steps=6, batch=4), double, augment=frepo_noflip(), lr=0.01, steps=6)
    jobs = [replace(given, seed=seed) for seed in (1, 2, 3)]
    assert [len(group) for group in group_jobs(jobs, 8)] == [3]
    state = fit_stacked(jobs).state
    for n, one in enumerate(jobs):
        for name, value in train(one).state_dict().items():
            torch.testing.assert_close(state[name][n], value, rtol=1e-7, atol=adam_rounding)


def test_kips_own_learner_is_the_student_of_pictures_and_reads_the_scores(
    pictures: Splits, table: Splits, make_set: Any, scored_set: Distilled
) -> None:
    card = measured(scored_set, pictures, KIP.override(steps=2), networks=None, baselines=True, seeds=2)
    assert (card["network"], card["n"]) == ("krr-ntk", 1)
    assert card["learner"]["settings"] == {"depth": 1, "ridge": 1e-6, "most": 4000}
    assert card["baselines"]["random"]["n"] == 3
    assert pictures.test is not None
    kernel, seen = FullyConnected(), pictures.test.fetch(torch.arange(len(pictures.test))).x
    x = scored_set.model_space().flatten(1).double()
    assert isinstance(seen, Tensor)
    k = kernel(x, x)
    ridge = 1e-6 * k.diagonal().mean() * torch.eye(12, dtype=torch.float64)
    said = kernel(seen.flatten(1), x) @ torch.linalg.solve(k + ridge, scored_set.scores.double())  # type: ignore[union-attr]
    right = float((said.argmax(1) == pictures.test.labels).double().mean())
    assert card["accuracy"]["mean"] == pytest.approx(right)
    rows = make_set(table)
    assert measured(rows, table, KIP.override(steps=2), networks=None)["network"] == "mlp-w128"
    assert measured(rows, table, KIP.override(steps=2), networks=["nngp:depth=2"])["network"] == "nngp:depth=2"


def test_other_learners_read_probabilities_of_scores(
    pictures: Splits, scored_set: Distilled, monkeypatch: pytest.MonkeyPatch
) -> None:
    from potstill.evaluation.estimators import LearnerFactory

    seen: dict[str, Tensor] = {}
    original = LearnerFactory.fit_predict

    def answers(self: LearnerFactory, source: Any, x: Any, y: Tensor, *rest: Any) -> Tensor:
        seen[self.learner.name] = y
        return original(self, source, x, y, *rest)

    monkeypatch.setattr(LearnerFactory, "fit_predict", answers)
    names = ["forest:trees=3", "linear-model", "ridge", "krr-ntk", "ridge-features"]
    measured(scored_set, pictures, POTSTILL.override(steps=2, lr=0.1), networks=names)
    assert scored_set.scores is not None
    for name in ("forest", "linear-model"):
        assert torch.equal(seen[name], scored_set.labels)
    for name in ("ridge", "krr-ntk", "ridge-features"):
        torch.testing.assert_close(seen[name], scored_set.scores + 0.25)


def test_a_saved_set_is_measured_as_the_one_in_memory(pictures: Splits, scored_set: Distilled, tmp_path: Any) -> None:
    again = load(scored_set.save(tmp_path / "set.safetensors"))
    first, second = (measured(s, pictures, FREPO.override(steps=3)) for s in (scored_set, again))
    assert first["accuracy"] == second["accuracy"]
    assert first["bytes"] == second["bytes"]


@pytest.mark.parametrize(
    ("spelled", "words"),
    [
        ("krr-ntk:depth=-1", "krr-ntk: depth must be at least 0, not -1"),
        ("nngp:ridge=-1", "nngp: ridge must be at least 0"),
        ("krr-ntk:ridge=nan", "krr-ntk: ridge must be at least 0, not nan"),
        ("krr-ntk:most=0", "krr-ntk: most must be at least 1"),
        ("ridge-features:count=0", "ridge-features: count must be at least 1"),
        ("ridge-features:widths=3", "unknown setting 'widths'"),
    ],
)
def test_a_bad_setting_is_refused_in_one_line(spelled: str, words: str, pictures: Splits) -> None:
    with pytest.raises(PotstillError, match=words) as refused:
        make_learner(spelled, pictures.train)
    assert "\n" not in str(refused.value)


def test_two_equal_samples_do_not_stop_a_kernel(pictures: Splits) -> None:
    batch = pictures.train.fetch(torch.tensor([0, 0, 40, 70]))
    assert pictures.test is not None
    assert isinstance(batch.y, Tensor)
    for spelled in ("krr-ntk:ridge=0", "nngp", "ridge-features:count=2"):
        said = make_learner(spelled, pictures.train).fit_predict(pictures.test, batch.x, batch.y, None, 1)
        assert said.shape == (len(pictures.test),)


def test_a_kernel_takes_in_at_most_so_many(pictures: Splits) -> None:
    batch = pictures.train.fetch(torch.arange(len(pictures.train)))
    assert pictures.test is not None
    assert isinstance(batch.y, Tensor)
    made = make_learner("krr-ntk:most=3", pictures.train)
    said = made.fit_predict(pictures.test, batch.x, batch.y, torch.ones(len(batch.y)), 1)
    assert torch.equal(said, made.fit_predict(pictures.test, batch.x, batch.y, None, 1))
    assert len(said.unique()) <= 3  # three samples are of three classes at most
    whole = make_learner("krr-ntk", pictures.train).fit_predict(pictures.test, batch.x, batch.y, None, 1)
    assert len(whole.unique()) == 4


def test_the_features_of_a_network_decide_with_their_seed(pictures: Splits) -> None:
    batch = pictures.train.fetch(torch.arange(len(pictures.train)))
    assert pictures.test is not None
    assert isinstance(batch.y, Tensor)
    make = make_learner("ridge-features:network=convnet-d1-w8-nonorm", pictures.train)
    assert make.learner.draws
    assert not make_learner("ridge-features:network=efficientnet-lite0", pictures.train).learner.draws
    y = torch.randint(4, batch.y.shape, generator=generator(6))  # so that nothing but the features decides
    said = [make.fit_predict(pictures.test, batch.x, y, None, seed) for seed in (1, 2)]
    assert not torch.equal(*said)
    net = factory("convnet-d1-w8-nonorm", pictures.train.input, 4)(derive_seed(1, "features", 0)).eval()
    seen = pictures.test.fetch(torch.arange(len(pictures.test))).x
    assert isinstance(seen, Tensor)
    assert isinstance(batch.x, Tensor)
    with torch.no_grad():
        a, b = (net.embed(x).double() for x in (batch.x, seen))
    k = a @ a.T
    ridge = 1e-6 * k.diagonal().mean() * torch.eye(len(k), dtype=k.dtype)
    expected = b @ a.T @ torch.linalg.solve(k + ridge, to_scores(torch.eye(4, dtype=k.dtype)[y]))
    assert float((expected.argmax(1) == said[0]).double().mean()) > 0.97
