"""D4M, Minimax diffusion, MGD3 and plain samples: mechanics of the publications, by hand, and bad input."""

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import potstill
from potstill.core import Problem, Splits, Synthetic
from potstill.errors import PotstillError
from potstill.functional.coreset import k_means
from potstill.functional.diffusion import linear_rates, sampling_times
from potstill.methods.generative._sampling import Sampler, class_centres
from potstill.methods.generative.d4m import D4M
from potstill.methods.generative.diffusion_samples import DiffusionSamples
from potstill.methods.generative.mgd3 import MGD3, ModeGuide
from potstill.methods.generative.minimax import Minimax, MinimaxState, minimax_terms
from potstill.pretraining.diffusion import LatentDiffusion
from potstill.rng import generator
from potstill.testing import toy_problem, toy_source

SMALL: dict[str, Any] = {
    "diffusion_updates": 20, "diffusion_width": 8, "latent_dim": 4, "autoencoder_width": 3, "autoencoder_epochs": 1,
    "sampling_steps": 6, "guidance": 1.0,
}  # fmt: skip
LABELLED: dict[str, Any] = {"teacher_epochs": 1, "network": "convnet-d1-w4"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Knows:
    """A model whose clean sample is always 0.25 for class 1 and 0.75 for others, over pictures themselves."""

    fingerprint = "knows"
    rates = linear_rates()

    def __init__(self) -> None:
        self.asked: list[tuple[int, tuple[int, ...]]] = []

    def encode(self, x: Tensor, /) -> Tensor:
        return x.clone()

    def decode(self, z: Tensor, /) -> Tensor:
        return z.clamp(0, 1)

    def eps(self, x_t: Tensor, t: Tensor, y: Tensor, /) -> Tensor:
        self.asked.append((int(t[0]), tuple(y.tolist())))
        rate = self.rates[t].reshape(-1, 1, 1, 1)
        clean = torch.where(y == 1, 0.25, 0.75).reshape(-1, 1, 1, 1)
        return (x_t - rate.sqrt() * clean) / (1 - rate).sqrt()


def with_model(method: Any, model: Any = None, **options: Any) -> tuple[Problem, Any]:
    problem = toy_problem(None, **options)
    problem = problem.with_assets({"generator": Knows() if model is None else model})
    return problem, method.init(problem, generator(3))


def finished(method: Any, problem: Problem, state: Any) -> Any:
    rng = generator(4)
    while not method.done(problem, state):
        state, _ = method.step(problem, state, rng)
    return state


# --- samplers ---------------------------------------------------------------------------------------------------------


def test_plain_samples_are_the_models_and_each_class_is_asked_for() -> None:
    method = DiffusionSamples(sampling_steps=5, guidance=1.0)
    problem, state = with_model(method)
    state = finished(method, problem, state)
    x = state.x.reshape(4, 2, -1)
    torch.testing.assert_close(x[1], torch.full_like(x[1], 0.25), atol=1e-4, rtol=0)
    torch.testing.assert_close(x[3], torch.full_like(x[3], 0.75), atol=1e-4, rtol=0)
    asked = problem.assets["generator"].asked
    assert asked == [(t, (c, c)) for c in range(4) for t in (999, 749, 500, 250, 0)]


def test_guidance_asks_without_a_class_too() -> None:
    method = DiffusionSamples(sampling_steps=1, guidance=2.0, eta=0.0)
    problem, state = with_model(method)
    state = finished(method, problem, state)
    assert problem.assets["generator"].asked[2:4] == [(999, (1, 1)), (999, (-1, -1))]
    # the clean sample moves as the noise does: 0.75 + 2 (0.25 − 0.75)
    assert float(state.x.reshape(4, -1)[1].max()) == pytest.approx(0.0, abs=1e-2)


def test_steps_make_one_class_each_and_the_rest_stays_real() -> None:
    method = DiffusionSamples(sampling_steps=2, guidance=1.0)
    problem, state = with_model(method)
    real = {tuple(row) for row in torch.as_tensor(problem.train.raw(torch.arange(48))).flatten(1).tolist()}
    assert {tuple(row) for row in state.x.flatten(1).tolist()} <= real
    one, _ = method.step(problem, state, generator(4))
    assert torch.equal(one.x[2:], state.x[2:])
    assert not torch.equal(one.x[:2], state.x[:2])
    result = method.result(problem, one)
    assert isinstance(result, Synthetic)
    assert result.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert result.space == "data"


def test_prototypes_of_d4m_are_means_of_their_clusters() -> None:
    problem, _ = with_model(D4M(labels="hard"))
    rng_of = generator(9)
    z = torch.as_tensor(problem.train.raw(problem.class_indices[2])).flatten(1)
    centres = class_centres(problem, problem.assets["generator"], 2, generator(9)).flatten(1)
    _, owner = k_means(z, 2, rng_of)
    for j in range(2):
        torch.testing.assert_close(centres[j], z[owner == j].mean(0))
    nearest = torch.cdist(z, centres).argmin(1)
    assert torch.equal(nearest, owner), "nothing would move in another round of Lloyd's"


def test_d4m_noises_prototypes_by_its_strength_and_denoises_them() -> None:
    method = D4M(labels="hard", strength=0.5, sampling_steps=8, guidance=1.0)
    problem, state = with_model(method)
    finished(method, problem, state)
    asked = [t for t, _ in problem.assets["generator"].asked[:4]]
    assert tuple(asked) == sampling_times(8, 1000, 0.5) == (428, 285, 143, 0)

    class Counts(Knows):
        first: Tensor

        def eps(self, x_t: Tensor, t: Tensor, y: Tensor, /) -> Tensor:
            if not self.asked:
                self.first = x_t
            return super().eps(x_t, t, y)

    problem, state = with_model(method, Counts())
    method.step(problem, state, generator(0))
    rng = generator(state.seed, "c0")
    centres = class_centres(problem, problem.assets["generator"], 0, rng)
    noise, rate = torch.randn(centres.shape, generator=rng), float(linear_rates()[428])
    expected = math.sqrt(rate) * centres + math.sqrt(1 - rate) * noise
    torch.testing.assert_close(problem.assets["generator"].first, expected)


def test_without_strength_d4m_decodes_its_prototypes() -> None:
    method = D4M(labels="hard", strength=0.0)
    problem, state = with_model(method)
    state = finished(method, problem, state)
    rng = generator(state.seed, "c3")
    assert torch.equal(state.x[6:], class_centres(problem, problem.assets["generator"], 3, rng).clamp(0, 1))
    assert problem.assets["generator"].asked == []


def test_modes_pull_until_guidance_stops() -> None:
    modes, clean = torch.tensor([[1.0], [2.0]]), torch.tensor([[0.5], [0.5]])
    guide = ModeGuide(modes, scale=0.1, stop=3)
    assert guide(clean, 0.5, 4).flatten().tolist() == pytest.approx([0.1 * 0.5 * 0.5, 0.1 * 0.5 * 1.5])
    assert guide(clean, 0.5, 3).flatten().tolist() == [0.0, 0.0]


class Normal(Knows):
    """The exact model of latents from N(0, 1)."""

    def eps(self, x_t: Tensor, t: Tensor, y: Tensor, /) -> Tensor:
        return (1 - self.rates[int(t[0])]).sqrt() * x_t


def test_guided_samples_are_nearer_to_their_modes() -> None:
    modes, sampler = torch.randn(200, 3, generator=generator(1)), Sampler(guidance=1.0, steps=50, eta=1.0)
    gaps = {}
    for scale in (0.0, 0.1, 0.3):
        x = sampler.denoise(Normal(), torch.randn(200, 3, generator=generator(2)), 0, generator(3),
                            guide=ModeGuide(modes, scale, 25))  # fmt: skip
        gaps[scale] = float((x - modes).square().mean())
    assert gaps[0.0] == pytest.approx(2.0, abs=0.25), "independent draws"
    assert gaps[0.3] < 0.9 * gaps[0.1] < 0.9 * gaps[0.0]


def test_without_a_pull_or_with_an_early_stop_samples_are_plain() -> None:
    still, none, plain = MGD3(**SMALL, mode_guidance=5.0, stop=20), MGD3(**SMALL, mode_guidance=0.0), MGD3(**SMALL)
    problem = toy_problem(still)
    a, b, c = (finished(m, problem, m.init(problem, generator(3))) for m in (still, none, replace(plain, stop=0)))
    assert torch.equal(a.x, b.x)
    assert not torch.equal(a.x, c.x)


@pytest.mark.parametrize("method", [D4M(labels="hard"), MGD3(), DiffusionSamples()], ids=lambda m: type(m).__name__)
def test_one_more_item_than_samples_comes_from_the_same_clusters(method: Any) -> None:
    problem, state = with_model(method, ipc=12)
    assert len(finished(method, problem, state).x) == 48


# --- Minimax diffusion ------------------------------------------------------------------------------------------------


Memory = dict[int, list[list[float]]]


def released_terms(
    predicted: list[list[float]], y: list[int], real: Memory, earlier: Memory, lambda_pos: float, lambda_neg: float
) -> float:
    """The loop over ``ry_set`` of train_dit.py."""

    def cosine(a: list[float], b: list[float]) -> float:
        dot = sum(u * v for u, v in zip(a, b, strict=True))
        return dot / (math.sqrt(sum(u * u for u in a)) * math.sqrt(sum(v * v for v in b)))

    total, classes = 0.0, set(y)
    for c in classes:
        if not earlier.get(c):
            continue
        mine = [p for p, label in zip(predicted, y, strict=True) if label == c]
        total += (1 - min(cosine(p, m) for p in mine for m in real[c])) * lambda_pos / len(classes)
        total += max(cosine(p, m) for p in mine for m in earlier[c]) * lambda_neg / len(classes)
    return total


def test_the_terms_are_those_of_the_released_program() -> None:
    rng = generator(6)
    predicted, y = torch.randn(8, 5, generator=rng).double(), torch.tensor([0, 2, 2, 1, 0, 3, 2, 1])
    real = {n: torch.randn(6, 5, generator=rng).double() for n in ("a", "b", "c")}
    earlier = {n: torch.randn(4, 5, generator=rng).double() for n in ("a", "b", "c")}
    names = ("a", "b", "c", "d")
    far, near = minimax_terms(predicted, y, real, earlier, names)
    expected = released_terms(
        predicted.tolist(), y.tolist(), {names.index(n): t.tolist() for n, t in real.items()},
        {names.index(n): t.tolist() for n, t in earlier.items()}, 0.002, 0.008,
    )  # fmt: skip
    assert 0.002 * float(far) + 0.008 * float(near) == pytest.approx(expected, abs=1e-12)
    assert [float(t) for t in minimax_terms(predicted, y, {}, {}, names)] == [0.0, 0.0]


def minimax_states(count: int, **changes: Any) -> tuple[Problem, Minimax, list[MinimaxState]]:
    method = Minimax(**{**SMALL, "iterations": 30, "memory": 3, "batch": 5, **changes})
    problem, rng = toy_problem(method), generator(3)
    states = [method.init(problem, rng)]
    for _ in range(count):
        states.append(method.step(problem, states[-1], rng)[0])
    return problem, method, states


def test_memories_hold_the_latest_of_each_class() -> None:
    _, _, states = minimax_states(12)
    assert states[0].real == {}
    for before, after in pairwise(states):
        assert set(after.real) == set(after.predicted)
        for name, rows in after.real.items():
            assert 1 <= len(rows) <= 3
            old = before.real.get(name, rows[:0])
            kept = min(len(old), 3) if torch.equal(rows, old) else max(0, min(len(old), 3 - 1))
            assert any(torch.equal(rows[:k], old[len(old) - k :]) for k in range(kept + 1))
    assert all(len(rows) == 3 for rows in states[-1].real.values())


def test_difffit_moves_biases_norms_and_classes_only_and_all_moves_all() -> None:
    _, _, states = minimax_states(3)
    moved = set(states[-1].weights)
    assert "denoiser/class" in moved
    assert "denoiser/0/norm/weight" in moved
    assert not {n for n in moved if n.endswith(("first/weight", "in/weight", "out/weight", "time/weight"))}
    assert not torch.equal(states[-1].weights["denoiser/class"], states[0].weights["denoiser/class"])
    _, _, everything = minimax_states(1, trained="all")
    assert "denoiser/in/weight" in everything[-1].weights


def test_the_average_follows_the_weights() -> None:
    _, _, (first, second) = minimax_states(1, ema_decay=0.75)
    expected = 0.75 * first.weights["denoiser/out/bias"] + 0.25 * second.weights["denoiser/out/bias"]
    torch.testing.assert_close(second.average["denoiser/out/bias"], expected)


def test_its_terms_move_the_weights_once_memories_are_filled() -> None:
    problem, method, states = minimax_states(6)
    first, filled = states[0], states[-1]
    for state, differ in ((first, False), (filled, True)):
        moved = [
            replace(method, lambda_pos=pos, lambda_neg=neg).step(problem, state, generator(8))[0].weights
            for pos, neg in ((0.0, 0.0), (3.0, 0.0), (0.0, 3.0))
        ]
        plain = moved[0]["denoiser/out/bias"]
        assert [not torch.equal(plain, w["denoiser/out/bias"]) for w in moved[1:]] == [differ] * 2


def test_an_unmoved_model_gives_plain_samples() -> None:
    _, method, states = minimax_states(0)
    problem = toy_problem(method)
    found = method.result(problem, states[0]).payload["inputs"]
    plain = DiffusionSamples(**SMALL)
    state = plain.init(problem, generator(3))
    state = finished(plain, problem, state)
    sampler, model = plain.sampler(), problem.assets["generator"]
    rng = generator(states[0].seed, "c1")
    z = sampler.denoise(model, sampler.start((2, 4), rng), 1, rng)
    torch.testing.assert_close(found[2:4], model.decode(z))


def test_an_object_of_another_package_is_refused_by_minimax_alone() -> None:
    with pytest.raises(PotstillError, match=r"minimax fine-tunes the model that Potstill trains.* take mgd3"):
        with_model(Minimax())


# --- runs -------------------------------------------------------------------------------------------------------------

DATA = Splits(train=toy_source("image"), test=None)


def made(method: str, **more: Any) -> potstill.Distilled:
    settings = {**SMALL, **LABELLED, "codec": "float32", "ipc": 2, "labels": "hard", "progress": None, **more}
    return potstill.distill(DATA, method, **settings)


def test_the_file_names_its_model_and_needs_none_to_be_read(cache: Path) -> None:
    small = made("mgd3")
    (entry,) = small.metadata["generators"]
    assert entry["hash"] == LatentDiffusion(_cached(cache)).fingerprint
    assert entry["recipe"]["updates"] == 20
    assert small.inputs.shape == (8, 1, 8, 8)
    assert 0 <= float(small.inputs.min()) <= float(small.inputs.max()) <= 1
    assert not small.metadata.get("decoder")
    assert small.metadata["bytes"]["decoder"] == 0


def _cached(cache: Path) -> dict[str, Tensor]:
    from potstill.dataset_file import read_tensors

    (file,) = (cache / "diffusion").glob("*.safetensors")
    return read_tensors(file, 1 << 20)[0]


def test_a_model_that_is_given_decides_the_set(cache: Path) -> None:
    first = made("mgd3", seed=1)
    (file,) = (cache / "diffusion").glob("*.safetensors")
    again = made("mgd3", seed=1, generator=file)
    assert torch.equal(first.inputs, again.inputs)
    assert again.metadata["generators"][0]["given"]
    own = made("mgd3", seed=1, generator=Knows(), sampling_steps=3, mode_guidance=0.0)
    assert own.metadata["generators"][0]["hash"] == "knows"
    torch.testing.assert_close(own.inputs[2:4], torch.full((2, 1, 8, 8), 0.25), atol=1e-3, rtol=0)


@pytest.mark.parametrize("method", ["mgd3", "minimax"])
def test_a_budget_in_bytes_is_filled(method: str) -> None:
    more = {"iterations": 20} if method == "minimax" else {}
    small = made(method, ipc=None, bytes=700, codec="uint3", **more)
    assert small.metadata["planned_bytes"] != 700
    assert 0.8 * 700 <= small.metadata["bytes"]["total"] <= 700


@pytest.mark.parametrize("method", ["d4m", "diffusion-samples"])
def test_soft_labels_are_the_teachers(method: str) -> None:
    small = made(method, labels="soft")
    assert small.labels.shape == (8, 4)
    torch.testing.assert_close(small.labels.sum(1), torch.ones(8), atol=1e-3, rtol=0)


def test_latents_cannot_be_the_parametrization_too() -> None:
    with pytest.raises(PotstillError, match="parametrization"):
        made("mgd3", parametrization="latents")


def test_a_sampler_is_a_value() -> None:
    assert Sampler(guidance=1.0, steps=2, eta=0.0) == Sampler(guidance=1.0, steps=2, eta=0.0)
