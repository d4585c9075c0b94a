"""Robustness of a set: a planted fragile set, masked gradients, corruptions, outliers, and what cannot be measured."""

import json
import math
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

import potstill
from potstill.audit.robustness import audit_robustness
from potstill.audit.robustness.attacks import Attack, AttackSettings, eps_text, forward_of, transferred
from potstill.audit.robustness.autoattack import auto_attack
from potstill.audit.robustness.corruptions import CORRUPTIONS, corrupt
from potstill.audit.robustness.outliers import SCORES, auroc, shuffled_patches, uniform_noise
from potstill.audit.robustness.run import measure_students, train_students
from potstill.cli.main import main
from potstill.core import Splits
from potstill.data import TensorSource
from potstill.diagnostics import make_bench
from potstill.errors import PotstillError
from potstill.rng import generator

QUICK: dict[str, Any] = {
    "students": 2, "steps": 60, "full_steps": 60, "network": "mlp-w16", "attack_steps": 5, "queries": 20,
    "samples": 200, "progress": None,
}  # fmt: skip


def pictures(strong: bool, per_class: int = 60, seed: int = 0) -> TensorSource:
    """Return pictures whose lower half shows the class faintly, and the upper half strongly, or something else."""
    rng = torch.Generator().manual_seed(seed)
    y = torch.arange(2).repeat(per_class)
    other = y if strong else torch.randint(2, y.shape, generator=rng)
    x = torch.full((len(y), 1, 4, 4), 0.5) + 0.01 * torch.randn(len(y), 1, 4, 4, generator=rng)
    x[:, :, :2] += (0.3 * (2.0 * other - 1))[:, None, None, None]
    x[:, :, 2:] += (0.03 * (2.0 * y - 1))[:, None, None, None]
    return TensorSource.make(x, y.tolist(), name="halves")


def halves(strong: bool) -> Splits:
    train = pictures(strong)
    return Splits(train=train, test=replace(pictures(strong, seed=1), normalization=train.normalization))


def test_a_set_of_fragile_features_is_less_robust_and_a_set_of_all_data_is_not_told_apart() -> None:
    data = halves(strong=True)
    fragile = potstill.distill(halves(strong=False), "random", ipc=30, progress=None)
    options = QUICK | {"students": 3, "steps": 400, "full_steps": 40, "eps": (0.1,), "eps_l2": (0.2,)}
    audit = audit_robustness(fragile, data, **options)
    assert audit.sentence.startswith("Students of the set are less robust than those of as many random real samples")
    values = audit.values
    assert values["clean"]["set"]["mean"] > 0.9
    assert values["strongest"]["difference"]["random"]["ci95"][1] < 0
    assert values["kept"]["set"]["mean"] < 0.5 < values["kept"]["random"]["mean"]
    by_attack = {(a["attack"], a["norm"], a["eps"]): a["set"]["mean"] for a in values["attacks"]}
    assert values["clean"]["set"]["mean"] >= by_attack["pgd", "linf", 0.1] >= by_attack["pgd", "linf", 0.5]
    assert values["strongest"]["set"]["mean"] <= min(
        by_attack[name, "linf", 0.1] for name in ("fgsm", "pgd", "pgd-margin", "square", "transfer")
    )
    whole = potstill.distill(data, "random", ipc=60, progress=None)
    same = audit_robustness(whole, data, **options | {"steps": 100, "full_steps": 20})
    assert same.sentence.startswith("Under attack, students of the set are not told apart from those of as many")
    assert same.values["strongest"]["difference"]["random"]["mean"] == pytest.approx(0, abs=0.05)


ROUNDING = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.linear = nn.Linear(shape[0] * shape[1] * shape[2], classes)

    def forward(self, x):
        return self.linear((4 * x.flatten(1)).round() / 4)
