"""Which of the published programs a method follows, by the size of the data and the number of classes."""

import dataclasses
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from decoupled_toys import at_toy, draws, members, pixels, started, view
from torch import Tensor

import potstill
from potstill.cli.main import main
from potstill.core import Method, Splits
from potstill.data import TensorSource
from potstill.errors import PotstillError
from potstill.functional.statistics import densification
from potstill.methods.decoupled.cv_dd import CVDD
from potstill.methods.decoupled.dwa import DWA
from potstill.methods.decoupled.edc import EDC
from potstill.methods.decoupled.fadrm import FADRM
from potstill.methods.decoupled.g_vbsm import GVBSM
from potstill.methods.decoupled.sre2l import SRe2L
from potstill.methods.decoupled.ufc import UFC
from potstill.methods.engine import nearest_settings
from potstill.planning.plan import plan
from potstill.rng import generator
from potstill.runs.resolve import resolve_run
from potstill.runs.spec import RunSpec
from potstill.testing import toy_problem, toy_source

PLAIN: dict[str, Any] = {"teacher_epochs": 1, "teacher_augment": "none", "committee": ""}


def source(side: int, channels: int = 3, classes: int = 10) -> TensorSource:
    rng = np.random.default_rng(0)
    labels = np.arange(2 * classes) % classes
    inputs = rng.random((len(labels), channels, side, side), dtype=np.float32)
    return TensorSource.make(inputs, labels, [f"class {c}" for c in range(classes)], name="mine")


def settled(method: Any, side: int, *, channels: int = 3, classes: int = 10) -> tuple[Any, tuple[str, ...]]:
    problem = replace(toy_problem(), train=source(side, channels, classes), counts=(1,) * classes)
    return method.resolve_defaults(problem)


