import math
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from potstill.augment.siamese import dsa, none
from potstill.core import Network, Splits
from potstill.errors import PotstillWarning
from potstill.evaluation.protocol import Protocol
from potstill.evaluation.protocols import DATADAM, DC, DSA, IDC, NCFM
from potstill.evaluation.student import StudentJob, fit, predict, train, train_and_predict, training_lengths
from potstill.execution import Processes, Serial
from potstill.nn import factory
from potstill.rng import derive_seed, generator


class Spy:
    """Writes down what a network is trained on."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.params: list[int] = []

    def draw(self, n: int, shape: tuple[int, ...], rng: torch.Generator, /) -> int:
        self.params.append(n)
        return n

    def apply(self, x: Tensor, params: int, /) -> Tensor:
        self.sizes.append(len(x))
        return x


def job(pictures: Splits, n: int = 8, **changes: Any) -> StudentJob:
    train_data = pictures.train
    index = torch.arange(0, len(train_data), len(train_data) // n)[:n]
    batch = train_data.fetch(index)
    assert isinstance(batch.x, Tensor)
    assert batch.y is not None
    fields: dict[str, Any] = {
        "make": factory("convnet-d1-w8", train_data.input, 4), "x": batch.x, "y": batch.y,
        "protocol": DC.override(epochs=4), "lr": 0.01, "steps": None, "augment": none(), "seed": 7,
    }  # fmt: skip
    return StudentJob(**(fields | changes))


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, float, bool]]:
    """Every step of SGD: which optimiser made it, at what rate, and whether its momentum was still empty."""
    rows: list[tuple[int, float, bool]] = []
    made: list[object] = []
    original = torch.optim.SGD.step

    def step(self: torch.optim.SGD, *args: Any, **kwargs: Any) -> Any:
        if self not in made:
            made.append(self)
        rows.append((made.index(self), self.param_groups[0]["lr"], not self.state))
        return original(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    return rows


def test_epochs_plus_one_rate_drop_and_fresh_momentum_exactly_as_published(
    pictures: Splits, traced: list[tuple[int, float, bool]]
) -> None:
    spy = Spy()
    train(job(pictures, n=10, protocol=DC.override(epochs=6, batch=4), augment=spy))
    # 7 epochs of 3 batches; the rate drops after epoch index 6//2+1 = 4, by a new optimiser
    assert spy.sizes == [4, 4, 2] * 7
    assert [o for o, _, _ in traced] == [0] * 15 + [1] * 6
    assert [lr for _, lr, _ in traced] == [0.01] * 15 + [pytest.approx(0.001)] * 6
    assert [empty for _, _, empty in traced] == [True] + [False] * 14 + [True] + [False] * 5


@pytest.mark.parametrize(
    ("protocol", "epochs", "drops"),
    [
        (DC, 301, (152,)),  # the rate drops when epoch index 151 is over
        (DSA, 1001, (502,)),
        (DATADAM, 1801, (902,)),
        (IDC, 1000, (666, 833)),
        (NCFM, 2000, (400, 800, 1200, 1600)),
        (NCFM.override(epochs=300), 300, (60, 120, 180, 240)),
    ],
)
def test_the_published_lengths(protocol: Protocol, epochs: int, drops: tuple[int, ...]) -> None:
    assert training_lengths(protocol, 10, None) == (epochs, 1, drops)
    assert training_lengths(protocol, protocol.recipe.batch + 1, None) == (epochs, 2, drops)


def test_milestones_are_the_integer_parts_at_every_length() -> None:
    for e in (*range(1, 62), *range(62, 3001, 7)):
        assert training_lengths(IDC.override(epochs=e), 10, None)[2] == (2 * e // 3, 5 * e // 6)
        assert training_lengths(NCFM.override(epochs=e), 10, None)[2] == (e // 5, 2 * e // 5, 3 * e // 5, 4 * e // 5)


def test_momentum_can_be_kept_at_the_drop(pictures: Splits, traced: list[tuple[int, float, bool]]) -> None:
    train(job(pictures, protocol=DC.override(epochs=2, reset_momentum=False)))
    assert [o for o, _, _ in traced] == [0, 0, 0]
    assert [empty for _, _, empty in traced] == [True, False, False]


def test_cosine_goes_to_zero_over_all_updates(pictures: Splits, traced: list[tuple[int, float, bool]]) -> None:
    recipe = DC.override(steps=7, schedule="cosine", batch=3)
    spy = Spy()
    train(job(pictures, n=8, protocol=recipe, steps=7, lr=0.2, augment=spy))
    assert [lr for _, lr, _ in traced] == pytest.approx([0.1 * (1 + math.cos(math.pi * t / 7)) for t in range(7)])
    assert spy.sizes == [3, 3, 2, 3, 3, 2, 3]  # the last epoch is cut short


def naive(given: StudentJob) -> Network:
    """The published loop, written down once more: autograd into ``grad``, a plain update by hand."""
    p, net = given.protocol, given.make(derive_seed(given.seed, "network")).train()
    rng = generator(given.seed, "samples")
    assert p.recipe.epochs is not None
    lr, velocity = given.lr, [torch.zeros_like(w) for w in net.parameters()]
    for epoch in range(p.recipe.epochs + 1):
        order = torch.randperm(len(given.x), generator=rng)
        for start in range(0, len(order), p.recipe.batch):
            batch = order[start : start + p.recipe.batch]
            x = given.augment.apply(given.x[batch], given.augment.draw(len(batch), tuple(given.x.shape[1:]), rng))
            net.zero_grad()
            F.cross_entropy(net(x), given.y[batch]).backward()
            with torch.no_grad():
                for w, v in zip(net.parameters(), velocity, strict=True):
                    assert w.grad is not None
                    v.mul_(0.9).add_(w.grad + 5e-4 * w)
                    w.sub_(lr * v)
        if epoch == p.recipe.epochs // 2 + 1:
            lr *= 0.1
            velocity = [torch.zeros_like(w) for w in net.parameters()]
    return net


@pytest.mark.parametrize("augment", [none(), dsa()])
def test_students_equal_a_naive_loop(pictures: Splits, augment: Any) -> None:
    given = job(pictures, n=10, protocol=DSA.override(epochs=5, batch=4), augment=augment)
    for mine, theirs in zip(train(given).parameters(), naive(given).parameters(), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5)


def test_augmentation_has_parameters_of_its_own_for_every_sample(pictures: Splits) -> None:
    spy = Spy()
    train(job(pictures, n=10, protocol=DC.override(epochs=1, batch=4), augment=spy))
    assert spy.params == spy.sizes == [4, 4, 2] * 2


def test_the_seed_decides_everything_and_the_global_generator_nothing(pictures: Splits) -> None:
    given = job(pictures, protocol=DSA.override(epochs=3), augment=dsa())
    before = torch.get_rng_state()
    one = train(given).state_dict()
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(3)
    two, other = train(given).state_dict(), train(replace(given, seed=8)).state_dict()
    assert all(torch.equal(t, two[n]) for n, t in one.items())
    assert not all(torch.equal(t, other[n]) for n, t in one.items())


def test_fit_trains_the_network_that_it_is_given(pictures: Splits) -> None:
    given = job(pictures)
    network = given.make(derive_seed(given.seed, "network"))
    fit(network, given)
    assert all(torch.equal(t, train(given).state_dict()[n]) for n, t in network.state_dict().items())


def test_soft_rows_that_are_one_hot_are_the_hard_labels(pictures: Splits) -> None:
    hard = job(pictures)
    soft = replace(hard, y=F.one_hot(hard.y, 4).float())
    for a, b in zip(train(hard).parameters(), train(soft).parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    blurred = replace(hard, y=torch.full((len(hard.x), 4), 0.25))
    assert not all(
        torch.allclose(a, b, atol=1e-3)
        for a, b in zip(train(hard).parameters(), train(blurred).parameters(), strict=True)
    )


def test_executors_give_the_same_predictions(pictures: Splits) -> None:
    jobs = [job(pictures, seed=s, augment=dsa(), protocol=DSA.override(epochs=3)) for s in range(3)]
    assert pictures.test is not None
    score = partial(train_and_predict, pictures.test)
    here = list(Serial().map(score, jobs))
    with Processes(1) as pool:
        there = list(pool.map(score, jobs))
    for a, b in zip(here, there, strict=True):
        assert a is not None
        assert b is not None
        assert torch.equal(a, b)


def test_a_student_with_weights_that_are_not_finite_makes_no_predictions(pictures: Splits) -> None:
    wild = job(pictures, lr=1e30, protocol=DC.override(epochs=4, lr=1e30))
    assert train_and_predict(pictures.train, wild) is None


def test_predictions_are_made_in_evaluation_mode_and_do_not_depend_on_chunks(pictures: Splits) -> None:
    given = job(pictures, make=factory("convnet-d1-w8-batch", pictures.train.input, 4))
    network = train(given)
    everything = pictures.train.fetch(torch.arange(len(pictures.train))).x
    found = predict(network, pictures.train)
    assert not network.training
    likeliest = network(everything).topk(2, 1)
    sure = likeliest.values.diff(dim=1).abs().flatten() > 1e-4  # nearer ones may fall either way by rounding
    assert int(sure.sum()) > 0.9 * len(sure)
    assert torch.equal(found[sure], likeliest.indices[sure, 0])


def test_a_student_whose_batch_is_too_large_for_memory_ends_as_it_would_have(pictures: Splits) -> None:
    given = job(pictures, n=8)
    whole = train(given)

    class Small:
        """The same networks, on a machine that holds three samples."""

        def __getattr__(self, name: str) -> Any:
            return getattr(given.make, name)

        def __call__(self, seed: int) -> Network:
            made = given.make(seed)

            def check(_: Any, inputs: tuple[Tensor, ...]) -> None:
                if made.training and len(inputs[0]) > 3:
                    raise MemoryError("injected")

            made.register_forward_pre_hook(check)
            return made

    with pytest.warns(PotstillWarning, match="2 at a time from here on, with the same result"):
        parts = train(replace(given, make=Small()))
    for name, value in whole.state_dict().items():
        assert torch.allclose(parts.state_dict()[name], value, rtol=1e-3, atol=1e-5), name