"""


def test_masked_gradients_are_found_and_said(tmp_path: Path) -> None:
    """Rounded inputs have no gradient: FGSM and PGD change nothing, random search and transfer do."""
    (tmp_path / "rounding.py").write_text(ROUNDING)
    data = halves(strong=True)
    small = potstill.distill(data, "random", ipc=10, progress=None)
    audit = audit_robustness(
        small, data, **QUICK | {"network": f"{tmp_path / 'rounding.py'}:Net", "steps": 200, "full_steps": 200,
                                "eps": (0.4,), "eps_l2": ()},
    )  # fmt: skip
    masking = audit.values["masking"]["set"]
    assert not masking["passed"]
    assert masking["left_at_large"] > 0.5
    assert "square" in masking["beaten_by"]
    assert "The check for masked gradients fails for students of the set" in audit.sentence
    assert "PGD is beaten by" in audit.sentence
    assert audit.values["strongest"]["set"]["mean"] < masking["left_at_large"] - 0.2
    plain = audit_robustness(small, data, **QUICK | {"eps": (0.4,), "eps_l2": ()})
    assert plain.values["masking"]["set"] == {"beaten_by": [], "left_at_large": 0.0, "passed": True}
    assert "masked" not in plain.sentence


def test_numbers_of_a_student_are_those_by_hand() -> None:
    data = halves(strong=True)
    small = potstill.distill(data, "random", ipc=5, progress=None)
    bench = make_bench(small, data, network="mlp-w16", eval_split="test", students=2, steps=30, lr=0.03, most=1000)
    networks = train_students(bench, 30)
    assert data.test is not None
    x, y = data.test.raw(torch.arange(len(data.test))), data.test.labels
    settings = AttackSettings(eps=(0.1,), eps_l2=(), steps=3, queries=5, seed=0)
    found = measure_students(bench, networks, x, settings, {"noise": uniform_noise(x, generator(0, "noise"))})
    for name in ("set", "random"):
        condition = bench.distilled_condition() if name == "set" else bench.random_condition()
        outputs = bench.outputs(condition)
        for student, result in enumerate(found[name]):
            said = outputs[student]
            assert said is not None
            assert torch.equal(result.clean, said.argmax(1) == y)  # normalization is undone and applied again
            forward = forward_of(networks[name][student], data.train.normalization)
            assert torch.allclose(forward(x), said, atol=1e-5)
            noise = forward(uniform_noise(x, generator(0, "noise")))
            inside, outside = said.softmax(1).amax(1).tolist(), noise.softmax(1).amax(1).tolist()
            above = sum((a > b) + (a == b) / 2 for a in inside for b in outside) / (len(inside) * len(outside))
            assert result.auroc["noise", "maximum softmax"] == pytest.approx(above, abs=2e-3)
            bright = forward((x + 0.3).clamp(0, 1)).argmax(1) == y
            assert torch.equal(result.corruptions["bright"], bright)
            for right in result.attacks.values():
                assert not bool((right & ~result.clean).any())
    forward = forward_of(networks["set"][0], data.train.normalization)
    made = {"set": x, "random": 1 - x, "all data": x}
    by_hand = (forward(1 - x).argmax(1) == y) & (forward(x).argmax(1) == y)
    assert torch.equal(transferred(forward, made, "set", y), by_hand)


class Package(types.ModuleType):
    """A package in which AutoAttack inverts pictures, too far, and draws from the global generator."""

    calls: ClassVar[list[dict[str, Any]]] = []

    class AutoAttack:
        def __init__(self, model: Any, **options: Any) -> None:
            self.model = model
            next(model.parameters())  # the package reads its device there
            Package.calls.append(options)

        def __call__(self, x: Tensor, y: Tensor) -> Tensor:
            assert len(self.model(x)) == len(y)
            torch.manual_seed(7)
            return x + 2 * (torch.rand(()) - torch.rand(())).sign() * (1 - 2 * x)


def test_autoattack_is_the_package_s_and_stays_in_the_ball(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = torch.rand(6, 1, 4, 4), torch.arange(6) % 5
    monkeypatch.setitem(sys.modules, "torchattacks", Package("torchattacks"))
    Package.calls.clear()
    before = torch.random.get_rng_state()
    found = auto_attack(lambda x: x.flatten(1)[:, :5], x, y, 0.1, classes=5, seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert Package.calls == [{"norm": "Linf", "eps": 0.1, "version": "standard", "n_classes": 5, "seed": 3}]
    assert float((found - x).abs().max()) <= 0.1 + 1e-6
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    digits = potstill.load_data("digits")
    small = potstill.distill(digits, "random", ipc=1, progress=None)
    options = QUICK | {"steps": 5, "full_steps": 5, "queries": 2, "attack_steps": 1, "eps": (0.05, 0.1)}
    audit = audit_robustness(small, digits, **options, autoattack=True)
    assert [a["eps"] for a in audit.values["attacks"] if a["attack"] == "autoattack"] == [0.05, 0.1]
    assert "under each of 6 attacks" in audit.sentence


def test_autoattack_without_its_package_or_with_few_classes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchattacks", None)  # as if it were not installed
    small = potstill.distill("digits", "random", ipc=1, progress=None)
    with pytest.raises(PotstillError, match=r"AutoAttack: needs the package torchattacks, .*potstill\[attacks\]"):
        audit_robustness(small, "digits", **QUICK, autoattack=True)
    data = halves(strong=True)
    with pytest.raises(PotstillError, match="AutoAttack needs at least 4 classes, but there are 2"):
        audit_robustness(potstill.distill(data, "random", ipc=1, progress=None), data, **QUICK, autoattack=True)


def test_every_corruption_changes_pictures_within_the_range_and_alike_at_one_seed() -> None:
    for shape in ((3, 1, 28, 28), (3, 3, 12, 20), (3, 2, 8, 8)):
        x = torch.rand(shape, generator=generator(0, "pictures"))
        for name in CORRUPTIONS:
            found = corrupt(name, x, seed=0)
            assert found.shape == x.shape
            assert 0 <= float(found.min()) <= float(found.max()) <= 1
            assert not torch.allclose(found, x, atol=0.01)
            assert torch.equal(found, corrupt(name, x, seed=0))
    flat = torch.full((2, 3, 8, 8), 0.5)
    for name in ("blur", "pixelated", "low contrast", "shifted", "JPEG"):
        assert torch.allclose(corrupt(name, flat, seed=0), flat, atol=0.01)  # nothing to lose in a flat picture
    assert float(corrupt("Gaussian noise", flat, seed=0).std()) == pytest.approx(0.15, abs=0.03)
    assert float((corrupt("impulse noise", torch.full((1, 1, 100, 100), 0.5), seed=0) != 0.5).double().mean()) == (
        pytest.approx(0.1, abs=0.02)
    )


def test_a_shift_is_by_whole_pixels_in_each_direction() -> None:
    x = torch.zeros(200, 1, 10, 10)
    x[:, :, 4, 5] = 1.0
    where = {tuple(at[2:]) for at in corrupt("shifted", x, seed=0).nonzero().tolist()}
    assert where == {(3, 4), (3, 6), (5, 4), (5, 6)}


def test_shuffled_patches_keep_the_values_and_change_the_places() -> None:
    for shape in ((4, 1, 28, 28), (4, 3, 9, 8), (4, 1, 11, 14)):
        x = torch.rand(shape, generator=generator(0, "pictures"))
        found = shuffled_patches(x, generator(0, "patches"))
        assert found.shape == x.shape
        assert torch.equal(found.flatten(1).sort(1).values, x.flatten(1).sort(1).values)
        assert not torch.equal(found, x)
    one = torch.arange(16.0).reshape(1, 1, 4, 4)
    drawn = [shuffled_patches(one, generator(seed, "patches")) for seed in (0, 1)]
    assert not torch.equal(drawn[0], drawn[1])


def test_scores_and_their_auroc() -> None:
    inside, outside = torch.tensor([3.0, 2.0, 1.0]), torch.tensor([2.0, 0.0])
    assert auroc(inside, outside) == pytest.approx((2 + 1.5 + 1) / 6)
    logits: Tensor = torch.tensor([[2.0, 0.0], [0.0, 0.0]])
    assert SCORES["energy"](logits).tolist() == pytest.approx([math.log(math.exp(2) + 1), math.log(2)])
    assert SCORES["maximum softmax"](logits).tolist() == pytest.approx([math.exp(2) / (math.exp(2) + 1), 0.5])


def test_attacks_are_named_by_their_radius() -> None:
    assert (eps_text(8 / 255), eps_text(0.5), eps_text(1.0)) == ("8/255", "0.5", "255/255")
    settings = AttackSettings(eps=(2 / 255, 8 / 255), eps_l2=(0.5,), steps=1, queries=1, seed=0)
    assert [a.text for a in settings.white_box][-2:] == ["FGSM, L2 0.5", "PGD, L2 0.5"]
    assert settings.strongest[1] == Attack("pgd", "linf", 8 / 255)
    assert len(settings.strongest) == 5


def test_outliers_of_other_data_are_used_and_of_another_shape_refused() -> None:
    data = halves(strong=True)
    small = potstill.distill(data, "random", ipc=2, progress=None)
    other = pictures(strong=False, seed=3)
    audit = audit_robustness(small, data, **QUICK, ood=Splits(train=replace(other, name="others"), test=None))
    assert {found["outliers"] for found in audit.values["ood"]} == {"others"}
    assert audit.settings["outliers"] == {"others": 120}
    again = audit_robustness(small, data, **QUICK, ood=Splits(train=replace(other, name="others"), test=None))
    assert again.to_json() | {"seconds": 0} == audit.to_json() | {"seconds": 0}
    with pytest.raises(PotstillError, match=r"outliers need the shape of the data, 1×4×4, but `ood=digits` has 1×8×8"):
        audit_robustness(small, data, **QUICK, ood="digits")


def test_what_cannot_be_measured_is_refused_in_one_line() -> None:
    data = halves(strong=True)
    small = potstill.distill(data, "random", ipc=2, progress=None)
    rows = TensorSource.make(torch.randn(40, 3), (torch.arange(40) % 2).tolist(), name="rows")
    table = Splits(train=rows, test=rows)
    of_rows = potstill.distill(table, "random", ipc=2, progress=None)
    loud = replace(pictures(strong=True, seed=1), inputs=3 * pictures(strong=True, seed=1).inputs)
    cases: list[tuple[Any, Any, dict[str, Any], str]] = [
        (small, data, {"eps": (0.0,)}, r"`eps=` are radii above 0 and at most 1, where pixels are in \[0, 1\], not 0"),
        (small, data, {"eps": (8.0,)}, "at most 1, where pixels are in .*, not 8; write 8/255"),
        (small, data, {"eps": (float("nan"),)}, "not nan"),
        (small, data, {"eps": ()}, "needs a radius of L∞"),
        (small, data, {"eps_l2": (-1.0,)}, "`eps_l2=` are radii above 0 and finite"),
        (small, data, {"eps_l2": (math.inf,)}, "finite, .* not inf"),
        (small, data, {"students": 1}, "needs `students=` of at least 2, not 1"),
        (small, data, {"queries": 0}, "needs `queries=` of at least 1, not 0"),
        (small, replace(data, test=None), {}, "halves has no test part, whose pictures are attacked"),
        (small, replace(data, test=loud), {}, r"attacks move pixels within \[0, 1\], but those of halves are between"),
        (of_rows, table, {}, "is of pictures, but rows holds another kind, table"),
        (small, data, {"lr": 1e30}, "2 of 2 students diverged, and two have to remain"),
    ]
    for given, splits, options, words in cases:
        with pytest.raises(PotstillError, match=words) as caught:
            audit_robustness(given, splits, **QUICK | options)
        assert "\n" not in str(caught.value)


def folder(path: Path) -> Path:
    train, test = pictures(strong=True), pictures(strong=True, seed=1)
    arrays = {}
    for name, source in (("train", train), ("test", test)):
        arrays[f"x_{name}"] = (255 * source.raw(torch.arange(len(source)))).round().byte().permute(0, 2, 3, 1).numpy()
        arrays[f"y_{name}"] = source.labels.numpy()
    np.savez(path, **arrays)
    return path


def test_the_command_writes_a_part_that_the_page_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out, said = folder(tmp_path / "d.npz"), tmp_path / "s.safetensors", tmp_path / "s.audit.json"
    potstill.distill(data, "random", ipc=3, progress=None).save(out)
    line = ["audit", "robustness", str(out), "--data", str(data), "--students", "2", "--steps", "20", "--quiet"]
    quick = ["--full-steps", "20", "--network", "mlp-w8", "--attack-steps", "3", "--queries", "5", "--eps", "0.1,8/255"]
    capsys.readouterr()
    assert main([*line, *quick, "--out", str(said)]) == 0
    text = " ".join(capsys.readouterr().out.split())  # lines are folded at a width
    assert "PGD, L∞ 8/255" in text
    assert "all 5, L∞ 0.1" in text
    part = json.loads(said.read_text())["parts"]["robustness"]
    assert {a["eps"] for a in part["values"]["attacks"] if a["norm"] == "linf"} == {0.1, 8 / 255, 0.5}
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "page.html"), "--quiet"]) == 0
    assert "Accuracy in percent under attack" in (tmp_path / "page.html").read_text()
    for more, status, words in (
        (["--eps", "8"], 1, "are radii above 0 and at most 1"),
        (["--eps", "8/0"], 2, "--eps: radii are numbers such as 2/255,0.03"),
        (["--eps", "big"], 2, "but 'big' is not"),
        (["--ood", "digits"], 1, "outliers need the shape of the data, 1×4×4"),
    ):
        capsys.readouterr()
        assert main([*line, *more]) == status
        err = capsys.readouterr().err
        assert words in err
        assert err.count("\n") == 1
