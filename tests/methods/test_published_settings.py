"""Settings of matching methods against their released programs: rates, decay, networks, starts, as what a run does."""

import dataclasses
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from potstill.api.listing import list_methods
from potstill.augment.names import named_augmentation
from potstill.core import AssetContext, Normalization, Problem
from potstill.data import TensorSource
from potstill.functional.coreset import k_means_medoids
from potstill.functional.features import embed_real
from potstill.functional.param_groups import ParamGroup, init_params
from potstill.methods.distribution import _features
from potstill.methods.distribution.cafe import CAFE
from potstill.methods.distribution.dance import DANCE
from potstill.methods.distribution.datadam import DataDAM
from potstill.methods.distribution.dsdm import DSDM
from potstill.methods.distribution.idm import IDM
from potstill.methods.distribution.m3d import M3D
from potstill.methods.distribution.ncfm import NCFM
from potstill.methods.engine import MatchingState
from potstill.methods.gradient.dream import DREAM
from potstill.methods.gradient.idc import IDC
from potstill.rng import class_generators, draw_seed, generator
from potstill.testing import toy_problem, toy_source
from tools.docs.choice import choose

SMALL: dict[str, Any] = {"pretrained_networks": 1, "pretrain_epochs": 1, "batch_real": 5}


# --- networks that are trained before the first step ------------------------------------------------------------------


