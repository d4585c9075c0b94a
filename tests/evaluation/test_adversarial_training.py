"""Adversarial training of students: a step by hand, examples in the ball, what it gains, off is off, refusals."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import potstill
from potstill.audit.robustness import audit_robustness
from potstill.audit.robustness.attacks import forward_of
from potstill.augment.siamese import none
from potstill.cli.main import main
from potstill.core import Normalization, Splits
from potstill.data import TensorSource
from potstill.errors import PotstillError
from potstill.evaluation.adversarial_training import Adversary, adversarial_batch, parse_adversary
from potstill.evaluation.protocols import DC
from potstill.evaluation.student import StudentJob, train
from potstill.functional.adversarial import Ball, fgsm, pgd
from potstill.nn import factory
from potstill.rng import derive_seed, generator


def halves(seed: int = 0, per_class: int = 40) -> TensorSource:
    """Pictures that show the class strongly in the upper half for most of them, and faintly but always in the lower."""
    rng = torch.Generator().manual_seed(seed)
    y = torch.arange(2).repeat(per_class)
    x = torch.full((len(y), 1, 4, 4), 0.5) + 0.02 * torch.randn(len(y), 1, 4, 4, generator=rng)
    strong = torch.where(torch.rand(len(y), generator=rng) < 0.85, y, 1 - y)
    x[:, :, :2] += (0.3 * (2.0 * strong - 1))[:, None, None, None]
    x[:, :, 2:] += (0.05 * (2.0 * y - 1))[:, None, None, None]
    return TensorSource.make(x, y.tolist(), name="halves")


def job(source: TensorSource, **changes: Any) -> StudentJob:
    batch = source.fetch(torch.arange(len(source)))
    fields: dict[str, Any] = {
        "make": factory("mlp-w16", source.input, 2), "x": batch.x, "y": batch.y, "lr": 0.1, "steps": None, "seed": 5,
        "protocol": DC.override(epochs=1, batch=256), "augment": none(), "normalization": source.normalization,
    }  # fmt: skip
    return StudentJob(**(fields | changes))


def with_adversary(one: StudentJob, name: str, **changes: Any) -> StudentJob:
    return replace(one, protocol=one.protocol.override(adversary=name, **changes))


def test_one_update_by_hand() -> None:
    source = halves()
    one = with_adversary(job(source), "fgsm:eps=0.1")
    recipe = one.protocol.recipe
    assert len(source) <= recipe.batch
    assert recipe.epochs == 1
    one = replace(one, protocol=one.protocol.override(extra_epoch=False))
    net = one.make(derive_seed(one.seed, "network"))
    x = one.x.clone().requires_grad_()  # type: ignore[union-attr]
    (slope,) = torch.autograd.grad(F.cross_entropy(net(x), one.y), x)
    moved = (x + 0.1 * slope.sign() / source.normalization.std).detach()  # radii are in units of pixels
    grads = torch.autograd.grad(F.cross_entropy(net(moved), one.y), list(net.parameters()))
    expected = [
        p - one.lr * (g + recipe.weight_decay * p) for p, g in zip(net.parameters(), grads, strict=True)
    ]  # fmt: skip
    for made, wanted in zip(train(one).parameters(), expected, strict=True):
        assert torch.allclose(made, wanted, atol=1e-6)


def plain_classifier() -> tuple[nn.Module, TensorSource]:
    source = halves()
    return train(job(source, protocol=DC.override(epochs=20))), source


def test_examples_lie_in_the_ball_and_raise_the_loss() -> None:
    net, source = plain_classifier()
    batch = source.fetch(torch.arange(len(source)))
    x, y = batch.x, batch.y
    assert isinstance(x, Tensor)
    assert y is not None
    wide = replace(source.normalization, std=source.normalization.std * 0.1)  # pixels far outside of [0, 1], too
    for normalization in (source.normalization, wide):
        for attack, steps in (("fgsm", 1), ("pgd", 5)):
            net.train()
            adversary = Adversary(attack=attack, eps=0.02, steps=steps)  # type: ignore[arg-type]
            made = adversarial_batch(net, net, adversary, normalization, x, y, generator(0))
            assert net.training
            assert not made.requires_grad
            offset = (normalization.invert(made) - normalization.invert(x)).abs()
            assert float(offset.max()) <= 0.02 + 1e-5
            assert float(offset.max()) > 0.015
            with torch.no_grad():
                assert F.cross_entropy(net(made), y) > F.cross_entropy(net(x), y)
            soft = adversarial_batch(net, net, adversary, normalization, x, F.one_hot(y, 2).float(), generator(0))
            assert torch.allclose(soft, made, atol=1e-6)


def test_the_last_point_of_an_attack_without_clamping() -> None:
    ball = Ball("linf", 0.5, low=-9.0, high=9.0)
    x, y = torch.tensor([[3.0]]), torch.tensor([0])

    def forward(at: Tensor) -> Tensor:
        return torch.cat([at, torch.zeros_like(at)], 1)

    # the loss of class 0 falls with x: four steps of 0.3125 end at the ball's border, 2.5
    assert pgd(forward, x, y, ball, steps=4, keep_first=False).item() == pytest.approx(2.5)
    assert fgsm(forward, x, y, ball).item() == pytest.approx(2.5)
    assert pgd(forward, -x, y, ball, steps=4, keep_first=True).item() == -3.0  # wrong at once, so never moved
    assert pgd(forward, -x, y, ball, steps=4, keep_first=False).item() == pytest.approx(-3.5)


def test_students_trained_by_it_keep_more_of_their_answers() -> None:
    source, test = halves(), halves(seed=1)
    x, y = test.raw(torch.arange(len(test))), test.labels
    assert isinstance(x, Tensor)
    kept = {}
    for name in ("none", "pgd:eps=0.15,steps=5", "fgsm:eps=0.15"):
        net = train(with_adversary(job(source), name, epochs=60))
        forward = forward_of(net, source.normalization)
        attacked = pgd(forward, x, y, Ball("linf", 0.15), steps=10)
        kept[name] = float((forward(attacked).argmax(1) == y).float().mean())
    assert kept["pgd:eps=0.15,steps=5"] > kept["none"] + 0.3
    assert kept["fgsm:eps=0.15"] > kept["none"] + 0.3


def test_without_an_adversary_bits_and_fingerprints_stay() -> None:
    one = job(halves())
    a, b = train(one).state_dict(), train(replace(one, normalization=None)).state_dict()
    assert all(torch.equal(a[n], b[n]) for n in a)
    assert DC.override(adversary="none").fingerprint() == DC.fingerprint()
    assert DC.override(adversary="pgd").fingerprint() != DC.fingerprint()
    twice = [train(with_adversary(one, "pgd")).state_dict() for _ in range(2)]
    assert all(torch.equal(twice[0][n], twice[1][n]) for n in a)
    with pytest.raises(ValueError, match="has an adversary, so a job has"):
        train(with_adversary(replace(one, normalization=None), "pgd"))


def test_names() -> None:
    assert parse_adversary("none") is None
    assert parse_adversary("pgd") == Adversary(attack="pgd", eps=8 / 255, steps=7)
    assert parse_adversary("pgd:eps=4/255,steps=3") == Adversary(attack="pgd", eps=4 / 255, steps=3)
    assert parse_adversary("fgsm:eps=0.1") == Adversary(attack="fgsm", eps=0.1, steps=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"adversary": "cw"}, "unknown adversary 'cw'|no adversary 'cw'"),
        ({"adversary": "fgsm:steps=2"}, "adversary fgsm has no setting 'steps'; it has eps"),
        ({"adversary": "pgd:eps=wide"}, "eps must be a number, not 'wide'"),
        ({"adversary": "pgd:eps=1/0"}, "eps must be a number"),
        ({"adversary": "pgd:eps=0"}, "eps must be above 0 and at most 1"),
        ({"adversary": "pgd:steps=0"}, "steps at least 1"),
        ({"adversary": "pgd", "loss": "squared"}, "needs the set's own labels and cross-entropy"),
    ],
)
def test_bad_protocols(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PotstillError, match=message):
        DC.override(**changes)


def test_other_data_are_refused() -> None:
    rows = TensorSource.make(torch.randn(40, 3, generator=generator(0)), [i % 2 for i in range(40)], name="rows")
    table = Splits(train=rows, test=rows)
    small = potstill.distill(table, "random", ipc=2, progress=None)
    with pytest.raises(PotstillError, match="moves pixels of pictures with classes, but rows holds another kind"):
        potstill.evaluate(small, table, quick=True, baselines=False, full=False, adversary="pgd", progress=None)
    source = halves()
    data = Splits(train=source, test=halves(seed=1))
    white = potstill.distill(data, "dm", ipc=2, steps=1, zca="mtt", network="mlp-w8", progress=None)
    with pytest.raises(PotstillError, match="are whitened"):
        potstill.evaluate(white, data, quick=True, baselines=False, full=False, adversary="pgd", progress=None)


def test_the_audit_and_the_evaluation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = halves()
    data = Splits(train=source, test=replace(halves(seed=1), normalization=source.normalization))
    small = potstill.distill(data, "random", ipc=20, progress=None)
    options: dict[str, Any] = {
        "students": 2, "steps": 100, "full_steps": 100, "network": "mlp-w16", "attack_steps": 5, "queries": 5,
        "eps": (0.15,), "eps_l2": (), "progress": None, "lr": 0.1,
    }  # fmt: skip
    plain = audit_robustness(small, data, **options)
    trained = audit_robustness(small, data, **options, adversary="pgd:eps=0.15,steps=3")
    assert plain.settings["adversary"] == "none"
    assert trained.settings["adversary"] == "pgd:eps=0.15,steps=3"
    assert "All students were trained on adversarial examples (pgd:eps=0.15,steps=3)." in trained.notes
    means = [audit.values["strongest"]["set"]["mean"] for audit in (plain, trained)]
    assert means[1] > means[0] + 0.2
    file = tmp_path / "digits.safetensors"
    words = "--ipc 2 --method random --quiet --out"
    assert main(["distill", "digits", *words.split(), str(file)]) == 0
    capsys.readouterr()
    words = "--data digits --network mlp-w8 --quick --no-baselines --no-full --seeds 2 --steps 5 --json --adversary"
    assert main(["evaluate", str(file), *words.split(), "fgsm"]) == 0
    score = json.loads(capsys.readouterr().out)
    assert main(["evaluate", str(file), *words.split(), "none"]) == 0
    assert score["fingerprint"] != json.loads(capsys.readouterr().out)["fingerprint"]
    assert main(["audit", "robustness", str(file), "--data", "digits", "--adversary", "cw", "--quiet"]) == 1
    assert "adversary 'cw'" in capsys.readouterr().err


def test_normalization_is_undone_per_channel() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(8, 2))
    scale = Normalization(mean=torch.tensor([0.1, 0.6]), std=torch.tensor([0.5, 2.0]))
    x, y = torch.randn(3, 2, 2, 2, generator=generator(0)), torch.tensor([0, 1, 1])
    made = adversarial_batch(net, net, Adversary(attack="fgsm", eps=0.1), scale, x, y, generator(0))
    assert torch.allclose((made - x).abs()[:, 0], torch.tensor(0.2), atol=1e-6)
    assert torch.allclose((made - x).abs()[:, 1], torch.tensor(0.05), atol=1e-6)