# --- by the size of the data ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "classes", "program"),
    [
        (28, 10, (32, 10)), (32, 100, (32, 100)), (40, 26, (32, 10)), (40, 40, (32, 100)), (48, 10, (64, 200)),
        (64, 2, (64, 200)), (96, 10, (64, 200)), (128, 10, (224, 10)), (500, 500, (224, 1000)),
    ],
)  # fmt: skip
def test_the_nearest_program_is_taken_in_size_and_then_in_classes(
    side: int, classes: int, program: tuple[int, int]
) -> None:
    spec = dataclasses.replace(toy_source().input, shape=(3, side, side))
    assert nearest_settings(EDC.published, spec, classes) is EDC.published[program]
    wide = dataclasses.replace(toy_source().input, shape=(3, side // 4, 4 * side))
    assert nearest_settings(EDC.published, wide, classes) is EDC.published[program]


def said(method: Any, *names: str) -> tuple[Any, ...]:
    return tuple(getattr(method, name) for name in names)


def test_edc_takes_as_many_steps_as_are_published_for_such_data() -> None:
    names = (
        "iterations",
        "crop",
        "ema_decay",
        "r_bn",
        "batch",
        "cell_size",
        "init_from",
        "factor",
        "shuffle",
        "jitter",
        "drop_rate",
    )
    wanted = {
        (32, 10): (75, 0.08, 0.8, 0.01, 100, 4, "real", 1, False, 0, 0.0),
        (32, 100): (2000, 0.5, 0.8, 0.01, 100, 4, "real", 1, False, 0, 0.0),
        (64, 200): (2000, 0.5, 0.8, 0.01, 100, 4, "real", 1, False, 0, 0.0),
        (224, 10): (50, 0.5, 0.0, 0.01, 100, 16, "mosaic", 2, True, 0, 0.0),
    }
    found = {key: said(settled(EDC(committee=""), key[0], classes=key[1])[0], *names) for key in wanted}
    assert found == wanted


def test_g_vbsm_moves_small_pictures_and_crops_large_ones() -> None:
    names = ("lr", "batch", "cell_size", "ema_decay", "drop_rate", "crop", "pad", "jitter", "flip", "iterations")
    wanted = {
        32: (0.05, 100, 4, 0.8, 0.4, 1.0, 4, 32, True, 4000),
        64: (0.05, 100, 4, 0.8, 0.4, 1.0, 8, 32, True, 4000),
        224: (0.1, 80, 16, 0.4, 0.0, 0.08, 0, 32, True, 4000),
    }
    assert {side: said(settled(GVBSM(committee=""), side)[0], *names) for side in wanted} == wanted


@pytest.mark.parametrize("method", [SRe2L(), DWA()])
def test_small_pictures_are_rolled_and_neither_cropped_nor_mirrored(method: Any) -> None:
    own, _ = settled(method, 32)
    problem = replace(toy_problem(), train=source(32), counts=(1,) * 10)
    x = torch.rand(2, 3, 32, 32, generator=generator(1))
    allowed = [x.roll((i, j), (2, 3)) for i in range(5) for j in range(5)]
    seen = [own.build_engine(problem).view(x, 0, 9, problem.train.input, generator(n)) for n in range(40)]
    assert all(any(torch.equal(view, a) for a in allowed) for view in seen)
    assert len({float(view[0, 0, 0, 0]) for view in seen}) > 10
    large, _ = settled(method, 64)
    assert said(large, "crop", "flip", "jitter") == (0.08, True, 4)
    assert said(settled(method, 224)[0], "crop", "flip", "jitter") == (0.08, True, 32)


def test_sre2l_and_dwa_have_the_other_settings_of_each_program_too() -> None:
    assert [said(settled(SRe2L(), n)[0], "iterations", "lr", "r_bn") for n in (32, 64, 224)] == [
        (1000, 0.25, 0.01), (4000, 0.1, 1.0), (4000, 0.25, 0.01)
    ]  # fmt: skip
    names = ("iterations", "lr", "r_var", "ascent", "batch")
    assert [said(settled(DWA(), n)[0], *names) for n in (32, 64, 224)] == [
        (1000, 0.25, 11.0, 12, 100), (2000, 0.1, 11.0, 12, 200), (2000, 0.25, 2.0, 15, 100)
    ]  # fmt: skip


def test_fadrm_begins_with_crops_in_the_middle_of_the_ranking() -> None:
    assert FADRM().init_rank == "medium"


def test_what_is_asked_for_stays_and_the_card_shows_what_the_rest_became() -> None:
    data = Splits(train=source(8), test=None)
    small = potstill.distill(
        data, "edc", ipc=1, iterations=2, cell_size=2, network="convnet-d1-w4-batch", device="cpu", **PLAIN
    )
    config = small.metadata["config"]
    assert (config["iterations"], config["cell_size"], config["crop"], config["shuffle"]) == (2, 2, 0.08, False)
    assert None not in config.values()
    found = resolve_run(RunSpec(data, EDC(ema_decay=0.5), ipc=1, device="cpu"))
    assert said(found.method, "ema_decay", "iterations") == (0.5, 75)


def test_a_method_that_is_not_settled_says_what_to_do() -> None:
    with pytest.raises(
        PotstillError, match=r"^GVBSM leaves lr to the data; take method.resolve_defaults\(problem\)\[0\]"
    ):
        GVBSM(**PLAIN).init(toy_problem(), generator(0))


# --- what the objective is made of ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "options"), [(GVBSM, {}), (EDC, {"category": 0.5})])
def test_cells_of_small_pictures_have_four_pixels_a_side(kind: Any, options: dict[str, Any]) -> None:
    method = at_toy(kind(iterations=2, **options, **PLAIN))
    problem, state, _ = started(method)
    cells = {n: t.shape[-1] for n, t in state.real.items() if n.endswith("features.0/cells/mean")}
    assert set(cells.values()) == {4}  # of 8×8 pixels
    assert method.build_engine(problem).match.rules[torch.nn.Conv2d](torch.rand(2, 3, 32, 32))["cells/var"].shape == (
        64,
    )
    large, _ = settled(kind(committee=""), 224)
    assert large.build_engine(problem).match.rules[torch.nn.Conv2d](torch.rand(1, 3, 224, 224))["cells/var"].shape == (
        196,
    )


def test_a_batch_is_moved_over_a_border_of_zeros() -> None:
    method = at_toy(GVBSM(flip=False, jitter=0, pad=2, **PLAIN))
    problem, state, _ = started(method)
    x = pixels(state)
    wide = F.pad(x, (2, 2, 2, 2))
    allowed = [wide[..., i : i + 8, j : j + 8] for i in range(5) for j in range(5)]
    seen = [view(method, problem, state, x, generator(n)) for n in range(60)]
    assert all(any(torch.equal(view, a) for a in allowed) for view in seen)
    assert len({tuple(view.flatten()[:3].tolist()) for view in seen}) > 10


def test_the_loss_spreads_pictures_as_the_teachers_see_them(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    from potstill.methods.decoupled import _parts

    def spy(x: Tensor, y: Tensor, tau: float) -> Tensor:
        seen.append(x.detach().clone())
        return densification(x, y, tau)

    monkeypatch.setattr(_parts, "densification", spy)
    method = at_toy(GVBSM(flip=False, crop=1.0, pad=3, **PLAIN))
    problem, state, rng = started(method)
    method.step(problem, state, rng)
    torch.testing.assert_close(seen[0], view(method, problem, state, pixels(state), draws(state, 0)))
    assert not torch.allclose(seen[0], pixels(state))


def test_a_convolution_that_is_left_out_counts_for_nothing_and_its_average_waits() -> None:
    options: dict[str, Any] = {"densify": 0.0, "crop": 1.0, "pad": 0, "flip": False, "jitter": 0, **PLAIN}
    never = at_toy(GVBSM(drop_rate=1.0, **options))
    problem, state, rng = started(never)
    after, shown = never.step(problem, state, rng)
    assert {n.split("/")[2] for n in after.memory} == {"features.1"}
    (member,) = members(never, problem)
    a = F.conv2d(pixels(state), member.weights["features.0.weight"], member.weights["features.0.bias"], padding=3)
    found, norms = (
        {"mean": a.mean((0, 2, 3)), "var": a.var((0, 2, 3), correction=0)},
        member.running_statistics()["features.1"],
    )
    assert shown["bn"] == pytest.approx(float(sum((found[s] - norms[s]).norm() for s in found)), rel=1e-4)

    often = replace(never, drop_rate=0.4)
    kept, average, begun = 0, None, state
    for seed in range(100):
        begun, _ = often.step(problem, replace(begun, iteration=0, seed=seed), rng)
        now = begun.memory.get("average/0/features.0/mean")
        kept += now is not None and (average is None or not torch.equal(now, average))
        average = now
    assert 45 <= kept <= 75  # 60 of 100 expected; five standard deviations are 24


def test_edc_mirrors_small_pictures_and_leaves_their_quarters() -> None:
    method = at_toy(EDC(**PLAIN))
    problem, state, _ = started(method, ipc=8)
    real = problem.train.fetch(torch.arange(len(problem.train))).x
    as_is = [bool((real == x).flatten(1).all(1).any()) for x in pixels(state)]
    mirrored = [bool((real == x.flip(2)).flatten(1).all(1).any()) for x in pixels(state)]
    assert all(a or b for a, b in zip(as_is, mirrored, strict=True))
    assert 0 < sum(as_is) < len(as_is)
    shuffled = pixels(replace(method, shuffle=True).init(problem, generator(3)))
    assert not all((real == x).flatten(1).all(1).any() or (real == x.flip(2)).flatten(1).all(1).any() for x in shuffled)


# --- a committee that the data admit ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [GVBSM, EDC, UFC, CVDD])
def test_the_usual_committee_is_of_those_that_can_take_the_data(kind: type[Method[Any]]) -> None:
    own, notes = settled(kind(), 28)
    members = own.committee.split(",")
    assert members == [n for n in kind.default_committee if n != "vgg11-batch"]  # type: ignore[attr-defined]
    (note,) = notes
    assert note.startswith("vgg11-batch, of the usual committee of teachers, is left out: ")
    assert "28×28 are too small; it takes 32×32 and more" in note
    whole, nothing = settled(kind(), 32)
    assert (whole.committee, nothing) == (",".join(kind.default_committee), ())  # type: ignore[attr-defined]
    assert settled(kind(), 28, channels=1)[1] == ()  # the published VGG has a wider border for one channel


def test_a_committee_that_was_asked_for_is_not_changed_but_refused() -> None:
    own, notes = settled(GVBSM(committee="vgg11-batch"), 28)
    assert (own.committee, notes) == ("vgg11-batch", ())
    problem = replace(toy_problem(), train=source(28), counts=(1,) * 10)
    with pytest.raises(PotstillError, match=r"network vgg11-batch shrinks pictures .* 28×28 are too small"):
        own.assets(problem)


def test_what_was_left_out_stands_in_the_plan_on_the_card_and_in_the_terminal(
    tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = {
        "network": "convnet-d1-w4-batch", "teacher_epochs": 1, "teacher_augment": "none", "iterations": 1,
        "crops": 1, "samples": 2, "num_teachers": 1, "preset": "published",
    }  # fmt: skip
    data = Splits(train=source(8), test=None)
    made = plan(data, "edc", ipc=1, profile_steps=0, device="cpu", **options)
    assert any("vgg11-batch" in note for note in made.notes)
    words = [f"--{n.replace('_', '-')}={value}" for n, value in options.items()]
    path = tmp_path / "data.npz"
    np.savez(path, x=np.random.default_rng(0).random((40, 8, 8), dtype=np.float32), y=np.arange(40) % 2)
    out = tmp_path / "set.safetensors"
    assert main(["distill", str(path), "--method", "edc", "--ipc", "1", "--out", str(out), *words]) == 0
    assert "vgg11-batch, of the usual committee of teachers, is left out" in capsys.readouterr().err
    assert any("vgg11-batch" in note for note in potstill.dataset_file.load(out).notes)
    assert math.isfinite(float(potstill.dataset_file.load(out).inputs.mean()))


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("cell_size", 0, "cell_size must be at least 1, but it is 0"),
        ("crop", 1.5, "crop must be from 0 to 1, but it is 1.5"),
    ],
)
def test_a_wrong_value_of_what_is_left_to_the_data_is_refused(option: str, value: Any, sentence: str) -> None:
    with pytest.raises(PotstillError, match=f"method edc: {sentence}"):
        potstill.distill(Splits(train=source(8), test=None), "edc", ipc=1, **{option: value})