@pytest.mark.parametrize(("method", "epochs", "batch", "rates"), [
    # pre_train_model.py:104-146: loader of batch_real samples, no scheduler; 20 passes
    (DSDM(), 20, 256, {0.01: 20}),
    # pretrain.py:41-44 and arg_pretrain.py: steps at 2/3 and 5/6; 60 passes
    (DANCE(), 60, 64, {0.01: 40, 0.002: 10, 0.0004: 10}),
    # pretrain_script.py:76-80, config/ipc10/cifar10.yaml:26
    (NCFM(), 60, 128, {0.01: 40, 0.002: 10, 0.0004: 10}),
], ids=lambda m: type(m).__name__ if dataclasses.is_dataclass(m) else "")  # fmt: skip
def test_networks_are_trained_as_released(
    method: Any, epochs: int, batch: int, rates: dict[float, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[float, int]] = []

    def watched(net: Any, made: Any, source: Any, order: Any, rng: Any, sgd: Any, **said: Any) -> Any:
        seen.append((round(sgd.lr, 6), sgd.batch))
        return made

    monkeypatch.setattr("potstill.pretraining.networks.train_epoch", watched)
    problem = toy_problem()
    (spec,) = method.assets(problem)
    none = named_augmentation("none", problem.train)
    spec.jobs(AssetContext(train=problem.train, network=problem.network, augmentation=lambda _: none))[0]()
    assert len(seen) == epochs
    assert {size for _, size in seen} == {batch}
    assert {rate: sum(lr == rate for lr, _ in seen) for rate, _ in seen} == rates


def test_the_number_of_networks_is_that_of_the_released_commands() -> None:
    """DANCE's command trains 20 and draws from --num_premodel = 5 of them (arg_condense.py:198, DANCE.py:315)."""
    assert [m().pretrained_networks for m in (DANCE, NCFM, DSDM)] == [5, 20, 10]


# --- NCFM -------------------------------------------------------------------------------------------------------------


class Still(NCFM):
    """NCFM without slopes: only the decay moves what is stored."""

    def gap(self, real: Any, syn: Any, memory: Any) -> Tensor:
        return 0.0 * super().gap(real, syn, memory)


def rule_at(method: Any, problem: Problem) -> ParamGroup:
    """How the payload moves at first."""
    return method.build_engine(problem).param_groups(MatchingState(params=init_params({}, {})), True)["payload/"]


def problem_of(method: Any, classes: int) -> Problem:
    """Of so many classes; methods in trained networks get an untrained one."""
    return toy_problem(method, source=toy_source(classes=classes, side=classes))


@pytest.mark.parametrize("classes", [4, 10])
@pytest.mark.parametrize("updates", ["all", "class"])
@pytest.mark.parametrize("calibration", [0.0, 1.0])
def test_ncfm_shrinks_as_far_as_the_turns_of_all_classes_do(
    classes: int, updates: Any, calibration: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """compute_loss.py: AdamW steps after every class, in matching and once more in calibration."""
    monkeypatch.setattr(_features, "class_mean_cross_entropy", lambda logits, y, sizes: 0.0 * logits.sum())
    lr, decay = 1e-3, 0.1
    method = Still(**SMALL, frequencies=8, lr=lr, weight_decay=decay, updates=updates, calibration=calibration)
    problem = problem_of(method, classes)
    state = method.init(problem, generator(1))
    after, _ = method.step(problem, state, generator(2))
    (name,) = state.params.value
    before, now = (s.params.value[name].double() for s in (state, after))
    inside = before > 0.1
    shrunk = float((now[inside] / before[inside]).mean())
    turns = classes * (2 if calibration else 1)
    assert 1 - shrunk == pytest.approx(1 - (1 - lr * decay) ** turns, rel=0.01)


@pytest.mark.parametrize(("classes", "left"), [(10, 0.82), (100, 0.135)])
def test_ncfm_decays_over_a_run_as_released(classes: int, left: float) -> None:
    method = NCFM()
    rule = rule_at(method, replace(toy_problem(), train=toy_source(classes=classes, per_class=1)))
    assert (1 - rule.lr * rule.weight_decay) ** (2 * method.iterations) == pytest.approx(left, rel=0.01)


def test_ncfms_sgd_has_momentum_and_no_decay() -> None:
    """utils/utils.py, get_optimizer; config/ipc10/cifar100.yaml takes it."""
    rule = rule_at(NCFM(optimizer="sgd", lr=0.01), toy_problem())
    assert (rule.lr, rule.momentum, rule.weight_decay) == (0.01, 0.5, 0.0)


def test_ncfms_sampler_makes_64_frequencies_of_4_noises_and_does_not_decay() -> None:
    """SampleNet.py:10, t_batchsize = 64, of which 16 share a noise; its SGD has no decay (condense_script.py)."""
    method = NCFM(**SMALL, sampler=True, scale=0.0)
    problem = toy_problem(method)
    state = method.init(problem, generator(1))
    after, _ = method.step(problem, state, generator(2))
    draws = [problem.augment.draw(1, (1, 8, 8), generator(c)) for c in range(4)]
    objective = method.build_engine(problem).objective
    kept = objective.real_statistics(problem, problem.network(0), draws, state.memory, generator(3))
    assert len(kept["shared/t"]) == 64
    assert len(kept["shared/t"].unique(dim=0)) == 4
    for name in state.memory:
        if name.startswith("psi/"):
            assert torch.equal(after.memory[name], state.memory[name])


# --- IDM --------------------------------------------------------------------------------------------------------------


def test_idm_forgets_the_accuracies_so_that_some_steps_have_no_classification() -> None:
    """IDM_cifar10.py:228 resets the meters: a network that has not trained since has the weight 0.

    As released, two of up to 100 networks train after each of 100 steps: (1 − 0.98¹⁰⁰) / 2 = 43 % of steps have none.
    Here, one of ten after each of twenty: (1 − 0.9²⁰) / 2 = 44 %.
    """
    assert (IDM().forget_every, IDM().pool_initial) == (100, 4)
    asked: list[bool] = []

    class Watched(IDM):
        def penalty(self, *given: Any) -> Tensor | None:
            found = super().penalty(*given)
            asked.append(found is not None)
            return found

    method = Watched(
        batch_real=2, pool_initial=10, pool_max=10, pool_every=1000, pool_trained=1, pool_steps=2, pool_batch=48,
        forget_every=20, parametrization="pixels", augment="none",
    )  # fmt: skip
    problem = toy_problem(method)
    rng = generator(4)
    state = method.init(problem, rng)
    for step in range(1, 121):
        state, _ = method.step(problem, state, rng)
        assert (sum(m.num_samples for m in state.pool) == 0) is (step % 20 == 0)
    share = 1 - sum(asked) / len(asked)
    assert share == pytest.approx((1 - 0.9**20) / 2, abs=0.1)


def test_idm_never_forgets_if_told_so() -> None:
    method = IDM(batch_real=2, pool_initial=2, pool_trained=2, pool_steps=1, pool_batch=8, forget_every=0)
    problem = toy_problem(method)
    rng = generator(4)
    state = method.init(problem, rng)
    for _ in range(5):
        state, _ = method.step(problem, state, rng)
    assert [m.num_samples for m in state.pool] == [40, 40]


# --- rates ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "base"), [(IDC, 5e-3), (DREAM, 5e-3), (DSDM, 0.1)])
@pytest.mark.parametrize(("shape", "side", "factor"), [
    ((3, 32, 32), 32, 1.0), ((1, 28, 28), 32, 0.765625),  # argument.py, tune_lr_img: CIFAR, and Fashion-MNIST
    ((1, 28, 28), 28, 1.0), ((3, 224, 224), 224, 1.0),  # MNIST and ImageNet have sides of their own there
    ((3, 64, 64), 32, 4.0), ((3, 16, 64), 32, 1.0),
])  # fmt: skip
def test_the_rate_grows_with_the_area(kind: Any, base: float, shape: tuple[int, ...], side: int, factor: float) -> None:
    empty = torch.zeros(2, *shape, dtype=torch.uint8)
    normal = Normalization(torch.zeros(shape[0]), torch.ones(shape[0]))
    train = TensorSource.make(empty, torch.tensor([0, 1]), ("a", "b"), "empty", "image", normal)
    problem = replace(toy_problem(), train=train, counts=(10, 10))
    method = kind() if side == 32 else kind(lr_side=side)
    assert rule_at(method, problem).lr == pytest.approx(base * factor)


# --- starts -----------------------------------------------------------------------------------------------------------


def test_dream_starts_from_what_is_central_to_its_first_network() -> None:
    """condense.py:509-533, new_strategy.py: centres of the embeddings of the network that is matched first."""
    method = DREAM(batch_real=5, parametrization="pixels")
    problem = toy_problem(method, ipc=3)
    state = method.init(problem, generator(3))
    net, replay = problem.network(state.pool[0].seed).eval(), generator(3)
    assert state.pool[0].seed == draw_seed(replay)
    draw_seed(replay)  # random samples are drawn first, and not used
    stored = state.params.value["payload/inputs"].split(3)
    by_pixels = 0
    generators = class_generators(replay, problem.class_names)
    for index, x, g in zip(problem.class_indices, stored, generators, strict=True):
        features = embed_real(net, problem.train.fetch(index).x)  # type: ignore[arg-type]
        chosen = index[k_means_medoids(features, 3, g, 20)]
        assert torch.equal(problem.train.raw(chosen), x)  # type: ignore[arg-type]
        pixels = problem.train.fetch(index).x.flatten(1)  # type: ignore[union-attr]
        by_pixels += torch.equal(index[k_means_medoids(pixels, 3, generator(0), 20)], chosen)
    assert by_pixels < 4, "the pixels' centres are the same samples, so nothing was compared"


def test_cafe_starts_from_noise_and_augments_nothing() -> None:
    """distill.py: --init noise, --dsa_strategy None; --method is DC in the README's command and in run.sh."""
    problem = toy_problem(CAFE(), ipc=3)
    stored = CAFE().init(problem, generator(1)).params.value["payload/inputs"]
    generators = class_generators(generator(1), problem.class_names)
    assert torch.equal(stored, torch.cat([torch.randn(3, 1, 8, 8, generator=g) for g in generators]))
    assert (CAFE().augment, CAFE().info.training["augmentation"]) == ("none", "none")


def test_batches_are_those_of_the_released_programs() -> None:
    assert DataDAM().batch_real == 64  # main_DataDAM.py:30
    assert DREAM().batch_train == 128  # condense.py: the network trains on loader_real, of batch_real samples


def test_m3d_is_said_to_be_our_reading_wherever_it_is_praised(tmp_path: Path) -> None:
    assert "our reading of an unpublished program" in str(M3D.__doc__).partition("\n")[0]
    assert [m["name"] for m in list_methods() if m["reimplemented"]] == ["m3d"]
    measured = Path(__file__).parents[2] / "results" / "choose"
    (there := tmp_path / "results" / "choose").mkdir(parents=True)
    for cell in ("m3d-pixels", "dm-pixels"):
        shutil.copy(measured / f"fashion-mnist-{cell}.json", there)
    assert "**Best mean:** `m3d` over `pixels` (our reading of an unpublished program), " in choose(tmp_path)
